//! The real binary on loopback: hostile input, real mail, `kill -9`, and clients that others wrote.
//!
//! Each test starts a server of its own in a directory of its own, on ports that nobody has, and
//! ends it by its process. What a test waits for is an event; every wait has a bound that only a
//! hang reaches. The log of a server whose test fails is printed.
//!
//! `KILL_ROUNDS` says how often a server is killed (3), `SEED` repeats the moments of a run,
//! `LOADGEN` names the load generator's binary, `CLIENTS_REQUIRED=1` makes a client that is not
//! installed a failure.

#[cfg(test)]
#[path = "e2e/accounts.rs"]
mod accounts;
#[cfg(test)]
#[path = "e2e/acme.rs"]
mod acme;
#[cfg(test)]
#[path = "e2e/backup.rs"]
mod backup;
#[cfg(test)]
#[path = "e2e/cell.rs"]
mod cell;
#[cfg(test)]
#[path = "e2e/client.rs"]
mod client;
#[cfg(test)]
#[path = "e2e/client_certificates.rs"]
mod client_certificates;
#[cfg(test)]
#[path = "e2e/clients.rs"]
mod clients;
#[cfg(test)]
#[path = "e2e/cores.rs"]
mod cores;
#[cfg(test)]
#[path = "e2e/corpus.rs"]
mod corpus;
#[cfg(test)]
#[path = "e2e/digest.rs"]
mod digest;
#[cfg(test)]
#[path = "e2e/directories.rs"]
mod directories;
#[cfg(test)]
#[path = "e2e/disabled.rs"]
mod disabled;
#[cfg(test)]
#[path = "e2e/dkim.rs"]
mod dkim;
#[cfg(test)]
#[path = "e2e/dns.rs"]
mod dns;
#[cfg(test)]
#[path = "e2e/dnssec.rs"]
mod dnssec;
#[cfg(test)]
#[path = "e2e/dovecot.rs"]
mod dovecot;
#[cfg(test)]
#[path = "e2e/dovecotd.rs"]
mod dovecotd;
#[cfg(test)]
#[path = "e2e/elsewhere.rs"]
mod elsewhere;
#[cfg(test)]
#[path = "e2e/exim.rs"]
mod exim;
#[cfg(test)]
#[path = "e2e/fixture.rs"]
mod fixture;
#[cfg(test)]
#[path = "e2e/flip.rs"]
mod flip;
#[cfg(test)]
#[path = "e2e/harness.rs"]
mod harness;
#[cfg(test)]
#[path = "e2e/hosts.rs"]
mod hosts;
#[cfg(test)]
#[path = "e2e/imap.rs"]
mod imap;
#[cfg(test)]
#[path = "e2e/imap_compress.rs"]
mod imap_compress;
#[cfg(test)]
#[path = "e2e/imap_dialogs.rs"]
mod imap_dialogs;
#[cfg(test)]
#[path = "e2e/imap_gone.rs"]
mod imap_gone;
#[cfg(test)]
#[path = "e2e/imap_large.rs"]
mod imap_large;
#[cfg(test)]
#[path = "e2e/imap_limit.rs"]
mod imap_limit;
#[cfg(test)]
#[path = "e2e/imap_mask.rs"]
mod imap_mask;
#[cfg(test)]
#[path = "e2e/imap_room.rs"]
mod imap_room;
#[cfg(test)]
#[path = "e2e/kill.rs"]
mod kill;
#[cfg(test)]
#[path = "e2e/kill_relay.rs"]
mod kill_relay;
#[cfg(test)]
#[path = "e2e/knot.rs"]
mod knot;
#[cfg(test)]
#[path = "e2e/limits.rs"]
mod limits;
#[cfg(test)]
#[path = "e2e/lists.rs"]
mod lists;
#[cfg(test)]
#[path = "e2e/logins.rs"]
mod logins;
#[cfg(test)]
#[path = "e2e/migration.rs"]
mod migration;
#[cfg(test)]
#[path = "e2e/migration_imap.rs"]
mod migration_imap;
#[cfg(test)]
#[path = "e2e/nasty_imap.rs"]
mod nasty_imap;
#[cfg(test)]
#[path = "e2e/nasty_pop3.rs"]
mod nasty_pop3;
#[cfg(test)]
#[path = "e2e/nasty_smtp.rs"]
mod nasty_smtp;
#[cfg(test)]
#[path = "e2e/nasty_tls.rs"]
mod nasty_tls;
#[cfg(test)]
#[path = "e2e/oauth.rs"]
mod oauth;
#[cfg(test)]
#[path = "e2e/opensmtpd.rs"]
mod opensmtpd;
#[cfg(test)]
#[path = "e2e/outgoing.rs"]
mod outgoing;
#[cfg(test)]
#[path = "e2e/outgoing_tls.rs"]
mod outgoing_tls;
#[cfg(test)]
#[path = "e2e/packed.rs"]
mod packed;
#[cfg(test)]
#[path = "e2e/peers.rs"]
mod peers;
#[cfg(test)]
#[path = "e2e/postfix.rs"]
mod postfix;
#[cfg(test)]
#[path = "e2e/privileges.rs"]
mod privileges;
#[cfg(test)]
#[path = "e2e/protect.rs"]
mod protect;
#[cfg(test)]
#[path = "e2e/proxies.rs"]
mod proxies;
#[cfg(test)]
#[path = "e2e/proxy.rs"]
mod proxy;
#[cfg(test)]
#[path = "e2e/queue.rs"]
mod queue;
#[cfg(test)]
#[path = "e2e/queue_commands.rs"]
mod queue_commands;
#[cfg(test)]
#[path = "e2e/rehash.rs"]
mod rehash;
#[cfg(test)]
#[path = "e2e/relay.rs"]
mod relay;
#[cfg(test)]
#[path = "e2e/reload.rs"]
mod reload;
#[cfg(test)]
#[path = "e2e/restore.rs"]
mod restore;
#[cfg(test)]
#[path = "e2e/route.rs"]
mod route;
#[cfg(test)]
#[path = "e2e/rubbish.rs"]
mod rubbish;
#[cfg(test)]
#[path = "e2e/salvage.rs"]
mod salvage;
#[cfg(test)]
#[path = "e2e/scram.rs"]
mod scram;
#[cfg(test)]
#[expect(dead_code, reason = "the simulated machine needs more of it")]
#[path = "dialogs/script.rs"]
mod script;
#[cfg(test)]
#[path = "nasty/smtp.rs"]
mod smtp_case;
#[cfg(test)]
#[path = "e2e/submission.rs"]
mod submission;
#[cfg(test)]
#[path = "e2e/supervisor.rs"]
mod supervisor;
#[cfg(test)]
#[path = "e2e/systemd.rs"]
mod systemd;
#[cfg(test)]
#[path = "e2e/terms.rs"]
mod terms;
#[cfg(test)]
#[path = "e2e/tls.rs"]
mod tls;
#[cfg(test)]
#[path = "e2e/together.rs"]
mod together;
#[cfg(test)]
#[path = "e2e/tour.rs"]
mod tour;
#[cfg(test)]
#[path = "e2e/undelete.rs"]
mod undelete;
#[cfg(test)]
#[path = "e2e/vacation.rs"]
mod vacation;
#[cfg(test)]
#[path = "e2e/warming.rs"]
mod warming;
