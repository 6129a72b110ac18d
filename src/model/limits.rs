//! Every bound of the server: name, value, unit, and the RFC or the reason.
//!
//! What an operator may change has its default here and its key in `config`.

use std::time::Duration;

/// Octets of one SMTP command line with CRLF that are taken. RFC 5321 §4.5.3.1.4 asks for 512 plus
/// what each extension adds: see [`SMTP_LINE_OCTETS_MIN`].
pub const SMTP_LINE_OCTETS_MAX: usize = 2_048;
/// The least that may be set: MAIL with every parameter there is. SIZE 26, BODY 16 (RFC 3030 §3),
/// SMTPUTF8 10, AUTH 500, DELIVERBY 17, FUTURERELEASE 34, REQUIRETLS 11, MT-PRIORITY 15, RET and ENVID
/// 9 and 107 (RFC 3461 §4.3, §4.4). RCPT needs 28 for NOTIFY and 507 for ORCPT, which is less.
pub const SMTP_LINE_OCTETS_MIN: usize = 512 + 26 + 16 + 10 + 500 + 17 + 34 + 11 + 15 + 9 + 107;
const _: () =
    assert!(SMTP_LINE_OCTETS_MIN <= SMTP_LINE_OCTETS_MAX && 512 + 28 + 507 <= SMTP_LINE_OCTETS_MIN);
/// Octets of a local part (RFC 5321 §4.5.3.1.1).
pub const LOCAL_PART_OCTETS_MAX: usize = 64;
/// Octets of a domain (RFC 5321 §4.5.3.1.2).
pub const DOMAIN_OCTETS_MAX: usize = 255;
/// Octets of one text line with CRLF that DATA takes. RFC 5321 §4.5.3.1.6 asks for 1000; real mail
/// has longer ones, and cutting or refusing them helps nobody.
pub const SMTP_TEXT_LINE_OCTETS_MAX: usize = 64 << 10;
/// Octets of one text line without CRLF that other servers have to take (RFC 5321 §4.5.3.1.6).
pub const LINE_OCTETS_SENT_MAX: usize = 998;
/// Recipients of one transaction. RFC 5321 §4.5.3.1.8 asks for at least 100.
pub const SMTP_RECIPIENTS_MAX: usize = 1_000;
/// Received fields before a message counts as looping (RFC 5321 §6.3: at least 100).
pub const RECEIVED_HOPS_MAX: usize = 100;
/// Wait for the next command (RFC 5321 §4.5.3.2.7).
pub const SMTP_COMMAND_TIMEOUT: Duration = Duration::from_mins(5);
/// Wait for the next block of a message (RFC 5321 §4.5.3.2.5).
pub const SMTP_DATA_TIMEOUT: Duration = Duration::from_mins(3);
/// Longest wait of an SMTP client for its next answer, where the server itself is slow: the log, or
/// another shard. RFC 6409 §5.3 has fewer than 2 minutes, and programs of users wait no longer.
pub const SMTP_ANSWER_TIME_MAX: Duration = Duration::from_secs(100);
/// Octets a second that a message must bring on the whole, beyond the waits above: who sends one
/// octet now and then keeps no draft for ever (A016). Postfix has the same figure.
pub const SMTP_DATA_RATE_MIN: u64 = 500;
/// Bad commands and refused recipients in one session before 421.
pub const SMTP_ERRORS_MAX: u32 = 100;
/// NOOP, RSET, HELP, VRFY, EXPN, EHLO and replies of 4xx between two messages of one session; each
/// one more counts as an error. What Postfix allows.
pub const SMTP_JUNK_COMMANDS_MAX: u32 = 100;
/// Octets of one message, trace fields not counted.
pub const MESSAGE_OCTETS_MAX: u64 = 50 << 20;
/// Messages of one session whose commit may be under way while later commands are read.
pub const SMTP_COMMITS_OPEN_MAX: usize = 64;

/// Failed logins of one SMTP session before it is closed.
pub const SMTP_LOGINS_FAILED_MAX: u8 = 5;

/// Recipients of one message that a user sends; each more gets 452 4.5.3.
pub const SUBMISSION_RECIPIENTS_MAX: usize = 500;
/// Messages that an account may send in an hour, and in a day: more than people write, and little
/// enough that a stolen password is of no great use.
pub const SUBMISSION_MESSAGES_AN_HOUR: u32 = 500;
pub const SUBMISSION_MESSAGES_A_DAY: u32 = 2_000;
/// Recipients that an account may send to in an hour, and in a day.
pub const SUBMISSION_RECIPIENTS_AN_HOUR: u32 = 1_000;
pub const SUBMISSION_RECIPIENTS_A_DAY: u32 = 5_000;

/// The highest priority of a message; the lowest is as far below zero (RFC 6710 §3).
pub const PRIORITY_MAX: u8 = 9;

/// How long a user may have a message held before it goes (RFC 4865 §3), if nobody says otherwise.
pub const SUBMISSION_HOLD_MAX: Duration = Duration::from_hours(30 * 24);
/// Accounts whose messages one shard counts; over it those that are not counted yet get 451. An
/// account is forgotten when it may send all of its allowance again.
pub const SUBMITTERS_MAX: usize = 262_144;
/// Mailboxes of one From field that a user may name: each is looked up.
pub const AUTHORS_MAX: usize = 32;
/// Header fields that a DKIM signature names; a message with more is not signed.
pub const DKIM_FIELDS_MAX: usize = 64;
/// Keys of one domain that sign, each in a field of its own.
pub const DKIM_KEYS_MAX: usize = 6;
/// Days for which a report finds its way back to a sender that was rewritten: longer than mail is
/// tried anywhere.
pub const SRS_DAYS: u32 = 21;
/// Octets of a message's header that a report brings back.
pub const REPORT_HEADER_OCTETS_MAX: usize = 64 << 10;
/// Octets of a message that a report brings back in full; of longer ones it has the header
/// (RFC 3461 §6.2).
pub const REPORT_MESSAGE_OCTETS_MAX: u64 = 128 << 10;
/// Octets of a server's reply that a report repeats (RFC 5321 §4.5.3.1.5: a line has 512).
pub const REPORT_REPLY_OCTETS_MAX: usize = 512;

