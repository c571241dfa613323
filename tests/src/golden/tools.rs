//! The stock tools at the director: commands of a trace run as they were recorded, in a shell, through `pollux ipvs` and
//! the real polluxd, behind which is the engine with a trace's frames and time.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;
use std::time::Duration;

use super::dataplane::Dataplane;
use crate::lab::{eventually, top};

/// What a shell may run. A trace is not to change the machine that replays it.
const ALLOWED: [&str; 38] = [
    "ipvsadm",
    "ipvsadm-save",
    "ipvsadm-restore",
    "awk",
    "cat",
    "column",
    "cut",
    "diff",
    "do",
    "done",
    "echo",
    "egrep",
    "else",
    "env",
    "expr",
    "false",
    "fgrep",
    "fi",
    "for",
    "grep",
    "head",
    "if",
    "nl",
    "paste",
    "printf",
    "sed",
    "seq",
    "setpriv",
    "sort",
    "sysctl",
    "tail",
    "tee",
    "test",
    "then",
    "tr",
    "true",
    "uniq",
    "wc",
];
/// Where traces put files: to a folder of their own.
const FOLDERS: [&str; 3] = ["/run/", "/tmp/", "/root/"];
/// Where they may read and write.
const FILES: [&str; 5] = [
    "/proc/net/ip_vs",
    "/proc/self/net/ip_vs",
    "/proc/sys/net/ipv4/vs",
    "/dev/null",
    "/usr/sbin/",
];

/// A run directory with polluxd in it.
#[derive(Debug)]
pub struct Machine {
    directory: PathBuf,
    polluxd: Child,
}

/// What a command came to.
#[derive(Debug, PartialEq, Eq)]
pub struct Ended {
    /// Its exit status; 128 and more for a signal.
    pub status: i32,
    /// What it printed, errors too.
    pub text: String,
}

impl Machine {
    /// Starts polluxd before a data plane.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start(name: &str, dataplane: &Arc<Mutex<Dataplane>>) -> Self {
        let directory = std::env::temp_dir().join(format!(
            "pollux-tools-{}-{}",
            name.replace(['/', ' '], "-"),
            std::process::id()
        ));
        fs::create_dir_all(directory.join("files")).unwrap();
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o755)).unwrap();
        let config = directory.join("pollux.toml");
        // The kernel's interface is root's; the trace shows what others are told.
        fs::write(&config, "[control]\nsocket_mode = \"0600\"\n").unwrap();
        Dataplane::serve_this(dataplane, &directory);
        let log = fs::File::create(directory.join("polluxd.log")).unwrap();
        let polluxd = program("polluxd")
            .arg("--run-dir")
            .arg(&directory)
            .arg("--state-dir")
            .arg(&directory)
            .arg("--config")
            .arg(config)
            .stderr(log)
            .spawn()
            .unwrap();
        let machine = Self { directory, polluxd };
        let socket = machine.directory.join("ipvs.sock");
        assert!(
            eventually(Duration::from_secs(30), || socket.exists()),
            "polluxd does not start: {}",
            machine.log()
        );
        machine
    }

    /// Runs a command line in a shell that the tools inherit the library from.
    ///
    /// # Panics
    /// When the shell cannot be started.
    pub fn run(&self, line: &str) -> Ended {
        let files = self.directory.join("files");
        for folder in FOLDERS {
            fs::create_dir_all(format!("{}{folder}", files.display())).unwrap();
        }
        let line = in_folder(line, &files.display().to_string());
        // Without a network, names are looked for in files only, as they were where the trace was recorded.
        let apart: &[&str] = if can_unshare() {
            &["unshare", "--net", "--"]
        } else {
            &[]
        };
        let output = program("pollux")
            .arg("--run-dir")
            .arg(&self.directory)
            .args(["ipvs", "--"])
            .args(apart)
            .args(["sh", "-c", &format!("exec 2>&1; {line}")])
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let own = files.display().to_string();
        let text = String::from_utf8_lossy(&output.stdout).replace(&own, "");
        let said = String::from_utf8_lossy(&output.stderr);
        Ended {
            status: output.status.code().unwrap_or(128),
            text: format!("{text}{said}"),
        }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.directory.join("polluxd.log")).unwrap_or_default()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("{}", self.log());
        }
        let _ = self.polluxd.kill();
        let _ = self.polluxd.wait();
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// The line with the [folders](FOLDERS) of a trace's files inside another one.
fn in_folder(line: &str, own: &str) -> String {
    let mut done = String::new();
    let mut rest = line;
    let first = |text: &str| {
        let found = FOLDERS
            .iter()
            .filter_map(|folder| Some((text.find(folder)?, folder.len())));
        found.min()
    };
    while let Some((at, length)) = first(rest) {
        let (before, after) = rest.split_at(at);
        let is_start = before.chars().next_back().is_none_or(|last| {
            last.is_whitespace() || ['>', '<', '"', '\'', '=', '('].contains(&last)
        });
        done.push_str(before);
        if is_start {
            done.push_str(own);
        }
        done.push_str(&after[..length]);
        rest = &after[length..];
    }
    done + rest
}

