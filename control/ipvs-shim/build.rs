//! Compiles the library from `c/`, with every warning an error.

use std::env;
use std::path::PathBuf;
use std::process::ExitCode;

const SOURCES: [&str; 6] = [
    "c/link.c",
    "c/netlink.c",
    "c/reasons.c",
    "c/files.c",
    "c/paths.c",
    "c/settings.c",
];

fn main() -> ExitCode {
    println!("cargo:rerun-if-changed=c");
    let out = env::var_os("OUT_DIR").map(PathBuf::from);
    let Some(library) = out.map(|folder| folder.join("pollux-ipvs.so")) else {
        eprintln!("OUT_DIR is not set: build this with cargo");
        return ExitCode::FAILURE;
    };
    // The crate finds the compiler for the target; it links no shared libraries itself.
    let compiler = cc::Build::new()
        .pic(true)
        .opt_level(2)
        .debug(false)
        .warnings(true)
        .extra_warnings(true)
        .warnings_into_errors(true)
        .flag("-std=c11")
        .flag("-fvisibility=hidden")
        .get_compiler();
    let status = compiler
        .to_command()
        .args(SOURCES)
        .args(["-shared", "-Wl,-z,defs", "-Wl,-z,relro,-z,now", "-o"])
        .arg(&library)
        .status();
    match status {
        Ok(status) if status.success() => ExitCode::SUCCESS,
        Ok(status) => {
            eprintln!("the C compiler failed: {status}");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!(
                "the C compiler cannot be started: {error}; `apt install build-essential` brings one"
            );
            ExitCode::FAILURE
        }
    }
}