/// Octets of one POP3 command line with CRLF (RFC 2449 §4).
pub const POP3_LINE_OCTETS_MAX: usize = 255;
/// Octets of one line of a SASL exchange (RFC 4954 §4).
pub const SASL_LINE_OCTETS_MAX: usize = 12_288;
/// Idle POP3 session (RFC 1939 §3: at least 10 minutes).
pub const POP3_IDLE_TIMEOUT: Duration = Duration::from_mins(10);
/// Bad commands in one POP3 session before it is closed.
pub const POP3_ERRORS_MAX: u32 = 50;

/// Commands in error that an IMAP session may give, with none that goes well between them, before it
/// is closed.
pub const IMAP_ERRORS_MAX: u32 = 20;
/// Failed logins of one IMAP session before it is closed.
pub const IMAP_LOGINS_FAILED_MAX: u8 = 3;
/// Pause after which IDLE says something where nothing happens. Routers forget a quiet connection
/// after some minutes.
pub const IMAP_IDLE_KEEPALIVE: Duration = Duration::from_mins(2);
/// Wait for the next command of an IMAP session (RFC 9051 §5.4).
pub const IMAP_IDLE_TIMEOUT: Duration = Duration::from_mins(30);
/// Wait for a command before login.
pub const IMAP_LOGIN_TIMEOUT: Duration = Duration::from_mins(3);
/// Octets of one IMAP command with its literals, messages not counted. Sets of 100,000 UIDs are real.
pub const IMAP_COMMAND_OCTETS_MAX: usize = 2 << 20;
/// The same before login.
pub const IMAP_COMMAND_OCTETS_BEFORE_LOGIN_MAX: usize = 64 << 10;
/// The same that a session holds without asking for room, whatever the others hold.
pub const IMAP_COMMAND_OCTETS_FREE: usize = 64 << 10;
/// Octets of a tag; clients use a dozen.
pub const IMAP_TAG_OCTETS_MAX: usize = 256;
/// Elements of one list in an IMAP command: flags, items, header fields, patterns.
pub const IMAP_LIST_COUNT_MAX: usize = 1_000;
/// Parentheses and NOTs within each other in a search.
pub const IMAP_SEARCH_DEPTH_MAX: usize = 100;
/// Keys of one search.
pub const IMAP_SEARCH_KEYS_MAX: usize = 10_000;
/// Keys times messages that a search holds against each other before others get a turn.
pub const IMAP_SEARCH_STEPS: usize = 16 << 10;
/// A message with more octets is searched piece by piece, others having their turn in between.
pub const IMAP_SEARCH_OCTETS_AT_ONCE: usize = 256 << 10;
/// Messages that FETCH, SEARCH, SORT or THREAD read at once,
pub const IMAP_READS_AT_ONCE: usize = 16;
/// and how many octets they may have together; one is read in any case.
pub const IMAP_READ_OCTETS_AT_ONCE: u64 = 1 << 20;
/// How often a long search tells how far it is: RFC 9585 §4 recommends every 10 to 15 seconds.
pub const IMAP_PROGRESS_INTERVAL: Duration = Duration::from_secs(10);
/// Pairs of ID (RFC 2971 §3.3).
pub const IMAP_ID_PAIRS_MAX: usize = 30;
/// Octets of a field name of ID (RFC 2971 §3.3).
pub const IMAP_ID_NAME_OCTETS_MAX: usize = 30;
/// Octets of a value of ID (RFC 2971 §3.3).
pub const IMAP_ID_VALUE_OCTETS_MAX: usize = 1_024;
/// Octets of literals of one refused IMAP command that are read and dropped before the session is
/// given up.
pub const IMAP_SKIPPED_OCTETS_MAX: u64 = 1 << 30;

/// Octets of a PROXY header of version 2 with its TLVs; a client's certificate is the largest.
pub const PROXY_HEADER_OCTETS_MAX: usize = 16 << 10;
/// Wait for the header of a proxy.
pub const PROXY_TIMEOUT: Duration = Duration::from_secs(5);

/// Connections a minute of one address (IPv6: one /64) to all shards: twenty a second, more than the
/// largest senders make to one receiver of some size.
pub const CONNECTIONS_PER_MINUTE: u32 = 1_200;
/// The same of one network (IPv4 /24, IPv6 /48).
pub const NETWORK_CONNECTIONS_PER_MINUTE: u32 = 6_000;
/// Commands a minute of one address, all its sessions together: a thousand a second.
pub const COMMANDS_PER_MINUTE: u32 = 60_000;
/// Unknown recipients of one session before its answers are held back.
pub const UNKNOWN_RECIPIENTS_FREE: u32 = 10;
/// How long an answer is held back then. Postfix has the same two figures.
pub const UNKNOWN_RECIPIENT_PAUSE: Duration = Duration::from_secs(1);
/// Unknown recipients of one session before it is hung up on; 0 is no limit.
pub const UNKNOWN_RECIPIENTS_MAX: u32 = 50;
/// Unknown recipients an hour of one address, all its sessions together, before it hears no more of
/// who is there; 0 is no limit.
pub const UNKNOWN_RECIPIENTS_PER_HOUR: u32 = 300;
/// The longest wait before a greeting: RFC 5321 §4.5.3.2.1 has clients wait 5 minutes.
pub const GREET_DELAY_MAX: Duration = Duration::from_secs(30);

/// Connections that are told at one time why they are not served, per shard; the others are closed
/// without a word.
pub const REFUSALS_AT_ONCE_MAX: usize = 1_024;
/// Clients whose names are asked for at one time, per shard; the others have none.
pub const NAMES_AT_ONCE_MAX: usize = 32;
/// Events a minute that tell of one address that it was refused, all shards together.
pub const REFUSALS_TOLD_PER_MINUTE: u32 = 6;

