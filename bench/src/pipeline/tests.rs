//! The pipeline benchmarks on small tables: what they measure is not looked at, that they measure the right thing is.

use super::*;
use crate::arguments::{Arguments, Command};
use crate::measurement::PacketMeasurement;
use clap::Parser;

fn options(words: &str) -> PipelineOptions {
    let words = ["pollux-bench", "pipeline"]
        .into_iter()
        .chain(words.split_whitespace());
    match Arguments::try_parse_from(words).unwrap().command {
        Command::Pipeline(options) => options,
        other => panic!("{other:?}"),
    }
}

fn measured(words: &str) -> Vec<PacketMeasurement> {
    let words = format!("{words} --no-huge --rounds 2 --round-ms 5");
    let mut found = Vec::new();
    for plan in plans(&options(&words), 2) {
        run::run(&plan, &Progress::hidden(), |measurement| {
            found.push(measurement);
            Ok(())
        })
        .unwrap();
    }
    found
}

#[test]
fn nothing_said_is_a_quick_look() {
    let plans = plans(&options(""), 8);
    assert_eq!(plans.len(), 2);
    assert!(
        plans
            .iter()
            .all(|plan| plan.cases.len() == 4 && plan.workers == 1)
    );
}

#[test]
fn all_is_every_combination_but_answers_that_pass_by() {
    let plans = plans(&options("--all"), 2);
    assert_eq!(plans.len(), 3 * 2 * 5 * 2);
    for plan in plans {
        assert_eq!(
            plan.cases.contains(&Case::Reply),
            plan.method == Method::Nat
        );
        assert_eq!(plan.cases.last(), Some(&Case::SynFlood));
    }
}

#[test]
fn what_is_given_narrows_all() {
    let plans = plans(
        &options("--all --connections 10k,1M --method direct --case syn_flood,hit --workers 3"),
        2,
    );
    assert_eq!(plans.len(), 4);
    assert_eq!(plans[0].cases, [Case::Hit, Case::SynFlood]);
    assert_eq!(
        (plans[0].workers, plans[0].connections),
        (3, Quantity(10_000))
    );
}

#[test]
fn every_case_of_every_method_and_family_forwards_its_packets() {
    for family in ["ipv4", "ipv6"] {
        for method in ["nat", "tunnel", "direct"] {
            let words = format!("--connections 3k --table 8k --family {family} --method {method}");
            let found = measured(&words);
            assert_eq!(found.len(), if method == "nat" { 4 } else { 3 });
            for measurement in found {
                assert!(measurement.ns_per_packet > 0.0, "{measurement:?}");
                assert!(measurement.generator_ns_per_packet > 0.0, "{measurement:?}");
            }
        }
    }
}

#[test]
fn two_workers_share_the_flows_and_answer_each_others() {
    if cores::usable().unwrap().len() < 2 {
        return;
    }
    let found = measured(
        "--connections 5k --table 16k --workers 2 --scheduler wlc --servers 7 --order sequential",
    );
    assert_eq!(found.len(), 4);
    for measurement in found {
        assert_eq!(measurement.workers, 2);
        let fair = 2e9 / measurement.ns_per_packet;
        let ratio = measurement.packets_per_second / fair;
        assert!((0.9..=1.5).contains(&ratio), "{measurement:?}");
    }
}

#[test]
fn a_flood_that_fills_the_table_loses_no_connection_and_says_how_it_fared() {
    let found = measured("--connections 4k --table 8k --case syn_flood");
    assert!(
        found[0]
            .refused_share
            .is_some_and(|share| (0.0..=1.0).contains(&share))
    );
    assert!(
        found[0]
            .without_entry_share
            .is_some_and(|share| (0.0..=1.0).contains(&share))
    );
}
