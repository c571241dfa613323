//! FTP through NAT, with curl and vsftpd: passive and active, IPv4 and IPv6, both ways.

use std::collections::BTreeSet;
use std::fs;
use std::process::Output;

use pollux_tests::lab::client::DOWNLOAD_SHA256;
use pollux_tests::lab::namespace::{command, run};
use pollux_tests::lab::servers::{NAMES, NAT, SERVERS4, SERVERS6, VIP4, VIP6, tcp};
use pollux_tests::lab::{Lab, lab_dir, text_of};

/// What curl is told for each way to open a data connection over IPv4.
const WAYS4: [(&str, &str); 4] = [
    ("PASV", "--disable-epsv"),
    ("EPSV", ""),
    ("PORT", "-P - --disable-eprt"),
    ("EPRT", "-P -"),
];
/// And over IPv6, which has no others.
const WAYS6: [(&str, &str); 2] = [("EPSV", ""), ("EPRT", "-P -")];

/// What curl says, its words split at blanks; the client's side of the control connection is in it.
fn curl(options: &str, url: &str) -> Output {
    command("client", "curl")
        .args(["-sS", "-v", "--fail", "--max-time", "20"])
        .args(options.split_whitespace())
        .arg(url)
        .output()
        .expect("curl starts")
}

fn ftp_url(vip: &str, path: &str) -> String {
    if vip.contains(':') {
        format!("ftp://[{vip}]/{path}")
    } else {
        format!("ftp://{vip}/{path}")
    }
}

/// Every server is asked for its name, and for the list of its files, in every way.
fn every_way_works(vip: &str, servers: [&str; 3], ways: &[(&str, &str)]) {
    let lab = Lab::start();
    lab.add(&tcp(vip, 21), "rr", NAT, &servers, 21);
    lab.watch_client();
    for (way, options) in ways {
        let mut asked = BTreeSet::new();
        for _ in NAMES {
            let output = curl(options, &ftp_url(vip, "whoami"));
            assert!(output.status.success(), "{way}: {}", text_of(&output));
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(said.contains(&format!("> {way}")), "not by {way}: {said}");
            asked.insert(String::from_utf8_lossy(&output.stdout).trim().to_owned());
        }
        assert_eq!(asked, NAMES.map(str::to_owned).into(), "{way}");
        let output = curl(&format!("{options} --list-only"), &ftp_url(vip, ""));
        let listed = String::from_utf8_lossy(&output.stdout);
        assert!(listed.contains("whoami"), "{way}: {}", text_of(&output));
    }
    lab.assert_client_saw_no_server();
}

#[test]
fn every_way_over_ipv4() {
    every_way_works(VIP4, SERVERS4, &WAYS4);
}

#[test]
fn every_way_over_ipv6() {
    every_way_works(VIP6, SERVERS6, &WAYS6);
}

#[test]
fn files_of_a_hundred_megabytes_arrive_byte_for_byte() {
    let lab = Lab::start();
    lab.add(&tcp(VIP4, 21), "rr", NAT, &SERVERS4[..1], 21);
    lab.add(&tcp(VIP6, 21), "rr", NAT, &SERVERS6[..1], 21);
    let ways = [VIP4, VIP6].map(|vip| [(vip, ""), (vip, "-P -")]);
    for (number, (vip, options)) in ways.iter().flatten().enumerate() {
        let page = ftp_url(vip, "100M");
        let line = format!("curl -sS --fail --max-time 60 {options} {page} | sha256sum");
        let output = command("client", "bash")
            .args(["-o", "pipefail", "-c", &line])
            .output()
            .expect("bash starts");
        let text = text_of(&output);
        assert!(output.status.success(), "{line}: {text}");
        assert!(text.starts_with(DOWNLOAD_SHA256), "{line}: {text}");

        let sent = lab_dir().join("www/100M");
        let name = format!("upload{number}");
        let page = ftp_url(vip, &format!("incoming/{name}"));
        run(
            "client",
            &format!(
                "curl -sS --max-time 60 {options} -T {} {page}",
                sent.display()
            ),
        );
        let received = lab_dir().join(format!("rs1/ftp/incoming/{name}"));
        let same = fs::read(&received).unwrap() == fs::read(&sent).unwrap();
        fs::remove_file(&received).unwrap();
        assert!(same, "{vip} {options}: the upload arrived with other bytes");
    }
}
