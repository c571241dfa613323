//! Work inside a network namespace of the lab: programs, and this test's own sockets.

use std::fs::File;
use std::os::fd::AsFd as _;
use std::process::{Child, Command, Output, Stdio};
use std::thread;

use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// A program to be run in a namespace, `client` for `pollux-client`.
pub fn command(namespace: &str, program: &str) -> Command {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", &format!("pollux-{namespace}"), program]);
    command.stdin(Stdio::null());
    command
}

/// Runs a command line, split at blanks, and returns what it printed. It must succeed.
pub fn run(namespace: &str, line: &str) -> String {
    let output = try_run(namespace, line);
    assert!(
        output.status.success(),
        "in {namespace}, `{line}`: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Runs a command line, split at blanks, whatever comes of it.
pub fn try_run(namespace: &str, line: &str) -> Output {
    let mut words = line.split_whitespace();
    let program = words.next().expect("a command line has a program");
    command(namespace, program)
        .args(words)
        .output()
        .expect("`ip netns exec` starts")
}

/// A program in the background, ended with this value.
#[derive(Debug)]
pub struct Background {
    child: Child,
}

impl Background {
    /// Starts a program with its arguments; its output goes to where the caller says.
    pub fn start(namespace: &str, program: &str, arguments: &[&str], stdout: Stdio) -> Self {
        let child = command(namespace, program)
            .args(arguments)
            .stdout(stdout)
            .spawn();
        Self {
            child: child.expect("`ip netns exec` starts"),
        }
    }

    /// Asks for the end as Control-C does.
    pub fn interrupt(&self) {
        kill_process(Pid::from_child(&self.child), Signal::INT)
            .expect("our own child takes a signal");
    }

    /// Waits for the end and returns what was printed, if output was piped.
    pub fn finish(mut self) -> String {
        let mut text = String::new();
        if let Some(mut output) = self.child.stdout.take() {
            std::io::Read::read_to_string(&mut output, &mut text).expect("output is text");
        }
        let status = self.child.wait().expect("our own child can be waited for");
        assert!(status.success(), "{status}\n{text}");
        text
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        // Both fail when it has ended already, which is fine.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Does some work with this process's own sockets inside a namespace. A socket stays where it was made, so what the
/// work returns can be used outside.
pub fn inside<T: Send>(namespace: &str, work: impl FnOnce() -> T + Send) -> T {
    let path = format!("/run/netns/pollux-{namespace}");
    thread::scope(|scope| {
        let worker = scope.spawn(|| {
            let file = File::open(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
            move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
                .unwrap_or_else(|error| panic!("cannot enter {path}: {error}"));
            work()
        });
        worker
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}
