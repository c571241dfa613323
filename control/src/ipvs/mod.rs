//! The kernel's interface to IPVS, as `ipvsadm` and `keepalived` speak it: generic netlink, family `IPVS`, version 1.
//!
//! ```text
//! datagram ──► message ──► attribute ──► request ──► (daemon) ──► reply ──► datagrams
//!                            service, destination, tunnel, sync_daemon, timeouts: what tools say, what Pollux has
//! ```
//!
//! Everything here is bytes in, values out, and back; sockets and tasks are in `daemon`. Formats and numbers are those of
//! `linux/ip_vs.h`, `linux/netlink.h` and `linux/genetlink.h`: host byte order, but for addresses and ports, which are
//! big-endian. What an error means is as in the kernel (`net/netfilter/ipvs/ip_vs_ctl.c`), with one addition:
//! `EOPNOTSUPP` and `EPROTONOSUPPORT` for what IPVS has and Pollux does not have yet. Every attribute of the interface is
//! read, and nothing that was read is dropped without such an error.

pub mod address;
pub mod attribute;
pub mod command;
pub mod connection_file;
pub mod destination;
pub mod director_file;
pub mod family;
pub mod helper_file;
pub mod message;
pub mod refusal;
pub mod reply;
pub mod request;
pub mod service;
pub mod service_file;
pub mod setting_value;
pub mod statistics;
pub mod sync_daemon;
pub mod timeouts;
pub mod tunnel;

/// The version of the interface that Linux 6.1 tells, 1.2.1, as `IP_VS_VERSION_CODE` has it.
pub const VERSION: u32 = 0x0001_0201;
