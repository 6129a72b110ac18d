//! The loopback network of the simulated machine: listeners, connections, and what becomes of them
//! when their tasks die.

use super::chance::Chance;
use super::link::{Link, Outcome, way};
use super::machine::{SimEnv, World, nanos};
use crate::bytes::buffer::Buffer;
use crate::bytes::chain::Chain;
use crate::bytes::hash::Sorted;
use crate::env::{Conn, Listener, Presence};
use crate::model::time::Mono;
use crossbeam::queue::SegQueue;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;

/// Connections that may wait to be accepted; what comes over it is tried again later, as kernels
/// drop the opening packet.
const BACKLOG_MAX: usize = 128;
/// The pause before a dropped opening packet is sent again.
const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// The first port for listeners that take any.
const LISTEN_PORT_FIRST: u16 = 20_000;
/// The first port for the near end of connections.
const SOURCE_PORT_FIRST: u16 = 49_152;

type SharedLink = Rc<RefCell<Link>>;

/// Where connections wait to be accepted.
struct Backlog {
    waiting: RefCell<VecDeque<SharedLink>>,
    acceptors: RefCell<Vec<Waker>>,
}

/// All listeners and detached connections of the machine.
pub(super) struct Network {
    listeners: RefCell<Sorted<SocketAddr, Vec<Rc<Backlog>>>>,
    detached: RefCell<Sorted<u64, (SharedLink, usize)>>,
    detached_made: Cell<u64>,
    /// Detached connections that were dropped instead of attached.
    lost: Arc<SegQueue<u64>>,
    listen_port: Cell<u16>,
    source_port: Cell<u16>,
    /// Pairs of hosts between which nothing arrives.
    cuts: RefCell<Vec<[IpAddr; 2]>>,
    /// Octets of the longest chain that was ever given to a write.
    pub(super) longest_write: Cell<usize>,
    pub(super) chance: Chance,
}

impl Network {
    pub(super) fn new(chance: Chance) -> Network {
        Network {
            listeners: RefCell::default(),
            detached: RefCell::default(),
            detached_made: Cell::new(0),
            lost: Arc::default(),
            listen_port: Cell::new(LISTEN_PORT_FIRST),
            source_port: Cell::new(SOURCE_PORT_FIRST),
            cuts: RefCell::default(),
            longest_write: Cell::new(0),
            chance,
        }
    }

    pub(super) fn listen(&self, env: &SimEnv, address: SocketAddr) -> io::Result<SimListener> {
        let mut local = address;
        let mut listeners = self.listeners.borrow_mut();
        while local.port() == 0 || (address.port() == 0 && listeners.contains_key(&local)) {
            let port = self.listen_port.get();
            if port == SOURCE_PORT_FIRST {
                return Err(io::ErrorKind::AddrInUse.into());
            }
            self.listen_port.set(port + 1);
            local.set_port(port);
        }
        let backlog =
            Rc::new(Backlog { waiting: RefCell::default(), acceptors: RefCell::default() });
        listeners.entry(local).or_default().push(Rc::clone(&backlog));
        Ok(SimListener { env: env.clone(), local, backlog })
    }

