//! Files of keepalived, block by block.

use pollux_api::health::{OnFailure, Probe};
use pollux_api::{Configuration, Family, ForwardingMethod, SchedulerName, ServiceId};

use super::super::note::Note;
use super::*;

struct Beside(Vec<(&'static str, &'static str)>);

impl Files for Beside {
    fn matching(&self, pattern: &str, _from: &str) -> Result<Vec<IncludedFile>, String> {
        let known = self.0.iter().filter(|(name, _)| *name == pattern);
        let files: Vec<_> = known
            .map(|(name, text)| IncludedFile {
                name: (*name).to_owned(),
                text: (*text).to_owned(),
            })
            .collect();
        if files.is_empty() {
            Err("no such file: left out".to_owned())
        } else {
            Ok(files)
        }
    }
}

fn read_beside(
    text: &str,
    beside: Vec<(&'static str, &'static str)>,
) -> (Configuration, Vec<Note>) {
    let mut draft = Draft::default();
    read(
        &Arc::from("k.conf"),
        text,
        "main",
        &Beside(beside),
        &mut draft,
    );
    draft.finish()
}

fn read_text(text: &str) -> (Configuration, Vec<String>) {
    let (configuration, notes) = read_beside(text, Vec::new());
    (
        configuration,
        notes.iter().map(ToString::to_string).collect(),
    )
}

#[track_caller]
fn clean(text: &str) -> Configuration {
    let (configuration, notes) = read_text(text);
    assert_eq!(notes, [""; 0], "{text}");
    configuration
}

/// The names of services.
fn services(configuration: &Configuration) -> Vec<String> {
    configuration
        .services
        .iter()
        .map(|entry| entry.service.id.to_string())
        .collect()
}

fn servers(configuration: &Configuration) -> Vec<String> {
    let entries = configuration.services.iter();
    entries
        .flat_map(|entry| entry.destinations.iter().rev())
        .map(|server| server.id.to_string())
        .collect()
}

#[test]
fn a_virtual_server_is_a_service() {
    let configuration = clean(
        "! the shop\nvirtual_server 198.51.100.1 80 {\n  lvs_sched mh\n  mh-port   # by port, too\n  mh-fallback\n  lvs_method DR\n\
         persistence_timeout\n  persistence_granularity 255.255.255.0\n  protocol TCP\n\
         real_server 203.0.113.1 80\n  {\n weight 3\n uthreshold 100\n lthreshold 50\n }\n\
         real_server 203.0.113.2 8080 { weight 0\n lvs_method NAT }\n\
         real_server 2001:db8::3 80 {\n lvs_method TUN type gue port 5555 csum\n }\n}\n",
    );
    let entry = &configuration.services[0];
    assert_eq!(entry.service.scheduler, SchedulerName::MaglevHashing);
    assert_eq!(
        entry.service.scheduler_flags.names(),
        ["mh-fallback", "mh-port"]
    );
    let persistence = entry.service.persistence.unwrap();
    assert_eq!(
        (
            persistence.timeout_s,
            persistence.netmask.unwrap().to_string()
        ),
        (360, "255.255.255.0".to_owned())
    );
    assert_eq!(
        servers(&configuration),
        ["203.0.113.1:80", "203.0.113.2:8080", "[2001:db8::3]:80"]
    );
    let [third, second, first] = &entry.destinations[..] else {
        panic!("{entry:?}");
    };
    assert_eq!(
        (
            first.upper_threshold,
            first.lower_threshold,
            first.weight.get()
        ),
        (100, 50, 3)
    );
    assert_eq!(
        (first.method, second.method),
        (ForwardingMethod::Direct, ForwardingMethod::Nat)
    );
    assert_eq!(third.tunnel.to_string(), "gue:5555:+c");
}

#[test]
fn nothing_said_is_keepalived_s_default() {
    let configuration =
        clean("virtual_server 198.51.100.1 80 {\n real_server 203.0.113.1 {\n }\n}\n");
    let entry = &configuration.services[0];
    assert_eq!(entry.service.id.to_string(), "UDP 198.51.100.1:80");
    assert_eq!(
        entry.service.scheduler,
        SchedulerName::WeightedLeastConnection
    );
    assert_eq!(entry.destinations[0].method, ForwardingMethod::Nat);
    assert_eq!(entry.destinations[0].id.to_string(), "203.0.113.1:80");
}

