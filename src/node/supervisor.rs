//! What the service manager hears (sd_notify(3)): that the server is ready, alive, reloading, stopping.
//!
//! One datagram each, to the socket that NOTIFY_SOCKET names; without it nobody is told and nothing
//! costs anything. The socket is connected before the sandbox is entered. Sending never waits.
//!
//! While the server starts, a log that takes long to read is no reason to give up, as long as the
//! shards move: the manager's patience is extended again and again. With a watchdog (WATCHDOG_USEC)
//! it hears that the server lives only while every shard does.

use super::boot::News;
use crate::env::ring::Pulse;
use crate::probe::event::{Level, event};
use crossbeam::channel::{Receiver, RecvTimeoutError};
use nix::time::{ClockId, clock_gettime};
use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::time::Duration;

/// How often a start that takes long says that it goes on, and for how long that counts.
const START_BEAT: Duration = Duration::from_secs(5);
const START_PATIENCE: Duration = Duration::from_secs(30);

/// The way to the service manager, if there is one.
pub(super) struct Supervisor {
    /// The way to it may be wrong.
    socket: Option<io::Result<UnixDatagram>>,
    /// How often it wants to hear that the server lives.
    beat: Option<Duration>,
}

impl Supervisor {
    /// As the environment says.
    pub(super) fn find() -> Supervisor {
        let variable = |name: &str| std::env::var(name).ok();
        let socket = std::env::var_os("NOTIFY_SOCKET").map(|name| connect(&name));
        let own = std::process::id().to_string();
        let is_ours = variable("WATCHDOG_PID").is_none_or(|pid| pid == own);
        let watchdog = variable("WATCHDOG_USEC").filter(|_| is_ours);
        // Twice in the time after which the server would be ended.
        let beat = watchdog.and_then(|text| text.parse().ok()).map(Duration::from_micros);
        Supervisor { socket, beat: beat.map(|limit| limit / 2).filter(|beat| !beat.is_zero()) }
    }

    /// Tells of the start, and from then on that the shards live. For a thread of its own; ends with
    /// the server.
    pub(super) fn attend(&self, news: &Receiver<News>, pulses: &[Arc<Pulse>]) {
        match &self.socket {
            None => return,
            Some(Err(error)) => return tell_deaf(error),
            Some(Ok(_)) => {}
        }
        let mut is_ready = false;
        let count = |pulses: &[Arc<Pulse>]| pulses.iter().map(|pulse| pulse.beats()).collect();
        let mut beats: Vec<u64> = count(pulses);
        loop {
            let wait = match self.beat {
                Some(beat) if is_ready => beat,
                None if is_ready => Duration::MAX,
                _ => START_BEAT.min(self.beat.unwrap_or(START_BEAT)),
            };
            match news.recv_timeout(wait) {
                Ok(News::Ready) => {
                    is_ready = true;
                    self.tell(&format!("READY=1\nSTATUS=serves on {} shards\n", pulses.len()));
                }
                Ok(News::Listens(..)) => {}
                Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => {
                    let now = count(pulses);
                    if now.iter().zip(&beats).all(|(now, before)| now != before) {
                        self.alive(is_ready);
                    }
                    beats = now;
                }
            }
        }
    }

    fn alive(&self, is_ready: bool) {
        if is_ready {
            self.tell("WATCHDOG=1\n");
        } else {
            let usec = START_PATIENCE.as_micros();
            self.tell(&format!("WATCHDOG=1\nEXTEND_TIMEOUT_USEC={usec}\n"));
        }
    }

    /// The configuration is read again; [`Supervisor::reloaded`] ends it.
    pub(super) fn reloading(&self) {
        if self.socket.is_none() {
            return;
        }
        // What the manager tells an earlier reload's end by.
        let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map(Duration::from).unwrap_or_default();
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={}\n", now.as_micros()));
    }

    pub(super) fn reloaded(&self) {
        self.tell("READY=1\n");
    }

    /// The server comes to its end, which may take `patience`.
    pub(super) fn stopping(&self, patience: Duration) {
        self.tell(&format!("STOPPING=1\nEXTEND_TIMEOUT_USEC={}\n", patience.as_micros()));
    }

    fn tell(&self, text: &str) {
        if let Some(Ok(socket)) = &self.socket
            && let Err(error) = socket.send(text.as_bytes())
        {
            tell_deaf(&error);
        }
    }
}

fn tell_deaf(error: &io::Error) {
    event(Level::Warn, "supervisor_unreachable", &[("why", error.into())]);
}

/// `@name` is a name that lies in no file system.
fn connect(name: &OsStr) -> io::Result<UnixDatagram> {
    let address = match name.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(name)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.connect_addr(&address)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crossbeam::channel::unbounded;

    fn heard(socket: &UnixDatagram) -> String {
        let mut octets = [0; 256];
        let len = socket.recv(&mut octets).unwrap();
        String::from_utf8_lossy(&octets[..len]).into_owned()
    }

    #[test]
    fn tells_a_manager_that_has_a_path_and_one_that_has_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let at_path = UnixDatagram::bind(&path).unwrap();
        let name = format!("@pombal-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(name.trim_start_matches('@')).unwrap();
        let nowhere = UnixDatagram::bind_addr(&address).unwrap();
        for (socket, name) in [(at_path, path.as_os_str()), (nowhere, OsStr::new(&name))] {
            let supervisor = Supervisor { socket: Some(connect(name)), beat: None };
            supervisor.reloading();
            let text = heard(&socket);
            let usec = text.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap();
            assert!(usec.trim().parse::<u64>().unwrap() > 0);
            supervisor.reloaded();
            assert_eq!(heard(&socket), "READY=1\n");
            supervisor.stopping(Duration::from_secs(2));
            assert_eq!(heard(&socket), "STOPPING=1\nEXTEND_TIMEOUT_USEC=2000000\n");
            let (news, hears) = unbounded();
            news.send(News::Ready).unwrap();
            drop(news);
            supervisor.attend(&hears, &[]);
            assert_eq!(heard(&socket), "READY=1\nSTATUS=serves on 0 shards\n");
        }
    }

    #[test]
    fn a_shard_that_stands_still_is_not_called_alive() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        let beat = Some(Duration::from_millis(1));
        let supervisor = Supervisor { socket: Some(connect(path.as_os_str())), beat };
        let (news, hears) = unbounded();
        news.send(News::Ready).unwrap();
        std::thread::scope(|scope| {
            // A pulse that nobody beats.
            scope.spawn(|| supervisor.attend(&hears, &[Arc::default()]));
            assert!(heard(&socket).starts_with("READY=1"));
            socket.set_read_timeout(Some(Duration::from_millis(30))).unwrap();
            socket.recv(&mut [0; 8]).unwrap_err();
            drop(news);
        });
    }
}
