//! Datagrams that come in fragments, in any order, with others in between: what goes out is what the whole packet would
//! have become, in the pieces it came in.

use std::sync::Arc;

use arrayvec::ArrayVec;
use pollux_engine::clock::seconds;
use pollux_engine::connection::{ConnectionTable, Shard, TableSize};
use pollux_engine::counters::{PortCounters, WorkerCounters};
use pollux_engine::fragment::{Fragments, Handover};
use pollux_engine::frame::{Frame as _, HeapFrame};
use pollux_engine::memory::Memory;
use pollux_engine::wire::checksum::Sum;
use pollux_engine::{BURST, Context, Fate, Snapshot, Tick, Verdict, Worker};
use pollux_tests::fuzz::choices::{Choices, Seeded};
use pollux_tests::golden::administrator::Administrator;
use pollux_tests::golden::command::{Command, parse};
use pollux_tests::golden::director::{Director, Outcome};
use pollux_tests::golden::packet;
use pollux_tests::golden::topology::{GATEWAY_MAC, Topology, mac, port};
use pollux_tests::golden::trace::Wire;

const SERVICE: &str = "192.0.2.100:53";
const COMMANDS: [&str; 2] = [
    "ipvsadm -A -u 192.0.2.100:53 -s rr",
    "ipvsadm -a -u 192.0.2.100:53 -r 10.1.0.11:5353 -m",
];

/// An IPv4 datagram of UDP that may be cut, as an IP packet.
fn datagram(port: u16, data: &[u8]) -> Vec<u8> {
    let client = format!("198.51.100.7:{port}").parse().unwrap();
    let mut packet = packet::udp(client, SERVICE.parse().unwrap(), data);
    packet[6..8].fill(0);
    fill_checksum(&mut packet[..20]);
    packet
}

fn fill_checksum(header: &mut [u8]) {
    header[10..12].fill(0);
    let sum = Sum::of(header).finish();
    header[10..12].copy_from_slice(&sum.to_be_bytes());
}

/// Cut into payloads of these lengths, the last of what is left; each an IP packet.
fn cut(whole: &[u8], identification: u16, lengths: &[usize]) -> Vec<Vec<u8>> {
    let (header, payload) = whole.split_at(20);
    let mut fragments = Vec::new();
    let mut offset = 0_usize;
    for length in lengths.iter().copied().chain([usize::MAX]) {
        let end = payload.len().min(offset.saturating_add(length));
        let more = end < payload.len();
        let mut fragment = header.to_vec();
        fragment.extend_from_slice(&payload[offset..end]);
        let total = u16::try_from(fragment.len()).unwrap();
        let flags = u16::from(more) << 13 | u16::try_from(offset / 8).unwrap();
        fragment[2..4].copy_from_slice(&total.to_be_bytes());
        fragment[4..6].copy_from_slice(&identification.to_be_bytes());
        fragment[6..8].copy_from_slice(&flags.to_be_bytes());
        fill_checksum(&mut fragment[..20]);
        fragments.push(fragment);
        offset = end;
        if !more {
            break;
        }
    }
    fragments
}

fn frame(packet: &[u8]) -> Vec<u8> {
    packet::ethernet(mac(Wire::Cl), GATEWAY_MAC, packet)
}

/// The payload that fragments which went out make up, and their lengths.
fn put_together(sent: &[(Wire, Vec<u8>)]) -> (Vec<u8>, Vec<usize>) {
    let mut payload = Vec::new();
    let mut lengths = Vec::new();
    for (number, (wire, bytes)) in sent.iter().enumerate() {
        assert_eq!(*wire, Wire::Rs);
        let packet = &bytes[14..];
        let flags = u16::from_be_bytes([packet[6], packet[7]]);
        assert_eq!(usize::from(flags & 0x1fff) * 8, payload.len(), "in order");
        assert_eq!(flags & 0x2000 != 0, number + 1 < sent.len());
        assert_eq!(&packet[16..20], &[10, 1, 0, 11]);
        payload.extend_from_slice(&packet[20..]);
        lengths.push(packet.len() - 20);
    }
    (payload, lengths)
}

fn shuffled<T: Clone>(items: &[T], choices: &mut Choices<'_>) -> Vec<T> {
    let mut left = items.to_vec();
    let mut order = Vec::new();
    while !left.is_empty() {
        let most = u8::try_from(left.len()).unwrap();
        order.push(left.remove(choices.below(most).into()));
    }
    order
}

