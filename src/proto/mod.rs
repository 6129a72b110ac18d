//! Protocol machines: octets in, replies and questions out, without I/O, clock or chance.
//!
//! The contract of every machine here:
//!   - `step(input, out)` advances by at most one thing and says how many octets it used; replies
//!     go to `out`, in order; what the caller has to do comes back as a `Step`
//!   - a step that asks is answered (each question names its call) before the next step
//!   - however the input is cut, the replies and the questions are the same
//!   - no input makes a machine panic, grow, or answer twice
//!
//! Illegal: to step a machine that waits for an answer.

pub mod pop3;
pub mod sasl;
pub mod smtp;
