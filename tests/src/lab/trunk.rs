//! A switch's end of trunks to the machine's NICs `trunk`, `trunk-client` and `trunk-server`: VLAN 10 is the clients' network,
//! VLAN 20 the servers'. The lab's own kernel need not know VLANs: qemu hands frames over as datagrams, and what has lost
//! its tag goes through socat to a bridge, or straight to a host.

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

/// A link's networks by their VLANs; its name is the NIC's.
type Link = (&'static str, &'static [(u16, Network)]);

/// A network that is a VLAN.
#[derive(Debug, Clone, Copy)]
enum Network {
    /// The lab's own of this name, which has a bridge.
    Bridged(&'static str),
    /// One of this name that has a host of the lab and nobody else; the host's interface is called `lan1`.
    Host(&'static str, &'static str),
}

const ONE_ARM: [Link; 1] = [(
    "trunk",
    &[
        (10, Network::Bridged("client")),
        (20, Network::Bridged("server")),
    ],
)];
const TWO_ARMS: [Link; 2] = [
    (
        "trunk-client",
        &[
            (10, Network::Bridged("client")),
            (11, Network::Host("guests", "client")),
        ],
    ),
    (
        "trunk-server",
        &[
            (20, Network::Bridged("server")),
            (21, Network::Host("annex", "rs3")),
        ],
    ),
];
/// No frame is longer.
const FRAME_BYTES_MAX: usize = 65_536;
/// Where the tag is.
const TAG: std::ops::Range<usize> = 12..16;

/// The switch, as long as it lives.
pub struct Trunk {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    socats: Vec<Background>,
    interfaces: Vec<String>,
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
    /// Connects the machine's NIC `trunk` with both networks. The machine runs.
    pub fn one_arm() -> Self {
        Self::start(&ONE_ARM)
    }

    /// Connects `trunk-client` with the clients' network and in VLAN 11 with `lan1` of `client`, `trunk-server` with the
    /// servers' network and in VLAN 21 with `lan1` of `rs3`. The machine runs.
    pub fn two_arms() -> Self {
        Self::start(&TWO_ARMS)
    }

    fn start(links: &[Link]) -> Self {
        let mut trunk = Self {
            stop: Arc::new(AtomicBool::new(false)),
            threads: Vec::new(),
            socats: Vec::new(),
            interfaces: Vec::new(),
        };
        for (link, networks) in links {
            trunk.connect(link, networks);
        }
        trunk
    }

    fn connect(&mut self, link: &'static str, networks: &'static [(u16, Network)]) {
        let trunk = bound(&path(link));
        let mut accesses = Vec::new();
        for (tag, network) in networks {
            let name = network.name();
            let access = bound(&path(&format!("access-{name}")));
            let (interface, socat) = network.datagrams();
            self.socats.push(socat);
            self.interfaces.push(interface);
            let (trunk, from) = (Arc::clone(&trunk), Arc::clone(&access));
            self.threads.push(forward(&self.stop, from, move |frame| {
                let mut tagged = frame.to_vec();
                let [high, low] = tag.to_be_bytes();
                tagged.splice(TAG.start..TAG.start, [0x81, 0x00, high, low]);
                // Lost, as on a wire, while qemu does not listen.
                let _ = trunk.send_to(&tagged, path(&format!("{link}-qemu")));
            }));
            accesses.push((*tag, name, access));
        }
        self.threads.push(forward(&self.stop, trunk, move |frame| {
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
    }
}

impl Drop for Trunk {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // One that panicked has failed the test already.
            let _ = thread.join();
        }
        for interface in &self.interfaces {
            run("router", &format!("ip link del {interface}"));
        }
    }
}

impl Network {
    fn name(self) -> &'static str {
        match self {
            Self::Bridged(name) | Self::Host(name, _) => name,
        }
    }

    /// Makes it, with its frames as datagrams. Names an interface of the router's that ends it.
    fn datagrams(self) -> (String, Background) {
        let name = self.name();
        let own = path(&format!("socat-{name}"));
        let peer = path(&format!("access-{name}"));
        let Self::Host(_, host) = self else {
            return (format!("trunk-{name}"), bridge_port(name, &own, &peer));
        };
        let interface = format!("trunk-{name}");
        for line in [
            format!("ip link add {interface} type veth peer name lan1 netns pollux-{host}"),
            format!("sysctl -qw net.ipv6.conf.{interface}.disable_ipv6=1"),
            format!("ip link set {interface} up"),
        ] {
            run("router", &line);
        }
        // A network's frames, with checksums.
        run(host, "ethtool -K lan1 tx off sg off tso off gso off");
        run(host, "ip link set lan1 up");
        let socat = as_datagrams(&interface, &own, &peer);
        (interface, socat)
    }
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
