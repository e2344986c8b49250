//! Transactions: those of blocks, and new ones. Source: `go/consensus/cometbft/full`,
//! `go/consensus/cometbft/crypto/merkle`.

use std::sync::Arc;

use apps_committees::{registry, roothash};
use apps_core::submit::{Included, SubmitError};
use apps_governance::governance;
use apps_staking::query as staking;
use base_codec::{Bytes, cbor};
use base_grpc::{Cbor, Code, Router, RpcError};
use base_prims::Hash;
use comet_chain::app::TxResult;
use wire_cometbft::merkle::{prove, sha256};
use wire_consensus::transaction::SignedTransaction;

use crate::backend::{Backend, service_error, store_error};
use crate::follow::{load_block, load_results};
use crate::serve::nil;
use crate::types::{
    MerkleProof, Proof, TransactionError, TransactionEvent, TransactionResult, TransactionsWithProofs,
    TransactionsWithResults,
};

pub(crate) fn transactions(backend: &Backend, height: i64) -> Result<Vec<Bytes>, RpcError> {
    let block = load_block(backend, backend.height(height)?)?;
    Ok(block.data.txs.into_iter().map(Bytes).collect())
}

/// The events tell the height that was asked for: none, where that was the newest one.
pub(crate) fn with_results(backend: &Backend, asked: i64) -> Result<TransactionsWithResults, RpcError> {
    let height = backend.height(asked)?;
    let transactions = transactions(backend, height)?;
    let found = load_results(backend, height)?.tx_results;
    if transactions.len() != found.len() {
        let (txs, results) = (transactions.len(), found.len());
        return Err(store_error(format!("{results} results of {txs} transactions")));
    }
    let pairs = transactions.iter().zip(&found);
    let results = pairs.map(|(tx, found)| result(asked, tx, found)).collect::<apps_core::Result<_>>();
    Ok(TransactionsWithResults { transactions, results: results.map_err(|error| service_error(&error))? })
}

fn result(height: i64, tx: &[u8], found: &TxResult) -> apps_core::Result<TransactionResult> {
    let hash = Hash::of(&[tx]);
    let mut events = Vec::new();
    for event in &found.events {
        let wrap = |staking| TransactionEvent { staking: Some(staking), ..TransactionEvent::default() };
        events.extend(staking::events(height, hash, event)?.into_iter().map(wrap));
    }
    for event in &found.events {
        let wrap = |registry| TransactionEvent { registry: Some(registry), ..TransactionEvent::default() };
        events.extend(registry::query::events(height, hash, event)?.into_iter().map(wrap));
    }
    for event in &found.events {
        let wrap = |roothash| TransactionEvent { roothash: Some(roothash), ..TransactionEvent::default() };
        events.extend(roothash::query::events(height, hash, event)?.into_iter().map(wrap));
    }
    for event in &found.events {
        let wrap = |governance| TransactionEvent { governance: Some(governance), ..TransactionEvent::default() };
        events.extend(governance::query::events(height, hash, event)?.into_iter().map(wrap));
    }
    let error = TransactionError { module: found.codespace.clone(), code: found.code, message: found.log.clone() };
    Ok(TransactionResult { error, events: nil(events), gas_used: found.gas_used.cast_unsigned() })
}

/// Proofs that the transactions are those of the block that has exactly these, in order: CBOR of [`MerkleProof`].
pub fn transaction_proofs<T: AsRef<[u8]>>(transactions: &[T]) -> Vec<Bytes> {
    let hashes: Vec<_> = transactions.iter().map(|tx| sha256(tx.as_ref())).collect();
    let proofs = prove(&hashes).1.into_iter().map(|proof| {
        let aunts = proof.aunts.into_iter().map(Bytes).collect();
        let (total, index, leaf_hash) = (proof.total, proof.index, Bytes(proof.leaf_hash));
        Bytes(cbor::to_vec(&MerkleProof { total, index, leaf_hash, aunts }))
    });
    proofs.collect()
}

pub(crate) fn with_proofs(backend: &Backend, height: i64) -> Result<TransactionsWithProofs, RpcError> {
    let transactions = transactions(backend, height)?;
    Ok(TransactionsWithProofs { proofs: transaction_proofs(&transactions), transactions })
}

fn submit_error(error: SubmitError) -> RpcError {
    match error {
        SubmitError::Refused { module, code, message } | SubmitError::Invalidated { module, code, message } => {
            RpcError::service(&module, code, message)
        }
        SubmitError::Unavailable(text) => RpcError::unknown(text),
    }
}

/// Submits a transaction and waits for its block, where it has to succeed.
async fn submit(backend: &Backend, tx: &SignedTransaction) -> Result<Included, RpcError> {
    let submitting = backend.engine.submitter().submit(cbor::to_vec(tx));
    let included = tokio::select! {
        included = submitting => included.map_err(submit_error)?,
        () = backend.stop.cancelled() => {
            return Err(RpcError::with(Code::Unavailable, "node is shutting down"));
        }
    };
    match &included.result {
        TxResult { code: 0, .. } => Ok(included),
        TxResult { code, codespace, log, .. } => Err(RpcError::service(codespace, *code, log.clone())),
    }
}

pub(crate) fn add_submission(router: &mut Router, service: &str, backend: &Arc<Backend>) {
    let b = Arc::clone(backend);
    router.unary(service, "SubmitTx", move |Cbor(tx): Cbor<SignedTransaction>| {
        let backend = Arc::clone(&b);
        async move { submit(&backend, &tx).await.map(|_| ()) }
    });
    let b = Arc::clone(backend);
    router.unary(service, "SubmitTxNoWait", move |Cbor(tx): Cbor<SignedTransaction>| {
        let backend = Arc::clone(&b);
        async move { backend.engine.submitter().submit_no_wait(cbor::to_vec(&tx)).await.map_err(submit_error) }
    });
    let b = Arc::clone(backend);
    router.unary(service, "SubmitTxWithProof", move |Cbor(tx): Cbor<SignedTransaction>| {
        let backend = Arc::clone(&b);
        async move {
            let Included { height, index, .. } = submit(&backend, &tx).await?;
            let proofs = backend.read(move |backend| with_proofs(backend, height)).await?.proofs;
            let place = usize::try_from(index).unwrap_or(usize::MAX);
            let raw_proof = proofs.into_iter().nth(place);
            let raw_proof = raw_proof.ok_or_else(|| store_error("invalid transaction index"))?;
            Ok(Cbor(Proof { height, raw_proof }))
        }
    });
}
