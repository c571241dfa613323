//! A Prometheus in the director's namespace that scrapes polluxd, and its answers.

use std::env;
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use super::namespace::{self, Background};
use super::{eventually, lab_dir};

/// Where polluxd serves metrics and Prometheus answers, within the director's namespace.
pub const METRICS: &str = "127.0.0.1:9750";
const API: &str = "127.0.0.1:9090";

/// A running Prometheus, ended with this value.
#[derive(Debug)]
pub struct Prometheus {
    _process: Background,
}

/// A sample of an instant: its labels and its value.
#[derive(Debug)]
pub struct Sample {
    /// The labels.
    pub labels: serde_json::Map<String, Value>,
    /// The value.
    pub value: f64,
}

impl Prometheus {
    /// Starts one that scrapes each second.
    pub fn start() -> Self {
        let config = lab_dir().join("prometheus.yml");
        let text = format!(
            "global: {{scrape_interval: 1s}}\nscrape_configs:\n- job_name: pollux\n  static_configs: [{{targets: ['{METRICS}']}}]\n"
        );
        fs::write(&config, text).expect("the lab has a folder");
        let arguments = [
            format!("--config.file={}", config.display()),
            format!(
                "--storage.tsdb.path={}",
                lab_dir().join("prometheus").display()
            ),
            format!("--web.listen-address={API}"),
            "--log.level=error".to_owned(),
        ];
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let log = File::create(lab_dir().join("prometheus.log")).expect("the lab has a folder");
        let program = program("prometheus");
        let program = program.to_str().expect("a path of the lab is text");
        let started = Self {
            _process: Background::start("director", program, &arguments, Stdio::from(log)),
        };
        let ready = eventually(Duration::from_secs(20), || {
            namespace::try_run("director", &format!("curl -sSf http://{API}/-/ready"))
                .status
                .success()
        });
        assert!(ready, "Prometheus does not become ready");
        started
    }

    /// What an expression comes to now.
    pub fn query(&self, expression: &str) -> Vec<Sample> {
        let output = namespace::command("director", "curl")
            .args(["-sS", "-G", "--data-urlencode"])
            .arg(format!("query={expression}"))
            .arg(format!("http://{API}/api/v1/query"))
            .output()
            .expect("`ip netns exec` starts");
        let answer: Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{expression}: {error}: {output:?}"));
        assert_eq!(answer["status"], "success", "{expression}: {answer}");
        let samples = answer["data"]["result"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let samples = samples.into_iter().map(|sample| Sample {
            labels: sample["metric"].as_object().cloned().unwrap_or_default(),
            value: sample["value"][1]
                .as_str()
                .and_then(|text| text.parse().ok())
                .expect("a sample has a value"),
        });
        samples.collect()
    }
}

/// A program of Debian's package: the one that is installed, or the one that `scripts/install-dependencies` unpacked.
pub fn program(name: &str) -> PathBuf {
    let cache = env::var_os("POLLUX_CACHE_DIR")
        .map_or_else(|| PathBuf::from("/var/cache/pollux"), PathBuf::from);
    let unpacked = cache.join("prometheus/usr/bin").join(name);
    let is_installed = Command::new(name)
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok();
    if is_installed {
        return PathBuf::from(name);
    }
    assert!(
        unpacked.exists(),
        "{} is not there: scripts/install-dependencies unpacks it",
        unpacked.display()
    );
    unpacked
}
