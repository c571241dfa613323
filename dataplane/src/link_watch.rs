//! Shows each NIC's link as the carrier of its TAP, so that the kernel and what runs on it (VRRP, BGP, bonding) know of a
//! cable that is out as they do on a NIC of the kernel's own; and finds NICs that have been pulled out.

use std::time::Duration;

use dpdk_bindings::LinkState;
use tokio::time::interval;

use crate::kernel::tap;
use crate::port::OpenPort;
use crate::publisher::Publisher;

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
pub async fn follow(publisher: &Publisher) {
    let ports = &publisher.ports;
    let mut shown = vec![Shown::Up; ports.len()];
    let mut ticks = interval(PERIOD);
    loop {
        ticks.tick().await;
        for (number, (port, shown)) in ports.iter().zip(&mut shown).enumerate() {
            if port.wire.is_pulled_out() {
                log::error!(
                    "port {}: its device {} is gone; the other ports go on. When it is back, restart pollux-dataplane",
                    port.name,
                    port.device
                );
                publisher.let_go_of_port(number).await;
                *shown = show(port, false, *shown).await;
            } else if !port.wire.is_gone() {
                *shown = look(port, *shown).await;
            }
        }
    }
}

async fn look(port: &OpenPort, shown: Shown) -> Shown {
    let link = match port.wire.ask(|wire| wire.link()) {
        None => return shown,
        _ if shown == Shown::Unknown => return shown,
        Some(Ok(link)) => link,
        Some(Err(error)) => {
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
    show(port, link.up, shown).await
}

async fn show(port: &OpenPort, up: bool, shown: Shown) -> Shown {
    if shown == Shown::Unknown {
        return shown;
    }
    match tap::set_carrier(&port.name, up).await {
        Ok(()) if up => Shown::Up,
        Ok(()) => Shown::Down,
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
