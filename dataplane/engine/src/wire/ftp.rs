//! What of FTP (RFC 959, RFC 2428) a director has to read and write: where the two ends of a data connection are to be.
//!
//! A segment is read from its beginning, as `ip_vs_ftp.c` does, and what is cut off in the middle is not read at all.
//! Nothing here allocates or changes anything.

use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::Range;

use arrayvec::ArrayString;

use crate::connection::Family;

/// What a client asks for that a director has to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// `PASV`: the server is to say, by reply 227, where it listens.
    Passive,
    /// `EPSV`: the same by reply 229.
    ExtendedPassive,
    /// `PORT` or `EPRT`: the client listens there.
    Active(SocketAddr),
}

/// Where a server says that it listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The place.
    pub server: SocketAddr,
    /// Which bytes of the segment say so.
    pub text: Range<usize>,
}

/// An address or a port as it stands in a reply: `255,255,255,255,255,255` is the longest.
pub type Text = ArrayString<24>;

/// The command in a client's segment, if it is one of these. `PASV` and `EPSV` may stand anywhere in it, the others at
/// its beginning. An address must be of the control connection's family.
pub fn command(segment: &[u8], family: Family) -> Option<Command> {
    if let Some(passive) = passive_command(segment, family) {
        return passive;
    }
    if family == Family::V4
        && let Some(rest) = after_word(segment, b"PORT")
        && let Some((client, _)) = numbers(skip_to_numbers(rest, b' ')?)
    {
        return (client.port() != 0).then_some(Command::Active(client));
    }
    let rest = skip_to_field(after_word(segment, b"EPRT")?, b' ')?;
    let (client, _) = extended(rest, family, None)?;
    Some(Command::Active(client))
}

/// `Some(None)`: an `EPSV` that is not to be followed, and nothing else of the segment either.
fn passive_command(segment: &[u8], family: Family) -> Option<Option<Command>> {
    for window in (0..segment.len()).filter_map(|at| segment.get(at..)) {
        let Some(head) = window.first_chunk::<6>() else {
            break;
        };
        if family == Family::V4 && head.eq_ignore_ascii_case(b"PASV\r\n") {
            return Some(Some(Command::Passive));
        }
        let [name @ .., after, kind] = head;
        if !name.eq_ignore_ascii_case(b"EPSV") {
            continue;
        }
        let of_family = match family {
            Family::V4 => b'1',
            Family::V6 => b'2',
        };
        match after {
            b'\r' => return Some(Some(Command::ExtendedPassive)),
            b' ' => {
                let follows = *kind == of_family && window.get(6) == Some(&b'\r');
                return Some(follows.then_some(Command::ExtendedPassive));
            }
            _ => {}
        }
    }
    None
}

/// Reply 227, to `PASV`: six numbers, of which the first may stand in brackets.
pub fn passive_reply(segment: &[u8]) -> Option<Reply> {
    let rest = skip_to_numbers(after_word(segment, b"227 ")?, b'(')?;
    let (server, length) = numbers(rest)?;
    (server.port() != 0).then(|| reply(segment, rest, server, length))
}

/// Reply 229, to `EPSV`: a port between delimiters, usually without an address, which then is `default`.
pub fn extended_passive_reply(segment: &[u8], default: IpAddr) -> Option<Reply> {
    let family = match default {
        IpAddr::V4(_) => Family::V4,
        IpAddr::V6(_) => Family::V6,
    };
    let rest = skip_to_field(after_word(segment, b"229 ")?, b'(')?;
    let (server, length) = extended(rest, family, Some(default))?;
    Some(reply(segment, rest, server, length))
}

/// The six numbers of reply 227.
pub fn passive_text(address: Ipv4Addr, port: u16) -> Text {
    let [a, b, c, d] = address.octets();
    let [high, low] = port.to_be_bytes();
    let mut text = Text::new();
    // There is room for the longest.
    let _ = write!(text, "{a},{b},{c},{d},{high},{low}");
    text
}

/// The port of reply 229; the client knows the address.
pub fn extended_passive_text(port: u16) -> Text {
    let mut text = Text::new();
    // There is room for the longest.
    let _ = write!(text, "|||{port}|");
    text
}

fn reply(segment: &[u8], rest: &[u8], server: SocketAddr, length: usize) -> Reply {
    let start = segment.len().saturating_sub(rest.len());
    Reply {
        server,
        text: start..start + length,
    }
}

fn after_word<'s>(segment: &'s [u8], word: &[u8]) -> Option<&'s [u8]> {
    let (head, rest) = segment.split_at_checked(word.len())?;
    head.eq_ignore_ascii_case(word).then_some(rest)
}

