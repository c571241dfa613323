//! What a check asks, and which answer is good: one struct a kind, with its defaults.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::dns::{DnsName, RecordType, ResponseCode};
use super::status::Statuses;
use crate::identity::Protocol;

/// What is asked, and which answer is good.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Probe {
    /// The server takes a TCP connection, and says what it should.
    Tcp(TcpProbe),
    /// `GET` over HTTP/1.1.
    Http(HttpProbe),
    /// The same over TLS.
    Https(HttpsProbe),
    /// A datagram is answered.
    Udp(UdpProbe),
    /// A name server answers a question.
    Dns(DnsProbe),
    /// The server answers an ICMP echo request.
    Ping(PingProbe),
    /// A mail server greets.
    Smtp(SmtpProbe),
    /// `grpc.health.v1.Health/Check` says SERVING.
    Grpc(GrpcProbe),
    /// A program's exit status says it.
    Script(ScriptProbe),
    /// An agent on the server says it, and which share of its weight the server takes.
    Agent(AgentProbe),
}

/// `kind = "tcp"`
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct TcpProbe {
    /// What is sent once connected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub send: Option<String>,
    /// A regular expression that the answer matches; none: the connection is enough.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expect: Option<String>,
}

/// `kind = "http"`
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct HttpProbe {
    /// What is asked for.
    pub path: String,
    /// The `Host` header; none: address and port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Which status is good.
    pub status: Statuses,
    /// A regular expression that the body matches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// One that it must not match.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body_without: Option<String>,
    /// The digest of the body in hexadecimal: MD5 (32 digits, as `genhash` prints it) or SHA-256 (64 digits).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
}

impl Default for HttpProbe {
    fn default() -> Self {
        Self {
            path: "/".to_owned(),
            host: None,
            status: Statuses::default(),
            body: None,
            body_without: None,
            digest: None,
        }
    }
}

/// What is asked of a certificate.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TlsProbe {
    /// The name that the server is asked for and its certificate has to have; none: the host, or the address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sni: Option<String>,
    /// Whether the certificate has to be valid.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub verify: bool,
    /// A file of certificates, PEM, that may have signed it; none: those that the system trusts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<String>,
    /// A certificate that expires sooner is warned of, in days; 0: never.
    #[serde(default = "expiry_warning_days")]
    pub expiry_warning_days: u16,
}

