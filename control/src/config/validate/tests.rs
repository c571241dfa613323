//! What files are valid, what they mean, and every message for those that are not.

use pollux_api::ForwardingMethod;
use pollux_api::settings::{ExceptionPath, HugePages, PollMode};

use super::*;

fn valid(text: &str) -> ValidConfig {
    parse("pollux.toml", text).unwrap_or_else(|problems| panic!("{problems}"))
}

/// The problems of a text, without the name of the file.
fn problems(text: &str) -> Vec<String> {
    let problems = parse("f", text).unwrap_err().0;
    let lines = problems.iter().map(ToString::to_string);
    lines
        .map(|line| line.strip_prefix("f:").unwrap().to_owned())
        .collect()
}

fn assert_problem(text: &str, expected: &str) {
    assert_eq!(problems(text), [expected], "in\n{text}");
}

const SERVICE: &str = "[[service]]\nprotocol = \"tcp\"\naddress = \"198.51.100.1:80\"\n";

fn server(lines: &str) -> String {
    format!("{SERVICE}[[service.server]]\n{lines}\n")
}

#[test]
fn scheduler_flags_are_checked_where_they_are() {
    let flags = |scheduler: &str, flags: &str| {
        format!("{SERVICE}scheduler = \"{scheduler}\"\nscheduler_flags = {flags}\n")
    };
    let config = valid(&flags("sh", "[\"flag-2\", \"sh-fallback\"]"));
    let service = &config.configuration().services[0].service;
    assert_eq!(service.scheduler_flags.to_string(), "sh-fallback,sh-port");
    assert!(
        valid(&flags("rr", "[]")).configuration().services[0]
            .service
            .scheduler_flags
            .is_empty()
    );
    for (scheduler, given, expected) in [
        (
            "mh",
            "[\"mh-port\", \"mh-porto\", 3]",
            &[
                "5: service[0].scheduler_flags[1]: unknown scheduler flag \"mh-porto\": known are sh-fallback, sh-port, \
                 mh-fallback, mh-port, flag-1, flag-2, flag-3, mh-bounded=PERCENT",
                "5: service[0].scheduler_flags[2]: an integer stands here: write a string as in \"mh-fallback\"",
            ][..],
        ),
        (
            "mh",
            "\"mh-port\"",
            &[
                "5: service[0].scheduler_flags: a string stands here: write a list as in scheduler_flags = [\"mh-fallback\"]",
            ],
        ),
        (
            "wlc",
            "[\"mh-port\"]",
            &[
                "5: service[0].scheduler_flags: mh-port is a flag of scheduler mh, and this one is wlc: leave it out, or \
               write scheduler = \"mh\"",
            ],
        ),
        (
            "mh",
            "[\"mh-bounded=2000\"]",
            &[
                "5: service[0].scheduler_flags[0]: bad scheduler flag \"mh-bounded=2000\": write mh-bounded=PERCENT, from 0 \
               to 1000, as in mh-bounded=25",
            ],
        ),
    ] {
        assert_eq!(
            problems(&flags(scheduler, given)),
            expected,
            "{scheduler} {given}"
        );
    }
}

#[test]
fn nothing_is_valid() {
    for text in ["", "# only a comment\n", "[dataplane]\n[control]\n"] {
        assert_eq!(valid(text), ValidConfig::empty());
    }
}

/// The first TOML block of a text, each of whose lines begins with this.
fn example(text: &str, prefix: &str) -> String {
    let (begin, end) = (format!("{prefix}```toml"), format!("{prefix}```"));
    text.lines()
        .skip_while(|line| *line != begin)
        .skip(1)
        .take_while(|line| *line != end)
        .map(|line| format!("{}\n", line.strip_prefix(prefix.trim()).unwrap_or(line)))
        .collect()
}

#[test]
fn the_example_of_the_readme_is_valid() {
    let config = valid(&example(include_str!("../../../../README.md"), ""));
    assert!(!config.configuration().services.is_empty());
}

