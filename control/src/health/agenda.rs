//! When servers are asked: each at its own time, and not more at once than there is room for. Pure.
//!
//! Servers that hang hold their place until their time is up. So that those do not make the others wait, servers whose
//! last answer came too late have half of the places and no more.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Instant;

/// How a server answered last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// In time.
    Prompt,
    /// Not in time.
    Late,
}

/// Who is due when.
#[derive(Debug)]
pub struct Agenda {
    due: BinaryHeap<Reverse<(Instant, u64)>>,
    prompt: Lane,
    late: Lane,
}

/// The servers of one pace.
#[derive(Debug)]
struct Lane {
    /// Due, and without a place.
    waiting: VecDeque<u64>,
    under_way: usize,
}

impl Agenda {
    /// An empty one.
    pub fn new() -> Self {
        let lane = || Lane {
            waiting: VecDeque::new(),
            under_way: 0,
        };
        Self {
            due: BinaryHeap::new(),
            prompt: lane(),
            late: lane(),
        }
    }

    /// Asks for a target to be taken at a time.
    pub fn add(&mut self, target: u64, at: Instant) {
        self.due.push(Reverse((at, target)));
    }

    /// When the next one is due; nothing says when those that wait for a place get one, but [`Agenda::ended`].
    pub fn next(&self) -> Option<Instant> {
        self.due.peek().map(|Reverse((at, _))| *at)
    }

    /// Whoever is due and has a place among `room`, each with its pace, which is to be said when it has ended. `pace`
    /// knows no targets that are not to be asked any more.
    pub fn take(
        &mut self,
        now: Instant,
        room: usize,
        pace: impl Fn(u64) -> Option<Pace>,
    ) -> Vec<(u64, Pace)> {
        while let Some(Reverse((at, target))) = self.due.peek()
            && *at <= now
        {
            let target = *target;
            self.due.pop();
            match pace(target) {
                Some(Pace::Prompt) => self.prompt.waiting.push_back(target),
                Some(Pace::Late) => self.late.waiting.push_back(target),
                None => {}
            }
        }
        let mut taken = Vec::new();
        loop {
            let free = room.saturating_sub(self.prompt.under_way + self.late.under_way);
            let may_be_late = self.late.under_way < room / 2;
            let (lane, its_pace) = if free == 0 {
                return taken;
            } else if !self.prompt.waiting.is_empty() {
                (&mut self.prompt, Pace::Prompt)
            } else if may_be_late && !self.late.waiting.is_empty() {
                (&mut self.late, Pace::Late)
            } else {
                return taken;
            };
            if let Some(target) = lane.waiting.pop_front()
                && pace(target).is_some()
            {
                lane.under_way += 1;
                taken.push((target, its_pace));
            }
        }
    }

    /// One that was taken has its place no more.
    pub fn ended(&mut self, pace: Pace) {
        let lane = match pace {
            Pace::Prompt => &mut self.prompt,
            Pace::Late => &mut self.late,
        };
        lane.under_way = lane.under_way.saturating_sub(1);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn of(targets: std::ops::Range<u64>, now: Instant) -> Agenda {
        let mut agenda = Agenda::new();
        for target in targets {
            agenda.add(target, now);
        }
        agenda
    }

    #[test]
    fn each_is_taken_when_it_is_due() {
        let now = Instant::now();
        let later = now + Duration::from_millis(5);
        let mut agenda = Agenda::new();
        agenda.add(1, later);
        agenda.add(2, now);
        let prompt = |_| Some(Pace::Prompt);
        assert_eq!(agenda.next(), Some(now));
        assert_eq!(agenda.take(now, 8, prompt), [(2, Pace::Prompt)]);
        assert_eq!(agenda.take(now, 8, prompt), []);
        assert_eq!(agenda.next(), Some(later));
        assert_eq!(agenda.take(later, 8, |_| None), []);
        assert_eq!(agenda.next(), None);
    }

    #[test]
    fn who_is_late_makes_nobody_wait_who_is_not() {
        let now = Instant::now();
        let mut agenda = of(0..1000, now);
        // All but the last ten hang.
        let pace = |target| {
            let is_late = target < 990;
            Some(if is_late { Pace::Late } else { Pace::Prompt })
        };
        let taken = agenda.take(now, 20, pace);
        let late = taken.iter().filter(|(_, pace)| *pace == Pace::Late);
        assert_eq!((taken.len(), late.count()), (20, 10));
        // The ten answer; the places of the others stay free for them.
        for _ in 0..10 {
            agenda.ended(Pace::Prompt);
        }
        assert_eq!(agenda.take(now, 20, pace), []);
        agenda.add(995, now);
        assert_eq!(agenda.take(now, 20, pace), [(995, Pace::Prompt)]);
        agenda.ended(Pace::Late);
        assert_eq!(agenda.take(now, 20, pace), [(10, Pace::Late)]);
    }

    #[test]
    fn nobody_is_forgotten() {
        let now = Instant::now();
        let mut agenda = of(0..100, now);
        let mut seen = Vec::new();
        loop {
            let taken = agenda.take(now, 7, |_| Some(Pace::Prompt));
            if taken.is_empty() {
                break;
            }
            assert!(taken.len() <= 7);
            for (target, pace) in taken {
                seen.push(target);
                agenda.ended(pace);
            }
        }
        seen.sort_unstable();
        assert_eq!(seen, (0..100).collect::<Vec<_>>());
    }
}
