//! Schedulers and their flags, by the words of `ipvsadm -s` and `-b`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Why a text names no scheduler or flag.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum SchedulerError {
    /// The scheduler is not one of [`SchedulerName::ALL`].
    #[error("unknown scheduler \"{0}\": known are {list}", list = SchedulerName::list())]
    Name(String),
    /// The flag is none.
    #[error("unknown scheduler flag \"{0}\": known are {list}", list = SchedulerFlags::list())]
    Flag(String),
    /// The bound is no percentage in range.
    #[error(
        "bad scheduler flag \"{0}\": write mh-bounded=PERCENT, from {min} to {max}, as in mh-bounded=25",
        min = BOUND_PERCENT_MIN,
        max = BOUND_PERCENT_MAX
    )]
    Bound(String),
}

/// A scheduler, by the name `ipvsadm -s` takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum SchedulerName {
    /// `rr`: each server in turn.
    RoundRobin,
    /// `wrr`: in turn, as often as the weight says.
    WeightedRoundRobin,
    /// `lc`: fewest connections.
    LeastConnection,
    /// `wlc`: fewest connections for its weight. The default, as `ipvsadm` has it.
    #[default]
    WeightedLeastConnection,
    /// `lblc`: each destination address has its server.
    LocalityBased,
    /// `lblcr`: each destination address has a set of servers.
    LocalityBasedReplicated,
    /// `dh`: by the destination address.
    DestinationHashing,
    /// `sh`: by the source address.
    SourceHashing,
    /// `sed`: shortest expected delay.
    ShortestExpectedDelay,
    /// `nq`: an idle server, else the shortest expected delay.
    NeverQueue,
    /// `fo`: the largest weight.
    WeightedFailover,
    /// `ovf`: the largest weight that is not full.
    WeightedOverflow,
    /// `mh`: by the source address, over a Maglev table.
    MaglevHashing,
    /// `twos`: the less loaded of two drawn by weight.
    TwoRandomChoices,
    /// `p2c`: the less loaded of two different ones drawn by weight; not in LVS.
    PowerOfTwoChoices,
    /// `ewma`: by weight and by how fast the server answers a SYN; not in LVS.
    FastestAnswer,
}

impl SchedulerName {
    /// Every scheduler.
    pub const ALL: [Self; 16] = [
        Self::RoundRobin,
        Self::WeightedRoundRobin,
        Self::LeastConnection,
        Self::WeightedLeastConnection,
        Self::LocalityBased,
        Self::LocalityBasedReplicated,
        Self::DestinationHashing,
        Self::SourceHashing,
        Self::ShortestExpectedDelay,
        Self::NeverQueue,
        Self::WeightedFailover,
        Self::WeightedOverflow,
        Self::MaglevHashing,
        Self::TwoRandomChoices,
        Self::PowerOfTwoChoices,
        Self::FastestAnswer,
    ];