#[test]
fn the_example_of_the_schema_is_valid_and_means_what_it_says() {
    let example = example(include_str!("../file_schema.rs"), "//! ");
    let config = valid(&example);
    let dataplane = config.dataplane();
    assert_eq!(dataplane.cores, Some(vec![1, 2]));
    assert_eq!(dataplane.poll, Some(PollMode::Adaptive));
    assert_eq!(dataplane.huge_pages, HugePages::Auto);
    assert_eq!(dataplane.memory_mib, Some(256));
    assert_eq!(dataplane.ports[0].name, "wan");
    assert_eq!(dataplane.ports[0].mtu, Some(1500));
    assert_eq!(config.control().socket_mode, 0o660);
    assert_eq!(config.control().socket_group.as_deref(), Some("pollux"));
    let metrics = config.control().metrics.unwrap();
    assert_eq!(metrics.to_string(), "127.0.0.1:9750");
    let entry = &config.configuration().services[0];
    assert_eq!(entry.service.id.to_string(), "TCP 198.51.100.1:80");
    let persistence = entry.service.persistence.unwrap();
    assert_eq!(persistence.timeout_s, 300);
    assert_eq!(persistence.netmask.unwrap().to_string(), "255.255.255.0");
    assert_eq!(config.configuration().settings.get("sloppy_tcp"), 1);
    assert_eq!(config.configuration().settings.get("timeout_udp"), 60);
    assert_eq!(
        config.configuration().marks[0].to_string(),
        "mark 7 protocol tcp source 192.0.2.0/24 source-ports 1024-65535 destination 203.0.113.0/24 destination-ports 80 \
         ingress wan"
    );
    assert_eq!(entry.service.scheduler.as_str(), "mh");
    assert_eq!(
        entry.service.scheduler_flags.to_string(),
        "mh-fallback,mh-port"
    );
    assert_eq!(entry.destinations[0].method, ForwardingMethod::Tunnel);
    assert_eq!(entry.destinations[0].tunnel.to_string(), "gue:5555:+c");
    assert_eq!(entry.destinations[0].weight.get(), 3);
}

#[test]
fn left_out_settings_are_those_of_ipvsadm() {
    let config = valid(&server("address = \"203.0.113.11\""));
    let entry = &config.configuration().services[0];
    assert_eq!(entry.service.scheduler.as_str(), "wlc");
    let destination = &entry.destinations[0];
    assert_eq!(destination.id.to_string(), "203.0.113.11:80");
    assert_eq!(destination.method, ForwardingMethod::Direct);
    assert_eq!(destination.weight.get(), 1);
}

#[test]
fn the_last_server_of_the_file_is_the_first_of_the_list() {
    let text = server("address = \"203.0.113.11\"\n[[service.server]]\naddress = \"203.0.113.12\"");
    let config = valid(&text);
    let order = config.configuration().services[0].destinations.iter();
    let order: Vec<String> = order.map(|known| known.id.to_string()).collect();
    assert_eq!(order, ["203.0.113.12:80", "203.0.113.11:80"]);
}

#[test]
fn huge_pages_may_be_a_switch() {
    for (text, expected) in [
        ("true", HugePages::Always),
        ("false", HugePages::Never),
        ("\"auto\"", HugePages::Auto),
        ("\"never\"", HugePages::Never),
    ] {
        let config = valid(&format!("[dataplane]\nhuge_pages = {text}\n"));
        assert_eq!(config.dataplane().huge_pages, expected);
    }
}

#[test]
fn what_makes_the_taps_is_a_word_that_suits_the_ports() {
    for (text, expected) in ExceptionPath::WORDS {
        let config = valid(&format!("[dataplane]\nexception_path = \"{text}\"\n"));
        assert_eq!(config.dataplane().exception_path, expected);
        let json = serde_json::to_value(config.dataplane()).unwrap();
        assert_eq!(json["exception_path"], text);
    }
    let text = "[dataplane]\nexception_path = \"net_tap\"\n[[dataplane.port]]\nname = \"wan\"\ndevice = \"01:00.0\"\nmtu = 9000\n";
    assert_eq!(
        problems(text),
        [
            "2: dataplane.exception_path: net_tap carries no frames of an MTU above 1500, as port \"wan\" has: write \
             \"vhost-net\", or leave the key out"
        ]
    );
}

