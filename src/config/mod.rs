//! The config floor.
