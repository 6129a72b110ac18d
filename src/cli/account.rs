//! Domains, users and aliases: turns what was typed into requests, and asks for passwords.

use super::args::{AliasCommand, AppCommand, DomainCommand, UserCommand};
use super::{Actions, Failure};
use crate::admin::request::{DirectoryRequest, Request};
use crate::config::Config;
use crate::model::limits::PASSWORD_OCTETS_MAX;
use std::io::{BufRead, Read};
use std::path::Path;

pub(super) fn domain(command: &DomainCommand) -> Request {
    Request::Directory(match command {
        DomainCommand::Add { domain } => DirectoryRequest::DomainAdd { domain: domain.clone() },
        DomainCommand::Del { domain } => DirectoryRequest::DomainDel { domain: domain.clone() },
        DomainCommand::List => DirectoryRequest::DomainList,
    })
}

pub(super) fn alias(command: &AliasCommand) -> Request {
    Request::Directory(match command {
        AliasCommand::Add { address, targets, owner, no_owner } => DirectoryRequest::AliasAdd {
            address: address.clone(),
            targets: targets.clone(),
            owner: owner.clone(),
            no_owner: *no_owner,
        },
        AliasCommand::Del { address, targets } => {
            DirectoryRequest::AliasDel { address: address.clone(), targets: targets.clone() }
        }
        AliasCommand::List { domain } => DirectoryRequest::AliasList { domain: domain.clone() },
    })
}

/// Asks for a password where the command needs one; `bound` is what its keys of SCRAM are bound to.
pub(super) fn user(
    command: &UserCommand,
    config: &Config,
    bound: &[String],
    actions: &dyn Actions,
) -> Result<Request, Failure> {
    let hash = |from_stdin: bool, hash: &Option<String>| -> Result<String, Failure> {
        if let Some(text) = hash {
            return actions.read_hash(config, bound, text);
        }
        let password =
            if from_stdin { first_line(&mut std::io::stdin().lock())? } else { prompt()? };
        actions.hash_password(config, bound, &password)
    };
    Ok(Request::Directory(match command {
        UserCommand::Add { address, password_stdin, password_hash, quota } => {
            DirectoryRequest::UserAdd {
                address: address.clone(),
                password_hash: Some(hash(*password_stdin, password_hash)?),
                quota: *quota,
            }
        }
        UserCommand::Del { address } => DirectoryRequest::UserDel { address: address.clone() },
        UserCommand::Passwd { address, password_stdin, password_hash } => {
            DirectoryRequest::UserPassword {
                address: address.clone(),
                password_hash: hash(*password_stdin, password_hash)?,
            }
        }
        UserCommand::Apppass(AppCommand::Del { address, name }) => {
            DirectoryRequest::AppPasswordDel { address: address.clone(), name: name.clone() }
        }
        UserCommand::Apppass(AppCommand::List { address } | AppCommand::Add { address, .. }) => {
            DirectoryRequest::AppPasswordList { address: address.clone() }
        }
        UserCommand::Import { .. } => DirectoryRequest::UserList { domain: None },
        UserCommand::Set { address, imap_hide } => DirectoryRequest::UserImapHidden {
            address: address.clone(),
            hidden: imap_hide.iter().filter(|name| !name.is_empty()).cloned().collect(),
        },
        UserCommand::Disable { address } => {
            DirectoryRequest::UserEnabled { address: address.clone(), enabled: false }
        }
        UserCommand::Enable { address } => {
            DirectoryRequest::UserEnabled { address: address.clone(), enabled: true }
        }
        UserCommand::List { domain } => DirectoryRequest::UserList { domain: domain.clone() },
        // A digest is asked for by itself, in parts.
        UserCommand::Show { address } | UserCommand::Digest { address } => {
            DirectoryRequest::UserShow { address: address.clone() }
        }
    }))
}

fn prompt() -> Result<String, Failure> {
    let ask = |words: &str| {
        rpassword::prompt_password(words).map_err(|error| {
            Failure::Failed(format!("no terminal to ask on ({error}); use --password-stdin"))
        })
    };
    let first = ask("Password: ")?;
    if ask("Once more: ")? != first {
        return Err(Failure::Failed("the two passwords differ".into()));
    }
    checked(first)
}

/// The password, or the token, that opens an account at another server: the first line of a file, of the
/// standard input for `-`, or what is typed.
pub(super) fn secret_of_elsewhere(file: Option<&Path>) -> Result<String, Failure> {
    match file {
        Some(path) if path == Path::new("-") => first_line(&mut std::io::stdin().lock()),
        Some(path) => {
            let file = std::fs::File::options().read(true).open(path);
            let file =
                file.map_err(|error| Failure::Failed(format!("{}: {error}", path.display())))?;
            first_line(&mut std::io::BufReader::new(file))
        }
        None => {
            let typed = rpassword::prompt_password("Password there: ").map_err(|error| {
                Failure::Failed(format!("no terminal to ask on ({error}); use --password-file"))
            })?;
            checked(typed)
        }
    }
}

/// The first line of `input` without its line end.
fn first_line(input: &mut impl BufRead) -> Result<String, Failure> {
    let mut line = String::new();
    // One octet more than allowed plus CRLF: enough to see that it is too long.
    input.take(PASSWORD_OCTETS_MAX as u64 + 3).read_line(&mut line)?;
    if line.ends_with('\n') {
        line.pop();
        if line.ends_with('\r') {
            line.pop();
        }
    }
    checked(line)
}

fn checked(password: String) -> Result<String, Failure> {
    if password.is_empty() {
        return Err(Failure::Failed("an empty password".into()));
    }
    if password.len() > PASSWORD_OCTETS_MAX {
        let why = format!("a password of more than {PASSWORD_OCTETS_MAX} octets");
        return Err(Failure::Failed(why));
    }
    Ok(password)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_the_first_line_as_the_password() {
        let line = |text: &str| first_line(&mut text.as_bytes());
        assert_eq!(line("secret\nmore\n"), Ok("secret".into()));
        assert_eq!(line("secret\r\n"), Ok("secret".into()));
        assert_eq!(line(" with space "), Ok(" with space ".into()));
        assert!(line("").is_err());
        assert!(line("\n").is_err());
        assert!(line(&"x".repeat(PASSWORD_OCTETS_MAX)).is_ok());
        assert!(line(&"x".repeat(PASSWORD_OCTETS_MAX + 1)).is_err());
        assert!(line(&"x".repeat(PASSWORD_OCTETS_MAX + 1_000)).is_err());
    }
}
