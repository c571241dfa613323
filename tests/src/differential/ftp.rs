//! FTP: what control connections say about data connections, and these.

use std::net::{IpAddr, SocketAddr};

use pollux_engine::wire::protocol;

use super::conversation::{Flow, Taste};
use super::world::World;

/// What is said next on a control connection that is open, by the client or by its server; and the data connection that
/// may come of it.
pub fn go_on(world: &mut World, taste: Taste, control: &mut Flow) -> Option<Flow> {
    match world.chance.below(8) {
        0..=2 => active(world, taste, control),
        3..=5 => passive(world, taste, control),
        6 => {
            control.say(world, taste, false, b"NOOP\r\n");
            control.say(world, taste, true, b"200 Zzz...\r\n");
            None
        }
        _ => {
            // What is no command of those that matter, or a broken one.
            let line: &[u8] = world.chance.of(&[
                b"PORT 1,2,3\r\n".as_slice(),
                b"PORT 198,51,100,7,999,1\r\n",
                b"PASVX\r\n",
                b"EPRT |1|198.51.100.7|\r\n",
                b"USER PORT\r\n",
                b"227 not mine\r\n",
            ]);
            control.say(world, taste, false, line);
            None
        }
    }
}

/// The client names its port, and the server connects to it from port 20.
fn active(world: &mut World, taste: Taste, control: &mut Flow) -> Option<Flow> {
    let (number, server) = control.server?;
    let client = control.client();
    let port = 50_000 + world.chance.number() % 10_000;
    let line = match client.ip() {
        IpAddr::V4(address) if world.chance.one_in(2) => {
            let [a, b, c, d] = address.octets();
            format!("PORT {a},{b},{c},{d},{},{}\r\n", port >> 8, port & 255)
        }
        IpAddr::V4(address) => format!("EPRT |1|{address}|{port}|\r\n"),
        IpAddr::V6(address) => format!("EPRT |2|{address}|{port}|\r\n"),
    };
    control.say(world, taste, false, line.as_bytes());
    let mut data = Flow::between(
        protocol::TCP,
        SocketAddr::new(client.ip(), port),
        SocketAddr::new(control.target().ip(), 20),
    );
    data.is_active = true;
    data.server = Some((number, SocketAddr::new(server.ip(), 20)));
    (!world.chance.one_in(5)).then_some(data)
}

/// The server names its port, and the client connects to it.
fn passive(world: &mut World, taste: Taste, control: &mut Flow) -> Option<Flow> {
    let (_, server) = control.server?;
    let port = 50_000 + world.chance.number() % 10_000;
    let (asked, answered) = match server.ip() {
        IpAddr::V4(address) if world.chance.one_in(2) => {
            let [a, b, c, d] = address.octets();
            let end = world.chance.of(&[").\r\n", ")\r\n"]);
            (
                "PASV\r\n",
                format!(
                    "227 Entering Passive Mode ({a},{b},{c},{d},{},{}{end}",
                    port >> 8,
                    port & 255
                ),
            )
        }
        _ => (
            "EPSV\r\n",
            format!("229 Entering Extended Passive Mode (|||{port}|)\r\n"),
        ),
    };
    control.say(world, taste, false, asked.as_bytes());
    control.say(world, taste, true, answered.as_bytes());
    let data = Flow::between(
        protocol::TCP,
        SocketAddr::new(
            control.client().ip(),
            50_000 + world.chance.number() % 10_000,
        ),
        SocketAddr::new(control.target().ip(), port),
    );
    (!world.chance.one_in(5)).then_some(data)
}
