//! Commands of SMTP and LMTP, and what of them a peer may use.

/// One command line, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Command<'a> {
    Helo,
    Ehlo,
    Lhlo,
    Starttls,
    Mail {
        path: &'a str,
        parameters: &'a str,
    },
    Rcpt {
        path: &'a str,
        parameters: &'a str,
    },
    Data,
    Bdat {
        len: u64,
        is_last: bool,
    },
    Rset,
    Noop,
    Vrfy,
    Quit,
    /// The command is known and what follows it makes no sense.
    Malformed(&'static str),
    Unknown,
}

impl<'a> Command<'a> {
    pub(crate) fn parse(line: &'a str) -> Command<'a> {
        let line = line.trim_end_matches(' ');
        let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
        let rest = rest.trim_start_matches(' ');
        match verb.to_ascii_uppercase().as_str() {
            "HELO" if !rest.is_empty() => Command::Helo,
            "EHLO" if !rest.is_empty() => Command::Ehlo,
            "LHLO" if !rest.is_empty() => Command::Lhlo,
            "HELO" | "EHLO" | "LHLO" => Command::Malformed("hello without a name"),
            "STARTTLS" if rest.is_empty() => Command::Starttls,
            "STARTTLS" => Command::Malformed("STARTTLS with an argument"),
            "MAIL" => path_of(rest, "FROM:")
                .map_or(Command::Malformed("MAIL without a path"), |(path, parameters)| {
                    Command::Mail { path, parameters }
                }),
            "RCPT" => path_of(rest, "TO:")
                .filter(|(path, _)| !path.is_empty())
                .map_or(Command::Malformed("RCPT without a path"), |(path, parameters)| {
                    Command::Rcpt { path, parameters }
                }),
            "DATA" if rest.is_empty() => Command::Data,
            "DATA" => Command::Malformed("DATA with an argument"),
            "BDAT" => {
                let (len, last) = rest.split_once(' ').unwrap_or((rest, ""));
                let is_last = last.eq_ignore_ascii_case("LAST");
                match len.parse() {
                    Ok(len) if is_last || last.is_empty() => Command::Bdat { len, is_last },
                    _ => Command::Malformed("BDAT without a size"),
                }
            }
            "RSET" if rest.is_empty() => Command::Rset,
            "NOOP" => Command::Noop,
            "VRFY" => Command::Vrfy,
            "QUIT" if rest.is_empty() => Command::Quit,
            _ => Command::Unknown,
        }
    }
}

/// What stands between `<` and `>`, and what follows: a `>` in quotes is part of the path.
fn path_of<'a>(rest: &'a str, prefix: &str) -> Option<(&'a str, &'a str)> {
    let (before, after) = rest.split_at_checked(prefix.len())?;
    let path = after.strip_prefix('<').filter(|_| before.eq_ignore_ascii_case(prefix))?;
    let (mut in_quotes, mut is_escaped) = (false, false);
    for (at, letter) in path.char_indices() {
        match letter {
            _ if is_escaped => is_escaped = false,
            '\\' if in_quotes => is_escaped = true,
            '"' => in_quotes = !in_quotes,
            '>' if !in_quotes => {
                let (path, rest) = path.split_at(at);
                let rest = rest.strip_prefix('>')?;
                let is_apart = rest.is_empty() || rest.starts_with(' ');
                return is_apart.then_some((path, rest));
            }
            _ => {}
        }
    }
    None
}

/// The extension that a parameter of MAIL is of.
pub(crate) fn extension_of_mail(keyword: &str) -> Option<&'static str> {
    Some(match keyword {
        "SIZE" => "SIZE",
        "BODY" => "8BITMIME",
        "SMTPUTF8" => "SMTPUTF8",
        "RET" | "ENVID" => "DSN",
        "REQUIRETLS" => "REQUIRETLS",
        "BY" => "DELIVERBY",
        "MT-PRIORITY" => "MT-PRIORITY",
        "HOLDFOR" | "HOLDUNTIL" => "FUTURERELEASE",
        "AUTH" => "AUTH",
        _ => return None,
    })
}

/// The extension that a parameter of RCPT is of.
pub(crate) fn extension_of_rcpt(keyword: &str) -> Option<&'static str> {
    Some(match keyword {
        "NOTIFY" | "ORCPT" => "DSN",
        "RRVS" => "RRVS",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    #[track_caller]
    fn check(line: &str, want: &Expect) {
        want.assert_eq(&format!("{:?}", Command::parse(line)));
    }

    #[test]
    fn takes_paths_and_parameters_apart() {
        check(
            "MAIL FROM:<a@b.test> SIZE=12 BODY=8BITMIME",
            &expect![[r#"Mail { path: "a@b.test", parameters: " SIZE=12 BODY=8BITMIME" }"#]],
        );
        check("mail from:<>", &expect![[r#"Mail { path: "", parameters: "" }"#]]);
        check(
            r#"RCPT TO:<"a> \"b"@c.test> NOTIFY=NEVER"#,
            &expect![[r#"Rcpt { path: "\"a> \\\"b\"@c.test", parameters: " NOTIFY=NEVER" }"#]],
        );
        check("RCPT TO:<>", &expect![[r#"Malformed("RCPT without a path")"#]]);
        check("RCPT TO: <a@b.test>", &expect![[r#"Malformed("RCPT without a path")"#]]);
        check("RCPT TO:<a@b.test>x", &expect![[r#"Malformed("RCPT without a path")"#]]);
    }

    #[test]
    fn knows_the_others() {
        check("BDAT 100 LAST", &expect!["Bdat { len: 100, is_last: true }"]);
        check("bdat 7", &expect!["Bdat { len: 7, is_last: false }"]);
        check("BDAT 7 FIRST", &expect![[r#"Malformed("BDAT without a size")"#]]);
        check("EHLO", &expect![[r#"Malformed("hello without a name")"#]]);
        check("EHLO a.test", &expect!["Ehlo"]);
        check("DATA ", &expect!["Data"]);
        check("AUTH PLAIN", &expect!["Unknown"]);
        check("", &expect!["Unknown"]);
    }
}
