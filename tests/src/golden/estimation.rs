//! Counters and rates as the kernel lists them: as they stood at the last tick of its estimator, every two seconds and a bit, of
//! which a trace does not say when it began.
//!
//! What was counted is written down step by step. A listing agrees if there is a moment for the ticks that explains every
//! number of it: so numbers are compared exactly, and nothing is free but that moment.

use std::collections::BTreeMap;

use pollux_api::estimator::Estimator;
use pollux_api::statistics::{Rates, TrafficTotals};
use pollux_engine::clock::TICKS_PER_SECOND;

use super::director::Director;
use super::listing;
use crate::fuzz::choices::Seeded;

/// The most that a command and a frame may have taken the recorder, by which ticks fall between them.
const STEP_MS: [usize; 2] = [1500, 100];
/// First, with steps that take no time, ticks are tried this far apart.
const GRAIN_MS: usize = 10;
/// Then so many ways in which the steps may have taken time.
const TRIALS: usize = 30_000;
/// The estimator asks for two seconds; the wheel of the kernel's timers rounds that up to the next 80 ms and adds as many, at the
/// lab's 100 ticks a second (`calc_index`), from a moment that was such a multiple already.
const TICK_MS: usize = 2080;
/// The whole director's name among those of services and servers, which is none of theirs.
pub const ALL: &str = "all";

/// Five numbers of each service and server, by its name.
pub type Rows = BTreeMap<String, [u64; 5]>;

/// What a listing tells of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Connections, packets, bytes.
    Totals,
    /// The same a second.
    Rates,
}

#[derive(Debug)]
enum Event {
    /// What was counted by then, of what is there, by its number among the names.
    Counted(Vec<(usize, TrafficTotals)>),
    /// Counters of these begin anew.
    Zeroed(Vec<usize>),
}

/// What was counted, and when.
#[derive(Debug, Default)]
pub struct Estimation {
    /// By virtual milliseconds and how many steps were over, commands and others.
    log: Vec<(Moment, Event)>,
    keys: Vec<Key>,
    /// What destinations had counted, by number.
    seen: BTreeMap<u32, TrafficTotals>,
    /// What counts for each, servers of the past included.
    sums: BTreeMap<Key, TrafficTotals>,
    last: Vec<(Key, TrafficTotals)>,
    /// What a listing has lines of.
    listed: BTreeMap<String, Key>,
    now: Moment,
    /// How many steps the stretches before had.
    stretches: Vec<[usize; 2]>,
    /// Whether time has passed that nobody knows.
    is_lost: bool,
    /// Bytes that the kernel sent and counted in this step and the engine did not.
    more_bytes: u64,
}

/// Who has counters: a service, by its number, of which none has another's, and a server as one of its.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    All,
    Service(u32),
    Server(u32, u32),
}

/// When something was: what passed before the last sleep and steps since then, commands and others.
#[derive(Debug, Clone, Copy, Default)]
struct Moment {
    passed_ms: usize,
    stretch: usize,
    steps: [usize; 2],
}

/// How long after the scenario's begin the first tick is, and for each stretch between two sleeps, how long its commands and
/// other steps took, in microseconds.
#[derive(Debug, Clone)]
struct Guess {
    phase_ms: usize,
    stretches_us: Vec<[usize; 2]>,
    /// When stretches begin, by what stretches before took.
    begins_us: Vec<usize>,
}

/// As the kernel has it at a moment.
#[derive(Debug, Clone, Copy, Default)]
struct Known {
    totals: TrafficTotals,
    zeroed_at: TrafficTotals,
    estimator: Estimator,
}

impl Estimation {
    /// Time passes, in the engine's ticks.
    pub fn pass(&mut self, ticks: u32) {
        self.stretches.push(self.now.steps);
        self.now = Moment {
            passed_ms: self.now.passed_ms + ticks as usize * 1000 / TICKS_PER_SECOND as usize,
            stretch: self.stretches.len(),
            steps: [0; 2],
        };
    }

    /// A step is over.
    pub fn end_step(&mut self, is_command: bool) {
        self.now.steps[usize::from(!is_command)] += 1;
    }

    /// Time has passed that nobody knows: rates are not compared from here on.
    pub fn lose_time(&mut self) {
        self.is_lost = true;
    }

    /// The kernel sent so many bytes more in this step.
    pub fn count_more(&mut self, bytes: usize) {
        self.more_bytes = bytes as u64;
    }

    fn number(&mut self, key: Key) -> usize {
        let known = self.keys.iter().position(|known| *known == key);
        known.unwrap_or_else(|| {
            self.keys.push(key);
            self.keys.len() - 1
        })
    }

