//! What the tests of Pollux share: the replay of a real kernel's traces, scenarios made up for it, and the lab of the
//! end-to-end tests.

pub mod differential;
pub mod fuzz;
pub mod golden;
pub mod lab;
pub mod sound;
