//! Whether both daemons run, are what is installed, and can be asked.

use super::{Finding, Patient};
use crate::host::Root;

const ABOUT: &str = "daemons";

/// The name of the data plane's process. The kernel keeps 15 letters of one.
pub const DATAPLANE: &str = "pollux-dataplane";
const CONTROL: &str = "polluxd";
const NAME_BYTES_MAX: usize = 15;

/// Looks.
pub fn examine(patient: &Patient) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (name, unit) in [(DATAPLANE, "pollux-dataplane"), (CONTROL, "polluxd")] {
        let running = processes(&patient.root, name);
        if running.is_empty() {
            findings.push(
                Finding::wrong(ABOUT, format!("{name} does not run"))
                    .mend(format!("systemctl start {unit}")),
            );
            continue;
        }
        let replaced = running.iter().any(|process| {
            let program = patient.root.path(&format!("proc/{process}/exe"));
            let program = std::fs::read_link(program).unwrap_or_default();
            program.to_string_lossy().ends_with(" (deleted)")
        });
        if replaced {
            let text = format!(
                "{name} runs from a file that is gone: it was upgraded and not started again"
            );
            let finding = Finding::wrong(ABOUT, text);
            findings.push(finding.mend(format!("systemctl restart {unit}   # connections stay")));
        } else {
            findings.push(Finding::fine(ABOUT, format!("{name} runs")));
        }
    }
    let daemons = &patient.daemons;
    if let Some(why) = &daemons.polluxd {
        findings.push(Finding::wrong(
            ABOUT,
            format!("polluxd cannot be asked: {why}"),
        ));
    } else if let Some(why) = &daemons.dataplane {
        findings.push(Finding::wrong(
            ABOUT,
            format!("the data plane cannot be asked: {why}"),
        ));
    } else if !daemons.ipvs_socket {
        let text = "there is no socket for IPVS tools: `pollux ipvs` does not work";
        findings.push(
            Finding::wrong(ABOUT, text)
                .mend("systemctl restart polluxd   # packets are not its business"),
        );
    }
    findings
}

/// Whether a program of that name runs.
pub fn is_running(root: &Root, name: &str) -> bool {
    !processes(root, name).is_empty()
}

fn processes(root: &Root, name: &str) -> Vec<u32> {
    let known = name.get(..NAME_BYTES_MAX).unwrap_or(name);
    let all = root
        .names("proc")
        .into_iter()
        .filter_map(|entry| entry.parse().ok());
    all.filter(|process: &u32| root.text(&format!("proc/{process}/comm")).as_deref() == Some(known))
        .collect()
}
