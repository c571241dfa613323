//! Finds DPDK with pkg-config, compiles the shim and generates the bindings.
//!
//! Another DPDK than the system's is chosen as for any pkg-config library:
//! `PKG_CONFIG_PATH=/opt/dpdk-24.11/lib/x86_64-linux-gnu/pkgconfig cargo build`. Its `lib`
//! directory must then be in `LD_LIBRARY_PATH` when the program runs.

use std::env;
use std::path::PathBuf;
use std::process::{Command, exit};

/// The oldest release whose names (`RTE_ETH_*`, `rte_thread_*`) the bindings use.
const OLDEST_VERSION: &str = "22.11";

/// Everything the safe layer calls. By name: `rte_.*` would bind all of DPDK.
const FUNCTIONS: &[&str] = &[
    "rte_dev_probe",
    "rte_eal_get_runtime_dir",
    "rte_eal_has_hugepages",
    "rte_eal_hotplug_remove",
    "rte_eal_init",
    "rte_eth_allmulticast_disable",
    "rte_eth_allmulticast_enable",
    "rte_eth_dev_adjust_nb_rx_tx_desc",
    "rte_eth_dev_close",
    "rte_eth_dev_configure",
    "rte_eth_dev_default_mac_addr_set",
    "rte_eth_dev_get_mtu",
    "rte_eth_dev_get_name_by_port",
    "rte_eth_dev_get_port_by_name",
    "rte_eth_dev_info_get",
    "rte_eth_dev_is_removed",
    "rte_eth_dev_mac_addr_add",
    "rte_eth_dev_mac_addr_remove",
    "rte_eth_dev_owner_new",
    "rte_eth_dev_owner_set",
    "rte_eth_dev_set_mtu",
    "rte_eth_dev_socket_id",
    "rte_eth_dev_start",
    "rte_eth_dev_stop",
    "rte_eth_dev_vlan_filter",
    "rte_eth_find_next_owned_by",
    "rte_eth_macaddr_get",
    "rte_eth_promiscuous_disable",
    "rte_eth_promiscuous_enable",
    "rte_eth_rx_queue_setup",
    "rte_eth_stats_get",
    "rte_eth_stats_reset",
    "rte_eth_tx_queue_setup",
    "rte_eth_xstats_get",
    "rte_eth_xstats_get_names",
    "rte_eth_xstats_reset",
    "rte_mempool_avail_count",
    "rte_mempool_calc_obj_size",
    "rte_mempool_create_empty",
    "rte_mempool_free",
    "rte_mempool_obj_iter",
    "rte_mempool_populate_default",
    "rte_mempool_populate_iova",
    "rte_mempool_set_ops_byname",
    "rte_memzone_free",
    "rte_memzone_reserve_aligned",
    "rte_pktmbuf_free_bulk",
    "rte_pktmbuf_init",
    "rte_pktmbuf_pool_init",
    "rte_strerror",
    "rte_thread_register",
    "rte_thread_unregister",
    "rte_version",
    "shim_.*",
];

/// Types only named by the shim or by tests.
const TYPES: &[&str] = &["rte_mbuf", "rte_pktmbuf_pool_private", "shim_.*"];

/// Constants whose names DPDK keeps from 22.11 to 24.11; the rest come through `shim.h`.
const CONSTANTS: &[&str] = &[
    "RTE_ETHER_CRC_LEN",
    "RTE_ETHER_HDR_LEN",
    "RTE_ETH_NAME_MAX_LEN",
    "RTE_MAX_ETHPORTS",
    "RTE_PKTMBUF_HEADROOM",
    "SHIM_.*",
];

