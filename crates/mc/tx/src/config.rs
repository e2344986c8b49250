//! The configuration that all validators must share (reference: `BlockchainConfig`, `GovernorsMap`).

use std::collections::BTreeMap;

use mc_crypto::ed25519;
use merlin::Transcript;
use wire_mobilecoin::block::MAX_BLOCK_VERSION;
use wire_mobilecoin::digest::{Digestible, Label, aggregate, digest32};
use wire_mobilecoin::mint::SignerSet;
use wire_mobilecoin::{Ed25519Key, Ed25519Sig};

use crate::fees::{FeeMap, TokenId};
use crate::mint::BlockVersion;
use crate::multisig;
use crate::validate::has_own_range_proofs;

/// Why a configuration is refused. Names as in the reference.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Governors, but nobody vouches for them.
    #[error("governors have no signature")]
    MissingGovernorsSignature,
    /// Their signature is not by the minting trust root.
    #[error("signature of the governors is invalid")]
    InvalidGovernorsSignature,
    /// Nested signer sets before they exist.
    #[error("nested governors of {0:?} are not supported at {1:?}")]
    NestedMultiSigGovernorsNotSupported(TokenId, BlockVersion),
    /// A block version that does not exist.
    #[error("no block version {0}")]
    InvalidBlockVersion(u32),
    /// A signer set that nobody can satisfy, or governors of the first token.
    #[error("invalid governors of {0:?}")]
    InvalidGovernors(TokenId),
}

/// Who may set the mint configurations of each token.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GovernorsMap(BTreeMap<TokenId, SignerSet>);

impl GovernorsMap {
    /// A map of those governors.
    ///
    /// # Errors
    /// If a set can never be satisfied, or is of the first token, which is not minted.
    pub fn new(governors: impl IntoIterator<Item = (u64, SignerSet)>) -> Result<Self, Error> {
        let map: BTreeMap<TokenId, SignerSet> = governors.into_iter().map(|(id, set)| (TokenId(id), set)).collect();
        match map.iter().find(|(id, set)| id.0 == 0 || !multisig::is_valid(set)) {
            Some((id, _)) => Err(Error::InvalidGovernors(*id)),
            None => Ok(Self(map)),
        }
    }

    /// The governors of a token.
    pub fn get(&self, token_id: u64) -> Option<&SignerSet> {
        self.0.get(&TokenId(token_id))
    }

    /// Tokens and governors in order.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &SignerSet)> {
        self.0.iter().map(|(id, set)| (id.0, set))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What the minting trust root signs: the digest under `Governors map signature`.
    pub fn signed_digest(&self) -> [u8; 32] {
        digest32(b"Governors map signature", self)
    }
}

impl Digestible for GovernorsMap {
    fn digest_under(&self, context: Label, transcript: &mut Transcript) {
        aggregate(context, "GovernorsMap", transcript, |fields| {
            fields.field("map", &self.0);
        });
    }
}

impl Digestible for BlockVersion {
    fn digest_under(&self, context: Label, transcript: &mut Transcript) {
        aggregate(context, "BlockVersion", transcript, |fields| {
            fields.field("0", &self.0);
        });
    }
}

/// Fees, governors and version. Nodes that differ in it cannot attest to each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockchainConfig {
    /// Minimum fees.
    pub fee_map: FeeMap,
    /// Governors.
    pub governors: GovernorsMap,
    /// Of the minting trust root over the governors.
    pub governors_signature: Option<Ed25519Sig>,
    /// Version of new blocks.
    pub block_version: u32,
}

impl BlockchainConfig {
    /// Checks the governors and the version.
    ///
    /// # Errors
    /// If the governors are not vouched for by the trust root, or something does not exist at the version.
    pub fn check(&self, minting_trust_root: &Ed25519Key) -> Result<(), Error> {
        if self.block_version > MAX_BLOCK_VERSION {
            return Err(Error::InvalidBlockVersion(self.block_version));
        }
        if self.governors.is_empty() {
            return Ok(());
        }
        let signature = self.governors_signature.as_ref().ok_or(Error::MissingGovernorsSignature)?;
        if !ed25519::verify(minting_trust_root, &self.governors.signed_digest(), signature) {
            return Err(Error::InvalidGovernorsSignature);
        }
        let nested = self.governors.iter().find(|(_, set)| !set.multi_signers.is_empty());
        match nested {
            Some((id, _)) if !has_own_range_proofs(self.block_version) => {
                Err(Error::NestedMultiSigGovernorsNotSupported(TokenId(id), BlockVersion(self.block_version)))
            }
            _ => Ok(()),
        }
    }

    /// The digest under `mc-blockchain-config`.
    pub fn digest(&self) -> [u8; 32] {
        digest32(b"mc-blockchain-config", self)
    }

    /// The prologue of channels with a peer: its responder id, a dash and the digest in hex.
    pub fn peer_prologue(&self, responder_id: &str) -> String {
        format!("{responder_id}-{}", wire_mobilecoin::Hash(self.digest()))
    }
}

impl Digestible for BlockchainConfig {
    fn digest_under(&self, context: Label, transcript: &mut Transcript) {
        aggregate(context, "BlockchainConfig", transcript, |fields| {
            fields
                .field("fee_map", &self.fee_map)
                .field("governors_map", &self.governors)
                .field("governors_signature", &self.governors_signature)
                .field("block_version", &BlockVersion(self.block_version));
        });
    }
}
