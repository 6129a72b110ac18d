//! The mesh floor.
