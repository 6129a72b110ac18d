//! The queue floor.
