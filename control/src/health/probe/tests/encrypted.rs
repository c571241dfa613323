//! HTTPS and gRPC, against servers made here with certificates made here.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::mpsc;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{HeaderMap, Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, pem::PemObject};
use tempfile::NamedTempFile;
use tokio_rustls::TlsAcceptor;

use super::*;

const NAME: &str = "www.example.com";

/// What a server is known by, and who vouches for it.
struct Identity {
    config: Arc<ServerConfig>,
    ca: NamedTempFile,
}

/// A certificate for a name that is valid for some days from yesterday on.
fn identity(days: i64, protocol: &[u8]) -> Identity {
    let mut authority = CertificateParams::new(vec![]).unwrap();
    authority.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
    let mut own = CertificateParams::new(vec![NAME.to_owned()]).unwrap();
    let now = std::time::SystemTime::now();
    let day = Duration::from_secs(86_400);
    own.not_before = (now - day * 2).into();
    let hour = Duration::from_secs(3_600);
    own.not_after = if days < 0 {
        (now - day * days.unsigned_abs() as u32).into()
    } else {
        (now + day * days as u32 + hour).into()
    };
    let key = KeyPair::generate().unwrap();
    let own = own.signed_by(&key, &authority).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![own.der().clone()],
            PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap(),
        )
        .unwrap();
    config.alpn_protocols = vec![protocol.to_vec()];
    let ca = NamedTempFile::new().unwrap();
    std::fs::write(ca.path(), authority.pem()).unwrap();
    Identity {
        config: Arc::new(config),
        ca,
    }
}

/// Runs a server in a thread of its own.
fn run<F>(serve: impl Fn(tokio::net::TcpStream) -> F + Send + 'static) -> SocketAddr
where
    F: Future<Output = ()> + Send + 'static,
{
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            tell.send(listener.local_addr().unwrap()).unwrap();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(serve(stream));
            }
        });
    });
    told.recv().unwrap()
}

fn https_server(config: &Arc<ServerConfig>) -> SocketAddr {
    let acceptor = TlsAcceptor::from(Arc::clone(config));
    run(move |stream| {
        let acceptor = acceptor.clone();
        async move {
            let Ok(stream) = acceptor.accept(stream).await else {
                return;
            };
            // The name that was asked for is the answer.
            let name = stream
                .get_ref()
                .1
                .server_name()
                .unwrap_or("none")
                .to_owned();
            let answer = service_fn(move |_| {
                let answer = Response::new(Full::new(Bytes::from(name.clone())));
                async move { Ok::<_, Infallible>(answer) }
            });
            let _ = http1::Builder::new()
                .serve_connection(TokioIo::new(stream), answer)
                .await;
        }
    })
}

fn https(tls: TlsProbe) -> Probe {
    let http = HttpProbe {
        body: Some(format!("^{NAME}$")),
        ..http("200")
    };
    Probe::Https(HttpsProbe { http, tls })
}

#[test]
fn certificates_count_unless_they_do_not() {
    let good = identity(100, b"http/1.1");
    let server = https_server(&good.config);
    let ca_file = |identity: &Identity| Some(identity.ca.path().to_str().unwrap().to_owned());
    let signed = |identity: &Identity| TlsProbe {
        ca_file: ca_file(identity),
        ..TlsProbe::default()
    };
    assert_eq!(
        asked(&https(signed(&good)), server),
        (true, "status 200".to_owned())
    );
    let no_name = TlsProbe {
        sni: Some("other.example.com".to_owned()),
        ..signed(&good)
    };
    let (is_good, reason) = asked(&https(no_name), server);
    assert!(
        !is_good && reason.contains("certificate") && reason.contains("name"),
        "{reason}"
    );
    let stranger = identity(100, b"http/1.1");
    let (is_good, reason) = asked(&https(signed(&stranger)), server);
    assert!(
        !is_good && reason.starts_with("TLS: invalid peer certificate"),
        "{reason}"
    );
    let careless = TlsProbe {
        verify: false,
        ..TlsProbe::default()
    };
    assert!(asked(&https(careless.clone()), server).0);

    let old = identity(-1, b"http/1.1");
    let server = https_server(&old.config);
    let (is_good, reason) = asked(&https(signed(&old)), server);
    assert!(!is_good && reason.contains("expired"), "{reason}");
    let (is_good, reason) = asked(&https(careless), server);
    assert!(
        is_good && reason.contains("certificate expires within a day"),
        "{reason}"
    );

    let soon = identity(5, b"http/1.1");
    let server = https_server(&soon.config);
    let warned = outcome(&https(signed(&soon)), server);
    assert_eq!(warned.reason, "status 200, certificate expires in 5 days");
    assert_eq!(warned.expires_in_days, Some(5));
    let unwarned = TlsProbe {
        expiry_warning_days: 0,
        ..signed(&soon)
    };
    assert_eq!(outcome(&https(unwarned), server).reason, "status 200");
}

