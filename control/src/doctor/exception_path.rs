//! What makes the ports' TAPs, over which the kernel gets its frames.

use pollux_api::settings::{ExceptionPath, NET_TAP_MTU_MAX};

use super::{Finding, Patient};
use crate::host::vhost_net::{self, VhostNet};

const ABOUT: &str = "exception path";
const LOAD: &str = "modprobe vhost_net   # `pollux setup` does so at every boot";
const RESTART: &str = "systemctl restart pollux-dataplane";

/// Looks.
pub fn examine(patient: &Patient) -> Vec<Finding> {
    let settings = &patient.settings;
    let is_jumbo = |mtu: u16| mtu > NET_TAP_MTU_MAX;
    let jumbo = settings
        .ports
        .iter()
        .find(|port| port.mtu.is_some_and(is_jumbo));
    let finding = match (settings.exception_path, vhost_net::state(&patient.root)) {
        (ExceptionPath::NetTap, _) => Finding::fine(
            ABOUT,
            "TAPs are made by net_tap, as [dataplane] says: exception_path = \"net_tap\"",
        ),
        (_, VhostNet::Ready) => return vec![as_it_runs(patient)],
        (wanted, state) => {
            let needed = match jumbo {
                Some(port) => Some(format!("the MTU of port {}", port.name)),
                None => (wanted == ExceptionPath::VhostNet)
                    .then(|| "exception_path = \"vhost-net\"".to_owned()),
            };
            match (needed, state) {
                (Some(why), VhostNet::Loadable) => {
                    let text = format!("{why} needs vhost-net, which is not loaded: the data plane does not start");
                    Finding::wrong(ABOUT, text).mend(LOAD)
                }
                (Some(why), _) => {
                    let text = format!("{why} needs vhost-net, which this kernel does not have: the data plane does not start");
                    Finding::wrong(ABOUT, text).mend(format!(
                        "boot a kernel with CONFIG_VHOST_NET, or leave exception_path and every mtu above {NET_TAP_MTU_MAX} out"
                    ))
                }
                (None, VhostNet::Loadable) => Finding::advice(
                    ABOUT,
                    "TAPs are made by net_tap, which costs a worker a system call for each frame: vhost-net is not loaded",
                )
                .mend(LOAD)
                .mend(RESTART),
                (None, _) => Finding::fine(
                    ABOUT,
                    "TAPs are made by net_tap: this kernel has no vhost-net",
                ),
            }
        }
    };
    vec![finding]
}

fn as_it_runs(patient: &Patient) -> Finding {
    let mut ports = patient.daemons.ports.iter();
    match ports.find(|port| port.exception_path == "net_tap") {
        Some(port) => {
            let text = format!(
                "the TAP of port {} was made by net_tap, which costs a worker a system call for each frame: vhost-net was not \
                 there, or refused, at the start",
                port.name
            );
            Finding::advice(ABOUT, text)
                .mend(RESTART)
                .mend("journalctl -u pollux-dataplane   # where it is so again")
        }
        None => Finding::fine(ABOUT, "TAPs are made by vhost-net"),
    }
}
