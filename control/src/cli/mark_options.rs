//! `pollux mark`: rules that give packets firewall marks.

use std::net::IpAddr;
use std::num::NonZeroU32;

use clap::{Args, Subcommand, ValueEnum};
use ipnet::IpNet;
use pollux_api::mark::PortRange;
use pollux_api::{MarkRule, Protocol};

/// What to do with the rules.
#[derive(Debug, Subcommand)]
pub enum MarkVerb {
    /// Add a rule behind the others; of those that match, the first decides
    ///
    /// What is not said matches every packet. Connections that are there stay with their servers.
    Add(Rule),
    /// Remove a rule, named by all that it says
    Remove(Rule),
    /// List the rules in their order
    List,
}

/// A rule.
#[derive(Debug, Args)]
pub struct Rule {
    /// The mark
    #[arg(value_name = "MARK")]
    mark: NonZeroU32,
    /// From this network: ADDRESS or ADDRESS/LENGTH
    #[arg(long, value_name = "NETWORK", value_parser = parse_network)]
    source: Option<IpNet>,
    /// To this network
    #[arg(long, value_name = "NETWORK", value_parser = parse_network)]
    destination: Option<IpNet>,
    /// Of this protocol
    #[arg(long, value_name = "PROTOCOL")]
    protocol: Option<ProtocolWord>,
    /// From this port, or these: 1024-65535
    #[arg(long, value_name = "PORTS")]
    source_ports: Option<PortRange>,
    /// To this port, or these
    #[arg(long, value_name = "PORTS")]
    destination_ports: Option<PortRange>,
    /// Received by the network port of this name
    #[arg(long, value_name = "PORT")]
    ingress: Option<String>,
}

/// Protocols by their words.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum ProtocolWord {
    Tcp,
    Udp,
    Sctp,
}

impl Rule {
    /// The rule as it is kept.
    pub fn into_rule(self) -> MarkRule {
        MarkRule {
            mark: self.mark,
            source: self.source,
            destination: self.destination,
            protocol: self.protocol.map(|word| match word {
                ProtocolWord::Tcp => Protocol::Tcp,
                ProtocolWord::Udp => Protocol::Udp,
                ProtocolWord::Sctp => Protocol::Sctp,
            }),
            source_ports: self.source_ports,
            destination_ports: self.destination_ports,
            ingress: self.ingress,
        }
    }
}

/// A network; an address alone is one of a single host.
fn parse_network(text: &str) -> Result<IpNet, String> {
    let network = text
        .parse()
        .or_else(|_| text.parse::<IpAddr>().map(IpNet::from))
        .map_err(|_| "write ADDRESS/LENGTH, as in 203.0.113.0/24 or 2001:db8::/32".to_owned());
    network.map(|network: IpNet| network.trunc())
}
