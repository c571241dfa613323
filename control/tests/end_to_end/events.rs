//! `pollux events`: what checks switched, when and why, and what survives polluxd.

use super::health::{GOOD, Habit, checked};

#[test]
fn what_checks_switch_is_written_down_and_nothing_else() {
    let (mut machine, server) = checked();
    let address = server.address.clone();
    assert_eq!(machine.shown("events"), "");
    machine.done(&format!("server edit -t 127.0.0.9:0 -r {address} -w 9"));
    server.is_now(Habit::Answers("HTTP/1.1 500 Oh\r\n\r\n"));
    let count = |machine: &super::machine::Machine, expected: usize| {
        machine.json("events").as_array().unwrap().len() == expected
    };
    machine.until("it is off", |machine| count(machine, 1));
    server.is_now(GOOD);
    machine.until("it is on", |machine| count(machine, 2));
    let events = machine.json("events");
    for (event, name, reason) in [
        (&events[0], "server_off", "status 500"),
        (&events[1], "server_on", "status 200"),
    ] {
        assert_eq!(event["event"], name, "{events:#}");
        assert_eq!(event["server"], address);
        assert_eq!(event["check"], "web");
        assert!(
            event["reason"].as_str().unwrap().starts_with(reason),
            "{events:#}"
        );
        let time = event["time"].as_str().unwrap();
        assert!(time.starts_with("20") && time.ends_with('Z') && time.len() == 24);
    }
    let shown = machine.shown("events -t 127.0.0.9:0");
    assert_eq!(
        shown.lines().filter(|line| line.starts_with("20")).count(),
        2
    );
    assert!(
        shown.contains(&format!(" off {address} of TCP 127.0.0.9:0, by")),
        "{shown}"
    );
    assert!(shown.lines().all(|line| line.len() <= 80), "{shown}");
    assert_eq!(machine.shown("events -t 127.0.0.8:0"), "");
    assert_eq!(machine.json("events --last 1")[0]["event"], "server_on");
    // What a person changed is elsewhere.
    assert_eq!(machine.json("audit").as_array().unwrap().len(), 1);
    // Another polluxd knows of it.
    assert!(machine.signal_polluxd("TERM").success());
    machine.start_polluxd();
    assert!(machine.json("events").as_array().unwrap().len() >= 2);
    assert_eq!(machine.json("events")[0], events[0]);
}
