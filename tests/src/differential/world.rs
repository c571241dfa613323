//! The scenario in the making: the engine lives through it, so that what is made up next fits what came before.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::fuzz::choices::Seeded;
use crate::golden::command::Change;
use crate::golden::command::{self, Command};
use crate::golden::director::{Director, Outcome};
use crate::golden::packet;
use crate::golden::setting;
use crate::golden::topology::{GATEWAY_MAC, mac, server_mac};
use crate::golden::trace::{Wire, ticks};
use crate::golden::wiring::Wiring;

use super::pause;
use super::plan::{Action, PACE, Plan};

/// What chance decides.
#[derive(Debug, Clone)]
pub struct Chance(Seeded);

impl Chance {
    /// Of a seed.
    pub fn of_seed(seed: u64) -> Self {
        Self(Seeded(seed))
    }

    /// Yes once in `times`; never for 0.
    pub fn one_in(&mut self, times: usize) -> bool {
        times > 0 && self.0.below(times) == 0
    }

    /// A number below `count`.
    pub fn below(&mut self, count: usize) -> usize {
        self.0.below(count)
    }

    /// One of these.
    pub fn of<T: Clone>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())].clone()
    }

    /// A number of 16 bits.
    pub fn number(&mut self) -> u16 {
        u16::try_from(self.0.below(0x1_0000)).unwrap()
    }

    /// So many bytes.
    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        self.0.bytes(count)
    }

    /// Into any order.
    pub fn shuffle<T>(&mut self, all: &mut [T]) {
        for at in (1..all.len()).rev() {
            all.swap(at, self.below(at + 1));
        }
    }
}

/// The engine, the plan so far, and chance.
#[derive(Debug)]
pub struct World {
    /// What chance decides.
    pub chance: Chance,
    /// The engine under the plan so far.
    pub director: Director,
    /// The plan so far.
    pub plan: Plan,
    /// Which servers of which services are, or were, routed to directly.
    pub direct: BTreeMap<(String, IpAddr), bool>,
    /// Whether fragments were sent that never make a packet.
    pub has_gaps: bool,
    /// The most that a server's wire carries.
    server_side_mtu: u16,
}

impl World {
    /// A director with these settings and nothing else.
    ///
    /// # Panics
    /// When the settings are not the engine's.
    pub fn new(name: String, chance: Chance, sysctls: Vec<String>) -> Self {
        let mut director = Director::default();
        for text in &sysctls {
            let setting = setting::read(text).unwrap();
            director.change(&Change::Setting(setting)).unwrap();
        }
        let plan = Plan {
            name,
            sysctls,
            pace: PACE,
            steps: Vec::new(),
        };
        Self {
            chance,
            director,
            plan,
            direct: BTreeMap::new(),
            has_gaps: false,
            server_side_mtu: 1500,
        }
    }

    /// A command; whether it was taken.
    ///
    /// # Panics
    /// When the runner does not know it.
    pub fn command(&mut self, line: &str) -> bool {
        self.settle();
        self.plan.steps.push(Action::Command(line.to_owned()));
        let is_taken = self.run(line);
        self.director.pass(ticks(PACE.command));
        is_taken
    }

    fn run(&mut self, line: &str) -> bool {
        match command::parse(line) {
            Ok(Command::Change(change)) => self.director.change(&change).is_ok(),
            Ok(Command::Wire(wiring)) => {
                if let Wiring::Mtu(Wire::Rs, mtu) = wiring {
                    self.server_side_mtu = mtu;
                }
                self.director.rewire(|topology| wiring.apply(topology));
                true
            }
            Ok(_) => true,
            Err(unsupported) => panic!("{line}: {unsupported:?}"),
        }
    }

    /// A packet of the client's, or of a server's. One that the wire does not carry is not sent.
    pub fn packet(&mut self, server: Option<u8>, bytes: &[u8]) -> Outcome {
        if server.is_some() && bytes.len() > self.server_side_mtu.into() {
            return Outcome::Drop;
        }
        self.plan.steps.push(Action::Packet {
            server,
            bytes: bytes.to_vec(),
        });
        let (wire, sender) = match server {
            None => (Wire::Cl, GATEWAY_MAC),
            Some(server) => (Wire::Rs, server_mac(server)),
        };
        let frame = packet::ethernet(mac(wire), sender, bytes);
        let outcome = self.director.receive(wire, &frame);
        self.director.pass(ticks(PACE.packet));
        outcome
    }

    /// Where it is not certain how much longer a connection is there, or will not be in a moment, time passes until it is.
    pub fn settle(&mut self) {
        if pause::is_settled(&self.director) {
            return;
        }
        let clear = pause::SETTLING
            .into_iter()
            .find(|length| pause::is_clear(&self.director, *length));
        if let Some(length) = clear {
            self.plan.steps.push(Action::Sleep(length.into()));
            self.director.pass(ticks(length.into()));
        }
    }

    /// Some time passes, of these seconds if the kernel's timers allow; whether any did.
    pub fn pause(&mut self, seconds: &[u32]) -> bool {
        let mut lengths = seconds.to_vec();
        self.chance.shuffle(&mut lengths);
        let found = lengths
            .into_iter()
            .find(|length| pause::is_clear(&self.director, *length));
        if let Some(length) = found {
            self.plan.steps.push(Action::Sleep(length.into()));
            self.director.pass(ticks(length.into()));
        }
        found.is_some()
    }
}
