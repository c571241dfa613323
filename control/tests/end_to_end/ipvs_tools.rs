//! The stock `ipvsadm` and `keepalived`, as Debian has them, through `pollux ipvs`.

use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use pollux_api::statistics::TrafficTotals;

use super::fake_dataplane::connection;
use super::machine::Machine;

/// Runs a tool; its status and all that it printed.
fn tool(machine: &Machine, line: &str) -> (i32, String) {
    finish(command(machine, line).output().unwrap())
}

fn command(machine: &Machine, line: &str) -> Command {
    let mut command = machine.pollux_command("ipvs --");
    command.args(line.split_whitespace()).stdin(Stdio::null());
    command
}

fn finish(output: Output) -> (i32, String) {
    let text = [output.stdout, output.stderr].concat();
    (
        output.status.code().unwrap(),
        String::from_utf8(text).unwrap(),
    )
}

/// Runs a tool that has something to read.
fn fed(machine: &Machine, line: &str, input: &str) -> (i32, String) {
    let mut child = command(machine, line)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(input.as_bytes())
        .unwrap();
    finish(child.wait_with_output().unwrap())
}

fn silent(machine: &Machine, line: &str) {
    assert_eq!(tool(machine, line), (0, String::new()), "{line}");
}

const RULES: &str = "\
-A -t 198.51.100.1:80 -s wrr
-a -t 198.51.100.1:80 -r 203.0.113.11:8080 -m -w 3
-a -t 198.51.100.1:80 -r 203.0.113.12:8080 -m -w 0 -x 100 -y 50
-A -u 198.51.100.1:53 -s rr
-a -u 198.51.100.1:53 -r 203.0.113.11:53 -i -w 1 --tun-type ipip
-a -u 198.51.100.1:53 -r 203.0.113.12:53 -i -w 1 --tun-type gre --tun-nocsum
-a -u 198.51.100.1:53 -r 203.0.113.13:53 -i -w 1 --tun-type gre --tun-csum
-a -u 198.51.100.1:53 -r 203.0.113.14:53 -i -w 1 --tun-type gue --tun-port 5555 --tun-nocsum
-a -u 198.51.100.1:53 -r 203.0.113.15:53 -i -w 1 --tun-type gue --tun-port 5555 --tun-remcsum
-A -t [2001:db8::1]:80 -s wlc
-a -t [2001:db8::1]:80 -r [2001:db8:1::11]:80 -g -w 1
";

/// What `-S` says of [`RULES`]: it leaves thresholds out.
fn saved() -> String {
    RULES.replace(" -x 100 -y 50", "")
}

#[test]
fn rules_are_restored_and_saved() {
    let machine = Machine::up();
    machine.done("service add -t 198.51.100.9:80");
    assert_eq!(fed(&machine, "ipvsadm-restore", RULES), (0, String::new()));
    assert_eq!(tool(&machine, "ipvsadm-save -n"), (0, saved()));
    let state = machine.state.lock().unwrap();
    let servers = &state.configuration.services[0].destinations;
    assert_eq!(servers[0].id.to_string(), "203.0.113.12:8080");
    assert_eq!(
        (servers[0].upper_threshold, servers[0].lower_threshold),
        (100, 50)
    );
    assert_eq!(servers[1].weight.get(), 3);
    drop(state);
    silent(&machine, "ipvsadm -C");
    assert_eq!(tool(&machine, "ipvsadm -Sn"), (0, String::new()));
}

