//! The user name in a client's certificate.
//!
//! A name is taken only if there is no doubt about it: exactly one, text, without control characters. A certificate without
//! such a name is refused in the handshake, so nobody comes in under half a name.

use std::sync::Arc;

use ringmq_shard::shard::UserName;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, OtherError, SignatureScheme};
use thiserror::Error;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// Which part of a certificate is the user name.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum NameFrom {
    /// The one Common Name of the subject.
    CommonName,
    /// The one DNS name, e-mail address or URI among the Subject Alternative Names.
    SubjectAltName,
}

/// Why a certificate gives no user name.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub(crate) enum NameError {
    #[error("the certificate cannot be read")]
    Malformed,
    #[error("the certificate has no name that could be the user name")]
    Absent,
    #[error("the certificate has more than one name that could be the user name")]
    Several,
    #[error("the name in the certificate is no text")]
    NotText,
    #[error("the name in the certificate is empty or has control characters")]
    Unprintable,
}

/// The user name in this certificate.
///
/// # Errors
/// There is none, or doubt about which it is.
pub(crate) fn user_name(certificate: &CertificateDer<'_>, from: NameFrom) -> Result<UserName, NameError> {
    let (_, certificate) = X509Certificate::from_der(certificate).map_err(|_| NameError::Malformed)?;
    let names = match from {
        NameFrom::CommonName => common_names(&certificate)?,
        NameFrom::SubjectAltName => alternative_names(&certificate)?,
    };
    match names[..] {
        [] => Err(NameError::Absent),
        [name] if name.is_empty() || name.contains(char::is_control) => Err(NameError::Unprintable),
        [name] => Ok(name.into()),
        _ => Err(NameError::Several),
    }
}

/// In order, from all parts of the subject.
fn common_names<'a>(certificate: &'a X509Certificate<'_>) -> Result<Vec<&'a str>, NameError> {
    let names = certificate.subject().iter_common_name();
    names
        .map(|name| name.as_str().map_err(|_| NameError::NotText))
        .collect()
}

/// Those that can name a client, in order.
fn alternative_names<'a>(certificate: &'a X509Certificate<'_>) -> Result<Vec<&'a str>, NameError> {
    let extension = certificate
        .subject_alternative_name()
        .map_err(|_| NameError::Malformed)?;
    let names = extension.map_or(&[][..], |extension| &extension.value.general_names);
    let mut found = Vec::new();
    for name in names {
        match name {
            GeneralName::DNSName(name) | GeneralName::RFC822Name(name) | GeneralName::URI(name) => found.push(*name),
            GeneralName::Invalid(..) => return Err(NameError::NotText),
            _ => {}
        }
    }
    Ok(found)
}

/// The names under which a server's certificate is asked for, in lower case; a first label may be `*`.
pub(super) fn dns_names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let extension = certificate.subject_alternative_name().ok().flatten();
    let names = extension.map_or(&[][..], |extension| &extension.value.general_names);
    let dns = names.iter().filter_map(|name| match name {
        GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
        _ => None,
    });
    dns.collect()
}

/// Verifies as another verifier does, and refuses certificates without a user name.
#[derive(Debug)]
pub(super) struct NamedClients {
    pub(super) inner: Arc<dyn ClientCertVerifier>,
    pub(super) from: NameFrom,
}

impl ClientCertVerifier for NamedClients {
    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let verified = self.inner.verify_client_cert(end_entity, intermediates, now)?;
        match user_name(end_entity, self.from) {
            Ok(_) => Ok(verified),
            Err(error) => Err(CertificateError::Other(OtherError(Arc::new(error))).into()),
        }
    }

    fn offer_client_auth(&self) -> bool {
        self.inner.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.inner.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}