#[test]
fn groups_ranges_and_marks_are_services_each() {
    let configuration = clean(
        "virtual_server_group g {\n 198.51.100.1 80\n 198.51.100.8-9 81\n 198.51.100.16/31 82\n fwmark 7\n}\n\
         virtual_server group g {\n protocol UDP\n ops\n real_server 203.0.113.1 80 {\n }\n}\n",
    );
    assert_eq!(
        services(&configuration),
        [
            "UDP 198.51.100.1:80",
            "UDP 198.51.100.8:81",
            "UDP 198.51.100.9:81",
            "UDP 198.51.100.16:82",
            "UDP 198.51.100.17:82",
            "FWM 7"
        ]
    );
    assert!(
        configuration
            .services
            .iter()
            .all(|entry| entry.service.one_packet && entry.destinations.len() == 1)
    );
    let families = |text: &str| {
        let configuration = clean(&format!("virtual_server fwmark 7 {{\n{text}\n}}\n"));
        configuration.services[0].service.id.family()
    };
    assert_eq!(families("real_server 2001:db8::1 80 {\n }"), Family::Ipv6);
    assert_eq!(
        families("lb_kind TUN\n real_server 2001:db8::1 {\n }"),
        Family::Ipv6
    );
    assert_eq!(
        families("lb_kind TUN\n ip_family inet6\n real_server 203.0.113.1 {\n }"),
        Family::Ipv6
    );
    assert_eq!(
        families("lb_kind TUN\n real_server 2001:db8::1 {\n }\n real_server 203.0.113.1 {\n }"),
        Family::Ipv4
    );
}

#[test]
fn parameters_conditions_sequences_and_includes_are_written_out() {
    let text = "$VIP=198.51.100.1\n@main $PORT=80\n@other $PORT=81\n@^other $WEIGHT=3\n\
                $RS= \\\n real_server 203.0.113.${N} ${PORT} { \\\n weight $WEIGHT \\\n }\n\
                virtual_server $VIP ${PORT} {\n lb_algo rr\n ~SEQ(N, 1, 2) $RS\n ~LST(N, 7, 9) $RS\n}\n\
                ~LST({A, B}, {2, 90}, {3, 91}) virtual_server 198.51.100.${A} ${B} {\n real_server 203.0.113.1 80 {\n }\n}\n\
                include more.conf\n";
    let beside = vec![
        (
            "more.conf",
            "virtual_server 198.51.100.9 99 {\n  include servers\n}\n",
        ),
        ("servers", "real_server 203.0.113.4 99 {\n}\n"),
    ];
    let (configuration, notes) = read_beside(text, beside);
    let notes: Vec<String> = notes.iter().map(ToString::to_string).collect();
    // A sequence repeats its line only, as in keepalived: the second block is opened twice and closed once.
    assert!(
        notes
            .iter()
            .any(|note| note.contains("@other: this line is for another machine than \"main\"")),
        "{notes:#?}"
    );
    assert_eq!(services(&configuration)[0], "UDP 198.51.100.1:80");
    let first = &configuration.services[0];
    let addresses: Vec<String> = first
        .destinations
        .iter()
        .rev()
        .map(|server| server.id.to_string())
        .collect();
    assert_eq!(
        addresses,
        [
            "203.0.113.1:80",
            "203.0.113.2:80",
            "203.0.113.7:80",
            "203.0.113.9:80"
        ]
    );
    assert!(
        first
            .destinations
            .iter()
            .all(|server| server.weight.get() == 3)
    );

    let (configuration, notes) = read_beside(
        "include more.conf\ninclude less.conf\n",
        vec![
            (
                "more.conf",
                "virtual_server 198.51.100.9 99 {\n  include servers\n}\n",
            ),
            ("servers", "real_server 203.0.113.4 99 {\n}\n"),
        ],
    );
    assert_eq!(
        (services(&configuration), servers(&configuration)),
        (
            vec!["UDP 198.51.100.9:99".to_owned()],
            vec!["203.0.113.4:99".to_owned()]
        )
    );
    assert_eq!(notes.len(), 1);
    assert_eq!(
        notes[0].to_string(),
        "k.conf:2: include less.conf: no such file: left out"
    );
}

