//! Shows each NIC's link as the carrier of its TAP, so that the kernel and what runs on it (VRRP, BGP, bonding) know of a
//! cable that is out as they do on a NIC of the kernel's own; and finds NICs that have been pulled out.

use std::time::Duration;

use dpdk_bindings::LinkState;
use pollux_api::bond::BondMode;
use pollux_api::dataplane::MemberStatus;
use tokio::time::interval;

use crate::bond::Announcement;
use crate::kernel::tap;
use crate::port::OpenPort;
use crate::publisher::Publisher;

/// How often the links are looked at: BFD is quicker, and drivers that poll their PHY are not.
const PERIOD: Duration = Duration::from_millis(200);

/// How often switches are told that another member of a bond carries, one look after the other: a frame may be lost.
const ANNOUNCEMENTS: u8 = 3;

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
    let mut bonds: Vec<BondWatch> = ports.iter().map(|_| BondWatch::default()).collect();
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
                if let Some(watch) = bonds.get_mut(number) {
                    watch.look(publisher, number, port).await;
                }
            }
        }
    }
}

/// What is known of a bond.
#[derive(Debug, Default)]
struct BondWatch {
    members: Vec<MemberStatus>,
    /// How often switches are to be told yet where the MAC is.
    announcements_left: u8,
}

impl BondWatch {
    async fn look(&mut self, publisher: &Publisher, number: usize, port: &OpenPort) {
        let Some(mode) = port.bond else {
            return;
        };
        while let Some((device, member)) = port.wire.take_pulled_out_member() {
            log::error!(
                "port {}: {device} is gone from its bond; the other members go on. When it is back, restart pollux-dataplane",
                port.name
            );
            publisher.let_go_of_member(port, member).await;
        }
        port.wire.look_at_silent_members();
        let members = port.wire.members();
        if !self.members.is_empty() {
            for line in changes(&self.members, &members) {
                log::info!("port {}: {line}", port.name);
            }
            // By LACP a switch knows by itself which links are one.
            if mode == BondMode::ActiveBackup && carriers(&self.members).ne(carriers(&members)) {
                self.announcements_left = ANNOUNCEMENTS;
            }
        }
        self.members = members;
        if self.announcements_left > 0 {
            self.announcements_left -= 1;
            announce(publisher, number, port);
        }
    }
}

/// The members that frames go over.
fn carriers(members: &[MemberStatus]) -> impl Iterator<Item = usize> {
    let numbered = members.iter().enumerate();
    numbered.filter_map(|(number, member)| member.carries.then_some(number))
}

/// What has become of the members of a bond, in words.
fn changes(before: &[MemberStatus], now: &[MemberStatus]) -> Vec<String> {
    let mut lines = Vec::new();
    for (before, now) in before.iter().zip(now).filter(|(_, now)| !now.gone) {
        let state = match (now.link_up, now.carries) {
            (false, _) => "link down",
            (true, false) => "link up, carries nothing",
            (true, true) => "link up, carries frames",
        };
        if (before.link_up, before.carries) != (now.link_up, now.carries) {
            lines.push(format!("{}: {state}", now.device));
        }
    }
    lines
}

/// A switch that has not seen the link go, or sees the first one come back, sends frames for the port's MAC to a member that
/// does not take any, until it learns better.
fn announce(publisher: &Publisher, number: usize, port: &OpenPort) {
    let vlans = port.wire.vlans().into_iter().map(Some);
    let announcements = std::iter::once(None).chain(vlans).map(|vlan| Announcement {
        port: u16::try_from(number).unwrap_or(u16::MAX),
        vlan,
        mac: port.mac,
    });
    publisher.shared.announcements.ask_for(announcements);
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
    fn members_of_a_bond_are_told_of_when_they_change() {
        let member = |device: &str, link_up, carries| MemberStatus {
            device: device.to_owned(),
            gone: false,
            link_up,
            carries,
        };
        let before = [member("a", true, true), member("b", true, false)];
        let after = [member("a", false, false), member("b", true, true)];
        assert!(changes(&before, &before).is_empty());
        let lines = changes(&before, &after);
        assert_eq!(lines, ["a: link down", "b: link up, carries frames"]);
        assert!(carriers(&before).eq([0]) && carriers(&after).eq([1]));
        let gone = MemberStatus {
            gone: true,
            ..after[0].clone()
        };
        assert!(changes(&before[..1], &[gone]).is_empty());
    }

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
