//! One hashed password, in the two forms that the password file has.
//!
//! ```text
//! $7$ITERATIONS$SALT$HASH                        PBKDF2 with HMAC-SHA-512, as mosquitto_passwd writes it; base64 with padding
//! $argon2id$v=19$m=KIB,t=PASSES,p=LANES$SALT$HASH    Argon2id (RFC 9106) in the PHC string format; base64 without padding
//! ```

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

use argon2::{Algorithm, Argon2, Params, Version};
use base64ct::{Base64, Base64Unpadded, Encoding};
use ring::pbkdf2::{self, PBKDF2_HMAC_SHA512};
use ring::rand::{SecureRandom, SystemRandom};
use subtle::ConstantTimeEq;
use thiserror::Error;

/// What is kept of a password.
#[derive(Clone, Eq, PartialEq)]
pub(super) struct Password {
    cost: Cost,
    salt: Box<[u8]>,
    hash: Box<[u8]>,
}

/// How it is hashed: all that decides how long a verification takes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Cost {
    Pbkdf2 { iterations: NonZeroU32 },
    Argon2id { memory_kib: u32, passes: u32, lanes: u32 },
}

/// An entry that is no password hash, or one that would cost too much to verify.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum PasswordError {
    /// Another scheme, or a password in plain text.
    #[error("not a password hash that is accepted here ($7$ or $argon2id$): make it anew with ringmq passwd")]
    Scheme,
    /// A field is missing, or is not what it should be.
    #[error("the hash is malformed: {0}")]
    Malformed(&'static str),
    /// Whoever wrote the file could stop the broker with it.
    #[error("{what} is {got}, and at most {most} is accepted")]
    TooCostly {
        /// Which parameter.
        what: &'static str,
        /// As written.
        got: u32,
        /// Accepted.
        most: u32,
    },
    /// The system gave no randomness for a salt.
    #[error("the system has no randomness")]
    NoRandomness,
}

impl Password {
    /// Hashes a password with a fresh salt.
    pub(super) fn new(password: &[u8], cost: Cost) -> Result<Password, PasswordError> {
        let (salt_bytes, hash_bytes) = match cost {
            Cost::Pbkdf2 { .. } => (PBKDF2_SALT_BYTES, PBKDF2_HASH_BYTES),
            Cost::Argon2id { .. } => (ARGON2_SALT_BYTES, ARGON2_HASH_BYTES),
        };
        let mut salt = vec![0; salt_bytes];
        SystemRandom::new()
            .fill(&mut salt)
            .map_err(|_| PasswordError::NoRandomness)?;
        let mut hash = vec![0; hash_bytes];
        cost.hash(password, &salt, &mut hash)?;
        Ok(Password {
            cost,
            salt: salt.into(),
            hash: hash.into(),
        })
    }

    /// Whether this is the password. Takes as long for a wrong one as for the right one.
    pub(super) fn verify(&self, password: &[u8]) -> bool {
        let mut hash = vec![0; self.hash.len()];
        // What cannot be computed was refused when the entry was read.
        self.cost.hash(password, &self.salt, &mut hash).is_ok() && bool::from(hash.ct_eq(&self.hash))
    }
}

impl Cost {
    /// What `ringmq passwd` takes unless it is told otherwise: RFC 9106 as OWASP recommends it for logins.
    pub(super) const DEFAULT: Cost = Cost::Argon2id {
        memory_kib: 19 * 1024,
        passes: 2,
        lanes: 1,
    };
    /// For a file that Mosquitto reads too. OWASP's number for this hash.
    pub(super) const MOSQUITTO: Cost = Cost::Pbkdf2 {
        iterations: NonZeroU32::new(210_000).expect("not 0"),
    };

    fn hash(self, password: &[u8], salt: &[u8], hash: &mut [u8]) -> Result<(), PasswordError> {
        match self {
            Cost::Pbkdf2 { iterations } => {
                pbkdf2::derive(PBKDF2_HMAC_SHA512, iterations, salt, password, hash);
                Ok(())
            }
            Cost::Argon2id {
                memory_kib,
                passes,
                lanes,
            } => {
                let params = Params::new(memory_kib, passes, lanes, Some(hash.len()))
                    .map_err(|_| PasswordError::Malformed("parameters"))?;
                Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
                    .hash_password_into(password, salt, hash)
                    .map_err(|_| PasswordError::Malformed("salt or length"))
            }
        }
    }

