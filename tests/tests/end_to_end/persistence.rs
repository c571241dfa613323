//! Persistence: a client comes back to its server, networks count as one client, and all of it ends in time; listed by
//! the stock `ipvsadm`.

use std::collections::{BTreeMap, BTreeSet};
use std::thread;
use std::time::Duration;

use pollux_tests::lab::client::url;
use pollux_tests::lab::servers::{NAMES, NAT, SERVERS4, SERVERS6, TUNNEL, VIP4, VIP6, tcp, udp};
use pollux_tests::lab::tools::{ipvs, lines};
use pollux_tests::lab::{Lab, eventually};

/// The first two are in one network of 16 addresses, the last two in another.
const CLIENTS4: [&str; 4] = ["192.0.2.20", "192.0.2.21", "192.0.2.40", "192.0.2.41"];

fn lab_with_clients() -> Lab {
    let lab = Lab::start();
    for client in CLIENTS4 {
        lab.add_client(client);
    }
    lab
}

/// Servers by client, as templates have them: a client without a port.
fn templates() -> BTreeMap<String, String> {
    let listed = ipvs("ipvsadm -Lcn");
    let connections = lines(&listed).into_iter();
    connections
        .filter(|words| words.get(3).is_some_and(|client| client.ends_with(":0")))
        .map(|words| (words[3].clone(), words[5].clone()))
        .collect()
}

fn address_of(name: &str) -> &'static str {
    SERVERS4[NAMES.iter().position(|known| *known == name).unwrap()]
}

#[test]
fn a_client_stays_at_its_server_and_others_go_elsewhere() {
    let lab = lab_with_clients();
    let service = tcp(VIP4, 80);
    lab.add(&service, "rr", NAT, &SERVERS4, 80);
    lab.pollux(&format!("service edit {service} -p 300"));
    let page = url(VIP4, "/");
    let first = CLIENTS4[..3]
        .iter()
        .map(|client| (*client, lab.curl_from(client, &page)));
    let first: BTreeMap<&str, String> = first.collect();
    assert_eq!(
        first.values().collect::<BTreeSet<_>>().len(),
        3,
        "{first:?}"
    );
    for _ in 0..5 {
        for (client, name) in &first {
            assert_eq!(lab.curl_from(client, &page), *name, "{client}");
        }
    }
    let expected: BTreeMap<String, String> = first
        .iter()
        .map(|(client, name)| (format!("{client}:0"), format!("{}:80", address_of(name))))
        .collect();
    assert_eq!(templates(), expected);
    // One more connection at each does not count: a template is none.
    let connections: u64 = SERVERS4
        .iter()
        .map(|server| lab.server(server).totals.connections)
        .sum();
    assert_eq!(connections, 18);
}

#[test]
fn a_network_is_one_client() {
    let lab = lab_with_clients();
    let service = tcp(VIP4, 80);
    lab.add(&service, "rr", TUNNEL, &SERVERS4, 80);
    lab.pollux(&format!("service edit {service} -p 300 -M 255.255.255.240"));
    let page = url(VIP4, "/");
    let [a, b, c, d] = CLIENTS4.map(|client| lab.curl_from(client, &page));
    assert_eq!((&a, &c), (&b, &d));
    assert_ne!(a, c);
    let networks: Vec<String> = templates().into_keys().collect();
    assert_eq!(networks, ["192.0.2.16:0", "192.0.2.32:0"]);

    let service = tcp(VIP6, 80);
    lab.add(&service, "rr", NAT, &SERVERS6, 80);
    lab.pollux(&format!("service edit {service} -p 300 -M 124"));
    let [near, far] = ["2001:db8:1::1f", "2001:db8:1::20"];
    lab.add_client(near);
    lab.add_client(far);
    let page = url(VIP6, "/");
    let name = lab.curl_from("2001:db8:1::10", &page);
    for _ in 0..3 {
        assert_eq!(lab.curl_from(near, &page), name);
        assert_ne!(lab.curl_from(far, &page), name);
    }
    let listed = templates();
    for network in ["[2001:db8:1::10]:0", "[2001:db8:1::20]:0"] {
        assert!(listed.contains_key(network), "{listed:?}");
    }
}

#[test]
fn a_client_that_stayed_away_for_the_timeout_is_a_new_one() {
    let lab = Lab::start();
    let service = udp(VIP4, 53);
    lab.add(&service, "rr", NAT, &SERVERS4, 53);
    lab.pollux(&format!("service edit {service} -p 2"));
    // Connections that live as long would keep the template.
    ipvs("ipvsadm --set 0 0 1");
    let first = lab.dig(VIP4);
    for _ in 0..6 {
        thread::sleep(Duration::from_millis(500));
        assert_eq!(lab.dig(VIP4), first, "each visit begins the timeout anew");
    }
    thread::sleep(Duration::from_millis(1200));
    assert_eq!(templates().len(), 1, "not before its time");
    let gone = eventually(Duration::from_secs(5), || templates().is_empty());
    assert!(gone, "{:?}", templates());
    assert_ne!(lab.dig(VIP4), first);
}

#[test]
fn a_drained_server_keeps_its_clients_unless_settings_say_else() {
    let lab = Lab::start();
    let service = tcp(VIP4, 80);
    lab.add(&service, "rr", NAT, &SERVERS4, 80);
    lab.pollux(&format!("service edit {service} -p 300"));
    let name = lab.curl(VIP4, "/");
    lab.set_weight(&service, address_of(&name), 0);
    assert_eq!(lab.curl(VIP4, "/"), name, "the template is honoured");
    lab.pollux("set expire_quiescent_template=1");
    assert_ne!(lab.curl(VIP4, "/"), name, "and now it is not");
}
