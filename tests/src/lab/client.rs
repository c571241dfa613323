//! What pollux-client does: curl, dig, ping, and a look at whom it hears from.

use std::collections::BTreeMap;

use crate::lab::Lab;
use crate::lab::namespace::{run, try_run};
use crate::lab::servers::endpoint;

/// SHA-256 of the page `/100M` of every server.
pub const DOWNLOAD_SHA256: &str =
    "a9143606a05b197f2ef576a6dfc3d4daef37bfc9cbcd7ce5008e177cec227e9e";

/// Counts every packet from a real server's own address; the client of a virtual service must see none.
const WATCH_RULES: &str = "\
add table inet watch
delete table inet watch
add table inet watch
add chain inet watch input { type filter hook prerouting priority -300; }
add rule inet watch input ip saddr 203.0.113.0/24 counter
add rule inet watch input ip6 saddr 2001:db8:2::/64 counter";

impl Lab {
    /// The page at an address of the lab, `/` being the server's name.
    pub fn curl(&self, address: &str, path: &str) -> String {
        let line = format!("curl -sS --fail --max-time 20 {}", url(address, path));
        run("client", &line).trim().to_owned()
    }

    /// Gives the client one more address.
    pub fn add_client(&self, address: &str) {
        let (length, flags) = if address.contains(':') {
            (64, " nodad")
        } else {
            (24, "")
        };
        run(
            "client",
            &format!("ip addr add {address}/{length} dev lan0{flags}"),
        );
    }

    /// The page of a URL as one of the client's addresses gets it. A certificate of the lab's own is good enough.
    pub fn curl_from(&self, client: &str, url: &str) -> String {
        let line = format!("curl -sSk --fail --max-time 5 --interface {client} {url}");
        run("client", &line).trim().to_owned()
    }

    /// Makes this many connections, one request each, and counts the answers by server.
    pub fn curl_many(&self, address: &str, connections: usize) -> BTreeMap<String, usize> {
        let url = url(address, &format!("/?[1-{connections}]"));
        let mut counts = BTreeMap::new();
        let line = format!("curl -sS --fail --max-time 20 -H Connection:close {url}");
        for name in run("client", &line).lines() {
            *counts.entry(name.to_owned()).or_default() += 1;
        }
        counts
    }

    /// Whether a page can be had within a second.
    pub fn curl_succeeds(&self, address: &str) -> bool {
        try_run(
            "client",
            &format!("curl -sS --fail --max-time 1 {}", url(address, "/")),
        )
        .status
        .success()
    }

    /// A connection to a port of this service's address that no server serves; nothing comes of it.
    pub fn try_nowhere(&self, address: &str, port: u16) {
        let line = format!(
            "curl -sS --max-time 0.2 http://{}/",
            endpoint(address, port)
        );
        try_run("client", &line);
    }

    /// The name of the server that answers a DNS question. One packet is sent, once.
    pub fn dig(&self, address: &str) -> String {
        dig(address, "")
    }

    /// As [`Self::dig`], from one of the client's addresses.
    pub fn dig_from(&self, client: &str, address: &str) -> String {
        dig(address, &format!("-b {client}"))
    }

    /// One echo request must be answered.
    pub fn ping(&self, address: &str) {
        run("client", &format!("ping -n -c 1 -W 2 {address}"));
    }

    /// Downloads 100 MiB and compares every byte.
    pub fn download(&self, address: &str) {
        let line = format!(
            "curl -sS --fail --max-time 60 {} | sha256sum",
            url(address, "/100M")
        );
        let output = crate::lab::namespace::command("client", "bash")
            .args(["-o", "pipefail", "-c", &line])
            .output();
        let output = output.expect("bash starts");
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success(),
            "{line}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        assert_eq!(
            text.split_whitespace().next(),
            Some(DOWNLOAD_SHA256),
            "the bytes of /100M changed on the way"
        );
    }

    /// Counts, from now on, packets that reach the client from a real server's own address.
    pub fn watch_client(&self) {
        let mut nft = crate::lab::namespace::command("client", "nft");
        let status = nft.arg(WATCH_RULES).status().expect("nft starts");
        assert!(status.success(), "nft: {status}");
    }

    /// The client must have heard from nobody but the VIP since [`Self::watch_client`].
    pub fn assert_client_saw_no_server(&self) {
        let rules = run("client", "nft list table inet watch");
        let counters: Vec<&str> = rules
            .lines()
            .filter(|line| line.contains("counter"))
            .collect();
        assert_eq!(counters.len(), 2, "{rules}");
        for line in counters {
            assert!(
                line.contains("packets 0 "),
                "the client saw a server's own address: {line}"
            );
        }
    }
}

fn dig(address: &str, options: &str) -> String {
    let line = format!("dig +short +tries=1 +time=3 {options} TXT whoami.pollux.test @{address}");
    run("client", &line).trim().trim_matches('"').to_owned()
}

/// A URL of the lab; IPv6 addresses get their brackets.
pub fn url(address: &str, path: &str) -> String {
    if address.contains(':') {
        format!("http://[{address}]{path}")
    } else {
        format!("http://{address}{path}")
    }
}