    /// The name as `ipvsadm` writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RoundRobin => "rr",
            Self::WeightedRoundRobin => "wrr",
            Self::LeastConnection => "lc",
            Self::WeightedLeastConnection => "wlc",
            Self::LocalityBased => "lblc",
            Self::LocalityBasedReplicated => "lblcr",
            Self::DestinationHashing => "dh",
            Self::SourceHashing => "sh",
            Self::ShortestExpectedDelay => "sed",
            Self::NeverQueue => "nq",
            Self::WeightedFailover => "fo",
            Self::WeightedOverflow => "ovf",
            Self::MaglevHashing => "mh",
            Self::TwoRandomChoices => "twos",
            Self::PowerOfTwoChoices => "p2c",
            Self::FastestAnswer => "ewma",
        }
    }

    /// Who gets the next connection: a sentence.
    pub fn choice(self) -> &'static str {
        match self {
            Self::RoundRobin => "Each server in turn, whatever its weight.",
            Self::WeightedRoundRobin => "In turn, as often as the weight says.",
            Self::LeastConnection => "The fewest connections, whatever the weight.",
            Self::WeightedLeastConnection => "The fewest connections for its weight.",
            Self::LocalityBased => {
                "The server that had the destination address before, until it has too much to do."
            }
            Self::LocalityBasedReplicated => {
                "The least loaded of the servers of the destination address, more of them when they have too much to do."
            }
            Self::DestinationHashing => "By the destination address alone.",
            Self::SourceHashing => "By the client's address, with sh-port its port too.",
            Self::ShortestExpectedDelay => {
                "Where it is served soonest: fewest active connections for its weight, itself included."
            }
            Self::NeverQueue => "An idle server if there is one, else as sed.",
            Self::WeightedFailover => "The largest weight that takes connections.",
            Self::WeightedOverflow => {
                "The largest weight that has not more active connections than that."
            }
            Self::MaglevHashing => {
                "By the client's address, with mh-port its port too, the same on every director."
            }
            Self::TwoRandomChoices => "The less loaded of two drawn by weight, as Linux draws.",
            Self::PowerOfTwoChoices => {
                "The less loaded of two different ones drawn by weight; not in Linux."
            }
            Self::FastestAnswer => {
                "By weight, divided by the time to answer a SYN (nat); not in Linux."
            }
        }
    }

    /// What it is good for, after "good for".
    pub fn purpose(self) -> &'static str {
        match self {
            Self::RoundRobin => "equal servers; short requests, equally long",
            Self::WeightedRoundRobin => "unequal servers; short requests, equally long",
            Self::LeastConnection => "equal servers; requests of unequal length",
            Self::WeightedLeastConnection => "unequal servers; requests of unequal length",
            Self::LocalityBased => "caches behind a firewall mark, one to an address",
            Self::LocalityBasedReplicated => {
                "caches behind a firewall mark where some addresses are too much for one"
            }
            Self::DestinationHashing => {
                "caches behind a firewall mark, fixed; one address has one server"
            }
            Self::SourceHashing => "clients that must stay with their server",
            Self::ShortestExpectedDelay => "servers of very different speed, little load",
            Self::NeverQueue => "servers of very different speed, none idle while others queue",
            Self::WeightedFailover => "one server and its stand-ins",
            Self::WeightedOverflow => "filling servers one by one, the rest may sleep",
            Self::MaglevHashing => {
                "several directors at once; clients that hardly move when servers change (mh_tab_index: how hardly)"
            }
            Self::TwoRandomChoices => "several directors that share servers",
            Self::PowerOfTwoChoices => "several directors that share servers; hundreds of servers",
            Self::FastestAnswer => "servers whose speed differs and changes; more than one site",
        }
    }

    /// Its own flags, as they are written.
    pub fn flags(self) -> &'static [&'static str] {
        match self {
            Self::SourceHashing => &["sh-fallback", "sh-port"],
            Self::MaglevHashing => &["mh-fallback", "mh-port", "mh-bounded=PERCENT"],
            _ => &[],
        }
    }

    fn list() -> String {
        Self::ALL.map(Self::as_str).join(", ")
    }
}

impl FromStr for SchedulerName {
    type Err = SchedulerError;

    fn from_str(text: &str) -> Result<Self, SchedulerError> {
        Self::ALL
            .into_iter()
            .find(|name| name.as_str() == text)
            .ok_or_else(|| SchedulerError::Name(text.to_owned()))
    }
}

impl TryFrom<String> for SchedulerName {
    type Error = SchedulerError;

    fn try_from(text: String) -> Result<Self, SchedulerError> {
        text.parse()
    }
}

impl From<SchedulerName> for String {
    fn from(name: SchedulerName) -> Self {
        name.as_str().to_owned()
    }
}

impl fmt::Display for SchedulerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Smallest bound, percent above the share: no server has more than its share, rounded up.
const BOUND_PERCENT_MIN: u16 = 0;
/// Largest bound, percent above the share: more is no bound any more.
const BOUND_PERCENT_MAX: u16 = 1000;
/// What a bound is written as, before its percentage.
const BOUND: &str = "mh-bounded=";

/// Flags of a scheduler, as `ipvsadm -b` takes them: a set. The numbered ones are taken by every scheduler and, by most,
/// for nothing; they are the same as the named ones of `sh` and `mh`, which only these take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(try_from = "Vec<String>", into = "Vec<String>")]
pub struct SchedulerFlags {
    /// Bits by place in [`FLAGS`].
    given: u8,
    bound_percent: Option<u16>,
}

