//! The stages of a packet's way, in order: [`parse`], [`lookup`], [`decide`] (with [`schedule`] for new flows and
//! [`icmp_related`] for errors about known ones), [`deliver`].

mod decide;
mod deliver;
mod icmp_error;
mod icmp_related;
mod lookup;
mod meta;
mod parse;
mod schedule;
mod worker;

pub use worker::{BURST, Context, Verdict, Worker};
