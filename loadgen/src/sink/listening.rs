//! The threads of a sink: listening sockets, connections, the end.

use std::cell::Cell;
use std::fmt::Write as _;
use std::io::Write as _;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::LocalSet;

use super::connection::Connection;
use super::desk::{Batch, Desk};
use super::encryption::{from_files, self_signed};
use super::options::BehaviourOptions;
use super::profile::{Profile, Site};
use super::rule::{Attempts, Stage};
use super::session::Session;
use super::shared::Shared;
use crate::run::runtime;
use crate::values::{Instant, to_u64, to_usize};

/// Connections that the kernel keeps for us.
const BACKLOG: i32 = 1_024;
/// How often a thread hands over what it saw.
const HAND_OVER_EVERY: Duration = Duration::from_millis(200);
/// Pause when no connection can be taken.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);
/// Our own connections that fill a blackhole; the kernel takes one more than it is told.
const FILLING_MAX: usize = 4;
/// How long one of them may take: the one that is not taken is the last.
const FILLING_WAIT: Duration = Duration::from_millis(200);
/// Steps in which the last connections are waited for.
const LINGER_STEP: Duration = Duration::from_millis(5);

/// How a sink is set up.
pub(crate) struct Settings {
    profile: Profile,
    acceptor: Option<tokio_rustls::TlsAcceptor>,
    keep: Option<std::path::PathBuf>,
    patience: Duration,
    threads: usize,
    /// Messages after which it ends.
    pub(crate) count: Option<u64>,
    /// What open connections may still take at the end.
    pub(crate) linger: Duration,
}

impl Settings {
    pub(crate) fn new(profile: Profile, options: &BehaviourOptions) -> Result<Settings, String> {
        let offering = profile.sites.iter().find(|site| site.offers("STARTTLS"));
        let acceptor = match (&options.certificate, &options.key, offering) {
            (Some(certificate), Some(key), _) => Some(from_files(certificate, key)?),
            (_, _, Some(site)) => Some(self_signed(&site.name)?),
            _ => None,
        };
        if let Some(folder) = &options.keep {
            std::fs::create_dir_all(folder)
                .map_err(|error| format!("{}: {error}", folder.display()))?;
        }
        Ok(Settings {
            profile,
            acceptor,
            keep: options.keep.clone(),
            patience: options.patience,
            threads: to_usize(options.sink_threads),
            count: None,
            linger: Duration::ZERO,
        })
    }
}

/// A sink at work.
pub(crate) struct Running {
    shared: &'static Shared,
    /// What it listens at, with the number of the site.
    addresses: Vec<(SocketAddr, usize)>,
    threads: Vec<JoinHandle<()>>,
    batches: Option<Receiver<Batch>>,
    /// What keeps blackholes full.
    _filling: Vec<(Socket, Vec<std::net::TcpStream>)>,
}

impl Running {
    /// Listens at all addresses, then starts the threads.
    pub(crate) fn start(settings: Settings, open_files: u64) -> Result<Running, String> {
        let Settings { profile, acceptor, keep, patience, threads, count, linger } = settings;
        let wanted: usize = profile.sites.iter().map(|site| site.listen.len()).sum();
        if to_u64(wanted) + 64 > open_files {
            return Err(format!(
                "{wanted} addresses need more than the {open_files} open files allowed (ulimit -n)"
            ));
        }
        let (mut listeners, mut addresses, mut filling) = (Vec::new(), Vec::new(), Vec::new());
        for (index, site) in profile.sites.iter().enumerate() {
            for address in &site.listen {
                let named = |error: std::io::Error| format!("{address}: {error}");
                let socket = listen(*address, site).map_err(named)?;
                let bound = socket.local_addr().map_err(named)?.as_socket().unwrap_or(*address);
                addresses.push((bound, index));
                if site.blackhole {
                    let own = fill(bound);
                    filling.push((socket, own));
                } else {
                    listeners.push((std::net::TcpListener::from(socket), index));
                }
            }
        }
        // Sessions name it without counting references; a process has one sink or two.
        let shared: &'static Shared = Box::leak(Box::new(Shared {
            profile,
            attempts: Attempts::default(),
            acceptor,
            keep,
            patience,
            seed: 1,
            next_connection: AtomicU64::new(1),
            next_message: AtomicU64::new(1),
            count,
            messages: AtomicU64::new(0),
            started: Instant::now(),
            stop: watch::Sender::new(false),
        }));
        let (batches, batches_in) = channel();
        let mut running = Running {
            shared,
            addresses,
            threads: Vec::new(),
            batches: Some(batches_in),
            _filling: filling,
        };
        for _ in 0..threads {
            let cloned = listeners.iter().map(|(one, site)| Ok((one.try_clone()?, *site)));
            let cloned = cloned.collect::<std::io::Result<Vec<_>>>();
            let listeners = cloned.map_err(|error| format!("listening: {error}"))?;
            let batches = batches.clone();
            let thread = std::thread::Builder::new()
                .name("sink".into())
                .spawn(move || serve(shared, listeners, &batches, linger))
                .map_err(|error| format!("thread: {error}"))?;
            running.threads.push(thread);
        }
        Ok(running)
    }

    /// Says on stderr where it listens.
    pub(crate) fn announce(&self) {
        let mut line = String::from("loadgen: sink at");
        for (address, _) in self.addresses.iter().take(4) {
            write!(line, " {address}").ok();
        }
        if let Some(more) = self.addresses.len().checked_sub(4).filter(|more| *more > 0) {
            write!(line, " and {more} more").ok();
        }
        line.push('\n');
        std::io::stderr().write_all(line.as_bytes()).ok();
    }

    /// What it listens at.
    #[cfg(test)]
    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        self.addresses.iter().map(|(address, _)| *address).collect()
    }

    /// The first address of each site.
    pub(crate) fn sites(&self) -> Vec<String> {
        let mut sites: Vec<String> = Vec::new();
        for (address, site) in &self.addresses {
            if *site == sites.len() {
                sites.push(address.to_string());
            }
        }
        sites
    }

    /// Gives away the end where events come out.
    pub(crate) fn split(mut self) -> (Running, Receiver<Batch>) {
        let batches = self.batches.take().unwrap_or_else(|| channel().1);
        (self, batches)
    }

    /// Asks for the end.
    pub(crate) fn stop(&self) {
        self.shared.stop.send_replace(true);
    }

    /// Somebody asked for the end, or the count is reached.
    pub(crate) async fn stopped(&self) {
        let mut stop = self.shared.stop.subscribe();
        // The sender lives as long as the process.
        stop.wait_for(|stop| *stop).await.ok();
    }

    /// Waits until all threads have ended; the last events are on their way then.
    pub(crate) fn join(self) {
        for thread in self.threads {
            // A thread that panicked has said so.
            thread.join().ok();
        }
    }
}

