//! Machines that were made up, and what has to be done to them.

use std::fs;

use pollux_api::settings::{ExceptionPath, PortSettings};

use super::super::undo::undo;
use super::super::{Refusal, Step, StepError};
use super::*;
use crate::host::made_up::MadeUp;

const FIRST: &str = "0000:01:00.0";
const SECOND: &str = "0000:01:00.1";

/// Two NICs on node 0, which the kernel has and does not use; IOMMU on, no huge page, vfio-pci loaded.
fn machine() -> MadeUp {
    MadeUp::new()
        .pci(FIRST, "0x020000", "e1000e", 0, 7)
        .pci(SECOND, "0x020000", "e1000e", 0, 8)
        .huge_pages(0, 0)
        .cpus(0, 0..3)
        .file(
            "sys/devices/system/node/node0/meminfo",
            "Node 0 MemTotal:   8000000 kB\n",
        )
        .file("sys/bus/pci/drivers/vfio-pci/bind", "")
        .file("sys/devices/system/cpu/isolated", "1-2\n")
}

fn request(nics: &[&str]) -> Request {
    Request {
        nics: nics.iter().map(ToString::to_string).collect(),
        ..Request::default()
    }
}

fn lines(plan: &Plan) -> Vec<String> {
    plan.steps.iter().map(Step::to_string).collect()
}

fn refused(machine: &MadeUp, request: &Request) -> String {
    let refusals = plan(&machine.root(), request).unwrap_err();
    let texts: Vec<String> = refusals.iter().map(Refusal::to_string).collect();
    texts.join("\n")
}

#[test]
fn a_machine_is_set_up_step_by_step() {
    let machine = machine();
    let request = Request {
        only_now: true,
        ..request(&["01:00.0"])
    };
    let plan = plan(&machine.root(), &request).unwrap();
    let needed = u64::from(memory::frames_mib(1, 2, 1500)) + memory::table_mib(1_000_000);
    let pages = needed.div_ceil(2);
    let file = "/sys/devices/system/node/node0/hugepages/hugepages-2048kB/nr_hugepages";
    assert_eq!(
        lines(&plan),
        [
            format!("echo vfio-pci > /sys/bus/pci/devices/{FIRST}/driver_override"),
            format!("echo {FIRST} > /sys/bus/pci/devices/{FIRST}/driver/unbind"),
            format!("echo {FIRST} > /sys/bus/pci/drivers_probe"),
            format!("# {FIRST} must be bound to vfio-pci now"),
            format!("echo {pages} > {file}"),
            format!("# {file} must say {pages} or more now"),
        ]
    );
    assert!(plan.notes.is_empty(), "{:?}", plan.notes);
}

#[test]
fn vfio_is_loaded_where_it_is_not() {
    let machine = machine().without("sys/bus/pci/drivers/vfio-pci");
    let plan = plan(&machine.root(), &request(&[FIRST])).unwrap();
    let loads: Vec<String> = lines(&plan)
        .into_iter()
        .filter(|line| line.starts_with("modprobe"))
        .collect();
    assert_eq!(loads, ["modprobe vfio_iommu_type1", "modprobe vfio-pci"]);
}

/// For the TAPs: where the kernel has it, or cannot do without.
#[test]
fn vhost_net_is_loaded_now_and_at_boot() {
    let loads = |machine: &MadeUp, exception_path: ExceptionPath, mtu: Option<u16>| {
        let mut request = request(&[FIRST]);
        request.settings.exception_path = exception_path;
        request.settings.ports = vec![PortSettings {
            name: "wan".to_owned(),
            device: FIRST.to_owned(),
            mtu,
            side: None,
        }];
        let lines = lines(&plan(&machine.root(), &request).unwrap()).join("\n");
        let modules = persist::loads_vhost_net(&machine.root(), &request.settings);
        (lines.contains("modprobe vhost_net"), modules)
    };
    let without = machine().file("proc/sys/kernel/osrelease", "6.1");
    assert_eq!(loads(&without, ExceptionPath::Auto, None), (false, false));
    assert_eq!(
        loads(&without, ExceptionPath::Auto, Some(9000)),
        (true, true)
    );
    assert_eq!(loads(&without, ExceptionPath::VhostNet, None), (true, true));
    let with = without.file(
        "lib/modules/6.1/modules.dep",
        "x/vhost_net.ko: x/vhost.ko\n",
    );
    assert_eq!(loads(&with, ExceptionPath::Auto, None), (true, true));
    assert_eq!(loads(&with, ExceptionPath::NetTap, None), (false, false));
    let ready = with.file("dev/vhost-net", "");
    assert_eq!(loads(&ready, ExceptionPath::Auto, None), (false, true));
}

