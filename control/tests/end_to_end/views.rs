//! What `pollux show` prints, letter by letter.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use pollux_api::statistics::TrafficTotals;
use serde_json::json;

use super::fake_dataplane::{Mischief, connection};
use super::machine::Machine;

fn machine() -> Machine {
    let machine = Machine::up();
    machine.done("service add -t 198.51.100.1:80 -s wrr");
    machine.done("server add -t 198.51.100.1:80 -r 203.0.113.12:8080 -m -w 2");
    machine.done("server add -t 198.51.100.1:80 -r 203.0.113.11 -m -w 3");
    machine.done("service add -u [2001:db8:100::1]:53");
    machine.done("server add -u [2001:db8:100::1]:53 -r 2001:db8:2::11");
    machine.state.lock().unwrap().totals.insert(
        "TCP 198.51.100.1:80".to_owned(),
        TrafficTotals {
            connections: 600,
            inbound_packets: 246_912,
            outbound_packets: 0,
            inbound_bytes: 24_691_357_802,
            outbound_bytes: 7,
        },
    );
    machine
}

fn assert_shown(machine: &Machine, line: &str, expected: &str) {
    let shown = machine.shown(line);
    assert_eq!(shown, expected, "{line}:\n{shown}");
    for line in shown.lines() {
        assert!(line.chars().count() <= 80, "wider than 80 columns: {line}");
    }
}

#[test]
fn services_look_as_in_ipvsadm() {
    let machine = machine();
    assert_shown(
        &machine,
        "show services",
        "\
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn
TCP  198.51.100.1:80 wrr
  -> 203.0.113.11:80              Masq    3      7          1234
  -> 203.0.113.12:8080            Masq    2      7          1234
UDP  [2001:db8:100::1]:53 wlc
  -> [2001:db8:2::11]:53          Route   1      7          1234
",
    );
    machine.done("server edit -t 198.51.100.1:80 -r 203.0.113.12:8080 -x 1000 -w 0");
    // In the order schedulers walk the list: here the other way round.
    machine.done("server remove -t 198.51.100.1:80 -r 203.0.113.11");
    machine.done("server add -t 198.51.100.1:80 -r 203.0.113.13 -i");
    assert_shown(
        &machine,
        "show services -t 198.51.100.1:80 --nosort",
        "\
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port         Forward Weight ActiveConn InActConn Upper Lower
TCP  198.51.100.1:80 wrr
  -> 203.0.113.13:80            Tunnel  1      7          1234      0     0
  -> 203.0.113.12:8080          Masq    0      7          1234      1000  0
",
    );
}

#[test]
fn tunnels_have_a_column_when_one_is_not_ip_in_ip() {
    let machine = machine();
    machine.done("service remove -u [2001:db8:100::1]:53");
    machine.done("server add -t 198.51.100.1:80 -r 203.0.113.13 -i");
    machine.done(
        "server add -t 198.51.100.1:80 -r 203.0.113.14 -i --tun-type gue --tun-port 65535 --tun-csum",
    );
    machine.done("server add -t 198.51.100.1:80 -r 203.0.113.15 -i --tun-type gre");
    assert_shown(
        &machine,
        "show services",
        "\
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port         Forward TunnelInfo   Weight ActiveConn InActConn
TCP  198.51.100.1:80 wrr
  -> 203.0.113.11:80            Masq    n/a          3      7          1234
  -> 203.0.113.12:8080          Masq    n/a          2      7          1234
  -> 203.0.113.13:80            Tunnel  ipip         1      7          1234
  -> 203.0.113.14:80            Tunnel  gue:65535:+c 1      7          1234
  -> 203.0.113.15:80            Tunnel  gre:-c       1      7          1234
",
    );
}

