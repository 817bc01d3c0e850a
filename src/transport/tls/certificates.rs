//! Certificates and keys from PEM files, and which of them a client gets.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::crypto::KeyProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use thiserror::Error;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::identity::dns_names;

/// A file for TLS that cannot be used.
#[derive(Debug, Error)]
pub enum TlsFileError {
    /// The system does not give it.
    #[error("{path}: {source}", path = path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Not PEM.
    #[error("{path}: {cause}", path = path.display())]
    NotPem {
        /// Which file.
        path: PathBuf,
        /// What was found.
        cause: rustls::pki_types::pem::Error,
    },
    /// PEM, without a certificate.
    #[error("{path}: there is no certificate in it", path = path.display())]
    NoCertificate {
        /// Which file.
        path: PathBuf,
    },
    /// A certificate that cannot be read.
    #[error("{path}: certificate {number} cannot be read", path = path.display())]
    Certificate {
        /// Which file.
        path: PathBuf,
        /// 1-based.
        number: usize,
    },
    /// PEM, without a key.
    #[error("{path}: there is no private key in it (one that is encrypted does not count)", path = path.display())]
    NoKey {
        /// Which file.
        path: PathBuf,
    },
    /// A key of a kind that is not known.
    #[error("{path}: the private key cannot be used: {cause}", path = path.display())]
    Key {
        /// Which file.
        path: PathBuf,
        /// What was found.
        cause: rustls::Error,
    },
    /// A key of another certificate.
    #[error("{key}: the private key is not that of the first certificate in {certificate}",
            key = key.display(), certificate = certificate.display())]
    Mismatch {
        /// Which key.
        key: PathBuf,
        /// Which certificate.
        certificate: PathBuf,
    },
    /// A list of authorities that cannot be used.
    #[error("{path}: {cause}", path = path.display())]
    Authorities {
        /// Which file.
        path: PathBuf,
        /// What was found.
        cause: rustls::Error,
    },
    /// TLS cannot be set up.
    #[error("TLS cannot be set up: {0}")]
    Setup(rustls::Error),
}

/// A server's certificate with its key.
#[derive(Debug)]
pub struct Certificate {
    /// Where the chain is from.
    pub path: PathBuf,
    key: Arc<CertifiedKey>,
    /// In lower case; a first label may be `*`.
    names: Vec<String>,
    /// As the certificate says it, for people.
    until: String,
    /// Seconds since 1970.
    not_after: i64,
}

impl Certificate {
    /// Reads a chain, the server's own certificate first, and its key.
    ///
    /// # Errors
    /// One of the files cannot be used, or they do not belong together.
    pub(super) fn read(chain: &Path, key: &Path, provider: &dyn KeyProvider) -> Result<Certificate, TlsFileError> {
        let certificates = read_certificates(chain)?;
        let (names, until, not_after) = {
            let (_, own) =
                X509Certificate::from_der(&certificates[0]).expect("each was read by read_certificates above");
            let not_after = own.validity().not_after;
            (dns_names(&own), not_after.to_string(), not_after.timestamp())
        };
        let signing = read_key(key)?;
        let signing = provider.load_private_key(signing).map_err(|cause| TlsFileError::Key {
            path: key.to_owned(),
            cause,
        })?;
        let certified = CertifiedKey::new(certificates, signing);
        if certified.keys_match().is_err() {
            return Err(TlsFileError::Mismatch {
                key: key.to_owned(),
                certificate: chain.to_owned(),
            });
        }
        Ok(Certificate {
            path: chain.to_owned(),
            key: Arc::new(certified),
            names,
            until,
            not_after,
        })
    }

    /// When it expires, as its own text.
    #[must_use]
    pub fn until(&self) -> &str {
        &self.until
    }

    /// How long it is still valid; zero if it has expired.
    #[must_use]
    pub fn valid_for(&self) -> Duration {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let until = Duration::from_secs(u64::try_from(self.not_after).unwrap_or_default());
        until.saturating_sub(now)
    }

    /// A client that knows nothing of such a name would refuse the certificate.
    fn is_for(&self, name: &str) -> bool {
        self.names.iter().any(|own| match own.strip_prefix("*.") {
            Some(parent) => name
                .split_once('.')
                .is_some_and(|(first, rest)| !first.is_empty() && rest == parent),
            None => own == name,
        })
    }
}

/// Chooses by the name that the client asks for, among those by the kinds of signature that it knows.
#[derive(Debug)]
pub(super) struct ByName {
    /// Never empty. The first is for clients that ask for no name, or for one that there is not.
    pub(super) certificates: Arc<[Certificate]>,
}

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name().map(str::to_ascii_lowercase);
        let usable = |certificate: &&Certificate| {
            let schemes = hello.signature_schemes();
            certificate.key.key.choose_scheme(schemes).is_some()
        };
        let named = |certificate: &&Certificate| name.as_ref().is_some_and(|name| certificate.is_for(name));
        let mut usable_ones = self.certificates.iter().filter(usable);
        let chosen = usable_ones.clone().find(named).or_else(|| usable_ones.next());
        chosen.map(|certificate| Arc::clone(&certificate.key))
    }
}

/// All certificates of a file; at least one.
pub(crate) fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsFileError> {
    let text = read(path)?;
    let certificates = CertificateDer::pem_slice_iter(&text)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|cause| TlsFileError::NotPem {
            path: path.to_owned(),
            cause,
        })?;
    if certificates.is_empty() {
        return Err(TlsFileError::NoCertificate { path: path.to_owned() });
    }
    match certificates
        .iter()
        .position(|it| X509Certificate::from_der(it).is_err())
    {
        Some(at) => Err(TlsFileError::Certificate {
            path: path.to_owned(),
            number: at + 1,
        }),
        None => Ok(certificates),
    }
}

/// The first private key of a file.
pub(crate) fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsFileError> {
    PrivateKeyDer::from_pem_slice(&read(path)?).map_err(|cause| match cause {
        rustls::pki_types::pem::Error::NoItemsFound => TlsFileError::NoKey { path: path.to_owned() },
        cause => TlsFileError::NotPem {
            path: path.to_owned(),
            cause,
        },
    })
}

fn read(path: &Path) -> Result<Vec<u8>, TlsFileError> {
    std::fs::read(path).map_err(|source| TlsFileError::Unreadable {
        path: path.to_owned(),
        source,
    })
}
