//! Proofs of state. Source: `go/storage/mkvs/syncer`, `go/storage/mkvs/db/api`.

use std::sync::Arc;

use base_grpc::RpcError;
use mkvs_tree::Proof;
use mkvs_tree::sync::{GetPrefixesRequest, GetRequest, IterateRequest, ProofResponse, ReadSyncer, TreeId};

use crate::backend::Backend;

/// Largest proof, in bytes: it has to fit into a message.
pub(crate) const MAX_PROOF_BYTES: usize = 64 << 20;

/// Module of the node database's errors.
const NODE_DB: &str = "storage/mkvs/db";

fn prove(
    backend: &Backend,
    tree: &TreeId,
    prove: impl FnOnce(&dyn ReadSyncer) -> Result<Proof, String>,
) -> Result<ProofResponse, RpcError> {
    let missing = || RpcError::service(NODE_DB, 8, "mkvs: root not found");
    let height = i64::try_from(tree.root.version).ok().filter(|height| *height > 0).ok_or_else(missing)?;
    let state = backend.queries.state(height).map_err(|_| missing())?;
    if state.root != tree.root {
        return Err(missing());
    }
    let prover = state.prover(MAX_PROOF_BYTES);
    Ok(ProofResponse { proof: prove(prover.as_ref()).map_err(RpcError::unknown)? })
}

pub(crate) fn get(backend: &Arc<Backend>, request: GetRequest) -> Result<ProofResponse, RpcError> {
    prove(backend, &request.tree, |server| server.get(&request))
}

pub(crate) fn get_prefixes(backend: &Arc<Backend>, request: GetPrefixesRequest) -> Result<ProofResponse, RpcError> {
    prove(backend, &request.tree, |server| server.get_prefixes(&request))
}

pub(crate) fn iterate(backend: &Arc<Backend>, request: IterateRequest) -> Result<ProofResponse, RpcError> {
    prove(backend, &request.tree, |server| server.iterate(&request))
}
