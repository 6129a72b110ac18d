//! What sessions of IMAP hold together has one bound: beyond it a command, or COMPRESS, is refused,
//! and everybody else is served.

use crate::harness::Server;
use crate::imap::Imap;
use std::io::Write as _;
use std::sync::mpsc::channel;

/// 4 MiB on each shard.
const MEMORY: &str = "[limits]\nconnections_per_address = 0\ncommand_memory = \"8M\"\n";
const COUNT: usize = 40;
/// Octets of each command; with a vector that grows by doubling, a shard has room for one or two.
const LONG: usize = 1_900_000;
/// Of two shards, each of which is full with two.
const REFUSED_MIN: usize = COUNT - 4;

#[test]
fn unfinished_commands_have_one_bound_together() {
    let mut server = Server::with_users(MEMORY, &["long", "next"]);
    Imap::login(&server, "next").unwrap().ok("SELECT INBOX").unwrap();
    let before = server.memory_kib("VmHWM");
    let sessions: Vec<Imap> = (0..COUNT).map(|_| Imap::login(&server, "long").unwrap()).collect();
    let mut writers: Vec<_> = sessions.iter().map(|imap| imap.link.writer()).collect();
    std::thread::scope(|scope| {
        let (tell, answers) = channel();
        let read = |mut imap: Imap| {
            let tell = tell.clone();
            scope.spawn(move || {
                tell.send(imap.answer("a").unwrap().pop().unwrap()).unwrap();
                imap
            })
        };
        let readers: Vec<_> = sessions.into_iter().map(read).collect();
        let half = [b"a LIST \"\" {1900000+}\r\n".as_slice(), &vec![b'x'; LONG - 1]].concat();
        for writer in &mut writers {
            writer.write_all(&half).unwrap();
        }
        for _ in 0..REFUSED_MIN {
            let answer = answers.recv().unwrap();
            assert!(answer.starts_with("NO [LIMIT]"), "{answer}");
        }
        let grown = server.memory_kib("VmHWM").saturating_sub(before);
        // Without the bound, 75 MiB and more.
        assert!(grown < 32 << 10, "{grown} KiB more");
        Imap::login(&server, "next").unwrap().ok("SELECT INBOX").unwrap();
        for writer in &mut writers {
            writer.write_all(b"x\r\n").unwrap();
        }
        let held = answers.iter().take(COUNT - REFUSED_MIN);
        let held = held.filter(|answer| !answer.starts_with("NO [LIMIT]")).count();
        assert!(held > 0, "nobody was served");
        for reader in readers {
            // What was refused was passed over to its end.
            reader.join().unwrap().ok("NOOP").unwrap();
        }
    });
    // The room is there again.
    let mut imap = Imap::login(&server, "long").unwrap();
    let answer = imap.command(&format!("LIST \"\" {{{LONG}+}}\r\n{}", "x".repeat(LONG))).unwrap();
    assert!(!answer.concat().contains("[LIMIT]"), "{answer:?}");
    server.stop();
}

#[test]
fn compression_takes_half_of_the_room_at_most() {
    let mut server = Server::with_users(MEMORY, &["a", "b"]);
    let mut sessions: Vec<Imap> = Vec::new();
    let mut squeezed = 0;
    for number in 0..COUNT {
        let mut imap = Imap::login(&server, ["a", "b"][number % 2]).unwrap();
        let answer = imap.command("COMPRESS DEFLATE").unwrap().pop().unwrap();
        if answer.starts_with("OK") {
            squeezed += 1;
        } else {
            assert!(answer.starts_with("NO [LIMIT]"), "{answer}");
            imap.ok("SELECT INBOX").unwrap();
        }
        sessions.push(imap);
    }
    // Half of 4 MiB in parts of 384 KiB, on one shard or two.
    assert!([5, 10].contains(&squeezed), "{squeezed}");
    let mut imap = Imap::login(&server, "a").unwrap();
    let long = "x".repeat(LONG / 2);
    let answer = imap.command(&format!("LIST \"\" {{{}+}}\r\n{long}", long.len())).unwrap();
    assert!(!answer.concat().contains("[LIMIT]"), "{answer:?}");
    server.stop();
}