/// Several drivers send faster when nobody asks them to.
#[test]
fn nics_are_to_fill_in_checksums_when_the_file_has_gue_with_them() {
    let asked = |text: &str| parse_dataplane("file", text).unwrap().transmit_checksums;
    let gue = |checksum: &str| {
        server(&format!(
            "address = \"203.0.113.11\"\nmethod = \"tunnel\"\ntunnel_type = \"gue\"\ntunnel_port = 5555\n{checksum}"
        ))
    };
    assert!(!asked(&gue("")));
    assert!(!asked(&gue("tunnel_checksum = \"nocsum\"")));
    let summed = gue("tunnel_checksum = \"csum\"");
    assert!(asked(&summed));
    assert!(!asked(&format!(
        "[dataplane]\ntransmit_checksums = false\n{summed}"
    )));
    assert!(asked("[dataplane]\ntransmit_checksums = true\n"));
}

#[test]
fn every_problem_is_reported_at_once() {
    let text = format!(
        "[dataplane]\nconections = 5\npoll = \"fast\"\n\n{}",
        server("weight = -1\nmethod = 5\ncolour = \"red\"")
    );
    assert_eq!(
        problems(&text),
        [
            "2: dataplane.conections: unknown key: known here are connections, cores, exception_path, \
             file_prefix, huge_pages, memory_mib, poll, port, punt, transmit_checksums",
            "3: dataplane.poll: unknown poll \"fast\": known are \"adaptive\", \"busy\"",
            "8: service[0].server[0]: address is missing: write address = \"203.0.113.11:80\"",
            "9: service[0].server[0].weight: weight -1 out of range: write a number from 0 to 2147483647",
            "10: service[0].server[0].method: an integer stands here: write a string as in method = \"nat\"",
            "11: service[0].server[0].colour: unknown key: known here are address, lower_threshold, method, \
             tunnel_checksum, tunnel_port, tunnel_type, upper_threshold, weight",
        ]
    );
}

#[test]
fn every_error_of_syntax_is_reported_at_once() {
    let found = problems("[[service]]\naddress = \"198.51.100.1:80\nscheduler = wrr\n");
    assert!(found[0].starts_with("2: this is not TOML: "), "{found:?}");
    assert!(found[1].starts_with("3: this is not TOML: "), "{found:?}");
}

#[test]
fn servers_of_a_service_that_is_wrong_are_checked_too() {
    let found = problems("[[service]]\nprotocol = \"dccp\"\n[[service.server]]\nweight = -1\n");
    let keys = found
        .iter()
        .filter_map(|problem| problem.split(": ").nth(1));
    assert_eq!(
        keys.collect::<Vec<_>>(),
        [
            "service[0]",
            "service[0].protocol",
            "service[0].server[0]",
            "service[0].server[0].weight"
        ],
        "{found:?}"
    );
}

#[test]
fn services_are_checked() {
    assert_problem(
        "[[service]]\nprotocol = \"dccp\"\naddress = \"198.51.100.1:80\"\n",
        "2: service[0].protocol: unknown protocol \"dccp\": known are \"tcp\", \"udp\", \"sctp\"",
    );
    assert_problem(
        &format!("{SERVICE}scheduler = \"fair\"\n"),
        "4: service[0].scheduler: unknown scheduler \"fair\": known are rr, wrr, lc, wlc, lblc, lblcr, dh, sh, sed, nq, fo, ovf, mh, twos, p2c, ewma",
    );
    assert_problem(
        "[[service]]\nprotocol = \"tcp\"\naddress = \"198.51.100.1:0\"\n",
        "3: service[0].address: service TCP 198.51.100.1:0: a service of all ports must be persistent, or what belongs \
         together would part: make it so, or write a port",
    );
    assert_problem(
        &format!("{SERVICE}\n{SERVICE}"),
        "7: service[1].address: service TCP 198.51.100.1:80 is already defined in line 3: keep one of the two",
    );
    assert_problem(
        "[service]\n",
        "1: service: a table stands here: write [[service]] with two brackets on each side",
    );
    assert_problem(
        "service = [7]\n",
        "1: service[0]: an integer stands here: write a table, [[service]]",
    );
}

