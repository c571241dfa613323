//! What a director needs the kernel to do with packets: pass on what is of no service, and take what comes by another way
//! than its answer goes. Set now, and written for every boot.

use super::in_use;
use super::plan::Request;
use super::record::{Record, SettingBefore};
use super::step::Step;
use crate::host::Root;

const FILE: &str = "/etc/sysctl.d/60-pollux.conf";

/// What settings of an interface's IPv6 begin with.
const OF_INTERFACE: &str = "net.ipv6.conf.";

/// `scripts/image` has the same, and more.
const SETTINGS: [(&str, &str); 6] = [
    ("net.ipv4.ip_forward", "1"),
    ("net.ipv6.conf.all.forwarding", "1"),
    ("net.ipv4.conf.all.rp_filter", "0"),
    ("net.ipv4.conf.default.rp_filter", "0"),
    ("net.ipv4.conf.all.send_redirects", "0"),
    ("net.ipv4.conf.default.send_redirects", "0"),
];

/// The steps that are not done yet, noting in the record what there was. None at boot, when systemd-sysctl does that.
pub fn steps(root: &Root, request: &Request, record: &mut Record) -> Vec<Step> {
    if request.only_now {
        return Vec::new();
    }
    let mut wanted: Vec<(String, &str)> = in_use::default_routes_of_routers(root)
        .into_iter()
        .map(|interface| format!("net.ipv6.conf.{interface}.accept_ra"))
        // A host that forwards believes routers no more, and loses the way that they told it, unless it is told to (2).
        .filter(|name| matches!(root.text(&file_of(name)).as_deref(), Some("1" | "2")))
        .map(|name| (name, "2"))
        .collect();
    wanted.extend(SETTINGS.map(|(name, value)| (name.to_owned(), value)));
    wanted.retain(|(name, _)| root.has(&file_of(name)));

    let mut text =
        String::from("# Written by `pollux setup`; `pollux setup --undo` takes it away.\n");
    let mut steps = Vec::new();
    for (name, value) in &wanted {
        text.push_str(&format!("{} = {value}\n", written(name)));
        let file = file_of(name);
        let Some(before) = root.text(&file).filter(|before| before != value) else {
            continue;
        };
        record.remember_setting(SettingBefore {
            file: file.clone(),
            value: before,
        });
        steps.push(Step::Set {
            file,
            value: (*value).to_owned(),
        });
    }
    if wanted.is_empty() {
        return steps;
    }
    record.remember_file(FILE);
    if root.text(FILE).as_deref() != Some(text.trim()) {
        let file = FILE.to_owned();
        steps.push(Step::Write { file, text });
    }
    steps
}

/// As sysctl.d(5) wants it: a dot in an interface's name is a slash.
fn written(name: &str) -> String {
    match name
        .strip_prefix(OF_INTERFACE)
        .and_then(|rest| rest.rsplit_once('.'))
    {
        Some((interface, setting)) => {
            format!("{OF_INTERFACE}{}.{setting}", interface.replace('.', "/"))
        }
        None => name.to_owned(),
    }
}

fn file_of(name: &str) -> String {
    match name
        .strip_prefix(OF_INTERFACE)
        .and_then(|rest| rest.rsplit_once('.'))
    {
        Some((interface, setting)) => format!("/proc/sys/net/ipv6/conf/{interface}/{setting}"),
        None => format!("/proc/sys/{}", name.replace('.', "/")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::undo::undo;
    use super::*;
    use crate::host::made_up::MadeUp;

    fn machine() -> MadeUp {
        MadeUp::new()
            .file("proc/sys/net/ipv4/ip_forward", "0\n")
            .file("proc/sys/net/ipv6/conf/all/forwarding", "0\n")
            .file("proc/sys/net/ipv4/conf/all/rp_filter", "2\n")
            .file("proc/sys/net/ipv4/conf/default/rp_filter", "0\n")
            .file("proc/sys/net/ipv6/conf/mgmt.5/accept_ra", "1\n")
            .file("proc/sys/net/ipv6/conf/other/accept_ra", "1\n")
    }

    fn lines(steps: &[Step]) -> Vec<String> {
        steps.iter().map(Step::to_string).collect()
    }

    #[test]
    fn what_is_otherwise_is_set_and_all_is_written() {
        let machine = machine();
        let root = machine.root();
        let mut record = Record::default();
        let made = steps(&root, &Request::default(), &mut record);
        assert_eq!(
            lines(&made),
            [
                "echo 1 > /proc/sys/net/ipv4/ip_forward",
                "echo 1 > /proc/sys/net/ipv6/conf/all/forwarding",
                "echo 0 > /proc/sys/net/ipv4/conf/all/rp_filter",
                "write /etc/sysctl.d/60-pollux.conf (5 lines)",
            ]
        );
        for step in &made {
            step.perform(&root).unwrap();
        }
        assert!(
            root.text(FILE)
                .unwrap()
                .ends_with("conf.default.rp_filter = 0")
        );
        let written = record.step_to_write(&root).unwrap();
        written.perform(&root).unwrap();
        let mut again = Record::read(&root).unwrap();
        assert_eq!(steps(&root, &Request::default(), &mut again), []);
        assert_eq!(again, record);

        let undone = lines(&undo(&root).unwrap().steps);
        assert_eq!(
            undone,
            [
                "echo 0 > /proc/sys/net/ipv4/ip_forward",
                "echo 0 > /proc/sys/net/ipv6/conf/all/forwarding",
                "echo 2 > /proc/sys/net/ipv4/conf/all/rp_filter",
                "rm -f /etc/sysctl.d/60-pollux.conf",
                "rm -f /var/lib/pollux/setup.json",
            ]
        );
    }

    /// Or whoever sits at the other end of it is cut off.
    #[test]
    fn a_way_that_a_router_told_stays_when_the_machine_forwards() {
        let machine = machine().file(
            "ip/-6-route-show-default",
            r#"[{"dst":"default","gateway":"fe80::1","dev":"mgmt.5","protocol":"ra"},
                {"dst":"default","gateway":"fe80::2","dev":"other","protocol":"static"}]"#,
        );
        let made = steps(&machine.root(), &Request::default(), &mut Record::default());
        assert_eq!(
            lines(&made)[0],
            "echo 2 > /proc/sys/net/ipv6/conf/mgmt.5/accept_ra"
        );
        let text = made.iter().find_map(|step| match step {
            Step::Write { text, .. } => Some(text),
            _ => None,
        });
        let text = text.expect("it is written");
        assert!(
            text.contains("net.ipv6.conf.mgmt/5.accept_ra = 2\n"),
            "{text}"
        );
        assert!(!text.contains("other"), "{text}");
    }

    #[test]
    fn at_boot_it_is_done_already() {
        let request = Request {
            only_now: true,
            ..Request::default()
        };
        assert_eq!(
            steps(&machine().root(), &request, &mut Record::default()),
            []
        );
    }
}