#[test]
fn the_next_boot_does_the_same() {
    let machine = machine();
    let root = machine.root();
    let plan = plan(&root, &request(&[FIRST, SECOND])).unwrap();
    for step in &plan.steps {
        if matches!(step, Step::Write { .. } | Step::Link { .. }) {
            step.perform(&root).unwrap();
        }
    }
    let read = |file: &str| fs::read_to_string(machine.path().join(file)).unwrap();
    let unit = read("etc/systemd/system/pollux-setup.service");
    let command = format!("ExecStart=/usr/bin/pollux setup --boot {FIRST} {SECOND}\n");
    assert!(unit.contains(&command), "{unit}");
    assert!(
        unit.contains("Before=network-pre.target pollux-dataplane.service"),
        "{unit}"
    );
    assert!(read("etc/modules-load.d/pollux.conf").contains("vfio-pci"));
    let wanted = "etc/systemd/system/multi-user.target.wants/pollux-setup.service";
    assert_eq!(root.link_name(wanted).unwrap(), "pollux-setup.service");
    assert_eq!(Record::read(&root).unwrap(), plan.record);
}

/// What was done is not done again; what it was before is still known, and comes back.
#[test]
fn done_again_it_does_nothing_and_undone_all_is_as_it_was() {
    let machine = machine();
    let root = machine.root();
    let first = plan(&root, &request(&[FIRST])).unwrap();
    for step in first
        .steps
        .iter()
        .filter(|step| matches!(step, Step::Write { .. } | Step::Link { .. }))
    {
        step.perform(&root).unwrap();
    }
    let pages = first.steps.iter().find_map(|step| match step {
        Step::ExpectPages { pages, .. } => Some(*pages),
        _ => None,
    });
    let machine = machine
        .link(
            &format!("sys/bus/pci/devices/{FIRST}/driver"),
            "../../drivers/vfio-pci",
        )
        .huge_pages(pages.unwrap(), pages.unwrap());
    let second = plan(&root, &request(&[FIRST])).unwrap();
    assert_eq!(second.steps, []);
    assert_eq!(
        second.notes[0],
        format!("{FIRST} is bound to vfio-pci already")
    );

    let undone = undo(&root).unwrap();
    let file = "/sys/devices/system/node/node0/hugepages/hugepages-2048kB/nr_hugepages";
    assert_eq!(
        lines(&undone),
        [
            format!("echo e1000e > /sys/bus/pci/devices/{FIRST}/driver_override"),
            format!("echo {FIRST} > /sys/bus/pci/devices/{FIRST}/driver/unbind"),
            format!("echo {FIRST} > /sys/bus/pci/drivers_probe"),
            format!("# {FIRST} must be bound to e1000e now"),
            format!("echo > /sys/bus/pci/devices/{FIRST}/driver_override"),
            format!("echo 0 > {file}"),
            String::from("rm -f /etc/systemd/system/pollux-setup.service"),
            String::from("rm -f /etc/modules-load.d/pollux.conf"),
            String::from("rm -f /etc/systemd/system/multi-user.target.wants/pollux-setup.service"),
            String::from("rm -f /var/lib/pollux/setup.json"),
        ]
    );
    for step in undone
        .steps
        .iter()
        .filter(|step| matches!(step, Step::Remove(_)))
    {
        step.perform(&root).unwrap();
    }
    let error = undo(&machine.root()).unwrap_err().to_string();
    assert!(error.contains("`pollux setup` has not been run"), "{error}");
}

