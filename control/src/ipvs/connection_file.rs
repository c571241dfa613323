//! `/proc/net/ip_vs_conn`, the connection table in hexadecimal, which `ipvsadm -Lc` reads, and `/proc/net/ip_vs_conn_sync`, which
//! says whether this director made a connection or another one told of it (`ip_vs_conn_seq_show`, `ip_vs_conn_sync_seq_show`).

use std::net::IpAddr;

use pollux_api::dataplane::ConnectionReport;

/// The path of the table.
pub const PATH: &str = "/proc/net/ip_vs_conn";

/// The path of the table with origins.
pub const ORIGINS_PATH: &str = "/proc/net/ip_vs_conn_sync";

/// The first line of the table.
pub const HEADER: &str =
    "Pro FromIP   FPrt ToIP     TPrt DestIP   DPrt State       Expires PEName PEData\n";

/// The first line of the table with origins.
pub const ORIGINS_HEADER: &str =
    "Pro FromIP   FPrt ToIP     TPrt DestIP   DPrt State       Origin Expires\n";

/// The line of a connection.
pub fn line(connection: &ConnectionReport) -> String {
    let engine = connection.engine.as_ref();
    let engine = engine.map_or_else(String::new, |(name, data)| format!(" {name} {data}"));
    format!(
        "{} {:>7}{engine}\n",
        beginning(connection),
        connection.expires_s
    )
}

/// The line of a connection, with who made it.
pub fn line_with_origin(connection: &ConnectionReport) -> String {
    let origin = if connection.synced { "SYNC" } else { "LOCAL" };
    format!(
        "{} {origin:<6} {:>7}\n",
        beginning(connection),
        connection.expires_s
    )
}

/// Protocol, endpoints and state.
fn beginning(connection: &ConnectionReport) -> String {
    let endpoints = [
        connection.client,
        connection.virtual_address,
        connection.destination,
    ];
    let [client, service, server] =
        endpoints.map(|end| format!("{} {:04X}", address(end.ip()), end.port()));
    format!(
        "{:<3} {client} {service} {server} {:<11}",
        connection.protocol_name(),
        connection.state
    )
}

fn address(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => format!("{:08X}", address.to_bits()),
        IpAddr::V6(address) => address
            .segments()
            .map(|segment| format!("{segment:04x}"))
            .join(":"),
    }
}

#[cfg(test)]
mod tests {
    use pollux_api::{ForwardingMethod, Protocol};

    use super::*;

    /// Lines of `tests/golden/cli.json`.
    #[test]
    fn lines_are_the_kernels() {
        let report =
            |state: &str, expires_s, client: &str, service: &str, server: &str| ConnectionReport {
                protocol: Some(Protocol::Tcp),
                service: None,
                expires_s,
                state: state.to_owned(),
                client: client.parse().unwrap(),
                virtual_address: service.parse().unwrap(),
                destination: server.parse().unwrap(),
                method: ForwardingMethod::Nat,
                synced: false,
                engine: None,
            };
        let v4 = report(
            "ESTABLISHED",
            895,
            "198.51.100.7:40002",
            "192.0.2.100:80",
            "10.1.0.12:8080",
        );
        assert_eq!(
            line(&v4),
            "TCP C6336407 9C42 C0000264 0050 0A01000C 1F90 ESTABLISHED     895\n"
        );
        // Of `tests/golden/sync.json`, "sync/backup file".
        assert_eq!(
            line_with_origin(&v4),
            "TCP C6336407 9C42 C0000264 0050 0A01000C 1F90 ESTABLISHED LOCAL      895\n"
        );
        let told = ConnectionReport { synced: true, ..v4 };
        assert_eq!(
            line_with_origin(&told),
            "TCP C6336407 9C42 C0000264 0050 0A01000C 1F90 ESTABLISHED SYNC       895\n"
        );
        let v6 = report(
            "SYN_RECV",
            55,
            "[2001:db8:c::7]:40000",
            "[2001:db8::100]:80",
            "[2001:db8:1::11]:80",
        );
        assert_eq!(
            line(&v6),
            "TCP 2001:0db8:000c:0000:0000:0000:0000:0007 9C40 2001:0db8:0000:0000:0000:0000:0000:0100 0050 \
             2001:0db8:0001:0000:0000:0000:0000:0011 0050 SYN_RECV         55\n"
        );
    }
}
