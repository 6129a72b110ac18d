//! The mailbox floor.
