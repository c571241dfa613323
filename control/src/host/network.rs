//! Addresses, routes and neighbours of the kernel, as `ip -json` prints them.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::Deserialize;

use super::Root;

/// An interface with its addresses.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Interface {
    /// Its name.
    #[serde(rename = "ifname")]
    pub name: String,
    /// `UP`, `LOWER_UP`, ...
    #[serde(default)]
    pub flags: Vec<String>,
    /// Its addresses.
    #[serde(default, rename = "addr_info")]
    pub addresses: Vec<Address>,
}

/// An address of an interface.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Address {
    /// The address; none on odd links.
    #[serde(default)]
    pub local: Option<IpAddr>,
    /// Length of its network's prefix, bits.
    #[serde(default, rename = "prefixlen")]
    pub prefix_length: u8,
}

/// The way to an address.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Route {
    /// `local` for addresses of this machine; ways to others have no word here.
    #[serde(default, rename = "type")]
    pub kind: Option<String>,
    /// Where to.
    #[serde(default, rename = "dst")]
    pub destination: Option<IpAddr>,
    /// The next hop, if it is not the address itself.
    #[serde(default)]
    pub gateway: Option<IpAddr>,
    /// The address of this machine that it would send from.
    #[serde(default, rename = "prefsrc")]
    pub source: Option<IpAddr>,
    /// The interface.
    #[serde(default, rename = "dev")]
    pub interface: Option<String>,
}

/// What the kernel knows of a neighbour.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Neighbour {
    /// Its address.
    #[serde(rename = "dst")]
    pub address: IpAddr,
    /// The interface.
    #[serde(default, rename = "dev")]
    pub interface: Option<String>,
    /// `REACHABLE`, `STALE`, `FAILED`, ...
    #[serde(default)]
    pub state: Vec<String>,
}

impl Interface {
    /// Whether it was brought up.
    pub fn is_up(&self) -> bool {
        self.flags.iter().any(|flag| flag == "UP")
    }
}

impl Neighbour {
    /// Whether it was asked for and did not answer.
    pub fn does_not_answer(&self) -> bool {
        let bad = ["FAILED", "INCOMPLETE"];
        self.state.iter().any(|state| bad.contains(&state.as_str()))
    }
}

/// Every interface; none when `ip` cannot be asked.
pub fn interfaces(root: &Root) -> Option<Vec<Interface>> {
    read(root, &["address"])
}

/// Every neighbour the kernel knows of; none when `ip` cannot be asked.
pub fn neighbours(root: &Root) -> Option<Vec<Neighbour>> {
    read(root, &["neighbour"])
}

/// The way the kernel takes to an address; none when there is none, or `ip` cannot be asked.
pub fn route_to(root: &Root, address: IpAddr) -> Option<Route> {
    let found: Vec<Route> = read(root, &["route", "get", &address.to_string()])?;
    found.into_iter().next()
}

/// The same for many addresses; those without a way are left out. None when `ip` cannot be asked.
pub fn routes_to(root: &Root, addresses: &[IpAddr]) -> Option<BTreeMap<IpAddr, Route>> {
    let lines: Vec<Vec<String>> = addresses
        .iter()
        .map(|address| vec!["route".to_owned(), "get".to_owned(), address.to_string()])
        .collect();
    let text = root.ip_batch(&lines)?;
    let answers = serde_json::Deserializer::from_str(&text).into_iter::<Vec<Route>>();
    let routes = answers.map_while(Result::ok).flatten();
    Some(
        routes
            .filter_map(|route| Some((route.destination?, route)))
            .collect(),
    )
}

fn read<T: for<'a> Deserialize<'a>>(root: &Root, words: &[&str]) -> Option<Vec<T>> {
    let text = root.ip(words)?;
    // `ip -json` prints nothing at all, or an empty object, for nothing.
    if text.trim().is_empty() {
        return Some(Vec::new());
    }
    let values: Vec<serde_json::Value> = serde_json::from_str(&text).ok()?;
    let known = values
        .into_iter()
        .filter(|value| value != &serde_json::json!({}));
    known
        .map(|value| serde_json::from_value(value).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::made_up::MadeUp;
    use super::*;

    #[test]
    fn what_ip_prints_is_read() {
        let machine = MadeUp::new()
            .file(
                "ip/address",
                r#"[{"ifindex":2,"ifname":"wan","flags":["BROADCAST","UP"],"addr_info":[
                    {"family":"inet","local":"198.51.100.1","prefixlen":32}, {}]},{},
                   {"ifname":"lan","flags":[]}]"#,
            )
            .file(
                "ip/neighbour",
                r#"[{"dst":"fd00::1","dev":"wan","state":["FAILED"]},
                   {"dst":"203.0.113.11","dev":"lan","lladdr":"02:00:00:00:00:01","state":["STALE"]}]"#,
            )
            .file(
                "ip/route-get-203.0.113.11",
                r#"[{"dst":"203.0.113.11","gateway":"192.0.2.1","dev":"lan","flags":[]}]"#,
            );
        let root = machine.root();
        let interfaces = interfaces(&root).unwrap();
        assert_eq!(interfaces.len(), 2);
        assert_eq!(
            interfaces[0].addresses[0].local,
            Some("198.51.100.1".parse().unwrap())
        );
        assert!(interfaces[0].is_up() && !interfaces[1].is_up());
        let neighbours = neighbours(&root).unwrap();
        assert!(neighbours[0].does_not_answer() && !neighbours[1].does_not_answer());
        let route = route_to(&root, "203.0.113.11".parse().unwrap()).unwrap();
        assert_eq!(route.gateway, Some("192.0.2.1".parse().unwrap()));
        assert_eq!(route_to(&root, "203.0.113.12".parse().unwrap()), None);
        let both = ["203.0.113.12", "203.0.113.11"].map(|address| address.parse().unwrap());
        let routes = routes_to(&root, &both).unwrap();
        assert_eq!(routes.into_iter().collect::<Vec<_>>(), [(both[1], route)]);
    }

    #[test]
    fn this_machine_answers() {
        let this = Root::default();
        assert!(
            interfaces(&this)
                .unwrap()
                .iter()
                .any(|known| known.name == "lo")
        );
        let home = ["127.0.0.1", "127.0.0.2"].map(|address| address.parse().unwrap());
        let routes = routes_to(&this, &home).unwrap();
        assert_eq!(routes.len(), 2, "{routes:?}");
        assert!(
            routes
                .values()
                .all(|route| route.kind.as_deref() == Some("local")),
            "{routes:?}"
        );
        assert_eq!(route_to(&this, home[0]).as_ref(), routes.get(&home[0]));
    }

    #[test]
    fn no_ip_is_not_the_same_as_nothing_there() {
        assert_eq!(neighbours(&MadeUp::new().root()), None);
        let empty = MadeUp::new().file("ip/neighbour", "");
        assert_eq!(neighbours(&empty.root()), Some(Vec::new()));
    }
}
