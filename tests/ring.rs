//! The real machine, trap by trap: each test shows one thing that glommio 0.9.0 gets wrong when
//! used as it comes, and that `env/ring` guards against.
//!
//! Real executors, real sockets on ports the kernel chooses, real files. A test that changes limits
//! of the process, or that ends it, runs in a process of its own ([`alone`]).
//! `POMBAL_STALL_SECONDS` says how long the reproducer of the lost run goes on (3 seconds).
#![expect(unsafe_code, reason = "limits, filters and mounts are bare system calls")]

#[cfg(test)]
#[path = "ring/traps_file.rs"]
mod traps_file;
#[cfg(test)]
#[path = "ring/traps_net.rs"]
mod traps_net;
#[cfg(test)]
#[path = "ring/traps_shard.rs"]
mod traps_shard;

use futures_lite::FutureExt as _;
use pombal::env::Env as _;
use pombal::env::ring::{Ring, Settings, start};
use pombal::model::time::Mono;
use std::future::Future;
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::process::{Command, ExitStatus};
use std::sync::mpsc::channel;
use std::time::Duration;

/// Far longer than anything here takes: what a hang is told by.
const PATIENCE: Duration = Duration::from_mins(1);

/// Runs `work` on one shard and returns what it returns.
#[cfg_attr(test, expect(clippy::panic, reason = "a hang is told by a panic"))]
fn on_shard<T, W, F>(work: W) -> T
where
    T: Send + 'static,
    W: Fn(Ring) -> F + Clone + Send + 'static,
    F: Future<Output = T> + 'static,
{
    let (sender, receiver) = channel();
    let shards = start(1, Settings::default(), move |ring| {
        let (work, sender) = (work.clone(), sender.clone());
        async move {
            // A panic of the shard itself would end the process, and the other tests with it.
            let result = AssertUnwindSafe(work(ring)).catch_unwind().await;
            sender.send(result).expect("the test waits");
        }
    });
    let shards = shards.expect("the machine has what a shard needs");
    let Ok(result) = receiver.recv_timeout(PATIENCE) else {
        // Their end would be waited for: without end.
        std::mem::forget(shards);
        panic!("the shard hangs");
    };
    shards.wait();
    result.unwrap_or_else(|panic| resume_unwind(panic))
}

fn soon(ring: &Ring) -> Mono {
    ring.now().after(PATIENCE)
}

/// Runs the named test again in a process of its own. True within that process; in the parent,
/// checks how it ended.
fn alone(name: &str, ended_well: impl Fn(ExitStatus) -> bool) -> bool {
    const MARK: &str = "POMBAL_RING_ALONE";
    if std::env::var_os(MARK).is_some_and(|value| value == name) {
        return true;
    }
    let output = Command::new(std::env::current_exe().expect("a test knows itself"))
        .args([name, "--exact", "--nocapture", "--test-threads=1"])
        .env(MARK, name)
        .output()
        .expect("the test can be started again");
    assert!(
        ended_well(output.status),
        "{name} ended with {}\n{}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    false
}

/// Sets a soft limit of this process, and the hard one where `hard`.
fn limit(resource: libc::__rlimit_resource_t, value: u64, hard: bool) {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a place for the answer that outlives the call.
    let got = unsafe { libc::getrlimit(resource, &raw mut limit) };
    assert_eq!(got, 0);
    limit.rlim_cur = value;
    if hard {
        limit.rlim_max = value;
    }
    // SAFETY: `limit` is read during the call only.
    let set = unsafe { libc::setrlimit(resource, &raw const limit) };
    assert_eq!(set, 0);
}
