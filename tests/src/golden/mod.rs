//! Replays traces of a real kernel's IPVS against the engine and says where they differ.
//!
//! ```text
//! tests/golden/*.json ─► trace ─► replay ──command──► administrator ─► SnapshotSpec ─┐
//!                                   │  ▲                                            ▼
//!                                   │  └──frames, connections──── director (engine, topology)
//!                                   ▼
//!                    differences: frames ([`compare`]), kernel's answers ([`kernel`]), listings ([`listing`])
//! ```

pub mod administrator;
pub mod agreed;
pub mod ask;
pub mod command;
pub mod compare;
pub mod conntrack;
pub mod dataplane;
pub mod decode;
pub mod director;
pub mod estimation;
pub mod fragments;
pub mod kernel;
pub mod listing;
pub mod nft;
pub mod packet;
pub mod refused;
pub mod replay;
pub mod saved;
pub mod session;
pub mod setting;
pub mod synchronisation;
pub mod text;
pub mod tools;
pub mod topology;
pub mod trace;
pub mod wiring;
