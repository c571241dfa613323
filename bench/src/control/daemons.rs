//! Both daemons and the CLI, beside this program, in a network namespace and a folder of their own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, ensure};

use crate::appliance::director::{file_prefix, table_files};
use crate::appliance::namespace::Namespace;
use crate::appliance::process::{Farewell, RigProcess, scheduled};
use crate::appliance::runtime_directory::RuntimeDirectory;
use crate::arguments::ControlOptions;

/// Entries of the table: nobody connects.
const CONNECTIONS: u32 = 4096;
const MEMORY_MIB: u32 = 64;

/// The running daemons. They end, polluxd first, and their folder goes, with this.
#[derive(Debug)]
pub struct Daemons {
    polluxd: RigProcess,
    dataplane: RigProcess,
    _runtime: RuntimeDirectory,
    pub namespace: Namespace,
    cli: PathBuf,
    folder: Folder,
}

/// A folder that goes with this.
#[derive(Debug)]
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        for file in table_files(&self.0) {
            let _ = fs::remove_file(file);
        }
        // Most likely nothing is left that anyone could do about it.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Processor time that the daemons have had, nanoseconds.
#[derive(Debug, Clone, Copy)]
pub struct Used {
    /// All threads of polluxd.
    pub polluxd_ns: u64,
    /// The main thread of the data plane, which does all but packets.
    pub dataplane_ns: u64,
}

impl Used {
    /// What was used since an earlier reading.
    pub fn since(self, earlier: Self) -> Self {
        Self {
            polluxd_ns: self.polluxd_ns.saturating_sub(earlier.polluxd_ns),
            dataplane_ns: self.dataplane_ns.saturating_sub(earlier.dataplane_ns),
        }
    }
}

impl Daemons {
    /// Starts them without any service.
    ///
    /// # Errors
    /// They are not there or do not start.
    pub fn start(options: &ControlOptions) -> anyhow::Result<Self> {
        let programs = match &options.programs {
            Some(folder) => folder.clone(),
            None => {
                let own = std::env::current_exe()?;
                own.parent().context("no folder")?.to_owned()
            }
        };
        let namespace = Namespace::make()?;
        namespace.ip("link set lo up")?;
        let folder = std::env::temp_dir().join(file_prefix());
        fs::create_dir_all(&folder)?;
        let folder = Folder(folder);
        let [run, state, config] =
            ["run", "state", "pollux.toml"].map(|name| folder.0.join(name).display().to_string());
        fs::write(&config, "")?;
        let in_namespace = |program: &str, arguments: &[String]| -> Vec<String> {
            let mut words: Vec<String> = namespace.prefix().map(str::to_owned).to_vec();
            words.push(programs.join(program).display().to_string());
            words.extend(arguments.iter().cloned());
            words
        };
        let words = in_namespace(
            "pollux-dataplane",
            &[
                // It receives nothing.
                "--port=bench0=net_null0,no-rx=1".to_owned(),
                format!("--connections={CONNECTIONS}"),
                format!("--memory-mib={MEMORY_MIB}"),
                format!("--file-prefix={}", file_prefix()),
                format!("--run-dir={run}"),
                format!("--state-dir={state}"),
                "--cores=0".to_owned(),
                "--poll=adaptive".to_owned(),
                "--no-huge".to_owned(),
            ],
        );
        let runtime = RuntimeDirectory::of(&file_prefix());
        let farewell = Farewell::Terminate;
        let mut dataplane = RigProcess::start("pollux-dataplane", &folder.0, &words, farewell)
            .context("build it with: cargo build --release -p pollux-dataplane")?;
        let socket = folder.0.join("run/dataplane.sock");
        dataplane.wait_until("its socket is there", || Ok(socket.exists().then_some(())))?;
        let words = in_namespace(
            "polluxd",
            &[
                format!("--config={config}"),
                format!("--run-dir={run}"),
                format!("--state-dir={state}"),
            ],
        );
        let mut polluxd = RigProcess::start("polluxd", &folder.0, &words, farewell)
            .context("build it with: cargo build --release -p pollux-control")?;
        let cli = programs.join("pollux");
        let socket = folder.0.join("run/control.sock");
        polluxd.wait_until("it answers", || {
            let answers = socket.exists() && pollux(&cli, &folder.0, &["show", "director"]).is_ok();
            Ok(answers.then_some(()))
        })?;
        Ok(Self {
            polluxd,
            dataplane,
            _runtime: runtime,
            namespace,
            cli,
            folder,
        })
    }

    /// Where their files are.
    pub fn directory(&self) -> &Path {
        &self.folder.0
    }

    /// Runs a command of the CLI.
    ///
    /// # Errors
    /// What it says when it fails.
    pub fn pollux(&self, arguments: &[&str]) -> anyhow::Result<()> {
        pollux(&self.cli, &self.folder.0, arguments)
    }

    /// Processor time so far.
    ///
    /// # Errors
    /// One has ended.
    pub fn used(&self) -> anyhow::Result<Used> {
        let main = |id: u32| PathBuf::from(format!("/proc/{id}/task/{id}"));
        let dataplane = self.dataplane.id();
        let mut polluxd_ns = 0;
        for task in fs::read_dir(format!("/proc/{}/task", self.polluxd.id()))? {
            // A thread may end meanwhile.
            polluxd_ns += scheduled(&task?.path()).map_or(0, |thread| thread.ran_ns);
        }
        Ok(Used {
            polluxd_ns,
            dataplane_ns: scheduled(&main(dataplane))?.ran_ns,
        })
    }

    /// The most memory that polluxd has had, MiB.
    ///
    /// # Errors
    /// It has ended.
    pub fn polluxd_peak_mib(&self) -> anyhow::Result<f64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.polluxd.id()))?;
        let mut lines = status.lines();
        let peak = lines.find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = peak.and_then(|peak| peak.split_whitespace().next());
        let kib: f64 = kib.context("no VmHWM")?.parse()?;
        Ok(kib / 1024.0)
    }
}

fn pollux(cli: &Path, folder: &Path, arguments: &[&str]) -> anyhow::Result<()> {
    let output = Command::new(cli)
        .arg("--run-dir")
        .arg(folder.join("run"))
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .with_context(|| {
            format!(
                "cannot run {}: build it with: cargo build --release -p pollux-control",
                cli.display()
            )
        })?;
    ensure!(
        output.status.success(),
        "pollux {}: {}",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}
