//! What is written is what the kernel writes, and what is read what it takes; the rest is refused as it refuses.

use proptest::prelude::*;

use super::*;

/// The first message of the recorded scenario `sync/master`: one connection under NAT, one of direct routing and four
/// times the template of that one.
fn connection(v6: bool) -> SyncedConnection {
    let [client, service, server] = if v6 {
        [
            "[2001:db8:2::7]:40000",
            "[2001:db8::1]:80",
            "[2001:db8:1::1]:8080",
        ]
    } else {
        ["198.51.100.7:40000", "192.0.2.100:80", "10.1.0.11:8080"]
    };
    SyncedConnection {
        protocol: protocol::TCP,
        flags: flag::MASQUERADE | flag::SYNC,
        state: 1,
        client: client.parse().unwrap(),
        virtual_service: service.parse().unwrap(),
        destination: server.parse().unwrap(),
        mark: 0,
        timeout_s: 900,
        sequences: None,
        engine: None,
    }
}

fn message(connections: &[SyncedConnection]) -> Vec<u8> {
    let mut message = Message::new(7, 1472);
    connections
        .iter()
        .for_each(|found| assert!(message.push(found)));
    message.finish()
}

fn all(datagram: &[u8]) -> Result<Vec<Entry>, MessageError> {
    Ok(read(datagram, 7)?.collect())
}

type Entry = Result<Result<SyncedConnection, Refused>, MessageError>;

/// A message with one entry, whose bytes may be changed, and its size set right again.
fn changed(connection: &SyncedConnection, change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = message(std::slice::from_ref(connection));
    change(&mut bytes);
    let size = u16::try_from(bytes.len()).unwrap();
    bytes[2..4].copy_from_slice(&size.to_be_bytes());
    let entry = size - 8;
    bytes[10..12].copy_from_slice(&entry.to_be_bytes());
    bytes
}

#[test]
fn a_kernels_message_is_written_byte_for_byte() {
    let bytes = message(&[connection(false)]);
    let expected = [
        0, 7, 0, 44, 1, 1, 0, 0, // header
        0, 6, 0, 36, 0, 0, 0, 0x20, 0, 1, // type, protocol, size, flags, state
        0x9c, 0x40, 0, 80, 0x1f, 0x90, 0, 0, 0, 0, 0, 0, 3, 0x84, // ports, mark, timeout
        198, 51, 100, 7, 192, 0, 2, 100, 10, 1, 0, 11,
    ];
    assert_eq!(bytes, expected);
}

#[test]
fn a_message_is_full_when_its_datagram_is() {
    let mut message = Message::new(1, 1472);
    let pushed = (0..100)
        .take_while(|_| message.push(&connection(false)))
        .count();
    assert_eq!((pushed, message.finish().len()), (40, 1448));
    let mut message = Message::new(1, 65_507);
    let pushed = (0..300)
        .take_while(|_| message.push(&connection(false)))
        .count();
    assert_eq!(pushed, 255);
    // One always goes.
    let mut message = Message::new(1, 1);
    assert!(message.push(&connection(true)) && !message.push(&connection(true)));
    assert_eq!(message.finish().len(), 80);
}

#[test]
fn headers_that_are_none_are_refused() {
    let whole = message(&[connection(false)]);
    assert_eq!(all(&whole).unwrap().len(), 1);
    for (datagram, expected) in [
        (&whole[..3], MessageError::Short),
        (&whole[..43], MessageError::Size),
    ] {
        assert_eq!(all(datagram).unwrap_err(), expected);
    }
    assert_eq!(read(&whole, 8).unwrap_err(), MessageError::OtherId);
    assert_eq!(read(&whole, 0).unwrap().count(), 1);
    // Neither version 1 nor, with 0 in the place of the number of entries, one of version 0.
    for at in [5, 6, 7] {
        let mut other = whole.clone();
        other[at] = 9;
        assert_eq!(all(&other).unwrap(), [], "{at}");
    }
}

