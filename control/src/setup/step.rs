//! One thing that is done to a machine: as a person would type it, and done.

use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::process::Command;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::host::Root;
use crate::host::iommu::UNSAFE_MODE;
use crate::host::pci::PciDevice;

/// One thing to do. Paths begin with a slash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Load a module of the kernel.
    Load(String),
    /// Write a value into a file of `/sys`.
    Set {
        /// The file.
        file: String,
        /// The value.
        value: String,
    },
    /// Write a file.
    Write {
        /// The file.
        file: String,
        /// What is in it.
        text: String,
    },
    /// Make a symbolic link.
    Link {
        /// Where.
        file: String,
        /// Where to.
        target: String,
    },
    /// Remove a file or link, if it is there.
    Remove(String),
    /// Check that a NIC has got this driver.
    ExpectDriver {
        /// The NIC.
        address: String,
        /// The driver.
        driver: String,
    },
    /// Check that so many huge pages are there.
    ExpectPages {
        /// The file that says how many.
        file: String,
        /// How many.
        pages: u64,
    },
}

/// Why a step could not be done. Those before it are done.
#[derive(Debug, Error)]
pub enum StepError {
    /// A file.
    #[error("`{0}`: {1}")]
    File(Step, io::Error),
    /// A command.
    #[error("`{0}`: {1}")]
    Command(Step, String),
    /// The kernel was built without `CONFIG_VFIO_NOIOMMU`.
    #[error(
        "this kernel cannot do without an IOMMU: it has no {UNSAFE_MODE}; boot one that was built with CONFIG_VFIO_NOIOMMU \
         (Debian's were not), or bind the NICs to uio_pci_generic instead"
    )]
    NoUnsafeMode,
    /// The kernel did not bind it.
    #[error(
        "{address} is bound to {found} and not to {wanted}: the kernel's log (`dmesg`) says why it does not take it"
    )]
    NotBound {
        /// The NIC.
        address: String,
        /// What it is bound to.
        found: String,
        /// What it should be bound to.
        wanted: String,
    },
    /// The kernel found no memory in one piece.
    #[error(
        "{found} of {wanted} huge pages are there: memory is in use or in pieces; the next boot reserves them before \
         that, or set `connections` of [dataplane] lower ({file})"
    )]
    TooFewPages {
        /// The file that says how many.
        file: String,
        /// How many there are.
        found: u64,
        /// How many there should be.
        wanted: u64,
    },
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Load(module) => write!(f, "modprobe {module}"),
            Self::Set { file, value } if value.is_empty() => write!(f, "echo > {file}"),
            Self::Set { file, value } => write!(f, "echo {value} > {file}"),
            Self::Write { file, text } => {
                write!(f, "write {file} ({} lines)", text.lines().count())
            }
            Self::Link { file, target } => write!(f, "ln -sf {target} {file}"),
            Self::Remove(file) => write!(f, "rm -f {file}"),
            Self::ExpectDriver { address, driver } => {
                write!(f, "# {address} must be bound to {driver} now")
            }
            Self::ExpectPages { file, pages } => write!(f, "# {file} must say {pages} or more now"),
        }
    }
}

impl Step {
    /// Does it. On a machine that is only described no command is run.
    ///
    /// # Errors
    /// [`StepError`].
    pub fn perform(&self, root: &Root) -> Result<(), StepError> {
        let of_file = |error| StepError::File(self.clone(), error);
        match self {
            Self::Load(module) => self.run(root, "modprobe", &[module]),
            // An empty line is how `driver_override` is taken back.
            Self::Set { file, .. } if file == UNSAFE_MODE && !root.has(file) => {
                Err(StepError::NoUnsafeMode)
            }
            Self::Set { file, value } => {
                fs::write(root.path(file), format!("{value}\n")).map_err(of_file)
            }
            Self::Write { file, text } => {
                make_directory(root, file).map_err(of_file)?;
                fs::write(root.path(file), text).map_err(of_file)
            }
            Self::Link { file, target } => {
                make_directory(root, file).map_err(of_file)?;
                remove(root, file).map_err(of_file)?;
                symlink(target, root.path(file)).map_err(of_file)
            }
            Self::Remove(file) => remove(root, file).map_err(of_file),
            Self::ExpectDriver { address, driver } => {
                let found = PciDevice::read(root, address).and_then(|device| device.driver);
                if found.as_ref() == Some(driver) {
                    return Ok(());
                }
                Err(StepError::NotBound {
                    address: address.clone(),
                    found: found.unwrap_or_else(|| String::from("no driver")),
                    wanted: driver.clone(),
                })
            }
            Self::ExpectPages { file, pages } => {
                let found = root.value(file).unwrap_or(0);
                if found >= *pages {
                    return Ok(());
                }
                Err(StepError::TooFewPages {
                    file: file.clone(),
                    found,
                    wanted: *pages,
                })
            }
        }
    }

    fn run(&self, root: &Root, program: &str, arguments: &[&str]) -> Result<(), StepError> {
        if !root.is_this_machine() {
            return Ok(());
        }
        let output = Command::new(program)
            .args(arguments)
            .output()
            .map_err(|error| StepError::File(self.clone(), error))?;
        if output.status.success() {
            return Ok(());
        }
        let text = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        Err(StepError::Command(self.clone(), text))
    }
}

fn make_directory(root: &Root, file: &str) -> io::Result<()> {
    match root.path(file).parent() {
        Some(directory) => fs::create_dir_all(directory),
        None => Ok(()),
    }
}

fn remove(root: &Root, file: &str) -> io::Result<()> {
    match fs::remove_file(root.path(file)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}