#[test]
fn servers_are_checked() {
    assert_problem(
        &server("address = \"2001:db8::1\"\nmethod = \"nat\""),
        "5: service[0].server[0].address: server [2001:db8::1]:80 is not of the address family of service \
         TCP 198.51.100.1:80: only method tunnel (-i) can join IPv4 and IPv6, nat needs a server of the service's own family",
    );
    assert_problem(
        &server("address = \"203.0.113.11\"\n[[service.server]]\naddress = \"203.0.113.11:80\""),
        "7: service[0].server[1].address: server 203.0.113.11:80 of service TCP 198.51.100.1:80 is already defined in \
         line 5: keep one of the two",
    );
    assert_problem(
        &server("address = \"203.0.113.11\"\nlower_threshold = 5\nupper_threshold = 4"),
        "5: service[0].server[0].address: lower_threshold 5 is above upper_threshold 4: write one at most as large",
    );
    assert_problem(
        &server("address = \"203.0.113.11\"\nweight = 99999999999999999999"),
        "6: service[0].server[0].weight: weight 99999999999999999999 out of range: write a number from 0 to 2147483647",
    );
    assert_problem(
        &format!("{SERVICE}[service.server]\naddress = \"203.0.113.11\"\n"),
        "4: service[0].server: a table stands here: write [[service.server]] with two brackets on each side",
    );
}

#[test]
fn tunnels_are_read_and_checked() {
    let tunnel = |text: &str| server(&format!("address = \"203.0.113.11\"\n{text}"));
    let gue = "method = \"tunnel\"\ntunnel_type = \"gue\"\ntunnel_port = 5555\ntunnel_checksum = \"csum\"";
    let config = parse("pollux.toml", &tunnel(gue)).unwrap();
    let read = config.configuration().services[0].destinations[0].tunnel;
    assert_eq!(read.to_string(), "gue:5555:+c");

    for (text, expected) in [
        (
            "tunnel_type = \"gre\"",
            "6: service[0].server[0].tunnel_type: tunnel options on a server of method direct: make its method tunnel \
             (-i), or leave --tun-... (tunnel_...) out",
        ),
        (
            "method = \"tunnel\"\ntunnel_type = \"gue\"",
            "7: service[0].server[0].tunnel_type: a gue tunnel goes to a UDP port of the server: name it with \
             --tun-port (tunnel_port), as in 5555",
        ),
        (
            "method = \"tunnel\"\ntunnel_port = 5555",
            "7: service[0].server[0].tunnel_port: a tunnel of type ipip has no port: leave --tun-port (tunnel_port) \
             out, or make the type gue",
        ),
        (
            "method = \"tunnel\"\ntunnel_type = \"gre\"\ntunnel_checksum = \"remcsum\"",
            "8: service[0].server[0].tunnel_checksum: a tunnel of type gre cannot have checksum remcsum: write nocsum \
             or csum; remcsum is for gue",
        ),
        (
            "method = \"tunnel\"\ntunnel_type = \"vxlan\"\ntunnel_port = 5555",
            "7: service[0].server[0].tunnel_type: unknown tunnel_type \"vxlan\": known are \"ipip\", \"gre\", \"gue\"",
        ),
        (
            "method = \"tunnel\"\ntunnel_type = \"gue\"\ntunnel_port = 0",
            "8: service[0].server[0].tunnel_port: tunnel_port 0 out of range: write a number from 1 to 65535",
        ),
    ] {
        assert_problem(&tunnel(text), expected);
    }
}

#[test]
fn the_data_planes_settings_are_checked() {
    let ports = "[[dataplane.port]]\nname = \"wan\"\ndevice = \"0000:01:00.0\"\n";
    for (text, expected) in [
        (
            "[dataplane]\ncores = []\n".to_owned(),
            "2: dataplane.cores: no cores: name at least one, or leave the key out for all but the first",
        ),
        (
            "[dataplane]\ncores = [1, 2, 1]\n".to_owned(),
            "2: dataplane.cores: core 1 is named twice: one worker a core",
        ),
        (
            "[dataplane]\nfile_prefix = \"a/b\"\n".to_owned(),
            "2: dataplane.file_prefix: bad prefix \"a/b\": write a word without a slash",
        ),
        (
            format!("{ports}\n[[dataplane.port]]\nname = \"wan\"\ndevice = \"0000:02:00.0\"\n"),
            "6: dataplane.port[1].name: name \"wan\" is already used in line 2: every port needs its own",
        ),
        (
            "[[dataplane.port]]\nname = \"a-name-that-is-too-long\"\ndevice = \"x\"\n".to_owned(),
            "2: dataplane.port[0].name: bad port name \"a-name-that-is-too-long\": it names a TAP, so write 1 to 15 \
             letters or digits",
        ),
        (
            "[control]\nsocket_mode = \"rw\"\n".to_owned(),
            "2: control.socket_mode: bad mode \"rw\": write it in octal, as in \"0660\"",
        ),
        (
            "[control]\nmetrics = \":9750\"\n".to_owned(),
            "2: control.metrics: bad address \":9750\": write an address of this machine and a port, as in \"127.0.0.1:9750\", or \"[::]:9750\" for all of its addresses",
        ),
        (
            "[control]\nmetrics = \"127.0.0.1:0\"\n".to_owned(),
            "2: control.metrics: bad address \"127.0.0.1:0\": write an address of this machine and a port, as in \"127.0.0.1:9750\", or \"[::]:9750\" for all of its addresses",
        ),
        (
            "dataplane = 7\n".to_owned(),
            "1: dataplane: an integer stands here: write a table, [dataplane]",
        ),
    ] {
        assert_problem(&text, expected);
    }
}

