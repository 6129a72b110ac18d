//! COMPRESS=DEFLATE (RFC 4978), read and written by zlib's own format on the other side.

use crate::harness::{PASSWORD, Server};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

/// A client of one connection, deflating once it was told to.
struct Client {
    socket: TcpStream,
    /// What came, inflated.
    text: String,
    squeeze: Option<(Compress, Decompress)>,
}

impl Client {
    fn say(&mut self, text: &str) {
        let mut sent = text.as_bytes().to_vec();
        if let Some((deflate, _)) = &mut self.squeeze {
            sent = Vec::with_capacity(text.len() + 1_024);
            deflate.compress_vec(text.as_bytes(), &mut sent, FlushCompress::Sync).unwrap();
        }
        self.socket.write_all(&sent).unwrap();
    }

    /// What comes up to a line that begins with `end`.
    fn hear(&mut self, end: &str) -> String {
        loop {
            let mark = format!("\r\n{end}");
            let found = match self.text.find(&mark) {
                Some(at) => Some(at + 2),
                None => self.text.starts_with(end).then_some(0),
            };
            let line_end = found.and_then(|at| Some(at + self.text.get(at..)?.find("\r\n")? + 2));
            if let Some(line_end) = line_end {
                return self.text.drain(..line_end).collect();
            }
            let mut octets = [0; 4096];
            let count = self.socket.read(&mut octets).unwrap();
            assert!(count > 0, "hung up behind {:?}", self.text);
            let mut plain = octets[..count].to_vec();
            if let Some((_, inflate)) = &mut self.squeeze {
                plain = Vec::with_capacity(1 << 20);
                inflate
                    .decompress_vec(&octets[..count], &mut plain, FlushDecompress::Sync)
                    .unwrap();
            }
            self.text.push_str(&String::from_utf8(plain).unwrap());
        }
    }
}

#[test]
fn imap_deflates_both_ways() {
    // Some of them live on the other shard: the session moves.
    let others: Vec<String> = (0..12).map(|number| format!("u{number}")).collect();
    let users: Vec<&str> =
        std::iter::once("ann").chain(others.iter().map(|name| &**name)).collect();
    let server = Server::with_users("", &users);
    let socket = TcpStream::connect(("127.0.0.1", server.imap())).unwrap();
    socket.set_read_timeout(Some(Duration::from_mins(1))).unwrap();
    let mut client = Client { socket, text: String::new(), squeeze: None };
    client.hear("* OK");
    client.say(&format!("a LOGIN ann@local.example {PASSWORD}\r\n"));
    assert!(client.hear("a OK").contains("COMPRESS=DEFLATE"));
    client.say("b COMPRESS DEFLATE\r\n");
    client.hear("b OK");
    let level = Compression::best();
    client.squeeze = Some((Compress::new(level, false), Decompress::new(false)));
    client.say("c COMPRESS DEFLATE\r\nd SELECT INBOX\r\n");
    assert!(client.hear("c NO").contains("[COMPRESSIONACTIVE]"));
    client.hear("d OK");
    let body = (0..20_000).map(|line: u32| line.to_string()).collect::<Vec<String>>().join("\r\n")
        + "\r\n";
    let message = format!("Subject: long\r\n\r\n{body}");
    client.say(&format!("e APPEND INBOX {{{}+}}\r\n{message}\r\n", message.len()));
    client.hear("e OK");
    client.say("f FETCH 1 BODY.PEEK[]\r\n");
    assert!(client.hear("f OK").contains(&message), "every octet came back");
    for user in &others {
        // RFC 8437 §3: neither side deflates what follows.
        client.say("g UNAUTHENTICATE\r\n");
        client.hear("g OK");
        client.squeeze = None;
        client.say(&format!("h LOGIN {user}@local.example {PASSWORD}\r\n"));
        client.hear("h OK");
        client.say("h COMPRESS DEFLATE\r\n");
        client.hear("h OK");
        client.squeeze = Some((Compress::new(level, false), Decompress::new(false)));
        client.say("i SELECT INBOX\r\n");
        client.hear("i OK");
    }
    client.say("j LOGOUT\r\n");
    client.hear("j OK");
}
