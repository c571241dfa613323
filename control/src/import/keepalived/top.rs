//! The blocks at the top of `keepalived.conf`: what each is, and what becomes of it.

use super::super::draft::Draft;
use super::statement::Statement;
use super::{dpvs_conf, group, virtual_server};

/// What becomes of a block or a line.
enum Fate {
    /// It is read.
    Read,
    /// It means nothing to a director.
    Silent,
    /// It is left out: why, and what to do.
    LeftOut(&'static str),
}

const VRRP: &str = "VRRP stays keepalived's: keep it in keepalived.conf, without the virtual servers, and run keepalived as ever; \
                    Pollux takes the packets of an address whichever director has it";
const NETWORK: &str = "addresses, routes and rules are the kernel's: keep it in keepalived.conf, or use `ip`, on the TAPs";
const TRACKING: &str = "it is VRRP's: keep it in keepalived.conf, without the virtual servers";
const BFD: &str = "Pollux does not speak BFD: BIRD and FRR do, on the TAPs";
const SSL: &str =
    "write ca_file in the checks of kind \"https\"; certificates of the client are not shown";
const LOCAL_ADDRESSES: &str =
    "local addresses are for full NAT, which Pollux does not have yet; left out";
const LISTS: &str =
    "Pollux has no lists of clients yet: filter before the director, or on the servers";
const TUNNELS: &str = "the director needs no tunnel devices: a server's method says tunnel, and what wraps its packets";
const MAIL: &str = "polluxd writes no mail: watch its log, or `pollux show health --json`";
const NAMESPACE: &str =
    "start both daemons in that network namespace: `ip netns exec NAME pollux-dataplane`";
const SYNC: &str = "keepalived starts and stops these daemons itself, by VRRP: `pollux ipvs -- keepalived` does so here, \
                    too; one that is always to run is a table [[sync]]";
const FIFO: &str = "polluxd writes no FIFO: watch its log, or `pollux show health --json`";

fn fate(keyword: &str) -> Fate {
    use Fate::{LeftOut, Read, Silent};
    match keyword {
        "virtual_server" | "virtual_server_group" | "global_defs" => Read,
        "SSL" => LeftOut(SSL),
        "bfd_instance" => LeftOut(BFD),
        "vrrp_instance"
        | "vrrp_sync_group"
        | "vrrp_script"
        | "vrrp_track_process"
        | "vrrp_track_file"
        | "garp_group"
        | "linkbeat_interfaces"
        | "interface_up_down_delays" => LeftOut(VRRP),
        "static_track_group" | "track_group" | "track_file" | "track_process" => LeftOut(TRACKING),
        "static_ipaddress" | "static_routes" | "static_rules" | "static_address" => {
            LeftOut(NETWORK)
        }
        "net_namespace" | "net_namespace_ipvs" | "namespace_with_ipsets" => LeftOut(NAMESPACE),
        "local_address_group" => LeftOut(LOCAL_ADDRESSES),
        "deny_address_group" | "allow_address_group" => LeftOut(LISTS),
        "tunnel_group" => LeftOut(TUNNELS),
        "instance" | "use_pid_dir" | "linkbeat_use_polling" | "child_wait_time" => Silent,
        _ => LeftOut("it is not known here"),
    }
}

/// What becomes of a line of `global_defs`; those of VRRP and of keepalived's own processes mean nothing to a director.
fn global_fate(keyword: &str) -> Fate {
    use Fate::{LeftOut, Silent};
    match keyword {
        "notification_email" | "smtp_alert" | "smtp_alert_checker" => LeftOut(MAIL),
        "lvs_sync_daemon" => LeftOut(SYNC),
        "lvs_notify_fifo" | "lvs_notify_fifo_script" | "notify_fifo" | "notify_fifo_script" => {
            LeftOut(FIFO)
        }
        "startup_script" | "shutdown_script" => LeftOut(
            "polluxd starts no scripts: write ExecStartPre= or ExecStopPost= in a drop-in of its unit",
        ),
        "nftables_ipvs" => LeftOut("every service is its own here: nothing to write"),
        _ => Silent,
    }
}

/// Whether a block of `keepalived.conf`, or of `dpvs.conf`, starts so.
pub fn is_known(keyword: &str) -> bool {
    dpvs_conf::is_known(keyword) || !matches!(fate(keyword), Fate::LeftOut("it is not known here"))
}

/// Reads all blocks.
pub fn read(statements: &[Statement], draft: &mut Draft) {
    let groups = group::read(statements, draft);
    // In dpvs.conf there are none.
    let mut has_services = false;
    for statement in statements {
        if dpvs_conf::is_known(statement.keyword()) {
            has_services = true;
            dpvs_conf::read(statement, draft);
            continue;
        }
        match (fate(statement.keyword()), statement.keyword()) {
            (Fate::Read, "virtual_server") => {
                has_services = true;
                virtual_server::read(statement, &groups, draft);
            }
            (Fate::Read, "global_defs") => global_defs(statement, draft),
            (Fate::Read | Fate::Silent, _) => {}
            (Fate::LeftOut(why), _) => {
                draft.note(
                    &statement.place,
                    format!("{}: left out: {why}", statement.text()),
                );
            }
        }
    }
    if let Some(first) = statements.first().filter(|_| !has_services) {
        let text =
            "no virtual_server is in this file: there is nothing of it that a director needs";
        draft.note(&first.place, text);
    }
}

fn global_defs(statement: &Statement, draft: &mut Draft) {
    for inner in statement.inner() {
        if inner.keyword() == "lvs_timeouts" {
            lvs_timeouts(inner, draft);
        } else if let Fate::LeftOut(why) = global_fate(inner.keyword()) {
            draft.note(
                &inner.place,
                format!("{}: left out: {why}", inner.keyword()),
            );
        }
    }
}

fn lvs_timeouts(statement: &Statement, draft: &mut Draft) {
    for pair in statement.arguments().chunks(2) {
        let [word, seconds] = pair else {
            let text = format!("\"{}\": a number is missing; left out", statement.text());
            return draft.note(&statement.place, text);
        };
        let name = match word.as_str() {
            "tcp" => "timeout_established",
            "tcpfin" => "timeout_finwait",
            "udp" => "timeout_udp",
            _ => {
                draft.note(
                    &statement.place,
                    format!("lvs_timeouts: \"{word}\" is not known here: left out"),
                );
                continue;
            }
        };
        match seconds.parse() {
            Ok(seconds) => draft.set(&statement.place, name, seconds),
            Err(_) => {
                let text = format!("lvs_timeouts: \"{seconds}\" is no number of seconds: left out");
                draft.note(&statement.place, text);
            }
        }
    }
}
