//! What holds of every scheduler.

use proptest::prelude::*;

use super::test_pool::{Pool, client};
use super::*;
use crate::clock::Tick;

const FLAGS: [HashFlags; 4] = [
    HashFlags {
        fallback: false,
        port: false,
    },
    HashFlags {
        fallback: false,
        port: true,
    },
    HashFlags {
        fallback: true,
        port: false,
    },
    HashFlags {
        fallback: true,
        port: true,
    },
];

fn maglev(fallback: bool, port: bool, bounded: Option<u16>) -> SchedulerKind {
    SchedulerKind::MaglevHashing(MaglevFlags {
        fallback,
        port,
        bounded,
    })
}

/// Every scheduler with every flag.
fn every_kind() -> Vec<SchedulerKind> {
    let mut all = vec![
        SchedulerKind::RoundRobin,
        SchedulerKind::WeightedRoundRobin,
        SchedulerKind::LeastConnection,
        SchedulerKind::WeightedLeastConnection,
        SchedulerKind::LocalityBased,
        SchedulerKind::LocalityBasedReplicated,
        SchedulerKind::DestinationHashing,
        SchedulerKind::ShortestExpectedDelay,
        SchedulerKind::NeverQueue,
        SchedulerKind::WeightedFailover,
        SchedulerKind::WeightedOverflow,
        SchedulerKind::TwoRandomChoices,
        SchedulerKind::PowerOfTwoChoices,
        SchedulerKind::FastestAnswer,
    ];
    all.extend(FLAGS.map(SchedulerKind::SourceHashing));
    all.extend(FLAGS.map(|flags| maglev(flags.fallback, flags.port, None)));
    all.extend([0, 25].map(|percent| maglev(true, false, Some(percent))));
    all
}

/// Schedulers that go on to another destination while any takes connections.
fn never_refuses(kind: SchedulerKind) -> bool {
    match kind {
        SchedulerKind::DestinationHashing | SchedulerKind::WeightedOverflow => false,
        SchedulerKind::SourceHashing(flags) => flags.fallback,
        SchedulerKind::MaglevHashing(flags) => flags.fallback || flags.bounded.is_some(),
        _ => true,
    }
}

/// Schedulers that send a known address to its server whatever the thresholds say, as Linux' do.
fn ignores_thresholds(kind: SchedulerKind) -> bool {
    kind == SchedulerKind::LocalityBased
}

