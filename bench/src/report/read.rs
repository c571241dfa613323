//! Lines of JSON into [`Results`]: every line is a record, and the first of a run says on which machine it ran.

use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::results::{Results, Run};
use crate::machine::Machine;
use crate::measurement::Record;

/// Stands for standard input.
const STANDARD_INPUT: &str = "-";

/// Why lines are no results.
#[derive(Debug, Error)]
pub enum ReadError {
    /// No such file, or no text in it.
    #[error("cannot read {name}: {source}")]
    File {
        /// The file.
        name: String,
        /// Why not.
        source: io::Error,
    },
    /// Broken, or of another program or version.
    #[error(
        "{name}:{line}: no record of this pollux-bench: {source}; measure again with --json, or take the line out"
    )]
    Line {
        /// The file.
        name: String,
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// A measurement of an unknown machine.
    #[error(
        "{name}:{line}: a measurement before any line that describes the machine: give the whole output of a run with --json"
    )]
    NoMachine {
        /// The file.
        name: String,
        /// The line, from 1.
        line: usize,
    },
    /// Figures that may not stand side by side.
    #[error(
        "{name}:{line}: measured on another machine, kernel or build than {first}: make a report of each\n  {first}: {was}\n  {name}:{line}: {is}"
    )]
    OtherMachine {
        /// The file.
        name: String,
        /// The line, from 1.
        line: usize,
        /// File and line of the first machine.
        first: String,
        /// The first machine.
        was: String,
        /// This machine.
        is: String,
    },
    /// Nothing at all.
    #[error(
        "no measurement in {names}: write some with pollux-bench pipeline, table or appliance and --json"
    )]
    Nothing {
        /// The files.
        names: String,
    },
}

/// Reads these files, or standard input when there are none.
///
/// # Errors
/// [`ReadError`].
pub fn files(paths: &[PathBuf]) -> Result<Results, ReadError> {
    let standard_input = [PathBuf::from(STANDARD_INPUT)];
    let paths = if paths.is_empty() {
        &standard_input
    } else {
        paths
    };
    let mut reader = Reader::default();
    for path in paths {
        let name = name(path);
        let text = text(path).map_err(|source| ReadError::File {
            name: name.clone(),
            source,
        })?;
        reader.lines(&name, &text)?;
    }
    let names = paths.iter().map(|path| name(path)).collect::<Vec<_>>();
    reader.finish(&names.join(", "))
}

fn name(path: &Path) -> String {
    if path == Path::new(STANDARD_INPUT) {
        "standard input".to_owned()
    } else {
        path.display().to_string()
    }
}

fn text(path: &Path) -> io::Result<String> {
    if path != Path::new(STANDARD_INPUT) {
        return fs::read_to_string(path);
    }
    let mut text = String::new();
    io::stdin().read_to_string(&mut text)?;
    Ok(text)
}

/// What was read so far.
#[derive(Debug, Default)]
pub(super) struct Reader {
    runs: Vec<Run>,
    /// Where the first machine was.
    first: String,
}

impl Reader {
    /// Takes the lines of a file. A run does not go on from one file into the next.
    pub(super) fn lines(&mut self, name: &str, text: &str) -> Result<(), ReadError> {
        let mut is_described = false;
        let lines = text.lines().zip(1..);
        for (text, line) in lines.filter(|(text, _)| !text.trim().is_empty()) {
            let record = serde_json::from_str(text).map_err(|source| ReadError::Line {
                name: name.to_owned(),
                line,
                source,
            })?;
            match (record, self.runs.last_mut()) {
                (Record::Machine(machine), _) => {
                    self.begin(name, line, *machine)?;
                    is_described = true;
                }
                (record, Some(run)) if is_described => run.records.push(record),
                _ => {
                    let name = name.to_owned();
                    return Err(ReadError::NoMachine { name, line });
                }
            }
        }
        Ok(())
    }

    fn begin(&mut self, name: &str, line: usize, machine: Machine) -> Result<(), ReadError> {
        match self.runs.first() {
            None => self.first = format!("{name}:{line}"),
            Some(run) if run.machine.is_like(&machine) => {}
            Some(run) => {
                return Err(ReadError::OtherMachine {
                    name: name.to_owned(),
                    line,
                    first: self.first.clone(),
                    was: super::machine::in_a_line(&run.machine),
                    is: super::machine::in_a_line(&machine),
                });
            }
        }
        let records = Vec::new();
        self.runs.push(Run { machine, records });
        Ok(())
    }

