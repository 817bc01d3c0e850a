//! What the service says about a client: JSON, of which only what is named here counts.
//!
//! Anything that is not as it should be makes the whole answer none: a list that was misread could open what it should close.

use std::time::Duration;

use ringmq_shard::shard::{UserName, Verified};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use thiserror::Error;

use crate::auth::own_list::{OwnListError, own_list};

/// An answer that does not count. Says nothing of what stands in it: that may be the client's password.
#[derive(Debug, Error)]
pub(in crate::auth) enum AnswerError {
    #[error("not the JSON that is asked for, at line {line}, column {column}", line = .0.line(), column = .0.column())]
    NotJson(#[from] serde_json::Error),
    #[error("not an object of JSON")]
    NotAnObject,
    #[error("allow is neither true nor false")]
    NoAllow,
    #[error("user_name is no text of 1 to {USER_NAME_BYTES_MAX} bytes without U+0000")]
    NoUserName,
    #[error("CONNECT has an empty user name, and the answer has no other")]
    EmptyUserName,
    #[error("{0}")]
    List(#[from] OwnListError),
    #[error("expires_in is not a number of seconds, 0 or more")]
    NoTime,
}

/// As it comes. A field that is `null` is there, and wrong: a program that has no list and one that has an empty list may write the same.
#[derive(Deserialize)]
struct Answer {
    allow: Value,
    #[serde(default, deserialize_with = "given")]
    user_name: Option<Value>,
    #[serde(default, deserialize_with = "given")]
    acl: Option<Value>,
    #[serde(default, deserialize_with = "given")]
    expires_in: Option<Value>,
}

fn given<'de, D: Deserializer<'de>>(value: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(value).map(Some)
}

/// Who the client is that says it is `user_name`; `None`: it may not come in, and the rest of the answer is not looked at.
///
/// # Errors
/// The answer is none.
pub(super) fn parse(body: &[u8], user_name: &UserName) -> Result<Option<Verified>, AnswerError> {
    // An array would be taken for the fields in their order.
    if !body.trim_ascii_start().starts_with(b"{") {
        return Err(AnswerError::NotAnObject);
    }
    let answer: Answer = serde_json::from_slice(body)?;
    if !answer.allow.as_bool().ok_or(AnswerError::NoAllow)? {
        return Ok(None);
    }
    let user_name = match &answer.user_name {
        None if user_name.is_empty() => return Err(AnswerError::EmptyUserName),
        None => UserName::clone(user_name),
        Some(name) => {
            let name = name.as_str().ok_or(AnswerError::NoUserName)?;
            // As in CONNECT [MQTT-1.5.3-2].
            if name.is_empty() || name.len() > USER_NAME_BYTES_MAX || name.contains('\0') {
                return Err(AnswerError::NoUserName);
            }
            name.into()
        }
    };
    Ok(Some(Verified {
        user_name,
        acl: answer.acl.as_ref().map(own_list).transpose()?,
        expires_in: match &answer.expires_in {
            None => None,
            Some(time) => {
                let seconds = time.as_f64().filter(|seconds| *seconds >= 0.0);
                // Later than anybody waits is never.
                Duration::try_from_secs_f64(seconds.ok_or(AnswerError::NoTime)?).ok()
            }
        },
    }))
}

/// What a length of two bytes says at most (section 1.5.3).
const USER_NAME_BYTES_MAX: usize = 65_535;

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(body: &str) -> Result<Option<Verified>, AnswerError> {
        parse(body.as_bytes(), &"ann".into())
    }

    #[test]
    fn an_answer_says_who_it_is_and_for_how_long() {
        let verified = judged(r#"{"allow": true}"#).unwrap().unwrap();
        assert_eq!(verified, UserName::from("ann").into());
        let verified = judged(
            r#"{"allow": true, "user_name": "bob", "acl": ["topic read a/#", "pattern write b/%u"], "expires_in": 90, "more": [1]}"#,
        );
        let verified = verified.unwrap().unwrap();
        assert_eq!((&*verified.user_name, verified.acl.is_some()), ("bob", true));
        assert_eq!(verified.expires_in, Some(Duration::from_secs(90)));
        for (time, expected) in [("0", Some(0)), ("1.5", Some(1_500)), ("1e300", None)] {
            let verified = judged(&format!("{{\"allow\": true, \"expires_in\": {time}}}"));
            let expires_in = verified.unwrap().unwrap().expires_in;
            assert_eq!(expires_in, expected.map(Duration::from_millis), "{time}");
        }
        // Whoever does not come in has no need of the rest.
        assert!(judged(r#"{"allow": false}"#).unwrap().is_none());
        assert!(judged(r#"{"allow": false, "acl": 1}"#).unwrap().is_none());
    }

    #[test]
    fn what_is_wrong_in_an_answer_makes_it_none() {
        let many: Vec<_> = (0..1_001).map(|n| format!("\"topic t/{n}\"")).collect();
        let many = format!(r#"{{"allow": true, "acl": [{}]}}"#, many.join(","));
        let long = format!(r#"{{"allow": true, "user_name": "{}"}}"#, "x".repeat(65_536));
        for (body, expected) in [
            ("", "not an object"),
            ("secret", "not an object"),
            (r#""secret""#, "not an object"),
            (r#"{"allow": true} more"#, "line 1, column 17"),
            (r#"{"allow": true"#, "not the JSON"),
            ("[true]", "not an object"),
            ("null", "not an object"),
            ("true", "not an object"),
            ("{}", "not the JSON"),
            (r#"{"Allow": true}"#, "not the JSON"),
            (r#"{"allow": true, "allow": true}"#, "not the JSON"),
            (r#"{"allow": "secret"}"#, "allow is neither"),
            (r#"{"allow": null}"#, "allow is neither"),
            (r#"{"allow": 1}"#, "allow is neither"),
            (r#"{"allow": true, "user_name": ""}"#, "user_name"),
            (r#"{"allow": true, "user_name": null}"#, "user_name"),
            (r#"{"allow": true, "user_name": 7}"#, "user_name"),
            (r#"{"allow": true, "user_name": "a\u0000b"}"#, "user_name"),
            (r#"{"allow": true, "user_name": "a\ud800b"}"#, "not the JSON"),
            (&long, "user_name"),
            (r#"{"allow": true, "acl": "topic a"}"#, "not a list"),
            (r#"{"allow": true, "acl": null}"#, "not a list"),
            (r#"{"allow": true, "acl": ["topic a", 1]}"#, "not a list"),
            (r#"{"allow": true, "acl": ["topic a", "user secret"]}"#, "line 2 of acl"),
            (r#"{"allow": true, "acl": ["topic secret#"]}"#, "line 1 of acl"),
            (&many, "more than 1000 lines"),
            (r#"{"allow": true, "expires_in": -1}"#, "expires_in"),
            (r#"{"allow": true, "expires_in": "60"}"#, "expires_in"),
            (r#"{"allow": true, "expires_in": null}"#, "expires_in"),
        ] {
            let error = judged(body).expect_err(body).to_string();
            assert!(error.contains(expected), "{body}: {error}");
            assert!(!error.contains("secret"), "{error}");
        }
        assert!(parse(b"{\"allow\": true, \"user_name\": \"\xff\"}", &"ann".into()).is_err());
        assert!(matches!(
            parse(b"{\"allow\": true}", &"".into()),
            Err(AnswerError::EmptyUserName)
        ));
        assert!(parse(b"{\"allow\": true, \"user_name\": \"x\"}", &"".into()).is_ok());
    }
}
