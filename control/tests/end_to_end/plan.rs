//! `plan`, `apply`, `reload` and SIGHUP: what is said beforehand is what is done, whole or not at all.

use std::process::Command;

use pollux_api::Change;
use pollux_control::config::write;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde_json::{Value, json};

use super::any_configuration::configuration;
use super::machine::{Machine, Ran};

const FILE: &str = "\
[[service]]
protocol = \"tcp\"
address = \"198.51.100.1:80\"
scheduler = \"wrr\"

[[service.server]]
address = \"203.0.113.11\"
method = \"nat\"
weight = 3

[[service.server]]
address = \"203.0.113.12\"
method = \"nat\"
";

/// A machine that runs this file.
fn running(text: &str) -> Machine {
    let mut machine = Machine::new();
    machine.write("pollux.toml", text);
    machine.start_dataplane();
    machine.start_polluxd();
    machine
}

fn planned(ran: &Ran) -> Value {
    serde_json::from_str(&ran.out).unwrap_or_else(|error| panic!("{error}: {ran:?}"))
}

fn hang_up(machine: &Machine) {
    let sent = Command::new("kill")
        .args(["-HUP", &machine.polluxd_pid().to_string()])
        .status();
    assert!(sent.unwrap().success());
}

#[test]
fn a_plan_is_what_apply_does() {
    let machine = Machine::up();
    let seed = TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]);
    let mut runner = TestRunner::new_with_rng(Config::default(), seed);
    let mut changes_seen = 0;
    // What runs and what is wanted are a pair; what was wanted runs in the next one.
    for round in 0..100 {
        let wanted = configuration().new_tree(&mut runner).unwrap().current();
        let file = machine.write("wanted.toml", &write::to_text(&wanted));
        let plan = machine.pollux(&format!("plan {} --json", file.display()));
        let told = planned(&plan);
        let changes = told["changes"].as_array().unwrap();
        assert_eq!(plan.code, if changes.is_empty() { 0 } else { 2 }, "{round}");
        let before = machine.state.lock().unwrap().clone_running();
        let in_force = before.1.in_force();
        let servers = |id| &in_force.service(id).unwrap().destinations;
        for change in changes {
            // The fake has 1241 connections at each server that is there: checks remove some, and put sorry servers in.
            let number = change["connections"].as_u64().unwrap();
            let expected = match serde_json::from_value(change["change"].clone()).unwrap() {
                Change::RemoveService { id } => 1241 * servers(id).len(),
                Change::EditService { service } => 1241 * servers(service.id).len(),
                Change::RemoveDestination { service, id } => {
                    1241 * servers(service)
                        .iter()
                        .filter(|known| known.id == id)
                        .count()
                }
                Change::EditDestination {
                    service,
                    destination,
                } => {
                    let is_it = |known: &&pollux_api::Destination| known.id == destination.id;
                    1241 * servers(service).iter().filter(is_it).count()
                }
                _ => number as usize,
            };
            assert_eq!(number, expected as u64, "{change}");
        }

        let applied = machine.json(&format!("apply {}", file.display()));
        assert_eq!(applied["changes"], told["changes"], "{round}");
        let state = machine.state.lock().unwrap();
        let generation = before.0 + u64::from(!changes.is_empty());
        assert_eq!(applied["generation"], generation, "{round}");
        assert_eq!(state.generation, generation, "one transaction: {round}");
        if !changes.is_empty() {
            let done = serde_json::to_value(&state.last_changes).unwrap();
            let told: Vec<Value> = changes.iter().map(|told| told["change"].clone()).collect();
            assert_eq!(done, Value::Array(told), "{round}");
        }
        changes_seen += changes.len();
        drop(state);
        let after = machine.pollux(&format!("plan {}", file.display()));
        assert_eq!(after.code, 0, "{}", after.out);
        assert!(after.out.contains("nothing to do"), "{}", after.out);
    }
    assert!(changes_seen > 500, "{changes_seen}");
}

#[test]
fn a_plan_for_people_fits_a_terminal() {
    let machine = running(FILE);
    let to = FILE
        .replace("weight = 3", "weight = 0")
        .replace("203.0.113.12", "203.0.113.13");
    let more = "\n[ipvs]\ntimeout_udp = 60\n\n[[service]]\nprotocol = \"udp\"\naddress = \"[2001:db8::1]:53\"\n\
                [[service.server]]\naddress = \"2001:db8:ffff:ffff:ffff:ffff:ffff:ffff\"\nmethod = \"tunnel\"\n\
                tunnel_type = \"gue\"\ntunnel_port = 5555\nupper_threshold = 2147483647\nlower_threshold = 2147483646\n";
    let file = machine.write("new.toml", &format!("{to}{more}"));
    let ran = machine.pollux(&format!("plan {}", file.display()));
    assert_eq!((ran.code, ran.error.as_str()), (2, ""));
    let expected = format!(
        "\
~ settings
    timeout_udp 300 -> 60
      2482 live connections have the new timeout from the next packet on
  service TCP 198.51.100.1:80
  - server 203.0.113.12:80: method nat, weight 1
        1241 live connections pause until it returns or they time out
  ~ server 203.0.113.11:80: weight 3 -> 0
        1241 live connections stay, no new ones
  + server 203.0.113.13:80: method nat, weight 1
+ service UDP [2001:db8::1]:53: scheduler wlc
  + server [2001:db8:ffff:ffff:ffff:ffff:ffff:ffff]:53: method tunnel, weight 1,
      tunnel gue:5555:-c, upper threshold 2147483647, lower threshold 2147483646

Changes: 6; live connections: 1241 stay, 2482 go on by new values, 1241 pause,
    0 end
To do it: pollux apply {}
",
        file.display()
    );
    assert_eq!(ran.out, expected);
    let widest = ran.out.lines().map(|line| line.chars().count()).max();
    assert!(
        widest <= Some(80) || file.display().to_string().len() > 50,
        "{widest:?}"
    );
}

