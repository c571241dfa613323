//! DPDK's environment abstraction layer: memory, CPUs, devices. Started once, first of all.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString, c_char, c_int};
use std::fs;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::thread::{CpuSet, sched_getaffinity};

use crate::error::{DpdkError, check_errno};
use crate::huge_pages::{self, HugePages};
use crate::messages;
use crate::pci_address::PciAddress;
use crate::port::{AttachError, Member, Port, unowned_ports};
use crate::signals;

/// The largest CPU number DPDK's core lists may name (`RTE_MAX_LCORE` of the distributions is 128).
const CPU_NUMBERS: usize = 128;

/// Where DPDK's memory comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Memory {
    /// Huge pages, anonymous (`--in-memory`): no hugetlbfs mount is needed and nothing stays
    /// behind, also after a crash. What hardware NICs want.
    HugePages {
        /// Memory taken at the start.
        megabytes: u32,
    },
    /// Ordinary pages (`--no-huge`): works on every machine, for virtual devices and tests.
    OrdinaryPages {
        /// All the memory DPDK will have; it cannot grow.
        megabytes: u32,
    },
}

/// The PCI devices DPDK may take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PciDevices {
    /// None; the PCI bus is not looked at.
    None,
    /// These only.
    Only(Vec<PciAddress>),
    /// Every device bound to a DPDK driver (`vfio-pci`, `uio`).
    All,
}

/// How to start DPDK.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EalArguments {
    /// Where memory comes from.
    pub memory: Memory,
    /// Of huge pages, what is to be on which NUMA node, in megabytes; empty: all of it near the CPUs
    /// of the main thread. It is anywhere, and said so, when one of the nodes has too few free pages.
    pub numa_megabytes: BTreeMap<u16, u32>,
    /// Name of this instance among the DPDK programs of the machine.
    pub file_prefix: String,
    /// The PCI devices to take.
    pub pci: PciDevices,
    /// The CPUs of the thread that starts EAL; empty leaves its affinity as it is.
    pub main_cpus: Vec<usize>,
    /// What DPDK logs.
    pub log_level: log::LevelFilter,
}

impl Default for EalArguments {
    fn default() -> Self {
        Self {
            memory: Memory::OrdinaryPages { megabytes: 128 },
            numa_megabytes: BTreeMap::new(),
            file_prefix: String::from("pollux"),
            pci: PciDevices::None,
            main_cpus: Vec::new(),
            log_level: log::LevelFilter::Warn,
        }
    }
}

/// Why DPDK did not start.
#[derive(Debug, thiserror::Error)]
pub enum EalError {
    /// DPDK starts once in the life of a process, even if that failed.
    #[error("DPDK was started before in this process; it can be started only once")]
    AlreadyStarted,
    /// The kernel has fewer free huge pages than asked for.
    #[error(
        "{needed_megabytes} MB of huge pages needed, {free_megabytes} MB free; \
         reserve them with: {command}"
    )]
    TooFewHugePages {
        /// What was asked for.
        needed_megabytes: u64,
        /// What is there, over all page sizes.
        free_megabytes: u64,
        /// What to type.
        command: String,
    },
    /// This kernel has no huge pages at all.
    #[error("this kernel has no huge pages; use ordinary pages (--no-huge)")]
    NoHugePages,
    /// The process may not run on that CPU, or it does not exist.
    #[error("CPU {cpu} is not there or not allowed for this process; allowed: {allowed}")]
    NoSuchCpu {
        /// The CPU asked for.
        cpu: usize,
        /// The CPUs there are, as a list.
        allowed: String,
    },
    /// The file prefix is empty or has characters other than letters, digits, `-`, `_` and `.`.
    #[error("`{0}` is no file prefix: use letters, digits, `-`, `_` and `.`")]
    InvalidFilePrefix(String),
    /// The calling thread is registered already.
    #[error("this thread is registered with DPDK already")]
    ThreadRegistered,
    /// The kernel did not answer a question about itself.
    #[error("cannot find out {what}: {error}")]
    System {
        /// What was asked.
        what: &'static str,
        /// The answer.
        error: std::io::Error,
    },
    /// EAL refused.
    #[error(transparent)]
    Dpdk(#[from] DpdkError),
}

