//! Every refusal says what is wrong, where, and what to type instead; nothing changes; the exit status tells whose fault.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;

use super::fake_dataplane::Mischief;
use super::machine::Machine;

/// Wrong usage, found by `pollux` itself.
const USAGE: i32 = 2;
/// Refused by a daemon, or no way to it.
const REFUSED: i32 = 1;

const SERVICE: &str = "-t 198.51.100.1:80";

/// A service with one server.
fn machine() -> Machine {
    let machine = Machine::up();
    machine.done(&format!("service add {SERVICE}"));
    machine.done(&format!("server add {SERVICE} -r 203.0.113.11 -m"));
    machine
}

#[test]
fn wrong_usage_is_explained() {
    let machine = machine();
    for (line, text) in [
        (
            "service add -t 198.51.100.2:80 -s fair",
            "unknown scheduler \"fair\": known are rr, wrr, lc, wlc, lblc, lblcr, dh, sh, sed, nq, fo, ovf, mh, twos, p2c, ewma",
        ),
        (
            "service add -t 198.51.100.2:80 -s sh -b sh-sticky",
            "unknown scheduler flag \"sh-sticky\": known are sh-fallback, sh-port, mh-fallback, mh-port, flag-1, flag-2",
        ),
        (
            "service add -t 198.51.100.2:80 -s mh -b mh-bounded=lots",
            "bad scheduler flag \"mh-bounded=lots\": write mh-bounded=PERCENT, from 0 to 1000, as in mh-bounded=25",
        ),
        (
            "service add -t 198.51.100.300:80",
            "bad address \"198.51.100.300:80\": write ADDRESS:PORT, for IPv6 [ADDRESS]:PORT",
        ),
        (
            "service add -t 2001:db8::1:80",
            "bad address \"2001:db8::1:80\": write ADDRESS:PORT, for IPv6 [ADDRESS]:PORT",
        ),
        ("service add -f 0", "number would be zero for non-zero type"),
        (
            "service add -t 0.0.0.0:80",
            "a service or server needs a unicast address",
        ),
        (
            "service add",
            "--tcp-service <ADDRESS:PORT>|--udp-service <ADDRESS:PORT>|--sctp-service <ADDRESS:PORT>|--fwmark-service <MARK>",
        ),
        (
            "service add -t 198.51.100.2:80 -u 198.51.100.2:80",
            "'--tcp-service <ADDRESS:PORT>' cannot be used with '--udp-service <ADDRESS:PORT>'",
        ),
        (
            "service edit -t 198.51.100.1:80",
            "--scheduler <NAME>|--sched-flags <FLAGS>",
        ),
        (
            "server add -t 198.51.100.1:80",
            "--real-server <ADDRESS[:PORT]>",
        ),
        (
            "server add -t 198.51.100.1:80 -r server2",
            "bad address \"server2\"",
        ),
        (
            "server add -t 198.51.100.1:80 -r 203.0.113.12 -m -g",
            "'--masquerading' cannot be used with '--gatewaying'",
        ),
        (
            "server add -t 198.51.100.1:80 -r 203.0.113.12 -w 2147483648",
            "weight 2147483648 out of range: write a weight from 0 to 2147483647",
        ),
        (
            "server add -t 198.51.100.1:80 -r 203.0.113.12 -w -1",
            "weight -1 out of range: write a weight from 0 to 2147483647",
        ),
        (
            "server add -t 198.51.100.1:80 -r 203.0.113.12 -w heavy",
            "write a number from 0 to 2147483647",
        ),
        (
            "server edit -t 198.51.100.1:80 -r 203.0.113.11",
            "--masquerading|--ipip|--gatewaying|--weight <N>|--u-threshold <N>|--l-threshold <N>",
        ),
        ("show everything", "unrecognized subcommand 'everything'"),
        (
            "service ad -t 198.51.100.2:80",
            "a similar subcommand exists: 'add'",
        ),
    ] {
        machine.refused(line, USAGE, text);
    }
}

