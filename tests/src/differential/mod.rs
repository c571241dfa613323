//! Differential fuzzing: scenarios made up from a seed, recorded from a real kernel, replayed against the engine.
//!
//! ```text
//! seed ─► generate ─► Plan ─► record.py in the lab ─► trace ─► golden::replay ─► differences ─► shrink
//!            │  ▲
//!            ▼  └── the engine says who got what, and when it ends
//!          world
//! ```
//!
//! The generator lets the engine live through the scenario as it makes it up: so servers answer what they got, ICMP errors
//! quote packets that were sent, and time passes only to moments at which the kernel's coarse timers leave no doubt.

pub mod configuration;
pub mod conversation;
pub mod ftp;
pub mod generate;
pub mod kinds;
pub mod lab;
pub mod pause;
pub mod plan;
pub mod related;
pub mod segment;
pub mod shrink;
pub mod world;