/// Proof that DPDK runs in this process.
///
/// There is no way to stop it: mbufs and pools live in its memory, and may be on any thread. The
/// kernel takes the memory back when the process ends, however it ends.
#[derive(Debug, Clone, Copy)]
pub struct Eal {
    uses_huge_pages: bool,
    uses_pci: bool,
}

static STARTED: AtomicBool = AtomicBool::new(false);

impl Eal {
    /// Starts DPDK. The calling thread becomes DPDK's main thread.
    ///
    /// No thread is started for packets: workers are threads of the program, see
    /// [`Eal::register_thread`]. From here on the process ignores the real-time signals nobody
    /// handles, so that `net_tap` does without them.
    ///
    /// # Errors
    /// See [`EalError`]. What can be checked beforehand is, because EAL can be tried only once.
    pub fn start(arguments: &EalArguments) -> Result<Self, EalError> {
        let words = arguments.to_words()?;
        if STARTED.swap(true, Ordering::SeqCst) {
            return Err(EalError::AlreadyStarted);
        }
        messages::redirect();
        signals::leave_none_to_net_tap();
        let pointers: Vec<*mut c_char> = words
            .into_iter()
            .map(CString::into_raw)
            .chain([std::ptr::null_mut()])
            .collect();
        let pointers = pointers.leak();
        let count = c_int::try_from(pointers.len().saturating_sub(1)).unwrap_or(c_int::MAX);
        // SAFETY: `pointers` are `count` NUL-terminated strings and a null pointer, as argv is. EAL
        // reorders them and keeps some, which is sound because both the array and the strings are
        // leaked and this is their only reference. EAL is initialised only here, once (`STARTED`).
        let code = unsafe { dpdk_sys::rte_eal_init(count, pointers.as_mut_ptr()) };
        check_errno(code, || String::from("start DPDK's EAL"))?;
        remove_runtime_directory();
        // SAFETY: EAL is initialised, which is all that is asked.
        let uses_huge_pages = unsafe { dpdk_sys::rte_eal_has_hugepages() } != 0;
        Ok(Self {
            uses_huge_pages,
            uses_pci: arguments.pci != PciDevices::None,
        })
    }

    /// Whether DPDK's memory is huge pages.
    #[must_use]
    pub fn uses_huge_pages(&self) -> bool {
        self.uses_huge_pages
    }

    /// Whether PCI devices can be attached.
    pub(crate) fn uses_pci(&self) -> bool {
        self.uses_pci
    }

    /// The release of DPDK that runs, for example `DPDK 22.11.11`.
    #[must_use]
    pub fn version(&self) -> String {
        // SAFETY: no precondition; returns a string that is never freed or changed after the first
        // call.
        let version = unsafe { dpdk_sys::rte_version() };
        // SAFETY: NUL-terminated and never freed (above).
        unsafe { std::ffi::CStr::from_ptr(version) }
            .to_string_lossy()
            .into_owned()
    }

    /// Takes a device and makes it a port: `0000:03:00.0` for a NIC, or a virtual device with its
    /// arguments as `net_af_packet0,iface=eth1`.
    ///
    /// # Errors
    /// See [`AttachError`]; each names the device. Other ports are not affected.
    pub fn attach(&self, device: &str) -> Result<Port, AttachError> {
        Port::attach(self, device)
    }

    /// Takes a device that is to be part of a bond; named as for [`Eal::attach`].
    ///
    /// # Errors
    /// See [`AttachError`].
    pub fn attach_member(&self, device: &str) -> Result<Member, AttachError> {
        Member::attach(self, device)
    }

