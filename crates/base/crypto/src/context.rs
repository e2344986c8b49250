//! Signature contexts: what a signature is for, and on which chain.
//!
//! A signature covers SHA-512/256(full context ‖ message), where the full context is the name, then for some contexts a
//! runtime suffix, then for some ` for chain ` and the chain context. Reference: `go/common/crypto/signature/signer.go`.

use crate::{ed25519, hash::sha512_256};

/// Stands between a context and the chain context.
const CHAIN_SEPARATOR: &str = " for chain ";
/// Stands between a context and the hexadecimal runtime identifier.
const RUNTIME_SEPARATOR: &str = " for runtime ";
/// Bytes of a hexadecimal runtime identifier.
const RUNTIME_SUFFIX_LEN: usize = 64;
/// Most bytes of a full context.
pub const MAX_CONTEXT_LEN: usize = 255;

/// Why a message could not be prepared for signing or verification.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ContextError {
    /// The context is bound to a chain and none was given.
    #[error("signature context `{context}` needs a chain context")]
    MissingChain {
        /// Name of the context.
        context: &'static str,
    },
    /// The context is bound to a runtime and none was given.
    #[error("signature context `{context}` needs a runtime suffix")]
    MissingSuffix {
        /// Name of the context.
        context: &'static str,
    },
    /// The context takes no suffix.
    #[error("signature context `{context}` takes no suffix")]
    UnexpectedSuffix {
        /// Name of the context.
        context: &'static str,
    },
    /// The suffix or the full context is too long.
    #[error("signature context `{context}`: {what} has {got} bytes, at most {max} allowed")]
    TooLong {
        /// Name of the context.
        context: &'static str,
        /// Which part is too long.
        what: &'static str,
        /// Its length in bytes.
        got: usize,
        /// The most that is allowed.
        max: usize,
    },
    /// A chain context is not 64 lower-case hexadecimal characters.
    #[error("chain context must be 64 lower-case hexadecimal characters")]
    MalformedChain,
    /// Whoever holds the key gave no signature.
    #[error("signer gave no signature for `{context}`: {reason}")]
    Holder {
        /// Name of the context.
        context: &'static str,
        /// Why.
        reason: String,
    },
}

/// The chain context: hash of the genesis document as 64 lower-case hexadecimal characters.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChainContext([u8; 64]);

impl ChainContext {
    /// Writes a genesis hash in hexadecimal.
    #[must_use]
    pub fn from_hash(hash: &[u8; 32]) -> Self {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut text = [0; 64];
        for (pair, byte) in text.chunks_exact_mut(2).zip(hash) {
            pair[0] = DIGITS[usize::from(byte >> 4)];
            pair[1] = DIGITS[usize::from(byte & 15)];
        }
        Self(text)
    }

    /// Takes the text form.
    pub fn parse(text: &str) -> Result<Self, ContextError> {
        let bytes: [u8; 64] = text.as_bytes().try_into().map_err(|_| ContextError::MalformedChain)?;
        if bytes.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            Ok(Self(bytes))
        } else {
            Err(ContextError::MalformedChain)
        }
    }

    /// The text form.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("hexadecimal digits are ASCII")
    }
}

impl std::fmt::Display for ChainContext {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::fmt::Debug for ChainContext {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ChainContext({self})")
    }
}

/// One row of the table of signature contexts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Context {
    name: &'static str,
    chain_separated: bool,
    runtime_suffix: bool,
}

impl Context {
    const fn plain(name: &'static str) -> Self {
        Self { name, chain_separated: false, runtime_suffix: false }
    }

    const fn with_chain(name: &'static str) -> Self {
        Self { name, chain_separated: true, runtime_suffix: false }
    }

    const fn with_chain_and_runtime(name: &'static str) -> Self {
        Self { name, chain_separated: true, runtime_suffix: true }
    }

    /// The base text.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Whether the chain context is part of what is signed.
    #[must_use]
    pub const fn is_chain_separated(&self) -> bool {
        self.chain_separated
    }

    /// Whether a runtime identifier (64 hexadecimal characters) is part of what is signed.
    #[must_use]
    pub const fn has_runtime_suffix(&self) -> bool {
        self.runtime_suffix
    }
}

