//! Rules, line by line.

use pollux_api::{Configuration, ForwardingMethod, SchedulerName, TunnelType};

use super::super::note::Note;
use super::*;

fn read_text(text: &str) -> (Configuration, Vec<Note>) {
    let mut draft = Draft::default();
    read(&Arc::from("rules"), text, &mut draft);
    draft.finish()
}

/// What is read without a note.
#[track_caller]
fn clean(text: &str) -> Configuration {
    let (configuration, notes) = read_text(text);
    assert_eq!(notes, [], "{text}");
    configuration
}

/// The notes, a line each.
fn notes(text: &str) -> Vec<String> {
    read_text(text).1.iter().map(ToString::to_string).collect()
}

#[test]
fn scripts_are_read_as_rules_are() {
    let rules = clean(
        "-A -t 198.51.100.1:80 -s sh -b sh-port,sh-fallback -p 300 -M 255.255.255.0\n-a -t 198.51.100.1:80 -r 203.0.113.1:80 -m -w 5\n",
    );
    let script = clean(
        "#!/bin/sh\n\n  /sbin/ipvsadm --add-service --tcp-service=198.51.100.1:80 --scheduler sh --sched-flags sh-port,sh-fallback \
         --persistent 300 --netmask=255.255.255.0 # the shop\n\
         ipvsadm -at 198.51.100.1:80 -r 203.0.113.1 -mw5\n",
    );
    assert_eq!(script, rules);
    let server = &rules.services[0].destinations[0];
    assert_eq!(
        (server.method, server.weight.get()),
        (ForwardingMethod::Nat, 5)
    );
}

#[test]
fn commands_change_and_remove() {
    let (configuration, found) = read_text(
        "-A -t 198.51.100.1:80 -s rr\n-a -t 198.51.100.1:80 -r 203.0.113.1 -g\n-a -t 198.51.100.1:80 -r 203.0.113.2 -g\n\
         -e -t 198.51.100.1:80 -r 203.0.113.1 -g -w 9\n-d -t 198.51.100.1:80 -r 203.0.113.2\n-E -t 198.51.100.1:80 -s wrr\n\
         -A -u 198.51.100.1:53\n-D -u 198.51.100.1:53\n--set 0 60 30\n-D -u 198.51.100.9:53\n",
    );
    let [entry] = &configuration.services[..] else {
        panic!("{configuration:?}");
    };
    assert_eq!(entry.service.scheduler, SchedulerName::WeightedRoundRobin);
    assert_eq!(entry.destinations.len(), 1);
    assert_eq!(entry.destinations[0].weight.get(), 9);
    let timeouts = ["timeout_established", "timeout_finwait", "timeout_udp"]
        .map(|name| configuration.settings.get(name));
    assert_eq!(timeouts, [900, 60, 30]);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(
        found[0]
            .to_string()
            .starts_with("rules:10: left out: no such service: UDP 198.51.100.9:53"),
        "{found:?}"
    );
    assert!(clean("-A -t 198.51.100.1:80\n-C\n").services.is_empty());
}

#[test]
fn tunnels_and_ports_are_as_in_ipvsadm() {
    let configuration = clean(
        "-A -t 198.51.100.1:80\n-a -t 198.51.100.1:80 -r 203.0.113.1 -i --tun-type gue --tun-port 5555 --tun-csum\n\
         -a -t 198.51.100.1:80 -r [2001:db8::1]:80 -i\n-A -f 7 -6\n-a -f 7 -6 -r [2001:db8::2]:0 -i --tun-type gre --tun-nocsum\n",
    );
    let servers = &configuration.services[0].destinations;
    assert_eq!(servers[1].tunnel.to_string(), "gue:5555:+c");
    assert_eq!(servers[0].tunnel.tunnel_type, TunnelType::Ipip);
    assert_eq!(
        configuration.services[1].destinations[0].tunnel.tunnel_type,
        TunnelType::Gre
    );
    // ipvsadm gives a server that is not reached by NAT the port of its service, too, and says nothing.
    let text = "-A -t 198.51.100.1:80\n-a -t 198.51.100.1:80 -r 203.0.113.1:8080 -g\n";
    let (configuration, found) = read_text(text);
    assert_eq!(configuration.services[0].destinations[0].id.port(), 80);
    assert!(
        found[0]
            .to_string()
            .starts_with("rules:2: server 203.0.113.1: method direct leaves ports as they are"),
        "{found:?}"
    );
}

