//! The auth floor.
