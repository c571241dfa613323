//! The verbs that deal with the configuration file.

use std::fs;

use serde_json::json;

use super::machine::Machine;

const FILE: &str = "\
# The shop's director.
[dataplane]
connections = 2000000
huge_pages = true

[[dataplane.port]]
name = \"wan\"
device = \"0000:01:00.0\"

# The shop.
[[service]]
protocol = \"tcp\"
address = \"198.51.100.1:80\"

[[service.server]]
address = \"203.0.113.11\"
method = \"nat\"
";

#[test]
fn check_needs_no_daemon_and_reports_everything() {
    let machine = Machine::new();
    let path = machine.write("pollux.toml", FILE);
    let name = path.display();
    assert_eq!(
        machine.shown("check"),
        format!("{name}: valid; services: 1, servers: 1\n")
    );
    assert_eq!(machine.json("check"), json!({"services": 1, "servers": 1}));

    let other = machine.write(
        "other.toml",
        "[[service]]\nprotocol = \"dccp\"\n\n[dataplane]\ncore = 1\n",
    );
    let ran = machine.pollux(&format!("check {}", other.display()));
    let name = other.display();
    assert_eq!((ran.code, ran.out.as_str()), (1, ""));
    assert_eq!(
        ran.error,
        format!(
            "pollux: the configuration file is not valid; to mend:\n\
             {name}:1: service[0]: address is missing: write address = \"198.51.100.1:80\"\n\
             {name}:2: service[0].protocol: unknown protocol \"dccp\": known are \"tcp\", \"udp\", \"sctp\"\n\
             {name}:5: dataplane.core: unknown key: known here are connections, cores, exception_path, file_prefix, \
             huge_pages, memory_mib, poll, port, punt, transmit_checksums\n"
        )
    );
    let missing = machine.path("missing.toml");
    machine.refused(
        &format!("check {}", missing.display()),
        1,
        &format!(
            "cannot read the configuration file {}: No such file",
            missing.display()
        ),
    );
}

#[test]
fn settings_are_what_the_data_plane_reads() {
    let machine = Machine::new();
    machine.write("pollux.toml", FILE);
    let settings = machine.shown("settings");
    let read: pollux_api::DataplaneSettings = serde_json::from_str(&settings).unwrap();
    assert_eq!(read.connections, 2_000_000);
    assert_eq!(read.huge_pages, pollux_api::settings::HugePages::Always);
    assert_eq!(read.ports[0].device, "0000:01:00.0");

    let path = machine.write("pollux.toml", "[dataplane]\npoll = \"fast\"\n");
    machine.refused(
        "settings",
        1,
        &format!(
            "{}:2: dataplane.poll: unknown poll \"fast\"",
            path.display()
        ),
    );
}

#[test]
fn save_writes_what_runs_and_keeps_the_rest() {
    let mut machine = Machine::new();
    machine.write("pollux.toml", FILE);
    machine.start_dataplane();
    machine.start_polluxd();
    machine.done("server edit -t 198.51.100.1:80 -r 203.0.113.11 -w 5");
    machine.done("server add -t 198.51.100.1:80 -r 203.0.113.12 -m");
    machine.done("service add -u 198.51.100.1:53 -s rr");
    machine.done("save");
    let saved = fs::read_to_string(machine.path("pollux.toml")).unwrap();
    assert!(
        saved.starts_with(&FILE[..FILE.find("[[service]]").unwrap()]),
        "{saved}"
    );

    // After a boot, the file gives the same services in the same order.
    let before = machine.json("show configuration");
    machine.stop_dataplane();
    *machine.state.lock().unwrap() = Default::default();
    machine.start_dataplane();
    assert_eq!(machine.json("show configuration"), before);

    let other = machine.path("other.toml");
    machine.done(&format!("save {}", other.display()));
    assert_eq!(
        fs::read_to_string(other).unwrap(),
        machine.shown("show configuration")
    );
}

#[test]
fn save_does_not_touch_a_file_it_cannot_keep() {
    let mut machine = Machine::up();
    machine.done("service add -t 198.51.100.1:80");
    let path = machine.write("pollux.toml", "[dataplane\n");
    machine.refused(
        "save",
        1,
        &format!(
            "{0} is not TOML, so its other tables cannot be kept: `pollux check {0}` says why",
            path.display()
        ),
    );
    assert_eq!(fs::read_to_string(&path).unwrap(), "[dataplane\n");
    machine.stop_dataplane();
    // What is asked while the connection breaks is told of that.
    machine.until("polluxd sees the data plane gone", |machine| {
        let error = machine.pollux("show ports").error;
        error.contains("the data plane is not running")
    });
    machine.refused("save", 1, "the data plane is not running");
}
