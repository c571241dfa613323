//! The checkers of a real server, as they are written.

use std::net::IpAddr;

use super::super::draft::Draft;
use super::super::ipvsadm::words;
use super::statement::Statement;
use super::timing::{Timing, flag, number};

/// A checker.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Checker {
    /// What it asks.
    pub kind: Kind,
    /// Another port than the server's.
    pub port: Option<u16>,
    /// Another address than the server's.
    pub address: Option<IpAddr>,
    /// How often, and the rest.
    pub timing: Timing,
}

/// What a checker asks.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Kind {
    /// TCP_CHECK
    Tcp,
    /// HTTP_GET, SSL_GET
    Http {
        /// Over TLS.
        tls: bool,
        /// Whether the name is told in the handshake.
        sni: bool,
        /// What is asked for.
        urls: Vec<Url>,
    },
    /// SMTP_CHECK
    Smtp {
        /// What this machine calls itself.
        helo: Option<String>,
    },
    /// DNS_CHECK
    Dns {
        /// The type of record.
        record: String,
        /// Its name.
        name: String,
    },
    /// MISC_CHECK
    Misc {
        /// The program with its arguments.
        command: Vec<String>,
        /// How long it may take.
        timeout_s: Option<u32>,
        /// Whether its exit status is a weight.
        dynamic: bool,
    },
    /// PING_CHECK
    Ping,
    /// UDP_CHECK
    Udp {
        /// What is sent, in hexadecimal.
        payload: Option<String>,
        /// Whether an answer has to come.
        require_reply: bool,
    },
}

/// A page that is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Url {
    /// Its path.
    pub path: String,
    /// MD5 of its body.
    pub digest: Option<String>,
    /// Which status is good.
    pub statuses: Vec<String>,
    /// The host.
    pub virtualhost: Option<String>,
    /// What the body matches.
    pub regex: Option<String>,
    /// Or does not.
    pub regex_no_match: bool,
    /// Options of the expression.
    pub regex_options: Vec<String>,
}

/// Whether it is the name of a checker.
pub fn is_checker(keyword: &str) -> bool {
    matches!(
        keyword,
        "TCP_CHECK"
            | "HTTP_GET"
            | "SSL_GET"
            | "SMTP_CHECK"
            | "DNS_CHECK"
            | "MISC_CHECK"
            | "BFD_CHECK"
            | "UDP_CHECK"
            | "PING_CHECK"
            | "FILE_CHECK"
    )
}

/// Reads a checker of a server whose block says `outer`; none when Pollux has nothing like it.
pub fn read(statement: &Statement, outer: &Timing, draft: &mut Draft) -> Option<Checker> {
    let mut checker = Checker {
        kind: kind(statement, draft)?,
        port: None,
        address: None,
        timing: Timing::default(),
    };
    // SMTP_CHECK once had them in a block.
    let host = statement
        .inner()
        .iter()
        .filter(|inner| statement.keyword() == "SMTP_CHECK" && inner.keyword() == "host");
    for inner in statement
        .inner()
        .iter()
        .chain(host.flat_map(Statement::inner))
    {
        let is_known = checker.timing.take(inner, draft)
            || checker.take(inner, draft)
            || is_of_kind(statement.keyword(), inner.keyword());
        if !is_known {
            let text = format!(
                "{}: \"{}\" is not known here: left out",
                statement.keyword(),
                inner.text()
            );
            draft.note(&inner.place, text);
        }
    }
    checker.timing = checker.timing.or(outer);
    Some(checker)
}

impl Checker {
    /// Leaves out what says where the server is anyway.
    pub fn forget_own(&mut self, address: IpAddr, port: Option<u16>) {
        self.address = self.address.filter(|other| *other != address);
        self.port = self.port.filter(|other| Some(*other) != port);
    }

    /// What all checkers have of their connection.
    fn take(&mut self, inner: &Statement, draft: &mut Draft) -> bool {
        let keyword = inner.keyword();
        match keyword {
            "connect_port" => self.port = number(inner, draft).filter(|port| *port > 0),
            "connect_ip" => {
                self.address = inner.argument().and_then(|text| text.parse().ok());
            }
            "bindto" | "bind_if" | "bind_port" | "fwmark" => {
                let text = format!(
                    "{keyword}: checks go out as the kernel's routes have it; left out: write the route, or a rule of `ip rule`"
                );
                draft.note(&inner.place, text);
            }
            "log_all_failures" => {}
            _ => return false,
        }
        true
    }
}

/// Keywords of one kind of checker, which `kind` has read.
fn is_of_kind(checker: &str, keyword: &str) -> bool {
    match checker {
        "HTTP_GET" | "SSL_GET" => {
            matches!(
                keyword,
                "url" | "http_protocol" | "fast_recovery" | "enable_sni" | "tls_compliant"
            )
        }
        "SMTP_CHECK" => matches!(keyword, "helo_name" | "host"),
        "DNS_CHECK" => matches!(keyword, "type" | "name"),
        "MISC_CHECK" => matches!(
            keyword,
            "misc_path" | "misc_timeout" | "misc_dynamic" | "user"
        ),
        "UDP_CHECK" => {
            matches!(
                keyword,
                "payload" | "require_reply" | "min_reply_length" | "max_reply_length"
            )
        }
        _ => false,
    }
}