#[test]
fn an_edit_replaces_the_tunnel() {
    let machine = Machine::up();
    silent(&machine, "ipvsadm -A -t 198.51.100.1:80 -s rr");
    let server = "-t 198.51.100.1:80 -r 203.0.113.11:80";
    silent(
        &machine,
        &format!("ipvsadm -a {server} -i --tun-type gue --tun-port 5555 --tun-csum"),
    );
    for (options, kept) in [
        ("", "gue:5555:+c"),
        ("-i --tun-type gue --tun-port 6080", "gue:6080:-c"),
        ("-i --tun-type gre --tun-csum", "gre:+c"),
        ("-i -w 5", "ipip"),
        ("-m", "n/a"),
    ] {
        if !options.is_empty() {
            silent(&machine, &format!("ipvsadm -e {server} {options}"));
        }
        let (code, text) = tool(&machine, "ipvsadm -Ln --tun-info");
        assert_eq!(code, 0, "{text}");
        let line = text.lines().find(|line| line.contains("203.0.113.11"));
        let shown = line.unwrap().split_whitespace().nth(3);
        assert_eq!(shown, Some(kept), "{options}: {text}");
        // Pollux' own listing shows the same, in a column of its own while there is any but IP in IP.
        let own = machine.shown("show services");
        let is_shown = !["ipip", "n/a"].contains(&kept);
        assert_eq!(own.contains(&format!(" {kept} ")), is_shown, "{own}");
    }
}

#[test]
fn each_command_does_what_it_says() {
    let machine = Machine::up();
    for line in [
        "ipvsadm -A -t 198.51.100.1:80 -s rr",
        "ipvsadm -a -t 198.51.100.1:80 -r 203.0.113.11:80 -m",
        "ipvsadm -a -t 198.51.100.1:80 -r 203.0.113.12:80 -m",
        "ipvsadm -E -t 198.51.100.1:80 -s wlc",
        "ipvsadm -e -t 198.51.100.1:80 -r 203.0.113.12:80 -m -w 7",
        "ipvsadm -d -t 198.51.100.1:80 -r 203.0.113.11:80",
        "ipvsadm -A -u 198.51.100.1:53",
        "ipvsadm -D -u 198.51.100.1:53",
        "ipvsadm --set 0 120 0",
        "ipvsadm -A -t 198.51.100.1:81 -s sh -b sh-port,sh-fallback",
        "ipvsadm -A -t 198.51.100.1:82 -s mh -b mh-fallback",
        "ipvsadm -E -t 198.51.100.1:82 -s mh -b mh-port",
    ] {
        silent(&machine, line);
    }
    let listed = "\
IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn
TCP  198.51.100.1:80 wlc
  -> 203.0.113.12:80              Masq    7      7          1234      
TCP  198.51.100.1:81 sh (sh-fallback,sh-port)
TCP  198.51.100.1:82 mh (mh-port)
";
    assert_eq!(tool(&machine, "ipvsadm -Ln"), (0, listed.to_owned()));
    assert_eq!(
        tool(&machine, "ipvsadm -Ln --timeout"),
        (0, "Timeout (tcp tcpfin udp): 900 120 300\n".to_owned())
    );
    assert_eq!(tool(&machine, "ipvsadm -Ln --daemon"), (0, String::new()));
}

#[test]
fn counters_are_shown_and_set_to_zero() {
    let machine = Machine::up();
    silent(&machine, "ipvsadm -A -t 198.51.100.1:80 -s rr");
    silent(
        &machine,
        "ipvsadm -a -t 198.51.100.1:80 -r 203.0.113.11:80 -m",
    );
    let totals = TrafficTotals {
        connections: 10,
        inbound_packets: 20_000_000_000,
        outbound_packets: 30,
        inbound_bytes: 12_345_678_901_234,
        outbound_bytes: 50,
    };
    let id = "TCP 198.51.100.1:80".to_owned();
    machine.state.lock().unwrap().totals.insert(id, totals);
    let (_, listed) = tool(&machine, "ipvsadm -Ln --stats --exact");
    let numbers: Vec<Vec<&str>> = listed
        .lines()
        .skip(3)
        .map(|line| line.split_whitespace().rev().take(5).collect())
        .collect();
    assert_eq!(
        numbers,
        [
            ["50", "12345678901234", "30", "20000000000", "10"],
            // ipvsadm reads a server's packets with 32 bits, whatever it is sent.
            ["25", "6172839450617", "15", "1410065408", "5"]
        ],
        "{listed}"
    );
    silent(&machine, "ipvsadm -Z -t 198.51.100.1:80");
    assert!(machine.state.lock().unwrap().totals.is_empty());
    let (code, text) = tool(&machine, "ipvsadm -Z -t 198.51.100.2:80");
    assert_eq!((code, text.as_str()), (255, "No such service\n"));
    silent(&machine, "ipvsadm -Z");
}

