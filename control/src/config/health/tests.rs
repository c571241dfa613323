//! Checks in a file: what they come to, how they are written, what is wrong with them.

use pollux_api::Change;

use super::super::{diff, validate, write};
use super::*;

const FILE: &str = r#"
[[check]]
name = "web" # of the shop
kind = "http"
path = "/healthy"
status = "200-399"
port = 8080
interval_ms = 500

[[check]]
name = "connect"
kind = "tcp"

[[service]]
protocol = "tcp"
address = "198.51.100.1:80"
check = "web"

[[service.server]]
address = "203.0.113.11:80"
weight = 7

[[service]]
protocol = "tcp"
address = "198.51.100.1:81"
"#;

fn read(text: &str) -> Configuration {
    validate::parse("file", text)
        .unwrap()
        .configuration()
        .clone()
}

fn problems(text: &str) -> String {
    validate::parse("file", text).unwrap_err().to_string()
}

#[test]
fn checks_are_read_with_their_defaults() {
    let read = read(FILE);
    let service = read.services[0].service.id;
    let web = read.health.checks_of(service).next().unwrap();
    assert_eq!((web.interval_ms, web.timeout_ms), (500, 500));
    assert_eq!((web.rise, web.fall, web.port), (RISE, FALL, Some(8080)));
    let Probe::Http(http) = &web.probe else {
        panic!("{web:?}");
    };
    assert_eq!((http.path.as_str(), &http.host), ("/healthy", &None));
    assert!(http.status.contains(399) && !http.status.contains(400));
    let other = read.services[1].service.id;
    assert_eq!(read.health.checks_of(other).count(), 0);
    assert_eq!(read.health.checks[1].timeout_ms, TIMEOUT_MS);
}

#[test]
fn what_is_written_reads_the_same_and_weights_of_servers_that_are_off_stay() {
    let before = read(FILE);
    let off = Change::SwitchServer {
        service: before.services[0].service.id,
        id: before.services[0].destinations[0].id,
        off: true,
    };
    let running = before.apply(&[off]).unwrap();
    assert_eq!(read(&write::to_text(&running)), before);
    let merged = write::merge(FILE, &running).unwrap();
    assert_eq!(read(&merged), before);
    assert!(merged.contains("# of the shop"), "{merged}");
}

#[test]
fn a_plan_changes_checks_and_does_not_bring_servers_back() {
    let before = read(FILE);
    let service = before.services[0].service.id;
    let server = before.services[0].destinations[0].id;
    let off = Change::SwitchServer {
        service,
        id: server,
        off: true,
    };
    let running = before.apply(&[off]).unwrap();
    assert_eq!(diff::changes(&running, &before), []);
    let wanted = read(&FILE.replace("interval_ms = 500", "interval_ms = 900"));
    let next = running.apply(&diff::changes(&running, &wanted)).unwrap();
    assert_eq!(next.health.checks, wanted.health.checks);
    assert!(next.health.is_off(service, server));
    let none = read("");
    let empty = running.apply(&diff::changes(&running, &none)).unwrap();
    assert_eq!(empty, none);
    let loaded = none.apply(&diff::changes(&none, &before)).unwrap();
    assert_eq!(loaded, before);
}

#[test]
fn what_is_wrong_is_located() {
    for (from, to, problem) in [
        (
            "check = \"web\"",
            "check = \"wbe\"",
            "file:17: service[0].check: service TCP 198.51.100.1:80: no such check: \"wbe\"",
        ),
        (
            "kind = \"http\"",
            "kind = \"htp\"",
            "file:4: check[0].kind: unknown kind \"htp\": known are \"tcp\", \"http\", \"https\", \"udp\", \"dns\",",
        ),
        (
            "\"connect\"",
            "\"web\"",
            "file:10: check[1]: check \"web\" is there twice",
        ),
        (
            "interval_ms = 500",
            "interval_ms = 500\ntimeout_ms = 501",
            "file:2: check[0]: check \"web\": timeout 501 ms is longer than interval 500 ms",
        ),
        (
            "\"200-399\"",
            "\"399-200\"",
            "file:6: check[0].status: bad status \"399-200\"",
        ),
        (
            "\"/healthy\"",
            "\"/a b\"",
            "file:2: check[0]: check \"web\": bad path \"/a b\"",
        ),
        (
            "kind = \"tcp\"",
            "kind = \"tcp\"\npath = \"/\"",
            "file:13: check[1].path: unknown key",
        ),
    ] {
        let found = problems(&FILE.replacen(from, to, 1));
        assert!(found.starts_with(problem), "{found}");
        assert_eq!(found.lines().count(), 1, "{found}");
    }
}

