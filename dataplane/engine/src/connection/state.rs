//! Connection states with IPVS's names and timeouts (`ip_vs_proto_tcp.c`, `ip_vs_proto_udp.c`, `ip_vs_proto_sctp.c`).

use zerocopy::TryFromBytes;

use crate::clock::seconds;
use crate::wire::tcp::flag;

/// State of a connection: TCP, UDP and SCTP. [`State::None`] is TCP's and SCTP's. The numbers are in connection tables that
/// other processes take up: new ones go to the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, TryFromBytes)]
#[repr(u8)]
pub enum State {
    /// Nothing seen yet.
    None,
    /// Both sides have spoken.
    Established,
    /// The server opened it.
    SynSent,
    /// The client opened it.
    SynRecv,
    /// One side has finished.
    FinWait,
    /// Both sides have finished.
    TimeWait,
    /// Reset or over.
    Close,
    /// The client has finished.
    CloseWait,
    /// Waiting for the last acknowledgement.
    LastAck,
    /// Never entered but by an odd packet.
    Listen,
    /// SYN answered, in the secure table.
    SynAck,
    /// A UDP flow.
    Udp,
    /// A template, no connection.
    Template,
    /// A template of which a connection has been seen to be real.
    Assured,
    /// The client's first INIT.
    SctpInit1,
    /// The client has sent INIT again.
    SctpInit,
    /// The server has answered INIT.
    SctpCookieSent,
    /// The client has sent the cookie back.
    SctpCookieReplied,
    /// The server opens it: its INIT.
    SctpCookieWait,
    /// The client has answered the server's INIT.
    SctpCookie,
    /// The server has sent the client's cookie back.
    SctpCookieEchoed,
    /// An SCTP association is up.
    SctpEstablished,
    /// The server ends it.
    SctpShutdownSent,
    /// The client ends it.
    SctpShutdownReceived,
    /// The server has agreed to the end.
    SctpShutdownAckSent,
    /// INIT was answered by ABORT.
    SctpRejected,
    /// Aborted or over.
    SctpClosed,
}

impl State {
    /// Every state, by number.
    pub const ALL: [Self; 27] = [
        Self::None,
        Self::Established,
        Self::SynSent,
        Self::SynRecv,
        Self::FinWait,
        Self::TimeWait,
        Self::Close,
        Self::CloseWait,
        Self::LastAck,
        Self::Listen,
        Self::SynAck,
        Self::Udp,
        Self::Template,
        Self::Assured,
        Self::SctpInit1,
        Self::SctpInit,
        Self::SctpCookieSent,
        Self::SctpCookieReplied,
        Self::SctpCookieWait,
        Self::SctpCookie,
        Self::SctpCookieEchoed,
        Self::SctpEstablished,
        Self::SctpShutdownSent,
        Self::SctpShutdownReceived,
        Self::SctpShutdownAckSent,
        Self::SctpRejected,
        Self::SctpClosed,
    ];

    /// The state of a number; an unknown one is [`State::None`].
    #[inline(always)]
    pub fn from_number(number: u8) -> Self {
        zerocopy::try_transmute!(number).unwrap_or(Self::None)
    }

    /// The name `ipvsadm -Lc` prints.
    pub fn name(self) -> &'static str {
        match self {
            Self::None | Self::Template => "NONE",
            Self::Assured => "ASSURED",
            Self::Established | Self::SctpEstablished => "ESTABLISHED",
            Self::SynSent => "SYN_SENT",
            Self::SynRecv => "SYN_RECV",
            Self::FinWait => "FIN_WAIT",
            Self::TimeWait => "TIME_WAIT",
            Self::Close => "CLOSE",
            Self::CloseWait => "CLOSE_WAIT",
            Self::LastAck => "LAST_ACK",
            Self::Listen => "LISTEN",
            Self::SynAck => "SYNACK",
            Self::Udp => "UDP",
            Self::SctpInit1 => "INIT1",
            Self::SctpInit => "INIT",
            Self::SctpCookieSent => "C-SENT",
            Self::SctpCookieReplied => "C-REPLIED",
            Self::SctpCookieWait => "C-WAIT",
            Self::SctpCookie => "COOKIE",
            Self::SctpCookieEchoed => "C-ECHOED",
            Self::SctpShutdownSent => "S-SENT",
            Self::SctpShutdownReceived => "S-RECEIVED",
            Self::SctpShutdownAckSent => "S-ACK-SENT",
            Self::SctpRejected => "REJECTED",
            Self::SctpClosed => "CLOSED",
        }
    }

    /// Whose state it is: `tcp`, `udp`, `sctp` or `template`. With [`State::name`] unlike that of any other state.
    pub fn kind(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Template | Self::Assured => "template",
            Self::SctpInit1
            | Self::SctpInit
            | Self::SctpCookieSent
            | Self::SctpCookieReplied
            | Self::SctpCookieWait
            | Self::SctpCookie
            | Self::SctpCookieEchoed
            | Self::SctpEstablished
            | Self::SctpShutdownSent
            | Self::SctpShutdownReceived
            | Self::SctpShutdownAckSent
            | Self::SctpRejected
            | Self::SctpClosed => "sctp",
            _ => "tcp",
        }
    }

    /// Whether a connection in this state counts as active: by `tcp_state_active_table`, SCTP when it is established, UDP
    /// never.
    #[inline]
    pub fn is_active(self) -> bool {
        matches!(
            self,
            Self::Established
                | Self::SynSent
                | Self::SynRecv
                | Self::SynAck
                | Self::SctpEstablished
        )
    }

    /// Whether traffic has shown the connection to be real: such entries are never evicted for new ones, and templates
    /// neither.
    #[inline]
    pub fn is_established(self) -> bool {
        matches!(
            self,
            Self::Established
                | Self::FinWait
                | Self::CloseWait
                | Self::Template
                | Self::Assured
                | Self::SctpEstablished
                | Self::SctpShutdownSent
                | Self::SctpShutdownReceived
                | Self::SctpShutdownAckSent
        )
    }

    /// Whether the entry is a template.
    #[inline]
    pub fn is_template(self) -> bool {
        matches!(self, Self::Template | Self::Assured)
    }
}

