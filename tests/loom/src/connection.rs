//! The engine's files as they are, and the models beside them, where they see what the table sees.

#[path = "../../../dataplane/engine/src/connection/index.rs"]
pub mod index;
#[path = "models.rs"]
pub mod models;
#[path = "../../../dataplane/engine/src/connection/quiescence.rs"]
pub mod quiescence;

/// As in the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the client.
    Inbound,
    /// From the server.
    Outbound,
}
