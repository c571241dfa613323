//! A private network namespace for one test, deleted when the test ends, however it ends.

use std::fs::File;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Runs `ip` with these words in the namespace of this thread.
#[track_caller]
pub fn ip(words: &str) {
    if let Err(complaint) = try_ip(words) {
        panic!("ip {words}: {complaint}");
    }
}

/// Runs `ip`, or says why it did not work.
pub fn try_ip(words: &str) -> Result<(), String> {
    let output = Command::new("ip")
        .args(words.split_whitespace())
        .output()
        .expect("iproute2 is installed");
    if output.status.success() {
        return Ok(());
    }
    Err(String::from_utf8_lossy(&output.stderr).into_owned())
}

/// Writes a setting of the namespace of this thread: `/proc/sys/net` shows each thread its own.
#[track_caller]
pub fn sysctl(name: &str, value: u32) {
    let path = format!("/proc/sys/{name}");
    std::fs::write(&path, value.to_string()).unwrap_or_else(|error| panic!("{path}: {error}"));
}

/// A namespace that exists as long as this value.
pub struct Namespace {
    /// Its name for `ip netns`.
    pub name: String,
}

impl Namespace {
    /// A new one with nothing but `lo` in it, which is up. IPv6 addresses are usable at once.
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        assert!(
            rustix::process::geteuid().is_root(),
            "this test makes network namespaces: run it as root"
        );
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("pollux-test-{}-{count}", std::process::id());
        ip(&format!("netns add {name}"));
        let namespace = Self { name };
        namespace.run(async || {
            sysctl("net/ipv6/conf/default/accept_dad", 0);
            ip("link set lo up");
        });
        namespace
    }

    /// Runs the test in the namespace, on a thread of its own with a runtime like the data plane's.
    pub fn run<F: Future<Output = ()>>(&self, test: impl FnOnce() -> F + Send) {
        let entrance = File::open(format!("/run/netns/{}", self.name)).unwrap();
        let result = std::thread::scope(|scope| {
            let thread = scope.spawn(move || {
                let kind = Some(LinkNameSpaceType::Network);
                move_into_link_name_space(std::os::fd::AsFd::as_fd(&entrance), kind).unwrap();
                tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .unwrap()
                    .block_on(test());
            });
            thread.join()
        });
        if let Err(panic) = result {
            std::panic::resume_unwind(panic);
        }
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = try_ip(&format!("netns del {}", self.name));
    }
}
