//! How a service is named on the command line, and its settings: `ipvsadm`'s letters.

use std::num::NonZeroU32;

use clap::Args;
use pollux_api::identity::Endpoint;
use pollux_api::{
    Family, Netmask, PersistenceEngine, Protocol, SchedulerFlags, SchedulerName, ServiceId,
    ServicePatch, ServiceTimeoutsPatch,
};

use super::CliError;

/// A service that must be named.
#[derive(Debug, Args)]
pub struct OneService {
    /// Which.
    #[command(flatten)]
    name: OneName,
    /// Of which family.
    #[command(flatten)]
    family: FamilyOption,
}

/// A service that may be named.
#[derive(Debug, Args)]
pub struct AnyService {
    /// Which.
    #[command(flatten)]
    name: AnyName,
    /// Of which family.
    #[command(flatten)]
    family: FamilyOption,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct OneName {
    /// TCP service; port 0: all ports
    #[arg(short = 't', long = "tcp-service", value_name = "ADDRESS:PORT")]
    tcp: Option<Endpoint>,
    /// UDP service; port 0: all ports
    #[arg(short = 'u', long = "udp-service", value_name = "ADDRESS:PORT")]
    udp: Option<Endpoint>,
    /// SCTP service; port 0: all ports
    #[arg(long = "sctp-service", value_name = "ADDRESS:PORT")]
    sctp: Option<Endpoint>,
    /// Service of a firewall mark, which `pollux mark` gives to packets
    #[arg(short = 'f', long = "fwmark-service", value_name = "MARK")]
    fwmark: Option<NonZeroU32>,
}

#[derive(Debug, Args)]
#[group(multiple = false)]
struct AnyName {
    /// Only this TCP service
    #[arg(short = 't', long = "tcp-service", value_name = "ADDRESS:PORT")]
    tcp: Option<Endpoint>,
    /// Only this UDP service
    #[arg(short = 'u', long = "udp-service", value_name = "ADDRESS:PORT")]
    udp: Option<Endpoint>,
    /// Only this SCTP service
    #[arg(long = "sctp-service", value_name = "ADDRESS:PORT")]
    sctp: Option<Endpoint>,
    /// Only the service of this firewall mark
    #[arg(short = 'f', long = "fwmark-service", value_name = "MARK")]
    fwmark: Option<NonZeroU32>,
}

#[derive(Debug, Args)]
#[group(skip)]
struct FamilyOption {
    /// With -f: packets of IPv6
    #[arg(short = '6', long = "ipv6", requires = "fwmark")]
    ipv6: bool,
}

impl FamilyOption {
    fn service(
        &self,
        tcp: Option<Endpoint>,
        udp: Option<Endpoint>,
        sctp: Option<Endpoint>,
        fwmark: Option<NonZeroU32>,
    ) -> Option<ServiceId> {
        let family = if self.ipv6 {
            Family::Ipv6
        } else {
            Family::Ipv4
        };
        let of = |protocol| move |endpoint| ServiceId::address(protocol, endpoint);
        tcp.map(of(Protocol::Tcp))
            .or(udp.map(of(Protocol::Udp)))
            .or(sctp.map(of(Protocol::Sctp)))
            .or(fwmark.map(|mark| ServiceId::fwmark(mark, family)))
    }
}

impl OneService {
    /// The service.
    ///
    /// # Errors
    /// None was given; the parser sees to it before.
    pub fn id(&self) -> Result<ServiceId, CliError> {
        let OneName {
            tcp,
            udp,
            sctp,
            fwmark,
        } = self.name;
        self.family
            .service(tcp, udp, sctp, fwmark)
            .ok_or(CliError::NoService)
    }
}

impl AnyService {
    /// The service, if one was named.
    pub fn id(&self) -> Option<ServiceId> {
        let AnyName {
            tcp,
            udp,
            sctp,
            fwmark,
        } = self.name;
        self.family.service(tcp, udp, sctp, fwmark)
    }
}

/// Settings of a service.
#[derive(Debug, Args)]
#[group(skip)]
pub struct ServiceSettings {
    /// Who gets the next connection; `pollux show schedulers` tells them all [default of a new one: wlc]
    #[arg(short, long, value_name = "NAME")]
    scheduler: Option<SchedulerName>,
    /// All flags of the scheduler, with commas between; "" for none
    #[arg(short = 'b', long = "sched-flags", value_name = "FLAGS")]
    scheduler_flags: Option<SchedulerFlags>,
    /// A client keeps its server for so long after its last new connection; 0: not persistent [360 if no number is given]
    #[arg(short, long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "360")]
    persistent: Option<u32>,
    /// Clients that count as one: a mask as 255.255.255.0, for IPv6 a prefix length
    #[arg(short = 'M', long, value_name = "MASK")]
    netmask: Option<Netmask>,
    /// What else tells clients apart: sip, for calls by their Call-ID, over UDP; it goes with persistence
    #[arg(long, value_name = "NAME")]
    pe: Option<PersistenceEngine>,
    /// Schedule each UDP packet by itself and keep no connection; `=false` ends that
    #[arg(short, long, value_name = "true|false", num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    ops: Option<bool>,
    /// How long its connections live without traffic, in seconds, instead of what `pollux set` says for all: any of tcp, tcp_fin
    /// and udp, with commas between, as tcp=60,tcp_fin=10; 0: as for all
    #[arg(long, value_name = "NAME=SECONDS,...")]
    timeouts: Option<ServiceTimeoutsPatch>,
}

impl ServiceSettings {
    /// What was given.
    pub fn patch(&self) -> ServicePatch {
        ServicePatch {
            scheduler: self.scheduler,
            scheduler_flags: self.scheduler_flags,
            persistence_timeout_s: self.persistent,
            netmask: self.netmask,
            engine: self.pe,
            one_packet: self.ops,
            timeouts: self.timeouts.unwrap_or_default(),
        }
    }
}
