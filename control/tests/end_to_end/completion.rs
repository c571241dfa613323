//! Completion as bash and zsh ask for it: commands and options from the grammar, names from polluxd.

use std::process::Command;

use super::machine::Machine;

/// What bash offers behind this line.
fn offered(machine: &Machine, line: &str) -> Vec<String> {
    let script = format!(
        "set -u; source <(\"$POLLUX\" completion bash); PATH=${{POLLUX%/*}}:$PATH; COMP_WORDBREAKS=$' \\t\\n\"=:'; \
         COMP_LINE={line:?}; COMP_POINT=${{#COMP_LINE}}; COMPREPLY=(); read -ra COMP_WORDS <<<\"$COMP_LINE\"; \
         [[ $COMP_LINE != *' ' ]] || COMP_WORDS+=(''); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); \
         _pollux_with_names pollux \"${{COMP_WORDS[COMP_CWORD]}}\" \"${{COMP_WORDS[COMP_CWORD - 1]}}\"; \
         printf '%s\\n' \"${{COMPREPLY[@]}}\""
    );
    let output = Command::new("bash")
        .args(["-c", &script])
        .env("POLLUX", env!("CARGO_BIN_EXE_pollux"))
        .env("POLLUX_RUN_DIR", machine.path(""))
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(errors, "", "{line}");
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines()
        .filter(|line| !line.is_empty())
        .map(str::to_owned)
        .collect()
}

#[test]
fn names_of_what_runs_are_offered() {
    let machine = Machine::up();
    machine.done("service add -t 198.51.100.1:80");
    machine.done("service add -t [2001:db8::1]:443");
    machine.done("service add -u 198.51.100.1:53");
    machine.done("service add -f 7");
    machine.done("server add -t 198.51.100.1:80 -r 203.0.113.11 -m");
    machine.done("server add -u 198.51.100.1:53 -r 203.0.113.12 -m");
    for (line, names) in [
        (
            "pollux show services -t ",
            &["198.51.100.1:80", "[2001:db8::1]:443"][..],
        ),
        ("pollux show services -t 198.51.1", &["198.51.100.1:80"]),
        // What readline puts behind the last colon.
        ("pollux show services -t 198.51.100.1:", &["80"]),
        ("pollux service remove --udp-service ", &["198.51.100.1:53"]),
        ("pollux zero -f ", &["7"]),
        (
            "pollux server edit -t 198.51.100.1:80 -r ",
            &["203.0.113.11:80"],
        ),
        (
            "pollux server edit -u 198.51.100.1:53 -r ",
            &["203.0.113.12:53"],
        ),
        ("pollux set timeout_e", &["timeout_established="]),
        (
            "pollux service add -t 198.51.100.2:80 -s lblc",
            &["lblc", "lblcr"],
        ),
        // The grammar's.
        ("pollux eve", &["events"]),
        (
            "pollux server edit -t 198.51.100.1:80 --weigh",
            &["--weight"],
        ),
    ] {
        assert_eq!(offered(&machine, line), names, "{line}");
    }
    // Nobody to ask: nothing to offer, and nothing said.
    let alone = Machine::new();
    assert_eq!(offered(&alone, "pollux show services -t "), [""; 0]);
}

/// What zsh offers behind this line. What completion calls of zsh's own is put in its place: only a terminal has that.
fn offered_by_zsh(machine: &Machine, words: &[&str], kind: &str) -> String {
    let script = format!(
        "autoload() {{ }}; compdef() {{ }}; compadd() {{ print -r -- \"$*:\" ${{(P)@[-1]}} }}; source =(\"$POLLUX\" completion zsh); \
         path=(${{POLLUX:h}} $path); words=({}); CURRENT=$#words; _pollux_names {kind}",
        words.join(" ")
    );
    let output = Command::new("zsh")
        .args(["-fc", &script])
        .env("POLLUX", env!("CARGO_BIN_EXE_pollux"))
        .env("POLLUX_RUN_DIR", machine.path(""))
        .output()
        .unwrap_or_else(|error| {
            panic!("zsh, which scripts/install-dependencies installs: {error}")
        });
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(errors, "", "{words:?}");
    String::from_utf8(output.stdout)
        .unwrap()
        .trim_end()
        .to_owned()
}

#[test]
fn zsh_offers_names_too() {
    let machine = Machine::up();
    machine.done("service add -t 198.51.100.1:80");
    machine.done("service add -u 198.51.100.1:53");
    machine.done("server add -t 198.51.100.1:80 -r 203.0.113.11 -m");
    machine.done("server add -u 198.51.100.1:53 -r 203.0.113.12 -m");
    let asked = |words: &[&str], kind| offered_by_zsh(&machine, words, kind);
    assert_eq!(
        asked(&["pollux", "service", "remove", "-t", "''"], "tcp"),
        "-a names: 198.51.100.1:80"
    );
    let server = [
        "pollux",
        "server",
        "edit",
        "-u",
        "198.51.100.1:53",
        "-r",
        "''",
    ];
    assert_eq!(asked(&server, "server"), "-a names: 203.0.113.12:53");
    let setting = asked(&["pollux", "set", "''"], "setting");
    assert!(
        setting.starts_with("-S  -a names: ") && setting.contains(" timeout_established= "),
        "{setting}"
    );
}
