//! `Consensus`: blocks, transactions, state. Source: `go/consensus/api`, `go/consensus/cometbft/full`.

pub(crate) mod answers;
mod sync;
pub(crate) mod txs;

use std::sync::Arc;

use apps_committees::{beacon, registry};
use apps_core::params;
use base_grpc::{Router, RpcError};
use base_prims::version::PROTOCOLS;
use base_prims::{Address, Hash, Quantity};
use comet_core::RoundState;
use comet_core::vote_set::VoteSet;
use node_app::{NodeOptions, build_mux, export_genesis};
use wire_cometbft::codec::Message as _;
use wire_cometbft::keys;
use wire_consensus::consensus::BACKEND;
use wire_consensus::genesis::Document;

use crate::backend::{Backend, Kind, query_error, service_error, store_error, unsupported};
use crate::follow::{Watched, follow, load_block, load_results};
use crate::serve::Methods;
use crate::status::{
    ConsensusP2pStatus, ConsensusStatus, FEATURE_ARCHIVE_NODE, FEATURE_FULL_NODE, FEATURE_SERVICES, StatusState,
};
use crate::types::{Block, EstimateGasRequest, Evidence, NextBlockState, Parameters, Vote, Votes, float};

pub(crate) fn add(router: &mut Router, backend: &Arc<Backend>) {
    let mut service = Methods::new(router, "Consensus", backend);
    service
        .call("StateToGenesis", |backend, height: i64| state_to_genesis(backend, height))
        .call("EstimateGas", |backend, request: EstimateGasRequest| {
            if backend.engine.kind() == Kind::Archive {
                return Err(unsupported());
            }
            let tx = request.transaction.ok_or_else(|| invalid_argument("missing transaction"))?;
            backend.queries.estimate_gas(request.signer, &tx).map_err(query_error)
        })
        .get("MinGasPrice", |backend| {
            let params = params::parameters(&backend.state(0)?).map_err(|error| service_error(&error))?;
            Ok(Quantity::from(params.min_gas_price))
        })
        .call("GetBlock", |backend, height: i64| {
            let height = backend.height(height)?;
            answers::block(&load_block(backend, height)?)
        })
        .call("GetBlockResults", |backend, height: i64| {
            let height = backend.height(height)?;
            Ok(answers::results(height, &load_results(backend, height)?))
        })
        .call("GetLightBlock", |backend, height: i64| answers::light_block(backend, height))
        .call("GetValidators", |backend, height: i64| answers::validators(backend, height))
        .get("GetLatestHeight", |backend| backend.height(0))
        .get("GetLastRetainedHeight", |backend| Ok(backend.last_retained()))
        .call("GetTransactions", |backend, height: i64| txs::transactions(backend, height))
        .call("GetTransactionsWithResults", |backend, height: i64| txs::with_results(backend, height))
        .call("GetTransactionsWithProofs", |backend, height: i64| txs::with_proofs(backend, height))
        .get("GetUnconfirmedTransactions", |backend| {
            let txs = backend.engine.unconfirmed()?;
            Ok(txs.into_iter().map(|tx| base_codec::Bytes(tx.to_vec())).collect::<Vec<_>>())
        })
        .get("GetGenesisDocument", |backend| Ok(Document::clone(backend.queries.genesis())))
        .get("GetChainContext", |backend| Ok(backend.queries.genesis().chain_context().as_str().to_owned()))
        .get("GetStatus", |backend| Ok(status(backend)))
        .call("GetParameters", |backend, height: i64| parameters(backend, height))
        .call("StateSyncGet", sync::get)
        .call("StateSyncGetPrefixes", sync::get_prefixes)
        .call("StateSyncIterate", sync::iterate);
    if backend.rounds.is_some() {
        service.get("GetNextBlockState", |backend| next_block(backend));
    }
    let (router, name, backend) = service.raw();
    txs::add_submission(router, name, &backend);
    let b = Arc::clone(&backend);
    router.unary(name, "SubmitEvidence", move |base_grpc::Cbor(evidence): base_grpc::Cbor<Evidence>| {
        let backend = Arc::clone(&b);
        async move { backend.read(move |backend| submit_evidence(backend, &evidence)).await }
    });
    let watched = Arc::new(Watched {
        first: |_: &Arc<Backend>, (): &()| Ok((None, Vec::new())),
        items: |_: &Arc<Backend>, (): &(), applied: &crate::backend::Applied| Ok(vec![answers::block(&applied.block)?]),
    });
    router.streaming(name, "WatchBlocks", move |()| {
        follow::<(), Block, _, _>(Arc::clone(&backend), (), Arc::clone(&watched))
    });
}

/// `consensus/6`.
fn invalid_argument(text: &str) -> RpcError {
    RpcError::service(crate::backend::CONSENSUS, 6, format!("consensus: invalid argument: {text}"))
}

/// The state at a height as a genesis document; 0 is the newest.
///
/// # Errors
/// If the state or the block of that height is not there.
pub fn state_to_genesis(backend: &Backend, height: i64) -> Result<Document, RpcError> {
    if backend.engine.kind() == Kind::Stateless {
        // All of the state would have to be fetched.
        return Err(unsupported());
    }
    let height = backend.height(height)?;
    let time = load_block(backend, height)?.header.time;
    let (state, base) = (backend.state(height)?, backend.queries.genesis());
    let mux = build_mux(base, NodeOptions::default());
    export_genesis(mux.services(), &state, height, time, base).map_err(|error| service_error(&error))
}

