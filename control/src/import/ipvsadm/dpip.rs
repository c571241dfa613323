//! `dpip`, DPVS's `ip`: addresses, routes and neighbours are the kernel's here, on the TAPs, so it is said what to type.

use super::super::draft::Draft;
use super::super::note::Place;

/// Says what takes the place of a command; one that only looks is passed over.
pub fn explain(place: &Place, words: &[String], draft: &mut Draft) {
    let words: Vec<&str> = words
        .iter()
        .map(String::as_str)
        .filter(|word| !word.starts_with('-'))
        .collect();
    let Some((object, rest)) = words.split_first() else {
        return;
    };
    let verb = rest.first().copied().unwrap_or("show");
    if matches!(verb, "show" | "list" | "get" | "test" | "ls") {
        return;
    }
    let text = format!("dpip {}: {}", words.join(" "), instead(object, rest));
    draft.note(place, text);
}

fn instead(object: &str, rest: &[&str]) -> String {
    // What DPVS has beyond ip, with what it is given.
    let mut kept = Vec::new();
    let mut skip = false;
    for word in rest {
        match *word {
            _ if skip => skip = false,
            "sapool" => {}
            "scope" => skip = true,
            word => kept.push(word),
        }
    }
    let rest_of_ip = kept.join(" ");
    match object {
        "addr" if rest.contains(&"sapool") => format!(
            "an address with a pool of local ports is for full NAT; as one of the director, `ip addr {rest_of_ip}`, where the \
             device is a TAP"
        ),
        "addr" | "route" | "neigh" | "rule" => {
            format!("type `ip {object} {rest_of_ip}`, where the device is a TAP")
        }
        "vlan" => "type `ip link add link TAP name NAME type vlan id N`".to_owned(),
        "tunnel" => {
            "the director needs no tunnel devices: a server's method says tunnel, and what wraps its packets".to_owned()
        }
        "link" => "a port's address, MTU and link are set by `ip link`, on its TAP".to_owned(),
        "qsch" | "cls" => "Pollux limits no rates; left out".to_owned(),
        "ipset" => {
            "Pollux has no lists of clients: filter before the director, or on the servers".to_owned()
        }
        "flow" => "Pollux needs no flow rules: any worker takes any packet".to_owned(),
        _ => "it is not known here: left out".to_owned(),
    }
}
