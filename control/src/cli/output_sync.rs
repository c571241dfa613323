//! `show sync`: the daemons of connection synchronisation, and what they have done.

use pollux_api::SyncDaemon;
use pollux_api::synchronisation::{BackupStatus, MasterStatus, SyncStatus};

use super::numbers::shown;
use super::table::{Align, Table};

/// A block for each daemon that runs.
pub fn sync(status: &SyncStatus, exact: bool) -> String {
    let blocks = [
        status.master.as_ref().map(|found| master(found, exact)),
        status.backup.as_ref().map(|found| backup(found, exact)),
    ];
    let blocks: Vec<String> = blocks
        .into_iter()
        .flatten()
        .map(|block| block.to_string())
        .collect();
    if blocks.is_empty() {
        return "No sync daemon runs.\n".to_owned();
    }
    blocks.join("\n")
}

fn title(name: &str, daemon: &SyncDaemon, (bytes, ports, is_open): (u16, u8, bool)) -> String {
    let SyncDaemon {
        interface,
        id,
        group,
        port,
        ttl,
        ..
    } = daemon;
    let ports = if ports > 1 {
        format!(
            "ports {port} to {}",
            port.wrapping_add(u16::from(ports) - 1)
        )
    } else {
        format!("port {port}")
    };
    let state = if is_open {
        ""
    } else {
        "\n  not on its interface yet: it tries again each second"
    };
    format!(
        "Sync {name} on {interface}: id {id}, group {group}, {ports}, ttl {ttl}, datagrams of {bytes} bytes at most{state}"
    )
}

fn table(title: String, lines: &[(u64, &str)], exact: bool) -> Table {
    let mut table = Table::new(&[(Align::Right, 13), (Align::Left, 0)]);
    table.text(title);
    for (number, what) in lines {
        table.cells([shown(*number, exact), (*what).to_owned()]);
    }
    table
}

fn master(status: &MasterStatus, exact: bool) -> Table {
    let MasterStatus {
        daemon,
        datagram_bytes_max,
        ports,
        is_open,
        datagrams,
        bytes,
        connections,
        dropped,
        send_errors,
    } = status;
    table(
        title("master", daemon, (*datagram_bytes_max, *ports, *is_open)),
        &[
            (*datagrams, "datagrams sent"),
            (*bytes, "bytes in them"),
            (*connections, "connections in them"),
            (*dropped, "connections not told of: too many waited"),
            (*send_errors, "datagrams that the kernel refused"),
        ],
        exact,
    )
}

fn backup(status: &BackupStatus, exact: bool) -> Table {
    let BackupStatus {
        daemon,
        datagram_bytes_max,
        ports,
        is_open,
        datagrams,
        other_ids,
        broken,
        refused,
        dropped,
        made,
        changed,
        passed_over,
        no_room,
        unusable,
    } = status;
    table(
        title("backup", daemon, (*datagram_bytes_max, *ports, *is_open)),
        &[
            (*datagrams, "datagrams received"),
            (*other_ids, "of them with another id"),
            (*broken, "of them broken"),
            (
                *refused,
                "entries refused: unknown states, protocols, flags, options",
            ),
            (*made, "connections that were new here"),
            (*changed, "connections that were here already"),
            (
                *passed_over,
                "ends of connections that others have replaced here",
            ),
            (*no_room, "connections without room in the table"),
            (*unusable, "connections of no use here"),
            (
                *dropped,
                "connections dropped: workers had too many to take over",
            ),
        ],
        exact,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_daemon_that_runs_is_told() {
        assert_eq!(
            sync(&SyncStatus::default(), false),
            "No sync daemon runs.\n"
        );
        let status = SyncStatus {
            master: Some(MasterStatus {
                daemon: SyncDaemon::new("wan", 7),
                datagram_bytes_max: 1472,
                ports: 2,
                is_open: false,
                datagrams: 3,
                bytes: 400,
                connections: 10,
                dropped: 0,
                send_errors: 1,
            }),
            backup: None,
        };
        let text = sync(&status, true);
        for part in [
            "Sync master on wan: id 7, group 224.0.0.81, ports 8848 to 8849, ttl 1, datagrams of 1472 bytes at most",
            "tries again each second",
            "            3 datagrams sent",
        ] {
            assert!(text.contains(part), "{text}");
        }
    }
}