#[test]
fn an_entry_that_breaks_a_message_takes_those_behind_it_along() {
    let broken = |change: fn(&mut Vec<u8>)| {
        let mut bytes = message(&[connection(false), connection(false), connection(false)]);
        change(&mut bytes);
        let size = u16::try_from(bytes.len()).unwrap();
        bytes[2..4].copy_from_slice(&size.to_be_bytes());
        let entries = all(&bytes).unwrap();
        assert_eq!(entries.len(), 2);
        assert_eq!(entries[0], Ok(Ok(connection(false))));
        entries[1].clone().unwrap_err()
    };
    let second = 8 + 36;
    assert_eq!(broken(|bytes| bytes[44] = 2), MessageError::EntryType);
    assert_eq!(broken(|bytes| bytes[46] = 0x10), MessageError::EntryVersion);
    assert_eq!(broken(|bytes| bytes[47] = 35), MessageError::ShortEntry);
    assert_eq!(broken(|bytes| bytes[47] = 0), MessageError::ShortEntry);
    assert_eq!(broken(|bytes| bytes[47] = 37), MessageError::Option);
    assert_eq!(broken(|bytes| bytes[44] = 1), MessageError::ShortEntry);
    assert_eq!(
        broken(|bytes| bytes.truncate(44 + 35)),
        MessageError::Truncated
    );
    assert_eq!(
        broken(|bytes| bytes[46..48].copy_from_slice(&73_u16.to_be_bytes())),
        MessageError::Truncated
    );
    assert_eq!(second, 44);
}

#[test]
fn an_entry_that_is_refused_leaves_those_behind_it() {
    let one = connection(false);
    let with = |change: &dyn Fn(&mut SyncedConnection)| {
        let mut other = one.clone();
        change(&mut other);
        let entries = all(&message(&[other, one.clone()])).unwrap();
        assert_eq!(entries[1], Ok(Ok(one.clone())));
        entries[0].clone().unwrap()
    };
    assert_eq!(with(&|found| found.state = 11), Err(Refused::State));
    assert_eq!(with(&|found| found.protocol = 1), Err(Refused::Protocol));
    assert_eq!(
        with(&|found| found.flags = flag::ONE_PACKET),
        Err(Refused::Flags)
    );
    assert_eq!(
        with(&|found| {
            found.flags = flag::TEMPLATE | flag::NO_CLIENT_PORT;
            found.state = 0;
        }),
        Err(Refused::Flags)
    );
    assert_eq!(
        with(&|found| {
            found.flags = flag::TEMPLATE;
            found.state = 2;
        }),
        Err(Refused::State)
    );
    assert_eq!(
        with(&|found| {
            found.protocol = protocol::UDP;
            found.state = 1;
        }),
        Err(Refused::State)
    );
    let masked = with(&|found| found.flags = !(flag::ONE_PACKET | flag::TEMPLATE));
    let kept = flag::BACKUP & !flag::TEMPLATE | flag::SYNC;
    assert_eq!(masked.unwrap().flags, kept);
}

#[test]
fn options_are_read_or_passed_over_as_the_kernel_does() {
    let one = connection(false);
    let sequences = [
        Sequence::default(),
        Sequence {
            position: 1000,
            delta: 3,
            previous_delta: -2,
        },
    ];
    let expected = SyncedConnection {
        sequences: Some(sequences),
        ..one.clone()
    };
    let with_options = message(std::slice::from_ref(&expected));
    assert_eq!(with_options.len(), 8 + 36 + 26);
    assert_eq!(all(&with_options).unwrap(), [Ok(Ok(expected.clone()))]);
    let last = |options: &[u8]| {
        let bytes = changed(&one, |bytes| bytes.extend(options));
        all(&bytes).unwrap().pop().unwrap()
    };
    // Options that may be passed over, and one that is known nevertheless.
    assert_eq!(last(&[0x7f, 1, 0]), Ok(Ok(one.clone())));
    let mut known = with_options.clone();
    known[44] |= 0x40;
    assert_eq!(all(&known).unwrap(), [Ok(Ok(expected))]);
    for (options, expected) in [
        (&[4, 1, 0][..], Ok(Err(Refused::UnknownOption))),
        (&[0, 1, 0], Ok(Err(Refused::UnknownOption))),
        (&[2, 1, b'x'], Ok(Err(Refused::Engine))),
        (&[3, 1, b'x'], Ok(Ok(one.clone()))),
        (&[0x7f], Err(MessageError::Option)),
        (&[0x7f, 0], Err(MessageError::Option)),
        (&[0x7f, 2, 0], Err(MessageError::Option)),
        (&[1, 2, 0, 0], Err(MessageError::Option)),
        (&[2, 1, b'x', 2, 1, b'x'], Err(MessageError::Option)),
        (
            &[&[3, 17][..], &[b'x'; 17]].concat(),
            Err(MessageError::Option),
        ),
        // The first that is refused ends it, whatever follows.
        (&[4, 1, 0, 1, 2, 0, 0], Ok(Err(Refused::UnknownOption))),
    ] {
        assert_eq!(last(options), expected, "{options:?}");
    }
}

