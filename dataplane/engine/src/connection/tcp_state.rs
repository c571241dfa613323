//! TCP state transitions as Linux IPVS makes them (`ip_vs_proto_tcp.c`): a table of (side, event) rows and state columns.
//!
//! The director sees one or both directions of a connection and follows it loosely; it does not check sequence
//! numbers. Tunnel and direct connections whose answers bypass the director follow the input-only rows.

use super::State;
use crate::wire::tcp::flag;

/// Which rows apply to a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// From the client, and the director sees answers.
    Input,
    /// From the server.
    Output,
    /// From the client, and the director has seen no answer (tunnel, direct).
    InputOnly,
}

/// What a segment means to the table, strongest flag first: RST, SYN, FIN, ACK; without any of them it is no TCP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Event {
    Syn,
    Fin,
    Ack,
    Rst,
    None,
}

impl Event {
    const fn of(flags: u8) -> Self {
        if flags & flag::RST != 0 {
            Self::Rst
        } else if flags & flag::SYN != 0 {
            Self::Syn
        } else if flags & flag::FIN != 0 {
            Self::Fin
        } else if flags & flag::ACK != 0 {
            Self::Ack
        } else {
            Self::None
        }
    }
}

use State::{
    Close as CL, CloseWait as CW, Established as ES, FinWait as FW, LastAck as LA, Listen as LI,
    SynAck as SA, SynRecv as SR, SynSent as SS, TimeWait as TW,
};

/// Columns: NONE, ESTABLISHED, SYN_SENT, SYN_RECV, FIN_WAIT, TIME_WAIT, CLOSE, CLOSE_WAIT, LAST_ACK, LISTEN, SYNACK.
type Row = [State; 11];

#[rustfmt::skip]
const INPUT: [Row; 4] = [
    [SR, ES, ES, SR, SR, SR, SR, SR, SR, SR, SR], // syn
    [CL, CW, SS, TW, TW, TW, CL, CW, LA, LI, TW], // fin
    [ES, ES, SS, ES, FW, TW, CL, CW, CL, LI, ES], // ack
    [CL, CL, CL, SR, CL, CL, CL, CL, LA, LI, SR], // rst
];

#[rustfmt::skip]
const OUTPUT: [Row; 4] = [
    [SS, ES, SS, SR, SS, SS, SS, SS, SS, LI, SR], // syn
    [TW, FW, SS, TW, FW, TW, CL, TW, LA, LI, TW], // fin
    [ES, ES, SS, ES, FW, TW, CL, CW, LA, ES, ES], // ack
    [CL, CL, SS, CL, CL, TW, CL, CL, CL, CL, CL], // rst
];

#[rustfmt::skip]
const INPUT_ONLY: [Row; 4] = [
    [SR, ES, ES, SR, SR, SR, SR, SR, SR, SR, SR], // syn
    [CL, FW, SS, TW, FW, TW, CL, CW, LA, LI, TW], // fin
    [ES, ES, SS, ES, FW, TW, CL, CW, CL, LI, ES], // ack
    [CL, CL, CL, SR, CL, CL, CL, CL, LA, LI, CL], // rst
];

/// The flags an event can come of: the low five bits.
const FLAGS_MASK: u8 = 0x1f;
const FLAGS: usize = FLAGS_MASK as usize + 1;
const STATES: usize = 16;

#[rustfmt::skip]
const SECURE_INPUT: [Row; 4] = [
    [SR, ES, ES, SR, SR, SR, SR, SR, SR, SR, SA], // syn
    [CL, CW, SS, TW, TW, TW, CL, CW, LA, LI, SA], // fin
    [ES, ES, SS, SR, FW, TW, CL, CW, CL, LI, SA], // ack
    [CL, CL, CL, SR, CL, CL, CL, CL, LA, LI, CL], // rst
];

#[rustfmt::skip]
const SECURE_OUTPUT: [Row; 4] = [
    [SS, ES, SS, SA, SS, SS, SS, SS, SS, LI, SA], // syn
    [TW, FW, SS, TW, FW, TW, CL, TW, LA, LI, TW], // fin
    [ES, ES, SS, ES, FW, TW, CL, CW, LA, ES, ES], // ack
    [CL, CL, SS, CL, CL, TW, CL, CL, CL, CL, CL], // rst
];

