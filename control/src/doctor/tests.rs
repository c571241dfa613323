//! Each finding on a machine that has it, and none on one that is well.

mod devices;

use super::*;
use crate::config::validate;
use crate::host::made_up::MadeUp;

const FILE: &str = r#"
[dataplane]
cores = [1, 2]
connections = 1_000_000
memory_mib = 256
[[dataplane.port]]
name = "wan"
device = "0000:03:00.0"
[[service]]
protocol = "tcp"
address = "198.51.100.1:80"
[[service.server]]
address = "203.0.113.11:80"
method = "nat"
"#;

/// A machine on which all is well: one port, two isolated cores, memory, addresses, a server that answers.
fn well() -> MadeUp {
    MadeUp::new()
        .cpus(0, 0..4)
        .file("sys/devices/system/cpu/online", "0-3")
        .file("sys/devices/system/cpu/isolated", "1-2")
        .huge_pages(512, 400)
        .file(
            "proc/mounts",
            "hugetlbfs /dev/hugepages hugetlbfs rw,pagesize=2M 0 0\n",
        )
        .pci("0000:03:00.0", "0x020000", "vfio-pci", 0, 7)
        .file("proc/11/comm", "pollux-dataplan\n")
        .link("proc/11/exe", "/usr/bin/pollux-dataplane")
        .file("proc/12/comm", "polluxd\n")
        .link("proc/12/exe", "/usr/bin/polluxd")
        .file(
            "etc/systemd/system/multi-user.target.wants/pollux-setup.service",
            "",
        )
        .file("proc/sys/net/ipv4/ip_forward", "1")
        .file("proc/sys/net/ipv6/conf/all/forwarding", "1")
        .file(
            "ip/neighbour",
            r#"[{"dst":"203.0.113.11","dev":"wan","state":["REACHABLE"]}]"#,
        )
        .file(
            "ip/route-get-203.0.113.11",
            r#"[{"dst":"203.0.113.11","dev":"wan","prefsrc":"203.0.113.1"}]"#,
        )
        .file(
            "ip/address",
            r#"[{"ifname":"wan","flags":["UP"],"addr_info":[{"local":"203.0.113.1","prefixlen":24},
                {"local":"198.51.100.1","prefixlen":32}]}]"#,
        )
}

/// The same from the disk image, which sets itself up at boot.
fn appliance() -> MadeUp {
    let wanted = "etc/systemd/system/multi-user.target.wants";
    well()
        .without(&format!("{wanted}/pollux-setup.service"))
        .file(&format!("{wanted}/pollux-appliance.service"), "")
}

fn port() -> PortStatus {
    serde_json::from_value(serde_json::json!({
        "name": "wan", "device": "0000:03:00.0", "driver": "net_ixgbe", "mac": "02:00:00:00:00:01", "mtu": 1500, "link_up": true,
        "speed_mbps": 10000, "receive_queues": 2, "transmit_queues": 2, "nic": {"received_packets": 0, "sent_packets": 0,
        "received_bytes": 0, "sent_bytes": 0, "missed_packets": 0, "receive_errors": 0, "send_errors": 0, "no_buffer": 0},
        "kernel_transmitted": 0, "extended": []
    }))
    .unwrap()
}

fn worker(number: u16) -> WorkerStatus {
    serde_json::from_value(serde_json::json!({
        "worker": number, "core": number + 1, "loops": 0, "busy_loops": 0, "received": 0, "connections_created": 0,
        "connections_expired": 0, "connections": 0, "generation": 1, "busy_share": 0.0, "busy_ns": 0,
        "connections_evicted": 0, "forwarded_without_entry": 0, "icmp_errors": 0
    }))
    .unwrap()
}

fn patient(machine: &MadeUp, file: &str) -> Patient {
    let config = validate::parse("file", file).unwrap();
    Patient {
        root: machine.root(),
        settings: config.dataplane().clone(),
        configuration: config.configuration().clone(),
        daemons: Daemons {
            ipvs_socket: true,
            ports: vec![port()],
            workers: vec![worker(0), worker(1)],
            ..Daemons::default()
        },
    }
}

