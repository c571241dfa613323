//! Daemons that are killed, started twice or come back; the truth is always the data plane's.

use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;

use super::machine::{Machine, PATIENCE};

const FILE: &str = "\
[[service]]
protocol = \"tcp\"
address = \"198.51.100.1:80\"

[[service.server]]
address = \"203.0.113.11\"
method = \"nat\"
";

#[test]
fn after_kill_9_all_is_as_before() {
    let mut machine = Machine::up();
    machine.done("service add -t 198.51.100.1:80 -s wrr");
    machine.done("server add -t 198.51.100.1:80 -r 203.0.113.11 -m -w 3");
    let (services, transactions) = (
        machine.json("show services"),
        machine.state.lock().unwrap().transactions,
    );
    for _ in 0..3 {
        machine.signal_polluxd("KILL");
        assert!(machine.path("control.sock").exists(), "left behind");
        machine.start_polluxd();
        assert_eq!(machine.json("show services"), services);
    }
    let after = machine.state.lock().unwrap().transactions;
    assert_eq!(after, transactions, "a restart changed something");
}

#[test]
fn a_fresh_data_plane_is_given_the_file_in_one_transaction() {
    let mut machine = Machine::new();
    machine.write("pollux.toml", FILE);
    machine.start_dataplane();
    machine.start_polluxd();
    let state = machine.state.lock().unwrap();
    assert_eq!((state.generation, state.transactions), (1, 1));
    assert_eq!(state.configuration.services[0].destinations.len(), 1);
    drop(state);
    assert!(machine.log().contains("gave it the configuration of"));
}

#[test]
fn a_file_without_services_still_has_its_settings() {
    let mut machine = Machine::new();
    machine.write("pollux.toml", "[ipvs]\nexpire_nodest_conn = 1\n");
    machine.start_dataplane();
    machine.start_polluxd();
    let state = machine.state.lock().unwrap();
    assert_eq!(state.configuration.settings.get("expire_nodest_conn"), 1);
}

#[test]
fn the_order_of_starting_does_not_matter() {
    let mut machine = Machine::new();
    machine.write("pollux.toml", FILE);
    machine.start_polluxd();
    assert!(machine.log().contains("the data plane is not running"));
    machine.start_dataplane();
    // The first command after its start finds the services already, even when polluxd has not looked by itself yet.
    assert_eq!(machine.json("show services").as_array().unwrap().len(), 1);
}

#[test]
fn polluxd_finds_the_data_plane_by_itself() {
    let mut machine = Machine::new();
    machine.write("pollux.toml", FILE);
    machine.start_polluxd();
    machine.start_dataplane();
    machine.until("the file is loaded", |machine| {
        machine.state.lock().unwrap().generation == 1
    });
}

#[test]
fn a_data_plane_with_a_configuration_is_adopted() {
    let mut machine = Machine::new();
    machine.write("pollux.toml", FILE);
    machine.start_dataplane();
    machine.start_polluxd();
    machine.done("flush");
    machine.signal_polluxd("TERM");
    machine.start_polluxd();
    assert!(
        machine
            .log()
            .contains("adopted its configuration, generation 2, services: 0"),
        "{}",
        machine.log()
    );
    assert_eq!(machine.json("show services").as_array().unwrap().len(), 0);
}

#[test]
fn a_restarted_data_plane_is_not_noticed() {
    let mut machine = Machine::up();
    machine.done("service add -t 198.51.100.1:80");
    for _ in 0..5 {
        machine.stop_dataplane();
        machine.start_dataplane();
        machine.done("service edit -t 198.51.100.1:80 -s rr");
    }
}

#[test]
fn the_file_of_the_last_good_read_serves_when_it_is_broken_later() {
    let mut machine = Machine::new();
    machine.write("pollux.toml", FILE);
    machine.start_polluxd();
    machine.write("pollux.toml", "[[service");
    machine.start_dataplane();
    assert_eq!(machine.json("show services").as_array().unwrap().len(), 1);
    assert!(
        machine.log().contains("this is not TOML"),
        "{}",
        machine.log()
    );
}

#[test]
fn a_broken_file_keeps_polluxd_from_starting() {
    let machine = Machine::new();
    let path = machine.write(
        "pollux.toml",
        &format!("{FILE}weight = 5000000000\nwieght = 1\n"),
    );
    let ran = machine.polluxd_fails();
    assert_eq!(ran.code, 1);
    let path = path.display();
    assert_eq!(
        ran.error,
        format!(
            "polluxd: the configuration file is not valid; to mend:\n\
             {path}:8: service[0].server[0].weight: weight 5000000000 out of range: write a number from 0 to 2147483647\n\
             {path}:9: service[0].server[0].wieght: unknown key: known here are address, lower_threshold, method, \
             tunnel_checksum, tunnel_port, tunnel_type, upper_threshold, weight\n"
        )
    );
    assert!(!machine.path("control.sock").exists());
}

#[test]
fn a_second_polluxd_is_told_of_the_first() {
    let mut machine = Machine::up();
    let ran = machine.polluxd_fails();
    assert_eq!(ran.code, 1);
    let expected = format!(
        "polluxd: polluxd is already running here: process {} has the socket {}; stop it, or give this one another \
         --run-dir\n",
        machine.polluxd_pid(),
        machine.path("control.sock").display()
    );
    assert_eq!(ran.error, expected);
    machine.shown("show services");
    machine.signal_polluxd("KILL");
    machine.start_polluxd();
}

#[test]
fn an_unknown_group_is_named() {
    let machine = Machine::new();
    machine.write(
        "pollux.toml",
        "[control]\nsocket_group = \"no-such-group\"\n",
    );
    let ran = machine.polluxd_fails();
    assert_eq!(ran.code, 1);
    assert_eq!(
        ran.error,
        "polluxd: control.socket_group: there is no group \"no-such-group\" on this machine: \
         `groupadd no-such-group` makes it\n"
    );
}

#[test]
fn a_stop_takes_the_socket_away() {
    for signal in ["TERM", "INT"] {
        let mut machine = Machine::up();
        let mode = fs::metadata(machine.path("control.sock")).unwrap();
        assert_eq!(mode.permissions().mode() & 0o777, 0o660);
        assert!(machine.signal_polluxd(signal).success(), "{signal}");
        assert!(!machine.path("control.sock").exists());
        assert!(machine.log().contains("the data plane goes on"));
    }
}

#[test]
fn systemd_is_told() {
    let machine = Machine::new();
    let socket = UnixDatagram::bind(machine.path("notify")).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut polluxd = machine
        .polluxd_command()
        .env("NOTIFY_SOCKET", machine.path("notify"))
        .env("WATCHDOG_USEC", "200000")
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut buffer = [0; 32];
    for state in ["READY=1\n", "WATCHDOG=1\n", "WATCHDOG=1\n"] {
        let length = socket.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], state.as_bytes());
    }
    polluxd.kill().unwrap();
    polluxd.wait().unwrap();
    let mut log = String::new();
    polluxd.stderr.unwrap().read_to_string(&mut log).unwrap();
    assert!(!log.contains("NOTIFY_SOCKET"), "{log}");
}