    /// What has been counted by now.
    pub fn note(&mut self, director: &Director) {
        let mut now = BTreeMap::new();
        let more_bytes = std::mem::take(&mut self.more_bytes);
        let services = director.administrator.services();
        for placed in director.administrator.placed() {
            let Some(found) = director.snapshot().destination(placed.number) else {
                continue;
            };
            let counted = totals(listing::statistics(found));
            let before = self.seen.insert(placed.number, counted).unwrap_or_default();
            let mut grown = each(counted, before, u64::wrapping_sub);
            if grown.outbound_packets > 0 {
                grown.outbound_bytes += more_bytes;
            }
            // Nobody counts what a server in the trash still gets and sends (`IP_VS_DEST_F_AVAILABLE`).
            let Some(service) = placed.service.filter(|_| placed.is_listed) else {
                continue;
            };
            // One that comes out of the trash to a new service counts from there on (`__ip_vs_update_dest`).
            let key = Key::Server(service.number, placed.number);
            for sum in [key, Key::Service(service.number), Key::All] {
                let sum = self.sums.entry(sum).or_default();
                *sum = each(*sum, grown, u64::wrapping_add);
            }
            let name = format!(
                "{} -> {}",
                listing::service_name(&service.identity),
                listing::address(found)
            );
            now.insert(name, key);
        }
        for service in services {
            now.insert(
                listing::service_name(&service.identity),
                Key::Service(service.number),
            );
        }
        now.insert(ALL.to_owned(), Key::All);
        let counted: Vec<_> = now
            .values()
            .map(|key| (*key, self.sums.get(key).copied().unwrap_or_default()))
            .collect();
        self.listed = now;
        if counted != self.last {
            let rows = counted.iter();
            let rows = rows.map(|(key, totals)| (self.number(*key), *totals));
            let event = Event::Counted(rows.collect());
            self.log.push((self.now, event));
            self.last = counted;
        }
    }

    /// `-Z`, of a service or of all.
    pub fn zero(&mut self, service: Option<&str>) {
        let meant = self.listed.iter();
        let meant = meant.filter(|(name, _)| service.is_none_or(|of| is_of(name, of)));
        let numbers = meant.filter_map(|(_, key)| self.keys.iter().position(|known| known == key));
        let event = Event::Zeroed(numbers.collect());
        self.log.push((self.now, event));
    }

    /// Says whether these numbers are what the kernel may have listed now, of one service with its servers, or of all.
    ///
    /// # Errors
    /// The lines that differ, for people, of the moments that explain most of them.
    pub fn compare(&self, kind: Kind, of: Option<&str>, printed: &Rows) -> Result<(), String> {
        let is_meant = |name: &String| {
            if printed.contains_key(ALL) {
                return name == ALL;
            }
            name != ALL && of.is_none_or(|of| is_of(name, of))
        };
        let missing = self.listed.keys().filter(|name| is_meant(name));
        let missing: Vec<String> = missing
            .filter(|name| !printed.contains_key(*name))
            .map(|name| format!("+ engine {name}\n"))
            .collect();
        if !missing.is_empty() {
            return Err(missing.concat());
        }
        if self.is_lost && kind == Kind::Rates {
            return Ok(());
        }
        let mut best: Option<(u64, Guess)> = None;
        let mut told = Vec::new();
        let mut chance = Seeded(7);
        for number in 0..TICK_MS / GRAIN_MS + TRIALS {
            let guess = self.guess(number, best.as_ref().map(|best| &best.1), &mut chance);
            let (wrong, lines) = self.differences(kind, printed, &self.at(&guess));
            if lines.is_empty() {
                return Ok(());
            }
            if best.as_ref().is_none_or(|best| wrong <= best.0) {
                best = Some((wrong, guess));
                told = lines;
            }
        }
        Err(told.concat())
    }

    /// When the kernel may have ticked: at first with steps that take no time, then by chance, then near what was best.
    fn guess(&self, number: usize, best: Option<&Guess>, chance: &mut Seeded) -> Guess {
        let stretches = self.stretches.len() + 1;
        // As often around 1 ms as around 100.
        let any = |chance: &mut Seeded| {
            STEP_MS.map(|most_ms| {
                let most_us = (most_ms * 1000) >> chance.below(8);
                chance.below(most_us.max(1))
            })
        };
        let guess = match (number.checked_sub(TICK_MS / GRAIN_MS), best) {
            (None, _) | (_, None) => Guess {
                phase_ms: number * GRAIN_MS,
                stretches_us: vec![[0; 2]; stretches],
                begins_us: Vec::new(),
            },
            (Some(random), _) if random < TRIALS / 4 => {
                let all = any(chance);
                Guess {
                    phase_ms: chance.below(TICK_MS),
                    stretches_us: vec![all; stretches],
                    begins_us: Vec::new(),
                }
            }
            (_, Some(best)) => {
                let mut guess = best.clone();
                match chance.below(4) {
                    0 => guess.phase_ms = chance.below(TICK_MS),
                    _ => {
                        let at = chance.below(stretches);
                        guess.stretches_us[at] = any(chance);
                    }
                }
                guess
            }
        };
        self.with_begins(guess)
    }

