//! When a connection is told of (`ip_vs_sync_conn_needed`): a word for each entry of the table, beside it.
//!
//! ```text
//! 0..32   end      when it ended without traffic, as it was told last: a tick, but for the last two bits
//! 0..2    retries  how often it was told again since, without that end having moved much
//! 32..59  packets  from the client
//! 59..64  state    when it was told last
//! ```

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};

use super::is_told;
use crate::clock::{Tick, seconds};
use crate::connection::State;
use crate::memory::{Line, Memory};

/// Words in a line.
const WORDS: usize = size_of::<Line>() / size_of::<u64>();
const RETRIES: u32 = 3;
const PACKETS_SHIFT: u32 = 32;
const PACKETS_MAX: u64 = (1 << 27) - 1;
const STATE_SHIFT: u32 = 59;

/// The settings of synchronisation, part of a snapshot's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SyncSettings {
    /// A connection is told of when so many of its packets have passed, and again with each `period`.
    pub threshold: u32,
    /// Packets; 0: once, or by `refresh` alone.
    pub period: u32,
    /// What has been told is not told again before its end has moved by so much, ticks; 0: by packets alone.
    pub refresh: u32,
    /// But for so many times, an eighth of that apart; at most 3.
    pub retries: u32,
    /// Connections that were made after a template are not told of, their templates are.
    pub persist_mode: bool,
}

impl Default for SyncSettings {
    /// The kernel's.
    fn default() -> Self {
        Self {
            threshold: 3,
            period: 50,
            refresh: 0,
            retries: 0,
            persist_mode: false,
        }
    }
}

/// Which packets of a connection there were.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Packets {
    /// One more.
    One,
    /// None that counts: it is looked at as if they were as many as the threshold.
    AtThreshold,
}

/// What is asked of a connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Facts {
    pub state: State,
    /// How long it lives without traffic, ticks.
    pub timeout: u32,
    /// It was made after a template, or what controls it was.
    pub is_persistent: bool,
}

/// A word of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mark {
    end: u32,
    packets: u32,
    state: State,
}

impl Mark {
    #[allow(clippy::cast_possible_truncation)] // fields of a packed word are meant
    fn of_word(word: u64) -> Self {
        Self {
            end: word as u32,
            packets: (word >> PACKETS_SHIFT & PACKETS_MAX) as u32,
            state: State::from_number((word >> STATE_SHIFT) as u8),
        }
    }

    fn word(self) -> u64 {
        u64::from(self.end)
            | (u64::from(self.packets) & PACKETS_MAX) << PACKETS_SHIFT
            | (self.state as u64) << STATE_SHIFT
    }

    fn new(state: State, packets: u32, now: Tick) -> Self {
        Self {
            end: now.0 & !RETRIES,
            packets,
            state,
        }
    }

    /// What becomes of it when it is time to tell; none when it is not.
    fn told(self, facts: Facts, packets: u32, settings: &SyncSettings, now: Tick) -> Option<Self> {
        let Facts { state, timeout, .. } = facts;
        let is_template = state.is_template();
        if !is_told(state) || (settings.persist_mode && facts.is_persistent && !is_template) {
            return None;
        }
        let end = now.after(timeout).0 & !RETRIES;
        let told = |end| Some(Self { end, state, ..self });
        let has_changed = !is_template && state != State::Udp && state != self.state;
        let is_established = matches!(state, State::Established | State::SctpEstablished);
        if has_changed && !is_established {
            return told(end);
        }
        let mut retries = 0;
        if settings.refresh > 0 {
            let moved = Tick(self.end).until(Tick(end)).unsigned_abs();
            let enough = settings.refresh.min((timeout / 2).max(seconds(10)));
            if moved < enough {
                retries = self.end & RETRIES;
                let next = Tick(self.end)
                    .after(timeout.wrapping_neg())
                    .after(settings.refresh / 8);
                if retries >= settings.retries || now.until(next) > 0 {
                    return None;
                }
                retries += 1;
            }
        }
        let by_packets = if settings.period > 0 {
            is_template || packets % settings.period == settings.threshold
        } else {
            settings.refresh > 0 || packets == settings.threshold
        };
        if by_packets {
            told(end | retries)
        } else {
            None
        }
    }
}

/// The marks of a table's entries.
#[derive(Debug)]
pub struct Marks(Memory);

impl Marks {
    /// Lines of memory for so many entries.
    pub fn lines(entries: u32) -> usize {
        (entries as usize).div_ceil(WORDS)
    }

    /// In memory that is all 0.
    pub fn new(memory: Memory) -> Self {
        Self(memory)
    }

    fn word(&self, entry: u32) -> Option<&AtomicU64> {
        let entry = entry as usize;
        self.0.lines().get(entry / WORDS)?.0.get(entry % WORDS)
    }

    /// A connection begins: in `state` as others know it, after so many packets.
    pub(crate) fn begin(&self, entry: u32, state: State, packets: u32, now: Tick) {
        if let Some(word) = self.word(entry) {
            word.store(Mark::new(state, packets, now).word(), Relaxed);
        }
    }

