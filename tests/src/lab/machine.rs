//! The machine with PCI NICs in the director's place: see `scripts/lab-parts/machine.sh`.

use std::path::PathBuf;
use std::process::Output;
use std::time::Duration;

use pollux_api::dataplane::{PortStatus, WorkerStatus};
use pollux_api::statistics::DropReport;
use serde::de::DeserializeOwned;

use super::namespace::{command, run};
use super::servers::{Service, endpoint};
use super::{Lab, eventually, lab_dir, script_command, text_of};

/// SHA-256 of the first 20 MiB of the page `/100M`.
const BEGINNING_SHA256: &str = "d4aa5a71f860b99170edbc7896eb0ab10eab7fb3410b9b4d4239bc0b5dcea165";

/// A kind of NIC that the machine has on both networks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Nic {
    /// The name of its kind, in the names of its links too.
    pub kind: &'static str,
    /// The PCI address of the one on the clients' network.
    pub client: &'static str,
    /// The PCI address of the one on the servers' network.
    pub server: &'static str,
    /// What DPDK calls its driver.
    pub driver: &'static str,
    /// Receive queues with two workers.
    pub receive_queues: u16,
}

/// Intel's 82574L: two queues, but no hash that spreads frames over them.
pub const E1000E: Nic = Nic {
    kind: "e1000e",
    client: "0000:00:10.0",
    server: "0000:00:11.0",
    driver: "net_e1000_em",
    receive_queues: 2,
};
/// Virtio, with RSS.
pub const VIRTIO: Nic = Nic {
    kind: "virtio",
    client: "0000:00:12.0",
    server: "0000:00:13.0",
    driver: "net_virtio",
    receive_queues: 2,
};
/// VMware's; qemu's has queues, but delivers to the first.
pub const VMXNET3: Nic = Nic {
    kind: "vmxnet3",
    client: "0000:00:14.0",
    server: "0000:00:15.0",
    driver: "net_vmxnet3",
    receive_queues: 2,
};

/// Virtio on NUMA node 0 of the machine with two; the processor of that node has its number.
pub const NEAR: Nic = Nic {
    kind: "near",
    client: "0000:41:00.0",
    server: "0000:42:00.0",
    receive_queues: 1,
    ..VIRTIO
};
/// Virtio on node 1.
pub const FAR: Nic = Nic {
    kind: "far",
    client: "0000:81:00.0",
    server: "0000:82:00.0",
    ..NEAR
};

/// Virtio on the clients' network, in a slot that it can be pulled out of.
pub const PULLED: Nic = Nic {
    kind: "pulled",
    client: "0000:01:00.0",
    receive_queues: 1,
    ..VIRTIO
};
/// The two on the clients' network that tell when their link changes, as one.
pub const BOND: Nic = Nic {
    client: "bond:active-backup:0000:00:12.0+0000:01:00.0",
    driver: "net_bonding",
    receive_queues: 1,
    ..VIRTIO
};

/// Virtio at a trunk with both networks, see [`super::trunk`].
pub const TRUNK: Nic = Nic {
    kind: "trunk",
    client: "0000:00:17.0",
    server: "-",
    receive_queues: 1,
    ..VIRTIO
};

/// Two at trunks of their own, the clients' networks and the servers': an 82574L and VMware's.
pub const TRUNKS: Nic = Nic {
    kind: "trunk",
    client: "0000:00:18.0",
    server: "0000:00:19.0",
    driver: "net_e1000_em",
    receive_queues: 2,
};

/// The running machine, and the lab around it.
pub struct Machine {
    lab: Lab,
}

impl Machine {
    /// Boots it; NICs are bound, no daemon runs.
    pub fn boot() -> Self {
        Self::boot_with("start-machine")
    }

    /// Boots it with a kernel that does not use the IOMMU; no NIC is bound.
    pub fn boot_without_iommu() -> Self {
        Self::boot_with("start-machine no-iommu")
    }

    /// Boots one with two NUMA nodes, each with a processor, half of the memory and two NICs ([`NEAR`], [`FAR`]).
    pub fn boot_with_two_nodes() -> Self {
        Self::boot_with("start-machine two-nodes")
    }

    fn boot_with(line: &str) -> Self {
        let machine = Self {
            lab: Lab::without_daemons(),
        };
        machine.lab.script(line);
        machine
    }

    /// Runs a command line by the machine's shell, whatever comes of it.
    pub fn try_run(&self, line: &str) -> Output {
        let mut script = script_command("machine");
        script.arg(line).output().expect("scripts/lab starts")
    }