    /// What `net_bonding` of this DPDK calls its devices in its arguments.
    #[must_use]
    pub fn bond_member_word(&self) -> &'static str {
        if dpdk_sys::SHIM_BOND_HAS_MEMBERS == 1 {
            "member"
        } else {
            "slave"
        }
    }

    /// The devices DPDK found at its start that no [`Port`] was made of, by the name
    /// [`Eal::attach`] takes.
    #[must_use]
    pub fn unattached_devices(&self) -> Vec<String> {
        unowned_ports()
    }

    /// Gives the calling thread a DPDK core number, and with it a cache in every
    /// [`Mempool`](crate::Mempool): a worker should have one. Pin the thread to its CPU before.
    ///
    /// # Errors
    /// [`EalError::ThreadRegistered`] for a thread that has one, also for the one that started EAL;
    /// [`EalError::Dpdk`] when there are more threads than DPDK was built for (usually 128).
    pub fn register_thread(&self) -> Result<RegisteredThread, EalError> {
        // SAFETY: reads a thread-local integer; it has no precondition.
        if unsafe { dpdk_sys::shim_has_lcore() } {
            return Err(EalError::ThreadRegistered);
        }
        // SAFETY: EAL is initialised (`self`) and this thread has no core number yet (checked
        // above).
        let code = unsafe { dpdk_sys::rte_thread_register() };
        check_errno(code, || String::from("register a thread with DPDK"))?;
        Ok(RegisteredThread {
            not_send: PhantomData,
        })
    }
}

/// The calling thread's DPDK core number; given back on drop.
#[derive(Debug)]
pub struct RegisteredThread {
    /// The number belongs to the thread that asked for it.
    not_send: PhantomData<*const ()>,
}

impl Drop for RegisteredThread {
    fn drop(&mut self) {
        // SAFETY: the guard cannot leave the thread that registered (`not_send`) and is dropped
        // once.
        unsafe { dpdk_sys::rte_thread_unregister() }
    }
}

impl EalArguments {
    /// The command line EAL reads, program name first.
    fn to_words(&self) -> Result<Vec<CString>, EalError> {
        let mut words = vec![String::from("pollux"), String::from("--no-telemetry")];
        words.extend(self.file_prefix_word()?);
        words.extend(self.memory_words()?);
        words.push(self.cores_word()?);
        match &self.pci {
            PciDevices::None => words.push(String::from("--no-pci")),
            PciDevices::Only(addresses) => {
                words.extend(addresses.iter().map(|address| format!("--allow={address}")));
            }
            PciDevices::All => {}
        }
        words.push(format!("--log-level={}", log_level_word(self.log_level)));
        // No word holds a NUL: they are made of numbers and the checked prefix.
        Ok(words
            .into_iter()
            .filter_map(|word| CString::new(word).ok())
            .collect())
    }

    fn file_prefix_word(&self) -> Result<Option<String>, EalError> {
        let prefix = &self.file_prefix;
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if prefix.is_empty() || !prefix.bytes().all(allowed) {
            return Err(EalError::InvalidFilePrefix(prefix.clone()));
        }
        Ok(Some(format!("--file-prefix={prefix}")))
    }

    fn memory_words(&self) -> Result<Vec<String>, EalError> {
        match self.memory {
            Memory::HugePages { megabytes } => {
                check_huge_pages(u64::from(megabytes))?;
                let word = if !self.numa_megabytes.is_empty() && self.nodes_have_room()? {
                    socket_memory_word(&self.numa_megabytes)
                } else {
                    format!("-m{megabytes}")
                };
                Ok(vec![String::from("--in-memory"), word])
            }
            // DPDK 22.11 refuses --in-memory with --no-huge; --no-shconf is the part of it that
            // matters.
            Memory::OrdinaryPages { megabytes } => Ok(vec![
                String::from("--no-huge"),
                String::from("--no-shconf"),
                format!("-m{megabytes}"),
            ]),
        }
    }

    /// EAL would give up, and can be tried only once.
    fn nodes_have_room(&self) -> Result<bool, EalError> {
        let mut all_have = true;
        for (node, megabytes) in &self.numa_megabytes {
            let sizes = huge_pages::read_node(*node).map_err(|error| EalError::System {
                what: "how many huge pages are free on a NUMA node",
                error,
            })?;
            let free: u64 = sizes.iter().map(HugePages::free_megabytes).sum();
            let needed = u64::from(*megabytes);
            if free < needed {
                all_have = false;
                let mend = sizes.first().map_or_else(String::new, |smallest| {
                    format!("; reserve them with: {}", smallest.command_for(needed))
                });
                log::warn!(
                    "{needed} MB of huge pages are wanted on NUMA node {node}, where NICs are, and {free} MB are free: \
                     frames lie on other nodes, and each packet crosses between them{mend}"
                );
            }
        }
        Ok(all_have)
    }

