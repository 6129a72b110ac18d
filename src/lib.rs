//! Pombal: a mail server that keeps its promises, one log per core.
//!
//! The modules below are floors; imports go downwards only (`tests/tidy.rs` holds it).
//! What each may name, and what it may never know, stands in `docs/ARCHITECTURE.md`.
//!
//! ```text
//!   9  node  config  admin  cli        boot, shards, drain; the operator's side
//!   8  server                          one driver per protocol
//!   7  mta                             intake, recipients, routes
//!   6  auth                            credentials, throttle
//!   5  mailbox  queue  directory       state machines applied from the log
//!   4  store  mesh  tls  dns           the segment log; calls between shards; TLS; what the DNS says
//!   3  env  concierge  acme            the machine: ring (glommio) or sim (a seed); tokio's threads
//!   2  proto  policy                   protocol machines, sans I/O; what is held against a client
//!   1  wire                            octets <-> representations, zero-copy
//!   0  bytes  model  probe             buffers, nouns, counters
//! ```

// usize is converted from u64 in places that hold file offsets and lengths.
const _: () = assert!(usize::BITS == 64, "Pombal needs a 64-bit machine");

pub mod bytes;
pub mod model;
pub mod probe;

pub mod wire;

pub mod policy;
pub mod proto;

pub mod concierge;
pub mod env;

pub mod acme;
pub mod dns;

pub mod mesh;
pub mod store;
pub mod tls;

pub mod directory;
pub mod mailbox;
pub mod queue;

pub mod auth;

pub mod mta;

pub mod server;

pub mod admin;
pub mod cli;
pub mod config;
pub mod node;
