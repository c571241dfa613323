//! Tells the benchmarks what they were built with: a figure belongs to a compiler and to a DPDK.

use std::env;
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    // Where the data plane's build looks for DPDK too.
    for name in ["PKG_CONFIG", "PKG_CONFIG_PATH", "PKG_CONFIG_LIBDIR"] {
        println!("cargo:rerun-if-env-changed={name}");
    }
    let rustc = env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    let pkg_config = env::var("PKG_CONFIG").unwrap_or_else(|_| "pkg-config".to_owned());
    let profile = env::var("PROFILE").unwrap_or_else(|_| "unknown".to_owned());
    println!("cargo:rustc-env=BUILT_PROFILE={profile}");
    say("BUILT_RUSTC", &rustc, &["--version"]);
    say("BUILT_DPDK", &pkg_config, &["--modversion", "libdpdk"]);
}

/// What a program says goes into the variable; nothing when it is not there, which is no reason not to build.
fn say(variable: &str, program: &str, arguments: &[&str]) {
    if let Ok(output) = Command::new(program).args(arguments).output()
        && output.status.success()
    {
        let words = String::from_utf8_lossy(&output.stdout);
        println!("cargo:rustc-env={variable}={}", words.trim());
    }
}
