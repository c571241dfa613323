//! Templates, and entries that control others (`ip_vs_conn.c`, `ip_vs_sched_persist`).
//!
//! A template ties a client, or a network of clients, to a destination. Connections are made after it and are its
//! children; while it has any, it does not end, so a child's reference to it, its entry's number, stays right. The count
//! of children is a part of the word that says whether an entry is in use: nobody can become the child of an entry that
//! ends at this moment.
//!
//! A template whose time comes while it has children lives on by a minute, and a minute is its timeout from then on. That
//! is written when somebody asks, and by the time at which the last child ended, not when it was found to have: else a
//! sweep that comes to the template before a child of the same age would give it a minute that Linux does not.

use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};

use super::entry::Connection;
use super::life::{Life, REFRESH_TICKS};
use super::table::{ConnectionTable, Hit};
use super::{Family, FlowKey, State, Timeouts};
use crate::clock::{Tick, seconds};
use crate::wire::protocol;

/// A template whose time has come while it has children lives on by so much at a time (`ip_vs_conn_expire`).
pub(crate) const EXPIRE_LATER: u32 = seconds(60);

/// The port that a template shows when its destination is not to be had any more.
pub const DEAD_PORT: u16 = 0xffff;

/// Protocols that templates are for, and the number in their keys: unassigned ones, which no packet's key has.
const PROTOCOLS: [(u8, u8); 4] = [
    (protocol::IP, 252),
    (protocol::TCP, 251),
    (protocol::UDP, 250),
    (protocol::SCTP, 249),
];

impl FlowKey {
    /// The key of a template of that protocol; [`protocol::IP`] for services of a firewall mark.
    pub(crate) fn template(self) -> Self {
        let number = PROTOCOLS.iter().find(|(real, _)| *real == self.protocol);
        Self {
            protocol: number.map_or(self.protocol, |(_, number)| *number),
            ..self
        }
    }

    /// A template's key for one call: what of the client's address and port 0 it has, mixed with the call's tag. 48 bits of
    /// a keyed hash: among a million calls two of one client share a template once in a hundred years of chance, and would
    /// share a server.
    pub(crate) fn of_call(mut self, tag: u64) -> Self {
        self.addresses[0] ^= match self.family {
            Family::V4 => tag << 32,
            Family::V6 => tag & 0xffff_ffff,
        };
        #[allow(clippy::cast_possible_truncation)] // 16 bits are meant
        let port = (tag >> 32) as u32 & 0xffff;
        self.ports ^= port << 16;
        self
    }

    /// The protocol as listings name it: of a template's key, the one that the template is for.
    pub fn listed_protocol(&self) -> u8 {
        let real = PROTOCOLS
            .iter()
            .find(|(_, number)| *number == self.protocol);
        real.map_or(self.protocol, |(real, _)| *real)
    }
}

impl<'t> Connection<'t> {
    /// The entry that controls it.
    #[inline]
    pub fn control(&self) -> Option<u32> {
        let number = (self.service_word().load(Relaxed) >> 32).checked_sub(1)?;
        u32::try_from(number).ok()
    }

    /// Port of the destination; of a template, 0 when connections keep theirs.
    #[allow(clippy::cast_possible_truncation)] // the field is meant
    pub fn destination_port(&self) -> u16 {
        (self.ports_word().load(Relaxed) >> 16) as u16
    }

    /// Whether it is there to be listed: its time has not come, or it has children to wait for.
    pub fn is_listed(&self, now: Tick) -> bool {
        let life = self.life();
        life.is_alive(now) || (life.is_live() && life.children() > 0)
    }

    /// Makes room for one more child and puts off a template's end. False when the entry has ended meanwhile, or can
    /// count no more children.
    pub(crate) fn adopt(&self, now: Tick) -> bool {
        if self.life().expires().has_passed(now) {
            self.shorten();
        }
        self.change_life(|life| life.with_child(self.end_of_template(now)))
    }

    /// Whether it is a template that no client finds any more.
    pub fn is_dead_template(&self) -> bool {
        self.is_template() && (self.ports_word().load(Relaxed) >> 32) & 0xffff == DEAD_PORT.into()
    }

    /// A packet of it came, but goes no further and changes nothing else: puts off the end.
    pub(crate) fn put_off(&self, now: Tick, timeouts: &Timeouts) {
        self.change_life(|life| Some(life.ending_at(now.after(timeouts.of(life.state())))));
    }

