//! What one client may use up, so that no client can take from another.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Clients connected at once. One more takes the place of the one that was idle longest.
pub const CLIENTS_MAX: usize = 256;

/// From the first byte of a request to its last.
pub const REQUEST_TIME_MAX: Duration = Duration::from_secs(10);

/// From the first byte of an answer to its last: a client that does not read is cut off. Long answers have [`answer_time_max`].
pub const ANSWER_TIME_MAX: Duration = Duration::from_secs(10);

/// Bytes that any client reads in a second, on a machine that does other things.
const READ_BYTES_PER_SECOND: usize = 1 << 20;

/// From the first byte of an answer of so many bytes to its last.
pub fn answer_time_max(bytes: usize) -> Duration {
    ANSWER_TIME_MAX + Duration::from_secs((bytes / READ_BYTES_PER_SECOND) as u64)
}

/// A request of the data plane: from sending to the last byte of its answer.
pub const DATAPLANE_TIME_MAX: Duration = Duration::from_secs(10);

/// A command waits this long at most for the commands before it.
pub const TURN_TIME_MAX: Duration = Duration::from_secs(30);

/// Requests up to this size are free; what is above comes out of the [`Budget`].
pub const SMALL_BYTES: usize = 64 << 10;

/// Large requests and answers of all clients together.
pub const BUDGET_BYTES: usize = 256 << 20;

/// Connections on one page: some milliseconds of the data plane's time.
pub const PAGE_CONNECTIONS_MAX: u32 = 10_000;

/// Bytes that clients share.
#[derive(Debug, Clone)]
pub struct Budget(Arc<AtomicUsize>);

/// Bytes taken from a [`Budget`]; given back when dropped.
#[derive(Debug)]
pub struct Share {
    left: Arc<AtomicUsize>,
    bytes: usize,
}

impl Budget {
    /// A budget of that many bytes.
    pub fn new(bytes: usize) -> Self {
        Self(Arc::new(AtomicUsize::new(bytes)))
    }

    /// A share of nothing yet.
    pub fn share(&self) -> Share {
        Share {
            left: Arc::clone(&self.0),
            bytes: 0,
        }
    }
}

impl Share {
    /// Makes the share cover a message of that size. False when the budget has not enough left: it is as before then.
    #[must_use]
    pub fn cover(&mut self, message_bytes: usize) -> bool {
        let wanted = message_bytes
            .saturating_sub(SMALL_BYTES)
            .saturating_sub(self.bytes);
        let taken = self
            .left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                left.checked_sub(wanted)
            });
        if taken.is_ok() {
            self.bytes = self.bytes.saturating_add(wanted);
        }
        taken.is_ok()
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.left.fetch_add(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_messages_are_free_and_large_ones_are_given_back() {
        let budget = Budget::new(100);
        let (mut one, mut two) = (budget.share(), budget.share());
        assert!(one.cover(SMALL_BYTES) && two.cover(SMALL_BYTES));
        assert!(one.cover(SMALL_BYTES + 60));
        assert!(one.cover(SMALL_BYTES + 70), "only the growth is taken");
        assert!(!two.cover(SMALL_BYTES + 31));
        assert!(two.cover(SMALL_BYTES + 30));
        drop(one);
        assert!(two.cover(SMALL_BYTES + 100));
    }
}
