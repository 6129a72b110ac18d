//! Trace lines that go on top of a message (RFC 5321 §4.4): Return-Path and Received.
//!
//! Everything that a stranger chose (the name in EHLO, the sender) is written so that it cannot
//! end a line, a comment or a field; lines are folded near 78 characters where that is possible.

use super::address::literal_text;
use super::date::put_date;
use crate::model::address::Address;
use crate::model::limits::TRACE_LINE_OCTETS_TARGET;
use std::net::IpAddr;

/// The protocol a message came by (RFC 3848 §1, RFC 6531 §4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct With {
    pub dialogue: Dialogue,
    /// Over TLS.
    pub tls: bool,
    /// By somebody who showed who he is.
    pub auth: bool,
}

/// Which greeting began it, and whether SMTPUTF8 was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialogue {
    /// After HELO.
    Smtp,
    /// After EHLO.
    Esmtp,
    /// After LHLO.
    Lmtp,
    /// SMTP with SMTPUTF8 asked for.
    Utf8Smtp,
    /// LMTP with SMTPUTF8 asked for.
    Utf8Lmtp,
}

impl With {
    /// The registered name. HELO has no others: whoever says it over TLS is told apart by the log.
    pub const fn name(self) -> &'static str {
        let names = match self.dialogue {
            Dialogue::Smtp => ["SMTP"; 4],
            Dialogue::Esmtp => ["ESMTP", "ESMTPA", "ESMTPS", "ESMTPSA"],
            Dialogue::Lmtp => ["LMTP", "LMTPA", "LMTPS", "LMTPSA"],
            Dialogue::Utf8Smtp => ["UTF8SMTP", "UTF8SMTPA", "UTF8SMTPS", "UTF8SMTPSA"],
            Dialogue::Utf8Lmtp => ["UTF8LMTP", "UTF8LMTPA", "UTF8LMTPS", "UTF8LMTPSA"],
        };
        match (self.tls, self.auth) {
            (false, false) => names[0],
            (false, true) => names[1],
            (true, false) => names[2],
            (true, true) => names[3],
        }
    }
}

/// One hop of a message.
#[derive(Clone, Copy, Debug)]
pub struct Received<'a> {
    /// What the client called itself, a domain or a literal; anything else is cleaned, and an
    /// empty name is `unknown`.
    pub hello: &'a str,
    /// Where the client's connection came from; none: nobody is to know, nor what it called itself,
    /// and this server's own name stands there.
    pub peer: Option<IpAddr>,
    /// The name that the DNS has for that address, and that has that address; letters of a domain.
    pub name: Option<&'a str>,
    /// This server's name.
    pub host: &'a str,
    pub with: With,
    /// The cipher suite and, where it is known, the group of the key exchange, by their registered
    /// names (RFC 8314 §4.3).
    pub tls: Option<(&'a str, Option<&'a str>)>,
    /// The priority that the message has here, where one was asked for (RFC 6710 §4.1).
    pub priority: Option<i8>,
    /// The name under which the logs know the message.
    pub id: &'a str,
    /// The recipient, if there is only one: several are nobody's business but ours
    /// (RFC 5321 §4.4, §7.2).
    pub recipient: Option<&'a Address>,
    /// Seconds since 1970.
    pub at: u32,
}

/// Writes `Return-Path: <sender>`; `None` is the null path.
pub fn put_return_path(sender: Option<&Address>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"Return-Path: <");
    if let Some(sender) = sender {
        out.extend_from_slice(sender.to_string().as_bytes());
    }
    out.extend_from_slice(b">\r\n");
}

/// Writes `Delivered-To: address` (RFC 9228 §4); nothing for one that is not of ASCII alone, since not every
/// server takes its header.
pub fn put_delivered_to(address: &Address, out: &mut Vec<u8>) {
    if address.is_ascii() {
        out.extend_from_slice(format!("Delivered-To: {address}\r\n").as_bytes());
    }
}

/// How long the Return-Path is that a stored message begins with; 0 where there is none. It is for who
/// delivers a message for good: on the way to another server it is left out (RFC 5321 §4.4).
pub fn return_path_len(message: &[u8]) -> usize {
    if !message.starts_with(b"Return-Path: <") {
        return 0;
    }
    // It is one line, as it was written above.
    memchr::memchr(b'\n', message).map_or(0, |end| end + 1)
}

