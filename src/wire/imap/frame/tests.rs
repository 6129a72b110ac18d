//! How commands come out of a stream.

use super::*;
use expect_test::{Expect, expect};

/// Events, a line each, the same over all cuts.
#[track_caller]
#[expect(clippy::needless_pass_by_value, reason = "expect![] reads better as a value")]
fn check(input: &str, max: usize, want: Expect) {
    let whole = events_cut(input.as_bytes(), input.len(), max);
    for piece in 1..input.len() {
        assert_eq!(events_cut(input.as_bytes(), piece, max), whole, "pieces of {piece}");
    }
    want.assert_eq(&whole.join("\n"));
}

#[test]
fn takes_commands_off_one_by_one() {
    check(
        "a NOOP\r\nb NOOP\r\nc",
        99,
        expect![[r"
        a NOOP
        b NOOP"]],
    );
    check("\r\n", 99, expect![""]);
}

#[test]
fn gathers_literals_of_both_kinds() {
    check(
        "a LOGIN {1}\r\nu {3+}\r\np\r\n\r\nb NOOP\r\n",
        99,
        expect![[r"
        asks for 1 a LOGIN {1}\r\n
        a LOGIN {1}\r\nu {3+}\r\np\r\n
        b NOOP"]],
    );
    check("a SEARCH TEXT {0+}\r\n\r\n", 99, expect![[r"a SEARCH TEXT {0+}\r\n"]]);
}

#[test]
fn hands_messages_through() {
    check(
        "a APPEND {5+}\r\nINBOX (\\Seen) {3}\r\nabc\r\nb NOOP\r\n",
        99,
        expect![[r"
        message 3 asks a APPEND {5+}\r\nINBOX (\\Seen) {3}\r\n
        data abc
        end 
        b NOOP"]],
    );
    check(
        "a APPEND x {1+}\r\n\n ~{2+}\r\n\0b\r\n",
        99,
        expect![[r"
        message 1 a APPEND x {1+}\r\n
        data \n
        message 2  ~{2+}\r\n
        data \x00b
        end "]],
    );
    check(
        "a UID REPLACE 4 x UTF8 (~{2+}\r\nab)\r\n",
        99,
        expect![[r"
        message 2 a UID REPLACE 4 x UTF8 (~{2+}\r\n
        data ab
        end )"]],
    );
    check(
        "a APPEND x {9999999}\r\n",
        99,
        expect![[r"message 9999999 asks a APPEND x {9999999}\r\n"]],
    );
}

#[test]
fn passes_over_what_a_refused_message_brings() {
    check(
        "a APPEND x CATENATE (TEXT {3+}\r\na\r\n{4+}\r\nb\r\n{ {5}\r\nb NOOP\r\n",
        99,
        expect![[r"
        message 3 a APPEND x CATENATE (TEXT {3+}\r\n
        refused
        b NOOP"]],
    );
    check(
        "a APPEND x bad {3}\r\nb NOOP\r\n",
        99,
        expect![[r"
        message 3 asks a APPEND x bad {3}\r\n
        refused
        b NOOP"]],
    );
}

#[test]
fn stays_in_step_after_what_is_too_long() {
    check(
        "a NOOP xxxxxxxxxxxxxx\r\nb NOOP\r\n",
        16,
        expect![[r"
        bad TooLong a NOOP xxxxxxxxx
        b NOOP"]],
    );
    check(
        "a NOOP xxxxxxxxx {3+}\r\nb\r\n\r\nb NOOP\r\n",
        16,
        expect![[r"
        bad TooLong a NOOP xxxxxxxxx
        b NOOP"]],
    );
    check(
        "a LOGIN {20}\r\nb LOGIN {20+}\r\nxxxxxxxxxxxxxxxxxxx\n x\r\nc NOOP\r\n",
        20,
        expect![[r"
        bad LiteralTooLong a LOGIN {20}\r\n
        bad LiteralTooLong b LOGIN {20+}\r\n
        c NOOP"]],
    );
}

#[test]
fn refuses_what_there_is_no_room_for_and_stays_in_step() {
    let commands = ["a NOOP ".to_owned() + &"x".repeat(40), "b LOGIN {60}\r\n".to_owned()];
    for (command, rest) in commands.iter().zip(["y\r\n", &("z".repeat(60) + " {3+}\r\nb\r\n\r\n")])
    {
        let mut framer = Framer::new(1_000);
        assert!(matches!(framer.step(command.as_bytes()).1, Event::More | Event::Literal { .. }));
        framer.accept();
        assert!(framer.held_with(1_000) >= 1_000);
        framer.set_room(command.len());
        let (more, rest) = rest.as_bytes().split_at(1);
        let (used, event) = framer.step(more);
        assert_eq!(used, 1);
        assert!(matches!(event, Event::Bad { head, fault: Fault::NoRoom }
            if head == [command.as_bytes(), more].concat()));
        assert_eq!(framer.held_with(0), 0);
        let rest = [rest, b"c NOOP\r\n"].concat();
        let (used, event) = framer.step(&rest);
        assert_eq!((used, event), (rest.len(), Event::Command(b"c NOOP")));
    }
}

#[test]
fn gives_up_where_nothing_leads_back() {
    check(
        &format!("a NOOP {}\r\nb NOOP\r\n", "x".repeat(60)),
        16,
        expect![[r"
        bad TooLong a NOOP xxxxxxxxx
        lost"]],
    );
    check(
        "a X {99999999999999999999+}\r\nabc",
        99,
        expect![[r"
        bad LiteralTooLong a X {99999999999999999999+}\r\n
        lost"]],
    );
}

#[test]
fn reads_nothing_behind_a_lone_line_feed() {
    check(
        "a NOOP\nb NOOP\r\nc NOOP\r\n",
        99,
        expect![[r"
        bad BareLineFeed a NOOP\n
        c NOOP"]],
    );
    check("a NOOP\rb NOOP\r\n", 99, expect![[r"a NOOP\rb NOOP"]]);
}

#[test]
fn takes_what_only_looks_like_a_literal_as_text() {
    for text in ["a {-1}", "a {1++}", "a { 1}", "a {1", "a {}", "a {0x1}", "a 1}", "a {+}"] {
        assert_eq!(Literal::at_end(text.as_bytes()), None, "{text}");
    }
    let literal = Literal { octets: 1, synchronising: false, binary: true };
    assert_eq!(Literal::at_end(b"a ~{0001+}"), Some(literal));
}

#[test]
fn bounds_what_comes_unasked_where_told() {
    let mut framer = Framer::new(99);
    framer.set_unasked_octets_max(4);
    let (used, event) = framer.step(b"a X {5+}\r\n12345\r\n");
    assert!(matches!(event, Event::Bad { fault: Fault::LiteralTooLong, .. }));
    assert_eq!(framer.step(&b"a X {5+}\r\n12345\r\nb\r\n"[used..]).1, Event::Command(b"b"));
}

#[test]
fn hands_out_lines_that_are_no_commands() {
    let mut framer = Framer::new(16);
    assert_eq!(framer.step_line(b"AAA{3+}\r\nx"), (9, Event::Command(b"AAA{3+}")));
    assert_eq!(framer.step_line(b"DO"), (2, Event::More));
    assert_eq!(framer.step_line(b"NE\r\n"), (4, Event::Command(b"DONE")));
    let (used, event) = framer.step_line(b"0123456789abcdefgh\r\nDONE\r\n");
    assert_eq!(
        (used, event),
        (20, Event::Bad { head: b"0123456789abcdef", fault: Fault::TooLong })
    );
    assert_eq!(framer.step_line(b"DONE\r\n"), (6, Event::Command(b"DONE")));
}

#[test]
fn is_independent_of_segmentation() {
    const PIECES: [&str; 16] = [
        "a ",
        "APPEND x ",
        "{3}",
        "{2+}",
        "~{1+}",
        "{0+}",
        "{20+}",
        "\r\n",
        "\r\n",
        "\r",
        "\n",
        "b",
        "xyz",
        " ",
        "LOGIN ",
        "REPLACE 1 y ",
    ];
    arbtest::arbtest(|u| {
        let mut data = vec![u.int_in_range(0..=60)?];
        for _ in 0..u.int_in_range(0..=24)? {
            data.extend_from_slice(u.choose(&PIECES)?.as_bytes());
        }
        fuzz_frame(&data);
        Ok(())
    });
}