proptest! {
    #[test]
    fn none_chooses_what_takes_no_connections(
        destinations in prop::collection::vec((0u32..4, 0u32..4), 0..12),
        drained in prop::collection::vec(any::<prop::sample::Index>(), 0..3),
        removed in prop::option::of(any::<prop::sample::Index>()),
    ) {
        for kind in every_kind() {
            let mut pool = Pool::with_limits(kind, &destinations);
            pool.picks(20);
            for which in drained.iter().filter(|_| !destinations.is_empty()) {
                pool = pool.weighted(which.index(destinations.len()) as u32, 0);
            }
            let mut left: Vec<u32> = (0..destinations.len() as u32).collect();
            if let Some(which) = removed.filter(|_| !left.is_empty()) {
                let gone = left.remove(which.index(left.len()));
                pool = pool.without(gone);
            }
            for flow in 0..40 {
                let usable = |number: &u32| pool.destination(*number).is_usable();
                let any = left.iter().any(usable);
                match pool.pick_for(client(flow)) {
                    Some(chosen) => {
                        prop_assert!(left.contains(&chosen), "{kind:?} chose {chosen}, which is removed");
                        prop_assert!(pool.destination(chosen).spec.weight > 0);
                        prop_assert!(usable(&chosen) || ignores_thresholds(kind), "{kind:?} chose {chosen}");
                        pool.destination(chosen).bind(crate::connection::State::Established);
                    }
                    None => prop_assert!(!any || !never_refuses(kind), "{kind:?} refused flow {flow}"),
                }
            }
        }
    }

    /// Connections that stay: `lc` evenly; `wlc`, `sed`, `nq` and `p2c` by weight. Connections that come and go: `rr`
    /// evenly, `wrr` and `mh` by weight.
    #[test]
    fn shares_follow_the_weights(weights in prop::collection::vec(1u32..8, 1..9)) {
        let total: u32 = weights.iter().sum();
        let rounds = 40;
        let flows = total * rounds;
        let by_weight: Vec<u32> = weights.iter().map(|weight| weight * rounds).collect();
        let evenly = vec![flows / weights.len() as u32; weights.len()];
        for (kind, wanted, off) in [
            (SchedulerKind::RoundRobin, &evenly, 1),
            (SchedulerKind::WeightedRoundRobin, &by_weight, 0),
            (SchedulerKind::LeastConnection, &evenly, 1),
            (SchedulerKind::WeightedLeastConnection, &by_weight, 1),
            (SchedulerKind::ShortestExpectedDelay, &by_weight, 1),
            (SchedulerKind::NeverQueue, &by_weight, 1),
            (SchedulerKind::PowerOfTwoChoices, &by_weight, 30),
        ] {
            let pool = Pool::new(kind, &weights);
            pool.picks(flows);
            for (number, wanted) in (0..).zip(wanted) {
                let share = pool.destination(number).shared.counts().active;
                prop_assert!(share.abs_diff(*wanted) <= off, "{kind:?}: {number} has {share}, not {wanted}");
            }
        }
    }

    /// Addresses that are new to `lblc` and `lblcr` go by weight, and stay.
    #[test]
    fn addresses_of_lblc_and_lblcr_are_spread_by_weight(weights in prop::collection::vec(1u32..8, 1..9)) {
        let total: u32 = weights.iter().sum();
        for kind in [SchedulerKind::LocalityBased, SchedulerKind::LocalityBasedReplicated] {
            let pool = Pool::new(kind, &weights);
            let mut shares = vec![0_u32; weights.len()];
            for address in 0..40 * total {
                let chosen = pool.pick_at(Tick(0), client(0), client(address));
                let chosen = chosen.unwrap();
                shares[chosen as usize] += 1;
                pool.destination(chosen).bind(crate::connection::State::Close);
            }
            for (share, weight) in shares.iter().zip(&weights) {
                prop_assert!(share.abs_diff(40 * weight) <= 1, "{kind:?}: {shares:?} of {weights:?}");
            }
        }
    }

    /// The buckets of `mh` are dealt by weight, to a bucket and turn; so clients are, as many as there are.
    #[test]
    fn clients_of_mh_are_spread_by_weight(weights in prop::collection::vec(1u32..8, 1..9)) {
        let clients = 20_000;
        let total: u32 = weights.iter().sum();
        let shares = Pool::new(maglev(false, false, None), &weights).shares(clients);
        for (share, weight) in shares.iter().zip(&weights) {
            let wanted = f64::from(clients * weight) / f64::from(total);
            // The bucket each client falls into is chance: five standard deviations, and the turn that may be missing.
            let off = 5.0 * wanted.sqrt() + f64::from(clients * weight) / 4093.0;
            prop_assert!((f64::from(*share) - wanted).abs() <= off, "{shares:?} of {weights:?}");
        }
    }

    /// A server is removed, as whoever has `on_failure = "remove"` does it: a hundredth of the others' buckets move at most,
    /// with a table that is large enough for so many servers.
    #[test]
    fn mh_moves_the_minimum_and_a_hundredth(servers in 2u32..31) {
        let index = if servers <= 5 { 12 } else if servers <= 10 { 13 } else { 14 };
        let moved = moved_by_mh(index, servers);
        prop_assert!(moved <= 1000, "{moved} of 100,000 with mh_tab_index {index}, {servers} servers");
    }

    /// A server is drained, as a health check does it: its clients move, and nobody else.
    #[test]
    fn mh_moves_only_the_clients_of_a_server_that_is_drained(
        weights in prop::collection::vec(1u32..8, 2..30),
        which in any::<prop::sample::Index>(),
    ) {
        let gone = which.index(weights.len()) as u32;
        let pool = Pool::new(maglev(true, false, None), &weights);
        let before: Vec<_> = (0..2000).map(|flow| pool.pick_for(client(flow))).collect();
        let pool = pool.weighted(gone, 0);
        for (flow, before) in (0..2000).zip(before) {
            let after = pool.pick_for(client(flow));
            prop_assert!(after.is_some() && after != Some(gone));
            prop_assert!(before == Some(gone) || before == after);
        }
    }

    /// Bounded loads: nobody is above its share and the percentage, and everybody is served.
    #[test]
    fn mh_bounded_keeps_everybody_within_the_bound(
        weights in prop::collection::vec(1u32..8, 1..9),
        percent in 0u16..100,
        flows in 1u32..400,
    ) {
        let pool = Pool::new(maglev(false, false, Some(percent)), &weights);
        prop_assert_eq!(pool.picks(flows).len(), flows as usize);
        let total: u64 = weights.iter().map(|weight| u64::from(*weight)).sum();
        for (number, weight) in (0..).zip(&weights) {
            let allowed = u64::from(flows) * (100 + u64::from(percent)) * u64::from(*weight);
            let share = pool.destination(number).shared.counts().total();
            prop_assert!(share <= allowed.div_ceil(100 * total), "{number} has {share} of {flows}");
        }
    }
}

