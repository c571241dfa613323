//! The grammar of the command line. Its letters are those of `ipvsadm`, its words say what is done to what.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{ArgGroup, Args, Parser, Subcommand};
use pollux_api::identity::NameError;
use pollux_api::{DestinationPatch, ForwardingMethod, Weight};

use super::doctor::DoctorOptions;
use super::import::ImportOptions;
use super::mark_options::MarkVerb;
use super::names::NameKind;
use super::realserver::RealserverOptions;
use super::service_options::{AnyService, OneService, ServiceSettings};
use super::setup::SetupArguments;
use super::sync_options::SyncVerb;
use super::tunnel_options::TunnelOptions;
use crate::server_address::ServerAddress;
use crate::{config, run_directory};

const EXAMPLES: &str = "\
Examples:
  pollux service add -t 198.51.100.1:80 -s wrr
  pollux server add -t 198.51.100.1:80 -r 203.0.113.11 -m -w 3
  pollux server edit -t 198.51.100.1:80 -r 203.0.113.11 -w 0    # drain it
  pollux show services
  pollux plan new.toml; pollux apply new.toml                 # look, then do it
  pollux save                                                   # for the next boot
  pollux ipvs -- ipvsadm -Ln                                    # the stock tool

Exit status: 0 done, 1 refused or not reachable, 2 wrong usage.
`pollux plan`: 2 also when there is something to do.";

const IPVS_EXAMPLES: &str = "\
Examples:
  pollux ipvs -- ipvsadm -Ln --stats
  pollux ipvs -- ipvsadm-restore < rules
  pollux ipvs -- keepalived -n -l -f /etc/keepalived/keepalived.conf

The exit status is the tool's; 1 when polluxd does not run or the tool cannot be started.";

const SETUP_EXAMPLES: &str = "\
Examples:
  pollux setup --dry-run 0000:03:00.0 0000:03:00.1    # what it would do
  pollux setup                                        # the NICs of /etc/pollux/pollux.toml
  pollux setup --undo";

const IMPORT_EXAMPLES: &str = "\
Examples:
  ipvsadm -Sn | pollux import - > new.toml
  pollux import /etc/keepalived/keepalived.conf -o new.toml
  pollux check new.toml; pollux plan new.toml; pollux apply new.toml";

