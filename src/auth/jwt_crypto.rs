//! What `jsonwebtoken` needs to verify signatures, by ring, which is here anyway: its own choices are another library with a C
//! compiler's work, or thirty more crates.

use jsonwebtoken::crypto::{CryptoProvider, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::{ErrorKind, Result};
use jsonwebtoken::signature::{Error as SignatureError, Verifier};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey};
use ring::{hmac, signature};

/// Has `jsonwebtoken` use ring, in the whole process. Again is no harm.
pub(super) fn install() {
    // It fails if there is one, which can only be this one.
    let _ = RING.install_default();
}

static RING: CryptoProvider = CryptoProvider {
    // The broker signs nothing.
    signer_factory: |_, _| Err(ErrorKind::InvalidAlgorithm.into()),
    verifier_factory: |algorithm, key| Ok(Box::new(RingVerifier::new(*algorithm, key)?)),
    key_utils: KeyUtils::new_unimplemented(),
};

/// Verifies signatures of one algorithm.
struct RingVerifier {
    algorithm: Algorithm,
    key: Vec<u8>,
}

impl RingVerifier {
    fn new(algorithm: Algorithm, key: &DecodingKey) -> Result<RingVerifier> {
        let family = match algorithm {
            Algorithm::HS256 => AlgorithmFamily::Hmac,
            Algorithm::RS256 => AlgorithmFamily::Rsa,
            Algorithm::ES256 => AlgorithmFamily::Ec,
            _ => return Err(ErrorKind::InvalidAlgorithm.into()),
        };
        // A public key as the secret of an HMAC would let everyone sign.
        if key.family() != family {
            return Err(ErrorKind::InvalidKeyFormat.into());
        }
        Ok(RingVerifier {
            algorithm,
            key: key.try_get_as_bytes()?.to_vec(),
        })
    }
}

impl Verifier<Vec<u8>> for RingVerifier {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> std::result::Result<(), SignatureError> {
        let public = |algorithm| signature::UnparsedPublicKey::new(algorithm, &self.key);
        let verified = match self.algorithm {
            Algorithm::HS256 => hmac::verify(&hmac::Key::new(hmac::HMAC_SHA256, &self.key), message, signature),
            Algorithm::RS256 => public(&signature::RSA_PKCS1_2048_8192_SHA256 as &dyn signature::VerificationAlgorithm)
                .verify(message, signature),
            _ => public(&signature::ECDSA_P256_SHA256_FIXED).verify(message, signature),
        };
        verified.map_err(|_| SignatureError::new())
    }
}

impl JwtVerifier for RingVerifier {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}
