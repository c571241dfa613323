//! What is written to a file of `/proc/sys/net/ipv4/vs`: a number, as the kernel reads it (`proc_dointvec`).

use std::collections::BTreeMap;

use pollux_api::ipvs_settings::{IpvsSettings, SettingError};
use rustix::io::Errno;

use super::refusal::Refusal;

/// What a text makes of a setting; `sync_threshold` has two numbers, of which the second may be left out.
///
/// # Errors
/// As [`read`].
pub fn read_file(setting: &'static str, text: &[u8]) -> Result<BTreeMap<String, u32>, Refusal> {
    let mut settings = BTreeMap::from([(setting.to_owned(), read(setting, text)?)]);
    if setting == THRESHOLD {
        let start = text.trim_ascii_start();
        let first = start.iter().position(u8::is_ascii_whitespace);
        let rest = start
            .get(first.unwrap_or(start.len())..)
            .unwrap_or_default();
        if !rest.trim_ascii().is_empty() {
            settings.insert(PERIOD.to_owned(), read(PERIOD, rest)?);
        }
    }
    Ok(settings)
}

/// The setting of two numbers, and what the second one is called here.
const THRESHOLD: &str = "sync_threshold";
const PERIOD: &str = "sync_period";

/// The value that a text gives a setting.
///
/// # Errors
/// `EINVAL` for what is no number, or one that the setting cannot be; `EOPNOTSUPP`, with the reason, for one that it can
/// be in the kernel only.
pub fn read(setting: &'static str, text: &[u8]) -> Result<u32, Refusal> {
    let text = str::from_utf8(text).map_err(|_| Errno::INVAL)?;
    // What follows the first number is another value, which these settings have none of.
    let word = text.split_ascii_whitespace().next().ok_or(Errno::INVAL)?;
    let value = number(word).ok_or(Errno::INVAL)?;
    match IpvsSettings::default().set(setting, value) {
        Ok(()) => Ok(value),
        Err(error @ SettingError::Fixed { .. }) => {
            Err(Refusal::because(Errno::OPNOTSUPP, error.to_string()))
        }
        Err(error) => Err(Refusal::because(Errno::INVAL, error.to_string())),
    }
}

/// In base 10, or 16 after `0x`, or 8 after `0`.
fn number(word: &str) -> Option<u32> {
    let (digits, base) = match word.strip_prefix("0x").or_else(|| word.strip_prefix("0X")) {
        Some(digits) => (digits, 16),
        None => match word.strip_prefix('0') {
            Some(digits) if !digits.is_empty() => (digits, 8),
            _ => (word, 10),
        },
    };
    // Signs are none of the kernel's digits.
    let is_plain = digits.chars().all(|digit| digit.is_digit(base));
    is_plain.then(|| u32::from_str_radix(digits, base).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_the_kernel_reads_them() {
        for (text, value) in [
            ("1\n", 1),
            ("1", 1),
            ("  0x2\t\n", 2),
            ("03\n", 3),
            ("0\n", 0),
            ("1 7\n", 1),
        ] {
            assert_eq!(read("drop_entry", text.as_bytes()), Ok(value), "{text:?}");
        }
        for text in [
            "",
            "\n",
            "x",
            "-1",
            "+1",
            "1.5",
            "08",
            "0x",
            "4",
            "99999999999",
        ] {
            let refused = read("drop_entry", text.as_bytes()).unwrap_err();
            assert_eq!(refused.errno, Errno::INVAL, "{text:?}");
        }
        assert_eq!(read("drop_entry", b"\xff").unwrap_err().errno, Errno::INVAL);
    }

    #[test]
    fn one_setting_has_two_numbers() {
        let read = |text: &str| read_file("sync_threshold", text.as_bytes());
        let both = |threshold, period| {
            let pair = [("sync_threshold", threshold), ("sync_period", period)];
            BTreeMap::from(pair.map(|(name, value)| (name.to_owned(), value)))
        };
        assert_eq!(read("2 50\n"), Ok(both(2, 50)));
        assert_eq!(read(" 0\t0 7\n"), Ok(both(0, 0)));
        let alone = BTreeMap::from([("sync_threshold".to_owned(), 5)]);
        assert_eq!(read("5\n"), Ok(alone));
        for text in ["", "x", "3 x", "-1 3"] {
            assert!(read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_only_the_kernel_can_is_refused_with_the_reason() {
        let refused = read("conntrack", b"1\n").unwrap_err();
        assert_eq!(refused.errno, Errno::OPNOTSUPP);
        assert!(
            refused.to_string().contains("connection tracking"),
            "{refused}"
        );
        assert_eq!(read("conntrack", b"0\n"), Ok(0));
    }
}
