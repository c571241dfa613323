//! The command line of `pollux-dataplane`. It wins over `--settings FILE`, which wins over the defaults.

use std::fs;
use std::path::{Path, PathBuf};

use clap::{Parser, ValueEnum};
use pollux_api::DataplaneSettings;
use pollux_api::settings::{HugePages, PollMode, PortSettings};
use thiserror::Error;

/// Forwards packets: takes the NICs, runs the workers, mirrors the kernel's tables, serves polluxd.
#[derive(Debug, Parser)]
#[command(
    name = "pollux-dataplane",
    version,
    after_help = "Without any option: one worker on every CPU but the first, every NIC that is bound to a DPDK driver, \
                  a table of 1,000,000 connections."
)]
pub struct Arguments {
    /// Settings as `pollux settings` prints them from the `[dataplane]` table of pollux.toml
    #[arg(long, value_name = "FILE")]
    pub settings: Option<PathBuf>,
    /// A port: its name, which is also that of its TAP, and its PCI address or DPDK virtual device; repeat for more
    #[arg(long = "port", value_name = "NAME=DEVICE", value_parser = parse_port)]
    pub ports: Vec<PortSettings>,
    /// The cores of the workers, one worker a core: 1,2 or 1-15
    #[arg(long, value_name = "LIST", value_parser = parse_cores)]
    pub cores: Option<CoreList>,
    /// Entries in the connection table
    #[arg(long, value_name = "N")]
    pub connections: Option<u32>,
    /// How workers wait for packets: spinning, or sleeping when there are none
    #[arg(long, value_name = "MODE")]
    pub poll: Option<PollArgument>,
    /// Use normal pages instead of huge pages
    #[arg(long)]
    pub no_huge: bool,
    /// Memory for packet buffers
    #[arg(long, value_name = "MIB")]
    pub memory_mib: Option<u32>,
    /// DPDK's file prefix; two data planes on one machine need different ones
    #[arg(long, value_name = "WORD")]
    pub file_prefix: Option<String>,
    /// Where the private socket is
    #[arg(
        long,
        value_name = "DIR",
        env = "POLLUX_RUN_DIR",
        hide_env_values = true,
        default_value = "/run/pollux"
    )]
    pub run_dir: PathBuf,
    /// Where the last accepted configuration and the connection table are kept
    #[arg(
        long,
        value_name = "DIR",
        env = "POLLUX_STATE_DIR",
        hide_env_values = true,
        default_value = "/var/lib/pollux"
    )]
    pub state_dir: PathBuf,
    /// Print the manual page, which packages are made with, and do nothing else
    #[arg(long, hide = true)]
    pub manual_page: bool,
}

/// The words of `--poll`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PollArgument {
    /// Spins: lowest latency, one core always at 100 %
    Busy,
    /// Sleeps for some microseconds when there is nothing to do
    Adaptive,
}

/// The cores of `--cores`, in the order they were written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CoreList(pub Vec<u16>);

/// Why there are no settings.
#[derive(Debug, Error)]
pub enum SettingsFileError {
    /// The file cannot be read.
    #[error("cannot read the settings {path}: {source}; print them with: pollux settings FILE.toml > {path}", path = .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The file says something else than settings.
    #[error("{path}:{line}:{column}: {reason}", path = .path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The column, from 1.
        column: usize,
        /// What is wrong.
        reason: String,
    },
}

impl Arguments {
    /// The settings of the file, if one is named, with what the command line says instead. Not validated yet.
    ///
    /// # Errors
    /// [`SettingsFileError`].
    pub fn merged_settings(&self) -> Result<DataplaneSettings, SettingsFileError> {
        let mut settings = match &self.settings {
            Some(path) => read_settings(path)?,
            None => DataplaneSettings::default(),
        };
        if !self.ports.is_empty() {
            settings.ports = self.ports.clone();
        }
        if let Some(CoreList(cores)) = &self.cores {
            settings.cores = Some(cores.clone());
        }
        if let Some(connections) = self.connections {
            settings.connections = connections;
        }
        if let Some(poll) = self.poll {
            settings.poll = Some(match poll {
                PollArgument::Busy => PollMode::Busy,
                PollArgument::Adaptive => PollMode::Adaptive,
            });
        }
        if self.no_huge {
            settings.huge_pages = HugePages::Never;
        }
        settings.memory_mib = self.memory_mib.or(settings.memory_mib);
        if let Some(prefix) = &self.file_prefix {
            settings.file_prefix = prefix.clone();
        }
        Ok(settings)
    }
}

fn read_settings(path: &Path) -> Result<DataplaneSettings, SettingsFileError> {
    let text = fs::read_to_string(path).map_err(|source| SettingsFileError::Unreadable {
        path: path.to_owned(),
        source,
    })?;
    serde_json::from_str(&text).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        let text = error.to_string();
        // The place is said in front, as compilers do.
        let place = format!(" at line {line} column {column}");
        SettingsFileError::Malformed {
            path: path.to_owned(),
            line,
            column,
            reason: text.strip_suffix(&place).unwrap_or(&text).to_owned(),
        }
    })
}