    /// What one verification may cost is bounded: memory and time of the broker are worth more than any entry.
    fn check(self) -> Result<Cost, PasswordError> {
        let bounded = |what, got, most| {
            if got > most {
                return Err(PasswordError::TooCostly { what, got, most });
            }
            Ok(())
        };
        match self {
            Cost::Pbkdf2 { iterations } => bounded("the number of iterations", iterations.get(), ITERATIONS_MAX)?,
            Cost::Argon2id {
                memory_kib,
                passes,
                lanes,
            } => {
                bounded("m, the memory in KiB,", memory_kib, MEMORY_KIB_MAX)?;
                bounded("t, the number of passes,", passes, PASSES_MAX)?;
                bounded("p, the number of lanes,", lanes, LANES_MAX)?;
                Params::new(memory_kib, passes, lanes, None).map_err(|_| PasswordError::Malformed("parameters"))?;
            }
        }
        Ok(self)
    }
}

impl FromStr for Password {
    type Err = PasswordError;

    fn from_str(text: &str) -> Result<Password, PasswordError> {
        let fields: Vec<&str> = text.split('$').collect();
        let (cost, salt, hash) = match fields[..] {
            ["", "7", iterations, salt, hash] => {
                let iterations = iterations.parse().map_err(|_| PasswordError::Malformed("iterations"))?;
                let salt = Base64::decode_vec(salt).map_err(|_| PasswordError::Malformed("salt"))?;
                let hash = Base64::decode_vec(hash).map_err(|_| PasswordError::Malformed("hash"))?;
                (Cost::Pbkdf2 { iterations }, salt, hash)
            }
            ["", "argon2id", "v=19", params, salt, hash] => {
                let salt = Base64Unpadded::decode_vec(salt).map_err(|_| PasswordError::Malformed("salt"))?;
                let hash = Base64Unpadded::decode_vec(hash).map_err(|_| PasswordError::Malformed("hash"))?;
                (argon2id_params(params)?, salt, hash)
            }
            ["", "7" | "argon2id", ..] => return Err(PasswordError::Malformed("number of fields, or version")),
            _ => return Err(PasswordError::Scheme),
        };
        let cost = cost.check()?;
        if !SALT_RANGE.contains(&salt.len()) {
            return Err(PasswordError::Malformed("length of the salt"));
        }
        // A short hash would be easy to guess, an empty one would match everything.
        if !HASH_RANGE.contains(&hash.len()) {
            return Err(PasswordError::Malformed("length of the hash"));
        }
        Ok(Password {
            cost,
            salt: salt.into(),
            hash: hash.into(),
        })
    }
}

fn argon2id_params(text: &str) -> Result<Cost, PasswordError> {
    let mut values = [0_u32; 3];
    let mut fields = text.split(',');
    for (value, name) in values.iter_mut().zip(["m=", "t=", "p="]) {
        let field = fields.next().and_then(|field| field.strip_prefix(name));
        let parsed = field.and_then(|field| field.parse().ok());
        *value = parsed.ok_or(PasswordError::Malformed("parameters"))?;
    }
    if fields.next().is_some() {
        return Err(PasswordError::Malformed("parameters"));
    }
    let [memory_kib, passes, lanes] = values;
    Ok(Cost::Argon2id {
        memory_kib,
        passes,
        lanes,
    })
}

impl fmt::Display for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.cost {
            Cost::Pbkdf2 { iterations } => {
                let (salt, hash) = (Base64::encode_string(&self.salt), Base64::encode_string(&self.hash));
                write!(f, "$7${iterations}${salt}${hash}")
            }
            Cost::Argon2id {
                memory_kib,
                passes,
                lanes,
            } => {
                let salt = Base64Unpadded::encode_string(&self.salt);
                let hash = Base64Unpadded::encode_string(&self.hash);
                write!(f, "$argon2id$v=19$m={memory_kib},t={passes},p={lanes}${salt}${hash}")
            }
        }
    }
}

impl fmt::Debug for Password {
    /// Without salt and hash: it must not get into a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Password")
            .field("cost", &self.cost)
            .finish_non_exhaustive()
    }
}

