//! Whole FTP sessions through a director under NAT: active and passive, IPv4 and IPv6, with what is lost sent again.

use std::net::{IpAddr, SocketAddr};

use pollux_engine::connection::{Direction, State};
use pollux_tests::golden::director::{Director, Outcome};
use pollux_tests::golden::packet::{checksum, ethernet, ip};
use pollux_tests::golden::topology::{GATEWAY_MAC, mac, server_mac, server_v4, server_v6};
use pollux_tests::golden::trace::Wire;

const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const ACK: u8 = 0x10;

/// A TCP segment as an end sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Segment {
    from: SocketAddr,
    to: SocketAddr,
    flags: u8,
    sequence: u32,
    acknowledged: u32,
    options: Vec<u8>,
    text: String,
}

impl Segment {
    fn new(ends: (&str, &str), flags: u8, numbers: (u32, u32), text: &str) -> Self {
        Self {
            from: ends.0.parse().unwrap(),
            to: ends.1.parse().unwrap(),
            flags,
            sequence: numbers.0,
            acknowledged: numbers.1,
            options: Vec::new(),
            text: text.to_owned(),
        }
    }

    fn packet(&self) -> Vec<u8> {
        let mut segment = self.from.port().to_be_bytes().to_vec();
        segment.extend(self.to.port().to_be_bytes());
        segment.extend(self.sequence.to_be_bytes());
        segment.extend(self.acknowledged.to_be_bytes());
        let words = u8::try_from(5 + self.options.len() / 4).unwrap();
        segment.extend([words << 4, self.flags, 0xff, 0xff, 0, 0, 0, 0]);
        segment.extend(&self.options);
        segment.extend(self.text.as_bytes());
        let sum = checksum(self.from, self.to, 6, &segment);
        segment[16..18].copy_from_slice(&sum.to_be_bytes());
        ip(self.from, self.to, 6, &segment)
    }

    /// Reads a frame whose lengths and checksums must be right.
    fn read(frame: &[u8]) -> Self {
        let packet = &frame[14..];
        let (from, to, segment): (IpAddr, IpAddr, _) = if packet[0] >> 4 == 4 {
            assert_eq!(
                usize::from(u16::from_be_bytes([packet[2], packet[3]])),
                packet.len()
            );
            let sum = pollux_engine::wire::checksum::Sum::of(&packet[..20]).finish();
            assert_eq!(sum, 0, "checksum of the IPv4 header");
            let at = |at: usize| <[u8; 4]>::try_from(&packet[at..at + 4]).unwrap();
            (at(12).into(), at(16).into(), &packet[20..])
        } else {
            assert_eq!(
                usize::from(u16::from_be_bytes([packet[4], packet[5]])),
                packet.len() - 40
            );
            let at = |at: usize| <[u8; 16]>::try_from(&packet[at..at + 16]).unwrap();
            (at(8).into(), at(24).into(), &packet[40..])
        };
        let word = |at: usize| u16::from_be_bytes([segment[at], segment[at + 1]]);
        let long = |at: usize| u32::from_be_bytes(segment[at..at + 4].try_into().unwrap());
        let (from, to) = ((from, word(0)).into(), (to, word(2)).into());
        assert_eq!(checksum(from, to, 6, segment), 0, "checksum of TCP");
        let header = usize::from(segment[12] >> 4) * 4;
        Self {
            from,
            to,
            flags: segment[13],
            sequence: long(4),
            acknowledged: long(8),
            options: segment[20..header].to_vec(),
            text: String::from_utf8(segment[header..].to_vec()).unwrap(),
        }
    }
}

/// A client's and a server's addresses, and the virtual one.
struct Session {
    director: Director,
    client: IpAddr,
    virtual_address: IpAddr,
    server: IpAddr,
}

impl Session {
    fn v4() -> Self {
        Self::new("198.51.100.7", "192.0.2.100", server_v4(1))
    }

    fn v6() -> Self {
        Self::new("2001:db8:ffff::7", "2001:db8::100", server_v6(1))
    }

