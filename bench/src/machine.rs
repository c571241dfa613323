//! The machine a measurement is taken on, and the command that takes it: the first line of JSON of every run.
//!
//! What a system does not tell is left out; a measurement does not fail for want of its description.

use std::fs;
use std::path::Path;

use jiff::Timestamp;
use procfs::{CpuInfo, Current, Meminfo};
use serde::{Deserialize, Serialize};

use crate::cores;

/// This program, in the command of a run.
const PROGRAM: &str = "pollux-bench";
/// What the first CPU says of its caches.
const CACHES: &str = "/sys/devices/system/cpu/cpu0/cache";
const TRANSPARENT: &str = "/sys/kernel/mm/transparent_hugepage/enabled";
const SYSTEM: &str = "/etc/os-release";

/// A machine, what runs on it, and when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// The command line of the run, without the program's folder.
    pub command: Vec<String>,
    /// When it ran: RFC 3339, UTC, to the second.
    pub date: String,
    /// The CPU, as it calls itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_model: Option<String>,
    /// Its family and model numbers, decimal: virtual machines often hide the name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_family_model: Option<(u32, u32)>,
    /// CPUs the run may use.
    pub cpus: u32,
    /// Whether a hypervisor says it is there.
    pub virtual_machine: bool,
    /// Caches of the first CPU.
    pub caches: Vec<Cache>,
    /// Memory, bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// What huge pages are like here; a record says itself whether it used them.
    pub huge_pages: HugePages,
    /// Release of the kernel.
    pub kernel: String,
    /// Distribution.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system: Option<String>,
    /// DPDK found by the build.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dpdk: Option<String>,
    /// Compiler of the build.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rustc: Option<String>,
    /// Kind of build: release or debug.
    pub profile: String,
    /// Version of Pollux.
    pub pollux: String,
}

/// A cache of a CPU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cache {
    /// 1 is nearest.
    pub level: u32,
    /// `Data`, `Instruction` or `Unified`, the kernel's words.
    pub kind: String,
    /// Size.
    pub kib: u64,
}

/// The kernel's huge pages of its default size.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HugePages {
    /// Size of one, KiB; none where the kernel has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub page_kib: Option<u64>,
    /// Whether the kernel makes huge pages by itself: `always`, `madvise` or `never`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transparent: Option<String>,
}