/// The flags without a value: name, number in Linux, and the scheduler whose name for this number it is.
const FLAGS: [(&str, u8, Option<SchedulerName>); 7] = [
    ("sh-fallback", 1, Some(SchedulerName::SourceHashing)),
    ("sh-port", 2, Some(SchedulerName::SourceHashing)),
    ("mh-fallback", 1, Some(SchedulerName::MaglevHashing)),
    ("mh-port", 2, Some(SchedulerName::MaglevHashing)),
    ("flag-1", 1, None),
    ("flag-2", 2, None),
    ("flag-3", 3, None),
];

impl SchedulerFlags {
    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self == Self::default()
    }

    /// Whether the flag with this number in Linux is given, by whichever name: `IP_VS_SVC_F_SCHED1` is 1.
    pub fn has_number(self, number: u8) -> bool {
        self.given().any(|(_, known, _)| known == number)
    }

    /// The flags with these numbers, by the names this scheduler has for them.
    #[must_use]
    pub fn of_numbers(numbers: impl IntoIterator<Item = u8>, scheduler: SchedulerName) -> Self {
        let mut flags = Self::default();
        for number in numbers {
            flags.give(|(_, known, of)| *known == number && of.is_none());
        }
        flags.named_for(scheduler)
    }

    /// The percentage of `mh-bounded`.
    pub fn bound_percent(self) -> Option<u16> {
        self.bound_percent
    }

    fn given(self) -> impl Iterator<Item = (&'static str, u8, Option<SchedulerName>)> {
        let given = (0..).zip(FLAGS);
        given
            .filter(move |(place, _)| self.given & 1 << place != 0)
            .map(|(_, flag)| flag)
    }

    fn give(&mut self, wanted: impl Fn(&(&str, u8, Option<SchedulerName>)) -> bool) -> bool {
        let place = FLAGS.iter().position(wanted);
        self.given |= place.map_or(0, |place| 1 << place);
        place.is_some()
    }

    /// A flag that is another scheduler's.
    pub fn foreign_to(self, scheduler: SchedulerName) -> Option<(String, SchedulerName)> {
        let named = self
            .given()
            .filter_map(|(name, _, of)| Some((name.to_owned(), of?)));
        let bound = self
            .bound_percent
            .map(|percent| (format!("{BOUND}{percent}"), SchedulerName::MaglevHashing));
        named.chain(bound).find(|(_, of)| *of != scheduler)
    }

    /// The same flags by the names this scheduler has for them, as `ipvsadm` prints them.
    #[must_use]
    pub fn named_for(self, scheduler: SchedulerName) -> Self {
        let mut named = Self { given: 0, ..self };
        for flag in self.given() {
            let is_own = |known: &(&str, u8, Option<SchedulerName>)| {
                known.1 == flag.1 && known.2 == Some(scheduler)
            };
            if !named.give(is_own) {
                named.give(|known| *known == flag);
            }
        }
        named
    }

    /// The names, in `ipvsadm`'s order.
    pub fn names(self) -> Vec<String> {
        let named = self.given().map(|(name, ..)| name.to_owned());
        let bound = self
            .bound_percent
            .map(|percent| format!("{BOUND}{percent}"));
        named.chain(bound).collect()
    }

    fn list() -> String {
        let names = FLAGS.map(|(name, ..)| name).join(", ");
        format!("{names}, {BOUND}PERCENT")
    }

    fn add(&mut self, name: &str) -> Result<(), SchedulerError> {
        if let Some(percent) = name.strip_prefix(BOUND) {
            let percent = percent
                .parse()
                .ok()
                .filter(|percent| (BOUND_PERCENT_MIN..=BOUND_PERCENT_MAX).contains(percent));
            self.bound_percent =
                Some(percent.ok_or_else(|| SchedulerError::Bound(name.to_owned()))?);
            return Ok(());
        }
        if self.give(|(known, ..)| *known == name) {
            Ok(())
        } else {
            Err(SchedulerError::Flag(name.to_owned()))
        }
    }
}

impl FromStr for SchedulerFlags {
    type Err = SchedulerError;

    /// Names with commas between; the empty text is no flag.
    fn from_str(text: &str) -> Result<Self, SchedulerError> {
        let names = text.split(',').filter(|name| !name.is_empty());
        Self::try_from(names.map(str::to_owned).collect::<Vec<_>>())
    }
}