#[test]
fn any_order_comes_to_what_the_whole_packet_would() {
    let mut seeded = Seeded(3);
    for round in 0..400_u16 {
        let decisions = seeded.bytes(400);
        let mut choices = Choices::new(&decisions);
        let mut director = Director::configured(&COMMANDS);
        // Some datagrams at once, their fragments mixed.
        let mut all = Vec::new();
        let mut wholes = Vec::new();
        for number in 0..1 + u16::from(choices.below(3)) {
            let size = 100 + u16::from(choices.below(60)) * 50;
            let data: Vec<u8> = (0..size).map(|at| (at * 7 + number) as u8).collect();
            let whole = datagram(40_000 + number, &data);
            let lengths: Vec<usize> = (0..choices.below(4))
                .map(|_| 8 * (1 + usize::from(choices.below(60))))
                .collect();
            let fragments = cut(&whole, round.wrapping_add(number * 1000), &lengths);
            if fragments.len() > 1 {
                all.extend(fragments.iter().cloned());
                wholes.push((whole, fragments));
            }
        }
        let mut done = 0;
        for fragment in shuffled(&all, &mut choices) {
            match director.receive(Wire::Cl, &frame(&fragment)) {
                Outcome::Waits => {}
                Outcome::Fragments(sent) => {
                    let (whole, fragments) = wholes
                        .iter()
                        .find(|(_, fragments)| fragments.contains(&fragment))
                        .unwrap();
                    let mut other = Director::configured(&COMMANDS);
                    let expected = other.receive(Wire::Cl, &frame(whole));
                    let expected = match expected {
                        Outcome::Out(_, bytes) => bytes[34..].to_vec(),
                        Outcome::Fragments(sent) => put_together(&sent).0,
                        other => panic!("{other:?}"),
                    };
                    let (payload, lengths) = put_together(&sent);
                    assert_eq!(payload, expected, "round {round}");
                    let came: Vec<usize> = fragments.iter().map(|part| part.len() - 20).collect();
                    // What no link could have brought goes out as the way takes it.
                    if came.iter().all(|length| *length <= 1480) {
                        assert_eq!(lengths, came, "round {round}");
                    }
                    done += 1;
                }
                other => panic!("round {round}: {other:?}"),
            }
        }
        assert_eq!(done, wholes.len(), "round {round}");
        director.check().unwrap();
    }
}

#[test]
fn what_overlaps_is_refused_and_what_is_there_already_is_not_needed() {
    let mut director = Director::configured(&COMMANDS);
    let whole = datagram(40_000, &[5; 2000]);
    let parts = cut(&whole, 1, &[800, 800]);
    let send = |director: &mut Director, part: &[u8]| director.receive(Wire::Cl, &frame(part));
    assert_eq!(send(&mut director, &parts[0]), Outcome::Waits);
    assert_eq!(send(&mut director, &parts[0]), Outcome::Waits);
    assert_eq!(send(&mut director, &parts[2]), Outcome::Waits);
    let sent = send(&mut director, &parts[1]);
    assert!(matches!(sent, Outcome::Fragments(sent) if sent.len() == 3));
    let fate = |director: &Director, fate| director.counters().port(0).unwrap().fate(fate);
    assert_eq!(fate(&director, Fate::FragmentDuplicate), 1);
    // Eight bytes that two fragments have.
    let other = cut(&whole, 2, &[808, 800]);
    let mine = cut(&whole, 2, &[800, 800]);
    assert_eq!(send(&mut director, &other[0]), Outcome::Waits);
    assert_eq!(send(&mut director, &mine[1]), Outcome::Waits);
    assert_eq!(fate(&director, Fate::FragmentOverlap), 2);
    director.check().unwrap();
}

#[test]
fn what_never_gets_whole_is_given_up_in_time_and_in_number() {
    let mut director = Director::configured(&COMMANDS);
    let whole = datagram(40_000, &[5; 2000]);
    for identification in 0..5000 {
        let part = &cut(&whole, identification, &[800])[0];
        assert_eq!(director.receive(Wire::Cl, &frame(part)), Outcome::Waits);
    }
    let held = |director: &Director| director.counters().port(0).unwrap().held.get();
    assert_eq!(held(&director), 128);
    director.check().unwrap();
    director.sleep(31);
    assert_eq!(held(&director), 0);
    director.check().unwrap();
}

