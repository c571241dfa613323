//! Where the connection table's memory comes from: a file in memory that outlives the process, on hugetlbfs when huge
//! pages are used and a mount is there, else on tmpfs.
//!
//! The run directory is used when it is on tmpfs, as `/run` is on most systems; otherwise `/dev/shm`. The file is named
//! after the file prefix, so that several data planes do not meet.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use pollux_engine::Tick;
use pollux_engine::connection::{ConnectionTable, TableError, TableSize};
use pollux_engine::memory::{LINE_BYTES, Memory};
use rustix::fs::{FallocateFlags, fallocate, statfs};
use rustix::io::Errno;
use thiserror::Error;

const TMPFS_MAGIC: u64 = 0x0102_1994;
const HUGETLBFS_MAGIC: u64 = 0x9584_58f6;
const SHARED_MEMORY: &str = "/dev/shm";
const HUGE_PAGE_BYTES: u64 = 2 << 20;
/// What of a table says what table it is.
const HEADER_LINES: usize = 2;
const HEADER_BYTES: u64 = (HEADER_LINES * LINE_BYTES) as u64;

/// Why there is no table.
#[derive(Debug, Error)]
pub enum TableFileError {
    /// The file system or the machine's memory.
    #[error("cannot {action} {path}: {source}", path = .path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// More connections than the file system has room for.
    #[error(
        "a table of {connections} connections needs {needed_mib} MiB and {path} has {free_mib} MiB free: set \
         `connections` lower, or {mend}",
        path = .path.display()
    )]
    NoRoom {
        /// What the settings say.
        connections: u32,
        /// What they need.
        needed_mib: u64,
        /// Where.
        path: PathBuf,
        /// What is there.
        free_mib: u64,
        /// What else would help.
        mend: &'static str,
    },
    /// Another process has the file.
    #[error(
        "another data plane uses the connection table {path}: stop it, or give this one a file prefix of its own with \
         --file-prefix",
        path = .0.display()
    )]
    InUse(PathBuf),
    /// The file is another table.
    #[error("{path}: {source}", path = .path.display())]
    Table {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: TableError,
    },
}

/// Where the table of a data plane lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableFile {
    path: PathBuf,
    huge_pages: bool,
}

fn file_system(path: &Path) -> Option<u64> {
    statfs(path)
        .ok()
        .map(|found| u64::try_from(found.f_type).unwrap_or(0))
}

