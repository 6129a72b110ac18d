//! Figures: what the client saw, what the server spent, and how both are shown.

pub(crate) mod http;
pub(crate) mod process;
pub(crate) mod report;
pub(crate) mod table;
pub(crate) mod tally;
pub(crate) mod tree;
