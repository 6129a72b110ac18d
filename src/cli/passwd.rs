//! Files of users as other servers have them: Dovecot's passwd-file, htpasswd, /etc/shadow.
//!
//! ```text
//! name:hash[:anything]        empty lines and those with # pass
//! ```

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry<'a> {
    /// From 1.
    pub(super) line: usize,
    pub(super) address: String,
    /// The hash, or why there is none to be had.
    pub(super) secret: Result<&'a str, String>,
}

/// The lines of a file; `domain` is that of names that have none.
pub(super) fn entries<'a>(text: &'a str, domain: Option<&str>) -> Vec<Entry<'a>> {
    let is_entry = |(_, line): &(usize, &str)| !line.is_empty() && !line.starts_with('#');
    let entry = |(index, line): (usize, &'a str)| {
        let (name, rest) = line.split_once(':').unwrap_or((line, ""));
        let secret = rest.split(':').next().unwrap_or_default();
        // `!` before a hash locks an account of Unix, `*` and `x` are hashes of nothing.
        let secret = match secret {
            "" => Err("no password".into()),
            "*" | "x" => Err("no password that could log in".into()),
            locked if locked.starts_with('!') => Err("locked".into()),
            hash => Ok(hash),
        };
        let address = match domain {
            Some(domain) if !name.contains('@') => format!("{name}@{domain}"),
            _ => name.into(),
        };
        Entry { line: index + 1, address, secret }
    };
    text.lines().map(str::trim_end).enumerate().filter(is_entry).map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_files_of_others() {
        let text = "# Dovecot\nann@a.example:{SSHA}abc:1000:1000::/home::\n\nbob:$6$x$y:19000:0:99999:7:::\n\
                    root:!$6$x$y:1::\ndaemon:*:1::\neve\n";
        let shown: Vec<String> = entries(text, Some("b.example"))
            .into_iter()
            .map(|entry| format!("{} {} {:?}", entry.line, entry.address, entry.secret))
            .collect();
        assert_eq!(
            shown,
            [
                "2 ann@a.example Ok(\"{SSHA}abc\")",
                "4 bob@b.example Ok(\"$6$x$y\")",
                "5 root@b.example Err(\"locked\")",
                "6 daemon@b.example Err(\"no password that could log in\")",
                "7 eve@b.example Err(\"no password\")",
            ]
        );
    }
}
