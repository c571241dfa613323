//! Second stage: the hash picks a bucket, the bucket an entry; each is asked for before the next frame's turn.

use super::meta::Meta;
use crate::connection::ConnectionTable;

/// Hashes the flow and asks for its bucket.
#[inline]
pub(super) fn start(table: &ConnectionTable, meta: &mut Meta) {
    if meta.kind.has_flow() {
        meta.hash = table.hash(&meta.key);
        table.prefetch(meta.hash);
    }
}

/// Reads the bucket and asks for the entry.
#[inline]
pub(super) fn narrow(table: &ConnectionTable, meta: &mut Meta) {
    if meta.kind.has_flow() {
        meta.candidate = table.candidate(meta.hash, meta.key.family);
    }
}
