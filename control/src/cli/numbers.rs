//! Numbers as people read them.

/// At most seven characters: all digits below 100,000, then four of them with K, M, G, T, P or E (powers of 1000).
pub fn short(number: u64) -> String {
    if number < 100_000 {
        return number.to_string();
    }
    let mut unit = 1_000_u64;
    for name in ["K", "M", "G", "T", "P"] {
        // Cut, not rounded: 999,999 is not yet 1 M.
        let whole = number / unit;
        if whole < 1_000 {
            let thousandths = number % unit / (unit / 1_000);
            return match whole {
                0..10 => format!("{whole}.{thousandths:03}{name}"),
                10..100 => format!("{whole}.{:02}{name}", thousandths / 10),
                _ => format!("{whole}.{}{name}", thousandths / 100),
            };
        }
        unit *= 1_000;
    }
    format!("{}E", number / unit)
}

/// A number short or with all its digits.
pub fn shown(number: u64, exact: bool) -> String {
    if exact {
        number.to_string()
    } else {
        short(number)
    }
}

/// A share of 1 as `12.3 %`.
pub fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

/// Seconds as `ipvsadm -Lc` shows them, `14:59`.
pub fn minutes(seconds: u32) -> String {
    format!("{:02}:{:02}", seconds / 60, seconds % 60)
}

/// A link's speed.
pub fn speed(mbps: u32) -> String {
    if mbps >= 1_000 && mbps.is_multiple_of(1_000) {
        format!("{} Gbit/s", mbps / 1_000)
    } else {
        format!("{mbps} Mbit/s")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_numbers_have_four_digits_and_are_never_too_large() {
        for (number, text) in [
            (0, "0"),
            (99_999, "99999"),
            (100_000, "100.0K"),
            (999_999, "999.9K"),
            (1_000_000, "1.000M"),
            (12_345_678, "12.34M"),
            (123_456_789_012, "123.4G"),
            (u64::MAX, "18E"),
        ] {
            assert_eq!(short(number), text);
            assert!(short(number).len() <= 7);
        }
    }

    #[test]
    fn times_and_speeds() {
        assert_eq!(minutes(899), "14:59");
        assert_eq!(minutes(6_000), "100:00");
        assert_eq!(speed(10_000), "10 Gbit/s");
        assert_eq!(speed(2_500), "2500 Mbit/s");
        assert_eq!(percent(0.1234), "12.3 %");
    }
}