/// What is not as it should be, a line each with its mends.
fn ills(patient: &Patient) -> Vec<String> {
    let findings = examine(patient)
        .into_iter()
        .filter(|finding| finding.level != Level::Fine);
    findings
        .map(|finding| {
            format!(
                "{:?} {}: {} -> {}",
                finding.level,
                finding.about,
                finding.text,
                finding.mend.join("; ")
            )
        })
        .collect()
}

/// The one thing that is not as it should be starts so, and is mended with that among it.
#[track_caller]
fn only(patient: &Patient, start: &str, mend: &str) {
    let found = ills(patient);
    assert_eq!(found.len(), 1, "{found:#?}");
    assert!(found[0].starts_with(start), "{found:#?}");
    assert!(found[0].contains(mend), "{found:#?}");
}

#[track_caller]
fn only_on(machine: MadeUp, start: &str, mend: &str) {
    only(&patient(&machine, FILE), start, mend);
}

#[test]
fn a_machine_that_is_well_has_no_ills() {
    let machine = well();
    let patient = patient(&machine, FILE);
    assert_eq!(ills(&patient), [""; 0]);
    let about: BTreeSet<&str> = examine(&patient)
        .iter()
        .map(|finding| finding.about)
        .collect();
    let all = [
        "addresses",
        "boot",
        "cores",
        "daemons",
        "devices",
        "exception path",
        "huge pages",
        "ports",
        "servers",
    ];
    assert_eq!(about, BTreeSet::from(all));
}

#[test]
fn taps_of_net_tap_where_vhost_net_could_make_them() {
    let machine = well()
        .file("proc/sys/kernel/osrelease", "6.1")
        .file("lib/modules/6.1/modules.dep", "x/vhost_net.ko: x/vhost.ko");
    let advice = "Advice exception path: TAPs are made by net_tap, which costs a worker a system call for each frame: vhost-net \
                  is not loaded -> modprobe vhost_net   # `pollux setup` does so at every boot; systemctl restart pollux-dataplane";
    assert_eq!(ills(&patient(&machine, FILE)), [advice]);
    let jumbo = FILE.replace("device = ", "mtu = 9000\ndevice = ");
    let wrong = "Wrong exception path: the MTU of port wan needs vhost-net, which is not loaded: the data plane does not start -> \
                 modprobe vhost_net   # `pollux setup` does so at every boot";
    assert!(ills(&patient(&machine, &jumbo)).contains(&wrong.to_owned()));
    let asked = FILE.replace("memory_mib", "exception_path = \"vhost-net\"\nmemory_mib");
    let missing = machine.without("lib/modules");
    assert_eq!(ills(&patient(&missing, FILE)), [""; 0]);
    let wrong = ills(&patient(&missing, &asked)).join("\n");
    assert!(
        wrong.contains(
            "exception_path = \"vhost-net\" needs vhost-net, which this kernel does not have"
        ),
        "{wrong}"
    );
    let ready = missing.file("dev/vhost-net", "");
    let mut running = patient(&ready, &asked);
    assert_eq!(ills(&running), [""; 0]);
    running.daemons.ports[0].exception_path = "net_tap".to_owned();
    let advice = ills(&running).join("\n");
    assert!(
        advice.contains("the TAP of port wan was made by net_tap"),
        "{advice}"
    );
}

#[test]
fn too_few_huge_pages() {
    // Another program has them, and no data plane runs yet.
    let machine = well().huge_pages(512, 10).without("proc/11");
    let mut stopped = patient(&machine, FILE);
    stopped.daemons.ports.clear();
    let found = ills(&stopped);
    assert!(
        found[1].starts_with("Wrong huge pages: 20 MiB free, 368 MiB needed: 256 MiB for frames and 112 MiB for 1000000 connections"),
        "{found:#?}"
    );
    assert!(found[1].contains("pollux setup "), "{found:#?}");
    assert!(
        found[1].contains("echo 686 > /sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages"),
        "{found:#?}"
    );
    // The table that a data plane left is there already.
    let machine = machine
        .huge_pages(512, 130)
        .file("dev/hugepages/pollux-connections", "");
    stopped.root = machine.root();
    assert_eq!(ills(&stopped).len(), 1);
}

