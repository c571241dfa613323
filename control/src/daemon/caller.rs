//! Whom polluxd works for: the process at the other end of a socket, by the kernel's word, or a signal.

use std::fs;
use std::io;

use pollux_api::audit::{AuditOrigin, Peer};
use tokio::net::UnixStream;
use tokio_seqpacket::UnixSeqpacket;

use crate::accounts;

/// Who asks for something.
#[derive(Debug, Clone)]
pub struct Caller {
    /// By which way.
    pub origin: AuditOrigin,
    identity: Option<Identity>,
}

#[derive(Debug, Clone)]
struct Identity {
    uid: u32,
    pid: Option<u32>,
    command: Option<String>,
}

impl Caller {
    /// A client of the control socket.
    pub fn of_control(stream: &UnixStream) -> Self {
        let peer = stream.peer_cred();
        let peer = peer.map(|peer| (peer.uid(), peer.pid()));
        Self::connected(AuditOrigin::Control, peer)
    }

    /// A client of the socket for IPVS tools.
    pub fn of_ipvs(socket: &UnixSeqpacket) -> Self {
        let peer = socket.peer_cred();
        let peer = peer.map(|peer| (peer.uid(), peer.pid()));
        Self::connected(AuditOrigin::Ipvs, peer)
    }

    /// Whoever sent SIGHUP.
    pub fn hangup() -> Self {
        Self {
            origin: AuditOrigin::Hangup,
            identity: None,
        }
    }

    /// The command's name is read now: by the time it matters, the process may be gone and its number another one's.
    fn connected(origin: AuditOrigin, peer: io::Result<(u32, Option<i32>)>) -> Self {
        let identity = peer.ok().map(|(uid, pid)| {
            let pid = pid.and_then(|pid| u32::try_from(pid).ok());
            let pid = pid.filter(|pid| *pid != 0);
            let command = pid.and_then(|pid| fs::read(format!("/proc/{pid}/comm")).ok());
            Identity {
                uid,
                pid,
                command: command.map(|name| printable(&name)),
            }
        });
        Self { origin, identity }
    }

    /// As the audit log has it. Reads the list of users.
    pub fn peer(&self) -> Option<Peer> {
        self.identity.as_ref().map(|identity| Peer {
            uid: identity.uid,
            user: accounts::user_name(identity.uid),
            pid: identity.pid,
            command: identity.command.clone(),
        })
    }
}

/// A process may call itself anything: nothing that a terminal would take for a command is passed on.
fn printable(name: &[u8]) -> String {
    String::from_utf8_lossy(name.trim_ascii_end())
        .chars()
        .map(|letter| if letter.is_control() { '?' } else { letter })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_kernel_says_who_is_there() {
        let (_one, other) = UnixStream::pair().unwrap();
        let peer = Caller::of_control(&other).peer().unwrap();
        assert_eq!(peer.pid, Some(std::process::id()));
        let comm = fs::read_to_string("/proc/self/comm").unwrap();
        assert_eq!(peer.command.as_deref(), Some(comm.trim_end()));
        let (_one, other) = UnixSeqpacket::pair().unwrap();
        assert_eq!(Caller::of_ipvs(&other).peer().unwrap(), peer);
        assert_eq!(Caller::hangup().peer(), None);
    }

    #[test]
    fn names_cannot_speak_to_terminals() {
        assert_eq!(printable(b"a\x1b[31mb\n"), "a?[31mb");
    }
}
