//! Where the connection table's memory comes from: a file in memory that outlives the process, on hugetlbfs when huge
//! pages are used and a mount is there, else on tmpfs.
//!
//! The run directory is used when it is on tmpfs, as `/run` is on most systems; otherwise `/dev/shm`. The file is named
//! after the file prefix, so that several data planes do not meet.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use pollux_engine::Tick;
use pollux_engine::connection::{ConnectionTable, TableError, TableSize};
use pollux_engine::memory::Memory;
use rustix::fs::statfs;
use thiserror::Error;

const TMPFS_MAGIC: u64 = 0x0102_1994;
const HUGETLBFS_MAGIC: u64 = 0x9584_58f6;
const SHARED_MEMORY: &str = "/dev/shm";
const HUGE_PAGE_BYTES: u64 = 2 << 20;
/// What of a table says what table it is.
const HEADER_LINES: usize = 2;

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
         `connections` lower, or give the machine more memory",
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
    },
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

    /// Opens the table: the one a data plane that died has left, or a new one. Whoever calls this holds the state
    /// directory's lock, so no other process uses the file.
    ///
    /// # Errors
    /// [`TableFileError`]; a file that is there is left as it is.
    pub fn open(
        &self,
        size: TableSize,
        workers: usize,
        now: Tick,
    ) -> Result<ConnectionTable, TableFileError> {
        let failed = |action| {
            let path = self.path.clone();
            move |source| TableFileError::Io {
                action,
                path,
                source,
            }
        };
        let mut options = OpenOptions::new();
        options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600);
        let file = options
            .open(&self.path)
            .map_err(failed("open the connection table"))?;
        let found = file
            .metadata()
            .map_err(failed("look at the connection table"))?
            .len();
        let of_table = |source| TableFileError::Table {
            path: self.path.clone(),
            source,
        };
        if found != 0 {
            // A file that is shorter than these settings need is mapped as far as its header: the table says what it is.
            let lines = if found < size.bytes() as u64 {
                HEADER_LINES
            } else {
                size.lines()
            };
            let memory = self.map(&file, lines)?;
            return ConnectionTable::attach(memory, size, workers, now).map_err(of_table);
        }
        self.check_room(size)?;
        let bytes = (size.bytes() as u64).next_multiple_of(HUGE_PAGE_BYTES);
        file.set_len(bytes)
            .map_err(failed("make room for the connection table in"))?;
        let memory = self.map(&file, size.lines())?;
        let seed = random_seed().map_err(failed("read random bytes for"))?;
        ConnectionTable::create(memory, size, workers, seed).map_err(of_table)
    }

    fn map(&self, file: &File, lines: usize) -> Result<Memory, TableFileError> {
        Memory::file(file, lines, self.huge_pages).map_err(|source| TableFileError::Io {
            action: "map the connection table",
            path: self.path.clone(),
            source,
        })
    }

    fn check_room(&self, size: TableSize) -> Result<(), TableFileError> {
        let directory = self.path.parent().unwrap_or(Path::new("/"));
        let Ok(found) = statfs(directory) else {
            return Ok(());
        };
        // A hugetlbfs without a size of its own says nothing: 0 of 0 blocks. Mapping the file reserves its pages or fails.
        if found.f_blocks == 0 {
            return Ok(());
        }
        let free = found
            .f_bavail
            .saturating_mul(u64::try_from(found.f_bsize).unwrap_or(1));
        if free >= size.bytes() as u64 {
            return Ok(());
        }
        Err(TableFileError::NoRoom {
            connections: size.connections(),
            needed_mib: (size.bytes() as u64) >> 20,
            path: directory.to_owned(),
            free_mib: free >> 20,
        })
    }
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
