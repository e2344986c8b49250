//! Messages between runtimes and the consensus layer, both ways.
//!
//! Source: `go/roothash/api/message`.

use base_codec::{Bytes, Codec};
use base_prims::{Address, Hash, Quantity};

use crate::{
    Invalid,
    governance::{ProposalContent, ProposalVote},
    invalid,
    registry::Runtime,
    staking::{Escrow, ReclaimEscrow, Transfer, Withdraw},
};

/// A message that a runtime emits; the runtime's account is the caller.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct Message {
    /// For the staking service.
    #[codec(omitempty)]
    pub staking: Option<StakingMessage>,
    /// For the registry.
    #[codec(omitempty)]
    pub registry: Option<RegistryMessage>,
    /// For the governance service.
    #[codec(omitempty)]
    pub governance: Option<GovernanceMessage>,
}

impl Message {
    /// Stateless rules: the first part that is set must itself be valid.
    ///
    /// # Errors
    /// Says what is missing or too much.
    pub fn validate_basic(&self) -> Result<(), Invalid> {
        if let Some(m) = &self.staking {
            return m.validate_basic();
        }
        if let Some(m) = &self.registry {
            return m.validate_basic();
        }
        if let Some(m) = &self.governance {
            return m.validate_basic();
        }
        invalid!("runtime message has no fields set")
    }
}

/// SHA-512/256 of the list's CBOR; the empty hash for no messages.
pub fn messages_hash(messages: &[Message]) -> Hash {
    if messages.is_empty() { Hash::EMPTY } else { Hash::of_cbor(messages) }
}

/// A message for the staking service: exactly one operation.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct StakingMessage {
    /// Version of the format.
    pub v: u16,
    /// Transfer from the runtime's account.
    #[codec(omitempty)]
    pub transfer: Option<Transfer>,
    /// Withdrawal of an allowance.
    #[codec(omitempty)]
    pub withdraw: Option<Withdraw>,
    /// Delegation.
    #[codec(omitempty)]
    pub add_escrow: Option<Escrow>,
    /// End of a delegation.
    #[codec(omitempty)]
    pub reclaim_escrow: Option<ReclaimEscrow>,
}

impl StakingMessage {
    /// Stateless rules.
    ///
    /// # Errors
    /// If no operation or more than one is set.
    pub fn validate_basic(&self) -> Result<(), Invalid> {
        let set = [
            self.transfer.is_some(),
            self.withdraw.is_some(),
            self.add_escrow.is_some(),
            self.reclaim_escrow.is_some(),
        ];
        match set.into_iter().filter(|s| *s).count() {
            0 => invalid!("staking runtime message has no fields set"),
            1 => Ok(()),
            _ => invalid!("staking runtime message has multiple fields set"),
        }
    }
}

/// A message for the registry.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct RegistryMessage {
    /// Version of the format.
    pub v: u16,
    /// New descriptor of the runtime.
    #[codec(omitempty)]
    pub update_runtime: Option<Runtime>,
}

impl RegistryMessage {
    /// Stateless rules. The descriptor itself is checked on registration.
    ///
    /// # Errors
    /// If no operation is set.
    pub fn validate_basic(&self) -> Result<(), Invalid> {
        if self.update_runtime.is_none() {
            invalid!("registry runtime message has no fields set");
        }
        Ok(())
    }
}

/// A message for the governance service: exactly one operation.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct GovernanceMessage {
    /// Version of the format.
    pub v: u16,
    /// A vote.
    #[codec(omitempty)]
    pub cast_vote: Option<ProposalVote>,
    /// A proposal.
    #[codec(omitempty)]
    pub submit_proposal: Option<ProposalContent>,
}

impl GovernanceMessage {
    /// Stateless rules.
    ///
    /// # Errors
    /// If no operation or both are set.
    pub fn validate_basic(&self) -> Result<(), Invalid> {
        match (&self.cast_vote, &self.submit_proposal) {
            (Some(_), Some(_)) => invalid!("governance runtime message has multiple fields set"),
            (None, None) => invalid!("governance runtime message has no fields set"),
            _ => Ok(()),
        }
    }
}

/// A message that waits in the consensus layer for a runtime.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct IncomingMessage {
    /// Sequence number.
    pub id: u64,
    /// Who submitted it, authenticated.
    pub caller: Address,
    /// Chosen by the caller and repeated in the event of processing.
    #[codec(omitempty)]
    pub tag: u64,
    /// Fee that was transferred, in base units.
    #[codec(omitempty)]
    pub fee: Quantity,
    /// Tokens that were transferred, in base units.
    #[codec(omitempty)]
    pub tokens: Quantity,
    /// Content that only the runtime understands.
    #[codec(omitempty)]
    pub data: Option<Bytes>,
}

/// SHA-512/256 of the list's CBOR; the empty hash for no messages.
pub fn in_messages_hash(messages: &[IncomingMessage]) -> Hash {
    if messages.is_empty() { Hash::EMPTY } else { Hash::of_cbor(messages) }
}

/// State of a runtime's queue of incoming messages.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct IncomingMessageQueueMeta {
    /// How many messages wait.
    #[codec(omitempty)]
    pub size: u32,
    /// Sequence number of the next message.
    #[codec(omitempty)]
    pub next_sequence_number: u64,
}
