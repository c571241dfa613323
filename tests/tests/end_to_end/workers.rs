//! Several workers: any of them may get any packet of a connection.

use pollux_tests::lab::Lab;
use pollux_tests::lab::http::Connection;
use pollux_tests::lab::servers::{NAT, SERVERS4, VIP4, tcp};

/// With NAT a request and its answer have different addresses and so different hashes: each direction of each
/// connection falls to either worker with equal chance. That all of 300 connections stay on one worker throughout has
/// a chance of 2^-300, so if every one of them works, those that cross over work.
#[test]
fn requests_and_answers_may_land_on_different_workers() {
    let lab = Lab::start_with("--workers 2");
    lab.add(&tcp(VIP4, 80), "rr", NAT, &SERVERS4, 80);
    assert_eq!(
        lab.curl_many(VIP4, 300).into_values().collect::<Vec<_>>(),
        [100, 100, 100]
    );

    let workers = lab.workers();
    assert_eq!(workers.len(), 2);
    for worker in &workers {
        assert!(
            worker.received > 300,
            "{worker:?} had its share of the packets"
        );
        assert!(
            worker.connections_created > 50,
            "{worker:?} had its share of the new connections"
        );
    }
    let created: u64 = workers
        .iter()
        .map(|worker| worker.connections_created)
        .sum();
    assert_eq!(
        created, 300,
        "one entry for each connection, not one for each worker"
    );
    let met: u64 = workers.iter().map(|worker| worker.answers_met).sum();
    let apart: u64 = workers.iter().map(|worker| worker.answers_apart).sum();
    assert_eq!(
        met + apart,
        300,
        "each was answered first once: {workers:?}"
    );
    assert!(met > 50 && apart > 50, "{met} met, {apart} did not");
}

#[test]
fn every_worker_has_a_queue_of_its_own_on_every_port() {
    let lab = Lab::start_with("--workers 2");
    let ports = lab.ports();
    assert_eq!(
        ports
            .iter()
            .map(|port| port.name.as_str())
            .collect::<Vec<_>>(),
        ["client0", "server0"]
    );
    for port in ports {
        assert_eq!(
            (port.receive_queues, port.transmit_queues),
            (2, 2),
            "{}",
            port.name
        );
        assert!(port.link_up, "{}", port.name);
    }
    let cores: Vec<u16> = lab.workers().iter().map(|worker| worker.core).collect();
    assert_eq!(cores, [0, 1]);
}

#[test]
fn all_workers_run_one_generation_when_a_change_is_acknowledged() {
    let lab = Lab::start_with("--workers 2");
    let service = tcp(VIP4, 80);
    lab.add(&service, "rr", NAT, &SERVERS4, 80);
    let mut before = 0;
    for weight in 1..=20 {
        lab.set_weight(&service, SERVERS4[0], weight);
        let generations: Vec<u64> = lab
            .workers()
            .iter()
            .map(|worker| worker.generation)
            .collect();
        assert_eq!(generations[0], generations[1]);
        assert!(generations[0] > before, "{} after {before}", generations[0]);
        before = generations[0];
    }
}

#[test]
fn the_connection_table_shows_each_connection_once() {
    let lab = Lab::start_with("--workers 2");
    lab.add(&tcp(VIP4, 80), "rr", NAT, &SERVERS4, 80);
    let mut open: Vec<Connection> = (0..30).map(|_| Connection::open(VIP4)).collect();
    for connection in &mut open {
        connection.get("/");
    }
    let table = lab.connections();
    assert_eq!(table.len(), open.len());
    for connection in &open {
        let client = connection.local_address();
        let entry = table.iter().find(|entry| entry.client == client);
        let entry = entry.unwrap_or_else(|| panic!("{client} is missing"));
        assert_eq!(entry.state, "ESTABLISHED");
        assert_eq!(entry.virtual_address.to_string(), "198.51.100.1:80");
        assert!(
            (880..=900).contains(&entry.expires_s),
            "15 minutes, as IPVS has it: {entry:?}"
        );
    }
}
