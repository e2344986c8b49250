//! Executor commitments and batch proposals: what compute nodes sign.
//!
//! Source: `go/roothash/api/commitment/{executor,proposal,pool}.go`.

use base_codec::{Codec, cbor};
use base_crypto::{
    blacklist::Blacklist,
    context::{self, ChainContext, Context, ContextError},
    ed25519::SecretKey,
};
use base_prims::{Epoch, Hash, Namespace, PublicKey, RawSignature};

use super::{
    Header,
    message::{Message, messages_hash},
};
use crate::{
    Invalid,
    errors::{ErrorCode, commitment as codes},
    invalid,
    known::{Claim, KnownSignatures},
    node::{Node, TeeHardware},
    registry::Runtime,
};

/// Header of a computed batch; the runtime's enclave signs it.
///
/// The optional fields are absent if the computation failed.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct ComputeResultsHeader {
    /// Round number.
    pub round: u64,
    /// Hash of the header that the batch builds on.
    pub previous_hash: Hash,
    /// Root of inputs and outputs.
    #[codec(omitempty)]
    pub io_root: Option<Hash>,
    /// Root of the state afterwards.
    #[codec(omitempty)]
    pub state_root: Option<Hash>,
    /// Hash of the emitted messages.
    #[codec(omitempty)]
    pub messages_hash: Option<Hash>,
    /// Hash of the processed incoming messages.
    #[codec(omitempty, rename = "in_msgs_hash")]
    pub in_messages_hash: Option<Hash>,
    /// Number of processed incoming messages.
    #[codec(omitempty, rename = "in_msgs_count")]
    pub in_messages_count: u32,
}

impl ComputeResultsHeader {
    /// Whether this is for the round after `previous`.
    pub fn follows(&self, previous: &Header) -> bool {
        self.round == previous.round.wrapping_add(1) && self.previous_hash == previous.hash()
    }

    /// SHA-512/256 of the CBOR.
    pub fn hash(&self) -> Hash {
        Hash::of_cbor(self)
    }
}

/// Why a computation failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Codec)]
pub struct ExecutorCommitmentFailure(pub u8);

impl ExecutorCommitmentFailure {
    /// It did not.
    pub const NONE: Self = Self(0);
    /// Unknown reason.
    pub const UNKNOWN: Self = Self(1);
    /// The state was not available.
    pub const STATE_UNAVAILABLE: Self = Self(2);
}

/// What a compute node signs.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct ExecutorCommitmentHeader {
    /// Node that proposed the batch.
    pub scheduler_id: PublicKey,
    /// Result.
    pub header: ComputeResultsHeader,
    /// Reason of failure.
    #[codec(omitempty)]
    pub failure: ExecutorCommitmentFailure,
    /// The enclave's signature over `header`.
    #[codec(omitempty, rename = "rak_sig")]
    pub rak_signature: Option<RawSignature>,
}

impl ExecutorCommitmentHeader {
    /// Makes this indicate a failure: what failures may not carry is removed.
    pub fn set_failure(&mut self, failure: ExecutorCommitmentFailure) {
        self.header.io_root = None;
        self.header.state_root = None;
        self.header.messages_hash = None;
        self.header.in_messages_hash = None;
        self.header.in_messages_count = 0;
        self.rak_signature = None;
        self.failure = failure;
    }

    /// Whether the enclave key `rak` signed the result.
    pub fn verify_rak(&self, verifier: &Verifier<'_>, rak: &PublicKey) -> bool {
        let context = &context::COMPUTE_RESULTS_HEADER;
        self.rak_signature.as_ref().is_some_and(|s| verifier.verify(rak, context, None, &self.header, s))
    }

    /// Whether result and failure are the same; the enclave's signature and the scheduler are not compared.
    pub fn mostly_equals(&self, other: &Self) -> bool {
        self.failure == other.failure && self.header.hash() == other.header.hash()
    }
}

/// A node's commitment to a result.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct ExecutorCommitment {
    /// The node.
    pub node_id: PublicKey,
    /// What it signed.
    pub header: ExecutorCommitmentHeader,
    /// Its signature.
    #[codec(rename = "sig")]
    pub signature: RawSignature,
    /// Emitted messages; only in the scheduler's own commitment, and never in evidence.
    #[codec(omitempty)]
    pub messages: Vec<Message>,
}

/// What signatures are verified against.
#[derive(Clone, Copy, Debug)]
pub struct Verifier<'a> {
    /// The network.
    pub chain: &'a ChainContext,
    /// Keys whose signatures never count.
    pub blacklist: &'a Blacklist,
    /// Signatures that were verified before.
    pub known: &'a KnownSignatures,
}

/// A message of the node for a runtime, as [`Claim::new`] wants it.
fn claim<T: cbor::Encode>(
    key: &PublicKey,
    context: &Context,
    chain: &ChainContext,
    runtime: Option<&Namespace>,
    message: &T,
    signature: &RawSignature,
) -> Option<Claim> {
    let suffix = runtime.map(Namespace::to_string);
    let suffix = suffix.as_deref().map(str::as_bytes);
    Claim::new(*key, context, Some(chain), suffix, &cbor::to_vec(message), *signature)
}

