//! `dpvs.conf`: what DPVS's data plane starts with, in the same grammar. Its timeouts are settings here; its devices, cores
//! and sizes belong to the table `dataplane`, which is not imported, so it is said what to write there.

use super::super::draft::Draft;
use super::super::ipvsadm::dpvs::NO_SYN_PROXY;
use super::statement::Statement;

/// What becomes of a statement, named by the blocks around it.
enum Fate {
    /// A number of seconds for this setting.
    Setting(&'static str),
    /// A switch that is on by being there.
    On(&'static str),
    /// It says what to write instead.
    Said(&'static str),
    /// It means nothing here.
    Silent,
    /// What is in its block counts.
    Block,
}

const DEVICES: &str = "write a [[dataplane.port]] with its PCI address as device; the name of the port is that of its TAP, as kni_name is";
const WORKERS: &str = "write cores = [1, 2] in [dataplane], one worker a core; queues are spread over them by themselves";
const NEIGHBOURS: &str =
    "neighbours are the kernel's, which keeps them as ever: see its settings net.ipv4.neigh";
const POOLS: &str = "local ports are for full NAT, and their pools have no size here";
const CONNECTIONS: &str = "write connections = NUMBER in [dataplane]: all workers share them";
const UNFINISHED: &str = "write timeout_synrecv in [ipvs]: how long a handshake may take";
const ONE_TIMEOUT: &str =
    "UDP has one timeout here, timeout_udp, which is taken from what DPVS calls normal";
const STRAY: &str = "packets of a service that belong to no connection and may open none go to the kernel, as in Linux";
const NO_UOA: &str = "no UOA is written: under nat, tunnel and direct routing servers see the clients' own addresses";

fn fate(path: &str) -> Option<Fate> {
    use Fate::{Block, On, Said, Setting, Silent};
    Some(match path {
        "ipvs_defs" | "ipvs_defs.conn" | "ipvs_defs.udp" | "ipvs_defs.tcp" | "netif_defs" => Block,
        "ipvs_defs.tcp.timeout" | "ipvs_defs.udp.timeout" => Block,
        "ipvs_defs.tcp.timeout.established" => Setting("timeout_established"),
        "ipvs_defs.tcp.timeout.syn_sent" => Setting("timeout_synsent"),
        "ipvs_defs.tcp.timeout.syn_recv" => Setting("timeout_synrecv"),
        "ipvs_defs.tcp.timeout.fin_wait" => Setting("timeout_finwait"),
        "ipvs_defs.tcp.timeout.time_wait" => Setting("timeout_timewait"),
        "ipvs_defs.tcp.timeout.close" => Setting("timeout_close"),
        "ipvs_defs.tcp.timeout.close_wait" => Setting("timeout_closewait"),
        "ipvs_defs.tcp.timeout.last_ack" => Setting("timeout_lastack"),
        "ipvs_defs.tcp.timeout.listen" => Setting("timeout_listen"),
        "ipvs_defs.tcp.timeout.synack" => Setting("timeout_synack"),
        // States that no connection here is in.
        "ipvs_defs.tcp.timeout.none" | "ipvs_defs.tcp.timeout.last" => Silent,
        "ipvs_defs.udp.timeout.normal" => Setting("timeout_udp"),
        "ipvs_defs.udp.timeout.oneway" | "ipvs_defs.udp.timeout.last" => Said(ONE_TIMEOUT),
        "ipvs_defs.conn.expire_quiescent_template" => On("expire_quiescent_template"),
        "ipvs_defs.conn.conn_pool_size" => Said(CONNECTIONS),
        "ipvs_defs.conn.conn_init_timeout" => Said(UNFINISHED),
        "ipvs_defs.conn.conn_pool_cache"
        | "ipvs_defs.conn.fast_xmit_close"
        | "ipvs_defs.conn.redirect" => Silent,
        "ipvs_defs.tcp.defence_tcp_drop" | "ipvs_defs.udp.defence_udp_drop" => Said(STRAY),
        "ipvs_defs.udp.uoa_mode" | "ipvs_defs.udp.uoa_max_trail" => Said(NO_UOA),
        "ipvs_defs.tcp.synproxy" => Said(NO_SYN_PROXY),
        "netif_defs.device" | "netif_defs.bonding" => Said(DEVICES),
        "worker_defs" => Said(WORKERS),
        "neigh_defs" | "neighbor_defs" => Said(NEIGHBOURS),
        "sa_pool" => Said(POOLS),
        // How DPVS itself runs.
        "timer_defs" | "ctrl_defs" | "lldp_defs" | "ipv4_defs" | "ipv6_defs" | "dpdk_defs"
        | "service_defs" => Silent,
        path if path.starts_with("netif_defs.") => Silent,
        _ => return None,
    })
}

/// Whether a block at the top of `dpvs.conf` starts so.
pub fn is_known(keyword: &str) -> bool {
    !keyword.contains('.') && fate(keyword).is_some()
}

/// Reads a block at the top of `dpvs.conf`.
pub fn read(statement: &Statement, draft: &mut Draft) {
    walk("", statement, draft);
}

fn walk(outer: &str, statement: &Statement, draft: &mut Draft) {
    // What DPVS reads at its start only is marked so.
    let (keyword, argument) = match (statement.keyword(), statement.arguments()) {
        ("<init>", [keyword, rest @ ..]) => (keyword.as_str(), rest.first()),
        (keyword, arguments) => (keyword, arguments.first()),
    };
    let path = match outer {
        "" => keyword.to_owned(),
        outer => format!("{outer}.{keyword}"),
    };
    let argument = argument.map_or("", String::as_str);
    let place = &statement.place;
    match fate(&path) {
        Some(Fate::Block) => {
            for inner in statement.inner() {
                walk(&path, inner, draft);
            }
        }
        Some(Fate::Setting(name)) => match argument.parse() {
            Ok(seconds) => draft.set(place, name, seconds),
            Err(_) => {
                let text = format!("{path}: \"{argument}\" is no number of seconds; left out");
                draft.note(place, text);
            }
        },
        Some(Fate::On(name)) => draft.set(place, name, 1),
        Some(Fate::Said(what)) => draft.note(place, format!("{}: {what}", statement.text())),
        Some(Fate::Silent) => {}
        None => draft.note(place, format!("{path}: it is not known here: left out")),
    }
}
