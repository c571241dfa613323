//! What a machine was before it was set up, so that it can be that again.

use std::fs;

use serde::{Deserialize, Serialize};

use super::step::Step;
use crate::host::Root;

/// Where it is kept.
pub const FILE: &str = "/var/lib/pollux/setup.json";

/// What there was, and what was made.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// NICs that were given to `vfio-pci`.
    pub nics: Vec<NicBefore>,
    /// Numbers of huge pages that were raised.
    pub pages: Vec<PagesBefore>,
    /// Settings of the kernel that were changed.
    #[serde(default)]
    pub settings: Vec<SettingBefore>,
    /// Files that were written.
    pub files: Vec<String>,
}

/// A setting of the kernel as it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SettingBefore {
    /// Its file, below `/proc/sys`.
    pub file: String,
    /// Its value.
    pub value: String,
}

/// A NIC as it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NicBefore {
    /// Its address.
    pub address: String,
    /// Its driver, if it had one.
    pub driver: Option<String>,
}

/// Huge pages as they were.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PagesBefore {
    /// The file that says how many.
    pub file: String,
    /// How many.
    pub pages: u64,
}

impl Record {
    /// That of a machine; none when it was never set up.
    pub fn read(root: &Root) -> Option<Self> {
        serde_json::from_str(&fs::read_to_string(root.path(FILE)).ok()?).ok()
    }

    /// What was first is what there was: later runs find what this program made.
    pub fn remember_nic(&mut self, nic: NicBefore) {
        if self.nics.iter().all(|known| known.address != nic.address) {
            self.nics.push(nic);
        }
    }

    /// As [`Self::remember_nic`].
    pub fn remember_pages(&mut self, pages: PagesBefore) {
        if self.pages.iter().all(|known| known.file != pages.file) {
            self.pages.push(pages);
        }
    }

    /// As [`Self::remember_nic`].
    pub fn remember_setting(&mut self, setting: SettingBefore) {
        if self.settings.iter().all(|known| known.file != setting.file) {
            self.settings.push(setting);
        }
    }

    /// As [`Self::remember_nic`].
    pub fn remember_file(&mut self, file: &str) {
        if self.files.iter().all(|known| known != file) {
            self.files.push(file.to_owned());
        }
    }

    /// Writes it, if it is not there as it is.
    pub fn step_to_write(&self, root: &Root) -> Option<Step> {
        if Self::read(root).as_ref() == Some(self) {
            return None;
        }
        // A record of strings and numbers is always JSON.
        let text = serde_json::to_string_pretty(self).unwrap_or_default();
        Some(Step::Write {
            file: FILE.to_owned(),
            text: text + "\n",
        })
    }
}
