//! One worker as the data plane runs it, but for the ports: clock, engine, verdicts, sweep, loop boundary.

use std::ops::Range;
use std::time::Duration;

use arrayvec::ArrayVec;
use pollux_engine::clock::seconds;
use pollux_engine::{BURST, Context, Fate, Tick, Verdict, Worker};
use thiserror::Error;

use super::source::{Source, Turn, from_clients};
use crate::cores::{boot_ns, thread_cpu_ns};
use crate::flows::Client;
use crate::frame_arena::{ArenaFrame, ring};
use crate::frame_template::flag;
use crate::rig::{CLIENT_PORT, Rig, SERVER_PORT};

/// Flows looked up to see that the servers were given them in turn.
const FLOWS_CHECKED: u64 = 10_000;
/// Entries swept at a time when nothing else goes on.
const SWEEP_CHUNK: u32 = 2048;

/// Why a benchmark says nothing.
#[derive(Debug, Error)]
pub enum DriverError {
    /// Packets went elsewhere than they should.
    #[error("of {sent} packets {forwarded} were forwarded, the others not: {fates}")]
    NotForwarded {
        /// Packets given to the engine.
        sent: u64,
        /// Those forwarded.
        forwarded: u64,
        /// Every other fate with its count.
        fates: String,
    },
    /// Established connections that are gone.
    #[error("{lost} of {checked} established connections were lost")]
    Lost {
        /// Gone.
        lost: u64,
        /// Looked for.
        checked: u64,
    },
    /// The scheduler did not go round.
    #[error(
        "flow {flow} did not get the server whose turn it was: measure answers with a scheduler that goes round, as rr"
    )]
    NotInTurn {
        /// Its number.
        flow: u64,
    },
}

/// What a pass over a ring of frames took.
#[derive(Debug, Clone, Copy, Default)]
pub struct Pass {
    /// Frames.
    pub packets: u64,
    /// CPU time of the engine.
    pub engine_ns: u64,
    /// CPU time of the generator.
    pub generator_ns: u64,
    /// Forwarded of the frames at even and at odd places.
    pub forwarded: [u64; 2],
}

impl Pass {
    /// Adds another one.
    pub fn add(&mut self, other: Self) {
        self.packets += other.packets;
        self.engine_ns += other.engine_ns;
        self.generator_ns += other.generator_ns;
        self.forwarded[0] += other.forwarded[0];
        self.forwarded[1] += other.forwarded[1];
    }
}

/// A worker.
#[derive(Debug)]
pub struct Driver<'r> {
    rig: &'r Rig,
    engine: Worker,
    ring: Vec<ArenaFrame>,
    /// How far its clock has been turned forward.
    ahead: u32,
}

impl<'r> Driver<'r> {
    /// A worker of the rig, awake.
    pub fn new(rig: &'r Rig, engine: Worker) -> Self {
        let driver = Self {
            rig,
            engine,
            ring: ring(),
            ahead: 0,
        };
        driver.wake();
        driver
    }

    /// Its number.
    pub fn number(&self) -> usize {
        self.engine.shard().worker()
    }

    /// Entries of its shard in use.
    pub fn in_use(&self) -> u64 {
        self.engine.shard().in_use()
    }

    /// Connections it has made.
    pub fn created(&self) -> u64 {
        self.engine.counters().connections_created.get()
    }

    /// It takes no part for a while: other workers need not wait for it.
    pub fn sleep(&self) {
        self.rig.table.quiescence().offline(self.number());
    }

    /// It takes part again.
    pub fn wake(&self) {
        self.rig.table.quiescence().online(self.number());
    }

    fn tick(&self) -> Tick {
        tick_of(boot_ns()).after(self.ahead)
    }

    /// Fills the ring and runs it.
    pub fn pass(&mut self, source: &mut Source) -> Pass {
        let start = thread_cpu_ns();
        source.fill(&mut self.ring);
        let filled = thread_cpu_ns();
        let forwarded = self.process(source.ingress(), self.ring.len());
        let done = thread_cpu_ns();
        Pass {
            packets: self.ring.len() as u64,
            engine_ns: done - filled,
            generator_ns: filled - start,
            forwarded,
        }
    }

    /// Runs the first `frames` of the ring, a burst a loop, as a worker does.
    fn process(&mut self, ingress: u16, frames: usize) -> [u64; 2] {
        let mut forwarded = [0; 2];
        let mut verdicts = ArrayVec::<Verdict, BURST>::new();
        let mut loop_start = boot_ns();
        let Some(ring) = self.ring.get_mut(..frames) else {
            return forwarded;
        };
        for burst in ring.chunks_mut(BURST) {
            let now = boot_ns();
            let elapsed = now.saturating_sub(loop_start);
            loop_start = now;
            let context = Context {
                table: &self.rig.table,
                snapshot: &self.rig.snapshot,
                now: tick_of(now).after(self.ahead),
            };
            verdicts.clear();
            self.engine.process(&context, ingress, burst, &mut verdicts);
            let sent = carry_out(&self.engine, ingress, &verdicts);
            forwarded[0] += sent[0];
            forwarded[1] += sent[1];
            self.engine.tidy(&context, elapsed, true);
            self.engine.turn(&self.rig.table);
            let counters = self.engine.counters();
            counters.loops.add(1);
            counters.connections.set(self.engine.shard().in_use());
        }
        forwarded
    }