impl Machine {
    /// This one, now.
    pub fn describe() -> Self {
        let cpu = CpuInfo::current().ok();
        let field = |name: &str| cpu.as_ref()?.get_field(0, name);
        let number = |name: &str| field(name)?.trim().parse().ok();
        let memory = Meminfo::current().ok();
        let usable = cores::usable().map_or(0, |cpus| cpus.len());
        Self {
            command: command(std::env::args()),
            date: now(),
            cpu_model: field("model name").map(|name| name.trim().to_owned()),
            cpu_family_model: number("cpu family").zip(number("model")),
            cpus: u32::try_from(usable).unwrap_or(u32::MAX),
            virtual_machine: field("flags")
                .is_some_and(|flags| flags.split_whitespace().any(|flag| flag == "hypervisor")),
            caches: caches(Path::new(CACHES)),
            memory_bytes: memory.as_ref().map(|memory| memory.mem_total),
            huge_pages: HugePages {
                page_kib: memory
                    .as_ref()
                    .and_then(|memory| memory.hugepagesize)
                    .map(|bytes| bytes / 1024),
                transparent: fs::read_to_string(TRANSPARENT)
                    .ok()
                    .and_then(|text| chosen(&text)),
            },
            kernel: rustix::system::uname()
                .release()
                .to_string_lossy()
                .into_owned(),
            system: fs::read_to_string(SYSTEM)
                .ok()
                .and_then(|text| pretty_name(&text)),
            dpdk: option_env!("BUILT_DPDK").map(str::to_owned),
            rustc: option_env!("BUILT_RUSTC").map(str::to_owned),
            profile: env!("BUILT_PROFILE").to_owned(),
            pollux: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }

    /// Whether figures of both may stand in one table: the same box, kernel and build.
    pub fn is_like(&self, other: &Self) -> bool {
        let comparable = |machine: &Self| Self {
            command: Vec::new(),
            date: String::new(),
            ..machine.clone()
        };
        comparable(self) == comparable(other)
    }
}

/// The words of a command line, its program without the folder.
fn command(words: impl Iterator<Item = String>) -> Vec<String> {
    std::iter::once(PROGRAM.to_owned())
        .chain(words.skip(1))
        .collect()
}

/// RFC 3339 in UTC, to the second.
fn now() -> String {
    Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// The caches that a CPU's folder names, in the kernel's order.
fn caches(folder: &Path) -> Vec<Cache> {
    let cache = |number: u32| {
        let file = |name: &str| {
            let text = fs::read_to_string(folder.join(format!("index{number}/{name}")));
            text.ok().map(|text| text.trim().to_owned())
        };
        Some(Cache {
            level: file("level")?.parse().ok()?,
            kind: file("type")?,
            kib: file("size")?.strip_suffix('K')?.parse().ok()?,
        })
    };
    (0..).map_while(cache).collect()
}

/// The word in brackets: `always [madvise] never`.
fn chosen(text: &str) -> Option<String> {
    let (_, rest) = text.split_once('[')?;
    Some(rest.split_once(']')?.0.to_owned())
}

/// The distribution's name for people, os-release(5).
fn pretty_name(text: &str) -> Option<String> {
    let mut lines = text.lines();
    let name = lines.find_map(|line| line.strip_prefix("PRETTY_NAME="))?;
    Some(name.trim_matches(['"', '\'']).to_owned())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn example(command: &str) -> Machine {
        Machine {
            command: command.split_whitespace().map(str::to_owned).collect(),
            date: "2026-11-23T10:00:00Z".to_owned(),
            cpu_model: Some("Example CPU 9000".to_owned()),
            cpu_family_model: Some((25, 1)),
            cpus: 2,
            virtual_machine: true,
            caches: [
                (1, "Data", 48),
                (1, "Instruction", 32),
                (2, "Unified", 1024),
                (3, "Unified", 32_768),
            ]
            .map(|(level, kind, kib)| Cache {
                level,
                kind: kind.to_owned(),
                kib,
            })
            .to_vec(),
            memory_bytes: Some(24 << 30),
            huge_pages: HugePages {
                page_kib: Some(2048),
                transparent: Some("madvise".to_owned()),
            },
            kernel: "6.18.5".to_owned(),
            system: Some("Debian GNU/Linux 12 (bookworm)".to_owned()),
            dpdk: Some("22.11.11".to_owned()),
            rustc: Some("rustc 1.95.0".to_owned()),
            profile: "release".to_owned(),
            pollux: "0.1.0".to_owned(),
        }
    }

    #[test]
    fn this_machine_says_what_it_is() {
        let machine = Machine::describe();
        assert!(machine.cpus >= 1);
        assert!(machine.memory_bytes.unwrap() > 64 << 20);
        assert!(machine.kernel.contains('.'), "{machine:?}");
        assert!(machine.rustc.as_ref().unwrap().starts_with("rustc 1."));
        assert_eq!(machine.command[0], "pollux-bench");
        let date: Timestamp = machine.date.parse().unwrap();
        assert!(Timestamp::now().as_second() - date.as_second() < 60);
        let line = serde_json::to_string(&machine).unwrap();
        assert_eq!(serde_json::from_str::<Machine>(&line).unwrap(), machine);
    }

    #[test]
    fn folders_do_not_matter_and_options_do() {
        let words = ["/opt/target/release/pollux-bench", "table", "--quick"];
        assert_eq!(
            command(words.map(str::to_owned).into_iter()),
            ["pollux-bench", "table", "--quick"]
        );
    }

    #[test]
    fn what_the_kernel_writes_is_read() {
        assert_eq!(chosen("always [madvise] never\n").unwrap(), "madvise");
        assert_eq!(chosen("never"), None);
        assert_eq!(
            pretty_name("NAME=\"D\"\nPRETTY_NAME=\"Debian 12\"\n").unwrap(),
            "Debian 12"
        );
        let folder = tempfile::tempdir().unwrap();
        for (number, words) in [["1", "Data", "48K"], ["3", "Unified", "32768K"]]
            .iter()
            .enumerate()
        {
            let index = folder.path().join(format!("index{number}"));
            fs::create_dir(&index).unwrap();
            for (file, word) in ["level", "type", "size"].iter().zip(words) {
                fs::write(index.join(file), format!("{word}\n")).unwrap();
            }
        }
        let found = caches(folder.path());
        assert_eq!(found.len(), 2);
        assert_eq!(
            found[1],
            Cache {
                level: 3,
                kind: "Unified".to_owned(),
                kib: 32_768
            }
        );
        assert_eq!(caches(Path::new("/nowhere")), []);
    }

    #[test]
    fn runs_of_one_machine_belong_together() {
        let one = example("pollux-bench table");
        let mut other = example("pollux-bench pipeline");
        other.date = "2026-11-23T11:00:00Z".to_owned();
        assert!(one.is_like(&other));
        other.kernel = "6.19.0".to_owned();
        assert!(!one.is_like(&other));
    }
}
