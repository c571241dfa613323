//! The commands for each method, and how they look.

use std::io::Write;
use std::process::{Command, Stdio};

use super::*;
use crate::config::validate;

fn scripts_of(text: &str, director: Option<&str>) -> Vec<ServerScript> {
    for_system(text, director, System::Linux)
}

fn for_system(text: &str, director: Option<&str>, system: System) -> Vec<ServerScript> {
    let config = validate::parse("file", text).unwrap();
    let surroundings = Surroundings {
        director: director
            .iter()
            .map(|address| address.parse().unwrap())
            .collect(),
        interface: Some("Ethernet 2".to_owned()),
    };
    scripts(
        config.configuration(),
        None,
        None,
        system,
        &surroundings,
        |_| None,
    )
}

fn service(address: &str, servers: &str) -> String {
    format!("[[service]]\nprotocol = \"tcp\"\naddress = \"{address}\"\n{servers}")
}

fn server(address: &str, rest: &str) -> String {
    format!("[[service.server]]\naddress = \"{address}\"\n{rest}\n")
}

/// The commands for the only server.
fn commands(text: &str, director: Option<&str>) -> Vec<String> {
    let [script] = &scripts_of(text, director)[..] else {
        panic!("one server: {text}");
    };
    is_shell(&script.commands);
    script.commands.clone()
}

/// What is printed is a script that a shell takes apart without complaint.
fn is_shell(commands: &[String]) {
    let mut shell = Command::new("sh")
        .arg("-n")
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    shell
        .stdin
        .take()
        .unwrap()
        .write_all(commands.join("\n").as_bytes())
        .unwrap();
    assert!(shell.wait().unwrap().success(), "{commands:?}");
}

#[test]
fn direct_takes_the_address_and_is_silent_about_it() {
    let text = service("198.51.100.1:80", &server("203.0.113.11", ""))
        + &service("198.51.100.1:443", &server("203.0.113.11", ""))
        + &service("198.51.100.2:80", &server("203.0.113.11", ""));
    assert_eq!(
        commands(&text, None),
        [
            "sysctl -w net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.all.arp_announce=2",
            "ip address replace 198.51.100.1/32 dev lo",
            "ip address replace 198.51.100.2/32 dev lo",
        ]
    );
    let scripts = scripts_of(&text, None);
    assert_eq!(
        scripts[0].services,
        [
            "TCP 198.51.100.1:80 (direct)",
            "TCP 198.51.100.1:443 (direct)",
            "TCP 198.51.100.2:80 (direct)"
        ]
    );
}

#[test]
fn direct_over_ipv6_needs_no_silence() {
    let text = service("[2001:db8:100::1]:80", &server("2001:db8:2::11", ""));
    assert_eq!(
        commands(&text, None),
        ["ip -6 address replace 2001:db8:100::1/128 dev lo preferred_lft 0"]
    );
}

#[test]
fn nat_routes_back_through_the_director() {
    let text = service(
        "198.51.100.1:80",
        &server("203.0.113.11:8080", "method = \"nat\""),
    );
    assert_eq!(
        commands(&text, Some("203.0.113.1")),
        ["ip route replace default via 203.0.113.1"]
    );
    let unknown = scripts_of(&text, None);
    assert!(unknown[0].commands.is_empty());
    assert!(
        unknown[0].notes[0].contains("--director ADDRESS"),
        "{:?}",
        unknown[0].notes
    );
    // An address of the other family is none for it.
    assert!(
        scripts_of(&text, Some("2001:db8:2::1"))[0]
            .commands
            .is_empty()
    );
    let text = service(
        "[2001:db8:100::1]:80",
        &server("[2001:db8:2::11]:80", "method = \"nat\""),
    );
    assert_eq!(
        commands(&text, Some("2001:db8:2::1")),
        ["ip -6 route replace default via 2001:db8:2::1"]
    );
}

