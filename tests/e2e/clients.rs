//! Clients that others wrote, each in a script of `tests/clients` that says what it needs.
//!
//! A script begins with `# needs: PROGRAM…` and gets HOST, a port for each protocol (SMTP_PORT,
//! LMTP_PORT, SUBMISSION_PORT, POP3_PORT, IMAP_PORT, and by TLS SUBMISSIONS_PORT, POP3S_PORT,
//! IMAPS_PORT), a USER_ADDRESS nobody else uses, its PASSWORD, one more that a program has (APP_PASSWORD), an
//! OTHER_ADDRESS, SERVER_CERT, a file with
//! the certificate that the server shows for HOST and that curl trusts, the directory CLIENT_CA with
//! ca.pem and ca.key, who sign for clients here, and an empty directory to stand in.
//!
//! A line `# forms: PROTOCOL FORM…` has it played once for each form of TLS: FORM is `clear`, `starttls`
//! or `tls`, PORT the port of the protocol for it, URL what curl calls it, and CURL_FORM the option that
//! makes curl insist on TLS, or empty.
//!
//! Exit status 0 is good. A script whose programs are not installed is skipped aloud, or fails with
//! `CLIENTS_REQUIRED=1`. With `CLIENT` in the environment the script of that name is played alone.

use crate::client_certificates::Authority;
use crate::harness::{PASSWORD, Server};
use rcgen::{CertificateParams, KeyPair};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const HOST: &str = "127.0.0.1";

/// Every mechanism, SCRAM-SHA-1 among them, which is not offered by default.
const AUTH: &str = "[auth]\nallow_plaintext = true\nargon2_memory = \"8K\"\nargon2_passes = 1\n\
                    mechanisms = [\"SCRAM-SHA-256-PLUS\", \"SCRAM-SHA-1-PLUS\", \"SCRAM-SHA-256\", \
                    \"SCRAM-SHA-1\", \"EXTERNAL\", \"PLAIN\", \"LOGIN\"]\n";

#[test]
fn clients() {
    let mut server = Server::set_up(AUTH);
    let authority = Authority::new(&server.dir().join("authority"));
    authority.configure(&server, &certificate(&server));
    server.pombal(&["domain", "add", "local.example"], "");
    server.add_user("other");
    server.start();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients");
    let mut scripts: Vec<PathBuf> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    scripts.retain(|path| path.extension().is_some_and(|end| end == "sh" || end == "py"));
    scripts.sort();
    assert!(scripts.len() >= 6, "only {} scripts", scripts.len());
    if let Ok(one) = std::env::var("CLIENT") {
        scripts.retain(|path| path.file_stem().is_some_and(|name| name == &*one));
    }
    let mut wrong = Vec::new();
    for path in &scripts {
        let script = Script::read(path);
        let name = &script.name;
        if let Some(program) = script.missing() {
            println!("skipped {name}: {program} is not installed");
            if required() {
                wrong.push(format!("{name}: {program} is not installed"));
            }
            continue;
        }
        // They wait for their clients most of the time.
        let ends: Vec<Result<String, String>> = std::thread::scope(|scope| {
            let begin = |call| scope.spawn(|| play(&server, &script, call));
            let running: Vec<_> = script.calls(&server).into_iter().map(begin).collect();
            running.into_iter().map(|one| one.join().unwrap()).collect()
        });
        for end in ends {
            match end {
                Ok(name) => println!("good {name}"),
                Err(why) => wrong.push(why),
            }
        }
        server.assert_alive();
    }
    assert!(wrong.is_empty(), "{} were wrong:\n{}", wrong.len(), wrong.join("\n"));
    server.stop();
}

/// A program that is not there is a failure.
pub(crate) fn required() -> bool {
    std::env::var_os("CLIENTS_REQUIRED").is_some_and(|set| set == "1")
}

pub(crate) fn is_there(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(program).is_file())
}

/// Makes a certificate for the address, so that clients can look at it as they would at any; the keys
/// of `[tls]` that name it.
fn certificate(server: &Server) -> String {
    let key = KeyPair::generate().unwrap();
    let names = ["mx.local.example", "localhost", HOST].map(str::to_owned).to_vec();
    let (chain, secret) = (server.dir().join("server.pem"), server.dir().join("server.key"));
    let shown = CertificateParams::new(names).unwrap().self_signed(&key).unwrap();
    fs::write(&chain, shown.pem()).unwrap();
    fs::write(&secret, key.serialize_pem()).unwrap();
    format!("certificate = \"{}\"\nkey = \"{}\"\n", chain.display(), secret.display())
}