impl TableFile {
    /// The place for these settings; the run directory exists.
    pub fn locate(run_directory: &Path, file_prefix: &str, huge_pages: bool) -> Self {
        let name = format!("{file_prefix}-connections");
        if huge_pages {
            let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
            let mount = mounts.lines().find_map(|line| {
                let mut words = line.split(' ').skip(1);
                let (directory, kind) = (words.next()?, words.next()?);
                let is_huge = kind == "hugetlbfs" && !words.next()?.contains("pagesize=1024M");
                is_huge.then(|| Path::new(directory).to_owned())
            });
            match mount {
                Some(mount) if file_system(&mount) == Some(HUGETLBFS_MAGIC) => {
                    return Self {
                        path: mount.join(name),
                        huge_pages: true,
                    };
                }
                _ => log::warn!(
                    "no hugetlbfs mount for the connection table, it uses normal pages; for huge ones: mount -t \
                     hugetlbfs nodev /dev/hugepages"
                ),
            }
        }
        let directory = if file_system(run_directory) == Some(TMPFS_MAGIC) {
            run_directory
        } else {
            Path::new(SHARED_MEMORY)
        };
        Self {
            path: directory.join(name),
            huge_pages: false,
        }
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens the table: the one a data plane that died has left, or a new one. Other data planes are kept off by a lock
    /// on the file, which its mapping keeps (`mmap(2)` holds the open file, and `flock(2)` goes with that) until the
    /// table is dropped or the process ends.
    ///
    /// # Errors
    /// [`TableFileError`]; a table that is there is left as it is, and none is left where none was.
    pub fn open(
        &self,
        size: TableSize,
        workers: usize,
        now: Tick,
    ) -> Result<ConnectionTable, TableFileError> {
        let mut options = OpenOptions::new();
        options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600);
        let opened = options.open(&self.path);
        let file = opened.map_err(self.failed("open the connection table"))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(TableFileError::InUse(self.path.clone())),
            Err(TryLockError::Error(error)) => {
                return Err(self.failed("lock the connection table")(error));
            }
        }
        match self.take_up(&file, size, workers, now)? {
            Some(table) => Ok(table),
            None => self.create(&file, size, workers).inspect_err(|_| {
                // It is this process's own, and empty: the next start is not to stumble over it.
                let _ = fs::remove_file(&self.path);
            }),
        }
    }

    /// The table that is in the file; none when the file is new, or its making was interrupted.
    fn take_up(
        &self,
        file: &File,
        size: TableSize,
        workers: usize,
        now: Tick,
    ) -> Result<Option<ConnectionTable>, TableFileError> {
        let metadata = file.metadata();
        let found = metadata
            .map_err(self.failed("look at the connection table"))?
            .len();
        if found < HEADER_BYTES {
            return Ok(None);
        }
        // A file that is shorter than these settings need is mapped as far as its header: the table says what it is.
        let whole = found >= size.bytes() as u64;
        let memory = self.map(file, if whole { size.lines() } else { HEADER_LINES })?;
        if ConnectionTable::is_blank(&memory) {
            return Ok(None);
        }
        let attached = ConnectionTable::attach(memory, size, workers, now);
        attached.map(Some).map_err(|source| self.of_table(source))
    }

    fn create(
        &self,
        file: &File,
        size: TableSize,
        workers: usize,
    ) -> Result<ConnectionTable, TableFileError> {
        let bytes = (size.bytes() as u64).next_multiple_of(HUGE_PAGE_BYTES);
        // tmpfs may promise more than there is, and taking that would have the kernel kill something.
        if !self.huge_pages && available_memory().is_some_and(|available| bytes > available) {
            return Err(self.no_room(size));
        }
        // All of it now: a data plane that ran out of memory while it forwards would be killed.
        match fallocate(file, FallocateFlags::empty(), 0, bytes) {
            Ok(()) => {}
            Err(Errno::NOSPC | Errno::NOMEM) => return Err(self.no_room(size)),
            Err(error) => {
                return Err(self.failed("make room for the connection table in")(
                    error.into(),
                ));
            }
        }
        let memory = self.map(file, size.lines())?;
        let seed = random_seed().map_err(self.failed("read random bytes for"))?;
        let created = ConnectionTable::create(memory, size, workers, seed);
        created.map_err(|source| self.of_table(source))
    }

    fn map(&self, file: &File, lines: usize) -> Result<Memory, TableFileError> {
        let mapped = Memory::file(file, lines, self.huge_pages);
        mapped.map_err(self.failed("map the connection table"))
    }

    fn failed(&self, action: &'static str) -> impl FnOnce(io::Error) -> TableFileError {
        let path = self.path.clone();
        move |source| TableFileError::Io {
            action,
            path,
            source,
        }
    }

    fn of_table(&self, source: TableError) -> TableFileError {
        TableFileError::Table {
            path: self.path.clone(),
            source,
        }
    }

    fn no_room(&self, size: TableSize) -> TableFileError {
        let directory = self.path.parent().unwrap_or(Path::new("/"));
        let free = statfs(directory).map_or(0, |found| {
            found
                .f_bavail
                .saturating_mul(u64::try_from(found.f_bsize).unwrap_or(1))
        });
        let free = match available_memory() {
            Some(available) if !self.huge_pages => free.min(available),
            _ => free,
        };
        let mend = if self.huge_pages {
            "reserve more huge pages (/sys/kernel/mm/hugepages) or set huge_pages = \"never\""
        } else {
            "give the machine more memory"
        };
        TableFileError::NoRoom {
            connections: size.connections(),
            needed_mib: (size.bytes() as u64) >> 20,
            path: directory.to_owned(),
            free_mib: free >> 20,
            mend,
        }
    }
}