/// A check that is wrong, or one error of a service, hides no other.
#[test]
fn all_that_is_wrong_is_said_at_once() {
    let found = problems(
        "[[check]]\nname = \"web\"\nkind = \"http\"\ninterval_ms = 100\ntimeout_ms = 200\ndigest = \"ab\"\n\
         [[check]]\nname = \"web\"\nkind = \"tcp\"\n\
         [[service]]\nprotocol = \"tcp\"\naddress = \"198.51.100.1:80\"\ncheck = [\"web\", \"wbe\"]\n\
         quorum = 2\nquorum_hysteresis = 2\nquorum_up = [\"tell\"]\n\
         sorry_server = { address = \"203.0.113.11\" }\nserver = [{ address = \"203.0.113.11\" }]\n",
    );
    let found: Vec<&str> = found.lines().collect();
    let expected = [
        "file:1: check[0]: check \"web\": timeout 200 ms is longer than interval 100 ms",
        "file:1: check[0]: check \"web\": bad digest \"ab\"",
        "file:7: check[1]: check \"web\" is there twice",
        "file:13: service[0].check: service TCP 198.51.100.1:80: no such check: \"wbe\"",
        "file:15: service[0].quorum_hysteresis: ",
        "file:16: service[0].quorum_up: ",
        "file:17: service[0].sorry_server: ",
    ];
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.starts_with(expected), "{found} instead of {expected}");
    }
}

/// One of each kind, with keys that are not the default.
const KINDS: &str = r#"
[[check]]
name = "redis"
kind = "tcp"
port = 6379
jitter_percent = 20
send = "PING\r\n"
expect = '^\+PONG'

[[check]]
name = "page"
kind = "http"
status = "200,301-302"
host = "www.example.com"
body = "all is (well|fine)"
body_without = "(?i)error"
digest = "9e107d9d372bb6826bd81d3542a419d6"

[[check]]
name = "secure"
kind = "https"
path = "/a"
sni = "www.example.com"
ca_file = "/etc/pollux/ca.pem"
expiry_warning_days = 30

[[check]]
name = "datagram"
kind = "udp"
send_hex = "0a1b"
expect = "^ok"

[[check]]
name = "names"
kind = "dns"
query = "www.example.com"
record = "A"
rcode = "nxdomain"

[[check]]
name = "there"
kind = "ping"

[[check]]
name = "mail"
kind = "smtp"
helo = "director.example.com"

[[check]]
name = "calls"
kind = "grpc"
service = "shop.Cart"
tls = true
verify = false

[[check]]
name = "own"
kind = "script"
command = ["/usr/local/bin/check-shop", "-v"]
exit_weight = true

[[check]]
name = "agent"
kind = "agent"
port = 9999
send = "shop\n"

[[service]]
protocol = "tcp"
address = "198.51.100.1:80"
check = ["page", "agent"] # both
start_down = true
on_failure = "remove"
slow_start_s = 30
quorum = 3
quorum_hysteresis = 1
quorum_up = ["/usr/local/bin/announce", "up"]
quorum_down = ["/usr/local/bin/announce", "down"]
announce = "wan"

[service.sorry_server] # says sorry
address = "203.0.113.99:80"
method = "nat"

[[service.server]]
address = "203.0.113.11:80"
"#;

#[test]
fn every_kind_is_read_and_written_with_all_its_keys() {
    let before = read(KINDS);
    assert_eq!(before.health.checks.len(), Probe::all_kinds().len());
    for (check, default) in before.health.checks.iter().zip(Probe::all_kinds()) {
        assert_eq!(check.probe.kind(), default.kind());
        assert!(check.probe != default || check.name == "there", "{check:?}");
    }
    assert_eq!(read(&write::to_text(&before)), before);
    let written = write::to_text(&before);
    // What is not the default, and nothing else.
    let keys = |text: &str| {
        let lines = text.lines().filter(|line| line.contains('='));
        lines.filter(|line| !line.starts_with("timeout_ms")).count()
    };
    assert_eq!(keys(&written), keys(KINDS) + 1, "the scheduler:\n{written}");
    let merged = write::merge(KINDS, &before).unwrap();
    assert!(
        merged.contains("# both") && merged.contains("# says sorry"),
        "{merged}"
    );
    assert_eq!(read(&merged), before);
    // Without its check, nothing of it is left.
    let bare = Change::ReplaceChecks {
        checks: vec![],
        services: vec![],
    };
    let bare = before.apply(&[bare]).unwrap();
    let merged = write::merge(KINDS, &bare).unwrap();
    assert!(
        !merged.contains("quorum") && !merged.contains("sorry"),
        "{merged}"
    );
    assert_eq!(read(&merged), bare);
}

