//! The directory floor.
