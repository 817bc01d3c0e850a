//! The service that is asked over HTTP who a client is, as the operator wants it.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use rustls::pki_types::ServerName;
use thiserror::Error;
use ureq::http::Uri;

use super::args::Args;
use super::{ConfigError, in_range, seconds};

/// Where the service is, and how it is asked.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AuthHttpConfig {
    /// What is asked for.
    pub url: AuthHttpUrl,
    /// For one whole exchange, the connection included. Never 0.
    pub timeout: Duration,
    /// The token that it is shown; `None`: none.
    pub token_file: Option<PathBuf>,
    /// The authorities that its certificate may be from; `None`: those of the system. Only with https.
    pub ca_file: Option<PathBuf>,
    /// How many questions are open at once, each on a thread of its own. At least 1.
    pub threads: u16,
    /// How long it is not asked again about a client that it has let in; 0: it always is.
    pub cache: Duration,
}

/// `--auth-http-url`: http or https, a host, perhaps a port, and a path.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AuthHttpUrl(Uri);

/// Text that is no URL of a service.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum AuthHttpUrlError {
    /// Something that is missing, or has no place in it.
    #[error("write http:// or https://, a host, and a path, without a user and without #")]
    NotAUrl,
    /// No certificate is for it.
    #[error("the host is no name or address that a certificate could have")]
    HostName,
}

impl AuthHttpUrl {
    /// As a client of HTTP wants it.
    pub(crate) fn uri(&self) -> &Uri {
        &self.0
    }

    /// Whether it is asked over TLS.
    #[must_use]
    pub fn is_https(&self) -> bool {
        self.0.scheme_str() == Some("https")
    }

    /// Whether what it is told leaves this host in the clear, as far as its name says.
    #[must_use]
    pub fn is_exposed(&self) -> bool {
        let host = bare(self.0.host().unwrap_or_default());
        let is_local = host == "localhost" || host.parse().is_ok_and(|ip: IpAddr| ip.to_canonical().is_loopback());
        !self.is_https() && !is_local
    }
}

impl fmt::Display for AuthHttpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for AuthHttpUrl {
    type Err = AuthHttpUrlError;

    fn from_str(text: &str) -> Result<AuthHttpUrl, AuthHttpUrlError> {
        let uri: Uri = text.parse().map_err(|_| AuthHttpUrlError::NotAUrl)?;
        let authority = uri.authority().ok_or(AuthHttpUrlError::NotAUrl)?;
        let host = authority.host();
        // A port beyond 65 535 would be taken for none; what stands before an @ would be sent as a password.
        let whole = match authority.port_u16() {
            Some(_) => authority.as_str().starts_with(&format!("{host}:")),
            None => authority.as_str() == host,
        };
        let is_http = matches!(uri.scheme_str(), Some("http" | "https"));
        if !is_http || host.is_empty() || !whole || text.contains('#') {
            return Err(AuthHttpUrlError::NotAUrl);
        }
        let url = AuthHttpUrl(uri.clone());
        if url.is_https() && ServerName::try_from(bare(host)).is_err() {
            return Err(AuthHttpUrlError::HostName);
        }
        Ok(url)
    }
}

impl AuthHttpConfig {
    /// `None`: no service is asked.
    pub(super) fn from_args(args: &Args) -> Result<Option<AuthHttpConfig>, ConfigError> {
        let needs = |flag| {
            let other = "--auth-http-url";
            Err(ConfigError::NeedsOther { flag, other })
        };
        let timeout = seconds("--auth-http-timeout", args.auth_http_timeout, 1)?;
        let threads = in_range("--auth-http-threads", args.auth_http_threads, 1, THREADS_MAX)?;
        let cache = seconds("--auth-http-cache", args.auth_http_cache, 0)?;
        let Some(url) = &args.auth_http_url else {
            return match args {
                Args {
                    auth_http_token_file: Some(_),
                    ..
                } => needs("--auth-http-token-file"),
                Args {
                    auth_http_ca: Some(_), ..
                } => needs("--auth-http-ca"),
                _ if !cache.is_zero() => needs("--auth-http-cache"),
                _ => Ok(None),
            };
        };
        if args.auth_http_ca.is_some() && !url.is_https() {
            return Err(ConfigError::AuthorityWithoutTls);
        }
        Ok(Some(AuthHttpConfig {
            url: url.clone(),
            timeout,
            token_file: args.auth_http_token_file.clone(),
            ca_file: args.auth_http_ca.clone(),
            threads,
            cache,
        }))
    }
}

/// A host, without the brackets of an IPv6 address.
fn bare(host: &str) -> &str {
    host.trim_start_matches('[').trim_end_matches(']')
}

/// Each holds a connection; a service that needs more at once is too slow for its clients.
const THREADS_MAX: u16 = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_a_host_and_no_user() {
        for (text, https) in [
            ("http://127.0.0.1:8080/auth?realm=mqtt", false),
            ("https://auth.example.org/verify", true),
            ("HTTPS://auth.example.org", true),
            ("https://[::1]:8443/", true),
            ("http://auth_service/", false),
        ] {
            assert_eq!(
                text.parse::<AuthHttpUrl>().map(|url| url.is_https()),
                Ok(https),
                "{text}"
            );
        }
        for text in [
            "",
            "/auth",
            "auth.example.org",
            "auth.example.org:80",
            "http://",
            "http:///auth",
            "http://:80/",
            "http://host:/",
            "http://host:65536/",
            "http://ann:secret@host/",
            "http://ann@host:80/",
            "http://host/#part",
            "http://host/a b",
            "ftp://host/",
            "unix:/run/auth.sock",
        ] {
            assert_eq!(text.parse::<AuthHttpUrl>(), Err(AuthHttpUrlError::NotAUrl), "{text}");
        }
        assert_eq!("https://a..b/".parse::<AuthHttpUrl>(), Err(AuthHttpUrlError::HostName));
    }

    #[test]
    fn what_leaves_the_host_in_the_clear_is_known() {
        for (text, exposed) in [
            ("http://localhost:8080/", false),
            ("http://127.0.0.2/", false),
            ("http://[::1]:80/", false),
            ("http://[::ffff:127.0.0.1]/", false),
            ("https://auth.example.org/", false),
            ("http://auth.example.org/", true),
            ("http://192.0.2.1/", true),
            ("http://localhost.example.org/", true),
        ] {
            assert_eq!(text.parse::<AuthHttpUrl>().unwrap().is_exposed(), exposed, "{text}");
        }
    }
}