/// Writes the Received field of this hop.
pub fn put_received(hop: &Received<'_>, out: &mut Vec<u8>) {
    let mut line = Folder { out, used: 0 };
    line.start("Received:");
    match hop.peer {
        Some(peer) => {
            line.words(&["from", &clean_name(hop.hello)]);
            // RFC 5321 §4.4: TCP-info is the address, behind its name if there is one.
            let peer = literal_text(peer);
            match hop.name {
                Some(name) => line.words(&[&format!("({} {peer})", clean_name(name))]),
                None => line.words(&[&format!("({peer})")]),
            }
        }
        None => line.words(&["from", hop.host]),
    }
    line.words(&["by", hop.host]);
    line.words(&["with", hop.with.name()]);
    line.words(&["id", hop.id]);
    if let Some(recipient) = hop.recipient {
        line.words(&["for", &format!("<{recipient}>")]);
    }
    if let Some((suite, group)) = hop.tls {
        line.words(&["tls", suite]);
        if let Some(group) = group {
            line.words(&["group", group]);
        }
    }
    if let Some(priority) = hop.priority {
        line.words(&["PRIORITY", &priority.to_string()]);
    }
    out.extend_from_slice(b";\r\n\t");
    put_date(hop.at, out);
    out.extend_from_slice(b"\r\n");
}

/// Writes what lists in the DNS say of the client: the sum of their weights, and which they are.
pub fn put_listed(score: i32, zones: &str, out: &mut Vec<u8>) {
    let mut line = Folder { out, used: 0 };
    line.start("X-DNS-Lists:");
    line.words(&[&format!("score={score};")]);
    for zone in zones.split(' ') {
        line.words(&[zone]);
    }
    out.extend_from_slice(b"\r\n");
}

/// Letters that a domain or literal has; others become `?`, which no domain has.
fn clean_name(name: &str) -> String {
    if name.is_empty() {
        return "unknown".into();
    }
    let clean = |letter: char| match letter {
        'a'..='z' | 'A'..='Z' | '0'..='9' | '-' | '_' | '.' | ':' | '[' | ']' => letter,
        _ => '?',
    };
    name.chars().map(clean).collect()
}

/// Breaks lines between words that belong apart.
struct Folder<'a> {
    out: &'a mut Vec<u8>,
    used: usize,
}