fn parameters(backend: &Backend, height: i64) -> Result<Parameters, RpcError> {
    let height = backend.height(height)?;
    let meta = backend.engine.blocks().params(height).map_err(store_error)?.ok_or_else(crate::backend::no_version)?;
    let parameters = params::parameters(&backend.state(height)?).map_err(|error| service_error(&error))?;
    Ok(Parameters { height, parameters, meta: meta.encode_to_vec().into() })
}

fn submit_evidence(backend: &Backend, evidence: &Evidence) -> Result<(), RpcError> {
    if backend.engine.kind() == Kind::Archive {
        return Err(unsupported());
    }
    let evidence = wire_cometbft::evidence::Evidence::decode(&evidence.meta)
        .map_err(|error| store_error(format!("malformed evidence while unmarshalling: {error}")))?;
    backend.engine.submit_evidence(evidence)
}

/// Status of the consensus layer.
pub(crate) fn status(backend: &Backend) -> ConsensusStatus {
    let genesis = backend.queries.genesis();
    let (engine, keys) = (&backend.engine, &backend.keys);
    let ready = backend.control.synced().is_some_and(|synced| *synced.borrow());
    // A status that says what is wrong is worth more than none.
    let mut problems = Vec::new();
    let mut block = |height| -> Option<Block> {
        let read = engine.blocks().block(height).map_err(store_error);
        let read = read.and_then(|block| block.map(|block| answers::block(&block)).transpose());
        read.unwrap_or_else(|error| {
            problems.push(format!("block {height}: {}", error.message));
            None
        })
    };
    let kind = engine.kind();
    let (features, p2p) = match kind {
        Kind::Full => (
            FEATURE_SERVICES | FEATURE_FULL_NODE,
            Some(ConsensusP2pStatus {
                pub_key: keys.p2p,
                peer_id: engine.node_id(),
                addresses: Some(keys.addresses.clone()),
                peers: Some(engine.peers()),
            }),
        ),
        Kind::Stateless => (FEATURE_SERVICES, Some(ConsensusP2pStatus::default())),
        Kind::Archive => (FEATURE_SERVICES | FEATURE_ARCHIVE_NODE, None),
    };
    // What a stateless node has of them it has from others.
    let mut kept = |height| {
        if kind == Kind::Stateless { Hash::default() } else { block(height).unwrap_or_default().hash }
    };
    let last_retained_height = if kind == Kind::Stateless { 0 } else { backend.last_retained() };
    let mut status = ConsensusStatus {
        status: if ready { StatusState::READY } else { StatusState::SYNCING },
        version: PROTOCOLS.consensus_protocol,
        backend: BACKEND.to_owned(),
        features,
        genesis_height: genesis.height,
        genesis_hash: kept(genesis.height),
        last_retained_height,
        last_retained_hash: kept(last_retained_height),
        chain_context: genesis.chain_context().as_str().to_owned(),
        p2p,
        ..ConsensusStatus::default()
    };
    let latest = backend.queries.latest().height;
    if latest > 0
        && let Some(block) = block(latest)
    {
        status.latest_height = latest;
        status.latest_hash = block.hash;
        status.latest_time = block.time;
        status.latest_state_root = block.state_root;
        status.latest_block_size = block.size;
        let state = backend.state(latest);
        let epoch = state.and_then(|state| beacon::query::epoch(&state).map_err(|error| service_error(&error)));
        match epoch {
            Ok(epoch) => status.latest_epoch = epoch.0,
            Err(error) => problems.push(format!("state of height {latest}: {}", error.message)),
        }
    }
    let next = latest.saturating_add(1).max(genesis.height);
    let address = keys::Address::of(keys.consensus.as_bytes());
    let validators = if kind == Kind::Full { engine.blocks().validators(next).ok().flatten() } else { None };
    status.is_validator = validators.is_some_and(|set| set.find(&address).is_some());
    status.problems = problems;
    status
}

fn next_block(backend: &Backend) -> Result<NextBlockState, RpcError> {
    let place = backend.rounds.as_ref().and_then(|rounds| rounds());
    let place = place.ok_or_else(|| RpcError::unknown("cometbft: not yet started"))?;
    Ok(NextBlockState {
        height: place.height,
        num_validators: place.validators.len() as u64,
        voting_power: place.validators.total_voting_power().unsigned_abs(),
        prevotes: votes(backend, &place, place.votes.prevotes(place.round)),
        precommits: votes(backend, &place, place.votes.precommits(place.round)),
    })
}

fn votes(backend: &Backend, place: &RoundState, set: Option<&VoteSet>) -> Votes {
    // The state of the height being decided is there only for a moment; before that the newest one names the nodes.
    let state = backend.state(place.height).or_else(|_| backend.state(0)).ok();
    let mut votes = Vec::new();
    for (index, validator) in place.validators.validators().iter().enumerate() {
        if set.and_then(|set| set.get(index)).is_none() {
            continue;
        }
        let mut vote = Vote { voting_power: validator.voting_power.unsigned_abs(), ..Vote::default() };
        let node = state.as_ref().map(|kv| registry::query::node_by_consensus_address(kv, &validator.address.0));
        if let Some(Ok(node)) = node {
            vote.node_id = node.id;
            vote.entity_id = node.entity_id;
            vote.entity_address = Address::of_key(&node.entity_id);
        }
        votes.push(vote);
    }
    let voting_power = votes.iter().fold(0u64, |sum, vote| sum.saturating_add(vote.voting_power));
    let ratio = float(voting_power as f64 / place.validators.total_voting_power() as f64);
    Votes { voting_power, ratio, votes: crate::serve::nil(votes) }
}
