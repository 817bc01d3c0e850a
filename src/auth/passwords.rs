//! The password file: one `USER:HASH` a line, as mosquitto_passwd writes it.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::path::Path;
use std::sync::Arc;

use ringmq_shard::error::AuthenticationError;
use ringmq_shard::shard::{Credentials, Verified};

use super::SecretError;
use super::method::Method;
use super::password::Password;

/// The users of a broker and their hashed passwords.
#[derive(Debug, Default)]
pub struct Passwords {
    /// In the order of the file.
    entries: Vec<Password>,
    by_user: HashMap<String, usize>,
    hasher: RandomState,
}

impl Passwords {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// The first line that cannot be used.
    pub fn read(path: &Path) -> Result<Passwords, SecretError> {
        Passwords::parse(path, &super::read(path)?)
    }

    fn parse(path: &Path, text: &str) -> Result<Passwords, SecretError> {
        let mut passwords = Passwords::default();
        let mut lines = HashMap::new();
        for (line, text) in text.lines().enumerate().map(|(at, text)| (at + 1, text.trim_end())) {
            if text.is_empty() || text.starts_with('#') {
                continue;
            }
            let (user, hash) = match text.split_once(':') {
                Some((user, hash)) if !user.is_empty() => (user, hash),
                _ => {
                    let path = path.to_owned();
                    return Err(SecretError::NotAnEntry { path, line });
                }
            };
            if let Some(first) = lines.insert(user, line) {
                return Err(SecretError::UserTwice {
                    path: path.to_owned(),
                    line,
                    user: user.to_owned(),
                    first,
                });
            }
            let password = hash.parse().map_err(|error| SecretError::Password {
                path: path.to_owned(),
                line,
                error,
            })?;
            passwords.by_user.insert(user.to_owned(), passwords.entries.len());
            passwords.entries.push(password);
        }
        Ok(passwords)
    }

    /// Whether this user has this password. Takes as long for a name that there is not as for one that there is.
    pub(crate) fn verify(&self, user: &str, password: Option<&[u8]>) -> bool {
        if self.entries.is_empty() {
            return false;
        }
        let entry = self.by_user.get(user).copied();
        // A name that there is not is verified against the entry of another, always of the same: with hashes of different cost
        // in the file, such names cost as much as those that there are, and each time the same.
        let stand_in = usize::try_from(self.hasher.hash_one(user) % self.entries.len() as u64);
        let at = entry.unwrap_or(stand_in.expect("less than a usize"));
        let matches = self.entries[at].verify(password.unwrap_or_default());
        matches && entry.is_some() && password.is_some()
    }

    /// Whether the file says anything about this user.
    fn knows(&self, user: &str) -> bool {
        self.by_user.contains_key(user)
    }

    /// How many users there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nobody can be verified.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

impl Method for Passwords {
    fn judge(&self, credentials: &Credentials) -> Option<Result<Verified, AuthenticationError>> {
        let user_name = &credentials.user_name;
        // First, so that it takes as long for a name that there is not.
        let matches = self.verify(user_name, credentials.password.as_deref());
        self.knows(user_name).then(|| {
            if matches {
                Ok(Arc::clone(user_name).into())
            } else {
                Err(AuthenticationError::BadCredentials)
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::super::password::Cost;
    use super::*;

    fn entry(password: &str) -> String {
        let iterations = NonZeroU32::MIN;
        Password::new(password.as_bytes(), Cost::Pbkdf2 { iterations })
            .unwrap()
            .to_string()
    }

    #[test]
    fn each_user_has_one_password() {
        let text = format!(
            "# people\nann:{}\n\nbob:{}\nnone:{}\n",
            entry("a"),
            entry("b"),
            entry("")
        );
        let passwords = Passwords::parse(Path::new("p"), &text).unwrap();
        assert_eq!(passwords.len(), 3);
        assert!(passwords.verify("ann", Some(b"a")) && passwords.verify("bob", Some(b"b")));
        assert!(!passwords.verify("ann", Some(b"b")) && !passwords.verify("ann", None));
        assert!(passwords.verify("none", Some(b"")));
        assert!(!passwords.verify("none", None), "no password is not an empty one");
        for user in ["", "Ann", "ann ", "carl", "# people"] {
            for password in [&b"a"[..], b"b", b""] {
                assert!(!passwords.verify(user, Some(password)), "{user}");
            }
        }
        assert!(!Passwords::default().verify("ann", Some(b"a")));
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        let hash = entry("a");
        for (text, expected) in [
            ("ann".to_owned(), "p:1: a line is USER:HASH"),
            (format!("\n:{hash}"), "p:2: a line is USER:HASH"),
            (
                format!("ann:{hash}\nann:{hash}"),
                "p:2: user ann has an entry in line 1 already",
            ),
            ("ann:secret".to_owned(), "p:1: not a password hash"),
            (format!("ann:{hash}:x"), "p:1: the hash is malformed"),
        ] {
            let error = Passwords::parse(Path::new("p"), &text).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}");
            assert!(!error.contains("secret"), "what may be a password is not told: {error}");
        }
    }
}
