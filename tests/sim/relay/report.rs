//! What a report on delivery says (RFC 3464), read as anybody would read it.

/// What became of one recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Told {
    /// Final-Recipient.
    pub(crate) recipient: String,
    pub(crate) action: String,
    /// The first digit of Status.
    pub(crate) class: char,
}

#[derive(Clone, Debug)]
pub(crate) struct Report {
    /// Its own Message-ID.
    pub(crate) id: String,
    /// Seconds since the begin of 2026.
    pub(crate) at: u64,
    /// The number of the message that it is about, if it says it: by its header, or else by the ENVID that
    /// its sender gave it.
    pub(crate) about: Option<usize>,
    pub(crate) told: Vec<Told>,
}

/// The value of a field, as it stands in the first line that has it.
fn field<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    text.split("\r\n").find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

/// The number in the header of a message of ours.
pub(crate) fn number_of(text: &str) -> Option<usize> {
    field(text, "X-Message")?.parse().ok()
}

/// The number in the ENVID of a message of ours.
fn envelope_number(status: &str) -> Option<usize> {
    field(status, "Original-Envelope-Id")?.strip_prefix('e')?.parse().ok()
}

pub(crate) fn is_report(text: &str) -> bool {
    let header = text.split("\r\n\r\n").next().unwrap_or_default();
    header.contains("Content-Type: multipart/report; report-type=delivery-status")
}

/// A date of January 2026: `Thu, 01 Jan 2026 00:04:11 +0000`.
fn seconds(date: &str) -> Option<u64> {
    let mut words = date.split(' ');
    let day: u64 = words.nth(1)?.parse().ok()?;
    if words.next()? != "Jan" || words.next()? != "2026" {
        return None;
    }
    let time: Vec<u64> = words.next()?.split(':').map_while(|part| part.parse().ok()).collect();
    let [hours, minutes, seconds] = time.try_into().ok()?;
    Some((((day - 1) * 24 + hours) * 60 + minutes) * 60 + seconds)
}

impl Report {
    pub(crate) fn read(text: &str) -> Option<Report> {
        let (_, status) = text.split_once("Content-Type: message/delivery-status\r\n")?;
        let (status, _) = status.split_once("\r\n--")?;
        let groups = status.split("\r\n\r\n").filter(|group| group.contains("Final-Recipient"));
        let told = groups.map(|group| {
            Some(Told {
                recipient: field(group, "Final-Recipient")?.strip_prefix("rfc822; ")?.to_owned(),
                action: field(group, "Action")?.to_owned(),
                class: field(group, "Status")?.chars().next()?,
            })
        });
        Some(Report {
            id: field(text, "Message-ID")?.to_owned(),
            at: seconds(field(text, "Date")?)?,
            about: number_of(text).or_else(|| envelope_number(status)),
            told: told.collect::<Option<Vec<_>>>()?,
        })
    }
}
