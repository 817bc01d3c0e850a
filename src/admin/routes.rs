//! What there is to ask for, and who may.
//!
//! ```text
//! GET /               the status page                      open
//! GET /metrics        for Prometheus                       token
//! GET /healthz        whether the process lives            open
//! GET /readyz         whether it takes clients             open
//! /api/…              see `api`                            token
//! ```
//! Where there is a token, all but health and the page, which has nothing to hide, asks for it (RFC 6750). Where there is none, the address is of this host only, and a browser on
//! it could be led here by any page that it shows; so a request must name the host by number or as `localhost`, which a page
//! under a name of its own cannot (DNS rebinding).

use std::cell::{Cell, RefCell};
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http_body_util::{Either, Full};
use hyper::body::{Body, Incoming};
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use ringmq_shard::shard::{ShardId, TraceId};

use super::api::Slowest;
use super::metrics::{self, Format};
use super::page::Page;
use super::server::Alarms;
use super::shards::Shards;
use super::trace::TraceBody;
use super::{Admin, shards};
use crate::runtime::report::Reports;

/// Answers requests.
#[derive(Debug)]
pub(super) struct App {
    pub(super) admin: Arc<Admin>,
    pub(super) shards: Rc<Shards>,
    pub(super) reports: Arc<Reports>,
    /// The last trace that was begun.
    traces: Cell<u64>,
    page: Page,
    /// The last answer about the slowest clients, and when it was made.
    pub(super) slowest: RefCell<Option<(Instant, Slowest)>>,
}

/// All of it, or what is told as it happens.
pub(super) type Answer = Response<Either<Full<Bytes>, TraceBody>>;

impl App {
    pub(super) fn new(admin: Arc<Admin>, shards: Shards, reports: Arc<Reports>) -> App {
        App {
            admin,
            shards: Rc::new(shards),
            reports,
            traces: Cell::new(0),
            page: Page::new(),
            slowest: RefCell::default(),
        }
    }

    /// One that no trace had yet.
    pub(super) fn next_trace(&self) -> TraceId {
        self.traces.set(self.traces.get() + 1);
        TraceId(self.traces.get())
    }

    /// When its answers want to be polled again.
    pub(super) fn alarms(&self) -> &Alarms {
        &self.shards.alarms
    }

    pub(super) async fn answer(self: Rc<App>, request: Request<Incoming>) -> Answer {
        let mut answer = match self.refuse(&request) {
            Some(refusal) => refusal,
            None => self.route(&request).await,
        };
        let headers = answer.headers_mut();
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.insert(RESOURCE_POLICY, HeaderValue::from_static("same-origin"));
        answer
    }

    /// What is refused whatever it asks for.
    fn refuse(&self, request: &Request<Incoming>) -> Option<Answer> {
        if !request.body().is_end_stream() {
            return Some(text(StatusCode::PAYLOAD_TOO_LARGE, "no request here has a body"));
        }
        let Some(token) = self.admin.token() else {
            let host = request.headers().get(header::HOST);
            if !host.is_none_or(is_this_host) {
                let why = "without a token, ask for an address by number, or for localhost";
                return Some(text(StatusCode::MISDIRECTED_REQUEST, why));
            }
            // A form on any page can send POST here; browsers say whose page it is (RFC 6454).
            let origin = request.headers().get(header::ORIGIN);
            let foreign = origin.is_some_and(|origin| !is_of(origin, host));
            return (foreign && *request.method() == Method::POST).then(|| {
                text(
                    StatusCode::FORBIDDEN,
                    "without a token, other pages ask for nothing here",
                )
            });
        };
        let given = request.headers().get(header::AUTHORIZATION).and_then(bearer);
        let may = is_open(request.uri().path()) || given.is_some_and(|given| token.is(given));
        (!may).then(|| {
            let mut answer = text(
                StatusCode::UNAUTHORIZED,
                "a token is needed: Authorization: Bearer TOKEN",
            );
            let challenge = HeaderValue::from_static("Bearer realm=\"ringmq\"");
            answer.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
            answer
        })
    }

    async fn route(&self, request: &Request<Incoming>) -> Answer {
        let reads = matches!(*request.method(), Method::GET | Method::HEAD);
        match request.uri().path() {
            "/" | "/metrics" | "/healthz" | "/readyz" if !reads => not_allowed("GET, HEAD"),
            "/" => self.page.answer(),
            "/metrics" => self.metrics(request).await,
            "/healthz" => self.health(),
            "/readyz" => self.readiness().await,
            path => match path.strip_prefix("/api/") {
                Some(path) => {
                    self.api(request.method(), path, request.uri().query().unwrap_or_default())
                        .await
                }
                None => text(StatusCode::NOT_FOUND, "there is nothing here"),
            },
        }
    }