    /// Runs a command line by the machine's shell and returns what it printed. It must succeed.
    pub fn run(&self, line: &str) -> String {
        let output = self.try_run(line);
        assert!(
            output.status.success(),
            "in the machine, `{line}`: {}\n{}\n{}",
            output.status,
            text_of(&output),
            self.logs(),
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Starts both daemons on the two NICs of a kind. What the network has learnt of others is forgotten.
    pub fn start_pollux(&self, nic: Nic) {
        self.start(&format!("start-pollux {} {}", nic.client, nic.server));
    }

    /// As [`Self::start_pollux`] with a line of `[dataplane]` more.
    pub fn start_pollux_with(&self, nic: Nic, line: &str) {
        self.start(&format!(
            "start-pollux {} {} '{line}'",
            nic.client, nic.server
        ));
    }

    /// As [`Self::start_pollux`] with another line for the cores, or none.
    pub fn start_pollux_on_cores(&self, nic: Nic, line: &str) {
        self.start(&format!(
            "CORES='{line}' start-pollux {} {}",
            nic.client, nic.server
        ));
    }

    /// As [`Self::start_pollux`], with the clients in VLAN 10 of the one NIC and the servers in VLAN 20 of the other.
    pub fn start_pollux_with_vlans(&self, nic: Nic) {
        self.start(&format!(
            "VLANS=yes start-pollux {} {}",
            nic.client, nic.server
        ));
    }

    /// As [`Self::start_pollux`] with another MTU, on the networks too.
    pub fn start_pollux_with_mtu(&self, nic: Nic, mtu: u16) {
        self.set_mtu(nic, mtu);
        self.start(&format!(
            "MTU={mtu} start-pollux {} {}",
            nic.client, nic.server
        ));
    }

    fn start(&self, line: &str) {
        self.run(line);
        for namespace in ["client", "router", "rs1", "rs2", "rs3"] {
            run(namespace, "ip neigh flush all");
        }
    }

    /// Gives an MTU to clients, servers and what is between them and a kind of NICs.
    pub fn set_mtu(&self, nic: Nic, mtu: u16) {
        let set = |namespace: &str, interface: &str| {
            run(namespace, &format!("ip link set {interface} mtu {mtu}"));
        };
        for (namespace, port) in [
            ("client", "client"),
            ("rs1", "rs1"),
            ("rs2", "rs2"),
            ("rs3", "rs3"),
        ] {
            set("router", port);
            set(namespace, "lan0");
        }
        for side in ["client", "server"] {
            set("router", &format!("{}-{side}", nic.kind));
            set("router", &format!("br-{side}"));
        }
    }

    /// Ends both daemons and forgets what they knew.
    pub fn stop_pollux(&self) {
        self.run("stop-pollux");
    }

    /// What `pollux show WHAT --json` says. On a host that is busy with other things an answer may come too late for
    /// `pollux`, which is asked again then.
    pub fn show<T: DeserializeOwned>(&self, what: &str) -> T {
        let line = format!("pollux show {what} --json");
        let mut output = None;
        eventually(Duration::from_secs(60), || {
            output = Some(self.try_run(&line)).filter(|output| output.status.success());
            output.is_some()
        });
        let text = match output {
            Some(output) => String::from_utf8_lossy(&output.stdout).into_owned(),
            None => self.run(&line),
        };
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{line}: {error}\n{text}"))
    }

    /// A port.
    pub fn port(&self, name: &str) -> PortStatus {
        let ports: Vec<PortStatus> = self.show("ports");
        let mut named = ports.into_iter().filter(|port| port.name == name);
        named.next().unwrap_or_else(|| panic!("no port {name}"))
    }

    /// All workers.
    pub fn workers(&self) -> Vec<WorkerStatus> {
        self.show("workers")
    }

    /// Adds a service with servers on one port, all of one method. As [`Lab::add`], in one command line.
    pub fn add(&self, service: &Service, method: &str, servers: &[&str], port: u16) {
        let mut line = format!("pollux service add {service} -s rr");
        for server in servers.iter().rev() {
            let server = endpoint(server, port);
            line.push_str(&format!(
                " && pollux server add {service} -r {server} {method}"
            ));
        }
        self.run(&line);
    }

    /// Pulls a NIC's cable, or puts it in again.
    pub fn set_link(&self, nic: Nic, side: &str, up: bool) {
        let state = if up { "on" } else { "off" };
        self.monitor(&format!("set_link {}-{side} {state}", nic.kind));
    }

    /// A command of qemu's monitor.
    pub fn monitor(&self, line: &str) -> String {
        self.lab.script(&format!("machine-monitor {line}"))
    }

    /// The lab around it, for what clients do.
    pub fn lab(&self) -> &Lab {
        &self.lab
    }

    /// Downloads 20 MiB and compares every byte.
    pub fn download(&self, address: &str) {
        let line = format!(
            "curl -sS --fail --max-time 60 -r 0-20971519 {} | sha256sum",
            super::client::url(address, "/100M")
        );
        let output = command("client", "bash")
            .args(["-o", "pipefail", "-c", &line])
            .output()
            .expect("bash starts");
        assert!(
            output.status.success(),
            "{line}: {}\n{}",
            text_of(&output),
            self.run("pollux show ports; pollux show drops")
        );
        let text = String::from_utf8_lossy(&output.stdout);
        let sum = text.split_whitespace().next();
        assert_eq!(sum, Some(BEGINNING_SHA256), "the bytes changed on the way");
    }

    /// Received packets are the sum of what became of them, on every port.
    pub fn assert_every_packet_is_accounted_for(&self) {
        let accounted = eventually(Duration::from_secs(10), || {
            self.show::<Vec<DropReport>>("drops --all")
                .iter()
                .all(|port| {
                    let fates: u64 = port.fates.iter().map(|fate| fate.packets).sum();
                    port.received == fates + port.held
                })
        });
        assert!(accounted, "{}", self.run("pollux show drops --all"));
    }

    /// What the daemons have said since they were started.
    pub fn logs(&self) -> String {
        text_of(&self.try_run("cat /run/dataplane.log /run/polluxd.log"))
    }

    /// What the machine's console shows, as a file.
    pub fn console(&self) -> PathBuf {
        lab_dir().join("machine/console.log")
    }
}
