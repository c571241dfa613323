//! Huge pages for the length of a benchmark: reserved as root when there are too few, and given back.

use std::fs;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use thiserror::Error;

const POOL: &str = "/sys/kernel/mm/hugepages/hugepages-2048kB";
/// Bytes of the pages used.
pub const PAGE_BYTES: usize = 2 << 20;

/// Why there are no huge pages.
#[derive(Debug, Error)]
pub enum HugePageError {
    /// No such pages, or not root.
    #[error("cannot {action} {path}: {source}")]
    Pool {
        /// What was tried.
        action: &'static str,
        /// Where.
        path: String,
        /// Why not.
        source: io::Error,
    },
    /// Something else in the kernel's file than a number.
    #[error("{path} holds no number: {text}")]
    NoNumber {
        /// The file.
        path: String,
        /// What it holds.
        text: String,
    },
    /// The kernel found fewer.
    #[error("{wanted} huge pages of 2 MiB are needed and the kernel could give {given}")]
    TooFew {
        /// Pages asked for.
        wanted: u64,
        /// Pages there are.
        given: u64,
    },
}

/// Pages that all of this process's [`HugePages`] have added.
static ADDED: AtomicU64 = AtomicU64::new(0);

/// Takes away what was added, for a process that is about to end without dropping anything. Pages in use go when it ends.
pub fn give_back_all() {
    give_back(ADDED.swap(0, Ordering::Relaxed));
}

/// Pages that were added to the machine's; they are taken away again on drop.
#[derive(Debug)]
pub struct HugePages {
    added: u64,
}

impl HugePages {
    /// Sees to it that a mapping of so many bytes finds huge pages.
    ///
    /// # Errors
    /// [`HugePageError`]; the machine has as many pages as before.
    pub fn for_bytes(bytes: usize) -> Result<Self, HugePageError> {
        let wanted = bytes.div_ceil(PAGE_BYTES) as u64;
        // Pages that others have reserved but not touched yet are free, and not ours.
        let free = read("free_hugepages")?.saturating_sub(read("resv_hugepages")?);
        if free >= wanted {
            return Ok(Self { added: 0 });
        }
        let before = read("nr_hugepages")?;
        write("nr_hugepages", before + wanted - free)?;
        let pages = Self {
            added: read("nr_hugepages")?.saturating_sub(before),
        };
        ADDED.fetch_add(pages.added, Ordering::Relaxed);
        if pages.added < wanted - free {
            let given = free + pages.added;
            return Err(HugePageError::TooFew { wanted, given });
        }
        Ok(pages)
    }
}

impl Drop for HugePages {
    fn drop(&mut self) {
        let mut added = self.added;
        let all = ADDED.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |all| {
            // Given back with all others already.
            added = added.min(all);
            Some(all - added)
        });
        if all.is_ok() {
            give_back(added);
        }
    }
}

fn give_back(added: u64) {
    if added == 0 {
        return;
    }
    // Others may have changed the number meanwhile: exactly what was added goes.
    let given_back =
        read("nr_hugepages").and_then(|pages| write("nr_hugepages", pages.saturating_sub(added)));
    if let Err(error) = given_back {
        eprintln!("pollux-bench: {added} huge pages stay reserved: {error}");
    }
}

fn read(name: &str) -> Result<u64, HugePageError> {
    let path = format!("{POOL}/{name}");
    let text = fs::read_to_string(&path).map_err(|source| HugePageError::Pool {
        action: "read",
        path: path.clone(),
        source,
    })?;
    text.trim()
        .parse()
        .map_err(|_| HugePageError::NoNumber { path, text })
}

fn write(name: &str, pages: u64) -> Result<(), HugePageError> {
    let path = format!("{POOL}/{name}");
    fs::write(&path, pages.to_string()).map_err(|source| HugePageError::Pool {
        action: "write",
        path,
        source,
    })
}
