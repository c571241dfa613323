//! Whatever is read, what is written passes `pollux check`; rules come back as they went; keepalived's own samples are read.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use pollux_api::{ForwardingMethod, ServiceEntry, ServiceId, TunnelChecksum, TunnelType};
use proptest::prelude::*;

use super::*;
use crate::config::any_configuration::unchecked;

struct NoFiles;

impl Files for NoFiles {
    fn matching(&self, _pattern: &str, _from: &str) -> Result<Vec<IncludedFile>, String> {
        Err("no such file".to_owned())
    }
}

fn imported(text: &str, format: Option<Format>) -> Result<Imported, ImportError> {
    let source = Source {
        file: Arc::from("file"),
        text: text.to_owned(),
    };
    import(&[source], format, "main", &NoFiles)
}

fn shown(notes: &[Note]) -> String {
    let lines = notes.iter().map(ToString::to_string);
    lines.collect::<Vec<_>>().join("\n")
}

/// A service as `ipvsadm` 1.31 names it in the rules it saves.
fn name(id: ServiceId) -> String {
    match id {
        ServiceId::Address(service) => {
            let letter = match service.protocol {
                pollux_api::Protocol::Tcp => "-t",
                pollux_api::Protocol::Udp => "-u",
                pollux_api::Protocol::Sctp => "--sctp-service",
            };
            format!("{letter} {}", service.endpoint)
        }
        ServiceId::Fwmark(service) => {
            let family = match service.family {
                pollux_api::Family::Ipv4 => "",
                pollux_api::Family::Ipv6 => " -6",
            };
            format!("-f {}{family}", service.fwmark)
        }
    }
}

/// What `ipvsadm -Sn --nosort` prints of a configuration; `tests/tests/ipvsadm.rs` has the program itself say so.
fn rules(configuration: &Configuration) -> String {
    let mut text = String::new();
    for ServiceEntry {
        service,
        destinations,
    } in &configuration.services
    {
        let name = name(service.id);
        write!(text, "-A {name} -s {}", service.scheduler).unwrap();
        if let Some(persistence) = service.persistence {
            write!(text, " -p {}", persistence.timeout_s).unwrap();
            if let Some(netmask) = persistence.netmask {
                write!(text, " -M {netmask}").unwrap();
            }
        }
        if let Some(engine) = service.persistence_engine {
            write!(text, " --pe {engine}").unwrap();
        }
        if !service.scheduler_flags.is_empty() {
            write!(text, " -b {}", service.scheduler_flags.names().join(",")).unwrap();
        }
        text.push_str(if service.one_packet { " -o\n" } else { "\n" });
        // In the order of adding, as files have it.
        for server in destinations.iter().rev() {
            let method = match server.method {
                ForwardingMethod::Nat => "-m",
                ForwardingMethod::Tunnel => "-i",
                ForwardingMethod::Direct => "-g",
            };
            write!(
                text,
                "-a {name} -r {} {method} -w {}",
                server.id, server.weight
            )
            .unwrap();
            if server.upper_threshold > 0 {
                write!(
                    text,
                    " -x {} -y {}",
                    server.upper_threshold, server.lower_threshold
                )
                .unwrap();
            }
            let tunnel = server.tunnel;
            if server.method == ForwardingMethod::Tunnel {
                write!(text, " --tun-type {}", tunnel.tunnel_type).unwrap();
                if let Some(port) = tunnel.port {
                    write!(text, " --tun-port {port}").unwrap();
                }
                if tunnel.tunnel_type != TunnelType::Ipip
                    || tunnel.checksum != TunnelChecksum::Nocsum
                {
                    write!(text, " --tun-{}", tunnel.checksum).unwrap();
                }
            }
            text.push('\n');
        }
    }
    text
}

/// Words of both formats, in any order: nearly what is meant, which is where parsers break.
fn near_misses() -> impl Strategy<Value = String> {
    let word = prop::sample::select(vec![
        "virtual_server",
        "real_server",
        "198.51.100.1",
        "[2001:db8::1]:80",
        "2001:db8::1",
        "80",
        "0",
        "fwmark",
        "group",
        "g",
        "{",
        "}",
        "\n",
        "\n",
        "lb_algo",
        "rr",
        "mh",
        "mh-port",
        "conhash",
        "lb_kind",
        "NAT",
        "TUN",
        "DR",
        "FNAT",
        "type",
        "gue",
        "port",
        "5555",
        "csum",
        "persistence_timeout",
        "persistence_granularity",
        "255.255.0.0",
        "64",
        "protocol",
        "UDP",
        "weight",
        "-1",
        "3",
        "TCP_CHECK",
        "connect_timeout",
        "connect_port",
        "0.5",
        "delay_loop",
        "HTTP_GET",
        "SSL_GET",
        "url",
        "path",
        "/",
        "a b",
        "digest",
        "ff20ad2481f97b1754ef3e12ecd3a9cc",
        "status_code",
        "200-299",
        "regex",
        "(",
        "MISC_CHECK",
        "misc_path",
        "\"/bin/true x\"",
        "UDP_CHECK",
        "payload",
        "abc",
        "require_reply",
        "DNS_CHECK",
        "name",
        "PING_CHECK",
        "SMTP_CHECK",
        "sorry_server",
        "quorum",
        "7",
        "hysteresis",
        "99999999999",
        "quorum_up",
        "/bin/up",
        "alpha",
        "inhibit_on_failure",
        "retry",
        "ops",
        "uthreshold",
        "lthreshold",
        "virtual_server_group",
        "192.0.2.1-9",
        "192.0.2.0/24",
        "$A=",
        "$A",
        "${A}",
        "~SEQ(A,1,3)",
        "~LST({A,B},{1,2})",
        "@main",
        "@^main",
        "include",
        "x*",
        "'",
        "\"",
        "\\",
        "#",
        "!",
        "-A",
        "-a",
        "-t",
        "-u",
        "-f",
        "-r",
        "-m",
        "-i",
        "-g",
        "-w",
        "-p",
        "-M",
        "-s",
        "-b",
        "-x",
        "-y",
        "-C",
        "-E",
        "-e",
        "-D",
        "-d",
        "--set",
        "--tun-type",
        "--tun-port",
        "--tun-csum",
        "-6",
        "-o",
        "198.51.100.1:80",
        "203.0.113.1:80",
        "ipvsadm",
        "lvs_timeouts",
        "global_defs",
        "tcp",
        "é",
        "\u{0}",
        "\u{202e}",
    ]);
    prop::collection::vec(word, 0..80).prop_map(|words| words.join(" "))
}

