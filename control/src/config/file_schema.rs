//! The configuration file as it is written: every key optional, every value with its place, nothing judged yet.
//!
//! ```toml
//! [dataplane]                      # what `pollux settings` prints for pollux-dataplane
//! cores = [1, 2]                   # one worker a core; default: all but the first CPU
//! connections = 1000000            # size of the connection table
//! poll = "adaptive"                # or "busy"
//! huge_pages = "auto"              # or "always" (true), "never" (false)
//! memory_mib = 256                 # packet buffers; default: computed
//! file_prefix = "pollux"           # DPDK's; two data planes need two
//! transmit_checksums = true        # NICs fill in those of GUE tunnels; default: when the file has such with checksums
//! exception_path = "auto"          # what makes the TAPs: "vhost-net", "net_tap"; default: vhost-net where the kernel has it
//!
//! [[dataplane.port]]               # default: every NIC bound to a DPDK driver
//! name = "wan"                     # also the name of its TAP
//! device = "0000:01:00.0"          # or a DPDK vdev: "net_af_packet0,iface=eth1"; or several as one, with active-backup
//!                                  # or lacp: "bond:lacp:0000:01:00.0+0000:01:00.1"
//! mtu = 1500
//! side = "clients"                 # who is behind it, if one kind only, or "servers": how the NIC chooses queues
//!
//! [dataplane.punt]                 # packets a second that each worker hands to the kernel, by class; more is dropped
//! arp = 10000                      # ARP, neighbour discovery
//! vrrp = 2000
//! routing = 20000                  # BGP, OSPF, IS-IS, RIP, PIM, IGMP, MLD, BFD
//! icmp = 5000
//! other = 50000                    # SSH, DNS, packets to ports that nobody serves
//!
//! [control]
//! socket_mode = "0660"             # of control.sock
//! socket_group = "pollux"          # default: that of the process
//! metrics = "127.0.0.1:9750"       # where Prometheus finds /metrics; default: nowhere
//!
//! [ipvs]                           # Linux' net.ipv4.vs and timeouts: `pollux show settings` tells them all
//! sloppy_tcp = 1                   # true and false will do, too
//! timeout_udp = 60                 # seconds
//!
//! [[mark]]                         # firewall marks, for services of a mark; the first rule that matches decides
//! mark = 7
//! source = "192.0.2.0/24"          # what is not said matches everything
//! destination = "203.0.113.0/24"
//! protocol = "tcp"
//! source_ports = "1024-65535"
//! destination_ports = "80"
//! ingress = "wan"                  # name of a port
//!
//! [[check]]                        # how servers are checked: docs/health-checks.md
//! name = "web"
//! kind = "http"
//!
//! [[service]]
//! check = "web"                    # or several: ["web", "agent"]; default: its servers are not checked
//! start_down = false               # true: no server serves before its first good check
//! on_failure = "drain"             # or "remove"
//! slow_start_s = 30                # the weight of a server that returns rises in this time; default: 0
//! quorum = 1                       # weight that has to be up; see docs/health-checks.md
//! protocol = "tcp"                 # or "udp", "sctp"
//! address = "198.51.100.1:80"      # port 0: all ports, with persistence
//! # fwmark = 7                     # instead of protocol and address
//! # family = "ipv6"                # with fwmark; default: ipv4
//! persistence_timeout = 300        # seconds a client keeps its server; default: not at all
//! persistence_engine = "sip"        # with it: calls by their Call-ID, over UDP; default: none
//! persistence_netmask = "255.255.255.0"  # clients that count as one; for IPv6 a prefix length: "64"
//! one_packet = false               # true: each packet is scheduled by itself, for UDP
//! timeouts = { tcp = 60, tcp_fin = 10 }  # seconds without traffic, for UDP: udp; default: [ipvs]'s
//! scheduler = "mh"                 # `pollux show schedulers` tells them all; default: wlc
//! scheduler_flags = ["mh-fallback", "mh-port"]
//!
//! [[service.server]]
//! address = "203.0.113.11:80"      # port optional: the service's
//! method = "tunnel"                # nat, tunnel or direct; default: direct
//! tunnel_type = "gue"              # ipip, gre or gue, with method tunnel; default: ipip
//! tunnel_port = 5555               # the server's UDP port for gue
//! tunnel_checksum = "csum"         # nocsum, csum, for gue also remcsum; default: nocsum
//! weight = 3                       # default: 1; 0 drains
//! upper_threshold = 0              # no new connections at this many; 0: no limit
//! lower_threshold = 0              # new ones again below this many; 0: three quarters
//! ```
//!
//! The order of services and servers is the order in which they are added.

