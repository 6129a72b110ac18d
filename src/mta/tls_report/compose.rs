//! A report of one day to one domain: JSON (RFC 8460 §4.4), gzip, and the mail that brings it (§5.3).

use super::{Applied, Counts, Day, Detail, Policies};
use crate::model::address::Address;
use crate::wire::date::{day as date_of, put_date};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde::Serialize;
use std::io;
use std::net::IpAddr;

/// Characters of a line of Base64 (RFC 2045 §6.8).
const LINE_CHARS: usize = 76;

/// Who reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Submitter {
    pub organization: Box<str>,
    /// Whom to write to; reports come from there. Of ASCII.
    pub contact: Address,
}

/// What goes out by mail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mail {
    pub sender: Address,
    /// Of ASCII.
    pub recipient: Address,
    /// The message, with `TLS-Required: No` in it: it is to arrive whatever is wrong with TLS (RFC 8460 §3).
    pub message: Vec<u8>,
}

/// A report of one day to one domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    domain: Box<str>,
    /// Unique.
    id: Box<str>,
    file_name: String,
    /// JSON, by gzip.
    pub gzip: Vec<u8>,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Json<'a> {
    organization_name: &'a str,
    date_range: DateRange,
    contact_info: String,
    report_id: &'a str,
    policies: Vec<OfPolicy<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct DateRange {
    start_datetime: String,
    end_datetime: String,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct OfPolicy<'a> {
    policy: PolicyJson<'a>,
    summary: Summary,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    failure_details: Vec<DetailJson<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct PolicyJson<'a> {
    policy_type: &'static str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    policy_string: &'a [String],
    policy_domain: &'a str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    mx_host: &'a [String],
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Summary {
    total_successful_session_count: u64,
    total_failure_session_count: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct DetailJson<'a> {
    result_type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    sending_mta_ip: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    receiving_mx_hostname: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    receiving_mx_helo: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    receiving_ip: Option<IpAddr>,
    failed_session_count: u64,
    #[serde(skip_serializing_if = "str::is_empty")]
    failure_reason_code: &'a str,
}

fn of_policy<'a>((applied, counts): (&'a Applied, &'a Counts)) -> OfPolicy<'a> {
    OfPolicy {
        policy: PolicyJson {
            policy_type: applied.kind,
            policy_string: &applied.lines,
            policy_domain: &applied.domain,
            mx_host: &applied.hosts,
        },
        summary: Summary {
            total_successful_session_count: counts.successes,
            total_failure_session_count: counts.failures,
        },
        failure_details: counts.details.iter().map(of_detail).collect(),
    }
}

fn of_detail<'a>((detail, count): (&'a Detail, &u64)) -> DetailJson<'a> {
    DetailJson {
        result_type: detail.failure.name(),
        sending_mta_ip: detail.sender,
        receiving_mx_hostname: detail.host.as_deref(),
        receiving_mx_helo: detail.hello.as_deref(),
        receiving_ip: detail.receiver,
        failed_session_count: *count,
        failure_reason_code: &detail.why,
    }
}

impl Report {
    /// Of what was counted for `domain` on this day; `id` is unique, of letters and digits.
    pub(super) fn new(
        submitter: &Submitter,
        domain: &str,
        day: Day,
        policies: &Policies,
        id: &str,
    ) -> io::Result<Report> {
        let date = date_of(day);
        let at = |time: &str| format!("{:04}-{:02}-{:02}T{time}Z", date.year, date.month, date.day);
        let json = Json {
            organization_name: &submitter.organization,
            date_range: DateRange { start_datetime: at("00:00:00"), end_datetime: at("23:59:59") },
            contact_info: submitter.contact.to_string(),
            report_id: id,
            policies: policies.iter().map(of_policy).collect(),
        };
        let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
        serde_json::to_writer(&mut gzip, &json)?;
        let begin = u64::from(day) * super::DAY;
        let (sender, end) = (submitter.contact.domain(), begin + super::DAY - 1);
        Ok(Report {
            domain: domain.into(),
            id: id.into(),
            file_name: format!("{sender}!{domain}!{begin}!{end}!{id}.json.gz"),
            gzip: gzip.finish()?,
        })
    }

    pub(super) fn domain(&self) -> &str {
        &self.domain
    }

    /// The media type of what is posted (RFC 8460 §5.4).
    pub const KIND: &'static str = "application/tlsrpt+gzip";

    /// The mail that brings it to `recipient`; `now` in seconds since 1970.
    pub fn mail(&self, submitter: &Submitter, recipient: Address, now: u32) -> Mail {
        let Report { domain, id, file_name, gzip } = self;
        let (contact, from) = (&submitter.contact, submitter.contact.domain());
        let mut date = Vec::new();
        put_date(now, &mut date);
        let date = String::from_utf8_lossy(&date);
        let boundary = format!("=_tlsrpt_{id}");
        let mut message = format!(
            "From: {contact}\r\n\
             To: {recipient}\r\n\
             Date: {date}\r\n\
             Message-ID: <tlsrpt.{id}@{from}>\r\n\
             Subject: Report Domain: {domain}\r\n \
             Submitter: {from}\r\n \
             Report-ID: <{id}@{from}>\r\n\
             TLS-Report-Domain: {domain}\r\n\
             TLS-Report-Submitter: {from}\r\n\
             TLS-Required: No\r\n\
             Auto-Submitted: auto-generated\r\n\
             MIME-Version: 1.0\r\n\
             Content-Type: multipart/report; report-type=\"tlsrpt\";\r\n\
             \tboundary=\"{boundary}\"\r\n\
             \r\n\
             --{boundary}\r\n\
             Content-Type: text/plain; charset=us-ascii\r\n\
             \r\n\
             This is a report on connections by TLS to the mail servers of\r\n\
             {domain}, from {from}.\r\n\
             \r\n\
             --{boundary}\r\n\
             Content-Type: application/tlsrpt+gzip\r\n\
             Content-Transfer-Encoding: base64\r\n\
             Content-Disposition: attachment;\r\n\
             \tfilename=\"{file_name}\"\r\n\
             \r\n"
        );
        let text = STANDARD.encode(gzip);
        let mut rest = text.as_str();
        while !rest.is_empty() {
            let (line, after) = rest.split_at(rest.len().min(LINE_CHARS));
            message.push_str(line);
            message.push_str("\r\n");
            rest = after;
        }
        for piece in ["\r\n--", &boundary, "--\r\n"] {
            message.push_str(piece);
        }
        Mail { sender: contact.clone(), recipient, message: message.into_bytes() }
    }
}
