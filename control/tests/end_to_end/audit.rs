//! `pollux audit`: every change by every way in, with who made it; nothing else.

use std::os::unix::fs::PermissionsExt;
use std::{fs, process};

use serde_json::{Value, json};

use super::machine::Machine;

fn entries(machine: &Machine) -> Vec<Value> {
    let Value::Array(entries) = machine.json("audit") else {
        panic!("no list");
    };
    entries
}

/// Uid of this process, which is that of all it starts.
fn own_uid() -> Value {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    let effective = line.unwrap().split_whitespace().nth(1).unwrap();
    json!(effective.parse::<u32>().unwrap())
}

#[test]
fn every_change_is_written_down_with_who_made_it() {
    let mut machine = Machine::up();
    assert_eq!(machine.shown("audit"), "");
    machine.done("service add -t 198.51.100.1:80");
    machine.pollux("service add -t 198.51.100.1:80");
    machine.done("zero -t 198.51.100.1:80");
    machine.shown("show services");
    let found = entries(&machine);
    assert_eq!(found.len(), 3, "{found:#?}");
    for entry in &found {
        assert_eq!(entry["origin"], "control.sock");
        assert_eq!(entry["peer"]["uid"], own_uid());
        assert_eq!(entry["peer"]["command"], "pollux");
        assert!(entry["peer"]["pid"].as_u64().unwrap() > 1);
        let time = entry["time"].as_str().unwrap();
        assert!(
            time.starts_with("20") && time.ends_with('Z') && time.len() == 24,
            "{time}"
        );
    }
    let [added, again, zeroed] = found.as_slice() else {
        panic!()
    };
    assert_eq!(
        (&added["action"]["action"], &added["action"]["count"]),
        (&json!("change"), &json!(1))
    );
    assert_eq!(added["action"]["changes"][0]["change"], "add_service");
    assert_eq!(
        added["outcome"],
        json!({"outcome": "done", "generation": 1})
    );
    assert_eq!(again["outcome"]["outcome"], "refused");
    assert_eq!(again["outcome"]["code"], "already_exists");
    assert_eq!(zeroed["action"]["action"], "zero");
    assert_eq!(zeroed["action"]["service"]["endpoint"], "198.51.100.1:80");

    // It outlives polluxd.
    machine.signal_polluxd("KILL");
    machine.start_polluxd();
    assert_eq!(entries(&machine), found);
    let log = machine.path("state/audit.jsonl");
    assert_eq!(
        fs::metadata(&log).unwrap().permissions().mode() & 0o777,
        0o640
    );
    assert_eq!(fs::read_to_string(log).unwrap().lines().count(), 3);

    let shown = machine.shown("audit --last 1");
    let lines: Vec<&str> = shown.lines().collect();
    assert!(
        lines[0].ends_with("] on control.sock") && lines[0].contains(" by pollux["),
        "{shown}"
    );
    assert_eq!(
        lines[1..],
        [
            "    zero counters of TCP 198.51.100.1:80",
            "    = done, generation 1"
        ]
    );
}

#[test]
fn tools_scripts_signals_and_reloads_are_told_apart() {
    let machine = Machine::up();
    machine.shown("ipvs -- ipvsadm -A -t 198.51.100.1:80");
    machine.write(
        "pollux.toml",
        "[[service]]\nprotocol = \"udp\"\naddress = \"198.51.100.1:53\"\n",
    );
    machine.shown("reload");
    let pid = machine.polluxd_pid().to_string();
    machine.write("pollux.toml", "");
    assert!(
        process::Command::new("kill")
            .args(["-HUP", &pid])
            .status()
            .unwrap()
            .success()
    );
    machine.until("reloaded", |machine| entries(machine).len() == 3);
    let answer = machine
        .client()
        .ask(r#"{"version":1,"id":1,"body":{"command":"change","changes":[{"change":"flush"}]}}"#);
    assert!(answer.unwrap()["result"]["Ok"].is_object());
    let found = entries(&machine);
    let origins: Vec<&Value> = found.iter().map(|entry| &entry["origin"]).collect();
    assert_eq!(
        origins,
        ["ipvs.sock", "control.sock", "SIGHUP", "control.sock"]
    );
    assert_eq!(found[0]["peer"]["command"], "ipvsadm");
    assert_eq!(found[1]["action"]["action"], "reload");
    assert_eq!(found[1]["action"]["count"], 2);
    assert_eq!(found[2]["peer"], Value::Null);
    assert_eq!(found[2]["action"]["changes"][0]["change"], "remove_service");
    assert_eq!(found[3]["peer"]["pid"], process::id());
    assert_eq!(found[3]["action"]["changes"], json!([{"change": "flush"}]));
}

#[test]
fn nonsense_is_no_change_and_a_full_disk_no_reason_to_stop() {
    let machine = Machine::new();
    let mut machine = machine;
    // No directory can be made where a file is.
    machine.write("state", "");
    machine.start_dataplane();
    machine.start_polluxd();
    let mut client = machine.client();
    client.ask("nonsense").unwrap();
    assert!(!machine.log().contains("who changes what"));
    machine.done("service add -t 198.51.100.1:80");
    machine.done("service add -t 198.51.100.1:81");
    assert_eq!(
        machine
            .log()
            .matches("who changes what is not written down")
            .count(),
        1
    );
    assert_eq!(machine.shown("audit --json"), "[]\n");
}
