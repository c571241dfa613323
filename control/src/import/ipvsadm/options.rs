//! A line of words, taken apart into options and their values.

/// What `ipvsadm` and DPVS's `ipvsadm` take, one spelling each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Takes {
    /// Nothing.
    Nothing,
    /// The next word.
    Value,
    /// The next word if it is a number.
    Number,
    /// The next three words.
    Three,
}

/// An option with what it was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Given {
    /// Its long name without dashes; of an unknown one, what was written.
    pub name: String,
    /// What it was given.
    pub values: Vec<String>,
}

/// Long name, letter, what it takes.
const OPTIONS: &[(&str, Option<char>, Takes)] = &[
    ("add-service", Some('A'), Takes::Nothing),
    ("edit-service", Some('E'), Takes::Nothing),
    ("delete-service", Some('D'), Takes::Nothing),
    ("clear", Some('C'), Takes::Nothing),
    ("add-server", Some('a'), Takes::Nothing),
    ("edit-server", Some('e'), Takes::Nothing),
    ("delete-server", Some('d'), Takes::Nothing),
    ("list", Some('L'), Takes::Nothing),
    ("list", Some('l'), Takes::Nothing),
    ("zero", Some('Z'), Takes::Nothing),
    ("save", Some('S'), Takes::Nothing),
    ("restore", Some('R'), Takes::Nothing),
    ("set", None, Takes::Three),
    ("start-daemon", None, Takes::Value),
    ("stop-daemon", None, Takes::Value),
    ("mcast-interface", None, Takes::Value),
    ("mcast-group", None, Takes::Value),
    ("mcast-port", None, Takes::Value),
    ("mcast-ttl", None, Takes::Value),
    ("syncid", None, Takes::Value),
    ("sync-maxlen", None, Takes::Value),
    ("tcp-service", Some('t'), Takes::Value),
    ("udp-service", Some('u'), Takes::Value),
    ("sctp-service", None, Takes::Value),
    ("fwmark-service", Some('f'), Takes::Value),
    ("ipv6", Some('6'), Takes::Nothing),
    ("scheduler", Some('s'), Takes::Value),
    ("pe", None, Takes::Value),
    ("persistent", Some('p'), Takes::Number),
    ("netmask", Some('M'), Takes::Value),
    ("ops", Some('o'), Takes::Nothing),
    ("sched-flags", Some('b'), Takes::Value),
    ("real-server", Some('r'), Takes::Value),
    ("gatewaying", Some('g'), Takes::Nothing),
    ("ipip", Some('i'), Takes::Nothing),
    ("masquerading", Some('m'), Takes::Nothing),
    ("tun-type", None, Takes::Value),
    ("tun-port", None, Takes::Value),
    ("tun-nocsum", None, Takes::Nothing),
    ("tun-csum", None, Takes::Nothing),
    ("tun-remcsum", None, Takes::Nothing),
    ("weight", Some('w'), Takes::Value),
    ("u-threshold", Some('x'), Takes::Value),
    ("l-threshold", Some('y'), Takes::Value),
    ("numeric", Some('n'), Takes::Nothing),
    ("nosort", None, Takes::Nothing),
    ("connection", Some('c'), Takes::Nothing),
    ("stats", None, Takes::Nothing),
    ("rate", None, Takes::Nothing),
    ("timeout", None, Takes::Nothing),
    ("daemon", None, Takes::Nothing),
    ("thresholds", None, Takes::Nothing),
    ("persistent-conn", None, Takes::Nothing),
    ("tun-info", None, Takes::Nothing),
    ("exact", None, Takes::Nothing),
    // DPVS.
    ("match", Some('H'), Takes::Value),
    ("icmp-service", Some('q'), Takes::Value),
    ("icmpv6-service", Some('1'), Takes::Value),
    ("snat", Some('J'), Takes::Nothing),
    ("add-laddr", Some('P'), Takes::Nothing),
    ("del-laddr", Some('Q'), Takes::Nothing),
    ("get-laddr", Some('G'), Takes::Nothing),
    ("laddr", Some('z'), Takes::Value),
    ("ifname", Some('F'), Takes::Value),
    ("add-deny", Some('U'), Takes::Nothing),
    ("del-deny", Some('V'), Takes::Nothing),
    ("get-deny", Some('B'), Takes::Nothing),
    ("blklst", Some('k'), Takes::Value),
    ("add-allow", Some('O'), Takes::Nothing),
    ("del-allow", Some('Y'), Takes::Nothing),
    ("get-allow", Some('W'), Takes::Nothing),
    ("whtlst", Some('2'), Takes::Value),
    ("synproxy", Some('j'), Takes::Value),
    ("hash-target", None, Takes::Value),
    ("expire-quiescent", None, Takes::Nothing),
    ("conn-timeout", None, Takes::Value),
    ("dest-check", None, Takes::Value),
    ("proxy-protocol", None, Takes::Value),
    ("quic", None, Takes::Nothing),
    ("fullnat", None, Takes::Nothing),
    ("cpu", None, Takes::Value),
    ("sockpair", None, Takes::Value),
];

