//! What the traces say of schedulers and a replay through the whole engine cannot show: choices behind a firewall mark,
//! whose packets go to many addresses; and how often lots fall on whom.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use pollux_engine::connection::{FlowKey, State};
use pollux_engine::forwarding_table::ForwardingTable;
use pollux_engine::scheduler::Arrival;
use pollux_engine::service::Destination;
use pollux_engine::snapshot::Snapshot;
use pollux_engine::wire::protocol;
use pollux_engine::{Microsecond, Tick};
use pollux_tests::golden::administrator::Administrator;
use pollux_tests::golden::command::{Change, Command, parse};
use pollux_tests::golden::topology::server_v4;
use pollux_tests::golden::trace::{Scenario, Step, scenarios};

const FILES: [&str; 2] = ["sched.json", "schedulers.json"];
/// Stands for the service of the mark.
const SERVICE: &str = "-t 192.0.2.100:80";

/// One service and its scheduler, without the rest of the engine.
struct Choices {
    administrator: Administrator,
    snapshot: Snapshot,
}

impl Choices {
    fn new() -> Self {
        let mut administrator = Administrator::default();
        let forwarding = Arc::new(ForwardingTable::new(1, Vec::new(), &[], &[]));
        let snapshot = Snapshot::compile(&administrator.spec(0), forwarding, None, 1);
        Self {
            administrator,
            snapshot,
        }
    }

    fn command(&mut self, line: &str) {
        let line = line.replace("-f 7", SERVICE);
        let Command::Change(mut change) = parse(&line).unwrap() else {
            return;
        };
        if let Change::AddServer(_, options) | Change::EditServer(_, options) = &mut change {
            // A mark's servers have port 0.
            options.address.set_port(0);
        }
        if let Change::RemoveServer(_, address) = &mut change {
            address.set_port(0);
        }
        self.administrator.apply(&change).unwrap();
        let forwarding = Arc::clone(self.snapshot.forwarding());
        let spec = self.administrator.spec(0);
        self.snapshot = Snapshot::compile(&spec, forwarding, Some(&self.snapshot), 1);
    }

    fn pick(&self, key: &FlowKey, hash: u64) -> Option<&Destination> {
        let service = self.snapshot.services().iter().next().unwrap();
        let candidates = self.snapshot.candidates(service);
        let arrival = Arrival {
            key,
            is_quoted: false,
            hash,
            now: Tick(0),
            microsecond: Microsecond(0),
        };
        service.scheduler.pick(candidates, &arrival)
    }
}

/// The flow of a TCP segment in an IPv4 packet without options.
fn flow(packet: &[u8]) -> FlowKey {
    let socket = |address: usize, port: usize| {
        let octets: [u8; 4] = packet[address..address + 4].try_into().unwrap();
        let port = u16::from_be_bytes(packet[port..port + 2].try_into().unwrap());
        SocketAddr::new(IpAddr::from(octets), port)
    };
    FlowKey::from_sockets(protocol::TCP, socket(12, 20), socket(16, 22)).unwrap()
}

fn all_scenarios() -> impl Iterator<Item = Scenario> {
    FILES.iter().flat_map(|file| scenarios(file))
}

#[test]
fn choices_behind_a_firewall_mark_are_the_kernels() {
    let mut compared = 0;
    let of_marks =
        |scenario: &Scenario| scenario.name.ends_with("/fwm") || scenario.name.ends_with("fwmark");
    for scenario in all_scenarios().filter(of_marks) {
        // Drawn by lot.
        if scenario.name.starts_with("twos") {
            continue;
        }
        let mut choices = Choices::new();
        for (number, step) in scenario.steps.iter().enumerate() {
            match step {
                Step::Command { cmd, .. } if cmd.starts_with("ipvsadm -Ln") => {}
                Step::Command { cmd, .. } if cmd.starts_with("ipvsadm") => choices.command(cmd),
                Step::Pick { packet, server, .. } => {
                    let chosen = choices.pick(&flow(packet), 0);
                    let wanted = server.map(|server| server_v4(u8::try_from(server).unwrap()));
                    let address = chosen.map(|found| found.spec.address);
                    assert_eq!(address, wanted, "{}: step {number}", scenario.name);
                    chosen.inspect(|found| found.bind(State::SynRecv));
                    compared += 1;
                }
                _ => {}
            }
        }
    }
    assert!(compared > 2000, "only {compared} choices");
}

/// Pearson's statistic of what was drawn against what was expected.
fn chi_square(drawn: &[u32], expected: &[f64]) -> f64 {
    let terms = drawn.iter().zip(expected);
    terms
        .map(|(drawn, expected)| (f64::from(*drawn) - expected).powi(2) / expected)
        .sum()
}

#[test]
fn twos_draws_as_often_as_the_kernel() {
    const DRAWS: u32 = 200_000;
    let mut compared = 0;
    for scenario in all_scenarios().filter(|scenario| scenario.name.starts_with("draws/twos")) {
        // The kernel's lots: every SYN of a flow that is gone before the next comes.
        let mut choices = Choices::new();
        let mut theirs = [0u32; 3];
        let mut busy = 0;
        let mut is_drawing = false;
        for step in &scenario.steps {
            match step {
                Step::Command { cmd, .. } if !cmd.starts_with("ipvsadm -Ln") => {
                    choices.command(cmd);
                    is_drawing |= cmd.contains("twos");
                }
                Step::Pick { packet, server, .. } if packet[33] == 0x02 => {
                    let server = server.unwrap();
                    if is_drawing {
                        theirs[server as usize - 1] += 1;
                    } else {
                        assert_eq!(server, 3);
                        busy += 1;
                    }
                }
                _ => {}
            }
        }
        let number = |server: u8| {
            let services = choices.administrator.services();
            let destinations = &services[0].destinations;
            let found = destinations
                .iter()
                .find(|spec| spec.address == server_v4(server));
            found.unwrap().number
        };
        let live = choices.snapshot.destination(number(3)).unwrap();
        (0..busy).for_each(|_| live.bind(State::Established));
        let mut ours = [0u32; 3];
        let key = FlowKey::NONE;
        for draw in 0..DRAWS {
            let chosen = choices
                .pick(&key, u64::from(draw % 50))
                .unwrap()
                .spec
                .number;
            let server = (1..=3).find(|server| number(*server) == chosen).unwrap();
            ours[usize::from(server) - 1] += 1;
        }
        let total: u32 = theirs.iter().sum();
        assert!(total >= 600);
        let expected = ours.map(|count| f64::from(count) * f64::from(total) / f64::from(DRAWS));
        let distance = chi_square(&theirs, &expected);
        println!(
            "{}: kernel {theirs:?}, as many of ours {expected:.1?}: {distance:.2}",
            scenario.name
        );
        // Two degrees of freedom: a right one is above 13.8 once in a thousand recordings.
        assert!(
            distance < 13.8,
            "kernel {theirs:?}, as many of ours {expected:?}"
        );
        compared += 1;
    }
    assert_eq!(compared, 2);
}