/// Balances services over real servers: the command line of polluxd.
#[derive(Debug, Parser)]
#[command(name = "pollux", version, after_help = EXAMPLES, max_term_width = 100, arg_required_else_help = true)]
pub struct Arguments {
    /// Where polluxd's socket is
    #[arg(long, global = true, value_name = "DIR", env = "POLLUX_RUN_DIR", hide_env_values = true,
        default_value = run_directory::DEFAULT_PATH, display_order = 900)]
    pub run_dir: PathBuf,
    /// Answer in JSON, for programs
    #[arg(long, global = true, display_order = 901)]
    pub json: bool,
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Add, change or remove a virtual service
    #[command(subcommand)]
    Service(ServiceVerb),
    /// Add, change or remove a real server of a service
    #[command(subcommand)]
    Server(ServerVerb),
    /// Add or remove a rule that gives packets a firewall mark, or list them
    #[command(subcommand)]
    Mark(MarkVerb),
    /// Start or stop connection synchronisation with other directors
    #[command(subcommand)]
    Sync(SyncVerb),
    /// Set settings of IPVS: what Linux has below net.ipv4.vs, and timeouts
    ///
    /// All of them in one transaction. As `sysctl -w net.ipv4.vs.NAME=VALUE`. The next boot has them back unless saved.
    Set {
        /// Which, and to what; `pollux show settings` tells them all
        #[arg(value_name = "NAME=VALUE", required = true, value_parser = parse_setting)]
        settings: Vec<(String, u32)>,
    },
    /// Show what runs and how it does
    #[command(subcommand, arg_required_else_help = true)]
    Show(View),
    /// Remove every service
    ///
    /// All in one transaction, as `ipvsadm -C`. The file is not touched: the next boot has them back.
    Flush,
    /// Set the counters of a service, or of all, to zero
    ///
    /// As `ipvsadm -Z`. Its rates begin at zero too; its connections are not touched.
    Zero(AnyService),
    /// Watch services, servers, drops and workers on a screen that renews itself
    ///
    /// Keys: 1 services, 2 what became of packets, 3 workers and ports; arrows choose a line, Enter opens a service, Esc
    /// closes it; s sorts by the next column, r turns the order round; d drains a server, after asking; q quits. Numbers
    /// are a second, averaged as `pollux show rates` does; drops are those since the screen before.
    Top {
        /// Seconds between screens
        #[arg(long, short = 'n', value_name = "SECONDS", default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=3600))]
        interval: u64,
    },
    /// Who changed what: the last commands that were to change something, done or refused
    ///
    /// Changes by pollux, ipvsadm, keepalived, scripts and SIGHUP, each with user, process and outcome; the last one is the
    /// newest. What health checks switch is in `pollux events`. The name of the process is what it calls itself.
    /// polluxd keeps some thousands in STATE_DIR/audit.jsonl and audit.jsonl.1.
    Audit {
        /// How many entries
        #[arg(long, value_name = "N", default_value_t = 50)]
        last: usize,
    },
    /// What health checks switched: servers off and on, quorums lost and back, each with its reason; the newest last
    ///
    /// Weights that agents and slow starts set are not in it. What people and tools changed is in `pollux audit`, how
    /// servers are now in `pollux show health`. polluxd keeps some ten thousands in STATE_DIR/events.jsonl and
    /// events.jsonl.1.
    Events {
        /// Of which service.
        #[command(flatten)]
        service: AnyService,
        /// How many
        #[arg(long, value_name = "N", default_value_t = 50)]
        last: usize,
    },
    /// Run ipvsadm, keepalived or another IPVS tool, unmodified, against Pollux
    ///
    /// The tool is run with a library preloaded that takes it to polluxd instead of this machine's kernel, which is not
    /// touched: neither its IPVS nor its module. All else that the tool does, VRRP and health checks among it, it does as
    /// ever. What the tool starts is taken to polluxd too, so that scripts work: ipvsadm-save, ipvsadm-restore.
    ///
    /// What Pollux does not have yet is refused with an error; `pollux: ...` on standard error, and polluxd's log, say what
    /// it was.
    #[command(after_help = IPVS_EXAMPLES)]
    Ipvs {
        /// The tool and its arguments
        #[arg(
            value_name = "COMMAND",
            required = true,
            trailing_var_arg = true,
            allow_hyphen_values = true
        )]
        command: Vec<OsString>,
    },
    /// Say everything that is wrong with a configuration file
    ///
    /// Needs no daemon and changes nothing. Every problem is one line: FILE:LINE: KEY: what is wrong and what to write.
    Check(ConfigFile),
    /// Print what `apply FILE` would change, and what becomes of live connections; without FILE, what is not saved
    ///
    /// Nothing is changed. Each change says how many connections are live at what it touches, and what becomes of them; what
    /// is not mentioned keeps its connections undisturbed. Connections that wait for a server that was removed are not
    /// counted: they go on when it is added again. The tables `dataplane` and `control` are read when the daemons start
    /// and are not looked at here.
    ///
    /// Without FILE: what the commands since the last `save` have changed, and `save` would write.
    ///
    /// Exit status: 0 no difference, 2 there is one, 1 the file is not valid or polluxd refuses (all with a message).
    Plan {
        /// The configuration file
        #[arg(value_name = "FILE")]
        path: Option<PathBuf>,
    },
    /// Make what runs what a configuration file says: in one transaction, or not at all
    ///
    /// Services, servers, marks and settings that the file has as they run are not touched, nor are their connections;
    /// those that it does not have are removed. `pollux plan FILE` says beforehand what that comes to. When something else
    /// changed the configuration in the same moment, nothing is applied.
    Apply(ConfigFile),
    /// Have polluxd read its configuration file again and apply it
    ///
    /// As `apply` does, with the file that polluxd was started with; so does SIGHUP, but only polluxd's log tells what came
    /// of it.
    Reload,
    /// Write the services that run into the configuration file; the rest of the file stays
    ///
    /// Changes made by command last until the next boot unless saved. Services and servers that are in the file already
    /// keep their comments. The file is replaced as a whole or not at all.
    Save(ConfigFile),
    /// Say what keeps this machine from forwarding, or from doing it fast, and what to type
    ///
    /// Looks at huge pages, IOMMU, drivers of the configured NICs, cores and NUMA nodes, queues, addresses of the kernel,
    /// ways to the servers and their neighbours, settings of the kernel, and both daemons. Changes nothing. What runs is
    /// looked at; of what does not run, the configuration file.
    ///
    /// Exit status: 0 nothing is wrong, though there may be advice, 1 something is.
    Doctor(DoctorOptions),
    /// Turn rules of ipvsadm or a keepalived.conf into a configuration file
    ///
    /// Reads what `ipvsadm -Sn` prints, a script of ipvsadm commands or a keepalived.conf with the files it includes, with
    /// DPVS's options, dpip, keywords and dpvs.conf, too. Health checks, quorum and sorry servers are carried over. What could not be is said
    /// on standard error, with file and line, why, and what to do instead. (`ipvsadm -S` saves no thresholds: add
    /// upper_threshold and lower_threshold by hand.) What is written passes `pollux check`. Needs no daemon.
    ///
    /// Exit status: 0 all is carried over, 2 not all, 1 the files cannot be read.
    #[command(after_help = IMPORT_EXAMPLES)]
    Import(ImportOptions),
    /// Print what to type on the real servers, so that they take what the director sends them
    ///
    /// For method direct: the virtual address, and silence about it; for tunnels: a device that unwraps; for nat: the way
    /// back through the director. With --server, only one server's, to be fed to a shell there:
    ///
    /// pollux realserver --server 203.0.113.11 | ssh root@203.0.113.11 sh -e
    Realserver(RealserverOptions),
    /// Print what a configuration file says to the data plane, as pollux-dataplane reads it
    ///
    /// JSON for `pollux-dataplane --settings`. Only the table `dataplane` is looked at, so that nothing wrong with a
    /// service keeps a data plane from starting. Needs no daemon.
    Settings(ConfigFile),
    /// Make this machine ready for a data plane: NICs to vfio-pci, huge pages on their nodes, and so at each boot
    ///
    /// Looks at everything first and refuses with all that is in the way; then prints each step as a person would type it,
    /// and does it. A NIC of a driver that DPDK works beside (mlx4, mlx5) stays with it. What there was is kept in
    /// /var/lib/pollux/setup.json for --undo. Done again it does what is missing. Needs root, and no daemon.
    #[command(after_help = SETUP_EXAMPLES)]
    Setup(SetupArguments),
    /// Print what makes a shell complete `pollux` commands
    ///
    /// In bash and fish also the names of services, servers and settings, which polluxd is asked for.
    ///
    /// For bash: pollux completion bash > /etc/bash_completion.d/pollux
    Completion {
        /// The shell
        #[arg(value_name = "SHELL")]
        shell: clap_complete::Shell,
    },
    /// Print names of what runs, a line each, for completion
    #[command(hide = true)]
    Names {
        /// Of what
        #[arg(value_name = "KIND")]
        kind: NameKind,
        /// Servers of which service.
        #[command(flatten)]
        service: AnyService,
    },
    /// Write the manual pages of pollux and polluxd into a directory; packages are made with it
    #[command(hide = true)]
    ManualPages {
        /// The directory, which must be there
        #[arg(value_name = "DIR")]
        directory: PathBuf,
    },
}