use std::num::NonZeroU32;

use pollux_api::identity::Endpoint;
use pollux_api::ipvs_settings::SETTINGS;
use pollux_api::persistence;
use pollux_api::service_timeouts::TIMEOUT_S;
use pollux_api::settings::{
    CONNECTIONS, ExceptionPath, HugePages, MEMORY_MIB, MTU, PUNT_RATE, PollMode, PortSide,
    PuntRates,
};
use pollux_api::{
    Family, ForwardingMethod, MarkRule, Netmask, PersistenceEngine, Protocol, SchedulerFlags,
    SchedulerName, SyncDaemon, SyncRole, TunnelChecksum, TunnelType, Weight, synchronisation,
};
use toml::de::DeTable;

use super::health::{CheckTable, ServiceChecks};
use super::problem::{Located, Place, ProblemList};
use super::table_reader::TableReader;
use crate::server_address::ServerAddress;

/// The file. Services are read one by one, when their turn comes: each key read remembers its place, which is much more than
/// its value, and of servers there may be tens of thousands.
#[derive(Debug)]
pub struct FileSchema<'a> {
    /// `[dataplane]`
    pub dataplane: DataplaneTable,
    /// `[control]`
    pub control: ControlTable,
    /// `[ipvs]`
    pub ipvs: IpvsTable,
    /// `[[mark]]`
    pub marks: Vec<MarkTable>,
    /// `[[sync]]`
    pub syncs: Vec<SyncTable>,
    /// `[[service]]`, each for [`ServiceTable::read`].
    pub services: Vec<TableReader<'a>>,
    /// `[[check]]`
    pub checks: Vec<CheckTable>,
}