#[test]
fn no_huge_pages_at_all() {
    only_on(
        well().without("sys/kernel/mm/hugepages"),
        "Wrong huge pages: this kernel has no huge pages of 2 MiB",
        "huge_pages = \"never\"",
    );
    let machine = well()
        .without("sys/kernel/mm/hugepages")
        .file("proc/mounts", "");
    let never = FILE.replace("memory_mib", "huge_pages = \"never\"\nmemory_mib");
    assert_eq!(ills(&patient(&machine, &never)), [""; 0]);
}

#[test]
fn huge_pages_that_are_not_mounted() {
    only_on(
        well().file("proc/mounts", ""),
        "Wrong huge pages: not mounted",
        "mount -t hugetlbfs -o pagesize=2M nodev /dev/hugepages",
    );
    only_on(
        well().file(
            "proc/mounts",
            "hugetlbfs /huge hugetlbfs rw,pagesize=1024M 0 0\n",
        ),
        "Wrong huge pages: not mounted",
        "pagesize=2M",
    );
}

#[test]
fn huge_pages_of_another_node() {
    let node = "sys/devices/system/node/node1/hugepages/hugepages-2048kB";
    let machine = || {
        well()
            .cpus(1, 4..8)
            .file("sys/devices/system/cpu/online", "0-7")
            .file("sys/devices/system/cpu/isolated", "1-2,4-7")
            .file("sys/bus/pci/devices/0000:03:00.0/numa_node", "1")
    };
    // 256 MiB for frames and 112 for the table.
    let too_few = machine().file(&format!("{node}/nr_hugepages"), "183");
    let near = FILE.replace("cores = [1, 2]", "");
    let found = ills(&patient(&too_few, &near));
    assert_eq!(found.len(), 1, "{found:#?}");
    assert!(
        found[0].starts_with(
            "Advice huge pages: 366 MiB on NUMA node 1, where port wan is, 368 MiB needed"
        ),
        "{found:#?}"
    );
    let enough = machine().file(&format!("{node}/nr_hugepages"), "184");
    // Without names the workers are on the node of the NIC.
    let findings = examine(&patient(&enough, &near));
    let is_near = |finding: &Finding| finding.text == "workers on cores 4-7 of 0-7";
    assert!(findings.iter().any(is_near), "{findings:#?}");
    assert_eq!(ills(&patient(&enough, &near)), [""; 0]);

    let machine = machine().file(&format!("{node}/nr_hugepages"), "0");
    let found = ills(&patient(&machine, FILE));
    assert!(
        found[0].starts_with("Advice huge pages: none on NUMA node 1, where port wan is, "),
        "{found:#?}"
    );
    assert!(
        found[0].contains("/sys/devices/system/node/node1/hugepages/hugepages-2048kB/nr_hugepages")
    );
    // Its workers are far from it, too.
    assert!(
        found[1].starts_with("Advice cores: port wan is on NUMA node 1, and no worker is"),
        "{found:#?}"
    );
}

#[test]
fn cores_that_are_not_there() {
    let file = FILE.replace("[1, 2]", "[2, 9]");
    let found = ills(&patient(&well(), &file));
    assert!(
        found[0].starts_with(
            "Wrong cores: cores 9 of the workers are not there, or off -> write cores of 0-3"
        ),
        "{found:#?}"
    );
}

#[test]
fn cores_that_others_use() {
    only_on(
        well().file("sys/devices/system/cpu/isolated", "2"),
        "Advice cores: cores 1 are not isolated",
        "isolcpus=1-2 nohz_full=1-2 rcu_nocbs=1-2",
    );
}

