//! Trials: packets at one rate for some time, in slices, of which only the undisturbed ones count; and the first packets,
//! which open the connections.

use std::time::{Duration, Instant};

use anyhow::ensure;

use super::generator::{Job, RING};
use super::pacing::Pace;
use super::trial::Trial;
use super::{Bench, frames, program_name};
use crate::flows::{Order, Picker};
use crate::frame_template::{FrameTemplate, flag};

/// Packets a second when connections are opened.
const OPENING_RATE: f64 = 2e6;
/// Packets a second that no generator reaches: it sends as fast as it can.
const OVERLOAD_RATE: f64 = 1e9;
/// How much longer than it should a slice may take for the generator to have kept up, and how long it goes on anyway.
const LATE_MAX: f64 = 1.05;
const TIME_MAX: f64 = 3.0;
/// A trial is made of slices of this length: long enough for a ring of 1024 frames to run over at 5 million packets a second
/// when that is a hundredth too many, short enough to be left alone now and then by a busy machine.
const SLICE: Duration = Duration::from_millis(20);
/// Slices run for each that is needed, before all are taken as they are.
const SLICES_FOR_ONE: u32 = 8;
/// How long a program may take from its link's being up until it forwards all, and the last connections until they are
/// seen.
const PATIENCE: Duration = Duration::from_secs(15);
const OPENED_WITHIN: Duration = Duration::from_millis(300);

impl Bench<'_> {
    /// A SYN and an ACK of each flow; again, should some get lost.
    pub(super) fn open(&mut self) -> anyhow::Result<()> {
        let syns = frames(self.plan, flag::SYN);
        let acks = self.acks.clone();
        let wanted = u64::from(self.plan.connections.0);
        let began = Instant::now();
        loop {
            let opened = self.each_flow_once(&syns)?.came_back;
            let came_back = self.each_flow_once(&acks)?.came_back;
            // A SYN of a connection that is there already does no harm.
            let all_there = self.subject.wait_for_connections(wanted, OPENED_WITHIN)?;
            if all_there && opened == wanted && came_back == wanted {
                return Ok(());
            }
            ensure!(
                began.elapsed() < PATIENCE,
                "{}: of the SYNs of {wanted} flows {opened} came back, and {came_back} of their ACKs{}",
                program_name(self.program),
                self.subject.account()
            );
        }
    }

    /// In pieces that a ring holds, whatever becomes of the CPUs meanwhile.
    fn each_flow_once(&mut self, template: &FrameTemplate) -> anyhow::Result<Trial> {
        let flows = u64::from(self.plan.connections.0);
        let mut picker = Picker::new(0, flows, Order::Sequential, 1);
        let mut all = Trial::default();
        while all.offered < flows {
            let job = Job {
                template,
                picker: &mut picker,
                rate: OPENING_RATE,
                packets: (flows - all.offered).min(u64::from(RING / 2)),
                time_max: Duration::MAX,
                returned_at: self.returned_at,
            };
            all.add(&self.generator.run(&mut self.link, job)?);
        }
        Ok(all)
    }

    /// Packets of established connections for so long a time, or until more than `loss_max` of them are lost.
    pub(super) fn trial(
        &mut self,
        rate: f64,
        time: Duration,
        loss_max: f64,
    ) -> anyhow::Result<Trial> {
        let slice = time.min(SLICE);
        let wanted = u32::try_from(time.as_micros() / slice.as_micros().max(1)).unwrap_or(u32::MAX);
        collect(wanted, loss_max, || {
            let mut piece = self.slice(rate, slice, slice.mul_f64(TIME_MAX))?;
            let late = Duration::from_nanos(piece.sending_ns) > slice.mul_f64(LATE_MAX);
            piece.kept_up &= !late || piece.was_disturbed();
            Ok(piece)
        })
    }

    /// Packets at a rate for so long a time; `time_max` if the generator cannot send as many by then.
    pub(super) fn slice(
        &mut self,
        rate: f64,
        time: Duration,
        time_max: Duration,
    ) -> anyhow::Result<Trial> {
        let before = self.subject.scheduled()?;
        let job = Job {
            template: &self.acks,
            picker: &mut self.picker,
            rate,
            packets: Pace::new(0, rate).packets_in(time),
            time_max,
            returned_at: self.returned_at,
        };
        let mut trial = self.generator.run(&mut self.link, job)?;
        let after = self.subject.scheduled()?;
        trial.worker_waited_ns = after.waited_ns.saturating_sub(before.waited_ns);
        Ok(trial)
    }

    /// As much as the generator can offer.
    pub(super) fn overload(&mut self) -> anyhow::Result<Trial> {
        let slice = self.plan.trial.min(SLICE);
        let wanted = self.plan.trial.as_nanos();
        let (mut counted, mut disturbed) = (Trial::default(), Trial::default());
        while u128::from(counted.sending_ns) < wanted {
            let piece = self.slice(OVERLOAD_RATE, slice, slice)?;
            if !piece.was_disturbed() {
                counted.add(&piece);
                continue;
            }
            disturbed.add(&piece);
            if u128::from(disturbed.sending_ns) > wanted * u128::from(SLICES_FOR_ONE) {
                counted.add(&disturbed);
                break;
            }
        }
        Ok(counted)
    }
}