/// `[ipvs]`: names and values, in the order of the names.
#[derive(Debug, Default)]
pub struct IpvsTable(pub Vec<(&'static str, Located<u32>)>);

/// `[[mark]]`
#[derive(Debug)]
pub struct MarkTable {
    /// Where it starts.
    pub place: Place,
    /// The rule, unless a value could not be read.
    pub rule: Option<MarkRule>,
}

/// `[[sync]]`
#[derive(Debug)]
pub struct SyncTable {
    /// Where it starts.
    pub place: Place,
    /// Which daemon, and how it is started, unless that could not be read.
    pub daemon: Option<(SyncRole, SyncDaemon)>,
}

/// `[dataplane]`
#[derive(Debug, Default)]
pub struct DataplaneTable {
    /// Cores of the workers.
    pub cores: Option<Located<Vec<u16>>>,
    /// Entries of the connection table.
    pub connections: Option<Located<u32>>,
    /// How workers wait.
    pub poll: Option<Located<PollMode>>,
    /// Kind of memory.
    pub huge_pages: Option<HugePages>,
    /// Memory for packet buffers.
    pub memory_mib: Option<Located<u32>>,
    /// DPDK's file prefix.
    pub file_prefix: Option<Located<String>>,
    /// Whether NICs fill in checksums.
    pub transmit_checksums: Option<bool>,
    /// What makes the TAPs.
    pub exception_path: Option<Located<ExceptionPath>>,
    /// `[dataplane.punt]`
    pub punt: PuntRates,
    /// `[[dataplane.port]]`
    pub ports: Vec<PortTable>,
}

/// `[[dataplane.port]]`
#[derive(Debug)]
pub struct PortTable {
    /// Name of port and TAP.
    pub name: Option<Located<String>>,
    /// PCI address or vdev.
    pub device: Option<Located<String>>,
    /// MTU in bytes.
    pub mtu: Option<Located<u16>>,
    /// Who is behind it.
    pub side: Option<Located<PortSide>>,
}

/// `[control]`
#[derive(Debug, Default)]
pub struct ControlTable {
    /// Mode of the control socket, in octal.
    pub socket_mode: Option<Located<String>>,
    /// Group of the control socket.
    pub socket_group: Option<Located<String>>,
    /// Address and port for `GET /metrics`.
    pub metrics: Option<Located<String>>,
}

/// `[[service]]`
#[derive(Debug)]
pub struct ServiceTable<'a> {
    /// Where it starts.
    pub place: Place,
    /// The transport protocol.
    pub protocol: Option<Located<Protocol>>,
    /// Virtual address and port.
    pub address: Option<Located<Endpoint>>,
    /// A firewall mark instead of both.
    pub fwmark: Option<Located<u32>>,
    /// IP version of a firewall mark's packets.
    pub family: Option<Located<Family>>,
    /// Seconds a client keeps its server.
    pub persistence_timeout: Option<Located<u32>>,
    /// Whether the key is there, however it reads.
    pub has_persistence_timeout: bool,
    /// Which clients count as one.
    pub persistence_netmask: Option<Located<Netmask>>,
    /// What else tells clients apart.
    pub persistence_engine: Option<Located<PersistenceEngine>>,
    /// Whether each packet is scheduled by itself.
    pub one_packet: Option<Located<bool>>,
    /// How long its connections live.
    pub timeouts: TimeoutsTable,
    /// Who gets the next connection.
    pub scheduler: Option<Located<SchedulerName>>,
    /// Flags of the scheduler, one each.
    pub scheduler_flags: Option<Located<Vec<SchedulerFlags>>>,
    /// How its servers are checked.
    pub checks: ServiceChecks,
    /// `[[service.server]]`, each for [`ServerTable::read`].
    pub servers: Vec<TableReader<'a>>,
}

/// `timeouts` of a service.
#[derive(Debug, Default)]
pub struct TimeoutsTable {
    /// TCP, state ESTABLISHED, seconds.
    pub tcp: Option<Located<u32>>,
    /// TCP, state FIN_WAIT, seconds.
    pub tcp_fin: Option<Located<u32>>,
    /// UDP, seconds.
    pub udp: Option<Located<u32>>,
}

/// `[[service.server]]`
#[derive(Debug)]
pub struct ServerTable {
    /// Where it starts.
    pub place: Place,
    /// Its address, with or without a port.
    pub address: Option<Located<ServerAddress>>,
    /// How packets reach it.
    pub method: Option<Located<ForwardingMethod>>,
    /// What wraps the packets of a tunnel.
    pub tunnel_type: Option<Located<TunnelType>>,
    /// Where a GUE tunnel goes.
    pub tunnel_port: Option<Located<u16>>,
    /// The checksum of a tunnel.
    pub tunnel_checksum: Option<Located<TunnelChecksum>>,
    /// Whether a value that is there could be read, of all that a tunnel depends on.
    pub tunnel_is_read: bool,
    /// Its share.
    pub weight: Option<Located<u32>>,
    /// Upper connection threshold.
    pub upper_threshold: Option<Located<u32>>,
    /// Lower connection threshold.
    pub lower_threshold: Option<Located<u32>>,
}

impl<'a> FileSchema<'a> {
    /// Reads the tables of a parsed file; what cannot be read goes on the list.
    pub fn read(root: &'a DeTable<'a>, problems: &'a ProblemList) -> Self {
        let dataplane = DataplaneTable::read(root, problems);
        let root = TableReader::root(root, problems);
        let control = root.table("control").map(read_control);
        let schema = Self {
            dataplane,
            control: control.unwrap_or_default(),
            ipvs: root.table("ipvs").map(read_ipvs).unwrap_or_default(),
            marks: root.tables("mark").into_iter().map(read_mark).collect(),
            syncs: root.tables("sync").into_iter().map(read_sync).collect(),
            services: root.tables("service"),
            checks: root
                .tables("check")
                .into_iter()
                .map(CheckTable::read)
                .collect(),
        };
        root.ignore("dataplane");
        root.finish();
        schema
    }
}

impl DataplaneTable {
    /// Reads `[dataplane]` alone, whatever else the file says.
    pub fn read(root: &DeTable<'_>, problems: &ProblemList) -> Self {
        let root = TableReader::root(root, problems);
        root.table("dataplane")
            .map(read_dataplane)
            .unwrap_or_default()
    }
}

/// Whether a service has a server that is reached by GUE with checksums; what is wrong with services is not looked at here.
pub fn has_summed_gue(root: &DeTable<'_>) -> bool {
    fn tables<'a>(table: &'a DeTable<'_>, key: &str) -> impl Iterator<Item = &'a DeTable<'a>> {
        let array = table.get(key).and_then(|found| found.get_ref().as_array());
        let tables = array.into_iter().flat_map(|array| array.iter());
        tables.filter_map(|table| table.get_ref().as_table())
    }
    let word = |table: &DeTable<'_>, key: &str| {
        let found = table.get(key).and_then(|found| found.get_ref().as_str());
        found.map(str::to_owned)
    };
    tables(root, "service")
        .flat_map(|service| tables(service, "server"))
        .any(|server| {
            let checksum = word(server, "tunnel_checksum");
            word(server, "tunnel_type").as_deref() == Some(TunnelType::Gue.as_str())
                && checksum.is_some_and(|word| word != TunnelChecksum::Nocsum.as_str())
        })
}