/// Errands that the concierge has under way at once.
pub const ERRANDS_AT_ONCE_MAX: usize = 1_024;
/// Errands that may wait for it; over it the caller is told at once.
pub const ERRANDS_WAITING_MAX: usize = 4_096;
/// Octets of an answer by HTTP that the concierge takes.
pub const HTTP_ANSWER_OCTETS_MAX: usize = 256 << 10;
/// How long a connection by HTTP is kept that nobody asks anything by.
pub const HTTP_IDLE_MAX: Duration = Duration::from_secs(30);
/// Who may wait for a document that is being fetched; over it the caller is told at once.
pub const DOCUMENT_WAITING_MAX: usize = 256;
/// Fetches of a document within its pause.
pub const DOCUMENT_BURST: usize = 2;
/// How long a document is not fetched anew after that failed.
pub const DOCUMENT_RETRY_PAUSE: Duration = Duration::from_secs(5);
/// Questions to the authorization server that wait, for each that is under way.
pub const OAUTH_WAITING_FACTOR: usize = 8;
/// Questions to it under way at once.
pub const OAUTH_REQUESTS_MAX: usize = 32;
/// How long one may take, the wait included.
pub const OAUTH_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a token is remembered that was good.
pub const OAUTH_CACHE_TTL: Duration = Duration::from_mins(5);
/// How far the clocks of the server and of who makes tokens may be apart.
pub const OAUTH_LEEWAY: Duration = Duration::from_mins(1);
/// Octets of what names a key, an issuer or a scope.
pub const OAUTH_WORD_OCTETS_MAX: usize = 1 << 10;
/// Keys of a set (RFC 7517 §5) that are looked at.
pub const OAUTH_KEYS_MAX: usize = 64;
/// Keys that a token which names none is tried with.
pub const OAUTH_KEYS_TRIED_MAX: usize = 4;
/// After which time a set of keys is fetched anew.
pub const OAUTH_KEYS_FRESH: Duration = Duration::from_hours(1);
/// For how long it holds while it cannot be fetched.
pub const OAUTH_KEYS_STALE: Duration = Duration::from_hours(24);
/// Time in which they are fetched twice at most, whatever keys tokens name.
pub const OAUTH_KEYS_PAUSE: Duration = Duration::from_secs(30);
/// How often the operator is told that the authorization server cannot be asked.
pub const OAUTH_TELL_PAUSE: Duration = Duration::from_secs(10);
/// Checks of tokens that one shard has under way.
pub const OAUTH_CHECKS_MAX: usize = 1_024;
/// How long one question to the DNS may take, all attempts together.
pub const DNS_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest time for which an answer is taken to hold.
pub const DNS_TTL_MAX: Duration = Duration::from_hours(1);
/// How long a name is taken not to exist where the answer does not say.
pub const DNS_NEGATIVE_TTL: Duration = Duration::from_mins(1);
/// How long servers that pass signatures on are taken to do so.
pub const DNSSEC_SERVERS_TTL: Duration = Duration::from_hours(1);
/// The same of servers that do not: they may have been exchanged for better ones.
pub const DNSSEC_SERVERS_WITHOUT_TTL: Duration = Duration::from_mins(10);
/// Sets of records of which it is remembered what their signatures are worth, some 300 octets each.
pub const DNSSEC_KNOWN_MAX: usize = 65_536;
/// Aliases that are followed from one answer to another.
pub const DNS_ALIASES_MAX: u32 = 8;
/// How long a question that failed is not put again.
pub const DNS_FAILURE_TTL: Duration = Duration::from_secs(10);
/// How long a triplet that is not known has to wait; RFC 6647 §5 has it between 1 minute and a day.
pub const GREYLIST_DELAY: Duration = Duration::from_mins(5);
/// How long it may take to come back.
pub const GREYLIST_WINDOW: Duration = Duration::from_hours(24);
/// How long one that came back is known, from the last time on: lists write once a month.
pub const GREYLIST_KEEP: Duration = Duration::from_hours(36 * 24);
/// Triplets of one network that came back before it is not asked any more.
pub const GREYLIST_NETWORK_PASSES: u8 = 5;
/// Triplets that are remembered, 8 octets each.
pub const GREYLIST_ENTRIES: usize = 1 << 18;
/// Lists in the DNS that are asked for each client.
pub const DNS_LISTS_MAX: usize = 32;
/// How often one shard tells of lists that do not answer us as lists do.
pub const DNS_LIST_WARN_PAUSE: Duration = Duration::from_mins(1);
/// Names of one address that are looked at.
pub const REVERSE_NAMES_MAX: usize = 4;
/// Answers that one shard remembers.
pub const DNS_ANSWERS_MAX: usize = 65_536;
/// Questions of one shard's clients under way at once.
pub const DNS_FLIGHTS_MAX: usize = 1_024;
/// Questions under way at once, of all shards together, for each of three kinds of askers for the sake of
/// mail (`dns::Asker`): with them a quarter of [`ERRANDS_AT_ONCE_MAX`] is left to others.
pub const DNS_MAIL_FLIGHTS_MAX: usize = 256;
/// Questions for the sake of mail that wait for a place on one shard, for each kind of askers.
pub const DNS_GROUND_MAX: usize = 16_384;

