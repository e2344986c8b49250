//! Signature envelopes: one signature, one signed blob, one blob signed by many.

use std::collections::BTreeSet;

use base_codec::{Bytes, Codec, cbor};
use base_crypto::{
    context::{self, ChainContext, Context},
    ed25519::SecretKey,
};
use base_prims::{PublicKey, RawSignature};

use crate::known::Claim;

/// A signature and the key that made it. Source: `go/common/crypto/signature`.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct Signature {
    /// Who signed.
    pub public_key: PublicKey,
    /// The 64 bytes.
    pub signature: RawSignature,
}

/// An opaque blob with one signature over it: transactions and entity descriptors.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct Signed {
    /// The blob, untrusted until [`Signed::verify`] succeeds. Nil and empty are different on the wire.
    pub untrusted_raw_value: Option<Bytes>,
    /// The signature over the blob.
    pub signature: Signature,
}

/// An opaque blob with several signatures over it: node descriptors. All must verify.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct MultiSigned {
    /// The blob, untrusted until [`MultiSigned::verify`] succeeds.
    pub untrusted_raw_value: Option<Bytes>,
    /// The signatures over the blob.
    pub signatures: Option<Vec<Signature>>,
}

/// Why a signed blob could not be opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// A signature does not verify under the context, or there is none.
    #[error("signature verification failed")]
    Signature,
    /// The context needs a chain that was not given, or is too long.
    #[error("bad signature context: {0}")]
    Context(String),
    /// The blob is not what it should be.
    #[error("malformed signed value: {0}")]
    Decode(#[from] cbor::Error),
}

impl Signature {
    /// Signs `message` under `context`; `chain` is needed where the context is separated by chains.
    ///
    /// # Errors
    /// [`OpenError::Context`] if the context is unusable.
    pub fn sign(
        key: &SecretKey,
        context: &Context,
        chain: Option<&ChainContext>,
        message: &[u8],
    ) -> Result<Self, OpenError> {
        let signature = context::sign_with_context(key, context, chain, None, message)
            .map_err(|e| OpenError::Context(e.to_string()))?;
        Ok(Self { public_key: PublicKey::new(key.public()), signature: RawSignature::new(signature) })
    }

    /// The signature over `message` under `context`, to be verified with others; nothing if the context is unusable.
    pub fn claim(&self, context: &Context, chain: Option<&ChainContext>, message: &[u8]) -> Option<Claim> {
        Claim::new(self.public_key, context, chain, None, message, self.signature)
    }

    /// Verifies the signature over `message` under `context`.
    ///
    /// # Errors
    /// [`OpenError::Signature`] if it does not verify; [`OpenError::Context`] if the context is unusable.
    pub fn verify(&self, context: &Context, chain: Option<&ChainContext>, message: &[u8]) -> Result<(), OpenError> {
        let prepared =
            context::prepare(context, chain, None, message).map_err(|e| OpenError::Context(e.to_string()))?;
        if self.public_key.verify_prepared(&prepared, &self.signature) { Ok(()) } else { Err(OpenError::Signature) }
    }
}

impl Signed {
    /// Encodes `value` and signs the bytes.
    ///
    /// # Errors
    /// [`OpenError::Context`] if the context is unusable.
    pub fn sign(
        key: &SecretKey,
        context: &Context,
        chain: Option<&ChainContext>,
        value: &impl cbor::Encode,
    ) -> Result<Self, OpenError> {
        let blob = cbor::to_vec(value);
        let signature = Signature::sign(key, context, chain, &blob)?;
        Ok(Self { untrusted_raw_value: Some(Bytes(blob)), signature })
    }

    /// The blob's bytes.
    pub fn blob(&self) -> &[u8] {
        self.untrusted_raw_value.as_ref().map_or(&[], |b| b.as_slice())
    }

    /// Verifies the signature.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn verify(&self, context: &Context, chain: Option<&ChainContext>) -> Result<(), OpenError> {
        self.signature.verify(context, chain, self.blob())
    }

    /// Verifies the signature and decodes the blob.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open<T: cbor::Decode>(&self, context: &Context, chain: Option<&ChainContext>) -> Result<T, OpenError> {
        self.verify(context, chain)?;
        Ok(cbor::from_slice(self.blob())?)
    }
}

impl MultiSigned {
    /// Encodes `value` and signs the bytes with every key, in the order given. Without keys there are no signatures
    /// (nil on the wire), and the result never verifies.
    ///
    /// # Errors
    /// [`OpenError::Context`] if the context is unusable.
    pub fn sign(
        keys: &[&SecretKey],
        context: &Context,
        chain: Option<&ChainContext>,
        value: &impl cbor::Encode,
    ) -> Result<Self, OpenError> {
        let blob = cbor::to_vec(value);
        let signatures: Vec<_> =
            keys.iter().map(|key| Signature::sign(key, context, chain, &blob)).collect::<Result<_, _>>()?;
        let signatures = (!signatures.is_empty()).then_some(signatures);
        Ok(Self { untrusted_raw_value: Some(Bytes(blob)), signatures })
    }

    /// The blob's bytes.
    pub fn blob(&self) -> &[u8] {
        self.untrusted_raw_value.as_ref().map_or(&[], |b| b.as_slice())
    }

    /// The signatures.
    pub fn signatures(&self) -> &[Signature] {
        self.signatures.as_deref().unwrap_or_default()
    }