#[test]
fn what_cannot_be_read_says_why() {
    for (line, note) in [
        (
            "-A -t www.example.com:http -s rr",
            "rules:1: left out: \"www.example.com:http\" is not an address and a port in numbers; names mean what",
        ),
        (
            "-A -t 198.51.100.1:http",
            "rules:1: left out: \"198.51.100.1:http\" is not an address",
        ),
        ("-A -t 224.0.0.1:80", "rules:1: left out: bad address"),
        ("-A -s rr", "rules:1: left out: it names no service"),
        (
            "-A -t 198.51.100.1:80 -s quick",
            "rules:1: left out: unknown scheduler \"quick\"",
        ),
        (
            "-A -t 198.51.100.1:0",
            "rules:1: left out: service TCP 198.51.100.1:0: a service of all ports must be persistent",
        ),
        (
            "-A -f x",
            "rules:1: left out: --fwmark-service takes a number",
        ),
        (
            "-A -t 198.51.100.1:80 -p 0",
            "rules:1: left out: service TCP 198.51.100.1:80: persistence timeout 0 out of range",
        ),
        (
            "-A -t 198.51.100.1:80 --what",
            "rules:1: \"what\" is no option of ipvsadm: left out",
        ),
        (
            "-A -t 198.51.100.1:80 -K",
            "rules:1: \"-K\" is no option of ipvsadm: left out",
        ),
        (
            "-A -u 198.51.100.1:5060 --pe quick -p 60",
            "rules:1: left out: unknown persistence engine \"quick\"",
        ),
        (
            "--start-daemon master --mcast-interface eth0",
            "rules:1: connection synchronisation (--start-daemon): Pollux does not have it yet",
        ),
        (
            "iptables -F",
            "rules:1: \"iptables\" is no command of ipvsadm: left out",
        ),
        (
            "-a -t 198.51.100.1:80 -r 203.0.113.1:80 -g",
            "rules:1: left out: no such service",
        ),
        (
            "-n",
            "rules:1: left out: no command of ipvsadm is in this line",
        ),
        ("--set 1 2", "rules:1: left out: --set takes three numbers"),
    ] {
        let found = notes(line);
        assert_eq!(found.len(), 1, "{line}: {found:?}");
        assert!(found[0].starts_with(note), "{line}: {found:?}");
    }
    let twice = notes("-A -t 198.51.100.1:80\n-A -t 198.51.100.1:80 -s rr\n");
    assert_eq!(
        twice,
        ["rules:2: service TCP 198.51.100.1:80 is there already from rules:1: left out"]
    );
    // They look and configure nothing.
    assert!(
        clean("ipvsadm -Ln\nipvsadm -Z\nipvsadm --stop-daemon master\n")
            .services
            .is_empty()
    );
}

#[test]
fn dpvs_rules_are_carried_over_as_far_as_they_go() {
    let (configuration, found) = read_text(
        "-A -t 192.168.100.100:80 -s conhash --hash-target sip -j enable --conn-timeout 60 --expire-quiescent --proxy-protocol v2 --quic \
         --dest-check tcp --dest-check ping\n\
         -a -t 192.168.100.100:80 -r 192.168.100.2:8080 -b -w 100 -x 0 -y 0\n\
         -P -z 192.168.100.200 -t 192.168.100.100:80 -F dpdk0\n\
         -U -t 192.168.100.100:80 -k 10.0.0.1\n\
         -O -t 192.168.100.100:80 -2 ipset:inside\n\
         -A -H proto=tcp,src-range=192.168.0.0-192.168.0.255,oif=dpdk0 -s rr\n\
         -A -q 192.168.100.100:0 -s rr\n\
         -G -t 192.168.100.100:80\n",
    );
    let [entry] = &configuration.services[..] else {
        panic!("{configuration:?}");
    };
    assert_eq!(entry.service.scheduler, SchedulerName::MaglevHashing);
    let server = &entry.destinations[0];
    assert_eq!(
        (server.method, server.weight.get(), server.id.port()),
        (ForwardingMethod::Nat, 100, 8080)
    );
    let found: Vec<String> = found.iter().map(ToString::to_string).collect();
    for note in [
        "rules:1: scheduler conhash is mh here",
        "rules:1: SYN proxy: ",
        "rules:1: a timeout of 60 s for one service",
        "rules:1: expire-quiescent: ",
        "rules:1: PROXY protocol v2: ",
        "rules:1: quic: ",
        "rules:1: --dest-check tcp: write a [[check]]",
        "rules:1: --dest-check ping: ",
        "rules:2: method FNAT is nat here",
        "rules:3: local address 192.168.100.200: ",
        "rules:4: deny list entry 10.0.0.1: ",
        "rules:5: allow list entry ipset:inside: ",
        "rules:6: left out: a service of matched packets (-H, SNAT)",
        "rules:7: left out: a service of ICMP",
    ] {
        assert!(
            found.iter().any(|line| line.starts_with(note)),
            "{note}\n{found:#?}"
        );
    }
    assert_eq!(found.len(), 14, "{found:#?}");
}
