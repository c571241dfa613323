//! What the tests of Pollux share: the replay of a real kernel's traces.

pub mod fuzz;
pub mod golden;
pub mod sound;
