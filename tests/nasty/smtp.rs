//! The hostile SMTP inputs of the corpus: what is sent, and what each may come to.
//!
//! The words of `expect` are read for reply codes: every code that comes must be named there.
//! Where words alone say it, the case has a line in [`EXACT`]. AUTH is not offered to other
//! servers: there its cases must get 502, and `e2e/nasty_tls.rs` plays them where it is. STARTTLS is
//! offered by the bare machine, for which the handshake is nothing. Nor is DSN, but the bare machine
//! knows it: its cases are played both ways, and must get 555 where it is not offered.

use pombal::proto::smtp::replay::Replay;
use pombal::proto::smtp::{Dialect, Extensions, Service, Settings};
use serde_json::Value;

/// Cases whose codes stand in their `expect` in words only, or not all of them.
const EXACT: [(&str, &[u16]); 14] = [
    ("smtp-early-talk", &[250]),
    ("smtp-mail-leaddot", &[250]),
    ("smtp-line-2049", &[500, 250]),
    ("smtp-tls-hello", &[421]),
    ("smtp-http-get", &[421]),
    ("smtp-http-post", &[421]),
    ("smtp-data-norcpt-pipe", &[550, 554, 500, 500, 221]),
    ("smtp-binarymime-data", &[250, 250, 503]),
    ("smtp-lmtp-norcpt", &[250, 503]),
    ("smtp-mail-ehlo-reset", &[250, 250, 503]),
    ("smtp-pipeline-full", &[250, 250, 550, 354]),
    ("smtp-bdat-rset", &[250, 250, 503]),
    ("smtp-bdat-norcpt", &[503, 250]),
    ("smtp-bdat-after-last", &[250, 503]),
];

/// One line of the corpus.
pub(crate) struct Case {
    pub(crate) id: String,
    /// Where the session stands when the input comes.
    pub(crate) state: String,
    pub(crate) expect: String,
    /// What is written, one part after the other.
    pub(crate) sends: Vec<Vec<u8>>,
}

/// All cases; `None` where the corpus is not beside the repository.
pub(crate) fn cases() -> Option<Vec<Case>> {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/corpus/protocol/nasty/smtp.jsonl");
    let text = std::fs::read_to_string(file).ok()?;
    let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
    let word = |case: &Value, key: &str| case[key].as_str().unwrap().to_owned();
    let cases: Vec<Case> = lines
        .map(|case: Value| Case {
            id: word(&case, "id"),
            state: word(&case, "state"),
            expect: word(&case, "expect"),
            sends: sends(&case),
        })
        .collect();
    assert!(cases.len() > 100, "only {} cases", cases.len());
    Some(cases)
}

fn sends(case: &Value) -> Vec<Vec<u8>> {
    let octets = |text: &Value| -> Vec<u8> {
        text.as_str().unwrap().chars().map(|letter| u8::try_from(letter).unwrap()).collect()
    };
    if let Some(parts) = case["send"].as_array() {
        return parts.iter().map(octets).collect();
    }
    let generator = &case["gen"];
    let count = usize::try_from(generator["count"].as_u64().unwrap()).unwrap();
    let body = octets(&generator["unit"]).repeat(count);
    vec![[octets(&generator["prefix"]), body, octets(&generator["suffix"])].concat()]
}

impl Case {
    pub(crate) fn is_lmtp(&self) -> bool {
        self.state.starts_with("lmtp")
    }

    /// The machine that meets the case, behind its greeting.
    pub(crate) fn replay(&self, max_message_size: u64, dsn: bool) -> Replay {
        let hostname = "mx.local.example".into();
        let service = if self.is_lmtp() { Service::Lmtp } else { Service::Mx };
        let extensions = if dsn { Extensions::DSN } else { Extensions::NONE };
        let dialect = Dialect { extensions, ..Dialect::default() };
        Replay::new(Settings {
            hostname,
            service,
            max_message_size,
            starttls: true,
            dialect,
            ..Settings::default()
        })
    }

    /// It has a parameter of DSN.
    pub(crate) fn is_dsn(&self) -> bool {
        ["mail-ret", "mail-envid", "rcpt-notify", "rcpt-orcpt"]
            .iter()
            .any(|part| self.id.strip_prefix("smtp-").is_some_and(|id| id.starts_with(part)))
    }

