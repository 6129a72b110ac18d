//! Delivered-To (RFC 9228): by which addresses a message has come already.

use super::fields::fields;
use crate::model::address::Address;
use crate::wire::address::parse_mailbox;

/// Whether the header says that the message was delivered to this address before: then it goes round in a
/// circle (RFC 9228 §4). Case does not count, as in the directory.
pub fn was_delivered_to(message: &[u8], address: &Address) -> bool {
    let is_it = |value: &[u8]| {
        let text = String::from_utf8_lossy(value);
        let text = text.trim();
        let text = text.strip_prefix('<').and_then(|text| text.strip_suffix('>')).unwrap_or(text);
        parse_mailbox(text).is_ok_and(|path| {
            let one = path.to_address();
            one.domain() == address.domain() && one.local().eq_ignore_ascii_case(address.local())
        })
    };
    fields(message).any(|field| {
        message[field.name].eq_ignore_ascii_case(b"Delivered-To") && is_it(&message[field.value])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_where_a_message_was() {
        let header = "Return-Path: <>\r\ndelivered-to:\r\n List@Grün.example\r\nTo: c@d.example\r\n\
                      Delivered-To: <\"a b\"@d.example>\r\nDelivered-To: x\r\n\r\n\
                      Delivered-To: body@d.example\r\n";
        let was = |local, domain| {
            was_delivered_to(header.as_bytes(), &Address::from_parts(local, domain))
        };
        assert!(was("list", "xn--grn-ioa.example"));
        assert!(was("A b", "d.example"));
        for local in ["c", "x", "body", "list"] {
            assert!(!was(local, "d.example"), "{local}");
        }
    }
}
