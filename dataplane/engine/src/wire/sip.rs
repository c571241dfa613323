//! The Call-ID of a SIP message (RFC 3261, section 20.8), found as Linux finds it (`ct_sip_get_header` in
//! `nf_conntrack_sip.c`, `get_callid` in `ip_vs_pe_sip.c`): in any line but the first, whether or not that is part of the
//! head, under its long or its compact name, in any case, lines ended by CR, LF or both.

/// A longer one is of no use (`IP_VS_PEDATA_MAXLEN`).
const CALL_ID_BYTES_MAX: usize = 255;
const NAME: &[u8] = b"Call-ID";
const COMPACT_NAME: u8 = b'i';

/// The Call-ID of a message; none when there is none, or it is not one.
pub fn call_id(message: &[u8]) -> Option<&[u8]> {
    let mut at = 0;
    loop {
        match find(message, at)? {
            // Not one: the search goes on behind, where the kernel takes the place it found for a distance.
            Found::Bad(distance) => at += distance.max(1),
            Found::CallId(start, length) => {
                let found = message.get(start..start + length)?;
                let is_ended = matches!(message.get(start + length), Some(b'\r' | b'\n'));
                return (is_ended && length <= CALL_ID_BYTES_MAX).then_some(found);
            }
        }
    }
}

enum Found {
    /// Where it starts, and its bytes.
    CallId(usize, usize),
    /// A header of that name without a value that can be one, there.
    Bad(usize),
}

/// The first such header in the lines that start behind `from`.
fn find(message: &[u8], from: usize) -> Option<Found> {
    let mut at = from;
    loop {
        at = line_after(message, at)?;
        let line = message.get(at..)?;
        if matches!(line, [b' ' | b'\t', ..]) {
            // The line before goes on.
            continue;
        }
        let Some(name) = name_bytes(line) else {
            continue;
        };
        let colon = skip_space(message, at + name)?;
        if message.get(colon) != Some(&b':') || colon + 1 >= message.len() {
            return None;
        }
        let start = skip_space(message, colon + 1)?;
        let length = value_bytes(message.get(start..).unwrap_or_default());
        return Some(if length == 0 {
            Found::Bad(start)
        } else {
            Found::CallId(start, length)
        });
    }
}

/// Where the next line starts; none when there is nothing in it.
fn line_after(message: &[u8], at: usize) -> Option<usize> {
    let rest = message.get(at..)?;
    let end = at + rest.iter().position(|byte| matches!(byte, b'\r' | b'\n'))?;
    let start = if message.get(end..end + 2) == Some(b"\r\n") {
        end + 2
    } else {
        end + 1
    };
    (start < message.len()).then_some(start)
}

fn name_bytes(line: &[u8]) -> Option<usize> {
    let is_long = line
        .get(..NAME.len())
        .is_some_and(|name| name.eq_ignore_ascii_case(NAME));
    if is_long {
        return Some(NAME.len());
    }
    match line {
        [name, next, ..] if name.eq_ignore_ascii_case(&COMPACT_NAME) && !is_letter(*next) => {
            Some(1)
        }
        _ => None,
    }
}

/// Past blanks, and one end of a line if the next line goes on with it. None when it does not.
fn skip_space(message: &[u8], from: usize) -> Option<usize> {
    let is_blank = |at: &usize| matches!(message.get(*at), Some(b' ' | b'\t'));
    let after = |from: usize| (from..).find(|at| !is_blank(at)).unwrap_or(from);
    let at = after(from);
    if !matches!(message.get(at), Some(b'\r' | b'\n')) {
        return Some(at);
    }
    let next = line_after(message, at)?;
    is_blank(&next).then(|| after(next))
}

/// A word, or two with `@` between them; 0 when it is neither.
fn value_bytes(text: &[u8]) -> usize {
    let word = |text: &[u8]| text.iter().take_while(|byte| is_word(**byte)).count();
    let first = word(text);
    match text.get(first..) {
        Some([b'@', rest @ ..]) if first > 0 => match word(rest) {
            0 => 0,
            second => first + 1 + second,
        },
        _ => first,
    }
}

/// Letters of Latin-1, as the kernel counts them.
fn is_letter(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || (byte >= 0xc0 && byte != 0xd7 && byte != 0xf7)
}

/// RFC 3261's `word`.
fn is_word(byte: u8) -> bool {
    is_letter(byte) || byte.is_ascii_digit() || b"-.!%*_+`'~()<>:\\\"/[]?{}".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(message: &str) -> Option<&str> {
        call_id(message.as_bytes()).map(|found| std::str::from_utf8(found).unwrap())
    }

    /// What a kernel does with many more is in `tests/golden/sip.json`.
    #[test]
    fn finds_what_the_kernel_finds() {
        for (message, wanted) in [
            ("", None),
            ("Call-ID: a@b\r\n", None),
            ("\r\nCall-ID: a@b\r\n", Some("a@b")),
            ("x\nI:a\n", Some("a")),
            ("x\r\ni\t: \r\n a@b\r\n", Some("a@b")),
            ("x\r\nid: a\r\n", None),
            ("x\r\nCall-ID: a@b", None),
            ("x\r\nCall-ID: a@b ", None),
            ("x\r\nCall-ID: a@\r\n", None),
            ("x\r\nCall-ID: \r\nCall-ID: a@b\r\n", None),
            ("x\r\nCall-ID: @\r\nCall-ID: a@b\r\n", Some("a@b")),
            ("x\r\n Call-ID: a@b\r\n", None),
            ("x\r\nCall-ID", None),
            ("x\r\nCall-ID:", None),
        ] {
            assert_eq!(found(message), wanted, "{message:?}");
        }
    }

    #[test]
    fn too_long_is_none() {
        let message = |bytes| format!("x\r\nCall-ID: {}\r\n", "a".repeat(bytes));
        assert_eq!(found(&message(255)), Some("a".repeat(255).as_str()));
        assert_eq!(found(&message(256)), None);
    }

    #[test]
    fn ends_whatever_comes() {
        let all = b"\r\n\t :@iCall-ID\xe4x";
        let mut state = 1_u64;
        for length in 0..2000 {
            let bytes: Vec<u8> = (0..length % 97)
                .map(|_| {
                    state = state
                        .wrapping_mul(6_364_136_223_846_793_005)
                        .wrapping_add(1);
                    all[(state >> 33) as usize % all.len()]
                })
                .collect();
            if let Some(found) = call_id(&bytes) {
                assert!(!found.is_empty());
            }
        }
    }
}
