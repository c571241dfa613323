//! The appliance's disk image, from the packages to the answer of a service, and what it says when something is wrong.
//!
//! It takes minutes to be built, so there is one test, which boots it several times.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use pollux_tests::lab::servers::{VIP4, VIP6};
use pollux_tests::lab::{Lab, eventually, lab_dir, text_of, top};

use super::traffic::all_servers_answer;

/// Without KVM and beside other work a boot takes minutes.
const BOOT: Duration = Duration::from_secs(400);

/// It serves clients by every method, again after a reboot, without an IOMMU, and whatever stick is in it.
#[test]
#[ignore = "part of scripts/test --appliance"]
fn the_image_sets_itself_up_serves_and_says_what_is_wrong() {
    let image = std::env::temp_dir().join(format!("pollux-{}.img", std::process::id()));
    let _removed = RemovedAtTheEnd(image.clone());
    script("build-image", &[image.as_os_str()]);
    {
        let _turn = Lab::without_daemons();
        let text = script("run-image", &["--check".as_ref(), image.as_os_str()]);
        assert!(text.contains("The service answers again after"), "{text}");
    }
    let lab = Lab::without_daemons();
    let disk = Disk {
        lab: &lab,
        image: &image,
    };
    nobody_has_told_it_that_there_is_no_iommu(&disk);
    it_does_without_an_iommu_and_reads_the_stick_that_it_was_told(&disk);
    it_refuses_a_wrong_file(&disk);
    it_keeps_its_file_without_a_stick(&disk);
}

/// Console and doctor say what is wrong, and what to type; that is typed.
fn nobody_has_told_it_that_there_is_no_iommu(disk: &Disk) {
    disk.boot("--no-iommu --no-wait");
    for words in [
        "pollux: took /etc/pollux/pollux.toml from the stick",
        "the IOMMU is off, and vfio-pci gives no NIC away without",
        "by `pollux-boot-option pollux.iommu=off && reboot`, which",
    ] {
        disk.console_shows(words);
    }
    // `pollux doctor` ends with 1 when it finds something wrong.
    let output = disk.try_type("sudo pollux doctor");
    let text = text_of(&output);
    assert!(!output.status.success(), "{text}");
    for words in [
        "the IOMMU is off: vfio-pci hands out no NIC",
        "in a virtual machine that has none: pollux-boot-option pollux.iommu=off && reboot",
    ] {
        assert!(text.contains(words), "{text}");
    }
    let failed = disk.type_in("systemctl --failed --plain --no-legend");
    assert!(failed.contains("pollux-appliance.service"), "{failed}");
    let options = disk.type_in("sudo pollux-boot-option pollux.iommu=off pollux.stick=SPARE");
    assert!(
        options.contains("quiet pollux.iommu=off pollux.stick=SPARE"),
        "{options}"
    );
    disk.shut_down();
}

/// The kernel's command line has both.
fn it_does_without_an_iommu_and_reads_the_stick_that_it_was_told(disk: &Disk) {
    disk.boot("--no-iommu --stick SPARE");
    serves();
    assert_eq!(disk.run("hostname").trim(), "spare-lab");
    disk.console_shows("a NIC, or whoever controls it, may write to all memory of this machine");
    disk.nothing_failed();
    let text = text_of(&disk.try_run("sudo pollux doctor"));
    assert!(
        text.contains("the IOMMU is off, and the NICs' driver does without"),
        "{text}"
    );
    assert!(!text.contains("setup"), "{text}");
    disk.run("sudo pollux-boot-option pollux.stick");
    disk.shut_down();
}

/// A word of the stick's file is misspelt. The errors are where the operator looks, and what ran runs again.
fn it_refuses_a_wrong_file(disk: &Disk) {
    disk.boot("--no-iommu --stick-line weigth=3");
    serves();
    let words =
        "/pollux.toml:66: service[3].server[2].weigth: unknown key: known here are address, ";
    disk.console_shows(words);
    let journal = disk.run("journalctl -b -o cat -u pollux-appliance");
    for words in ["the stick's pollux.toml is wrong; it is not taken", words] {
        assert!(journal.contains(words), "{words} is not in: {journal}");
    }
    // Who he is does not depend on it.
    assert_eq!(disk.run("hostname").trim(), "pollux-lab");
    assert!(!disk.run("cat /etc/pollux/pollux.toml").contains("weigth"));
    let failed = disk.run("systemctl --failed --plain --no-legend");
    assert!(failed.contains("pollux-appliance.service"), "{failed}");
    disk.run("sudo pollux-boot-option pollux.stick=SPARE");
    disk.shut_down();
}

/// The one that it was told to read is not there. Other firmware, whose boot loader has the same options.
fn it_keeps_its_file_without_a_stick(disk: &Disk) {
    disk.boot("--uefi --no-iommu --no-stick");
    serves();
    disk.console_shows("there is no disk with the label SPARE");
    disk.run("test -d /sys/firmware/efi");
    disk.shut_down();
}

/// Clients are served, by all methods.
fn serves() {
    for (address, port) in [(VIP4, 80), (VIP6, 80), (VIP4, 8080), (VIP6, 8080)] {
        all_servers_answer(address, port);
    }
}

/// The image as the disk of a machine, which writes to it.
struct Disk<'a> {
    lab: &'a Lab,
    image: &'a Path,
}

impl Disk<'_> {
    /// Boots it with options of `scripts/lab start-image`; without `--no-wait` among them until its service answers.
    fn boot(&self, options: &str) {
        println!("Booting with {options}");
        let disk = self.image.display();
        self.lab
            .script(&format!("start-image {disk} --keep {options}"));
    }

    fn console(&self) -> String {
        let bytes = fs::read(lab_dir().join("machine/console.log")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn console_shows(&self, words: &str) {
        assert!(
            eventually(BOOT, || self.console().contains(words)),
            "the console does not show `{words}`:\n{}",
            self.console()
        );
    }

    /// Types a command at the console, whatever comes of it.
    fn try_type(&self, command: &str) -> std::process::Output {
        self.lab.try_script(&format!("image-console {command}"))
    }

    /// Types a command at the console. It must succeed.
    fn type_in(&self, command: &str) -> String {
        self.lab.script(&format!("image-console {command}"))
    }

    /// Runs a command over SSH, whatever comes of it.
    fn try_run(&self, command: &str) -> std::process::Output {
        self.lab.try_script(&format!("image {command}"))
    }

    /// Runs a command over SSH. It must succeed.
    fn run(&self, command: &str) -> String {
        self.lab.script(&format!("image {command}"))
    }

    fn nothing_failed(&self) {
        assert_eq!(self.run("systemctl --failed --plain --no-legend"), "");
    }

    fn shut_down(&self) {
        println!("--- the console\n{}", self.console());
        self.lab.script("stop-image");
    }
}

struct RemovedAtTheEnd(PathBuf);

impl Drop for RemovedAtTheEnd {
    fn drop(&mut self) {
        fs::remove_file(&self.0).ok();
    }
}

/// Runs a script, prints and returns what it prints. It must succeed.
fn script(name: &str, arguments: &[&OsStr]) -> String {
    let mut command = Command::new(top().join("scripts").join(name));
    let output = command.args(arguments).output().expect("the script starts");
    let text = text_of(&output);
    println!("{text}");
    assert!(output.status.success(), "scripts/{name}: {}", output.status);
    text
}
