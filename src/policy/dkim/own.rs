//! The signatures that this server put into a message, found again.

use crate::wire::message::fields::fields;
use std::ops::Range;

/// Whose name a DKIM-Signature is in: its `d=`.
fn domain(value: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(value).ok()?;
    let mut tags = text.split(';').filter_map(|tag| tag.split_once('='));
    let (_, domain) = tags.find(|(name, _)| name.trim() == "d")?;
    Some(domain.trim().to_ascii_lowercase())
}

/// A message that was signed here without our signatures, and the domain that they are in the name of. They
/// are the first, and stand together, one for each key. None: there are none.
pub fn without_own(mut message: Vec<u8>) -> Option<(String, Vec<u8>)> {
    let mut own: Option<(String, Range<usize>)> = None;
    for field in fields(&message) {
        let is_signature = message[field.name.clone()].eq_ignore_ascii_case(b"DKIM-Signature");
        match (&mut own, is_signature) {
            (None, false) => {}
            (None, true) => {
                own = Some((domain(&message[field.value])?, field.name.start..field.name.start));
            }
            (Some((first, range)), true)
                if domain(&message[field.value.clone()]).as_ref() == Some(first) =>
            {
                range.end = field.name.start;
            }
            (Some((_, range)), _) => {
                range.end = field.name.start;
                break;
            }
        }
    }
    let (domain, range) = own?;
    // They stand above the fields that they sign.
    (!range.is_empty()).then(|| {
        message.drain(range);
        (domain, message)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_signatures_of_this_server_again() {
        let own = "DKIM-Signature: v=1; a=rsa-sha256;\r\n\td=A.example; s=d; b=d=x.example;\r\n";
        let other = "DKIM-Signature: v=1; d=b.example; b=x\r\n";
        let trace = "Return-Path: <>\r\nReceived: x\r\n\td=c.example\r\n";
        let rest = format!("{other}From: x\r\n{own}\r\n{own}");
        let signed = format!("{trace}{own}{own}{rest}");
        let bare = Some(("a.example".into(), format!("{trace}{rest}").into_bytes()));
        assert_eq!(without_own(signed.into_bytes()), bare);
        for none in [format!("{trace}From: x\r\n\r\n{own}"), "DKIM-Signature: d=a\r\n".into()] {
            assert_eq!(without_own(none.clone().into_bytes()), None, "{none}");
        }
    }
}
