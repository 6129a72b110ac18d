//! Asks a server for its own counters: one HTTP/1.0 GET, Prometheus text, nothing more.

use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

/// Octets of an answer that are read at most.
const ANSWER_OCTETS_MAX: u64 = 16 << 20;
const TIMEOUT: Duration = Duration::from_secs(5);

/// Where the counters are: `http://host:port/path`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Url {
    host: String,
    path: String,
}

impl Url {
    pub(crate) fn parse(text: &str) -> Result<Url, String> {
        let rest = text
            .strip_prefix("http://")
            .ok_or_else(|| format!("{text:?}: only http://host:port/path is understood"))?;
        let (host, path) = match rest.split_once('/') {
            Some((host, path)) => (host, format!("/{path}")),
            None => (rest, "/metrics".into()),
        };
        let host = if host.contains(':') { host.into() } else { format!("{host}:80") };
        Ok(Url { host, path })
    }

    /// The text that stands there now.
    pub(crate) fn get(&self) -> Result<String, String> {
        let failed = |error: std::io::Error| format!("http://{}{}: {error}", self.host, self.path);
        let address = self.host.to_socket_addrs().map_err(failed)?.next();
        let address = address.ok_or_else(|| format!("{}: no such host", self.host))?;
        let mut stream = TcpStream::connect_timeout(&address, TIMEOUT).map_err(failed)?;
        stream.set_read_timeout(Some(TIMEOUT)).map_err(failed)?;
        let request = format!("GET {} HTTP/1.0\r\nHost: {}\r\n\r\n", self.path, self.host);
        stream.write_all(request.as_bytes()).map_err(failed)?;
        let mut answer = Vec::new();
        stream.take(ANSWER_OCTETS_MAX).read_to_end(&mut answer).map_err(failed)?;
        let answer = String::from_utf8_lossy(&answer);
        let (head, body) = answer
            .split_once("\r\n\r\n")
            .ok_or_else(|| format!("http://{}{}: no HTTP answer", self.host, self.path))?;
        let status = head.split(' ').nth(1).unwrap_or_default();
        if status == "200" {
            Ok(body.into())
        } else {
            Err(format!("http://{}{}: status {status}", self.host, self.path))
        }
    }
}

/// The sum over all series of this name, whatever their labels; `None` if there is none.
pub(crate) fn sum(text: &str, name: &str) -> Option<f64> {
    let mut found = None;
    for line in text.lines() {
        let Some(rest) = line.strip_prefix(name) else { continue };
        let value = match rest.as_bytes().first() {
            // A label's value may hold blanks and even a brace; the last one ends the labels.
            Some(b'{') => rest.rsplit_once('}').map(|(_, value)| value),
            Some(b' ' | b'\t') => Some(rest),
            _ => None,
        };
        let Some(number) = value
            .and_then(|value| value.split_ascii_whitespace().next())
            .and_then(|word| word.parse::<f64>().ok())
        else {
            continue;
        };
        *found.get_or_insert(0.0) += number;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    const TEXT: &str = "# TYPE syncs_total counter\nsyncs_total{shard=\"0\"} 41\nsyncs_total{shard=\"}1 \"} 1e1 1700\nsyncs_total_more 7\nplain 3\n";

    #[test]
    fn adds_up_the_series_of_one_name() {
        assert_eq!(sum(TEXT, "syncs_total"), Some(51.0));
        assert_eq!(sum(TEXT, "plain"), Some(3.0));
        assert_eq!(sum(TEXT, "syncs"), None);
    }

    #[test]
    fn gets_the_text_from_a_server() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url =
            Url::parse(&format!("http://{}/metrics", listener.local_addr().unwrap())).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for status in ["200 OK", "404 No"] {
                    let (mut peer, _) = listener.accept().unwrap();
                    let mut request = [0; 16];
                    peer.read_exact(&mut request).unwrap();
                    assert!(request.starts_with(b"GET /metrics HTT"));
                    // Read all of it, or the close becomes a reset.
                    let mut rest = [0; 1024];
                    let _: usize = peer.read(&mut rest).unwrap();
                    let answer = format!("HTTP/1.0 {status}\r\nX: y\r\n\r\n{TEXT}");
                    peer.write_all(answer.as_bytes()).unwrap();
                }
            });
            assert_eq!(url.get().unwrap(), TEXT);
            assert!(url.get().unwrap_err().contains("status 404"));
        });
    }

    #[test]
    fn takes_urls_apart() {
        assert!(Url::parse("https://x").is_err());
        assert_eq!(
            Url::parse("http://h").unwrap(),
            Url { host: "h:80".into(), path: "/metrics".into() }
        );
    }
}
