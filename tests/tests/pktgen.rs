//! The profiles for Pktgen-DPDK and the script that runs them, as far as they go without pktgen: what the script says
//! where it is missing, and that script, command files, Lua and documentation mean the same addresses.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// pktgen 23.06.1 has so many frames a queue, each built once.
const FRAMES: u32 = 24_576;
/// RFC 2544 9.1.
const SIZES: [u32; 7] = [64, 128, 256, 512, 1024, 1280, 1518];
/// RFC 2544 appendix C.2.2.
const CLIENTS: (Ipv4Addr, u32) = (Ipv4Addr::new(198, 18, 0, 0), 131_072);

#[test]
fn without_pktgen_the_script_says_how_to_get_it() {
    // Nothing but what it takes to find out.
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("no-pktgen");
    let _ = fs::remove_dir_all(&path);
    fs::create_dir_all(&path).unwrap();
    for program in ["bash", "dirname", "cat"] {
        let found = ["/bin", "/usr/bin"].map(|folder| Path::new(folder).join(program));
        let found = found.iter().find(|file| file.exists()).unwrap();
        symlink(found, path.join(program)).unwrap();
    }
    let output = script().env("PATH", &path).output().unwrap();
    assert_eq!(output.status.code(), Some(3), "{}", said(&output));
    for word in [
        "there is no 'pktgen'",
        "23.06.1",
        "libdpdk-dev",
        "git clone --depth 1 --branch pktgen-23.06.1 https://github.com/pktgen/Pktgen-DPDK",
        "CFLAGS=$(pkg-config --cflags libdpdk) meson setup build -Denable_lua=true",
        "ninja -C build",
        "--pktgen PATH",
    ] {
        assert!(
            said(&output).contains(word),
            "no {word:?} in: {}",
            said(&output)
        );
    }
    assert!(output.stdout.is_empty());

    let output = run(&["--pktgen", "/nowhere/pktgen"]);
    assert_eq!(output.status.code(), Some(3));
    assert!(said(&output).contains("there is no '/nowhere/pktgen'"));
}

#[test]
fn wrong_arguments_are_refused_with_what_to_write() {
    let cases: &[(&[&str], &str)] = &[
        (
            &["flood"],
            "there is no profile 'flood'; there are sweep many-flows syn-flood imix",
        ),
        (&["--fast"], "there is no option --fast"),
        (&["--seconds"], "a value must follow --seconds"),
        (
            &["--seconds", "0"],
            "--seconds is a number from 1 on, not '0'",
        ),
        (
            &["--flows", "1k"],
            "--flows is a number from 1 on, not '1k'",
        ),
        (
            &["--flows", "2000000"],
            "--flows 2000000 do not fit into a table of --connections 1000000",
        ),
        (
            &["--connections", "-1"],
            "--connections is a number from 1 on, not '-1'",
        ),
        (
            &["--cores", "1"],
            "--cores is a list of two or three CPUs like 2,3, not '1'",
        ),
        (
            &["--pollux-core", "all"],
            "--pollux-core is the number of a CPU, not 'all'",
        ),
        (
            &["--nic", "eth0"],
            "--nic is a PCI address like 0000:03:00.0, or two with a comma between, not 'eth0'",
        ),
        (
            &["--nic", "03:00.0,03:00.1,03:00.2"],
            "--nic is one or two PCI addresses",
        ),
        (
            &["--nic", "03:00.0"],
            "say where Pollux is: --pollux-nic PCI here, or --director-mac MAC",
        ),
        (
            &["--nic", "03:00.0,03:00.1", "--pollux-nic", "04:00.0"],
            "as many --pollux-nic as --nic",
        ),
        (
            &[
                "--nic",
                "03:00.0",
                "--pollux-nic",
                "04:00.0",
                "--ask",
                "true",
            ],
            "no --director-mac, no --ask",
        ),
        (
            &["--nic", "03:00.0", "--director-mac", "02:00"],
            "--director-mac is a MAC like 02:00:00:00:01:01, not '02:00'",
        ),
        (
            &["--pollux-nic", "04:00.0"],
            "--pollux-nic needs a --nic that is cabled to it",
        ),
        (
            &["--director-mac", "02:00:00:00:01:01"],
            "are for a Pollux behind --nic",
        ),
    ];
    for (words, reason) in cases {
        let output = run(words);
        assert_eq!(
            output.status.code(),
            Some(2),
            "{words:?}: {}",
            said(&output)
        );
        assert!(
            said(&output).contains(reason),
            "{words:?}: {}",
            said(&output)
        );
        assert!(said(&output).contains("--help"));
    }
    let output = run(&["--help"]);
    assert_eq!(output.status.code(), Some(0));
    let help = String::from_utf8(output.stdout).unwrap();
    assert!(help.contains("sweep many-flows syn-flood imix"));
    assert!(help.contains("3 pktgen is not installed"));
}

