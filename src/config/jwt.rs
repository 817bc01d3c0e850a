//! JSON Web Tokens, as the operator wants them.

use std::path::PathBuf;

use clap::ValueEnum;

use super::ConfigError;
use super::args::Args;

/// How tokens are verified, and what in them counts.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct JwtConfig {
    /// The secret, or the public key in PEM.
    pub key_file: PathBuf,
    /// The only one that is taken, whatever a token says of itself.
    pub algorithm: JwtAlgorithm,
    /// The claim that is the user name.
    pub user_claim: String,
    /// Who must have issued it; `None`: whoever has the key.
    pub issuer: Option<String>,
    /// For whom it must be; `None`: it must not say for whom.
    pub audience: Option<String>,
}

/// `--jwt-algorithm` (RFC 7518, section 3.1).
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum JwtAlgorithm {
    /// HMAC with SHA-256: issuer and broker share a secret.
    #[value(name = "HS256")]
    Hs256,
    /// RSA signatures with SHA-256.
    #[value(name = "RS256")]
    Rs256,
    /// ECDSA signatures with P-256 and SHA-256.
    #[value(name = "ES256")]
    Es256,
}

impl JwtConfig {
    /// `None`: tokens are passwords like any others.
    pub(super) fn from_args(args: &Args) -> Result<Option<JwtConfig>, ConfigError> {
        let needs = |flag, other| Err(ConfigError::NeedsOther { flag, other });
        let (key_file, algorithm) = match (&args.jwt_key_file, args.jwt_algorithm) {
            (Some(key_file), Some(algorithm)) => (key_file.clone(), algorithm),
            (Some(_), None) => return needs("--jwt-key-file", "--jwt-algorithm"),
            (None, Some(_)) => return needs("--jwt-algorithm", "--jwt-key-file"),
            (None, None) if args.jwt_issuer.is_some() => return needs("--jwt-issuer", "--jwt-key-file"),
            (None, None) if args.jwt_audience.is_some() => return needs("--jwt-audience", "--jwt-key-file"),
            (None, None) => return Ok(None),
        };
        Ok(Some(JwtConfig {
            key_file,
            algorithm,
            user_claim: args.jwt_user_claim.clone(),
            issuer: args.jwt_issuer.clone(),
            audience: args.jwt_audience.clone(),
        }))
    }
}
