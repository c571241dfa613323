//! A switch's end of a trunk to the machine's NIC `trunk`: VLAN 10 is the clients' network, VLAN 20 the servers'. The lab's
//! own kernel need not know VLANs: qemu hands frames over as datagrams, and what has lost its tag goes through socat to a
//! bridge.

use std::io::ErrorKind;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::lab_dir;
use super::namespace::{Background, run};

/// The networks by their VLANs.
const NETWORKS: [(u16, &str); 2] = [(10, "client"), (20, "server")];
/// No frame is longer.
const FRAME_BYTES_MAX: usize = 65_536;
/// Where the tag is.
const TAG: std::ops::Range<usize> = 12..16;

/// The switch, as long as it lives.
pub struct Trunk {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    _socats: Vec<Background>,
}

fn path(name: &str) -> PathBuf {
    lab_dir().join("machine").join(format!("{name}.sock"))
}

/// A socket for frames, of which those who wait for some look now and then whether they are to end.
pub(super) fn bound(path: &Path) -> Arc<UnixDatagram> {
    // Of a switch before this one.
    let _ = std::fs::remove_file(path);
    let socket =
        UnixDatagram::bind(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let patience = Some(Duration::from_millis(200));
    socket
        .set_read_timeout(patience)
        .expect("a time of some length");
    Arc::new(socket)
}

impl Trunk {
    /// Connects the machine, which runs, with both networks.
    pub fn start() -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let trunk = bound(&path("trunk"));
        let mut threads = Vec::new();
        let mut socats = Vec::new();
        let mut accesses = Vec::new();
        for (tag, network) in NETWORKS {
            let access = bound(&path(&format!("access-{network}")));
            socats.push(bridged(network));
            let (trunk, from) = (Arc::clone(&trunk), Arc::clone(&access));
            threads.push(forward(&stop, from, move |frame| {
                let mut tagged = frame.to_vec();
                let [high, low] = tag.to_be_bytes();
                tagged.splice(TAG.start..TAG.start, [0x81, 0x00, high, low]);
                // Lost, as on a wire, while qemu does not listen.
                let _ = trunk.send_to(&tagged, path("trunk-qemu"));
            }));
            accesses.push((tag, network, access));
        }
        threads.push(forward(&stop, trunk, move |frame| {
            let Some([0x81, 0x00, high, low]) = frame.get(TAG) else {
                return;
            };
            let id = u16::from_be_bytes([*high, *low]) & 0xfff;
            let Some((_, network, access)) = accesses.iter().find(|(tag, ..)| *tag == id) else {
                return;
            };
            let mut plain = frame.to_vec();
            plain.drain(TAG);
            let _ = access.send_to(&plain, path(&format!("socat-{network}")));
        }));
        Self {
            stop,
            threads,
            _socats: socats,
        }
    }
}

impl Drop for Trunk {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // One that panicked has failed the test already.
            let _ = thread.join();
        }
        for (_, network) in NETWORKS {
            run("router", &format!("ip link del trunk-{network}"));
        }
    }
}

fn bridged(network: &str) -> Background {
    let own = path(&format!("socat-{network}"));
    let peer = path(&format!("access-{network}"));
    bridge_port(network, &own, &peer)
}

/// A port of a network's bridge, `trunk-NETWORK`, whose frames come and go as datagrams.
pub(super) fn bridge_port(network: &str, own: &Path, peer: &Path) -> Background {
    let inner = format!("trunk-{network}-in");
    for line in [
        format!("ip link add trunk-{network} type veth peer name {inner}"),
        format!("sysctl -qw net.ipv6.conf.trunk-{network}.disable_ipv6=1"),
        format!("sysctl -qw net.ipv6.conf.{inner}.disable_ipv6=1"),
        format!("ethtool -K trunk-{network} tx off"),
        format!("ip link set {inner} up"),
        format!("ip link set trunk-{network} master br-{network} up"),
    ] {
        run("router", &line);
    }
    as_datagrams(&inner, own, peer)
}

/// The frames of an interface of the router's as datagrams: from `own` to `peer`, and back.
pub(super) fn as_datagrams(interface: &str, own: &Path, peer: &Path) -> Background {
    let _ = std::fs::remove_file(own);
    let datagrams = format!("UNIX-SENDTO:{},bind={}", peer.display(), own.display());
    let interface = format!("INTERFACE:{interface}");
    let arguments = ["-b", "65536", &datagrams, &interface];
    Background::start("router", "socat", &arguments, Stdio::null())
}

/// Takes frames from a socket until it is to stop.
pub(super) fn forward(
    stop: &Arc<AtomicBool>,
    from: Arc<UnixDatagram>,
    to: impl Fn(&[u8]) + Send + 'static,
) -> JoinHandle<()> {
    let stop = Arc::clone(stop);
    thread::spawn(move || {
        let mut buffer = vec![0; FRAME_BYTES_MAX];
        while !stop.load(Ordering::Relaxed) {
            match from.recv(&mut buffer) {
                Ok(bytes) => {
                    if let Some(frame) = buffer.get(..bytes).filter(|frame| frame.len() >= 14) {
                        to(frame);
                    }
                }
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(error) => panic!("the trunk: {error}"),
            }
        }
    })
}
