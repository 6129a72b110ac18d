//! Threads that look into folders and read messages ahead of the one that brings them in.
//!
//! Jobs are taken in the order in which they were given, so whoever waits for the oldest of them waits for
//! no other. A batch comes in parts of some octets, each only after the one before it was taken: a
//! source that was wrong about sizes makes no thread hold more.

use super::source::{Folder, Loaded, Named, OpenError, Source};
use crossbeam::channel::{Receiver, Sender, bounded, unbounded};
use std::io;
use std::sync::Arc;
use std::thread;

/// Octets of messages that make a part; one message more may be in it.
const PART_OCTETS_MAX: usize = 8 << 20;

/// What became known of a folder.
pub(super) struct Opened {
    pub(super) folder: Folder,
    /// What is odd about it.
    pub(super) odd: Vec<String>,
}

/// Messages of a batch, in order.
pub(super) struct Part {
    pub(super) loaded: Vec<Loaded>,
    /// With the last part: how it ended.
    pub(super) end: Option<Result<(), String>>,
}

enum Job<'a> {
    Open(&'a Named, Sender<Result<Opened, OpenError>>),
    Load(&'a Named, Arc<Folder>, Vec<u32>, Sender<Part>),
}

/// See the header.
pub(super) struct Pipeline<'a> {
    /// Whoever gives jobs keeps them few.
    jobs: Sender<Job<'a>>,
}

impl<'a> Pipeline<'a> {
    pub(super) fn open(&self, named: &'a Named) -> Receiver<Result<Opened, OpenError>> {
        let (answer, opened) = bounded(1);
        // Threads that are gone are noticed by who waits.
        drop(self.jobs.send(Job::Open(named, answer)));
        opened
    }

    pub(super) fn load(
        &self,
        named: &'a Named,
        folder: &Arc<Folder>,
        batch: Vec<u32>,
    ) -> Receiver<Part> {
        let (answer, parts) = bounded(1);
        drop(self.jobs.send(Job::Load(named, Arc::clone(folder), batch, answer)));
        parts
    }
}

/// Has `work` done with so many threads, which end with it.
pub(super) fn with_threads<'a, T, E: From<io::Error>>(
    source: &'a dyn Source,
    threads: usize,
    work: impl FnOnce(&Pipeline<'a>) -> Result<T, E>,
) -> Result<T, E> {
    thread::scope(|scope| {
        let (jobs, waiting) = unbounded();
        for _ in 0..threads {
            let waiting: Receiver<Job<'a>> = waiting.clone();
            thread::Builder::new().name("import".into()).spawn_scoped(scope, move || {
                for job in waiting {
                    run(source, job);
                }
            })?;
        }
        let done = work(&Pipeline { jobs });
        source.stop();
        done
    })
}

/// Nobody waits any more where the import failed: then what is sent is dropped.
fn run(source: &dyn Source, job: Job<'_>) {
    match job {
        Job::Open(named, answer) => {
            let mut odd = Vec::new();
            let folder = source.open(named, &mut |what| odd.push(what));
            drop(answer.send(folder.map(|folder| Opened { folder, odd })));
        }
        Job::Load(named, folder, batch, answer) => {
            let (mut loaded, mut octets, mut is_heard) = (Vec::new(), 0, true);
            let end = source.load(named, &folder, &batch, &mut |one| {
                octets += one.octets();
                loaded.push(one);
                if octets >= PART_OCTETS_MAX {
                    octets = 0;
                    let part = Part { loaded: std::mem::take(&mut loaded), end: None };
                    is_heard = answer.send(part).is_ok();
                }
                is_heard
            });
            drop(answer.send(Part { loaded, end: Some(end) }));
        }
    }
}