/// RFC 9106 recommends 16.
const ARGON2_SALT_BYTES: usize = 16;
/// As Mosquitto writes it; 2.0.11 reads no other length.
const PBKDF2_SALT_BYTES: usize = 12;
const SALT_RANGE: std::ops::RangeInclusive<usize> = 8..=64;
/// As Mosquitto writes and expects it.
const PBKDF2_HASH_BYTES: usize = 64;
const ARGON2_HASH_BYTES: usize = 32;
/// 128 bits, the least that guessing cannot find, to the longest that either format has in use.
const HASH_RANGE: std::ops::RangeInclusive<usize> = 16..=128;
/// A few seconds.
const ITERATIONS_MAX: u32 = 10_000_000;
/// Per thread that verifies.
const MEMORY_KIB_MAX: u32 = 256 * 1024;
const PASSES_MAX: u32 = 64;
const LANES_MAX: u32 = 16;

#[cfg(test)]
mod tests {
    use super::*;

    /// Written by mosquitto_passwd 2.0.11 for `secret`.
    const MOSQUITTO_SECRET: &str = "$7$101$K4O5OTQi7atn9Ws2$FUKx59ytHBi4GHdyx70BnIihUrz2a57qwT8GyLEadzCnzAXinMlltpX6nc4c3vU039y6GA/+ZBFaSq/+PHpF1w==";
    /// Written by the argon2 tool of the reference implementation for `password`, salt `somesalt`.
    const REFERENCE: &str = "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc";

    #[test]
    fn entries_that_others_wrote_verify() {
        for (entry, password) in [(MOSQUITTO_SECRET, "secret"), (REFERENCE, "password")] {
            let entry: Password = entry.parse().unwrap();
            assert!(entry.verify(password.as_bytes()));
            for wrong in ["", "Secret", "secret ", "passwor", "password\0"] {
                assert!(!entry.verify(wrong.as_bytes()), "{wrong}");
            }
        }
    }

    #[test]
    fn what_is_made_reads_back_and_verifies() {
        let cheap = Cost::Argon2id {
            memory_kib: 64,
            passes: 1,
            lanes: 1,
        };
        let iterations = NonZeroU32::new(101).unwrap();
        for cost in [cheap, Cost::Pbkdf2 { iterations }] {
            let made = Password::new("päss wörd".as_bytes(), cost).unwrap();
            let read: Password = made.to_string().parse().unwrap();
            assert!(read == made && read.verify("päss wörd".as_bytes()) && !read.verify(b"other"));
            let again = Password::new("päss wörd".as_bytes(), cost).unwrap();
            assert!(again != made, "the salt is fresh");
            assert!(!format!("{made:?}").contains(&made.to_string()[20..]), "{made:?}");
        }
    }

    #[test]
    fn what_is_no_hash_is_refused() {
        let argon = |rest: &str| format!("$argon2id$v=19${rest}");
        for entry in [
            "secret".to_owned(),
            String::new(),
            "$6$c2FsdHNhbHQ=$aGFzaA==".to_owned(),
            "$argon2i$v=19$m=64,t=1,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc".to_owned(),
            REFERENCE.replace("v=19", "v=16"),
            argon("m=64,t=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc"),
            argon("m=64,t=0,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc"),
            argon("m=64,t=1,p=1$c29tZXNhbHQ$"),
            argon("m=64,t=1,p=1$$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc"),
            MOSQUITTO_SECRET.replace("$101$", "$0$"),
            MOSQUITTO_SECRET.replace("$101$", "$-1$"),
            MOSQUITTO_SECRET[..MOSQUITTO_SECRET.len() - 3].to_owned(),
            format!("{MOSQUITTO_SECRET}$x"),
            "$7$101$c29tZXNhbHQ=$".to_owned(),
        ] {
            assert!(entry.parse::<Password>().is_err(), "{entry}");
        }
        for entry in [
            REFERENCE.replace("m=65536", "m=4000000"),
            REFERENCE.replace("t=2", "t=1000"),
            MOSQUITTO_SECRET.replace("$101$", "$4000000000$"),
        ] {
            let error = entry.parse::<Password>().unwrap_err();
            assert!(matches!(error, PasswordError::TooCostly { .. }), "{entry}: {error}");
        }
    }
}
