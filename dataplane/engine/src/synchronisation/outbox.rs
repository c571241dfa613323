//! What is told becomes messages, and these go when the kernel's do: a full one when eight are full or a fiftieth of a second
//! after the first, one that is not full within two to three seconds.

use std::collections::VecDeque;

use super::Told;
use crate::clock::{TICKS_PER_SECOND, Tick, seconds};
use crate::wire::sync::Message;

/// Full messages that go at once (`IPVS_SYNC_WAKEUP_RATE`).
const FULL_AT_ONCE: usize = 8;
/// How long fewer of them wait, ticks (`IPVS_SYNC_SEND_DELAY`).
const FULL_WAIT: u32 = TICKS_PER_SECOND / 50;
/// How old one gets that is not full, ticks (`IPVS_SYNC_FLUSH_TIME`).
const PARTIAL_WAIT: u32 = seconds(2);

/// What messages are to be like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutboxSettings {
    /// Which directors belong together.
    pub sync_id: u8,
    /// UDP payload, bytes, at most.
    pub bytes_max: usize,
    /// How many UDP ports they are spread over; a power of two.
    pub ports: usize,
    /// Messages of one port that may wait, at most.
    pub waiting_max: usize,
}

/// Messages of one port.
#[derive(Debug, Default)]
struct Line {
    full: VecDeque<Vec<u8>>,
    full_since: Option<Tick>,
    partial: Option<(Message, Tick)>,
}

/// Messages on their way out.
#[derive(Debug)]
pub struct Outbox {
    settings: OutboxSettings,
    lines: Box<[Line]>,
    dropped: u64,
}

impl Outbox {
    /// One without messages.
    pub fn new(settings: OutboxSettings) -> Self {
        let ports = settings.ports.max(1);
        Self {
            settings,
            lines: (0..ports).map(|_| Line::default()).collect(),
            dropped: 0,
        }
    }

    /// How many messages may wait from now on.
    pub fn set_waiting_max(&mut self, waiting_max: usize) {
        self.settings.waiting_max = waiting_max;
    }

    /// Connections that were dropped because too many messages waited.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Messages that are full and wait.
    pub fn waiting(&self) -> usize {
        self.lines.iter().map(|line| line.full.len()).sum()
    }

    /// Puts a connection into the message that is being written.
    pub fn put(&mut self, told: &Told, now: Tick) {
        let OutboxSettings {
            sync_id,
            bytes_max,
            waiting_max,
            ..
        } = self.settings;
        let port = told.entry as usize % self.lines.len().max(1);
        let Some(line) = self.lines.get_mut(port) else {
            return;
        };
        if let Some((message, _)) = &mut line.partial {
            if message.push(&told.connection) {
                return;
            }
            if let Some((full, _)) = line.partial.take() {
                if line.full.len() < waiting_max {
                    line.full.push_back(full.finish());
                    line.full_since.get_or_insert(now);
                } else {
                    self.dropped += u64::from(full.entries());
                }
            }
        }
        let mut message = Message::new(sync_id, bytes_max);
        // The first one always fits.
        message.push(&told.connection);
        line.partial = Some((message, now));
    }

    /// The next message that is to go now, and its port's number.
    pub fn next_due(&mut self, now: Tick) -> Option<(usize, Vec<u8>)> {
        let mut lines = self.lines.iter_mut().enumerate();
        lines.find_map(|(port, line)| Some((port, line.next_due(now)?)))
    }

    /// Takes a message back that could not be sent now: it is the next one of its port.
    pub fn put_back(&mut self, port: usize, message: Vec<u8>, now: Tick) {
        if let Some(line) = self.lines.get_mut(port) {
            line.full.push_front(message);
            line.full_since = Some(now);
        }
    }
}

impl Line {
    fn next_due(&mut self, now: Tick) -> Option<Vec<u8>> {
        let has_waited =
            |since: Tick, ticks: u32| u32::try_from(since.until(now)).is_ok_and(|age| age >= ticks);
        let full_waits = self
            .full_since
            .is_some_and(|since| has_waited(since, FULL_WAIT));
        // Once one goes, all do.
        if full_waits || self.full.len() >= FULL_AT_ONCE {
            if let Some(since) = &mut self.full_since {
                *since = now.after(FULL_WAIT.wrapping_neg());
            }
            let message = self.full.pop_front();
            if self.full.is_empty() {
                self.full_since = None;
            }
            return message;
        }
        let is_old = |(_, since): &mut (Message, Tick)| has_waited(*since, PARTIAL_WAIT);
        let (message, _) = self.partial.take_if(is_old)?;
        Some(message.finish())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::protocol;
    use crate::wire::sync::{SyncedConnection, V4_BYTES, flag, read};

    fn told(entry: u32) -> Told {
        Told {
            entry,
            connection: SyncedConnection {
                protocol: protocol::TCP,
                flags: flag::SYNC,
                state: 1,
                client: "198.51.100.7:40000".parse().unwrap(),
                virtual_service: "192.0.2.100:80".parse().unwrap(),
                destination: "10.1.0.11:8080".parse().unwrap(),
                mark: 0,
                timeout_s: 900,
                sequences: None,
                engine: None,
            },
        }
    }

    fn outbox(ports: usize, waiting_max: usize) -> Outbox {
        Outbox::new(OutboxSettings {
            sync_id: 7,
            bytes_max: 8 + 2 * V4_BYTES,
            ports,
            waiting_max,
        })
    }

    fn due(outbox: &mut Outbox, now: u32) -> Vec<(usize, usize)> {
        let mut all = Vec::new();
        while let Some((port, message)) = outbox.next_due(Tick(now)) {
            all.push((port, read(&message, 7).unwrap().count()));
        }
        all
    }

    #[test]
    fn full_messages_go_soon_and_others_within_seconds() {
        let mut outbox = outbox(1, 100);
        for _ in 0..5 {
            outbox.put(&told(0), Tick(0));
        }
        assert_eq!(due(&mut outbox, 0), []);
        assert_eq!(due(&mut outbox, 1), []);
        assert_eq!(due(&mut outbox, 2), [(0, 2), (0, 2)]);
        assert_eq!(due(&mut outbox, seconds(2) - 1), []);
        assert_eq!(due(&mut outbox, seconds(2)), [(0, 1)]);
        assert_eq!(due(&mut outbox, seconds(9)), []);
        // Eight that are full wait for nothing.
        for _ in 0..17 {
            outbox.put(&told(0), Tick(0));
        }
        assert_eq!(due(&mut outbox, 0), [(0, 2); 8]);
    }

    #[test]
    fn connections_keep_to_their_ports() {
        let mut outbox = outbox(4, 100);
        (0..8).for_each(|entry| outbox.put(&told(entry), Tick(0)));
        assert_eq!(
            due(&mut outbox, seconds(2)),
            [(0, 2), (1, 2), (2, 2), (3, 2)]
        );
    }

    #[test]
    fn no_more_wait_than_may() {
        let mut outbox = outbox(1, 3);
        (0..20).for_each(|_| outbox.put(&told(0), Tick(0)));
        assert_eq!((outbox.dropped(), outbox.waiting()), (12, 3));
        let (port, message) = outbox.next_due(Tick(2)).unwrap();
        outbox.put_back(port, message, Tick(2));
        assert_eq!(outbox.waiting(), 3);
        assert_eq!(due(&mut outbox, 4), [(0, 2); 3]);
    }
}