    fn new(client: &str, virtual_address: &str, server: IpAddr) -> Self {
        let virtual_address: IpAddr = virtual_address.parse().unwrap();
        let service = SocketAddr::new(virtual_address, 21);
        let real = SocketAddr::new(server, 2121);
        let director = Director::configured(&[
            &format!("ipvsadm -A -t {service} -s rr"),
            &format!("ipvsadm -a -t {service} -r {real} -m"),
        ]);
        Self {
            director,
            client: client.parse().unwrap(),
            virtual_address,
            server,
        }
    }

    fn client_sends(
        &mut self,
        port: u16,
        to: u16,
        flags: u8,
        numbers: (u32, u32),
        text: &str,
    ) -> Segment {
        let ends = (
            SocketAddr::new(self.client, port),
            SocketAddr::new(self.virtual_address, to),
        );
        let segment = Segment::new(
            (&ends.0.to_string(), &ends.1.to_string()),
            flags,
            numbers,
            text,
        );
        self.send(Wire::Cl, &segment)
    }

    fn server_sends(
        &mut self,
        port: u16,
        to: u16,
        flags: u8,
        numbers: (u32, u32),
        text: &str,
    ) -> Segment {
        let ends = (
            SocketAddr::new(self.server, port),
            SocketAddr::new(self.client, to),
        );
        let segment = Segment::new(
            (&ends.0.to_string(), &ends.1.to_string()),
            flags,
            numbers,
            text,
        );
        self.send(Wire::Rs, &segment)
    }

    fn send(&mut self, wire: Wire, segment: &Segment) -> Segment {
        match self.try_send(wire, segment) {
            Outcome::Out(out, frame) => {
                assert_ne!(out, wire);
                Segment::read(&frame)
            }
            other => panic!("{segment:?}: {other:?}"),
        }
    }

    fn try_send(&mut self, wire: Wire, segment: &Segment) -> Outcome {
        let from = if wire == Wire::Cl {
            GATEWAY_MAC
        } else {
            server_mac(1)
        };
        let frame = ethernet(mac(wire), from, &segment.packet());
        let outcome = self.director.receive(wire, &frame);
        self.director.check().unwrap();
        outcome
    }

    /// Opens the control connection. The client's bytes begin at 101, the server's at 5001.
    fn open(&mut self) {
        self.client_sends(4000, 21, SYN, (100, 0), "");
        let answer = self.server_sends(2121, 4000, SYN | ACK, (5000, 101), "");
        assert_eq!(answer.from, SocketAddr::new(self.virtual_address, 21));
        self.client_sends(4000, 21, ACK, (101, 5001), "");
    }

    fn listed(&self) -> Vec<(String, &'static str)> {
        let mut listed: Vec<_> = self
            .director
            .connections()
            .map(|found| {
                let key = found.key(Direction::Inbound);
                (
                    format!("{} {}", key.source(), key.destination()),
                    found.life().state().name(),
                )
            })
            .collect();
        listed.sort();
        listed
    }
}