/// What to do to a service.
#[derive(Debug, Subcommand)]
pub enum ServiceVerb {
    /// Add a service; it has no servers yet
    ///
    /// When this returns, every worker knows it. As `ipvsadm -A`.
    Add {
        /// Which.
        #[command(flatten)]
        service: OneService,
        /// Its settings.
        #[command(flatten)]
        settings: ServiceSettings,
    },
    /// Change settings of a service; what is not given stays
    ///
    /// Its servers and connections stay too. Another scheduler starts without flags unless they are given.
    #[command(group = ArgGroup::new("change")
        .args(["scheduler", "scheduler_flags", "persistent", "netmask", "pe", "ops", "timeouts"])
        .required(true)
        .multiple(true))]
    Edit {
        /// Which.
        #[command(flatten)]
        service: OneService,
        /// Its settings.
        #[command(flatten)]
        settings: ServiceSettings,
    },
    /// Remove a service with its servers
    Remove {
        /// Which.
        #[command(flatten)]
        service: OneService,
    },
}

/// What to do to a server.
#[derive(Debug, Subcommand)]
pub enum ServerVerb {
    /// Add a server to a service
    ///
    /// As `ipvsadm -a`, with its defaults: method direct, weight 1. Only method nat can have another port than the service,
    /// only method tunnel a server of the other address family.
    Add {
        /// Of which service.
        #[command(flatten)]
        service: OneService,
        /// Which.
        #[command(flatten)]
        server: OneServer,
        /// Its settings.
        #[command(flatten)]
        settings: ServerSettings,
    },
    /// Change settings of a server; what is not given stays, its connections too
    ///
    /// Not as `ipvsadm -e`, which sets everything that is not given to its default: here `-w 0` drains a NAT server and it
    /// is still a NAT server. Another tunnel type starts without port and checksum, another method without a tunnel.
    #[command(group = ArgGroup::new("change")
        .args(["nat", "tunnel", "direct", "weight", "upper_threshold", "lower_threshold"])
        .args(["tunnel_type", "tunnel_port", "nocsum", "csum", "remcsum"])
        .required(true)
        .multiple(true))]
    Edit {
        /// Of which service.
        #[command(flatten)]
        service: OneService,
        /// Which.
        #[command(flatten)]
        server: OneServer,
        /// Its settings.
        #[command(flatten)]
        settings: ServerSettings,
    },
    /// Remove a server; its connections end
    Remove {
        /// Of which service.
        #[command(flatten)]
        service: OneService,
        /// Which.
        #[command(flatten)]
        server: OneServer,
    },
}

