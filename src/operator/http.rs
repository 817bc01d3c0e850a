//! Requests to the admin listener.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use ureq::config::ConfigBuilder;
use ureq::http::{Response, StatusCode, header};
use ureq::typestate::AgentScope;
use ureq::{Agent, Body};

use super::OperatorError;
use crate::config::Config;

/// Where a running broker can be asked, and as whom.
#[derive(Debug)]
pub(super) struct Admin {
    pub(super) address: SocketAddr,
    token: Option<String>,
}

impl Admin {
    /// The one that a broker with these settings has.
    ///
    /// # Errors
    /// It has none, or not at a known port, or the token cannot be read.
    pub(super) fn of(config: &Config) -> Result<Admin, OperatorError> {
        let mut address = config.admin_listen.ok_or(OperatorError::NoAdmin)?;
        if address.port() == 0 {
            return Err(OperatorError::NoPort(address));
        }
        match address.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
            IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
            _ => {}
        }
        let token = config
            .admin_token_file
            .as_ref()
            .map(|path| match fs::read_to_string(path) {
                Ok(text) => Ok(text.lines().next().unwrap_or_default().trim().to_owned()),
                Err(source) => Err(OperatorError::Token {
                    path: path.clone(),
                    source,
                }),
            });
        Ok(Admin {
            address,
            token: token.transpose()?,
        })
    }

    /// POST without a body, to an answer that takes as long as it likes once it has begun.
    ///
    /// # Errors
    /// As [`post`](Admin::post).
    pub(super) fn follow(&self, path: &str) -> Result<Response<Body>, OperatorError> {
        let agent = agent()
            .timeout_connect(Some(ANSWER_TIME))
            .timeout_recv_response(Some(ANSWER_TIME))
            .build();
        self.send(&agent.into(), path)
    }

    /// POST without a body. The answer may have any status but those that say that nobody was asked.
    ///
    /// # Errors
    /// There is no answer, or the token is not the broker's.
    pub(super) fn post(&self, path: &str) -> Result<Response<Body>, OperatorError> {
        let agent = agent().timeout_global(Some(ANSWER_TIME)).build();
        self.send(&agent.into(), path)
    }

    fn send(&self, agent: &Agent, path: &str) -> Result<Response<Body>, OperatorError> {
        let mut request = agent.post(format!("http://{}{path}", self.address));
        if let Some(token) = &self.token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        request.send_empty().map_err(|source| self.failed(source))
    }

    /// All of an answer.
    ///
    /// # Errors
    /// The connection ended before it did.
    pub(super) fn text(&self, answer: &mut Response<Body>) -> Result<String, OperatorError> {
        answer.body_mut().read_to_string().map_err(|source| self.failed(source))
    }

    /// An answer that is none to the question.
    pub(super) fn refusal(&self, status: StatusCode, text: &str) -> OperatorError {
        OperatorError::Answer {
            address: self.address,
            status: status.as_u16(),
            text: text.lines().next().unwrap_or_default().to_owned(),
        }
    }

    fn failed(&self, source: ureq::Error) -> OperatorError {
        OperatorError::Http {
            address: self.address,
            source,
        }
    }
}

fn agent() -> ConfigBuilder<AgentScope> {
    Agent::config_builder()
        .proxy(None)
        .max_redirects(0)
        .http_status_as_error(false)
}

/// Longer than the broker takes for any answer.
const ANSWER_TIME: Duration = Duration::from_secs(15);
