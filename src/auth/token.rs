//! Tokens in files: one line of text, shared by those who may ask. The admin listener asks for one; the service of `--auth-http-url` is shown one.

use std::fmt;
use std::path::Path;

use ring::digest::{Digest, SHA256, digest};
use subtle::ConstantTimeEq;

use super::SecretError;

/// A bearer token (RFC 6750). Kept as a digest, so that it shows nowhere, and comparing takes as long whatever its length.
pub struct Token(Digest);

impl Token {
    /// Reads a file whose first line is the token.
    ///
    /// # Errors
    /// There is no such file, or what it holds could not stand in a header, or is too easily guessed.
    pub fn read(path: &Path) -> Result<Token, SecretError> {
        let token = read(path)?;
        Ok(Token(digest(&SHA256, token.as_bytes())))
    }

    /// Whether this is it.
    #[must_use]
    pub fn is(&self, token: &[u8]) -> bool {
        self.0.as_ref().ct_eq(digest(&SHA256, token).as_ref()).into()
    }
}

/// The token in a file's first line.
pub(super) fn read(path: &Path) -> Result<String, SecretError> {
    let text = std::fs::read_to_string(path).map_err(|source| SecretError::Unreadable {
        path: path.to_owned(),
        source,
    })?;
    let token = text.lines().next().unwrap_or_default().trim();
    let stands_in_header = token.bytes().all(|byte| byte.is_ascii_graphic());
    if token.len() < TOKEN_BYTES_MIN || !stands_in_header {
        return Err(SecretError::NotAToken { path: path.to_owned() });
    }
    Ok(token.to_owned())
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

/// 64 bits in hexadecimal: nobody guesses it over a network.
pub(super) const TOKEN_BYTES_MIN: usize = 16;
