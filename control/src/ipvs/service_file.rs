//! `/proc/net/ip_vs`: services and destinations in hexadecimal, each service's last destination first.

use std::net::IpAddr;

use pollux_api::statistics::{DestinationStatistics, ServiceStatistics};

use super::service::netmask;

/// Its path.
pub const PATH: &str = "/proc/net/ip_vs";

/// The kernel writes timeouts in its ticks, of which most machines have this many.
const KERNEL_TICKS_PER_SECOND: u64 = 100;

/// The text of the file.
pub fn text(services: &[ServiceStatistics], table_size: u32) -> String {
    let mut text = format!(
        "IP Virtual Server version 1.2.1 (size={table_size})\n\
         Prot LocalAddress:Port Scheduler Flags\n  \
         -> RemoteAddress:Port Forward Weight ActiveConn InActConn\n"
    );
    for service in services {
        text.push_str(&service_line(service));
        service
            .destinations
            .iter()
            .for_each(|destination| text.push_str(&destination_line(destination)));
    }
    text
}

fn service_line(listed: &ServiceStatistics) -> String {
    let service = &listed.service;
    let endpoint = service.id.endpoint;
    // The kernel writes no flags of an IPv6 service, nor a blank for them.
    let flags = match (endpoint.address(), service.one_packet) {
        (IpAddr::V4(_), true) => "ops  ",
        (IpAddr::V4(_), false) => " ",
        (IpAddr::V6(_), _) => "",
    };
    // In network byte order, prefix lengths too.
    let netmask = u32::from_be_bytes(netmask(service).to_ne_bytes());
    let persistence = service.persistence.map_or_else(String::new, |found| {
        let timeout = u64::from(found.timeout_s) * KERNEL_TICKS_PER_SECOND;
        format!("persistent {timeout} {netmask:08X}")
    });
    format!(
        "{}  {}:{:04X} {} {flags}{persistence}\n",
        service.id.protocol,
        address(endpoint.address()),
        endpoint.port(),
        service.scheduler,
    )
}

fn destination_line(listed: &DestinationStatistics) -> String {
    let destination = &listed.destination;
    format!(
        "  -> {}:{:04X}      {:<7} {:<6} {:<10} {:<10}\n",
        address(destination.id.address()),
        destination.id.port(),
        destination.method.as_ipvsadm(),
        destination.weight.get(),
        listed.active_connections,
        listed.inactive_connections,
    )
}

fn address(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => format!("{:08X}", address.to_bits()),
        IpAddr::V6(address) => format!(
            "[{}]",
            address
                .segments()
                .map(|segment| format!("{segment:04x}"))
                .join(":")
        ),
    }
}
