//! Mistakes, each answered with what is wrong, where, and what to do about it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Output};

use pollux_tests::lab::Lab;
use pollux_tests::lab::servers::{NAT, SERVERS4, VIP4, tcp};
use pollux_tests::lab::{lab_dir, program, text_of};

#[test]
fn mistakes_on_the_command_line() {
    let lab = Lab::start();
    lab.add(&tcp(VIP4, 80), "rr", NAT, &SERVERS4[..1], 80);
    let before = lab.pollux("show configuration --json");
    let cases = [
        (
            "service add -t 198.51.100.1:81 -s wrong",
            "unknown scheduler \"wrong\": known are rr, wrr, lc, wlc,",
        ),
        (
            "service add -t 198.51.100.300:80",
            "bad address \"198.51.100.300:80\": write ADDRESS:PORT",
        ),
        (
            "service add -t 2001:db8:100::1:80",
            "for IPv6 [ADDRESS]:PORT",
        ),
        (
            "service add -t 198.51.100.1",
            "bad address \"198.51.100.1\"",
        ),
        ("service add -t 224.0.0.1:80", "unicast"),
        (
            "service add -t 198.51.100.1:0",
            "a service of all ports must be persistent",
        ),
        ("service add -t 198.51.100.1:65536", "bad address"),
        (
            "service add -t 198.51.100.1:80",
            "already exists: change it with `pollux service edit`",
        ),
        ("service edit -t 198.51.100.1:81 -s rr", "no such service"),
        ("service remove -u 198.51.100.1:80", "no such service"),
        (
            "server add -t 198.51.100.1:80 -r 203.0.113.11:80 -m",
            "already exists",
        ),
        (
            "server add -t 198.51.100.1:80 -r 203.0.113.12:0 -m",
            "port 0 is the packet's own",
        ),
        (
            "server add -t 198.51.100.1:80 -r [2001:db8:2::11]:80 -m",
            "only method tunnel (-i)",
        ),
        (
            "server add -t 198.51.100.1:80 -r [2001:db8:2::11]:80 -g",
            "only method tunnel (-i)",
        ),
        (
            "server add -t 198.51.100.1:80 -r 203.0.113.12:80 -m -w -1",
            "from 0 to",
        ),
        (
            "server add -t 198.51.100.1:80 -r 203.0.113.12:80 -m -w 9999999999",
            "from 0 to",
        ),
        (
            "server add -t 198.51.100.1:80 -r 203.0.113.12:80 -m -i",
            "cannot be used with",
        ),
        (
            "server add -t 198.51.100.1:81 -r 203.0.113.12:81 -m",
            "no such service",
        ),
        (
            "server edit -t 198.51.100.1:80 -r 203.0.113.13:80 -w 2",
            "no such server",
        ),
        (
            "server remove -t 198.51.100.1:80 -r 203.0.113.13:80",
            "no such server",
        ),
    ];
    for (line, message) in cases {
        assert_refused(&lab.try_pollux(line), line, message);
        assert_eq!(
            lab.pollux("show configuration --json"),
            before,
            "`pollux {line}` changed nothing"
        );
    }
}

#[test]
fn a_data_plane_that_does_not_run() {
    let lab = Lab::start();
    lab.kill("pollux-dataplane");
    for line in ["service add -t 198.51.100.1:80", "show ports", "flush"] {
        assert_refused(&lab.try_pollux(line), line, "the data plane is not running");
        assert_refused(
            &lab.try_pollux(line),
            line,
            "systemctl start pollux-dataplane",
        );
    }
    lab.expects_daemons_dead();
}

#[test]
fn a_control_daemon_that_does_not_run() {
    let lab = Lab::start();
    lab.kill("polluxd");
    assert_refused(
        &lab.try_pollux("show services"),
        "show services",
        "polluxd is not running",
    );
    lab.expects_daemons_dead();
}

#[test]
fn a_socket_that_is_not_writable() {
    let _lab = Lab::start();
    // Where anybody may read it: the folder of the build may be root's own.
    let copy = lab_dir().join("pollux-for-nobody");
    fs::copy(program("pollux").get_program(), &copy).unwrap();
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).unwrap();
    let output = Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(&copy)
        .args(["show", "services"])
        .env("POLLUX_RUN_DIR", lab_dir().join("run"))
        .output()
        .unwrap();
    fs::remove_file(&copy).unwrap();
    assert_refused(&output, "show services", "no permission");
    assert_refused(&output, "show services", "sudo pollux");
}

