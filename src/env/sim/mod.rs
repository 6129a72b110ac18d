//! A machine made of a seed.