    pub(super) fn finish(self, names: &str) -> Result<Results, ReadError> {
        if self.runs.iter().all(|run| run.records.is_empty()) {
            let names = names.to_owned();
            return Err(ReadError::Nothing { names });
        }
        Ok(Results { runs: self.runs })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::tests::example as machine;
    use crate::measurement::tests::example as packet;

    fn line(record: &Record) -> String {
        serde_json::to_string(record).unwrap() + "\n"
    }

    fn described() -> String {
        line(&Record::Machine(Box::new(machine("pollux-bench pipeline"))))
    }

    fn refusal(text: &str) -> String {
        let mut reader = Reader::default();
        let read = reader.lines("some.jsonl", text);
        read.and_then(|()| reader.finish("some.jsonl"))
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn runs_come_one_after_another_in_a_file() {
        let measured = line(&Record::Pipeline(packet()));
        let mut reader = Reader::default();
        let text = format!(
            "{}{measured}\n{measured}{}{measured}",
            described(),
            described()
        );
        reader.lines("a", &text).unwrap();
        reader.lines("b", &(described() + &measured)).unwrap();
        let results = reader.finish("a, b").unwrap();
        let lengths: Vec<usize> = results.runs.iter().map(|run| run.records.len()).collect();
        assert_eq!(lengths, [2, 1, 1]);
    }

    #[test]
    fn a_broken_line_is_named() {
        let whole = line(&Record::Pipeline(packet()));
        let (half, _) = whole.split_at(100);
        let said = refusal(&format!("{}{whole}{half}\n{whole}", described()));
        assert!(said.starts_with("some.jsonl:3: no record"), "{said}");
        assert!(said.contains("EOF while parsing"), "{said}");
        let said = refusal(&format!("{}\nready to serve\n", described()));
        assert!(said.starts_with("some.jsonl:3: no record"), "{said}");
    }

    #[test]
    fn an_unknown_record_is_named_beside_the_known_ones() {
        let said = refusal(&format!("{}{{\"benchmark\":\"speed\"}}\n", described()));
        assert!(said.starts_with("some.jsonl:2: "), "{said}");
        assert!(
            said.contains("unknown variant `speed`, expected one of `machine`, `pipeline`"),
            "{said}"
        );
        let without = line(&Record::Pipeline(packet())).replace("\"workers\":1,", "");
        let said = refusal(&(described() + &without));
        assert!(
            said.contains("some.jsonl:2: ") && said.contains("missing field `workers`"),
            "{said}"
        );
        let nothing = line(&Record::Pipeline(packet())).replace("24.5", "null");
        let said = refusal(&(described() + &nothing));
        assert!(said.contains("invalid type: null, expected f64"), "{said}");
    }

    #[test]
    fn a_measurement_needs_a_machine_in_its_own_file() {
        let measured = line(&Record::Pipeline(packet()));
        assert!(refusal(&measured).starts_with("some.jsonl:1: a measurement before any line"));
        let mut reader = Reader::default();
        reader.lines("a", &(described() + &measured)).unwrap();
        let error = reader.lines("b", &measured).unwrap_err().to_string();
        assert!(error.starts_with("b:1: a measurement before"), "{error}");
    }

    #[test]
    fn measurements_of_two_machines_do_not_mix() {
        let mut other = machine("pollux-bench table");
        other.kernel = "7.0.1".to_owned();
        let said = refusal(&(described() + &line(&Record::Machine(Box::new(other)))));
        assert!(
            said.starts_with("some.jsonl:2: measured on another machine"),
            "{said}"
        );
        assert!(
            said.contains("than some.jsonl:1: make a report of each"),
            "{said}"
        );
        assert!(
            said.contains("Linux 6.18.5") && said.contains("Linux 7.0.1"),
            "{said}"
        );
    }

    #[test]
    fn nothing_is_an_error() {
        assert!(refusal("").starts_with("no measurement in some.jsonl"));
        assert!(refusal(&described()).starts_with("no measurement in some.jsonl"));
        let error = files(&[PathBuf::from("/nowhere/a.jsonl")]).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("cannot read /nowhere/a.jsonl: No such file")
        );
    }
}
