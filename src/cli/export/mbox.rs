//! A tree of mboxes as Dovecot keeps it: UIDs, flags and keywords stand in fields, and the length of a
//! message is told, so that nothing has to be quoted (mboxcl2).

use super::{Target, with_lf};
use crate::admin::request::moving::{Folder, Parcel};
use crate::mailbox::Flags;
use crate::wire::imap::mailbox::encode;
use crate::wire::mbox::{Quoting, header_end, message, put_from_line};
use std::fs::{self, File};
use std::io::{self, BufWriter, Write as _};
use std::path::PathBuf;

/// Who sent it, where nobody looks for it.
const SENDER: &str = "MAILER-DAEMON";

pub(super) struct Mbox {
    root: PathBuf,
    /// The name of a file that holds the messages of the directory it lies in.
    file_name: Option<String>,
    file: Option<BufWriter<File>>,
    /// Of the folder at hand, until its first message is written.
    base: Option<(u32, u32)>,
    keywords: Vec<String>,
}

impl Mbox {
    pub(super) fn new(root: PathBuf, file_name: Option<String>) -> Mbox {
        Mbox { root, file_name, file: None, base: None, keywords: Vec::new() }
    }
}

impl Target for Mbox {
    fn begin(&mut self, folder: &Folder, all: &[Folder]) -> io::Result<Option<String>> {
        let below = format!("{}/", folder.name);
        let has_others = all.iter().any(|other| other.name.starts_with(&below));
        let mut levels: Vec<String> =
            folder.name.split('/').map(|level| encode(level).into_owned()).collect();
        if levels.iter().any(|level| level.starts_with('.')) {
            return Ok(Some("the name begins with a dot, and such files are no folders".into()));
        }
        let is_inbox = folder.name == "INBOX";
        if is_inbox {
            levels = vec!["inbox".into()];
        }
        match &self.file_name {
            Some(name) => levels.push(name.clone()),
            None if has_others && !is_inbox => {
                if folder.messages > 0 {
                    let why = "a folder that has others below it is a directory: give --file-name";
                    return Ok(Some(why.into()));
                }
                fs::create_dir_all(
                    levels.iter().fold(self.root.clone(), |path, one| path.join(one)),
                )?;
                self.file = None;
                return Ok(None);
            }
            None => {}
        }
        let path = levels.iter().fold(self.root.clone(), |path, level| path.join(level));
        if let Some(above) = path.parent() {
            fs::create_dir_all(above)?;
        }
        let file = File::options().write(true).create_new(true).open(&path);
        let file = file.map_err(|error| {
            io::Error::new(error.kind(), format!("{}: {error}", path.display()))
        })?;
        self.file = Some(BufWriter::new(file));
        self.base = Some((folder.uidvalidity, folder.uidnext.saturating_sub(1)));
        Ok(None)
    }

    fn name(&mut self, keywords: &[String]) {
        self.keywords = keywords.to_vec();
    }

    fn put(
        &mut self,
        parcel: &Parcel,
        keywords: &[&str],
        octets: &[u8],
    ) -> io::Result<Option<String>> {
        let Some(file) = &mut self.file else { return Ok(None) };
        // What stands in these fields would be taken for ours.
        let text = message(&with_lf(octets), Quoting::None);
        let (header, body) = text.split_at(header_end(&text));
        let (fields, empty) = match header.strip_suffix(b"\n\n") {
            Some(_) => header.split_at(header.len() - 1),
            None if header == b"\n" => header.split_at(0),
            None => (header, &b""[..]),
        };
        let mut line = Vec::new();
        put_from_line(SENDER, parcel.date, &mut line);
        file.write_all(&line)?;
        file.write_all(fields)?;
        if !fields.is_empty() && !fields.ends_with(b"\n") {
            file.write_all(b"\n")?;
        }
        if let Some((uidvalidity, last)) = self.base.take() {
            // Dovecot knows no keyword of a message that is not named here.
            let names: String = self.keywords.iter().flat_map(|name| [" ", name]).collect();
            writeln!(file, "X-IMAPbase: {uidvalidity} {last:010}{names}")?;
        }
        let flags = Flags(parcel.flags);
        let seen = if flags.has(Flags::SEEN) { "R" } else { "" };
        writeln!(file, "X-UID: {}\nStatus: {seen}O", parcel.uid)?;
        let letters = [
            (Flags::ANSWERED, 'A'),
            (Flags::FLAGGED, 'F'),
            (Flags::DRAFT, 'T'),
            (Flags::DELETED, 'D'),
        ];
        let letters = letters.iter().filter(|(flag, _)| flags.has(*flag));
        let letters: String = letters.map(|(_, letter)| letter).collect();
        if !letters.is_empty() {
            writeln!(file, "X-Status: {letters}")?;
        }
        if !keywords.is_empty() {
            writeln!(file, "X-Keywords: {}", keywords.join(" "))?;
        }
        writeln!(file, "Content-Length: {}", body.len())?;
        file.write_all(if empty.is_empty() { b"\n" } else { empty })?;
        file.write_all(body)?;
        file.write_all(b"\n")?;
        Ok(None)
    }

    fn end(&mut self, _folder: &Folder) -> io::Result<()> {
        match self.file.take() {
            Some(mut file) => file.flush(),
            None => Ok(()),
        }
    }

    fn close(&mut self, subscriptions: &[String]) -> io::Result<()> {
        let line = |name: &String| {
            let levels: Vec<_> = name.split('/').map(encode).collect();
            levels.join("/") + "\n"
        };
        fs::write(
            self.root.join(".subscriptions"),
            subscriptions.iter().map(line).collect::<String>(),
        )
    }
}
