//! TLS of one listener, as the operator wants it.

use std::path::PathBuf;

use clap::ValueEnum;

use super::ConfigError;
use super::args::ListenerArgs;

/// The files and rules of a listener that speaks TLS.
///
/// Invariants: `certificates` is not empty; there is a `client_ca` exactly if clients may show certificates, and a
/// `user_name` only then.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TlsConfig {
    /// Certificate chains with their keys. The first is for clients that ask for no name.
    pub certificates: Vec<(PathBuf, PathBuf)>,
    /// Whose certificates clients may show.
    pub client_ca: Option<PathBuf>,
    /// Whether they do.
    pub client_certificates: ClientCertificates,
    /// What is their user name then.
    pub user_name: TlsUserName,
    /// Older ones are refused.
    pub min_version: TlsVersion,
}

/// `--tls-client-certificates`.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum ClientCertificates {
    /// Not asked for.
    None,
    /// Asked for; who shows none comes in as on any other listener.
    Optional,
    /// Who shows none does not come in.
    Required,
}

/// `--tls-user-name`.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum TlsUserName {
    /// Nothing: the certificate only opens the door.
    None,
    /// The Common Name of the subject.
    Cn,
    /// The Subject Alternative Name.
    San,
}

/// `--tls-min-version`.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum TlsVersion {
    /// RFC 5246.
    #[value(name = "1.2")]
    Tls12,
    /// RFC 8446.
    #[value(name = "1.3")]
    Tls13,
}

impl TlsConfig {
    /// `None`: the listener is plain.
    pub(super) fn from_args(args: &ListenerArgs) -> Result<Option<TlsConfig>, ConfigError> {
        let needs = |flag, other| Err(ConfigError::NeedsOther { flag, other });
        let (certificates, keys) = (&args.tls_certificate, &args.tls_key);
        if certificates.len() != keys.len() {
            return match (certificates.len(), keys.len()) {
                (0, _) => needs("--tls-key", "--tls-certificate"),
                (_, 0) => needs("--tls-certificate", "--tls-key"),
                (certificates, keys) => Err(ConfigError::KeysForCertificates { certificates, keys }),
            };
        }
        let (ca, wanted) = (&args.tls_client_ca, args.tls_client_certificates);
        match (ca, wanted) {
            (None, ClientCertificates::Optional | ClientCertificates::Required) => {
                return needs("--tls-client-certificates", "--tls-client-ca");
            }
            (Some(_), ClientCertificates::None) => return needs("--tls-client-ca", "--tls-client-certificates"),
            _ => {}
        }
        if args.tls_user_name != TlsUserName::None && wanted == ClientCertificates::None {
            return needs("--tls-user-name", "--tls-client-certificates");
        }
        if certificates.is_empty() {
            return match wanted {
                ClientCertificates::None => Ok(None),
                _ => needs("--tls-client-certificates", "--tls-certificate"),
            };
        }
        Ok(Some(TlsConfig {
            certificates: certificates.iter().cloned().zip(keys.iter().cloned()).collect(),
            client_ca: ca.clone(),
            client_certificates: wanted,
            user_name: args.tls_user_name,
            min_version: args.tls_min_version,
        }))
    }

    /// Every client has shown who it is before it says anything.
    pub(super) fn knows_everyone(&self) -> bool {
        self.client_certificates == ClientCertificates::Required
    }

    /// Every client has a user name before it says anything.
    pub(super) fn names_everyone(&self) -> bool {
        self.knows_everyone() && self.user_name != TlsUserName::None
    }
}
