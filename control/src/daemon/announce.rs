//! Virtual addresses that are announced while their services have their quorum: polluxd keeps them on the TAP, and takes
//! them off, so that routing daemons (BIRD, FRR) withdraw their routes.
//!
//! The address has a prefix of its own length (/32, /128). It is looked after every some seconds, since a TAP comes and goes
//! with the data plane.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::time::Duration;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use rustix::io::Errno;
use rustix::net::netdevice::name_to_index;
use rustix::net::{AddressFamily as SocketFamily, SocketType, socket};
use tokio::time::sleep;

use super::{Daemon, off_loop};

/// How often the addresses are looked after.
const PERIOD: Duration = Duration::from_secs(5);

/// An address on an interface.
pub type Place = (String, IpAddr);

impl Daemon {
    /// Keeps the addresses of services that have their quorum on their interfaces, and no others, for ever.
    pub(super) async fn keep_announcing(&self) {
        let mut known: BTreeSet<Place> = BTreeSet::new();
        let mut said: BTreeMap<Place, String> = BTreeMap::new();
        loop {
            let wanted = self.health.announced();
            // What no service announces any more was announced by this polluxd.
            let gone = known.iter().filter(|place| !wanted.contains_key(*place));
            let gone = gone.map(|place| (place.clone(), false));
            let todo: Vec<(Place, bool)> = gone
                .chain(wanted.iter().map(|(place, on)| (place.clone(), *on)))
                .collect();
            known = wanted.into_keys().collect();
            if !todo.is_empty() {
                let done = off_loop(move || {
                    let done = todo.into_iter().map(|(place, on)| {
                        let done = set(&place, on);
                        (place, on, done)
                    });
                    done.collect::<Vec<_>>()
                });
                for (place, on, done) in done.await {
                    report(&mut said, place, on, done);
                }
            }
            tokio::select! {
                () = self.announcing.notified() => {}
                () = sleep(PERIOD) => {}
            }
        }
    }
}

/// Says in the log what is new.
fn report(said: &mut BTreeMap<Place, String>, place: Place, on: bool, done: io::Result<()>) {
    let (interface, address) = &place;
    let (text, level) = match done {
        Ok(()) if on => (
            format!("{address} is announced on {interface}"),
            log::Level::Info,
        ),
        Ok(()) => (
            format!("{address} is withdrawn from {interface}"),
            log::Level::Warn,
        ),
        Err(error) => (
            format!(
                "cannot {} {address} on {interface}: {error}",
                if on { "announce" } else { "withdraw" }
            ),
            log::Level::Error,
        ),
    };
    if said.get(&place) != Some(&text) {
        log::log!(level, "{text}");
        said.insert(place, text);
    }
}

/// Puts an address on an interface or takes it off. What is so already is no error.
fn set((interface, address): &Place, on: bool) -> io::Result<()> {
    let any = socket(SocketFamily::INET, SocketType::DGRAM, None)?;
    let index = match name_to_index(any.as_fd(), interface) {
        Ok(index) => index,
        // Without the interface the address is not there either.
        Err(Errno::NODEV) if !on => return Ok(()),
        Err(Errno::NODEV) => return Err(io::Error::other("there is no such interface (yet)")),
        Err(error) => return Err(error.into()),
    };
    match exchange(message(index, *address, on)) {
        Err(error) if !on && Errno::from_io_error(&error) == Some(Errno::ADDRNOTAVAIL) => Ok(()),
        Err(error) if Errno::from_io_error(&error) == Some(Errno::PERM) => {
            let mend =
                "polluxd needs the capability CAP_NET_ADMIN for it, as polluxd.service gives it";
            Err(io::Error::new(error.kind(), format!("{error}; {mend}")))
        }
        done => done,
    }
}

fn message(index: u32, address: IpAddr, on: bool) -> NetlinkMessage<RouteNetlinkMessage> {
    let mut about = AddressMessage::default();
    about.header.index = index;
    (about.header.family, about.header.prefix_len) = match address {
        IpAddr::V4(_) => (AddressFamily::Inet, 32),
        IpAddr::V6(_) => (AddressFamily::Inet6, 128),
    };
    about.attributes = vec![
        AddressAttribute::Local(address),
        AddressAttribute::Address(address),
    ];
    if address.is_ipv6() {
        // Directors that share it would find each other, and none would use it.
        about
            .attributes
            .push(AddressAttribute::Flags(AddressFlags::Nodad));
    }
    let (payload, flags) = if on {
        let flags = NLM_F_CREATE | NLM_F_REPLACE;
        (RouteNetlinkMessage::NewAddress(about), flags)
    } else {
        (RouteNetlinkMessage::DelAddress(about), 0)
    };
    let mut message = NetlinkMessage::from(payload);
    message.header.flags = NLM_F_REQUEST | NLM_F_ACK | flags;
    message
}

/// Tells the kernel and waits for its word.
fn exchange(mut message: NetlinkMessage<RouteNetlinkMessage>) -> io::Result<()> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    socket.send(&bytes, 0)?;
    let (answer, _) = socket.recv_from_full()?;
    let answer: NetlinkMessage<RouteNetlinkMessage> =
        NetlinkMessage::deserialize(&answer).map_err(io::Error::other)?;
    match answer.payload {
        NetlinkPayload::Error(error) if error.code.is_some() => Err(error.to_io()),
        _ => Ok(()),
    }
}
