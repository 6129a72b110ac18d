//! Outgoing mail in the simulation: servers of ours that bring mail to each other and to servers of
//! all kinds, which refuse, defer, hang up and fall silent; a DNS that fails; a network that is cut; a
//! power that goes.
//!
//! ```text
//!   life      boots the hosts, lets clients hand in mail, cuts, kills and crashes; then the reckoning
//!   case      what a seed decides: the hosts of ours, their settings
//!   places    the domains of the world, who takes their mail, and what the DNS says of them
//!   client    who hands in mail            sink    a server that takes mail, well or badly
//!   books     who was promised what, what became of it, and what must have
//!   limits    what a site may bear         report  what a report says
//! ```
//!
//! The rules, for each recipient of a message that was answered with 250:
//!
//! - R1 It ends: the other server took it, or its sender was told that it failed. Nobody is told who
//!   has no address or did not want to hear; then the other server, the DNS or the time has refused it.
//! - R2 A server that took it gets it again only where its answer may not have been heard: it sent
//!   none, the network failed meanwhile, or the sender went down before it asked for anything else on
//!   the same connection. What was asked for next proves that the answer is on the disk.
//! - R3 It fails at most once, and only where somebody refused it for good, or its time was over; it
//!   fails and was taken only as in R2.
//! - R4 Other reports: one on delay at most, one that it was relayed exactly where that was asked for
//!   and the other server does not report; one that it leads to several, where an alias does. Reports
//!   have no sender, and ask for none. Other mail has the sender that it was handed in with, or one
//!   that stands for him.
//! - R5 A mailbox here has it once. Its octets are those that were sent.
//! - R6 What was not answered with 250 is nowhere, unless its answer was not heard.
//! - R7 Nothing is left: queues and spools are empty, every blob has its references, the state after
//!   recovery is the state before.
//! - R8 Limits: connections of a site at once and of all, messages and time of a connection, rates,
//!   rests.
//! - R9 Nothing goes before its sender wants it to. A domain that is well gets its mail in time,
//!   whatever others do, and in the order in which one sender has sent it.

mod books;
mod case;
mod client;
mod life;
mod limits;
mod places;
mod report;
mod sink;

pub(crate) use life::run;