#[test]
fn totals_and_rates_look_as_in_ipvsadm() {
    let machine = machine();
    assert_shown(
        &machine,
        "show stats",
        "\
Prot LocalAddress:Port               Conns   InPkts  OutPkts  InBytes OutBytes
  -> RemoteAddress:Port
TCP  198.51.100.1:80                   600   246.9K        0   24.69G        7
  -> 203.0.113.11:80                   300   123.4K        0   12.34G        3
  -> 203.0.113.12:8080                 300   123.4K        0   12.34G        3
UDP  [2001:db8:100::1]:53                0        0        0        0        0
  -> [2001:db8:2::11]:53                 0        0        0        0        0
",
    );
    let exact = machine.shown("show stats --exact");
    assert!(
        exact.contains("600   246912        0 24691357802"),
        "{exact}"
    );
    assert_shown(
        &machine,
        "show rates -u [2001:db8:100::1]:53",
        "\
Prot LocalAddress:Port                 CPS    InPPS   OutPPS    InBPS   OutBPS
  -> RemoteAddress:Port
UDP  [2001:db8:100::1]:53                0        0        0        0        0
  -> [2001:db8:2::11]:53                 0        0        0        0        0
",
    );
}

#[test]
fn connections_are_walked_page_by_page() {
    let machine = machine();
    assert_shown(
        &machine,
        "show connections",
        "pro expire state       source             virtual            destination\n",
    );
    assert_eq!(machine.json("show connections"), json!([]));
    // More than two pages.
    let count = 10_000;
    machine.state.lock().unwrap().connections = (1..=count).map(connection).collect();
    let shown = machine.shown("show connections");
    let lines: Vec<&str> = shown.lines().collect();
    assert_eq!(lines.len(), usize::from(count) + 1);
    assert_eq!(
        lines[10_000],
        "TCP 14:59  ESTABLISHED 192.0.2.10:10000   198.51.100.1:80    203.0.113.11:80"
    );
    let values = machine.json("show connections -t 198.51.100.1:80");
    assert_eq!(values.as_array().unwrap().len(), usize::from(count));
    assert_eq!(values[0]["client"], "192.0.2.10:1");
    assert_eq!(
        machine.json("show connections -u 198.51.100.1:80"),
        json!([])
    );
}

#[test]
fn a_reader_that_leaves_is_no_error() {
    let machine = machine();
    machine.state.lock().unwrap().connections = (1..=20_000).map(connection).collect();
    let mut pollux = machine
        .pollux_command("show connections")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = String::new();
    BufReader::new(pollux.stdout.take().unwrap())
        .read_line(&mut first)
        .unwrap();
    let output = pollux.wait_with_output().unwrap();
    assert!(first.starts_with("pro expire"));
    assert_eq!((output.status.code(), output.stderr), (Some(0), Vec::new()));
}

#[test]
fn ports_and_workers_fit_the_screen() {
    let machine = machine();
    assert_shown(
        &machine,
        "show ports",
        "\
lan: link up, 10 Gbit/s, mtu 1500, 02:00:00:00:00:01
    device net_af_packet0,iface=eth1,qpairs=2
    driver net_af_packet, queues: 2 receive, 2 transmit, by rss, node 0
    TAP by vhost-net, fills in checksums of GUE
                                packets     bytes    errors    missed no buffer
    received                     12.34M    1.234G         0         3         0
    sent                         12.34M    1.234G         0
    of those, from the kernel        42
    received a second                 0         0
    sent a second                     0         0
",
    );
    let extended = machine.shown("show ports --extended");
    assert!(
        extended.ends_with("    rx_good_packets 12345678\n"),
        "{extended}"
    );
    assert_shown(
        &machine,
        "show workers",
        "\
Worker Core    Busy Received     PPS   Conns Created     CPS Expired     Met Gen
     0    1  12.5 %   12.34M       0     500     600       0     100  75.0 %   5
     1    2  12.5 %   12.34M       0     500     600       0     100  75.0 %   5
",
    );
}

