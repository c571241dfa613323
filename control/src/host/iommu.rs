//! The IOMMU, which keeps a NIC from writing where it must not.

use super::Root;

/// The parameter of `vfio` that lets it do without.
pub const UNSAFE_MODE: &str = "/sys/module/vfio/parameters/enable_unsafe_noiommu_mode";

/// What of it there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Iommu {
    /// It is on.
    On,
    /// Off, and `vfio` was told to do without.
    OffAllowed,
    /// Off; `vfio` refuses.
    Off,
}

/// Looks.
pub fn state(root: &Root) -> Iommu {
    if !root.names("sys/kernel/iommu_groups").is_empty() {
        return Iommu::On;
    }
    match root.text(UNSAFE_MODE).as_deref() {
        Some("Y" | "1") => Iommu::OffAllowed,
        _ => Iommu::Off,
    }
}

/// Whether `vfio` can be told to do without, as far as can be seen: Debian 12's cannot. Unless the kernel says how it was
/// built, trying is the only way to know.
pub fn vfio_can_do_without(root: &Root) -> bool {
    let release = root.text("proc/sys/kernel/osrelease").unwrap_or_default();
    let built = root.text(&format!("boot/config-{release}"));
    let has = |text: String| text.lines().any(|line| line == "CONFIG_VFIO_NOIOMMU=y");
    root.has(UNSAFE_MODE) || built.is_none_or(has)
}

/// The PCI devices of a group: a process gets all of it or nothing.
pub fn members(root: &Root, group: u32) -> Vec<String> {
    root.names(&format!("sys/kernel/iommu_groups/{group}/devices"))
}

#[cfg(test)]
mod tests {
    use super::super::made_up::MadeUp;
    use super::*;

    #[test]
    fn it_is_on_when_there_are_groups() {
        let machine = MadeUp::new().pci("0000:01:00.0", "0x020000", "e1000e", 0, 7);
        assert_eq!(state(&machine.root()), Iommu::On);
        assert_eq!(members(&machine.root(), 7), ["0000:01:00.0"]);
        let machine = machine.without("sys/kernel/iommu_groups");
        assert_eq!(state(&machine.root()), Iommu::Off);
        let machine = machine.file(UNSAFE_MODE.trim_start_matches('/'), "Y\n");
        assert_eq!(state(&machine.root()), Iommu::OffAllowed);
    }

    #[test]
    fn the_kernel_says_whether_vfio_can_do_without() {
        assert!(vfio_can_do_without(&MadeUp::new().root()));
        let built = |line: &str| {
            MadeUp::new()
                .file("proc/sys/kernel/osrelease", "6.1.0-56-amd64\n")
                .file("boot/config-6.1.0-56-amd64", line)
        };
        let without = built("CONFIG_VFIO=m\n# CONFIG_VFIO_NOIOMMU is not set\n");
        assert!(!vfio_can_do_without(&without.root()));
        assert!(vfio_can_do_without(
            &built("CONFIG_VFIO_NOIOMMU=y\n").root()
        ));
    }
}
