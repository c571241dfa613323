//! Who is logged in over SSH, so that nobody is cut off.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::host::Root;

/// TCP's state ESTABLISHED in `/proc/net/tcp`.
const ESTABLISHED: &str = "01";
/// Where servers of SSH listen unless they are told otherwise.
const PORT: u16 = 22;
/// What servers of SSH are called: OpenSSH's, the part of it that has a connection, and Dropbear.
const SERVERS: [&str; 3] = ["sshd", "sshd-session", "dropbear"];

/// A connection of the kernel's table.
#[derive(Debug, PartialEq, Eq)]
struct Connection {
    address: IpAddr,
    port: u16,
    /// The number of its socket.
    inode: u64,
}

/// The addresses of this machine by which somebody is logged in: at port 22, whoever has it, or at any that a server of SSH
/// has.
pub fn addresses(root: &Root) -> BTreeSet<IpAddr> {
    let of_servers = sockets_of_servers(root);
    let tables = ["proc/net/tcp", "proc/net/tcp6"];
    let texts = tables.into_iter().filter_map(|table| root.text(table));
    let connections =
        texts.flat_map(|text| text.lines().filter_map(established).collect::<Vec<_>>());
    connections
        .filter(|connection| connection.port == PORT || of_servers.contains(&connection.inode))
        .map(|connection| connection.address)
        .collect()
}

/// proc(5): `sl local_address rem_address st tx_queue:rx_queue tr:tm->when retrnsmt uid timeout inode`, addresses as the
/// processor's words in hexadecimal.
fn established(line: &str) -> Option<Connection> {
    let mut words = line.split_whitespace().skip(1);
    let (address, port) = words.next()?.split_once(':')?;
    if words.nth(1)? != ESTABLISHED {
        return None;
    }
    let mut bytes = Vec::new();
    for at in (0..address.len()).step_by(8) {
        let word = u32::from_str_radix(address.get(at..at + 8)?, 16).ok()?;
        bytes.extend(word.to_le_bytes());
    }
    let v4 = |bytes: [u8; 4]| IpAddr::V4(Ipv4Addr::from(bytes));
    let v6 = |bytes: [u8; 16]| Ipv6Addr::from(bytes).to_canonical();
    let v4 = <[u8; 4]>::try_from(bytes.as_slice()).map(v4);
    Some(Connection {
        address: v4
            .or_else(|_| <[u8; 16]>::try_from(bytes.as_slice()).map(v6))
            .ok()?,
        port: u16::from_str_radix(port, 16).ok()?,
        inode: words.nth(5)?.parse().ok()?,
    })
}

/// The numbers of sockets that servers of SSH have open.
fn sockets_of_servers(root: &Root) -> BTreeSet<u64> {
    let processes = root.names("proc");
    let is_server = |process: &&String| {
        let name = root.text(&format!("proc/{process}/comm"));
        name.is_some_and(|name| SERVERS.contains(&name.as_str()))
    };
    let servers = processes.iter().filter(is_server);
    let links = servers.flat_map(|process| {
        let directory = format!("proc/{process}/fd");
        let files = root.names(&directory).into_iter();
        files.filter_map(move |file| root.link_name(&format!("{directory}/{file}")))
    });
    let number = |link: String| {
        let number = link.strip_prefix("socket:[")?.strip_suffix(']')?;
        number.parse().ok()
    };
    links.filter_map(number).collect()
}

#[cfg(test)]
mod tests {
    use super::super::super::host::made_up::MadeUp;
    use super::*;

    const HEADER: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n";

    fn found(machine: &MadeUp) -> Vec<String> {
        let addresses = addresses(&machine.root());
        addresses.iter().map(IpAddr::to_string).collect()
    }

    #[test]
    fn port_22_is_one_whoever_has_it() {
        let line = "0: 050200C0:0016 0A0200C0:D431 01 00000000:00000000 00:00000000 00000000     0        0 31 1 0 20 4 30 10 -1";
        let machine = MadeUp::new().file("proc/net/tcp", &format!("{HEADER}{line}\n"));
        assert_eq!(found(&machine), ["192.0.2.5"]);
        // Another port, and one that only listens.
        for other in [
            line.replace(":0016 ", ":0017 "),
            line.replace(" 01 ", " 0A "),
        ] {
            assert_eq!(established(&other).filter(|found| found.port == PORT), None);
        }
    }

    #[test]
    fn addresses_of_ipv4_in_ipv6_are_what_they_are() {
        let line = "0: 0000000000000000FFFF0000050200C0:0016 0000000000000000FFFF00000A0200C0:D431 01 00000000:00000000 \
                    00:00000000 00000000     0        0 31";
        let expected = Connection {
            address: "192.0.2.5".parse().unwrap(),
            port: 22,
            inode: 31,
        };
        assert_eq!(established(line), Some(expected));
    }

    #[test]
    fn other_ports_are_found_by_who_has_them() {
        let rest = "00000000:00000000 00:00000000 00000000     0        0";
        // 192.0.2.5:2222 is sshd's, 203.0.113.5:2222 is a web server's.
        let machine = MadeUp::new()
            .file(
                "proc/net/tcp",
                &format!(
                    "{HEADER}0: 050200C0:08AE 0A0200C0:D431 01 {rest} 4711 1 0\n1: 057100CB:08AE 0A0200C0:D431 01 {rest} 4712 1 0\n"
                ),
            )
            .file("proc/80/comm", "sshd-session\n")
            .link("proc/80/fd/3", "pipe:[4712]")
            .link("proc/80/fd/4", "socket:[4711]")
            .file("proc/81/comm", "nginx\n")
            .link("proc/81/fd/4", "socket:[4712]");
        assert_eq!(found(&machine), ["192.0.2.5"]);
    }
}