fn yes() -> bool {
    true
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde's signature
fn is_yes(flag: &bool) -> bool {
    *flag
}

fn expiry_warning_days() -> u16 {
    14
}

impl Default for TlsProbe {
    fn default() -> Self {
        Self {
            sni: None,
            verify: yes(),
            ca_file: None,
            expiry_warning_days: expiry_warning_days(),
        }
    }
}

/// `kind = "https"`
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct HttpsProbe {
    /// What is asked within.
    #[serde(flatten)]
    pub http: HttpProbe,
    /// How it is wrapped.
    #[serde(flatten)]
    pub tls: TlsProbe,
}

/// `kind = "udp"`
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct UdpProbe {
    /// What is sent, as text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub send: Option<String>,
    /// What is sent, as hexadecimal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub send_hex: Option<String>,
    /// Whether an answer has to come; if not, none within the time limit is good, and only a refusal is bad.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub reply: bool,
    /// A regular expression that the answer matches; none: any answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expect: Option<String>,
}

impl Default for UdpProbe {
    fn default() -> Self {
        Self {
            send: None,
            send_hex: None,
            reply: yes(),
            expect: None,
        }
    }
}

impl UdpProbe {
    /// The bytes that are sent; none if the digits are none.
    pub fn payload(&self) -> Option<Vec<u8>> {
        match (&self.send, &self.send_hex) {
            (Some(text), _) => Some(text.clone().into_bytes()),
            (None, Some(digits)) => from_hex(digits),
            (None, None) => Some(Vec::new()),
        }
    }
}

/// The bytes that hexadecimal digits stand for.
pub fn from_hex(digits: &str) -> Option<Vec<u8>> {
    let bytes = digits.as_bytes();
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let pairs = bytes.chunks(2).map(|pair| match pair {
        [high, low] => u8::try_from(digit(*high)? << 4 | digit(*low)?).ok(),
        _ => None,
    });
    pairs.collect()
}

/// `kind = "dns"`, over UDP
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct DnsProbe {
    /// The name that is asked for.
    pub query: DnsName,
    /// The type of record.
    #[serde(default)]
    pub record: RecordType,
    /// The response code that is good.
    #[serde(default)]
    pub rcode: ResponseCode,
}

/// `kind = "ping"`
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct PingProbe {}

/// `kind = "smtp"`
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SmtpProbe {
    /// What this machine calls itself in `HELO`.
    pub helo: String,
}

impl Default for SmtpProbe {
    fn default() -> Self {
        Self {
            helo: "localhost".to_owned(),
        }
    }
}

/// `kind = "grpc"`
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct GrpcProbe {
    /// The service that is asked about; empty: the server as a whole.
    #[serde(default)]
    pub service: String,
    /// The `:authority` of the request; none: address and port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Whether it goes over TLS.
    #[serde(default)]
    pub use_tls: bool,
    /// How, then.
    #[serde(flatten)]
    pub tls: TlsProbe,
}

/// `kind = "script"`
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct ScriptProbe {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Whether exit statuses from 2 on are a weight, and good: the weight is the status less 2.
    #[serde(default)]
    pub exit_weight: bool,
}

/// `kind = "agent"`
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct AgentProbe {
    /// What is sent once connected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub send: Option<String>,
}

/// What is wrong with what is asked.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ProbeError {
    /// A text that would break the request.
    #[error(
        "bad {0} \"{1}\": write it without spaces and control characters, a path from its slash on"
    )]
    Text(&'static str, String),
    /// No digest.
    #[error("bad digest \"{0}\": write the 32 hexadecimal digits of MD5 or the 64 of SHA-256")]
    Digest(String),
    /// Not bytes.
    #[error("bad send_hex \"{0}\": write two hexadecimal digits for each byte")]
    Hex(String),
    /// Two things to send.
    #[error("send and send_hex: write one of the two")]
    SendTwice,
    /// An answer that is awaited and not.
    #[error("expect without a reply: leave out one of expect and reply = false")]
    NoReply,
    /// No program.
    #[error("bad command: write a program by its path from / on, then its arguments")]
    Command,
    /// Not looked at.
    #[error("{0} without verify: leave out one of {0} and verify = false")]
    NotVerified(&'static str),
}

impl Probe {
    /// The word for it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Tcp(_) => "tcp",
            Self::Http(_) => "http",
            Self::Https(_) => "https",
            Self::Udp(_) => "udp",
            Self::Dns(_) => "dns",
            Self::Ping(_) => "ping",
            Self::Smtp(_) => "smtp",
            Self::Grpc(_) => "grpc",
            Self::Script(_) => "script",
            Self::Agent(_) => "agent",
        }
    }

    /// One of each kind, with its defaults, in the order people read them.
    pub fn all_kinds() -> [Self; 10] {
        [
            Self::Tcp(TcpProbe::default()),
            Self::Http(HttpProbe::default()),
            Self::Https(HttpsProbe::default()),
            Self::Udp(UdpProbe::default()),
            Self::Dns(DnsProbe::default()),
            Self::Ping(PingProbe::default()),
            Self::Smtp(SmtpProbe::default()),
            Self::Grpc(GrpcProbe::default()),
            Self::Script(ScriptProbe::default()),
            Self::Agent(AgentProbe::default()),
        ]
    }

    /// Whether it goes to a port: ICMP has none, and a script finds its own way.
    pub fn has_port(&self) -> bool {
        !matches!(self, Self::Ping(_) | Self::Script(_))
    }

    /// What carries it, if it goes to a port.
    pub fn transport(&self) -> Protocol {
        match self {
            Self::Udp(_) | Self::Dns(_) => Protocol::Udp,
            _ => Protocol::Tcp,
        }
    }

    /// Whether it has to know for which service it asks, so that services do not share it.
    pub fn is_of_a_service(&self) -> bool {
        matches!(self, Self::Script(_))
    }

    /// Regular expressions that have to be right; this crate cannot tell.
    pub fn patterns(&self) -> impl Iterator<Item = &str> {
        let patterns = match self {
            Self::Tcp(tcp) => [&tcp.expect, &None],
            Self::Udp(udp) => [&udp.expect, &None],
            Self::Http(http) => [&http.body, &http.body_without],
            Self::Https(https) => [&https.http.body, &https.http.body_without],
            _ => [&None, &None],
        };
        patterns.into_iter().filter_map(Option::as_deref)
    }

    /// Whether it can be asked.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn validate(&self) -> Result<(), ProbeError> {
        match self {
            Self::Http(http) => http.validate(),
            Self::Https(https) => {
                https.http.validate()?;
                https.tls.validate()
            }
            Self::Udp(udp) => udp.validate(),
            Self::Smtp(smtp) => word("helo", Some(&smtp.helo)),
            Self::Grpc(grpc) => {
                word("host", grpc.host.as_ref())?;
                grpc.tls.validate()
            }
            Self::Script(script) => {
                let program = script.command.first();
                let is_path = program.is_some_and(|program| program.starts_with('/'));
                let has_nul = script.command.iter().any(|word| word.contains('\0'));
                (is_path && !has_nul)
                    .then_some(())
                    .ok_or(ProbeError::Command)
            }
            Self::Tcp(_) | Self::Dns(_) | Self::Ping(_) | Self::Agent(_) => Ok(()),
        }
    }
}

fn word(what: &'static str, text: Option<&String>) -> Result<(), ProbeError> {
    let is_word = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic());
    match text {
        Some(text) if !is_word(text) => Err(ProbeError::Text(what, text.clone())),
        _ => Ok(()),
    }
}

impl HttpProbe {
    fn validate(&self) -> Result<(), ProbeError> {
        word("path", Some(&self.path))?;
        if !self.path.starts_with('/') {
            return Err(ProbeError::Text("path", self.path.clone()));
        }
        word("host", self.host.as_ref())?;
        let is_digest = |digits: &str| {
            matches!(digits.len(), 32 | 64) && digits.bytes().all(|b| b.is_ascii_hexdigit())
        };
        match &self.digest {
            Some(digits) if !is_digest(digits) => Err(ProbeError::Digest(digits.clone())),
            _ => Ok(()),
        }
    }
}

impl TlsProbe {
    fn validate(&self) -> Result<(), ProbeError> {
        word("sni", self.sni.as_ref())?;
        if !self.verify && self.ca_file.is_some() {
            return Err(ProbeError::NotVerified("ca_file"));
        }
        Ok(())
    }
}

impl UdpProbe {
    fn validate(&self) -> Result<(), ProbeError> {
        if let Some(digits) = &self.send_hex {
            if self.send.is_some() {
                return Err(ProbeError::SendTwice);
            }
            from_hex(digits).ok_or_else(|| ProbeError::Hex(digits.clone()))?;
        }
        if !self.reply && self.expect.is_some() {
            return Err(ProbeError::NoReply);
        }
        Ok(())
    }
}
