//! The commands and words of a line; which listing a call of `ipvsadm` asks for, and which outputs are named rather than
//! compared.

use super::command::{Command, Listing, Unsupported, service_of};

/// Options by their long names, and the letters they are the same as.
const LONG_NAMES: [(&str, &str); 25] = [
    ("--add-service", "-A"),
    ("--edit-service", "-E"),
    ("--delete-service", "-D"),
    ("--clear", "-C"),
    ("--restore", "-R"),
    ("--save", "-S"),
    ("--add-server", "-a"),
    ("--edit-server", "-e"),
    ("--delete-server", "-d"),
    ("--list", "-L"),
    ("--zero", "-Z"),
    ("--tcp-service", "-t"),
    ("--udp-service", "-u"),
    ("--fwmark-service", "-f"),
    ("--ipv6", "-6"),
    ("--scheduler", "-s"),
    ("--persistent", "-p"),
    ("--netmask", "-M"),
    ("--real-server", "-r"),
    ("--gatewaying", "-g"),
    ("--ipip", "-i"),
    ("--masquerading", "-m"),
    ("--weight", "-w"),
    ("--u-threshold", "-x"),
    ("--l-threshold", "-y"),
];
const MORE_LONG_NAMES: [(&str, &str); 5] = [
    ("--connection", "-c"),
    ("--numeric", "-n"),
    ("--sched-flags", "-b"),
    ("--ops", "-o"),
    ("-l", "-L"),
];

/// The commands of a line, apart at `;` and `&&` outside of quotes.
pub fn parts(line: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut start, mut quote) = (0, None);
    for (at, character) in line.char_indices() {
        match (quote, character) {
            (Some(open), _) if open == character => quote = None,
            (None, '\'' | '"') => quote = Some(character),
            (None, ';') => {
                parts.push(&line[start..at]);
                start = at + 1;
            }
            (None, '&') if line[at..].starts_with("&&") => {
                parts.push(&line[start..at]);
                start = at + 2;
            }
            _ => {}
        }
    }
    parts.push(line.get(start..).unwrap_or_default());
    let parts = parts.into_iter().map(str::trim);
    parts.filter(|part| !part.is_empty()).collect()
}

/// A command's words, `--name=value` apart, every option that has a letter by it.
pub fn words(line: &str) -> Vec<&str> {
    let is_long = |word: &&str| word.starts_with("--") && word.contains('=');
    let parts = line.split_whitespace().flat_map(|word| {
        let (name, value) = if is_long(&word) {
            word.split_once('=').unwrap_or((word, ""))
        } else {
            (word, "")
        };
        [name, value]
            .into_iter()
            .filter(|part| !part.is_empty())
            .collect::<Vec<_>>()
    });
    let short = |word| {
        let mut names = LONG_NAMES.iter().chain(&MORE_LONG_NAMES);
        names
            .find(|(long, _)| *long == word)
            .map_or(word, |(_, letter)| *letter)
    };
    parts.map(short).collect()
}

/// Whether a call of `ipvsadm` prints numbers, not names.
pub fn is_numeric(line: &str) -> bool {
    words(line).iter().any(|word| {
        let letters = word.strip_prefix('-').unwrap_or_default();
        !letters.starts_with('-') && letters.contains('n')
    })
}

/// Reads the options of a call that lists or saves; nothing if it does neither.
pub fn read(options: &[&str]) -> Option<Result<Command, Unsupported>> {
    let first = options.first()?;
    let letters = first
        .strip_prefix('-')
        .filter(|rest| rest.starts_with(['L', 'l', 'S']))?;
    Some(listing(letters, options.get(1..)?))
}

fn listing(letters: &str, options: &[&str]) -> Result<Command, Unsupported> {
    let mut listing = if letters.starts_with('S') {
        Listing::Saved
    } else {
        Listing::Servers
    };
    let (mut is_numeric, mut connections) = (letters.contains('n'), letters.contains('c'));
    let mut of_service = None;
    let mut is_v6 = false;
    let mut options = options.iter().copied();
    while let Some(option) = options.next() {
        match option {
            "-n" => is_numeric = true,
            "-c" => connections = true,
            "-nc" | "-cn" => (is_numeric, connections) = (true, true),
            "-6" => is_v6 = true,
            "--sort" | "--nosort" | "--exact" => {}
            "--stats" => listing = Listing::Statistics,
            "--thresholds" => listing = Listing::Thresholds,
            "--persistent-conn" => listing = Listing::Persistent,
            "--timeout" => listing = Listing::Timeouts,
            "--rate" => listing = Listing::Rates,
            "--daemon" => return aside("the state of synchronisation"),
            "--tun-info" => return aside("tunnels as text"),
            "-t" | "-u" | "-f" | "--sctp-service" => {
                of_service = Some((option, options.next().unwrap_or_default()));
            }
            ">" => return Ok(Command::Save(options.next().unwrap_or_default().to_owned())),
            // The order of lines is not compared anyway.
            "|" if options.next() == Some("sort") => break,
            "|" => return aside("a listing that went through a pipe"),
            "2>&1" => {}
            other => return Err(Unsupported(other.to_owned())),
        }
    }
    if connections {
        listing = Listing::Connections;
    }
    if !is_numeric && listing != Listing::Timeouts {
        return aside("a listing with names in place of numbers");
    }
    let service = of_service
        .map(|(option, text)| service_of(option, text, is_v6))
        .transpose()?;
    Ok(Command::List(listing, service))
}

fn aside(why: &'static str) -> Result<Command, Unsupported> {
    Ok(Command::Aside(why))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_line(line: &str) -> Command {
        super::super::command::parse(line).unwrap()
    }

    #[test]
    fn long_names_and_orders_of_options_ask_for_the_same() {
        let plain = Command::List(Listing::Statistics, None);
        for line in [
            "ipvsadm -Ln --stats",
            "ipvsadm -L -n --stats --exact",
            "ipvsadm --list --numeric --stats",
            "ipvsadm -ln --stats | sort",
        ] {
            assert_eq!(read_line(line), plain, "{line}");
        }
        assert_eq!(
            read_line("ipvsadm --add-service --tcp-service 192.0.2.100:80 --scheduler=rr"),
            read_line("ipvsadm -A -t 192.0.2.100:80 -s rr")
        );
    }

    #[test]
    fn what_cannot_be_compared_is_named() {
        for line in [
            "ipvsadm -Ln --tun-info",
            "ipvsadm -L",
            "ipvsadm -Lnc | wc -l",
        ] {
            assert!(matches!(read_line(line), Command::Aside(_)), "{line}");
        }
        assert!(super::super::command::parse("ipvsadm -Ln --bogus").is_err());
    }

    #[test]
    fn a_line_may_have_several_commands() {
        assert_eq!(
            parts("ipvsadm -C; ipvsadm -Ln && nft 'add table ip t; add chain ip t p'"),
            [
                "ipvsadm -C",
                "ipvsadm -Ln",
                "nft 'add table ip t; add chain ip t p'"
            ]
        );
        assert_eq!(parts("ipvsadm -Ln 2>&1;"), ["ipvsadm -Ln 2>&1"]);
    }
}
