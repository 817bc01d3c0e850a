//! A service elsewhere that is asked, over HTTP, who a client is.
//!
//! Read [`Service`] first: one question, one answer. `answer` reads what comes back, `cache` remembers it for a while, `names` finds the
//! service's address, and `pool` has the threads that wait for it: nobody else does.

mod answer;
mod cache;
mod names;
mod pool;

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64ct::{Base64, Encoding};
use ringmq_shard::error::AuthenticationError;
use ringmq_shard::shard::{Credentials, Verified};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use serde::Serialize;
use thiserror::Error;
use ureq::http::{HeaderValue, StatusCode, header};
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::unversioned::transport::DefaultConnector;
use ureq::{Agent, Timeout};

use super::SecretError;
use super::token;
use crate::config::{AuthHttpConfig, AuthHttpUrl};
use crate::transport::tls::{TlsFileError, read_certificates};
use answer::AnswerError;
use cache::Cache;
use names::Names;

pub(super) use pool::ServicePool;

/// The service, and what is remembered of its answers.
pub struct Service {
    agent: Agent,
    url: AuthHttpUrl,
    /// Of a request, `Bearer` and the token; `None`: it is shown none.
    authorization: Option<HeaderValue>,
    cache: Cache,
}

/// Whom the service is asked about.
#[derive(Clone, Copy, Debug)]
pub(super) struct Client<'a> {
    pub(super) credentials: &'a Credentials,
    /// `None`: it is a process of this host.
    pub(super) address: Option<IpAddr>,
}

/// What the service is told, as JSON.
#[derive(Serialize)]
struct Question<'a> {
    /// Empty if the broker gives one.
    client_id: &'a str,
    user_name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    password: Option<&'a str>,
    /// Instead, where the password is no text.
    #[serde(skip_serializing_if = "Option::is_none")]
    password_base64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<IpAddr>,
}

/// Why there is no answer that counts.
#[derive(Debug, Error)]
pub(super) enum ServiceError {
    #[error("no answer within {}, the time of --auth-http-timeout", seconds(.0))]
    TimedOut(Duration),
    #[error("{0}")]
    Exchange(ureq::Error),
    #[error("status {0}; only 200 counts, and redirects are not followed")]
    Status(u16),
    #[error("the answer has more than {BODY_BYTES_MAX} bytes")]
    Long,
    #[error("{0}")]
    Answer(#[from] AnswerError),
}

impl ServiceError {
    /// In the log: one of a fixed set.
    fn label(&self) -> &'static str {
        match self {
            ServiceError::TimedOut(_) => "timeout",
            ServiceError::Exchange(_) => "exchange",
            ServiceError::Status(_) => "status",
            ServiceError::Long | ServiceError::Answer(_) => "answer",
        }
    }
}

