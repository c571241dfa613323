//! Files of IPVS in `/proc`, as tools see them that list a folder or look at a file before they open it: empty ones with
//! the kernel's names and modes, below the run directory. The preloaded library leads there; what a file says, and what
//! is written to it, goes over the socket (`ipvs_file`).

use std::fs::{self, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use pollux_api::ipvs_settings::SETTINGS;

use super::ipvs_file;

/// Puts them there. What an earlier polluxd had more of goes.
///
/// # Errors
/// What the file system says.
pub fn lay_out(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let settings = SETTINGS.iter().filter(|known| known.is_sysctl);
    let settings =
        settings.map(|known| (format!("{}{}", ipvs_file::SETTINGS_PATH, known.name), 0o644));
    let others = ipvs_file::NET_PATHS.map(|path| (path.to_owned(), 0o444));
    for (path, mode) in settings.chain(others) {
        let path = folder.join(path.trim_start_matches("/proc/"));
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        OpenOptions::new().create(true).append(true).open(&path)?;
        fs::set_permissions(&path, Permissions::from_mode(mode))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_is_there_and_none_of_before() {
        let directory = tempfile::tempdir().unwrap();
        let folder = directory.path().join("ipvs.proc");
        fs::create_dir_all(folder.join("sys/net/ipv4/vs")).unwrap();
        fs::write(folder.join("sys/net/ipv4/vs/gone"), "").unwrap();
        for _ in 0..2 {
            lay_out(&folder).unwrap();
            let listed = fs::read_dir(folder.join("sys/net/ipv4/vs")).unwrap();
            let mut names: Vec<_> = listed
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            names.sort();
            let sysctls = SETTINGS.iter().filter(|known| known.is_sysctl);
            let mut expected: Vec<_> = sysctls.map(|known| known.name.to_owned()).collect();
            expected.sort();
            assert_eq!(names, expected);
        }
        let mode = |path: &str| {
            fs::metadata(folder.join(path))
                .unwrap()
                .permissions()
                .mode()
        };
        assert_eq!(mode("sys/net/ipv4/vs/sloppy_tcp") & 0o777, 0o644);
        assert_eq!(mode("net/ip_vs_stats_percpu") & 0o777, 0o444);
    }
}
