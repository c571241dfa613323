//! SCTP state transitions as Linux IPVS makes them (`ip_vs_proto_sctp.c`): by side, event and state, as [`super::tcp_state`].
//!
//! States are those of the server's end (RFC 9260 4), with its CLOSED split into how far the client's, or the server's
//! own, opening has come.

use zerocopy::FromBytes;

use super::State;
use super::tcp_state::Side;
use crate::wire::sctp::{CHUNK_BYTES, ChunkHeader, SCTP_BYTES, chunk};

/// What a packet means to the table: by its first chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Event {
    /// DATA, SACK, HEARTBEAT and whatever has no event of its own.
    Data,
    /// INIT.
    Init,
    /// INIT ACK.
    InitAck,
    /// COOKIE ECHO.
    CookieEcho,
    /// COOKIE ACK.
    CookieAck,
    /// SHUTDOWN.
    Shutdown,
    /// SHUTDOWN ACK.
    ShutdownAck,
    /// SHUTDOWN COMPLETE.
    ShutdownComplete,
    /// ERROR.
    Error,
    /// ABORT.
    Abort,
    /// ABORT behind COOKIE ECHO or COOKIE ACK: for states the same.
    AbortBehindCookie,
    /// No chunk at all: changes no state.
    Nothing,
}

const EVENTS: usize = Event::Nothing as usize + 1;

impl Event {
    /// The event of a packet that begins with the common header. An ABORT counts although it is the second chunk, if it
    /// is behind a cookie: a control chunk may be before it (RFC 9260 3.3.7), and the kernel looks behind these two.
    pub fn of(packet: &[u8]) -> Self {
        let chunk_at = |offset: usize| {
            let bytes = packet.get(offset..)?;
            let (header, _) = ChunkHeader::ref_from_prefix(bytes).ok()?;
            Some(*header)
        };
        let Some(first) = chunk_at(SCTP_BYTES) else {
            return Self::Nothing;
        };
        let length = usize::from(first.length.get());
        let is_cookie = matches!(first.kind, chunk::COOKIE_ECHO | chunk::COOKIE_ACK);
        if is_cookie
            && length >= CHUNK_BYTES
            && let Some(second) = chunk_at(SCTP_BYTES + length.next_multiple_of(4))
            && second.kind == chunk::ABORT
        {
            return Self::AbortBehindCookie;
        }
        match first.kind {
            chunk::INIT => Self::Init,
            chunk::INIT_ACK => Self::InitAck,
            chunk::ABORT => Self::Abort,
            chunk::SHUTDOWN => Self::Shutdown,
            chunk::SHUTDOWN_ACK => Self::ShutdownAck,
            chunk::ERROR => Self::Error,
            chunk::COOKIE_ECHO => Self::CookieEcho,
            chunk::COOKIE_ACK => Self::CookieAck,
            chunk::SHUTDOWN_COMPLETE => Self::ShutdownComplete,
            _ => Self::Data,
        }
    }
}

use State::{
    None as NO, SctpClosed as CL, SctpCookie as CO, SctpCookieEchoed as CE,
    SctpCookieReplied as CR, SctpCookieSent as CS, SctpCookieWait as CW, SctpEstablished as ES,
    SctpInit as IN, SctpInit1 as I1, SctpRejected as RJ, SctpShutdownAckSent as SA,
    SctpShutdownReceived as SR, SctpShutdownSent as SS,
};