/// Octets a connection reads at most in one go; the size of a receive block.
pub const RECEIVE_BLOCK_OCTETS: usize = 64 << 10;
/// Octets of the first message of a TLS client, with the heads of its records; browsers send 2 KiB.
pub const TLS_HELLO_OCTETS_MAX: usize = 32 << 10;
/// Octets of the records that bring one message of a handshake: the longest that rustls takes, in records
/// of some thirty octets and more.
pub const TLS_MESSAGE_OCTETS_MAX: usize = 128 << 10;
/// Octets of what is in a ticket, the certificates of the client among it: so much below the last that
/// a client can bring it back.
pub const TLS_TICKET_OCTETS_MAX: usize = 16 << 10;
/// Octets of the certificates that a client may show; with more there is no handshake, since TLS holds
/// them for as long as the connection lasts. A certificate has one or two thousand.
pub const TLS_CLIENT_CHAIN_OCTETS_MAX: usize = 16 << 10;
/// Certificates that a client may show: its own, and those that signed one another.
pub const TLS_CLIENT_CHAIN_MAX: usize = 4;
/// Octets of the certificates that a server may show to us; with more there is no handshake. TLS holds
/// them for as long as the connection lasts.
pub const TLS_SERVER_CHAIN_OCTETS_MAX: usize = 32 << 10;
/// Certificates of a server among which one looks for a way to somebody who is trusted. Some send all
/// they have; with more they prove nothing.
pub const TLS_SERVER_CHAIN_MAX: usize = 10;
/// Certificates of a server with which a shard tries all ways itself: fifteen at most. With more that is
/// done beside it.
pub const TLS_SERVER_CHAIN_ASIDE: usize = 4;
/// Sessions with servers that can be gone on with: so many of TLS 1.3, and so many of TLS 1.2. One costs
/// some 5 KiB, and 96 KiB where a server makes it as dear as it can.
pub const TLS_TICKETS_MAX: usize = 512;
/// Those of TLS 1.3 with one server, each of which is good for one connection.
pub const TLS_TICKETS_PER_SERVER_MAX: usize = 4;
/// How long a policy of MTA-STS may say that it holds (RFC 8461 §3.2).
pub const STS_MAX_AGE: Duration = Duration::from_hours(8_766);
/// Octets of a policy file of MTA-STS (RFC 8461 §3.3).
pub const STS_FILE_OCTETS_MAX: usize = 64 << 10;
/// Octets of all policies that are known.
pub const STS_KEPT_OCTETS_MAX: usize = 64 << 20;
/// Octets of the journal of them that is read at a start: with all that is old in it.
pub const STS_JOURNAL_OCTETS_MAX: u64 = 256 << 20;
/// Policies that are fetched at once, for all who send.
pub const STS_REQUESTS_MAX: usize = 32;
/// Fetches of policies that wait for those.
pub const STS_WAITING_MAX: usize = 1_024;
/// Old policies that are fetched anew side by side.
pub const STS_RENEWALS_AT_ONCE: usize = 8;
/// How long a policy is not fetched again after that failed (RFC 8461 §3.3).
pub const STS_RETRY_PAUSE: Duration = Duration::from_mins(5);
/// Domains of which it is remembered that their policy could not be fetched.
pub const STS_FAILURES_MAX: usize = 16_384;
/// Domains of which outcomes of TLS are counted in a day (RFC 8460), with a few hundred octets each.
pub const TLS_REPORT_DOMAINS_MAX: usize = 65_536;
/// Policies of one domain in a day: that of MTA-STS as it changes, and the records of each server.
pub const TLS_REPORT_POLICIES_MAX: usize = 16;
/// Kinds of failure under one policy that are told apart.
pub const TLS_REPORT_DETAILS_MAX: usize = 64;
/// Characters of the reason for a failure.
pub const TLS_REPORT_REASON_CHARS_MAX: usize = 200;
/// Places of one domain that a report is sent to, one after the other.
pub const TLS_REPORT_DESTINATIONS_MAX: usize = 4;
/// How long after midnight reports are sent at most (RFC 8460 §4.1).
pub const TLS_REPORT_DELAY_MAX: Duration = Duration::from_hours(4);
/// The first pause before a report is posted again, each as long as two of the last.
pub const TLS_REPORT_RETRY_FIRST: Duration = Duration::from_mins(15);
/// How long a report is posted again (RFC 8460 §5.5).
pub const TLS_REPORT_RETRY_SPAN: Duration = Duration::from_hours(24);
/// Octets of reports that wait to be posted again.
pub const TLS_REPORT_RETRY_OCTETS_MAX: usize = 16 << 20;
/// Characters of a certificate's subject that the log has: anybody may write one.
pub const TLS_SUBJECT_CHARS_MAX: usize = 256;
/// Octets of a file with certificates or a key.
pub const TLS_FILE_OCTETS_MAX: u64 = 1 << 20;
/// How long a TLS handshake may take.
pub const TLS_HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(30);
/// Threads that sign with RSA keys: a shard would stand still for a millisecond and more.
pub const TLS_SIGNING_THREADS: u16 = 2;
/// Handshakes that may wait for one of these threads.
pub const TLS_SIGNING_MAX: usize = 4_096;
/// Octets of replies that may wait for a slow reader before its session stops producing.
pub const REPLY_OCTETS_PENDING_MAX: usize = 256 << 10;
/// How long a write may wait for a reader that takes nothing.
pub const WRITE_TIMEOUT: Duration = Duration::from_mins(5);
/// Octets of messages being received, all sessions and shards together; over it 452 4.3.1.
pub const DRAFT_OCTETS_MAX: usize = 512 << 20;
/// Octets that IMAP commands which are not whole, and COMPRESS, hold beyond what each session has for
/// nothing, all sessions and shards together; over it `NO [LIMIT]`.
pub const COMMAND_OCTETS_MAX: usize = 256 << 20;

/// Octets of one batch that the gatherer aims at; one larger message makes a larger batch.
pub const BATCH_OCTETS_TARGET: usize = 4 << 20;
/// Batches of one log that may be on their way to the disk.
pub const BATCHES_IN_FLIGHT_MAX: usize = 2;
/// Segments that a log may have in any case: those that are written to, and the reserve.
pub const STORE_SEGMENTS_MIN: usize = 12;
/// Directories that the logs of a store lie in, one for each device.
pub const STORE_DIRECTORIES_MAX: usize = 64;
/// Segments of one log that are cleaned together.
pub const CLEAN_SEGMENTS_MAX: usize = 16;
/// Blobs that are sorted and moved together, so that memory holds their numbers.
pub const CLEAN_BLOBS_MAX: u64 = 1 << 20;
/// Octets of one batch of survivors; one larger blob makes a larger batch.
pub const CLEAN_BATCH_OCTETS: usize = 1 << 20;
/// Share of a store that is free below which it is cleaned, in percent.
pub const CLEAN_FREE_PERCENT: u8 = 15;
/// Share of the time of its disk that cleaning takes while there is no hurry, in percent.
pub const CLEAN_SHARE_PERCENT: u8 = 20;
/// A commit that takes longer, in ms, makes cleaning pause.
pub const CLEAN_COMMIT_MS_MAX: u32 = 50;
/// Groups that may wait for a log; over it the caller is told to come back.
pub const APPENDS_WAITING_MAX: usize = 65_536;
/// Requests that may wait in one shard's inbox; over it the caller is told to come back.
pub const MESH_INBOX_MAX: usize = 65_536;

