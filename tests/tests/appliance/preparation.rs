//! `pollux setup` on a kernel that has NICs, and what the data plane says of a machine that is not ready.

use pollux_tests::lab::machine::{E1000E, Machine, VIRTIO};
use pollux_tests::lab::text_of;

/// NICs and huge pages are had ready, a NIC in use is not taken by mistake, and all comes back.
#[test]
#[ignore = "part of scripts/test --appliance"]
fn setup_binds_refuses_and_gives_back() {
    let machine = Machine::boot();
    let driver = |address: &str| {
        let link = format!("readlink /sys/bus/pci/devices/{address}/driver || echo none");
        let text = machine.run(&link);
        text.trim()
            .rsplit('/')
            .next()
            .unwrap_or_default()
            .to_owned()
    };
    // They were bound at boot, by `pollux setup` as well.
    let nic = VIRTIO.client;
    assert_eq!(driver(nic), "vfio-pci");
    let text = machine.run(&format!("pollux setup --dry-run {nic}"));
    assert!(
        text.contains(&format!("# {nic} is bound to vfio-pci already")),
        "{text}"
    );

    give_to_the_kernel(&machine, nic);
    assert_eq!(driver(nic), "virtio-pci");
    machine.run("ip link set nic up; ip addr add 192.0.2.77/24 dev nic");
    // The data plane takes nothing from the kernel, and the doctor knows what to type.
    let start = format!("start-pollux {nic} {}", VIRTIO.server);
    for (line, words) in [
        (
            start.as_str(),
            "is bound to virtio-pci, not to a DPDK driver: bind it with `pollux setup",
        ),
        (
            "pollux doctor /etc/pollux/pollux.toml",
            "is bound to the kernel's driver virtio-pci (interface nic); it has the address 192.0.2.77",
        ),
    ] {
        let output = machine.try_run(line);
        let text = text_of(&output);
        assert!(!output.status.success(), "{line}: {text}");
        assert!(
            text.contains(&format!("port client0: {nic} {words}")),
            "{line}: {text}"
        );
        assert!(text.contains("pollux setup"), "{line}: {text}");
    }
    let refused = |force: &str, words: &str| {
        let output = machine.try_run(&format!("pollux setup {force} {nic}"));
        let text = text_of(&output);
        assert!(!output.status.success() && text.contains(words), "{text}");
        assert_eq!(driver(nic), "virtio-pci");
    };
    refused("", "is nic, which is up with 192.0.2.77");
    machine.run("ip route add default via 192.0.2.254 dev nic");
    refused("--force", "which carries the default route");
    refused("", "which carries the default route");

    machine.run(&format!("pollux setup --force --force {nic}"));
    assert_eq!(driver(nic), "vfio-pci");
    let unit = machine.run("cat /etc/systemd/system/pollux-setup.service");
    assert!(
        unit.contains(&format!("pollux setup --boot {nic}")),
        "{unit}"
    );
    let again = machine.run(&format!("pollux setup {nic}"));
    assert!(again.contains("# nothing to do"), "{again}");

    machine.run("pollux setup --undo");
    assert_eq!(driver(nic), "virtio-pci");
    machine.run("test ! -e /etc/systemd/system/pollux-setup.service");
    machine.run(&format!("pollux setup --boot {nic}"));
    machine.start_pollux(VIRTIO);
}

/// Takes it from `vfio-pci`; its interface is called `nic`.
fn give_to_the_kernel(machine: &Machine, nic: &str) {
    machine.run(&format!(
        "modprobe virtio_net && modprobe virtio_pci && echo {nic} > /sys/bus/pci/drivers/vfio-pci/unbind && \
         echo > /sys/bus/pci/devices/{nic}/driver_override && echo {nic} > /sys/bus/pci/drivers_probe && \
         ip link set $(ls /sys/bus/pci/devices/{nic}/virtio*/net) name nic"
    ));
}

/// What is wrong is said with what to type.
#[test]
#[ignore = "part of scripts/test --appliance"]
fn a_machine_that_is_not_ready_is_told_why() {
    let machine = Machine::boot();
    let refuses = |line: &str, words: &str| {
        let output = machine.try_run(line);
        let text = text_of(&output);
        assert!(!output.status.success(), "{line} started: {text}");
        assert!(text.contains(words), "{line}: {text}");
    };
    let (client, server) = (E1000E.client, E1000E.server);
    refuses(
        "start-pollux 0000:00:1g.0 0000:00:11.0",
        "port client0: \"0000:00:1g.0\" is neither a PCI address nor a DPDK virtual device",
    );
    refuses(
        "start-pollux 0000:00:1e.0 0000:00:11.0",
        "there is no PCI device 0000:00:1e.0",
    );
    refuses(
        &format!("start-pollux {client} {server} 'memory_mib = 4000'"),
        "4000 MB of huge pages needed",
    );
    refuses(
        &format!("CLIENT=server0 start-pollux {client} {server}"),
        "name \"server0\" is already used in line 7: every port needs its own",
    );
    refuses(
        &format!("start-pollux {client} {client}"),
        "device \"0000:00:10.0\" is already used in line 8: every port needs its own",
    );
    refuses(
        &format!("MTU=9000 start-pollux {client} {server} 'exception_path = \"net_tap\"'"),
        "net_tap carries no frames of an MTU above 1500, as port \"client0\" has",
    );
    machine.run("mv /dev/vhost-net /dev/no-vhost-net");
    refuses(
        &format!("MTU=9000 start-pollux {client} {server}"),
        "port client0: a TAP with an MTU of 9000 needs /dev/vhost-net, which is not there: `modprobe vhost_net` makes it",
    );
    machine.run("mv /dev/no-vhost-net /dev/vhost-net");
    machine.run(&format!(
        "echo {client} > /sys/bus/pci/drivers/vfio-pci/unbind"
    ));
    refuses(
        &format!("start-pollux {client} {server}"),
        "0000:00:10.0 is bound to no driver, not to a DPDK driver",
    );
    machine.run(&format!("pollux setup --boot {client}"));
    machine.start_pollux(E1000E);
    let log = machine.logs();
    assert!(log.contains("the driver has no RSS to set up"), "{log}");
}

/// `setup`, the doctor and the data plane say that it is off. Debian's kernel for clouds, which the machine boots, cannot
/// do without.
#[test]
#[ignore = "part of scripts/test --appliance"]
fn a_machine_without_an_iommu_is_told_so() {
    let machine = Machine::boot_without_iommu();
    let nics = format!("{} {}", E1000E.client, E1000E.server);
    let refuses = |line: &str, words: &str| {
        let output = machine.try_run(line);
        let text = text_of(&output);
        assert!(!output.status.success(), "{line}: {text}");
        assert!(text.contains(words), "{line}: {text}");
    };
    refuses(
        &format!("pollux setup {nics}"),
        "`pollux setup --no-iommu`, which lets a NIC write to all memory",
    );
    refuses(
        &format!("start-pollux {nics}"),
        "port client0: 0000:00:10.0 is bound to no driver, and the IOMMU of this machine is off",
    );
    refuses(
        "pollux doctor /etc/pollux/pollux.toml",
        "the IOMMU is off: vfio-pci hands out no NIC",
    );
    refuses(
        &format!("pollux setup --no-iommu {nics}"),
        "this kernel cannot do without an IOMMU",
    );
}