/// What to show.
#[derive(Debug, Subcommand)]
pub enum View {
    /// Services and their servers with their connections, as ipvsadm -L
    #[command(alias = "service")]
    Services {
        /// Which.
        #[command(flatten)]
        service: AnyService,
        /// Servers in the order schedulers walk them, the last added first
        #[arg(long)]
        nosort: bool,
    },
    /// The connections, as ipvsadm -Lc
    ///
    /// The table is walked page by page while it changes: what comes or goes meanwhile may be missing.
    #[command(alias = "connection")]
    Connections {
        /// Which.
        #[command(flatten)]
        service: AnyService,
    },
    /// Connections, packets and bytes since the start or `zero`
    #[command(alias = "stat")]
    Stats {
        /// Which.
        #[command(flatten)]
        service: AnyService,
        /// All digits, no K, M, G
        #[arg(long)]
        exact: bool,
    },
    /// Connections, packets and bytes a second, averaged over about 8 s
    ///
    /// The estimator of Linux IPVS: every 2 s the average moves a quarter of the way to the rate of those 2 s.
    #[command(alias = "rate")]
    Rates {
        /// Which.
        #[command(flatten)]
        service: AnyService,
        /// All digits, no K, M, G
        #[arg(long)]
        exact: bool,
    },
    /// All services together: totals, rates, how full the connection table is, connections by state
    Director {
        /// All digits, no K, M, G
        #[arg(long)]
        exact: bool,
    },
    /// The network ports, their counters and rates
    #[command(alias = "port")]
    Ports {
        /// Also the driver's own counters that are not zero
        #[arg(long)]
        extended: bool,
    },
    /// The workers, one core each: how busy each was in the last second, its packets and connections
    ///
    /// PPS and CPS are packets received and connections created a second, averaged as `show rates` does; Met is the share
    /// of connections whose first answer came to the worker that made them; Gen counts the tables it runs
    /// with, which are made anew with each change and with the kernel's news.
    #[command(alias = "worker")]
    Workers,
    /// What became of every packet received, by port
    ///
    /// Every packet is in exactly one line; the last line adds them up and says so if it is not what was received.
    #[command(alias = "drop")]
    Drops {
        /// Also what never happened
        #[arg(long)]
        all: bool,
    },
    /// The servers that are checked: since when they serve or are off, why, and the last results
    ///
    /// Of results, the newest first, + is a good answer, - a bad one or none in time, and ? says nothing of the server: this
    /// machine could not ask, or there is no agent.
    Health {
        /// Which.
        #[command(flatten)]
        service: AnyService,
    },
    /// The services that are checked: whether enough of their servers are up, since when, and their sorry servers
    #[command(alias = "quorum")]
    Quorums {
        /// Which.
        #[command(flatten)]
        service: AnyService,
    },
    /// The daemons of connection synchronisation: how they are started, and what they have sent or taken over
    ///
    /// What was taken over, by what became of it, counts from the start of the data plane.
    Sync {
        /// All digits, no K, M, G
        #[arg(long)]
        exact: bool,
    },
    /// The services that run, as `save` would write them
    #[command(alias = "config")]
    Configuration,
    /// The settings of IPVS: name, value, default, what they do
    #[command(alias = "setting")]
    Settings,
    /// The schedulers: who gets the next connection, and what that is good for
    ///
    /// Needs no daemon.
    #[command(alias = "scheduler")]
    Schedulers,
}