/// Failed logins of one POP3 session before it is closed (RFC 1939 §4 leaves it to the server).
pub const POP3_LOGINS_FAILED_MAX: u8 = 5;
/// Octets of one over-long POP3 line that are passed over before the session is closed.
pub const POP3_SKIP_OCTETS_MAX: usize = 64 << 10;
/// Octets of a LIST or UIDL that are written in one step.
pub const POP3_LISTING_OCTETS_TARGET: usize = 16 << 10;
/// Aliases that may lead to one another; a longer chain counts as a loop.
pub const ALIAS_DEPTH_MAX: usize = 16;
/// Octets of what a user who is away has answered.
pub const VACATION_TEXT_OCTETS_MAX: usize = 16 << 10;
/// Octets of its subject.
pub const VACATION_SUBJECT_OCTETS_MAX: usize = 255;
/// Days in which a sender is answered once, at most.
pub const VACATION_DAYS_MAX: u16 = 365;
/// Addresses of a user who is away that are not known here.
pub const VACATION_ADDRESSES_MAX: usize = 32;
/// Messages to users who are away that wait for somebody to look whether to answer, of a shard; over it
/// they are not answered.
pub const ARRIVALS_MAX: usize = 1_000;
/// Senders that an account has answered and that are remembered.
pub const ANSWERED_SENDERS_MAX: usize = 1_000;
/// The same of all accounts that share a page of a log, which is every 256th.
pub const ANSWERED_PAGE_MAX: usize = 4_000;
/// Octets of a header that are looked at for whether a program may answer it; a longer one has no answer.
pub const ANSWER_HEADER_OCTETS_MAX: usize = 64 << 10;
/// Recipients in a header who are looked at for whether one is the user who is away.
pub const ANSWER_RECIPIENTS_MAX: usize = 100;
/// Octets of a subject that an answer repeats.
pub const ANSWER_SUBJECT_OCTETS_MAX: usize = 255;
/// Octets of References in an answer, at most.
pub const ANSWER_REFERENCES_OCTETS_MAX: usize = 2_000;
/// Values of Delivered-To that are looked at for a circle: the newest of them, which stand on top.
pub const DELIVERED_TO_MAX: usize = 100;
/// Targets of one alias.
pub const ALIAS_TARGETS_MAX: usize = 1_000;
/// Addresses that one recipient may expand to, those in between counted.
pub const ALIAS_EXPANSION_MAX: usize = 10_000;
/// Changes of the directory that become durable together.
pub const DIRECTORY_CHANGES_MAX: usize = 1_000;
/// Rows of one page of a listing.
pub const DIRECTORY_ROWS_MAX: usize = 1_000;
/// Entries that are looked at for one page of a listing; the page may stay short of rows.
pub const DIRECTORY_SCAN_MAX: usize = 20_000;
/// Octets of what is stored of a password: its hash, and keys of SCRAM.
pub const PASSWORD_HASH_OCTETS_MAX: usize = 1_024;
/// Iterations that stored keys of SCRAM may ask for, of which each client has to do as many.
pub const SCRAM_ITERATIONS_MAX: u32 = 1_000_000;
/// Iterations that a server may ask of us where we log in at one: some 20 ms of a shard.
pub const SCRAM_ITERATIONS_SHOWN_MAX: u32 = 50_000;
/// Iterations of new keys (RFC 7677 §4 wants 4096 or more).
pub const SCRAM_ITERATIONS: u32 = 10_000;
/// Keys that a proof is tried with, be there so many or not; of who has more it can be measured that he
/// has.
pub const SCRAM_KEYS_TRIED_MIN: usize = 8;
/// Octets of the salt of stored keys.
pub const SCRAM_SALT_OCTETS_MAX: usize = 64;
/// Application passwords of one user.
pub const APP_PASSWORDS_MAX: usize = 64;
/// Octets of the name of one.
pub const APP_PASSWORD_NAME_OCTETS_MAX: usize = 64;
/// Users whose passwords wait to be hashed anew; over it the next login begins it again. A password
/// and what is kept of it are 2 KiB at most.
pub const REHASHES_WAITING_MAX: usize = 64;
/// Password checks that may wait for a thread; over it the client is told to come back.
pub const PASSWORD_CHECKS_WAITING_MAX: usize = 256;
/// Password checks of one account under way at once on one shard, a quarter of those that may wait:
/// a flood against one account does not take the threads from the others.
pub const PASSWORD_CHECKS_PER_ACCOUNT_MAX: usize = 64;
/// Checks of one login, whose user's record changes while they are under way; over it the client is
/// told to come back.
pub const PASSWORD_CHECKS_PER_LOGIN_MAX: usize = 3;
/// Those of them that come from one address (IPv6: one /64): who guesses does not keep out the owner.
pub const PASSWORD_CHECKS_PER_SITE_MAX: usize = 2;
/// Wrong passwords from one address that cost it nothing yet.
pub const LOGIN_FAILURES_FREE: u32 = 10;
/// The same from one network, IPv4 /24 or IPv6 /48.
pub const LOGIN_FAILURES_NETWORK_FREE: u32 = 100;
/// The same for one account from wherever its owner did not come lately.
pub const LOGIN_FAILURES_ACCOUNT_FREE: u32 = 50;
/// Wrong passwords beyond those that cost nothing that are counted; over it another one changes nothing.
pub const LOGIN_FAILURES_OVER_MAX: u32 = 10;
/// After which time one of them is forgotten.
pub const LOGIN_FAILURE_FORGOTTEN: Duration = Duration::from_secs(6);
/// Time between two checks for an address with one failure too many; doubles with each more.
pub const LOGIN_PAUSE_MIN: Duration = Duration::from_millis(100);
/// The longest such time.
pub const LOGIN_PAUSE_MAX: Duration = Duration::from_secs(5);
/// How long a login may take with all its pauses and checks; over it the client is told to come back.
pub const LOGIN_TIME_MAX: Duration = Duration::from_mins(1);
const _: () = assert!(LOGIN_TIME_MAX.as_secs() < SMTP_ANSWER_TIME_MAX.as_secs());
/// Longest wait for a check; who would have to wait longer is told to come back.
pub const LOGIN_WAIT_MAX: Duration = Duration::from_secs(15);
/// After which time one of a network's is forgotten.
pub const LOGIN_NETWORK_FAILURE_FORGOTTEN: Duration = Duration::from_secs(1);
/// The longest time between two checks of a network, of which others may be in it too.
pub const LOGIN_NETWORK_PAUSE_MAX: Duration = Duration::from_secs(1);
/// The longest time between two checks of an account.
pub const LOGIN_ACCOUNT_PAUSE_MAX: Duration = Duration::from_secs(2);
/// For how long an address from which the right password came is known as its owner's.
pub const LOGIN_OWNER_KNOWN: Duration = Duration::from_hours(7 * 24);
/// Checked credentials that one shard remembers.
pub const CREDENTIALS_REMEMBERED_MAX: usize = 16_384;

