//! The atomics of what is model-checked: the crate `pollux-loom` compiles the same files with another module of this
//! name, whose atomics show every order in which threads may run.

pub(crate) use std::sync::atomic::{AtomicU64, fence};
