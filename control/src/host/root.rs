//! Where `/sys` and `/proc` are looked for.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::str::FromStr;

/// `/`, or a directory with a copy of what is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Root(PathBuf);

impl Default for Root {
    /// This machine.
    fn default() -> Self {
        Self(PathBuf::from("/"))
    }
}

impl Root {
    /// The machine that is described below a directory.
    pub fn new(path: &Path) -> Self {
        Self(path.to_owned())
    }

    /// Whether it is this machine.
    pub fn is_this_machine(&self) -> bool {
        self.0 == Path::new("/")
    }

    /// Where a file of the machine is, given with or without its first slash.
    pub fn path(&self, path: &str) -> PathBuf {
        self.0.join(path.trim_start_matches('/'))
    }

    /// A file's text without the blanks around it; none when it cannot be read.
    pub fn text(&self, path: &str) -> Option<String> {
        let text = fs::read_to_string(self.path(path)).ok()?;
        Some(text.trim().to_owned())
    }

    /// A file that holds nothing but one value.
    pub fn value<T: FromStr>(&self, path: &str) -> Option<T> {
        self.text(path)?.parse().ok()
    }

    /// The names in a directory, in order; none when there is no such directory.
    pub fn names(&self, path: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(path));
        let mut names: Vec<String> = entries
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect();
        names.sort();
        names
    }

    /// The last part of what a symbolic link points to, as `/sys` names drivers and groups.
    pub fn link_name(&self, path: &str) -> Option<String> {
        let target = fs::read_link(self.path(path)).ok()?;
        Some(target.file_name()?.to_str()?.to_owned())
    }

    /// Whether there is such a file or directory.
    pub fn has(&self, path: &str) -> bool {
        self.path(path).exists()
    }

    /// What `ip -json WORDS` prints. Of a machine that is described, that is the file `ip/WORDS`, the words joined by `-`.
    /// None when there is no `ip`, or it refuses.
    pub fn ip(&self, words: &[&str]) -> Option<String> {
        if !self.is_this_machine() {
            return self.text(&format!("ip/{}", words.join("-")));
        }
        let output = Command::new("ip").arg("-json").args(words).output().ok()?;
        output
            .status
            .success()
            .then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// What `ip -json -batch` prints for many lines of words; those it refuses print nothing. None when there is no `ip`.
    pub fn ip_batch(&self, lines: &[Vec<String>]) -> Option<String> {
        if !self.is_this_machine() {
            let words = lines
                .iter()
                .map(|line| line.iter().map(String::as_str).collect::<Vec<_>>());
            return Some(words.filter_map(|words| self.ip(&words)).collect());
        }
        let mut ip = Command::new("ip")
            .args(["-json", "-force", "-batch", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let mut input = ip.stdin.take()?;
        let text: String = lines.iter().map(|line| line.join(" ") + "\n").collect();
        // What it prints must be taken while it reads, or both wait.
        let writer = std::thread::spawn(move || input.write_all(text.as_bytes()));
        let output = ip.wait_with_output().ok()?;
        writer.join().ok()?.ok()?;
        Some(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::super::made_up::MadeUp;

    #[test]
    fn what_is_not_there_is_none() {
        let machine = MadeUp::new()
            .file("sys/a/number", "7\n")
            .file("sys/a/word", "seven\n")
            .link("sys/a/driver", "../../bus/pci/drivers/vfio-pci");
        let root = machine.root();
        assert_eq!(root.value("/sys/a/number"), Some(7));
        assert_eq!(root.value::<u32>("sys/a/word"), None);
        assert_eq!(root.value::<u32>("sys/b"), None);
        assert_eq!(root.names("sys/a"), ["driver", "number", "word"]);
        assert!(root.names("sys/b").is_empty());
        assert_eq!(root.link_name("sys/a/driver").unwrap(), "vfio-pci");
        assert_eq!(root.link_name("sys/a/word"), None);
        assert!(root.has("sys/a") && !root.has("sys/b"));
        assert_eq!(root.ip(&["address"]), None);
    }
}