#[test]
fn every_profile_has_its_files_and_every_file_is_documented() {
    let readme = text("README.md");
    for profile in setting("all_profiles").trim_matches(['(', ')']).split(' ') {
        let lua = text(&format!("{profile}.lua"));
        assert!(
            lua.contains("local measure = require \"measure\""),
            "{profile}.lua"
        );
        assert!(
            lua.contains(&format!("measure.run(\"{profile}\"")),
            "{profile}.lua"
        );
        assert!(
            readme.contains(&format!("`{profile}.lua`")),
            "README.md lacks {profile}.lua"
        );
    }
    for file in command_files() {
        assert!(
            readme.contains(&format!("`{file}`")),
            "README.md lacks {file}"
        );
    }
    // What Lua loads exists.
    for file in ["sweep.lua", "many-flows.lua", "syn-flood.lua", "imix.lua"] {
        let lua = text(file);
        let (_, rest) = lua.split_once("measure.load(\"").unwrap();
        let (loaded, _) = rest.split_once('"').unwrap();
        assert!(command_files().contains(loaded), "{file} loads {loaded}");
    }
    assert!(text("measure.lua").contains(&format!("measure.FRAMES = {FRAMES}\n")));
    assert!(text("measure.lua").contains(&format!("measure.CLIENTS = {}\n", CLIENTS.1)));
    assert!(text("measure.lua").contains(&format!(
        "COMMAND_FILE_MAC = \"{}\"\n",
        setting("director_mac")
    )));
    let sizes: Vec<String> = SIZES.iter().map(u32::to_string).collect();
    assert!(text("sweep.lua").contains(&format!("{{ {} }}", sizes.join(", "))));
}

#[test]
fn ranges_are_from_the_clients_to_the_service() {
    for (file, flag) in [("flows.pkt", "ack"), ("syn-flood.pkt", "syn")] {
        let range = range_of(file);
        let of = |key: &str| {
            range
                .get(key)
                .unwrap_or_else(|| panic!("{file} sets no {key}"))
                .clone()
        };
        let fixed = |value: &str, step: &str| {
            vec![
                value.to_owned(),
                value.to_owned(),
                value.to_owned(),
                step.to_owned(),
            ]
        };
        assert_eq!(of("type"), ["ipv4"], "{file}");
        assert_eq!(of("proto"), ["tcp"], "{file}");
        assert_eq!(of("tcp flag clr"), ["all"], "{file}");
        assert_eq!(of("tcp flag set"), [flag], "{file}");
        assert_eq!(of("dst ip"), fixed(&setting("vip"), "0.0.0.0"), "{file}");
        assert_eq!(
            of("dst port"),
            fixed(&setting("service_port"), "0"),
            "{file}"
        );
        assert_eq!(
            of("dst mac"),
            fixed(&setting("director_mac"), "00:00:00:00:00:00"),
            "{file}"
        );
        assert_eq!(
            of("src mac"),
            fixed(&setting("gateway_mac"), "00:00:00:00:00:00"),
            "{file}"
        );
        assert_eq!(of("size")[..2], ["64", "64"], "{file}");

        let addresses = of("src ip");
        let [start, least, greatest, step] = &addresses[..] else {
            panic!("{file}: {addresses:?}")
        };
        assert_eq!((start, step.as_str()), (least, "0.0.0.1"), "{file}");
        let (least, greatest) = (client_number(least), client_number(greatest));
        let ports: Vec<u32> = of("src port")
            .iter()
            .map(|word| word.parse().unwrap())
            .collect();
        let [first, lowest, highest, 1] = ports[..] else {
            panic!("{file}: {ports:?}")
        };
        assert_eq!(first, lowest, "{file}");
        assert!(
            (1024..=65_535).contains(&lowest) && highest <= 65_535,
            "{file}"
        );
        let (addresses, ports) = (greatest - least + 1, highest - lowest + 1);
        if flag == "ack" {
            // The same flows with each `start`, as many as there are frames.
            assert_eq!((addresses, addresses % ports), (FRAMES, 0), "{file}");
        } else {
            // Every address with every port.
            assert_eq!((addresses, ports % 2), (CLIENTS.1, 1), "{file}");
        }
    }
    let open = text("open.pkt");
    assert!(open.contains(&format!("set 0 count {}\n", 2 * FRAMES)));
    let flags: Vec<&str> = open
        .lines()
        .filter(|line| line.contains("flag set"))
        .collect();
    assert_eq!(
        flags,
        ["range 0 tcp flag set syn", "range 0 tcp flag set ack"]
    );
}

#[test]
fn the_sweep_has_the_sizes_of_rfc_2544() {
    let lines = commands("sweep.pkt");
    let sizes: Vec<&str> = lines
        .iter()
        .filter_map(|line| line.strip_prefix("range 0 size start "))
        .collect();
    assert_eq!(sizes, SIZES.map(|size| size.to_string()));
    assert_eq!(
        lines.iter().filter(|line| *line == "start 0").count(),
        SIZES.len()
    );
    assert_eq!(
        lines.iter().filter(|line| *line == "stop 0").count(),
        SIZES.len()
    );
}

