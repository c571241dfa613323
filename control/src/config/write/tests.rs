//! What is written is read back, comments stay, and a file that cannot be kept is left alone.

use proptest::prelude::*;

use super::*;
use crate::config::any_configuration::configuration;
use crate::config::validate::parse;

fn read(text: &str) -> Configuration {
    match parse("written.toml", text) {
        Ok(config) => config.configuration().clone(),
        Err(problems) => panic!("{problems}\nin\n{text}"),
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(configuration in configuration()) {
        prop_assert_eq!(read(&to_text(&configuration)), configuration);
    }

    #[test]
    fn what_is_written_over_another_is_read_back(old in configuration(), new in configuration()) {
        let text = merge(&to_text(&old), &new).unwrap();
        prop_assert_eq!(read(&text), new);
    }

    #[test]
    fn writing_twice_is_writing_once(configuration in configuration()) {
        let once = to_text(&configuration);
        prop_assert_eq!(merge(&once, &configuration).unwrap(), once);
    }
}

const BY_HAND: &str = r#"# The shop's director.
[dataplane]
cores = [1, 2]     # the others are for BIRD

# The shop.
[[service]]
protocol = "tcp"
address = "198.51.100.1:80"   # announced by BIRD

# The old machine, slow.
[[service.server]]
address = "203.0.113.11"
method = "nat"
weight = 1         # half of the other

[[service.server]]
address = "203.0.113.12"
method = "nat"
weight = 2

[control]
socket_group = "pollux"
# The end.
"#;

#[test]
fn a_file_by_hand_keeps_everything_that_did_not_change() {
    let mut configuration = read(BY_HAND);
    configuration.services[0].destinations[1].weight = 0_u64.try_into().unwrap();
    let text = merge(BY_HAND, &configuration).unwrap();
    for kept in [
        "# The shop's director.\n[dataplane]\ncores = [1, 2]     # the others are for BIRD\n",
        "# The shop.\n[[service]]\nprotocol = \"tcp\"\naddress = \"198.51.100.1:80\"   # announced by BIRD\n",
        "# The old machine, slow.\n[[service.server]]\naddress = \"203.0.113.11\"\nmethod = \"nat\"\n",
        "weight = 0         # half of the other\n",
        "[control]\nsocket_group = \"pollux\"\n",
        "# The end.\n",
    ] {
        assert!(text.contains(kept), "{kept}is not in\n{text}");
    }
    assert_eq!(read(&text), configuration);
    assert_eq!(
        parse("", &text).unwrap().dataplane().cores,
        Some(vec![1, 2])
    );
}

#[test]
fn flags_that_are_there_stay_as_they_are_written() {
    let by_hand = BY_HAND.replace(
        "# announced by BIRD\n",
        "# announced by BIRD\nscheduler = \"mh\"\nscheduler_flags = [ # see the manual\n  \"mh-port\", \"flag-1\" ]\n",
    );
    let mut configuration = read(&by_hand);
    configuration.services[0].destinations.clear();
    let text = merge(&by_hand, &configuration).unwrap();
    assert!(
        text.contains("[ # see the manual\n  \"mh-port\", \"flag-1\" ]"),
        "{text}"
    );
    configuration.services[0].service.scheduler_flags = "mh-bounded=25".parse().unwrap();
    let text = merge(&text, &configuration).unwrap();
    assert!(
        text.contains("scheduler_flags = [\"mh-bounded=25\"]\n"),
        "{text}"
    );
    configuration.services[0].service.scheduler_flags = "".parse().unwrap();
    let text = merge(&text, &configuration).unwrap();
    assert!(!text.contains("scheduler_flags"), "{text}");
    assert_eq!(read(&text), configuration);
}

#[test]
fn timeouts_are_written_when_there_are_any_and_stay_as_they_were_written() {
    let line = "timeouts = { tcp_fin = 10, tcp = 60 } # the firewall's";
    let by_hand = BY_HAND.replacen(
        "[[service.server]]",
        &format!("{line}\n[[service.server]]"),
        1,
    );
    let mut configuration = read(&by_hand);
    let timeouts = configuration.services[0].service.timeouts;
    assert_eq!(timeouts.to_string(), "tcp 60 tcp_fin 10");
    let text = merge(&by_hand, &configuration).unwrap();
    assert!(text.contains(line), "{text}");

    configuration.services[0].service.timeouts.tcp_s = Some(90);
    let text = merge(&by_hand, &configuration).unwrap();
    assert!(
        text.contains("timeouts = { tcp = 90, tcp_fin = 10 }"),
        "{text}"
    );
    assert_eq!(read(&text), configuration);

    configuration.services[0].service.timeouts = pollux_api::ServiceTimeouts::default();
    let text = merge(&text, &configuration).unwrap();
    assert!(!text.contains("timeouts"), "{text}");
    assert_eq!(read(&text), configuration);
}

#[test]
fn a_tunnel_goes_with_its_method_and_comments_stay() {
    let by_hand = BY_HAND.replacen(
        "method = \"nat\"\nweight = 1 ",
        "method = \"tunnel\"\ntunnel_type = \"gue\" # the kernel's fou\ntunnel_port = 5555\ntunnel_checksum = \"csum\"\nweight = 1 ",
        1,
    );
    let mut configuration = read(&by_hand);
    let destination = &mut configuration.services[0].destinations[1];
    assert_eq!(destination.tunnel.to_string(), "gue:5555:+c");
    destination.tunnel.port = std::num::NonZeroU16::new(6080);
    let text = merge(&by_hand, &configuration).unwrap();
    let kept = "tunnel_type = \"gue\" # the kernel's fou\ntunnel_port = 6080\ntunnel_checksum = \"csum\"\n";
    assert!(text.contains(kept), "{text}");

    let destination = &mut configuration.services[0].destinations[1];
    (destination.method, destination.tunnel) = (ForwardingMethod::Nat, Tunnel::default());
    let text = merge(&text, &configuration).unwrap();
    assert!(!text.contains("tunnel_"), "{text}");
    assert_eq!(read(&text), configuration);

    let explicit = by_hand.replace(
        "tunnel_type = \"gue\" # the kernel's fou\ntunnel_port = 5555\ntunnel_checksum = \"csum\"\n",
        "tunnel_type = \"ipip\" # the kernel's tunl0\n",
    );
    assert_eq!(
        merge(&explicit, &read(&explicit))
            .unwrap()
            .matches("ipip")
            .count(),
        1
    );
}

#[test]
fn tables_in_one_line_are_understood_too() {
    let text = r#"service = [{ protocol = "tcp", address = "198.51.100.1:80", server = [{ address = "203.0.113.11" }] }]"#;
    let configuration = read(text);
    assert_eq!(configuration.services[0].destinations.len(), 1);
    assert_eq!(read(&merge(text, &configuration).unwrap()), configuration);
}

#[test]
fn saving_replaces_the_file_and_nothing_beside_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("pollux.toml");
    fs::write(&path, BY_HAND).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    let link = directory.path().join("link.toml");
    std::os::unix::fs::symlink(&path, &link).unwrap();

    save(&link, &Configuration::default()).unwrap();
    let text = fs::read_to_string(&path).unwrap();
    assert!(
        text.contains("[dataplane]") && !text.contains("[[service"),
        "{text}"
    );
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o640);
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2);
}

#[test]
fn a_file_that_cannot_be_kept_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("pollux.toml");
    fs::write(&path, "[broken").unwrap();
    let error = save(&path, &Configuration::default()).unwrap_err();
    assert!(error.to_string().contains("pollux check"), "{error}");
    assert_eq!(fs::read_to_string(&path).unwrap(), "[broken");

    let error = save(
        &directory.path().join("no/pollux.toml"),
        &Configuration::default(),
    );
    let mend = format!(
        "make its folder first: `mkdir -p {}/no`",
        directory.path().display()
    );
    assert!(error.unwrap_err().to_string().ends_with(&mend));
}