fn main() {
    for name in ["shim.h", "shim.c"] {
        println!("cargo:rerun-if-changed={name}");
    }
    for name in [
        "PKG_CONFIG",
        "PKG_CONFIG_PATH",
        "PKG_CONFIG_LIBDIR",
        "PKG_CONFIG_SYSROOT_DIR",
    ] {
        println!("cargo:rerun-if-env-changed={name}");
    }
    pkg_config(&[
        "--print-errors",
        &format!("--atleast-version={OLDEST_VERSION}"),
    ]);
    let cflags = pkg_config(&["--cflags"]);
    let libs = pkg_config(&["--libs"]);
    compile_shim(&cflags);
    generate_bindings(&cflags);
    link(&libs);
}

/// The words pkg-config prints for libdpdk, or the end of the build with the way to mend it.
fn pkg_config(arguments: &[&str]) -> Vec<String> {
    let program = env::var("PKG_CONFIG").unwrap_or_else(|_| "pkg-config".to_owned());
    let problem = match Command::new(&program)
        .args(arguments)
        .arg("libdpdk")
        .output()
    {
        Ok(output) if output.status.success() => {
            let words = String::from_utf8_lossy(&output.stdout);
            return words.split_whitespace().map(str::to_owned).collect();
        }
        Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        Err(error) => format!("cannot run {program}: {error}"),
    };
    eprintln!(
        "error: DPDK {OLDEST_VERSION} or newer not found by pkg-config.\n{problem}\n\
         Install it with: apt-get install libdpdk-dev libclang-dev pkg-config\n\
         or name another one: PKG_CONFIG_PATH=/opt/dpdk/lib/x86_64-linux-gnu/pkgconfig"
    );
    exit(1);
}

/// The shim gets all of DPDK's flags: its inline functions need `-march` and `-include
/// rte_config.h`.
fn compile_shim(cflags: &[String]) {
    let mut build = cc::Build::new();
    build
        .file("shim.c")
        .std("gnu11")
        .opt_level(3)
        .extra_warnings(true);
    for flag in system_includes(cflags) {
        build.flag(flag);
    }
    build.compile("dpdk_shim");
}

fn generate_bindings(cflags: &[String]) {
    let mut builder = bindgen::Builder::default()
        .header("shim.h")
        .clang_args(system_includes(cflags))
        // DPDK's doxygen would become doctests that fail.
        .generate_comments(false)
        .default_enum_style(bindgen::EnumVariation::Consts)
        .prepend_enum_name(false)
        .derive_default(true)
        // Its fields move into anonymous unions in 24.11; `shim_mbuf` is the stable view of them.
        .opaque_type("rte_mbuf")
        .opaque_type("rte_mempool");
    for name in FUNCTIONS {
        builder = builder.allowlist_function(name);
    }
    for name in TYPES {
        builder = builder.allowlist_type(name);
    }
    for name in CONSTANTS {
        builder = builder.allowlist_var(name);
    }
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default()).join("bindings.rs");
    let written = builder
        .generate()
        .map_err(|error| error.to_string())
        .and_then(|bindings| {
            bindings
                .write_to_file(out)
                .map_err(|error| error.to_string())
        });
    if let Err(problem) = written {
        eprintln!(
            "error: cannot generate the DPDK bindings: {problem}\n\
             Is libclang there? Install it with: apt-get install libclang-dev"
        );
        exit(1);
    }
}

/// DPDK's headers are not ours to warn about.
fn system_includes(cflags: &[String]) -> Vec<String> {
    cflags
        .iter()
        .map(|flag| match flag.strip_prefix("-I") {
            Some(directory) => format!("-isystem{directory}"),
            None => flag.clone(),
        })
        .collect()
}

/// Drivers are not linked: EAL loads them from the directory built into DPDK (`RTE_EAL_PMD_PATH`). But of bonds more is
/// asked than any device can be.
fn link(libs: &[String]) {
    println!("cargo:rustc-link-lib=dylib=rte_net_bond");
    for word in libs {
        if let Some(directory) = word.strip_prefix("-L") {
            println!("cargo:rustc-link-search=native={directory}");
        } else if let Some(name) = word.strip_prefix("-l") {
            println!("cargo:rustc-link-lib=dylib={name}");
        }
    }
}