/// Slices until so many were undisturbed, or those that were decide: more than `loss_max` of all their packets are lost
/// already, or the generator is too slow. When there is no peace to be had, all of them as they are.
fn collect(
    wanted: u32,
    loss_max: f64,
    mut slice: impl FnMut() -> anyhow::Result<Trial>,
) -> anyhow::Result<Trial> {
    let (mut counted, mut disturbed) = (Trial::default(), Trial::default());
    let mut slices = 0;
    for _ in 0..wanted.saturating_mul(SLICES_FOR_ONE) {
        let piece = slice()?;
        if piece.was_disturbed() {
            disturbed.add(&piece);
            continue;
        }
        counted.add(&piece);
        slices += 1;
        let lost = counted.loss() * f64::from(slices) / f64::from(wanted);
        if slices == wanted || lost > loss_max || !counted.kept_up {
            counted.discard(&disturbed);
            return Ok(counted);
        }
    }
    counted.add(&disturbed);
    Ok(counted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slice(came_back: u64, waited_ns: u64) -> Trial {
        Trial {
            offered: 100,
            sent: 100,
            came_back,
            sending_ns: 1_000_000,
            worker_waited_ns: waited_ns,
            ..Trial::default()
        }
    }

    /// What comes of these slices, one after the other and over again, and how many were run.
    fn collected(wanted: u32, loss_max: f64, slices: &[Trial]) -> (Trial, usize) {
        let mut run = 0;
        let mut next = slices.iter().cycle();
        let trial = collect(wanted, loss_max, || {
            run += 1;
            Ok(next.next().cloned().unwrap_or_default())
        });
        (trial.unwrap(), run)
    }

    #[test]
    fn a_disturbed_slice_is_made_good() {
        let (trial, run) = collected(4, 0.0, &[slice(100, 0), slice(3, 4_000_000)]);
        assert_eq!((run, trial.offered, trial.came_back), (7, 400, 400));
        assert_eq!(trial.discarded_ns, 3_000_000);
        assert_eq!(trial.worker_waited_ns, 12_000_000);
    }

    #[test]
    fn a_loss_ends_the_trial_as_soon_as_it_is_too_much_of_all() {
        let (trial, run) = collected(10, 0.0, &[slice(100, 0), slice(99, 0)]);
        assert_eq!((run, trial.offered, trial.came_back), (2, 200, 199));
        // 1 of 200, where 2 of 1000 are allowed: it may still be so.
        let (trial, run) = collected(10, 0.002, &[slice(100, 0), slice(99, 0)]);
        assert_eq!((run, trial.offered, trial.came_back), (6, 600, 597));
        let (_, run) = collected(10, 0.005, &[slice(100, 0), slice(99, 0)]);
        assert_eq!(run, 10);
    }

    #[test]
    fn a_machine_without_peace_is_measured_as_it_is() {
        let (trial, run) = collected(2, 0.0, &[slice(90, 4_000_000)]);
        assert_eq!(run, 2 * SLICES_FOR_ONE as usize);
        assert_eq!((trial.offered, trial.came_back), (1600, 1440));
        assert_eq!(trial.discarded_ns, 0);
    }

    #[test]
    fn a_generator_that_is_too_slow_ends_the_trial() {
        let slow = Trial {
            kept_up: false,
            ..slice(100, 0)
        };
        let (trial, run) = collected(5, 1.0, &[slow]);
        assert!(run == 1 && !trial.kept_up);
    }
}
