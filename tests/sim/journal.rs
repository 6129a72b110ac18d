//! What happened in a seed, and the first thing that went wrong.

use pombal::env::sim::SimEnv;
use std::cell::{Cell, RefCell};

pub(crate) struct Journal {
    lines: Option<RefCell<Vec<String>>>,
    wrong: RefCell<Option<String>>,
    life: Cell<u64>,
}

impl Journal {
    /// Keeps its lines, or the first thing that went wrong alone.
    pub(crate) fn new(keeps_lines: bool) -> Journal {
        let lines = keeps_lines.then(RefCell::default);
        Journal { lines, wrong: RefCell::default(), life: Cell::new(1) }
    }

    pub(crate) fn life(&self) -> u64 {
        self.life.get()
    }

    pub(crate) fn begin_life(&self, life: u64) {
        self.life.set(life);
    }

    /// Tells what happens, if anybody wants to know.
    pub(crate) fn note(&self, env: &SimEnv, what: impl FnOnce() -> String) {
        use pombal::env::Env as _;
        if let Some(lines) = &self.lines {
            let (life, now) = (self.life.get(), env.now().0);
            lines.borrow_mut().push(format!("life {life} {now:>12.3?}  {}", what()));
        }
    }

    pub(crate) fn take(&self) -> Vec<String> {
        self.lines.as_ref().map(RefCell::take).unwrap_or_default()
    }

    /// Notes what is wrong; the first counts.
    pub(crate) fn fail(&self, what: impl Into<String>) {
        let mut wrong = self.wrong.borrow_mut();
        if wrong.is_none() {
            *wrong = Some(format!("life {}: {}", self.life.get(), what.into()));
        }
    }

    /// The first thing that went wrong.
    pub(crate) fn verdict(&self) -> Result<(), String> {
        self.wrong.borrow().clone().map_or(Ok(()), Err)
    }
}
