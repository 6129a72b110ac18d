//! What addresses have sent that are being warmed up, kept in a file: a restart forgets none of it.
//!
//! The file is written each half minute in which something was sent, and at the end. Whoever is killed
//! has at most that half minute's messages once more.

use super::shard::Plan;
use crate::probe::event::{Level, Value, event};
use crate::queue::warmup::Warming;
use std::fs;
use std::io;
use std::path::PathBuf;

fn path(plan: &Plan) -> PathBuf {
    plan.config.data_dir.join("warmup")
}

/// Takes over what an earlier life has written. To be called before any mail leaves.
pub(super) fn restore(plan: &Plan) {
    match fs::read_to_string(path(plan)) {
        Ok(text) => plan.sites.warming().restore(&text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => event(Level::Warn, "warmup_unreadable", &[("why", Value::Shown(&error))]),
    }
}

/// See the header.
pub(super) struct Kept {
    path: PathBuf,
    warming: Warming,
    /// What was written last.
    written: String,
}

impl Kept {
    pub(super) fn new(plan: &Plan) -> Kept {
        let warming = plan.sites.warming().clone();
        Kept { path: path(plan), warming, written: String::new() }
    }

    /// Writes what has changed.
    pub(super) fn save(&mut self) {
        let text = self.warming.lines();
        if text == self.written {
            return;
        }
        let fresh = self.path.with_extension("new");
        match fs::write(&fresh, &text).and_then(|()| fs::rename(&fresh, &self.path)) {
            Ok(()) => self.written = text,
            Err(error) => event(Level::Warn, "warmup_unwritten", &[("why", Value::Shown(&error))]),
        }
    }
}