    /// Whether a connection is to be told of now. Of several callers at one moment, each packet counts, and one tells.
    pub(crate) fn is_due(
        &self,
        entry: u32,
        packets: Packets,
        facts: Facts,
        settings: &SyncSettings,
        now: Tick,
    ) -> bool {
        let Some(word) = self.word(entry) else {
            return false;
        };
        let mut is_due = false;
        let change = |word| {
            let mut mark = Mark::of_word(word);
            let count = match packets {
                Packets::One => {
                    mark.packets = mark.packets.wrapping_add(1);
                    mark.packets
                }
                Packets::AtThreshold => settings.threshold,
            };
            let told = mark.told(facts, count, settings, now);
            is_due = told.is_some();
            Some(told.unwrap_or(mark).word())
        };
        // It is never refused.
        let _ = word.fetch_update(AcqRel, Acquire, change);
        is_due
    }

    /// Whether the end that was told last has come.
    pub(crate) fn is_outlived(&self, entry: u32, now: Tick) -> bool {
        self.word(entry)
            .is_some_and(|word| Tick(Mark::of_word(word.load(Relaxed)).end).has_passed(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ESTABLISHED: Facts = Facts {
        state: State::Established,
        timeout: seconds(900),
        is_persistent: false,
    };

    fn marks() -> Marks {
        Marks::new(Memory::anonymous(Marks::lines(100), false).unwrap())
    }

    fn due(settings: SyncSettings, facts: Facts, packets: u32) -> Vec<u32> {
        let marks = marks();
        marks.begin(99, State::None, 0, Tick(0));
        let is_due = |_: &u32| marks.is_due(99, Packets::One, facts, &settings, Tick(0));
        (1..=packets).filter(is_due).collect()
    }

    #[test]
    fn words_keep_their_fields_apart() {
        for (end, packets, state) in [
            (u32::MAX, 0, State::None),
            (0, 0x07ff_ffff, State::SctpClosed),
            (4, 5, State::Udp),
        ] {
            let mark = Mark {
                end,
                packets,
                state,
            };
            assert_eq!(Mark::of_word(mark.word()), mark);
        }
    }

    #[test]
    fn packets_decide() {
        let with = |threshold, period| SyncSettings {
            threshold,
            period,
            ..SyncSettings::default()
        };
        assert_eq!(due(with(3, 50), ESTABLISHED, 120), [3, 53, 103]);
        assert_eq!(due(with(0, 1), ESTABLISHED, 4), [1, 2, 3, 4]);
        assert_eq!(due(with(3, 0), ESTABLISHED, 200), [3]);
        let template = Facts {
            state: State::Template,
            ..ESTABLISHED
        };
        assert_eq!(due(with(3, 50), template, 4), [1, 2, 3, 4]);
        assert_eq!(due(with(3, 0), template, 200), [3]);
        let opening = Facts {
            state: State::SynRecv,
            ..ESTABLISHED
        };
        assert_eq!(due(with(0, 1), opening, 200), []);
    }

    #[test]
    fn a_change_of_state_is_told_at_once_but_the_first() {
        let (marks, settings) = (marks(), SyncSettings::default());
        marks.begin(0, State::None, 0, Tick(0));
        let mut is_due = |state| {
            let facts = Facts {
                state,
                ..ESTABLISHED
            };
            marks.is_due(0, Packets::One, facts, &settings, Tick(0))
        };
        let told = [
            State::SynRecv,
            State::Established,
            State::FinWait,
            State::FinWait,
            State::TimeWait,
            State::TimeWait,
        ]
        .map(&mut is_due);
        assert_eq!(told, [false, false, true, false, true, false]);
    }

    #[test]
    fn in_persist_mode_templates_speak_for_their_connections() {
        let settings = SyncSettings {
            persist_mode: true,
            period: 1,
            threshold: 0,
            ..SyncSettings::default()
        };
        let child = Facts {
            is_persistent: true,
            ..ESTABLISHED
        };
        assert_eq!(due(settings, child, 3), []);
        assert_eq!(due(settings, ESTABLISHED, 3), [1, 2, 3]);
    }

    /// The recorded scenarios `sync/refresh`: a packet each three seconds.
    #[test]
    fn what_was_told_is_told_again_when_its_end_has_moved() {
        let told = |refresh, retries| {
            let (marks, mut told) = (marks(), Vec::new());
            let settings = SyncSettings {
                threshold: 0,
                period: 0,
                refresh: seconds(refresh),
                retries,
                ..SyncSettings::default()
            };
            marks.begin(7, State::None, 0, Tick(0));
            for at in (0..60).step_by(3) {
                if marks.is_due(7, Packets::One, ESTABLISHED, &settings, Tick(seconds(at))) {
                    told.push(at);
                }
            }
            told
        };
        assert_eq!(told(10, 0), [0, 12, 24, 36, 48]);
        assert_eq!(told(10, 1)[..4], [0, 3, 15, 18]);
    }
}