fn listen(address: SocketAddr, site: &Site) -> std::io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(if site.blackhole { 0 } else { BACKLOG })?;
    socket.set_nonblocking(!site.blackhole)?;
    Ok(socket)
}

/// Fills the kernel's row of connections that nobody takes; whoever comes then hears nothing.
fn fill(address: SocketAddr) -> Vec<std::net::TcpStream> {
    (0..FILLING_MAX)
        .map_while(|_| std::net::TcpStream::connect_timeout(&address, FILLING_WAIT).ok())
        .collect()
}

/// One thread.
fn serve(
    shared: &'static Shared,
    listeners: Vec<(std::net::TcpListener, usize)>,
    batches: &Sender<Batch>,
    linger: Duration,
) {
    let desk = Desk::default();
    let runtime = runtime();
    let local = LocalSet::new();
    let open = Rc::new(Cell::new(0));
    runtime.block_on(local.run_until(async {
        let mut accepting = Vec::new();
        for (listener, site) in listeners {
            let listener = TcpListener::from_std(listener).expect("the listener does not block");
            let (desk, open) = (desk.clone(), Rc::clone(&open));
            accepting.push(tokio::task::spawn_local(accept(listener, shared, site, desk, open)));
        }
        let mut stop = shared.stop.subscribe();
        let mut ticks = tokio::time::interval(HAND_OVER_EVERY);
        loop {
            tokio::select! {
                _ = stop.wait_for(|stop| *stop) => break,
                _ = ticks.tick() => {
                    // Whoever takes them may be gone at the very end.
                    batches.send(desk.take()).ok();
                }
            }
        }
        for task in accepting {
            task.abort();
        }
        let began = Instant::now();
        while open.get() > 0 && began.elapsed() < linger {
            tokio::time::sleep(LINGER_STEP).await;
        }
    }));
    // Connections that are still open say now which answers were not heard.
    drop(local);
    drop(runtime);
    batches.send(desk.take()).ok();
}

/// Counts a connection as long as it lives.
struct Open {
    here: Rc<Cell<usize>>,
    site: &'static AtomicUsize,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.here.set(self.here.get() - 1);
        self.site.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn accept(
    listener: TcpListener,
    shared: &'static Shared,
    index: usize,
    desk: Desk,
    open: Rc<Cell<usize>>,
) {
    let site = &shared.profile.sites[index];
    loop {
        let Ok((stream, peer)) = listener.accept().await else {
            desk.count(|counts| counts.not_accepted += 1);
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        desk.count(|counts| counts.connections += 1);
        stream.set_nodelay(true).ok();
        open.set(open.get() + 1);
        let others = site.open.fetch_add(1, Ordering::Relaxed);
        let guard = Open { here: Rc::clone(&open), site: &site.open };
        let desk = desk.clone();
        tokio::task::spawn_local(async move {
            let _guard = guard;
            let link = Connection::new(stream, shared.patience, desk.clone());
            if others >= site.connections_max {
                turn_away(link, &desk).await;
            } else {
                Session::new(shared, index, desk, link, peer.ip()).serve().await;
            }
        });
    }
}

async fn turn_away(mut link: Connection, desk: &Desk) {
    desk.count(|counts| {
        counts.turned_away += 1;
        *counts.replies.entry((Stage::Connect, 421)).or_default() += 1;
    });
    link.out().extend_from_slice(b"421 4.3.2 too many connections\r\n");
    link.close().await;
}
