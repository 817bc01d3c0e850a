//! The status page: one HTML file without anything from elsewhere, which polls the API.
//!
//! It holds no numbers, so it needs no token; it asks for one. Its policy allows the style and the script that are in it, by their
//! digests, and requests to where it came from; whatever a client calls itself, a browser runs nothing of it.

use base64ct::{Base64, Encoding};
use hyper::StatusCode;
use hyper::header::{self, HeaderValue};
use ring::digest::{SHA256, digest};

use super::routes::{Answer, body};

/// The page, with what a browser must know to trust nothing else.
#[derive(Debug)]
pub(super) struct Page {
    policy: HeaderValue,
}

impl Page {
    pub(super) fn new() -> Page {
        let digest_of = |tag: &str| {
            let text = between(HTML, &format!("<{tag}>"), &format!("</{tag}>"));
            Base64::encode_string(digest(&SHA256, text.as_bytes()).as_ref())
        };
        let policy = format!(
            "default-src 'none'; style-src 'sha256-{}'; script-src 'sha256-{}'; connect-src 'self'; base-uri 'none'; \
             form-action 'none'; frame-ancestors 'none'",
            digest_of("style"),
            digest_of("script"),
        );
        Page {
            policy: HeaderValue::from_str(&policy).expect("visible ASCII"),
        }
    }

    pub(super) fn answer(&self) -> Answer {
        let mut answer = body(StatusCode::OK, "text/html; charset=utf-8", HTML);
        answer
            .headers_mut()
            .insert(header::CONTENT_SECURITY_POLICY, self.policy.clone());
        answer
            .headers_mut()
            .insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        answer
    }
}

fn between<'a>(text: &'a str, begin: &str, end: &str) -> &'a str {
    let (_, rest) = text.split_once(begin).expect("the page has it");
    rest.split_once(end).expect("and ends it").0
}

const HTML: &str = include_str!("page.html");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_comes_from_elsewhere_and_nothing_a_client_wrote_is_markup() {
        for sign in [
            "http:",
            "https:",
            "src=",
            "href=",
            "innerHTML",
            "outerHTML",
            "insertAdjacent",
            "eval(",
            " style=",
            "onclick",
        ] {
            assert!(!HTML.contains(sign), "{sign}");
        }
        let page = Page::new().answer();
        let policy = page.headers()[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
        assert!(policy.starts_with("default-src 'none'; style-src 'sha256-"), "{policy}");
        assert!(!policy.contains("unsafe"), "{policy}");
    }
}
