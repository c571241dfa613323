//! What makes a packet one of a virtual service.

use std::net::IpAddr;

use crate::connection::Family;

/// How a service is named: as `ipvsadm -t`, `-u` and `-f` do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ServiceIdentity {
    /// Protocol, virtual IP and port.
    Address {
        /// IP protocol number.
        protocol: u8,
        /// Virtual IP.
        address: IpAddr,
        /// Virtual port, host byte order; 0: every port for which there is no other service.
        port: u16,
    },
    /// A firewall mark: whatever packets the classifier gives it.
    Fwmark {
        /// The mark, never 0.
        mark: u32,
        /// Packets of one IP version only.
        family: Family,
    },
}

impl ServiceIdentity {
    /// IP version of its packets.
    pub fn family(&self) -> Family {
        match self {
            Self::Address { address, .. } if address.is_ipv4() => Family::V4,
            Self::Address { .. } => Family::V6,
            Self::Fwmark { family, .. } => *family,
        }
    }

    /// The port; 0 when packets to any port are its.
    pub fn port(&self) -> u16 {
        match self {
            Self::Address { port, .. } => *port,
            Self::Fwmark { .. } => 0,
        }
    }
}
