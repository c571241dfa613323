//! `pollux import` of what the real tools print: the same services again, and nothing left to do.

use std::io::Write;
use std::process::{Command, Stdio};

use super::machine::{Machine, Ran};

/// Every kind of service and server that `ipvsadm -S` writes down whole; thresholds it does not write.
const RULES: &str = "\
-A -t 198.51.100.1:80 -s wrr
-a -t 198.51.100.1:80 -r 203.0.113.11:8080 -m -w 3
-a -t 198.51.100.1:80 -r 203.0.113.12:8080 -m -w 0
-A -t 198.51.100.1:443 -s sh -p 300 -M 255.255.255.0 -b sh-fallback,sh-port
-a -t 198.51.100.1:443 -r 203.0.113.11:443 -g -w 1
-A -t 198.51.100.2:0 -s mh -p 60
-a -t 198.51.100.2:0 -r 203.0.113.11:0 -g -w 7
-A -u 198.51.100.1:53 -s rr -o
-a -u 198.51.100.1:53 -r 203.0.113.11:53 -i -w 1 --tun-type ipip
-a -u 198.51.100.1:53 -r 203.0.113.12:53 -i -w 1 --tun-type gre --tun-csum
-a -u 198.51.100.1:53 -r 203.0.113.13:53 -i -w 1 --tun-type gue --tun-port 5555 --tun-remcsum
-A -u 198.51.100.1:5060 -s rr -p 360 --pe sip
-a -u 198.51.100.1:5060 -r 203.0.113.11:5060 -m -w 1
-A --sctp-service 198.51.100.1:9 -s lc
-a --sctp-service 198.51.100.1:9 -r 203.0.113.11:9 -m -w 1
-A -t [2001:db8::1]:80 -s wlc -p 360 -M 64
-a -t [2001:db8::1]:80 -r [2001:db8:1::11]:80 -g -w 1
-A -f 7 -s wlc
-a -f 7 -r 203.0.113.11:0 -g -w 1
-A -f 8 -6 -s sed
-a -f 8 -6 -r [2001:db8:1::11]:0 -i -w 1 --tun-type ipip
";

fn fed(mut command: Command, input: &str) -> Ran {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input.as_bytes()).unwrap();
    drop(stdin);
    Ran::new(child.wait_with_output().unwrap())
}

#[test]
fn rules_that_ipvsadm_restored_and_saved_are_what_runs() {
    let machine = Machine::up();
    let restored = fed(machine.pollux_command("ipvs -- ipvsadm-restore"), RULES);
    assert_eq!((restored.code, restored.error.as_str()), (0, ""));
    let saved = machine.shown("ipvs -- ipvsadm -Sn");
    assert_eq!(saved.lines().count(), RULES.lines().count(), "{saved}");
    let imported = fed(machine.pollux_command("import -"), &saved);
    assert_eq!((imported.code, imported.error.as_str()), (0, ""), "{saved}");
    let file = machine.write("imported.toml", &imported.out);
    let file = file.display();
    machine.shown(&format!("check {file}"));
    // Exit status 0: no difference.
    let planned = machine.json(&format!("plan {file}"));
    assert_eq!(
        planned["changes"].as_array().map(Vec::len),
        Some(0),
        "{planned}"
    );
    let before = machine.json("show configuration");
    let transactions = machine.state.lock().unwrap().transactions;
    machine.shown(&format!("apply {file}"));
    assert_eq!(machine.json("show configuration"), before);
    assert_eq!(machine.state.lock().unwrap().transactions, transactions);
    // And the other way round: what is imported comes back as rules.
    machine.done("flush");
    machine.shown(&format!("apply {file}"));
    assert_eq!(machine.shown("ipvs -- ipvsadm -Sn"), saved);
}

#[test]
fn a_keepalived_conf_with_words_of_dpvs_becomes_a_file_and_runs() {
    let machine = Machine::up();
    let conf = machine.write(
        "keepalived.conf",
        "global_defs {\n lvs_timeouts tcp 600 tcpfin 30 udp 60\n}\n\
         virtual_server 198.51.100.1 80 {\n lb_algo wrr\n lb_kind FNAT\n protocol TCP\n establish_timeout 75\n syn_proxy\n \
         real_server 203.0.113.11 8080 {\n weight 3\n }\n}\n",
    );
    let file = machine.path("imported.toml");
    let ran = machine.pollux(&format!("import {} -o {}", conf.display(), file.display()));
    assert_eq!((ran.code, ran.out.as_str()), (2, ""), "{ran:?}");
    let notes: Vec<&str> = ran.error.lines().collect();
    assert_eq!(notes.len(), 2, "{notes:#?}");
    assert!(
        notes[0].contains("keepalived.conf:6: method FNAT is nat here"),
        "{notes:#?}"
    );
    assert!(
        notes[1].contains("keepalived.conf:9: SYN proxy: "),
        "{notes:#?}"
    );
    machine.shown(&format!("apply {}", file.display()));
    let shown = machine.shown("show services");
    assert!(
        shown.contains("TCP  198.51.100.1:80 wrr timeouts tcp 75\n"),
        "{shown}"
    );
    let settings = machine.json("show settings");
    assert_eq!(settings["timeout_finwait"], 30);
    let planned = machine.json(&format!("plan {}", file.display()));
    assert_eq!(
        planned["changes"].as_array().map(Vec::len),
        Some(0),
        "{planned}"
    );
}
