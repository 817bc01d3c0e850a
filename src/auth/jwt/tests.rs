use base64ct::{Base64UrlUnpadded, Encoding};
use ring::hmac;
use serde_json::json;

use super::*;

const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";

fn config(algorithm: JwtAlgorithm) -> JwtConfig {
    JwtConfig {
        key_file: "k".into(),
        algorithm,
        user_claim: "sub".to_owned(),
        issuer: None,
        audience: None,
    }
}

fn signed(header: &Value, claims: &Value, secret: &[u8]) -> String {
    let part = |value: &Value| Base64UrlUnpadded::encode_string(value.to_string().as_bytes());
    let message = format!("{}.{}", part(header), part(claims));
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), message.as_bytes());
    format!("{message}.{}", Base64UrlUnpadded::encode_string(tag.as_ref()))
}

fn token(claims: &Value) -> String {
    signed(&json!({"alg": "HS256", "typ": "JWT"}), claims, SECRET)
}

fn in_seconds(seconds: i64) -> i64 {
    i64::try_from(get_current_timestamp()).unwrap() + seconds
}

fn judge(jwt: &Jwt, password: &str) -> Option<Result<Verified, AuthenticationError>> {
    jwt.judge(&Credentials {
        client_id: "id".into(),
        user_name: "whoever".into(),
        password: Some(password.as_bytes().into()),
    })
}

#[test]
fn claims_say_who_it_is_and_for_how_long() {
    let jwt = Jwt::new(&config(JwtAlgorithm::Hs256), SECRET).unwrap();
    let verified = judge(&jwt, &token(&json!({"sub": "ann", "exp": in_seconds(100)})));
    let verified = verified.unwrap().unwrap();
    assert_eq!(&*verified.user_name, "ann");
    assert!(verified.acl.is_none());
    let stays = verified.expires_in.unwrap().as_secs();
    assert!((125..=130).contains(&stays), "{stays}");
    let other = JwtConfig {
        user_claim: "user".to_owned(),
        ..config(JwtAlgorithm::Hs256)
    };
    let jwt = Jwt::new(&other, SECRET).unwrap();
    let claims =
        json!({"sub": "ann", "user": "bob", "exp": in_seconds(9), "acl": ["topic read a/#", "pattern write b/%u"]});
    let verified = judge(&jwt, &token(&claims)).unwrap().unwrap();
    assert_eq!(&*verified.user_name, "bob");
    assert!(verified.acl.is_some());
}

#[test]
fn what_is_wrong_in_a_token_refuses_it() {
    let strict = JwtConfig {
        issuer: Some("us".to_owned()),
        audience: Some("mqtt".to_owned()),
        ..config(JwtAlgorithm::Hs256)
    };
    let (open, strict) = (
        Jwt::new(&config(JwtAlgorithm::Hs256), SECRET).unwrap(),
        Jwt::new(&strict, SECRET).unwrap(),
    );
    let exp = in_seconds(100);
    let many: Vec<_> = (0..1_001).map(|n| format!("topic t/{n}")).collect();
    for (jwt, claims, right) in [
        (&open, json!({"sub": "ann", "exp": exp}), true),
        (&open, json!({"sub": "ann", "exp": in_seconds(-10)}), true),
        (&open, json!({"sub": "ann", "exp": in_seconds(-100)}), false),
        (&open, json!({"sub": "ann", "exp": u64::MAX}), true),
        (&open, json!({"sub": "ann", "exp": "soon"}), false),
        (&open, json!({"sub": "ann", "exp": null}), false),
        (&open, json!({"sub": "ann"}), false),
        (&open, json!({"sub": "ann", "exp": exp, "nbf": in_seconds(-1)}), true),
        (&open, json!({"sub": "ann", "exp": exp, "nbf": in_seconds(100)}), false),
        (&open, json!({"sub": "ann", "exp": exp, "nbf": "later"}), false),
        (&open, json!({"exp": exp}), false),
        (&open, json!({"sub": "", "exp": exp}), false),
        (&open, json!({"sub": 7, "exp": exp}), false),
        (&open, json!({"sub": "a\0b", "exp": exp}), false),
        // For somebody else, and it is not known who the broker is.
        (&open, json!({"sub": "ann", "exp": exp, "aud": "mqtt"}), false),
        (
            &strict,
            json!({"sub": "ann", "exp": exp, "aud": "mqtt", "iss": "us"}),
            true,
        ),
        (
            &strict,
            json!({"sub": "ann", "exp": exp, "aud": ["x", "mqtt"], "iss": "us"}),
            true,
        ),
        (
            &strict,
            json!({"sub": "ann", "exp": exp, "aud": "x", "iss": "us"}),
            false,
        ),
        (
            &strict,
            json!({"sub": "ann", "exp": exp, "aud": "mqtt", "iss": "them"}),
            false,
        ),
        (&strict, json!({"sub": "ann", "exp": exp, "aud": "mqtt"}), false),
        (&strict, json!({"sub": "ann", "exp": exp, "iss": "us"}), false),
        (&open, json!({"sub": "ann", "exp": exp, "acl": []}), true),
        (&open, json!({"sub": "ann", "exp": exp, "acl": "topic a"}), false),
        (&open, json!({"sub": "ann", "exp": exp, "acl": ["topic a", 1]}), false),
        (&open, json!({"sub": "ann", "exp": exp, "acl": ["user root"]}), false),
        (&open, json!({"sub": "ann", "exp": exp, "acl": ["topic a#"]}), false),
        (&open, json!({"sub": "ann", "exp": exp, "acl": many}), false),
        (&open, json!(["ann"]), false),
    ] {
        let verdict = judge(jwt, &token(&claims)).expect("a token");
        assert_eq!(verdict.is_ok(), right, "{claims}: {verdict:?}");
        if !right {
            assert_eq!(verdict.unwrap_err(), AuthenticationError::BadCredentials);
        }
    }
}

