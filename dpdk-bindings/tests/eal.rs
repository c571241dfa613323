//! How DPDK starts, and what it says when it does not. In a process of its own: the refusals come
//! first.

mod support;

use std::path::Path;

use dpdk_bindings::{Eal, EalArguments, EalError, Memory, PciDevices, huge_pages};
use support::eal;

fn refusal(arguments: &EalArguments) -> String {
    Eal::start(arguments).map_or_else(|error| error.to_string(), |_| String::from("it started"))
}

#[test]
fn too_few_huge_pages_are_counted_and_the_command_is_given() {
    let Some(pages) = huge_pages::read().unwrap().first().copied() else {
        return;
    };
    let memory = Memory::HugePages { megabytes: 1 << 30 };
    let text = refusal(&EalArguments {
        memory,
        ..EalArguments::default()
    });
    let free: u64 = huge_pages::read()
        .unwrap()
        .iter()
        .map(|size| size.free_megabytes())
        .sum();
    let command = pages.command_for(1 << 30);
    assert_eq!(
        text,
        format!("1073741824 MB of huge pages needed, {free} MB free; reserve them with: {command}")
    );
}

#[test]
fn a_cpu_that_is_not_there_is_named() {
    let error = Eal::start(&EalArguments {
        main_cpus: vec![99_999],
        ..EalArguments::default()
    });
    assert!(matches!(
        error,
        Err(EalError::NoSuchCpu { cpu: 99_999, .. })
    ));
    let text = refusal(&EalArguments {
        main_cpus: vec![99_999],
        ..EalArguments::default()
    });
    assert!(text.starts_with("CPU 99999 is not there or not allowed for this process; allowed: "));
}

#[test]
fn a_file_prefix_is_a_word() {
    let file_prefix = String::from("a/b");
    assert_eq!(
        refusal(&EalArguments {
            file_prefix,
            ..EalArguments::default()
        }),
        "`a/b` is no file prefix: use letters, digits, `-`, `_` and `.`"
    );
}

#[test]
fn dpdk_starts_once_on_ordinary_pages_and_leaves_no_file() {
    let eal = eal();
    assert!(!eal.uses_huge_pages());
    assert!(eal.version().starts_with("DPDK "), "{}", eal.version());
    assert!(eal.unattached_devices().is_empty());
    assert!(
        !Path::new("/run/dpdk")
            .join(format!("pollux-test-{}", std::process::id()))
            .exists()
    );
    let again = EalArguments {
        pci: PciDevices::All,
        ..EalArguments::default()
    };
    assert_eq!(
        refusal(&again),
        "DPDK was started before in this process; it can be started only once"
    );
}

#[test]
fn a_thread_registers_once_and_again_after_it_left() {
    let eal = eal();
    let worker = std::thread::spawn(move || {
        let registered = eal.register_thread().unwrap();
        assert!(matches!(
            eal.register_thread(),
            Err(EalError::ThreadRegistered)
        ));
        drop(registered);
        eal.register_thread().unwrap();
    });
    worker.join().unwrap();
}
