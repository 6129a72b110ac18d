//! A raw IMAP client: lines as they come, answers up to the tagged one.

use crate::client::Link;
use crate::harness::{PASSWORD, Server};
use std::io::{self, ErrorKind};

/// A session with a user logged in.
pub(crate) struct Imap {
    pub(crate) link: Link,
}

impl Imap {
    /// Nobody is logged in, and the greeting is not read yet.
    pub(crate) fn raw(server: &Server) -> io::Result<Imap> {
        Ok(Imap { link: Link::connect(server.imap())? })
    }

    /// Greeted, nobody logged in.
    pub(crate) fn connect(server: &Server) -> io::Result<Imap> {
        let mut imap = Imap::raw(server)?;
        let greeting = imap.line()?;
        if greeting.starts_with("* OK ") { Ok(imap) } else { Err(io::Error::other(greeting)) }
    }

    pub(crate) fn login(server: &Server, user: &str) -> io::Result<Imap> {
        let mut imap = Imap::connect(server)?;
        imap.ok(&format!("LOGIN {user}@local.example {PASSWORD}"))?;
        Ok(imap)
    }

    /// The next line; octets that are not UTF-8 are shown as such.
    pub(crate) fn line(&mut self) -> io::Result<String> {
        let line = self.link.line()?.ok_or(ErrorKind::UnexpectedEof)?;
        Ok(String::from_utf8_lossy(&line).into_owned())
    }

    /// Sends a command; all lines of its answer, the tagged one, without its tag, at the end.
    pub(crate) fn command(&mut self, command: &str) -> io::Result<Vec<String>> {
        self.link.send(format!("tag {command}\r\n"))?;
        self.answer("tag")
    }

    /// All lines up to the one with this tag.
    pub(crate) fn answer(&mut self, tag: &str) -> io::Result<Vec<String>> {
        let mut lines = Vec::new();
        loop {
            let line = self.line()?;
            if let Some((first, rest)) = line.split_once(' ')
                && first == tag
            {
                lines.push(rest.into());
                return Ok(lines);
            }
            lines.push(line);
        }
    }

    /// The same; the answer must be OK. The untagged lines.
    pub(crate) fn ok(&mut self, command: &str) -> io::Result<Vec<String>> {
        let mut lines = self.command(command)?;
        match lines.pop() {
            Some(last) if last.starts_with("OK") => Ok(lines),
            other => Err(io::Error::other(format!("{command}: {lines:?} {other:?}"))),
        }
    }

    /// Puts a message into a mailbox; `flags` with their parentheses, or nothing.
    pub(crate) fn append(
        &mut self,
        mailbox: &str,
        flags: &str,
        message: &[u8],
    ) -> io::Result<String> {
        let space = if flags.is_empty() { "" } else { " " };
        let head = format!("tag APPEND {mailbox}{space}{flags} {{{}+}}\r\n", message.len());
        self.link.send([head.as_bytes(), message, b"\r\n"].concat())?;
        let lines = self.answer("tag")?;
        match lines.last() {
            Some(last) if last.starts_with("OK") => Ok(last.clone()),
            _ => Err(io::Error::other(format!("APPEND: {lines:?}"))),
        }
    }
}