#[test]
fn a_passive_session() {
    let mut session = Session::v4();
    session.open();
    let command = session.client_sends(4000, 21, ACK, (101, 5001), "PASV\r\n");
    assert_eq!(command.text, "PASV\r\n");
    assert_eq!(command.to, "10.1.0.11:2121".parse().unwrap());

    let came = "227 Entering Passive Mode (10,1,0,11,156,64).\r\n";
    let goes = "227 Entering Passive Mode (192,0,2,100,156,64).\r\n";
    let (long, longer) = (
        u32::try_from(came.len()).unwrap(),
        u32::try_from(goes.len()).unwrap(),
    );
    assert_eq!(longer, long + 2);
    // Lost behind the director, and sent again.
    for _ in 0..2 {
        let reply = session.server_sends(2121, 4000, ACK, (5001, 107), came);
        assert_eq!((reply.text.as_str(), reply.sequence), (goes, 5001));
    }
    let waiting = ("198.51.100.7:0 192.0.2.100:40000".to_owned(), "LISTEN");
    assert!(
        session.listed().contains(&waiting),
        "{:?}",
        session.listed()
    );

    // Both ways from now on, selectively too.
    let read = session.client_sends(4000, 21, ACK, (107, 5001 + longer), "");
    assert_eq!(read.acknowledged, 5001 + long);
    let mut picky = Segment::new(
        ("198.51.100.7:4000", "192.0.2.100:21"),
        ACK,
        (107, 5001),
        "",
    );
    let edges = [5001 + longer + 10, 5001 + longer + 30];
    picky.options = [
        &[1, 1, 5, 10][..],
        &edges[0].to_be_bytes(),
        &edges[1].to_be_bytes(),
    ]
    .concat();
    let went = session.send(Wire::Cl, &picky);
    let edges = edges.map(|edge| (edge - 2).to_be_bytes());
    assert_eq!(
        went.options,
        [&[1, 1, 5, 10][..], &edges[0], &edges[1]].concat()
    );
    assert_eq!(went.acknowledged, 5001);
    let more = session.server_sends(2121, 4000, ACK, (5001 + long, 107), "150 Here it comes\r\n");
    assert_eq!((more.sequence, more.acknowledged), (5001 + longer, 107));
    assert_eq!(more.text, "150 Here it comes\r\n");

    // The data connection, from a port nobody knew of.
    let opens = session.client_sends(4567, 40000, SYN, (900, 0), "");
    assert_eq!(opens.to, "10.1.0.11:40000".parse().unwrap());
    let answer = session.server_sends(40000, 4567, SYN | ACK, (700, 901), "");
    assert_eq!(answer.from, "192.0.2.100:40000".parse().unwrap());
    session.client_sends(4567, 40000, ACK, (901, 701), "");
    let data = session.server_sends(40000, 4567, ACK, (701, 901), "227 (10,1,0,11,156,64)\r\n");
    assert_eq!(
        data.text, "227 (10,1,0,11,156,64)\r\n",
        "data is left alone"
    );
    let listed = [
        ("198.51.100.7:4000 192.0.2.100:21".to_owned(), "ESTABLISHED"),
        (
            "198.51.100.7:4567 192.0.2.100:40000".to_owned(),
            "ESTABLISHED",
        ),
    ];
    assert_eq!(session.listed(), listed);
    // Another client's port finds nothing any more.
    let late = Segment::new(("198.51.100.7:4568", "192.0.2.100:40000"), SYN, (1, 0), "");
    assert!(matches!(
        session.try_send(Wire::Cl, &late),
        Outcome::Punt(_)
    ));

    // A second transfer: the numbers are put off once more.
    session.client_sends(4000, 21, ACK, (107, 5001), "PASV\r\n");
    let at = 5001 + long + 19;
    let reply = session.server_sends(2121, 4000, ACK, (at, 113), "227 (10,1,0,11,156,65)\r\n");
    assert_eq!(
        (reply.text.as_str(), reply.sequence),
        ("227 (192,0,2,100,156,65)\r\n", at + 2)
    );
    let end = session.server_sends(2121, 4000, ACK, (at + 24, 113), "226 Done\r\n");
    assert_eq!(end.sequence, at + 28);
    let read = session.client_sends(4000, 21, ACK, (113, at + 28 + 10), "");
    assert_eq!(read.acknowledged, at + 24 + 10);
}

