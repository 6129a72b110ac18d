//! The client's side of SASL on the port for users: PLAIN, and SCRAM-SHA-256 in two steps, with time in
//! between.

use crate::client::{Link, smtp};
use crate::harness::Server;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pombal::proto::sasl::Hash;

/// What PLAIN is answered (RFC 4616); `acting_for` may be empty.
pub(crate) fn plain(server: &Server, acting_for: &str, user: &str, password: &str) -> u16 {
    let mut link = smtp(server.submission(), "EHLO").unwrap();
    let message = STANDARD.encode(format!("{acting_for}\0{user}\0{password}"));
    link.send(format!("AUTH PLAIN {message}\r\n")).unwrap();
    link.reply().unwrap().unwrap().code
}

/// An exchange that the server has challenged (RFC 5802 §3).
pub(crate) struct Scram {
    link: Link,
    bare: String,
    challenge: String,
}

impl Scram {
    pub(crate) fn begin(server: &Server, user: &str) -> Scram {
        let mut link = smtp(server.submission(), "EHLO").unwrap();
        let bare = format!("n={user},r=cnonce");
        let first = STANDARD.encode(format!("n,,{bare}"));
        let reply = link.command(&format!("AUTH SCRAM-SHA-256 {first}"), 334).unwrap();
        let challenge = decoded(&reply.text);
        Scram { link, bare, challenge }
    }

    /// What the server says in the end.
    pub(crate) fn end(mut self, password: &str) -> u16 {
        let field = |name: &str| {
            let mut fields = self.challenge.split(',');
            fields.find_map(|field| field.strip_prefix(name)).unwrap().to_owned()
        };
        let (nonce, salt, iterations) = (field("r="), field("s="), field("i="));
        let unproven = format!("c=biws,r={nonce}");
        let signed = format!("{},{},{unproven}", self.bare, self.challenge);
        let salt = STANDARD.decode(salt).unwrap();
        let iterations = iterations.parse().unwrap();
        let proof = Hash::Sha256.proof(password, &salt, iterations, signed.as_bytes());
        let last = format!("{unproven},p={}", STANDARD.encode(proof));
        self.link.send(format!("{}\r\n", STANDARD.encode(last))).unwrap();
        let reply = self.link.reply().unwrap().unwrap();
        if reply.code != 334 {
            return reply.code;
        }
        assert!(decoded(&reply.text).starts_with("v="), "{}", reply.text);
        self.link.send("\r\n").unwrap();
        self.link.reply().unwrap().unwrap().code
    }
}

pub(crate) fn scram(server: &Server, user: &str, password: &str) -> u16 {
    Scram::begin(server, user).end(password)
}

fn decoded(reply: &str) -> String {
    let word = reply.trim().strip_prefix("334 ").unwrap();
    String::from_utf8(STANDARD.decode(word).unwrap()).unwrap()
}
