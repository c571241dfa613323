//! Changes to some settings of a service or destination: what a patch does not mention stays as it is.
//!
//! A patch is not an edit. An edit replaces everything, as `ipvsadm -E` and `-e` do: there, `-w 0` without `-m` also
//! turns a NAT server into a direct one. `pollux service edit` and `pollux server edit` send patches, so that draining a
//! server drains it and does nothing else; and because the patch is applied where the configuration is, two people who
//! change different settings at once both get what they asked for.

use serde::{Deserialize, Serialize};

use crate::configuration::{Destination, VirtualService};
use crate::identity::{ForwardingMethod, Weight};
use crate::persistence::{Netmask, Persistence, PersistenceEngine, TIMEOUT_DEFAULT_S};
use crate::scheduler::{SchedulerFlags, SchedulerName};
use crate::service_timeouts::ServiceTimeoutsPatch;
use crate::tunnel::{Tunnel, TunnelPatch};

/// New settings of a service; none: unchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ServicePatch {
    /// See [`VirtualService::scheduler`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scheduler: Option<SchedulerName>,
    /// See [`VirtualService::scheduler_flags`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scheduler_flags: Option<SchedulerFlags>,
    /// See [`Persistence::timeout_s`]; 0 ends persistence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub persistence_timeout_s: Option<u32>,
    /// See [`Persistence::netmask`]; by itself it changes that of a persistent service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub netmask: Option<Netmask>,
    /// See [`VirtualService::persistence_engine`]; a service that was not persistent is then. It goes when persistence ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub engine: Option<PersistenceEngine>,
    /// See [`VirtualService::one_packet`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub one_packet: Option<bool>,
    /// See [`VirtualService::timeouts`].
    #[serde(skip_serializing_if = "ServiceTimeoutsPatch::is_empty")]
    pub timeouts: ServiceTimeoutsPatch,
}

/// New settings of a destination; none: unchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DestinationPatch {
    /// See [`Destination::method`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<ForwardingMethod>,
    /// See [`Destination::tunnel`].
    #[serde(skip_serializing_if = "TunnelPatch::is_empty")]
    pub tunnel: TunnelPatch,
    /// See [`Destination::weight`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight: Option<Weight>,
    /// See [`Destination::upper_threshold`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upper_threshold: Option<u32>,
    /// See [`Destination::lower_threshold`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lower_threshold: Option<u32>,
}

impl ServicePatch {
    /// Whether it changes nothing, whatever it is applied to.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The service with the patch applied; not checked yet. Flags are one scheduler's: another one starts with none.
    pub fn applied_to(&self, service: &VirtualService) -> VirtualService {
        let scheduler = self.scheduler.unwrap_or(service.scheduler);
        let kept = if scheduler == service.scheduler {
            service.scheduler_flags
        } else {
            SchedulerFlags::default()
        };
        VirtualService {
            id: service.id,
            scheduler,
            scheduler_flags: self.scheduler_flags.unwrap_or(kept),
            persistence: self.persistence(service.persistence),
            persistence_engine: self
                .engine
                .or(service.persistence_engine)
                .filter(|_| self.persistence_timeout_s != Some(0)),
            one_packet: self.one_packet.unwrap_or(service.one_packet),
            timeouts: self.timeouts.applied_to(service.timeouts),
        }
    }

    fn persistence(&self, known: Option<Persistence>) -> Option<Persistence> {
        let asks = self.netmask.is_some() || self.engine.is_some();
        let timeout_s = match (self.persistence_timeout_s, known) {
            (Some(0), _) => return None,
            (Some(timeout_s), _) => timeout_s,
            (None, Some(known)) => known.timeout_s,
            (None, None) if asks => TIMEOUT_DEFAULT_S,
            (None, None) => return None,
        };
        Some(Persistence {
            timeout_s,
            netmask: self.netmask.or(known.and_then(|known| known.netmask)),
        })
    }
}

impl DestinationPatch {
    /// Whether it changes nothing, whatever it is applied to.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The destination with the patch applied; not checked yet. A tunnel is the method's: another one starts without.
    pub fn applied_to(&self, destination: &Destination) -> Destination {
        let method = self.method.unwrap_or(destination.method);
        let kept = if method == destination.method {
            destination.tunnel
        } else {
            Tunnel::default()
        };
        Destination {
            id: destination.id,
            method,
            tunnel: self.tunnel.applied_to(kept),
            weight: self.weight.unwrap_or(destination.weight),
            upper_threshold: self.upper_threshold.unwrap_or(destination.upper_threshold),
            lower_threshold: self.lower_threshold.unwrap_or(destination.lower_threshold),
        }
    }
}
