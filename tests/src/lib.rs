//! What the tests of Pollux share: the replay of a real kernel's traces, and the lab of the end-to-end tests.

pub mod fuzz;
pub mod golden;
pub mod lab;
pub mod sound;
