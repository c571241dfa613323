//! The appliance's disk image (`scripts/build-image`): its set-up at boot is a unit of its own, and NICs, huge pages and the
//! IOMMU are said in its configuration file and on its kernel's command line instead of by `pollux setup`.

use super::Root;

const UNIT: &str = "etc/systemd/system/multi-user.target.wants/pollux-appliance.service";

/// What sets it up again, as at boot.
pub const SET_UP: &str = "systemctl restart pollux-appliance";

/// What writes an option into the kernel's command line, for every boot from the next one on.
pub const BOOT_OPTION: &str = "pollux-boot-option";

/// The option for a machine that has no IOMMU.
pub const WITHOUT_IOMMU: &str = "pollux.iommu=off";

/// Whether this machine is one.
pub fn is(root: &Root) -> bool {
    root.has(UNIT)
}
