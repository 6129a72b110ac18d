//! Octets in memory: where they are received, how they go out, how they are hashed and coded.

pub mod buffer;
pub mod chain;
pub mod codec;
pub mod columns;
pub mod hash;
pub mod runs;