/// From the first digit on, or from what follows the first `mark`s.
fn skip_to_numbers(text: &[u8], mark: u8) -> Option<&[u8]> {
    let at = text
        .iter()
        .position(|byte| byte.is_ascii_digit() || *byte == mark)?;
    skip_marks(text.get(at..)?, mark)
}

/// What follows the first `mark`s.
fn skip_to_field(text: &[u8], mark: u8) -> Option<&[u8]> {
    let at = text.iter().position(|byte| *byte == mark)?;
    skip_marks(text.get(at..)?, mark)
}

fn skip_marks(text: &[u8], mark: u8) -> Option<&[u8]> {
    let at = text.iter().position(|byte| *byte != mark)?;
    text.get(at..)
}

/// `h1,h2,h3,h4,p1,p2` and how long it is. Something must follow, or the last number may not be whole.
fn numbers(text: &[u8]) -> Option<(SocketAddr, usize)> {
    let mut fields = [0_u8; 6];
    let mut rest = text;
    for (at, field) in fields.iter_mut().enumerate() {
        if at > 0 {
            rest = rest.strip_prefix(b",")?;
        }
        // The kernel reads an empty field as 0.
        while let Some((digit, after)) =
            rest.split_first().filter(|(byte, _)| byte.is_ascii_digit())
        {
            *field = field.checked_mul(10)?.checked_add(digit - b'0')?;
            rest = after;
        }
    }
    if rest.is_empty() {
        return None;
    }
    let [a, b, c, d, high, low] = fields;
    let port = u16::from_be_bytes([high, low]);
    Some((
        (Ipv4Addr::new(a, b, c, d), port).into(),
        text.len() - rest.len(),
    ))
}

/// `|1|10.0.0.1|40000|` or, when there is an address to assume, `|||40000|`, and how long it is.
fn extended(text: &[u8], family: Family, assumed: Option<IpAddr>) -> Option<(SocketAddr, usize)> {
    let (delimiter, rest) = text.split_first()?;
    if !(33..=126).contains(delimiter) {
        return None;
    }
    let (kind, rest) = field(rest, *delimiter)?;
    let (address, rest) = field(rest, *delimiter)?;
    let (port, rest) = field(rest, *delimiter)?;
    let address = match (kind, family) {
        (b"", _) if address.is_empty() => assumed?,
        (b"1", Family::V4) => as_text(address)?.parse::<Ipv4Addr>().ok()?.into(),
        (b"2", Family::V6) => as_text(address)?.parse::<Ipv6Addr>().ok()?.into(),
        _ => return None,
    };
    // `parse` would take a sign.
    if !port.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let port = as_text(port)?.parse().ok().filter(|port| *port != 0)?;
    Some((SocketAddr::new(address, port), text.len() - rest.len()))
}

fn field(text: &[u8], delimiter: u8) -> Option<(&[u8], &[u8])> {
    let end = text.iter().position(|byte| *byte == delimiter)?;
    Some((text.get(..end)?, text.get(end + 1..)?))
}