    /// A connection that is not kept was made after the template: puts off its end.
    pub(crate) fn renew(&self, now: Tick) -> bool {
        self.change_life(|life| Some(life.ending_at(self.end_of_template(now))))
    }

    /// A child has ended, or did not come to be, at this time. An end that has passed before is put off, as it would have
    /// been when it came, and again each time.
    pub(crate) fn release_child(&self, at: Tick) {
        let outlived = self.end(at) != self.life().expires();
        if outlived {
            self.shorten();
        }
        self.change_life(|life| {
            let end = extended(life.expires(), at);
            life.without_child().map(|life| life.ending_at(end))
        });
    }

    /// When it ends without traffic. One with children whose time has come lives on.
    pub fn end(&self, now: Tick) -> Tick {
        let life = self.life();
        if life.children() > 0 {
            extended(life.expires(), now)
        } else {
            life.expires()
        }
    }

    /// A template has outlived its timeout: it is another one from now on.
    fn shorten(&self) {
        if self.is_template() {
            self.route_word().store(EXPIRE_LATER.into(), Relaxed);
        }
    }

    /// A child has been seen to be a real connection.
    pub(crate) fn assure(&self) {
        if self.life().state() == State::Template {
            self.change_life(|life| {
                (life.state() == State::Template).then(|| life.in_state(State::Assured))
            });
        }
    }

    /// Forgets children: those that are there count themselves again.
    pub(super) fn forget_children(&self) {
        self.change_life(|life| Some(life.without_children()));
    }

    /// Counts as a child of what controls it, or is controlled by nothing any more.
    pub(super) fn find_control_again(&self, table: &ConnectionTable) {
        let Some(control) = self.control() else {
            return;
        };
        let counted = table
            .connection(control)
            .is_some_and(|entry| entry.change_life(|life| life.with_child(life.expires())));
        if !counted {
            let word = self.service_word();
            word.store(word.load(Relaxed) & u64::from(u32::MAX), Relaxed);
        }
    }

    fn end_of_template(&self, now: Tick) -> Tick {
        now.after(self.template_timeout().saturating_add(REFRESH_TICKS))
    }

    /// How long a template lives after the last connection that came of it, in ticks.
    pub(crate) fn template_timeout(&self) -> u32 {
        u32::try_from(self.route_word().load(Relaxed)).unwrap_or(0)
    }

    pub(super) fn change_life(&self, mut change: impl FnMut(Life) -> Option<Life>) -> bool {
        let changed = self.life_word().fetch_update(AcqRel, Acquire, |word| {
            let life = Life::of_word(word);
            change(life).filter(|_| life.is_live()).map(Life::word)
        });
        changed.is_ok()
    }
}

/// The end of an entry that has children until `at`: unless it comes later, so many times put off that it does.
fn extended(end: Tick, at: Tick) -> Tick {
    match u32::try_from(end.until(at)) {
        Ok(late) if late > 0 => end.after(late.div_ceil(EXPIRE_LATER) * EXPIRE_LATER),
        _ => end,
    }
}

impl ConnectionTable {
    /// The template of this key. One whose time has come counts as long as it has children.
    pub(crate) fn find_template(&self, key: &FlowKey, now: Tick) -> Option<Hit<'_>> {
        let hit = self.find_any(key, self.hash(key))?;
        let life = hit.connection.life();
        (life.is_live() && (life.is_alive(now) || life.children() > 0)).then_some(hit)
    }

    /// Takes a template out of use whose destination is not to be had: no client finds it any more, and it is listed
    /// with port 65535 until its time has come (`ip_vs_check_template`). One caller of several does it.
    pub(crate) fn retire_template(&self, hit: &Hit<'_>) {
        let entry = hit.connection;
        // As if it had a child: or the sweep might end it meanwhile, and remove the slot that is removed here.
        if !entry.change_life(|life| life.with_child(life.expires())) {
            return;
        }
        if self.unlink_once(hit.number, &entry) {
            let dead = u64::from(DEAD_PORT);
            entry.ports_word().store(dead << 32 | dead << 16, Relaxed);
        }
        entry.change_life(Life::without_child);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_packet_has_a_templates_key() {
        for (real, number) in PROTOCOLS {
            let key = FlowKey {
                addresses: [1, 2, 3, 4],
                ports: 80,
                protocol: real,
                family: Family::V4,
            };
            let template = key.template();
            assert_eq!(template.protocol, number);
            assert_eq!(template.listed_protocol(), real);
            assert_eq!(key.listed_protocol(), real);
        }
    }
}