#[test]
fn cores_that_share_one() {
    let siblings =
        |cpu: u16| format!("sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list");
    let machine = well().file(&siblings(1), "1-2").file(&siblings(2), "1-2");
    only_on(
        machine,
        "Advice cores: workers 1 and 2 are hyperthreads of one core",
        "leave 2 out of cores",
    );
    let machine = well().file(&siblings(1), "1,3").file(&siblings(3), "1,3");
    only_on(
        machine,
        "Advice cores: worker 1 shares its core with processor 3, where other programs run",
        "echo 0 > /sys/devices/system/cpu/cpu3/online",
    );
}

#[test]
fn ports_without_link_or_queues() {
    let machine = well();
    let mut patient = patient(&machine, FILE);
    patient.daemons.ports[0].link_up = false;
    only(
        &patient,
        "Wrong ports: port wan has no link",
        "pollux show ports",
    );
    patient.daemons.ports[0].gone = true;
    only(
        &patient,
        "Wrong ports: port wan: its device 0000:03:00.0 is gone since the start",
        "restart pollux-dataplane",
    );
    let member = |gone| pollux_api::dataplane::MemberStatus {
        device: "0000:04:00.0".to_owned(),
        gone,
        link_up: false,
        carries: false,
    };
    patient.daemons.ports[0] = port();
    patient.daemons.ports[0].members = vec![member(false)];
    only(
        &patient,
        "Wrong ports: port wan: 0000:04:00.0 of the bond has no link",
        "look at cable and switch",
    );
    patient.daemons.ports[0].members = vec![member(true)];
    only(
        &patient,
        "Wrong ports: port wan: 0000:04:00.0 is gone from the bond since the start",
        "restart pollux-dataplane",
    );
    patient.daemons.ports[0] = port();
    patient.daemons.ports[0].receive_queues = 1;
    only(
        &patient,
        "Advice ports: port wan has 1 receive queues for 2 workers",
        "this NIC has no more",
    );
    patient.daemons.ports[0].driver = "net_af_packet".to_owned();
    only(&patient, "Advice ports", "qpairs=2");
    patient.daemons.ports[0] = port();
    patient.daemons.ports[0].transmit_queues = 1;
    only(
        &patient,
        "Advice ports: port wan has 1 transmit queues for 2 workers: they take turns",
        "fewer cores",
    );
    patient.daemons.ports[0] = port();
    patient.daemons.ports[0].nic.missed_packets = 5;
    only(
        &patient,
        "Advice ports: port wan lost 5 packets",
        "pollux show workers",
    );
}