#[test]
fn a_broken_configuration_file() {
    let cases = [
        ("[dataplane]\ncores = [0, 1\n", "2: "),
        (
            "[dataplane]\nconnektions = 5\n",
            "2: dataplane.connektions: ",
        ),
        (
            "[[service]]\nprotocol = \"tcp\"\naddress = \"198.51.100.1:0\"\n",
            "3: service[0].address: ",
        ),
        (
            "[[service]]\nprotocol = \"tcp\"\naddress = \"198.51.100.1:80\"\nscheduler = \"best\"\n",
            "4: service[0].scheduler: unknown scheduler \"best\"",
        ),
    ];
    for (text, problem) in cases {
        let file = std::env::temp_dir().join(format!("pollux-broken-{}.toml", std::process::id()));
        fs::write(&file, text).unwrap();
        let problem = format!("{}:{problem}", file.display());
        // A data plane starts with what its own table says, whatever the services are like.
        let commands: &[&str] = if text.contains("[dataplane]") {
            &["check", "settings"]
        } else {
            &["check"]
        };
        for line in commands {
            let output = program("pollux").arg(line).arg(&file).output().unwrap();
            assert_refused(&output, text, &problem);
        }
        fs::remove_file(&file).unwrap();
    }
}

#[test]
fn a_data_plane_that_cannot_start() {
    let lab = Lab::without_daemons();
    // A PCI device that is there, but not for DPDK. The network card of this machine is left alone.
    let has_iommu =
        fs::read_dir("/sys/kernel/iommu_groups").is_ok_and(|mut groups| groups.next().is_some());
    let unbound = if has_iommu {
        "port wan: 0000:00:00.0 is bound to no driver, not to a DPDK driver: bind it with `pollux setup \
         0000:00:00.0`"
    } else {
        "port wan: 0000:00:00.0 is bound to no driver, and the IOMMU of this machine is off, without which vfio-pci hands \
         out no NIC"
    };
    let cases = [
        ("--port wan=0000:00:00.0", unbound),
        (
            "--port wan=0000:ff:1f.7",
            "port wan: there is no PCI device 0000:ff:1f.7: `lspci -D`",
        ),
        (
            "--port a=net_null0 --cores 4000",
            "core 4000 does not exist or this process may not use it: choose from 0",
        ),
        ("--port a=net_null0 --cores 0,0", "core 0 is named twice"),
        (
            "--port a=net_no_such_driver0",
            "port a: cannot attach net_no_such_driver0",
        ),
        (
            "--port a-name-too-long-for-linux=net_null0",
            "Linux takes at most 15 characters",
        ),
        (
            "--port a=net_null0 --port a=net_null1",
            "two ports are named a",
        ),
        (
            "--port a=net_null0 --connections 0",
            "out of range: choose from 1024 to",
        ),
    ];
    for (line, message) in cases {
        let output = start_dataplane(&lab)
            .arg("--no-huge")
            .args(line.split(' '))
            .output()
            .unwrap();
        assert_refused(&output, line, message);
    }
}

#[test]
fn too_few_huge_pages() {
    let lab = Lab::without_daemons();
    let settings = lab_dir().join("too-much.json");
    fs::write(
        &settings,
        r#"{"huge_pages": "always", "memory_mib": 999999, "port": [{"name": "a", "device": "net_null0"}]}"#,
    )
    .unwrap();
    let output = start_dataplane(&lab)
        .arg("--settings")
        .arg(&settings)
        .output()
        .unwrap();
    assert_refused(&output, "999999 MiB", "999999 MB of huge pages needed");
    assert_refused(&output, "999999 MiB", "nr_hugepages");
}

/// A data plane of its own, beside the lab's, that gives up within 10 seconds.
fn start_dataplane(_lab: &Lab) -> Command {
    let mut command = Command::new("timeout");
    let dir = lab_dir().join("second");
    command
        .arg("10")
        .args(["ip", "netns", "exec", "pollux-director"]);
    command.arg(program("pollux-dataplane").get_program());
    command
        .arg("--run-dir")
        .arg(&dir)
        .arg("--state-dir")
        .arg(&dir)
        .args(["--file-prefix", "pollux-lab"]);
    command
}

/// The program failed by saying so; it did not crash.
fn assert_refused(output: &Output, what: &str, message: &str) {
    let text = text_of(output);
    assert!(
        matches!(output.status.code(), Some(1 | 2)),
        "{what}: {}\n{text}",
        output.status
    );
    // Once: a cause said twice reads like two mistakes.
    let times = text.matches(message).count();
    assert_eq!(times, 1, "{what}: expected \"{message}\" once in\n{text}");
    assert!(!text.contains("panicked"), "{what}: {text}");
}
