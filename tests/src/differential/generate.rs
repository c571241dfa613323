//! A scenario from a seed.

use super::configuration::{self, Service};
use super::conversation::{Flow, Taste};
use super::pause::ESTIMATOR;
use super::plan::Plan;
use super::related;
use super::world::{Chance, World};

const SETTINGS: [&[&str]; 11] = [
    &[
        "conn_reuse_mode=0",
        "conn_reuse_mode=2",
        "conn_reuse_mode=3",
    ],
    &["expire_nodest_conn=1"],
    &["expire_quiescent_template=1"],
    &["sloppy_tcp=1"],
    &["sloppy_sctp=1"],
    &["nat_icmp_send=1"],
    &["secure_tcp=3", "secure_tcp=1", "secure_tcp=2"],
    &["drop_packet=3", "drop_packet=1", "drop_packet=2"],
    // Only when memory is short, which it is not; with 3 the kernel draws lots.
    &["drop_entry=1", "drop_entry=2"],
    &["schedule_icmp=1"],
    &["pmtu_disc=0"],
];
/// Once in so many scenarios each.
const SETTING_IS_OTHER: usize = 6;
const PAUSES: [u32; 15] = [
    1, 4, 9, 17, 25, 40, 75, 95, 150, 200, 250, 400, 700, 1200, 2500,
];
/// Makes up a scenario.
pub fn generate(seed: u64) -> Plan {
    let mut chance = Chance::of_seed(seed);
    let mut sysctls = Vec::new();
    for values in SETTINGS {
        if chance.one_in(SETTING_IS_OTHER) {
            sysctls.push(format!("net.ipv4.vs.{}", chance.of(values)));
        }
    }
    let mut world = World::new(format!("differential/{seed}"), chance, sysctls);
    if world.chance.one_in(10) {
        let mtu = world.chance.of(&[1400, 1300]);
        world.command(&format!("ip link set rs0 mtu {mtu}"));
    }
    if world.chance.one_in(6) {
        world.command("ipvsadm --set 400 50 150");
    }
    let mut services = Vec::new();
    for _ in 0..=world.chance.below(4) {
        let added = configuration::add_service(&mut world, &services);
        services.extend(added);
    }
    // What the kernel's defence does from second to second has begun.
    world.pause(&[3]);
    let taste = Taste::new(&mut world);
    let steps = world.chance.of(&[20, 40, 60, 100]);
    let mut flows: Vec<Flow> = Vec::new();
    while world.plan.steps.len() < steps {
        go_on(&mut world, taste, &mut services, &mut flows);
    }
    for listing in ["-Lnc", "-Ln", "-Sn"] {
        world.command(&format!("ipvsadm {listing}"));
    }
    statistics(&mut world);
    world.plan
}

fn go_on(world: &mut World, taste: Taste, services: &mut Vec<Service>, flows: &mut Vec<Flow>) {
    world.settle();
    match world.chance.below(100) {
        0..=19 => begin(world, taste, services, flows),
        20..=72 => {
            let more = with_flow(world, flows, |world, flow| flow.go_on(world, taste));
            flows.extend(more.flatten());
        }
        73..=77 => {
            with_flow(world, flows, |world, flow| related::error(world, flow));
        }
        78 => {
            with_flow(world, flows, |world, flow| {
                if world.chance.one_in(2) {
                    related::stray(world, flow);
                } else {
                    related::scheduled(world, flow);
                }
            });
        }
        79 => {
            with_flow(world, flows, |world, flow| related::unasked(world, flow));
        }
        80..=87 => configuration::change(world, services),
        88..=93 => {
            world.pause(&PAUSES);
        }
        94 => {
            // Not the defence, which begins from second to second.
            let values = world.chance.of(&SETTINGS[..6]);
            let value = world.chance.of(values);
            world.command(&format!("sysctl -w net.ipv4.vs.{value}"));
        }
        95 => statistics(world),
        _ => {
            let listing = world.chance.of(&[
                "-Ln",
                "-Lnc",
                "-Ln --thresholds",
                "-Ln --persistent-conn",
                "-Sn",
                "-L --timeout",
            ]);
            world.command(&format!("ipvsadm {listing}"));
        }
    }
}

fn begin(world: &mut World, taste: Taste, services: &[Service], flows: &mut Vec<Flow>) {
    if services.is_empty() {
        return;
    }
    let service = &services[world.chance.below(services.len())];
    let target = world.chance.of(&service.targets);
    let mut flow = Flow::new(world, service.kind, target);
    flow.go_on(world, taste);
    // One that uses another's ports again takes its place.
    flows.retain(|other| !other.is(&flow));
    flows.push(flow);
    if flows.len() > 8 {
        flows.remove(0);
    }
}

fn with_flow<T>(
    world: &mut World,
    flows: &mut [Flow],
    act: impl FnOnce(&mut World, &mut Flow) -> T,
) -> Option<T> {
    if flows.is_empty() {
        return None;
    }
    let at = world.chance.below(flows.len());
    Some(act(world, &mut flows[at]))
}

fn statistics(world: &mut World) {
    if world.has_gaps || !world.pause(&ESTIMATOR) {
        return;
    }
    if world.chance.one_in(4) {
        world.command("ipvsadm -Z");
    }
    let listing = world.chance.of(&["--stats", "--stats", "--rate"]);
    world.command(&format!("ipvsadm -Ln {listing}"));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::differential::plan::Action;

    #[test]
    fn a_seed_makes_one_scenario() {
        assert_eq!(generate(7), generate(7));
        assert_ne!(generate(7), generate(8));
    }

    #[test]
    fn scenarios_hold_commands_packets_both_ways_and_time() {
        let steps: Vec<Action> = (0..50).flat_map(|seed| generate(seed).steps).collect();
        let count = |is: fn(&Action) -> bool| steps.iter().filter(|step| is(step)).count();
        assert!(count(|step| matches!(step, Action::Command(_))) > 300);
        assert!(count(|step| matches!(step, Action::Packet { server: None, .. })) > 1000);
        assert!(
            count(|step| matches!(
                step,
                Action::Packet {
                    server: Some(_),
                    ..
                }
            )) > 200
        );
        assert!(count(|step| matches!(step, Action::Sleep(_))) > 100);
    }
}
