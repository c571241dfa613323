//! `/proc/net/ip_vs_app`: which ports have a helper. Here it is FTP's, which is always there.

use pollux_api::statistics::ServiceStatistics;
use pollux_api::{ForwardingMethod, Protocol, ServiceId};

/// Its path.
pub const PATH: &str = "/proc/net/ip_vs_app";

/// FTP's port (RFC 959).
const FTP: u16 = 21;

/// The text of the file. The helper is at work for every connection under NAT of a TCP service of port 21.
pub fn text(services: &[ServiceStatistics]) -> String {
    let of_ftp = services.iter().filter(|service| {
        matches!(service.service.id, ServiceId::Address(id)
            if id.protocol == Protocol::Tcp && id.endpoint.port() == FTP)
    });
    let servers = of_ftp
        .flat_map(|service| &service.destinations)
        .filter(|server| server.destination.method == ForwardingMethod::Nat);
    let connections: u64 = servers
        .map(|server| u64::from(server.active_connections) + u64::from(server.inactive_connections))
        .sum();
    format!(
        "prot port    usecnt name\n{:<3}  {FTP:<7} {connections:<6} {:<17}\n",
        "TCP", "ftp"
    )
}

#[cfg(test)]
mod tests {
    use pollux_api::statistics::{DestinationStatistics, TrafficTotals};
    use pollux_api::{Destination, VirtualService};

    use super::*;

    fn service(port: u16, method: ForwardingMethod) -> ServiceStatistics {
        let virtual_address = format!("192.0.2.1:{port}").parse().unwrap();
        let id = ServiceId::address(Protocol::Tcp, virtual_address);
        ServiceStatistics {
            service: VirtualService::new(id),
            totals: TrafficTotals::default(),
            destinations: vec![DestinationStatistics {
                destination: Destination {
                    id: format!("203.0.113.11:{port}").parse().unwrap(),
                    method,
                    tunnel: pollux_api::Tunnel::default(),
                    weight: pollux_api::Weight::default(),
                    upper_threshold: 0,
                    lower_threshold: 0,
                },
                active_connections: 2,
                inactive_connections: 1,
                persistent_connections: 5,
                totals: TrafficTotals::default(),
            }],
        }
    }

    /// The text of `tests/golden/cli.json`.
    #[test]
    fn the_file_is_the_kernels() {
        let recorded = "prot port    usecnt name\nTCP  21      0      ftp              \n";
        assert_eq!(text(&[]), recorded);
        let others = [
            service(80, ForwardingMethod::Nat),
            service(21, ForwardingMethod::Tunnel),
        ];
        assert_eq!(text(&others), recorded);
        let used = text(&[service(21, ForwardingMethod::Nat)]);
        assert_eq!(used, recorded.replace(" 0 ", " 3 "));
    }
}
