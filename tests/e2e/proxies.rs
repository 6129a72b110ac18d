//! Proxies that others wrote in front of the running server: HAProxy with both versions of the PROXY
//! protocol, nginx with XCLIENT.
//!
//! Without them the tests are skipped aloud, or fail with `CLIENTS_REQUIRED=1`.

use crate::client::Link;
use crate::client_certificates::client;
use crate::harness::{PASSWORD, PATIENCE, Port, Server};
use rustls::pki_types::ServerName;
use rustls::version::TLS13;
use rustls::{ClientConnection, StreamOwned};
use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A process that ends with the test.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Where a program is.
fn installed(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&path).chain(["/usr/sbin".into()]);
    let found = places.map(|dir| dir.join(name)).find(|file| file.is_file());
    if found.is_none() {
        println!("skipped: {name} is not installed");
        let required = std::env::var_os("CLIENTS_REQUIRED").is_some_and(|set| set == "1");
        assert!(!required, "{name} is not installed");
    }
    found
}

fn start(command: &mut Command, port: u16) -> Ended {
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let child = Ended(command.spawn().unwrap());
    for _ in 0..PATIENCE.as_millis() / 10 {
        if TcpStream::connect(("127.0.0.1", port)).is_ok() {
            return child;
        }
        std::thread::park_timeout(Duration::from_millis(10));
    }
    panic!("it does not listen");
}

fn deliver(source: &str, port: u16) {
    let mut link = Link::connect_from(source, port).unwrap();
    link.expect(220).unwrap();
    for (command, code) in [
        ("EHLO c.example", 250),
        ("MAIL FROM:<x@remote.example>", 250),
        ("RCPT TO:<a@local.example>", 250),
        ("DATA", 354),
        ("Subject: x\r\n\r\nx\r\n.", 250),
        ("QUIT", 221),
    ] {
        link.command(command, code).unwrap();
    }
}

#[test]
fn haproxy_names_its_clients() {
    let Some(haproxy) = installed("haproxy") else { return };
    let mut server = Server::with_users(
        "[proxy]\nnetworks = [\"127.0.0.9/32\"]\n[protect]\nexempt_networks = []\n",
        &["a"],
    );
    let (one, two) = (Port::find(), Port::find());
    let mut text = String::from(
        "defaults\n  mode tcp\n  timeout connect 5s\n  timeout client 60s\n  timeout server 60s\n",
    );
    let (three, four) = (Port::find(), Port::find());
    for (port, to, version) in [
        (&one, server.smtp(), "send-proxy"),
        (&two, server.smtp(), "send-proxy-v2"),
        (&three, server.pop3s(), "send-proxy"),
        (&four, server.pop3s(), "send-proxy-v2 proxy-v2-options crc32c,unique-id"),
    ] {
        let port = port.number;
        let to = format!("server s 127.0.0.1:{to} {version} source 127.0.0.9");
        writeln!(text, "listen on-{port}\n  bind 127.0.0.1:{port}\n  {to}").unwrap();
    }
    let config = server.dir().join("haproxy.cfg");
    fs::write(&config, text).unwrap();
    let running = start(Command::new(haproxy).arg("-db").arg("-f").arg(&config), one.number);
    for (port, source) in [(&one, "127.0.0.33"), (&two, "127.0.0.34")] {
        deliver(source, port.number);
        server.await_log(&["event=message", &format!("peer={source}")]);
    }
    // What it passes on untouched is TLS from the first octet on.
    for (port, source) in [(&three, "127.0.0.35"), (&four, "127.0.0.36")] {
        let stream = Link::connect_from(source, port.number).unwrap().writer();
        let name = ServerName::try_from("mx.local.example").unwrap();
        let tls = ClientConnection::new(client(&TLS13, None), name).unwrap();
        let mut session = BufReader::new(StreamOwned::new(tls, stream));
        let login = format!("USER a@local.example\r\nPASS {PASSWORD}\r\n");
        session.get_mut().write_all(login.as_bytes()).unwrap();
        for _ in 0..3 {
            let mut line = String::new();
            session.read_line(&mut line).unwrap();
            assert!(line.starts_with("+OK"), "{line}");
        }
        server.await_log(&["event=login ", "protocol=pop3", &format!("peer={source} "), "tls=TLS"]);
        // The next one wants the same maildrop.
        session.get_mut().write_all(b"QUIT\r\n").unwrap();
        let mut line = String::new();
        session.read_line(&mut line).unwrap();
        assert!(line.starts_with("+OK"), "{line}");
    }
    drop(running);
    server.stop();
}

#[test]
fn nginx_names_its_clients() {
    let Some(nginx) = installed("nginx") else { return };
    let module = "/usr/lib/nginx/modules/ngx_mail_module.so";
    if !fs::exists(module).unwrap() {
        println!("skipped: nginx has no mail module");
        return;
    }
    let mut server = Server::with_users(
        "[smtp]\nmax_message_size = \"4M\"\nxclient_networks = [\"127.0.0.1/32\"]\n[protect]\nexempt_networks = []\n",
        &["a"],
    );
    // Tells nginx where mail goes.
    let oracle = TcpListener::bind("127.0.0.1:0").unwrap();
    let (ask, smtp) = (oracle.local_addr().unwrap(), server.smtp());
    let answers = std::thread::Builder::new().name("oracle".into()).spawn(move || {
        let (mut stream, _) = oracle.accept().unwrap();
        let mut asked = Vec::new();
        while !asked.ends_with(b"\r\n\r\n") {
            let mut octet = [0];
            stream.read_exact(&mut octet).unwrap();
            asked.extend(octet);
        }
        let answer = format!(
            "HTTP/1.0 200 OK\r\nAuth-Status: OK\r\nAuth-Server: 127.0.0.1\r\nAuth-Port: {smtp}\r\n\r\n"
        );
        stream.write_all(answer.as_bytes()).unwrap();
    });
    let port = Port::find();
    let dir = server.dir().to_owned();
    let text = format!(
        "load_module {module};\ndaemon off;\nmaster_process off;\npid {dir}/nginx.pid;\n\
         error_log {dir}/nginx.log;\nevents {{}}\nmail {{\n  server_name proxy.example;\n\
         \x20 auth_http {ask}/;\n  xclient on;\n  server {{\n    listen 127.0.0.1:{};\n\
         \x20   protocol smtp;\n    smtp_auth none;\n  }}\n}}\n",
        port.number,
        dir = dir.display(),
    );
    let config = dir.join("nginx.conf");
    fs::write(&config, text).unwrap();
    let log = dir.join("nginx.log");
    let mut command = Command::new(nginx);
    command.arg("-p").arg(&dir).arg("-e").arg(&log).arg("-c").arg(&config);
    let running = start(&mut command, port.number);
    deliver("127.0.0.35", port.number);
    server.await_log(&["event=message", "peer=127.0.0.35"]);
    answers.unwrap().join().unwrap();
    drop(running);
    server.stop();
}
