//! The engine against traces of Linux' IPVS: frames byte for byte, schedulers' choices in order, states, counts.
//!
//! Every scenario of `tests/golden` is replayed. The lists of `pollux_tests::golden::agreed` say which may differ, where and
//! why; an entry that is no longer true fails the test as a new difference does.

use pollux_tests::golden::agreed::{DIFFERENT, FILES, NOT_BUILT, document, judge, matches};
use pollux_tests::golden::replay::replay;
use pollux_tests::golden::trace::scenarios;

#[test]
fn the_engine_does_what_the_kernel_did() {
    let mut wrong = Vec::new();
    let mut passed = 0;
    let mut steps = 0;
    let mut seen = Vec::new();
    let mut aside = Vec::new();
    for scenario in FILES.iter().flat_map(|file| scenarios(file)) {
        let outcome = replay(&scenario);
        match judge(&scenario, &outcome) {
            Ok(true) => passed += 1,
            Ok(false) => {}
            Err(complaint) => wrong.push(complaint),
        }
        steps += outcome.compared;
        aside.extend(outcome.aside.into_iter().map(|(_, why)| why));
        seen.push(scenario.name);
    }
    let unknown = DIFFERENT.iter().map(|(name, ..)| name);
    wrong.extend(
        unknown
            .filter(|name| !seen.iter().any(|seen| matches(name, seen)))
            .map(|name| format!("no scenario {name}")),
    );
    let built = NOT_BUILT.iter().map(|(_, feature)| feature);
    wrong.extend(
        built
            .filter(|feature| !aside.iter().any(|why| why == *feature))
            .map(|feature| format!("{feature}: take it off the list of what is not built")),
    );
    println!("{passed} scenarios agree, {steps} steps compared");
    assert!(
        wrong.is_empty(),
        "{} scenarios:\n{}",
        wrong.len(),
        wrong.join("\n\n")
    );
}

#[test]
fn the_document_of_differences_is_that_of_the_lists() {
    assert_eq!(
        include_str!("../golden/DIFFERENCES.md"),
        document(),
        "write it anew: cargo run -p pollux-tests --bin golden -- --differences > tests/golden/DIFFERENCES.md"
    );
}