/// Bytes the kernel could give without swapping (`MemAvailable`).
fn available_memory() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kibibytes: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kibibytes << 10)
}

fn random_seed() -> io::Result<[u64; 6]> {
    use std::io::Read;
    let mut bytes = [0u8; 48];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    let (words, _) = bytes.as_chunks::<8>();
    let mut seed = [0; 6];
    seed.iter_mut()
        .zip(words)
        .for_each(|(to, from)| *to = u64::from_ne_bytes(*from));
    Ok(seed)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Tick = Tick(1000);

    fn size() -> TableSize {
        TableSize::for_connections(TableSize::CONNECTIONS_MIN)
    }

    #[test]
    fn the_memory_that_is_made_ready_is_what_a_table_takes() {
        for connections in [1024, 1025, 10_000, 1_000_000, 10_000_001, 1 << 30] {
            let bytes = TableSize::for_connections(connections).bytes() as u64;
            let mebibytes = pollux_api::memory::table_mib(connections);
            let taken = bytes.next_multiple_of(HUGE_PAGE_BYTES);
            assert_eq!(mebibytes, taken >> 20, "{connections}");
        }
    }

    /// A table file in /dev/shm, named after the test.
    struct Place(TableFile);

    impl Place {
        fn new(name: &str) -> Self {
            let prefix = format!("pollux-test-{}-{name}", std::process::id());
            Self(TableFile::locate(Path::new("/dev/shm"), &prefix, false))
        }

        fn refusal(&self, size: TableSize) -> String {
            let refusal = self
                .0
                .open(size, 1, NOW)
                .map(|_| ())
                .unwrap_err()
                .to_string();
            assert!(refusal.contains("/dev/shm"), "{refusal}");
            refusal
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            let _ = fs::remove_file(self.0.path());
        }
    }

    #[test]
    fn one_data_plane_at_a_time() {
        let place = Place::new("one");
        let table = place.0.open(size(), 1, NOW).unwrap();
        assert!(place.refusal(size()).contains("--file-prefix"));
        drop(table);
        assert!(place.0.open(size(), 1, NOW).is_ok());
    }

    #[test]
    fn a_table_of_another_size_is_left_alone() {
        let place = Place::new("size");
        drop(place.0.open(size(), 1, NOW).unwrap());
        for other in [
            TableSize::for_connections(100_000),
            TableSize::with_ipv6(1024, 1024),
        ] {
            let refusal = place.refusal(other);
            assert!(refusal.contains("1024 connections"), "{refusal}");
            assert!(refusal.contains("remove the file"), "{refusal}");
        }
        assert!(place.0.open(size(), 1, NOW).is_ok());
    }

    #[test]
    fn a_table_of_another_version_or_none_at_all_is_left_alone() {
        let place = Place::new("version");
        drop(place.0.open(size(), 1, NOW).unwrap());
        let mut bytes = fs::read(place.0.path()).unwrap();
        bytes[8] = 99;
        fs::write(place.0.path(), &bytes).unwrap();
        assert!(place.refusal(size()).contains("layout version 99"));
        bytes[0] ^= 1;
        fs::write(place.0.path(), &bytes).unwrap();
        assert!(place.refusal(size()).contains("not a connection table"));
        assert_eq!(fs::read(place.0.path()).unwrap(), bytes);
    }

    #[test]
    fn an_interrupted_start_is_no_obstacle() {
        let place = Place::new("interrupted");
        fs::write(place.0.path(), vec![0; size().bytes()]).unwrap();
        assert!(place.0.open(size(), 1, NOW).is_ok());
    }

    #[test]
    fn more_connections_than_memory_are_refused_and_leave_nothing() {
        let place = Place::new("memory");
        let refusal = place.refusal(TableSize::for_connections(TableSize::CONNECTIONS_MAX));
        assert!(refusal.contains("set `connections` lower"), "{refusal}");
        assert!(!place.0.path().exists());
    }
}
