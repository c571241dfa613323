//! `drop_entry`: which entries end early, when that defence is up (`ip_vs_random_dropentry`, `todrop_entry`).
//!
//! The kernel looks at a random thirty-second of its buckets each second. Here the sweep comes to each entry about once a
//! second, and draws lots for it at those odds. What is drawn ends if it looks dead: TCP and SCTP that are half open, a
//! template that no connection has proved, and of what is established, and of all UDP, some of those that were idle for a
//! minute and have had at most eight packets from the client: one in as many as they have had.

use super::worker::Context;
use crate::clock::seconds;
use crate::connection::life::PACKETS_COUNTED_MAX;
use crate::connection::{Connection, Life, State};
use crate::settings::Defence;

/// One in so many entries is looked at in a round.
const ONE_IN: u64 = 32;
/// A connection that had a packet since then stays, in ticks.
const IDLE_MIN: u32 = seconds(60);

/// What a worker remembers between entries.
#[derive(Debug)]
pub(super) struct Dropper {
    /// State of the generator of random numbers: xorshift64, never 0.
    random: u64,
    /// By packets: how many connections that had so many stay until the next one ends.
    stay: [u8; PACKETS_COUNTED_MAX as usize + 1],
}

impl Dropper {
    /// Of the worker of that number: each draws lots of its own.
    pub fn new(worker: usize) -> Self {
        Self {
            random: (worker as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15),
            stay: [0; PACKETS_COUNTED_MAX as usize + 1],
        }
    }

    /// Whether this entry, to which the sweep has come, is to end. Only to be asked while the defence is up.
    pub fn is_to_end(&mut self, context: &Context<'_>, entry: &Connection<'_>) -> bool {
        if !self.draw().is_multiple_of(ONE_IN) {
            return false;
        }
        let life = entry.life();
        let state = life.state();
        let found = context.snapshot.destination(entry.destination());
        let timeout = |state| match found {
            Some(destination) => destination.timeouts.of(state),
            None => context.snapshot.timeouts().of(state),
        };
        match state {
            State::SynRecv | State::SynAck | State::SctpInit1 | State::SctpInit => true,
            State::Established | State::Udp | State::SctpEstablished => {
                is_idle(context, life, timeout(state)) && self.is_turn_of(life.packets())
            }
            // That one's clients leave no connection which could prove it.
            State::Template if found.is_some_and(|found| found.one_packet) => {
                is_idle(context, life, entry.template_timeout()) && self.is_turn_of(life.packets())
            }
            State::Template => true,
            _ => false,
        }
    }

    fn draw(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        // The low bits are the poorest.
        self.random >> 32
    }

    /// Of the connections that have had so many packets, the first ends and then one in so many.
    fn is_turn_of(&mut self, packets: Option<u8>) -> bool {
        let Some((packets, stay)) = packets.and_then(|packets| {
            let stay = self.stay.get_mut(usize::from(packets))?;
            Some((packets, stay))
        }) else {
            return false;
        };
        if packets == 0 {
            return false;
        }
        let ends = *stay <= 1;
        *stay = if ends { packets } else { *stay - 1 };
        ends
    }
}

/// Whether new connections count their first packets, which is worth something only to this defence.
pub(super) fn counts_packets(context: &Context<'_>) -> bool {
    context.snapshot.settings().drop_entry != Defence::Never
}

/// Whether the last packet was a minute ago. It may have come up to half a second after the end was written.
fn is_idle(context: &Context<'_>, life: Life, timeout: u32) -> bool {
    let idle = life.expires().until(context.now.after(timeout));
    u32::try_from(idle).is_ok_and(|idle| idle >= IDLE_MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_in_as_many_as_it_has_had_packets_goes() {
        let mut dropper = Dropper::new(0);
        let mut gone = |packets| {
            let turns = (0..840).filter(|_| dropper.is_turn_of(packets));
            turns.count()
        };
        for packets in 1..=8 {
            assert_eq!(gone(Some(packets)), 840 / usize::from(packets));
        }
        assert_eq!((gone(Some(0)), gone(None)), (0, 0));
    }

    #[test]
    fn every_worker_draws_one_in_thirty_two() {
        for worker in 0..4 {
            let mut dropper = Dropper::new(worker);
            let drawn = (0..32_000)
                .filter(|_| dropper.draw().is_multiple_of(ONE_IN))
                .count();
            assert!((850..1150).contains(&drawn), "{drawn}");
        }
    }
}