fn read_dataplane(table: TableReader<'_>) -> DataplaneTable {
    let read = DataplaneTable {
        cores: table.numbers("cores", 0..=1023),
        connections: table.number("connections", CONNECTIONS),
        poll: table.word(
            "poll",
            &[("adaptive", PollMode::Adaptive), ("busy", PollMode::Busy)],
        ),
        huge_pages: read_huge_pages(&table),
        memory_mib: table.number("memory_mib", MEMORY_MIB),
        file_prefix: table.text("file_prefix", "pollux"),
        transmit_checksums: table.boolean("transmit_checksums").map(|on| on.value),
        exception_path: table.word("exception_path", &ExceptionPath::WORDS),
        punt: table.table("punt").map(read_punt).unwrap_or_default(),
        ports: table.tables("port").into_iter().map(read_port).collect(),
    };
    table.finish();
    read
}

fn read_huge_pages(table: &TableReader<'_>) -> Option<HugePages> {
    match table.switch("huge_pages") {
        Some(true) => Some(HugePages::Always),
        Some(false) => Some(HugePages::Never),
        None => table
            .word(
                "huge_pages",
                &[
                    ("auto", HugePages::Auto),
                    ("always", HugePages::Always),
                    ("never", HugePages::Never),
                ],
            )
            .map(|word| word.value),
    }
}

fn read_port(table: TableReader<'_>) -> PortTable {
    let (name, device) = ("wan", "0000:01:00.0");
    let read = PortTable {
        name: table.require(table.text("name", name), "name", name),
        device: table.require(table.text("device", device), "device", device),
        mtu: table.number("mtu", MTU),
        side: table.word(
            "side",
            &[
                ("clients", PortSide::Clients),
                ("servers", PortSide::Servers),
            ],
        ),
    };
    table.finish();
    read
}

