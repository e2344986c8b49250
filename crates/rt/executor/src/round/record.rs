//! What a node is about to sign in a round, as it is kept on disk.
//!
//! CBOR `{v, chain, runtime_id, round, proposals: [{header, batch}], commitments: [{header, messages}]}`; our own format.

use base_codec::Codec;
use base_prims::{Hash, Namespace};
use wire_consensus::roothash::{ExecutorCommitmentHeader, Message, ProposalHeader};

use super::Setup;

/// Version of the format.
pub(super) const VERSION: u16 = 1;

/// A proposal.
#[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
#[codec(cbor_only)]
pub struct ProposalRecord {
    /// What is signed.
    pub header: ProposalHeader,
    /// Hashes of the transactions.
    pub batch: Vec<Hash>,
}

/// A commitment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
#[codec(cbor_only)]
pub struct CommitmentRecord {
    /// What is signed.
    pub header: ExecutorCommitmentHeader,
    /// Emitted messages.
    pub messages: Vec<Message>,
}

/// Everything that may have been signed for a round.
#[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
#[codec(cbor_only)]
pub struct Record {
    /// Version of the format: 1.
    pub v: u16,
    /// The chain context, hexadecimal.
    pub chain: String,
    /// The runtime.
    pub runtime_id: Namespace,
    /// The round.
    pub round: u64,
    /// The node's own proposals; at most one.
    pub proposals: Vec<ProposalRecord>,
    /// Its commitments, at most one per scheduler: of one scheduler's the last one counts, for an earlier one was not
    /// signed.
    pub commitments: Vec<CommitmentRecord>,
}

impl Record {
    /// Nothing for a round.
    pub fn new(setup: &Setup, round: u64) -> Self {
        let (chain, runtime_id) = (setup.chain.as_str().to_owned(), setup.runtime);
        Self { v: VERSION, chain, runtime_id, round, ..Self::default() }
    }

    /// Whether it is of this runtime and network.
    pub fn is_of(&self, setup: &Setup) -> bool {
        self.runtime_id == setup.runtime && self.chain == setup.chain.as_str()
    }

    /// Adds a commitment, in place of one to the same scheduler's proposal.
    pub fn commit(&mut self, commitment: CommitmentRecord) {
        self.commitments.retain(|c| c.header.scheduler_id != commitment.header.scheduler_id);
        self.commitments.push(commitment);
    }
}