/// Octets of a local part that are taken. RFC 5321 §4.5.3.1.1 asks for 64 at least; the senders
/// of lists and bounces go beyond it, and refusing them loses mail.
pub const LOCAL_PART_OCTETS_TAKEN_MAX: usize = 255;
/// Octets of the argument of EHLO, HELO or LHLO (RFC 5321 §4.5.3.1.2, and an address literal).
pub const HELLO_OCTETS_MAX: usize = 255;
/// Octets of one reply line with CRLF (RFC 5321 §4.5.3.1.5).
pub const REPLY_LINE_OCTETS_MAX: usize = 512;
/// Characters of ENVID, encoded (RFC 3461 §4.4).
pub const ENVID_OCTETS_MAX: usize = 100;
/// Characters of ORCPT, encoded (RFC 3461 §4.2).
pub const ORCPT_OCTETS_MAX: usize = 500;
/// Digits of a SIZE value (RFC 1870 §4).
pub const SIZE_DIGITS_MAX: usize = 20;
/// Octets of one overlong command line that are skipped before the session is given up.
pub const SMTP_LINE_SKIPPED_OCTETS_MAX: u64 = 4 << 20;
/// Octets of one refused message that are read and dropped before the session is given up.
pub const SMTP_DROPPED_OCTETS_MAX: u64 = 1 << 30;
/// Octets of the trace fields that go on top of a message: names, an address and a date within
/// their limits.
pub const TRACE_OCTETS_MAX: usize = 4 << 10;
/// Characters of a trace line that are aimed at (RFC 5322 §2.1.1).
pub const TRACE_LINE_OCTETS_TARGET: usize = 78;
/// Octets of the ENVELOPE text in a summary; a longer one is made of the message when asked for.
pub const SUMMARY_ENVELOPE_OCTETS_MAX: usize = 16 << 10;
/// Octets of the BODYSTRUCTURE text in a summary; as with the ENVELOPE.
pub const SUMMARY_STRUCTURE_OCTETS_MAX: usize = 32 << 10;
/// Parts in the table of a summary; of more, none is kept.
pub const SUMMARY_PARTS_MAX: usize = 512;
/// Octets of a message that a summary can be made of: its offsets have 32 bits.
pub const MESSAGE_OCTETS_SUMMARY_MAX: u64 = 1 << 31;
/// Parts of one message that are told apart; the last one holds all that follows.
pub const MIME_PARTS_MAX: usize = 10_000;
/// Characters of a PREVIEW; RFC 8970 §3.1 allows 256.
pub const PREVIEW_CHARACTERS: usize = 200;
/// Octets of a body that are looked through for a preview.
pub const PREVIEW_OCTETS_READ_MAX: usize = 16 << 10;
/// Octets of one encoded word; RFC 2047 §2 allows 75, programs write more.
pub const ENCODED_WORD_OCTETS_MAX: usize = 1_024;
/// Octets of a Subject field that a base subject is made of.
pub const SUBJECT_OCTETS_READ_MAX: usize = 4 << 10;
/// Octets of a base subject that are compared; longer ones are cut.
pub const BASE_SUBJECT_OCTETS_MAX: usize = 512;
/// Message-IDs of one References field that are kept, the newest.
pub const REFERENCES_MAX: usize = 64;
/// Parameters of one MIME field that are looked at.
pub const MIME_PARAMS_MAX: usize = 256;
/// Octets of a References field that are looked at, the last.
pub const REFERENCES_OCTETS_READ_MAX: usize = 64 << 10;
/// Parts within parts within parts; what lies deeper is shown as one part.
pub const MIME_DEPTH_MAX: usize = 100;

/// Octets of a configuration file; anything larger is some other file.
pub const CONFIG_OCTETS_MAX: u64 = 1 << 20;
/// Shards of one process. More cores than that run more processes.
pub const SHARDS_MAX: u16 = 1_024;
/// Connections of the whole process; over it new ones are greeted with 421 or -ERR and closed.
pub const CONNECTIONS_MAX: u32 = 100_000;
/// Connections of one address (IPv6: one /64) to one shard, so that one client cannot take all. 0 is
/// no limit.
pub const CONNECTIONS_PER_ADDRESS_MAX: u32 = 1_000;
/// How long a shutdown waits for sessions to come to an end by themselves.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);
/// How long all of a command may take to come, from its first octet on, whatever the protocol. The
/// messages of APPEND are not counted, they have their least rate.
pub const COMMAND_TIME_MAX: Duration = Duration::from_mins(5);
/// Octets of one segment file.
pub const SEGMENT_OCTETS: u64 = 256 << 20;
/// Octets of message cache of one shard.
pub const CACHE_OCTETS: u64 = 256 << 20;
/// Octets of log after which a shard saves its state, so that a restart reads no more than that.
pub const CHECKPOINT_OCTETS: u64 = 512 << 20;
/// Time after which a shard saves what changed.
pub const CHECKPOINT_INTERVAL: Duration = Duration::from_mins(1);
/// Threads that compute password hashes, beside the shards.
pub const HASH_THREADS: u16 = 2;
/// Verified credentials that one shard remembers, so that a login costs no hash.
pub const AUTH_CACHE_ENTRIES: u32 = 100_000;
/// How long a verified credential is remembered.
pub const AUTH_CACHE_TTL: Duration = Duration::from_hours(1);
/// Octets of one HTTP request head to the admin port.
pub const ADMIN_REQUEST_OCTETS_MAX: usize = 8 << 10;
/// Fields of one HTTP request to the admin port.
pub const ADMIN_FIELDS_MAX: usize = 64;
/// HTTP connections to the admin port that one shard serves at once.
pub const ADMIN_CONNECTIONS_MAX: usize = 64;
/// Wait for an HTTP request to the admin port to begin, and for its reader.
pub const ADMIN_TIMEOUT: Duration = Duration::from_secs(15);
/// Wait for all of a request, over HTTP or the admin socket, from its first octet on.
pub const ADMIN_HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// Clients of the admin socket that are served at once.
pub const ADMIN_CLIENTS_MAX: usize = 16;
/// Octets of one request or answer of the admin socket; a directory listing is the largest.
pub const ADMIN_LINE_OCTETS_MAX: u64 = 256 << 20;
/// Wait for the other side of the admin socket.
pub const ADMIN_SOCKET_TIMEOUT: Duration = Duration::from_mins(1);
/// Time in which all of a store is read and checked once. A disk that loses what lies still does so over
/// months; backups are kept for weeks; and of a terabyte it takes 400 KiB a second.
pub const SCRUB_INTERVAL: Duration = Duration::from_hours(30 * 24);
/// Octets a second that are read while a segment has its turn.
pub const SCRUB_OCTETS_PER_SECOND: u64 = 8 << 20;
/// How often is looked whose turn it is.
pub const SCRUB_LOOK_MIN: Duration = Duration::from_millis(100);
pub const SCRUB_LOOK_MAX: Duration = Duration::from_mins(10);
/// Faults of one segment that the scrub tells one by one; all are counted.
pub const SCRUB_FAULTS_TOLD: usize = 20;
/// Octets a second that `store verify` reads beside a server, unless it is told otherwise.
pub const VERIFY_OCTETS_PER_SECOND: u64 = 32 << 20;
/// A server checks a segment within this time, and faster than it was told if need be: whoever asks waits.
pub const VERIFY_PART_MAX: Duration = Duration::from_secs(20);
/// How long a log keeps its segments for a backup that nobody is heard of.
pub const BACKUP_PIN_LEASE: Duration = Duration::from_mins(5);
/// Requests of the admin socket that may wait for a shard.
pub const ADMIN_WAITING_MAX: usize = 16;
/// Log events that may wait for the writer; over it events are dropped and counted.
pub const LOG_EVENTS_WAITING_MAX: usize = 65_536;
/// Octets of one value in a log event; longer ones are cut.
pub const LOG_VALUE_OCTETS_MAX: usize = 4_096;
/// Octets of one request to the admin socket; an alias with all its targets is the largest.
pub const ADMIN_ASK_OCTETS_MAX: u64 = 4 << 20;
/// Octets of a password; argon2 would take more, a peer should not make it.
pub const PASSWORD_OCTETS_MAX: usize = 1_024;