#[test]
fn what_makes_no_valid_configuration_is_refused() {
    let machine = machine();
    for (line, text) in [
        (
            "service add -t 198.51.100.1:80 -s rr",
            "pollux: service TCP 198.51.100.1:80 already exists: change it with `pollux service edit`",
        ),
        (
            "service edit -t 198.51.100.9:80 -s rr",
            "no such service: TCP 198.51.100.9:80; `pollux show services` lists those that run",
        ),
        (
            "service remove -u 198.51.100.1:80",
            "no such service: UDP 198.51.100.1:80",
        ),
        (
            "server add -t 198.51.100.1:80 -r 203.0.113.11:80 -g",
            "server 203.0.113.11:80 of service TCP 198.51.100.1:80 already exists: change it with `pollux server edit`",
        ),
        (
            "service add -t 198.51.100.2:80 -s mh -b sh-port",
            "service TCP 198.51.100.2:80: scheduler flag sh-port is one of scheduler sh, and this one is mh: leave it out, \
             or write -s sh",
        ),
        (
            "service edit -t 198.51.100.1:80 -b mh-port",
            "scheduler flag mh-port is one of scheduler mh, and this one is wlc",
        ),
        (
            "server add -t 198.51.100.9:80 -r 203.0.113.11",
            "no such service: TCP 198.51.100.9:80",
        ),
        (
            "server edit -t 198.51.100.1:80 -r 203.0.113.12 -w 2",
            "no such server: service TCP 198.51.100.1:80 has no server 203.0.113.12:80",
        ),
        (
            "server remove -t 198.51.100.1:80 -r 203.0.113.12",
            "no such server: service TCP 198.51.100.1:80 has no server 203.0.113.12:80",
        ),
        (
            "server add -t 198.51.100.1:80 -r 2001:db8:2::11 -m",
            "server [2001:db8:2::11]:80 is not of the address family of service TCP 198.51.100.1:80: only method tunnel (-i)",
        ),
        (
            "server add -t 198.51.100.1:80 -r 203.0.113.12 -m --tun-type gre",
            "server 203.0.113.12:80 of service TCP 198.51.100.1:80: tunnel options on a server of method nat: make its",
        ),
        (
            "server add -t 198.51.100.1:80 -r 203.0.113.12 -i --tun-type gue",
            "a gue tunnel goes to a UDP port of the server: name it with --tun-port",
        ),
        (
            "server edit -t 198.51.100.1:80 -r 203.0.113.11 -x 4 -y 5",
            "lower threshold 5 is above upper threshold 4",
        ),
        (
            "zero -t 198.51.100.9:80",
            "no such service: TCP 198.51.100.9:80",
        ),
        (
            "show services -t 198.51.100.9:80",
            "no such service: TCP 198.51.100.9:80",
        ),
        (
            "show rates -u 198.51.100.1:80",
            "no such service: UDP 198.51.100.1:80",
        ),
    ] {
        machine.refused(line, REFUSED, text);
    }
}

#[test]
fn without_polluxd_it_says_what_to_start() {
    let mut machine = Machine::new();
    let socket = machine.path("control.sock");
    let start = format!(
        "start it with `systemctl start polluxd` or `polluxd --run-dir {}`",
        machine.path("").display().to_string().trim_end_matches('/')
    );
    machine.refused(
        "show services",
        REFUSED,
        &format!(
            "pollux: polluxd is not running: there is no socket {}; {start}",
            socket.display()
        ),
    );
    machine.start_polluxd();
    machine.signal_polluxd("KILL");
    machine.refused(
        "flush",
        REFUSED,
        &format!(
            "polluxd is not running: it died and left its socket {} behind; {start}",
            socket.display()
        ),
    );
}

#[test]
fn without_a_data_plane_it_says_what_to_start() {
    let mut machine = Machine::new();
    machine.start_polluxd();
    let socket = machine.path("dataplane.sock");
    for line in [
        "show services",
        "show rates",
        "zero",
        "service add -t 198.51.100.1:80",
    ] {
        machine.refused(
            line,
            REFUSED,
            &format!(
                "pollux: the data plane is not running: there is no socket {}; start it with \
                 `systemctl start pollux-dataplane` or `pollux-dataplane --run-dir ",
                socket.display()
            ),
        );
    }
    machine.start_dataplane();
    machine.shown("show services");
    machine.stop_dataplane();
    machine.refused(
        "show services",
        REFUSED,
        "the data plane is not running: it died and left its socket",
    );
}

#[test]
fn a_data_plane_that_fails_in_the_middle_is_no_success() {
    let machine = machine();
    machine.state.lock().unwrap().mischief = Mischief::HangUp;
    machine.refused(
        "flush",
        REFUSED,
        "it closed the connection; whether the change was made is not known: `pollux show configuration` tells",
    );
    machine.refused("show services", REFUSED, "it closed the connection");
    machine.state.lock().unwrap().mischief = Mischief::None;
    machine.done("flush");
}

/// Root, who may become another user.
pub fn may_change_user() -> bool {
    let root =
        fs::metadata("/proc/self").is_ok_and(|me| std::os::unix::fs::MetadataExt::uid(&me) == 0);
    if !root {
        eprintln!("skipped: only root can look from another user's side");
    }
    root
}

/// Runs `pollux show services` as nobody.
fn as_nobody(machine: &Machine) -> String {
    let directory = machine.path("");
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o755)).unwrap();
    // nobody may not reach the target directory of the build.
    let program = machine.copy_of(env!("CARGO_BIN_EXE_pollux"));
    let output = std::process::Command::new(program)
        .args(["show", "services", "--run-dir"])
        .arg(&directory)
        .uid(65534)
        .gid(65534)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(REFUSED));
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn who_may_not_use_the_socket_is_told_who_may() {
    if !may_change_user() {
        return;
    }
    let machine = Machine::up();
    let error = as_nobody(&machine);
    let expected = "control.sock belongs to user root and group root with mode 0660, you are nobody; run this as root \
                    (`sudo pollux ...`)\n";
    assert!(error.ends_with(expected), "{error}");
    assert!(error.starts_with("pollux: no permission: "), "{error}");
}

#[test]
fn who_may_join_a_group_is_told_which() {
    if !may_change_user() {
        return;
    }
    let mut machine = Machine::new();
    machine.write(
        "pollux.toml",
        "[control]\nsocket_group = \"adm\"\nsocket_mode = \"0620\"\n",
    );
    machine.start_polluxd();
    let error = as_nobody(&machine);
    let expected = "group adm with mode 0620, you are nobody; run this as root (`sudo pollux ...`) \
                    or join the group (`usermod -aG adm nobody`, then log in again)\n";
    assert!(error.ends_with(expected), "{error}");
}