#[test]
fn the_old_version_is_read() {
    let mut bytes = vec![2, 7, 0, 0];
    let entry = [
        0, 6, 0x9c, 0x40, 0, 80, 0x1f, 0x90, 198, 51, 100, 7, 192, 0, 2, 100, 10, 1, 0, 11, 2,
        0x20, 0, 1,
    ];
    bytes.extend(entry);
    bytes.extend([0; 12]);
    for number in [1000_u32, 3, 0] {
        bytes.extend(number.to_ne_bytes());
    }
    bytes.extend(entry);
    let size = u16::try_from(bytes.len()).unwrap();
    bytes[2..4].copy_from_slice(&size.to_be_bytes());
    let expected = SyncedConnection {
        flags: flag::OUT_SEQUENCE | flag::SYNC,
        timeout_s: 0,
        sequences: Some([
            Sequence::default(),
            Sequence {
                position: 1000,
                delta: 3,
                previous_delta: 0,
            },
        ]),
        ..connection(false)
    };
    // The second one's numbers are missing.
    assert_eq!(
        all(&bytes).unwrap(),
        [Ok(Ok(expected)), Err(MessageError::Truncated)]
    );
}

prop_compose! {
    fn any_connection()(
        v6: bool, ports: [u16; 3], mark: u32, timeout_s: u32, state in 0_u16..2,
        flags in 0_u32..0x10000, numbers in prop::option::of(any::<[(u32, i32, i32); 2]>()),
        call in prop::option::of(prop::collection::vec(any::<u8>(), 1..=255)),
        name in prop::collection::vec(any::<u8>(), 1..=16),
    ) -> SyncedConnection {
        let is_template = flags & flag::TEMPLATE != 0;
        let mut made = SyncedConnection {
            protocol: if is_template { protocol::UDP } else { protocol::TCP },
            flags: flags & flag::BACKUP & !flag::NO_CLIENT_PORT | flag::SYNC,
            state,
            mark,
            timeout_s,
            sequences: numbers.map(|numbers| numbers.map(|(position, delta, previous_delta)| {
                Sequence { position, delta, previous_delta }
            })),
            engine: call.map(|call| EngineData {
                name: name.iter().copied().collect(),
                data: call.into_iter().collect(),
            }),
            ..connection(v6)
        };
        for (end, port) in [&mut made.client, &mut made.virtual_service, &mut made.destination]
            .into_iter()
            .zip(ports)
        {
            end.set_port(port);
        }
        made
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read(connections in prop::collection::vec(any_connection(), 1..40)) {
        let mut message = Message::new(7, 1472);
        let fits = connections.iter().take_while(|found| message.push(found)).count();
        let bytes = message.finish();
        prop_assert!(bytes.len() <= 1472);
        let read: Vec<_> = all(&bytes).unwrap();
        let expected: Vec<Entry> = connections[..fits].iter().map(|found| Ok(Ok(found.clone()))).collect();
        prop_assert_eq!(read, expected);
    }

    #[test]
    fn whatever_comes_is_read_to_its_end(mut bytes in prop::collection::vec(any::<u8>(), 0..300), v1: bool) {
        let size = u16::try_from(bytes.len()).unwrap();
        if bytes.len() >= 8 {
            bytes[2..4].copy_from_slice(&size.to_be_bytes());
            if v1 {
                bytes[0] = 0;
                bytes[5..8].copy_from_slice(&[1, 0, 0]);
            }
        }
        if let Ok(entries) = read(&bytes, 0) {
            prop_assert!(entries.count() <= 255);
        }
    }
}