impl Verifier<'_> {
    fn verify<T: cbor::Encode>(
        &self,
        key: &PublicKey,
        context: &Context,
        runtime: Option<&Namespace>,
        message: &T,
        signature: &RawSignature,
    ) -> bool {
        if self.blacklist.contains(key.as_bytes()) {
            return false;
        }
        claim(key, context, self.chain, runtime, message, signature)
            .is_some_and(|c| self.known.holds(&c.key, &c.prepared, &c.signature))
    }
}

fn sign<T: cbor::Encode>(
    key: &SecretKey,
    context: &Context,
    chain: Option<&ChainContext>,
    runtime: Option<&Namespace>,
    message: &T,
) -> Result<RawSignature, ContextError> {
    let suffix = runtime.map(Namespace::to_string);
    let message = cbor::to_vec(message);
    context::sign_with_context(key, context, chain, suffix.as_deref().map(str::as_bytes), &message)
        .map(RawSignature::new)
}

/// The enclave's signature over a result.
///
/// # Errors
/// If the context cannot be prepared.
pub fn sign_rak(rak: &SecretKey, header: &ComputeResultsHeader) -> Result<RawSignature, ContextError> {
    sign(rak, &context::COMPUTE_RESULTS_HEADER, None, None, header)
}

impl ExecutorCommitment {
    /// A commitment signed by `key`.
    ///
    /// # Errors
    /// If the signature context cannot be prepared.
    pub fn signed(
        key: &SecretKey,
        chain: &ChainContext,
        runtime: &Namespace,
        header: ExecutorCommitmentHeader,
        messages: Vec<Message>,
    ) -> Result<Self, ContextError> {
        let signature = sign(key, &context::ROOTHASH_EXECUTOR_COMMITMENT, Some(chain), Some(runtime), &header)?;
        Ok(Self { node_id: PublicKey::new(key.public()), header, signature, messages })
    }

    /// The node's signature, to be verified with others. Its enclave's key is not known without the state.
    pub fn claim(&self, chain: &ChainContext, runtime: &Namespace) -> Option<Claim> {
        let context = &context::ROOTHASH_EXECUTOR_COMMITMENT;
        claim(&self.node_id, context, chain, Some(runtime), &self.header, &self.signature)
    }

    /// Whether the node signed the header for this runtime.
    pub fn verify(&self, verifier: &Verifier<'_>, runtime: &Namespace) -> bool {
        let context = &context::ROOTHASH_EXECUTOR_COMMITMENT;
        verifier.verify(&self.node_id, context, Some(runtime), &self.header, &self.signature)
    }

    /// Whether this indicates a failure.
    pub fn indicates_failure(&self) -> bool {
        self.header.failure != ExecutorCommitmentFailure::NONE
    }

    /// Whether the node commits to its own proposal.
    pub fn is_by_scheduler(&self) -> bool {
        self.node_id == self.header.scheduler_id
    }

    /// What commitments to the same result have in common.
    pub fn to_vote(&self) -> Hash {
        self.header.header.hash()
    }

    /// Stateless rules, signatures apart.
    ///
    /// # Errors
    /// Says which field is missing or should be.
    pub fn validate_basic(&self) -> Result<(), Invalid> {
        let header = &self.header.header;
        match self.header.failure {
            ExecutorCommitmentFailure::NONE => {
                let present = [
                    ("IORoot", header.io_root.is_some()),
                    ("StateRoot", header.state_root.is_some()),
                    ("messages hash", header.messages_hash.is_some()),
                    ("incoming messages hash", header.in_messages_hash.is_some()),
                ];
                if let Some((name, _)) = present.iter().find(|(_, there)| !there) {
                    invalid!("missing {name}");
                }
                for (i, message) in self.messages.iter().enumerate() {
                    message.validate_basic().map_err(|e| Invalid::new(format!("bad runtime message {i}: {e}")))?;
                }
                Ok(())
            }
            ExecutorCommitmentFailure::UNKNOWN | ExecutorCommitmentFailure::STATE_UNAVAILABLE => {
                let extra = [
                    ("IORoot", header.io_root.is_some()),
                    ("StateRoot", header.state_root.is_some()),
                    ("MessagesHash", header.messages_hash.is_some()),
                    ("InMessagesHash/Count", header.in_messages_hash.is_some() || header.in_messages_count != 0),
                    ("RAK signature", self.header.rak_signature.is_some()),
                    ("messages", !self.messages.is_empty()),
                ];
                if let Some((name, _)) = extra.iter().find(|(_, there)| *there) {
                    invalid!("failure indicating commitment includes {name}");
                }
                Ok(())
            }
            ExecutorCommitmentFailure(other) => invalid!("invalid failure: {other}"),
        }
    }
}

/// Header of a batch proposal.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct ProposalHeader {
    /// Proposed round.
    pub round: u64,
    /// Hash of the header that the batch builds on.
    pub previous_hash: Hash,
    /// Hash of the batch's content.
    pub batch_hash: Hash,
}

