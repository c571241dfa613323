//! The keys of each kind of check, in one table: what reads them and what writes them both go through it.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;

use pollux_api::health::Probe;
use pollux_api::health::probe::{HttpProbe, TlsProbe};
use regex::bytes::Regex;
use toml_edit::{Array, Value};

use super::super::table_reader::TableReader;

/// Something that is done with every key of a check.
pub trait Keys {
    /// A text that is always there.
    fn text(&mut self, key: &'static str, example: &str, value: &mut String);
    /// A text that may be missing.
    fn maybe(&mut self, key: &'static str, example: &str, value: &mut Option<String>);
    /// A regular expression that may be missing.
    fn pattern(&mut self, key: &'static str, example: &str, value: &mut Option<String>);
    /// A list of texts.
    fn texts(&mut self, key: &'static str, example: &str, value: &mut Vec<String>);
    /// `true` or `false`.
    fn switch(&mut self, key: &'static str, value: &mut bool);
    /// A number.
    fn number(&mut self, key: &'static str, range: RangeInclusive<u16>, value: &mut u16);
    /// A text that means something.
    fn parsed<T: FromStr<Err: Display> + Display>(
        &mut self,
        key: &'static str,
        example: &str,
        value: &mut T,
    );
}

/// Goes through the keys of a probe.
pub fn visit(probe: &mut Probe, keys: &mut impl Keys) {
    match probe {
        Probe::Tcp(tcp) => {
            keys.maybe("send", "PING\\r\\n", &mut tcp.send);
            keys.pattern("expect", "^\\\\+PONG", &mut tcp.expect);
        }
        Probe::Http(http) => visit_http(http, keys),
        Probe::Https(https) => {
            visit_http(&mut https.http, keys);
            visit_tls(&mut https.tls, keys);
        }
        Probe::Udp(udp) => {
            keys.maybe("send", "status", &mut udp.send);
            keys.maybe("send_hex", "0a1b", &mut udp.send_hex);
            keys.switch("reply", &mut udp.reply);
            keys.pattern("expect", "^ok", &mut udp.expect);
        }
        Probe::Dns(dns) => {
            keys.parsed("query", "www.example.com", &mut dns.query);
            keys.parsed("record", "A", &mut dns.record);
            keys.parsed("rcode", "noerror", &mut dns.rcode);
        }
        Probe::Ping(_) => {}
        Probe::Smtp(smtp) => keys.text("helo", "director.example.com", &mut smtp.helo),
        Probe::Grpc(grpc) => {
            keys.text("service", "shop.Cart", &mut grpc.service);
            keys.maybe("host", "www.example.com", &mut grpc.host);
            keys.switch("tls", &mut grpc.use_tls);
            visit_tls(&mut grpc.tls, keys);
        }
        Probe::Script(script) => {
            keys.texts("command", "/usr/local/bin/check-shop", &mut script.command);
            keys.switch("exit_weight", &mut script.exit_weight);
        }
        Probe::Agent(agent) => keys.maybe("send", "shop\\n", &mut agent.send),
    }
}

fn visit_http(http: &mut HttpProbe, keys: &mut impl Keys) {
    keys.text("path", "/healthy", &mut http.path);
    keys.maybe("host", "www.example.com", &mut http.host);
    keys.parsed("status", "200-299", &mut http.status);
    keys.pattern("body", "all is (well|fine)", &mut http.body);
    keys.pattern("body_without", "(?i)error", &mut http.body_without);
    keys.maybe(
        "digest",
        "9e107d9d372bb6826bd81d3542a419d6",
        &mut http.digest,
    );
}

fn visit_tls(tls: &mut TlsProbe, keys: &mut impl Keys) {
    keys.maybe("sni", "www.example.com", &mut tls.sni);
    keys.switch("verify", &mut tls.verify);
    keys.maybe("ca_file", "/etc/pollux/ca.pem", &mut tls.ca_file);
    keys.number(
        "expiry_warning_days",
        0..=3650,
        &mut tls.expiry_warning_days,
    );
}

/// Reads the keys that are there over the values that are the default.
pub struct Read<'a, 'b> {
    /// From here.
    pub table: &'a TableReader<'b>,
    /// Whether all that is there could be read so far.
    pub is_read: bool,
}

impl Read<'_, '_> {
    fn take<T>(&mut self, key: &'static str, read: Option<T>, value: &mut T) {
        match read {
            Some(read) => *value = read,
            None => self.is_read &= !self.table.has(key),
        }
    }
}

impl Keys for Read<'_, '_> {
    fn text(&mut self, key: &'static str, example: &str, value: &mut String) {
        let read = self.table.text(key, example);
        self.take(key, read.map(|read| read.value), value);
    }

    fn maybe(&mut self, key: &'static str, example: &str, value: &mut Option<String>) {
        let read = self.table.text(key, example);
        self.take(key, read.map(|read| Some(read.value)), value);
    }

    fn pattern(&mut self, key: &'static str, example: &str, value: &mut Option<String>) {
        /// A text that is a regular expression.
        struct Pattern(String);

        impl FromStr for Pattern {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                let read = Regex::new(text).map(|_| Self(text.to_owned()));
                read.map_err(|error| {
                    // Its last line says what is wrong; the others show where, in several lines.
                    let error = error.to_string();
                    let why = error.lines().last().unwrap_or_default();
                    let why = why.strip_prefix("error: ").unwrap_or(why);
                    format!("bad regular expression \"{text}\": {why}: mend it, or put \\ before what is meant as it is")
                })
            }
        }

        let read = self.table.parsed::<Pattern>(key, example);
        self.take(key, read.map(|read| Some(read.value.0)), value);
    }

    fn texts(&mut self, key: &'static str, example: &str, value: &mut Vec<String>) {
        let read = self.table.all_parsed(key, example);
        self.take(key, read.map(|read| read.value), value);
    }

    fn switch(&mut self, key: &'static str, value: &mut bool) {
        let read = self.table.boolean(key);
        self.take(key, read.map(|read| read.value), value);
    }

    fn number(&mut self, key: &'static str, range: RangeInclusive<u16>, value: &mut u16) {
        let read = self.table.number(key, range);
        self.take(key, read.map(|read| read.value), value);
    }

    fn parsed<T: FromStr<Err: Display> + Display>(
        &mut self,
        key: &'static str,
        example: &str,
        value: &mut T,
    ) {
        let read = self.table.parsed(key, example);
        self.take(key, read.map(|read| read.value), value);
    }
}

/// Collects the keys with their values; none for what is missing.
#[derive(Default)]
pub struct Collect(pub Vec<(&'static str, Option<Value>)>);

impl Collect {
    /// The keys of a probe.
    pub fn of(probe: &Probe) -> Vec<(&'static str, Option<Value>)> {
        let mut collected = Self::default();
        visit(&mut probe.clone(), &mut collected);
        collected.0
    }
}

impl Keys for Collect {
    fn text(&mut self, key: &'static str, _: &str, value: &mut String) {
        self.0.push((key, Some(text(value))));
    }

    fn maybe(&mut self, key: &'static str, _: &str, value: &mut Option<String>) {
        self.0.push((key, value.as_deref().map(text)));
    }

    fn pattern(&mut self, key: &'static str, example: &str, value: &mut Option<String>) {
        self.maybe(key, example, value);
    }

    fn texts(&mut self, key: &'static str, _: &str, value: &mut Vec<String>) {
        let list: Array = value.iter().map(String::as_str).collect();
        self.0.push((key, Some(Value::Array(list))));
    }

    fn switch(&mut self, key: &'static str, value: &mut bool) {
        self.0.push((key, Some((*value).into())));
    }

    fn number(&mut self, key: &'static str, _: RangeInclusive<u16>, value: &mut u16) {
        self.0.push((key, Some(i64::from(*value).into())));
    }

    fn parsed<T: FromStr<Err: Display> + Display>(
        &mut self,
        key: &'static str,
        _: &str,
        value: &mut T,
    ) {
        self.0.push((key, Some(value.to_string().into())));
    }
}

/// A text in one line, with its line ends as escapes: JSON's are TOML's.
fn text(text: &str) -> Value {
    let escaped = serde_json::to_string(text).ok();
    let in_a_line = escaped.filter(|_| text.contains(['\n', '\r']));
    let in_a_line = in_a_line.and_then(|escaped| escaped.parse().ok());
    in_a_line.unwrap_or_else(|| text.into())
}
