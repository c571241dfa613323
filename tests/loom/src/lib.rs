//! Two files of the engine, the index of the connection table and the quiescence, compiled over loom's atomics, and the
//! models that run them.
//!
//! Not covered: the table around the index (entries, shards), which `dataplane/engine/tests/table_stress.rs` races on real
//! threads; overflow into further buckets; more than three threads, or more than three involuntary switches between them.

// The engine's files are used as they are; the models need a part of what they say.
#[allow(dead_code)]
mod connection;

mod memory {
    //! Lines of loom's atomics, in place of mapped memory.

    use crate::sync::AtomicU64;

    /// As in the engine.
    #[derive(Debug)]
    pub struct Line(pub [AtomicU64; 8]);

    impl Line {
        /// A line of zeros.
        pub fn zeroed() -> Self {
            Self(std::array::from_fn(|_| AtomicU64::new(0)))
        }
    }
}

mod sync {
    //! The atomics of the models.

    pub(crate) use loom::sync::atomic::{AtomicU64, fence};
}

pub use connection::models;
