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

/// What a segment means to the table, strongest flag first: RST, SYN, FIN, ACK.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Event {
    Syn,
    Fin,
    Ack,
    Rst,
}

impl Event {
    #[inline]
    fn of(flags: u8) -> Option<Self> {
        if flags & flag::RST != 0 {
            Some(Self::Rst)
        } else if flags & flag::SYN != 0 {
            Some(Self::Syn)
        } else if flags & flag::FIN != 0 {
            Some(Self::Fin)
        } else if flags & flag::ACK != 0 {
            Some(Self::Ack)
        } else {
            None
        }
    }
}

use State::{
    Close as CL, CloseWait as CW, Established as ES, FinWait as FW, LastAck as LA, Listen as LI,
    SynRecv as SR, SynSent as SS, TimeWait as TW,
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

/// The state after a segment with these TCP flags.
#[inline]
pub fn next(state: State, side: Side, flags: u8) -> State {
    // A segment without any of the four flags is no TCP: the kernel closes.
    let Some(event) = Event::of(flags) else {
        return State::Close;
    };
    let rows = match side {
        Side::Input => &INPUT,
        Side::Output => &OUTPUT,
        Side::InputOnly => &INPUT_ONLY,
    };
    let [syn, fin, ack, rst] = rows;
    let row = match event {
        Event::Syn => syn,
        Event::Fin => fin,
        Event::Ack => ack,
        Event::Rst => rst,
    };
    row.get(state as usize).copied().unwrap_or(state)
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
    fn reset_wins_over_syn_and_no_flag_closes() {
        assert_eq!(
            next(State::Established, Side::Input, flag::RST | flag::SYN),
            State::Close
        );
        assert_eq!(next(State::Established, Side::Input, 0), State::Close);
    }
}
