//! A realistic server that receives mail: what a relay is measured and tested against.
//!
//! ```text
//!   profile ─▸ sites, domains, rules
//!   listeners ─▸ connection ─▸ session ─▸ desk (counts, events) ─▸ keeper ─▸ journal, report
//! ```
//!
//! It listens at many addresses of loopback, each with manners of its own, looks at everything
//! it gets, and knows which of its answers were heard. It stops by itself where a count or a
//! time is given.

mod address;
pub(crate) mod body;
mod command;
mod connection;
pub(crate) mod desk;
mod encryption;
pub(crate) mod journal;
pub(crate) mod keeper;
mod listening;
pub(crate) mod options;
pub(crate) mod profile;
pub(crate) mod report;
pub(crate) mod rule;
mod session;
mod shared;
#[cfg(test)]
mod tests;

use std::io::Write as _;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

use crate::run::runtime;
use crate::values::Instant;
use journal::Writer;
use keeper::Keeper;
pub(crate) use listening::{Running, Settings};
use options::SinkOptions;
use profile::{Profile, Section};
use report::SinkReport;

/// Runs the command. `Ok(false)` when something came that should not have come.
pub(crate) fn run(options: &SinkOptions, open_files: u64) -> Result<(String, bool), String> {
    let mut written = options.behaviour.written()?;
    if !options.listen.is_empty() {
        written.sites.push(Section { listen: options.listen.clone(), ..Section::default() });
    }
    let profile = Profile::new(&written)?;
    let journal = options.journal.as_deref().map(Writer::create).transpose()?;
    let mut settings = Settings::new(profile, &options.behaviour)?;
    (settings.count, settings.linger) = (options.count, options.linger);
    let running = Running::start(settings, open_files)?;
    running.announce();
    let (sites, quiet) = (running.sites(), options.output.quiet);
    let mut keeper = Keeper::new(journal);
    std::thread::scope(|scope| {
        let keeper = &mut keeper;
        let (running, batches) = running.split();
        let keeping = scope.spawn(move || keep(keeper, &batches, quiet));
        wait(&running, options.duration)?;
        running.stop();
        running.join();
        keeping.join().map_err(|_| "the thread that keeps the figures died".to_owned())
    })?;
    let report = SinkReport::new(&keeper, &sites);
    let good = report.is_good() || options.allow_errors;
    Ok((report.show(options.output.json), good))
}

/// Until it is to end: the time is over, the count is reached, or somebody asks for it.
fn wait(running: &Running, duration: Option<Duration>) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("signals: {error}");
    runtime().block_on(async {
        let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
        let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
        let over = async {
            match duration {
                Some(duration) => tokio::time::sleep(duration).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            () = over => {}
            () = running.stopped() => {}
        }
        Ok(())
    })
}

/// Takes what comes, and says each second what it was.
fn keep(keeper: &mut Keeper, batches: &std::sync::mpsc::Receiver<desk::Batch>, quiet: bool) {
    if quiet {
        return keeper.take_all(batches);
    }
    let (began, mut shown, mut before) = (Instant::now(), 0, 0);
    for batch in batches {
        keeper.take(&batch, |_| {});
        let passed = began.elapsed().as_secs();
        if passed > shown {
            let messages = keeper.counts.messages;
            let line = format!(
                "{passed:>5} s  {:>9} taken  connections {}  all {messages}\n",
                messages - before,
                keeper.counts.connections,
            );
            // Nobody may be looking any more.
            std::io::stderr().write_all(line.as_bytes()).ok();
            (shown, before) = (passed, messages);
        }
    }
}
