//! Requests of every kind, what is wrong with others, and a fuzzer: whatever comes, nothing panics, and every message is
//! either read or refused with one error.

use netlink_packet_core::{Emitable as _, NLM_F_ACK};
use netlink_packet_generic::constants::{CTRL_ATTR_FAMILY_NAME, GENL_ID_CTRL};

use super::*;
use crate::ipvs::attribute::Attribute;
use crate::ipvs::family;
use crate::ipvs::message::Messages;
use crate::ipvs::refusal::Refusal;

/// A message as libnl makes it.
fn message(kind: u16, flags: u16, command: u8, attributes: &[Attribute]) -> Vec<u8> {
    let mut body = vec![0; attributes.buffer_len()];
    attributes.emit(&mut body);
    let mut bytes = Vec::new();
    bytes.extend((20 + body.len() as u32).to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend((flags | NLM_F_REQUEST).to_ne_bytes());
    bytes.extend(7_u32.to_ne_bytes());
    bytes.extend(9_u32.to_ne_bytes());
    bytes.extend([command, 1, 0, 0]);
    bytes.extend(body);
    bytes
}

fn ipvs(flags: u16, command: Command, attributes: &[Attribute]) -> Vec<u8> {
    message(family::ID, flags, command as u8, attributes)
}

fn read(bytes: &[u8]) -> Result<Request, Errno> {
    let mut messages = Messages::new(bytes);
    let first = messages.next().unwrap().map_err(|_| Errno::INVAL)?;
    assert!(messages.next().is_none());
    Request::read(&first)
}

fn service_key() -> Vec<Attribute> {
    vec![
        Attribute::u16(1, 2),
        Attribute::u16(2, 6),
        Attribute::bytes(3, vec![192, 0, 2, 100]),
        Attribute::port(4, 80),
    ]
}

fn full_service() -> Attribute {
    let mut service = service_key();
    service.extend([
        Attribute::text(6, "wlc"),
        Attribute::bytes(7, vec![0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]),
        Attribute::u32(8, 0),
        Attribute::u32(9, u32::MAX),
    ]);
    Attribute::nested(1, service)
}

fn full_destination() -> Attribute {
    Attribute::nested(
        2,
        vec![
            Attribute::u16(11, 2),
            Attribute::bytes(1, vec![10, 1, 0, 11]),
            Attribute::port(2, 8080),
            Attribute::u32(3, 0),
            Attribute::u32(4, 1),
            Attribute::u32(5, 0),
            Attribute::u32(6, 0),
            Attribute::u8(13, 0),
            Attribute::port(14, 0),
            Attribute::u16(15, 0),
        ],
    )
}

fn daemon() -> Attribute {
    Attribute::nested(
        3,
        vec![
            Attribute::u32(1, 1),
            Attribute::text(2, "eth0"),
            Attribute::u32(3, 7),
        ],
    )
}

fn timeouts() -> Vec<Attribute> {
    (4..=6).map(|kind| Attribute::u32(kind, 100)).collect()
}

/// One valid message of every kind.
fn valid() -> Vec<Vec<u8>> {
    let named = Attribute::text(CTRL_ATTR_FAMILY_NAME, "IPVS");
    let mut messages = vec![
        message(GENL_ID_CTRL, NLM_F_ACK, CTRL_CMD_GETFAMILY, &[named]),
        message(GENL_ID_CTRL, NLM_F_DUMP, CTRL_CMD_GETFAMILY, &[]),
        message(FILE, 0, b'/', &[]),
    ];
    for command in Command::ALL {
        let attributes = match command {
            Command::NewDest | Command::SetDest | Command::DelDest => {
                vec![full_service(), full_destination()]
            }
            Command::NewDaemon | Command::DelDaemon => vec![daemon()],
            Command::SetConfig => timeouts(),
            Command::GetConfig | Command::GetInfo | Command::Flush | Command::SetInfo => vec![],
            _ => vec![full_service()],
        };
        if command.acts() {
            messages.push(ipvs(NLM_F_ACK, command, &attributes));
        }
        if command.lists() {
            messages.push(ipvs(NLM_F_DUMP, command, &attributes));
        }
    }
    messages
}

#[test]
fn every_valid_message_is_read() {
    let read: Vec<Request> = valid()
        .iter()
        .map(|bytes| read(bytes).unwrap_or_else(|errno| panic!("{errno}: {bytes:02x?}")))
        .collect();
    assert_eq!(read.len(), 20);
    for (at, one) in read.iter().enumerate() {
        let same = read.iter().filter(|other| *other == one).count();
        assert_eq!(same, 1, "{at}: {one:?}");
    }
}

#[test]
fn what_is_missing_or_unknown_has_the_kernels_number() {
    let key = Attribute::nested(1, service_key());
    let mut no_port = service_key();
    no_port.pop();
    let cases = [
        (message(33, 0, 1, &[]), Errno::NOENT),
        (message(family::ID, 0, 99, &[]), Errno::OPNOTSUPP),
        (message(GENL_ID_CTRL, 0, 9, &[]), Errno::OPNOTSUPP),
        (
            message(GENL_ID_CTRL, 0, CTRL_CMD_GETFAMILY, &[]),
            Errno::INVAL,
        ),
        (
            message(
                GENL_ID_CTRL,
                0,
                CTRL_CMD_GETFAMILY,
                &[Attribute::text(CTRL_ATTR_FAMILY_NAME, "nl80211")],
            ),
            Errno::NOENT,
        ),
        (ipvs(0, Command::SetInfo, &[]), Errno::OPNOTSUPP),
        (
            ipvs(0, Command::GetDest, &[full_service()]),
            Errno::OPNOTSUPP,
        ),
        (ipvs(NLM_F_DUMP, Command::GetInfo, &[]), Errno::OPNOTSUPP),
        (ipvs(0, Command::NewService, &[]), Errno::INVAL),
        (
            ipvs(0, Command::NewService, std::slice::from_ref(&key)),
            Errno::INVAL,
        ),
        (
            ipvs(0, Command::DelService, &[Attribute::nested(1, no_port)]),
            Errno::INVAL,
        ),
        (
            ipvs(0, Command::NewDest, std::slice::from_ref(&key)),
            Errno::INVAL,
        ),
        (
            ipvs(
                0,
                Command::NewDest,
                &[
                    key.clone(),
                    Attribute::nested(
                        2,
                        vec![Attribute::bytes(1, vec![0; 16]), Attribute::port(2, 80)],
                    ),
                ],
            ),
            Errno::INVAL,
        ),
        (ipvs(0, Command::SetConfig, &timeouts()[..2]), Errno::INVAL),
        (
            ipvs(0, Command::Flush, &[Attribute::u32(7, 0)]),
            Errno::INVAL,
        ),
    ];
    for (bytes, errno) in cases {
        assert_eq!(read(&bytes), Err(errno), "{bytes:02x?}");
    }
    let mut no_request = ipvs(0, Command::Flush, &[]);
    no_request[6] = 0;
    assert_eq!(read(&no_request), Err(Errno::INVAL));
}

/// `splitmix64`: the same numbers for the same seed, everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.next() as u8).collect()
    }
}