    async fn metrics(&self, request: &Request<Incoming>) -> Answer {
        let accepted = request.headers().get_all(header::ACCEPT);
        let format = Format::among(accepted.iter().filter_map(|accepted| accepted.to_str().ok()));
        let numbers = self.shards.numbers().await;
        match metrics::encode(format, &self.admin.facts(), &self.reports, numbers) {
            Ok(encoded) => body(StatusCode::OK, format.content_type(), encoded),
            Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
        }
    }

    /// A process that fails this should be ended and started again.
    fn health(&self) -> Answer {
        let stuck = self.shards.stuck();
        if stuck.is_empty() {
            return text(StatusCode::OK, "alive");
        }
        let why = format!("not alive: no turn for long on shard {}", list(&stuck));
        text(StatusCode::SERVICE_UNAVAILABLE, &why)
    }

    /// A broker that fails this should be given no clients for now.
    async fn readiness(&self) -> Answer {
        if self.admin.is_stopping() {
            return text(StatusCode::SERVICE_UNAVAILABLE, "not ready: the broker stops");
        }
        let states = self.shards.numbers().await;
        let silent: Vec<ShardId> = (0..)
            .map(ShardId)
            .zip(&states)
            .filter(|(_, state)| !state.up)
            .map(|(id, _)| id)
            .collect();
        if silent.is_empty() {
            return text(StatusCode::OK, "ready");
        }
        let why = format!(
            "not ready: no answer within {} s from shard {}",
            shards::ANSWER_TIME.as_secs(),
            list(&silent)
        );
        text(StatusCode::SERVICE_UNAVAILABLE, &why)
    }
}

/// Tells nothing that a stranger should not know.
fn is_open(path: &str) -> bool {
    matches!(path, "/" | "/healthz" | "/readyz")
}

fn bearer(value: &HeaderValue) -> Option<&[u8]> {
    let (scheme, token) = value.as_bytes().split_at_checked(SCHEME.len())?;
    scheme.eq_ignore_ascii_case(SCHEME).then_some(token.trim_ascii())
}

/// `Host` with an address or `localhost`, and perhaps a port.
fn is_this_host(host: &HeaderValue) -> bool {
    let Ok(host) = host.to_str() else { return false };
    let name = match host.strip_prefix('[') {
        Some(bracketed) => bracketed.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok()
}

/// Whether a page of this listener asks.
fn is_of(origin: &HeaderValue, host: Option<&HeaderValue>) -> bool {
    let own = origin.as_bytes().strip_prefix(b"http://");
    own.is_some() && own == host.map(HeaderValue::as_bytes)
}

fn list(shards: &[ShardId]) -> String {
    let names: Vec<String> = shards.iter().map(ToString::to_string).collect();
    names.join(", ")
}

pub(super) fn not_allowed(allowed: &'static str) -> Answer {
    let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, &format!("allowed: {allowed}"));
    answer
        .headers_mut()
        .insert(header::ALLOW, HeaderValue::from_static(allowed));
    answer
}

/// One line for a person.
pub(super) fn text(status: StatusCode, line: &str) -> Answer {
    body(status, "text/plain; charset=utf-8", format!("{line}\n"))
}

pub(super) fn body(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Either::Left(Full::new(body.into())));
    *answer.status_mut() = status;
    answer
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer
}

const SCHEME: &[u8] = b"Bearer ";
/// Fetch's `Cross-Origin-Resource-Policy`.
const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_host_are_its_own() {
        for host in [
            "localhost",
            "LOCALHOST:9883",
            "127.0.0.1:9883",
            "[::1]:9883",
            "[::1]",
            "10.0.0.1",
        ] {
            assert!(is_this_host(&HeaderValue::from_static(host)), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "evil.example:9883",
            "127.0.0.1.evil.example",
            "localhost.",
            "[evil]:1",
        ] {
            assert!(!is_this_host(&HeaderValue::from_static(host)), "{host}");
        }
    }

    #[test]
    fn a_bearer_token_is_what_follows_the_scheme() {
        let token = |value: &'static str| bearer(&HeaderValue::from_static(value)).map(<[u8]>::to_vec);
        assert_eq!(token("Bearer abc"), Some(b"abc".to_vec()));
        assert_eq!(token("bearer  abc "), Some(b"abc".to_vec()));
        assert_eq!(token("Basic abc"), None);
        assert_eq!(token("Bear"), None);
    }
}
