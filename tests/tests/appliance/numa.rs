//! A machine with two NUMA nodes: processor 0, half of the memory and the near NICs on node 0, the rest on node 1.

use pollux_tests::lab::machine::{FAR, Machine, NEAR, Nic};
use pollux_tests::lab::servers::{NAT, SERVERS4, VIP4, tcp};

use super::traffic::all_servers_answer;

/// The far NICs' server side with the near NICs' client side.
const BOTH: Nic = Nic {
    server: FAR.server,
    ..NEAR
};

/// Workers, frames, queues and table are where the NICs are; what cannot be there is said.
#[test]
#[ignore = "part of scripts/test --appliance"]
fn everything_is_on_the_node_of_the_nics() {
    let machine = Machine::boot_with_two_nodes();
    only_the_pages_of_the_nics_node_are_reserved(&machine);

    // Nobody named cores.
    machine.start_pollux_on_cores(FAR, "");
    assert_eq!(cores(&machine), [1]);
    assert_eq!(pages_of_nodes(&machine, "huge")[0], 0, "{}", maps(&machine));
    assert_ne!(pages_of_nodes(&machine, "huge")[1], 0, "{}", maps(&machine));
    serves(&machine);
    machine.run("pollux doctor /etc/pollux/pollux.toml");
    assert!(!machine.logs().contains("cross"), "{}", machine.logs());
    assert_eq!(machine.port("client0").numa_node, Some(1));
    machine.stop_pollux();

    // A worker on each node and one queue, which the near one has.
    machine.start_pollux(FAR);
    assert_eq!(cores(&machine), [0, 1]);
    assert_eq!(pages_of_nodes(&machine, "huge")[0], 0, "{}", maps(&machine));
    serves(&machine);
    let received: Vec<u64> = machine
        .workers()
        .iter()
        .map(|worker| worker.received)
        .collect();
    assert_eq!(received[0], 0, "{received:?}");
    assert_ne!(received[1], 0, "{received:?}");
    assert!(!machine.logs().contains("cross"), "{}", machine.logs());
    machine.stop_pollux();

    // The one worker is far from them.
    machine.start_pollux_on_cores(FAR, "cores = [0]");
    let log = machine.logs();
    for port in ["client0", "server0"] {
        let words = format!("port {port} is on NUMA node 1, the workers on cores [0] are not");
        assert!(log.contains(&words), "{log}");
        let words = format!("port {port} is on NUMA node 1, and no worker is");
        let advice = machine.run("pollux doctor /etc/pollux/pollux.toml");
        assert!(advice.contains(&words), "{advice}");
    }
    assert_eq!(pages_of_nodes(&machine, "huge")[0], 0, "{}", maps(&machine));
    serves(&machine);
    machine.stop_pollux();

    nics_on_both_nodes_have_frames_on_both(&machine);
    frames_lie_elsewhere_for_want_of_pages(&machine);
}

fn only_the_pages_of_the_nics_node_are_reserved(machine: &Machine) {
    machine.run("echo 0 > /proc/sys/vm/nr_hugepages");
    let nics = format!("{} {}", FAR.client, FAR.server);
    let said = machine.run(&format!("pollux setup {nics}"));
    // Nobody named cores, so the workers are to be there, too.
    assert!(
        said.contains("isolcpus=1 nohz_full=1 rcu_nocbs=1 irqaffinity=0"),
        "{said}"
    );
    let reserved = reserved(machine);
    assert_eq!(reserved[0], 0, "{said}");
    assert_ne!(reserved[1], 0, "{said}");
    machine.run("pollux setup --undo");
    assert_eq!(self::reserved(machine), [0, 0]);
    // The same on both, as the machine boots.
    machine.run("echo 288 > /proc/sys/vm/nr_hugepages");
}

