//! Signals: taken by one thread, handed on as calls.

#![expect(unsafe_code, reason = "signal masks are the kernel's interface")]

use std::io;
use std::mem::MaybeUninit;

/// What the operator, or the service manager, wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// SIGTERM, SIGINT: bring everything to an end.
    Stop,
    /// SIGHUP: read the configuration again.
    Reload,
}

const TAKEN: [libc::c_int; 3] = [libc::SIGTERM, libc::SIGINT, libc::SIGHUP];

fn set_of_taken() -> libc::sigset_t {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigemptyset initialises the set it is given.
    unsafe { libc::sigemptyset(set.as_mut_ptr()) };
    // SAFETY: the set was initialised by the call above.
    let mut set = unsafe { set.assume_init() };
    for signal in TAKEN {
        // SAFETY: the set is a live local and the number is a signal's.
        unsafe { libc::sigaddset(&raw mut set, signal) };
    }
    set
}

/// Blocks the signals for this thread and all that it starts. Before any thread is started.
pub(super) fn block() -> io::Result<()> {
    let set = set_of_taken();
    // SAFETY: the set is a live local; the old mask is not asked for.
    let failed =
        unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) };
    if failed == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(failed)) }
}

/// Waits for the next signal. For a thread of its own.
pub(super) fn next() -> io::Result<Wish> {
    let set = set_of_taken();
    let mut signal = 0;
    // SAFETY: both are live locals.
    let failed = unsafe { libc::sigwait(&raw const set, &raw mut signal) };
    match (failed, signal) {
        (0, libc::SIGHUP) => Ok(Wish::Reload),
        (0, _) => Ok(Wish::Stop),
        (error, _) => Err(io::Error::from_raw_os_error(error)),
    }
}