/// Of so many servers of one weight some leave, each alone: how many buckets of the others change hands by that, of 100,000
/// in the table, at most.
fn moved_by_mh(index: u8, servers: u32) -> usize {
    let pool = || {
        let pool = Pool::new(maglev(false, false, None), &vec![1; servers as usize]);
        pool.tuned(|settings| settings.mh_tab_index = index)
    };
    let buckets = |pool: &Pool| -> Vec<u32> {
        let SchedulerState::MaglevHashing(state) = &pool.scheduler().state else {
            panic!("another scheduler");
        };
        state
            .buckets()
            .iter()
            .map(|place| (*place).into())
            .collect()
    };
    let before = buckets(&pool());
    let moved = |gone: u32| {
        // The places behind the one that is gone have moved up.
        let after = buckets(&pool().without(gone));
        let servers = after.iter().map(|place| place + u32::from(*place >= gone));
        let changed = before.iter().zip(servers);
        changed
            .filter(|(before, after)| **before != gone && *before != after)
            .count()
    };
    let step = (servers / 10).max(1) as usize;
    let worst = (0..servers).step_by(step).map(moved).max().unwrap();
    worst * 100_000 / before.len()
}

/// A server is removed: the table is dealt anew. How many buckets, and so clients, of others move is a matter of how many
/// there are: Linux' 4093 keep to one in a hundred up to five servers.
#[test]
fn mh_moves_few_others_when_a_server_is_removed() {
    let mut wrong = Vec::new();
    for (index, servers, allowed) in [
        (8, 10, 6000),
        (12, 2, 0),
        (12, 5, 900),
        (12, 10, 1200),
        (12, 20, 1700),
        (12, 30, 2100),
        (13, 10, 900),
        (14, 30, 900),
        (16, 100, 600),
        (17, 100, 400),
    ] {
        let moved = moved_by_mh(index, servers);
        println!("mh_tab_index {index}, {servers} servers: {moved} of 100,000");
        if moved > allowed {
            wrong.push((index, servers, moved, allowed));
        }
    }
    assert!(
        wrong.is_empty(),
        "index, servers, moved, allowed: {wrong:?}"
    );
}

/// A table of another size is dealt with the setting, and the one before with the setting as it was.
#[test]
fn the_table_of_mh_follows_the_setting() {
    let size = |pool: &Pool| match &pool.scheduler().state {
        SchedulerState::MaglevHashing(state) => state.buckets().len(),
        _ => panic!("another scheduler"),
    };
    let pool = Pool::new(maglev(false, false, None), &[1, 2, 3]);
    assert_eq!(size(&pool), 4093);
    let before: Vec<_> = (0..2000).map(|flow| pool.pick_for(client(flow))).collect();
    let mut pool = pool;
    for (index, buckets) in (8..).zip([
        251, 509, 1021, 2039, 4093, 8191, 16381, 32749, 65521, 131_071,
    ]) {
        pool = pool.tuned(|settings| settings.mh_tab_index = index);
        assert_eq!(size(&pool), buckets);
    }
    let pool = pool.tuned(|settings| settings.mh_tab_index = 12);
    let after: Vec<_> = (0..2000).map(|flow| pool.pick_for(client(flow))).collect();
    assert_eq!(after, before);
}

#[test]
fn a_server_that_is_back_has_its_buckets_of_mh_back() {
    let pool = Pool::new(maglev(true, false, None), &[1, 2, 3]);
    let before: Vec<_> = (0..2000).map(|flow| pool.pick_for(client(flow))).collect();
    let back = pool.weighted(1, 0).weighted(1, 2);
    let after: Vec<_> = (0..2000).map(|flow| back.pick_for(client(flow))).collect();
    assert_eq!(after, before);
}