/// The words of a line: parted by blanks, quotes around one taken away, nothing behind `#`.
pub fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    for letter in line.chars() {
        match (quote, letter) {
            (Some(open), _) if letter == open => quote = None,
            (Some(_), _) => word.get_or_insert_default().push(letter),
            (None, '"' | '\'') => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            (None, '#') if word.is_none() => break,
            (None, _) if letter.is_whitespace() => words.extend(word.take()),
            (None, _) => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word);
    words
}

/// The options of a line.
///
/// `-b` is what `ipvsadm` takes flags of a scheduler with, and DPVS's word for full NAT in a rule of a server.
pub fn options(words: &[String]) -> Vec<Given> {
    let is_of_server = words.iter().any(|word| {
        matches!(word.as_str(), "--add-server" | "--edit-server")
            || (word.starts_with('-')
                && !word.starts_with("--")
                && word
                    .chars()
                    .nth(1)
                    .is_some_and(|letter| matches!(letter, 'a' | 'e')))
    });
    let mut given = Vec::new();
    let mut rest = words.iter();
    while let Some(word) = rest.next() {
        let (name, takes, mut values) = if let Some(long) = word.strip_prefix("--") {
            let (name, value) = match long.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (long, None),
            };
            let takes = OPTIONS.iter().find(|(known, ..)| *known == name);
            let takes = takes.map_or(Takes::Nothing, |(_, _, takes)| *takes);
            (name.to_owned(), takes, Vec::from_iter(value))
        } else if let Some(letters) = word.strip_prefix('-').filter(|letters| !letters.is_empty()) {
            let mut letters = letters.chars().peekable();
            let mut last = (word.clone(), Takes::Nothing, Vec::new());
            while let Some(letter) = letters.next() {
                let (name, takes) = by_letter(letter, is_of_server);
                if takes == Takes::Nothing && letters.peek().is_some() {
                    given.push(Given {
                        name,
                        values: Vec::new(),
                    });
                    continue;
                }
                let attached: String = letters.by_ref().collect();
                let attached = Some(attached).filter(|text| !text.is_empty());
                last = (name, takes, Vec::from_iter(attached));
            }
            last
        } else {
            (word.clone(), Takes::Nothing, Vec::new())
        };
        let wanted = match takes {
            Takes::Nothing => 0,
            Takes::Value => 1,
            Takes::Three => 3,
            Takes::Number => {
                let next = rest.as_slice().first();
                usize::from(next.is_some_and(|next| next.bytes().all(|b| b.is_ascii_digit())))
            }
        };
        while values.len() < wanted {
            match rest.next() {
                Some(value) => values.push(value.clone()),
                None => break,
            }
        }
        given.push(Given { name, values });
    }
    given
}

fn by_letter(letter: char, is_of_server: bool) -> (String, Takes) {
    if letter == 'b' && is_of_server {
        return ("fullnat".to_owned(), Takes::Nothing);
    }
    let known = OPTIONS.iter().find(|(_, known, _)| *known == Some(letter));
    match known {
        Some((name, _, takes)) => ((*name).to_owned(), *takes),
        None => (format!("-{letter}"), Takes::Nothing),
    }
}

/// Whether an option of that name is known, to `ipvsadm` or to DPVS's.
pub fn is_known(name: &str) -> bool {
    OPTIONS.iter().any(|(known, ..)| *known == name)
}
