//! `/proc/net/ip_vs`: services and destinations in hexadecimal, each service's last destination first.

use std::net::IpAddr;

use pollux_api::statistics::{DestinationStatistics, ServiceStatistics};
use pollux_api::{Family, ServiceId};

use super::service::netmask;

/// Its path.
pub const PATH: &str = "/proc/net/ip_vs";

/// The text of the file.
pub fn text(services: &[ServiceStatistics], table_size: u32) -> String {
    let mut text = format!(
        "IP Virtual Server version 1.2.1 (size={table_size})\n\
         Prot LocalAddress:Port Scheduler Flags\n  \
         -> RemoteAddress:Port Forward Weight ActiveConn InActConn\n"
    );
    // Those of marks are in a table of their own, behind the other one.
    let is_of_mark =
        |listed: &&ServiceStatistics| matches!(listed.service.id, ServiceId::Fwmark(_));
    let of_marks = services.iter().filter(is_of_mark);
    let others = services.iter().filter(|listed| !is_of_mark(listed));
    for service in others.chain(of_marks) {
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
    let named = match service.id {
        ServiceId::Address(id) => format!(
            "{}  {}:{:04X}",
            id.protocol,
            address(id.endpoint.address()),
            id.endpoint.port()
        ),
        ServiceId::Fwmark(id) => format!("FWM  {:08X}", id.fwmark),
    };
    // Blanks as the kernel writes them: it shows one-packet scheduling of IPv4 and of marks only.
    let ops = if service.one_packet { "ops " } else { "" };
    let flags = match service.id {
        ServiceId::Fwmark(_) => ops.to_owned(),
        ServiceId::Address(_) if service.id.family() == Family::Ipv6 => String::new(),
        ServiceId::Address(_) => format!("{ops} "),
    };
    let persistence = service.persistence.map(|persistence| {
        // Jiffies, of which this kernel has a hundred a second.
        let jiffies = u64::from(persistence.timeout_s) * 100;
        format!("persistent {jiffies} {:08X}", netmask(service).swap_bytes())
    });
    format!(
        "{named} {} {flags}{}\n",
        service.scheduler,
        persistence.unwrap_or_default()
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
