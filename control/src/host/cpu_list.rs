//! Lists of processors as the kernel writes them: `0-3,8`.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// Processors, each named once.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CpuList(BTreeSet<u16>);

/// Not a list of processors.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("bad list of processors \"{0}\": write it as the kernel does, as in 0-3,8")]
pub struct CpuListError(String);

impl CpuList {
    /// Whether it has this one.
    pub fn contains(&self, cpu: u16) -> bool {
        self.0.contains(&cpu)
    }

    /// In the order of their numbers.
    pub fn iter(&self) -> impl Iterator<Item = u16> {
        self.0.iter().copied()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<u16> for CpuList {
    fn from_iter<I: IntoIterator<Item = u16>>(cpus: I) -> Self {
        Self(cpus.into_iter().collect())
    }
}

impl FromStr for CpuList {
    type Err = CpuListError;

    fn from_str(text: &str) -> Result<Self, CpuListError> {
        let wrong = || CpuListError(text.to_owned());
        let number = |text: &str| text.trim().parse::<u16>().map_err(|_| wrong());
        let mut cpus = BTreeSet::new();
        // Some kernels write "(null)" for no list at all.
        let parts = text.trim().split(',').filter(|_| text.trim() != "(null)");
        for part in parts.filter(|part| !part.is_empty()) {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last) = (number(first)?, number(last)?);
            if first > last {
                return Err(wrong());
            }
            cpus.extend(first..=last);
        }
        Ok(Self(cpus))
    }
}

impl fmt::Display for CpuList {
    /// Shortened to ranges: `0-3,8`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.iter().peekable();
        let mut comma = "";
        while let Some(first) = rest.next() {
            let mut last = first;
            while let Some(next) = rest.next_if(|next| Some(*next) == last.checked_add(1)) {
                last = next;
            }
            if first == last {
                write!(f, "{comma}{first}")?;
            } else {
                write!(f, "{comma}{first}-{last}")?;
            }
            comma = ",";
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_read_and_print_the_same() {
        for text in ["", "0", "0-3,8", "1,3,5-6", "65534-65535"] {
            assert_eq!(text.parse::<CpuList>().unwrap().to_string(), text);
        }
        assert_eq!("2,1,0\n".parse::<CpuList>().unwrap().to_string(), "0-2");
        assert!("(null)".parse::<CpuList>().unwrap().is_empty());
    }

    #[test]
    fn what_is_no_list_says_so() {
        for text in ["3-1", "a", "1-", "-1", "70000"] {
            let error = text.parse::<CpuList>().unwrap_err().to_string();
            assert!(error.contains("as in 0-3,8"), "{text}: {error}");
        }
    }
}
