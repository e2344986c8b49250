//! The trust root, and the newest trusted block as the host's storage keeps it between runs.

use base_codec::{Bytes, Codec, cbor};
use base_prims::{Namespace, Version};

use crate::{
    Host,
    identity::Identity,
    seal::{self, SealPolicy},
    verifier::VerifierError,
};

/// What the key of the stored state begins with; version follows, so that upgrades start anew.
const STORAGE_KEY: &str = "tendermint.verifier.trusted_state";

/// Domain of the sealing key.
const SEAL_CONTEXT: &[u8] = b"oasis-core/verifier: trusted state";

/// Where trust starts. CBOR: a map of the fields.
#[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
pub struct TrustRoot {
    /// A height that is trusted.
    pub height: u64,
    /// Hash of its header, hexadecimal.
    pub hash: String,
    /// The runtime that this is.
    pub runtime_id: Namespace,
    /// Context of the chain, hexadecimal.
    pub chain_context: String,
}

/// What is stored: the newest trusted block as the new root, and the block itself as CometBFT protobuf.
///
/// The reference's own form of the block differs; runtimes of the two do not read each other's, which would need the
/// same enclave anyway.
#[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
pub struct TrustedState {
    /// The root.
    pub trust_root: TrustRoot,
    /// The light block of its height.
    #[codec(omitempty)]
    pub block: Option<Bytes>,
}

impl TrustedState {
    fn key(identity: &Identity, version: Version) -> Option<Vec<u8>> {
        let enclave = identity.tee().enclave().map(|e| e.mr_enclave.to_hex()).unwrap_or_default();
        seal::is_supported(identity.tee()).then(|| format!("{STORAGE_KEY}.{enclave}.{version}").into_bytes())
    }

    /// The stored state, or the embedded root without a block.
    ///
    /// # Errors
    /// If there is one that cannot be opened.
    pub(super) fn load(
        host: &Host,
        identity: &Identity,
        version: Version,
        root: &TrustRoot,
    ) -> Result<Self, VerifierError> {
        let fresh = Self { trust_root: root.clone(), block: None };
        let Some(key) = Self::key(identity, version) else {
            return Ok(fresh);
        };
        let stored = host.local_get(&key).map_err(|_| VerifierError::TrustedState)?;
        if stored.is_empty() {
            return Ok(fresh);
        }
        let opened = seal::unseal(identity.tee(), SealPolicy::MrEnclave, SEAL_CONTEXT, &stored, &[])
            .map_err(|_| VerifierError::TrustedState)?;
        let state: Self = cbor::from_slice(&opened).map_err(|_| VerifierError::TrustedState)?;
        // Never behind the embedded root, nor of another runtime.
        if state.trust_root.runtime_id != root.runtime_id || state.trust_root.height < root.height {
            return Ok(fresh);
        }
        Ok(state)
    }

    /// Stores the state; a host that does not keep it costs time at the next start, nothing else.
    pub(super) fn save(&self, host: &Host, identity: &Identity, version: Version) {
        let Some(key) = Self::key(identity, version) else {
            return;
        };
        let sealed = seal::seal(identity.tee(), SealPolicy::MrEnclave, SEAL_CONTEXT, &cbor::to_vec(self), &[]);
        let saved = sealed.map_err(|e| e.to_string()).and_then(|s| host.local_set(&key, s).map_err(|e| e.to_string()));
        if let Err(error) = saved {
            tracing::warn!(err = %error, "trusted state not stored");
        }
    }
}