#[test]
fn what_never_ends_is_given_up() {
    for text in [
        "$A=${A}\n$A\n",
        "$A= \\\n $A \\\n $A\n$A\n",
        "~SEQ(A,1,1000) ~SEQ(B,1,1000) ~SEQ(C,1,1000) x\n",
        "include self\n",
        "$A=${B}${B}${B}${B}${B}${B}${B}${B}${B}\n$B=${C}${C}${C}${C}${C}${C}${C}${C}${C}${C}\n$C=0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789\n$A\n",
    ] {
        let (configuration, notes) = read_beside(text, vec![("self", "include self\n")]);
        assert!(configuration.services.is_empty());
        let notes: Vec<String> = notes.iter().map(ToString::to_string).collect();
        assert!(
            notes
                .iter()
                .any(|note| note.contains("the rest is left out") || note.contains("without end")),
            "{text}: {notes:#?}"
        );
    }
}

#[test]
fn checkers_are_checks_that_services_share() {
    let server = |number: u8| {
        format!(
            "real_server 203.0.113.{number} 443 {{\n SSL_GET {{\n enable_sni\n url {{\n path /a\n status_code 200-299 404\n virtualhost www.example.com\n }}\n \
             url {{\n path /b\n digest ff20ad2481f97b1754ef3e12ecd3a9cc\n regex \"^ok$\"\n regex_options caseless\n }}\n connect_timeout 3\n \
             retry 2\n connect_port 8443\n }}\n }}\n"
        )
    };
    let service = |port: u16| {
        format!(
            "virtual_server 198.51.100.1 {port} {{\n delay_loop 6\n alpha\n omega no\n quorum 2\n hysteresis 1\n quorum_up \"/bin/up a 'b c'\"\n \
             sorry_server 203.0.113.9 443\n inhibit_on_failure\n{}{}}}\n",
            server(1),
            server(2)
        )
    };
    let configuration = clean(&(service(443) + &service(444)));
    let health = &configuration.health;
    assert_eq!(health.checks.len(), 2, "{health:#?}");
    assert_eq!(health.services.len(), 2);
    let used = &health.services[0];
    assert_eq!(used.check.iter().collect::<Vec<_>>(), ["https", "https-2"]);
    assert!(used.start_down);
    assert_eq!(used.on_failure, OnFailure::Drain);
    assert_eq!((used.quorum.weight, used.quorum.hysteresis), (2, 1));
    assert_eq!(used.quorum.up, ["/bin/up", "a", "b c"]);
    assert_eq!(
        used.sorry_server.as_ref().unwrap().id.to_string(),
        "203.0.113.9:443"
    );
    let [first, second] = &health.checks[..] else {
        panic!("{health:?}");
    };
    assert_eq!(
        (
            first.interval_ms,
            first.timeout_ms,
            first.rise,
            first.fall,
            first.port
        ),
        (6000, 3000, 1, 3, Some(8443))
    );
    let (Probe::Https(a), Probe::Https(b)) = (&first.probe, &second.probe) else {
        panic!("{health:?}");
    };
    assert_eq!(
        (a.http.path.as_str(), a.http.status.to_string().as_str()),
        ("/a", "200-299,404")
    );
    assert_eq!(
        (a.http.host.as_deref(), a.tls.sni.as_deref(), a.tls.verify),
        (Some("www.example.com"), Some("www.example.com"), false)
    );
    assert_eq!(
        b.http.digest.as_deref(),
        Some("ff20ad2481f97b1754ef3e12ecd3a9cc")
    );
    assert_eq!(b.http.body.as_deref(), Some("(?i)^ok$"));
}

