//! TLS from the client's side: whom to trust, and what to show.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore};

use super::args::ConnectionArgs;
use super::error::ClientError;
use crate::transport::tls::{TlsFileError, read_certificates, read_key};

/// The beginning of a connection with the host of `args`, whose certificate must be from an authority in `authorities`.
pub(super) fn start(args: &ConnectionArgs, authorities: &Path) -> Result<ClientConnection, ClientError> {
    let mut roots = RootCertStore::empty();
    for certificate in read_certificates(authorities)? {
        roots.add(certificate).map_err(|cause| TlsFileError::Authorities {
            path: authorities.to_owned(),
            cause,
        })?;
    }
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(ClientError::Tls)?
        .with_root_certificates(roots);
    let config = match (&args.cert, &args.key) {
        (Some(certificate), Some(key)) => config
            .with_client_auth_cert(read_certificates(certificate)?, read_key(key)?)
            .map_err(|cause| TlsFileError::Key {
                path: key.clone(),
                cause,
            })?,
        _ => config.with_no_client_auth(),
    };
    let name = ServerName::try_from(args.host.clone()).map_err(|_| ClientError::ServerName(args.host.clone()))?;
    ClientConnection::new(Arc::new(config), name).map_err(ClientError::Tls)
}
