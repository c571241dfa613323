//! What the fuzzers run, as functions of bytes: `tests/fuzz` calls them with what libFuzzer finds, `tests/fuzz.rs` with
//! seeded random bytes and with the corpus of what once was wrong.
//!
//! None of them may panic, and after each [`crate::golden::director::Director::check`] must hold.

pub mod choices;
pub mod frame;
pub mod frames;
pub mod ftp;
pub mod pipeline;
pub mod related;
pub mod sip;
pub mod sync;
