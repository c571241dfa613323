//! A director and its administrator's shell: runs the commands of a scenario, and compares what they came to.
//!
//! Commands that the runner knows it does itself. A scenario with one that it does not, or whose exact text matters, has
//! every command run by the stock tools: see [`tools`].

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use super::agreed;
use super::ask;
use super::command::{self, Change, Command, Listing, Unsupported};
use super::dataplane::{Dataplane, lock};
use super::director::Director;
use super::estimation::Estimation;
use super::listing;
use super::refused::Refused;
use super::saved;
use super::setting;
use super::text;
use super::tools::{self, Ended, Machine};
use super::trace::{self, Scenario, Step};

/// Time passes in pieces of at most so many seconds, so that what is swept meanwhile is swept.
const PIECE_SECONDS: f64 = 600.0;

/// What the recorder may have taken for a command or a frame, in milliseconds, of which a trace tells nothing.
const UNSEEN_MS: (i64, i64) = (500, 50);

/// When commands are run by the stock tools.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tools {
    /// Never; what the runner does not know itself is not compared, or ends the replay.
    Never,
    /// In scenarios with a command that the runner does not know.
    WhereNeeded,
    /// In every scenario.
    Always,
}

/// What came of a step.
#[derive(Debug)]
pub enum Compared {
    /// What the kernel made of it.
    Same,
    /// Something else, for people.
    Different(String),
    /// It is not compared: why.
    Not(String),
}

impl Compared {
    /// Of a comparison.
    pub fn of(result: Result<(), String>) -> Self {
        match result {
            Ok(()) => Self::Same,
            Err(what) => Self::Different(what),
        }
    }
}

/// A director, and what a shell at it remembers.
pub struct Session {
    dataplane: Arc<Mutex<Dataplane>>,
    machine: Option<Machine>,
    /// None where no listing tells counters.
    estimation: Option<Estimation>,
    saved: BTreeMap<String, Vec<Change>>,
    refused: Refused,
    /// Milliseconds that may have passed and that the trace does not tell; none where nothing is left out.
    unseen_ms: Option<i64>,
}

/// The director of a data plane that is locked.
pub struct DirectorGuard<'a>(std::sync::MutexGuard<'a, Dataplane>);

impl std::ops::Deref for DirectorGuard<'_> {
    type Target = Director;

    fn deref(&self) -> &Director {
        &self.0.director
    }
}

impl std::ops::DerefMut for DirectorGuard<'_> {
    fn deref_mut(&mut self) -> &mut Director {
        &mut self.0.director
    }
}

impl Session {
    /// A session for a scenario.
    ///
    /// # Errors
    /// That it needs tools which are not there.
    pub fn new(scenario: &Scenario, tools: Tools) -> Result<Self, Unsupported> {
        let commands = || {
            scenario.steps.iter().filter_map(|step| match step {
                Step::Command { cmd, rc, .. } => Some((cmd.as_str(), *rc)),
                _ => None,
            })
        };
        // With a daemon, what is refused is the runner's to say.
        let has_daemon = commands().any(|(line, _)| line.contains("--start-daemon"));
        let needed = commands()
            .find(|(line, status)| needs_tools(line, if has_daemon { 0 } else { *status }));
        let machine = match (tools, needed) {
            (Tools::Never, _) | (Tools::WhereNeeded, None) => false,
            (Tools::WhereNeeded, Some((line, _))) => {
                tools::check().map_err(|missing| Unsupported(format!("{line}: {missing}")))?;
                true
            }
            (Tools::Always, _) => {
                tools::check().map_err(Unsupported)?;
                true
            }
        };
        let dataplane = Arc::new(Mutex::new(Dataplane::default()));
        let machine = machine.then(|| Machine::start(&scenario.name, &dataplane));
        let counts = commands().any(|(line, _)| {
            ["--stats", "--rate", "ip_vs_stats"]
                .iter()
                .any(|part| line.contains(part))
        });
        Ok(Self {
            dataplane,
            machine,
            estimation: counts.then(Estimation::default),
            saved: BTreeMap::new(),
            refused: Refused::default(),
            unseen_ms: (tools != Tools::Never).then_some(0),
        })
    }

