//! A Maildir as Dovecot keeps it: `dovecot-uidlist` has UIDVALIDITY, UIDNEXT, UIDs and unique ids of
//! POP3, `dovecot-keywords` the names of the letters in files' names, the files' times are the dates.

use super::{Target, with_lf};
use crate::admin::request::moving::{Folder, Parcel};
use crate::cli::args::Layout;
use crate::mailbox::Flags;
use crate::wire::imap::mailbox::encode;
use crate::wire::maildir::{Info, put_info};
use crate::wire::uidl;
use std::fmt::Write as _;
use std::fs::{self, File, FileTimes};
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::time::{Duration, UNIX_EPOCH};

/// Keywords that have a letter.
const LETTERS: usize = 26;

pub(super) struct Maildir {
    root: PathBuf,
    layout: Layout,
    /// Of the folder at hand.
    path: PathBuf,
    is_inbox: bool,
    uidvalidity: u32,
    keywords: Vec<String>,
    lost: Vec<String>,
    list: String,
}

impl Maildir {
    pub(super) fn new(root: PathBuf, layout: Layout) -> Maildir {
        Maildir {
            root,
            layout,
            path: PathBuf::new(),
            is_inbox: false,
            uidvalidity: 0,
            keywords: Vec::new(),
            lost: Vec::new(),
            list: String::new(),
        }
    }

    /// Where a folder lies; why it can lie nowhere, if so.
    fn place(&self, name: &str) -> Result<PathBuf, String> {
        if name == "INBOX" {
            return Ok(self.root.clone());
        }
        let levels: Vec<_> = name.split('/').map(encode).collect();
        match self.layout {
            Layout::MaildirPlusPlus if levels.iter().any(|level| level.contains('.')) => {
                Err("a name with a dot cannot be in Maildir++: give --layout fs".into())
            }
            Layout::MaildirPlusPlus => Ok(self.root.join(format!(".{}", levels.join(".")))),
            Layout::Fs => {
                let is_taken = |level: &str| {
                    matches!(level, "cur" | "new" | "tmp") || level.starts_with(['.', '~'])
                };
                if levels.iter().any(|level| is_taken(level)) {
                    return Err("the name means something else in a Maildir".into());
                }
                Ok(levels.iter().fold(self.root.clone(), |path, level| path.join(&**level)))
            }
        }
    }

    fn letters(&mut self, names: &[&str]) -> (Vec<u8>, Option<String>) {
        let (mut letters, mut lost) = (Vec::new(), None);
        for name in names {
            let known = self.keywords.iter().position(|known| known == name);
            let at = known.unwrap_or_else(|| {
                self.keywords.push((*name).to_owned());
                self.keywords.len() - 1
            });
            match u8::try_from(at) {
                Ok(letter) if at < LETTERS => letters.push(letter),
                _ if self.lost.iter().any(|known| known == name) => {}
                _ => {
                    self.lost.push((*name).to_owned());
                    lost = Some(format!("there is no letter left for the keyword {name}"));
                }
            }
        }
        letters.sort_unstable();
        (letters, lost)
    }
}

impl Target for Maildir {
    fn begin(&mut self, folder: &Folder, _all: &[Folder]) -> io::Result<Option<String>> {
        self.path = match self.place(&folder.name) {
            Ok(path) => path,
            Err(why) => return Ok(Some(why)),
        };
        if self.path.join("cur").exists() {
            let why = format!("there is a Maildir in {} already", self.path.display());
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, why));
        }
        for part in ["cur", "new", "tmp"] {
            fs::create_dir_all(self.path.join(part))?;
        }
        let is_inbox = folder.name == "INBOX";
        if !is_inbox && self.layout == Layout::MaildirPlusPlus {
            fs::write(self.path.join("maildirfolder"), "")?;
        }
        self.is_inbox = is_inbox;
        self.uidvalidity = folder.uidvalidity;
        self.keywords.clear();
        self.lost.clear();
        self.list = format!("3 V{} N{}\n", folder.uidvalidity, folder.uidnext);
        Ok(None)
    }

    /// Letters are given to keywords as messages have them.
    fn name(&mut self, _keywords: &[String]) {}

    fn put(
        &mut self,
        parcel: &Parcel,
        keywords: &[&str],
        octets: &[u8],
    ) -> io::Result<Option<String>> {
        let text = with_lf(octets);
        let (letters, lost) = self.letters(keywords);
        let flags = Flags(parcel.flags);
        let info = Info {
            draft: flags.has(Flags::DRAFT),
            flagged: flags.has(Flags::FLAGGED),
            passed: false,
            replied: flags.has(Flags::ANSWERED),
            seen: flags.has(Flags::SEEN),
            trashed: flags.has(Flags::DELETED),
            keywords: letters,
        };
        let (uid, uidvalidity) = (parcel.uid, self.uidvalidity);
        let base = format!(
            "{}.M{uid}P{uidvalidity}.pombal,S={},W={}",
            parcel.date,
            text.len(),
            octets.len()
        );
        let mut name = base.clone();
        put_info(&info, &mut name);
        let mut file =
            File::options().write(true).create_new(true).open(self.path.join("cur").join(&name))?;
        file.write_all(&text)?;
        let date = UNIX_EPOCH + Duration::from_secs(parcel.date.into());
        file.set_times(FileTimes::new().set_modified(date).set_accessed(date))?;
        let write = |list: &mut String| {
            write!(list, "{uid} ")?;
            if self.is_inbox {
                list.push('P');
                uidl::put(parcel.uidl.as_deref().unwrap_or(uidl::OWN), uid, uidvalidity, list)?;
                list.push(' ');
            }
            writeln!(list, "W{} :{base}", octets.len())
        };
        write(&mut self.list).map_err(io::Error::other)?;
        Ok(lost)
    }

    fn end(&mut self, _folder: &Folder) -> io::Result<()> {
        fs::write(self.path.join("dovecot-uidlist"), &self.list)?;
        let named = self.keywords.iter().take(LETTERS).enumerate();
        let lines: Vec<String> = named.map(|(at, name)| format!("{at} {name}\n")).collect();
        if lines.is_empty() {
            return Ok(());
        }
        fs::write(self.path.join("dovecot-keywords"), lines.concat())
    }

    fn close(&mut self, subscriptions: &[String]) -> io::Result<()> {
        let separator = match self.layout {
            Layout::MaildirPlusPlus => ".",
            Layout::Fs => "/",
        };
        let line = |name: &String| {
            let levels: Vec<_> = name.split('/').map(encode).collect();
            levels.join(separator) + "\n"
        };
        fs::write(
            self.root.join("subscriptions"),
            subscriptions.iter().map(line).collect::<String>(),
        )
    }
}
