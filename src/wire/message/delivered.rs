//! Delivered-To (RFC 9228): by which addresses a message has come already.

use super::fields::fields;
use crate::bytes::hash::Set;
use crate::model::address::Address;
use crate::model::limits::DELIVERED_TO_MAX;
use crate::wire::address::parse_mailbox;

/// The addresses that a header says a message was delivered to before, [`DELIVERED_TO_MAX`] from the top.
#[derive(Debug, Default)]
pub struct DeliveredTo(Set<String>);

/// Case does not count, as in the directory.
fn key(address: &Address) -> String {
    format!("{}@{}", address.local().to_ascii_lowercase(), address.domain())
}

impl DeliveredTo {
    pub fn of(message: &[u8]) -> DeliveredTo {
        let is_one = |name: &[u8]| name.eq_ignore_ascii_case(b"Delivered-To");
        let all = fields(message).filter(|field| is_one(&message[field.name.clone()]));
        let values = all.take(DELIVERED_TO_MAX).filter_map(|field| {
            let text = String::from_utf8_lossy(&message[field.value]);
            let text = text.trim();
            let inner = text.strip_prefix('<').and_then(|text| text.strip_suffix('>'));
            parse_mailbox(inner.unwrap_or(text)).ok().map(|path| key(&path.to_address()))
        });
        DeliveredTo(values.collect())
    }

    /// What goes there again goes round in a circle (RFC 9228 §4).
    pub fn has(&self, address: &Address) -> bool {
        !self.0.is_empty() && self.0.contains(&key(address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_where_a_message_was() {
        let header = "Return-Path: <>\r\ndelivered-to:\r\n List@Grün.example\r\nTo: c@d.example\r\n\
                      Delivered-To: <\"a b\"@d.example>\r\nDelivered-To: x\r\n\r\n\
                      Delivered-To: body@d.example\r\n";
        let been = DeliveredTo::of(header.as_bytes());
        let was = |local, domain| been.has(&Address::from_parts(local, domain));
        assert!(was("list", "xn--grn-ioa.example"));
        assert!(was("A b", "d.example"));
        for local in ["c", "x", "body", "list"] {
            assert!(!was(local, "d.example"), "{local}");
        }
    }

    #[test]
    fn looks_at_so_many_and_no_more() {
        let value = |number| format!("Delivered-To: a{number}@d.example\r\n");
        let header: String = (0..=DELIVERED_TO_MAX).map(value).collect();
        let been = DeliveredTo::of(header.as_bytes());
        let has = |number| been.has(&Address::from_parts(&format!("a{number}"), "d.example"));
        assert!(has(0) && has(DELIVERED_TO_MAX - 1) && !has(DELIVERED_TO_MAX));
    }
}