    /// The director.
    pub fn director(&self) -> DirectorGuard<'_> {
        DirectorGuard(lock(&self.dataplane))
    }

    /// A setting of the scenario.
    ///
    /// # Errors
    /// One that Pollux does not have.
    pub fn begin_with(&mut self, text: &str) -> Result<(), Unsupported> {
        let Some(setting) = setting::of_scenario(text)? else {
            return Ok(());
        };
        let mut dataplane = lock(&self.dataplane);
        dataplane.begin_with(text);
        let change = Change::Setting(setting);
        let done = dataplane.director.change(&change);
        done.map_err(|refused| Unsupported(format!("{text}: {refused:?}")))
    }

    /// Time passes.
    pub fn pass(&mut self, seconds: f64) {
        let mut left = seconds;
        while left > 0.0 {
            let piece = left.min(PIECE_SECONDS);
            let ticks = trace::ticks(piece);
            self.director().pass(ticks);
            if let Some(estimation) = &mut self.estimation {
                estimation.pass(ticks);
            }
            left -= piece;
        }
    }

    /// A step is over, a command or not.
    pub fn end_step(&mut self, is_command: bool) {
        if let Some(unseen) = &mut self.unseen_ms {
            *unseen += if is_command { UNSEEN_MS.0 } else { UNSEEN_MS.1 };
        }
        if let Some(estimation) = &mut self.estimation {
            estimation.end_step(is_command);
        }
        self.note();
    }

    /// What the kernel sent in this step is so many bytes more than what the engine sent, and counted so.
    pub fn count_more(&mut self, bytes: usize) {
        if let Some(estimation) = &mut self.estimation {
            estimation.count_more(bytes);
        }
    }

    fn late_s(&self) -> i64 {
        self.unseen_ms.unwrap_or(0) / 1000
    }

    /// So many seconds passed unseen, as a listing of connections shows.
    fn catch_up(&mut self, seconds: i64) {
        // The kernel shows what is left rounded down.
        let seconds = seconds - 1;
        if self.unseen_ms.is_none() || seconds < 2 || seconds > self.late_s() {
            return;
        }
        // What is older than the newest connection may be nearer to its end still.
        if let Some(unseen) = &mut self.unseen_ms {
            *unseen -= seconds * 1000;
        }
        let ticks = trace::ticks(f64::from(i32::try_from(seconds).unwrap_or(0)));
        self.director().pass(ticks);
    }

    fn note(&mut self) {
        if let Some(estimation) = &mut self.estimation {
            estimation.note(&lock(&self.dataplane).director);
        }
    }

    /// Runs what a line has of commands, one after the other. Without tools, what was printed is compared if only one of
    /// them prints.
    ///
    /// # Errors
    /// A command that cannot be run.
    pub fn run_line(
        &mut self,
        line: &str,
        status: i32,
        printed: &str,
    ) -> Result<Compared, Unsupported> {
        let parts = ask::parts(line);
        let [first, rest @ ..] = &*parts else {
            return Ok(Compared::Same);
        };
        let is_runners = |part: &&str| is_labs_own(part) || is_of_synchronisation(part);
        if self.machine.is_some() && !parts.iter().all(is_runners) {
            return self.run_by_tools(line, &parts, status, printed);
        }
        let mut compared = self.run(first, status, printed)?;
        for part in rest {
            compared = match (compared, self.run(part, status, printed)?) {
                (Compared::Different(_), _) | (_, Compared::Different(_)) => {
                    Compared::Not("several commands' output".to_owned())
                }
                (compared @ Compared::Not(_), _) => compared,
                (_, compared) => compared,
            };
        }
        Ok(compared)
    }

    fn run_by_tools(
        &mut self,
        line: &str,
        parts: &[&str],
        status: i32,
        printed: &str,
    ) -> Result<Compared, Unsupported> {
        if let Some(feature) = agreed::not_built(line) {
            return Ok(Compared::Not(feature.to_owned()));
        }
        let own: Vec<&&str> = parts.iter().filter(|part| is_labs_own(part)).collect();
        if !own.is_empty() {
            // The lab's own commands print nothing, so the text is the others'.
            let mut last = Compared::Same;
            for part in parts {
                last = if is_labs_own(part) {
                    self.run(part, 0, "")?;
                    last
                } else {
                    self.run_by_tools(part, &[part], status, printed)?
                };
            }
            return Ok(last);
        }
        tools::check_line(line).map_err(Unsupported)?;
        self.note();
        let Some(machine) = &self.machine else {
            return Err(Unsupported(line.to_owned()));
        };
        let ended = machine.run(line);
        for part in parts {
            if let Ok(Command::Zero(of)) = command::parse(part)
                && let Some(estimation) = &mut self.estimation
                && ended.status == 0
            {
                estimation.zero(of.map(|of| listing::service_name(&of)).as_deref());
            }
        }
        self.note();
        let compared = self.compare_ended(line, status, printed, &ended);
        if compared.is_ok() && text::lists_connections(line) {
            self.catch_up(text::unseen(printed, &ended.text));
        }
        if self.unseen_ms.is_some() && looks_names_up(line) {
            // Nobody answered, and each name takes its time.
            self.unseen_ms = Some(i64::MAX / 2);
            if let Some(estimation) = &mut self.estimation {
                estimation.lose_time();
            }
        }
        Ok(Compared::of(compared))
    }

    /// Word for word, but for counters and rates, which are as of a tick of the kernel's.
    fn compare_ended(
        &self,
        line: &str,
        status: i32,
        printed: &str,
        ended: &Ended,
    ) -> Result<(), String> {
        if status != ended.status {
            return Err(format!(
                "kernel's tool ended with {status}: {printed}Pollux's with {}: {}",
                ended.status, ended.text
            ));
        }
        let counted = text::without_counts(printed).zip(text::without_counts(&ended.text));
        // Names in place of numbers are not those that counters are kept by.
        let is_numeric = line.contains("/proc/") || ask::is_numeric(line);
        match (counted, &self.estimation) {
            (Some(((counts, theirs), (_, ours))), Some(estimation)) if is_numeric => {
                for (kind, rows) in counts {
                    let of = match command::parse(line) {
                        Ok(Command::List(_, of)) => of.map(|of| listing::service_name(&of)),
                        _ => None,
                    };
                    estimation.compare(kind, of.as_deref(), &rows)?;
                }
                text::compare(line, &theirs, &ours, self.late_s())
            }
            _ => text::compare(line, printed, &ended.text, self.late_s()),
        }
    }

    fn run(&mut self, line: &str, status: i32, printed: &str) -> Result<Compared, Unsupported> {
        if self.refused.is_about(line) {
            return Ok(Compared::Not(
                "of a service that was passed over".to_owned(),
            ));
        }
        let command = match command::parse(line) {
            Ok(command) => command,
            Err(Unsupported(what)) if status != 0 => {
                return Ok(Compared::Not(format!("refused by both: {what}")));
            }
            Err(unsupported) => {
                let feature = agreed::not_built(line).ok_or(unsupported)?;
                self.refused.note(line);
                return Ok(Compared::Not(feature.to_owned()));
            }
        };
        let printed = &self.refused.without(printed);
        if let Command::List(Listing::Connections, _) = command {
            let seconds = listing::unseen(printed, &lock(&self.dataplane).director);
            self.catch_up(seconds);
        }
        let late_s = self.late_s();
        let director = &mut lock(&self.dataplane).director;
        Ok(match command {
            Command::Change(change) if status != 0 => {
                let mut trial = director.administrator.clone();
                match trial.apply(&change) {
                    Err(_) => Compared::Same,
                    Ok(()) => Compared::Not("input that ipvsadm or polluxd refuses".to_owned()),
                }
            }
            Command::Change(change) => match director.change(&change) {
                Ok(()) => Compared::Same,
                Err(refused) => Compared::Different(format!("{line}: engine {refused:?}")),
            },
            Command::List(_, Some(_)) if status != 0 => Compared::Same,
            Command::List(listing, of) => {
                let estimation = self.estimation.get_or_insert_default();
                if matches!(listing, Listing::Statistics | Listing::Rates) {
                    estimation.note(director);
                }
                let result = listing::compare(listing, of, printed, director, estimation, late_s);
                Compared::of(result.map_err(|what| format!("{line}\n{what}")))
            }
            Command::Zero(of) => {
                if let Some(estimation) = &mut self.estimation {
                    estimation.note(director);
                    estimation.zero(of.map(|of| listing::service_name(&of)).as_deref());
                }
                Compared::Same
            }
            Command::Save(file) => {
                let changes = saved::changes(director.administrator.services());
                self.saved.insert(file, changes);
                Compared::Same
            }
            Command::Restore(file) => {
                let Some(changes) = self.saved.get(&file) else {
                    return Err(Unsupported(format!("nothing was saved in {file}")));
                };
                let mut restored = changes.iter().map(|change| director.change(change));
                match restored.find_map(Result::err) {
                    None => Compared::Same,
                    Some(refused) => Compared::Different(format!("{line}: engine {refused:?}")),
                }
            }
            Command::Wire(wiring) => {
                director.rewire(|topology| wiring.apply(topology));
                Compared::Same
            }
            Command::Aside(why) => Compared::Not(why.to_owned()),
        })
    }
}