#[test]
fn a_server_added_without_weight_has_no_buckets_of_mh() {
    let kind = maglev(false, false, None);
    let with = Pool::new(kind, &[1, 2, 0]);
    let without = Pool::new(kind, &[1, 2]);
    assert!((0..2000).all(|flow| with.pick_for(client(flow)) == without.pick_for(client(flow))));
}

#[test]
fn weights_of_mh_that_are_too_large_for_the_table_are_halved() {
    let kind = maglev(false, false, None);
    let large = Pool::new(kind, &[1_000_000, 2_000_001, 1]);
    let shares = large.shares(40_000);
    assert!(
        shares[2] > 0,
        "the lightest server has at least a bucket a turn: {shares:?}"
    );
    assert!(
        shares[0] * 2 > shares[1] - 1500 && shares[0] * 2 < shares[1] + 1500,
        "{shares:?}"
    );
}

#[test]
fn bounded_loads_leave_a_client_where_it_is_while_there_is_room() {
    let plain = Pool::new(maglev(true, false, None), &[1, 1, 1, 1]);
    let bounded = Pool::new(maglev(true, false, Some(25)), &[1, 1, 1, 1]);
    (0..4).for_each(|number| bounded.set_counts(number, 50, 50));
    assert!((0..500).all(|flow| plain.pick_for(client(flow)) == bounded.pick_for(client(flow))));
    // One that is full hands over its own clients only.
    bounded.set_counts(2, 100, 100);
    for flow in 0..500 {
        let (plain, bounded) = (plain.pick_for(client(flow)), bounded.pick_for(client(flow)));
        assert!(bounded.is_some() && bounded != Some(2));
        assert!(plain == Some(2) || plain == bounded);
    }
}

#[test]
fn state_outlives_changes_that_leave_it_meaningful() {
    let pool = Pool::new(SchedulerKind::LocalityBased, &[5, 5]);
    let address = client(9);
    assert_eq!(pool.pick_at(Tick(0), client(1), address), Some(0));
    pool.set_counts(0, 4, 0);
    let pool = pool.weighted(1, 50);
    assert_eq!(
        pool.pick_at(Tick(1), client(1), address),
        Some(0),
        "remembered"
    );
    let pool = pool.edited(|service| service.scheduler = SchedulerKind::WeightedLeastConnection);
    assert_eq!(pool.pick_at(Tick(2), client(1), address), Some(1));
    let pool = pool.edited(|service| service.scheduler = SchedulerKind::LocalityBased);
    assert_eq!(
        pool.pick_at(Tick(3), client(1), address),
        Some(1),
        "forgotten with the scheduler"
    );
}

/// Two workers choose at once, and connections come and go: every choice is one of the service's that takes connections,
/// and whoever chooses in turn chooses as evenly as one worker would.
#[test]
fn workers_at_once_choose_what_one_may_choose() {
    const FLOWS: u32 = 12_000;
    for kind in every_kind() {
        // Nobody is full or overworked here, so that nobody is refused for another worker's choice.
        let pool = Pool::new(kind, &[4000, 8000, 0, 12_000]);
        let chosen: Vec<Vec<u32>> = std::thread::scope(|scope| {
            let workers = [0, 1].map(|worker| {
                let pool = &pool;
                scope.spawn(move || {
                    let choices = (0..FLOWS).filter_map(|flow| {
                        let address = client(flow % 500);
                        let chosen = pool.pick_at(Tick(flow), client(2 * flow + worker), address);
                        assert!(chosen.is_some() || !never_refuses(kind), "{kind:?}");
                        let chosen = chosen?;
                        let found = pool.destination(chosen);
                        found.bind(crate::connection::State::Established);
                        if flow % 3 > 0 {
                            found.unbind(crate::connection::State::Established);
                        }
                        Some(chosen)
                    });
                    choices.collect()
                })
            });
            workers.map(|worker| worker.join().unwrap()).into()
        });
        let mut shares = [0u32; 4];
        chosen
            .iter()
            .flatten()
            .for_each(|chosen| shares[*chosen as usize] += 1);
        assert_eq!(shares[2], 0, "{kind:?}: {shares:?}");
        match kind {
            SchedulerKind::RoundRobin => assert_eq!(shares, [8000, 8000, 0, 8000]),
            SchedulerKind::WeightedRoundRobin => assert_eq!(shares, [4000, 8000, 0, 12_000]),
            _ => {}
        }
    }
}
