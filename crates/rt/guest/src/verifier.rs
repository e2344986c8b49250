//! What the runtime believes about the consensus layer.
//!
//! With a trust root it follows the chain as a light client and proves what the host says; without one it believes the
//! host, which is right outside of enclaves only. Source: `runtime/src/consensus/{verifier.rs,tendermint/verifier}`.

mod light;
mod trusted;

use base_codec::cbor;
use base_prims::{Epoch, Hash, Namespace, Version};
use mkvs_tree::{Root, RootType};
use parking_lot::Mutex;
use std::sync::Arc;
use wire_cometbft::{block::LightBlock as CometLightBlock, codec::Message as _};
use wire_consensus::{
    meta::{BlockMetadata, METHOD_META},
    roothash::Header,
    transaction::{SignedTransaction, Transaction},
};
use wire_runtime::{
    error::{self as codes, Code},
    host::{ConsensusEvent, EventKind},
    runtime::LightBlock,
};

use crate::{Error, Host, consensus::ConsensusState, identity::Identity};

pub use trusted::{TrustRoot, TrustedState};

/// The height that means the newest.
pub const HEIGHT_LATEST: u64 = 0;

/// Largest light block that is decoded, in bytes.
pub const MAX_LIGHT_BLOCK_BYTES: usize = 4 << 20;

/// Why something about the consensus layer is not believed. Codes are those of the reference.
#[derive(Debug, Clone, thiserror::Error)]
pub enum VerifierError {
    /// The light client could not start.
    #[error("builder: {0}")]
    Builder(String),
    /// A block or header does not verify.
    #[error("verification: {0}")]
    Verification(String),
    /// The stored trusted state is unusable.
    #[error("trusted state loading failed")]
    TrustedState,
    /// The chain is another one than trusted.
    #[error("consensus chain context transition failed: {0}")]
    ChainContext(String),
    /// The state may be old.
    #[error("freshness verification: {0}")]
    Freshness(String),
    /// A transaction is not proven.
    #[error("transaction verification: {0}")]
    Transaction(String),
    /// No state root.
    #[error("state root: {0}")]
    StateRoot(String),
    /// The verifier has ended.
    #[error("internal consensus verifier error")]
    Internal,
}

impl VerifierError {
    /// The code that the host is told.
    pub fn code(&self) -> Code {
        match self {
            Self::Builder(_) => codes::VERIFIER_BUILDER,
            Self::Verification(_) => codes::VERIFIER_VERIFICATION_FAILED,
            Self::TrustedState => codes::VERIFIER_TRUSTED_STATE,
            Self::ChainContext(_) => codes::VERIFIER_CHAIN_CONTEXT,
            Self::Freshness(_) => codes::VERIFIER_FRESHNESS,
            Self::Transaction(_) => codes::VERIFIER_TRANSACTION,
            Self::StateRoot(_) => codes::VERIFIER_STATE_ROOT,
            Self::Internal => codes::VERIFIER_INTERNAL,
        }
    }
}

fn failed(error: impl ToString) -> VerifierError {
    VerifierError::Verification(error.to_string())
}

/// The consensus verifier. Calls may be made from any thread and wait for each other.
pub struct Verifier {
    host: Host,
    kind: Kind,
}

enum Kind {
    /// Believes the host; holds the newest height that it heard of.
    Nop(Mutex<Option<u64>>),
    Light(Box<light::Light>),
}

impl std::fmt::Debug for Verifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = match self.kind {
            Kind::Nop(_) => "nop",
            Kind::Light(_) => "light",
        };
        f.debug_struct("Verifier").field("kind", &kind).finish_non_exhaustive()
    }
}

impl Verifier {
    /// A verifier that believes the host.
    pub fn nop(host: Host) -> Self {
        Self { host, kind: Kind::Nop(Mutex::new(None)) }
    }

    /// A verifier that starts from a trust root. Nothing is verified before [`Verifier::init`].
    ///
    /// # Errors
    /// If the trust root or the host's chain context is malformed.
    pub fn light(
        host: Host,
        trust_root: TrustRoot,
        chain_context: &str,
        version: Version,
        identity: Arc<Identity>,
    ) -> Result<Self, VerifierError> {
        let light = light::Light::new(host.clone(), trust_root, chain_context, version, identity)?;
        Ok(Self { host, kind: Kind::Light(Box::new(light)) })
    }

    /// Brings the light client up to the newest block and proves that it is fresh. Requests wait until this is done.
    ///
    /// # Errors
    /// If the chain does not follow from the trust root; the runtime must then end.
    pub fn init(&self) -> Result<(), Error> {
        match &self.kind {
            Kind::Nop(_) => Ok(()),
            Kind::Light(light) => light.init(),
        }
    }

    /// Follows the chain up to a height.
    ///
    /// # Errors
    /// If the block does not verify.
    pub fn sync(&self, height: u64) -> Result<(), Error> {
        match &self.kind {
            Kind::Nop(latest) => {
                let block = self.host.consensus_block(height).map_err(failed)?;
                *latest.lock() = Some(positive(block.height)?);
                Ok(())
            }
            Kind::Light(light) => light.sync(height),
        }
    }

