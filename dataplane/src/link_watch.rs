//! Shows each NIC's link as the carrier of its TAP, so that the kernel and what runs on it (VRRP, BGP, bonding) know of a
//! cable that is out as they do on a NIC of the kernel's own.

use std::time::Duration;

use dpdk_bindings::LinkState;
use tokio::time::interval;

use crate::kernel::tap;
use crate::port::OpenPort;

/// How often the links are looked at: BFD is quicker, and drivers that poll their PHY are not.
const PERIOD: Duration = Duration::from_millis(200);

/// What the kernel was told of a port last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shown {
    /// The TAP has a carrier, as a new one has.
    Up,
    /// It has none.
    Down,
    /// The NIC or the kernel refused, which was logged: a TAP without a NIC's state keeps its carrier.
    Unknown,
}

/// Follows the links for ever.
pub async fn follow(ports: &[OpenPort]) {
    let mut shown = vec![Shown::Up; ports.len()];
    let mut ticks = interval(PERIOD);
    loop {
        ticks.tick().await;
        for (port, shown) in ports.iter().zip(&mut shown) {
            *shown = look(port, *shown).await;
        }
    }
}

async fn look(port: &OpenPort, shown: Shown) -> Shown {
    let link = match port.wire.link() {
        _ if shown == Shown::Unknown => return shown,
        Ok(link) => link,
        Err(error) => {
            log::warn!(
                "port {}: {error}; its TAP shows a carrier whatever its link",
                port.name
            );
            return Shown::Unknown;
        }
    };
    let now = if link.up { Shown::Up } else { Shown::Down };
    if now == shown {
        return shown;
    }
    log::info!("port {}: {}", port.name, in_words(link));
    match tap::set_carrier(&port.name, link.up).await {
        Ok(()) => now,
        Err(error) => {
            log::warn!("{error}");
            Shown::Unknown
        }
    }
}

fn in_words(link: LinkState) -> String {
    match link.speed_mbps {
        _ if !link.up => String::from("link down"),
        Some(speed) => format!("link up, {speed} Mbit/s"),
        None => String::from("link up"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_told_with_what_is_known_of_it() {
        let link = |up, speed_mbps| {
            in_words(LinkState {
                up,
                speed_mbps,
                full_duplex: true,
            })
        };
        assert_eq!(link(true, Some(10_000)), "link up, 10000 Mbit/s");
        assert_eq!(link(true, None), "link up");
        assert_eq!(link(false, Some(10_000)), "link down");
    }
}
