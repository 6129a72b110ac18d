//! The admin floor.
