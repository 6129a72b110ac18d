//! Signals: taken by one thread, handed on as calls.

#![expect(unsafe_code, reason = "signal masks are the kernel's interface")]

use std::io;
use std::mem::MaybeUninit;
use std::time::Duration;

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

/// Waits for the next signal, for so long at most. For a thread of its own.
pub(super) fn next(patience: Duration) -> io::Result<Option<Wish>> {
    let set = set_of_taken();
    let seconds = libc::time_t::try_from(patience.as_secs()).unwrap_or(libc::time_t::MAX);
    let time = libc::timespec { tv_sec: seconds, tv_nsec: patience.subsec_nanos().into() };
    // SAFETY: set and time are live locals; what else there is to know of the signal is not asked.
    let signal =
        unsafe { libc::sigtimedwait(&raw const set, std::ptr::null_mut(), &raw const time) };
    match signal {
        libc::SIGHUP => Ok(Some(Wish::Reload)),
        -1 => {
            let error = io::Error::last_os_error();
            let is_nothing = matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EINTR));
            if is_nothing { Ok(None) } else { Err(error) }
        }
        _ => Ok(Some(Wish::Stop)),
    }
}
