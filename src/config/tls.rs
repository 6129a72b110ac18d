//! `[tls]`: certificates, and who is asked for one.

use super::names::DomainPattern;
use super::reader::Section;
use super::sections::path;
use super::{Certificate, Clients, Tls};
use crate::model::limits;
use crate::server::listener::Protocol;
use crate::tls::NameField;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_hours(24);

/// Where users log in; each is also that with TLS from the first octet on. Servers that bring mail to
/// port 25 are not asked.
const LISTENERS: [Protocol; 3] = [Protocol::Submission, Protocol::Pop3, Protocol::Imap];

const NAME_FIELDS: [(&str, NameField); 3] = [
    ("san-email", NameField::SanEmail),
    ("subject-cn", NameField::SubjectCn),
    ("subject-email", NameField::SubjectEmail),
];

pub(super) fn tls(mut section: Section<'_, '_, '_>) -> Tls {
    let default = certificate(&mut section);
    let sni = section.sections("sni", |mut entry| {
        let allowed = "a domain or \"*.domain\"";
        let name = entry.word("name", None, allowed, DomainPattern::parse, |_| String::new());
        let certificate = certificate(&mut entry);
        let whole = name.zip(certificate);
        entry.end();
        whole
    });
    let starttls = section.flag("starttls", true);
    let handshake_timeout =
        section.time("handshake_timeout", limits::TLS_HANDSHAKE_TIMEOUT, SECOND..=DAY);
    let signing_threads = section.count("signing_threads", limits::TLS_SIGNING_THREADS, 1..=256);
    let clients = clients(&mut section);
    section.end();
    Tls { default, sni, starttls, handshake_timeout, signing_threads, clients }
}

fn certificate(section: &mut Section<'_, '_, '_>) -> Option<Certificate> {
    let certificate = path(section, "certificate", None);
    let key = path(section, "key", None);
    let lonely = match (&certificate, &key) {
        (Some(_), None) => section.span("certificate"),
        (None, Some(_)) => section.span("key"),
        _ => None,
    };
    if let Some(span) = lonely {
        section.reader.mistake(
            &span,
            "a certificate without its key, or the other way round",
            "both",
        );
    }
    certificate.zip(key).map(|(certificate, key)| Certificate { certificate, key })
}

/// None without `client_ca`: nobody is asked.
fn clients(section: &mut Section<'_, '_, '_>) -> Option<Clients> {
    let authorities = path(section, "client_ca", None);
    let revoked = path(section, "client_crl", None);
    let words = NAME_FIELDS.map(|(word, _)| format!("{word:?}")).join(", ");
    let name_field = section.value(
        "client_name",
        NameField::SanEmail,
        &format!("one of {words}"),
        |value| {
            let word = value.as_str()?;
            NAME_FIELDS.iter().find(|(name, _)| *name == word).map(|(_, field)| *field)
        },
        |field| {
            let name = NAME_FIELDS.iter().find(|(_, known)| known == field);
            name.map(|(name, _)| format!("{name:?}"))
        },
    );
    let names = LISTENERS.map(Protocol::name).join(", ");
    let mut listeners = |name, default| {
        let read = |text: &str| {
            let known = LISTENERS.into_iter().find(|listener| listener.name() == text);
            known.ok_or_else(|| format!("{text:?} is no listener where users log in"))
        };
        let show = |listener: &Protocol| listener.name().to_owned();
        let allowed = format!("a list of {names}");
        section.list(name, Some(default), &allowed, read, show).unwrap_or_default()
    };
    let asked = listeners("client_listeners", LISTENERS.into());
    let required = listeners("client_required", Vec::new());
    if let (true, Some(span)) =
        (required.iter().any(|one| !asked.contains(one)), section.span("client_required"))
    {
        let what = "`tls.client_required` names a listener that `tls.client_listeners` does not";
        section.reader.mistake(&span, what, "listeners that are in both");
    }
    for (name, is_empty) in
        [("client_crl", revoked.is_none()), ("client_required", required.is_empty())]
    {
        if let (None, false, Some(span)) = (&authorities, is_empty, section.span(name)) {
            let what = format!("`tls.{name}` without `tls.client_ca`");
            section.reader.mistake(&span, what, "both");
        }
    }
    Some(Clients { authorities: authorities?, revoked, name_field, asked, required })
}
