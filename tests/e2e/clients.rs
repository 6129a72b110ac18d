//! Clients that others wrote, each in a script of `tests/clients` that says what it needs.
//!
//! A script begins with `# needs: PROGRAM…` and gets HOST, SMTP_PORT, LMTP_PORT,
//! SUBMISSION_PORT, POP3_PORT, IMAP_PORT, POP3S_PORT, IMAPS_PORT, a USER_ADDRESS nobody else uses, its
//! PASSWORD, an OTHER_ADDRESS, the directory CLIENT_CA with ca.pem and ca.key, who sign for clients here,
//! and an empty directory to stand in. Exit status 0 is good. A script whose programs are not installed is skipped aloud, or
//! fails with `CLIENTS_REQUIRED=1`.

use crate::client_certificates::Authority;
use crate::harness::{PASSWORD, Server};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Every mechanism, SCRAM-SHA-1 among them, which is not offered by default.
const AUTH: &str = "[auth]\nallow_plaintext = true\nargon2_memory = \"8K\"\nargon2_passes = 1\n\
                    mechanisms = [\"SCRAM-SHA-256-PLUS\", \"SCRAM-SHA-1-PLUS\", \"SCRAM-SHA-256\", \
                    \"SCRAM-SHA-1\", \"EXTERNAL\", \"PLAIN\", \"LOGIN\"]\n";

#[test]
fn clients() {
    let mut server = Server::set_up(AUTH);
    let authority = Authority::new(&server.dir().join("authority"));
    authority.configure(&server, "");
    server.pombal(&["domain", "add", "local.example"], "");
    server.add_user("other");
    server.start();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients");
    let mut scripts: Vec<PathBuf> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    scripts.retain(|path| path.extension().is_some_and(|end| end == "sh" || end == "py"));
    scripts.sort();
    let required = std::env::var_os("CLIENTS_REQUIRED").is_some_and(|set| set == "1");
    let mut wrong = Vec::new();
    for script in &scripts {
        let name = script.file_stem().unwrap().to_string_lossy().into_owned();
        if let Some(program) = missing(script) {
            println!("skipped {name}: {program} is not installed");
            if required {
                wrong.push(format!("{name}: {program} is not installed"));
            }
            continue;
        }
        match play(&server, script, &name) {
            Ok(()) => println!("good {name}"),
            Err(why) => wrong.push(format!("{name}: {why}")),
        }
        server.assert_alive();
    }
    assert!(scripts.len() >= 6, "only {} scripts", scripts.len());
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), scripts.len(), wrong.join("\n"));
    server.stop();
}

/// The first program that the script needs and that is not there.
fn missing(script: &Path) -> Option<String> {
    let text = fs::read_to_string(script).unwrap();
    let needs = text.lines().find_map(|line| line.strip_prefix("# needs: "));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let is_there =
        |program: &str| std::env::split_paths(&path).any(|dir| dir.join(program).is_file());
    let needs = needs.expect("a script says what it needs");
    needs.split_whitespace().find(|program| !is_there(program)).map(str::to_owned)
}

fn play(server: &Server, script: &Path, name: &str) -> Result<(), String> {
    server.add_user(name);
    let work = server.dir().join(name);
    fs::create_dir(&work).unwrap();
    let interpreter =
        if script.extension().is_some_and(|end| end == "py") { "python3" } else { "bash" };
    // The guard of the operating system: a client that hangs is ended, not waited for.
    let output = Command::new("timeout")
        .args(["120", interpreter])
        .arg(script)
        .current_dir(&work)
        .env("HOME", &work)
        .env("HOST", "127.0.0.1")
        .env("SMTP_PORT", server.smtp().to_string())
        .env("LMTP_PORT", server.lmtp().to_string())
        .env("SUBMISSION_PORT", server.submission().to_string())
        .env("POP3_PORT", server.pop3().to_string())
        .env("IMAP_PORT", server.imap().to_string())
        .env("SUBMISSIONS_PORT", server.submissions().to_string())
        .env("POP3S_PORT", server.pop3s().to_string())
        .env("IMAPS_PORT", server.imaps().to_string())
        .env("USER_ADDRESS", format!("{name}@local.example"))
        .env("OTHER_ADDRESS", "other@local.example")
        .env("PASSWORD", PASSWORD)
        .env("CLIENT_CA", server.dir().join("authority"))
        .output()
        .unwrap();
    if output.status.success() {
        return Ok(());
    }
    let (out, err) = (&output.stdout, &output.stderr);
    let (out, err) = (String::from_utf8_lossy(out), String::from_utf8_lossy(err));
    Err(format!("{}\n{out}\n{err}", output.status))
}
