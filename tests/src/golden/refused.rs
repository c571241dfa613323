//! What Pollux refused of a trace's commands, and the trace's listings without it: so a listing is compared as far as
//! features go, and whole once all are there.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// What was refused so far.
#[derive(Debug, Default)]
pub struct Refused {
    /// Services that were not added, as listings name them: `TCP 192.0.2.100:80`, `FWM 7`.
    services: BTreeSet<String>,
    /// Services whose settings were not changed.
    edited: BTreeSet<String>,
}

impl Refused {
    /// A command was refused.
    pub fn note(&mut self, command: &str) {
        let Some(service) = service_of_command(command) else {
            return;
        };
        if command.starts_with("ipvsadm -A ") {
            self.services.insert(service);
        } else if command.starts_with("ipvsadm -E ") {
            self.edited.insert(service);
        }
    }

    /// Whether a command is about a service that was not added.
    pub fn is_about(&self, command: &str) -> bool {
        service_of_command(command).is_some_and(|service| self.services.contains(&service))
    }

    /// A listing without what was refused.
    pub fn without(&self, listing: &str) -> String {
        let mut kept = String::new();
        let mut within_refused = false;
        for line in listing.lines() {
            let service = service_of_line(line);
            if let Some(service) = &service {
                within_refused = self.services.contains(service);
            }
            if within_refused {
                continue;
            }
            let stale = service.is_some_and(|service| self.edited.contains(&service));
            // What an edit adds to a service's line, so far.
            let end = line.find(" persistent ").filter(|_| stale);
            kept.push_str(&line[..end.unwrap_or(line.len())]);
            kept.push('\n');
        }
        kept
    }
}

/// `ipvsadm … -t 192.0.2.100:80 …`, and the lines of `-S`.
fn service_of_command(command: &str) -> Option<String> {
    let words: Vec<&str> = command.split_whitespace().collect();
    let named = |option: &str, protocol: &str| {
        let at = words.iter().position(|word| *word == option)?;
        Some(format!("{protocol} {}", words.get(at + 1)?))
    };
    named("-t", "TCP")
        .or_else(|| named("-u", "UDP"))
        .or_else(|| named("--sctp-service", "SCTP"))
        .or_else(|| named("-f", "FWM"))
}

/// The service that a line of a listing begins, or belongs to by itself. Files of `/proc` have hexadecimal digits.
fn service_of_line(line: &str) -> Option<String> {
    let words: Vec<&str> = line.split_whitespace().collect();
    match *words {
        ["-A" | "-a", ..] => service_of_command(line),
        // A connection: protocol, expiry, state, source, virtual, destination.
        [protocol, expiry, _, _, virtual_address, _]
            if is_protocol(protocol) && is_expiry(expiry) =>
        {
            Some(format!("{protocol} {virtual_address}"))
        }
        // The same in /proc: protocol, source, port, virtual, port, destination, port, state, expiry.
        [protocol, _, _, address, port, _, _, _, _] if is_protocol(protocol) => {
            let address = hexadecimal(address)?;
            let port = u16::from_str_radix(port, 16).ok()?;
            Some(format!("{protocol} {}", SocketAddr::new(address, port)))
        }
        ["FWM", mark, ..] if mark.len() == 8 => {
            let mark = u32::from_str_radix(mark, 16).ok()?;
            Some(format!("FWM {mark}"))
        }
        [protocol, service, ..] if is_protocol(protocol) => {
            let plain = || format!("{protocol} {service}");
            let decoded = hexadecimal_endpoint(service);
            Some(decoded.map_or_else(plain, |service| format!("{protocol} {service}")))
        }
        _ => None,
    }
}

/// `C0000264:0051`, `[2001:0db8:0000:0000:0000:0000:0000:0100]:0050`.
fn hexadecimal_endpoint(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.rsplit_once(':')?;
    let address = address.trim_start_matches('[').trim_end_matches(']');
    if address.len() != 8 && address.len() != 39 {
        return None;
    }
    let port = u16::from_str_radix(port, 16).ok()?;
    Some(SocketAddr::new(hexadecimal(address)?, port))
}

fn hexadecimal(address: &str) -> Option<IpAddr> {
    if address.contains(':') {
        return address.parse::<Ipv6Addr>().ok().map(IpAddr::V6);
    }
    let bits = u32::from_str_radix(address, 16).ok()?;
    Some(Ipv4Addr::from_bits(bits).into())
}

/// `14:55`, minutes and seconds.
fn is_expiry(word: &str) -> bool {
    word.len() == 5 && word.as_bytes().get(2) == Some(&b':')
}

fn is_protocol(word: &str) -> bool {
    ["TCP", "UDP", "SCTP", "FWM"].contains(&word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listings_lose_refused_services_with_their_servers() {
        let mut refused = Refused::default();
        refused.note("ipvsadm -A -f 7 -s mh -b mh-port");
        refused.note("ipvsadm -A -t 192.0.2.100:81 -s rr -p");
        refused.note("ipvsadm -E -t 192.0.2.100:80 -s wrr -p 77");
        assert!(refused.is_about("ipvsadm -a -f 7 -r 10.1.0.11 -g"));
        assert!(!refused.is_about("ipvsadm -a -t 192.0.2.100:80 -r 10.1.0.11 -g"));
        let listing = "\
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn
TCP  192.0.2.100:80 wrr persistent 77
  -> 10.1.0.11:8080               Masq    1      1          0         
TCP  192.0.2.100:81 rr persistent 360
  -> 10.1.0.11:81                 Route   1      1          0         
FWM  7 mh (mh-port)
  -> 10.1.0.11:0                  Route   1      0          0         
";
        let kept = "\
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn
TCP  192.0.2.100:80 wrr
  -> 10.1.0.11:8080               Masq    1      1          0         
";
        assert_eq!(refused.without(listing), kept);
        let saved =
            "-A -t 192.0.2.100:81 -s rr -p 360\n-a -t 192.0.2.100:81 -r 10.1.0.11:81 -g -w 1\n";
        assert_eq!(refused.without(saved), "");
        let connections = "\
pro expire state       source             virtual            destination
TCP 14:55  ESTABLISHED 198.51.100.7:40002 192.0.2.100:80     10.1.0.12:8080
TCP 05:55  NONE        198.51.100.8:0     192.0.2.100:81     10.1.0.11:81
";
        let in_proc = "\
TCP  C0000264:0050 wlc  
  -> 0A01000D:1F90      Masq    0      0          0         
TCP  C0000264:0051 rr  persistent 36000 FFFFFFFF
  -> 0A01000B:0051      Route   1      1          0         
FWM  00000007 mh 
TCP C6336407 9C42 C0000264 0050 0A01000C 1F90 ESTABLISHED     895
TCP C6336408 0000 C0000264 0051 0A01000B 0051 NONE            355
";
        let listed = refused.without(in_proc);
        let seconds: Vec<&str> = listed
            .lines()
            .filter_map(|line| line.split_whitespace().nth(1))
            .collect();
        assert_eq!(seconds, ["C0000264:0050", "0A01000D:1F90", "C6336407"]);
        let kept: Vec<&str> = connections.lines().take(2).collect();
        assert_eq!(
            refused.without(connections).lines().collect::<Vec<_>>(),
            kept
        );
    }
}