    /// One of the listeners that a connection to `address` may reach.
    fn pick(&self, address: SocketAddr) -> Option<Rc<Backlog>> {
        let listeners = self.listeners.borrow();
        let any: IpAddr = match address.ip() {
            IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let places = [address.ip(), any, Ipv6Addr::UNSPECIFIED.into()];
        let group = places
            .into_iter()
            .find_map(|place| listeners.get(&SocketAddr::new(place, address.port())))?;
        Some(Rc::clone(&group[self.chance.index(group.len())]))
    }

    /// From here on nothing arrives between two hosts.
    pub(super) fn cut(&self, one: IpAddr, other: IpAddr) {
        self.cuts.borrow_mut().push([one, other]);
    }

    /// Everything that is made from here on arrives again.
    pub(super) fn mend(&self) {
        self.cuts.borrow_mut().clear();
    }

    fn is_cut(&self, ends: [SocketAddr; 2]) -> bool {
        let ends = ends.map(|end| end.ip());
        let is_it = |cut: &[IpAddr; 2]| *cut == ends || *cut == [ends[1], ends[0]];
        self.cuts.borrow().iter().any(is_it)
    }

    pub(super) async fn connect(
        &self,
        env: &SimEnv,
        source: Option<SocketAddr>,
        address: SocketAddr,
        deadline: Mono,
    ) -> io::Result<SimConn> {
        let deadline = nanos(deadline.0);
        let faults = env.faults();
        let near = source.unwrap_or_else(|| self.near_end(address));
        let mut arrival = env.moment() + way(&self.chance, &faults);
        loop {
            if arrival > deadline {
                env.alarm().wait(deadline).await;
                return Err(io::ErrorKind::TimedOut.into());
            }
            env.alarm().wait(arrival).await;
            if self.is_cut([near, address]) {
                arrival = env.moment().saturating_add(nanos(RETRY_PAUSE));
                continue;
            }
            if self.chance.happens(faults.connect_fails) {
                return Err(io::ErrorKind::ConnectionRefused.into());
            }
            let backlog = self.pick(address).ok_or(io::ErrorKind::ConnectionRefused)?;
            if backlog.waiting.borrow().len() < BACKLOG_MAX {
                let stalls = self.chance.happens(faults.stalls);
                let link = Link::new([near, address], faults.window_octets, stalls);
                let link = Rc::new(RefCell::new(link));
                backlog.waiting.borrow_mut().push_back(Rc::clone(&link));
                backlog.acceptors.take().into_iter().for_each(Waker::wake);
                env.trace(&[10, u64::from(address.port()), u64::from(stalls)]);
                let conn = SimConn::new(env.clone(), link, 0);
                // The answer has a way too.
                env.alarm().wait(env.moment() + way(&self.chance, &faults)).await;
                return Ok(conn);
            }
            arrival = env.moment().saturating_add(nanos(RETRY_PAUSE));
        }
    }

    fn near_end(&self, address: SocketAddr) -> SocketAddr {
        self.end_at(match address.ip() {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        })
    }

    /// A near end of that address.
    pub(super) fn end_at(&self, near: IpAddr) -> SocketAddr {
        let port = self.source_port.get();
        self.source_port.set(port.checked_add(1).unwrap_or(SOURCE_PORT_FIRST));
        SocketAddr::new(near, port)
    }

    pub(super) fn attach(&self, env: &SimEnv, mut detached: Detached) -> io::Result<SimConn> {
        if !Arc::ptr_eq(&detached.lost, &self.lost) {
            // Of a machine that is no more.
            return Err(io::ErrorKind::NotConnected.into());
        }
        detached.attached = true;
        let found = self.detached.borrow_mut().remove(&detached.id);
        let (link, side) = found.ok_or(io::ErrorKind::NotConnected)?;
        Ok(SimConn::new(env.clone(), link, side))
    }

    /// Ends the detached connections that were dropped. Called between polls.
    pub(super) fn reap(&self, world: &World) {
        while let Some(id) = self.lost.pop() {
            let found = self.detached.borrow_mut().remove(&id);
            if let Some((link, side)) = found {
                let now = world.executor.now();
                link.borrow_mut().abandon(side, now, &self.chance, &world.faults.get());
            }
        }
    }
}

/// A place where connections come in. Several on one address share them by chance.
pub struct SimListener {
    env: SimEnv,
    local: SocketAddr,
    backlog: Rc<Backlog>,
}

impl Listener for SimListener {
    type Conn = SimConn;

    fn local(&self) -> SocketAddr {
        self.local
    }

    async fn accept(&self) -> io::Result<SimConn> {
        let link = std::future::poll_fn(|context| {
            if let Some(link) = self.backlog.waiting.borrow_mut().pop_front() {
                return Poll::Ready(link);
            }
            let mut acceptors = self.backlog.acceptors.borrow_mut();
            if !acceptors.iter().any(|waker| waker.will_wake(context.waker())) {
                acceptors.push(context.waker().clone());
            }
            Poll::Pending
        })
        .await;
        Ok(SimConn::new(self.env.clone(), link, 1))
    }
}

impl Drop for SimListener {
    fn drop(&mut self) {
        let world = self.env.world();
        let mut listeners = world.net.listeners.borrow_mut();
        if let Some(group) = listeners.get_mut(&self.local) {
            group.retain(|backlog| !Rc::ptr_eq(backlog, &self.backlog));
            if group.is_empty() {
                listeners.remove(&self.local);
            }
        }
        drop(listeners);
        for link in self.backlog.waiting.take() {
            link.borrow_mut().reset(self.env.moment(), &world.net.chance, &self.env.faults());
        }
    }
}

/// One end of a connection. Dropping it without closing is what a dead process leaves behind.
pub struct SimConn {
    env: SimEnv,
    link: SharedLink,
    side: usize,
    /// Received before [`Conn::introduce`], and not handed out yet.
    unread: Vec<u8>,
    open: bool,
}

/// A connection on its way to another shard.
#[derive(Debug)]
pub struct Detached {
    id: u64,
    lost: Arc<SegQueue<u64>>,
    attached: bool,
}

impl Drop for Detached {
    fn drop(&mut self) {
        if !self.attached {
            self.lost.push(self.id);
        }
    }
}

impl SimConn {
    fn new(env: SimEnv, link: SharedLink, side: usize) -> SimConn {
        SimConn { env, link, side, unread: Vec::new(), open: true }
    }

    /// Sends no more and goes on reading (a half-close).
    pub fn finish(&mut self) {
        let faults = self.env.faults();
        let now = self.env.moment();
        self.link.borrow_mut().end(self.side, now, &self.env.world().net.chance, &faults);
    }