#[test]
fn many_services_and_servers_are_listed_whole() {
    let machine = Machine::up();
    let mut rules = String::new();
    for port in 1..=60 {
        rules += &format!("-A -t 198.51.100.1:{port} -s rr\n");
        for server in 1..=(if port == 60 { 250 } else { 2 }) {
            rules +=
                &format!("-a -t 198.51.100.1:{port} -r 10.0.0.{server}:{port} -m -w {server}\n");
        }
    }
    assert_eq!(fed(&machine, "ipvsadm -R", &rules), (0, String::new()));
    let (_, saved) = tool(&machine, "ipvsadm -Sn");
    let sorted = |text: &str| {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    assert_eq!(sorted(&saved), sorted(&rules));
}

#[test]
fn connections_come_from_the_table() {
    let machine = Machine::up();
    machine.state.lock().unwrap().connections = (20_000..45_000).map(connection).collect();
    let (code, listed) = tool(&machine, "ipvsadm -Lnc");
    assert_eq!(code, 0, "{listed}");
    let mut lines = listed.lines();
    assert_eq!(lines.next(), Some("IPVS connection entries"));
    assert_eq!(
        lines.next(),
        Some("pro expire state       source             virtual            destination")
    );
    assert_eq!(
        lines.next(),
        Some("TCP 14:59  ESTABLISHED 192.0.2.10:20000   198.51.100.1:80    203.0.113.11:80")
    );
    assert_eq!(lines.count(), 24_999);
    // A reader that has seen enough.
    let (code, head) = tool(&machine, "head -n 1 /proc/net/ip_vs_conn");
    assert_eq!((code, head.split_whitespace().next()), (0, Some("Pro")));
}

#[test]
fn proc_files_are_there_to_be_read_and_only_those() {
    let machine = Machine::up();
    fed(&machine, "ipvsadm -R", RULES);
    let services = "\
IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port Forward Weight ActiveConn InActConn
TCP  C6336401:0050 wrr  
  -> CB00710C:1F90      Masq    0      7          1234      
  -> CB00710B:1F90      Masq    3      7          1234      
UDP  C6336401:0035 rr  
  -> CB00710F:0035      Tunnel  1      7          1234      
  -> CB00710E:0035      Tunnel  1      7          1234      
  -> CB00710D:0035      Tunnel  1      7          1234      
  -> CB00710C:0035      Tunnel  1      7          1234      
  -> CB00710B:0035      Tunnel  1      7          1234      
TCP  [2001:0db8:0000:0000:0000:0000:0000:0001]:0050 wlc 
  -> [2001:0db8:0001:0000:0000:0000:0000:0011]:0050      Route   1      7          1234      
";
    assert_eq!(
        tool(&machine, "cat /proc/net/ip_vs"),
        (0, services.to_owned())
    );
    let totals = TrafficTotals {
        connections: 9,
        inbound_packets: 14,
        outbound_packets: 5,
        inbound_bytes: 558,
        outbound_bytes: 200,
    };
    let id = "TCP 198.51.100.1:80".to_owned();
    machine.state.lock().unwrap().totals.insert(id, totals);
    let (code, text) = tool(&machine, "cat /proc/net/ip_vs_stats");
    assert_eq!(code, 0, "{text}");
    let counted = "       9        E        5              22E               C8";
    assert_eq!(text.lines().nth(2), Some(counted), "{text}");
    let (code, text) = tool(&machine, "cat /proc/net/ip_vs_stats_percpu");
    assert_eq!(code, 0, "{text}");
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[2], format!("  0 {counted}"), "{text}");
    assert!(lines[3].starts_with("  1        0"), "{text}");
    assert_eq!(lines[4], format!("  ~ {counted}"), "{text}");
    let (code, text) = tool(&machine, "cat /proc/net/ip_vs_app");
    assert_eq!((code, text.lines().count()), (0, 2), "{text}");
    let (code, text) = tool(&machine, "cat /proc/net/ip_vs_nosuch");
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("No such file or directory"), "{text}");
    let (code, text) = tool(&machine, "cp /dev/null /proc/net/ip_vs");
    assert_eq!(code, 1, "{text}");
    // All other files are what they are.
    let own = machine.write("own", "text\n");
    let (code, text) = tool(&machine, &format!("cat {}", own.display()));
    assert_eq!((code, text.as_str()), (0, "text\n"));
}

