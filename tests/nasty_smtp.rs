//! Every hostile SMTP input of the corpus goes through the bare machine and gets an answer that
//! its `expect` allows; afterwards the session is in step, or closed.
//!
//! The corpus is not part of this repository; without it the test says so and passes.

#[cfg(test)]
#[path = "nasty/smtp.rs"]
mod case;

#[cfg(test)]
mod tests {
    use super::case::{Case, cases, codes, stored};
    use pombal::model::limits::MESSAGE_OCTETS_MAX;
    use pombal::proto::smtp::replay::Replay;

    #[test]
    fn answers_every_nasty_input_as_expected() {
        let Some(cases) = cases() else {
            println!("skipped: no corpus beside the repository");
            return;
        };
        let mut wrong = Vec::new();
        for case in &cases {
            for dsn in [true, false] {
                if let Err(why) = play(case, dsn) {
                    wrong.push(format!("{}: {why}; expected {}", case.id, case.expect));
                }
                if !case.is_dsn() {
                    break;
                }
            }
        }
        println!("{} cases", cases.len());
        assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    }

    fn play(case: &Case, dsn: bool) -> Result<(), String> {
        let mut replay = case.replay(MESSAGE_OCTETS_MAX, dsn);
        for line in case.opening() {
            replay.send(format!("{line}\r\n").as_bytes());
        }
        replay.take_said();
        for part in &case.sends {
            // As a socket would: in blocks.
            part.chunks(65_536).for_each(|block| replay.send(block));
            if replay.held_len() > 65_536 {
                return Err("holds more than one block".into());
            }
        }
        let mut got = codes(&replay.take_said());
        if let Some(end) = case.ending(&got) {
            replay.send(end);
            got = codes(&replay.take_said());
        }
        case.check_codes(&got, dsn)?;
        case.check_stored(&stored(&replay))?;
        if case.hangs_up() { Ok(()) } else { check_in_step(&got, &mut replay) }
    }

    /// A NOOP after the case gets its own reply, unless the case closed the session or left it in
    /// the middle of something.
    fn check_in_step(got: &[u16], replay: &mut Replay) -> Result<(), String> {
        if matches!(got.last(), Some(221 | 421)) {
            return if replay.is_closed() { Ok(()) } else { Err("still open".into()) };
        }
        replay.send(Case::way_back(got));
        replay.take_said();
        replay.send(b"NOOP\r\n");
        let after = codes(&replay.take_said());
        if after == [250] { Ok(()) } else { Err(format!("NOOP got {after:?}")) }
    }
}