fn can_unshare() -> bool {
    rustix::process::geteuid().is_root()
}

/// Whether the tools are there.
///
/// # Errors
/// What is missing, and where it comes from.
pub fn check() -> Result<(), String> {
    let is_there = |name: &OsString| Path::new(name).is_file();
    let places = ["/usr/sbin/ipvsadm", "/sbin/ipvsadm", "/usr/bin/ipvsadm"];
    if !places.map(OsString::from).iter().any(is_there) {
        return Err("ipvsadm is not here: apt install ipvsadm".to_owned());
    }
    Ok(())
}

/// A program under test: where `scripts/test` says, or beside this one, where it is built now.
fn program(name: &str) -> Command {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| match std::env::var_os("POLLUX_BIN_DIR") {
        Some(folder) => folder.into(),
        None => build().unwrap_or_else(|error| panic!("polluxd cannot be built: {error}")),
    });
    let mut command = Command::new(folder.join(name));
    command.stdin(Stdio::null());
    command
}

/// Builds polluxd and pollux as this program was built, and says where they are.
fn build() -> io::Result<PathBuf> {
    let own = std::env::current_exe()?;
    let folder = own
        .ancestors()
        .find(|folder| folder.ends_with("debug") || folder.ends_with("release"));
    let folder = folder.or(own.parent()).unwrap_or(&own).to_path_buf();
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    build
        .args(["build", "--quiet", "-p", "pollux-control", "--bins"])
        .current_dir(top());
    if folder.ends_with("release") {
        build.arg("--release");
    }
    match build.status() {
        Ok(status) if status.success() => Ok(folder),
        // Without cargo, those that lie beside.
        _ if folder.join("polluxd").is_file() && folder.join("pollux").is_file() => Ok(folder),
        Ok(status) => Err(io::Error::other(format!("cargo build: {status}"))),
        Err(error) => Err(error),
    }
}

/// Whether a shell may run the line: nothing in it but tools that read, and files of IPVS.
///
/// # Errors
/// The word that it may not.
pub fn check_line(line: &str) -> Result<(), String> {
    for command in commands(line) {
        let name = command.rsplit('/').next().unwrap_or_default();
        if !ALLOWED.contains(&name) {
            return Err(format!("{command}: the runner does not know this command"));
        }
    }
    let ends = |character: char| {
        character.is_whitespace() || ['"', '\'', '>', '<', ';', '|', ')', '='].contains(&character)
    };
    for path in line.split(ends).filter(|word| word.starts_with('/')) {
        let known = FILES.iter().chain(&FOLDERS);
        if !known.clone().any(|known| path.starts_with(known)) || path.contains("..") {
            return Err(format!("{path}: the runner has no such file"));
        }
    }
    Ok(())
}