#[test]
fn every_checker_has_its_check() {
    for (checker, kind) in [
        ("TCP_CHECK {\n connect_timeout 0.5\n }", "tcp"),
        ("HTTP_GET {\n url {\n path /\n }\n }", "http"),
        ("SMTP_CHECK {\n helo_name me.example.com\n }", "smtp"),
        ("DNS_CHECK {\n type A\n name example.com\n }", "dns"),
        (
            "MISC_CHECK {\n misc_path \"/bin/check a\"\n misc_timeout 5\n misc_dynamic\n }",
            "script",
        ),
        ("PING_CHECK {\n }", "ping"),
        (
            "UDP_CHECK {\n payload Ab12f 3 456\n require_reply\n }",
            "udp",
        ),
    ] {
        let text = format!(
            "virtual_server 198.51.100.1 80 {{\n real_server 203.0.113.1 80 {{\n {checker}\n }}\n}}\n"
        );
        let configuration = clean(&text);
        let [check] = &configuration.health.checks[..] else {
            panic!("{configuration:?}");
        };
        assert_eq!(
            (check.name.as_str(), check.probe.kind(), check.interval_ms),
            (kind, kind, 60_000)
        );
        match &check.probe {
            Probe::Tcp(_) => assert_eq!(check.timeout_ms, 500),
            Probe::Script(script) => {
                assert_eq!(
                    (
                        script.command.join(" ").as_str(),
                        script.exit_weight,
                        check.timeout_ms
                    ),
                    ("/bin/check a", true, 5000)
                );
                assert_eq!(check.fall, 1);
            }
            Probe::Udp(udp) => assert_eq!(
                (udp.send_hex.as_deref(), udp.reply),
                (Some("Ab120f034506"), true)
            ),
            Probe::Dns(_) => assert_eq!(check.fall, 4),
            Probe::Smtp(smtp) => assert_eq!(smtp.helo, "me.example.com"),
            _ => assert_eq!((check.timeout_ms, check.fall), (5000, 2)),
        }
        assert_eq!(
            configuration.health.services[0].on_failure,
            OnFailure::Remove
        );
    }
}

#[test]
fn what_cannot_be_carried_over_says_why() {
    let of_service = |inner: &str| {
        let server = "real_server 203.0.113.1 80 {\n TCP_CHECK {\n }\n }";
        read_text(&format!(
            "virtual_server 198.51.100.1 80 {{\n{inner}\n{server}\n}}\n"
        ))
        .1
    };
    for (inner, note) in [
        (
            "persistence_engine quick",
            "k.conf:2: persistence_engine quick: left out: unknown persistence engine \"quick\"",
        ),
        (
            "lb_algo quick",
            "k.conf:2: lb_algo quick: unknown scheduler",
        ),
        ("lb_kind SNAT", "k.conf:2: lb_kind SNAT: not known here"),
        (
            "weight 3",
            "k.conf:2: virtual_server: \"weight 3\" is not known here: left out",
        ),
        ("ha_suspend", "k.conf:2: ha_suspend: checks always run here"),
        ("smtp_alert", "k.conf:2: smtp_alert: polluxd writes no mail"),
        (
            "omega",
            "k.conf:2: omega: polluxd runs no quorum_down when it stops",
        ),
        (
            "quorum_up up.sh",
            "k.conf:2: quorum_up up.sh: left out: write the program by its path",
        ),
        (
            "delay_loop x",
            "k.conf:2: \"delay_loop x\": no time in seconds",
        ),
        (
            "sorry_server localhost 80",
            "k.conf:2: sorry_server localhost 80: left out: no address",
        ),
        ("syn_proxy", "k.conf:2: SYN proxy: "),
        (
            "laddr_group_name l",
            "k.conf:2: laddr_group_name l: local addresses are for full NAT",
        ),
        (
            "daddr_group_name d",
            "k.conf:2: daddr_group_name d: Pollux has no lists",
        ),
        (
            "protocol SCTP\n establish_timeout 60",
            "k.conf:3: a timeout of 60 s for service SCTP 198.51.100.1:80",
        ),
        (
            "establish_timeout x",
            "k.conf:2: \"establish_timeout x\": no number",
        ),
        ("lb_kind FNAT", "k.conf:2: method FNAT is nat here"),
        ("lb_algo conhash", "k.conf:2: scheduler conhash is mh here"),
        (
            "vip_bind_dev dpdk0",
            "k.conf:2: vip_bind_dev dpdk0: give the address to the TAP",
        ),
    ] {
        let found = of_service(inner);
        assert_eq!(found.len(), 1, "{inner}: {found:#?}");
        assert!(found[0].starts_with(note), "{inner}: {found:#?}");
    }
    let of_server = |inner: &str| {
        read_text(&format!(
            "virtual_server 198.51.100.1 80 {{\nreal_server 203.0.113.1 80 {{\n{inner}\n}}\n}}\n"
        ))
        .1
    };
    for (inner, note) in [
        (
            "notify_up /bin/up",
            "k.conf:3: notify_up: polluxd runs no program for a server",
        ),
        (
            "BFD_CHECK {\n name b\n}",
            "k.conf:3: BFD_CHECK: left out: Pollux does not speak BFD",
        ),
        (
            "FILE_CHECK {\n track_file f\n}",
            "k.conf:3: FILE_CHECK: left out: write a check of kind \"script\"",
        ),
        (
            "TCP_CHECK {\n bindto 203.0.113.7\n}",
            "k.conf:4: bindto: checks go out as the kernel's routes have it",
        ),
        (
            "MISC_CHECK {\n misc_path check\n}",
            "k.conf:2: MISC_CHECK: left out: write the program by its path",
        ),
        (
            "TCP_CHECK {\n what\n}",
            "k.conf:4: TCP_CHECK: \"what\" is not known here",
        ),
        (
            "HTTP_GET {\n url {\n regex \"(\"\n }\n}",
            "k.conf:2: regex \"(\": not one that is understood here",
        ),
        (
            "weight 99999999999",
            "k.conf:3: left out: weight 99999999999 out of range",
        ),
    ] {
        let found = of_server(inner);
        assert_eq!(found.len(), 1, "{inner}: {found:#?}");
        assert!(found[0].starts_with(note), "{inner}: {found:#?}");
    }
    for (text, note) in [
        (
            "virtual_server www.example.com 80 {\n}",
            "k.conf:1: virtual_server www.example.com 80: left out: \"www.example.com 80\" is no address",
        ),
        (
            "virtual_server group g {\n}",
            "k.conf:1: virtual_server group g: left out: there is no virtual_server_group g",
        ),
        (
            "virtual_server match m {\n}",
            "k.conf:1: virtual_server match m: left out: services of matched packets (SNAT)",
        ),
        (
            "virtual_server 198.51.100.1 0 {\n}",
            "k.conf:1: left out: service UDP 198.51.100.1:0: a service of all ports must be persistent",
        ),
        (
            "virtual_server 198.51.100.1 80 {\n protocol ICMP\n}",
            "k.conf:2: protocol ICMP: the virtual server is left out",
        ),
        (
            "virtual_server 198.51.100.1 80 {\n",
            "k.conf:1: virtual_server 198.51.100.1 80: its block is not closed",
        ),
        (
            "virtual_server 198.51.100.1 80 {\n}\n}\n",
            "k.conf:3: a } that closes nothing",
        ),
        (
            "vrrp_instance v {\n}\nvirtual_server 198.51.100.1 80 {\n}\n",
            "k.conf:1: vrrp_instance v: left out: VRRP stays keepalived's",
        ),
        (
            "what 1\nvirtual_server 198.51.100.1 80 {\n}\n",
            "k.conf:1: what 1: left out: it is not known here",
        ),
        (
            "global_defs {\n lvs_sync_daemon eth0\n}\nvirtual_server 198.51.100.1 80 {\n}\n",
            "k.conf:2: lvs_sync_daemon: left out: keepalived",
        ),
    ] {
        let found = read_text(text).1;
        assert_eq!(found.len(), 1, "{text}: {found:#?}");
        assert!(found[0].starts_with(note), "{text}: {found:#?}");
    }
    let found = read_text("vrrp_instance v {\n}\n").1;
    assert!(
        found
            .iter()
            .any(|note| note.contains("no virtual_server is in this file")),
        "{found:#?}"
    );
}