impl Service {
    /// Reads the files that the settings name. Connects nowhere.
    ///
    /// # Errors
    /// One of them cannot be used, or the system has no authorities, or no randomness.
    pub(super) fn read(config: &AuthHttpConfig) -> Result<Service, SecretError> {
        let mut tls =
            TlsConfig::builder().unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()));
        if config.url.is_https() {
            let authorities = authorities(config)?;
            tls = tls.root_certs(authorities.iter().map(|it| Certificate::from_der(it).to_owned()).into());
        } else {
            tls = tls.root_certs(RootCerts::new_with_certs(&[]));
        }
        let settings = Agent::config_builder()
            // What the environment says of proxies is meant for somebody else.
            .proxy(None)
            .max_redirects(0)
            .http_status_as_error(false)
            .timeout_global(Some(config.timeout))
            .max_idle_connections(usize::from(config.threads))
            .max_idle_connections_per_host(usize::from(config.threads))
            .max_idle_age(IDLE_TIME)
            .user_agent(concat!("ringmq/", env!("CARGO_PKG_VERSION")))
            .accept("application/json")
            .tls_config(tls.build())
            .build();
        let authorization = config.token_file.as_deref().map(|path| {
            let token = token::read(path)?;
            let header = HeaderValue::try_from(format!("Bearer {token}"));
            header.map_err(|_| SecretError::NotAToken { path: path.to_owned() })
        });
        Ok(Service {
            agent: Agent::with_parts(settings, DefaultConnector::default(), Names),
            url: config.url.clone(),
            authorization: authorization.transpose()?,
            cache: Cache::new(config.cache).map_err(|_| SecretError::NoRandomness)?,
        })
    }

    /// Who the client is, if the service has said so lately.
    fn recall(&self, client: &Client<'_>) -> Option<Verified> {
        self.cache.recall(client, Instant::now())
    }

    /// Asks, and waits for the answer.
    ///
    /// # Errors
    /// There is none that counts.
    fn ask(&self, client: &Client<'_>) -> Result<Result<Verified, AuthenticationError>, ServiceError> {
        // The answer's time counts from here: no later than the service meant.
        let asked_at = Instant::now();
        let body = self.exchange(client)?;
        let Some(verified) = answer::parse(&body, &client.credentials.user_name)? else {
            return Ok(Err(AuthenticationError::BadCredentials));
        };
        self.cache.remember(client, &verified, body.len(), asked_at);
        Ok(Ok(verified))
    }

    /// One request, and the body of what comes back.
    fn exchange(&self, client: &Client<'_>) -> Result<Vec<u8>, ServiceError> {
        let named = |error| self.name(error);
        let mut request = self
            .agent
            .post(self.url.uri())
            .header(header::CONTENT_TYPE, "application/json");
        if let Some(authorization) = &self.authorization {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        let mut response = request.send(&*client.question()).map_err(named)?;
        if response.status() != StatusCode::OK {
            return Err(ServiceError::Status(response.status().as_u16()));
        }
        let body = response.body_mut().with_config().limit(BODY_BYTES_MAX);
        body.read_to_vec().map_err(named)
    }

    fn name(&self, error: ureq::Error) -> ServiceError {
        match error {
            ureq::Error::Timeout(Timeout::Global) => {
                let timeout = self.agent.config().timeouts().global;
                ServiceError::TimedOut(timeout.unwrap_or_default())
            }
            ureq::Error::BodyExceedsLimit(_) => ServiceError::Long,
            error => ServiceError::Exchange(error),
        }
    }
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service")
            .field("url", &self.url)
            .field("cache", &self.cache)
            .finish_non_exhaustive()
    }
}

impl Client<'_> {
    fn question(&self) -> Vec<u8> {
        let credentials = self.credentials;
        let password = credentials.password.as_deref();
        let text = password.and_then(|password| std::str::from_utf8(password).ok());
        let question = Question {
            client_id: &credentials.client_id,
            user_name: &credentials.user_name,
            password: text,
            password_base64: password.filter(|_| text.is_none()).map(Base64::encode_string),
            address: self.address,
        };
        serde_json::to_vec(&question).expect("texts under texts")
    }
}

/// Whom the service's certificate may be from: those of the file, else those that the system trusts.
fn authorities(config: &AuthHttpConfig) -> Result<Vec<CertificateDer<'static>>, SecretError> {
    let Some(path) = &config.ca_file else {
        let found = rustls_native_certs::load_native_certs().certs;
        return if found.is_empty() {
            Err(SecretError::NoAuthorities)
        } else {
            Ok(found)
        };
    };
    let certificates = read_certificates(path)?;
    let mut roots = RootCertStore::empty();
    for certificate in &certificates {
        // Looked at here: what cannot be used later on would be left out without a word.
        roots
            .add(certificate.clone())
            .map_err(|cause| TlsFileError::Authorities {
                path: path.clone(),
                cause,
            })?;
    }
    Ok(certificates)
}

fn seconds(time: &Duration) -> String {
    format!("{} s", time.as_secs())
}

/// Of an answer; a list of a thousand lines has room in it.
const BODY_BYTES_MAX: u64 = 64 * 1024;
/// How long a connection waits for the next question. Servers hang up after two seconds or more, and must not do so just when one comes.
const IDLE_TIME: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests;