fn read_punt(table: TableReader<'_>) -> PuntRates {
    let defaults = PuntRates::default();
    let rate = |key, default| {
        let given = table.number(key, PUNT_RATE);
        given.map_or(default, |located: Located<u32>| located.value)
    };
    let read = PuntRates {
        arp: rate("arp", defaults.arp),
        vrrp: rate("vrrp", defaults.vrrp),
        routing: rate("routing", defaults.routing),
        icmp: rate("icmp", defaults.icmp),
        other: rate("other", defaults.other),
    };
    table.finish();
    read
}

fn read_control(table: TableReader<'_>) -> ControlTable {
    let read = ControlTable {
        socket_mode: table.text("socket_mode", "0660"),
        socket_group: table.text("socket_group", "pollux"),
        metrics: table.text("metrics", "127.0.0.1:9750"),
    };
    table.finish();
    read
}

fn read_ipvs(table: TableReader<'_>) -> IpvsTable {
    let known = SETTINGS.iter().filter_map(|known| {
        // Switches may be written as such.
        let is_switch = known.max == 1 || known.fixed.is_some();
        let switched = is_switch.then(|| table.switch(known.name)).flatten();
        let value = match switched {
            Some(on) => Located {
                value: u32::from(on),
                place: table.place_of(known.name),
            },
            None => table.number(known.name, 0..=u32::MAX)?,
        };
        Some((known.name, value))
    });
    let read = IpvsTable(known.collect());
    table.finish();
    read
}

fn read_mark(table: TableReader<'_>) -> MarkTable {
    let mark = table.require(table.number("mark", 1..=u32::MAX), "mark", "7");
    let keys = [
        "mark",
        "source",
        "destination",
        "protocol",
        "source_ports",
        "destination_ports",
        "ingress",
    ];
    fn value<T>(located: Option<Located<T>>) -> Option<T> {
        located.map(|located| located.value)
    }
    let rule = value(mark).and_then(NonZeroU32::new).map(|mark| MarkRule {
        mark,
        source: value(table.parsed("source", "192.0.2.0/24")),
        destination: value(table.parsed("destination", "203.0.113.0/24")),
        protocol: value(table.word("protocol", &PROTOCOLS)),
        source_ports: value(table.parsed("source_ports", "1024-65535")),
        destination_ports: value(table.parsed("destination_ports", "80")),
        ingress: value(table.text("ingress", "wan")),
    });
    // A rule without what could not be read would match too much.
    let is_read = rule.as_ref().is_some_and(|rule| {
        let read = [
            true,
            rule.source.is_some(),
            rule.destination.is_some(),
            rule.protocol.is_some(),
            rule.source_ports.is_some(),
            rule.destination_ports.is_some(),
            rule.ingress.is_some(),
        ];
        keys.into_iter()
            .zip(read)
            .all(|(key, is_read)| is_read || !table.has(key))
    });
    let read = MarkTable {
        place: table.place(),
        rule: rule.filter(|_| is_read),
    };
    table.finish();
    read
}

fn read_sync(table: TableReader<'_>) -> SyncTable {
    let roles = SyncRole::ALL.map(|role| (role.as_str(), role));
    let role = table.require(table.word("role", &roles), "role", "master");
    let interface = table.require(table.text("interface", "wan"), "interface", "wan");
    fn or<T>(located: Option<Located<T>>, default: T) -> T {
        located.map_or(default, |located| located.value)
    }
    let id = or(table.number("id", 0..=u8::MAX), 0);
    let group = or(table.parsed("group", "224.0.0.81"), synchronisation::GROUP);
    let port = or(table.number("port", 1..=u16::MAX), synchronisation::PORT);
    let ttl = or(table.number("ttl", 1..=u8::MAX), synchronisation::TTL);
    let datagram_bytes = table.number("datagram_bytes", 1..=u16::MAX);
    let read = SyncTable {
        place: table.place(),
        daemon: role.zip(interface).map(|(role, interface)| {
            let daemon = SyncDaemon {
                interface: interface.value,
                id,
                group,
                port,
                ttl,
                datagram_bytes: datagram_bytes.map(|located| located.value),
            };
            (role.value, daemon)
        }),
    };
    table.finish();
    read
}