#[test]
fn the_director_as_a_whole() {
    let machine = machine();
    assert_shown(
        &machine,
        "show director",
        "\
\x20           connections    in packets   out packets      in bytes     out bytes
total               600        246.9K             0        24.69G             7
a second              0             0             0             0             0

Connection table: 1000 of 4096 entries in use (24.4 %)
With room for IPv6: 24 of 1024
          900 tcp ESTABLISHED
          100 udp UDP
",
    );
    let exact = machine.shown("show director --exact");
    assert!(exact.contains("   24691357802 "), "{exact}");
    let value = machine.json("show director");
    assert_eq!(value["table"]["states"][1]["connections"], 900);
    assert_eq!(value["totals"]["connections"], 600);
}

#[test]
fn drops_hide_what_never_happened_and_check_the_sum() {
    let machine = machine();
    assert_shown(
        &machine,
        "show drops",
        "\
lan: 1000 received
     900 forwarded               Sent to a server or back to a client.
      90 punted                  Handed to the kernel: not for a virtual
                                 service.
       8 dropped: ipv4_truncated IPv4 header or packet longer than the frame.
       2 held                    Waits for the MAC address of its next hop.
    1000 sum                     All are accounted for.
",
    );
    assert_shown(
        &machine,
        "show drops --all",
        "\
lan: 1000 received
     900 forwarded                  Sent to a server or back to a client.
      90 punted                     Handed to the kernel: not for a virtual
                                    service.
       8 dropped: ipv4_truncated    IPv4 header or packet longer than the frame.
       0 dropped: ipv4_bad_checksum IPv4 header checksum wrong; the longest of
                                    all meanings takes more than one line of 80.
       2 held                       Waits for the MAC address of its next hop.
    1000 sum                        All are accounted for.
",
    );
    machine.state.lock().unwrap().mischief = Mischief::LoseCount;
    let wrong = machine.shown("show drops");
    let wrong = wrong.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        wrong.ends_with("1000 sum BUT 1001 are received: a counter lies, please report it."),
        "{wrong}"
    );
}

#[test]
fn schedulers_say_what_they_are_good_for() {
    let machine = Machine::new();
    let shown = machine.shown("show schedulers");
    for line in shown.lines() {
        assert!(line.chars().count() <= 80, "wider than 80 columns: {line}");
    }
    for text in [
        "rr    Each server in turn, whatever its weight.\n      Good for equal servers; short requests, equally long.\n",
        "      Flags: mh-fallback, mh-port, mh-bounded=PERCENT.\n",
        "p2c   The less loaded of two different ones drawn by weight; not in Linux.\n",
        "ewma  By weight, divided by the time to answer a SYN (nat); not in Linux.\n",
    ] {
        assert!(shown.contains(text), "{text}is not in\n{shown}");
    }
    let listed = machine.json("show schedulers");
    assert_eq!(listed.as_array().unwrap().len(), 16);
    assert_eq!(
        listed[7]["flags"],
        serde_json::json!(["sh-fallback", "sh-port"])
    );
}

#[test]
fn the_configuration_is_shown_as_a_file() {
    let machine = machine();
    assert_shown(
        &machine,
        "show configuration",
        "\
[[service]]
protocol = \"tcp\"
address = \"198.51.100.1:80\"
scheduler = \"wrr\"

[[service.server]]
address = \"203.0.113.12:8080\"
method = \"nat\"
weight = 2

[[service.server]]
address = \"203.0.113.11:80\"
method = \"nat\"
weight = 3

[[service]]
protocol = \"udp\"
address = \"[2001:db8:100::1]:53\"
scheduler = \"wlc\"

[[service.server]]
address = \"[2001:db8:2::11]:53\"
",
    );
}