    /// One DPDK core for the main thread, on the CPUs it is to have. Without this EAL would start a
    /// thread for every CPU.
    fn cores_word(&self) -> Result<String, EalError> {
        let allowed = allowed_cpus()?;
        let cpus = if self.main_cpus.is_empty() {
            &allowed
        } else {
            &self.main_cpus
        };
        if let Some(&cpu) = cpus.iter().find(|cpu| !allowed.contains(cpu)) {
            return Err(EalError::NoSuchCpu {
                cpu,
                allowed: list(&allowed),
            });
        }
        Ok(format!("--lcores=0@({})", list(cpus)))
    }
}

/// EAL makes a directory for files of other processes, of which there are none in either memory
/// mode.
fn remove_runtime_directory() {
    // SAFETY: EAL is initialised (the caller is `Eal::start`); returns a string that is never
    // freed.
    let directory = unsafe { dpdk_sys::rte_eal_get_runtime_dir() };
    // SAFETY: NUL-terminated and never freed (above); not changed after the start.
    let directory = unsafe { CStr::from_ptr(directory) }.to_string_lossy();
    // Not empty: another DPDK program has the same prefix and does use it.
    let _ = fs::remove_dir(directory.as_ref());
}

/// EAL counts nodes from 0 on, without leaving any out.
fn socket_memory_word(megabytes: &BTreeMap<u16, u32>) -> String {
    let last = megabytes.keys().last().copied().unwrap_or(0);
    let each = (0..=last).map(|node| megabytes.get(&node).copied().unwrap_or(0).to_string());
    format!("--socket-mem={}", each.collect::<Vec<_>>().join(","))
}

fn check_huge_pages(needed_megabytes: u64) -> Result<(), EalError> {
    let sizes = huge_pages::read().map_err(|error| EalError::System {
        what: "how many huge pages are free",
        error,
    })?;
    let smallest = sizes.first().ok_or(EalError::NoHugePages)?;
    let free_megabytes = sizes.iter().map(HugePages::free_megabytes).sum();
    if free_megabytes < needed_megabytes {
        let command = smallest.command_for(needed_megabytes);
        return Err(EalError::TooFewHugePages {
            needed_megabytes,
            free_megabytes,
            command,
        });
    }
    Ok(())
}

fn allowed_cpus() -> Result<Vec<usize>, EalError> {
    let set = sched_getaffinity(None).map_err(|error| EalError::System {
        what: "which CPUs this process may use",
        error: error.into(),
    })?;
    Ok((0..CPU_NUMBERS.min(CpuSet::MAX_CPU))
        .filter(|&cpu| set.is_set(cpu))
        .collect())
}

fn list(cpus: &[usize]) -> String {
    cpus.iter()
        .map(usize::to_string)
        .collect::<Vec<_>>()
        .join(",")
}

fn log_level_word(level: log::LevelFilter) -> &'static str {
    match level {
        log::LevelFilter::Off => "emergency",
        log::LevelFilter::Error => "error",
        log::LevelFilter::Warn => "warning",
        log::LevelFilter::Info => "info",
        log::LevelFilter::Debug | log::LevelFilter::Trace => "debug",
    }
}

#[cfg(test)]
mod tests {
    use super::socket_memory_word;

    #[test]
    fn nodes_without_memory_are_counted() {
        let word =
            |megabytes: &[(u16, u32)]| socket_memory_word(&megabytes.iter().copied().collect());
        assert_eq!(word(&[(0, 64)]), "--socket-mem=64");
        assert_eq!(word(&[(3, 70), (1, 64)]), "--socket-mem=0,64,0,70");
    }
}
