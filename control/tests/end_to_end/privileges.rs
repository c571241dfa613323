//! polluxd as another user than root, without a single capability: it serves, checks, reads its file again, writes its logs.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use super::machine::Machine;
use super::refusals::may_change_user;

const NOBODY: u32 = 65534;

#[test]
fn polluxd_needs_no_root() {
    if !may_change_user() {
        return;
    }
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = server.local_addr().unwrap();
    let mut machine = Machine::new();
    let file = format!(
        "[[check]]\nname = \"web\"\nkind = \"tcp\"\ninterval_ms = 100\ntimeout_ms = 80\n\
         [[service]]\nprotocol = \"tcp\"\naddress = \"198.51.100.1:80\"\ncheck = \"web\"\n\
         [[service.server]]\naddress = \"{address}\"\nmethod = \"nat\"\n"
    );
    machine.write("pollux.toml", &file);
    machine.start_dataplane();
    let directory = machine.path("");
    // As the units and systemd-tmpfiles have it: its group may speak to the data plane, the directories are its own.
    for path in [directory.clone(), machine.path("dataplane.sock")] {
        chown(&path, Some(NOBODY), Some(NOBODY)).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let program = machine.copy_of(env!("CARGO_BIN_EXE_polluxd"));
    let prepared = machine.polluxd_command();
    let mut command = Command::new(program);
    command
        .args(prepared.get_args())
        .env_remove("POLLUX_LOG")
        .uid(NOBODY)
        .gid(NOBODY);
    machine.start_polluxd_by(command);
    let status = fs::read_to_string(format!("/proc/{}/status", machine.polluxd_pid())).unwrap();
    for line in [
        "Uid:\t65534\t65534\t65534\t65534",
        "CapEff:\t0000000000000000",
    ] {
        assert!(status.lines().any(|known| known == line), "{status}");
    }
    machine.until("the server is checked", |machine| {
        machine.json("show health")[0]["recent"][0]["good"] == true
    });
    machine.done("service add -u 198.51.100.1:53");
    machine.shown("ipvs -- ipvsadm -A -u 198.51.100.1:54");
    drop(server);
    machine.until("the server is off", |machine| {
        machine.json("events")[0]["event"] == "server_off"
    });
    assert_eq!(machine.json("audit").as_array().map(Vec::len), Some(2));
    machine.shown("reload");
    assert_eq!(
        machine.json("show services").as_array().map(Vec::len),
        Some(1)
    );
    assert!(Path::new(&machine.path("state/events.jsonl")).exists());
    assert!(machine.signal_polluxd("TERM").success());
}