impl FromIterator<Self> for SchedulerFlags {
    /// All of all; of two bounds the last one.
    fn from_iter<I: IntoIterator<Item = Self>>(all: I) -> Self {
        all.into_iter().fold(Self::default(), |sum, more| Self {
            given: sum.given | more.given,
            bound_percent: more.bound_percent.or(sum.bound_percent),
        })
    }
}

impl TryFrom<Vec<String>> for SchedulerFlags {
    type Error = SchedulerError;

    fn try_from(names: Vec<String>) -> Result<Self, SchedulerError> {
        let mut flags = Self::default();
        for name in names {
            flags.add(&name)?;
        }
        Ok(flags)
    }
}

impl From<SchedulerFlags> for Vec<String> {
    fn from(flags: SchedulerFlags) -> Self {
        flags.names()
    }
}

impl fmt::Display for SchedulerFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.names().join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_scheduler_lists_the_known() {
        let error = "fair".parse::<SchedulerName>().unwrap_err().to_string();
        assert_eq!(
            error,
            "unknown scheduler \"fair\": known are rr, wrr, lc, wlc, lblc, lblcr, dh, sh, sed, nq, fo, ovf, mh, twos, p2c, ewma"
        );
    }

    #[test]
    fn names_read_back() {
        for name in SchedulerName::ALL {
            assert_eq!(name.as_str().parse(), Ok(name));
        }
    }

    #[test]
    fn flags_are_a_set_in_ipvsadms_order() {
        let flags: SchedulerFlags = "mh-bounded=25,mh-port,mh-fallback,mh-port".parse().unwrap();
        assert_eq!(flags.to_string(), "mh-fallback,mh-port,mh-bounded=25");
        assert_eq!(flags.to_string().parse(), Ok(flags));
        let text = serde_json::to_string(&flags).unwrap();
        assert_eq!(text, r#"["mh-fallback","mh-port","mh-bounded=25"]"#);
        assert_eq!(
            serde_json::from_str::<SchedulerFlags>(&text).unwrap(),
            flags
        );
        assert!("".parse::<SchedulerFlags>().unwrap().is_empty());
    }

    #[test]
    fn numbered_flags_are_the_schedulers_own() {
        let flags: SchedulerFlags = "flag-2,flag-1,flag-3".parse().unwrap();
        for (scheduler, names) in [
            (SchedulerName::SourceHashing, "sh-fallback,sh-port,flag-3"),
            (SchedulerName::MaglevHashing, "mh-fallback,mh-port,flag-3"),
            (SchedulerName::RoundRobin, "flag-1,flag-2,flag-3"),
        ] {
            let named = flags.named_for(scheduler);
            assert_eq!(named.to_string(), names);
            assert_eq!(named.named_for(scheduler), named);
            assert!(named.has_number(1) && named.has_number(2) && named.has_number(3));
            assert_eq!(named.foreign_to(scheduler), None);
        }
    }

    #[test]
    fn flags_of_another_scheduler_are_foreign() {
        for (flags, scheduler, foreign) in [
            ("sh-port", SchedulerName::MaglevHashing, "sh-port"),
            ("mh-bounded=5", SchedulerName::SourceHashing, "mh-bounded=5"),
            ("flag-1,mh-port", SchedulerName::RoundRobin, "mh-port"),
        ] {
            let flags: SchedulerFlags = flags.parse().unwrap();
            let (name, of) = flags.foreign_to(scheduler).unwrap();
            assert_eq!(name, foreign);
            assert_ne!(of, scheduler);
        }
    }

    #[test]
    fn bad_flags_say_what_to_write() {
        for (text, message) in [
            ("sh-ports", "known are sh-fallback, sh-port, mh-fallback"),
            ("mh-bounded", "mh-bounded=PERCENT"),
            ("mh-bounded=1001", "from 0 to 1000"),
            ("mh-bounded=", "as in mh-bounded=25"),
            (
                "mh-port, mh-fallback",
                "unknown scheduler flag \" mh-fallback\"",
            ),
        ] {
            let error = text.parse::<SchedulerFlags>().unwrap_err().to_string();
            assert!(error.contains(message), "{text}: {error}");
        }
    }
}