fn parse_port(text: &str) -> Result<PortSettings, String> {
    let (name, device) = text
        .split_once('=')
        .ok_or("write NAME=DEVICE, as in eth1=0000:01:00.0 or lan=net_af_packet0,iface=veth0")?;
    Ok(PortSettings {
        name: name.to_owned(),
        device: device.to_owned(),
        mtu: None,
        side: None,
    })
}

fn parse_cores(text: &str) -> Result<CoreList, String> {
    let help = || "write core numbers as in 1,2 or 1-15".to_owned();
    let number = |text: &str| text.trim().parse::<u16>().map_err(|_| help());
    let mut cores = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (number(first)?, number(last)?);
        if first > last {
            return Err(help());
        }
        cores.extend(first..=last);
    }
    Ok(CoreList(cores))
}

#[cfg(test)]
mod tests {
    use pollux_api::settings::{ExceptionPath, PuntRates};

    use super::*;
    use clap::CommandFactory;

    fn arguments(words: &[&str]) -> Arguments {
        let all = ["pollux-dataplane"].iter().chain(words);
        Arguments::try_parse_from(all).unwrap()
    }

    fn refusal(words: &[&str]) -> String {
        let all = ["pollux-dataplane"].iter().chain(words);
        Arguments::try_parse_from(all).unwrap_err().to_string()
    }

    fn file(content: &str) -> (tempfile::NamedTempFile, String) {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), content).unwrap();
        let path = file.path().display().to_string();
        (file, path)
    }

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn no_argument_is_the_default() {
        let settings = arguments(&[]).merged_settings().unwrap();
        assert_eq!(settings, DataplaneSettings::default());
    }

    #[test]
    fn flags_win_over_the_file() {
        let content = r#"{"cores":[3],"connections":5000,"poll":"busy","memory_mib":64,"file_prefix":"a",
            "port":[{"name":"eth1","device":"0000:01:00.0","mtu":9000}]}"#;
        let (_file, path) = file(content);
        let settings = arguments(&["--settings", &path]).merged_settings().unwrap();
        assert_eq!(settings, serde_json::from_str(content).unwrap());
        let words = "--cores 1,4-6 --connections 7000 --poll adaptive --no-huge --memory-mib 32 --file-prefix b \
                     --port lan=net_af_packet0,iface=veth0 --port wan=0000:02:00.0";
        let mut words: Vec<&str> = words.split_whitespace().collect();
        words.extend(["--settings", &path]);
        let port = |name: &str, device: &str| PortSettings {
            name: name.to_owned(),
            device: device.to_owned(),
            mtu: None,
            side: None,
        };
        let expected = DataplaneSettings {
            cores: Some(vec![1, 4, 5, 6]),
            connections: 7000,
            poll: Some(PollMode::Adaptive),
            huge_pages: HugePages::Never,
            memory_mib: Some(32),
            file_prefix: "b".to_owned(),
            transmit_checksums: false,
            exception_path: ExceptionPath::Auto,
            punt: PuntRates::default(),
            ports: vec![
                port("lan", "net_af_packet0,iface=veth0"),
                port("wan", "0000:02:00.0"),
            ],
        };
        assert_eq!(arguments(&words).merged_settings().unwrap(), expected);
    }

    #[test]
    fn a_file_that_is_no_settings_is_named_with_line_and_key() {
        let cases = [
            (
                "{\n  \"cores\": [1],\n  \"conections\": 5\n}",
                ":3:14: unknown field `conections`",
            ),
            (
                "{\"poll\": \"lazy\"}",
                ":1:15: unknown variant `lazy`, expected `busy` or `adaptive`",
            ),
            ("{\"cores\": [1", ":1:12: EOF"),
            (
                "{\"port\": [\n{\"name\": \"a\"}]}",
                ":2:13: missing field `device`",
            ),
        ];
        for (content, text) in cases {
            let (_file, path) = file(content);
            let error = arguments(&["--settings", &path])
                .merged_settings()
                .unwrap_err();
            let expected = format!("{path}{text}");
            assert!(error.to_string().starts_with(&expected), "{error}");
        }
        let error = arguments(&["--settings", "/nonexistent"])
            .merged_settings()
            .unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("cannot read the settings /nonexistent"),
            "{text}"
        );
        assert!(
            text.contains("pollux settings FILE.toml > /nonexistent"),
            "{text}"
        );
    }

    #[test]
    fn words_that_make_no_sense_are_refused_with_what_to_write() {
        assert!(refusal(&["--cores", "one"]).contains("write core numbers as in 1,2 or 1-15"));
        assert!(refusal(&["--cores", "3-1"]).contains("write core numbers as in 1,2 or 1-15"));
        assert!(refusal(&["--cores", ""]).contains("write core numbers"));
        assert!(refusal(&["--port", "eth1"]).contains("write NAME=DEVICE"));
        assert!(refusal(&["--poll", "lazy"]).contains("possible values: busy, adaptive"));
    }
}