#[test]
fn servers_that_are_checked_differently_are_named() {
    let (configuration, notes) = read_text(
        "virtual_server 198.51.100.1 80 {\n real_server 203.0.113.1 80 {\n }\n real_server 203.0.113.2 80 {\n TCP_CHECK {\n }\n }\n}\n",
    );
    assert_eq!(configuration.health.checks.len(), 1);
    assert_eq!(notes.len(), 1, "{notes:#?}");
    assert!(
        notes[0].starts_with(
            "k.conf:2: server 203.0.113.1: here all servers of a service are checked alike"
        ),
        "{notes:#?}"
    );
    let (configuration, notes) = read_text(
        "virtual_server 198.51.100.1 80 {\n quorum 2\n real_server 203.0.113.1 80 {\n }\n}\n",
    );
    assert!(configuration.health.services.is_empty());
    assert!(notes[0].contains("no server has a checker"), "{notes:#?}");
}

/// As most files have it: the server's own address and port in its checker.
#[test]
fn a_checker_that_names_its_own_server_is_the_same_for_all() {
    let service = |checkers: [&str; 2]| {
        let [first, second] = checkers;
        clean(&format!(
            "virtual_server 198.51.100.1 80 {{\n real_server 203.0.113.1 80 {{\n {first}\n }}\n \
             real_server 203.0.113.11 81 {{\n {second}\n }}\n}}\n"
        ))
    };
    let configuration = service([
        "TCP_CHECK {\n connect_ip 203.0.113.1\n connect_port 80\n }",
        "TCP_CHECK {\n connect_ip 203.0.113.11\n connect_port 81\n }",
    ]);
    assert_eq!(configuration.health.checks.len(), 1);
    assert_eq!(configuration.health.checks[0].port, None);
    let configuration = service([
        "MISC_CHECK {\n misc_path \"/bin/check -H 203.0.113.1 -u http://203.0.113.1:80/$x -p 80 -w 100\"\n }",
        "MISC_CHECK {\n misc_path \"/bin/check -H 203.0.113.11 -u http://203.0.113.11:81/$x -p 81 -w 100\"\n }",
    ]);
    let Probe::Script(script) = &configuration.health.checks[0].probe else {
        panic!("{configuration:?}");
    };
    assert_eq!(
        script.command,
        [
            "/bin/sh",
            "-c",
            "exec \"/bin/check\" \"-H\" \"$POLLUX_SERVER_ADDRESS\" \"-u\" \
             \"http://$POLLUX_SERVER_ADDRESS:$POLLUX_SERVER_PORT/\\$x\" \"-p\" \"$POLLUX_SERVER_PORT\" \"-w\" \"100\""
        ]
    );
    // What really differs is said: nobody checks the second server at the first one's address.
    let (_, notes) = read_text(
        "virtual_server 198.51.100.1 80 {\n real_server 203.0.113.1 80 {\n MISC_CHECK {\n misc_path \"/bin/a 203.0.113.1\"\n }\n }\n \
         real_server 203.0.113.2 80 {\n MISC_CHECK {\n misc_path \"/bin/b 203.0.113.2\"\n }\n }\n}\n",
    );
    assert_eq!(notes.len(), 1, "{notes:#?}");
    assert!(notes[0].contains("203.0.113.2: here all servers of a service are checked alike"));
}

