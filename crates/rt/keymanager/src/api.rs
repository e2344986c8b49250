//! Keys and secrets, and the calls between key managers that hosts do not see.

use base_codec::{
    Bytes, Codec,
    cbor::{self, Decode, Decoder, Encode, Encoder},
};
use base_crypto::{
    context::{self, Context},
    ed25519::SecretKey,
    mrae::BoxSecretKey,
};
use base_prims::{Epoch, Namespace, PublicKey, RawSignature};
use wire_consensus::{keymanager::rpc::SignedPublicKey, node::X25519PublicKey};
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::KeyManagerError;

/// Which keys of a runtime are meant: 32 bytes that the runtime chooses.
pub type KeyPairId = [u8; 32];

/// Epochs for which a public ephemeral key is vouched for.
pub const MAX_SIGNED_EPHEMERAL_KEY_AGE: Epoch = 10;

/// 32 secret bytes, forgotten when dropped. CBOR: byte string.
#[derive(Clone, Default, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct Secret(pub [u8; 32]);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl Secret {
    /// A new secret.
    ///
    /// # Errors
    /// If there is no randomness.
    pub fn generate() -> Result<Self, KeyManagerError> {
        let mut secret = Self::default();
        getrandom::fill(&mut secret.0).map_err(KeyManagerError::Random)?;
        Ok(secret)
    }
}

impl Encode for Secret {
    fn encode(&self, e: &mut Encoder) {
        e.bytes(&self.0);
    }
}

impl Decode for Secret {
    fn decode(d: &mut Decoder<'_>) -> Result<Self, cbor::Error> {
        let offset = d.offset();
        let bytes = d.bytes()?;
        let secret = <[u8; 32]>::try_from(bytes).map(Self);
        secret.map_err(|_| cbor::Error::invalid(offset, format!("{} bytes of secret, expected 32", bytes.len())))
    }
}

/// An asymmetric key pair. CBOR: `{pk, sk}`.
#[derive(Clone, Debug, Default, Codec)]
#[codec(cbor_only)]
pub struct InputKeyPair {
    /// Public key.
    pub pk: X25519PublicKey,
    /// Secret key.
    pub sk: Secret,
}

/// The keys of one id. CBOR: `{input_keypair, state_key}`; older key managers add a `checksum`.
#[derive(Clone, Debug, Default, Codec)]
#[codec(cbor_only)]
pub struct KeyPair {
    /// For what is sent to the runtime.
    pub input_keypair: InputKeyPair,
    /// For the state.
    pub state_key: Secret,
    /// Without meaning.
    #[codec(omitempty)]
    pub checksum: Option<Bytes>,
}

impl KeyPair {
    /// The keys of a state key and a secret key.
    pub fn new(state_key: Secret, sk: Secret) -> Self {
        let pk = X25519PublicKey::new(BoxSecretKey::from_bytes(&sk.0).public());
        Self { input_keypair: InputKeyPair { pk, sk }, state_key, checksum: None }
    }
}

/// Asks another key manager for a master secret. CBOR: `{height, generation?}`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Codec)]
#[codec(cbor_only)]
pub struct ReplicateMasterSecretRequest {
    /// Newest height that the caller knows.
    pub height: u64,
    /// Generation.
    #[codec(omitempty)]
    pub generation: u64,
}

/// A master secret and the checksum before it. CBOR: `{master_secret, checksum?}`.
#[derive(Clone, Debug, Default, Codec)]
#[codec(cbor_only)]
pub struct ReplicateMasterSecretResponse {
    /// The secret.
    pub master_secret: Secret,
    /// Checksum over the secrets before it.
    #[codec(omitempty)]
    pub checksum: Bytes,
}

/// Asks another key manager for an ephemeral secret. CBOR: `{height, epoch}`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Codec)]
#[codec(cbor_only)]
pub struct ReplicateEphemeralSecretRequest {
    /// Newest height that the caller knows.
    pub height: u64,
    /// Epoch.
    pub epoch: Epoch,
}

/// An ephemeral secret. CBOR: `{ephemeral_secret}`.
#[derive(Clone, Debug, Default, Codec)]
#[codec(cbor_only)]
pub struct ReplicateEphemeralSecretResponse {
    /// The secret.
    pub ephemeral_secret: Secret,
}

const CONTEXT: &Context = &context::KEYMANAGER_PUBLIC_KEY;

