//! What tools printed against the kernel and against Pollux: word for word, but for what no trace determines.

use super::estimation::{ALL, Kind, Rows};

/// The kernel shows whole seconds, counted down from just below the timeout; Pollux refreshes in steps of half a second.
pub const EXPIRY_TOLERANCE_S: i64 = 2;

/// Says where two texts of a command line differ. Up to `late_s` seconds have passed that the trace does not tell.
///
/// # Errors
/// Both, for people.
pub fn compare(line: &str, theirs: &str, ours: &str, late_s: i64) -> Result<(), String> {
    let (theirs, ours) = (settled(theirs), settled(ours));
    let same = if lists_connections(line) {
        connections_agree(&theirs, &ours, late_s)
    } else if line.contains("--nosort") || line.contains("/net/ip_vs") {
        // The kernel lists services as its hash table has them.
        blocks(&theirs) == blocks(&ours)
    } else {
        theirs == ours
    };
    if same {
        return Ok(());
    }
    let lines = |whose: &str, one: &str, other: &str| -> String {
        let known: Vec<&str> = other.lines().collect();
        let only = one.lines().filter(|line| !known.contains(line));
        only.map(|line| format!("{whose} {line}\n")).collect()
    };
    let told = lines("- kernel", &theirs, &ours) + &lines("+ Pollux", &ours, &theirs);
    Err(if told.is_empty() {
        format!("the order of lines: kernel\n{theirs}Pollux\n{ours}")
    } else {
        told
    })
}

/// Whether a line lists connections.
pub fn lists_connections(line: &str) -> bool {
    let is_list = |word: &str| {
        let letters = word.strip_prefix('-').unwrap_or_default();
        !letters.starts_with('-') && letters.starts_with(['L', 'l']) && letters.contains('c')
    };
    line.contains("ip_vs_conn")
        || line.contains("--connection")
        || line.contains("ipvsadm")
            && line
                .split_whitespace()
                .any(|word| is_list(word) || word == "-c" || word == "-nc" || word == "-cn")
}

/// Without what is the recording machine's own.
fn settled(text: &str) -> String {
    let lines = text.lines();
    let lines = lines
        // The machine of the trace had no modules to load; Pollux has the tool look for none.
        .filter(|line| !line.starts_with("modprobe: "))
        // A part of the kernel's free memory.
        .filter(|line| !line.starts_with("net.ipv4.vs.sync_qlen_max = "));
    lines.map(|line| format!("{line}\n")).collect()
}

/// Services with their servers, in an order of their own.
fn blocks(listing: &str) -> Vec<String> {
    let mut blocks: Vec<String> = Vec::new();
    for line in listing.lines() {
        match blocks.last_mut() {
            Some(block) if line.starts_with("  ->") => *block += &format!("{line}\n"),
            _ => blocks.push(format!("{line}\n")),
        }
    }
    blocks.sort();
    blocks
}

/// The kernel lists connections as its hash table has them; seconds may differ a little.
fn connections_agree(theirs: &str, ours: &str, late_s: i64) -> bool {
    let (theirs, ours) = (connections(theirs), connections(ours));
    theirs.len() == ours.len()
        && theirs
            .iter()
            .zip(&ours)
            .all(|(theirs, ours)| theirs.0 == ours.0 && is_near(theirs.1, ours.1, late_s))
}

/// Whether two expiries may be one.
pub fn is_near(theirs: i64, ours: i64, late_s: i64) -> bool {
    (-EXPIRY_TOLERANCE_S..=EXPIRY_TOLERANCE_S.max(late_s)).contains(&(ours - theirs))
}

/// By how many seconds more all of the kernel's connections are nearer to their ends: time that passed unseen.
pub fn unseen(theirs: &str, ours: &str) -> i64 {
    let (theirs, ours) = (connections(theirs), connections(ours));
    let both = theirs.iter().zip(&ours);
    let same = both.filter(|(theirs, ours)| theirs.0 == ours.0 && theirs.1 > 0);
    same.map(|(theirs, ours)| ours.1 - theirs.1)
        .min()
        .unwrap_or(0)
}

