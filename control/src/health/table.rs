//! Who is asked for whom: servers that several services check alike are one target.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use pollux_api::events::EventKind;
use pollux_api::health::{
    CheckPath, CheckPaths, Probe, QuorumState, ServerHealth, ServerState, ServiceHealth,
};
use pollux_api::{Change, Check, Configuration, DestinationId, ServiceId};

use self::report::Listed;
use super::agenda::{Agenda, Pace};
use super::complaints::Complaints;
use super::history::{History, milliseconds};
use super::outcome::{Outcome, Share, Verdict};
use super::probe::{Question, Subject, Way};
use super::schedule::{Asking, Found, chance, pause};
use super::watched::{QuorumChange, Wanted, Watched};

/// Servers that are told of at a time: the checks go on between two parts.
pub const REPORT_PART: usize = 64;

/// All servers that are asked.
#[derive(Debug, Default)]
pub struct HealthTable(Mutex<Targets>);

/// What makes two checks of a server the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Identity {
    /// What it is called; by a service's path, the virtual address.
    server: SocketAddr,
    way: Way,
    /// The number of the question.
    question: u64,
    /// Of checks that depend on it.
    user: Option<(ServiceId, DestinationId)>,
}

#[derive(Debug)]
struct Targets {
    watched: Watched,
    /// The targets of each watched server, as many as its service has checks, one server after the other.
    links: Vec<u64>,
    /// Where a server's begin.
    first_links: Vec<usize>,
    /// All questions with their numbers; names make no difference, so they have none.
    questions: HashMap<Check, (u64, Arc<Question>)>,
    numbers: HashMap<Identity, u64>,
    targets: HashMap<u64, Target>,
    next: u64,
    last_question: u64,
    agenda: Agenda,
    /// What the log says of what this machine cannot ask.
    complaints: Complaints,
}

#[derive(Debug)]
struct Target {
    identity: Identity,
    question: Arc<Question>,
    history: History,
    share: Option<Share>,
    pace: Pace,
    /// When it was last asked.
    asked: Instant,
    /// What the log says of its certificate.
    warned_days: Option<u64>,
    /// Watched servers.
    users: Vec<usize>,
}

impl Default for Targets {
    fn default() -> Self {
        Self {
            watched: Watched::default(),
            links: Vec::new(),
            first_links: Vec::new(),
            questions: HashMap::new(),
            numbers: HashMap::new(),
            targets: HashMap::new(),
            next: 0,
            last_question: 0,
            agenda: Agenda::new(),
            complaints: Complaints::default(),
        }
    }
}

impl HealthTable {
    /// Asks whom the configuration wants asked, and no others. Who is asked already goes on as before; a server that is
    /// new begins in the state it is in.
    pub fn follow(&self, configuration: &Configuration) {
        self.lock().follow(configuration, Instant::now());
    }

    /// When someone is to be asked next.
    pub fn next(&self) -> Option<Instant> {
        self.lock().agenda.next()
    }

    /// Asks those whose time has come.
    pub fn ask(&self, asking: &Asking) {
        let mut targets = self.lock();
        for (number, pace, question, subject) in targets.due(asking.places, Instant::now()) {
            asking.start(number, pace, question, subject);
        }
    }

    /// Takes what was found; true when something is to be switched because of it.
    pub fn record(&self, found: Found) -> bool {
        self.lock().record(found, Instant::now())
    }

    /// When a weight is to rise next.
    pub fn next_step(&self) -> Option<Instant> {
        self.lock().watched.next_step(Instant::now())
    }

    /// What has to be switched.
    pub fn changes(&self) -> Vec<Change> {
        self.lock().changes(Instant::now())
    }

    /// These changes run now.
    pub fn done(&self, changes: &[Change]) {
        self.lock().watched.done(changes, Instant::now());
    }

    /// The servers that these changes have switched, and why.
    pub fn switched(&self, changes: &[Change]) -> Vec<(ServiceId, EventKind)> {
        self.lock().switched(changes)
    }

    /// The quorums that changed since this was last asked.
    pub fn take_quorum_changes(&self) -> Vec<QuorumChange> {
        self.lock().watched.take_quorum_changes()
    }

    /// The addresses that services announce, each with whether it is to be there.
    pub fn announced(&self) -> BTreeMap<(String, IpAddr), bool> {
        self.lock().watched.announced()
    }

    /// What is known of servers, in the order of services and servers.
    pub fn report(&self) -> Vec<ServerHealth> {
        let listed = self.listed();
        let parts = listed.chunks(REPORT_PART);
        parts.flat_map(|part| self.report_of(part)).collect()
    }

    /// Of whom something is known, in the order of services and servers.
    pub fn listed(&self) -> Vec<Listed> {
        self.lock().listed()
    }

