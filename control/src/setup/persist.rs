//! What makes the next boot like this one: a unit that runs `pollux setup` again, before the data plane starts.
//!
//! The unit names the NICs, so that it works before the configuration file is read by anybody, and `--boot`, which
//! writes nothing. Huge pages come first at boot, when memory is in one piece still.

use pollux_api::DataplaneSettings;
use pollux_api::settings::{ExceptionPath, NET_TAP_MTU_MAX};

use super::plan::Request;
use super::record::Record;
use super::step::Step;
use crate::host::Root;
use crate::host::vhost_net::{self, VhostNet};

const UNIT: &str = "/etc/systemd/system/pollux-setup.service";
const WANTED: &str = "/etc/systemd/system/multi-user.target.wants/pollux-setup.service";
const MODULES: &str = "/etc/modules-load.d/pollux.conf";
const OPTIONS: &str = "/etc/modprobe.d/pollux.conf";

/// The steps that are not done yet, noting in the record what they make.
pub fn steps(
    root: &Root,
    addresses: &[&str],
    modules_of_driver: &[&str],
    request: &Request,
    record: &mut Record,
) -> Vec<Step> {
    let mut files = vec![(UNIT, unit(addresses, request.no_iommu))];
    let mut modules = String::from("# Written by `pollux setup`.\n");
    for module in modules_of_driver {
        modules.push_str(&format!("{module}\n"));
    }
    if loads_vhost_net(root, &request.settings) {
        modules.push_str(&format!("{}\n", vhost_net::MODULE));
    }
    files.push((MODULES, modules));
    if request.no_iommu
        && modules_of_driver
            .iter()
            .any(|name| name.starts_with("vfio"))
    {
        files.push((
            OPTIONS,
            String::from(
                "# Written by `pollux setup`.\noptions vfio enable_unsafe_noiommu_mode=1\n",
            ),
        ));
    }
    let mut steps = Vec::new();
    for (file, text) in files {
        record.remember_file(file);
        if root.text(file).as_deref() != Some(text.trim()) {
            let file = file.to_owned();
            steps.push(Step::Write { file, text });
        }
    }
    record.remember_file(WANTED);
    if root.link_name(WANTED).as_deref() != Some("pollux-setup.service") {
        steps.push(Step::Link {
            file: WANTED.to_owned(),
            target: UNIT.to_owned(),
        });
    }
    steps
}

/// Whether TAPs are to be made over the kernel's `vhost-net`, and it can be loaded for that.
pub fn loads_vhost_net(root: &Root, settings: &DataplaneSettings) -> bool {
    match settings.exception_path {
        ExceptionPath::NetTap => false,
        // Needed: that it cannot be had is for the kernel to say.
        ExceptionPath::VhostNet => true,
        ExceptionPath::Auto => {
            let is_jumbo = |mtu: u16| mtu > NET_TAP_MTU_MAX;
            let mut ports = settings.ports.iter();
            ports.any(|port| port.mtu.is_some_and(is_jumbo))
                || vhost_net::state(root) != VhostNet::Missing
        }
    }
}

fn unit(addresses: &[&str], no_iommu: bool) -> String {
    let no_iommu = if no_iommu { " --no-iommu" } else { "" };
    let addresses = addresses.join(" ");
    format!(
        "# Written by `pollux setup`; `pollux setup --undo` takes it away.\n\
         [Unit]\n\
         Description=NICs and huge pages for the Pollux data plane\n\
         Documentation=man:pollux-setup(1)\n\
         DefaultDependencies=no\n\
         After=local-fs.target systemd-modules-load.service\n\
         Before=network-pre.target pollux-dataplane.service\n\
         Wants=network-pre.target\n\
         \n\
         [Service]\n\
         Type=oneshot\n\
         RemainAfterExit=yes\n\
         ExecStart=/usr/bin/pollux setup --boot{no_iommu} {addresses}\n\
         \n\
         [Install]\n\
         WantedBy=multi-user.target\n"
    )
}