#[test]
fn an_active_session() {
    for (command, of) in [
        (
            "PORT 198,51,100,7,195,80\r\n",
            Session::v4 as fn() -> Session,
        ),
        ("EPRT |1|198.51.100.7|50000|\r\n", Session::v4),
        ("EPRT |2|2001:db8:ffff::7|50000|\r\n", Session::v6),
    ] {
        let mut session = of();
        session.open();
        for _ in 0..2 {
            let went = session.client_sends(4000, 21, ACK, (101, 5001), command);
            assert_eq!(went.text, command);
        }
        let opens = session.server_sends(2120, 50000, SYN, (700, 0), "");
        assert_eq!(opens.from, SocketAddr::new(session.virtual_address, 20));
        assert_eq!(opens.to, SocketAddr::new(session.client, 50000));
        let answer = session.client_sends(50000, 20, SYN | ACK, (900, 701), "");
        assert_eq!(answer.to, SocketAddr::new(session.server, 2120));
        session.server_sends(2120, 50000, ACK, (701, 901), "");
        let data = session.server_sends(2120, 50000, ACK, (701, 901), "a file");
        assert_eq!(data.text, "a file");
        let is_open = |found: &pollux_engine::connection::Connection<'_>| {
            found.key(Direction::Inbound).destination_port() == 20
                && found.life().state() == State::Established
        };
        assert!(
            session.director.connections().any(|found| is_open(&found)),
            "{:?}",
            session.listed()
        );
    }
}

#[test]
fn an_extended_passive_session() {
    for of in [Session::v4 as fn() -> Session, Session::v6] {
        let mut session = of();
        session.open();
        session.client_sends(4000, 21, ACK, (101, 5001), "EPSV\r\n");
        let text = "229 Entering Extended Passive Mode (|||40000|)\r\n";
        let reply = session.server_sends(2121, 4000, ACK, (5001, 107), text);
        assert_eq!((reply.text.as_str(), reply.sequence), (text, 5001));
        let end = session.server_sends(2121, 4000, ACK, (5049, 107), "150 Ok\r\n");
        assert_eq!(end.sequence, 5049);
        let opens = session.client_sends(4567, 40000, SYN, (900, 0), "");
        assert_eq!(opens.to, SocketAddr::new(session.server, 40000));
    }
}

#[test]
fn a_long_transfer_keeps_its_control_connection() {
    let mut session = Session::v4();
    session.open();
    session.client_sends(4000, 21, ACK, (101, 5001), "PASV\r\n");
    session.server_sends(2121, 4000, ACK, (5001, 107), "227 (10,1,0,11,156,64)\r\n");
    session.client_sends(4567, 40000, SYN, (900, 0), "");
    session.server_sends(40000, 4567, SYN | ACK, (700, 901), "");
    for second in 0..4 {
        session.client_sends(4567, 40000, ACK, (901 + second, 701), "");
        session.director.sleep(600);
    }
    // Its own time is long over, but not its child's.
    let end = session.server_sends(2121, 4000, ACK, (5025, 107), "226 Done\r\n");
    assert_eq!(
        (end.from, end.sequence),
        ("192.0.2.100:21".parse().unwrap(), 5027)
    );
    session.client_sends(4567, 40000, FIN | ACK, (910, 701), "");
    session.server_sends(40000, 4567, FIN | ACK, (701, 911), "");
    session.director.sleep(2000);
    assert_eq!(session.listed(), []);
}

#[test]
fn what_is_not_under_nat_or_asked_for_is_left_alone() {
    let mut session = Session::v4();
    session.open();
    let text = "227 (10,1,0,11,156,64)\r\n";
    let reply = session.server_sends(2121, 4000, ACK, (5001, 107), text);
    assert_eq!(reply.text, text, "nobody asked");
    assert_eq!(session.listed().len(), 1);

    let mut director = Director::configured(&[
        "ipvsadm -A -t 192.0.2.100:21 -s rr",
        "ipvsadm -a -t 192.0.2.100:21 -r 10.1.0.11 -g",
    ]);
    for (flags, text) in [(SYN, ""), (ACK, ""), (ACK, "PORT 198,51,100,7,195,80\r\n")] {
        let ends = ("198.51.100.7:4000", "192.0.2.100:21");
        let packet = Segment::new(ends, flags, (101, 5001), text).packet();
        director.receive(Wire::Cl, &ethernet(mac(Wire::Cl), GATEWAY_MAC, &packet));
    }
    assert_eq!(director.connections().count(), 1);
}