/// The first words of all simple commands of a line; of a loop, its words are none.
fn commands(line: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut quote = None;
    let mut word = String::new();
    let mut is_first = true;
    // Of what is around a command in parentheses: its quote, and whether a command was to come.
    let mut around: Vec<(Option<char>, bool)> = Vec::new();
    let mut end = |word: &mut String, is_first: &mut bool| {
        if word.is_empty() {
            return;
        }
        let is_assignment = word.contains('=') && !word.starts_with(['-', '=']);
        if *is_first && !is_assignment {
            // What follows these is a command again.
            let goes_on = ["do", "then", "else", "if", "!", "{", "env", "time"];
            *is_first = goes_on.contains(&&**word);
            if !["!", "{", "}", "time"].contains(&&**word) {
                found.push(std::mem::take(word));
            }
        }
        word.clear();
    };
    for character in line.chars() {
        match (quote, character) {
            (Some('\''), '\'') => quote = None,
            (Some('\''), _) => word.push('_'),
            (Some('"'), '"') => quote = None,
            (_, '(') => {
                // $(…) is a word of what is around it.
                let is_word = word.ends_with('$');
                around.push((quote, is_first && !is_word));
                quote = None;
                word.clear();
                is_first = true;
            }
            (None, ')') => {
                end(&mut word, &mut is_first);
                (quote, is_first) = around.pop().unwrap_or((None, true));
            }
            (_, '`') => {
                end(&mut word, &mut is_first);
                is_first = true;
            }
            (Some(_), '$') => word.push('$'),
            (Some(_), _) => word.push('_'),
            (None, '\'' | '"') => {
                quote = Some(character);
                word.push('_');
            }
            // 2>&1 is no end.
            (None, '&') if word.ends_with('>') => word.push('_'),
            (None, '|' | ';' | '&' | '\n') => {
                end(&mut word, &mut is_first);
                is_first = true;
            }
            (None, character) if character.is_whitespace() => end(&mut word, &mut is_first),
            (None, _) => word.push(character),
        }
    }
    end(&mut word, &mut is_first);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_run_that_only_look() {
        for line in [
            "ipvsadm -Ln | grep -c 'TCP; x' | head -1",
            "printf -- '-A -t 192.0.2.100:90 -s rr\\n' | ipvsadm -R",
            "for n in 1 2 3; do ipvsadm -a -t 192.0.2.100:80 -r 10.1.0.1$n -m; done",
            "cat /proc/net/ip_vs 2>&1 | wc -l",
            "ipvsadm -Sn > /run/save && ipvsadm -R < /run/save",
            "echo 1 > /proc/sys/net/ipv4/vs/sloppy_tcp",
            "setpriv --reuid=65534 --clear-groups ipvsadm -Ln",
            "test $(ipvsadm -Ln | wc -l) -gt 3 && echo many",
            "x=$(ipvsadm -Ln | wc -l); test \"$x\" -gt 3 && echo many",
        ] {
            assert_eq!(check_line(line), Ok(()), "{line}");
        }
    }

    #[test]
    fn lines_are_refused_that_touch_the_machine() {
        for line in [
            "rm -rf /",
            "ipvsadm -Ln; reboot",
            "echo $(reboot)",
            "echo \"$(reboot)\"",
            "cat /etc/shadow",
            "echo 1 > /proc/sys/net/ipv4/ip_forward",
            "ipvsadm -Ln | sh",
            "cat /run/../etc/shadow",
            "for n in 1 2; do reboot; done",
        ] {
            assert!(check_line(line).is_err(), "{line}");
        }
    }

    #[test]
    fn files_of_a_trace_are_in_a_folder_of_its_own() {
        assert_eq!(
            in_folder("ipvsadm -Sn > /run/save; cat /var/run/x", "/tmp/own"),
            "ipvsadm -Sn > /tmp/own/run/save; cat /var/run/x"
        );
    }
}
