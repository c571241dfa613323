//! What a service is for, where that decides about its packets: FTP, SIP, the keys of IPsec, or nothing of the kind.

use pollux_engine::wire::protocol;

use super::world::Chance;

/// What the servers of a service speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Anything.
    Plain,
    /// FTP, at port 21: what is said names addresses and ports.
    Ftp,
    /// SIP over UDP, whose calls stay together by their Call-IDs.
    Sip,
    /// ISAKMP at UDP port 500, after which AH and ESP come.
    Ipsec,
}

/// Calls that scenarios have.
const CALLS: [&str; 5] = [
    "one@a",
    "two@a",
    "a84b4c76e66710",
    "x",
    "0123456789@client.example",
];

impl Kind {
    /// Some kind.
    pub fn any(chance: &mut Chance) -> Self {
        match chance.below(24) {
            0 | 1 => Self::Ftp,
            2 | 3 => Self::Sip,
            4 => Self::Ipsec,
            _ => Self::Plain,
        }
    }

    /// Its protocol, port and the option that names its services; nothing of a plain one.
    pub fn service(self) -> Option<(&'static str, u8, u16)> {
        match self {
            Self::Plain => None,
            Self::Ftp => Some(("-t", protocol::TCP, 21)),
            Self::Sip => Some(("-u", protocol::UDP, 5060)),
            Self::Ipsec => Some(("-u", protocol::UDP, 500)),
        }
    }
}

/// What a client or a server says in a call.
pub fn sip_message(chance: &mut Chance, from_server: bool, call: &str) -> Vec<u8> {
    let first = if from_server {
        chance.of(&[
            "SIP/2.0 100 Trying",
            "SIP/2.0 200 OK",
            "BYE sip:alice@client SIP/2.0",
        ])
    } else {
        chance.of(&[
            "INVITE sip:bob@example.com SIP/2.0",
            "REGISTER sip:example.com SIP/2.0",
            "ACK sip:bob@example.com SIP/2.0",
            "BYE sip:bob@example.com SIP/2.0",
        ])
    };
    let header = match chance.below(12) {
        0 => format!("i: {call}"),
        1 => format!("call-id:{call}"),
        2 => String::new(),
        _ => format!("Call-ID: {call}"),
    };
    let between = if header.is_empty() { "" } else { "\r\n" };
    format!(
        "{first}\r\nVia: SIP/2.0/UDP client.example:5060;branch=z9hG4bK776\r\n\
         From: <sip:alice@client.example>;tag=1\r\n{header}{between}CSeq: 1 INVITE\r\n\
         Content-Length: 0\r\n\r\n"
    )
    .into_bytes()
}

/// Some call.
pub fn call(chance: &mut Chance) -> &'static str {
    chance.of(&CALLS)
}
