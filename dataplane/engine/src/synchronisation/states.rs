//! The kernel's numbers of states, which are per protocol, and which states are told of.

use crate::connection::State;
use crate::wire::protocol;

/// SCTP's states follow each other here as there, from this one on, but for its NONE.
const FIRST_OF_SCTP: u8 = State::SctpInit1 as u8;

/// The kernel's number of a state.
pub(crate) fn kernel_number(state: State) -> u16 {
    match state {
        State::Udp | State::Template => 0,
        State::Assured => 1,
        _ if state as u8 >= FIRST_OF_SCTP => u16::from(state as u8 - FIRST_OF_SCTP) + 1,
        // TCP's have the kernel's numbers.
        _ => u16::from(state as u8),
    }
}

/// The state of a template, or of a connection of that protocol; none when there is no such number.
pub(crate) fn of_kernel_number(is_template: bool, protocol: u8, number: u16) -> Option<State> {
    let number = u8::try_from(number).ok()?;
    match (is_template, protocol) {
        (true, _) => match number {
            0 => Some(State::Template),
            1 => Some(State::Assured),
            _ => None,
        },
        (false, protocol::TCP) => {
            (number <= State::SynAck as u8).then(|| State::from_number(number))
        }
        (false, protocol::UDP) => (number == 0).then_some(State::Udp),
        (false, protocol::SCTP) if number == 0 => Some(State::None),
        (false, protocol::SCTP) => {
            let last = State::SctpClosed as u8;
            let number = FIRST_OF_SCTP + number - 1;
            (number <= last).then(|| State::from_number(number))
        }
        _ => None,
    }
}

/// Whether connections in this state are told of (`ip_vs_sync_conn_needed`); those of one state only always are.
pub(crate) fn is_told(state: State) -> bool {
    matches!(
        state,
        State::Udp
            | State::Template
            | State::Assured
            | State::Established
            | State::FinWait
            | State::Close
            | State::CloseWait
            | State::TimeWait
            | State::SctpEstablished
            | State::SctpShutdownSent
            | State::SctpShutdownReceived
            | State::SctpShutdownAckSent
            | State::SctpClosed
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_lead_back_to_their_states() {
        for state in State::ALL {
            let protocol = match state.kind() {
                "udp" => protocol::UDP,
                "sctp" => protocol::SCTP,
                _ => protocol::TCP,
            };
            let number = kernel_number(state);
            let found = of_kernel_number(state.is_template(), protocol, number);
            assert_eq!(found, Some(state));
        }
        assert_eq!(kernel_number(State::SctpEstablished), 8);
        assert_eq!(kernel_number(State::SctpClosed), 13);
        assert_eq!(of_kernel_number(false, protocol::TCP, 11), None);
        assert_eq!(of_kernel_number(false, protocol::SCTP, 14), None);
        assert_eq!(of_kernel_number(false, protocol::SCTP, 300), None);
        assert_eq!(of_kernel_number(true, protocol::TCP, 2), None);
    }
}
