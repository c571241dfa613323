//! Several devices as one port: a bond of DPDK's (`net_bonding`), and how others learn that another member carries.

use crossbeam::queue::ArrayQueue;
use dpdk_bindings::{AttachError, Eal, Mbuf, Member, Mempool, Port};
use pollux_api::bond::BondMode;

use crate::kernel::TapName;
use crate::settings::Device;

/// The members of a bond, with what the settings call them.
pub type Members = Vec<(String, Member)>;

/// Drivers that say their link is up whatever becomes of it (DPDK 22.11): a bond never leaves such a member.
const BLIND_DRIVERS: [&str; 5] = [
    "net_af_packet",
    "net_af_xdp",
    "net_null",
    "net_pcap",
    "net_ring",
];

/// Takes the device; of a bond, the members first.
pub fn attach(eal: &Eal, number: usize, device: &Device) -> Result<(Port, Members), AttachError> {
    let Device::Bond(mode, devices) = device else {
        return Ok((eal.attach(&device.to_string())?, Members::new()));
    };
    let mut members = Members::new();
    for device in devices {
        let device = device.to_string();
        let member = eal.attach_member(&device)?;
        members.push((device, member));
    }
    let numbers = members.iter().map(|(_, member)| member.id().number());
    let ids: Vec<u16> = numbers.collect();
    let bond = eal.attach(&bond_words(number, *mode, &ids, eal.bond_member_word()))?;
    Ok((bond, members))
}

/// What DPDK is told of a bond. It looks itself at the links of members whose drivers know no interrupt for that.
fn bond_words(number: usize, mode: BondMode, members: &[u16], member_word: &str) -> String {
    let mut words = format!("net_bonding{number}");
    words.push_str(match mode {
        BondMode::ActiveBackup => ",mode=1",
        BondMode::Lacp => ",mode=4,xmit_policy=l34",
    });
    for member in members {
        words.push_str(&format!(",{member_word}={member}"));
    }
    if let (BondMode::ActiveBackup, Some(first)) = (mode, members.first()) {
        words.push_str(&format!(",primary={first}"));
    }
    words
}

/// Says of which members a bond does not learn that their link is lost.
pub fn warn_of_blind_members(port: &TapName, members: &[(String, Member)]) {
    for (device, member) in members {
        let Ok(driver) = member.driver() else {
            continue;
        };
        if BLIND_DRIVERS.contains(&driver.as_str()) {
            log::warn!(
                "port {port}: {driver} does not tell whether its link is up, so that the bond takes that of {device} for up \
                 always; an active-backup bond never leaves it, and one by LACP after 90 s of silence"
            );
        }
    }
}

/// The worker's part: to tell a switch by a frame where a MAC address is now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Announcement {
    /// The port.
    pub port: u16,
    /// The VLAN whose switch it is.
    pub vlan: Option<u16>,
    /// The MAC address.
    pub mac: [u8; 6],
}

/// Announcements on their way to the worker that sends them. What finds no room is lost; others follow.
#[derive(Debug)]
pub struct Announcements(ArrayQueue<Announcement>);

/// More than one round of a port with its VLANs.
const ANNOUNCEMENTS_MAX: usize = 4096;
/// What Ethernet's shortest frame has before its checksum.
const FRAME_BYTES: usize = 60;
/// Reverse ARP (RFC 903): no address of an IP network is in it, and nobody answers.
const RARP: [u8; 2] = [0x80, 0x35];

impl Default for Announcements {
    fn default() -> Self {
        Self(ArrayQueue::new(ANNOUNCEMENTS_MAX))
    }
}

impl Announcements {
    /// Has these made.
    pub fn ask_for(&self, announcements: impl IntoIterator<Item = Announcement>) {
        for announcement in announcements {
            let _ = self.0.push(announcement);
        }
    }

    /// The next to be made.
    pub fn next(&self) -> Option<Announcement> {
        self.0.pop()
    }
}

impl Announcement {
    /// The frame, if the pool has one: what hypervisors send when a machine has moved.
    pub fn frame(&self, pool: &Mempool) -> Option<Mbuf> {
        let mut frame = pool.allocate()?;
        frame
            .append(FRAME_BYTES)
            .ok()?
            .copy_from_slice(&self.bytes());
        Some(frame)
    }

    fn bytes(&self) -> [u8; FRAME_BYTES] {
        let mut bytes = [0; FRAME_BYTES];
        let mut rest = bytes.as_mut_slice();
        let mut put = |part: &[u8]| {
            let (place, after) = std::mem::take(&mut rest).split_at_mut(part.len());
            place.copy_from_slice(part);
            rest = after;
        };
        put(&[0xff; 6]);
        put(&self.mac);
        if let Some(vlan) = self.vlan {
            put(&[0x81, 0x00]);
            put(&vlan.to_be_bytes());
        }
        put(&RARP);
        // Ethernet, IPv4, their addresses' lengths, request reverse.
        put(&[0, 1, 0x08, 0, 6, 4, 0, 3]);
        for _ in ["sender", "target"] {
            put(&self.mac);
            put(&[0; 4]);
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bond_is_told_to_dpdk_with_its_members() {
        let members = [0, 3];
        assert_eq!(
            bond_words(2, BondMode::ActiveBackup, &members, "slave"),
            "net_bonding2,mode=1,slave=0,slave=3,primary=0"
        );
        assert_eq!(
            bond_words(0, BondMode::Lacp, &members, "member"),
            "net_bonding0,mode=4,xmit_policy=l34,member=0,member=3"
        );
    }

    #[test]
    fn an_announcement_is_a_frame_from_the_mac_to_everybody() {
        let announcement = |vlan| Announcement {
            port: 0,
            vlan,
            mac: [2, 0, 0, 0, 1, 1],
        };
        let plain = announcement(None).bytes();
        assert_eq!(
            plain[..42],
            [
                0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 1, 1, 0x80, 0x35, 0, 1, 8, 0, 6, 4,
                0, 3, 2, 0, 0, 0, 1, 1, 0, 0, 0, 0, 2, 0, 0, 0, 1, 1, 0, 0, 0, 0
            ]
        );
        let tagged = announcement(Some(10)).bytes();
        assert_eq!(tagged[..12], plain[..12]);
        assert_eq!(tagged[12..16], [0x81, 0, 0, 10]);
        assert_eq!(tagged[16..46], plain[12..42]);
    }
}
