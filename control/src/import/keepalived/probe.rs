//! From checkers to checks: keepalived's names map one to one, and each `url` is a check of its own.

use pollux_api::health::dns::{DnsName, RecordType};
use pollux_api::health::probe::{
    DnsProbe, HttpProbe, HttpsProbe, PingProbe, Probe, ScriptProbe, SmtpProbe, TcpProbe, TlsProbe,
    UdpProbe,
};
use pollux_api::health::{Check, JITTER_PERCENT, Statuses};

use super::super::draft::Draft;
use super::super::note::Place;
use super::checker::{Checker, Kind, Url};

/// keepalived's defaults, in milliseconds.
const DELAY_LOOP_MS: u32 = 60_000;
const CONNECT_TIMEOUT_MS: u32 = 5000;
/// What a check may have: see `control/src/config/health`.
const TIMES_MS: std::ops::RangeInclusive<u32> = 10..=86_400_000;
const FALL_MAX: u32 = 1000;

/// The checks that come to a checker, names yet to be given.
pub fn checks(place: &Place, checker: &Checker, draft: &mut Draft) -> Vec<Check> {
    let probes = probes(place, checker, draft);
    if let Some(address) = checker.address {
        let text = format!("connect_ip {address}: checks go to the server's own address; left out");
        draft.note(place, text);
    }
    probes
        .into_iter()
        .map(|probe| check(place, checker, probe, draft))
        .collect()
}

fn check(place: &Place, checker: &Checker, probe: Probe, draft: &mut Draft) -> Check {
    let timing = &checker.timing;
    let interval_ms = timing.delay_loop_ms.unwrap_or(DELAY_LOOP_MS);
    let interval_ms = interval_ms.clamp(*TIMES_MS.start(), *TIMES_MS.end());
    let timeout_ms = match checker.kind {
        Kind::Misc { timeout_s, .. } => {
            timeout_s.map_or(interval_ms, |seconds| seconds.saturating_mul(1000))
        }
        _ => timing.connect_timeout_ms.unwrap_or(CONNECT_TIMEOUT_MS),
    };
    if timeout_ms > interval_ms {
        let text = format!(
            "a time limit of {timeout_ms} ms is longer than the time from one check to the next, {interval_ms} ms: that is the limit here"
        );
        draft.note(place, text);
    }
    let retry = timing.retry.unwrap_or(match checker.kind {
        Kind::Misc { .. } => 0,
        Kind::Dns { .. } => 3,
        _ => 1,
    });
    let delay_ms = timing.delay_before_retry_ms;
    if let Some(delay_ms) = delay_ms.filter(|delay_ms| *delay_ms < interval_ms && retry > 0) {
        let text = format!(
            "delay_before_retry {delay_ms} ms: a check that fails is repeated after the interval here, {interval_ms} ms, so that a \
             server is off {} ms after it failed; write a shorter interval_ms for sooner",
            u64::from(interval_ms) * (u64::from(retry) + 1)
                + u64::from(timeout_ms.min(interval_ms))
        );
        draft.note(place, text);
    }
    let fall = retry.saturating_add(1).min(FALL_MAX);
    Check {
        name: String::new(),
        port: checker.port.filter(|_| probe.has_port()),
        probe,
        interval_ms,
        timeout_ms: timeout_ms.clamp(*TIMES_MS.start(), interval_ms),
        // One good answer brings a server back.
        rise: 1,
        fall: u16::try_from(fall).unwrap_or(1),
        service_path: false,
        jitter_percent: JITTER_PERCENT,
    }
}