    /// The commands that lead to the state.
    pub(crate) fn opening(&self) -> Vec<&'static str> {
        let all = ["EHLO client.example", "MAIL FROM:<>", "RCPT TO:<a@local.example>", "DATA"];
        let count = match &*self.state {
            "connect" | "greeting" | "lmtp-greeting" => 0,
            "helo" => 1,
            "tls" => return vec!["EHLO client.example", "STARTTLS"],
            "lmtp-helo" => return vec!["LHLO client.example"],
            "mail" => 2,
            "rcpt" => 3,
            "data" => 4,
            other => panic!("no such state: {other}"),
        };
        all[..count].to_vec()
    }

    /// What ends a message that the case itself does not end.
    pub(crate) fn ending(&self, got: &[u16]) -> Option<&'static [u8]> {
        let unended = self.state == "data" && got.is_empty() && !self.hangs_up();
        unended.then_some(b"\r\n.\r\n")
    }

    /// The client goes away in the middle.
    pub(crate) fn hangs_up(&self) -> bool {
        matches!(&*self.id, "smtp-close-middata" | "smtp-bdat-short-close")
    }

    /// What brings the session back to where a command is read.
    pub(crate) fn way_back(got: &[u16]) -> &'static [u8] {
        match got.last() {
            Some(354) => b".\r\n",
            // A line without end: it ends now, and is one bad line.
            None => b"\r\n",
            Some(_) => b"",
        }
    }

    pub(crate) fn check_codes(&self, got: &[u16], dsn: bool) -> Result<(), String> {
        if self.is_dsn() && !dsn {
            // 501: what has not the form of a parameter is bad before it is unknown.
            let sound = matches!(got, [501 | 555]);
            return if sound { Ok(()) } else { Err(format!("{got:?}, not 555")) };
        }
        if self.id.starts_with("smtp-auth") {
            let sound = got.iter().all(|code| matches!(code, 250 | 500 | 502));
            return if sound && !got.is_empty() { Ok(()) } else { Err(format!("{got:?}")) };
        }
        if let Some((_, want)) = EXACT.iter().find(|(case, _)| *case == self.id) {
            return if got == *want { Ok(()) } else { Err(format!("{got:?}, not {want:?}")) };
        }
        let named = self.named();
        match got.iter().find(|code| !named.contains(code)) {
            Some(code) => Err(format!("{code} in {got:?}")),
            None => Ok(()),
        }
    }

    /// The codes that `expect` allows.
    pub(crate) fn named(&self) -> Vec<u16> {
        let words = self.expect.split(|letter: char| !letter.is_ascii_alphanumeric());
        let words: Vec<&str> = words.collect();
        let mut named: Vec<u16> = words
            .iter()
            .filter_map(|word| word.parse().ok())
            .filter(|code| (200..600).contains(code))
            .collect();
        if words.contains(&"5xx") || named.is_empty() {
            named.extend([250, 500, 501, 550, 552, 553, 554]);
        }
        named
    }

    /// `stored` are the octets of the messages that came out of it.
    pub(crate) fn check_stored(&self, stored: &[Vec<u8>]) -> Result<(), String> {
        let begins = |front: &[u8]| stored.first().is_some_and(|one| one.starts_with(front));
        let sound = match &*self.id {
            id if id.starts_with("smtp-smuggle") => {
                stored.len() <= 1
                    && stored.iter().all(|one| one.windows(4).any(|part| part == b"evil"))
            }
            "smtp-close-middata"
            | "smtp-bdat-short-close"
            | "smtp-data-norcpt-pipe"
            | "smtp-received-101"
            | "smtp-no-newline-64m"
            | "smtp-bdat-rset" => stored.is_empty(),
            "smtp-eod-segmented" | "smtp-received-99" | "smtp-boundary-flood" => stored.len() == 1,
            "smtp-dots-2" => begins(b"Subject: x\r\n"),
            "smtp-dot-long" => begins(b"\r\n.a") && stored[0].len() == 2 + 998 + 2,
            "smtp-bdat-two" => begins(b"abcde"),
            "smtp-bdat-dot" => begins(b"a\r\n.\r\nb"),
            "smtp-bdat-segments" => begins(b"abcd"),
            "smtp-bdat-1byte-10000" => begins(&b"x".repeat(10_000)),
            _ => stored.len() <= 1,
        };
        if sound { Ok(()) } else { Err(format!("stored {}", shown(stored))) }
    }
}

fn shown(stored: &[Vec<u8>]) -> String {
    let front = |one: &Vec<u8>| one[..one.len().min(200)].escape_ascii().to_string();
    format!("{} messages {:?}", stored.len(), stored.iter().map(front).collect::<Vec<_>>())
}

/// The codes of the replies, one per reply.
pub(crate) fn codes(said: &[u8]) -> Vec<u16> {
    let said = std::str::from_utf8(said).expect("replies are ASCII");
    let last = said.lines().filter(|line| line.as_bytes()[3] == b' ');
    last.map(|line| line.split(' ').next().unwrap().parse().unwrap()).collect()
}

/// The octets of what the machine gave up for storing.
pub(crate) fn stored(replay: &Replay) -> Vec<Vec<u8>> {
    replay.stored().iter().map(|message| message.octets.clone()).collect()
}
