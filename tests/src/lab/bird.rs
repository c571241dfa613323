//! BIRD on the director and on the router, which tell each other routes by BGP.

use std::fs;
use std::process::Stdio;

use super::namespace::{self, Background};
use super::servers::VIP4;
use super::{eventually, lab_dir};
use std::time::Duration;

/// What is an address of client0, and a host's, is told to the router.
const DIRECTOR: &str = r#"
router id 192.0.2.1;
protocol device { scan time 1; }
protocol direct { ipv4; interface "client0"; }
protocol bgp {
    local 192.0.2.1 as 65001;
    neighbor 192.0.2.254 as 65002;
    connect delay time 1;
    connect retry time 1;
    error wait time 1, 2;
    ipv4 { import none; export where net ~ [ 198.51.100.0/24{32,32} ]; };
}
"#;

/// What is told becomes a route of the kernel's.
const ROUTER: &str = r#"
router id 192.0.2.254;
protocol device { scan time 1; }
protocol kernel { ipv4 { import none; export all; }; }
protocol bgp {
    local 192.0.2.254 as 65002;
    neighbor 192.0.2.1 as 65001;
    passive;
    ipv4 { import all; export none; };
}
"#;

/// Both, running.
#[derive(Debug)]
pub struct Routers {
    _running: [Background; 2],
}

impl Routers {
    /// Starts them, and waits until they know each other.
    pub fn start() -> Self {
        let running = [("director", DIRECTOR), ("router", ROUTER)].map(|(name, text)| {
            let file = lab_dir().join(format!("bird-{name}.conf"));
            fs::write(&file, text).expect("the lab has a folder");
            let (file, socket) = (file.display().to_string(), socket(name));
            let arguments = ["-f", "-c", &file, "-s", &socket];
            Background::start(name, "bird", &arguments, Stdio::null())
        });
        let routers = Self { _running: running };
        let established = eventually(Duration::from_secs(20), || {
            ask("director", "show protocols").contains("Established")
        });
        assert!(established, "{}", routers.shown());
        routers
    }

    /// Whether the router's kernel has a route to the virtual address alone.
    pub fn have_route(&self) -> bool {
        let routes = namespace::run("router", &format!("ip route show {VIP4}/32"));
        routes.contains("bird")
    }

    /// What both know.
    pub fn shown(&self) -> String {
        ["director", "router"]
            .map(|name| ask(name, "show protocols") + &ask(name, "show route"))
            .join("\n")
    }
}

fn socket(name: &str) -> String {
    lab_dir()
        .join(format!("bird-{name}.ctl"))
        .display()
        .to_string()
}

fn ask(name: &str, question: &str) -> String {
    let line = format!("birdc -r -s {} {question}", socket(name));
    let output = namespace::try_run(name, &line);
    String::from_utf8_lossy(&output.stdout).into_owned()
}
