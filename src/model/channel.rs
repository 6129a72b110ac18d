//! What is known of a connection beside where it comes from.

/// How a connection is protected. The default is one in clear.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Channel {
    /// Nobody on the way can read along or change anything.
    pub encrypted: bool,
    pub binding: Binding,
    /// Whose certificate the client has shown and proven: the name of a user. Only from those who
    /// sign for users here.
    pub certificate: Option<Box<str>>,
}

/// A connection in clear.
pub static CLEAR: Channel = Channel {
    encrypted: false,
    binding: Binding { exporter: None, end_point: None },
    certificate: None,
};

/// Names of this one TLS connection that both ends know and nobody between them can choose
/// (RFC 5056).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Binding {
    /// `tls-exporter` (RFC 9266 §2).
    pub exporter: Option<[u8; 32]>,
    /// `tls-server-end-point`: the hash of our certificate (RFC 5929 §4.1).
    pub end_point: Option<Box<[u8]>>,
}

impl Binding {
    /// Whether there is any.
    pub fn is_some(&self) -> bool {
        self.exporter.is_some() || self.end_point.is_some()
    }
}