#[test]
fn another_kind_has_other_keys() {
    let mut running = read(KINDS);
    running.health.checks[1].probe = Probe::all_kinds()[0].clone();
    let merged = write::merge(KINDS, &running).unwrap();
    assert!(
        !merged.contains("body") && !merged.contains("digest"),
        "{merged}"
    );
    assert_eq!(read(&merged), running);
}

#[test]
fn servers_that_are_new_wait_for_their_checks_where_they_have_to() {
    let wanted = read(KINDS);
    let empty = Configuration::default();
    let loaded = empty.apply(&diff::changes(&empty, &wanted)).unwrap();
    let (service, server) = (
        wanted.services[0].service.id,
        wanted.services[0].destinations[0].id,
    );
    assert!(loaded.health.is_off(service, server));
    let in_force = loaded.in_force();
    let servers = &in_force.services[0].destinations;
    assert_eq!(servers.len(), 1, "the sorry server only");
    assert_eq!(servers[0].id.to_string(), "203.0.113.99:80");
    assert_eq!(diff::changes(&loaded, &wanted), []);
    // One that is there already goes on.
    let up = Change::SwitchServer {
        service,
        id: server,
        off: false,
    };
    let running = loaded.apply(&[up]).unwrap();
    let more = format!("{KINDS}[[service.server]]\naddress = \"203.0.113.12:80\"\n");
    let next = running
        .apply(&diff::changes(&running, &read(&more)))
        .unwrap();
    assert!(!next.health.is_off(service, server));
    assert!(
        next.health
            .is_off(service, "203.0.113.12:80".parse().unwrap())
    );
}

#[test]
fn what_is_wrong_with_any_kind_is_located() {
    for (from, to, problem) in [
        (
            "'^\\+PONG'",
            "'^(PONG'",
            "file:8: check[0].expect: bad regular expression \"^(PONG\": unclosed group: mend it",
        ),
        (
            "digest = \"9e10",
            "digest = \"9e",
            "file:10: check[1]: check \"page\": bad digest \"9e7d9d372bb6826bd81d3542a419d6\": write the 32",
        ),
        (
            "ca_file = \"/etc/pollux/ca.pem\"",
            "verify = 3",
            "file:24: check[2].verify: an integer stands here: write true or false",
        ),
        (
            "\"0a1b\"",
            "\"0a1\"",
            "file:27: check[3]: check \"datagram\": bad send_hex \"0a1\"",
        ),
        (
            "\"nxdomain\"",
            "\"nx\"",
            "file:38: check[4].rcode: unknown rcode \"nx\": known are noerror, formerr,",
        ),
        (
            "kind = \"ping\"",
            "kind = \"ping\"\nport = 7",
            "file:40: check[5]: check \"there\": kind ping asks no port: leave port out",
        ),
        (
            "\"/usr/local/bin/check-shop\"",
            "\"check-shop\"",
            "file:56: check[8]: check \"own\": bad command: write a program by its path",
        ),
        (
            "[\"page\", \"agent\"]",
            "[\"page\", \"page\"]",
            "file:71: service[0].check: service TCP 198.51.100.1:80: check \"page\" is named twice",
        ),
        (
            "[\"page\", \"agent\"]",
            "[]",
            "file:71: service[0].check: no check: write one name at least",
        ),
        (
            "\"remove\"",
            "\"delete\"",
            "file:73: service[0].on_failure: unknown on_failure \"delete\": known are \"drain\", \"remove\"",
        ),
        (
            "quorum_hysteresis = 1",
            "quorum_hysteresis = 3",
            "file:76: service[0].quorum_hysteresis: service TCP 198.51.100.1:80: quorum_hysteresis 3 is not below",
        ),
        (
            "\"/usr/local/bin/announce\", \"down\"",
            "\"announce\"",
            "file:78: service[0].quorum_down: service TCP 198.51.100.1:80: bad quorum_down",
        ),
        (
            "announce = \"wan\"",
            "announce = \"much-too-long-name\"",
            "file:79: service[0].announce: service TCP 198.51.100.1:80: bad announce",
        ),
        (
            "203.0.113.99:80\"",
            "203.0.113.11:80\"",
            "file:81: service[0].sorry_server: service TCP 198.51.100.1:80: sorry server 203.0.113.11:80 is one",
        ),
        (
            "method = \"nat\"",
            "method = \"natt\"",
            "file:83: service[0].sorry_server.method: unknown method \"natt\"",
        ),
    ] {
        assert!(KINDS.contains(from), "{from}");
        let found = problems(&KINDS.replacen(from, to, 1));
        assert!(found.starts_with(problem), "{found}");
        assert_eq!(found.lines().count(), 1, "{found}");
    }
    let needless = FILE.replacen("check = \"web\"\n", "quorum = 2\n", 1);
    let problem = "file:17: service[0].quorum: quorum without a check: write check = \"NAME\", too";
    assert!(problems(&needless).starts_with(problem));
}

