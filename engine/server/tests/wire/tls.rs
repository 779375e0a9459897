//! TLS and mutual TLS, and files that cannot be used for them.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use kakeya_proto::v1::CreateSessionRequest;
use kakeya_proto::v1::runtime_service_client::RuntimeServiceClient;
use kakeya_server::door::Guard;
use kakeya_server::door::patience::Patience;
use kakeya_server::door::tls::{Tls, TlsError, TlsFiles};
use rcgen::{CertificateParams, CertifiedIssuer, KeyPair, date_time_ymd};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tempfile::TempDir;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::Code;
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;
use x509_cert::Certificate;
use x509_cert::der::oid::ObjectIdentifier;
use x509_cert::der::pem::LineEnding;
use x509_cert::der::{DecodePem, EncodePem};

use crate::support::{PATIENCE, Served, refused};

/// A certificate and its key, as PEM.
struct Pair {
    cert: String,
    key: String,
}

fn params(name: &str) -> CertificateParams {
    CertificateParams::new([name.to_owned()]).expect("a name")
}

fn own(params: &CertificateParams) -> Pair {
    let key = KeyPair::generate().expect("a key");
    let cert = params.self_signed(&key).expect("a certificate");
    Pair {
        cert: cert.pem(),
        key: key.serialize_pem(),
    }
}

/// A root, and a pair that leads to it.
fn issued(name: &str) -> (String, Pair) {
    let mut root = params("root");
    root.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let root = CertifiedIssuer::self_signed(root, KeyPair::generate().expect("a key"));
    let root = root.expect("a root");
    let key = KeyPair::generate().expect("a key");
    let cert = params(name).signed_by(&key, &root).expect("a certificate");
    let pair = Pair {
        cert: cert.pem(),
        key: key.serialize_pem(),
    };
    (root.pem(), pair)
}

fn write(folder: &TempDir, name: &str, text: &str) -> PathBuf {
    let path = folder.path().join(name);
    std::fs::write(&path, text).expect("written");
    path
}

fn files(folder: &TempDir, pair: &Pair, client_ca: Option<&str>) -> TlsFiles {
    TlsFiles {
        cert: write(folder, "cert.pem", &pair.cert),
        key: write(folder, "key.pem", &pair.key),
        client_ca: client_ca.map(|pem| write(folder, "ca.pem", pem)),
    }
}

fn guard(files: TlsFiles) -> Guard {
    Guard {
        tls: Some(Arc::new(Tls::load(files).expect("good files"))),
        ..Guard::default()
    }
}

/// A client that trusts `root`, shows `shown`, and speaks `protocol`.
async fn shake_hands(
    at: SocketAddr,
    root: &str,
    shown: Option<&Pair>,
    protocol: &str,
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    let der = CertificateDer::from_pem_slice(root.as_bytes()).expect("PEM");
    roots.add(der).expect("a root");
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots);
    let mut config = match shown {
        None => builder.with_no_client_auth(),
        Some(pair) => {
            let chain = vec![CertificateDer::from_pem_slice(pair.cert.as_bytes()).expect("PEM")];
            let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).expect("PEM");
            builder.with_client_auth_cert(chain, key).expect("a pair")
        }
    };
    config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
    let stream = TcpStream::connect(at).await?;
    let name = ServerName::try_from("localhost").expect("a name");
    TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
}

async fn channel(at: SocketAddr, root: &str, shown: Option<Pair>) -> Channel {
    let (root, shown) = (root.to_owned(), Arc::new(shown));
    let connector = service_fn(move |_| {
        let (root, shown) = (root.clone(), Arc::clone(&shown));
        async move {
            let stream = shake_hands(at, &root, Option::as_ref(&shown), "h2").await?;
            Ok::<_, std::io::Error>(TokioIo::new(stream))
        }
    });
    Endpoint::from_static("http://localhost").connect_with_connector_lazy(connector)
}

/// Requires that a call gets as far as the engine, which has stopped.
async fn assert_served(channel: Channel) {
    let call = RuntimeServiceClient::new(channel)
        .create_session(CreateSessionRequest::default())
        .await;
    let status = refused(call);
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    assert_eq!(status.message(), "the engine has stopped");
}

/// Requires that the server breaks a handshake or the connection after it.
async fn assert_broken(stream: std::io::Result<TlsStream<TcpStream>>) {
    if let Ok(mut stream) = stream {
        let read = timeout(PATIENCE, stream.read_u8()).await;
        assert!(read.expect("in time").is_err());
    }
}

#[tokio::test]
async fn calls_pass_in_tls_and_not_beside_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let (root, pair) = issued("localhost");
    let (mut served, at) = Served::behind(guard(files(&folder, &pair, None))).await;
    served.commands.close();
    // One that says nothing, and one that speaks no TLS, hold nobody up.
    let _silent = TcpStream::connect(at).await.expect("a connection");
    let plain = served
        .client()
        .create_session(CreateSessionRequest::default())
        .await;
    assert_ne!(refused(plain).message(), "the engine has stopped");
    assert_served(channel(at, &root, None).await).await;
    let stream = shake_hands(at, &root, None, "h2").await.expect("hands");
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    assert!(shake_hands(at, &root, None, "http/1.1").await.is_err());
}