    fn with_begins(&self, mut guess: Guess) -> Guess {
        let mut begin = 0;
        guess.begins_us.clear();
        for (steps, took) in self
            .stretches
            .iter()
            .chain([&self.now.steps])
            .zip(&guess.stretches_us)
        {
            guess.begins_us.push(begin);
            begin += steps[0] * took[0] + steps[1] * took[1];
        }
        guess
    }

    /// What the kernel knows when a tool begins to list and when it is done, by number of the name.
    fn at(&self, guess: &Guess) -> [Vec<Known>; 2] {
        let mut known = vec![Known::default(); self.keys.len()];
        let mut counted: &[(usize, TrafficTotals)] = &[];
        let mut next_us = guess.phase_ms * 1000;
        let mut tick_until = |until_us: usize, counted: &[_], known: &mut [Known]| {
            let Some(late_us) = until_us.checked_sub(next_us) else {
                return;
            };
            let ticks = late_us / (TICK_MS * 1000) + 1;
            next_us += ticks * TICK_MS * 1000;
            for (number, totals) in counted {
                let one: &mut Known = &mut known[*number];
                one.estimator.sample(*totals, 1);
                if ticks > 1 {
                    let more = u32::try_from(ticks - 1).unwrap_or(u32::MAX);
                    one.estimator.sample(*totals, more);
                }
                one.totals = *totals;
            }
        };
        for (at, event) in &self.log {
            tick_until(at.us(guess), counted, &mut known);
            match event {
                // What is in the trash keeps what it has.
                Event::Counted(now) => counted = now,
                Event::Zeroed(numbers) => {
                    for number in numbers {
                        let one = &mut known[*number];
                        one.zeroed_at = one.totals;
                        one.estimator = Estimator::starting_at(one.totals);
                    }
                }
            }
        }
        let begin = self.now.us(guess);
        tick_until(begin, counted, &mut known);
        let before = known.clone();
        let end = begin + guess.stretches_us[self.now.stretch][0];
        tick_until(end, counted, &mut known);
        [before, known]
    }

    /// By how much the numbers of a listing are other ones, and its lines that are. While a tool lists one service after the
    /// other, the kernel may tick.
    fn differences(
        &self,
        kind: Kind,
        printed: &Rows,
        known: &[Vec<Known>; 2],
    ) -> (u64, Vec<String>) {
        let [before, after] = known;
        // Services are listed first, then their servers.
        let begun = self.differences_of(kind, printed, [before, before], [before, after]);
        if begun.1.is_empty() {
            return begun;
        }
        let over = self.differences_of(kind, printed, [after, after], [after, after]);
        if over.0 < begun.0 { over } else { begun }
    }

    fn differences_of(
        &self,
        kind: Kind,
        printed: &Rows,
        services: [&Vec<Known>; 2],
        servers: [&Vec<Known>; 2],
    ) -> (u64, Vec<String>) {
        let mut sum = 0;
        let mut lines = Vec::new();
        for (name, theirs) in printed {
            let key = self.listed.get(name);
            let number = key.and_then(|key| self.keys.iter().position(|known| known == key));
            let Some(number) = number else {
                sum += 1_000_000;
                lines.push(format!("- kernel {name} {theirs:?}\n"));
                continue;
            };
            let is_server = name.contains(" -> ");
            let known = if is_server { servers } else { services };
            let ours = known.map(|known| known[number].numbers(kind));
            let off = ours.map(|ours| {
                let both = ours.iter().zip(theirs);
                both.map(|(ours, theirs)| ours.abs_diff(*theirs))
                    .sum::<u64>()
            });
            let least = off[0].min(off[1]);
            if least > 0 {
                sum += least;
                let [ours, _] = ours;
                lines.push(format!(
                    "- kernel {name} {theirs:?}\n+ engine {name} {ours:?}\n"
                ));
            }
        }
        (sum, lines)
    }
}

impl Known {
    fn numbers(&self, kind: Kind) -> [u64; 5] {
        match kind {
            Kind::Totals => numbers(each(self.totals, self.zeroed_at, u64::wrapping_sub)),
            Kind::Rates => rates(self.estimator.rates()),
        }
    }
}

impl Moment {
    fn us(self, guess: &Guess) -> usize {
        let [command_us, other_us] = guess.stretches_us[self.stretch];
        let [commands, others] = self.steps;
        let steps = commands * command_us + others * other_us;
        self.passed_ms * 1000 + guess.begins_us[self.stretch] + steps
    }
}

