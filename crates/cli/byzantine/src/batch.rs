//! What is proposed and committed to. Pure.

use base_codec::{Bytes, Codec, cbor};
use base_crypto::context::{ChainContext, ContextError};
use base_crypto::ed25519::SecretKey;
use base_prims::{Epoch, Hash, Namespace, PublicKey};
use mkvs_tree::{KvWrite as _, Sequential, Tree, TreeError};
use wire_consensus::roothash::message::{in_messages_hash, messages_hash};
use wire_consensus::roothash::{
    ComputeResultsHeader, ExecutorCommitment, ExecutorCommitmentFailure, ExecutorCommitmentHeader, Header, Proposal,
    ProposalHeader, commitment::sign_rak,
};
use wire_runtime::transaction::{ArtifactKind, InputArtifacts, OutputArtifacts, hash, tag_key, transaction_key};

use crate::ExecutorMode;
use crate::actor::ActError;

/// A transaction that nobody else has.
pub(crate) const BOGUS: &[u8] = b"this is a bogus transition nr. 1";
/// Key under which the test runtime keeps the epoch.
const EPOCH_KEY: &[u8] = &[0x02];
/// What the test runtime's only expected transaction sets.
const KEY: &[u8] = b"hello_key";
const VALUE: &[u8] = b"hello_value";
/// What a liar sets instead.
const WRONG_VALUE: &[u8] = b"wrong";
/// What an invalid batch hash is the hash of.
const INVALID: &[u8] = b"invalid batch hash";

/// The result of a successful call in the test runtime.
#[derive(Default, Codec)]
#[codec(cbor_only)]
struct Success {
    #[codec(rename = "Success")]
    success: Option<u8>,
}

fn broken(error: &TreeError) -> ActError {
    ActError::Compute(format!("I/O tree: {error}"))
}

/// Root of the tree of inputs and, if `with_results`, of what the test runtime answers to each.
pub(crate) fn io_root(txs: &[Vec<u8>], with_results: bool) -> Result<Hash, ActError> {
    let mut tree = Tree::in_memory();
    let mut set = |key: &[u8], value: &[u8]| tree.insert(key, value).map_err(|error| broken(&error));
    for (order, tx) in (0u32..).zip(txs) {
        let name = hash(tx);
        let input = InputArtifacts { input: Some(Bytes(tx.clone())), batch_order: order };
        set(&transaction_key(&name, ArtifactKind::Input), &cbor::to_vec(&input))?;
        if with_results {
            let output = OutputArtifacts { output: Some(Bytes(cbor::to_vec(&Success::default()))) };
            set(&transaction_key(&name, ArtifactKind::Output), &cbor::to_vec(&output))?;
            set(&tag_key(b"kv_op", &name), b"insert")?;
            set(&tag_key(b"kv_key", &name), KEY)?;
        }
    }
    Ok(tree.root_hash(&Sequential))
}

/// What a node of the mode changes in the state of a round with so many transactions.
pub(crate) fn state_changes(
    mode: ExecutorMode,
    epoch: Epoch,
    transactions: usize,
) -> Result<Vec<(Vec<u8>, Vec<u8>)>, ActError> {
    let mut changes = vec![(EPOCH_KEY.to_vec(), epoch.to_be_bytes().to_vec())];
    if mode == ExecutorMode::FailureIndicating {
        return Ok(changes);
    }
    if transactions > 1 {
        return Err(ActError::Compute(format!("unsupported number of transactions: {transactions}")));
    }
    match mode {
        ExecutorMode::Dishonest => changes.push((KEY.to_vec(), WRONG_VALUE.to_vec())),
        _ if transactions == 1 => changes.push((KEY.to_vec(), VALUE.to_vec())),
        _ => {}
    }
    Ok(changes)
}

/// Who signs, and for what.
pub(crate) struct Signer<'a> {
    pub(crate) key: &'a SecretKey,
    pub(crate) chain: &'a ChainContext,
    pub(crate) runtime: &'a Namespace,
}

fn unsigned(error: &ContextError) -> ActError {
    ActError::Compute(format!("signature: {error}"))
}

impl Signer<'_> {
    /// A proposal of transactions for the round after `previous`.
    pub(crate) fn propose(&self, mode: ExecutorMode, previous: &Header, txs: &[Vec<u8>]) -> Result<Proposal, ActError> {
        let batch_hash = match mode {
            ExecutorMode::InvalidBatchHash => Hash::of(&[INVALID]),
            _ => io_root(txs, false)?,
        };
        let header =
            ProposalHeader { round: previous.round.saturating_add(1), previous_hash: previous.hash(), batch_hash };
        let batch = txs.iter().map(|tx| hash(tx)).collect();
        Proposal::signed(self.key, self.chain, self.runtime, header, batch).map_err(|error| unsigned(&error))
    }

    /// A commitment to roots, or to a failure.
    pub(crate) fn commit(
        &self,
        proposal: &Proposal,
        roots: Option<(Hash, Hash)>,
        rak: Option<&SecretKey>,
    ) -> Result<ExecutorCommitment, ActError> {
        let mut results = ComputeResultsHeader {
            round: proposal.header.round,
            previous_hash: proposal.header.previous_hash,
            ..ComputeResultsHeader::default()
        };
        if let Some((io, state)) = roots {
            results.io_root = Some(io);
            results.state_root = Some(state);
            results.messages_hash = Some(messages_hash(&[]));
            results.in_messages_hash = Some(in_messages_hash(&[]));
        }
        let rak_signature = match rak.filter(|_| roots.is_some()) {
            Some(rak) => Some(sign_rak(rak, &results).map_err(|error| unsigned(&error))?),
            None => None,
        };
        let scheduler_id: PublicKey = proposal.node_id;
        let mut header =
            ExecutorCommitmentHeader { scheduler_id, header: results, rak_signature, ..Default::default() };
        if roots.is_none() {
            header.set_failure(ExecutorCommitmentFailure::UNKNOWN);
        }
        ExecutorCommitment::signed(self.key, self.chain, self.runtime, header, Vec::new())
            .map_err(|error| unsigned(&error))
    }
}