#[test]
fn broken_services_do_not_keep_a_data_plane_from_its_settings() {
    let text = format!("[dataplane]\nconnections = 2000\n{SERVICE}scheduler = \"fair\"\n");
    assert_eq!(parse_dataplane("f", &text).unwrap().connections, 2000);
    assert!(parse("f", &text).is_err());
    assert!(parse_dataplane("f", "[dataplane]\nconnections = 2\n").is_err());
}

proptest::proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "(?s).{0,200}") {
        let _ = parse("f", &text);
    }

    /// A valid file with some bytes exchanged: whatever is wrong is in a line that there is.
    #[test]
    fn problems_are_in_lines_of_the_file(changes in proptest::collection::vec((0..400_usize, " -~"), 1..8)) {
        let mut text: Vec<char> = server("address = \"203.0.113.11\"\nweight = 3\nmethod = \"nat\"")
            .chars()
            .collect();
        for (at, with) in changes {
            let length = text.len();
            text[at % length] = with.chars().next().unwrap();
        }
        let text: String = text.into_iter().collect();
        if let Err(Problems(found)) = parse("f", &text) {
            let lines = text.lines().count();
            proptest::prop_assert!(!found.is_empty());
            for problem in found {
                proptest::prop_assert!((1..=lines).contains(&problem.line), "{} in\n{}", problem, text);
            }
        }
    }
}

#[test]
fn persistence_is_checked_where_it_is_written() {
    let service = |lines: &str| format!("{SERVICE}{lines}\n");
    let config = valid(&service(
        "persistence_timeout = 300\npersistence_netmask = \"255.255.255.0\"",
    ));
    let persistence = config.configuration().services[0].service.persistence;
    let persistence = persistence.unwrap();
    assert_eq!(persistence.timeout_s, 300);
    assert_eq!(persistence.netmask.unwrap().to_string(), "255.255.255.0");
    for (lines, expected) in [
        (
            "persistence_timeout = 0",
            "4: service[0].persistence_timeout: persistence_timeout 0 out of range: write a number from 1 to 2678400",
        ),
        (
            "persistence_timeout = 60\npersistence_netmask = \"64\"",
            "5: service[0].persistence_netmask: netmask 64 is not one of the service's address family: write a mask as \
             255.255.255.0 for IPv4, a prefix length from 1 to 128 for IPv6",
        ),
        (
            "persistence_netmask = \"255.255.255.0\"",
            "4: service[0].persistence_netmask: a netmask without persistence: write persistence_timeout, too, or leave it out",
        ),
        (
            "timeouts = { tcp = 60, udp = 5 }",
            "4: service[0].timeouts.udp: timeout udp means nothing to a service of TCP: leave it out",
        ),
        (
            "timeouts = { tcp = 0 }",
            "4: service[0].timeouts.tcp: tcp 0 out of range: write a number from 1 to 2147483",
        ),
        (
            "timeouts = { sctp = 5 }",
            "4: service[0].timeouts.sctp: unknown key: known here are tcp, tcp_fin, udp",
        ),
        (
            "timeouts = 60",
            "4: service[0].timeouts: an integer stands here: write a table, [service[0].timeouts]",
        ),
        (
            "one_packet = true",
            "4: service[0].one_packet: one-packet scheduling is only for UDP services: leave it out",
        ),
        (
            "one_packet = 1",
            "4: service[0].one_packet: an integer stands here: write true or false",
        ),
    ] {
        assert_problem(&service(lines), expected);
    }
}