/// Rows of a mailbox that share one page of a checkpoint.
pub const MAILBOX_CHUNK_ROWS: usize = 256;
/// An account that needs no more octets than this has one page for all of it.
pub const ACCOUNT_PAGE_OCTETS: usize = 4 << 10;
/// Accounts that are looked at in one go, while all are looked through; one costs some 100 ns.
pub const LOOK_ACCOUNTS: usize = 4_096;
/// Accounts that the hand passes in one step, while it looks who may rest; one is packed in a few µs.
pub const REST_STEP_ACCOUNTS: usize = 16;
/// Accounts that one turn of the hand passes at most: some 20 ms of a second where none may rest.
pub const REST_TURN_ACCOUNTS: usize = 1 << 16;
/// Pages of a large account that one step packs, each of up to 256 messages.
pub const REST_STEP_PAGES: usize = 16;
/// Pages of an account at rest whose blobs are named in one go; some 50 µs of work.
pub const SHELVE_STEP_PAGES: usize = 64;
/// While there is room a turn of the hand passes this part of the accounts that are awake, to count
/// what they take.
pub const REST_TURN_PART: usize = 16;
/// Octets of the accounts that are awake, of the whole process, unless the operator says so.
pub const MAILBOX_OCTETS_MAX: usize = 1 << 30;
/// Between two turns of the hand.
pub const REST_PAUSE: Duration = Duration::from_secs(1);
/// Octets of a mailbox name.
pub const MAILBOX_NAME_OCTETS_MAX: usize = 1_024;
/// Keywords of one mailbox: the bits of a mask.
pub const KEYWORDS_MAX: usize = 64;
/// Combinations of keywords in one mailbox, the empty one counted in: 16 bits name one.
pub const KEYWORD_SETS_MAX: usize = 1 << 16;
/// Octets of one keyword.
pub const KEYWORD_OCTETS_MAX: usize = 255;
/// Runs of removed UIDs that a mailbox remembers, 16 octets each.
pub const VANISHED_RUNS_MAX: usize = 1 << 16;
/// The same that one mailbox is read with: releases before did not always keep to the bound.
pub const VANISHED_RUNS_READ_MAX: usize = 1 << 21;
/// Octets of events in one page of the history of an account; one larger event makes a larger page.
pub const HISTORY_CHUNK_OCTETS: usize = 16 << 10;
/// Octets of the history of an account: what undoes its changes, some 32 for each removed message.
/// Over it the oldest is forgotten.
pub const HISTORY_OCTETS_MAX: usize = 64 << 20;
/// Messages, or runs of them, in one event of a history.
pub const HISTORY_EVENT_ROWS: usize = 256;
/// Messages whose octets are let go with one commit while a history is forgotten.
pub const HISTORY_STEP_MESSAGES: usize = 4_096;
/// Mailboxes and subscriptions of one account. It remembers as many that were removed.
pub const MAILBOXES_MAX: usize = 16_384;
/// Levels of a mailbox name: enough for people, few enough for tools that walk them.
pub const MAILBOX_LEVELS_MAX: usize = 32;
/// Messages that one removal may name: 12 MiB of record, so that it still is one commit.
pub const EXPUNGE_MESSAGES_MAX: usize = 1 << 20;
/// Messages that go with one commit while a whole account is removed.
pub const ACCOUNT_DELETE_STEP_MESSAGES: usize = 4_096;
/// Messages that move in or out at once.
pub const MOVING_BATCH_MESSAGES_MAX: usize = 2_048;
/// Octets of several messages that move in or out at once; a single one may have more.
pub const MOVING_BATCH_OCTETS_MAX: u64 = 4 << 20;
/// UIDs and UIDVALIDITYs above are not taken over from other servers, so that there are always some
/// left to give.
pub const UIDS_KEPT_MAX: u32 = u32::MAX - (1 << 24);
/// Messages for other shards that one shard holds and has promised; over it 452 4.3.1.
pub const SPOOL_PENDING_MAX: usize = 65_536;
/// Entries of outgoing mail that one shard holds, unless the operator says so; over it 452 4.3.1.
pub const QUEUE_ENTRIES_MAX: usize = 10_000_000;
/// Recipients of one entry of outgoing mail; a message to more of one domain is several entries.
pub const QUEUE_ENTRY_RECIPIENTS_MAX: usize = 1_000;
/// Seconds that an attempt to deliver a message has, whatever the server does, until the end of the message
/// is out: each wait of RFC 5321 §4.5.3.2 is minutes long, and a thousand recipients would be days.
pub const QUEUE_ATTEMPT_MAX: u32 = 2 * 3_600;
/// And one second more for so many octets of the message.
pub const QUEUE_ATTEMPT_OCTETS: u32 = 4 << 10;
/// Seconds behind that within which an attempt has ended: the answer to a message has its own time, and so
/// has the log. What takes longer is a fault of ours.
pub const QUEUE_ATTEMPT_GRACE: u32 = 4 * 3_600;
/// Seconds for which an entry is put off when an attempt broke off by a fault of ours; doubles up to
/// [`QUEUE_BROKEN_PAUSE_MAX`] where the next ones do as well.
pub const QUEUE_BROKEN_PAUSE_MIN: u32 = 60;
/// Seconds between attempts that break off, at most: some fifteen in five days, which may each bring what
/// another server has taken.
pub const QUEUE_BROKEN_PAUSE_MAX: u32 = 86_400;
/// Attempts for one entry that broke off one behind the other, from which on no report reads its message.
pub const QUEUE_BROKEN_MAX: u32 = 3;
/// First wait before what became of a message is written again that the log did not take; doubles up to
/// [`QUEUE_RECORD_PAUSE_MAX`].
pub const QUEUE_RECORD_PAUSE_MIN: Duration = Duration::from_millis(100);
/// Longest wait before it is written again.
pub const QUEUE_RECORD_PAUSE_MAX: Duration = Duration::from_mins(1);
/// How long a look-up for a domain whose servers say nothing keeps its place where others want it; then it
/// goes on where such are asked.
pub const QUEUE_LOOK_UP_QUIET: Duration = Duration::from_millis(500);
/// How long a domain's mail waits whose servers could not be asked, for too many questions are under way.
pub const QUEUE_LOOK_UP_PAUSE: Duration = Duration::from_millis(100);
/// How long a domain's mail waits at most for a place at a site that has as many connections as it may
/// have; a worker of this shard that ends there calls it earlier.
pub const QUEUE_FULL_PAUSE: Duration = Duration::from_secs(1);
/// Messages that a domain sends over a connection before other domains of the site have their turn.
pub const QUEUE_TURN_MESSAGES: u32 = 20;
/// How long a connection waits for the domain whose turn it is.
pub const QUEUE_PARK_MAX: Duration = Duration::from_secs(2);
/// How long a site is left alone that said it has enough of us, or broke off; doubles from one time to the next
/// until it takes a message.
pub const QUEUE_CROWDED_PAUSE: Duration = Duration::from_secs(5);
/// How long mail waits, at most, before it is looked again whether an address may send it.
pub const QUEUE_SOURCES_PAUSE_MAX: Duration = Duration::from_mins(15);
/// Transactions that one attempt makes for recipients who were too many for the one before.
pub const QUEUE_TRANSACTIONS_MAX: usize = 64;
/// Octets of a message that is a small one: it has room even where large ones have all that they may have.
pub const QUEUE_SMALL_OCTETS: u64 = 64 << 10;
/// Which part of the room for messages large ones leave to others.
pub const QUEUE_MEMORY_LEFT: u64 = 8;
/// Reports that are made at once beside those of the connections.
pub const QUEUE_CONCLUSIONS_MAX: usize = 64;
/// Entries of the queue that are handled before others have their turn.
pub const QUEUE_EVENTS_SLICE: usize = 256;
/// Entries of the queue that are looked at for an operator before others have their turn.
pub const QUEUE_LOOK_SLICE: usize = 1_024;
/// Entries of the queue that one commit changes as an operator ordered.
pub const QUEUE_ORDER_SLICE: usize = 256;
/// Entries of the queue that one request of an operator's lists or changes; the next one goes on.
pub const QUEUE_PART_MAX: usize = 10_000;
/// The same while the server is stopped: each request opens the logs, and nobody else has to wait.
pub const QUEUE_PART_STOPPED_MAX: usize = 100_000;
/// Recipients in one answer that lists entries of the queue; the last entry is whole.
pub const QUEUE_PAGE_RECIPIENTS_MAX: usize = 50_000;
/// Messages on their way to one other shard at once.
pub const SPOOL_SENDS_MAX: usize = 16;
/// Octets of messages on their way to other shards at once; one larger message goes alone.
pub const SPOOL_SEND_OCTETS_MAX: u64 = 64 << 20;
/// First wait before a message is sent to its owner again; doubles up to
/// [`SPOOL_PAUSE_MAX`].
pub const SPOOL_PAUSE_MIN: Duration = Duration::from_millis(50);
/// Longest wait before a message is sent to its owner again.
pub const SPOOL_PAUSE_MAX: Duration = Duration::from_secs(30);

