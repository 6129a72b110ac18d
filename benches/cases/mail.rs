//! Messages to measure with.

/// A message of exactly `octets` octets, all lines of 78.
pub(crate) fn message(octets: usize) -> Vec<u8> {
    let mut out = b"From: a@b.example\r\nTo: c@local.example\r\nSubject: bench\r\n\r\n".to_vec();
    while out.len() < octets {
        let line = (octets - out.len()).min(78);
        out.resize(out.len() + line.saturating_sub(2), b'x');
        out.extend_from_slice(b"\r\n");
    }
    out.truncate(octets);
    out
}
