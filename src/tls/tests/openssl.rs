//! A server that shares no line with ours: `openssl s_server`, by a real socket, with certificates that
//! openssl made.

use super::*;
use crate::env::ring::{Ring, Settings, start};
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::channel;
use tempfile::TempDir;

/// A server that says each line backwards; it ends when dropped.
struct Openssl {
    child: Child,
    address: SocketAddr,
    /// It would end if nobody held it.
    _said: BufReader<ChildStdout>,
}

impl Drop for Openssl {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn openssl(dir: &Path, line: &str) -> Vec<u8> {
    let output = Command::new("openssl").args(line.split(' ')).current_dir(dir).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "openssl {line}: {said}");
    output.stdout
}

/// A root and what it signed for [`HOST`], by keys of this kind: `root.pem`, `server.pem`, `key.pem`; and
/// one of the first version, which signed itself: `old.pem`.
fn certificates(dir: &Path, kind: &str) {
    fs::write(dir.join("names"), format!("subjectAltName=DNS:{HOST}\n")).unwrap();
    let made = "-nodes -keyout key.pem";
    openssl(
        dir,
        &format!("req -x509 -newkey {kind} -nodes -keyout root.key -subj /CN=root -out root.pem"),
    );
    openssl(dir, &format!("req -newkey {kind} {made} -subj /CN=server -out request"));
    let sign = "x509 -req -in request -days 30";
    openssl(dir, &format!("{sign} -CA root.pem -CAkey root.key -extfile names -out server.pem"));
    openssl(dir, &format!("{sign} -signkey key.pem -out old.pem"));
}

fn serve(dir: &Path, version: &str, certificate: &str) -> Openssl {
    let mut child = Command::new("openssl")
        .args(["s_server", "-accept", "127.0.0.1:0", version, "-rev"])
        .args(["-cert", certificate, "-key", "key.pem"])
        .current_dir(dir)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(child.stdout.take().unwrap());
    let address = loop {
        let mut line = String::new();
        assert!(said.read_line(&mut line).unwrap() > 0, "it says where it listens");
        if let Some(address) = line.strip_prefix("ACCEPT ") {
            break address.trim().parse().unwrap();
        }
    };
    Openssl { child, address, _said: said }
}

/// One call on the real machine: whether the session was gone on with and whom the server has proven to
/// be, or why not.
fn meet(
    caller: &Caller,
    address: SocketAddr,
    demand: &Demand,
) -> Result<(bool, Option<Result<Proven, Distrust>>), String> {
    let (sender, receiver) = channel();
    let (caller, demand) = (caller.clone(), demand.clone());
    let work = move |ring: Ring| {
        let (sender, caller, demand) = (sender.clone(), caller.clone(), demand.clone());
        async move { sender.send(talk(&ring, &caller, address, &demand).await).unwrap() }
    };
    let shards = start(1, Settings::default(), work).unwrap();
    let met = receiver.recv().unwrap();
    shards.wait();
    met
}

async fn talk(
    ring: &Ring,
    caller: &Caller,
    address: SocketAddr,
    demand: &Demand,
) -> Result<(bool, Option<Result<Proven, Distrust>>), String> {
    let deadline = ring.now().after(Duration::from_mins(1));
    let conn = ring.connect(address, None, deadline).await.unwrap();
    let aside: &Aside = &|step| Box::pin(async { Some(step()) });
    let terms = Call { caller, aside, host: Some(HOST), demand };
    let called = Stream::plain(conn).call(ring, terms, deadline).await;
    let mut stream = called.map_err(|failure| failure.to_string())?;
    let facts = Arc::clone(stream.facts().unwrap());
    let mut chain = Chain::new();
    chain.put(b"EHLO client.example\n");
    stream.write(&mut chain, deadline).await.unwrap();
    let (mut buffer, mut heard) = (Buffer::new(), Vec::new());
    while heard.len() < 20 && stream.read(&mut buffer, deadline).await.unwrap() > 0 {
        heard.extend_from_slice(buffer.filled());
        buffer.consume(buffer.len());
    }
    assert_eq!(String::from_utf8_lossy(&heard), "elpmaxe.tneilc OLHE\n");
    stream.close().await;
    Ok((facts.is_resumed(), facts.server().unwrap().verdict().cloned()))
}

#[test]
fn talks_with_openssl() {
    for kind in
        ["rsa:2048", "ec -pkeyopt ec_paramgen_curve:P-256", "ec -pkeyopt ec_paramgen_curve:P-384"]
    {
        let dir = TempDir::new().unwrap();
        let dir = dir.path();
        certificates(dir, kind);
        let key = openssl(dir, "pkey -in key.pem -pubout -outform der");
        let digest = |octets: &[u8]| ring::digest::digest(&ring::digest::SHA256, octets);
        let root = openssl(dir, "x509 -in root.pem -outform der");
        let of_server = Association::new(3, 1, 1, digest(&key).as_ref()).unwrap();
        let of_root = Association::new(2, 0, 1, digest(&root).as_ref()).unwrap();
        let whole_root = Association::new(2, 0, 0, &root).unwrap();
        for version in ["-tls1_2", "-tls1_3"] {
            let caller = Caller::trusting(&fs::read(dir.join("root.pem")).unwrap()).unwrap();
            let server = serve(dir, version, "server.pem");
            let met = |demand: &Demand| meet(&caller, server.address, demand);
            let verify = Demand::verify([HOST]);
            assert_eq!(met(&verify), Ok((false, Some(Ok(Proven::Authority)))), "{kind} {version}");
            assert_eq!(met(&verify), Ok((true, Some(Ok(Proven::Authority)))), "{kind} {version}");
            let records = |record: &Association| Demand::dane([record.clone()], [HOST]);
            let met_by = |demand: &Demand| met(demand).map(|(_, verdict)| verdict.unwrap());
            assert_eq!(met_by(&records(&of_server)), Ok(Ok(Proven::DaneEndEntity)));
            assert_eq!(met_by(&records(&whole_root)), Ok(Ok(Proven::DaneAnchor)));
            // The root is not shown.
            let said = met(&records(&of_root)).unwrap_err();
            assert_eq!(said, "no TLSA record is for the certificate");
            let said = met(&Demand::verify(["mx.other.example"])).unwrap_err();
            assert_eq!(said, "the certificate is for other names");
            drop(server);
            // Such as webpki does not read at all.
            let server = serve(dir, version, "old.pem");
            assert_eq!(meet(&caller, server.address, &Demand::MAY), Ok((false, None)));
            let met = meet(&caller, server.address, &records(&of_server));
            assert_eq!(met.map(|(_, verdict)| verdict.unwrap()), Ok(Ok(Proven::DaneEndEntity)));
            let lenient = verify.clone().leniently();
            let (_, verdict) = meet(&caller, server.address, &lenient).unwrap();
            assert!(verdict.unwrap().is_err());
        }
    }
}