/// Hosts of one domain that are looked at, the best ones.
pub const MX_HOSTS_MAX: usize = 16;
/// Addresses of one host that a plan holds.
pub const MX_ADDRESSES_MAX: usize = 8;
/// Addresses that a plan holds.
pub const MX_HOPS_MAX: usize = 32;
/// Octets of one answer of a server, all its lines together; less than a receive block. Servers write
/// some hundreds, and those that point at pages about spam some thousands.
pub const ANSWER_OCTETS_MAX: usize = 32 << 10;
const _: () = assert!(ANSWER_OCTETS_MAX < RECEIVE_BLOCK_OCTETS);
/// Lines of one answer.
pub const ANSWER_LINES_MAX: usize = 512;
/// Octets of an answer's text that are kept: for the log, and for a report.
pub const SAID_OCTETS_MAX: usize = 512;
/// Octets of a command line with CRLF that every server takes (RFC 5321 §4.5.3.1.4).
pub const SMTP_LINE_OCTETS_OLD: usize = 512;
/// Commands of one transaction that wait for their answers at one time: what is written ahead is
/// bounded, and so is what a server writes back before anybody reads it (RFC 2920 §3.1).
pub const COMMANDS_IN_FLIGHT_MAX: usize = 128;
/// A message of so many octets goes with its envelope by BDAT (RFC 3030), before it is known whether
/// its recipients are taken: no more than what lies in the buffers of two kernels.
pub const CHUNK_AHEAD_OCTETS_MAX: u64 = 32 << 10;
/// Octets of a line of text with CRLF that DATA sends (RFC 5321 §4.5.3.1.6).
pub const TEXT_LINE_OCTETS_MAX: u32 = 1_000;
/// Octets of a message that are written in one go: what a server is given the time of one block for.
pub const MESSAGE_BLOCK_OCTETS: usize = 64 << 10;
/// How long a write waits for a server that takes nothing before what that has said is read: a server
/// that waits for us to read must not wait for ever.
pub const WRITE_STALL: Duration = Duration::from_secs(1);
/// How long the last words of a server that has hung up on us are waited for.
pub const LAST_WORDS_PATIENCE: Duration = Duration::from_secs(2);
