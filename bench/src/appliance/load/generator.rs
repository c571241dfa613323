//! The generator: this process as a DPDK program of its own, at the other end of a `net_memif` link. One thread sends by
//! schedule and takes the time of what comes back.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use arrayvec::ArrayVec;
use dpdk_bindings::{
    Eal, EalArguments, Mbuf, Memory, Mempool, MempoolSettings, Port, PortSettings, Queues, RxQueue,
    TxQueue,
};

use super::pacing::Pace;
use super::stamp::Stamp;
use super::trial::Trial;
use crate::appliance::process::scheduled;
use crate::cores::{self, Pinned};
use crate::flows::{Client, Picker};
use crate::frame_arena::FRAME_BYTES_MAX;
use crate::frame_template::FrameTemplate;
use crate::interrupt;

/// Packets handed to the device at once, and taken from it.
const BURST: usize = 32;
/// Frames each ring of the link holds.
pub const RING: u16 = 1024;
/// Memory of this process's DPDK.
pub const GENERATOR_MIB: u32 = 64;
/// How long packets that are on their way are waited for after the last one came back.
const STRAGGLERS_NS: u64 = 20_000_000;
/// How long the other end may take until its link is up.
const PATIENCE: Duration = Duration::from_secs(15);
/// How long taking up the link may take once both ends want to.
const SOON: Duration = Duration::from_millis(500);
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// `mark` of the first trial; the next ones follow.
const MARKS: u32 = 0x706f_0000;

/// DPDK in this process; it runs until the process ends.
#[derive(Debug)]
pub struct Generator {
    eal: Eal,
    pool: Mempool,
    cpu: usize,
    marks: u32,
}

/// The link to a program.
#[derive(Debug)]
pub struct Link {
    rx: RxQueue,
    tx: TxQueue,
    _port: Port,
}

/// What is to be sent.
#[derive(Debug)]
pub struct Job<'j> {
    /// Its frames.
    pub template: &'j FrameTemplate,
    /// Its flows.
    pub picker: &'j mut Picker,
    /// Packets a second.
    pub rate: f64,
    /// How many.
    pub packets: u64,
    /// When to give up, with fewer sent.
    pub time_max: Duration,
    /// Where the TCP header begins in what comes back.
    pub returned_at: usize,
}

impl Generator {
    /// Starts DPDK in this process.
    ///
    /// # Errors
    /// DPDK's; it can be started once.
    pub fn start(huge_pages: bool, cpu: usize) -> anyhow::Result<Self> {
        let megabytes = GENERATOR_MIB;
        let eal = Eal::start(&EalArguments {
            memory: if huge_pages {
                Memory::HugePages { megabytes }
            } else {
                Memory::OrdinaryPages { megabytes }
            },
            file_prefix: format!("pollux-bench-generator-{}", std::process::id()),
            ..EalArguments::default()
        });
        let eal = eal.context("the generator does not start")?;
        let pool = Mempool::create(&eal, &MempoolSettings::default())?;
        Ok(Self {
            eal,
            pool,
            cpu,
            marks: MARKS,
        })
    }

    /// Links to the program that listens on a socket, as soon as it does.
    ///
    /// # Errors
    /// It does not listen in time.
    pub fn link(&self, socket: &Path) -> anyhow::Result<Link> {
        let device = format!(
            "net_memif0,role=client,id=0,socket={},socket-abstract=no",
            socket.display()
        );
        let port = self.eal.attach(&device)?;
        let settings = PortSettings {
            rx_descriptors: RING,
            tx_descriptors: RING,
            ..PortSettings::default()
        };
        let began = Instant::now();
        let queues = loop {
            if let Ok(queues) = port.start(&settings, &self.pool)
                && is_up_soon(&port)?
            {
                break queues;
            }
            // Turned away, as by a program that listens but has not started its port yet: memif does not try again.
            if began.elapsed() > PATIENCE {
                bail!("nobody takes up the link at {}", socket.display());
            }
            interrupt::sleep(LOOK_EVERY)?;
        };
        let Queues { rx, tx, .. } = queues;
        let (Some(rx), Some(tx)) = (rx.into_iter().next(), tx.into_iter().next()) else {
            bail!("the link has no queues");
        };
        Ok(Link {
            rx,
            tx,
            _port: port,
        })
    }