fn probes(place: &Place, checker: &Checker, draft: &mut Draft) -> Vec<Probe> {
    let one = match &checker.kind {
        Kind::Http { tls, sni, urls } => {
            return urls
                .iter()
                .map(|url| {
                    let host = url
                        .virtualhost
                        .clone()
                        .or_else(|| checker.timing.virtualhost.clone());
                    let http = http(place, url, host.clone(), draft);
                    if !tls {
                        return Probe::Http(http);
                    }
                    Probe::Https(HttpsProbe {
                        http,
                        tls: TlsProbe {
                            sni: host.filter(|host| *sni && is_word(host)),
                            // keepalived takes any certificate.
                            verify: false,
                            ..TlsProbe::default()
                        },
                    })
                })
                .collect();
        }
        Kind::Tcp => Probe::Tcp(TcpProbe::default()),
        Kind::Ping => Probe::Ping(PingProbe::default()),
        Kind::Smtp { helo } => {
            let helo = helo.clone().filter(|helo| is_word(helo));
            Probe::Smtp(helo.map_or_else(SmtpProbe::default, |helo| SmtpProbe { helo }))
        }
        Kind::Dns { record, name } => {
            let (query, record) = match (name.parse::<DnsName>(), record.parse::<RecordType>()) {
                (Ok(query), Ok(record)) => (query, record),
                (Err(error), _) | (_, Err(error)) => {
                    draft.note(place, format!("DNS_CHECK: left out: {error}"));
                    return Vec::new();
                }
            };
            Probe::Dns(DnsProbe {
                query,
                record,
                ..DnsProbe::default()
            })
        }
        Kind::Misc {
            command, dynamic, ..
        } => {
            if !command
                .first()
                .is_some_and(|program| program.starts_with('/'))
            {
                let text = "MISC_CHECK: left out: write the program by its path from / on";
                draft.note(place, text);
                return Vec::new();
            }
            Probe::Script(ScriptProbe {
                command: command.clone(),
                exit_weight: *dynamic,
            })
        }
        Kind::Udp {
            payload,
            require_reply,
        } => Probe::Udp(UdpProbe {
            send_hex: payload.clone(),
            reply: *require_reply,
            ..UdpProbe::default()
        }),
    };
    vec![one]
}

fn http(place: &Place, url: &Url, host: Option<String>, draft: &mut Draft) -> HttpProbe {
    let mut http = HttpProbe {
        path: url.path.clone(),
        host,
        ..HttpProbe::default()
    };
    if !http.path.starts_with('/') || !is_word(&http.path) {
        draft.note(
            place,
            format!(
                "path \"{}\": write one from / on without blanks; / is asked for",
                http.path
            ),
        );
        http.path = "/".to_owned();
    }
    if let Some(host) = http.host.take_if(|host| !is_word(host)) {
        draft.note(
            place,
            format!("virtualhost \"{host}\": write a name without blanks; left out"),
        );
    }
    if !url.statuses.is_empty() {
        match url.statuses.join(",").parse::<Statuses>() {
            Ok(statuses) => http.status = statuses,
            Err(error) => draft.note(place, format!("status_code: left out: {error}")),
        }
    }
    if let Some(digest) = &url.digest {
        if digest.len() == 32 && digest.bytes().all(|b| b.is_ascii_hexdigit()) {
            http.digest = Some(digest.clone());
        } else {
            draft.note(
                place,
                format!("digest \"{digest}\": no MD5 in 32 hexadecimal digits; left out"),
            );
        }
    }
    if let Some(pattern) = &url.regex {
        let pattern = with_options(place, pattern, &url.regex_options, draft);
        if let Err(error) = regex::bytes::Regex::new(&pattern) {
            draft.note(
                place,
                format!("regex \"{pattern}\": not one that is understood here, left out: {error}"),
            );
        } else if url.regex_no_match {
            http.body_without = Some(pattern);
        } else {
            http.body = Some(pattern);
        }
    }
    http
}

/// The options of an expression as they are written in it.
fn with_options(place: &Place, pattern: &str, options: &[String], draft: &mut Draft) -> String {
    let mut flags = String::new();
    for option in options {
        match option.as_str() {
            "caseless" => flags.push('i'),
            "multiline" => flags.push('m'),
            "dotall" => flags.push('s'),
            "extended" => flags.push('x'),
            "ungreedy" => flags.push('U'),
            // What is so anyway, or makes no difference to whether there is a match.
            "utf" | "ucp" | "no_auto_possess" | "no_start_optimize" | "no_dotstar_anchor"
            | "no_auto_capture" => {}
            other => draft.note(
                place,
                format!("regex_options {other}: there is no such option here; left out"),
            ),
        }
    }
    if flags.is_empty() {
        pattern.to_owned()
    } else {
        format!("(?{flags}){pattern}")
    }
}

fn is_word(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic())
}
