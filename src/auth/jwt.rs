//! JSON Web Tokens (RFC 7519): the password is a token that somebody signed who may say who a client is.
//!
//! A token is verified with the one algorithm and key of the configuration, whatever its header says. Its claims give the user
//! name, until when the client may stay (`exp`, always), and, if it has one, its access control list (`acl`, lines of the file's
//! syntax).

use std::fs;
use std::path::Path;
use std::time::Duration;

use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header, get_current_timestamp};
use ringmq_shard::error::AuthenticationError;
use ringmq_shard::shard::{Credentials, UserName, Verified};
use serde_json::{Map, Value};
use thiserror::Error;
use tracing::debug;

use super::SecretError;
use super::jwt_crypto;
use super::method::Method;
use super::own_list::{OwnListError, own_list};
use crate::config::{JwtAlgorithm, JwtConfig};

/// Verifies tokens.
#[derive(Debug)]
pub struct Jwt {
    key: DecodingKey,
    validation: Validation,
    user_claim: String,
}

/// A key that cannot verify anything.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum JwtKeyError {
    /// Anybody could find it by trying.
    #[error("a secret has {SECRET_BYTES_MIN} bytes or more; in its file, the end of the last line does not count")]
    ShortSecret,
    /// Of this algorithm.
    #[error("not a public key in PEM for the algorithm of --jwt-algorithm")]
    NotAKey,
}

/// A token that is signed as it should be, and says too little or too much.
#[derive(Debug, Error)]
enum ClaimError {
    #[error("no user name in the claim")]
    NoUser,
    #[error("{0}")]
    List(#[from] OwnListError),
}

impl Jwt {
    /// Reads the key.
    ///
    /// # Errors
    /// The file cannot be read, or is no key for the algorithm.
    pub(super) fn read(config: &JwtConfig) -> Result<Jwt, SecretError> {
        let path: &Path = &config.key_file;
        let text = fs::read(path).map_err(|source| SecretError::Unreadable {
            path: path.to_owned(),
            source,
        })?;
        Jwt::new(config, &text).map_err(|error| SecretError::JwtKey {
            path: path.to_owned(),
            error,
        })
    }

    fn new(config: &JwtConfig, key: &[u8]) -> Result<Jwt, JwtKeyError> {
        jwt_crypto::install();
        let (algorithm, key) = match config.algorithm {
            JwtAlgorithm::Hs256 => {
                let secret = key.strip_suffix(b"\n").unwrap_or(key);
                let secret = secret.strip_suffix(b"\r").unwrap_or(secret);
                if secret.len() < SECRET_BYTES_MIN {
                    return Err(JwtKeyError::ShortSecret);
                }
                (Algorithm::HS256, DecodingKey::from_secret(secret))
            }
            JwtAlgorithm::Rs256 => (
                Algorithm::RS256,
                DecodingKey::from_rsa_pem(key).map_err(|_| JwtKeyError::NotAKey)?,
            ),
            JwtAlgorithm::Es256 => (
                Algorithm::ES256,
                DecodingKey::from_ec_pem(key).map_err(|_| JwtKeyError::NotAKey)?,
            ),
        };
        let mut validation = Validation::new(algorithm);
        let mut required = vec!["exp"];
        validation.validate_nbf = true;
        validation.leeway = LEEWAY_SECONDS;
        // What a token does not say is not what was asked for.
        if let Some(issuer) = &config.issuer {
            validation.set_issuer(&[issuer]);
            required.push("iss");
        }
        if let Some(audience) = &config.audience {
            validation.set_audience(&[audience]);
            required.push("aud");
        }
        validation.set_required_spec_claims(&required);
        Ok(Jwt {
            key,
            validation,
            user_claim: config.user_claim.clone(),
        })
    }

    fn verify(&self, token: &[u8]) -> Result<Verified, AuthenticationError> {
        let told = |error: &dyn std::fmt::Display| {
            debug!(%error, "a token is not accepted");
            AuthenticationError::BadCredentials
        };
        let token = decode::<Map<String, Value>>(token, &self.key, &self.validation).map_err(|error| told(&error))?;
        self.claims(&token.claims).map_err(|error| told(&error))
    }

    fn claims(&self, claims: &Map<String, Value>) -> Result<Verified, ClaimError> {
        let user_name = claims.get(&self.user_claim).and_then(Value::as_str);
        // As in CONNECT: no U+0000 [MQTT-1.5.3-2].
        let user_name = user_name.filter(|name| !name.is_empty() && !name.contains('\0'));
        let expires_at = claims.get("exp").and_then(Value::as_f64).unwrap_or_default();
        let stays = expires_at + LEEWAY_SECONDS as f64 - get_current_timestamp() as f64;
        Ok(Verified {
            user_name: UserName::from(user_name.ok_or(ClaimError::NoUser)?),
            acl: claims.get("acl").map(own_list).transpose()?,
            // Later than anybody waits is never.
            expires_in: Duration::try_from_secs_f64(stays.max(0.0)).ok(),
        })
    }
}

impl Method for Jwt {
    /// Nothing about passwords that are no tokens. The user name of CONNECT is not looked at: the token's counts.
    fn judge(&self, credentials: &Credentials) -> Option<Result<Verified, AuthenticationError>> {
        let token = credentials.password.as_deref()?;
        decode_header(token).ok()?;
        Some(self.verify(token))
    }
}

/// As long as what the hash gives (RFC 7518, section 3.2).
const SECRET_BYTES_MIN: usize = 32;
/// How far the clocks of issuer and broker may lie apart.
const LEEWAY_SECONDS: u64 = 30;

#[cfg(test)]
mod tests;