    /// What is known of some of them, but for those that are not checked any more. Checks wait no longer than it takes to copy
    /// it: words are made of it afterwards.
    pub fn report_of(&self, listed: &[Listed]) -> Vec<ServerHealth> {
        let histories = self.lock().histories_of(listed);
        report::in_words(listed, &histories, Instant::now())
    }

    /// What is known of services, in the order of services.
    pub fn services(&self) -> Vec<ServiceHealth> {
        self.lock().services(Instant::now())
    }

    fn lock(&self) -> MutexGuard<'_, Targets> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Targets {
    fn follow(&mut self, configuration: &Configuration, now: Instant) {
        // Who is asked stays the same then.
        if self.watched.follow_servers(configuration, now) {
            return;
        }
        self.watched.follow(configuration, now);
        self.links.clear();
        self.first_links.clear();
        for target in self.targets.values_mut() {
            target.users.clear();
        }
        let last = self.next;
        let paths = CheckPaths::of(configuration);
        for service in 0..self.watched.services.len() {
            self.link_service(service, configuration, &paths, now, last);
        }
        self.targets.retain(|_, target| !target.users.is_empty());
        let targets = &self.targets;
        self.numbers
            .retain(|_, number| targets.contains_key(number));
        self.questions
            .retain(|_, (_, question)| Arc::strong_count(question) > 1);
        for number in last + 1..=self.next {
            if let Some(target) = self.targets.get(&number) {
                // Spread over the interval.
                let first = interval(&target.question).mul_f64(chance());
                self.agenda.add(number, now + first);
            }
        }
    }

    /// Targets with numbers above `last` are new.
    fn link_service(
        &mut self,
        index: usize,
        configuration: &Configuration,
        paths: &CheckPaths,
        now: Instant,
        last: u64,
    ) {
        let Some(service) = self.watched.services.get(index) else {
            return;
        };
        let id = service.checked.service;
        let servers = service.servers.clone();
        let checks = configuration.health.checks_of(id);
        let questions: Vec<(u64, Arc<Question>)> =
            checks.map(|check| self.question(check)).collect();
        // In the same order.
        let entry = (!paths.is_empty()).then(|| configuration.service(id));
        let entry = entry.flatten();
        for (place, server) in servers.enumerate() {
            self.first_links.push(self.links.len());
            let Some(watched) = self.watched.servers.get(server) else {
                continue;
            };
            let destination = watched.id;
            let configured = entry.and_then(|entry| entry.destinations.get(place));
            let is_off = configuration.health.is_off(id, destination);
            for (number, question) in &questions {
                let path = configured.and_then(|server| {
                    let path = CheckPath::of(&question.check, id, server)?;
                    Some((path, paths.number(&path)?))
                });
                let identity = identity(*number, question, id, destination, path);
                let number = *self.numbers.entry(identity).or_insert_with(|| {
                    self.next += 1;
                    self.next
                });
                let history = |state| {
                    let check = &question.check;
                    History::new(check.rise, check.fall, state, now)
                };
                let target = self.targets.entry(number).or_insert_with(|| Target {
                    identity,
                    question: Arc::clone(question),
                    // Down only if it is off wherever it is used.
                    history: history(ServerState::Down),
                    share: None,
                    pace: Pace::Prompt,
                    asked: now,
                    warned_days: None,
                    users: Vec::new(),
                });
                if !is_off && number > last {
                    target.history = history(ServerState::Up);
                }
                target.users.push(server);
                self.links.push(number);
            }
        }
    }

    fn question(&mut self, check: &Check) -> (u64, Arc<Question>) {
        let nameless = Check {
            name: String::new(),
            ..check.clone()
        };
        if let Some((number, question)) = self.questions.get(&nameless) {
            return (*number, Arc::clone(question));
        }
        self.last_question += 1;
        let question = Arc::new(Question::new(nameless.clone()));
        let made = (self.last_question, question);
        self.questions.insert(nameless, made.clone());
        made
    }

    fn due(&mut self, places: usize, now: Instant) -> Vec<(u64, Pace, Arc<Question>, Subject)> {
        let targets = &self.targets;
        let pace = |number| targets.get(&number).map(|target: &Target| target.pace);
        let taken = self.agenda.take(now, places, pace);
        let mut due = Vec::with_capacity(taken.len());
        for (number, pace) in taken {
            let Some(target) = self.targets.get_mut(&number) else {
                continue;
            };
            target.asked = now;
            let subject = Subject {
                server: target.identity.server,
                way: target.identity.way,
                user: target.identity.user,
            };
            due.push((number, pace, Arc::clone(&target.question), subject));
        }
        due
    }