/// Commands about the lab around the director, which no tool of IPVS has a part in.
fn is_labs_own(part: &str) -> bool {
    let first = part.split_whitespace().next().unwrap_or_default();
    let is_setting = || {
        let words: Vec<&str> = part.split_whitespace().collect();
        words.iter().any(|word| word.contains('=')) && !part.contains("net.ipv4.vs")
    };
    match first {
        "ip" | "nft" => true,
        "sysctl" => is_setting(),
        _ => part.contains("nf_conntrack"),
    }
}

/// Whether a tool asks for the names of addresses.
fn looks_names_up(line: &str) -> bool {
    ask::parts(line).iter().any(|part| {
        let lists = ["-L", "-l", "-S", "--list", "--save", "ipvsadm-save"];
        let word = ask::words(part)
            .into_iter()
            .any(|word| lists.iter().any(|list| word.starts_with(list)));
        part.starts_with("ipvsadm") && word && !ask::is_numeric(part)
    })
}

/// The runner has daemons of synchronisation of its own, whose datagrams it compares; polluxd has none yet, nor their settings.
fn is_of_synchronisation(part: &str) -> bool {
    let words = ["-daemon", "vs/sync_", "vs.sync_", "backup_only"];
    words.iter().any(|word| part.contains(word))
}

/// Whether only the stock tools can tell what a line prints.
fn needs_tools(line: &str, status: i32) -> bool {
    if agreed::not_built(line).is_some() || is_of_synchronisation(line) {
        return false;
    }
    let parts = ask::parts(line);
    let others: Vec<&&str> = parts.iter().filter(|part| !is_labs_own(part)).collect();
    if others.is_empty() {
        return false;
    }
    let lists = |part: &&&str| matches!(command::parse(part), Ok(Command::List(..)));
    let is_unknown = |part: &&&str| matches!(command::parse(part), Err(_) | Ok(Command::Aside(_)));
    status != 0 || others.iter().any(is_unknown) || others.len() > 1 && others.iter().any(lists)
}