/// Whether a name is a service's or one of its servers'.
fn is_of(name: &str, service: &str) -> bool {
    let rest = name.strip_prefix(service);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(" -> "))
}

fn numbers(totals: TrafficTotals) -> [u64; 5] {
    [
        totals.connections,
        totals.inbound_packets,
        totals.outbound_packets,
        totals.inbound_bytes,
        totals.outbound_bytes,
    ]
}

fn rates(rates: Rates) -> [u64; 5] {
    [
        rates.connections,
        rates.inbound_packets,
        rates.outbound_packets,
        rates.inbound_bytes,
        rates.outbound_bytes,
    ]
}

fn totals(numbers: [u64; 5]) -> TrafficTotals {
    let [
        connections,
        inbound_packets,
        outbound_packets,
        inbound_bytes,
        outbound_bytes,
    ] = numbers;
    TrafficTotals {
        connections,
        inbound_packets,
        outbound_packets,
        inbound_bytes,
        outbound_bytes,
    }
}

fn each(a: TrafficTotals, b: TrafficTotals, with: fn(u64, u64) -> u64) -> TrafficTotals {
    let (a, b) = (numbers(a), numbers(b));
    totals(std::array::from_fn(|at| with(a[at], b[at])))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::golden::packet;
    use crate::golden::topology::{GATEWAY_MAC, mac};
    use crate::golden::trace::Wire;

    const SERVICE: &str = "TCP 192.0.2.100:80";
    const SERVER: &str = "TCP 192.0.2.100:80 -> 10.1.0.11:80";

    fn rows(service: [u64; 5], server: [u64; 5]) -> Rows {
        [(SERVICE.to_owned(), service), (SERVER.to_owned(), server)].into()
    }

    fn played() -> (Director, Estimation) {
        let mut director = Director::configured(&[
            "ipvsadm -A -t 192.0.2.100:80 -s rr",
            "ipvsadm -a -t 192.0.2.100:80 -r 10.1.0.11:80 -g",
        ]);
        let mut estimation = Estimation::default();
        estimation.note(&director);
        for port in 0..40 {
            let client = std::net::SocketAddr::new("198.51.100.7".parse().unwrap(), 40_000 + port);
            let syn = packet::tcp(client, "192.0.2.100:80".parse().unwrap(), "S", b"");
            director.receive(
                Wire::Cl,
                &packet::ethernet(mac(Wire::Cl), GATEWAY_MAC, &syn),
            );
            estimation.note(&director);
            estimation.end_step(false);
        }
        (director, estimation)
    }

    #[test]
    fn totals_are_those_of_the_last_tick() {
        let (_, mut estimation) = played();
        let counted = [40, 40, 0, 1600, 0];
        let all = rows(counted, counted);
        assert_eq!(
            estimation.compare(Kind::Totals, None, &rows([0; 5], [0; 5])),
            Ok(())
        );
        estimation.pass(400);
        assert_eq!(estimation.compare(Kind::Totals, None, &all), Ok(()));
        let other = rows(counted, [39, 40, 0, 1600, 0]);
        assert!(estimation.compare(Kind::Totals, None, &other).is_err());
        assert!(
            estimation
                .compare(Kind::Totals, None, &rows([0; 5], [0; 5]))
                .is_err()
        );
        estimation.zero(Some(SERVICE));
        assert_eq!(
            estimation.compare(Kind::Totals, None, &rows([0; 5], [0; 5])),
            Ok(())
        );
    }

    /// 40 connections within a tick are 20 a second, of which the average takes a quarter; a tick later a quarter less.
    #[test]
    fn rates_are_those_of_some_moment_of_the_ticks() {
        let (_, mut estimation) = played();
        estimation.pass(300);
        let one = [5, 5, 0, 200, 0];
        let two = [4, 4, 0, 150, 0];
        assert_eq!(
            estimation.compare(Kind::Rates, None, &rows(one, one)),
            Ok(())
        );
        assert_eq!(
            estimation.compare(Kind::Rates, None, &rows(two, two)),
            Ok(())
        );
        // A tick while the tool lists: servers come after services.
        assert_eq!(
            estimation.compare(Kind::Rates, None, &rows(one, two)),
            Ok(())
        );
        assert!(
            estimation
                .compare(Kind::Rates, None, &rows(two, one))
                .is_err()
        );
        estimation.pass(6000);
        assert_eq!(
            estimation.compare(Kind::Rates, None, &rows([0; 5], [0; 5])),
            Ok(())
        );
        assert!(
            estimation
                .compare(Kind::Rates, None, &rows(two, two))
                .is_err()
        );
    }
}
