//! The daemons of connection synchronisation: how `ipvsadm` starts and stops them, the datagrams of a master, and a backup that
//! hears those of the trace.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use pollux_engine::clock::Tick;
use pollux_engine::connection::TableSize;
use pollux_engine::synchronisation::{Master, Outbox, OutboxSettings};
use pollux_engine::wire::ethernet::ETHERNET_BYTES;
use pollux_engine::wire::sync::{self, SyncedConnection};

use super::command::{Change, Unsupported};
use super::trace::Frame;

/// Messages that may wait, as many as they are.
const WAITING_MAX: usize = usize::MAX;
/// The interfaces of the lab's director.
const INTERFACES: [&str; 2] = ["cl0", "rs0"];

/// Which of the two daemons.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Tells.
    Master,
    /// Is told.
    Backup,
}

/// A daemon as `ipvsadm --start-daemon` was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Daemon {
    /// Which directors belong together.
    pub sync_id: u8,
    /// UDP payload, bytes, at most.
    pub bytes_max: usize,
    /// The multicast group.
    pub group: IpAddr,
    /// Its port.
    pub port: u16,
    /// Hops.
    pub hops: u8,
    /// Whether the lab's director has the interface.
    pub has_interface: bool,
}

fn role(word: &str) -> Result<Role, Unsupported> {
    match word {
        "master" => Ok(Role::Master),
        "backup" => Ok(Role::Backup),
        _ => Err(Unsupported(format!("daemon {word}"))),
    }
}

/// Reads what comes behind `ipvsadm --stop-daemon`.
///
/// # Errors
/// [`Unsupported`].
pub fn stop(word: &str) -> Result<Change, Unsupported> {
    Ok(Change::StopDaemon(role(word)?))
}

/// Reads what comes behind `ipvsadm --start-daemon`.
///
/// # Errors
/// [`Unsupported`]: also what `ipvsadm` refuses.
pub fn start(word: &str, options: &[&str]) -> Result<Change, Unsupported> {
    let role = role(word)?;
    let mut daemon = Daemon {
        sync_id: 0,
        bytes_max: 0,
        group: sync::GROUP,
        port: sync::PORT,
        hops: 1,
        has_interface: false,
    };
    for option in options.chunks(2) {
        let [name, value] = option else {
            return Err(Unsupported(format!("{option:?}")));
        };
        let wrong = || Unsupported(format!("{name} {value}"));
        let number = || value.parse::<u16>().map_err(|_| wrong());
        let positive = || {
            number().and_then(|number| {
                if number == 0 {
                    Err(wrong())
                } else {
                    Ok(number)
                }
            })
        };
        match *name {
            "--mcast-interface" => daemon.has_interface = INTERFACES.contains(value),
            "--syncid" => daemon.sync_id = value.parse().map_err(|_| wrong())?,
            "--sync-maxlen" => daemon.bytes_max = positive()?.into(),
            "--mcast-port" => daemon.port = positive()?,
            "--mcast-ttl" => daemon.hops = u8::try_from(positive()?).map_err(|_| wrong())?,
            "--mcast-group" => {
                let group: IpAddr = value.parse().map_err(|_| wrong())?;
                daemon.group = Some(group).filter(IpAddr::is_multicast).ok_or_else(wrong)?;
            }
            _ => return Err(wrong()),
        }
    }
    let headers = if daemon.group.is_ipv4() { 28 } else { 48 };
    let least = if role == Role::Backup { 1024 } else { 1 };
    daemon.bytes_max = match daemon.bytes_max {
        0 => 1500 - headers,
        wanted => wanted.clamp(least, 65_535 - headers),
    };
    Ok(Change::StartDaemon(role, daemon))
}

/// A master at work.
#[derive(Debug)]
pub struct Telling {
    /// What the engine has of it.
    pub master: Arc<Master>,
    outbox: Outbox,
    daemon: Daemon,
}

impl Telling {
    /// One that begins.
    ///
    /// # Panics
    /// Without memory.
    pub fn new(daemon: Daemon, size: TableSize) -> Self {
        let master = Master::new(size.connections(), 1).unwrap();
        let outbox = Outbox::new(OutboxSettings {
            sync_id: daemon.sync_id,
            bytes_max: daemon.bytes_max,
            ports: 1,
            waiting_max: WAITING_MAX,
        });
        Self {
            master: Arc::new(master),
            outbox,
            daemon,
        }
    }

    /// What the worker has told goes into messages.
    pub fn gather(&mut self, now: Tick) {
        while let Some(told) = self.master.take(0) {
            self.outbox.put(&told, now);
        }
    }

    /// The datagrams that go now.
    pub fn due(&mut self, now: Tick) -> Vec<Datagram> {
        let messages = std::iter::from_fn(|| self.outbox.next_due(now));
        let daemon = self.daemon;
        let datagram = |(_, payload)| Datagram {
            group: daemon.group,
            port: daemon.port,
            hops: daemon.hops,
            payload,
        };
        messages.map(datagram).collect()
    }
}

/// A UDP datagram to a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Datagram {
    group: IpAddr,
    port: u16,
    hops: u8,
    payload: Vec<u8>,
}

impl Datagram {
    /// What a frame carries, if that is one.
    pub fn read(frame: &[u8]) -> Option<Self> {
        const UDP: u8 = 17;
        let packet = frame.get(ETHERNET_BYTES..)?;
        let (group, hops, protocol, datagram): (IpAddr, _, _, _) = match packet.first()? >> 4 {
            4 => {
                let group = Ipv4Addr::from(*packet.get(16..)?.first_chunk::<4>()?);
                (group.into(), packet[8], packet[9], packet.get(20..)?)
            }
            _ => {
                let group = Ipv6Addr::from(*packet.get(24..)?.first_chunk::<16>()?);
                (group.into(), packet[7], packet[6], packet.get(40..)?)
            }
        };
        if protocol != UDP || !group.is_multicast() {
            return None;
        }
        let length = usize::from(u16::from_be_bytes([*datagram.get(4)?, *datagram.get(5)?]));
        Some(Self {
            group,
            port: u16::from_be_bytes([datagram[2], datagram[3]]),
            hops,
            payload: datagram.get(8..length)?.to_vec(),
        })
    }

    /// The message in it.
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// What a backup is told by it; nothing when it is for others.
    pub fn told(&self, backup: &Daemon) -> Vec<SyncedConnection> {
        if (self.group, self.port) != (backup.group, backup.port) {
            return Vec::new();
        }
        let length = self.payload.len().min(backup.bytes_max);
        let Ok(entries) = sync::read(&self.payload[..length], backup.sync_id) else {
            return Vec::new();
        };
        entries
            .map_while(Result::ok)
            .filter_map(Result::ok)
            .collect()
    }
}

/// Compares the kernel's datagrams with the engine's, what is in them entry by entry.
///
/// # Errors
/// Where they differ.
pub fn compare(theirs: &[&Frame], ours: &[Datagram]) -> Result<(), String> {
    let theirs: Vec<Datagram> = theirs
        .iter()
        .filter_map(|frame| Datagram::read(&frame.bytes))
        .collect();
    if theirs == ours {
        return Ok(());
    }
    Err(format!("kernel\n{}engine\n{}", tell(&theirs), tell(ours)))
}

fn tell(datagrams: &[Datagram]) -> String {
    let mut text = String::new();
    for found in datagrams {
        text += &format!(
            "    to {} port {} hops {}\n",
            found.group, found.port, found.hops
        );
        for entry in sync::read(&found.payload, 0).into_iter().flatten() {
            text += &format!("      {entry:?}\n");
        }
    }
    text
}