/// An event, the states it moves, and where to; in any other state it changes nothing.
type Moves = (Event, &'static [State], State);

#[rustfmt::skip]
const INPUT: &[Moves] = &[
    (Event::Data, &[NO], ES),
    (Event::Init, &[NO], I1),
    (Event::Init, &[I1, RJ, CL], IN),
    (Event::InitAck, &[NO, I1, IN], CW),
    (Event::InitAck, &[CW], CO),
    (Event::CookieEcho, &[NO, CS], CR),
    (Event::CookieEcho, &[I1], IN),
    (Event::CookieAck, &[NO, CE], ES),
    (Event::Shutdown, &[NO, ES], SR),
    (Event::ShutdownAck, &[NO, SS, SA], CL),
    (Event::ShutdownAck, &[I1], IN),
    (Event::ShutdownComplete, &[NO, I1, IN, SA], CL),
    (Event::Error, &[NO, CE], CL),
    (Event::Abort, &[NO, I1, IN, CS, CR, CO, CE, ES, SS, SR, SA, RJ], CL),
    (Event::Abort, &[CW], RJ),
];

#[rustfmt::skip]
const OUTPUT: &[Moves] = &[
    (Event::Data, &[NO], ES),
    (Event::Init, &[NO, I1, IN, CS, CR, CO, CE, SS, SR, SA, RJ, CL], CW),
    (Event::InitAck, &[NO, I1, IN], CS),
    (Event::CookieEcho, &[NO, I1, IN, CS, CR, CW, CO], CE),
    (Event::CookieAck, &[NO, I1, IN, CS, CR, CW, CO, CE], ES),
    (Event::Shutdown, &[NO, I1, IN, CS, CR, CW, CO, CE, ES], SS),
    (Event::ShutdownAck, &[NO, I1, IN, CS, CR, SS, SR], SA),
    (Event::ShutdownComplete, &[NO], CL),
    (Event::Error, &[NO, I1, IN, CS, CR], CL),
    (Event::Abort, &[NO, IN, CS, CR, CW, CO, CE, ES, SS, SR, SA, RJ], CL),
    (Event::Abort, &[I1], RJ),
];

#[rustfmt::skip]
const INPUT_ONLY: &[Moves] = &[
    (Event::Data, &[NO, CW], ES),
    (Event::Init, &[NO], I1),
    (Event::Init, &[I1, CS, CR, CW, RJ, CL], IN),
    (Event::InitAck, &[NO, I1, IN, CS, CR, CW], CE),
    (Event::CookieEcho, &[NO, I1, IN, CS, CR, CW], ES),
    (Event::CookieAck, &[NO, CS, CR, CO, CE], ES),
    (Event::Shutdown, &[NO, ES], SR),
    (Event::ShutdownAck, &[NO, ES, SS, SA], CL),
    (Event::ShutdownAck, &[I1], IN),
    (Event::ShutdownComplete, &[NO, I1, IN, CS, CR, SR, SA], CL),
    (Event::Error, &[NO], CL),
    (Event::Abort, &[NO, I1, IN, CS, CR, CO, CE, ES, SS, SR, SA, RJ], CL),
    (Event::Abort, &[CW], RJ),
];
const STATES: usize = 32;
type Table = [[State; STATES]; EVENTS];

/// By event and state. A state that is none of SCTP's stays, too.
#[allow(clippy::indexing_slicing)] // evaluated at compile time
const fn table(moves: &[Moves]) -> Table {
    let mut table = [[State::None; STATES]; EVENTS];
    let mut event = 0;
    while event < EVENTS {
        let mut place = 0;
        while place < State::ALL.len() {
            table[event][place] = State::ALL[place];
            place += 1;
        }
        event += 1;
    }
    let mut at = 0;
    while at < moves.len() {
        let (event, from, to) = moves[at];
        let mut place = 0;
        while place < from.len() {
            table[event as usize][from[place] as usize] = to;
            place += 1;
        }
        at += 1;
    }
    table[Event::AbortBehindCookie as usize] = table[Event::Abort as usize];
    table
}

static NEXT: [Table; 3] = [table(INPUT), table(OUTPUT), table(INPUT_ONLY)];

/// The state after a packet.
pub fn next(state: State, side: Side, event: Event) -> State {
    let [input, output, input_only] = &NEXT;
    let by_event = match side {
        Side::Input => input,
        Side::Output => output,
        Side::InputOnly => input_only,
    };
    let states = by_event.get(event as usize);
    states
        .and_then(|states| states.get(state as usize))
        .copied()
        .unwrap_or(state)
}

#[cfg(test)]
mod tests {
    use super::*;
    use Side::{Input, InputOnly, Output};

    fn walk(steps: &[(Side, Event)]) -> State {
        steps.iter().fold(State::None, |state, (side, event)| {
            next(state, *side, *event)
        })
    }

    #[test]
    fn an_association_seen_both_ways() {
        let open = [
            (Input, Event::Init),
            (Output, Event::InitAck),
            (Input, Event::CookieEcho),
            (Output, Event::CookieAck),
            (Input, Event::Data),
        ];
        assert_eq!(walk(&open), State::SctpEstablished);
        let close = [
            (Input, Event::Shutdown),
            (Output, Event::ShutdownAck),
            (Input, Event::ShutdownComplete),
        ];
        assert_eq!(walk(&[&open[..], &close].concat()), State::SctpClosed);
    }

    #[test]
    fn an_association_seen_one_way() {
        let open = [(InputOnly, Event::Init), (InputOnly, Event::CookieEcho)];
        assert_eq!(walk(&open), State::SctpEstablished);
        let close = [
            (InputOnly, Event::Shutdown),
            (InputOnly, Event::ShutdownComplete),
        ];
        assert_eq!(walk(&[&open[..], &close].concat()), State::SctpClosed);
    }

    #[test]
    fn a_second_init_waits_longer_and_a_refused_one_ends_soon() {
        let init = (Input, Event::Init);
        assert_eq!(walk(&[init]), State::SctpInit1);
        assert_eq!(walk(&[init, init]), State::SctpInit);
        assert_eq!(walk(&[init, (Output, Event::Abort)]), State::SctpRejected);
    }

    #[test]
    fn a_packet_without_a_chunk_moves_nothing() {
        for side in [Input, Output, InputOnly] {
            for state in State::ALL {
                assert_eq!(next(state, side, Event::Nothing), state);
            }
        }
    }

    #[test]
    fn the_event_is_the_first_chunks_but_for_an_abort_behind_a_cookie() {
        const COMMON: [u8; SCTP_BYTES] = [0; SCTP_BYTES];
        let event = |chunks: &[u8]| Event::of(&[&COMMON, chunks].concat());
        assert_eq!(event(&[]), Event::Nothing);
        assert_eq!(event(&[1, 0, 0]), Event::Nothing);
        assert_eq!(event(&[3, 0, 0, 4, 6, 0, 0, 4]), Event::Data);
        assert_eq!(event(&[192, 0, 0, 4]), Event::Data);
        // Behind padding to four bytes; not where a length is too short to be one.
        let cookie = [chunk::COOKIE_ECHO, 0, 0, 6, 9, 9, 0, 0];
        let abort = [chunk::ABORT, 0, 0, 4];
        for cookie in [&cookie[..], &[11, 0, 0, 4]] {
            let both = event(&[cookie, &abort].concat());
            assert_eq!(both, Event::AbortBehindCookie);
            for state in State::ALL {
                let side = Side::Input;
                assert_eq!(next(state, side, both), next(state, side, Event::Abort));
            }
        }
        assert_eq!(
            event(&[&[11, 0, 0, 3][..], &abort].concat()),
            Event::CookieAck
        );
        assert_eq!(
            event(&[&[11, 0, 0, 4][..], &[0, 3, 0, 9]].concat()),
            Event::CookieAck
        );
        assert_eq!(event(&[11, 0, 255, 255]), Event::CookieAck);
    }
}
