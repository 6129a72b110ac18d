//! The two things asked of the operating system that the standard library does not offer.

/// Raises the number of files this process may have open as far as it is allowed; returns it.
pub(crate) fn raise_open_files() -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the pointer is to a live rlimit of ours, which the call fills.
    #[expect(unsafe_code, reason = "limits of a process are reached through libc only")]
    let got = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) };
    if got != 0 {
        return 1_024;
    }
    let wanted = libc::rlimit { rlim_cur: limit.rlim_max, rlim_max: limit.rlim_max };
    // SAFETY: the pointer is to a live rlimit of ours, which the call only reads.
    #[expect(unsafe_code, reason = "limits of a process are reached through libc only")]
    let set = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const wanted) };
    if set == 0 { wanted.rlim_cur } else { limit.rlim_cur }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_limit_is_raised_to_what_is_allowed() {
        let limit = super::raise_open_files();
        assert!(limit > 0);
        assert_eq!(limit, super::raise_open_files());
    }
}
