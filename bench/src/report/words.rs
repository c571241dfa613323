//! Words and numbers as people write them.

use crate::measurement::{Case, Family, Method, Operation};
use crate::quantity::Quantity;

/// What packets do.
pub fn case(case: Case) -> &'static str {
    match case {
        Case::Hit => "hit",
        Case::Reply => "reply",
        Case::New => "new connection",
        Case::SynFlood => "SYN flood",
    }
}

/// How packets reach servers.
pub fn method(method: Method) -> &'static str {
    match method {
        Method::Nat => "NAT",
        Method::Tunnel => "tunnel",
        Method::Direct => "direct",
    }
}

/// IP version.
pub fn family(family: Family) -> &'static str {
    match family {
        Family::Ipv4 => "IPv4",
        Family::Ipv6 => "IPv6",
    }
}

/// What is done to a table.
pub fn operation(operation: Operation) -> &'static str {
    match operation {
        Operation::Create => "create",
        Operation::Lookup => "look up",
        Operation::Expire => "expire",
    }
}

/// A count: `10 k`, `1 M`.
pub fn count(count: u32) -> String {
    let text = Quantity(count).to_string();
    match text.strip_suffix(['k', 'M']) {
        Some(digits) => format!("{digits} {}", text.trim_start_matches(digits)),
        None => text,
    }
}

/// So many of something: `1 worker`, `2 workers`.
pub fn plural(count: u32, what: &str) -> String {
    let ending = if count == 1 { "" } else { "s" };
    format!("{count} {what}{ending}")
}

/// With the first letter large, for titles.
pub fn capital(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters
        .next()
        .map(|letter| letter.to_uppercase().to_string());
    first.unwrap_or_default() + letters.as_str()
}

/// A part of one, in percent without decimals.
pub fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_have_their_unit_apart() {
        assert_eq!([10_000, 2_000_000, 123].map(count), ["10 k", "2 M", "123"]);
        assert_eq!(
            plural(1, "worker") + ", " + &plural(2, "worker"),
            "1 worker, 2 workers"
        );
        assert_eq!(capital("new connection"), "New connection");
    }
}