#[test]
fn taps_that_are_not_set_up() {
    let tap = |text: &str| {
        well().file(
            "ip/address",
            &format!(
                "[{{\"ifname\":\"lo\",\"addr_info\":[{{\"local\":\"198.51.100.1\"}}]}}{text}]"
            ),
        )
    };
    only_on(
        tap(""),
        "Wrong addresses: there is no interface wan",
        "systemctl restart pollux-dataplane",
    );
    only_on(
        tap(r#",{"ifname":"wan","flags":[]}"#),
        "Wrong addresses: interface wan is down",
        "ip link set wan up",
    );
    only_on(
        tap(r#",{"ifname":"wan","flags":["UP"],"addr_info":[{"local":"fe80::1"}]}"#),
        "Wrong addresses: interface wan has no address",
        "ip address add ADDRESS/LENGTH dev wan",
    );
}

#[test]
fn virtual_addresses_that_nobody_has() {
    let machine = well().file(
        "ip/address",
        r#"[{"ifname":"wan","flags":["UP"],"addr_info":[{"local":"203.0.113.1"}]}]"#,
    );
    only_on(
        machine,
        "Wrong addresses: no interface has the virtual address 198.51.100.1",
        "ip address add 198.51.100.1/32 dev wan",
    );
    let machine = well()
        .file(
            "ip/address",
            r#"[{"ifname":"wan","flags":["UP"],"addr_info":[{"local":"203.0.113.1"}]},{"ifname":"lo","addr_info":[{"local":"198.51.100.1"}]}]"#,
        )
        .file("proc/sys/net/ipv4/conf/all/arp_ignore", "1");
    only_on(
        machine,
        "Advice addresses: virtual address 198.51.100.1 is on lo, and arp_ignore keeps wan from answering ARP for it",
        "ip address add 198.51.100.1/32 dev wan",
    );
}

#[test]
fn settings_of_the_kernel() {
    only_on(
        well().file("proc/sys/net/ipv4/ip_forward", "0"),
        "Advice addresses: net.ipv4.ip_forward is 0",
        "sysctl -w net.ipv4.ip_forward=1",
    );
    only_on(
        well().file("proc/sys/net/ipv4/conf/wan/rp_filter", "1"),
        "Advice addresses: rp_filter of wan is strict",
        "net.ipv4.conf.wan.rp_filter=2",
    );
    // Loose is fine, whatever the other one says.
    let machine = well()
        .file("proc/sys/net/ipv4/conf/wan/rp_filter", "1")
        .file("proc/sys/net/ipv4/conf/all/rp_filter", "2");
    assert_eq!(ills(&patient(&machine, FILE)), [""; 0]);
}

#[test]
fn servers_that_cannot_be_reached() {
    only_on(
        well().file(
            "ip/neighbour",
            r#"[{"dst":"203.0.113.11","dev":"wan","state":["FAILED"]}]"#,
        ),
        "Wrong servers: server 203.0.113.11 does not answer on wan",
        "ping -c 1 -I wan 203.0.113.11",
    );
    only_on(
        well().without("ip/route-get-203.0.113.11"),
        "Wrong servers: there is no route to server 203.0.113.11",
        "ip route add",
    );
    let route = |text: &str| {
        well().file(
            "ip/route-get-203.0.113.11",
            &format!("[{{\"dst\":\"203.0.113.11\",{text}}}]"),
        )
    };
    only_on(
        route(r#""dev":"eth0""#),
        "Wrong servers: the way to server 203.0.113.11 is over eth0, which is no port of Pollux",
        "ip route replace 203.0.113.11 dev wan",
    );
    only_on(
        route(r#""type":"local","dev":"lo""#),
        "Wrong servers: server 203.0.113.11 is an address of this machine",
        "take it out",
    );
    let behind = route(r#""gateway":"203.0.113.254","dev":"wan""#).file(
        "ip/neighbour",
        r#"[{"dst":"203.0.113.254","dev":"wan","state":["INCOMPLETE"]}]"#,
    );
    only_on(
        behind,
        "Wrong servers: 203.0.113.254, the way to server 203.0.113.11, does not answer on wan",
        "ping -c 1",
    );
    let machine = route(r#""gateway":"203.0.113.254","dev":"wan""#);
    let direct = FILE.replace("\"nat\"", "\"direct\"");
    only(
        &patient(&machine, &direct),
        "Wrong servers: server 203.0.113.11 of method direct is behind 203.0.113.254",
        "make its method tunnel or nat",
    );
}

#[test]
fn daemons_that_do_not_run_or_answer() {
    only_on(
        well().without("proc/12"),
        "Wrong daemons: polluxd does not run",
        "systemctl start polluxd",
    );
    only_on(
        well().link("proc/11/exe", "/usr/bin/pollux-dataplane (deleted)"),
        "Wrong daemons: pollux-dataplane runs from a file that is gone",
        "systemctl restart pollux-dataplane   # connections stay",
    );
    let machine = well();
    let mut patient = patient(&machine, FILE);
    patient.daemons.ipvs_socket = false;
    only(
        &patient,
        "Wrong daemons: there is no socket for IPVS tools",
        "systemctl restart polluxd",
    );
    patient.daemons.dataplane = Some("it is starting".to_owned());
    only(
        &patient,
        "Wrong daemons: the data plane cannot be asked: it is starting",
        "",
    );
    patient.daemons.polluxd = Some("permission denied".to_owned());
    only(
        &patient,
        "Wrong daemons: polluxd cannot be asked: permission denied",
        "",
    );
}

#[test]
fn a_machine_without_ip() {
    let machine = well().without("ip");
    let found = ills(&patient(&machine, FILE));
    assert_eq!(found.len(), 2, "{found:#?}");
    assert!(
        found.iter().all(|ill| ill.contains("apt install iproute2")),
        "{found:#?}"
    );
}

#[test]
fn what_the_next_boot_forgets() {
    let unit = "etc/systemd/system/multi-user.target.wants/pollux-setup.service";
    only_on(
        well().without(unit),
        "Advice boot: nothing binds 0000:03:00.0 again when this machine boots",
        "pollux setup ",
    );
    let by_another_tool = well()
        .without(unit)
        .file("etc/driverctl.d/0000:03:00.0", "vfio-pci");
    assert_eq!(ills(&patient(&by_another_tool, FILE)), [""; 0]);
    assert_eq!(ills(&patient(&appliance(), FILE)), [""; 0]);
    // A driver that DPDK works beside is the kernel's at the next boot, too.
    let shared = well()
        .without(unit)
        .pci("0000:03:00.0", "0x020000", "mlx5_core", 0, 7);
    assert_eq!(ills(&patient(&shared, FILE)), [""; 0]);
    let installed = well()
        .file("usr/lib/systemd/system/polluxd.service", "")
        .file("usr/lib/systemd/system/pollux-dataplane.service", "")
        .file(
            "etc/systemd/system/multi-user.target.wants/pollux-dataplane.service",
            "",
        );
    only_on(
        installed,
        "Advice boot: not started when this machine boots: polluxd ->",
        "systemctl enable polluxd",
    );
}

#[test]
fn more_servers_than_the_kernel_keeps_neighbours() {
    let mut file = String::from(FILE);
    for number in 0..1000 {
        let (high, low) = (number / 250, number % 250);
        file.push_str(&format!(
            "[[service.server]]\naddress = \"10.9.{high}.{low}:80\"\nmethod = \"nat\"\n"
        ));
    }
    let limit = "proc/sys/net/ipv4/neigh/default/gc_thresh3";
    let found = |limit_is: &str| {
        let machine = well().file(limit, limit_is);
        let all = ills(&patient(&machine, &file));
        all.into_iter()
            .filter(|ill| ill.contains("has room for"))
            .collect::<Vec<_>>()
    };
    let ills = found("1024");
    assert_eq!(ills.len(), 1, "{ills:?}");
    assert!(
        ills[0].starts_with(
            "Wrong servers: 1001 servers, and the kernel has room for 1024 neighbours of ipv4"
        ),
        "{ills:?}"
    );
    assert!(
        ills[0].contains(
            "sysctl -w net.ipv4.neigh.default.gc_thresh2=2048 net.ipv4.neigh.default.gc_thresh3=4096"
        ),
        "{ills:?}"
    );
    assert_eq!(found("8192"), [""; 0]);
}

/// It is asked for when all others are gone: not the time to find out that there is no way to it.
#[test]
fn the_sorry_server_is_a_server_as_the_others() {
    let file = FILE.replacen(
        "[[service]]",
        "[[check]]\nname = \"connect\"\nkind = \"tcp\"\n[[service]]\ncheck = \"connect\"\n\
         sorry_server = { address = \"203.0.113.99:80\", method = \"nat\" }",
        1,
    );
    let found = ills(&patient(&well(), &file));
    assert_eq!(found.len(), 1, "{found:#?}");
    assert!(
        found[0].starts_with("Wrong servers: there is no route to server 203.0.113.99"),
        "{found:#?}"
    );
}

/// What polluxd has taken off on purpose nobody is told to put back.
#[test]
fn an_address_that_is_withdrawn_is_not_to_be_given_by_hand() {
    let file = FILE.replacen(
        "[[service]]",
        "[[check]]\nname = \"connect\"\nkind = \"tcp\"\n[[service]]\ncheck = \"connect\"\nannounce = \"wan\"",
        1,
    );
    let machine = well().file(
        "ip/address",
        r#"[{"ifname":"wan","flags":["UP"],"addr_info":[{"local":"203.0.113.1","prefixlen":24}]}]"#,
    );
    let mut patient = patient(&machine, &file);
    only(
        &patient,
        "Wrong addresses: polluxd is to announce virtual address 198.51.100.1 on wan, and it is not there",
        "journalctl -u polluxd",
    );
    let service = patient.configuration.services[0].service.id;
    patient.configuration.health.lost.insert(service);
    let found = ills(&patient);
    assert_eq!(found.len(), 2, "{found:#?}");
    assert!(
        found
            .iter()
            .all(|ill| !ill.contains("ip address add") && ill.contains("pollux show health")),
        "{found:#?}"
    );
    let lost = "Wrong checks: service TCP 198.51.100.1:80 has lost its quorum: too few of its servers are up";
    assert!(found.iter().any(|ill| ill.starts_with(lost)), "{found:#?}");
    let withdrawn = "Wrong addresses: virtual address 198.51.100.1 is withdrawn, as service TCP 198.51.100.1:80 has lost";
    assert!(
        found.iter().any(|ill| ill.starts_with(withdrawn)),
        "{found:#?}"
    );
}

#[test]
fn servers_that_services_share_under_nat() {
    let second = |address: &str, method: &str| {
        format!(
            "{FILE}[[service]]\nprotocol = \"tcp\"\naddress = \"{address}\"\n[[service.server]]\n\
             address = \"203.0.113.11:80\"\nmethod = \"{method}\"\n"
        )
    };
    only(
        &patient(&well(), &second("198.51.100.1:81", "nat")),
        "Advice services: services TCP 198.51.100.1:80 and TCP 198.51.100.1:81 share server 203.0.113.11:80 under nat: a client",
        "reply_key_taken",
    );
    let udp = second("198.51.100.1:80", "nat").replacen("\"tcp\"", "\"udp\"", 1);
    assert_eq!(ills(&patient(&well(), &udp)), [""; 0]);
}

#[test]
fn ports_of_servers_that_no_packet_goes_to() {
    let direct = FILE.replace("method = \"nat\"", "method = \"direct\"");
    assert_eq!(ills(&patient(&well(), &direct)), [""; 0]);
    let other = direct.replace("203.0.113.11:80", "203.0.113.11:8080");
    only(
        &patient(&well(), &other),
        "Advice services: server 203.0.113.11:8080 of service TCP 198.51.100.1:80: method direct leaves packets as they are, so \
         they come to port 80, and only checks go to port 8080",
        "",
    );
}

#[test]
fn the_kernel_must_leave_checks_their_ports() {
    let file = FILE.replace("\"nat\"", "\"direct\"").replacen(
        "[[service]]",
        "[[check]]\nname = \"path\"\nkind = \"tcp\"\nservice_path = true\n[[service]]\ncheck = \"path\"",
        1,
    );
    let range = |text: &str| well().file("proc/sys/net/ipv4/ip_local_port_range", text);
    assert_eq!(ills(&patient(&range("32768\t60999\n"), &file)), [""; 0]);
    only(
        &patient(&range("1024\t65535\n"), &file),
        "Wrong checks: checks by a service's path come from ports 61000 to 65535, and the kernel gives ports 1024 to 65535",
        "sysctl -w net.ipv4.ip_local_port_range='1024 60999'",
    );
    // Without such a check the kernel may give what it likes.
    assert_eq!(ills(&patient(&range("1024\t65535\n"), FILE)), [""; 0]);
}
