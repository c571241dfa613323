//! The program from the measurement to the report, as `scripts/bench` calls it.

use std::fs::{self, File};
use std::process::Command;

fn pollux_bench() -> Command {
    Command::new(env!("CARGO_BIN_EXE_pollux-bench"))
}

#[test]
fn what_one_command_writes_another_one_reads() {
    let run = |command: &mut Command| {
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{command:?}: {said}");
        output
    };
    let folder = tempfile::tempdir().unwrap();
    let words = "pipeline --case hit --connections 4096 --rounds 1 --round-ms 1 --no-huge --json";
    let measured = run(pollux_bench().args(words.split(' ')));
    let lines = String::from_utf8(measured.stdout).unwrap();
    let machine: serde_json::Value = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
    assert_eq!(machine.get("benchmark").unwrap(), "machine");
    let command: Vec<&str> = ["pollux-bench"]
        .into_iter()
        .chain(words.split(' '))
        .collect();
    assert_eq!(*machine.get("command").unwrap(), serde_json::json!(command));
    assert_eq!(lines.lines().count(), 2);

    let path = folder.path().join("pipeline.jsonl");
    fs::write(&path, &lines).unwrap();
    // From standard input as well as from a file.
    for files in [vec![], vec![path.as_os_str()]] {
        let output = folder.path().join(files.len().to_string());
        let report = &mut pollux_bench();
        report
            .arg("report")
            .arg("--output")
            .arg(&output)
            .args(files)
            .stdin(File::open(&path).unwrap());
        run(report);
        let markdown = fs::read_to_string(output.join("RESULTS.md")).unwrap();
        assert!(
            markdown.contains(&format!("    pollux-bench {words}\n")),
            "{markdown}"
        );
        assert!(output.join("results/rate-hit.svg").exists());
    }
}