#[test]
fn tunnels_have_a_device_for_what_is_outside_and_inside() {
    let tunnel = |kind: &str| format!("method = \"tunnel\"\ntunnel_type = \"{kind}\"");
    for (vip, address, rest, device) in [
        (
            "198.51.100.1:80",
            "203.0.113.11",
            tunnel("ipip"),
            "ip link add name ipvs-ipip type ipip local 203.0.113.11",
        ),
        (
            "[2001:db8:100::1]:80",
            "203.0.113.11",
            tunnel("ipip"),
            "ip link add name ipvs-sit type sit local 203.0.113.11",
        ),
        (
            "198.51.100.1:80",
            "2001:db8:2::11",
            tunnel("ipip"),
            "ip link add name ipvs-ip6tnl type ip6tnl local 2001:db8:2::11 remote :: mode any",
        ),
        (
            "198.51.100.1:80",
            "203.0.113.11",
            tunnel("gre"),
            "ip link add name ipvs-gre type gre local 203.0.113.11",
        ),
        (
            "198.51.100.1:80",
            "203.0.113.11",
            tunnel("gre") + "\ntunnel_checksum = \"csum\"",
            "ip link add name ipvs-grec type gre local 203.0.113.11 icsum",
        ),
        (
            "[2001:db8:100::1]:80",
            "2001:db8:2::11",
            tunnel("gre"),
            "ip link add name ipvs-gre6 type ip6gre local 2001:db8:2::11 remote ::",
        ),
    ] {
        let found = commands(&service(vip, &server(address, &rest)), None);
        let made = found
            .iter()
            .find(|command| command.contains("ip link add"))
            .unwrap();
        assert!(made.ends_with(device), "{made}");
        // Before there is a device, its settings cannot be set.
        let index = |part: &str| found.iter().position(|command| command.contains(part));
        assert_eq!(
            index("rp_filter").is_some(),
            vip.starts_with("198"),
            "{found:?}"
        );
        assert!(
            index("rp_filter").is_none_or(|rp_filter| rp_filter > index("ip link add").unwrap())
        );
        assert!(index("address replace").unwrap() > index("arp_ignore").unwrap_or(0));
    }
}

#[test]
fn gue_has_a_port_that_unwraps_first() {
    let rest = "method = \"tunnel\"\ntunnel_type = \"gue\"\ntunnel_port = 5555\ntunnel_checksum = \"remcsum\"";
    let text = service("198.51.100.1:80", &server("203.0.113.11", rest));
    assert_eq!(
        commands(&text, None),
        [
            "sysctl -w net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.all.arp_announce=2",
            "modprobe fou",
            "ip fou show | grep -qw 'port 5555' || ip fou add port 5555 gue",
            "modprobe ipip",
            "ip link show dev ipvs-ipip >/dev/null 2>&1 || ip link add name ipvs-ipip type ipip local 203.0.113.11",
            "ip link set dev ipvs-ipip up",
            "sysctl -w net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.ipvs-ipip.rp_filter=0",
            "ip address replace 198.51.100.1/32 dev lo",
        ]
    );
    let text = service("198.51.100.1:80", &server("2001:db8:2::11", rest));
    assert!(commands(&text, None).contains(
        &"ip -6 fou show | grep -qw 'port 5555' || ip -6 fou add port 5555 gue".to_owned()
    ));
}

#[test]
fn a_server_of_two_tunnels_has_each_device_once() {
    let tunnel = |kind: &str| server("203.0.113.11", &format!("method = \"tunnel\"\n{kind}"));
    let gue = "tunnel_type = \"gue\"\ntunnel_port = 5555";
    let text = service("198.51.100.1:80", &tunnel("")) + &service("198.51.100.2:80", &tunnel(gue));
    let found = commands(&text, None);
    let count = |part: &str| {
        found
            .iter()
            .filter(|command| command.contains(part))
            .count()
    };
    assert_eq!(
        (
            count("ip link add"),
            count("fou add"),
            count("address replace")
        ),
        (1, 1, 2),
        "{found:?}"
    );
}