fn as_text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn active(segment: &str, family: Family) -> Option<String> {
        match command(segment.as_bytes(), family)? {
            Command::Active(client) => Some(client.to_string()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn where_a_client_listens() {
        let v4 = |segment| active(segment, Family::V4);
        let expected = Some("198.51.100.7:50000".to_owned());
        assert_eq!(v4("PORT 198,51,100,7,195,80\r\n"), expected);
        assert_eq!(v4("port   198,51,100,7,195,80\r\n"), expected);
        assert_eq!(v4("EPRT |1|198.51.100.7|50000|\r\n"), expected);
        assert_eq!(v4("eprt $1$198.51.100.7$50000$\r\n"), expected);
        for wrong in [
            "PORT 198,51,100,7,195\r\n",
            "PORT 198,51,100,7,195,80",
            "PORT 198,51,100,256,195,80\r\n",
            "PORT 198,51,100,7,0,0\r\n",
            "PORT",
            "XPORT 198,51,100,7,195,80\r\n",
            "EPRT |2|2001:db8::7|50000|\r\n",
            "EPRT |1|198.51.100.7|65536|\r\n",
            "EPRT |1|198.51.100.7|+5|\r\n",
            "EPRT |1|198.51.100.7|50000",
            "EPRT ||| 50000|\r\n",
            "EPRT |||50000|\r\n",
        ] {
            assert_eq!(v4(wrong), None, "{wrong}");
        }
        let v6 = |segment| active(segment, Family::V6);
        let expected = Some("[2001:db8::7]:50000".to_owned());
        assert_eq!(v6("EPRT |2|2001:db8::7|50000|\r\n"), expected);
        assert_eq!(v6("EPRT |1|198.51.100.7|50000|\r\n"), None);
        assert_eq!(v6("PORT 198,51,100,7,195,80\r\n"), None);
    }

    #[test]
    fn when_a_client_asks_where_the_server_listens() {
        let ask = |segment: &str, family| command(segment.as_bytes(), family);
        assert_eq!(ask("PASV\r\n", Family::V4), Some(Command::Passive));
        assert_eq!(
            ask("TYPE I\r\npasv\r\n", Family::V4),
            Some(Command::Passive)
        );
        assert_eq!(ask("PASV\r\n", Family::V6), None);
        assert_eq!(ask("PASV\r", Family::V4), None);
        let extended = Some(Command::ExtendedPassive);
        assert_eq!(ask("EPSV\r\n", Family::V4), extended);
        assert_eq!(ask("EPSV 1\r\n", Family::V4), extended);
        assert_eq!(ask("epsv 2\r\n", Family::V6), extended);
        assert_eq!(ask("EPSV 2\r\n", Family::V4), None);
        assert_eq!(ask("EPSV ALL\r\n", Family::V4), None);
    }

    #[test]
    fn where_a_server_listens() {
        let segment = b"227 Entering Passive Mode (10,1,0,11,156,64).\r\n";
        let found = passive_reply(segment).unwrap();
        assert_eq!(found.server, "10.1.0.11:40000".parse().unwrap());
        assert_eq!(&segment[found.text], b"10,1,0,11,156,64");
        let found = passive_reply(b"227 =10,1,0,11,156,64 \r\n").unwrap();
        assert_eq!(found.server, "10.1.0.11:40000".parse().unwrap());
        assert_eq!(passive_reply(b"200 (10,1,0,11,156,64)\r\n"), None);
        assert_eq!(passive_reply(b"227 (10,1,0,11,156,6"), None);
        assert_eq!(passive_reply(b"227 none\r\n"), None);

        let server = "10.1.0.11".parse().unwrap();
        let segment = b"229 Entering Extended Passive Mode (|||40000|)\r\n";
        let found = extended_passive_reply(segment, server).unwrap();
        assert_eq!(found.server, "10.1.0.11:40000".parse().unwrap());
        assert_eq!(&segment[found.text], b"|||40000|");
        let segment = b"229 Ok (|1|10.1.0.12|40000|)\r\n";
        let found = extended_passive_reply(segment, server).unwrap();
        assert_eq!(found.server, "10.1.0.12:40000".parse().unwrap());
        assert_eq!(&segment[found.text], b"|1|10.1.0.12|40000|");
        let server = "2001:db8:1::11".parse().unwrap();
        let found = extended_passive_reply(b"229 (|||40000|)\r\n", server).unwrap();
        assert_eq!(found.server, "[2001:db8:1::11]:40000".parse().unwrap());
        assert_eq!(extended_passive_reply(b"229 (|||0|)\r\n", server), None);
        assert_eq!(extended_passive_reply(b"229 (|||40000", server), None);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(address: u32, port in 1..=u16::MAX, before in "[ -'a-z]{0,40}") {
            let address = Ipv4Addr::from_bits(address);
            let text = passive_text(address, port);
            let segment = format!("227 {before}({text})\r\n");
            let found = passive_reply(segment.as_bytes()).unwrap();
            prop_assert_eq!(found.server, (address, port).into());
            prop_assert_eq!(&segment[found.text], text.as_str());

            let text = extended_passive_text(port);
            let segment = format!("229 {before}({text})\r\n");
            let found = extended_passive_reply(segment.as_bytes(), address.into()).unwrap();
            prop_assert_eq!(found.server, (address, port).into());
            prop_assert_eq!(&segment[found.text], text.as_str());

            let segment = format!("PORT {}\r\n", passive_text(address, port));
            prop_assert_eq!(command(segment.as_bytes(), Family::V4), Some(Command::Active((address, port).into())));
        }

        #[test]
        fn any_bytes_are_read_without_harm(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            for start in [&b""[..], b"227 ", b"229 ", b"PORT", b"EPRT", b"EPSV", b"229 (|1|"] {
                let segment = [start, &bytes].concat();
                for family in [Family::V4, Family::V6] {
                    let _ = command(&segment, family);
                }
                let replies = [
                    passive_reply(&segment),
                    extended_passive_reply(&segment, Ipv4Addr::LOCALHOST.into()),
                    extended_passive_reply(&segment, Ipv6Addr::LOCALHOST.into()),
                ];
                for found in replies.into_iter().flatten() {
                    prop_assert!(segment.get(found.text).is_some());
                    prop_assert_ne!(found.server.port(), 0);
                }
            }
        }
    }
}
