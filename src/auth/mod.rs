//! Who clients are: the files that say so, and the threads that find out.
//!
//! `password` is one hash: read, verified, made. `passwords` is the file of them, in Mosquitto's format. `method` is what such ways have in common, and
//! `authenticator` has the threads that ask them, off the shards' own; `http` asks a service elsewhere about whomever none of them knows. `passwd` is the command that edits the file. `token` is who may ask the admin
//! listener. What a client may *do* is judged in the core, by `ringmq_shard::access`; only the file is read here.

mod authenticator;
mod http;
mod jwt;
mod jwt_crypto;
mod method;
mod own_list;
mod passwd;
mod password;
mod passwords;
mod token;

use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ringmq_shard::access::{Acl, AclError};
use thiserror::Error;
use tracing::warn;

use crate::config::{Config, ListenerConfig};
use crate::transport::tls::Inside;

use method::Method;

pub(crate) use authenticator::{Authenticator, Job, Pool};
pub use http::Service;
pub use jwt::{Jwt, JwtKeyError};
pub use passwd::{PasswdArgs, PasswdError, passwd};
pub use password::PasswordError;
pub use passwords::Passwords;
pub use token::Token;

pub use crate::transport::tls::{Certificate, TlsFileError, TlsFiles};

/// Everything that is read again on SIGHUP, read and checked as one.
#[derive(Clone, Debug, Default)]
pub struct Secrets {
    /// `None`: names are not verified.
    pub passwords: Option<Arc<Passwords>>,
    /// `None`: passwords are no tokens.
    pub jwt: Option<Arc<Jwt>>,
    /// `None`: nobody else is asked.
    pub service: Option<Arc<Service>>,
    /// `None`: everybody may do everything.
    pub acl: Option<Arc<Acl>>,
    /// `None`: the admin listener asks for none.
    pub admin_token: Option<Arc<Token>>,
    /// One entry per listener; `None`: it is plain.
    pub tls: Vec<Option<TlsFiles>>,
}

impl Secrets {
    /// Reads the files that the configuration names.
    ///
    /// # Errors
    /// The first of them that cannot be used.
    pub fn load(config: &Config) -> Result<Secrets, SecretError> {
        let passwords = config.password_file.as_deref().map(Passwords::read).transpose()?;
        let jwt = config.jwt.as_ref().map(Jwt::read).transpose()?;
        let service = config.auth_http.as_ref().map(Service::read).transpose()?;
        let acl = config.acl_file.as_deref().map(read_acl).transpose()?;
        let admin_token = config.admin_token_file.as_deref().map(Token::read).transpose()?;
        let listeners = config.listeners.iter();
        let tls = listeners.map(read_tls).collect::<Result<_, _>>()?;
        Ok(Secrets {
            passwords: passwords.map(Arc::new),
            jwt: jwt.map(Arc::new),
            service: service.map(Arc::new),
            acl: acl.map(Arc::new),
            admin_token: admin_token.map(Arc::new),
            tls,
        })
    }

    /// Whether names are verified.
    pub(crate) fn verify(&self) -> bool {
        !self.methods().is_empty() || self.service.is_some()
    }

    /// What finds out who clients are on this host, in the order in which they are asked.
    pub(crate) fn methods(&self) -> Vec<Arc<dyn Method>> {
        let passwords = self.passwords.clone().map(|passwords| passwords as Arc<dyn Method>);
        let jwt = self.jwt.clone().map(|jwt| jwt as Arc<dyn Method>);
        passwords.into_iter().chain(jwt).collect()
    }

    /// What is worth telling an operator about files that are good: a line each.
    #[must_use]
    pub fn notes(&self) -> String {
        let mut text = String::new();
        for certificate in self.certificates() {
            let (path, until) = (certificate.path.display(), certificate.until());
            let days = certificate.valid_for().as_secs() / SECONDS_PER_DAY;
            writeln!(text, "{path}: valid until {until}, {days} days").expect("a String takes everything");
        }
        text
    }

    /// Warns of certificates that clients do not accept, or soon will not.
    pub(crate) fn warn_of_expiry(&self) {
        for certificate in self.certificates() {
            let days = certificate.valid_for().as_secs() / SECONDS_PER_DAY;
            if days < EXPIRY_WARNING_DAYS {
                let (path, until) = (certificate.path.display(), certificate.until());
                warn!(%path, until, days, "a certificate expires soon, or has expired");
            }
        }
    }

    /// Of all listeners.
    fn certificates(&self) -> impl Iterator<Item = &Certificate> {
        self.tls.iter().flatten().flat_map(|files| files.certificates.iter())
    }
}

fn read_tls(listener: &ListenerConfig) -> Result<Option<TlsFiles>, TlsFileError> {
    let inside = match listener.websocket {
        Some(_) => Inside::Http,
        None => Inside::Mqtt,
    };
    let settings = listener.tls.as_ref();
    settings.map(|settings| TlsFiles::read(settings, inside)).transpose()
}

fn read_acl(path: &Path) -> Result<Acl, SecretError> {
    Acl::parse(&read(path)?).map_err(|error| SecretError::Acl {
        path: path.to_owned(),
        error,
    })
}

fn read(path: &Path) -> Result<String, SecretError> {
    std::fs::read_to_string(path).map_err(|source| SecretError::Unreadable {
        path: path.to_owned(),
        source,
    })
}

const SECONDS_PER_DAY: u64 = 24 * 60 * 60;
/// Enough to get another one by hand.
const EXPIRY_WARNING_DAYS: u64 = 14;

/// A file about clients that cannot be used. Each says where.
#[derive(Debug, Error)]
pub enum SecretError {
    /// A certificate, key or list of authorities.
    #[error(transparent)]
    Tls(#[from] TlsFileError),
    /// The system does not give it.
    #[error("{path}: {source}", path = path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A line without a colon, or without a name before it.
    #[error("{path}:{line}: a line is USER:HASH", path = path.display())]
    NotAnEntry {
        /// Which file.
        path: PathBuf,
        /// 1-based.
        line: usize,
    },
    /// A token that is short, or has blanks or other letters than ASCII's.
    #[error("{path}: the first line must be a token of {least} or more visible ASCII characters", path = path.display(),
            least = token::TOKEN_BYTES_MIN)]
    NotAToken {
        /// Which file.
        path: PathBuf,
    },
    /// One user twice.
    #[error("{path}:{line}: user {user} has an entry in line {first} already", path = path.display())]
    UserTwice {
        /// Which file.
        path: PathBuf,
        /// 1-based.
        line: usize,
        /// Whose entry.
        user: String,
        /// Where the first is, 1-based.
        first: usize,
    },
    /// A line of the access control list that is none.
    #[error("{path}:{line}: {error}", path = path.display(), line = error.line)]
    Acl {
        /// Which file.
        path: PathBuf,
        /// Which line, and what is wrong with it.
        error: AclError,
    },
    /// Nobody is trusted to say who the service is.
    #[error(
        "the system has no certificate authorities: name those of the service of --auth-http-url with --auth-http-ca"
    )]
    NoAuthorities,
    /// For the digests of what is remembered.
    #[error("the system has no randomness")]
    NoRandomness,
    /// A key for tokens that is none.
    #[error("{path}: {error}", path = path.display())]
    JwtKey {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        error: JwtKeyError,
    },
    /// A hash that cannot be verified.
    #[error("{path}:{line}: {error}", path = path.display())]
    Password {
        /// Which file.
        path: PathBuf,
        /// 1-based.
        line: usize,
        /// What is wrong with it.
        error: PasswordError,
    },
}
