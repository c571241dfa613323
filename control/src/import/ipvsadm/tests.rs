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
    let services: Vec<_> = configuration.services.iter().collect();
    let [entry] = services[..] else {
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
    // Packets keep their port whatever this one is.
    let text = "-A -t 198.51.100.1:80\n-a -t 198.51.100.1:80 -r 203.0.113.1:8080 -g\n";
    let (configuration, found) = read_text(text);
    assert_eq!(configuration.services[0].destinations[0].id.port(), 8080);
    assert!(found.is_empty(), "{found:?}");
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
            "--start-daemon other --mcast-interface eth0",
            "rules:1: left out: \"other\" is no daemon of synchronisation",
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
    let services: Vec<_> = configuration.services.iter().collect();
    let [entry] = services[..] else {
        panic!("{configuration:?}");
    };
    assert_eq!(entry.service.scheduler, SchedulerName::MaglevHashing);
    assert_eq!(entry.service.timeouts.to_string(), "tcp 60");
    let server = &entry.destinations[0];
    assert_eq!(
        (server.method, server.weight.get(), server.id.port()),
        (ForwardingMethod::Nat, 100, 8080)
    );
    let found: Vec<String> = found.iter().map(ToString::to_string).collect();
    for note in [
        "rules:1: scheduler conhash is mh here",
        "rules:1: SYN proxy: ",
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
    assert_eq!(found.len(), 13, "{found:#?}");
}

#[test]
fn a_connection_timeout_is_the_service_s() {
    let configuration = clean(
        "-A -t 198.51.100.1:80 --conn-timeout 60\n-A -u 198.51.100.1:53 --conn-timeout=7\n-A -f 9 --conn-timeout 8\n\
         -A -t 198.51.100.1:81 --conn-timeout 0\n",
    );
    let timeouts: Vec<String> = configuration
        .services
        .iter()
        .map(|entry| entry.service.timeouts.to_string())
        .collect();
    assert_eq!(timeouts, ["tcp 60", "udp 7", "tcp 8 udp 8", ""]);
    for (rule, note) in [
        (
            "-A --sctp-service 198.51.100.1:80 --conn-timeout 9",
            "rules:1: a timeout of 9 s for service SCTP 198.51.100.1:80: SCTP's timeouts are fixed",
        ),
        (
            "-A -t 198.51.100.1:80 --conn-timeout 4000000000",
            "rules:1: a timeout of 4000000000 s: they go from 1 to 2147483 s",
        ),
    ] {
        let (configuration, found) = read_text(rule);
        assert_eq!(
            (configuration.services.len(), found.len()),
            (1, 1),
            "{found:?}"
        );
        assert!(found[0].to_string().starts_with(note), "{found:?}");
        assert!(configuration.services[0].service.timeouts.is_default());
    }
}

/// Each option that DPVS has beyond Linux and each verb of `dpip` is carried over or said, never "no option".
#[test]
fn every_word_of_dpvs_is_known() {
    let lines = [
        "-A -t 198.51.100.1:80 -s conhash --hash-target qid",
        "-A -u 198.51.100.1:443 -s conhash --hash-target sip --quic",
        "-A --sctp-service 198.51.100.1:80 -s wlc",
        "-A -q 198.51.100.1:0 -s rr",
        "-A -1 [2001:db8::1]:0 -s rr",
        "-A -f 5 -s rr -o -p 60 -M 255.255.255.0",
        "-A -H proto=tcp,src-range=10.0.0.0-10.0.0.255:1-2,iif=dpdk0,oif=dpdk1 -s rr",
        "-a -H proto=tcp,oif=dpdk1 -r 198.51.100.9:0 -w 100 -J",
        "-a -t 198.51.100.1:80 -r 203.0.113.1:80 -b -x 9 -y 5",
        "-a -t 198.51.100.1:80 -r 203.0.113.2:80 -m",
        "-a -t 198.51.100.1:80 -r 203.0.113.3:80 -g",
        "-a -t 198.51.100.1:80 -r 203.0.113.4:80 -i",
        "--add-laddr -z 198.51.100.9 -t 198.51.100.1:80 -F dpdk0",
        "-P -z 198.51.100.9 -t 198.51.100.1:80 -F dpdk0",
        "-Q -z 198.51.100.9 -t 198.51.100.1:80 -F dpdk0",
        "--del-laddr -z 198.51.100.9 -t 198.51.100.1:80 -F dpdk0",
        "-G -t 198.51.100.1:80",
        "--get-laddr",
        "-U -k 10.0.0.1 -t 198.51.100.1:80",
        "-V -k ipset:x -t 198.51.100.1:80",
        "-B -t 198.51.100.1:80",
        "-O -2 10.0.0.1 -t 198.51.100.1:80",
        "-Y -2 ipset:x -t 198.51.100.1:80",
        "-W -t 198.51.100.1:80",
        "-E -t 198.51.100.1:80 -j enable --expire-quiescent --conn-timeout 60",
        "-E -t 198.51.100.1:80 -j disable --dest-check 1,2,3s,4-5s --dest-check default --proxy-protocol v1-insecure",
        "-ln --stats --thresholds --persistent-conn --cpu 1 --nosort",
        "-lnc --sockpair TCP:10.0.0.1:1000:198.51.100.1:80",
        "-Z",
        "-S -n",
        "-R",
        "dpip addr add 198.51.100.1/32 dev dpdk0",
        "dpip addr add 198.51.100.9/32 dev dpdk0 sapool",
        "dpip route add 10.0.0.0/8 via 192.0.2.1 dev dpdk0 scope kni_host",
        "dpip neigh add 192.0.2.1 lladdr 02:00:00:00:00:01 dev dpdk0",
        "dpip vlan add dpdk0.5 link dpdk0 id 5",
        "dpip tunnel add mode gre gre1 local 192.0.2.1 remote 192.0.2.2",
        "dpip link set dpdk0 forward2kni on",
        "dpip qsch add dev dpdk0 tbf",
        "dpip cls add dev dpdk0 match",
        "dpip ipset create x hash:ip",
        "dpip flow add type kni",
        "dpip -v link show",
    ];
    let (configuration, found) = read_text(&lines.join("\n"));
    let shown: Vec<String> = found.iter().map(ToString::to_string).collect();
    for line in &shown {
        assert!(!line.contains("is no option"), "{line}");
        assert!(!line.contains("not known here"), "{line}");
        assert!(!line.contains("is no command"), "{line}");
    }
    assert_eq!(configuration.services.len(), 4, "{shown:#?}");
    assert_eq!(configuration.services[0].destinations.len(), 4);
    for note in [
        "rules:32: dpip addr add 198.51.100.1/32 dev dpdk0: type `ip addr add 198.51.100.1/32 dev dpdk0`",
        "rules:33: dpip addr add 198.51.100.9/32 dev dpdk0 sapool: an address with a pool of local ports is for full NAT",
        "rules:34: dpip route add 10.0.0.0/8 via 192.0.2.1 dev dpdk0 scope kni_host: type `ip route add 10.0.0.0/8 via 192.0.2.1 dev dpdk0`",
    ] {
        assert!(
            shown.iter().any(|line| line.starts_with(note)),
            "{note}\n{shown:#?}"
        );
    }
}