/// Runs a script by a shell under `pollux ipvs`.
fn script(machine: &Machine, shell: &str, text: &str) -> (i32, String) {
    let mut command = machine.pollux_command("ipvs --");
    command.args([shell, "-c", text]).stdin(Stdio::null());
    finish(command.output().unwrap())
}

fn setting(machine: &Machine, name: &str) -> String {
    let (code, text) = tool(machine, &format!("cat /proc/sys/net/ipv4/vs/{name}"));
    assert_eq!(code, 0, "{text}");
    text.trim().to_owned()
}

#[test]
fn what_is_written_to_a_setting_is_a_change() {
    let machine = Machine::up();
    // By the shell itself, by a program that it becomes, by one that opens the file.
    for (shell, text) in [
        ("sh", "echo 1 > FILE"),
        ("bash", "echo 2 > FILE"),
        ("sh", "/bin/echo 3 > FILE"),
        ("sh", "(printf 1) 1>FILE"),
        ("sh", "echo 2 | tee FILE >/dev/null"),
        ("sh", "echo 3 | dd of=FILE status=none conv=notrunc"),
        ("bash", "exec 5>FILE; echo 1 >&5"),
        ("sh", "sysctl -q -w net.ipv4.vs.drop_entry=2"),
        ("sh", "sysctl -q net.ipv4.vs.drop_entry=3"),
    ] {
        let value: String = text.chars().filter(|c| ('1'..='3').contains(c)).collect();
        let file = "/proc/sys/net/ipv4/vs/drop_entry";
        let (code, said) = script(&machine, shell, &text.replace("FILE", file));
        assert_eq!((code, said.as_str()), (0, ""), "{text}");
        let settings = &machine.json("show configuration")["settings"];
        let now = settings["drop_entry"].to_string();
        assert!(value.contains(&now), "{text}: {settings}");
        assert_eq!(setting(&machine, "drop_entry"), now, "{text}");
    }
    assert_eq!(setting(&machine, "drop_entry"), "3");
}

#[test]
fn what_a_setting_cannot_be_is_an_error_and_changes_nothing() {
    let machine = Machine::up();
    let folder = "/proc/sys/net/ipv4/vs";
    let before = machine.json("show configuration");
    for (shell, text, said) in [
        ("sh", "echo 4 > FOLDER/drop_entry", "I/O error"),
        ("bash", "echo 4 > FOLDER/drop_entry", "Invalid argument"),
        (
            "sh",
            "/bin/echo yes > FOLDER/drop_entry",
            "Invalid argument",
        ),
        ("sh", "echo -1 | tee FOLDER/drop_entry", "Invalid argument"),
        (
            "sh",
            "sysctl -w net.ipv4.vs.drop_entry=4",
            "Invalid argument",
        ),
        ("bash", "echo 1 > FOLDER/no_such", "o such file"),
        ("bash", "echo 1 > /proc/net/ip_vs", "Permission denied"),
        (
            "bash",
            "echo 1 > FOLDER/conntrack",
            "pollux: conntrack can only be 0: packets do not pass",
        ),
        (
            "bash",
            "echo 60 50 > FOLDER/sync_threshold",
            "Invalid argument",
        ),
        ("sh", "cd FOLDER", "can't cd"),
    ] {
        let (code, output) = script(&machine, shell, &text.replace("FOLDER", folder));
        assert_ne!(code, 0, "{text}: {output}");
        assert!(output.contains(said), "{text}: {output}");
    }
    assert_eq!(machine.json("show configuration"), before);
}