/// A file with a check by the path of a service of this kind, of a server.
fn by_path(kind: &str, service: &str, server: &str) -> String {
    let command = if kind == "script" {
        "command = [\"/bin/true\"]"
    } else {
        ""
    };
    // A tunnel leaves ports as they are, and the service of a mark has none.
    let method = if service.starts_with("fwmark") {
        "nat"
    } else {
        "tunnel"
    };
    format!(
        "[[check]]\nname = \"path\"\nkind = \"{kind}\"\nservice_path = true\n{command}\n\
         [[service]]\n{service}\ncheck = \"path\"\nserver = [{{ address = \"{server}\", method = \"{method}\" }}]\n"
    )
}

#[test]
fn a_check_by_the_path_of_a_service_needs_one() {
    let web = "protocol = \"tcp\"\naddress = \"198.51.100.1:80\"";
    let good = read(&by_path("http", web, "203.0.113.11:80"));
    assert!(good.health.checks[0].service_path);
    let text = write::to_text(&good);
    assert!(text.contains("service_path = true"), "{text}");
    assert_eq!(read(&text), good);
    for (kind, service, server, problem) in [
        (
            "ping",
            web,
            "203.0.113.11:80",
            "kind ping cannot go by a service's path: leave service_path out",
        ),
        (
            "script",
            web,
            "203.0.113.11:80",
            "kind script cannot go by a service's path",
        ),
        (
            "tcp",
            "fwmark = 1",
            "203.0.113.11:80",
            "a service of a firewall mark has no address",
        ),
        (
            "tcp",
            web,
            "[2001:db8::11]:80",
            "server [2001:db8::11]:80 is of the other family",
        ),
    ] {
        let found = problems(&by_path(kind, service, server));
        assert!(found.contains(problem), "{found}");
        assert_eq!(found.lines().count(), 1, "{found}");
    }
}

/// Before, all checks of such a file were left out, and nobody was told.
#[test]
fn a_server_without_a_port_needs_a_check_that_has_one() {
    let file = "[[check]]\nname = \"connect\"\nkind = \"tcp\"\n\
                [[service]]\nprotocol = \"tcp\"\naddress = \"198.51.100.1:0\"\npersistence_timeout = 300\ncheck = \"connect\"\n\
                server = [{ address = \"203.0.113.11:0\" }]\n";
    let found = problems(file);
    let text = "server 203.0.113.11:0 of service TCP 198.51.100.1:0 has no port to check: write port = NUMBER in check \"connect\"";
    assert!(found.contains(text), "{found}");
    let good = read(&file.replace("kind = \"tcp\"", "kind = \"tcp\"\nport = 80"));
    assert_eq!(good.health.services.len(), 1);
}

#[test]
fn the_examples_of_the_documentation_are_right() {
    let text = include_str!("../../../../docs/health-checks.md");
    let parts = text.split("```toml\n").skip(1);
    let examples: Vec<&str> = parts
        .map(|part| part.split("```").next().unwrap())
        .collect();
    assert_eq!(examples.len(), 4);
    for example in &examples {
        read(example);
    }
    let kinds = read(examples[3]).health.checks;
    for kind in Probe::all_kinds() {
        assert!(kinds.iter().any(|check| check.probe.kind() == kind.kind()));
    }
    // Every key is in it, in the examples or beside them.
    for key in all_keys().chain(["start_down", "jitter_percent", "quorum_up", "service_path"]) {
        assert!(text.contains(key), "{key}");
    }
}

#[test]
fn the_sorry_server_and_a_server_may_change_places() {
    let before = read(KINDS);
    let swapped = KINDS
        .replace("203.0.113.99", "203.0.113.x")
        .replace("203.0.113.11", "203.0.113.99")
        .replace("203.0.113.x", "203.0.113.11");
    let wanted = read(&swapped);
    let next = before.apply(&diff::changes(&before, &wanted)).unwrap();
    assert_eq!(
        next.services[0].destinations[0].id,
        wanted.services[0].destinations[0].id
    );
    assert_eq!(next.health.services, wanted.health.services);
    assert_eq!(diff::changes(&next, &wanted), []);
}
