//! The fuzzers' functions under plain `cargo test`: seeded, so that every run is the same, and over in seconds. What a
//! fuzzer once found lies in `tests/corpus`.

use std::fs;
use std::path::Path;

use pollux_tests::fuzz::choices::{Choices, Seeded};
use pollux_tests::fuzz::{frame, frames, ftp, pipeline, related, sip, sync};
use pollux_tests::golden::director::Director;
use pollux_tests::golden::trace::{Step, Wire, scenarios};

/// What a fuzzer calls.
type Target = fn(&[u8]);

const TARGETS: [(&str, Target); 6] = [
    ("frame", frame::run),
    ("ftp", ftp::run),
    ("pipeline", pipeline::run),
    ("related", related::run),
    ("sip", sip::run),
    ("sync", sync::run),
];

#[test]
fn lives_of_random_directors() {
    let mut seeded = Seeded(1);
    for _ in 0..1500 {
        pipeline::run(&seeded.bytes(2000));
    }
}

#[test]
fn random_errors_about_connections() {
    let mut seeded = Seeded(2);
    for length in 0..1000 {
        related::run(&seeded.bytes(length % 120));
    }
}

#[test]
fn sessions_of_ftp() {
    let mut seeded = Seeded(5);
    for length in 0..2000 {
        ftp::run(&seeded.bytes(length % 400));
    }
}

#[test]
fn messages_of_sip() {
    let mut seeded = Seeded(6);
    for length in 0..2000 {
        sip::run(&seeded.bytes(length % 400));
    }
}

#[test]
fn messages_of_other_directors() {
    let mut seeded = Seeded(7);
    for length in 0..2000 {
        sync::run(&seeded.bytes(length % 400));
    }
}

#[test]
fn random_bytes() {
    let mut seeded = Seeded(3);
    let mut director = Director::default();
    for _ in 0..100_000 {
        let length = seeded.below(200);
        let mut frame = seeded.bytes(length);
        // To the director, and IP: else every one would be punted for its first bytes.
        let head = [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0, 0x45];
        let end = frame.len().min(head.len());
        frame[..end].copy_from_slice(&head[..end]);
        pipeline::receive(&mut director, Wire::Cl, &[frame]);
    }
    director.check().unwrap();
}

/// The frames that the recorder sent, with the configuration of the scenario they are from.
fn golden_frames() -> Vec<(Wire, Vec<u8>)> {
    let files = ["smoke.json", "modes.json", "edge.json"];
    let steps = files
        .iter()
        .flat_map(|file| scenarios(file))
        .flat_map(|scenario| scenario.steps);
    steps
        .filter_map(|step| match step {
            Step::Frame { received, .. } => Some((received.port, received.bytes)),
            _ => None,
        })
        .collect()
}

fn lab() -> Director {
    Director::configured(&[
        "ipvsadm -A -t 192.0.2.100:80 -s rr",
        "ipvsadm -a -t 192.0.2.100:80 -r 10.1.0.11:8080 -m",
        "ipvsadm -a -t 192.0.2.100:80 -r 10.1.0.12 -i",
        "ipvsadm -A -u 192.0.2.100:80 -s wlc",
        "ipvsadm -a -u 192.0.2.100:80 -r 10.1.0.11:8080 -m",
        "ipvsadm -a -u 192.0.2.100:80 -r 10.1.0.12 -g",
        "ipvsadm -A -t [2001:db8::100]:80 -s wrr",
        "ipvsadm -a -t [2001:db8::100]:80 -r [2001:db8:1::11]:8080 -m",
        "ipvsadm -a -t [2001:db8::100]:80 -r 10.1.0.12 -i",
        "ipvsadm -A -u [2001:db8::100]:80 -s rr",
        "ipvsadm -a -u [2001:db8::100]:80 -r [2001:db8:1::11]:8080 -m",
    ])
}

#[test]
fn golden_frames_cut_at_every_length() {
    let mut director = lab();
    for (wire, frame) in golden_frames().iter().step_by(7) {
        for length in 0..=frame.len().min(200) {
            pipeline::receive(&mut director, *wire, &[frame[..length].to_vec()]);
        }
    }
    director.check().unwrap();
}

#[test]
fn golden_frames_with_damage() {
    let mut seeded = Seeded(4);
    let mut director = lab();
    for (wire, frame) in golden_frames() {
        for _ in 0..40 {
            let decisions = seeded.bytes(24);
            let mut damaged = frame.clone();
            frames::damage(&mut Choices::new(&decisions), &mut damaged);
            pipeline::receive(&mut director, wire, &[damaged]);
        }
    }
    director.check().unwrap();
}

#[test]
fn golden_frames_with_every_value_of_every_header_byte() {
    let mut director = lab();
    for (wire, frame) in golden_frames().iter().step_by(97) {
        for at in 12..frame.len().min(80) {
            for value in 0..=255 {
                let mut damaged = frame.clone();
                damaged[at] = value;
                pipeline::receive(&mut director, *wire, &[damaged]);
            }
        }
    }
    director.check().unwrap();
}

#[test]
fn what_was_once_wrong_stays_right() {
    for (target, run) in TARGETS {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("corpus")
            .join(target);
        let Ok(entries) = fs::read_dir(directory) else {
            continue;
        };
        for entry in entries {
            let path = entry.unwrap().path();
            println!("{}", path.display());
            run(&fs::read(path).unwrap());
        }
    }
}