#[rustfmt::skip]
const SECURE_INPUT_ONLY: [Row; 4] = [
    [SA, ES, ES, SR, SA, SA, SA, SA, SA, SA, SA], // syn
    [CL, FW, SS, TW, FW, TW, CL, CW, LA, LI, TW], // fin
    [ES, ES, SS, ES, FW, TW, CL, CW, CL, LI, ES], // ack
    [CL, CL, CL, SR, CL, CL, CL, CL, LA, LI, CL], // rst
];

/// `[side][flags][state]`: the rows above with every index in range by its mask, so that a step is one load.
type Steps = [[[State; STATES]; FLAGS]; 3];

static NEXT: Steps = steps([&INPUT, &OUTPUT, &INPUT_ONLY]);
static NEXT_SECURE: Steps = steps([&SECURE_INPUT, &SECURE_OUTPUT, &SECURE_INPUT_ONLY]);

#[allow(clippy::indexing_slicing)] // evaluated at compile time
const fn steps(sides: [&[Row; 4]; 3]) -> Steps {
    let mut next = [[[State::Close; STATES]; FLAGS]; 3];
    let mut side = 0;
    while side < 3 {
        let rows = sides[side];
        let mut flags = 0;
        while flags < FLAGS {
            let event = Event::of(flags as u8);
            let mut state = 0;
            while state < STATES {
                if !matches!(event, Event::None) && state < rows[event as usize].len() {
                    next[side][flags][state] = rows[event as usize][state];
                }
                state += 1;
            }
            flags += 1;
        }
        side += 1;
    }
    next
}

/// The state after a segment with these TCP flags; the kernel closes a connection on one without any.
#[inline]
pub fn next(state: State, side: Side, flags: u8) -> State {
    step(&NEXT, state, side, flags)
}

/// The same while the director defends itself (`secure_tcp`, `tcp_states_dos`): what only clients have sent makes no
/// connection established.
#[inline]
pub fn next_secure(state: State, side: Side, flags: u8) -> State {
    step(&NEXT_SECURE, state, side, flags)
}

#[inline(always)]
fn step(steps: &Steps, state: State, side: Side, flags: u8) -> State {
    let [input, output, input_only] = steps;
    let by_flags = match side {
        Side::Input => input,
        Side::Output => output,
        Side::InputOnly => input_only,
    };
    #[allow(clippy::indexing_slicing)] // both are masked to the arrays' sizes
    by_flags[usize::from(flags & FLAGS_MASK)][state as usize & (STATES - 1)]
}

#[cfg(test)]
mod tests {
    use super::*;

    const SYN: u8 = flag::SYN;
    const SYN_ACK: u8 = flag::SYN | flag::ACK;
    const ACK: u8 = flag::ACK;
    const FIN: u8 = flag::FIN | flag::ACK;

    fn walk(steps: &[(Side, u8)]) -> State {
        steps.iter().fold(State::None, |state, (side, flags)| {
            next(state, *side, *flags)
        })
    }

    #[test]
    fn a_connection_seen_both_ways() {
        use Side::{Input, Output};
        let open = [(Input, SYN), (Output, SYN_ACK), (Input, ACK)];
        assert_eq!(walk(&open), State::Established);
        let close = [&open[..], &[(Input, FIN), (Output, FIN)]].concat();
        assert_eq!(walk(&close), State::TimeWait);
    }

    #[test]
    fn a_connection_seen_one_way() {
        use Side::InputOnly;
        let steps = [(InputOnly, SYN), (InputOnly, ACK), (InputOnly, FIN)];
        assert_eq!(walk(&steps), State::FinWait);
    }

    #[test]
    fn the_secure_table_waits_for_the_server() {
        let state = next_secure(State::SynRecv, Side::Input, ACK);
        assert_eq!(state, State::SynRecv);
        let state = next_secure(state, Side::Output, SYN_ACK);
        assert_eq!(state, State::SynAck);
        assert_eq!(next_secure(state, Side::Input, ACK), State::SynAck);
        assert_eq!(next_secure(state, Side::Output, ACK), State::Established);
        let one_way = next_secure(State::None, Side::InputOnly, SYN);
        assert_eq!(one_way, State::SynAck);
    }

    #[test]
    fn reset_wins_over_syn_and_no_flag_closes() {
        assert_eq!(
            next(State::Established, Side::Input, flag::RST | flag::SYN),
            State::Close
        );
        assert_eq!(next(State::Established, Side::Input, 0), State::Close);
    }
}