#[test]
fn imix_is_seven_to_four_to_one() {
    let mut sizes: BTreeMap<u32, u32> = BTreeMap::new();
    let mut flows = BTreeSet::new();
    let lines = commands("imix.pkt");
    let frames = lines.iter().filter(|line| line.starts_with("sequence "));
    for (number, line) in frames.enumerate() {
        let words: Vec<&str> = line.split(' ').collect();
        let [
            _,
            slot,
            "0",
            "dst",
            to_mac,
            "src",
            from_mac,
            "dst",
            to,
            "src",
            from,
            "sport",
            port,
            "dport",
            service_port,
            "ipv4",
            "udp",
            "vlan",
            "1",
            "size",
            size,
        ] = words[..]
        else {
            panic!("{line}");
        };
        assert_eq!(slot, number.to_string());
        assert_eq!(
            (to_mac, from_mac),
            (&*setting("director_mac"), &*setting("gateway_mac"))
        );
        assert_eq!(
            (to, service_port),
            (&*setting("vip"), &*setting("service_port"))
        );
        let address = from.strip_suffix("/15").unwrap();
        client_number(address);
        assert!(
            flows.insert((address.to_owned(), port.to_owned())),
            "{line} is there twice"
        );
        *sizes.entry(size.parse().unwrap()).or_default() += 1;
    }
    assert_eq!(sizes, BTreeMap::from([(64, 7), (570, 4), (1518, 1)]));
    assert!(lines.contains(&"set 0 seq_cnt 12".to_owned()));
    // Bursts are of whole mixes.
    let burst = lines
        .iter()
        .find_map(|line| line.strip_prefix("set 0 burst "))
        .unwrap();
    assert_eq!(burst.parse::<u32>().unwrap() % 12, 0);
}

#[test]
fn the_documentation_names_the_addresses_of_the_script() {
    let readme = text("README.md");
    for name in [
        "vip",
        "service_port",
        "server_port",
        "director_clients",
        "director_servers",
        "gateway",
    ] {
        assert!(
            readme.contains(&setting(name)),
            "README.md lacks {name}, {}",
            setting(name)
        );
    }
    for name in ["director_mac", "gateway_mac", "servers_mac"] {
        assert!(
            readme.contains(&setting(name)),
            "README.md lacks {name}, {}",
            setting(name)
        );
    }
    let servers = setting("servers");
    for server in servers.trim_matches(['(', ')']).split(' ') {
        assert!(readme.contains(server), "README.md lacks {server}");
    }
    assert!(readme.contains("198.18.0.0/15"));
}

/// Its number among the clients.
fn client_number(address: &str) -> u32 {
    let address: Ipv4Addr = address.parse().unwrap();
    let number = u32::from(address).wrapping_sub(u32::from(CLIENTS.0));
    assert!(number < CLIENTS.1, "{address} is no client's");
    number
}

/// What a command file says of ranges: `src ip` and its four values, and so on.
fn range_of(file: &str) -> BTreeMap<String, Vec<String>> {
    let mut range = BTreeMap::new();
    for line in commands(file) {
        let Some(rest) = line.strip_prefix("range 0 ") else {
            continue;
        };
        let words: Vec<&str> = rest.split(' ').collect();
        let key_words = match words[0] {
            "tcp" => 3,
            "src" | "dst" => 2,
            _ => 1,
        };
        let values = words[key_words..]
            .iter()
            .map(|word| (*word).to_owned())
            .collect();
        let known = range.insert(words[..key_words].join(" "), values);
        assert!(known.is_none(), "{file} says twice: {line}");
    }
    range
}

/// Lines of a command file but for comments.
fn commands(file: &str) -> Vec<String> {
    let text = text(file);
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.map(str::to_owned).collect()
}

fn command_files() -> BTreeSet<String> {
    let entries = fs::read_dir(folder()).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.ends_with(".pkt")).collect()
}

/// Value of a variable at the head of the script.
fn setting(name: &str) -> String {
    let script = fs::read_to_string(top().join("scripts/bench-pktgen")).unwrap();
    let value = script
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    let value = value.unwrap_or_else(|| panic!("scripts/bench-pktgen has no {name}"));
    let (value, _) = value.split_once(" #").unwrap_or((value, ""));
    value.to_owned()
}

fn text(file: &str) -> String {
    let path = folder().join(file);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn run(words: &[&str]) -> Output {
    script().args(words).output().unwrap()
}

fn script() -> Command {
    let mut command = Command::new(top().join("scripts/bench-pktgen"));
    command.env_remove("PKTGEN");
    command
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn folder() -> PathBuf {
    top().join("bench/pktgen")
}

fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_owned()
}
