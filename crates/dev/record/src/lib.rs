//! Writes a running node's chain in the recorded-chain format, read over the node's public gRPC and verified on the way.
//!
//! Layer: dev (nothing in a shipped binary may depend on it). Reference counterpart: none; it asks the methods of
//! `oasis-core.Consensus` (`go/consensus/api/grpc.go`), so it records this node and the reference alike.
//!
//! What it does not do: it follows no growing chain and needs no access to the node's data folder.
//!
//! # Where each field comes from
//!
//! | Field | Source |
//! |---|---|
//! | `genesis.json` | `GetGenesisDocument`; its CBOR has whole seconds, so the time's fraction is taken from the first block's header, which repeats the genesis time; the chain context is checked |
//! | `block` | header and last commit from `GetBlock`, transactions from `GetTransactions`, evidence see below; checked against the header's hash and its hashes of each part |
//! | `seen_commit` | the commit of `GetLightBlock`: that of the next block (*canonical*), not the one that the recorded node happened to see first, which no method gives |
//! | `abci_responses` | transaction results and events from `GetBlockResults`, checked against the next header's `last_results_hash`; validator updates from the difference of the next two validator sets (an application never returns an update without effect; the order is by key, in the reference it is random); parameter updates are the application version, as the reference returns on every block |
//! | `validators` | `GetValidators`, with proposer priorities; checked against the header |
//! | state | `StateSyncGetPrefixes` and `StateSyncIterate` with proofs, checked against the next header's `app_hash` |
//!
//! # Limits of the interface
//!
//! * The state root of the newest block is in no header yet, so a recording ends one block before the node's newest.
//! * No method gives evidence. A block with evidence (its header says so) needs a supplement: lines
//!   `{"height": H, "evidence": base64 of EvidenceList}`; what it says is checked against the header's `evidence_hash`.
//!   Without it, recording fails and names the height.
//!
//! Main types: [`Node`] and its gRPC form [`GrpcNode`], [`Options`], [`record`], [`Report`], [`StateReader`].
//!
//! Invariant: nothing is written that was not checked against a header of the chain, except events, texts of errors,
//! proposer priorities and the hash chain's own beginning.
//!
//! Tested by serving recorded chains from an in-memory node and recording them again.

mod api;
mod chain;
mod error;
mod grpc;
mod record;
mod state;
#[cfg(test)]
mod tests;

pub use error::Error;
pub use grpc::GrpcNode;
pub use record::{Evidence, Options, Report, read_evidence, record};
pub use state::{Change, Difference, StateReader};

/// Something that answers the methods of `oasis-core.Consensus`.
pub trait Node {
    /// Calls the method of that short name; `request` and the answer are CBOR, an absent argument has no bytes.
    ///
    /// # Errors
    /// If the call failed or the node refused it.
    fn call(&mut self, method: &'static str, request: &[u8]) -> Result<Vec<u8>, Error>;
}