/// A server of a service.
#[derive(Debug, Args)]
pub struct OneServer {
    /// The server; without a port, the service's
    #[arg(short = 'r', long = "real-server", value_name = "ADDRESS[:PORT]")]
    pub address: ServerAddress,
}

/// Settings of a server.
#[derive(Debug, Args)]
pub struct ServerSettings {
    /// Method nat: both directions pass the director
    #[arg(short = 'm', long = "masquerading", group = "method")]
    nat: bool,
    /// Method tunnel: IP in IP unless --tun-type says else, the server answers the client itself
    #[arg(short = 'i', long = "ipip", group = "method")]
    tunnel: bool,
    /// Method direct: same link, the server answers the client itself (the default)
    #[arg(short = 'g', long = "gatewaying", group = "method")]
    direct: bool,
    /// Share of new connections; 0 drains the server [default of a new one: 1]
    #[arg(short, long, value_name = "N", value_parser = parse_weight, allow_hyphen_values = true)]
    weight: Option<Weight>,
    /// No new connections at this many; 0: no limit
    #[arg(short = 'x', long = "u-threshold", value_name = "N")]
    upper_threshold: Option<u32>,
    /// New connections again below this many; 0: three quarters of the upper one
    #[arg(short = 'y', long = "l-threshold", value_name = "N")]
    lower_threshold: Option<u32>,
    /// For method tunnel.
    #[command(flatten)]
    tunnel_options: TunnelOptions,
}

/// A configuration file.
#[derive(Debug, Args)]
pub struct ConfigFile {
    /// The file
    #[arg(value_name = "FILE", env = "POLLUX_CONFIG", hide_env_values = true, default_value = config::DEFAULT_PATH)]
    pub path: PathBuf,
}

fn parse_setting(text: &str) -> Result<(String, u32), String> {
    let (name, value) = text
        .split_once('=')
        .ok_or("write NAME=VALUE, as in sloppy_tcp=1")?;
    let name = name.trim().trim_start_matches("net.ipv4.vs.");
    let value = match value.trim() {
        "true" | "on" => 1,
        "false" | "off" => 0,
        number => number
            .parse()
            .map_err(|_| format!("the value of {name} is a number, as in {name}=1"))?,
    };
    Ok((name.to_owned(), value))
}

fn parse_weight(text: &str) -> Result<Weight, String> {
    let number: i128 = text
        .parse()
        .map_err(|_| format!("write a number from 0 to {}", Weight::MAX))?;
    match u64::try_from(number) {
        Ok(number) => Weight::try_from(number).map_err(|error: NameError| error.to_string()),
        Err(_) => Err(format!(
            "weight {number} out of range: write a weight from 0 to {}",
            Weight::MAX
        )),
    }
}

impl ServerSettings {
    /// What was given.
    pub fn patch(&self) -> DestinationPatch {
        let methods = [
            (self.nat, ForwardingMethod::Nat),
            (self.tunnel, ForwardingMethod::Tunnel),
            (self.direct, ForwardingMethod::Direct),
        ];
        DestinationPatch {
            method: methods
                .into_iter()
                .find_map(|(given, method)| given.then_some(method)),
            tunnel: self.tunnel_options.patch(),
            weight: self.weight,
            upper_threshold: self.upper_threshold,
            lower_threshold: self.lower_threshold,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_grammar_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn weights_have_ipvsadms_range() {
        assert_eq!(parse_weight("2147483647").unwrap().get(), Weight::MAX);
        for (text, message) in [
            ("2147483648", "weight 2147483648 out of range"),
            ("-1", "weight -1 out of range"),
            ("1.5", "write a number from 0 to 2147483647"),
            ("", "write a number from 0 to 2147483647"),
        ] {
            let error = parse_weight(text).unwrap_err();
            assert!(error.starts_with(message), "{text}: {error}");
        }
    }
}