/// Changes some bytes, cuts or doubles a part.
fn mutate(random: &mut Random, mut bytes: Vec<u8>) -> Vec<u8> {
    for _ in 0..=random.below(6) {
        if bytes.is_empty() {
            break;
        }
        let at = random.below(bytes.len());
        match random.below(5) {
            0 => bytes[at] = random.next() as u8,
            1 => bytes[at] ^= 1 << random.below(8),
            2 => bytes.truncate(at),
            3 => {
                let end = at + random.below(bytes.len() - at);
                let part = bytes[at..end].to_vec();
                bytes.splice(at..at, part);
            }
            // Lengths and kinds are where the edges are.
            _ => bytes[at] = [0, 1, 3, 4, 5, 0x7f, 0x80, 0xff][random.below(8)],
        }
    }
    bytes
}

/// Reads a datagram as polluxd does, translates all that can be, and answers every message.
fn swallow(bytes: &[u8]) {
    let mut total = 0;
    for message in Messages::new(bytes) {
        let (message, errno) = match message {
            Err(broken) => (broken, Errno::INVAL),
            Ok(message) => match Request::read(&message) {
                Err(errno) => (message, errno),
                Ok(request) => {
                    translate(&request);
                    continue;
                }
            },
        };
        total += 1;
        let answers = message.answer(Err(&Refusal::because(errno, "a reason")));
        assert_eq!(answers.len(), 1);
        let answer = Messages::new(&answers[0]).next().unwrap().unwrap();
        assert_eq!(answer.header.message_type, 2, "an error");
        assert_eq!(
            answer.header.sequence_number,
            message.header.sequence_number
        );
        assert_eq!(answer.payload()[..4], (-errno.raw_os_error()).to_ne_bytes());
    }
    assert!(total <= bytes.len() / 16 + 1, "each is about other bytes");
}

fn translate(request: &Request) {
    match request {
        Request::AddService(key, settings) | Request::EditService(key, settings) => {
            let _ = settings.of(key);
        }
        Request::AddDestination(key, destination, settings)
        | Request::EditDestination(key, destination, settings) => {
            if let Ok(service) = key.id() {
                let _ = settings.of(destination, service);
            }
        }
        Request::RemoveDestination(key, destination) => {
            if let Ok(service) = key.id() {
                let _ = destination.id(service);
            }
        }
        Request::Service(key) | Request::RemoveService(key) | Request::Destinations(key) => {
            let _ = key.id();
        }
        _ => {}
    }
}

#[test]
fn whatever_comes_is_read_or_refused() {
    let valid = valid();
    for seed in 0..20_000 {
        let mut random = Random(seed);
        let length = random.below(200);
        let arbitrary = random.bytes(length);
        swallow(&arbitrary);
        // With a true header, the attributes are reached.
        let mut begun = valid[random.below(valid.len())][..20].to_vec();
        begun.extend(&arbitrary);
        let told = begun.len() as u32;
        begun[..4].copy_from_slice(&told.to_ne_bytes());
        swallow(&begun);
        let chosen = valid[random.below(valid.len())].clone();
        swallow(&mutate(&mut random, chosen));
        // Several in one datagram, the last ones spoilt.
        let first = valid[random.below(valid.len())].clone();
        let second = valid[random.below(valid.len())].clone();
        let both = [first, mutate(&mut random, second)].concat();
        swallow(&both);
    }
}