/// Lines without their expiry, sorted, and that in seconds.
fn connections(listing: &str) -> Vec<(String, i64)> {
    let line = |line: &str| {
        // What a persistence engine goes by, of which the table keeps no more than a tag.
        let (line, call) = match line.split_once(" sip ") {
            Some((line, _)) => (line, " sip"),
            None => (line, ""),
        };
        let words: Vec<&str> = line.split_whitespace().collect();
        let (rest, expiry) = match *words {
            [protocol, expiry, ref rest @ ..] if seconds(expiry).is_some() => {
                ([&[protocol], rest].concat(), seconds(expiry))
            }
            // The last column of /proc/net/ip_vs_conn.
            [ref rest @ .., last] if rest.len() > 6 => (rest.to_vec(), last.parse().ok()),
            _ => (words, None),
        };
        (rest.join(" ") + call, expiry.unwrap_or(0))
    };
    let mut lines: Vec<_> = listing.lines().map(line).collect();
    lines.sort();
    lines
}

/// `14:55`, minutes and seconds.
fn seconds(word: &str) -> Option<i64> {
    let (minutes, seconds) = word.split_once(':').filter(|_| word.len() >= 5)?;
    Some(minutes.parse::<i64>().ok()? * 60 + seconds.parse::<i64>().ok()?)
}

/// A listing's counters or rates by service and server, and the listing without them; nothing where it has none.
pub fn without_counts(listing: &str) -> Option<(Vec<(Kind, Rows)>, String)> {
    if listing.contains("Incoming         Outgoing\n") {
        return Some(without_director_counts(listing));
    }
    let header = listing
        .lines()
        .find(|line| line.starts_with("Prot LocalAddress:Port"))?;
    let kind = match header.split_whitespace().nth(2)? {
        "Conns" => Kind::Totals,
        "CPS" => Kind::Rates,
        _ => return None,
    };
    let mut rows = Rows::new();
    let mut rest = String::new();
    let mut service = String::new();
    for line in listing.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let counted = words.split_last_chunk::<5>().and_then(|(names, numbers)| {
            let numbers: Vec<u64> = numbers.iter().filter_map(|word| number(word)).collect();
            Some((names, <[u64; 5]>::try_from(numbers).ok()?))
        });
        let Some((names, numbers)) = counted else {
            rest += &format!("{line}\n");
            continue;
        };
        let name = match *names {
            ["->", server] => format!("{service} -> {server}"),
            [protocol, name, ..] => {
                service = format!("{protocol} {name}");
                service.clone()
            }
            _ => continue,
        };
        rest += &format!("{}\n", names.join(" "));
        rows.insert(name, numbers);
    }
    Some((vec![(kind, rows)], rest))
}

/// `/proc/net/ip_vs_stats` and that of each processor, in hexadecimal; how processors share is the machine's.
fn without_director_counts(listing: &str) -> (Vec<(Kind, Rows)>, String) {
    let mut kind = Kind::Totals;
    let mut found = Vec::new();
    let mut rest = String::new();
    for line in listing.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (name, numbers) = match words.split_last_chunk::<5>() {
            Some((name, numbers)) if name.len() < 2 => (name.first().copied(), numbers),
            _ => (None, &[""; 5]),
        };
        let numbers = numbers
            .iter()
            .filter_map(|word| u64::from_str_radix(word, 16).ok());
        match <[u64; 5]>::try_from(numbers.collect::<Vec<_>>()) {
            Ok(_) if name.is_some_and(|name| name != "~") => {}
            Ok(numbers) => found.push((kind, Rows::from([(ALL.to_owned(), numbers)]))),
            Err(_) => rest += &format!("{line}\n"),
        }
        if line.contains("Conns/s") {
            kind = Kind::Rates;
        }
    }
    (found, rest)
}