    /// Breaks the connection for both ends.
    pub fn reset(&mut self) {
        let faults = self.env.faults();
        let now = self.env.moment();
        self.link.borrow_mut().reset(now, &self.env.world().net.chance, &faults);
    }

    /// From here on nothing arrives at either end, and nothing fails.
    pub fn stall(&mut self) {
        self.link.borrow_mut().stalled = true;
    }

    fn chance(&self) -> &Chance {
        &self.env.world().net.chance
    }

    fn try_write(&self, chain: &mut Chain, waker: &Waker) -> Outcome<()> {
        let now = self.env.moment();
        let faults = self.env.faults();
        let mut link = self.link.borrow_mut();
        link.stalled |= self.env.world().net.is_cut(link.addresses);
        let outcome = link.write(self.side, now, self.chance(), &faults, chain, waker);
        if let Some((due, reader)) = link.call_reader(self.side) {
            self.env.world().executor.wake_at(due, reader);
        }
        match outcome {
            Outcome::Wait(_) => Outcome::Wait(link.breaks_at().min(link.deaf_at(self.side))),
            done @ Outcome::Done(_) => done,
        }
    }
}

impl Conn for SimConn {
    type Detached = Detached;

    fn peer(&self) -> SocketAddr {
        self.link.borrow().addresses[1 - self.side]
    }

    fn local(&self) -> SocketAddr {
        self.link.borrow().addresses[self.side]
    }

    fn introduce(&mut self, client: SocketAddr, server: SocketAddr, unread: &[u8]) {
        let mut link = self.link.borrow_mut();
        link.addresses[1 - self.side] = client;
        link.addresses[self.side] = server;
        self.unread.extend_from_slice(unread);
    }

    fn presence(&self) -> Presence {
        self.link.borrow().presence(self.side, self.env.moment())
    }

    async fn read(&mut self, buffer: &mut Buffer, deadline: Mono) -> io::Result<usize> {
        assert!(!buffer.is_full(), "a full buffer would look like the end of the stream");
        if !self.unread.is_empty() {
            let count = buffer.push(&self.unread);
            self.unread.drain(..count);
            return Ok(count);
        }
        let deadline = nanos(deadline.0);
        let mut alarm = self.env.alarm();
        let result = std::future::poll_fn(|context| {
            let now = self.env.moment();
            let mut link = self.link.borrow_mut();
            link.stalled |= self.env.world().net.is_cut(link.addresses);
            match link.read(self.side, now, self.chance(), buffer, context.waker()) {
                Outcome::Done(result) => Poll::Ready(result),
                Outcome::Wait(_) if now >= deadline => {
                    Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
                }
                Outcome::Wait(moment) => {
                    alarm.set(moment.min(deadline), context.waker());
                    Poll::Pending
                }
            }
        })
        .await;
        self.env.trace(&[11, *result.as_ref().unwrap_or(&usize::MAX) as u64]);
        result
    }

    async fn write(&mut self, chain: &mut Chain, deadline: Mono) -> io::Result<()> {
        let deadline = nanos(deadline.0);
        let mut alarm = self.env.alarm();
        let faults = self.env.faults();
        self.env.trace(&[12, chain.len() as u64]);
        let longest = &self.env.world().net.longest_write;
        longest.set(longest.get().max(chain.len()));
        if self.chance().happens(faults.resets) {
            self.link.borrow_mut().reset(self.env.moment(), self.chance(), &faults);
        }
        std::future::poll_fn(|context| match self.try_write(chain, context.waker()) {
            Outcome::Done(result) => Poll::Ready(result),
            Outcome::Wait(_) if self.env.moment() >= deadline => {
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
            Outcome::Wait(moment) => {
                alarm.set(moment.min(deadline), context.waker());
                Poll::Pending
            }
        })
        .await
    }

    async fn close(mut self) {
        self.open = false;
        let now = self.env.moment();
        let faults = self.env.faults();
        {
            let mut link = self.link.borrow_mut();
            link.end(self.side, now, self.chance(), &faults);
            link.deafen(self.side, now, self.chance(), &faults);
        }
        self.env.breath().await;
    }

    fn detach(mut self) -> io::Result<Detached> {
        assert!(self.unread.is_empty(), "a session has read before it moves");
        self.open = false;
        let net = &self.env.world().net;
        let id = net.detached_made.get();
        net.detached_made.set(id + 1);
        net.detached.borrow_mut().insert(id, (Rc::clone(&self.link), self.side));
        Ok(Detached { id, lost: Arc::clone(&net.lost), attached: false })
    }
}

impl Drop for SimConn {
    fn drop(&mut self) {
        if self.open && self.env.alive() {
            let now = self.env.moment();
            let faults = self.env.faults();
            self.link.borrow_mut().abandon(self.side, now, self.chance(), &faults);
        }
    }
}