/// keepalived warns of both and goes on with less; a quorum that can never be there would be lost for ever.
#[test]
fn a_quorum_that_cannot_be_reached_is_what_keepalived_makes_of_it() {
    let (configuration, notes) = read_text(
        "virtual_server 198.51.100.1 80 {\n quorum 5\n hysteresis 4\n real_server 203.0.113.1 80 {\n weight 3\n TCP_CHECK {\n }\n }\n}\n",
    );
    let quorum = &configuration.health.services[0].quorum;
    assert_eq!((quorum.weight, quorum.hysteresis), (3, 0));
    let expected = [
        "k.conf:1: quorum 5: all servers together weigh 3, so it is 3 here",
        "k.conf:1: hysteresis 4 is not below the quorum, 3: there is none here",
    ];
    assert_eq!(notes.len(), 2, "{notes:#?}");
    for (note, expected) in notes.iter().zip(expected) {
        assert!(note.starts_with(expected), "{note}");
    }
}

#[test]
fn the_old_name_of_retry_counts() {
    let configuration = clean(
        "virtual_server 198.51.100.1 80 {\n real_server 203.0.113.1 80 {\n HTTP_GET {\n nb_get_retry 3\n url {\n path /\n }\n }\n }\n}\n",
    );
    assert_eq!(configuration.health.checks[0].fall, 4);
}

#[test]
fn a_mail_check_in_the_old_style_keeps_its_port() {
    let configuration = clean(
        "virtual_server 198.51.100.1 25 {\n real_server 203.0.113.1 25 {\n SMTP_CHECK {\n host {\n connect_port 2525\n }\n }\n }\n}\n",
    );
    assert_eq!(configuration.health.checks[0].port, Some(2525));
}

#[test]
fn timeouts_of_all_services_are_settings() {
    let configuration = clean(
        "global_defs {\n lvs_timeouts tcp 600 udp 30\n router_id me\n}\nvirtual_server 198.51.100.1 80 {\n}\n",
    );
    assert_eq!(configuration.settings.get("timeout_established"), 600);
    assert_eq!(configuration.settings.get("timeout_udp"), 30);
    assert!(matches!(
        configuration.services[0].service.id,
        ServiceId::Address(_)
    ));
}