struct Script {
    path: PathBuf,
    name: String,
    needs: Vec<String>,
    /// A protocol, and the forms of TLS in which it is spoken.
    forms: Option<(String, Vec<String>)>,
}

/// What a script is played with.
struct Call {
    name: String,
    env: Vec<(&'static str, String)>,
}

impl Script {
    fn read(path: &Path) -> Script {
        let text = fs::read_to_string(path).unwrap();
        let words = |key: &str| {
            let rest = text.lines().find_map(|line| line.strip_prefix(key))?;
            Some(rest.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
        };
        let forms = words("# forms: ").map(|mut forms| (forms.remove(0), forms));
        Script {
            path: path.to_owned(),
            name: path.file_stem().unwrap().to_string_lossy().into_owned(),
            needs: words("# needs: ").expect("a script says what it needs"),
            forms,
        }
    }

    /// The first program that it needs and that is not there.
    fn missing(&self) -> Option<&String> {
        self.needs.iter().find(|program| !is_there(program))
    }

    fn calls(&self, server: &Server) -> Vec<Call> {
        let Some((protocol, forms)) = &self.forms else {
            return vec![Call { name: self.name.clone(), env: Vec::new() }];
        };
        forms.iter().map(|form| self.call(server, protocol, form)).collect()
    }

    fn call(&self, server: &Server, protocol: &str, form: &str) -> Call {
        let (port, scheme) = match (protocol, form) {
            ("smtp", "clear" | "starttls") => (server.smtp(), "smtp"),
            ("submission", "clear" | "starttls") => (server.submission(), "smtp"),
            ("submission", "tls") => (server.submissions(), "smtps"),
            ("pop3", "clear" | "starttls") => (server.pop3(), "pop3"),
            ("pop3", "tls") => (server.pop3s(), "pop3s"),
            ("imap", "clear" | "starttls") => (server.imap(), "imap"),
            ("imap", "tls") => (server.imaps(), "imaps"),
            _ => panic!("{}: {protocol} has no form {form}", self.name),
        };
        let curl = if form == "starttls" { "--ssl-reqd" } else { "" };
        let env = vec![
            ("FORM", form.to_owned()),
            ("PORT", port.to_string()),
            ("URL", format!("{scheme}://{HOST}:{port}")),
            ("CURL_FORM", curl.to_owned()),
        ];
        Call { name: format!("{}_{form}", self.name), env }
    }
}

/// The name of what was played, also in what was wrong.
fn play(server: &Server, script: &Script, call: Call) -> Result<String, String> {
    let name = &call.name;
    server.add_user(name);
    let address = format!("{name}@local.example");
    let app = server.pombal(&["user", "apppass", "add", &address, "program"], "");
    let work = server.dir().join(name);
    fs::create_dir(&work).unwrap();
    let is_python = script.path.extension().is_some_and(|end| end == "py");
    // The guard of the operating system: a client that hangs is ended, not waited for.
    let output = Command::new("timeout")
        .args(["120", if is_python { "python3" } else { "bash" }])
        .arg(&script.path)
        .current_dir(&work)
        .env("HOME", &work)
        .env("HOST", HOST)
        .env("SMTP_PORT", server.smtp().to_string())
        .env("LMTP_PORT", server.lmtp().to_string())
        .env("SUBMISSION_PORT", server.submission().to_string())
        .env("POP3_PORT", server.pop3().to_string())
        .env("IMAP_PORT", server.imap().to_string())
        .env("SUBMISSIONS_PORT", server.submissions().to_string())
        .env("POP3S_PORT", server.pop3s().to_string())
        .env("IMAPS_PORT", server.imaps().to_string())
        .env("USER_ADDRESS", address)
        .env("OTHER_ADDRESS", "other@local.example")
        .env("PASSWORD", PASSWORD)
        .env("APP_PASSWORD", app.trim())
        .env("SERVER_CERT", server.dir().join("server.pem"))
        .env("CURL_CA_BUNDLE", server.dir().join("server.pem"))
        .env("CLIENT_CA", server.dir().join("authority"))
        .envs(call.env)
        .output()
        .unwrap();
    if output.status.success() {
        return Ok(call.name);
    }
    let (out, err) = (&output.stdout, &output.stderr);
    let (out, err) = (String::from_utf8_lossy(out), String::from_utf8_lossy(err));
    Err(format!("{name}: {}\n{out}\n{err}", output.status))
}