impl Folder<'_> {
    fn start(&mut self, name: &str) {
        self.out.extend_from_slice(name.as_bytes());
        self.used = name.len();
    }

    /// Writes words that stay on one line.
    fn words(&mut self, words: &[&str]) {
        let len: usize = words.iter().map(|word| word.len() + 1).sum();
        if self.used + len > TRACE_LINE_OCTETS_TARGET {
            self.out.extend_from_slice(b"\r\n\t");
            self.used = 8 - 1;
        } else {
            self.out.push(b' ');
        }
        self.out.extend_from_slice(words.join(" ").as_bytes());
        self.used += len;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    #[track_caller]
    #[expect(clippy::needless_pass_by_value, reason = "expect![] reads better as a value")]
    fn check(hop: &Received<'_>, want: Expect) {
        let mut out = Vec::new();
        put_received(hop, &mut out);
        let text = String::from_utf8(out).unwrap();
        assert!(text.ends_with("\r\n") && text.split("\r\n").all(|line| line.len() <= 998));
        want.assert_eq(&text.replace("\r\n", "\n"));
    }

    fn with(dialogue: Dialogue) -> With {
        With { dialogue, tls: false, auth: false }
    }

    fn hop() -> Received<'static> {
        Received {
            hello: "client.example",
            peer: Some(IpAddr::from([192, 0, 2, 1])),
            name: None,
            host: "mx.local.example",
            with: with(Dialogue::Esmtp),
            tls: None,
            priority: None,
            id: "0-1a2b",
            recipient: None,
            at: 1_795_579_879,
        }
    }

    #[test]
    fn names_from_by_with_id_and_date() {
        check(
            &hop(),
            expect![["
            Received: from client.example ([192.0.2.1]) by mx.local.example with ESMTP
            	id 0-1a2b;
            	Wed, 25 Nov 2026 04:11:19 +0000
        "]],
        );
    }

    #[test]
    fn tells_the_priority_that_was_asked_for() {
        let with = With { tls: true, ..with(Dialogue::Esmtp) };
        let tls = Some(("TLS_AES_256_GCM_SHA384", None));
        check(
            &Received { with, tls, priority: Some(-3), ..hop() },
            expect![[r"
            Received: from client.example ([192.0.2.1]) by mx.local.example with ESMTPS
            	id 0-1a2b tls TLS_AES_256_GCM_SHA384 PRIORITY -3;
            	Wed, 25 Nov 2026 04:11:19 +0000
        "]],
        );
    }

    #[test]
    fn names_the_client_as_the_dns_does() {
        check(
            &Received { name: Some("mail.client.example"), ..hop() },
            expect![["
            Received: from client.example (mail.client.example [192.0.2.1])
            	by mx.local.example with ESMTP id 0-1a2b;
            	Wed, 25 Nov 2026 04:11:19 +0000
        "]],
        );
    }

    #[test]
    fn names_a_single_recipient() {
        let user = Address::from_parts("a b", "local.example");
        check(
            &Received { recipient: Some(&user), with: with(Dialogue::Lmtp), ..hop() },
            expect![[r#"
            Received: from client.example ([192.0.2.1]) by mx.local.example with LMTP
            	id 0-1a2b for <"a b"@local.example>;
            	Wed, 25 Nov 2026 04:11:19 +0000
        "#]],
        );
    }

    #[test]
    fn keeps_a_hostile_name_in_its_place() {
        let peer = Some("2001:db8::1".parse().unwrap());
        check(
            &Received { hello: "a)\r\nX-Evil:(;é", peer, ..hop() },
            expect![["
            Received: from a???X-Evil:??? ([IPv6:2001:db8::1]) by mx.local.example
            	with ESMTP id 0-1a2b;
            	Wed, 25 Nov 2026 04:11:19 +0000
        "]],
        );
    }

    #[test]
    fn says_nothing_of_a_client_that_is_hidden() {
        let with = With { tls: true, auth: true, ..with(Dialogue::Esmtp) };
        check(
            &Received { peer: None, with, ..hop() },
            expect![["
            Received: from mx.local.example by mx.local.example with ESMTPSA id 0-1a2b;
            	Wed, 25 Nov 2026 04:11:19 +0000
        "]],
        );
    }

    #[test]
    fn tells_how_it_was_encrypted() {
        let with = With { tls: true, ..with(Dialogue::Esmtp) };
        check(
            &Received { with, tls: Some(("TLS_AES_256_GCM_SHA384", Some("x25519"))), ..hop() },
            expect![["
            Received: from client.example ([192.0.2.1]) by mx.local.example with ESMTPS
            \tid 0-1a2b tls TLS_AES_256_GCM_SHA384 group x25519;
            \tWed, 25 Nov 2026 04:11:19 +0000
        "]],
        );
    }

    /// RFC 3848 §1, RFC 6531 §4.3.
    #[test]
    fn has_the_registered_names() {
        let name = |dialogue, tls, auth| With { dialogue, tls, auth }.name();
        assert_eq!(name(Dialogue::Esmtp, true, false), "ESMTPS");
        assert_eq!(name(Dialogue::Esmtp, false, true), "ESMTPA");
        assert_eq!(name(Dialogue::Utf8Smtp, true, true), "UTF8SMTPSA");
        assert_eq!(name(Dialogue::Lmtp, true, true), "LMTPSA");
        assert_eq!(name(Dialogue::Utf8Lmtp, false, false), "UTF8LMTP");
        assert_eq!(name(Dialogue::Smtp, true, true), "SMTP");
    }

    #[test]
    fn writes_what_lists_say() {
        let mut out = Vec::new();
        put_listed(
            7,
            "block.example, other-list.block.example, third.example.net, d.example",
            &mut out,
        );
        expect![["
            X-DNS-Lists: score=7; block.example, other-list.block.example,
            	third.example.net, d.example
        "]]
        .assert_eq(&String::from_utf8(out).unwrap().replace("\r\n", "\n"));
    }

    #[test]
    fn writes_where_it_was_delivered() {
        let mut out = Vec::new();
        for local in ["a b", "ü"] {
            put_delivered_to(&Address::from_parts(local, "b.example"), &mut out);
        }
        assert_eq!(out, b"Delivered-To: \"a b\"@b.example\r\n");
    }

    #[test]
    fn writes_the_return_path() {
        let mut out = Vec::new();
        put_return_path(None, &mut out);
        put_return_path(Some(&Address::from_parts("a", "b.example")), &mut out);
        assert_eq!(out, b"Return-Path: <>\r\nReturn-Path: <a@b.example>\r\n");
        assert_eq!(return_path_len(&out), 17);
        assert_eq!(return_path_len(&out[17..]), 28);
        assert_eq!(return_path_len(&out[17..20]), 0);
        assert_eq!(return_path_len(b"Received: x\r\nReturn-Path: <>\r\n"), 0);
    }
}