/// Many fragments of datagrams that never get whole: what waits is bounded by their number, too.
#[test]
fn many_fragments_of_few_datagrams_wait_in_bounded_number() {
    let mut director = Director::configured(&COMMANDS);
    let whole = datagram(40_000, &[5; 8 * 70]);
    for identification in 0..40 {
        // All but the first, which never comes.
        for part in &cut(&whole, identification, &[8; 60])[1..] {
            director.receive(Wire::Cl, &frame(part));
        }
    }
    let port = |director: &Director| {
        let port = director.counters().port(0).unwrap();
        (port.held.get(), port.fate(Fate::FragmentsFull))
    };
    let (held, full) = port(&director);
    assert_eq!(held + full, 40 * 60);
    assert!((900..=1024).contains(&held), "{held} wait");
    director.check().unwrap();
    director.sleep(31);
    assert_eq!(port(&director).0, 0);
    director.check().unwrap();
}

/// Two workers, of which one does not come to its fragments: the other drops what it cannot hand over, and counts it.
#[test]
fn a_flood_of_first_fragments_between_workers_is_bounded_and_counted() {
    const FLOOD: u16 = 5000;
    let mut administrator = Administrator::default();
    for line in COMMANDS {
        match parse(line) {
            Ok(Command::Change(change)) => administrator.apply(&change).unwrap(),
            other => panic!("{line}: {other:?}"),
        }
    }
    let size = TableSize::for_connections(TableSize::CONNECTIONS_MIN);
    let memory = Memory::anonymous(size.lines(), false).unwrap();
    let table = ConnectionTable::create(memory, size, 2, [9, 8, 7, 6, 5, 4]).unwrap();
    let forwarding = Arc::new(Topology::default().forwarding_table(1));
    let snapshot = Snapshot::compile(&administrator.spec(1), forwarding, None, 2);
    let counters: Vec<_> = (0..2).map(|_| Arc::new(WorkerCounters::new(2))).collect();
    let mut workers: Vec<Worker> = (0..2)
        .map(|number| {
            let shard = Shard::new(&table, number, 2, |_| {});
            Worker::new(shard, Arc::clone(&counters[number]))
        })
        .collect();
    let mut gathered: Vec<Fragments<HeapFrame>> = (0..2).map(|_| Fragments::default()).collect();
    let handover = Handover::<HeapFrame>::new(2);
    let context = |now| Context {
        table: &table,
        snapshot: &snapshot,
        now,
    };
    let spare = &mut || Some(HeapFrame::new(&[]));
    let ingress = port(Wire::Cl);
    let whole = datagram(40_000, &[5; 2000]);
    let mut most = 0;
    for identification in 0..FLOOD {
        let part = &cut(&whole, identification, &[800])[0];
        let mut burst = [HeapFrame::new(&frame(part))];
        let mut verdicts = ArrayVec::<Verdict, BURST>::new();
        workers[0].process(&context(Tick(0)), ingress, &mut burst, &mut verdicts);
        assert_eq!(verdicts[..], [Verdict::Gather]);
        let [frame] = burst;
        let own = handover.pass_on(0, &counters[0], ingress, frame, |frame| frame.bytes());
        if let Some(frame) = own {
            gathered[0].gather(&mut workers[0], &context(Tick(0)), ingress, frame, spare);
        }
        most = most.max(handover.waiting_for(1));
    }
    let sum = |of: fn(&PortCounters) -> u64| -> u64 {
        counters
            .iter()
            .map(|own| of(own.port(ingress.into()).unwrap()))
            .sum()
    };
    let fates = |port: &PortCounters| {
        Fate::ALL
            .into_iter()
            .map(|fate| port.fate(fate))
            .sum::<u64>()
    };
    assert_eq!(sum(|port| port.received.get()), u64::from(FLOOD));
    assert_eq!(most, 512, "on the way");
    assert_eq!(
        sum(|port| port.held.get()),
        128,
        "of the worker that is awake"
    );
    assert_eq!(sum(fates), u64::from(FLOOD) - 512 - 128);
    assert_eq!(sum(|port| port.fate(Fate::FragmentsFull)), sum(fates));
    // The other one wakes up, and in time all is given up.
    while let Some((ingress, frame)) = handover.next_for(1) {
        gathered[1].gather(&mut workers[1], &context(Tick(1)), ingress, frame, spare);
    }
    assert_eq!(sum(|port| port.held.get()), 2 * 128);
    let late = Tick(seconds(31));
    for (fragments, worker) in gathered.iter_mut().zip(&workers) {
        fragments.expire(worker, late);
    }
    assert_eq!(sum(|port| port.held.get()), 0);
    assert_eq!(sum(fates), u64::from(FLOOD));
}