fn kind(statement: &Statement, draft: &mut Draft) -> Option<Kind> {
    let text_of = |keyword: &str| statement.last(keyword)?.argument().map(str::to_owned);
    Some(match statement.keyword() {
        "TCP_CHECK" => Kind::Tcp,
        "PING_CHECK" => Kind::Ping,
        "SMTP_CHECK" => Kind::Smtp {
            helo: text_of("helo_name"),
        },
        "DNS_CHECK" => Kind::Dns {
            record: text_of("type").unwrap_or_else(|| "SOA".to_owned()),
            name: text_of("name").unwrap_or_else(|| ".".to_owned()),
        },
        "UDP_CHECK" => udp(statement, draft),
        "MISC_CHECK" => misc(statement, draft)?,
        "HTTP_GET" | "SSL_GET" => {
            let urls = statement
                .inner()
                .iter()
                .filter(|inner| inner.keyword() == "url");
            let mut urls: Vec<Url> = urls.map(|url| read_url(url, draft)).collect();
            if urls.is_empty() {
                let text = format!("{}: no url; / is asked for", statement.keyword());
                draft.note(&statement.place, text);
                urls.push(Url {
                    path: "/".to_owned(),
                    ..Url::default()
                });
            }
            Kind::Http {
                tls: statement.keyword() == "SSL_GET",
                sni: statement.last("enable_sni").is_some_and(flag),
                urls,
            }
        }
        other => {
            let why = match other {
                "BFD_CHECK" => {
                    "Pollux does not speak BFD; BIRD and FRR do, on the TAPs; a ping check finds a dead host, too"
                }
                _ => "write a check of kind \"script\" that reads the file",
            };
            draft.note(&statement.place, format!("{other}: left out: {why}"));
            return None;
        }
    })
}

fn udp(statement: &Statement, draft: &mut Draft) -> Kind {
    let text_of = |keyword: &str| {
        let found = statement.last(keyword)?;
        Some(hex(&found.arguments().join(" ")))
    };
    let reply = statement.last("require_reply");
    let lengths = ["min_reply_length", "max_reply_length"].into_iter();
    for keyword in lengths {
        if let Some(found) = statement.last(keyword) {
            let text = format!("{keyword}: how long an answer is is not looked at; left out");
            draft.note(&found.place, text);
        }
    }
    if let Some(found) = reply.filter(|found| !found.arguments().is_empty()) {
        let text = "require_reply with bytes: here any answer is good; write expect = \"REGEX\" for the check to look at it";
        draft.note(&found.place, text);
    }
    Kind::Udp {
        payload: text_of("payload").filter(|digits| !digits.is_empty()),
        require_reply: reply.is_some(),
    }
}

/// keepalived's free format: a single digit is a byte, `3 456` is 03 45 06.
fn hex(text: &str) -> String {
    let digits = text.split_whitespace().map(|part| {
        let mut part: String = part.chars().filter(char::is_ascii_hexdigit).collect();
        if part.len() % 2 == 1 {
            let last = part.len() - 1;
            part.insert(last, '0');
        }
        part
    });
    digits.collect()
}

fn misc(statement: &Statement, draft: &mut Draft) -> Option<Kind> {
    let Some(path) = statement.last("misc_path") else {
        draft.note(&statement.place, "MISC_CHECK: no misc_path; left out");
        return None;
    };
    if let Some(user) = statement.last("user") {
        let text = format!(
            "\"{}\": scripts run as the user that polluxd runs as; left out",
            user.text()
        );
        draft.note(&user.place, text);
    }
    Some(Kind::Misc {
        command: words(&path.arguments().join(" ")),
        timeout_s: statement
            .last("misc_timeout")
            .and_then(|found| number(found, draft)),
        dynamic: statement.last("misc_dynamic").is_some_and(flag),
    })
}

fn read_url(statement: &Statement, draft: &mut Draft) -> Url {
    let mut url = Url {
        path: "/".to_owned(),
        ..Url::default()
    };
    for inner in statement.inner() {
        let text = inner.argument().map(str::to_owned);
        match inner.keyword() {
            "path" => url.path = text.unwrap_or_else(|| "/".to_owned()),
            "digest" => url.digest = text,
            "status_code" => url.statuses = inner.arguments().to_vec(),
            "virtualhost" => url.virtualhost = text,
            "regex" => url.regex = text,
            "regex_no_match" => url.regex_no_match = true,
            "regex_options" => url.regex_options = inner.arguments().to_vec(),
            keyword => {
                let text = format!("url: \"{keyword}\" is not looked at here: left out");
                draft.note(&inner.place, text);
            }
        }
    }
    url
}
