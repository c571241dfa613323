//! Services of firewall marks: several ports in one service, by every method, and clients that stay over all its ports.

use std::collections::BTreeSet;

use pollux_tests::lab::Lab;
use pollux_tests::lab::namespace::try_run;
use pollux_tests::lab::servers::{DIRECT, NAMES, NAT, SERVERS4, TUNNEL, VIP4, mark};
use pollux_tests::lab::tools::{ipvs, lines_with};

const HTTP: &str = "http://198.51.100.1/";
const HTTPS: &str = "https://198.51.100.1/";

/// Port 80 and port 443 get mark 7.
fn lab_with_a_mark(method: &str) -> Lab {
    let lab = Lab::start();
    for port in [80, 443] {
        lab.pollux(&format!(
            "mark add 7 --destination {VIP4} --protocol tcp --destination-ports {port}"
        ));
    }
    let service = mark(7);
    lab.pollux(&format!("service add {service} -s rr"));
    for server in SERVERS4.iter().rev() {
        lab.pollux(&format!("server add {service} -r {server} {method}"));
    }
    lab
}

#[test]
fn http_and_https_are_one_service_under_nat() {
    http_and_https_take_turns(NAT);
}

#[test]
fn http_and_https_are_one_service_in_a_tunnel() {
    http_and_https_take_turns(TUNNEL);
}

#[test]
fn http_and_https_are_one_service_by_direct_routing() {
    http_and_https_take_turns(DIRECT);
}

/// One turn over both ports: six connections, two to each server, one of them of each kind at most by chance.
fn http_and_https_take_turns(method: &str) {
    let lab = lab_with_a_mark(method);
    lab.watch_client();
    let client = "192.0.2.10";
    let answers: Vec<String> = [HTTP, HTTPS, HTTP, HTTPS, HTTP, HTTPS]
        .iter()
        .map(|page| lab.curl_from(client, page))
        .collect();
    let (first, second) = answers.split_at(3);
    assert_eq!(
        first.iter().collect::<BTreeSet<_>>().len(),
        3,
        "{answers:?}"
    );
    assert_eq!(first, second, "round robin goes on over both ports");
    for server in SERVERS4 {
        assert_eq!(lab.server(server).totals.connections, 2, "{server}");
    }
    lab.assert_client_saw_no_server();
    // Another port is for no service: the director's kernel refuses.
    let output = try_run("client", "curl -sS --max-time 5 http://198.51.100.1:8080/");
    assert_eq!(output.status.code(), Some(7), "curl cannot connect");
}

#[test]
fn a_client_has_one_server_for_http_and_https() {
    let lab = lab_with_a_mark(NAT);
    lab.pollux(&format!("service edit {} -p 300", mark(7)));
    let clients = ["192.0.2.20", "192.0.2.21", "192.0.2.22"];
    let mut seen = BTreeSet::new();
    for client in clients {
        lab.add_client(client);
        let name = lab.curl_from(client, HTTP);
        for page in [HTTPS, HTTP, HTTPS] {
            assert_eq!(lab.curl_from(client, page), name, "{client} {page}");
        }
        seen.insert(name);
    }
    assert_eq!(seen, NAMES.map(str::to_owned).into());
    // As Linux lists them: no protocol, the mark for an address.
    let listed = ipvs("ipvsadm -Lcn");
    let templates = lines_with(&listed, "IP");
    assert_eq!(templates.len(), 3, "{listed}");
    for words in templates {
        assert_eq!(
            (&*words[2], &*words[4]),
            ("ASSURED", "0.0.0.7:0"),
            "{listed}"
        );
    }
    let listed = ipvs("ipvsadm -Ln");
    assert_eq!(
        lines_with(&listed, "FWM").remove(0),
        ["FWM", "7", "rr", "persistent", "300"]
    );
}