/// Defines the constants and the list of all of them from one table.
macro_rules! contexts {
    ($($(#[$doc:meta])* $id:ident = $kind:ident($name:literal);)*) => {
        $($(#[$doc])* pub const $id: Context = Context::$kind($name);)*
        /// Every signature context that exists.
        pub const ALL: &[Context] = &[$($id),*];
    };
}

contexts! {
    /// Consensus transactions.
    CONSENSUS_TX = with_chain("oasis-core/consensus: tx");
    /// Headers of runtime block proposals.
    ROOTHASH_PROPOSAL = with_chain_and_runtime("oasis-core/roothash: proposal");
    /// Batches of runtime block proposals; nothing produces them today.
    ROOTHASH_PROPOSAL_BATCH = with_chain_and_runtime("oasis-core/roothash: proposal batch");
    /// Headers of executor commitments.
    ROOTHASH_EXECUTOR_COMMITMENT = with_chain_and_runtime("oasis-core/roothash: executor commitment");
    /// Every Ed25519 signature that CometBFT makes: votes, proposals, connection challenges.
    COMETBFT = plain("oasis-core/tendermint");
    /// Entity descriptors.
    REGISTER_ENTITY = plain("oasis-core/registry: register entity");
    /// Node descriptors.
    REGISTER_NODE = plain("oasis-core/registry: register node");
    /// Headers of computed results, signed inside the enclave.
    COMPUTE_RESULTS_HEADER = plain("oasis-core/roothash: compute results header");
    /// Remote attestations, signed inside the enclave.
    TEE_ATTESTATION = plain("oasis-core/node: TEE attestation signature");
    /// A node's endorsement of an enclave's capability.
    ENDORSE_CAPABILITY_TEE = plain("oasis-core/node: endorse TEE capability");
    /// Labels of ROFL components.
    ATTEST_LABELS = plain("oasis-core/node: attest component labels");
    /// A key manager's initialization response.
    KEYMANAGER_INIT_RESPONSE = plain("oasis-core/keymanager: init response");
    /// A key manager's access policy.
    KEYMANAGER_POLICY = plain("oasis-core/keymanager: policy");
    /// Access policy of a CHURP instance.
    CHURP_POLICY = plain("oasis-core/keymanager/churp: policy");
    /// A key manager's encrypted master secret.
    KEYMANAGER_MASTER_SECRET = plain("oasis-core/keymanager: encrypted master secret");
    /// A key manager's encrypted ephemeral secret.
    KEYMANAGER_EPHEMERAL_SECRET = plain("oasis-core/keymanager: encrypted ephemeral secret");
    /// An application to take part in a CHURP handoff.
    CHURP_APPLICATION_REQUEST = plain("oasis-core/keymanager/churp: application request");
    /// The confirmation of a CHURP handoff.
    CHURP_CONFIRMATION_REQUEST = plain("oasis-core/keymanager/churp: confirmation request");
    /// The node's peer-to-peer identity.
    P2P = plain("oasis-core/worker: libp2p");
    /// Public keys that a key manager hands out; made inside the enclave only.
    KEYMANAGER_PUBLIC_KEY = plain("oasis-core/keymanager: pk signature");
}

/// The 32 bytes that a signature over `message` in this context covers.
///
/// `suffix` is the lower-case hexadecimal runtime identifier for contexts that have one. A chain context given for a
/// context without chain separation is not used.
pub fn prepare(
    context: &Context,
    chain: Option<&ChainContext>,
    suffix: Option<&[u8]>,
    message: &[u8],
) -> Result<[u8; 32], ContextError> {
    let [a, b, c, d, e] = parts(context, chain, suffix)?;
    Ok(sha512_256(&[a, b, c, d, e, message]))
}

/// What the full context consists of.
fn parts<'a>(
    context: &'a Context,
    chain: Option<&'a ChainContext>,
    suffix: Option<&'a [u8]>,
) -> Result<[&'a [u8]; 5], ContextError> {
    let name = context.name;
    let (runtime_separator, suffix) = match (context.runtime_suffix, suffix) {
        (true, Some(s)) if s.len() > RUNTIME_SUFFIX_LEN => {
            return Err(ContextError::TooLong { context: name, what: "suffix", got: s.len(), max: RUNTIME_SUFFIX_LEN });
        }
        (true, Some(s)) => (RUNTIME_SEPARATOR, s),
        (true, None) => return Err(ContextError::MissingSuffix { context: name }),
        (false, Some(_)) => return Err(ContextError::UnexpectedSuffix { context: name }),
        (false, None) => ("", &[][..]),
    };
    let (chain_separator, chain) = match (context.chain_separated, chain) {
        (true, Some(c)) => (CHAIN_SEPARATOR, c.as_str()),
        (true, None) => return Err(ContextError::MissingChain { context: name }),
        (false, _) => ("", ""),
    };
    let parts = [name.as_bytes(), runtime_separator.as_bytes(), suffix, chain_separator.as_bytes(), chain.as_bytes()];
    let got = parts.iter().map(|p| p.len()).sum();
    if got > MAX_CONTEXT_LEN {
        return Err(ContextError::TooLong { context: name, what: "full context", got, max: MAX_CONTEXT_LEN });
    }
    Ok(parts)
}

/// Signs `message` in a context; a held key is asked for from its holder, whose answer is checked.
pub fn sign_with_context(
    key: &ed25519::SecretKey,
    context: &Context,
    chain: Option<&ChainContext>,
    suffix: Option<&[u8]>,
    message: &[u8],
) -> Result<[u8; 64], ContextError> {
    let digest = prepare(context, chain, suffix, message)?;
    let Some(holder) = key.holder() else { return Ok(key.sign(&digest)) };
    let full = parts(context, chain, suffix)?.concat();
    let failed = |reason| ContextError::Holder { context: context.name, reason };
    let signature = holder.sign(&full, message).map_err(failed)?;
    if ed25519::verify(&key.public(), &digest, &signature) {
        Ok(signature)
    } else {
        Err(failed("its signature does not verify".to_owned()))
    }
}

/// Whether `signature` covers `message` in a context.
///
/// An error means that the caller passed a chain or suffix that does not fit the context. Blacklisted keys are the
/// caller's to refuse ([`crate::blacklist`]).
pub fn verify_with_context(
    public_key: &[u8; 32],
    context: &Context,
    chain: Option<&ChainContext>,
    suffix: Option<&[u8]>,
    message: &[u8],
    signature: &[u8; 64],
) -> Result<bool, ContextError> {
    Ok(ed25519::verify(public_key, &prepare(context, chain, suffix, message)?, signature))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ed25519::{KeyHolder, SecretKey};
    use std::sync::Arc;

    /// A holder that signs with a key of its own, or not at all.
    struct Holder(Option<SecretKey>);

    impl KeyHolder for Holder {
        fn sign(&self, context: &[u8], message: &[u8]) -> Result<[u8; 64], String> {
            let key = self.0.as_ref().ok_or("gone away")?;
            Ok(key.sign(&sha512_256(&[context, message])))
        }

        fn prove(&self, alpha: &[u8]) -> Result<[u8; 80], String> {
            Ok(crate::vrf::prove(self.0.as_ref().ok_or("gone away")?, alpha))
        }
    }

    #[test]
    fn held_keys_sign_as_keys_at_hand() {
        let local = SecretKey::from_seed(&[9; 32]);
        let held = |holder| SecretKey::held(local.public(), Arc::new(Holder(holder)));
        let (key, chain) = (held(Some(local.clone())), chain());
        let suffix = Some(&RUNTIME[..]);
        let sign = |key| sign_with_context(key, &ROOTHASH_EXECUTOR_COMMITMENT, Some(&chain), suffix, b"m");
        assert_eq!(sign(&key), sign(&local));
        assert_eq!(crate::vrf::try_prove(&key, b"a"), Ok(crate::vrf::prove(&local, b"a")));
        // One that answers with another key, and one that does not answer.
        let other = held(Some(SecretKey::from_seed(&[8; 32])));
        assert!(matches!(sign(&other), Err(ContextError::Holder { .. })));
        assert!(crate::vrf::try_prove(&other, b"a").is_err());
        assert!(matches!(sign(&held(None)), Err(ContextError::Holder { reason, .. }) if reason == "gone away"));
        assert_eq!(key.sign(b"m"), [0; 64]);
        assert_eq!(*key.seed(), [0; 32]);
    }

    const RUNTIME: &[u8; 64] = b"000000000000000000000000000000000000000000000000f80306c9858e7279";

    fn chain() -> ChainContext {
        ChainContext::from_hash(&[0xa5; 32])
    }

    #[test]
    fn table_is_sound() {
        let mut names: Vec<_> = ALL.iter().map(Context::name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ALL.len());
        for c in ALL {
            assert!(c.name.starts_with("oasis-core/"), "{c:?}");
            // Otherwise one context could be mistaken for another with separation.
            assert!(!c.name.contains(CHAIN_SEPARATOR) && !c.name.contains(RUNTIME_SEPARATOR), "{c:?}");
            let suffix = c.runtime_suffix.then_some(&RUNTIME[..]);
            assert!(prepare(c, Some(&chain()), suffix, b"m").is_ok(), "{c:?}");
        }
    }

    #[test]
    fn full_context_is_name_suffix_chain() {
        let hex = "a5".repeat(32);
        let runtime = std::str::from_utf8(RUNTIME).unwrap();
        let check = |c: &Context, suffix: Option<&[u8]>, full: String| {
            let want = sha512_256(&[full.as_bytes(), b"msg"]);
            assert_eq!(prepare(c, Some(&chain()), suffix, b"msg").unwrap(), want);
        };
        check(&CONSENSUS_TX, None, format!("oasis-core/consensus: tx for chain {hex}"));
        check(
            &ROOTHASH_EXECUTOR_COMMITMENT,
            Some(RUNTIME),
            format!("oasis-core/roothash: executor commitment for runtime {runtime} for chain {hex}"),
        );
        check(&COMETBFT, None, "oasis-core/tendermint".to_owned());
    }

    #[test]
    fn wrong_use_is_an_error() {
        let err = |c: &Context, chain: Option<&ChainContext>, s: Option<&[u8]>| prepare(c, chain, s, b"").unwrap_err();
        let context = CONSENSUS_TX.name;
        assert_eq!(err(&CONSENSUS_TX, None, None), ContextError::MissingChain { context });
        assert_eq!(err(&CONSENSUS_TX, Some(&chain()), Some(RUNTIME)), ContextError::UnexpectedSuffix { context });
        let context = ROOTHASH_PROPOSAL.name;
        assert_eq!(err(&ROOTHASH_PROPOSAL, Some(&chain()), None), ContextError::MissingSuffix { context });
        assert_eq!(
            err(&ROOTHASH_PROPOSAL, Some(&chain()), Some(&[b'0'; 65])),
            ContextError::TooLong { context, what: "suffix", got: 65, max: 64 }
        );
        let long = Context::plain(Box::leak("x".repeat(256).into_boxed_str()));
        assert!(matches!(err(&long, None, None), ContextError::TooLong { what: "full context", got: 256, .. }));
    }

    #[test]
    fn chain_context_text() {
        let text = "bb3d748def55bdfb797a2ac53ee6ee141e54cd2ab2dc2375f4a0703a178e6e55";
        let parsed = ChainContext::parse(text).unwrap();
        assert_eq!(parsed.as_str(), text);
        let hash: [u8; 32] = hex::decode(text).unwrap().try_into().unwrap();
        assert_eq!(ChainContext::from_hash(&hash), parsed);
        assert_eq!(ChainContext::parse(&text.to_uppercase()), Err(ContextError::MalformedChain));
        assert_eq!(ChainContext::parse(&text[1..]), Err(ContextError::MalformedChain));
    }

    #[test]
    fn signature_is_bound_to_its_context() {
        let key = ed25519::SecretKey::from_seed(&[1; 32]);
        let (pk, chain) = (key.public(), chain());
        let sig = sign_with_context(&key, &CONSENSUS_TX, Some(&chain), None, b"tx").unwrap();
        let check = |c: &Context, chain: &ChainContext, m: &[u8]| {
            verify_with_context(&pk, c, Some(chain), None, m, &sig).unwrap()
        };
        assert!(check(&CONSENSUS_TX, &chain, b"tx"));
        assert!(!check(&CONSENSUS_TX, &ChainContext::from_hash(&[0; 32]), b"tx"));
        assert!(!check(&REGISTER_NODE, &chain, b"tx"));
        assert!(!check(&CONSENSUS_TX, &chain, b"tX"));
    }
}
