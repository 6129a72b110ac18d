//! The probe floor.