/// A batch proposal.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct Proposal {
    /// Node that proposes.
    pub node_id: PublicKey,
    /// Header.
    pub header: ProposalHeader,
    /// Its signature over the header.
    #[codec(rename = "sig")]
    pub signature: RawSignature,
    /// Hashes of the batch's transactions; left out in evidence.
    #[codec(omitempty)]
    pub batch: Vec<Hash>,
    /// Its signature over the batch; nothing writes it today, and it is left out in evidence.
    #[codec(omitempty, rename = "batch_sig")]
    pub batch_signature: Option<RawSignature>,
}

impl Proposal {
    /// A proposal signed by `key`.
    ///
    /// # Errors
    /// If the signature context cannot be prepared.
    pub fn signed(
        key: &SecretKey,
        chain: &ChainContext,
        runtime: &Namespace,
        header: ProposalHeader,
        batch: Vec<Hash>,
    ) -> Result<Self, ContextError> {
        let signature = sign(key, &context::ROOTHASH_PROPOSAL, Some(chain), Some(runtime), &header)?;
        Ok(Self { node_id: PublicKey::new(key.public()), header, signature, batch, batch_signature: None })
    }

    /// Whether the node signed header and, if a signature over it is there, batch.
    pub fn verify(&self, verifier: &Verifier<'_>, runtime: &Namespace) -> bool {
        let (node, runtime) = (&self.node_id, Some(runtime));
        verifier.verify(node, &context::ROOTHASH_PROPOSAL, runtime, &self.header, &self.signature)
            && self.batch_signature.as_ref().is_none_or(|s| {
                // Without transactions the batch is nil, not empty.
                let batch = (!self.batch.is_empty()).then(|| self.batch.clone());
                verifier.verify(node, &context::ROOTHASH_PROPOSAL_BATCH, runtime, &batch, s)
            })
    }
}

/// Why a commitment is refused before it reaches the pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CommitmentError {
    /// The node's signature does not verify. This error has no code.
    #[error("roothash/commitment: signature verification failed")]
    Signature,
    /// Another rule does not hold.
    #[error("{}", .0.message)]
    Rule(&'static ErrorCode),
}

/// Checks a commitment against the block it builds on and the runtime's descriptor.
///
/// `find_node` looks up a registered node; it is called for successful commitments of runtimes in enclaves only.
/// `validate_messages` is called with the messages of a scheduler's own commitment, if there are any, after everything
/// else was found in order.
///
/// # Errors
/// [`CommitmentError`], or what `validate_messages` returns.
pub fn verify_executor_commitment<E: From<CommitmentError>>(
    verifier: &Verifier<'_>,
    last: &Header,
    runtime: &Runtime,
    epoch: Epoch,
    commit: &ExecutorCommitment,
    find_node: &mut dyn FnMut(&PublicKey) -> Result<Option<Node>, E>,
    validate_messages: &mut dyn FnMut(&[Message]) -> Result<(), E>,
) -> Result<(), E> {
    let rule = |code: &'static ErrorCode| E::from(CommitmentError::Rule(code));
    if !commit.verify(verifier, &runtime.id) {
        return Err(CommitmentError::Signature.into());
    }
    if commit.validate_basic().is_err() {
        return Err(rule(&codes::BAD_EXECUTOR_COMMITMENT));
    }
    if !commit.header.header.follows(last) {
        return Err(rule(&codes::NOT_BASED_ON_CORRECT_BLOCK));
    }
    if commit.indicates_failure() {
        // A scheduler cannot fail to compute its own proposal.
        if commit.is_by_scheduler() {
            return Err(rule(&codes::BAD_EXECUTOR_COMMITMENT));
        }
        return Ok(());
    }
    if runtime.tee_hardware != TeeHardware::INVALID {
        let node = find_node(&commit.node_id)?.ok_or_else(|| rule(&codes::NOT_IN_COMMITTEE))?;
        let active = runtime.active_deployment(epoch).ok_or_else(|| rule(&codes::NO_RUNTIME))?;
        let registered = node.runtime(&runtime.id, active.version).ok_or_else(|| rule(&codes::NOT_IN_COMMITTEE))?;
        let tee = registered.capabilities.tee.as_ref().ok_or_else(|| rule(&codes::RAK_SIG_INVALID))?;
        if !commit.header.verify_rak(verifier, &tee.rak) {
            return Err(rule(&codes::RAK_SIG_INVALID));
        }
    }
    if !commit.is_by_scheduler() {
        return if commit.messages.is_empty() { Ok(()) } else { Err(rule(&codes::INVALID_MESSAGES)) };
    }
    let too_many = u32::try_from(commit.messages.len()).map_or(true, |n| n > runtime.executor.max_messages);
    if too_many || Some(messages_hash(&commit.messages)) != commit.header.header.messages_hash {
        return Err(rule(&codes::INVALID_MESSAGES));
    }
    if commit.messages.is_empty() { Ok(()) } else { validate_messages(&commit.messages) }
}