#[test]
fn the_folder_of_the_settings_is_listed_and_looked_at() {
    let machine = Machine::up();
    machine.done("set sloppy_tcp=1");
    let folder = "/proc/sys/net/ipv4/vs";
    let (code, names) = tool(&machine, &format!("ls {folder}"));
    assert_eq!(code, 0, "{names}");
    let names: Vec<&str> = names.split_whitespace().collect();
    assert!(
        names.contains(&"am_droprate") && names.contains(&"sync_threshold"),
        "{names:?}"
    );
    for (shell, text) in [
        (
            "sh",
            "test -d FOLDER && test -w FOLDER/sloppy_tcp && test ! -e FOLDER/no_such",
        ),
        (
            "bash",
            "[[ -f FOLDER/sloppy_tcp && ! -e /proc/net/ip_vs_nosuch && -r /proc/net/ip_vs ]]",
        ),
        ("sh", "test $(cat FOLDER/sloppy_*cp) = 1"),
        ("sh", "test \"$(sysctl -n net.ipv4.vs.sloppy_tcp)\" = 1"),
        (
            "sh",
            "sysctl net.ipv4.vs | grep -q '^net.ipv4.vs.lblc_expiration = 86400$'",
        ),
        (
            "sh",
            "sysctl net.ipv4.vs | grep -Pq '^net.ipv4.vs.sync_threshold = 3\\t50$'",
        ),
    ] {
        let (code, output) = script(&machine, shell, &text.replace("FOLDER", folder));
        assert_eq!((code, output.as_str()), (0, ""), "{text}");
    }
}

#[test]
fn what_is_refused_is_said_and_the_log_says_why() {
    let machine = Machine::up();
    silent(&machine, "ipvsadm -A -t 198.51.100.1:80 -s rr");
    silent(
        &machine,
        "ipvsadm -a -t 198.51.100.1:80 -r [2001:db8::1]:80 -i",
    );
    let before = machine.json("show configuration");
    let (line, reason) = (
        "--start-daemon master --mcast-interface lo",
        "is of another address family than its service",
    );
    let logged = machine.log().len();
    let (code, text) = tool(&machine, &format!("ipvsadm {line}"));
    assert_eq!(code, 255, "{line}: {text}");
    // The kernel's number says no more, and nor does the tool.
    assert_eq!(
        text,
        "Invalid operation.  Possibly wrong module version, address not unicast, ...\n"
    );
    let log = machine.log().split_off(logged);
    assert!(log.contains(reason), "{line}: {log}");
    assert_eq!(machine.json("show configuration"), before);
}

#[test]
fn without_polluxd_or_the_tool_it_is_said_what_to_start() {
    let mut machine = Machine::new();
    machine.start_dataplane();
    let ran = machine.pollux("ipvs -- ipvsadm -Ln");
    assert_eq!(ran.code, 1);
    assert!(
        ran.error.contains("polluxd is not running")
            && ran.error.contains("systemctl start polluxd"),
        "{}",
        ran.error
    );
    machine.start_polluxd();
    let ran = machine.pollux("ipvs -- no-such-tool");
    assert_eq!(ran.code, 1);
    assert!(
        ran.error.contains("cannot start no-such-tool") && ran.error.contains("apt install"),
        "{}",
        ran.error
    );
    // A data plane that is not there is another thing.
    machine.stop_dataplane();
    let (code, text) = tool(&machine, "ipvsadm -A -t 198.51.100.1:80");
    assert_eq!(code, 2, "{text}");
    assert!(text.contains("Resource temporarily unavailable"), "{text}");
    assert!(text.contains("pollux: the data plane"), "{text}");
    machine.until("the log says so", |machine| {
        machine.log().contains("the data plane is not running")
    });
}

