//! The mta floor.
