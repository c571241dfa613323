//! What each command does to the configuration that runs.

use pollux_api::statistics::TrafficTotals;
use serde_json::json;

use super::machine::Machine;

const SERVICE: &str = "-t 198.51.100.1:80";
const SERVER: &str = "-t 198.51.100.1:80 -r 203.0.113.11";

#[test]
fn services_are_added_changed_and_removed() {
    let machine = Machine::up();
    machine.done(&format!("service add {SERVICE}"));
    machine.done("service add -u [2001:db8:100::1]:53 --scheduler rr");
    let configuration = machine.json("show configuration");
    assert_eq!(
        configuration["services"],
        json!([
            {"service": {"id": {"protocol": "tcp", "endpoint": "198.51.100.1:80"}, "scheduler": "wlc"}, "destinations": []},
            {"service": {"id": {"protocol": "udp", "endpoint": "[2001:db8:100::1]:53"}, "scheduler": "rr"}, "destinations": []},
        ])
    );
    machine.done(&format!("server add {SERVER}"));
    machine.done(&format!("service edit {SERVICE} -s wrr"));
    let service = &machine.json("show configuration")["services"][0];
    assert_eq!(service["service"]["scheduler"], "wrr");
    assert_eq!(service["destinations"].as_array().unwrap().len(), 1);

    machine.done(&format!("service remove {SERVICE}"));
    let services = machine.json("show services");
    assert_eq!(services.as_array().unwrap().len(), 1);
    machine.done("flush");
    assert_eq!(machine.json("show services"), json!([]));
}

#[test]
fn scheduler_flags_are_ipvsadms() {
    let machine = Machine::up();
    let flags = |machine: &Machine| {
        let configuration = machine.json("show configuration");
        configuration["services"][0]["service"]["scheduler_flags"].clone()
    };
    machine.done(&format!("service add {SERVICE} -s sh -b sh-port,flag-1"));
    assert_eq!(flags(&machine), json!(["sh-fallback", "sh-port"]));
    machine.done(&format!("service edit {SERVICE} --sched-flags sh-port"));
    assert_eq!(flags(&machine), json!(["sh-port"]));
    let shown = machine.shown("show services");
    assert!(
        shown.contains("TCP  198.51.100.1:80 sh (sh-port)\n"),
        "{shown}"
    );

    // What is saved is what runs.
    machine.done(&format!(
        "service edit {SERVICE} -s mh -b mh-fallback,mh-bounded=25"
    ));
    machine.done("save");
    let saved = std::fs::read_to_string(machine.path("pollux.toml")).unwrap();
    let line = "scheduler_flags = [\"mh-fallback\", \"mh-bounded=25\"]\n";
    assert!(saved.contains(line), "{saved}");
    machine.shown("check");

    machine.done(&format!("service edit {SERVICE} -s rr"));
    assert_eq!(flags(&machine), json!(null));
    machine.done(&format!("service edit {SERVICE} -b flag-3"));
    let shown = machine.shown("show services");
    assert!(
        shown.contains("TCP  198.51.100.1:80 rr (flag-3)\n"),
        "{shown}"
    );
    machine.done(&format!("service edit {SERVICE} --sched-flags="));
    assert_eq!(flags(&machine), json!(null));
}

