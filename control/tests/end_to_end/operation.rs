//! `pollux doctor` and `pollux realserver`: nothing is changed by them, and what is wrong is said with what to type.

use serde_json::json;

use super::machine::Machine;

const FILE: &str = "\
[dataplane]
huge_pages = \"never\"

[[dataplane.port]]
name = \"wan\"
device = \"0000:03:00.0\"

[[service]]
protocol = \"tcp\"
address = \"198.51.100.1:80\"

[[service.server]]
address = \"203.0.113.11\"
[[service.server]]
address = \"203.0.113.12\"
";

/// A directory with a copy of some machine's `/sys` and `/proc`.
fn described(machine: &Machine) -> String {
    for (file, text) in [
        (
            "sys/devices/system/cpu/cpu0/topology/thread_siblings_list",
            "0",
        ),
        (
            "sys/devices/system/cpu/cpu1/topology/thread_siblings_list",
            "1",
        ),
        ("sys/bus/pci/devices/0000:03:00.0/class", "0x020000"),
        ("sys/bus/pci/devices/0000:03:00.0/net/eth1/mtu", "1500"),
        (
            "ip/address",
            r#"[{"ifname":"eth0","addr_info":[{"local":"198.51.100.1"}]}]"#,
        ),
        ("ip/neighbour", "[]"),
        (
            "ip/route-get-203.0.113.11",
            r#"[{"dst":"203.0.113.11","dev":"wan"}]"#,
        ),
        (
            "ip/route-get-203.0.113.12",
            r#"[{"dst":"203.0.113.12","dev":"wan"}]"#,
        ),
    ] {
        let path = machine.path("root").join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    format!("doctor --root {}", machine.path("root").display())
}

#[test]
fn the_doctor_says_what_is_wrong_and_what_to_type() {
    let machine = Machine::up();
    machine.write("pollux.toml", FILE);
    let line = described(&machine);
    let ran = machine.pollux(&line);
    assert_eq!((ran.code, ran.error.as_str()), (1, ""), "{ran:?}");
    let first =
        "wrong: daemons: pollux-dataplane does not run\n    systemctl start pollux-dataplane\n";
    assert!(ran.out.starts_with(first), "{}", ran.out);
    for part in [
        "wrong: devices: port wan: 0000:03:00.0 is bound to no driver\n    pollux setup   # this, huge pages, and so at each boot; or by hand:\n    modprobe vfio-pci\n    echo vfio-pci > ",
        "wrong: devices: the IOMMU is off",
        "advice: cores: cores 1 are not isolated",
    ] {
        assert!(ran.out.contains(part), "{part}\n{}", ran.out);
    }
    assert!(!ran.out.contains("\nfine: "), "{}", ran.out);
    assert!(
        ran.out.lines().last().unwrap().starts_with("wrong: "),
        "{}",
        ran.out
    );
    let all = machine.pollux(&format!("{line} --all")).out;
    assert!(all.contains("\nfine: huge pages: none are used"), "{all}");
    let ran = machine.pollux(&format!("{line} --json"));
    let findings: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(ran.code, 1);
    assert_eq!(
        findings[0],
        json!({
            "level": "wrong",
            "about": "daemons",
            "text": "pollux-dataplane does not run",
            "mend": ["systemctl start pollux-dataplane"]
        })
    );
}

#[test]
fn the_doctor_does_without_daemons() {
    let machine = Machine::new();
    machine.write("pollux.toml", FILE);
    let ran = machine.pollux(&described(&machine));
    assert_eq!(ran.code, 1);
    assert!(
        ran.out
            .contains("wrong: daemons: polluxd cannot be asked: polluxd is not running"),
        "{}",
        ran.out
    );
    machine.write("pollux.toml", "[dataplane]\nport = 1\n");
    machine.refused("doctor", 1, "the configuration file is not valid");
    // This machine has something to say of, whatever it is.
    machine.write("pollux.toml", "");
    let ran = machine.pollux("doctor --all");
    assert!(ran.out.contains("cores: workers on cores "), "{ran:?}");
}

#[test]
fn real_servers_are_told_what_to_type() {
    let machine = Machine::up();
    let file = machine.write("shop.toml", FILE);
    let script = "sysctl -w net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.all.arp_announce=2\n\
                  ip address replace 198.51.100.1/32 dev lo\n\
                  # the commands last until the next boot: have them run at boot, too\n";
    let of = |address: &str| format!("# on {address}: TCP 198.51.100.1:80 (direct)\n{script}");
    let both = format!("{}\n{}", of("203.0.113.11"), of("203.0.113.12"));
    assert_eq!(
        machine.shown(&format!("realserver {}", file.display())),
        both
    );
    // The same of what runs.
    machine.refused("realserver", 1, "no service and server is like that");
    machine.done("service add -t 198.51.100.1:80");
    machine.done("server add -t 198.51.100.1:80 -r 203.0.113.11");
    machine.done("server add -t 198.51.100.1:80 -r 203.0.113.12");
    assert_eq!(machine.shown("realserver"), both);
    assert_eq!(
        machine.shown("realserver -t 198.51.100.1:80 --server 203.0.113.12"),
        of("203.0.113.12")
    );
    machine.refused(
        "realserver -u 198.51.100.1:80",
        1,
        "no service and server is like that",
    );
    let scripts = machine.json("realserver --server 203.0.113.11");
    assert_eq!(scripts[0]["server"], "203.0.113.11");
    assert_eq!(
        scripts[0]["services"],
        json!(["TCP 198.51.100.1:80 (direct)"])
    );
    assert_eq!(
        scripts[0]["commands"][1],
        "ip address replace 198.51.100.1/32 dev lo"
    );
    // Under NAT it is the director's address that is needed; who asks polluxd is on the director.
    machine.done("server edit -t 198.51.100.1:80 -r 203.0.113.11 -m");
    let with = machine.shown("realserver --server 203.0.113.11 --director 203.0.113.1");
    assert!(
        with.contains("\nip route replace default via 203.0.113.1\n"),
        "{with}"
    );
    let windows = machine.shown("realserver --server 203.0.113.12 --system windows");
    assert!(
        windows.starts_with("rem on 203.0.113.12: ") && windows.contains("\nnetsh interface ipv4 "),
        "{windows}"
    );
}