    /// Opens and establishes flows: a SYN, then an ACK.
    ///
    /// # Errors
    /// [`DriverError::NotForwarded`].
    pub fn establish(
        &mut self,
        flows: Range<u64>,
        mut on_progress: impl FnMut(u64),
    ) -> Result<(), DriverError> {
        let templates = [flag::SYN, flag::ACK].map(|flags| from_clients(self.rig, flags));
        let mut next = flows.start;
        while next < flows.end {
            let count = (flows.end - next).min(BURST as u64);
            for template in &templates {
                let clients = (next..next + count).map(Client::of_flow);
                self.ring
                    .iter_mut()
                    .zip(clients)
                    .for_each(|(frame, client)| template.write(frame, client));
                let [even, odd] = self.process(CLIENT_PORT, count as usize);
                self.expect_forwarded(count, even + odd)?;
            }
            next += count;
            on_progress(count);
        }
        Ok(())
    }

    /// The servers' turn for flows this worker has established, checked on some of them.
    ///
    /// # Errors
    /// [`DriverError::NotInTurn`].
    pub fn turn_of(&self, flows: Range<u64>) -> Result<Turn, DriverError> {
        let servers = self.rig.servers();
        let now = self.tick();
        let server_of = |flow: u64| {
            let hit = self
                .rig
                .table
                .find(&self.rig.flows().inbound(Client::of_flow(flow)), now)?;
            servers.get(hit.connection.destination() as usize).copied()
        };
        let count = flows.end - flows.start;
        let turn: Vec<_> = (flows.start..)
            .take(servers.len().min(count as usize))
            .map(|flow| server_of(flow).ok_or(DriverError::NotInTurn { flow }))
            .collect::<Result<_, _>>()?;
        let step = (count / FLOWS_CHECKED).max(1) as usize;
        for flow in flows.clone().step_by(step) {
            let place = ((flow - flows.start) % servers.len() as u64) as usize;
            if server_of(flow).as_ref() != turn.get(place) {
                return Err(DriverError::NotInTurn { flow });
            }
        }
        Ok(Turn {
            first_flow: flows.start,
            servers: turn,
        })
    }

    /// Turns the clock forward and ends what is over, until only so many entries are left.
    pub fn expire_to(&mut self, entries: u64, after: Duration) {
        let ticks = u32::try_from(after.as_secs()).unwrap_or(u32::MAX);
        self.ahead = self.ahead.wrapping_add(seconds(ticks));
        let rounds = 2 * (self.engine.shard().entries() / SWEEP_CHUNK + 1);
        for _ in 0..rounds {
            if self.in_use() <= entries {
                break;
            }
            let context = Context {
                table: &self.rig.table,
                snapshot: &self.rig.snapshot,
                now: self.tick(),
            };
            self.engine.sweep(&context, SWEEP_CHUNK);
            self.engine.turn(&self.rig.table);
        }
    }

    /// Looks for every one of these flows.
    ///
    /// # Errors
    /// [`DriverError::Lost`].
    pub fn expect_established(&self, flows: Range<u64>) -> Result<(), DriverError> {
        let now = self.tick();
        let checked = flows.end - flows.start;
        let lost = flows
            .filter(|flow| {
                let key = self.rig.flows().inbound(Client::of_flow(*flow));
                self.rig.table.find(&key, now).is_none()
            })
            .count() as u64;
        if lost > 0 {
            return Err(DriverError::Lost { lost, checked });
        }
        Ok(())
    }

    /// Sees to it that all packets were forwarded.
    ///
    /// # Errors
    /// [`DriverError::NotForwarded`].
    pub fn expect_forwarded(&self, sent: u64, forwarded: u64) -> Result<(), DriverError> {
        if sent == forwarded {
            return Ok(());
        }
        let fates = Fate::ALL
            .into_iter()
            .filter(|fate| *fate != Fate::Forwarded);
        let fates: Vec<String> = fates
            .map(|fate| (fate, self.fate(fate)))
            .filter(|(_, packets)| *packets > 0)
            .map(|(fate, packets)| format!("{} {packets}", fate.name()))
            .collect();
        Err(DriverError::NotForwarded {
            sent,
            forwarded,
            fates: fates.join(", "),
        })
    }

    fn fate(&self, fate: Fate) -> u64 {
        let ports = [CLIENT_PORT, SERVER_PORT];
        let counters = ports.map(|port| self.engine.counters().port(port.into()));
        counters
            .into_iter()
            .flatten()
            .map(|port| port.fate(fate))
            .sum()
    }
}

/// Counts what a worker counts after it has sent a burst; forwarded frames by even and odd place.
#[inline]
fn carry_out(engine: &Worker, ingress: u16, verdicts: &[Verdict]) -> [u64; 2] {
    let mut forwarded = [0; 2];
    let Some(counters) = engine.counters().port(ingress.into()) else {
        return forwarded;
    };
    let [even, odd] = &mut forwarded;
    for pair in verdicts.chunks(2) {
        for (verdict, count) in pair.iter().zip([&mut *even, &mut *odd]) {
            match verdict {
                Verdict::Forward { .. } => *count += 1,
                Verdict::Punt(fate) => counters.count(*fate),
                Verdict::Hold { .. } => counters.count(Fate::NeighbourUnresolved),
                // Dropped, or an answer to what was: counted already.
                _ => {}
            }
        }
    }
    counters.count_many(Fate::Forwarded, forwarded[0] + forwarded[1]);
    forwarded
}

fn tick_of(nanoseconds: u64) -> Tick {
    Tick::from_duration(Duration::from_nanos(nanoseconds))
}