fn nics_on_both_nodes_have_frames_on_both(machine: &Machine) {
    machine.start_pollux_on_cores(BOTH, "");
    // The first core is left to others where there is a choice.
    assert_eq!(cores(machine), [1]);
    let words = "port client0 is on NUMA node 0, the workers on cores [1] are not";
    assert!(machine.logs().contains(words), "{}", machine.logs());
    let frames = pages_of_nodes(machine, "memfd");
    assert!(frames.iter().all(|pages| *pages > 0), "{}", maps(machine));
    serves(machine);
    machine.stop_pollux();
}

fn frames_lie_elsewhere_for_want_of_pages(machine: &Machine) {
    let file = "/sys/devices/system/node/node1/hugepages/hugepages-2048kB/nr_hugepages";
    machine.run(&format!("echo 10 > {file}"));
    machine.start_pollux_on_cores(FAR, "");
    let log = machine.logs();
    let words = "of huge pages are wanted on NUMA node 1, where NICs are, and 20 MB are free";
    assert!(log.contains(words), "{log}");
    let advice = machine.run("pollux doctor /etc/pollux/pollux.toml");
    let words = "huge pages: 20 MiB on NUMA node 1, where port client0 is, ";
    assert!(advice.contains(words), "{advice}");
    serves(machine);
    machine.stop_pollux();
    // What both said to type.
    let mend = |text: &str| {
        let lines = text.lines().filter_map(|line| line.split_once("echo "));
        let mut of_file = lines.filter(|(_, rest)| rest.ends_with(&format!(" > {file}")));
        let (_, rest) = of_file.next().unwrap_or_else(|| panic!("{text}"));
        format!("echo {rest}")
    };
    for line in [mend(&log), mend(&advice)] {
        machine.run("echo 0 > /proc/sys/vm/nr_hugepages");
        machine.run(&line);
        // As much as the table needs beside frames is not in what the data plane said of frames.
        machine.run(&format!("echo $(($(cat {file}) + 2)) > {file}"));
        machine.start_pollux_on_cores(FAR, "");
        assert!(
            !machine.logs().contains("are wanted on NUMA node"),
            "{}",
            machine.logs()
        );
        machine.stop_pollux();
    }
}

/// Downloads through NAT, with nothing lost count of.
fn serves(machine: &Machine) {
    machine.add(&tcp(VIP4, 80), NAT, &SERVERS4, 80);
    all_servers_answer(VIP4, 80);
    machine.download(VIP4);
    machine.assert_every_packet_is_accounted_for();
}

/// The workers'.
fn cores(machine: &Machine) -> Vec<u16> {
    machine.workers().iter().map(|worker| worker.core).collect()
}

/// What numa_maps says of the data plane.
fn maps(machine: &Machine) -> String {
    machine.run("cat /proc/$(cat /run/dataplane.pid)/numa_maps")
}

/// Huge pages of node 0 and of node 1 in those mappings of the data plane that have this word.
fn pages_of_nodes(machine: &Machine, word: &str) -> [u64; 2] {
    let maps = maps(machine);
    let huge = maps
        .lines()
        .filter(|line| line.contains(" huge ") && line.contains(word));
    let mut pages = [0; 2];
    for line in huge {
        for (node, pages) in pages.iter_mut().enumerate() {
            let start = format!("N{node}=");
            let mut counts = line
                .split(' ')
                .filter_map(|field| field.strip_prefix(&start));
            *pages += counts
                .next()
                .map_or(0, |count| count.parse::<u64>().unwrap());
        }
    }
    pages
}

/// Huge pages that there are on node 0 and on node 1.
fn reserved(machine: &Machine) -> [u64; 2] {
    let text = machine.run(
        "cat /sys/devices/system/node/node0/hugepages/hugepages-2048kB/nr_hugepages \
         /sys/devices/system/node/node1/hugepages/hugepages-2048kB/nr_hugepages",
    );
    let counts: Vec<u64> = text.lines().map(|line| line.parse().unwrap()).collect();
    counts.try_into().unwrap()
}