#[test]
fn programs_get_the_values_of_the_socket() {
    let machine = machine();
    let mut client = machine.client();
    for (line, command) in [
        ("show services", "show_services"),
        ("show stats", "show_services"),
        ("show rates", "show_rates"),
        ("show director", "show_director"),
        ("show ports", "show_ports"),
        ("show workers", "show_workers"),
        ("show drops", "show_drops"),
        ("show configuration", "show_configuration"),
    ] {
        let request = format!(r#"{{"version":1,"id":1,"body":{{"command":"{command}"}}}}"#);
        let answer = client.ask(&request).unwrap();
        assert_eq!(
            answer["result"]["Ok"]["value"],
            machine.json(line),
            "{line}"
        );
    }
}

#[test]
fn who_says_too_little_or_almost_it_is_helped() {
    let machine = machine();
    assert_eq!(
        machine.shown("show service"),
        machine.shown("show services")
    );
    for line in ["", "show"] {
        // A variable that is set counts as something said.
        let output = machine
            .pollux_command(line)
            .env_remove("POLLUX_RUN_DIR")
            .output()
            .unwrap();
        let help = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{help}");
        assert!(
            help.contains("Usage: pollux") && help.contains("Options:"),
            "{help}"
        );
    }
    for view in ["health", "quorums", "services", "rates", "stats"] {
        let line = format!("show {view} -t 198.51.100.9:1");
        machine.refused(&line, 1, "no such service: TCP 198.51.100.9:1");
    }
    // It is there and not checked.
    assert_eq!(machine.json("show health -t 198.51.100.1:80"), json!([]));
}

#[test]
fn help_has_examples_and_every_verb() {
    let machine = Machine::new();
    let help = machine.shown("--help");
    for text in [
        "pollux service add -t 198.51.100.1:80 -s wrr",
        "Exit status: 0 done, 1 refused or not reachable, 2 wrong usage.",
        "service ",
        "server ",
        "show ",
        "flush ",
        "zero ",
        "check ",
        "save ",
        "settings ",
    ] {
        assert!(help.contains(text), "{text} is not in\n{help}");
    }
}

/// Services with the longest addresses, numbers of many digits, a server that is off.
fn crowded() -> Machine {
    let mut machine = Machine::new();
    let mut file = String::from(
        "[[check]]\nname = \"web\"\nkind = \"tcp\"\ninterval_ms = 100\ntimeout_ms = 80\n\
         [[service]]\nprotocol = \"sctp\"\naddress = \"[2001:db8:1000:2000:3000:4000:5000:6000]:65535\"\n\
         scheduler = \"mh\"\nscheduler_flags = [\"mh-fallback\", \"mh-port\"]\npersistence_timeout = 86400\n",
    );
    for number in 1..3 {
        file.push_str(&format!(
            "[[service.server]]\naddress = \"[2001:db8:1000:2000:3000:4000:5000:{number}]:65535\"\nmethod = \"tunnel\"\n\
             upper_threshold = 100000\ntunnel_type = \"gue\"\ntunnel_port = 65535\nweight = 2147483647\n"
        ));
    }
    file.push_str(
        "[[service]]\nprotocol = \"tcp\"\naddress = \"198.51.100.1:80\"\ncheck = \"web\"\n",
    );
    file.push_str("[[service.server]]\naddress = \"127.0.0.1:1\"\nmethod = \"nat\"\n");
    machine.write("pollux.toml", &file);
    machine.start_dataplane();
    machine.start_polluxd();
    for service in [
        "SCTP [2001:db8:1000:2000:3000:4000:5000:6000]:65535",
        "TCP 198.51.100.1:80",
    ] {
        let totals = TrafficTotals {
            connections: 123_456_789,
            inbound_packets: 12_345_678_901,
            outbound_packets: 12_345_678_901,
            inbound_bytes: 1_234_567_890_123,
            outbound_bytes: 123_456_789_012_345,
        };
        let mut state = machine.state.lock().unwrap();
        state.totals.insert(service.to_owned(), totals);
        state.connections = (1..=3).map(connection).collect();
        for connection in &mut state.connections {
            connection.client = "[2001:db8:1000:2000:3000:4000:5000:7000]:65535"
                .parse()
                .unwrap();
            connection.virtual_address = "[2001:db8:1000:2000:3000:4000:5000:6000]:65535"
                .parse()
                .unwrap();
        }
    }
    machine.until("the server is off", |machine| {
        machine.json("show health")[0]["state"] == "down"
    });
    machine
}

fn on_screen(machine: &Machine, columns: usize, line: &str) -> String {
    let output = machine
        .pollux_command(line)
        .env("COLUMNS", columns.to_string())
        .output()
        .unwrap();
    assert!(output.status.success(), "{line}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

const VIEWS: [&str; 17] = [
    "show services",
    "show services --nosort",
    "show connections",
    "show stats",
    "show stats --exact",
    "show rates",
    "show rates --exact",
    "show director",
    "show director --exact",
    "show ports --extended",
    "show workers",
    "show drops --all",
    "show health",
    "show quorums",
    "show settings",
    "show schedulers",
    "events",
];

#[test]
fn views_fit_narrow_screens_and_use_wide_ones() {
    let machine = crowded();
    for view in VIEWS {
        for columns in [80, 200] {
            let shown = on_screen(&machine, columns, view);
            let widest = shown.lines().map(|line| line.chars().count()).max();
            // Of services, the line that ipvsadm has, too, is in one piece.
            let is_heading = |line: &str| line.starts_with("SCTP [") && line.contains(" mh ");
            for line in shown.lines().filter(|line| !is_heading(line)) {
                assert!(line.chars().count() <= columns, "{view}: {line}\n{shown}");
            }
            if columns == 200 && ["show drops --all", "show settings"].contains(&view) {
                assert!(widest > Some(80), "{shown}");
            }
        }
        // Programs get a row a line, and what they got before there were screens.
        assert_eq!(
            on_screen(&machine, 1000, view).lines().count(),
            on_screen(&machine, 200, view).lines().count(),
            "{view}"
        );
    }
    assert_eq!(
        on_screen(&machine, 80, "show stats"),
        "\
Prot LocalAddress:Port               Conns   InPkts  OutPkts  InBytes OutBytes
  -> RemoteAddress:Port
SCTP [2001:db8:1000:2000:3000:4000:5000:6000]:65535
                                    123.4M   12.34G   12.34G   1.234T   123.4T
  -> [2001:db8:1000:2000:3000:4000:5000:1]:65535
                                    61.72M   6.172G   6.172G   617.2G   61.72T
  -> [2001:db8:1000:2000:3000:4000:5000:2]:65535
                                    61.72M   6.172G   6.172G   617.2G   61.72T
TCP  198.51.100.1:80                123.4M   12.34G   12.34G   1.234T   123.4T
  -> 127.0.0.1:1                    61.72M   6.172G   6.172G   617.2G   61.72T
"
    );
    assert_eq!(
        on_screen(&machine, 80, "show services"),
        "\
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port         Forward TunnelInfo   Weight     PersistConn
        ActiveConn InActConn Upper  Lower
SCTP [2001:db8:1000:2000:3000:4000:5000:6000]:65535 mh (mh-fallback,mh-port) persistent 86400
  -> [2001:db8:1000:2000:3000:4000:5000:1]:65535
                                Tunnel  gue:65535:-c 2147483647 0
        7          1234      100000 0
  -> [2001:db8:1000:2000:3000:4000:5000:2]:65535
                                Tunnel  gue:65535:-c 2147483647 0
        7          1234      100000 0
TCP  198.51.100.1:80 wlc
  -> 127.0.0.1:1                Masq    n/a          0          0
        7          1234      0      0
"
    );
    let health = on_screen(&machine, 72, "show health");
    assert!(health.contains("connect: Connection refused\n"), "{health}");
}
