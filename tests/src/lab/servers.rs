//! The addresses of the lab, and the services a test puts in front of its real servers.

use std::fmt;

use crate::lab::Lab;

/// The virtual address of IPv4 services.
pub const VIP4: &str = "198.51.100.1";
/// The virtual address of IPv6 services.
pub const VIP6: &str = "2001:db8:100::1";
/// The real servers by name, as they answer.
pub const NAMES: [&str; 3] = ["rs1", "rs2", "rs3"];
/// Their IPv4 addresses.
pub const SERVERS4: [&str; 3] = ["203.0.113.11", "203.0.113.12", "203.0.113.13"];
/// Their IPv6 addresses.
pub const SERVERS6: [&str; 3] = ["2001:db8:2::11", "2001:db8:2::12", "2001:db8:2::13"];

/// Forwarding methods by their letters.
pub const NAT: &str = "-m";
/// IP in IP.
pub const TUNNEL: &str = "-i";
/// GRE.
pub const GRE: &str = "-i --tun-type gre";
/// GRE with a checksum.
pub const GRE_CHECKSUM: &str = "-i --tun-type gre --tun-csum";
/// GUE, to the port where `pollux-lab-decap` takes it.
pub const GUE: &str = "-i --tun-type gue --tun-port 5555";
/// GUE with a checksum.
pub const GUE_CHECKSUM: &str = "-i --tun-type gue --tun-port 5555 --tun-csum";
/// Same link.
pub const DIRECT: &str = "-g";

/// A virtual service as the command line names it.
#[derive(Clone, Debug)]
pub struct Service(String);

/// A TCP service.
pub fn tcp(address: &str, port: u16) -> Service {
    Service(format!("-t {}", endpoint(address, port)))
}

/// A UDP service.
pub fn udp(address: &str, port: u16) -> Service {
    Service(format!("-u {}", endpoint(address, port)))
}

/// An SCTP service.
pub fn sctp(address: &str, port: u16) -> Service {
    Service(format!("--sctp-service {}", endpoint(address, port)))
}

/// The service of a firewall mark, for IPv4.
pub fn mark(number: u32) -> Service {
    Service(format!("-f {number}"))
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Address and port in one word, with the brackets IPv6 needs.
pub fn endpoint(address: &str, port: u16) -> String {
    if address.contains(':') {
        format!("[{address}]:{port}")
    } else {
        format!("{address}:{port}")
    }
}

impl Lab {
    /// Adds a service with servers on one port, all of one method and weight 1. The last one is added first, because
    /// schedulers, like Linux's, walk the list from the server added last.
    pub fn add(
        &self,
        service: &Service,
        scheduler: &str,
        method: &str,
        servers: &[&str],
        port: u16,
    ) {
        self.pollux(&format!("service add {service} -s {scheduler}"));
        for server in servers.iter().rev() {
            self.pollux(&format!(
                "server add {service} -r {} {method}",
                endpoint(server, port)
            ));
        }
    }

    /// Gives a server of a service on port 80 another weight.
    pub fn set_weight(&self, service: &Service, server: &str, weight: u32) {
        self.pollux(&format!(
            "server edit {service} -r {} -w {weight}",
            endpoint(server, 80)
        ));
    }
}
