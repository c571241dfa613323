//! The appliance's disk image, from the packages to the answer of a service after a reboot.

use std::path::Path;
use std::process::Command;

use pollux_tests::lab::Lab;

/// It boots, sets itself up from a stick, serves clients by every method, and again after a reboot, with no hand on it.
#[test]
#[ignore = "part of scripts/test --appliance"]
fn the_image_serves_again_after_a_reboot() {
    let lab = Lab::without_daemons();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let disk = std::env::temp_dir().join(format!("pollux-{}.img", std::process::id()));
    for (script, arguments) in [
        ("build-image", vec![disk.as_os_str()]),
        ("run-image", vec!["--check".as_ref(), disk.as_os_str()]),
    ] {
        let output = Command::new(root.join("scripts").join(script))
            .args(arguments)
            .output()
            .expect("the script starts");
        let text = format!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        println!("{text}");
        assert!(
            output.status.success(),
            "scripts/{script}: {}",
            output.status
        );
        if script == "run-image" {
            assert!(text.contains("The service answers again after"));
        }
    }
    std::fs::remove_file(&disk).expect("the image can be removed");
    drop(lab);
}