    /// Verifies all signatures; an empty list does not verify.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn verify(&self, context: &Context, chain: Option<&ChainContext>) -> Result<(), OpenError> {
        if self.signatures().is_empty() {
            return Err(OpenError::Signature);
        }
        self.signatures().iter().try_for_each(|s| s.verify(context, chain, self.blob()))
    }

    /// Verifies all signatures and decodes the blob.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open<T: cbor::Decode>(&self, context: &Context, chain: Option<&ChainContext>) -> Result<T, OpenError> {
        self.verify(context, chain)?;
        Ok(cbor::from_slice(self.blob())?)
    }

    /// Whether all of the given keys signed and none other. A signer may occur twice; a key that is wanted twice never
    /// passes, as in the reference.
    pub fn is_only_signed_by(&self, keys: &[PublicKey]) -> bool {
        let signers: BTreeSet<_> = self.signatures().iter().map(|s| s.public_key).collect();
        signers.len() == keys.len() && keys.iter().all(|k| signers.contains(k))
    }

    /// Whether the key is among the signers.
    pub fn is_signed_by(&self, key: &PublicKey) -> bool {
        self.signatures().iter().any(|s| s.public_key == *key)
    }
}

#[cfg(test)]
mod tests {
    use base_crypto::ed25519::SecretKey;

    use super::*;

    fn signed_by(keys: &[&SecretKey]) -> MultiSigned {
        let context = &context::REGISTER_NODE;
        let prepared = context::prepare(context, None, None, b"blob").unwrap();
        let signature = |k: &&SecretKey| Signature {
            public_key: PublicKey::new(k.public()),
            signature: RawSignature::new(k.sign(&prepared)),
        };
        let signatures = Some(keys.iter().map(signature).collect());
        MultiSigned { untrusted_raw_value: Some(Bytes(b"blob".to_vec())), signatures }
    }

    #[test]
    fn signers_are_a_set() {
        let (a, b) = (SecretKey::from_seed(&[1; 32]), SecretKey::from_seed(&[2; 32]));
        let (ka, kb) = (PublicKey::new(a.public()), PublicKey::new(b.public()));
        assert!(signed_by(&[&a, &b]).is_only_signed_by(&[kb, ka]));
        assert!(signed_by(&[&a, &b, &a]).is_only_signed_by(&[ka, kb]));
        assert!(!signed_by(&[&a, &b]).is_only_signed_by(&[ka]));
        assert!(!signed_by(&[&a]).is_only_signed_by(&[ka, kb]));
        assert!(!signed_by(&[&a]).is_only_signed_by(&[ka, ka]));
    }

    #[test]
    fn every_signature_must_verify_and_one_must_be_there() {
        let (a, b) = (SecretKey::from_seed(&[1; 32]), SecretKey::from_seed(&[2; 32]));
        let context = &context::REGISTER_NODE;
        let mut signed = signed_by(&[&a, &b]);
        assert_eq!(signed.verify(context, None), Ok(()));
        assert_eq!(signed.verify(&context::REGISTER_ENTITY, None), Err(OpenError::Signature));
        signed.untrusted_raw_value = Some(Bytes(b"blab".to_vec()));
        assert_eq!(signed.verify(context, None), Err(OpenError::Signature));
        assert_eq!(signed_by(&[]).verify(context, None), Err(OpenError::Signature));
    }

    #[test]
    fn what_is_signed_opens_under_the_same_context_only() {
        let key = SecretKey::from_seed(&[3; 32]);
        let (one, two) = (ChainContext::from_hash(&[1; 32]), ChainContext::from_hash(&[2; 32]));
        let value = "value".to_owned();
        let signed = Signed::sign(&key, &context::CONSENSUS_TX, Some(&one), &value).unwrap();
        assert_eq!(signed.signature.public_key, PublicKey::new(key.public()));
        assert_eq!(signed.open::<String>(&context::CONSENSUS_TX, Some(&one)), Ok(value.clone()));
        assert_eq!(signed.open::<String>(&context::CONSENSUS_TX, Some(&two)), Err(OpenError::Signature));
        assert_eq!(signed.open::<String>(&context::REGISTER_ENTITY, None), Err(OpenError::Signature));
        let no_chain = Signed::sign(&key, &context::CONSENSUS_TX, None, &value);
        assert!(matches!(no_chain, Err(OpenError::Context(_))), "{no_chain:?}");
    }

    #[test]
    fn what_many_sign_opens_under_the_same_context_only() {
        let (a, b) = (SecretKey::from_seed(&[1; 32]), SecretKey::from_seed(&[2; 32]));
        let value = "value".to_owned();
        let signed = MultiSigned::sign(&[&a, &b], &context::REGISTER_NODE, None, &value).unwrap();
        assert!(signed.is_only_signed_by(&[PublicKey::new(a.public()), PublicKey::new(b.public())]));
        assert_eq!(signed.open::<String>(&context::REGISTER_NODE, None), Ok(value.clone()));
        assert_eq!(signed.open::<String>(&context::REGISTER_ENTITY, None), Err(OpenError::Signature));
        let unsigned = MultiSigned::sign(&[], &context::REGISTER_NODE, None, &value).unwrap();
        assert_eq!(unsigned.signatures, None);
        assert_eq!(unsigned.open::<String>(&context::REGISTER_NODE, None), Err(OpenError::Signature));
    }
}