#[test]
fn the_nics_and_the_table_are_those_of_the_configuration_file() {
    let port = |name: &str, device: &str| pollux_api::settings::PortSettings {
        name: name.to_owned(),
        device: device.to_owned(),
        mtu: None,
        side: None,
    };
    let mut wanted = Request {
        settings: DataplaneSettings {
            ports: vec![port("wan", SECOND), port("lab", "net_tap0,iface=x")],
            connections: 10_000_000,
            ..DataplaneSettings::default()
        },
        ..Request::default()
    };
    let plan = plan(&machine().root(), &wanted).unwrap();
    let bound = format!("# {SECOND} must be bound to vfio-pci now");
    assert!(lines(&plan).contains(&bound), "{plan:#?}");
    wanted.settings.connections = 100_000_000;
    let error = refused(&machine(), &wanted);
    assert!(
        error.contains("huge pages of 2048 KiB on node 0 are")
            && error.contains("there are 7812 MiB of memory in all"),
        "{error}"
    );
}

#[test]
fn every_member_of_a_bond_is_bound() {
    let file = "[[dataplane.port]]\nname = \"wan\"\ndevice = \"bond:lacp:0000:01:00.0+01:00.1\"\n";
    let machine = machine().file("etc/pollux/pollux.toml", file);
    let settings = crate::config::load_dataplane(&machine.root().path("/etc/pollux/pollux.toml"));
    let wanted = Request {
        settings: settings.unwrap(),
        ..Request::default()
    };
    let plan = plan(&machine.root(), &wanted).unwrap();
    for member in [FIRST, SECOND] {
        let bound = format!("# {member} must be bound to vfio-pci now");
        assert!(lines(&plan).contains(&bound), "{plan:#?}");
    }
    // Both have queues whose frames lie somewhere.
    let needed = u64::from(memory::frames_mib(2, 2, 1500)) + memory::table_mib(1_000_000);
    let pages = format!("echo {} > ", needed.div_ceil(2));
    let steps = lines(&plan);
    assert!(
        steps.iter().any(|line| line.starts_with(&pages)),
        "{steps:?}"
    );
}

#[test]
fn pages_are_reserved_on_the_nodes_of_the_nics() {
    let node = |number: u16| {
        format!("sys/devices/system/node/node{number}/hugepages/hugepages-2048kB/nr_hugepages")
    };
    let machine = machine()
        .pci(SECOND, "0x020000", "e1000e", 1, 8)
        .file(&node(1), "0");
    let plan = plan(&machine.root(), &request(&[FIRST, SECOND])).unwrap();
    let set: Vec<_> = plan
        .steps
        .iter()
        .filter_map(|step| match step {
            Step::ExpectPages { file, pages } => {
                Some((file.trim_start_matches('/').to_owned(), *pages))
            }
            _ => None,
        })
        .collect();
    assert_eq!(set.len(), 2);
    assert_eq!((&set[0].0, &set[1].0), (&node(0), &node(1)));
    // Frames of one NIC on each, and the table beside those of the first.
    let frames = u64::from(memory::frames_mib(1, 2, 1500));
    let pages = |mib: u64| mib.div_ceil(2);
    assert_eq!(set[0].1, pages(frames + memory::table_mib(1_000_000)));
    assert_eq!(set[1].1, pages(frames));
}

#[test]
fn mellanox_stays_with_its_kernel_driver() {
    let machine = machine().pci(FIRST, "0x020000", "mlx5_core", 0, 7);
    let plan = plan(&machine.root(), &request(&[FIRST])).unwrap();
    assert!(
        lines(&plan).iter().all(|line| !line.contains(FIRST)),
        "{plan:#?}"
    );
    assert!(
        plan.notes[0].contains("stays with mlx5_core"),
        "{:?}",
        plan.notes
    );
}

