//! The socket for IPVS tools, spoken to by clients of every kind: an error each, nobody else kept waiting.

use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use tokio::time::timeout;
use tokio_seqpacket::UnixSeqpacket;

use super::fake_dataplane::{Mischief, connection};
use super::machine::{HELD_UP, Machine, PATIENCE};

/// Asks for the family by its name, with sequence number 7 and port id 9.
const GET_FAMILY: [u8; 32] = [
    32, 0, 0, 0, 16, 0, 5, 0, 7, 0, 0, 0, 9, 0, 0, 0, 3, 1, 0, 0, 9, 0, 2, 0, b'I', b'P', b'V',
    b'S', 0, 0, 0, 0,
];

/// Asks for all services.
const LIST_SERVICES: [u8; 20] = [20, 0, 0, 0, 32, 0, 5, 3, 8, 0, 0, 0, 9, 0, 0, 0, 4, 1, 0, 0];

/// Asks for `/proc/net/ip_vs_conn`.
fn get_connections() -> Vec<u8> {
    let path = b"/proc/net/ip_vs_conn";
    let mut bytes = vec![16 + path.len() as u8, 0, 0, 0, 0, 0x7f, 1, 0];
    bytes.extend([0; 8]);
    bytes.extend(path);
    bytes
}

struct Client(UnixSeqpacket);

impl Client {
    async fn connect(machine: &Machine) -> Self {
        Self(
            UnixSeqpacket::connect(machine.path("ipvs.sock"))
                .await
                .unwrap(),
        )
    }

    async fn send(&self, datagram: &[u8]) {
        // polluxd may have closed already; what it answered is looked at then.
        let _ = timeout(PATIENCE, self.0.send(datagram)).await;
    }

    /// The next datagram; empty when polluxd closed the connection.
    async fn answer(&self) -> Vec<u8> {
        let mut buffer = vec![0; 1 << 16];
        let received = timeout(PATIENCE, self.0.recv(&mut buffer)).await.unwrap();
        buffer.truncate(received.map_or(0, |received| received.bytes_read()));
        buffer
    }

    async fn ask(&self, datagram: &[u8]) -> Vec<u8> {
        self.send(datagram).await;
        self.answer().await
    }
}

/// The error number of an error message.
fn errno(datagram: &[u8]) -> i32 {
    assert_eq!(datagram[4..6], 2_u16.to_ne_bytes(), "{datagram:02x?}");
    i32::from_ne_bytes(datagram[16..20].try_into().unwrap())
}

async fn is_answered(machine: &Machine) {
    let start = Instant::now();
    let client = Client::connect(machine).await;
    let answer = client.ask(&GET_FAMILY).await;
    assert_eq!(answer[8..16], GET_FAMILY[8..16], "sequence and port id");
    assert_eq!(errno(&client.answer().await), 0, "the acknowledgement");
    let elapsed = start.elapsed();
    assert!(elapsed < HELD_UP, "{elapsed:?}");
}

/// `splitmix64`.
fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[tokio::test]
async fn nonsense_has_an_error_and_the_next_message_is_served() {
    let machine = Machine::up();
    let client = Client::connect(&machine).await;
    let mut state = 1;
    for round in 0..2000 {
        // Never whole messages: the length is more than there is.
        let length = 4 + random(&mut state) as usize % 200;
        let mut bytes: Vec<u8> = (0..length).map(|_| random(&mut state) as u8).collect();
        bytes[1] |= 1;
        assert_eq!(
            errno(&client.ask(&bytes).await),
            -22,
            "{round}: {bytes:02x?}"
        );
    }
    assert_eq!(errno(&client.ask(&vec![0xff; 40_000]).await), -22);
    let both = [&GET_FAMILY[..], &[1, 2, 3]].concat();
    assert_eq!(client.ask(&both).await[8..12], [7, 0, 0, 0]);
    assert_eq!(errno(&client.answer().await), 0);
    assert_eq!(errno(&client.answer().await), -22);
    is_answered(&machine).await;
}

/// An attribute of netlink: length, type, value, padding.
fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut bytes = (4 + value.len() as u16).to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// `IPVS_CMD_NEW_SERVICE` for 198.51.100.1:80 of this protocol, and where its parts are mended for a test.
fn new_service(family: u16, protocol: u16, scheduler: &[u8]) -> Vec<u8> {
    let parts = [
        attribute(1, &family.to_ne_bytes()),
        attribute(2, &protocol.to_ne_bytes()),
        attribute(3, &[[198, 51, 100, 1].as_slice(), &[0; 12]].concat()),
        attribute(4, &80_u16.to_be_bytes()),
        attribute(6, scheduler),
        attribute(7, &[0; 8]),
        attribute(8, &0_u32.to_ne_bytes()),
        attribute(9, &[0xff; 4]),
    ];
    message(32, 1, &attribute(1, &parts.concat()))
}