/// The one server of the one service.
#[test]
fn persistence_options_are_ipvsadms() {
    let machine = Machine::up();
    let service =
        |machine: &Machine| machine.json("show configuration")["services"][0]["service"].clone();
    machine.done(&format!("service add {SERVICE} -p -M 255.255.255.0"));
    assert_eq!(
        service(&machine)["persistence"],
        json!({"timeout_s": 360, "netmask": "255.255.255.0"})
    );
    machine.done(&format!("server add {SERVER}"));
    let shown = machine.shown("show services");
    let line = "TCP  198.51.100.1:80 wlc persistent 360 mask 255.255.255.0\n";
    assert!(shown.contains(line), "{shown}");
    assert!(shown.contains("PersistConn"), "{shown}");

    // What is saved is what runs.
    machine.done("save");
    let file = machine.path("pollux.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    for line in [
        "persistence_timeout = 360\n",
        "persistence_netmask = \"255.255.255.0\"\n",
    ] {
        assert!(text.contains(line), "{text}");
    }

    // What is not given stays; the scheduler has nothing to do with it.
    machine.done(&format!("service edit {SERVICE} -p 60"));
    machine.done(&format!("service edit {SERVICE} -s rr"));
    assert_eq!(
        service(&machine)["persistence"],
        json!({"timeout_s": 60, "netmask": "255.255.255.0"})
    );
    machine.refused(
        &format!("service edit {SERVICE} -M 64"),
        1,
        "netmask 64 is not one of the service's address family",
    );
    machine.refused(
        &format!("service edit {SERVICE} -p 2678401"),
        1,
        "persistence timeout 2678401 out of range",
    );
    machine.refused(
        &format!("service edit {SERVICE} --ops"),
        1,
        "one-packet scheduling is only for UDP services",
    );
    machine.done(&format!("service edit {SERVICE} -p 0"));
    assert_eq!(service(&machine)["persistence"], json!(null));

    machine.done("flush");
    machine.done("service add -u 198.51.100.1:53 -o -s rr");
    let shown = machine.shown("show services");
    assert!(shown.contains("UDP  198.51.100.1:53 rr ops\n"), "{shown}");
    machine.done("service edit -u 198.51.100.1:53 --ops=false");
    assert_eq!(service(&machine)["one_packet"], json!(null));
}

#[test]
fn a_service_has_timeouts_of_its_own() {
    let machine = Machine::up();
    let service =
        |machine: &Machine| machine.json("show configuration")["services"][0]["service"].clone();
    machine.done(&format!(
        "service add {SERVICE} --timeouts tcp=60,tcp_fin=10"
    ));
    assert_eq!(
        service(&machine)["timeouts"],
        json!({"tcp_s": 60, "tcp_fin_s": 10})
    );
    let shown = machine.shown("show services");
    let line = "TCP  198.51.100.1:80 wlc timeouts tcp 60 tcp_fin 10\n";
    assert!(shown.contains(line), "{shown}");
    machine.done("save");
    let text = std::fs::read_to_string(machine.path("pollux.toml")).unwrap();
    assert!(
        text.contains("timeouts = { tcp = 60, tcp_fin = 10 }\n"),
        "{text}"
    );

    // What is not named stays, and 0 is as for all.
    machine.done(&format!("service edit {SERVICE} --timeouts tcp_fin=0"));
    machine.done(&format!("service edit {SERVICE} -s rr"));
    assert_eq!(service(&machine)["timeouts"], json!({"tcp_s": 60}));
    machine.refused(
        &format!("service edit {SERVICE} --timeouts udp=5"),
        1,
        "timeout udp means nothing to a service of TCP",
    );
    machine.refused(
        &format!("service edit {SERVICE} --timeouts tcp=2147484"),
        1,
        "timeout tcp = 2147484 out of range",
    );
    machine.done(&format!("service edit {SERVICE} --timeouts tcp=0"));
    assert_eq!(service(&machine)["timeouts"], json!(null));
}

fn server(machine: &Machine) -> serde_json::Value {
    machine.json("show configuration")["services"][0]["destinations"][0].clone()
}

#[test]
fn a_new_servers_defaults_are_those_of_ipvsadm() {
    let machine = Machine::up();
    machine.done(&format!("service add {SERVICE}"));
    machine.done(&format!("server add {SERVER}"));
    assert_eq!(
        server(&machine),
        json!({"id": "203.0.113.11:80", "method": "direct", "weight": 1, "upper_threshold": 0, "lower_threshold": 0})
    );
}

#[test]
fn an_edit_changes_what_is_given_and_nothing_else() {
    let machine = Machine::up();
    machine.done(&format!("service add {SERVICE}"));
    machine.done(&format!("server add {SERVER} -m -w 3 -x 100 -y 50"));
    let mut expected = json!(
        {"id": "203.0.113.11:80", "method": "nat", "weight": 3, "upper_threshold": 100, "lower_threshold": 50}
    );
    assert_eq!(server(&machine), expected);
    for (options, key, value) in [
        ("-w 0", "weight", json!(0)),
        ("-g", "method", json!("direct")),
        ("-i", "method", json!("tunnel")),
        ("-y 0", "lower_threshold", json!(0)),
        ("-x 7", "upper_threshold", json!(7)),
        ("--weight 2147483647", "weight", json!(2_147_483_647)),
    ] {
        machine.done(&format!("server edit {SERVER} {options}"));
        expected[key] = value;
        assert_eq!(server(&machine), expected, "{options}");
    }
    machine.done(&format!("server remove {SERVER}"));
    assert_eq!(server(&machine), json!(null));
}

