//! Programs that check a server are told its address by their arguments, in keepalived, and each server has its own. Here
//! they are told by their environment, so that one check is right for all servers of a service.

use std::net::IpAddr;

use super::checker::{Checker, Kind};
use super::real_server::RealServer;

/// The checkers of a server, with its own address and port in their programs' arguments as a shell takes them from the
/// environment.
pub fn of_any_server(server: &RealServer) -> Vec<Checker> {
    let checkers = server.checkers.iter().cloned();
    let of_any = checkers.map(|mut checker| {
        if let Kind::Misc { command, .. } = &mut checker.kind {
            *command = command_of_any(command, server.address, server.port);
        }
        checker
    });
    of_any.collect()
}

fn command_of_any(command: &[String], address: IpAddr, port: Option<u16>) -> Vec<String> {
    let port = port.map(|port| port.to_string());
    let mut names_it = false;
    let words = command.iter().map(|word| {
        let quoted = double_quoted(word);
        let mut of_any = replace_address(&quoted, address);
        if let Some(port) = &port {
            of_any = of_any.replace(
                &format!("$POLLUX_SERVER_ADDRESS:{port}"),
                "$POLLUX_SERVER_ADDRESS:$POLLUX_SERVER_PORT",
            );
            if word == port {
                of_any = "$POLLUX_SERVER_PORT".to_owned();
            }
        }
        names_it |= of_any != quoted;
        format!("\"{of_any}\"")
    });
    let line = words.collect::<Vec<_>>().join(" ");
    if names_it {
        vec![
            "/bin/sh".to_owned(),
            "-c".to_owned(),
            format!("exec {line}"),
        ]
    } else {
        command.to_owned()
    }
}

/// What a shell takes as it is between double quotes.
fn double_quoted(word: &str) -> String {
    let letters = word.chars().flat_map(|letter| {
        let escape = matches!(letter, '\\' | '"' | '$' | '`').then_some('\\');
        escape.into_iter().chain([letter])
    });
    letters.collect()
}

/// 203.0.113.1 is not in 203.0.113.11.
fn replace_address(word: &str, address: IpAddr) -> String {
    let own = address.to_string();
    let goes_on = |letter: char| {
        letter.is_ascii_alphanumeric() || letter == '.' || (address.is_ipv6() && letter == ':')
    };
    let mut replaced = String::new();
    let mut rest = word;
    while let Some((before, after)) = rest.split_once(own.as_str()) {
        let is_whole = !before.ends_with(goes_on) && !after.starts_with(goes_on);
        replaced.push_str(before);
        replaced.push_str(if is_whole {
            "$POLLUX_SERVER_ADDRESS"
        } else {
            &own
        });
        rest = after;
    }
    replaced + rest
}