/// Whose key it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyOf {
    /// The runtime.
    pub runtime: Namespace,
    /// Which keys.
    pub id: KeyPairId,
    /// Epoch of an ephemeral key.
    pub epoch: Option<Epoch>,
}

fn signed_bytes(of: &KeyOf, key: &X25519PublicKey, checksum: &[u8], expiration: Option<Epoch>) -> Vec<u8> {
    let mut body = [key.as_bytes(), checksum, of.runtime.as_bytes(), &of.id].concat();
    for epoch in [of.epoch, expiration].into_iter().flatten() {
        body.extend_from_slice(&epoch.to_be_bytes());
    }
    body
}

/// Vouches for a public key.
///
/// # Errors
/// If the checksum is not one.
pub fn sign_public_key(
    of: &KeyOf,
    key: X25519PublicKey,
    checksum: &[u8; 32],
    signer: &SecretKey,
) -> Result<SignedPublicKey, KeyManagerError> {
    let expiration = of.epoch.map(|epoch| epoch.saturating_add(MAX_SIGNED_EPHEMERAL_KEY_AGE));
    let body = signed_bytes(of, &key, checksum, expiration);
    let signature = context::sign_with_context(signer, CONTEXT, None, None, &body)
        .map_err(|e| KeyManagerError::InvalidSignature(e.to_string()))?;
    Ok(SignedPublicKey {
        key,
        checksum: Some(Bytes(checksum.to_vec())),
        signature: RawSignature::new(signature),
        expiration,
    })
}

/// Verifies that a key manager vouches for a public key, and still does; `now` is needed for ephemeral keys.
///
/// # Errors
/// If it does not.
pub fn verify_public_key(
    signed: &SignedPublicKey,
    of: &KeyOf,
    now: Option<Epoch>,
    rsk: &PublicKey,
) -> Result<(), KeyManagerError> {
    let refuse = |what: &str| Err(KeyManagerError::InvalidSignature(what.to_owned()));
    let checksum = signed.checksum.as_ref().map_or(&[][..], |c| c.as_slice());
    if checksum.len() != 32 {
        return refuse("invalid checksum");
    }
    if of.epoch.is_some() || signed.expiration.is_some() {
        let Some(now) = now else { return refuse("current epoch required") };
        if of.epoch.is_some_and(|epoch| now < epoch) {
            return refuse("signature from the future");
        }
        if signed.expiration.is_some_and(|expiration| now > expiration) {
            return refuse("signature expired");
        }
    }
    let body = signed_bytes(of, &signed.key, checksum, signed.expiration);
    let verified =
        context::verify_with_context(rsk.as_bytes(), CONTEXT, None, None, &body, signed.signature.as_bytes());
    if verified == Ok(true) { Ok(()) } else { refuse("invalid signature") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_vouched_for_within_their_epochs() {
        let signer = base_crypto::blacklist::test_key("seed");
        let rsk = PublicKey::new(signer.public());
        let key = X25519PublicKey::new([1; 32]);
        let of = KeyOf { runtime: Namespace::from_bytes_unchecked([1; 32]), id: [1; 32], epoch: Some(10) };
        let signed = sign_public_key(&of, key, &[1; 32], &signer).unwrap();
        assert_eq!(signed.expiration, Some(20));
        let verify = |signed: &SignedPublicKey, of: &KeyOf, now| {
            verify_public_key(signed, of, now, &rsk).map_err(|e| e.to_string())
        };
        assert_eq!(verify(&signed, &of, Some(15)), Ok(()));
        let refused = |signed: &SignedPublicKey, of: &KeyOf, now, why: &str| {
            assert!(verify(signed, of, now).unwrap_err().ends_with(why));
        };
        refused(&signed, &of, None, "current epoch required");
        refused(&signed, &of, Some(9), "signature from the future");
        refused(&signed, &of, Some(21), "signature expired");
        refused(&signed, &KeyOf { epoch: Some(11), ..of }, Some(15), "invalid signature");
        refused(&signed, &KeyOf { epoch: None, ..of }, Some(15), "invalid signature");
        refused(&signed, &KeyOf { id: [2; 32], ..of }, Some(15), "invalid signature");
        refused(&SignedPublicKey { checksum: None, ..signed.clone() }, &of, Some(15), "invalid checksum");
        let longterm = KeyOf { epoch: None, ..of };
        let signed = sign_public_key(&longterm, key, &[1; 32], &signer).unwrap();
        assert_eq!((verify(&signed, &longterm, None), signed.expiration), (Ok(()), None));
    }
}