#[test]
fn tunnel_options_are_ipvsadms() {
    let machine = Machine::up();
    machine.done(&format!("service add {SERVICE}"));
    machine.done(&format!(
        "server add {SERVER} -i --tun-type gue --tun-port 5555 --tun-remcsum"
    ));
    let gue = |port, checksum| json!({"type": "gue", "port": port, "checksum": checksum});
    assert_eq!(server(&machine)["tunnel"], gue(5555, "remcsum"));

    // What is saved is what runs.
    machine.done("save");
    let saved = std::fs::read_to_string(machine.path("pollux.toml")).unwrap();
    for line in [
        "tunnel_type = \"gue\"\n",
        "tunnel_port = 5555\n",
        "tunnel_checksum = \"remcsum\"\n",
    ] {
        assert!(saved.contains(line), "{saved}");
    }
    machine.shown("check");

    for (options, expected) in [
        ("-w 0", gue(5555, "remcsum")),
        ("--tun-port 6080", gue(6080, "remcsum")),
        ("--tun-nocsum", gue(6080, "nocsum")),
        (
            "--tun-type gre",
            json!({"type": "gre", "checksum": "nocsum"}),
        ),
        ("--tun-csum", json!({"type": "gre", "checksum": "csum"})),
        ("--tun-type ipip", json!(null)),
        ("--tun-type gue --tun-port 1 --tun-csum", gue(1, "csum")),
        ("-m", json!(null)),
    ] {
        machine.done(&format!("server edit {SERVER} {options}"));
        assert_eq!(server(&machine)["tunnel"], expected, "{options}");
    }
}

#[test]
fn a_change_answers_programs_with_its_generation() {
    let machine = Machine::up();
    let first = machine.json(&format!("service add {SERVICE}"));
    let second = machine.json("flush");
    assert_eq!(
        (first, second),
        (json!({"generation": 1}), json!({"generation": 2}))
    );
}

#[test]
fn zero_is_for_one_service_or_for_all() {
    let machine = Machine::up();
    machine.done("service add -t 198.51.100.1:80");
    machine.done("service add -t 198.51.100.1:81");
    let count = |machine: &Machine| {
        let totals = TrafficTotals {
            connections: 10,
            ..TrafficTotals::default()
        };
        let mut state = machine.state.lock().unwrap();
        for port in [80, 81] {
            let name = format!("TCP 198.51.100.1:{port}");
            state.totals.insert(name, totals);
        }
    };
    let connections = |machine: &Machine| {
        let services = machine.json("show stats");
        [0, 1].map(|index: usize| services[index]["totals"]["connections"].as_u64().unwrap())
    };
    count(&machine);
    machine.done("zero -t 198.51.100.1:81");
    assert_eq!(connections(&machine), [10, 0]);
    count(&machine);
    machine.done("zero");
    assert_eq!(connections(&machine), [0, 0]);
}

#[test]
fn rates_follow_the_counters() {
    let machine = Machine::up();
    machine.done("service add -t 198.51.100.1:80");
    machine.done("server add -t 198.51.100.1:80 -r 203.0.113.11");
    let rate = |machine: &Machine| {
        machine.json("show rates")[0]["rates"]["inbound_packets"]
            .as_u64()
            .unwrap()
    };
    assert_eq!(rate(&machine), 0);
    // What the first sample finds is no rate yet: it counts on.
    machine.until("a rate is shown", |machine| {
        let mut state = machine.state.lock().unwrap();
        let totals = state.totals.entry("TCP 198.51.100.1:80".to_owned());
        totals.or_default().inbound_packets += 8_000;
        drop(state);
        rate(machine) > 0
    });
    // How much of it arrives at which tick is the estimator's own test; the server has half of its service's.
    let report = machine.json("show rates -t 198.51.100.1:80");
    let own = report[0]["rates"]["inbound_packets"].as_u64().unwrap();
    assert!(own > 0, "{report}");
    assert_eq!(report[0]["destinations"][0][0], "203.0.113.11:80");
    let half = &report[0]["destinations"][0][1]["inbound_packets"];
    assert!(half.as_u64().unwrap().abs_diff(own / 2) <= 1, "{report}");
    machine.done("zero");
    assert_eq!(rate(&machine), 0);
}
