//! Completion of the shells: commands and options from the grammar, names of what runs from polluxd.

use std::io::Write;

use clap::CommandFactory;
use clap_complete::Shell;

use super::CliError;
use super::arguments::Arguments;

/// Behind which option, and which argument, zsh offers which names.
const NAMED: [(&str, &str); 13] = [
    ("'-t+[", "tcp"),
    ("'--tcp-service=[", "tcp"),
    ("'-u+[", "udp"),
    ("'--udp-service=[", "udp"),
    ("'--sctp-service=[", "sctp"),
    ("'-f+[", "fwmark"),
    ("'--fwmark-service=[", "fwmark"),
    ("'-r+[", "server"),
    ("'--real-server=[", "server"),
    ("'-s+[", "scheduler"),
    ("'--scheduler=[", "scheduler"),
    ("'*::settings -- ", "setting"),
    ("':mark -- ", "fwmark"),
];

/// Prints the shell's completion script.
///
/// # Errors
/// When it cannot be written.
pub fn script(shell: Shell, out: &mut impl Write) -> Result<(), CliError> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "pollux", &mut script);
    match shell {
        Shell::Bash => script.extend_from_slice(include_bytes!("names.bash")),
        Shell::Fish => script.extend_from_slice(include_bytes!("names.fish")),
        Shell::Zsh => script = with_names(&String::from_utf8_lossy(&script)).into_bytes(),
        _ => {}
    }
    out.write_all(&script)?;
    Ok(())
}

/// zsh's script is the body of a function that zsh loads when it is needed, so what it calls stands at its beginning.
fn with_names(script: &str) -> String {
    let mut lines = script.lines();
    let first = lines.next().unwrap_or_default();
    let mut named = format!("{first}\n\n{}", include_str!("names.zsh"));
    for line in lines {
        named.push_str(&offering(line));
        named.push('\n');
    }
    named
}

/// The line of an argument, `'-t+[HELP]:ADDRESS:PORT:_default' \`, with the names that it takes, if there are any.
fn offering(line: &str) -> String {
    let named = NAMED.iter().find(|(start, _)| line.starts_with(start));
    let Some((_, kind)) = named else {
        return line.to_owned();
    };
    let is_option = line.starts_with("'-");
    let help = if is_option {
        let end = line
            .char_indices()
            .find(|(at, found)| *found == ']' && !line[..*at].ends_with('\\'));
        end.map(|(at, _)| &line[..=at])
    } else {
        line.strip_suffix(":_default' \\")
    };
    let Some(help) = help else {
        return line.to_owned();
    };
    let message = if is_option { ":name" } else { "" };
    format!("{help}{message}:_pollux_names {kind}' \\")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shells_complete_commands_and_options() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let mut script = Vec::new();
            super::script(shell, &mut script).unwrap();
            let script = String::from_utf8(script).unwrap();
            for word in ["connections", "sched-flags", "pollux names"] {
                assert!(script.contains(word), "{shell}: {word}");
            }
        }
    }

    #[test]
    fn arguments_that_name_what_runs_offer_it() {
        let offered = offering(r"'-r+[The server; of \[all\]]:ADDRESS[:PORT]:_default' \");
        assert_eq!(
            offered,
            r"'-r+[The server; of \[all\]]:name:_pollux_names server' \"
        );
        let other = r"'-x+[No new connections at this many]:N:_default' \";
        assert_eq!(offering(other), other);
        assert_eq!(
            offering(r"'*::settings -- Which:_default' \"),
            r"'*::settings -- Which:_pollux_names setting' \"
        );
    }

    /// An option that is renamed, or gone, would lose its names silently.
    #[test]
    fn every_named_argument_is_in_the_grammar() {
        let mut script = Vec::new();
        clap_complete::generate(Shell::Zsh, &mut Arguments::command(), "pollux", &mut script);
        let script = String::from_utf8(script).unwrap();
        for (start, _) in NAMED {
            let found = script.lines().any(|line| line.starts_with(start));
            assert!(found, "{start}");
        }
    }
}