#[test]
fn marks_take_the_addresses_of_their_rules() {
    let text = "[[mark]]\nmark = 7\ndestination = \"198.51.100.0/25\"\n\
                [[mark]]\nmark = 7\ndestination = \"198.51.100.200/32\"\n\
                [[mark]]\nmark = 7\ndestination = \"2001:db8:100::/64\"\n\
                [[service]]\nfwmark = 7\n[[service.server]]\naddress = \"203.0.113.11:0\"\n";
    assert_eq!(
        commands(text, None),
        [
            "sysctl -w net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.all.arp_announce=2",
            "ip address replace 198.51.100.200/32 dev lo",
            "ip route replace local 198.51.100.0/25 dev lo",
        ]
    );
    let without = "[[service]]\nfwmark = 8\n[[service.server]]\naddress = \"203.0.113.11:0\"\n";
    let scripts = scripts_of(without, None);
    assert!(
        scripts[0].notes[0].starts_with("the addresses that get mark 8 are in no rule"),
        "{:?}",
        scripts[0].notes
    );
}

#[test]
fn services_and_servers_can_be_chosen() {
    let text = service(
        "198.51.100.1:80",
        &(server("203.0.113.11", "") + &server("203.0.113.12", "")),
    ) + &service("198.51.100.2:80", &server("203.0.113.11", ""));
    let config = validate::parse("file", &text).unwrap();
    let chosen = |service: Option<ServiceId>, server: Option<&str>| {
        let server = server.map(|address| address.parse().unwrap());
        let surroundings = Surroundings::default();
        let scripts = scripts(
            config.configuration(),
            service,
            server,
            System::Linux,
            &surroundings,
            |_| None,
        );
        scripts
            .into_iter()
            .map(|script| (script.server.to_string(), script.commands.len()))
            .collect::<Vec<_>>()
    };
    let second = config.configuration().services[1].service.id;
    let (one, two) = ("203.0.113.11".to_owned(), "203.0.113.12".to_owned());
    assert_eq!(chosen(None, None), [(one.clone(), 3), (two, 2)]);
    assert_eq!(chosen(Some(second), None), [(one.clone(), 2)]);
    assert_eq!(chosen(None, Some("203.0.113.11")), [(one, 3)]);
    assert_eq!(chosen(None, Some("203.0.113.19")), []);
}

#[test]
fn windows_takes_direct_and_nat() {
    let text = service("198.51.100.1:80", &server("203.0.113.11", ""))
        + &service(
            "[2001:db8:100::1]:80",
            &server("[2001:db8:2::11]:80", "method = \"nat\""),
        )
        + &service(
            "198.51.100.2:80",
            &server("203.0.113.12", "method = \"tunnel\""),
        );
    let scripts = for_system(&text, Some("2001:db8:2::1"), System::Windows);
    let [direct, tunnel, nat] = &scripts[..] else {
        panic!("{scripts:?}");
    };
    assert_eq!(
        direct.commands,
        [
            "netsh interface ipv4 set interface \"Ethernet 2\" weakhostreceive=enabled weakhostsend=enabled",
            "netsh interface ipv4 set interface \"ipvs-loopback\" weakhostreceive=enabled weakhostsend=enabled",
            "netsh interface ipv4 add address \"ipvs-loopback\" 198.51.100.1 255.255.255.255 skipassource=true",
        ]
    );
    assert!(
        tunnel.commands.is_empty() && tunnel.notes[0].starts_with("Windows does not unwrap ipip")
    );
    assert_eq!(
        nat.commands,
        ["netsh interface ipv6 add route ::/0 \"Ethernet 2\" 2001:db8:2::1"]
    );
}

#[test]
fn the_sorry_server_is_prepared_too() {
    let text = format!(
        "[[check]]\nname = \"connect\"\nkind = \"tcp\"\n{}check = \"connect\"\n{}{}",
        service("198.51.100.1:80", ""),
        "[service.sorry_server]\naddress = \"203.0.113.99:80\"\nmethod = \"direct\"\n",
        server("203.0.113.11:80", "method = \"direct\""),
    );
    let servers = scripts_of(&text, None).into_iter();
    let servers: Vec<String> = servers.map(|script| script.server.to_string()).collect();
    assert_eq!(servers, ["203.0.113.11", "203.0.113.99"]);
}