#[tokio::test]
async fn a_handshake_that_does_not_come_frees_its_place() {
    let folder = tempfile::tempdir().expect("a folder");
    let (root, pair) = issued("localhost");
    let guard = Guard {
        patience: Patience {
            arrival: Duration::from_millis(200),
            connections: 1,
            ..Patience::default()
        },
        ..guard(files(&folder, &pair, None))
    };
    let (_served, at) = Served::behind(guard).await;
    let mut silent = TcpStream::connect(at).await.expect("a connection");
    let read = timeout(PATIENCE, silent.read_u8()).await;
    assert!(read.expect("the server closes").is_err());
    let next = timeout(PATIENCE, shake_hands(at, &root, None, "h2")).await;
    assert!(next.expect("in time").is_ok());
}

#[tokio::test]
async fn with_a_client_ca_only_its_own_come_in() {
    let folder = tempfile::tempdir().expect("a folder");
    let (root, pair) = issued("localhost");
    let (client_root, shown) = issued("client");
    let (_, stranger) = issued("stranger");
    let guard = guard(files(&folder, &pair, Some(&client_root)));
    let (mut served, at) = Served::behind(guard).await;
    served.commands.close();
    assert_broken(shake_hands(at, &root, None, "h2").await).await;
    assert_broken(shake_hands(at, &root, Some(&stranger), "h2").await).await;
    assert_served(channel(at, &root, Some(shown)).await).await;
}

#[tokio::test]
async fn a_new_certificate_is_read_and_a_broken_one_is_not() {
    let folder = tempfile::tempdir().expect("a folder");
    let (old_root, pair) = issued("localhost");
    let guard = guard(files(&folder, &pair, None));
    let tls = guard.tls.clone().expect("TLS");
    let (_served, at) = Served::behind(guard).await;
    write(&folder, "cert.pem", "no certificate");
    assert!(matches!(tls.reload(), Err(TlsError::Nothing { .. })));
    assert!(shake_hands(at, &old_root, None, "h2").await.is_ok());
    let (root, pair) = issued("localhost");
    files(&folder, &pair, None);
    tls.reload().expect("good files");
    assert!(shake_hands(at, &root, None, "h2").await.is_ok());
    assert!(shake_hands(at, &old_root, None, "h2").await.is_err());
}

#[test]
fn a_file_that_cannot_be_used_is_named_with_what_is_wrong() {
    let folder = tempfile::tempdir().expect("a folder");
    let good = own(&params("localhost"));
    let mut expired = params("localhost");
    expired.not_after = date_time_ymd(2001, 2, 3);
    let mut early = params("localhost");
    early.not_before = date_time_ymd(2999, 2, 3);
    let refused = |pair: &Pair, ca: Option<&str>| {
        Tls::load(files(&folder, pair, ca))
            .expect_err("bad files")
            .to_string()
    };
    let with = |cert: &str, key: &str| Pair {
        cert: cert.to_owned(),
        key: key.to_owned(),
    };
    let garbled = good.cert.replace("\n-----END", "!\n-----END");
    let no_der = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let no_key = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    for (text, file, part) in [
        (
            refused(&with("", &good.key), None),
            "cert.pem",
            "has no certificate in PEM form (`-----BEGIN CERTIFICATE-----`)",
        ),
        (
            refused(&with(&good.key, &good.key), None),
            "cert.pem",
            "has no certificate",
        ),
        (
            refused(&with(&good.cert, ""), None),
            "key.pem",
            "has no private key in PEM form",
        ),
        (
            refused(&with(&good.cert, &good.cert), None),
            "key.pem",
            "has no private key",
        ),
        (
            refused(&with(&garbled, &good.key), None),
            "cert.pem",
            "is no valid PEM",
        ),
        (
            refused(&with(no_der, &good.key), None),
            "cert.pem",
            "certificate 1 of",
        ),
        (
            refused(&with(&good.cert, no_key), None),
            "key.pem",
            "cannot be used together",
        ),
        (
            refused(&with(&good.cert, &own(&params("a")).key), None),
            "cert.pem",
            "cannot be used together",
        ),
        (
            refused(&own(&expired), None),
            "cert.pem",
            "certificate 1 of",
        ),
        (
            refused(&own(&expired), None),
            "cert.pem",
            "expired at 2001-02-03",
        ),
        (
            refused(&own(&early), None),
            "cert.pem",
            "is not valid before 2999-02-03",
        ),
        (
            refused(&good, Some("nothing")),
            "ca.pem",
            "has no certificate",
        ),
    ] {
        assert!(
            text.contains(file) && text.contains(part),
            "{file}, {part}: {text}"
        );
    }
    let garbled = good.key.replace("\n-----END", "!\n-----END");
    let text = refused(&with(&good.cert, &garbled), None);
    assert!(
        text.contains("key.pem") && text.contains("is no valid PEM"),
        "{text}"
    );
    // A root that says inside that it is signed in another way than outside.
    let mut strange = Certificate::from_pem(own(&params("root")).cert).expect("a certificate");
    strange.signature_algorithm.oid = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.3");
    let strange = strange.to_pem(LineEnding::LF).expect("a certificate");
    let text = refused(&good, Some(&strange));
    assert!(
        text.contains("ca.pem cannot be used to check clients: "),
        "{text}"
    );
    let missing = TlsFiles {
        cert: Path::new("no-such.pem").to_owned(),
        key: Path::new("no-such.pem").to_owned(),
        client_ca: None,
    };
    let text = Tls::load(missing).expect_err("no file").to_string();
    assert!(text.starts_with("no-such.pem cannot be read: "), "{text}");
}
