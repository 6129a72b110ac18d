//! Makes DKIM-Signature fields (RFC 6376 §3.5, §5).

use super::canon::{Body, put_field};
use super::fields::{choose, put_named};
use super::keys::Key;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::digest;

/// Letters of a line of a signature.
const LINE_LETTERS: usize = 72;

/// Why a message is not signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unsigned {
    /// No From field, or more fields than a signature names.
    Header,
    /// A key that cannot sign.
    Key,
}

/// The DKIM-Signature fields for a message, one for each key, with their line ends; they go on top of
/// the fields that are signed. `domain` is whose the keys are, `at` is now, in seconds since 1970.
pub fn sign<'b>(
    header: &[u8],
    body: impl IntoIterator<Item = &'b [u8]>,
    domain: &str,
    keys: &[Key],
    at: u32,
) -> Result<Vec<u8>, Unsigned> {
    let named = choose(header).map_err(|_| Unsigned::Header)?;
    let body_hash = STANDARD.encode(body_hash(body));
    let mut data = Vec::with_capacity(2_048);
    put_named(header, named.iter().map(|name| name.as_bytes()), &mut data);
    let signed = data.len();
    let mut out = Vec::with_capacity(1_024 * keys.len());
    for key in keys {
        let value = value(key, domain, at, &named, &body_hash);
        data.truncate(signed);
        // RFC 6376 §3.7: the field itself comes last, with an empty b= and without its line end.
        put_field(b"dkim-signature", value.as_bytes(), &mut data);
        let signature = STANDARD.encode(key.sign(&data).ok_or(Unsigned::Key)?);
        out.extend_from_slice(b"DKIM-Signature:");
        out.extend_from_slice(value.as_bytes());
        for line in signature.as_bytes().chunks(LINE_LETTERS) {
            out.extend_from_slice(b"\r\n\t");
            out.extend_from_slice(line);
        }
        out.extend_from_slice(b"\r\n");
    }
    Ok(out)
}

/// What stands behind the colon, up to an empty `b=`.
fn value(key: &Key, domain: &str, at: u32, named: &[&str], body_hash: &str) -> String {
    let algorithm = key.algorithm().name();
    let mut value = format!(" v=1; a={algorithm}-sha256; c=relaxed/relaxed; t={at};");
    let mut used = "DKIM-Signature:".len() + value.len();
    let mut put = |word: &str, is_apart: bool| {
        if used + 1 + word.len() > LINE_LETTERS {
            value.push_str("\r\n\t");
            used = 1;
        } else if is_apart {
            value.push(' ');
            used += 1;
        }
        value.push_str(word);
        used += word.len();
    };
    put(&format!("d={domain};"), true);
    put(&format!("s={};", key.selector()), true);
    for (index, name) in named.iter().enumerate() {
        let start = if index == 0 { "h=" } else { "" };
        let end = if index + 1 == named.len() { ";" } else { ":" };
        put(&format!("{start}{name}{end}"), index == 0);
    }
    put(&format!("bh={body_hash};"), true);
    put("b=", true);
    value
}

/// SHA-256 of the relaxed body.
pub(super) fn body_hash<'b>(body: impl IntoIterator<Item = &'b [u8]>) -> [u8; 32] {
    let mut context = digest::Context::new(&digest::SHA256);
    let mut relaxed = Body::new(|octets: &[u8]| context.update(octets));
    body.into_iter().for_each(|slice| relaxed.feed(slice));
    relaxed.end();
    context.finish().as_ref().try_into().expect("SHA-256 has 32 octets")
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::policy::dkim::record;
    use expect_test::{Expect, expect};

    /// The key of RFC 8463 §A.2, as PKCS#8.
    pub(in super::super) const ED25519: &[u8] = b"-----BEGIN PRIVATE KEY-----\n\
        MC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n\
        -----END PRIVATE KEY-----\n";

    #[track_caller]
    #[expect(clippy::needless_pass_by_value, reason = "expect![] reads better as a value")]
    fn check(header: &str, body: &str, want: Expect) {
        let key = Key::from_pem("s1", ED25519).unwrap();
        let signed = sign(header.as_bytes(), [body.as_bytes()], "b.example", &[key], 1_795_579_800);
        let text = signed.map(|fields| String::from_utf8(fields).unwrap());
        want.assert_eq(&text.unwrap_or_else(|why| format!("{why:?}")).replace("\r\n", "\n"));
    }

    #[test]
    fn writes_a_signature() {
        check(
            "From: Ann <a@b.example>\r\nTo: b@x.example\r\nSubject: x\r\n\r\n",
            "text\r\n",
            expect![[r"
                DKIM-Signature: v=1; a=ed25519-sha256; c=relaxed/relaxed; t=1795579800;
                	d=b.example; s=s1; h=from:from:to:to:subject:subject;
                	bh=eDCyaw7m810RhFf0TmGWGkTYiT/1GwL4/PCOGIr3ew4=; b=
                	G9xUCbdRR5gZlbZC3bqzxZ0w85mfz+BkZF216Hr2lhXoH7b/amE6cC1Cqv/Ym+EKpT/7xL27
                	JSdsc4FJdqS/AQ==
            "]],
        );
        check("To: b@x.example\r\n\r\n", "", expect![["Header"]]);
    }

    /// RFC 8463 §A.2: the record of its key.
    #[test]
    fn has_the_public_key_of_the_rfc() {
        let key = Key::from_pem("brisbane", ED25519).unwrap();
        let want = "v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=";
        assert_eq!(record(&key), want);
    }
}