proptest! {
    #[test]
    fn rules_come_back_as_they_went(before in unchecked()) {
        // Marks, settings, timeouts of services and daemons are not in rules.
        let mut before = before;
        before.marks.clear();
        before.settings = Default::default();
        before.sync = Default::default();
        for entry in before.services.iter_mut() {
            entry.service.timeouts = Default::default();
        }
        let text = rules(&before);
        if before.services.is_empty() {
            prop_assert!(matches!(imported(&text, None), Err(ImportError::Empty(_))));
            return Ok(());
        }
        let imported = imported(&text, None).unwrap();
        prop_assert_eq!(shown(&imported.notes), "", "{}", text);
        prop_assert_eq!(imported.configuration, before, "{}", text);
    }

    #[test]
    fn what_is_written_passes_check(text in near_misses(), format in prop::sample::select(vec![Format::Ipvsadm, Format::Keepalived])) {
        let imported = imported(&text, Some(format));
        prop_assert!(imported.is_ok(), "{:?}\n{}", imported, text);
    }

    #[test]
    fn nothing_makes_it_panic(text in any::<String>(), format in prop::sample::select(vec![Format::Ipvsadm, Format::Keepalived])) {
        prop_assert!(imported(&text, Some(format)).is_ok());
        let _ = imported(&text, None);
    }
}

#[test]
fn what_is_written_reads_as_what_was_imported() {
    let imported = imported(
        "-A -t 198.51.100.1:80 -s wrr\n-a -t 198.51.100.1:80 -r 203.0.113.1:8080 -m -w 3\n",
        None,
    )
    .unwrap();
    assert_eq!(
        imported.text,
        "# From file, by `pollux import`.\n\n[[service]]\nprotocol = \"tcp\"\naddress = \"198.51.100.1:80\"\nscheduler = \"wrr\"\n\n\
         [[service.server]]\naddress = \"203.0.113.1:8080\"\nmethod = \"nat\"\nweight = 3\n"
    );
    let read = crate::config::validate::parse("imported", &imported.text).unwrap();
    assert_eq!(*read.configuration(), imported.configuration);
}

#[test]
fn a_file_that_is_neither_says_so() {
    let error = imported("[[service]]\n", None).unwrap_err().to_string();
    assert!(
        error.starts_with("file is neither rules of ipvsadm nor a keepalived.conf"),
        "{error}"
    );
    let error = imported("\n", None).unwrap_err().to_string();
    assert!(error.contains("ipvsadm -Sn"), "{error}");
}

/// The documentation of Debian's package keepalived; it is GPL, so it is read where it is and not copied here.
#[test]
fn keepalived_s_own_samples_are_imported() {
    const SAMPLES: &str = "/usr/share/doc/keepalived/samples";
    let entries = fs::read_dir(SAMPLES).unwrap_or_else(|error| {
        panic!("{SAMPLES}: {error}; install the package keepalived with its documentation (dpkg's path-exclude)")
    });
    let mut counted = 0;
    for entry in entries {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if !name.starts_with("keepalived.conf") {
            continue;
        }
        counted += 1;
        let text = fs::read_to_string(&path).unwrap();
        let source = Source {
            file: Arc::from(path.to_str().unwrap()),
            text: text.clone(),
        };
        let imported = import(&[source], None, "main", &DiskFiles)
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        let notes = shown(&imported.notes);
        assert!(!notes.contains("not known here"), "{name}:\n{notes}");
        let blocks = |keyword: &str| {
            let lines = text
                .lines()
                .map(|line| line.split(['#', '!']).next().unwrap_or_default());
            lines
                .filter(|line| line.split_whitespace().next() == Some(keyword))
                .count()
        };
        let (services, servers) = (blocks("virtual_server"), blocks("real_server"));
        let found = &imported.configuration.services;
        if services == 0 {
            assert!(
                found.is_empty() && notes.contains("no virtual_server is in this file"),
                "{name}:\n{notes}"
            );
            continue;
        }
        if name.ends_with("virtual_server_group") {
            assert!(found.len() >= services, "{name}: {found:#?}\n{notes}");
            continue;
        }
        assert_eq!(found.len(), services, "{name}:\n{notes}");
        let found: usize = found.iter().map(|entry| entry.destinations.len()).sum();
        assert_eq!(found, servers, "{name}:\n{notes}");
    }
    assert!(
        counted >= 20,
        "{counted} samples in {}",
        Path::new(SAMPLES).display()
    );
}