const PROTOCOLS: [(&str, Protocol); 3] = [
    ("tcp", Protocol::Tcp),
    ("udp", Protocol::Udp),
    ("sctp", Protocol::Sctp),
];

impl<'a> ServiceTable<'a> {
    /// Reads one table, but not those of its servers; what cannot be read goes on the list.
    pub fn read(table: TableReader<'a>) -> Self {
        let families = [("ipv4", Family::Ipv4), ("ipv6", Family::Ipv6)];
        let by_mark = table.has("fwmark");
        let mut read = Self {
            place: table.place(),
            protocol: table.word("protocol", &PROTOCOLS),
            address: table.parsed("address", "198.51.100.1:80"),
            fwmark: table.number("fwmark", 1..=u32::MAX),
            family: table.word("family", &families),
            persistence_timeout: table.number("persistence_timeout", persistence::TIMEOUT_S),
            has_persistence_timeout: table.has("persistence_timeout"),
            persistence_netmask: table.parsed("persistence_netmask", "255.255.255.0"),
            persistence_engine: table.parsed("persistence_engine", "sip"),
            one_packet: table.boolean("one_packet"),
            timeouts: table
                .table("timeouts")
                .map(TimeoutsTable::read)
                .unwrap_or_default(),
            scheduler: table.parsed("scheduler", "wlc"),
            scheduler_flags: table.all_parsed("scheduler_flags", "mh-fallback"),
            checks: ServiceChecks::read(&table),
            servers: table.tables("server"),
        };
        if !by_mark {
            read.protocol = table.require(read.protocol, "protocol", "tcp");
            read.address = table.require(read.address, "address", "198.51.100.1:80");
        }
        table.finish();
        read
    }
}

impl TimeoutsTable {
    fn read(table: TableReader<'_>) -> Self {
        let read = Self {
            tcp: table.number("tcp", TIMEOUT_S),
            tcp_fin: table.number("tcp_fin", TIMEOUT_S),
            udp: table.number("udp", TIMEOUT_S),
        };
        table.finish();
        read
    }
}

impl ServerTable {
    /// Reads one table; what cannot be read goes on the list.
    pub fn read(table: TableReader<'_>) -> Self {
        let address = "203.0.113.11:80";
        let methods = [
            ForwardingMethod::Nat,
            ForwardingMethod::Tunnel,
            ForwardingMethod::Direct,
        ]
        .map(|known| (known.as_str(), known));
        let types = TunnelType::ALL.map(|known| (known.as_str(), known));
        let checksums = TunnelChecksum::ALL.map(|known| (known.as_str(), known));
        let method = table.word("method", &methods);
        let tunnel_type = table.word("tunnel_type", &types);
        let tunnel_port = table.number("tunnel_port", 1..=u16::MAX);
        let tunnel_checksum = table.word("tunnel_checksum", &checksums);
        let tunnel_is_read = [
            ("method", method.is_some()),
            ("tunnel_type", tunnel_type.is_some()),
            ("tunnel_port", tunnel_port.is_some()),
            ("tunnel_checksum", tunnel_checksum.is_some()),
        ]
        .into_iter()
        .all(|(key, is_read)| is_read || !table.has(key));
        let read = ServerTable {
            place: table.place(),
            address: table.require(table.parsed("address", address), "address", address),
            method,
            tunnel_type,
            tunnel_port,
            tunnel_checksum,
            tunnel_is_read,
            weight: table.number("weight", 0..=Weight::MAX),
            upper_threshold: table.number("upper_threshold", 0..=u32::MAX),
            lower_threshold: table.number("lower_threshold", 0..=u32::MAX),
        };
        table.finish();
        read
    }
}
