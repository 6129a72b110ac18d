//! The real machine: glommio on io_uring.
