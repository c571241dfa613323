//! The appliance's disk image (`scripts/build-image`): its set-up at boot is a unit of its own, and NICs, huge pages and the
//! IOMMU are said in its configuration file and on its kernel's command line instead of by `pollux setup`.

use super::Root;

const UNIT: &str = "etc/systemd/system/multi-user.target.wants/pollux-appliance.service";

/// What sets it up again, as at boot.
pub const SET_UP: &str = "systemctl restart pollux-appliance";

/// Whether this machine is one.
pub fn is(root: &Root) -> bool {
    root.has(UNIT)
}

/// What makes a machine that has no IOMMU do without, at each boot.
pub fn without_iommu(root: &Root) -> &'static str {
    if is(root) {
        "pollux-boot-option pollux.iommu=off && reboot"
    } else {
        "pollux setup --no-iommu"
    }
}
