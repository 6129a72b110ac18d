//! The node floor.
