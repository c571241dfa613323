//! The program at the far end of the link.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::ensure;
use pollux_api::statistics::DropReport;

use super::Plan;
use crate::appliance::device::DpdkDevice;
use crate::appliance::director::{self, Director, DirectorSpec};
use crate::appliance::namespace::Namespace;
use crate::appliance::process::Scheduled;
use crate::appliance::testpmd::{Testpmd, TestpmdSpec};
use crate::appliance::{PORT_MAC, Place, mac_text, memory_mib, table_entries};
use crate::interrupt;
use crate::measurement::Program;

const LOOK_EVERY: Duration = Duration::from_millis(10);

/// The running program.
#[derive(Debug)]
pub enum Subject {
    /// The ceiling.
    Testpmd(Box<Testpmd>),
    /// Ours. It ends before its namespace goes.
    Director(Box<Director>, Namespace),
}

/// Where the program listens for the generator.
pub fn socket(place: &Place) -> PathBuf {
    place.file("memif.sock")
}

fn device(place: &Place) -> DpdkDevice {
    DpdkDevice::Virtual(format!(
        "net_memif0,role=server,id=0,socket={},socket-abstract=no,mac={}",
        socket(place).display(),
        mac_text(PORT_MAC)
    ))
}

impl Subject {
    /// Starts it; the data plane serves its service then.
    ///
    /// # Errors
    /// It does not start.
    pub fn start(program: Program, plan: &Plan, place: &Place) -> anyhow::Result<Self> {
        let device = device(place);
        let _ = std::fs::remove_file(socket(place));
        match program {
            Program::Testpmd => {
                let spec = TestpmdSpec {
                    device: &device,
                    frames_kept: 0,
                    cpus: place.cpus,
                    memory_mib: memory_mib(0),
                    huge_pages: place.huge_mount.as_deref(),
                    directory: &place.directory,
                };
                Ok(Self::Testpmd(Box::new(Testpmd::start(&spec)?)))
            }
            Program::PolluxDataplane => {
                place.forget_data_planes();
                let namespace = Namespace::make()?;
                let spec = DirectorSpec {
                    program: &place.dataplane,
                    device: &device,
                    connections: table_entries(plan.service.family, plan.connections),
                    cpu: place.cpus.0,
                    memory_mib: memory_mib(0),
                    huge_pages: place.huge_mount.is_some(),
                    directory: &place.directory,
                };
                let mut director = Director::start(&spec, &namespace)?;
                director.set_up_port(&namespace, plan.service)?;
                let mac = director.mac()?;
                ensure!(
                    mac == mac_text(PORT_MAC),
                    "net_memif has the MAC {mac}, the frames are for {}",
                    mac_text(PORT_MAC)
                );
                director.serve(plan.service)?;
                Ok(Self::Director(Box::new(director), namespace))
            }
        }
    }

    /// What the kernel has counted of its worker.
    ///
    /// # Errors
    /// It has ended.
    pub fn scheduled(&self) -> anyhow::Result<Scheduled> {
        match self {
            Self::Testpmd(testpmd) => testpmd.process.worker_scheduled(),
            Self::Director(director, _) => director.process.worker_scheduled(),
        }
    }

    /// Whether it knows so many connections in time; testpmd knows of none.
    ///
    /// # Errors
    /// It does not answer.
    pub fn wait_for_connections(&mut self, wanted: u64, time: Duration) -> anyhow::Result<bool> {
        let Self::Director(director, _) = self else {
            return Ok(true);
        };
        let began = Instant::now();
        loop {
            if director.connections()? == wanted {
                return Ok(true);
            }
            if began.elapsed() > time {
                return Ok(false);
            }
            interrupt::sleep(LOOK_EVERY)?;
        }
    }

    /// What became of its packets; testpmd does not say.
    ///
    /// # Errors
    /// It does not answer.
    pub fn fates(&mut self) -> anyhow::Result<Option<DropReport>> {
        match self {
            Self::Testpmd(_) => Ok(None),
            Self::Director(director, _) => director.fates().map(Some),
        }
    }

    /// Sees to it that it forwarded what it received since an earlier look.
    ///
    /// # Errors
    /// It did not, with the fates.
    pub fn expect_forwarded_since(&mut self, before: Option<DropReport>) -> anyhow::Result<()> {
        match (before, self.fates()?) {
            (Some(before), Some(after)) => director::expect_forwarded(&before, &after),
            _ => Ok(()),
        }
    }

    /// What it says of itself when something is wrong.
    pub fn account(&mut self) -> String {
        match self.fates() {
            Ok(Some(report)) => {
                let fates = report.fates.iter().filter(|fate| fate.packets > 0);
                let fates: Vec<String> = fates
                    .map(|fate| format!("{} {}", fate.fate, fate.packets))
                    .collect();
                format!("; it received {}: {}", report.received, fates.join(", "))
            }
            Ok(None) => String::new(),
            Err(error) => format!("; {error:#}"),
        }
    }

    /// Ends it.
    ///
    /// # Errors
    /// It did not end by itself.
    pub fn end(self) -> anyhow::Result<()> {
        match self {
            Self::Testpmd(testpmd) => testpmd.process.end(),
            Self::Director(director, _namespace) => director.process.end(),
        }
    }
}
