//! Makes a scenario that differs smaller, for people: steps are left out as long as it differs.

use anyhow::Result;

use super::lab::{Lab, Recording};
use super::plan::{Action, Plan};
use crate::golden::replay::replay_with;
use crate::golden::session::Tools;

/// Whether kernel and engine differ over a recording that was made in time.
pub fn differs(recording: &Recording) -> bool {
    if recording.is_late() {
        return false;
    }
    let outcome = replay_with(&recording.scenario, Tools::Never);
    !outcome.differences.is_empty() || outcome.unsupported.is_some() || outcome.broken.is_some()
}

/// The plan without what does not matter, and its recording; nothing when it does not differ a second time.
///
/// # Errors
/// When the lab fails.
pub fn shrink(lab: &Lab, plan: &Plan) -> Result<Option<(Plan, Recording)>> {
    let mut best = plan.clone();
    let mut chunk = best.steps.len().next_power_of_two() / 2;
    while chunk > 0 {
        let chunks: Vec<Vec<Action>> = best.steps.chunks(chunk).map(<[Action]>::to_vec).collect();
        let removable = removable(lab, &best, &chunks)?;
        if let Some(smaller) = without_most(lab, &best, &chunks, &removable)? {
            best = smaller;
        }
        chunk /= 2;
    }
    let recording = lab.record(std::slice::from_ref(&best))?.pop();
    Ok(recording.filter(differs).map(|recording| (best, recording)))
}

/// Which chunks can be left out, each alone.
fn removable(lab: &Lab, plan: &Plan, chunks: &[Vec<Action>]) -> Result<Vec<usize>> {
    let tries: Vec<Plan> = (0..chunks.len())
        .map(|left_out| without(plan, chunks, &[left_out]))
        .collect();
    let recordings = lab.record(&tries)?;
    let numbered = recordings.iter().enumerate();
    Ok(numbered
        .filter(|(_, recording)| differs(recording))
        .map(|(number, _)| number)
        .collect())
}

/// Without as many of the removable chunks as can go together, the last ones first.
fn without_most(
    lab: &Lab,
    plan: &Plan,
    chunks: &[Vec<Action>],
    removable: &[usize],
) -> Result<Option<Plan>> {
    let tries: Vec<Plan> = (0..removable.len())
        .map(|from| without(plan, chunks, &removable[from..]))
        .collect();
    if tries.is_empty() {
        return Ok(None);
    }
    let recordings = lab.record(&tries)?;
    let mut smallest_first = tries.into_iter().zip(&recordings);
    Ok(smallest_first
        .find(|(_, recording)| differs(recording))
        .map(|(plan, _)| plan))
}

fn without(plan: &Plan, chunks: &[Vec<Action>], left_out: &[usize]) -> Plan {
    let kept = chunks
        .iter()
        .enumerate()
        .filter(|(number, _)| !left_out.contains(number));
    Plan {
        steps: kept.flat_map(|(_, chunk)| chunk.clone()).collect(),
        ..plan.clone()
    }
}
