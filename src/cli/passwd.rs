//! Files of users as other servers have them: Dovecot's passwd-file, htpasswd, /etc/shadow.
//!
//! ```text
//! name:hash[:anything]                                        empty lines and those with # pass
//! name:hash:uid:gid:gecos:home:shell:word[=value] word…       Dovecot's, with its extra fields
//! ```
//!
//! Of the extra fields those count that keep somebody out: whoever could not log in there, or not from
//! everywhere, must not be able to here because nobody looked.

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
        let mut fields = rest.splitn(7, ':');
        let secret = fields.next().unwrap_or_default();
        let extra = fields.nth(5).unwrap_or_default();
        // `!` before a hash locks an account of Unix, `*` and `x` are hashes of nothing.
        let secret = match secret {
            "" => Err("no password".into()),
            "*" | "x" => Err("no password that could log in".into()),
            locked if locked.starts_with('!') => Err("locked".into()),
            hash => kept_out(extra).map_or(Ok(hash), Err),
        };
        let address = match domain {
            Some(domain) if !name.contains('@') => format!("{name}@{domain}"),
            _ => name.into(),
        };
        Entry { line: index + 1, address, secret }
    };
    text.lines().map(str::trim_end).enumerate().filter(is_entry).map(entry).collect()
}

/// Why the extra fields of Dovecot keep this user out.
fn kept_out(extra: &str) -> Option<String> {
    extra.split_whitespace().find_map(|word| match word.split_once('=') {
        // With any value: it is there or not.
        Some(("nologin", _)) => Some("nologin: may not log in".into()),
        None if word == "nologin" => Some("nologin: may not log in".into()),
        Some(("allow_nets", networks)) => Some(format!(
            "allow_nets={networks}: may log in from there alone, and from everywhere here: add this \
             user by hand if that will do"
        )),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_notice_of_who_is_kept_out() {
        let text = "a:{SSHA}x:1:1::/mail/nologin:/bin/sh:userdb_mail=maildir:~/nologin\n\
                    b:{SSHA}x::::::nologin\nc:{SSHA}x:1:1::/h::userdb_quota=1 nologin=y reason=gone\n\
                    d:{SSHA}x::::::allow_nets=192.0.2.0/24,2001:db8::/32 nodelay\n\
                    e:{SSHA}x:::::/usr/sbin/nologin:proxy=n\nf:$6$x$y:19000:0:99999:7:::\n";
        let shown: Vec<String> = entries(text, None)
            .into_iter()
            .map(|entry| match entry.secret {
                Ok(hash) => format!("{} {hash}", entry.address),
                Err(why) => format!("{}: {why}", entry.address),
            })
            .collect();
        assert_eq!(
            shown,
            [
                "a {SSHA}x",
                "b: nologin: may not log in",
                "c: nologin: may not log in",
                "d: allow_nets=192.0.2.0/24,2001:db8::/32: may log in from there alone, and from \
                 everywhere here: add this user by hand if that will do",
                "e {SSHA}x",
                "f $6$x$y",
            ]
        );
    }

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
