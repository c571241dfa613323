//! The kernel's `vhost-net`, over which TAPs are faster and carry jumbo frames.

use super::Root;

/// Its module.
pub const MODULE: &str = "vhost_net";

/// What of it there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VhostNet {
    /// `/dev/vhost-net` is there; opening it loads the module, where it is not.
    Ready,
    /// The kernel's module can be loaded.
    Loadable,
    /// This kernel comes without.
    Missing,
}

/// Looks.
pub fn state(root: &Root) -> VhostNet {
    if root.has("dev/vhost-net") {
        return VhostNet::Ready;
    }
    let release = root.text("proc/sys/kernel/osrelease").unwrap_or_default();
    let modules = root.text(&format!("lib/modules/{release}/modules.dep"));
    // Each module's line begins with its file: `kernel/drivers/vhost/vhost_net.ko.xz: ...`.
    let is_there = modules.is_some_and(|modules| {
        let files = modules.lines().filter_map(|line| line.split(':').next());
        files
            .filter_map(|file| file.rsplit('/').next())
            .any(|file| file.split('.').next() == Some(MODULE))
    });
    if is_there {
        VhostNet::Loadable
    } else {
        VhostNet::Missing
    }
}

#[cfg(test)]
mod tests {
    use super::super::made_up::MadeUp;
    use super::*;

    #[test]
    fn it_is_there_or_can_be_loaded_or_not() {
        let machine = MadeUp::new().file("proc/sys/kernel/osrelease", "6.1.0-9\n");
        assert_eq!(state(&machine.root()), VhostNet::Missing);
        let dependencies = "lib/modules/6.1.0-9/modules.dep";
        let machine = machine.file(
            dependencies,
            "kernel/drivers/vhost/vhost_vsock.ko: x/vhost_net.ko\n",
        );
        assert_eq!(state(&machine.root()), VhostNet::Missing);
        let machine = machine.file(
            dependencies,
            "a/b.ko:\nkernel/drivers/vhost/vhost_net.ko.xz: kernel/drivers/vhost/vhost.ko.xz\n",
        );
        assert_eq!(state(&machine.root()), VhostNet::Loadable);
        let machine = machine.file("dev/vhost-net", "");
        assert_eq!(state(&machine.root()), VhostNet::Ready);
    }
}
