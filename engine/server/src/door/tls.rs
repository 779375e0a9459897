//! Certificates, and the settings of TLS on both ports.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::SystemTime;

use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use x509_cert::Certificate;
use x509_cert::der::Decode;

use super::Door;

/// Where certificates and keys are, as PEM files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The server's certificate, and after it those that lead to its root.
    pub cert: PathBuf,
    /// The key of the certificate.
    pub key: PathBuf,
    /// Roots that clients' certificates must lead to. Without, clients need none.
    pub client_ca: Option<PathBuf>,
}

/// Why TLS cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("{} cannot be read: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// A file has nothing of what it is for.
    #[error("{} has no {what} in PEM form (`-----BEGIN {label}-----`)", path.display())]
    Nothing {
        /// The file.
        path: PathBuf,
        /// What it is for.
        what: &'static str,
        /// How that begins.
        label: &'static str,
    },
    /// A file is damaged.
    #[error("{} is no valid PEM: {detail}", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// Where.
        detail: String,
    },
    /// A certificate that is none.
    #[error("certificate {number} of {} cannot be used: {detail}", path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// Which, from 1.
        number: usize,
        /// Why.
        detail: String,
    },
    /// A certificate that does not hold now.
    #[error("certificate {number} of {} {when}: get a new one, or set this machine's clock", path.display())]
    NotNow {
        /// The file.
        path: PathBuf,
        /// Which, from 1.
        number: usize,
        /// Until when it held, or from when it will.
        when: String,
    },
    /// A certificate and a key that do not belong together, or a key of an unknown kind.
    #[error("the certificate {} and the key {} cannot be used together: {source}", cert.display(), key.display())]
    Pair {
        /// The certificate's file.
        cert: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// Why.
        source: rustls::Error,
    },
    /// Roots that clients cannot be checked by.
    #[error("{} cannot be used to check clients: {detail}", path.display())]
    ClientCa {
        /// The file.
        path: PathBuf,
        /// Why.
        detail: String,
    },
}

/// TLS for both ports, which can be read anew while connections are made.
#[derive(Debug)]
pub struct Tls {
    files: TlsFiles,
    configs: RwLock<Configs>,
}

/// Each port's settings: they differ in the protocol that is spoken inside.
#[derive(Debug, Clone)]
struct Configs {
    grpc: Arc<ServerConfig>,
    http: Arc<ServerConfig>,
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// [`TlsError`] names the file and what is wrong with it.
    pub fn load(files: TlsFiles) -> Result<Self, TlsError> {
        let configs = RwLock::new(Configs::read(&files)?);
        Ok(Self { files, configs })
    }

    /// Reads the files again. Connections that are made keep what they were made with.
    ///
    /// # Errors
    /// As [`Tls::load`]; what was read before then stays.
    pub fn reload(&self) -> Result<(), TlsError> {
        let configs = Configs::read(&self.files)?;
        *self.configs.write().unwrap_or_else(PoisonError::into_inner) = configs;
        Ok(())
    }

    /// The settings of a port.
    pub(super) fn config(&self, door: Door) -> Arc<ServerConfig> {
        let configs = self.configs.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(match door {
            Door::Grpc => &configs.grpc,
            Door::Http => &configs.http,
        })
    }
}

impl Configs {
    fn read(files: &TlsFiles) -> Result<Self, TlsError> {
        let TlsFiles {
            cert,
            key,
            client_ca,
        } = files;
        let chain = certificates(cert)?;
        let private = private_key(key)?;
        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .expect("ring has suites for TLS 1.2 and 1.3");
        let builder = match client_ca {
            None => builder.with_no_client_auth(),
            Some(path) => builder.with_client_cert_verifier(client_verifier(path, provider)?),
        };
        let config = builder
            .with_single_cert(chain, private)
            .map_err(|source| TlsError::Pair {
                cert: cert.clone(),
                key: key.clone(),
                source,
            })?;
        let speaking = |protocol: &[u8]| {
            let mut config = config.clone();
            config.alpn_protocols = vec![protocol.to_vec()];
            Arc::new(config)
        };
        Ok(Self {
            grpc: speaking(b"h2"),
            http: speaking(b"http/1.1"),
        })
    }
}

fn client_verifier(
    path: &Path,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn rustls::server::danger::ClientCertVerifier>, TlsError> {
    let unusable = |detail: String| TlsError::ClientCa {
        path: path.to_owned(),
        detail,
    };
    let mut roots = RootCertStore::empty();
    for root in certificates(path)? {
        roots
            .add(root)
            .map_err(|error| unusable(error.to_string()))?;
    }
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .map_err(|error| unusable(error.to_string()))
}

/// The certificates of a file, each of which holds now.
fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let bytes = read(path)?;
    let all = CertificateDer::pem_slice_iter(&bytes).collect::<Result<Vec<_>, _>>();
    let all = all.map_err(|error| damaged(path, &error))?;
    if all.is_empty() {
        return Err(TlsError::Nothing {
            path: path.to_owned(),
            what: "certificate",
            label: "CERTIFICATE",
        });
    }
    for (der, number) in all.iter().zip(1..) {
        holds_now(path, number, der)?;
    }
    Ok(all)
}

fn holds_now(path: &Path, number: usize, der: &CertificateDer<'_>) -> Result<(), TlsError> {
    let certificate = Certificate::from_der(der).map_err(|error| TlsError::Certificate {
        path: path.to_owned(),
        number,
        detail: error.to_string(),
    })?;
    let validity = certificate.tbs_certificate.validity;
    let now = SystemTime::now();
    let when = if validity.not_after.to_system_time() < now {
        format!("expired at {}", validity.not_after)
    } else if validity.not_before.to_system_time() > now {
        format!("is not valid before {}", validity.not_before)
    } else {
        return Ok(());
    };
    Err(TlsError::NotNow {
        path: path.to_owned(),
        number,
        when,
    })
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let bytes = read(path)?;
    PrivateKeyDer::from_pem_slice(&bytes).map_err(|error| match error {
        pem::Error::NoItemsFound => TlsError::Nothing {
            path: path.to_owned(),
            what: "private key",
            label: "PRIVATE KEY",
        },
        other => damaged(path, &other),
    })
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|source| TlsError::Read {
        path: path.to_owned(),
        source,
    })
}

fn damaged(path: &Path, error: &pem::Error) -> TlsError {
    TlsError::Pem {
        path: path.to_owned(),
        detail: error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_port_offers_its_own_protocol() {
        let folder = tempfile::tempdir().expect("a folder");
        let (cert, key) = (
            folder.path().join("cert.pem"),
            folder.path().join("key.pem"),
        );
        let own = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a pair");
        std::fs::write(&cert, own.cert.pem()).expect("written");
        std::fs::write(&key, own.signing_key.serialize_pem()).expect("written");
        let files = TlsFiles {
            cert,
            key,
            client_ca: None,
        };
        let tls = Tls::load(files).expect("good files");
        assert_eq!(tls.config(Door::Grpc).alpn_protocols, [b"h2".to_vec()]);
        assert_eq!(
            tls.config(Door::Http).alpn_protocols,
            [b"http/1.1".to_vec()]
        );
    }
}
