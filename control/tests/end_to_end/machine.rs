//! A run directory with a real `polluxd` in it, driven by the real `pollux`.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use super::fake_dataplane::{FakeDataplane, State};

/// How long anything may take before the test gives up, on a machine that does other things.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Whoever is kept waiting by a client that does not go on waits until that one is cut off, after 10 s. Who has an answer
/// within this time was not.
pub const HELD_UP: Duration = Duration::from_secs(9);

pub struct Machine {
    directory: TempDir,
    pub state: Arc<Mutex<State>>,
    dataplane: Option<FakeDataplane>,
    polluxd: Option<Child>,
}

/// What a run of `pollux` gave.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub out: String,
    pub error: String,
}

impl Machine {
    /// Nothing runs yet.
    pub fn new() -> Self {
        Self {
            directory: tempfile::tempdir().unwrap(),
            state: State::shared(),
            dataplane: None,
            polluxd: None,
        }
    }

    /// Both daemons run.
    pub fn up() -> Self {
        let mut machine = Self::new();
        machine.start_dataplane();
        machine.start_polluxd();
        machine
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        path
    }

    /// A copy of a program where every user can run it. By `cp`, since a file that this process writes is open, and so not
    /// to be run, in whatever another test starts in that moment.
    pub fn copy_of(&self, program: &str) -> PathBuf {
        let copy = self.path("program");
        let copied = Command::new("cp").arg(program).arg(&copy).status().unwrap();
        assert!(copied.success());
        copy
    }

    pub fn start_dataplane(&mut self) {
        let state = Arc::clone(&self.state);
        self.dataplane = Some(FakeDataplane::start(self.directory.path(), state));
    }

    /// As after a crash: the socket stays behind.
    pub fn stop_dataplane(&mut self) {
        self.dataplane = None;
    }

    pub fn polluxd_command(&self) -> Command {
        let config = self.path("pollux.toml");
        if !config.exists() {
            fs::write(&config, "").unwrap();
        }
        let mut command = Command::new(env!("CARGO_BIN_EXE_polluxd"));
        command
            .arg("--run-dir")
            .arg(self.directory.path())
            .arg("--state-dir")
            .arg(self.path("state"))
            .arg("--config")
            .arg(config)
            .env_remove("POLLUX_LOG")
            .stdin(Stdio::null());
        command
    }

    /// Starts polluxd and waits until it says that it is ready.
    pub fn start_polluxd(&mut self) {
        self.start_polluxd_by(self.polluxd_command());
    }

    /// As [`Self::start_polluxd`], by another command.
    pub fn start_polluxd_by(&mut self, mut command: Command) {
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(self.path("polluxd.log"))
            .unwrap();
        let ready_before = self.log().matches("ready: ").count();
        self.polluxd = Some(command.stdin(Stdio::null()).stderr(log).spawn().unwrap());
        self.until("polluxd is ready", |machine| {
            machine.log().matches("ready: ").count() > ready_before
        });
    }

    /// Runs a polluxd that is expected to end by itself.
    pub fn polluxd_fails(&self) -> Ran {
        Ran::new(self.polluxd_command().output().unwrap())
    }

    /// Sends a signal by name and waits for the end.
    pub fn signal_polluxd(&mut self, signal: &str) -> ExitStatus {
        let mut polluxd = self.polluxd.take().unwrap();
        let sent = Command::new("kill")
            .args([format!("-{signal}"), polluxd.id().to_string()])
            .status()
            .unwrap();
        assert!(sent.success());
        polluxd.wait().unwrap()
    }

    pub fn polluxd_pid(&self) -> u32 {
        self.polluxd.as_ref().unwrap().id()
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.path("polluxd.log")).unwrap_or_default()
    }

    pub fn pollux_command(&self, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pollux"));
        command
            .args(line.split_whitespace())
            .env_remove("COLUMNS")
            .env("POLLUX_RUN_DIR", self.directory.path())
            .env("POLLUX_CONFIG", self.path("pollux.toml"));
        command
    }

    /// Runs `pollux` with these words.
    pub fn pollux(&self, line: &str) -> Ran {
        Ran::new(self.pollux_command(line).output().unwrap())
    }

    /// Runs `pollux` and expects silence and success.
    pub fn done(&self, line: &str) {
        let ran = self.pollux(line);
        assert_eq!((ran.code, ran.out.as_str()), (0, ""), "{line}: {ran:?}");
        assert_eq!(ran.error, "", "{line}");
    }

    /// Runs `pollux` and gives what it prints.
    pub fn shown(&self, line: &str) -> String {
        let ran = self.pollux(line);
        assert_eq!((ran.code, ran.error.as_str()), (0, ""), "{line}: {ran:?}");
        ran.out
    }

    /// Runs `pollux --json` and gives the value.
    pub fn json(&self, line: &str) -> Value {
        serde_json::from_str(&self.shown(&format!("{line} --json"))).unwrap()
    }

    /// Runs `pollux` and expects this end with this text in its error; the configuration must be untouched.
    pub fn refused(&self, line: &str, code: i32, text: &str) {
        let before = self.state.lock().unwrap().configuration.clone();
        let ran = self.pollux(line);
        assert_eq!((ran.code, ran.out.as_str()), (code, ""), "{line}: {ran:?}");
        let error = ran.error.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(error.contains(text), "{line}:\n{error}\nhas no\n{text}");
        assert_eq!(
            self.state.lock().unwrap().configuration,
            before,
            "{line} changed something"
        );
    }

    /// A connection to the control socket.
    pub fn client(&self) -> Client {
        let stream = UnixStream::connect(self.path("control.sock")).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Client {
            stream: BufReader::new(stream),
        }
    }

    /// Waits until something is so.
    pub fn until(&self, what: &str, is_so: impl Fn(&Self) -> bool) {
        let start = Instant::now();
        while !is_so(self) {
            assert!(start.elapsed() < PATIENCE, "never: {what}\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if let Some(mut polluxd) = self.polluxd.take() {
            let _ = polluxd.kill();
            let _ = polluxd.wait();
        }
    }
}

impl Ran {
    pub fn new(output: std::process::Output) -> Self {
        Self {
            code: output.status.code().unwrap(),
            out: String::from_utf8(output.stdout).unwrap(),
            error: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

/// A client that may say anything.
pub struct Client {
    stream: BufReader<UnixStream>,
}

impl Client {
    pub fn send(&mut self, bytes: &[u8]) {
        // polluxd may have closed already; what it answered is looked at then.
        let _ = self.stream.get_mut().write_all(bytes);
    }

    /// The next answer; none when polluxd closed the connection.
    pub fn answer(&mut self) -> Option<Value> {
        let mut line = String::new();
        match self.stream.read_line(&mut line) {
            Ok(1..) => Some(serde_json::from_str(&line).unwrap()),
            Ok(0) => None,
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => None,
            Err(error) => panic!("no answer: {error}"),
        }
    }

    /// Waits until some of the next answer is there, and leaves it there.
    pub fn answer_has_begun(&mut self) {
        let begun = self.stream.fill_buf().unwrap();
        assert!(!begun.is_empty(), "closed without an answer");
    }

    pub fn ask(&mut self, line: &str) -> Option<Value> {
        self.send(line.as_bytes());
        self.send(b"\n");
        self.answer()
    }
}