#[test]
fn a_restarted_polluxd_is_found_again() {
    let mut machine = Machine::up();
    machine.signal_polluxd("TERM");
    assert!(!machine.path("ipvs.sock").exists());
    machine.start_polluxd();
    // A shell that is there before and after; polluxd is away while the tool starts.
    let (ready, go) = (machine.path("ready"), machine.path("go"));
    let script = format!(
        "touch {}; until [ -e {} ]; do sleep 0.05; done; ipvsadm -A -t 198.51.100.1:80 -s rr",
        ready.display(),
        go.display()
    );
    let mut shell = machine.pollux_command("ipvs --");
    let shell = shell.args(["sh", "-c", &script]).spawn().unwrap();
    machine.until("the shell runs", |_| ready.exists());
    machine.signal_polluxd("KILL");
    machine.write("go", "");
    std::thread::sleep(Duration::from_millis(500));
    machine.start_polluxd();
    assert!(shell.wait_with_output().unwrap().status.success());
    let services = machine.json("show configuration");
    assert_eq!(services["services"].as_array().unwrap().len(), 1);
}

#[test]
fn the_kernels_own_sockets_stay_the_kernels() {
    let machine = Machine::up();
    // NETLINK_ROUTE, and an ordinary socket.
    let (code, text) = tool(&machine, "ip -o link show lo");
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("LOOPBACK"), "{text}");
    // A generic netlink family of the kernel's is none of Pollux'.
    let (code, text) = tool(&machine, "timeout 10 ip tcp_metrics show");
    assert_eq!(code, 1, "{text}");
}

/// A keepalived, ended with this value.
struct Keepalived(Child);

impl Drop for Keepalived {
    fn drop(&mut self) {
        let pid = self.0.id().to_string();
        let _ = Command::new("kill").arg(pid).status();
        let _ = self.0.wait();
    }
}

impl Keepalived {
    fn start(machine: &Machine, configuration: &str) -> Self {
        let file = machine.write("keepalived.conf", configuration);
        let log = fs::File::create(machine.path("keepalived.log")).unwrap();
        let mut command = machine.pollux_command("ipvs -- keepalived --dont-fork --log-console");
        command
            .args(["--check", "--log-detail", "--use-file"])
            .arg(file)
            .arg("--pid")
            .arg(machine.path("keepalived.pid"))
            .arg("--checkers_pid")
            .arg(machine.path("checkers.pid"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        Self(command.spawn().unwrap())
    }
}

#[test]
fn keepalived_puts_servers_in_and_takes_them_out() {
    let machine = Machine::up();
    let up = TcpListener::bind("127.0.0.1:0").unwrap();
    let down = TcpListener::bind("127.0.0.1:0").unwrap();
    let ports = [&up, &down].map(|listener| listener.local_addr().unwrap().port());
    drop(down);
    let server = |port| {
        format!(
            "real_server 127.0.0.1 {port} {{
                weight 3
                TCP_CHECK {{ connect_timeout 3 retry 0 delay_before_retry 1 }}
            }}"
        )
    };
    let [up_port, down_port] = ports;
    let configuration = format!(
        "global_defs {{ }}
        virtual_server 198.51.100.1 80 {{
            delay_loop 1
            lvs_sched wrr
            lvs_method NAT
            protocol TCP
            alpha
            {}
            {}
        }}",
        server(up_port),
        server(down_port)
    );
    let keepalived = Keepalived::start(&machine, &configuration);
    let servers = |machine: &Machine| -> Vec<u16> {
        let state = machine.state.lock().unwrap();
        let services = state.configuration.services.first();
        let mut ports: Vec<u16> = services
            .into_iter()
            .flat_map(|entry| &entry.destinations)
            .filter(|server| server.weight.get() == 3)
            .map(|server| server.id.port())
            .collect();
        ports.sort_unstable();
        ports
    };
    let until = |ports: &[u16]| {
        let mut ports = ports.to_vec();
        ports.sort_unstable();
        let what = format!(
            "{ports:?}; keepalived says\n{}",
            fs::read_to_string(machine.path("keepalived.log")).unwrap()
        );
        machine.until(&what, |machine| servers(machine) == ports);
    };
    until(&[up_port]);
    let back = TcpListener::bind(("127.0.0.1", down_port)).unwrap();
    until(&[up_port, down_port]);
    drop(up);
    until(&[down_port]);
    drop(back);
    until(&[]);
    drop(keepalived);
    machine.until("it takes its service with it", |machine| {
        let state = machine.state.lock().unwrap();
        state.configuration.services.is_empty()
    });
}
