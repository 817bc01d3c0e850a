//! What one listener offers in TLS: made from files, and replaced as a whole when they are read again.

use std::net::TcpStream;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

use rustls::crypto::{CryptoProvider, ring};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::version::{TLS12, TLS13};
use rustls::{RootCertStore, ServerConfig};

use super::certificates::{ByName, Certificate, TlsFileError, read_certificates};
use super::identity::{NameFrom, NamedClients};
use super::stream::TlsStream;
use crate::config::{ClientCertificates, TlsConfig, TlsUserName, TlsVersion};

/// The files of one listener, read and found to fit each other.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// The server's own, in the order of the configuration.
    pub certificates: Arc<[Certificate]>,
    pub(super) config: Arc<ServerConfig>,
}

impl TlsFiles {
    /// Reads what a listener's settings name.
    ///
    /// # Errors
    /// The first file that cannot be used.
    pub(crate) fn read(settings: &TlsConfig, inside: Inside) -> Result<TlsFiles, TlsFileError> {
        let provider = Arc::new(ring::default_provider());
        let certificates = settings
            .certificates
            .iter()
            .map(|(chain, key)| Certificate::read(chain, key, provider.key_provider))
            .collect::<Result<Arc<[_]>, _>>()?;
        let versions = match settings.min_version {
            TlsVersion::Tls12 => &[&TLS13, &TLS12][..],
            TlsVersion::Tls13 => &[&TLS13],
        };
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(versions)
            .map_err(TlsFileError::Setup)?;
        let builder = match &settings.client_ca {
            Some(path) => builder.with_client_cert_verifier(verifier(settings, path, &provider)?),
            None => builder.with_no_client_auth(),
        };
        let mut config = builder.with_cert_resolver(Arc::new(ByName {
            certificates: Arc::clone(&certificates),
        }));
        config.alpn_protocols = vec![inside.alpn().to_vec()];
        // Tickets instead of a table of sessions: the client keeps the state. Keys of this listener, drawn anew with each reading
        // of the files: nobody resumes what other authorities or other rules had let in.
        config.ticketer = ring::Ticketer::new().map_err(TlsFileError::Setup)?;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        Ok(TlsFiles {
            certificates,
            config: Arc::new(config),
        })
    }
}

fn verifier(
    settings: &TlsConfig,
    path: &Path,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, TlsFileError> {
    let refused = |cause| TlsFileError::Authorities {
        path: path.to_owned(),
        cause,
    };
    let mut roots = RootCertStore::empty();
    for certificate in read_certificates(path)? {
        roots.add(certificate).map_err(refused)?;
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
    let builder = match settings.client_certificates {
        ClientCertificates::Required => builder,
        ClientCertificates::Optional | ClientCertificates::None => builder.allow_unauthenticated(),
    };
    let inner = builder
        .build()
        .map_err(|error| refused(rustls::Error::General(error.to_string())))?;
    Ok(match name_from(settings.user_name) {
        Some(from) => Arc::new(NamedClients { inner, from }),
        None => inner,
    })
}

/// One listener's TLS, for whoever accepts its sockets.
#[derive(Debug)]
pub(crate) struct TlsServer {
    config: RwLock<Arc<ServerConfig>>,
    name_from: Option<NameFrom>,
}

impl TlsServer {
    pub(crate) fn new(settings: &TlsConfig, files: &TlsFiles) -> TlsServer {
        TlsServer {
            config: RwLock::new(Arc::clone(&files.config)),
            name_from: name_from(settings.user_name),
        }
    }

    /// From here on handshakes follow these files. Connections that are open stay.
    pub(crate) fn replace(&self, files: &TlsFiles) {
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&files.config);
    }

    /// The server's end on a fresh socket.
    ///
    /// # Errors
    /// As [`TlsStream::new`].
    pub(crate) fn accept(&self, socket: TcpStream) -> Result<TlsStream, rustls::Error> {
        let config = Arc::clone(&self.config.read().unwrap_or_else(PoisonError::into_inner));
        TlsStream::new(socket, config, self.name_from)
    }
}

fn name_from(setting: TlsUserName) -> Option<NameFrom> {
    match setting {
        TlsUserName::None => None,
        TlsUserName::Cn => Some(NameFrom::CommonName),
        TlsUserName::San => Some(NameFrom::SubjectAltName),
    }
}

/// What is spoken inside of TLS. A client that asks for nothing gets it too; one that asks for something else only is refused.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Inside {
    Mqtt,
    /// A WebSocket begins as HTTP.
    Http,
}

impl Inside {
    fn alpn(self) -> &'static [u8] {
        match self {
            Inside::Mqtt => b"mqtt",
            Inside::Http => b"http/1.1",
        }
    }
}