/// The algorithm is the operator's choice, and a signature is looked at.
#[test]
fn tokens_that_choose_their_own_algorithm_or_key_are_refused() {
    let claims = json!({"sub": "root", "exp": in_seconds(100)});
    let jwt = Jwt::new(&config(JwtAlgorithm::Hs256), SECRET).unwrap();
    let good = token(&claims);
    assert!(judge(&jwt, &good).unwrap().is_ok());
    let (message, signature) = good.rsplit_once('.').unwrap();
    let tampered = format!("{}A", &signature[..signature.len() - 1]);
    for password in [
        signed(&json!({"alg": "HS512"}), &claims, SECRET),
        signed(&json!({"alg": "HS256"}), &claims, b"another secret of thirty-two bytes"),
        format!("{message}."),
        format!("{message}.{tampered}x"),
    ] {
        assert!(judge(&jwt, &password).unwrap().is_err(), "{password}");
    }
    // No token at all, as far as anybody can say: another method may know the password.
    let none = format!(
        "{}.{}.",
        Base64UrlUnpadded::encode_string(br#"{"alg":"none"}"#),
        Base64UrlUnpadded::encode_string(claims.to_string().as_bytes())
    );
    for password in ["", "secret", "a.b.c", "..", &none] {
        assert!(judge(&jwt, password).is_none(), "{password}");
    }
    // A public key is known to all, so it must not do as the secret of an HMAC.
    let pair = rcgen::KeyPair::generate().unwrap();
    let pem = pair.public_key_pem();
    let jwt = Jwt::new(&config(JwtAlgorithm::Es256), pem.as_bytes()).unwrap();
    let forged = signed(&json!({"alg": "HS256"}), &claims, pem.as_bytes());
    assert!(judge(&jwt, &forged).unwrap().is_err());
    let raw = signed(&json!({"alg": "ES256"}), &claims, pair.public_key_raw());
    assert!(judge(&jwt, &raw).unwrap().is_err());
}

#[test]
fn keys_that_are_none_are_told() {
    let pem = rcgen::KeyPair::generate().unwrap().public_key_pem();
    for (algorithm, key, expected) in [
        (JwtAlgorithm::Hs256, &b"short"[..], JwtKeyError::ShortSecret),
        (
            JwtAlgorithm::Hs256,
            b"0123456789abcdef0123456789abcde\r\n",
            JwtKeyError::ShortSecret,
        ),
        (JwtAlgorithm::Es256, SECRET, JwtKeyError::NotAKey),
        (JwtAlgorithm::Rs256, SECRET, JwtKeyError::NotAKey),
        (JwtAlgorithm::Rs256, pem.as_bytes(), JwtKeyError::NotAKey),
        (JwtAlgorithm::Es256, b"", JwtKeyError::NotAKey),
    ] {
        assert_eq!(Jwt::new(&config(algorithm), key).unwrap_err(), expected);
    }
    assert!(Jwt::new(&config(JwtAlgorithm::Hs256), &[SECRET, b"\n"].concat()).is_ok());
}