#[test]
fn an_address_that_is_none_or_nobodys_is_told_with_those_there_are() {
    let those = format!("this machine has {FIRST}, {SECOND}");
    let error = refused(&machine(), &request(&["0000:01:0.x"]));
    assert!(
        error.contains("\"0000:01:0.x\" is no PCI address: write it as `lspci -D` does"),
        "{error}"
    );
    assert!(error.contains(&those), "{error}");
    let error = refused(&machine(), &request(&["0000:09:00.0"]));
    assert_eq!(
        error,
        format!("there is no PCI device 0000:09:00.0; {those}")
    );
    let with_bridge = machine().pci("0000:00:01.0", "0x060400", "pcieport", 0, 1);
    let error = refused(&with_bridge, &request(&["0000:00:01.0"]));
    assert!(
        error.starts_with("0000:00:01.0 is no network controller (its class is 060400)"),
        "{error}"
    );
    let error = refused(&machine(), &request(&[]));
    assert!(error.starts_with("no NIC is named"), "{error}");
}

#[test]
fn without_an_iommu_it_says_how_to_switch_it_on_or_do_without() {
    let machine = machine().without("sys/kernel/iommu_groups");
    let error = refused(&machine, &request(&[FIRST]));
    assert!(
        error.contains("the IOMMU is off") && error.contains("intel_iommu=on iommu=pt"),
        "{error}"
    );
    let unit = "etc/systemd/system/multi-user.target.wants/pollux-appliance.service";
    for (machine, words) in [
        (&machine, "by `pollux setup --no-iommu`, which"),
        (
            &self::machine()
                .without("sys/kernel/iommu_groups")
                .file(unit, ""),
            "by `pollux-boot-option pollux.iommu=off && reboot`, which",
        ),
    ] {
        let error = refused(machine, &request(&[FIRST]));
        assert!(error.contains(words), "{error}");
    }
    let brave = Request {
        no_iommu: true,
        ..request(&[FIRST])
    };
    let plan = plan(&machine.root(), &brave).unwrap();
    let line = String::from("echo Y > /sys/module/vfio/parameters/enable_unsafe_noiommu_mode");
    assert!(lines(&plan).contains(&line), "{plan:#?}");
    let files = plan.record.files.join(" ");
    assert!(files.contains("/etc/modprobe.d/pollux.conf"), "{files}");
}

#[test]
fn a_kernel_that_cannot_do_without_an_iommu_is_said_to_be_one() {
    let machine = machine().without("sys/kernel/iommu_groups");
    let request = Request {
        no_iommu: true,
        ..request(&[FIRST])
    };
    let plan = plan(&machine.root(), &request).unwrap();
    let mut steps = plan.steps.iter();
    let error = steps.find_map(|step| step.perform(&machine.root()).err());
    assert!(matches!(error, Some(StepError::NoUnsafeMode)), "{error:?}");
}

/// As Debian's, which was built without `CONFIG_VFIO_NOIOMMU`.
#[test]
fn where_vfio_insists_on_an_iommu_another_driver_does_without() {
    let machine = machine()
        .without("sys/kernel/iommu_groups")
        .pci(SECOND, "0x020000", "vfio-pci", 0, 8)
        .without("sys/kernel/iommu_groups")
        .file("proc/sys/kernel/osrelease", "6.1.0-56-amd64\n")
        .file(
            "boot/config-6.1.0-56-amd64",
            "# CONFIG_VFIO_NOIOMMU is not set\n",
        );
    let request = Request {
        no_iommu: true,
        ..request(&[FIRST, SECOND])
    };
    let plan = plan(&machine.root(), &request).unwrap();
    let lines = lines(&plan);
    for line in [
        String::from("modprobe uio_pci_generic"),
        format!("# {FIRST} must be bound to uio_pci_generic now"),
        format!("# {SECOND} must be bound to uio_pci_generic now"),
    ] {
        assert!(lines.contains(&line), "{line} is not in {lines:#?}");
    }
    assert!(!lines.join(" ").contains("noiommu"), "{lines:#?}");
    assert!(
        plan.notes[0].contains("may write to all memory"),
        "{plan:#?}"
    );
    let modules = plan.steps.iter().find_map(|step| match step {
        Step::Write { file, text } if file == "/etc/modules-load.d/pollux.conf" => Some(text),
        _ => None,
    });
    let modules = modules.expect("they are loaded at the next boot");
    assert!(modules.ends_with("\nuio_pci_generic\n"), "{modules}");
}

