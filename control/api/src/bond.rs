//! Several NICs as one port: `bond:active-backup:0000:03:00.0+0000:03:00.1`, as the `device` of a port.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// What the device of a bond begins with.
const PREFIX: &str = "bond:";
/// The most members of a bond: what a switch takes into one link aggregation group.
pub const MEMBERS_MAX: usize = 8;

/// How the members share the work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum BondMode {
    /// One carries all; when its link is lost, another does. The switch need not know.
    ActiveBackup,
    /// All carry their share of the flows, as agreed with the switch by LACP (IEEE 802.1AX).
    Lacp,
}

impl BondMode {
    const ALL: [Self; 2] = [Self::ActiveBackup, Self::Lacp];

    /// Its name in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ActiveBackup => "active-backup",
            Self::Lacp => "lacp",
        }
    }
}

/// A bond.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bond {
    /// How the members share the work.
    pub mode: BondMode,
    /// Devices as a port has them; the first is the one that carries all of an active-backup bond while it can.
    pub members: Vec<String>,
}

/// Why a text is no bond.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BondError {
    /// No mode, or one that there is not.
    #[error(
        "\"{0}\" has no mode of a bond: write bond:active-backup:DEVICE+DEVICE, or lacp where the switch speaks it"
    )]
    Mode(String),
    /// Fewer than two members, or too many, or an empty one.
    #[error(
        "\"{0}\" is not two to {MEMBERS_MAX} devices: write them with a + between, as in bond:lacp:0000:03:00.0+0000:03:00.1"
    )]
    Members(String),
    /// The same member twice.
    #[error("{0} is in the bond twice: name each device once")]
    MemberTwice(String),
}

impl Bond {
    /// The bond that a port's device is; none when it is another kind of device.
    ///
    /// # Errors
    /// [`BondError`].
    pub fn of_device(device: &str) -> Option<Result<Self, BondError>> {
        device.starts_with(PREFIX).then(|| device.parse())
    }

    /// The devices of a port: the members of a bond, or the device itself. Of what cannot be read, that.
    pub fn devices(device: &str) -> Vec<String> {
        match Self::of_device(device) {
            Some(Ok(bond)) => bond.members,
            _ => vec![device.to_owned()],
        }
    }
}

impl FromStr for Bond {
    type Err = BondError;

    fn from_str(text: &str) -> Result<Self, BondError> {
        let rest = text.strip_prefix(PREFIX).unwrap_or(text);
        let no_mode = || BondError::Mode(text.to_owned());
        let (word, members) = rest.split_once(':').ok_or_else(no_mode)?;
        let mut modes = BondMode::ALL.into_iter();
        let mode = modes
            .find(|mode| mode.as_str() == word)
            .ok_or_else(no_mode)?;
        let members: Vec<String> = members.split('+').map(str::to_owned).collect();
        if !(2..=MEMBERS_MAX).contains(&members.len()) || members.iter().any(String::is_empty) {
            return Err(BondError::Members(text.to_owned()));
        }
        for (place, member) in members.iter().enumerate() {
            if members.iter().take(place).any(|other| other == member) {
                return Err(BondError::MemberTwice(member.clone()));
            }
        }
        Ok(Self { mode, members })
    }
}

impl fmt::Display for Bond {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{PREFIX}{}:{}",
            self.mode.as_str(),
            self.members.join("+")
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bond_is_written_as_it_is_read() {
        for (text, mode, members) in [
            (
                "bond:active-backup:0000:03:00.0+0000:03:00.1",
                BondMode::ActiveBackup,
                2,
            ),
            (
                "bond:lacp:net_null0,copy=1+net_null1+01:00.0",
                BondMode::Lacp,
                3,
            ),
        ] {
            let bond = Bond::of_device(text).unwrap().unwrap();
            assert_eq!((bond.mode, bond.members.len()), (mode, members));
            assert_eq!(bond.to_string(), text);
            assert_eq!(Bond::devices(text), bond.members);
        }
        assert_eq!(Bond::of_device("0000:03:00.0"), None);
        assert_eq!(Bond::devices("net_null0"), ["net_null0"]);
    }

    #[test]
    fn what_is_no_bond_says_what_to_write() {
        for (text, complaint) in [
            (
                "bond:",
                "has no mode of a bond: write bond:active-backup:DEVICE+DEVICE",
            ),
            ("bond:802.3ad:a+b", "has no mode of a bond"),
            ("bond:lacp:0000:03:00.0", "is not two to 8 devices"),
            ("bond:lacp:a+", "is not two to 8 devices"),
            ("bond:lacp:a+b+a", "a is in the bond twice"),
        ] {
            let error = Bond::of_device(text).unwrap().unwrap_err().to_string();
            assert!(error.contains(complaint), "{text}: {error}");
        }
    }
}