/// The state that a packet leaves as it is, whichever side it comes from, if there is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Steady(u8);

impl Steady {
    /// There is none: its number is no state's.
    pub const NONE: Self = Self(31);
    /// UDP knows one state.
    pub const UDP: Self = Self(State::Udp as u8);

    /// Of a TCP segment: an acknowledgement leaves an established connection established, in each table of transitions.
    #[inline(always)]
    pub fn of_tcp(flags: u8) -> Self {
        let telling = flags & (flag::SYN | flag::FIN | flag::RST | flag::ACK);
        if telling == flag::ACK {
            Self(State::Established as u8)
        } else {
            Self::NONE
        }
    }

    /// The state's number, or one that no state has.
    #[inline(always)]
    pub(super) fn number(self) -> u8 {
        self.0
    }
}

/// Lifetimes without traffic, in ticks, by state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts([u32; 32]);

impl Timeouts {
    /// Ticks a connection in this state lives without traffic.
    #[inline]
    pub fn of(&self, state: State) -> u32 {
        self.at(state as u8)
    }

    /// Ticks a connection in the state that a packet leaves as it is lives; of no state 0.
    #[inline]
    pub(super) fn of_steady(&self, steady: Steady) -> u32 {
        self.at(steady.number())
    }

    #[inline(always)]
    fn at(&self, number: u8) -> u32 {
        #[allow(clippy::indexing_slicing)] // masked to the array's size
        self.0[usize::from(number) & 31]
    }

    /// Sets one, in ticks.
    pub fn set(&mut self, state: State, ticks: u32) {
        if let Some(timeout) = self.0.get_mut(state as usize) {
            *timeout = ticks;
        }
    }
}

impl Default for Timeouts {
    /// The kernel's.
    fn default() -> Self {
        let mut timeouts = Self([0; 32]);
        for (state, value) in [
            (State::None, 2),
            (State::Established, 900),
            (State::SynSent, 120),
            (State::SynRecv, 60),
            (State::FinWait, 120),
            (State::TimeWait, 120),
            (State::Close, 10),
            (State::CloseWait, 60),
            (State::LastAck, 30),
            (State::Listen, 120),
            (State::SynAck, 120),
            (State::Udp, 300),
            // Templates have timeouts of their own.
            (State::Template, 60),
            (State::Assured, 60),
            (State::SctpInit1, 4),
            (State::SctpInit, 61),
            (State::SctpCookieSent, 61),
            (State::SctpCookieReplied, 61),
            (State::SctpCookieWait, 61),
            (State::SctpCookie, 61),
            (State::SctpCookieEchoed, 61),
            (State::SctpEstablished, 900),
            (State::SctpShutdownSent, 61),
            (State::SctpShutdownReceived, 61),
            (State::SctpShutdownAckSent, 61),
            (State::SctpRejected, 4),
            (State::SctpClosed, 61),
        ] {
            timeouts.set(state, seconds(value));
        }
        timeouts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_agree() {
        for (number, state) in State::ALL.into_iter().enumerate() {
            assert_eq!(state as usize, number);
            assert_eq!(State::from_number(u8::try_from(number).unwrap()), state);
            assert!(Timeouts::default().of(state) > 0);
        }
        assert_eq!(State::from_number(31), State::None);
    }
}