#[test]
fn what_is_not_saved_is_shown_without_a_file() {
    let machine = running(FILE);
    let ran = machine.pollux("plan");
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(
        ran.out.ends_with(": nothing to save, it is what runs\n"),
        "{}",
        ran.out
    );
    machine.done("server edit -t 198.51.100.1:80 -r 203.0.113.11 -w 9");
    let ran = machine.pollux("plan");
    assert_eq!(ran.code, 2);
    let text =
        "  service TCP 198.51.100.1:80\n  ~ server 203.0.113.11:80: weight 3 -> 9\n\nNot saved in ";
    assert!(ran.out.starts_with(text), "{}", ran.out);
    machine.done("save");
    assert_eq!(machine.pollux("plan").code, 0);
}

#[test]
fn an_unchanged_file_changes_nothing() {
    let machine = running(FILE);
    let before = machine.state.lock().unwrap().clone_running();
    let text = machine.shown("apply");
    assert!(
        text.contains("nothing to do, generation 1 runs it already"),
        "{text}"
    );
    let text = machine.shown("reload");
    assert!(text.contains("nothing to do"), "{text}");
    hang_up(&machine);
    machine.until("the reload is logged", |machine| {
        machine
            .log()
            .matches("says what runs already, generation 1")
            .count()
            == 2
    });
    let state = machine.state.lock().unwrap();
    assert_eq!((state.transactions, state.clone_running()), (1, before));
}

#[test]
fn a_wrong_file_is_refused_whole_and_a_missing_one_too() {
    let machine = running(FILE);
    let wrong = format!("{FILE}weight = -1\n\n[[service]]\nprotocol = \"dccp\"\n");
    let path = machine.write("pollux.toml", &wrong);
    for verb in ["apply", "reload"] {
        machine.refused(verb, 1, "service[0].server[1].weight");
        machine.refused(verb, 1, "unknown protocol \"dccp\"");
    }
    machine.refused(
        &format!("plan {}", path.display()),
        1,
        "unknown protocol \"dccp\"",
    );
    hang_up(&machine);
    machine.until("the log has every error", |machine| {
        let log = machine.log();
        let log = log.rsplit("nothing was changed").next().unwrap();
        log.contains("service[0].server[1].weight") && log.contains("unknown protocol \"dccp\"")
    });
    std::fs::remove_file(&path).unwrap();
    machine.refused("reload", 1, "No such file");
    let missing = machine.path("missing.toml");
    machine.refused(&format!("apply {}", missing.display()), 1, "No such file");
    assert_eq!(machine.state.lock().unwrap().transactions, 1);
}

#[test]
fn a_reload_does_what_differs_and_says_what_waits() {
    let machine = running(FILE);
    let text = FILE.replace("weight = 3", "weight = 4");
    machine.write(
        "pollux.toml",
        &format!("{text}\n[dataplane]\nconnections = 5000\n"),
    );
    let done = machine.json("reload");
    let waiting = ["dataplane"];
    assert_eq!(
        done,
        json!({"generation": 2, "changes": 1, "waiting": waiting})
    );
    machine.write(
        "pollux.toml",
        &format!("{text}\n[dataplane]\nconnections = 6000\n"),
    );
    let said = machine.shown("reload");
    assert!(said.contains("nothing to do, generation 2"), "{said}");
    assert!(
        said.contains(
            "waits for the next start of pollux-dataplane (systemctl restart pollux-dataplane)"
        ),
        "{said}"
    );
    let log = machine.log();
    assert!(log.contains("the table [dataplane] has changed"), "{log}");

    machine.write("pollux.toml", FILE);
    hang_up(&machine);
    machine.until("the file runs", |machine| {
        machine.log().contains("runs, changes: 1, generation 3")
    });
    assert_eq!(machine.pollux("plan").code, 0);
}

#[test]
fn a_change_in_between_is_a_conflict_and_nothing_is_applied() {
    let machine = running(FILE);
    let mut client = machine.client();
    let change = |base: u64| {
        let request = json!({"version": 1, "id": 1, "body": {
            "command": "change", "base_generation": base, "changes": [{"change": "flush"}],
        }});
        request.to_string()
    };
    machine.done("server edit -t 198.51.100.1:80 -r 203.0.113.11 -w 9");
    let answer = client.ask(&change(1)).unwrap();
    assert_eq!(answer["result"]["Err"]["code"], "conflict", "{answer}");
    assert_eq!(
        machine.state.lock().unwrap().configuration.services.len(),
        1
    );
    let answer = client.ask(&change(2)).unwrap();
    assert_eq!(answer["result"]["Ok"]["value"]["generation"], 3, "{answer}");
}
