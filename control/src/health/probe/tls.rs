//! TLS around what is asked, and what the server's certificate is worth.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use pollux_api::health::probe::TlsProbe;
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{self, CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use x509_cert::Certificate;
use x509_cert::der::Decode;

use super::super::outcome::Outcome;
use super::Failed;

const DAY: Duration = Duration::from_secs(86_400);

/// How TLS is spoken.
pub struct Tls {
    connector: TlsConnector,
    name: Option<ServerName<'static>>,
    warning: Duration,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").field("name", &self.name).finish()
    }
}

/// When a certificate expires, if that is soon.
#[derive(Debug, Clone, Copy)]
pub struct Expiry(Option<Duration>);

impl Expiry {
    /// Says so in an answer.
    pub fn warn(self, outcome: Outcome) -> Outcome {
        let Some(left) = self.0 else {
            return outcome;
        };
        let days = left.as_secs() / DAY.as_secs();
        let reason = match days {
            0 => format!("{}, certificate expires within a day", outcome.reason),
            1 => format!("{}, certificate expires in 1 day", outcome.reason),
            days => format!("{}, certificate expires in {days} days", outcome.reason),
        };
        Outcome {
            reason: reason.into(),
            expires_in_days: Some(days),
            ..outcome
        }
    }
}

impl Tls {
    /// Makes it ready: reads the certificates of those whose word is taken.
    pub fn new(probe: &TlsProbe, host: Option<&str>, protocol: &[u8]) -> Result<Self, String> {
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider));
        let builder = builder.with_safe_default_protocol_versions();
        let builder = builder.map_err(|error| error.to_string())?;
        let mut config = if probe.verify {
            let roots = roots(probe.ca_file.as_deref())?;
            builder.with_root_certificates(roots).with_no_client_auth()
        } else {
            builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
                .with_no_client_auth()
        };
        config.alpn_protocols = vec![protocol.to_vec()];
        // A session that is taken up again shows no certificate, and that is what is to be seen.
        config.resumption = Resumption::disabled();
        let name = probe.sni.as_deref().or(host.map(without_port));
        let name = name.map(|name| {
            let name = ServerName::try_from(name.to_owned());
            name.map_err(|_| "sni or host is no name of a server".to_owned())
        });
        Ok(Self {
            connector: TlsConnector::from(Arc::new(config)),
            name: name.transpose()?,
            warning: DAY * u32::from(probe.expiry_warning_days),
        })
    }

    /// Shakes hands.
    pub async fn wrap(
        &self,
        stream: TcpStream,
        server: SocketAddr,
    ) -> Result<(TlsStream<TcpStream>, Expiry), Failed> {
        let name = self.name.clone();
        let name = name.unwrap_or_else(|| ServerName::IpAddress(server.ip().into()));
        let wrapped = self.connector.connect(name, stream).await;
        let stream = wrapped.map_err(|error| Failed::wrong(format!("TLS: {error}")))?;
        let (_, session) = stream.get_ref();
        let certificates = session.peer_certificates();
        let own = certificates.and_then(|chain| chain.first());
        let left = own.and_then(|own| time_left(own, SystemTime::now()));
        let soon = left.filter(|left| *left < self.warning);
        Ok((stream, Expiry(soon)))
    }
}

/// `www.example.com` of `www.example.com:8443`.
fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => {
            name.trim_start_matches('[').trim_end_matches(']')
        }
        _ => host,
    }
}

/// Those that the system trusts, and since when that is known. Reading them takes milliseconds, for each of many checks.
static SYSTEM_ROOTS: Mutex<Option<(Instant, Arc<RootCertStore>)>> = Mutex::new(None);

/// Certificates that are installed count after this time.
const SYSTEM_ROOTS_AGE_MAX: Duration = Duration::from_secs(300);

fn system_roots() -> Result<Arc<RootCertStore>, String> {
    let mut known = SYSTEM_ROOTS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((since, roots)) = &*known
        && since.elapsed() < SYSTEM_ROOTS_AGE_MAX
    {
        return Ok(Arc::clone(roots));
    }
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        let mend = "this system trusts no certificates: install ca-certificates, or write ca_file";
        return Err(mend.to_owned());
    }
    let roots = Arc::new(roots);
    *known = Some((Instant::now(), Arc::clone(&roots)));
    Ok(roots)
}

fn roots(file: Option<&str>) -> Result<Arc<RootCertStore>, String> {
    let Some(file) = file else {
        return system_roots();
    };
    let mut roots = RootCertStore::empty();
    let wrong = |error: &dyn std::fmt::Display| format!("ca_file {file}: {error}");
    let certificates = CertificateDer::pem_file_iter(file).map_err(|error| wrong(&error))?;
    for certificate in certificates {
        let certificate = certificate.map_err(|error| wrong(&error))?;
        roots.add(certificate).map_err(|error| wrong(&error))?;
    }
    if roots.is_empty() {
        return Err(wrong(&"no certificate in it"));
    }
    Ok(Arc::new(roots))
}

/// None for a certificate that cannot be read.
fn time_left(certificate: &CertificateDer<'_>, now: SystemTime) -> Option<Duration> {
    let certificate = Certificate::from_der(certificate).ok()?;
    let end = certificate.tbs_certificate.validity.not_after;
    let end = UNIX_EPOCH + end.to_unix_duration();
    Some(end.duration_since(now).unwrap_or_default())
}

/// Takes any certificate; that the server has its key is checked all the same.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.0.signature_verification_algorithms;
        crypto::verify_tls12_signature(message, certificate, signed, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.0.signature_verification_algorithms;
        crypto::verify_tls13_signature(message, certificate, signed, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
