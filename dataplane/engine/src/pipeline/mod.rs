//! The stages of a packet's way, in order: `parse`, `lookup`, `decide` (with `schedule` for new flows, `icmp_related` for
//! errors about known ones, and `refuse` for what goes no further), `deliver`.

mod decide;
mod deliver;
mod icmp_error;
mod icmp_related;
mod lookup;
mod meta;
mod parse;
mod refuse;
mod schedule;
mod sweep_pace;
mod worker;

pub use sweep_pace::SweepPace;
pub use worker::{BURST, Context, Verdict, Worker};
