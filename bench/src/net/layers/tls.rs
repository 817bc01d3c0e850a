//! TLS by rustls.

use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};

use super::broken;

/// Whom to trust, and whom to expect.
#[derive(Clone, Debug)]
pub(crate) struct Tls {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

#[derive(Debug)]
pub(super) struct TlsLayer {
    connection: ClientConnection,
}

impl Tls {
    /// The certificate of `host` must be from an authority in `authorities`, a PEM file. Without `resumes` each connection makes a
    /// whole handshake.
    ///
    /// # Errors
    /// The file cannot be read or has no certificate, or `host` is no name.
    pub(crate) fn new(authorities: &Path, host: &str, resumes: bool) -> io::Result<Tls> {
        let named = |error: String| io::Error::other(format!("{}: {error}", authorities.display()));
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(authorities).map_err(|error| named(error.to_string()))? {
            let certificate = certificate.map_err(|error| named(error.to_string()))?;
            roots.add(certificate).map_err(|error| named(error.to_string()))?;
        }
        if roots.is_empty() {
            return Err(named("no certificate in it".to_owned()));
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        if !resumes {
            config.resumption = Resumption::disabled();
        }
        Ok(Tls {
            config: Arc::new(config),
            name: ServerName::try_from(host.to_owned()).map_err(io::Error::other)?,
        })
    }

    pub(super) fn begin(&self) -> io::Result<TlsLayer> {
        let connection = ClientConnection::new(Arc::clone(&self.config), self.name.clone());
        let mut connection = connection.map_err(io::Error::other)?;
        // The link bounds what waits.
        connection.set_buffer_limit(None);
        Ok(TlsLayer { connection })
    }
}

impl TlsLayer {
    /// Before the end of the handshake it is kept, and follows it.
    pub(super) fn seal(&mut self, bytes: &[u8], wire: &mut Vec<u8>) -> io::Result<()> {
        self.connection.writer().write_all(bytes)?;
        self.take_wire(wire)
    }

    pub(super) fn open(&mut self, mut received: &[u8], wire: &mut Vec<u8>, plain: &mut Vec<u8>) -> io::Result<()> {
        while !received.is_empty() {
            // rustls takes some KiB at a time.
            self.connection.read_tls(&mut received)?;
            let state = self.connection.process_new_packets().map_err(broken)?;
            let start = plain.len();
            plain.resize(start + state.plaintext_bytes_to_read(), 0);
            self.connection.reader().read_exact(&mut plain[start..])?;
        }
        self.take_wire(wire)
    }

    fn take_wire(&mut self, wire: &mut Vec<u8>) -> io::Result<()> {
        while self.connection.wants_write() {
            self.connection.write_tls(wire)?;
        }
        Ok(())
    }
}
