//! `TLS-Required: No`: its sender wants a message to arrive rather than to be safe (RFC 8689 §3).

use super::fields::fields;

/// Whether the message says so.
pub fn is_tls_optional(message: &[u8]) -> bool {
    fields(message).any(|field| {
        let name = message.get(field.name).unwrap_or_default();
        let value = message.get(field.value).unwrap_or_default();
        name.eq_ignore_ascii_case(b"TLS-Required") && value.trim_ascii().eq_ignore_ascii_case(b"No")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_said_in_the_header_alone() {
        for (message, said) in [
            ("TLS-Required: No\r\n\r\nText", true),
            ("Subject: a\r\ntls-required:\r\n nO \r\n\r\n", true),
            ("TLS-Required: Yes\r\n\r\n", false),
            ("TLS-Required: No, thanks\r\n\r\n", false),
            ("X-TLS-Required: No\r\n\r\n", false),
            ("Subject: a\r\n\r\nTLS-Required: No\r\n", false),
            ("", false),
        ] {
            assert_eq!(is_tls_optional(message.as_bytes()), said, "{message:?}");
        }
    }
}