    /// Sends by schedule, and takes the time of what comes back.
    ///
    /// # Errors
    /// Interrupted, or no CPU.
    pub fn run(&mut self, link: &mut Link, job: Job<'_>) -> anyhow::Result<Trial> {
        let _pinned = Pinned::to(self.cpu)?;
        self.marks = self.marks.wrapping_add(1);
        let thread = Path::new("/proc/thread-self");
        let before = scheduled(thread)?;
        let mut run = Run::begin(&self.pool, self.marks, job);
        while run.is_on() {
            interrupt::check()?;
            run.receive(link);
            run.send(link);
        }
        let mut trial = run.trial;
        trial.kept_up = trial.offered == run.job.packets;
        let waited = scheduled(thread)?.waited_ns - before.waited_ns;
        trial.generator_waited_ns = waited;
        Ok(trial)
    }
}

fn is_up_soon(port: &Port) -> anyhow::Result<bool> {
    let began = Instant::now();
    while began.elapsed() < SOON {
        if port.link()?.up {
            return Ok(true);
        }
        interrupt::sleep(LOOK_EVERY)?;
    }
    Ok(false)
}

/// A job being done.
struct Run<'j> {
    pool: &'j Mempool,
    mark: u32,
    job: Job<'j>,
    pace: Pace,
    /// The last look at the clock.
    now: u64,
    start: u64,
    end: u64,
    last_came_at: u64,
    trial: Trial,
}

impl<'j> Run<'j> {
    fn begin(pool: &'j Mempool, mark: u32, job: Job<'j>) -> Self {
        let now = cores::boot_ns();
        let longest = u64::try_from(job.time_max.as_nanos()).unwrap_or(u64::MAX);
        Self {
            pool,
            mark,
            pace: Pace::new(now, job.rate),
            job,
            now,
            start: now,
            end: now.saturating_add(longest),
            last_came_at: now,
            trial: Trial::default(),
        }
    }

    /// Whether there is something to send, or to wait for.
    #[inline]
    fn is_on(&mut self) -> bool {
        let now = cores::boot_ns();
        let trial = &mut self.trial;
        if trial.offered < self.job.packets && now < self.end {
            trial.longest_pause_ns = trial.longest_pause_ns.max(now - self.now);
            trial.sending_ns = now - self.start;
            // The last packets' stragglers are waited for from here on.
            self.last_came_at = now;
            self.now = now;
            return true;
        }
        self.now = now;
        trial.came_back < trial.sent && now - self.last_came_at < STRAGGLERS_NS
    }

    #[inline]
    fn receive(&mut self, link: &mut Link) {
        let mut burst = ArrayVec::<Mbuf, BURST>::new();
        if link.rx.receive(&mut burst) == 0 {
            return;
        }
        let now = cores::boot_ns();
        for frame in &burst {
            match Stamp::read(frame.data(), self.job.returned_at) {
                Some(stamp) if stamp.mark == self.mark => {
                    let intended = self.pace.intended_ns(stamp.number.into());
                    self.trial.take(now.saturating_sub(intended));
                    self.last_came_at = now;
                }
                // What the kernel of the other end says of itself, or a straggler of an earlier trial.
                _ => self.trial.strange += 1,
            }
        }
        Mbuf::free_all(&mut burst);
    }

    #[inline]
    fn send(&mut self, link: &mut Link) {
        let due = self.pace.due(self.now).min(self.job.packets);
        let behind = due.saturating_sub(self.trial.offered);
        if behind == 0 || self.now >= self.end {
            return;
        }
        let mut burst = ArrayVec::<Mbuf, BURST>::new();
        let count = behind.min(BURST as u64);
        for number in self.trial.offered..self.trial.offered + count {
            if let Some(frame) = self.frame(number) {
                burst.push(frame);
            }
        }
        self.trial.offered += count;
        self.trial.sent += link.tx.send(&mut burst) as u64;
        // A full ring is what a NIC does when its host is too slow: the packet is lost.
        Mbuf::free_all(&mut burst);
    }

    #[inline]
    #[allow(clippy::cast_possible_truncation)] // a trial has fewer than 2^32 packets
    fn frame(&mut self, number: u64) -> Option<Mbuf> {
        let mut frame = self.pool.allocate()?;
        let room = frame.append(FRAME_BYTES_MAX).ok()?;
        let room = room.first_chunk_mut::<FRAME_BYTES_MAX>()?;
        let client = Client::of_flow(self.job.picker.pick());
        let template = self.job.template;
        template.fill_numbered(room, client, number as u32, self.mark);
        frame.trim(FRAME_BYTES_MAX - template.length()).ok()?;
        Some(frame)
    }
}
