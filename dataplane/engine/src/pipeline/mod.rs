//! The stages of a packet's way, in order: `parse` (most packets are `plain`), `lookup`, `plan` for new connections, then `hit` for plain packets of
//! known connections and `decide` for all others (with `schedule` for new flows, `icmp_related` for errors about known
//! ones, and `refuse` for what goes no further), `deliver`.

mod decide;
mod deliver;
mod drop_entry;
mod ftp;
mod hit;
mod icmp_error;
mod icmp_related;
mod ipsec_fragment;
mod lone_fragment;
mod lookup;
mod meta;
mod parse;
mod persist;
mod plain;
mod plan;
mod refuse;
mod schedule;
mod schedule_icmp;
mod sign_options;
mod sweep_pace;
mod synced;
mod tell;
mod without_entry;
mod worker;

pub use synced::Taken;
pub(crate) use worker::Whole;
pub use worker::{BURST, Context, Verdict, Worker};