#[test]
fn a_group_is_given_away_whole() {
    let machine = machine().pci(SECOND, "0x020000", "e1000e", 0, 7);
    let error = refused(&machine, &request(&[FIRST]));
    assert!(
        error.contains(&format!(
            "{FIRST} shares its IOMMU group 7 with {SECOND}, which e1000e has"
        )),
        "{error}"
    );
    assert!(plan(&machine.root(), &request(&[FIRST, SECOND])).is_ok());
}

#[test]
fn a_nic_in_use_takes_being_told_and_the_lifeline_twice() {
    let machine = machine()
        .file(&format!("sys/bus/pci/devices/{FIRST}/net/eth0/mtu"), "1500")
        .file(
            "ip/address",
            r#"[{"ifname":"eth0","flags":["UP"],"addr_info":[{"local":"192.0.2.5","prefixlen":24}]}]"#,
        );
    let forced = |force| Request {
        force,
        ..request(&[FIRST])
    };
    let error = refused(&machine, &forced(0));
    assert!(
        error.starts_with(&format!("{FIRST} is eth0, which is up with 192.0.2.5:"))
            && error.contains("--force"),
        "{error}"
    );
    assert!(plan(&machine.root(), &forced(1)).is_ok());
    let machine = machine.file(
        "ip/route-show-default",
        r#"[{"dst":"default","dev":"eth0"}]"#,
    );
    let error = refused(&machine, &forced(1));
    assert!(
        error.contains("carries the default route") && error.contains("--force twice"),
        "{error}"
    );
    assert!(plan(&machine.root(), &forced(2)).is_ok());
}

#[test]
fn too_few_queues_and_shared_cores_are_said() {
    let machine = machine()
        .file(&format!("sys/bus/pci/devices/{FIRST}/net/eth0/mtu"), "1500")
        .file("sys/class/net/eth0/queues/rx-0/rps_cpus", "0")
        .file("sys/class/net/eth0/queues/tx-0/xps_cpus", "0")
        .file("sys/devices/system/cpu/isolated", "\n");
    let notes = plan(&machine.root(), &request(&[FIRST]))
        .unwrap()
        .notes
        .join("\n");
    assert!(
        notes.contains("(eth0) has 1 receive queues under its kernel driver, for 2 workers"),
        "{notes}"
    );
    assert!(
        notes.contains("isolcpus=1-2 nohz_full=1-2 rcu_nocbs=1-2 irqaffinity=0"),
        "{notes}"
    );
}

/// What the kernel does not do is noticed: it finds no memory, or its driver does not take the NIC.
#[test]
fn what_the_kernel_does_not_do_is_an_error() {
    let machine = machine();
    let root = machine.root();
    let file = "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages".to_owned();
    let expected = Step::ExpectPages { file, pages: 5 };
    let error = expected.perform(&root).unwrap_err().to_string();
    assert!(error.starts_with("0 of 5 huge pages are there"), "{error}");
    let expected = Step::ExpectDriver {
        address: FIRST.to_owned(),
        driver: VFIO.to_owned(),
    };
    let error = expected.perform(&root).unwrap_err();
    assert!(matches!(error, StepError::NotBound { .. }));
    assert!(
        error
            .to_string()
            .starts_with("0000:01:00.0 is bound to e1000e and not to vfio-pci"),
        "{error}"
    );
}
