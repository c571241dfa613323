//! The three timeouts of `ipvsadm --set`.

use std::collections::BTreeMap;

use pollux_api::dataplane::Timeouts;
use rustix::io::Errno;

use super::attribute::{Attribute, Attributes};
use super::command::{TIMEOUT_TCP, TIMEOUT_TCP_FIN, TIMEOUT_UDP};

/// The kernel counts timeouts in an `int` of ticks, of which there are up to 1000 a second.
const SECONDS_MAX: u32 = i32::MAX as u32 / 1000;

/// Timeouts that are to be set, in seconds; 0: stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewTimeouts {
    /// TCP, state ESTABLISHED.
    pub tcp_s: u32,
    /// TCP, state FIN_WAIT.
    pub tcp_fin_s: u32,
    /// UDP.
    pub udp_s: u32,
}

impl NewTimeouts {
    /// Reads them.
    ///
    /// # Errors
    /// `EINVAL` when one is missing or too long.
    pub fn read(attributes: &Attributes<'_>) -> Result<Self, Errno> {
        let read = |kind| {
            let seconds = attributes.u32(kind)?;
            seconds
                .filter(|seconds| *seconds <= SECONDS_MAX)
                .ok_or(Errno::INVAL)
        };
        Ok(Self {
            tcp_s: read(TIMEOUT_TCP)?,
            tcp_fin_s: read(TIMEOUT_TCP_FIN)?,
            udp_s: read(TIMEOUT_UDP)?,
        })
    }

    /// The settings that change.
    pub fn settings(&self) -> BTreeMap<String, u32> {
        [
            ("timeout_established", self.tcp_s),
            ("timeout_finwait", self.tcp_fin_s),
            ("timeout_udp", self.udp_s),
        ]
        .into_iter()
        .filter(|(_, seconds)| *seconds != 0)
        .map(|(name, seconds)| (name.to_owned(), seconds))
        .collect()
    }
}

/// Timeouts as the attributes of an answer.
pub fn write(timeouts: Timeouts) -> Vec<Attribute> {
    vec![
        Attribute::u32(TIMEOUT_TCP, timeouts.tcp_s),
        Attribute::u32(TIMEOUT_TCP_FIN, timeouts.tcp_fin_s),
        Attribute::u32(TIMEOUT_UDP, timeouts.udp_s),
    ]
}

#[cfg(test)]
mod tests {
    use netlink_packet_core::Emitable as _;

    use super::*;
    use crate::ipvs::command::ATTRIBUTE_MAX;

    const NOW: Timeouts = Timeouts {
        tcp_s: 900,
        tcp_fin_s: 120,
        udp_s: 300,
    };

    fn read(attributes: &[Attribute]) -> Result<NewTimeouts, Errno> {
        let mut bytes = vec![0; attributes.buffer_len()];
        attributes.emit(&mut bytes);
        NewTimeouts::read(&Attributes::parse(&bytes, ATTRIBUTE_MAX)?)
    }

    #[test]
    fn zero_keeps_what_is() {
        let new = NewTimeouts {
            tcp_s: 0,
            tcp_fin_s: 60,
            udp_s: 0,
        };
        let changed: Vec<_> = new.settings().into_iter().collect();
        assert_eq!(changed, [("timeout_finwait".to_owned(), 60)]);
        let same = read(&write(NOW)).unwrap();
        assert_eq!(same.settings().len(), 3);
    }

    #[test]
    fn all_three_are_needed_and_none_may_be_too_long() {
        let mut told = write(NOW);
        told.pop();
        assert_eq!(read(&told), Err(Errno::INVAL));
        let endless = Timeouts {
            udp_s: SECONDS_MAX + 1,
            ..NOW
        };
        assert_eq!(read(&write(endless)), Err(Errno::INVAL));
    }
}