    /// The consensus state for a round on top of a runtime header, which must be that of the newest round, and fresh.
    ///
    /// # Errors
    /// If anything of it does not verify.
    pub fn verify(&self, block: &LightBlock, header: &Header, epoch: Epoch) -> Result<ConsensusState, Error> {
        match &self.kind {
            Kind::Nop(_) => self.unverified_state(block),
            Kind::Light(light) => light.verify(block, header, epoch),
        }
    }

    /// As [`Verifier::verify`] for a round that need not be the newest.
    ///
    /// # Errors
    /// If anything of it does not verify.
    pub fn verify_for_query(&self, block: &LightBlock, header: &Header, epoch: Epoch) -> Result<ConsensusState, Error> {
        match &self.kind {
            Kind::Nop(_) => self.unverified_state(block),
            Kind::Light(light) => light.verify_for_query(block, header, epoch),
        }
    }

    /// The consensus state that a block claims to be built on. Nothing is verified.
    ///
    /// # Errors
    /// If the block is malformed.
    pub fn unverified_state(&self, block: &LightBlock) -> Result<ConsensusState, Error> {
        let root = root_of(&decode_block(block)?)?;
        let height = root.version.saturating_add(1);
        if let Kind::Nop(latest) = &self.kind {
            let mut latest = latest.lock();
            *latest = (*latest).max(Some(height));
        }
        Ok(ConsensusState::new(&self.host, height, root))
    }

    /// The newest verified state: that which the newest block led to. It may be old if the host hides newer blocks.
    ///
    /// # Errors
    /// If there is none.
    pub fn latest_state(&self) -> Result<ConsensusState, Error> {
        let root = match &self.kind {
            Kind::Nop(_) => {
                let height = self.latest_height()?;
                let proven = self.host.block_metadata_tx(height);
                let proven = proven.map_err(|e| VerifierError::StateRoot(e.to_string()))?;
                let signed = proven.signed_tx.ok_or_else(|| VerifierError::StateRoot("no transaction".into()))?;
                let tx: Transaction =
                    cbor::from_slice(signed.0.blob()).map_err(|e| VerifierError::Transaction(e.to_string()))?;
                metadata_root(height, &tx)?
            }
            Kind::Light(light) => light.latest_root()?,
        };
        Ok(ConsensusState::new(&self.host, root.version, root))
    }

    /// The state that the block of a height was built on.
    ///
    /// # Errors
    /// If it does not verify.
    pub fn state_at(&self, height: u64) -> Result<ConsensusState, Error> {
        match &self.kind {
            Kind::Nop(_) => self.unverified_state(&self.host.consensus_block(height).map_err(failed)?),
            Kind::Light(light) => light.state_at(height),
        }
    }

    /// Events of a height. Nothing proves them yet, so that only replicated computation may rely on them.
    ///
    /// # Errors
    /// If the host has none.
    pub fn events_at(&self, height: u64, kind: EventKind) -> Result<Vec<ConsensusEvent>, Error> {
        Ok(self.host.consensus_events(height, kind).map_err(failed)?)
    }

    /// The newest height that is known.
    ///
    /// # Errors
    /// If none is.
    pub fn latest_height(&self) -> Result<u64, Error> {
        match &self.kind {
            Kind::Nop(latest) => {
                if let Some(height) = *latest.lock() {
                    return Ok(height);
                }
                let newest = self.host.consensus_block(HEIGHT_LATEST).map_err(failed)?;
                let height = positive(newest.height)?;
                self.sync(height)?;
                Ok(height)
            }
            Kind::Light(light) => light.latest_height(),
        }
    }
}

fn positive(height: i64) -> Result<u64, VerifierError> {
    u64::try_from(height).ok().filter(|h| *h > 0).ok_or_else(|| failed(format!("height {height}")))
}

fn decode_block(block: &LightBlock) -> Result<CometLightBlock, VerifierError> {
    let raw = block.meta.as_ref().map_or(&[][..], |meta| meta.as_slice());
    CometLightBlock::decode_limited(raw, MAX_LIGHT_BLOCK_BYTES).map_err(failed)
}

/// The state that a block was built on: its app hash is the root of the height before.
fn root_of(block: &CometLightBlock) -> Result<Root, VerifierError> {
    let header = block.signed_header.as_ref().and_then(|signed| signed.header.as_ref());
    let header = header.ok_or_else(|| failed("missing signed header"))?;
    header_root(header)
}

fn header_root(header: &wire_cometbft::block::Header) -> Result<Root, VerifierError> {
    let hash = Hash::try_from(header.app_hash.as_slice()).map_err(|_| failed("invalid app hash"))?;
    Ok(Root {
        namespace: Namespace::ZERO,
        version: positive(header.height)?.saturating_sub(1),
        root_type: RootType::STATE,
        hash,
    })
}

/// The state that a block led to, as its proposer put it into the block.
fn metadata_root(height: u64, tx: &Transaction) -> Result<Root, VerifierError> {
    if tx.method != METHOD_META {
        return Err(VerifierError::StateRoot("invalid method name".into()));
    }
    let meta: BlockMetadata = tx.body.decode_as().map_err(|e| VerifierError::StateRoot(e.to_string()))?;
    Ok(Root { namespace: Namespace::ZERO, version: height, root_type: RootType::STATE, hash: meta.state_root })
}

/// What a transaction's hash covers.
fn tx_bytes(signed: &SignedTransaction) -> Vec<u8> {
    cbor::to_vec(signed)
}