/// Each keyword that DPVS's keepalived has beyond keepalived's is carried over or said, never "not known".
#[test]
fn every_keyword_of_dpvs_is_known() {
    let (configuration, notes) = read_text(
        "local_address_group l {\n 192.168.1.1 dpdk0\n}\ndeny_address_group d {\n 10.0.0.1\n}\nallow_address_group a {\n 10.0.0.2\n}\n\
         tunnel_group t {\n tunnel_entry gre1 {\n kind gre\n}\n}\n\
         vrrp_instance v {\n interface dpdk0.kni\n dpdk_interface dpdk0\n}\n\
         virtual_server match SNAT {\n protocol UDP\n lb_kind SNAT\n src-range 10.0.0.0-10.0.0.9\n dst-range 0.0.0.0-0.0.0.1\n iif dpdk0\n oif dpdk1\n}\n\
         virtual_server 198.51.100.1 443 {\n protocol udp\n lb_algo conhash\n hash_target qid\n lb_kind FNAT\n syn_proxy\n establish_timeout 60\n\
         proxy_protocol v2\n expire_quiescent_conn\n quic\n vip_bind_dev dpdk0\n laddr_group_name l\n daddr_group_name d\n waddr_group_name a\n\
         bps 1024\n limit_proportion 50\n real_server 203.0.113.1 443 {\n weight 100\n inhibit_on_failure\n}\n}\n",
    );
    for note in &notes {
        assert!(!note.contains("not known here"), "{note}");
    }
    let services: Vec<_> = configuration.services.iter().collect();
    let [entry] = services[..] else {
        panic!("{configuration:#?}");
    };
    assert_eq!(entry.service.timeouts.to_string(), "udp 60");
    assert_eq!(entry.destinations.len(), 1);
    for word in [
        "local_address_group",
        "deny_address_group",
        "allow_address_group",
        "tunnel_group",
        "vrrp_instance",
        "virtual_server match SNAT",
        "conhash",
        "FNAT",
        "SYN proxy",
        "PROXY protocol v2",
        "expire-quiescent",
        "quic",
        "vip_bind_dev",
        "laddr_group_name",
        "daddr_group_name",
        "waddr_group_name",
        "bps",
        "limit_proportion",
    ] {
        assert!(
            notes.iter().any(|note| note.contains(word)),
            "{word}: {notes:#?}"
        );
    }
}

#[test]
fn timeouts_of_dpvs_conf_are_settings() {
    let (configuration, notes) = read_text(
        "! DPVS\nglobal_defs {\n log_level WARNING\n}\nnetif_defs {\n <init> pktpool_size 65535\n <init> device dpdk0 {\n rx {\n queue_number 8\n }\n kni_name dpdk0.kni\n }\n}\n\
         worker_defs {\n <init> worker cpu0 {\n type master\n cpu_id 0\n }\n}\ntimer_defs {\n schedule_interval 500\n}\nneigh_defs {\n timeout 60\n}\n\
         ipvs_defs {\n conn {\n <init> conn_pool_size 2097152\n conn_init_timeout 3\n expire_quiescent_template\n }\n \
         udp {\n uoa_mode opp\n timeout {\n oneway 60\n normal 30\n last 3\n }\n }\n \
         tcp {\n defence_tcp_drop\n timeout {\n none 2\n established 90\n syn_recv 12\n last 2\n }\n synproxy {\n ack_storm_thresh 10\n }\n what 1\n }\n}\n\
         sa_pool {\n <init> pool_hash_size 16\n}\n",
    );
    let settings = &configuration.settings;
    for (name, value) in [
        ("timeout_established", 90),
        ("timeout_synrecv", 12),
        ("timeout_udp", 30),
        ("expire_quiescent_template", 1),
    ] {
        assert_eq!(settings.get(name), value, "{name}");
    }
    let starts = |note: &str| notes.iter().filter(|found| found.contains(note)).count();
    for (note, count) in [
        ("<init> device dpdk0: write a [[dataplane.port]]", 1),
        ("worker_defs: write cores", 1),
        ("neigh_defs: neighbours are the kernel's", 1),
        ("<init> conn_pool_size 2097152: write connections", 1),
        ("conn_init_timeout 3: write timeout_synrecv", 1),
        ("UDP has one timeout here", 2),
        ("uoa_mode opp: no UOA is written", 1),
        ("SYN proxy", 1),
        ("defence_tcp_drop: packets of a service", 1),
        ("sa_pool: local ports are for full NAT", 1),
        ("ipvs_defs.tcp.what: it is not known here", 1),
    ] {
        assert_eq!(starts(note), count, "{note}: {notes:#?}");
    }
    assert_eq!(notes.len(), 12, "{notes:#?}");
}
