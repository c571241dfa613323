//! The daemons of connection synchronisation, as far as they run.

use std::fmt;

use pollux_api::synchronisation::{BackupStatus, MasterStatus, SyncStatus};

use super::families::{Families, bytes, plain};

/// Counters of both.
pub fn daemons(families: &mut Families<'_>, status: &SyncStatus) -> fmt::Result {
    if let Some(status) = &status.master {
        master(families, status)?;
    }
    match &status.backup {
        Some(status) => backup(families, status),
        None => Ok(()),
    }
}

fn master(families: &mut Families<'_>, status: &MasterStatus) -> fmt::Result {
    families.gauge(
        "pollux_sync_master_open",
        "Whether the sync master has its sockets",
        status.is_open.into(),
    )?;
    families.counter(
        bytes("pollux_sync_master_sent", "Bytes of messages sent"),
        status.bytes,
    )?;
    for (name, help, value) in [
        (
            "pollux_sync_master_datagrams",
            "Messages sent",
            status.datagrams,
        ),
        (
            "pollux_sync_master_connections",
            "Connections told of",
            status.connections,
        ),
        (
            "pollux_sync_master_dropped_connections",
            "Connections not told of because too many waited",
            status.dropped,
        ),
        (
            "pollux_sync_master_send_errors",
            "Messages that the kernel refused",
            status.send_errors,
        ),
    ] {
        families.counter(plain(name, help), value)?;
    }
    Ok(())
}

fn backup(families: &mut Families<'_>, status: &BackupStatus) -> fmt::Result {
    families.gauge(
        "pollux_sync_backup_open",
        "Whether the sync backup has its sockets",
        status.is_open.into(),
    )?;
    families.counter(
        plain("pollux_sync_backup_datagrams", "Messages received"),
        status.datagrams,
    )?;
    let outcomes = [
        ("made", status.made),
        ("changed", status.changed),
        ("passed_over", status.passed_over),
        ("no_room", status.no_room),
        ("unusable", status.unusable),
        ("refused", status.refused),
        ("dropped", status.dropped),
    ];
    families.counters(
        plain(
            "pollux_sync_backup_connections",
            "Connections of other directors by what became of them",
        ),
        outcomes.map(|(outcome, count)| ([("outcome", outcome)], count)),
    )?;
    families.counters(
        plain(
            "pollux_sync_backup_ignored_datagrams",
            "Messages of another id, and broken ones",
        ),
        [("other_id", status.other_ids), ("broken", status.broken)]
            .map(|(why, count)| ([("why", why)], count)),
    )
}