/// A request with acknowledgement of a family and a command of generic netlink.
fn message(family: u16, command: u8, attributes: &[u8]) -> Vec<u8> {
    let mut bytes = (20 + attributes.len() as u32).to_ne_bytes().to_vec();
    bytes.extend(family.to_ne_bytes());
    bytes.extend(5_u16.to_ne_bytes());
    bytes.extend([7, 0, 0, 0, 9, 0, 0, 0, command, 1, 0, 0]);
    bytes.extend(attributes);
    bytes
}

#[tokio::test]
async fn a_thousand_malformed_changes_have_an_error_each_and_change_nothing() {
    const INET: u16 = 2;
    const TCP: u16 = 6;
    let machine = Machine::up();
    let mut client = Client::connect(&machine).await;
    let good = new_service(INET, TCP, b"rr\0");
    let mut state = 3;
    for round in 0..1000 {
        let chance = random(&mut state);
        let bytes = match round % 8 {
            // Neither IPv4 nor IPv6; neither TCP, UDP nor SCTP; no scheduler that anyone knows.
            0 => new_service(100 + chance as u16 % 1000, TCP, b"rr\0"),
            1 => new_service(INET, 200 + chance as u16 % 1000, b"rr\0"),
            2 => new_service(INET, TCP, format!("no{chance:x}\0").as_bytes()),
            // Another family, a command that there is not.
            3 => [
                &good[..4],
                &(100 + chance as u16 % 1000).to_ne_bytes(),
                &good[6..],
            ]
            .concat(),
            4 => message(32, 100 + chance as u8 % 100, &[]),
            // A service without the service, or one cut short inside.
            5 => message(32, 1, &[]),
            6 => {
                let inner = &good[24..24 + chance as usize % 40];
                message(32, 1, &attribute(1, inner))
            }
            // An attribute that is longer than what there is.
            _ => {
                let mut bytes = good.clone();
                bytes[24] = 0xff;
                bytes
            }
        };
        let number = errno(&client.ask(&bytes).await);
        assert!(number < 0, "{round}: {number} {bytes:02x?}");
        // Some leave in the middle of a message.
        if round % 50 == 0 {
            client.send(&good[..good.len() - 8]).await;
            client = Client::connect(&machine).await;
        }
    }
    // Longer than any datagram that is taken.
    let long = [&good[..4], &vec![0xee; 150_000]].concat();
    assert!(errno(&client.ask(&long).await) < 0);
    is_answered(&machine).await;
    assert_eq!(machine.json("show services"), serde_json::json!([]));
    let client = Client::connect(&machine).await;
    assert_eq!(errno(&client.ask(&good).await), 0, "what was malformed");
    assert_eq!(
        machine.json("show services").as_array().map(Vec::len),
        Some(1)
    );
}

#[tokio::test]
async fn who_does_not_read_delays_nobody_and_is_cut_off() {
    let machine = Machine::up();
    for port in 1..=200 {
        let change = format!("service add -t 198.51.100.1:{port}");
        machine.done(&change);
    }
    let mut deaf = Vec::new();
    for _ in 0..8 {
        let client = Client::connect(&machine).await;
        for _ in 0..40 {
            let sent = timeout(Duration::from_millis(100), client.0.send(&LIST_SERVICES)).await;
            if sent.is_err() {
                break;
            }
        }
        deaf.push(client);
    }
    is_answered(&machine).await;
    machine.until("they are cut off", |machine| {
        let cut = "IPVS tool cut off: it did not read its answer within 10 s";
        machine.log().matches(cut).count() == 8
    });
    is_answered(&machine).await;
}

#[tokio::test]
async fn who_does_not_read_a_file_delays_nobody_and_makes_room() {
    let machine = Machine::up();
    machine.state.lock().unwrap().connections = (0..40_000).map(connection).collect();
    let mut readers = Vec::new();
    for _ in 0..300 {
        let client = Client::connect(&machine).await;
        // The descriptor that comes along is closed, or kept, by the system: nobody reads the pipe.
        assert_eq!(errno(&client.ask(&get_connections()).await), 0);
        readers.push(client);
    }
    is_answered(&machine).await;
}

#[tokio::test]
async fn a_slow_data_plane_delays_only_who_waits_for_it() {
    let machine = Machine::up();
    machine.state.lock().unwrap().mischief = Mischief::Hold;
    let waiting = Client::connect(&machine).await;
    waiting.send(&LIST_SERVICES).await;
    is_answered(&machine).await;
    machine.state.lock().unwrap().mischief = Mischief::None;
    let answer = waiting.answer().await;
    assert_eq!(
        answer[4..6],
        3_u16.to_ne_bytes(),
        "the end of an empty list"
    );
}

#[tokio::test]
async fn it_has_the_mode_and_group_of_the_control_socket() {
    let mut machine = Machine::new();
    machine.write("pollux.toml", "[control]\nsocket_mode = \"0600\"\n");
    machine.start_dataplane();
    machine.start_polluxd();
    let mode = |name: &str| {
        let metadata = std::fs::metadata(machine.path(name)).unwrap();
        metadata.permissions().mode() & 0o7777
    };
    assert_eq!(mode("ipvs.sock"), 0o600);
    assert_eq!(mode("control.sock"), 0o600);
    is_answered(&machine).await;
}