    fn record(&mut self, found: Found, now: Instant) -> bool {
        self.agenda.ended(found.pace);
        // None: it was found while the check was given up.
        let Some(target) = self.targets.get_mut(&found.target) else {
            return false;
        };
        let question = &target.question;
        let next = target.asked + pause(interval(question), question.check.jitter_percent);
        self.agenda.add(found.target, next);
        let outcome = match found.outcome {
            Ok(outcome) => outcome,
            Err(error) => {
                if let Some(text) = self.complaints.about(&error, now) {
                    log::error!("{text}");
                }
                Outcome::silent(format!("this machine cannot ask: {error}"))
            }
        };
        target.pace = if outcome.is_late {
            Pace::Late
        } else {
            Pace::Prompt
        };
        let is_other_share = outcome.share.is_some() && target.share != outcome.share;
        target.share = outcome.share.or(target.share);
        target.warn(&outcome);
        let is_first = !target.history.has_results();
        let was_proven = target.history.is_proven();
        let mut changed = target.history.record(&outcome, now);
        // An agent that is not there has not taken the server off.
        if is_first
            && outcome.verdict == Verdict::Silent
            && matches!(target.question.check.probe, Probe::Agent(_))
            && target.history.state() == ServerState::Down
        {
            target.history.assume_up(now);
            changed = true;
        }
        if changed {
            target.log_state();
        }
        let may_switch = changed || is_other_share || was_proven != target.history.is_proven();
        if may_switch {
            for server in &target.users {
                self.watched.touch(*server);
            }
        }
        may_switch
    }

    fn changes(&mut self, now: Instant) -> Vec<Change> {
        let (targets, links, first_links) = (&self.targets, &self.links, &self.first_links);
        let wanted = |server: usize| {
            let first = first_links.get(server).copied().unwrap_or(links.len());
            let end = first_links.get(server + 1).copied().unwrap_or(links.len());
            let numbers = links.get(first..end).unwrap_or_default();
            let found = numbers.iter().filter_map(|number| targets.get(number));
            found.fold(Wanted::default(), |wanted, target| Wanted {
                off: wanted.off || target.history.state() == ServerState::Down,
                is_unproven: wanted.is_unproven || !target.history.is_proven(),
                share: wanted.share.or(target.share),
            })
        };
        self.watched.changes(now, wanted)
    }

    fn services(&self, now: Instant) -> Vec<ServiceHealth> {
        let services = self.watched.services.iter();
        let mut report: Vec<ServiceHealth> = services
            .map(|service| ServiceHealth {
                service: service.checked.service,
                state: if service.is_lost {
                    QuorumState::Lost
                } else {
                    QuorumState::Up
                },
                since_ms: milliseconds(service.since, now),
                weight_up: self.watched.weight_up(service),
                quorum: service.checked.quorum.weight,
                sorry_server: service
                    .checked
                    .sorry_server
                    .as_ref()
                    .map(|server| server.id),
            })
            .collect();
        report.sort_by_key(|service| service.service);
        report
    }
}

/// What makes this question to this server the same as another one.
fn identity(
    number: u64,
    question: &Question,
    service: ServiceId,
    id: DestinationId,
    path: Option<(CheckPath, u16)>,
) -> Identity {
    let check = &question.check;
    let port = match check.port {
        Some(port) => port,
        None if check.probe.has_port() => id.port(),
        None => 0,
    };
    let is_of_a_service = check.probe.is_of_a_service();
    let own = SocketAddr::new(id.address(), port);
    let (server, way) = match path {
        None => (own, Way::Address(own)),
        Some((path, number)) => {
            let way = SocketAddr::new(path.server, number);
            (path.target, Way::Path(way))
        }
    };
    Identity {
        server,
        way,
        question: number,
        user: is_of_a_service.then_some((service, id)),
    }
}

fn interval(question: &Question) -> Duration {
    Duration::from_millis(question.check.interval_ms.into())
}

impl Target {
    /// As the log calls it.
    fn name(&self) -> String {
        let server = self.identity.server;
        match self.identity.way {
            Way::Path(way) => format!("{} by the path of {server}", way.ip()),
            Way::Address(_) if server.port() == 0 => server.ip().to_string(),
            Way::Address(_) => server.to_string(),
        }
    }

    fn log_state(&self) {
        let (word, level) = match self.history.state() {
            ServerState::Up => ("up", log::Level::Info),
            ServerState::Down => ("down", log::Level::Warn),
        };
        let (server, reason) = (self.name(), self.history.reason());
        log::log!(level, "server {server} is {word}: {reason}");
    }

    /// Once for each day that a certificate has less.
    fn warn(&mut self, outcome: &Outcome) {
        if self.warned_days == outcome.expires_in_days {
            return;
        }
        self.warned_days = outcome.expires_in_days;
        if let Some(days) = self.warned_days {
            let server = self.name();
            log::warn!("the certificate of server {server} expires in {days} days");
        }
    }
}

mod report;
mod switched;
#[cfg(test)]
mod tests;
