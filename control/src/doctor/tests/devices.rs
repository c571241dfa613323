//! NICs, their drivers and the IOMMU.

use super::*;

#[test]
fn a_nic_that_the_kernel_has() {
    let machine = well()
        .pci("0000:03:00.0", "0x020000", "ixgbe", 0, 7)
        .file("sys/bus/pci/devices/0000:03:00.0/net/eth3/mtu", "1500");
    only(
        &patient(&machine, FILE),
        "Wrong devices: port wan: 0000:03:00.0 is bound to the kernel's driver ixgbe (interface eth3) ->",
        "echo 0000:03:00.0 > /sys/bus/pci/devices/0000:03:00.0/driver/unbind",
    );
    // It may be the one this is typed over.
    let machine = machine.file(
        "ip/address",
        r#"[{"ifname":"wan","flags":["UP"],"addr_info":[{"local":"198.51.100.1"}]},
            {"ifname":"eth3","addr_info":[{"local":"fe80::1"},{"local":"192.0.2.7"}]}]"#,
    );
    only(
        &patient(&machine, FILE),
        "Wrong devices: port wan",
        "it has the address 192.0.2.7, which goes with it",
    );
}

#[test]
fn a_nic_without_a_driver() {
    let machine = well().without("sys/bus/pci/devices/0000:03:00.0/driver");
    only_on(
        machine,
        "Wrong devices: port wan: 0000:03:00.0 is bound to no driver",
        "pollux setup   # this, huge pages, and so at each boot; or by hand:; modprobe vfio-pci; echo vfio-pci > ",
    );
}

#[test]
fn a_nic_that_is_not_there() {
    let file = FILE.replace("0000:03:00.0", "0000:04:00.0");
    only(
        &patient(&well(), &file),
        "Wrong devices: port wan: there is no PCI device 0000:04:00.0",
        "0000:03:00.0 (vfio-pci)",
    );
    let file = FILE.replace("0000:03:00.0", "eth3");
    only(
        &patient(&well(), &file),
        "Wrong devices: port wan: \"eth3\" is neither",
        "net_af_xdp0,iface=eth1",
    );
}

#[test]
fn a_device_that_is_no_nic() {
    let machine = well().file("sys/bus/pci/devices/0000:03:00.0/class", "0x010802");
    only_on(
        machine,
        "Wrong devices: port wan: 0000:03:00.0 is no network controller (class 010802)",
        "lspci -D -d ::0200",
    );
}

#[test]
fn no_nic_is_named_or_bound() {
    let file = "[[service]]\nprotocol = \"tcp\"\naddress = \"198.51.100.1:80\"\n";
    let machine = well().pci("0000:03:00.0", "0x020000", "ixgbe", 0, 7);
    let found = ills(&patient(&machine, file));
    assert!(
        found
            .iter()
            .any(|ill| ill.starts_with("Wrong devices: no NIC is bound")
                && ill.contains("0000:03:00.0 (ixgbe)")),
        "{found:#?}"
    );
    let found = ills(&patient(&well(), file));
    assert!(
        !found.iter().any(|ill| ill.contains("devices")),
        "{found:#?}"
    );
}

#[test]
fn a_neighbour_in_the_iommu_group() {
    let machine = well().pci("0000:03:00.1", "0x020000", "ixgbe", 0, 7);
    only_on(
        machine,
        "Wrong devices: port wan: 0000:03:00.0 shares IOMMU group 7 with 0000:03:00.1, which the kernel's driver ixgbe has",
        "pollux setup 0000:03:00.0 0000:03:00.1",
    );
    let machine = well().pci("0000:03:00.1", "0x020000", "ixgbe", 0, 7);
    only_on(
        machine,
        "Wrong devices: port wan: 0000:03:00.0 shares IOMMU group 7",
        "echo 0000:03:00.1 > /sys/bus/pci/devices/0000:03:00.1/driver/unbind",
    );
}

#[test]
fn no_iommu() {
    let machine = well().without("sys/kernel/iommu_groups");
    only_on(
        machine,
        "Wrong devices: the IOMMU is off: vfio-pci hands out no NIC",
        "intel_iommu=on iommu=pt",
    );
    let machine = well()
        .without("sys/kernel/iommu_groups")
        .file("sys/module/vfio/parameters/enable_unsafe_noiommu_mode", "Y");
    only_on(
        machine,
        "Advice devices: the IOMMU is off, and vfio does without",
        "VT-d",
    );
    let machine = well()
        .pci("0000:03:00.0", "0x020000", "uio_pci_generic", 0, 7)
        .without("sys/kernel/iommu_groups");
    only_on(
        machine,
        "Advice devices: the IOMMU is off, and the NICs' driver does without",
        "VT-d",
    );
    // The appliance has a place for each of the two.
    let machine = appliance()
        .without("sys/kernel/iommu_groups")
        .file("proc/cmdline", "ro intel_iommu=on iommu=pt quiet");
    let found = ills(&patient(&machine, FILE));
    assert_eq!(
        found,
        [
            "Wrong devices: the IOMMU is off: vfio-pci hands out no NIC -> switch VT-d or AMD-Vi on in the firmware; the \
             kernel's command line asks for it already; in a virtual machine that has none: pollux-boot-option \
             pollux.iommu=off && reboot"
        ]
    );
    // One that stays with its kernel driver needs none.
    let machine = well().without("sys/kernel/iommu_groups").pci(
        "0000:03:00.0",
        "0x020000",
        "mlx5_core",
        0,
        7,
    );
    let machine = machine.without("sys/kernel/iommu_groups");
    assert_eq!(ills(&patient(&machine, FILE)), [""; 0]);
}