#[test]
fn what_speaks_no_tls_is_bad() {
    let server = run(|mut stream| async move {
        use tokio::io::AsyncWriteExt;
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
    });
    let careless = TlsProbe {
        verify: false,
        ..TlsProbe::default()
    };
    let (is_good, reason) = asked(&https(careless), server);
    assert!(!is_good && reason.starts_with("TLS: "), "{reason}");
}

/// Answers as a gRPC server whose health is what its service is called.
async fn grpc_answer(
    request: Request<Incoming>,
) -> Result<Response<impl hyper::body::Body<Data = Bytes, Error = Infallible> + use<>>, Infallible>
{
    assert_eq!(request.uri().path(), "/grpc.health.v1.Health/Check");
    let message = request.into_body().collect().await.unwrap().to_bytes();
    let name = String::from_utf8_lossy(message.get(7..).unwrap_or_default()).into_owned();
    let mut trailers = HeaderMap::new();
    let status = match name.as_str() {
        "" | "well" => Some(1),
        "ill" => Some(2),
        _ => None,
    };
    let code = if status.is_some() { "0" } else { "5" };
    trailers.insert("grpc-status", code.parse().unwrap());
    let data = status.map_or_else(Vec::new, |status| vec![0, 0, 0, 0, 2, 8, status]);
    let body = Full::new(Bytes::from(data));
    Ok(Response::new(
        body.with_trailers(async move { Some(Ok(trailers)) }),
    ))
}

fn grpc(service: &str, tls: Option<TlsProbe>) -> Probe {
    Probe::Grpc(GrpcProbe {
        service: service.to_owned(),
        host: Some(NAME.to_owned()),
        use_tls: tls.is_some(),
        tls: tls.unwrap_or_default(),
    })
}

#[test]
fn grpc_servers_say_whether_they_serve() {
    let server = run(|stream| async {
        let _ = http2::Builder::new(TokioExecutor::new())
            .serve_connection(TokioIo::new(stream), service_fn(grpc_answer))
            .await;
    });
    for service in ["", "well"] {
        assert_eq!(
            asked(&grpc(service, None), server),
            (true, "SERVING".to_owned())
        );
    }
    let ill = (false, "NOT_SERVING".to_owned());
    assert_eq!(asked(&grpc("ill", None), server), ill);
    let unknown = (false, "gRPC status 5: service not known".to_owned());
    assert_eq!(asked(&grpc("unknown", None), server), unknown);
    let (is_good, _) = asked(&grpc("", None), answering(b"HTTP/1.1 400 No\r\n\r\n"));
    assert!(!is_good);
}

#[test]
fn grpc_goes_over_tls_too() {
    let identity = identity(100, b"h2");
    let acceptor = TlsAcceptor::from(Arc::clone(&identity.config));
    let server = run(move |stream| {
        let acceptor = acceptor.clone();
        async move {
            let stream = acceptor.accept(stream).await.unwrap();
            let _ = http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service_fn(grpc_answer))
                .await;
        }
    });
    let tls = TlsProbe {
        ca_file: Some(identity.ca.path().to_str().unwrap().to_owned()),
        ..TlsProbe::default()
    };
    let serving = (true, "SERVING".to_owned());
    assert_eq!(asked(&grpc("well", Some(tls)), server), serving);
}
