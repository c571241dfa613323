//! Two files of the engine, the index of the connection table and the quiescence, compiled over loom's atomics, and the
//! models that run them.
//!
//! Not covered: the table around the index (entries, shards), which `dataplane/engine/tests/table_stress.rs` races on real
//! threads; overflow into more than one further bucket; more than three threads, or more involuntary switches between them
//! than each model says.

// The engine's files are used as they are; the models need a part of what they say.
#[allow(dead_code)]
mod connection;

mod memory {
    //! Lines of loom's atomics, in place of mapped memory.

    use std::sync::atomic::Ordering::Relaxed;

    use crate::sync::AtomicU64;

    /// As in the engine.
    #[derive(Debug)]
    pub struct Line(pub [AtomicU64; 8]);

    impl Line {
        /// A line of zeros.
        pub fn zeroed() -> Self {
            Self(std::array::from_fn(|_| AtomicU64::new(0)))
        }

        /// As in the engine, word by word: loom knows no other loads. But for word 0, which the index never asks of: each
        /// load makes more orders to try.
        pub fn high_halves_equal(&self, mask: u32, wanted: u32) -> u32 {
            let high = |word: &AtomicU64| word.load(Relaxed) >> 32 & u64::from(mask);
            let places = self.0.iter().enumerate().skip(1);
            places.fold(0, |found, (place, word)| {
                found | u32::from(high(word) == u64::from(wanted)) << place
            })
        }
    }
}

mod sync {
    //! The atomics of the models.

    pub(crate) use loom::sync::atomic::{AtomicU64, fence};
}

pub use connection::models;