/// A number as `ipvsadm` shortens it, as far as it goes.
fn number(word: &str) -> Option<u64> {
    let scale = |letter| match letter {
        'K' => Some(1_000),
        'M' => Some(1_000_000),
        'G' => Some(1_000_000_000),
        'T' => Some(1_000_000_000_000),
        _ => None,
    };
    match word.chars().next_back().and_then(scale) {
        Some(scale) => Some(word[..word.len() - 1].parse::<u64>().ok()? * scale),
        None => word.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATES: &str = "\
IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port                 CPS    InPPS   OutPPS    InBPS   OutBPS
  -> RemoteAddress:Port
TCP  192.0.2.100:80                      0        1        0       28       14
  -> 10.1.0.11:8080                      0        1        0     120M       14
";

    #[test]
    fn counts_are_apart_from_the_rest() {
        let (counts, rest) = without_counts(RATES).unwrap();
        let expected: Rows = [
            ("TCP 192.0.2.100:80".to_owned(), [0, 1, 0, 28, 14]),
            (
                "TCP 192.0.2.100:80 -> 10.1.0.11:8080".to_owned(),
                [0, 1, 0, 120_000_000, 14],
            ),
        ]
        .into();
        assert_eq!(counts, [(Kind::Rates, expected)]);
        assert!(
            rest.ends_with("\nTCP 192.0.2.100:80\n-> 10.1.0.11:8080\n"),
            "{rest}"
        );
        assert!(without_counts("Prot LocalAddress:Port Scheduler Flags\n").is_none());
    }

    #[test]
    fn the_directors_counts_are_hexadecimal() {
        let file = concat!(
            "   Total Incoming Outgoing         Incoming         Outgoing\n",
            "   Conns  Packets  Packets            Bytes            Bytes\n",
            "       9        E        5              22E               C8\n",
            "\n",
            " Conns/s   Pkts/s   Pkts/s          Bytes/s          Bytes/s\n",
            "       1        1        0               27                E\n",
        );
        let (counts, _) = without_counts(file).unwrap();
        let of = |numbers| Rows::from([(ALL.to_owned(), numbers)]);
        assert_eq!(
            counts,
            [
                (Kind::Totals, of([9, 14, 5, 0x22e, 0xc8])),
                (Kind::Rates, of([1, 1, 0, 39, 14]))
            ]
        );
    }

    #[test]
    fn orders_and_some_seconds_of_connections_are_free() {
        let theirs = "TCP 14:55  ESTABLISHED 198.51.100.7:40002 192.0.2.100:80     10.1.0.12:8080\n\
                      TCP 00:55  SYN_RECV    198.51.100.7:40003 192.0.2.100:80     10.1.0.12:8080\n";
        let ours = "TCP 00:57  SYN_RECV    198.51.100.7:40003 192.0.2.100:80     10.1.0.12:8080\n\
                    TCP 14:53  ESTABLISHED 198.51.100.7:40002 192.0.2.100:80     10.1.0.12:8080\n";
        assert_eq!(compare("ipvsadm -Lnc", theirs, ours, 0), Ok(()));
        assert_eq!(
            compare("ipvsadm -L -n -c | grep TCP", theirs, ours, 0),
            Ok(())
        );
        let late = ours.replace("14:53", "14:03");
        assert!(compare("ipvsadm -Lnc", theirs, &late, 0).is_err());
        assert!(compare("ipvsadm -Ln", theirs, ours, 0).is_err());
        let (early, sctp) = (ours.replace("14:53", "14:59"), "SCTP 00:03  INIT1  a b c\n");
        assert_eq!(compare("ipvsadm -Lnc", theirs, &early, 4), Ok(()));
        assert!(compare("ipvsadm -Lnc", theirs, &early, 3).is_err());
        assert_eq!(unseen(sctp, &sctp.replace("00:03", "00:07")), 4);
    }
}
