//! The configuration as `ipvsadm -Sn` saves it, and the lines of services in listings: compared as settings, not as text.

use std::collections::BTreeSet;

use pollux_engine::service::{Persistence, ServiceIdentity, ServiceSpec};

use super::administrator::Administrator;
use super::command::{Change, Command, ServerOptions, ServiceOptions, parse};

/// What adds these services and their servers again. Thresholds are not saved.
pub fn changes(services: &[ServiceSpec]) -> Vec<Change> {
    let added = services.iter().flat_map(|service| {
        let servers = service.destinations.iter().rev().map(|server| {
            let options = ServerOptions {
                address: (server.address, server.port).into(),
                method: server.method,
                encapsulation: server.encapsulation,
                weight: server.weight,
                upper_threshold: 0,
                lower_threshold: 0,
            };
            Change::AddServer(service.identity, options)
        });
        std::iter::once(added_service(service)).chain(servers)
    });
    added.collect()
}

fn added_service(service: &ServiceSpec) -> Change {
    let options = ServiceOptions {
        scheduler: service.scheduler,
        persistence: service.persistence,
        one_packet: service.one_packet,
    };
    Change::AddService(service.identity, options)
}

/// Compares what `ipvsadm -Sn` printed.
///
/// # Errors
/// The lines that only one of the two has.
pub fn compare(printed: &str, administrator: &Administrator) -> Result<(), String> {
    let theirs = printed.lines().map(|line| read(&format!("ipvsadm {line}")));
    let theirs = theirs.collect::<Result<BTreeSet<_>, _>>()?;
    let ours = changes(administrator.services());
    agree(&theirs, &ours.iter().map(told).collect())
}

/// Compares the lines of services in what `ipvsadm -Ln` printed.
///
/// # Errors
/// The lines that only one of the two has.
pub fn compare_services(
    printed: &str,
    administrator: &Administrator,
    of: Option<ServiceIdentity>,
) -> Result<(), String> {
    let theirs = printed.lines().filter_map(service_command);
    let theirs = theirs
        .map(|line| read(&line))
        .collect::<Result<BTreeSet<_>, _>>()?;
    let services = administrator.services().iter();
    let ours = services
        .filter(|service| of.is_none_or(|of| of == service.identity))
        .map(|service| told(&added_service(service)));
    agree(&theirs, &ours.collect())
}

fn agree(theirs: &BTreeSet<String>, ours: &BTreeSet<String>) -> Result<(), String> {
    if theirs == ours {
        return Ok(());
    }
    let only = |whose, those: &BTreeSet<String>, others: &BTreeSet<String>| {
        let lines = those.difference(others);
        lines
            .map(|line| format!("{whose} {line}\n"))
            .collect::<String>()
    };
    let (kernels, engines) = (
        only("- kernel", theirs, ours),
        only("+ engine", ours, theirs),
    );
    Err(format!("{kernels}{engines}"))
}

fn read(line: &str) -> Result<String, String> {
    match parse(line) {
        Ok(Command::Change(change)) => Ok(told(&change)),
        other => Err(format!("{line}: {other:?}")),
    }
}

/// Masks that mask nothing are not printed.
fn told(change: &Change) -> String {
    let mut change = change.clone();
    if let Change::AddService(service, options) = &mut change {
        let whole = if service.family() == pollux_engine::connection::Family::V4 {
            u128::from(u32::MAX)
        } else {
            u128::MAX
        };
        options.persistence = options.persistence.map(|persistence| Persistence {
            mask: persistence.mask & whole,
            ..persistence
        });
    }
    format!("{change:?}")
}

/// `UDP  192.0.2.100:53 sh (sh-port) persistent 120 mask 255.255.255.0 pe sip ops` as the command that adds it.
fn service_command(line: &str) -> Option<String> {
    let mut words = line.split_whitespace();
    let option = match words.next()? {
        "TCP" => "-t",
        "UDP" => "-u",
        "SCTP" => "--sctp-service",
        "FWM" => "-f",
        _ => return None,
    };
    let mut command = format!("ipvsadm -A {option} {}", words.next()?);
    let mut scheduler = words.next()?;
    if scheduler == "IPv6" {
        command.push_str(" -6");
        scheduler = words.next()?;
    }
    command.push_str(&format!(" -s {scheduler}"));
    while let Some(word) = words.next() {
        let told = match word {
            "persistent" => format!(" -p {}", words.next()?),
            "mask" => format!(" -M {}", words.next()?),
            "pe" => format!(" --pe {}", words.next()?),
            "ops" => " -o".to_owned(),
            flags => format!(" -b {}", flags.trim_matches(['(', ')'])),
        };
        command.push_str(&told);
    }
    Some(command)
}

#[cfg(test)]
mod tests {
    use super::super::director::Director;
    use super::*;

    const SERVICE: &str = "ipvsadm -A -u 192.0.2.100:53 -s sh -b sh-port -p 120 -M 255.255.255.0";

    #[test]
    fn settings_are_compared_not_texts() {
        let director = Director::configured(&[
            SERVICE,
            "ipvsadm -a -u 192.0.2.100:53 -r 10.1.0.11:53 -m -w 2",
        ]);
        let saved = "-A -u 192.0.2.100:53 -s sh -p 120 -M 255.255.255.0 -b sh-port\n\
                     -a -u 192.0.2.100:53 -r 10.1.0.11:53 -m -w 2\n";
        assert_eq!(compare(saved, &director.administrator), Ok(()));
        assert!(compare(&saved.replace("-w 2", "-w 3"), &director.administrator).is_err());
        assert!(compare("", &director.administrator).is_err());
        let listed = "UDP  192.0.2.100:53 sh (sh-port) persistent 120 mask 255.255.255.0\n";
        assert_eq!(
            compare_services(listed, &director.administrator, None),
            Ok(())
        );
        let other = listed.replace("120", "60");
        assert!(compare_services(&other, &director.administrator, None).is_err());
    }
}
