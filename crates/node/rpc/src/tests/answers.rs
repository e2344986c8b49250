//! What was recorded is what is answered.

use apps_committees::{beacon, registry, roothash, scheduler};
use apps_core::submit::SubmitError;
use base_codec::{Bytes, cbor};
use base_prims::{Namespace, Quantity};
use mkvs_tree::proof::verify;
use mkvs_tree::sync::{GetPrefixesRequest, GetRequest, IterateRequest, ProofResponse, TreeId};
use mkvs_tree::{KvRead as _, Root};
use wire_cometbft::abci::{AbciResponses, DeliverTx};
use wire_cometbft::block::{Block as CometBlock, Commit, Header, LightBlock};
use wire_cometbft::codec::Message as _;
use wire_cometbft::merkle;
use wire_cometbft::params::ConsensusParams;
use wire_cometbft::validators::ValidatorSet;
use wire_consensus::genesis::Document;
use wire_consensus::registry::{GetRuntimeQuery, GetRuntimesQuery, IdQuery};
use wire_consensus::roothash::{InMessageQueueRequest, RuntimeRequest};
use wire_consensus::staking::{Account, OwnerQuery, ThresholdKind, ThresholdQuery};
use wire_consensus::transaction::SignedTransaction;

use super::{Served, served};
use crate::consensus::answers;
use crate::types::{
    AtHeight, Block, BlockMeta, BlockResults, BlockResultsMeta, EstimateGasRequest, Event, Evidence, MerkleProof,
    Parameters, Proof, TransactionsWithProofs, TransactionsWithResults, TxResult,
};

const FAILING: &str = "gas-fees-staking";
const RUNTIME: &str = "runtime-runtime";

fn wire_event(event: Event) -> wire_cometbft::abci::Event {
    let attribute =
        |a: crate::types::Attribute| wire_cometbft::abci::EventAttribute { key: a.key, value: a.value, index: a.index };
    wire_cometbft::abci::Event { kind: event.kind, attributes: event.attributes.into_iter().map(attribute).collect() }
}

fn wire_result(r: TxResult) -> wire_cometbft::abci::DeliverTx {
    wire_cometbft::abci::DeliverTx {
        code: r.code,
        data: r.data.0,
        log: r.log,
        info: r.info,
        gas_wanted: r.gas_wanted,
        gas_used: r.gas_used,
        events: r.events.into_iter().map(wire_event).collect(),
        codespace: r.codespace,
    }
}

fn wire_events(events: Option<Vec<Event>>) -> Vec<wire_cometbft::abci::Event> {
    events.unwrap_or_default().into_iter().map(wire_event).collect()
}

async fn check_block(served: &Served, height: i64) {
    let (recorded, block) = &served.recorded[usize::try_from(height).unwrap() - 1];
    let answer: Block = served.call("Consensus/GetBlock", height).await.unwrap();
    assert_eq!((answer.height, answer.hash.as_bytes().as_slice()), (height, recorded.hash.as_slice()));
    assert_eq!(answer.size, recorded.block.len() as u64);
    assert_eq!(answer.time.0.seconds(), block.header.time.seconds());
    assert_eq!(answer.state_root.hash.as_bytes().as_slice(), block.header.app_hash);
    assert_eq!(answer.state_root.version, u64::try_from(height).unwrap() - 1);
    let meta: BlockMeta = answer.meta.decode_as().unwrap();
    assert_eq!(Header::decode(&meta.header).unwrap(), block.header);
    assert_eq!(Some(Commit::decode(&meta.last_commit).unwrap()), block.last_commit);

    let answer: BlockResults = served.call("Consensus/GetBlockResults", height).await.unwrap();
    let meta: BlockResultsMeta = answer.meta.decode_as().unwrap();
    let expected = AbciResponses::decode(&recorded.abci_responses).unwrap();
    let without_text = |r| DeliverTx { log: String::new(), ..r };
    let results: Vec<_> = meta.txs_results.unwrap_or_default().into_iter().map(wire_result).map(without_text).collect();
    let recorded_results: Vec<_> = expected.deliver_txs.into_iter().map(without_text).collect();
    assert_eq!(results, recorded_results, "height {height}");
    assert_eq!(wire_events(meta.begin_block_events), expected.begin_block.unwrap_or_default().events);
    assert_eq!(wire_events(meta.end_block_events), expected.end_block.unwrap_or_default().events);

    let answer: AtHeight = served.call("Consensus/GetValidators", height).await.unwrap();
    let mut set = ValidatorSet::decode(&answer.meta).unwrap();
    assert_eq!(set.total_voting_power, set.validators.iter().map(|v| v.voting_power).sum::<i64>());
    assert!(set.total_voting_power > 0);
    set.total_voting_power = 0;
    assert_eq!((answer.height, set), (height, ValidatorSet::decode(&recorded.validators).unwrap()));

    let answer: AtHeight = served.call("Consensus/GetLightBlock", height).await.unwrap();
    let light = LightBlock::decode(&answer.meta).unwrap();
    light.validate_basic(&served.doc.comet_chain_id()).unwrap();
    let signed = light.signed_header.unwrap();
    assert_eq!(signed.header.as_ref(), Some(&block.header));
    match served.recorded.get(usize::try_from(height).unwrap()) {
        Some((_, next)) => assert_eq!(signed.commit, next.last_commit),
        None => assert_eq!(signed.commit, Some(Commit::decode(&recorded.seen_commit).unwrap())),
    }
    let answer: Parameters = served.call("Consensus/GetParameters", height).await.unwrap();
    assert_eq!(ConsensusParams::decode(&answer.meta).unwrap().hash().as_slice(), block.header.consensus_hash);
}

async fn check_transactions(served: &Served, height: i64) -> usize {
    let (recorded, block) = &served.recorded[usize::try_from(height).unwrap() - 1];
    let results = AbciResponses::decode(&recorded.abci_responses).unwrap().deliver_txs;
    let txs: Vec<Bytes> = served.call("Consensus/GetTransactions", height).await.unwrap();
    assert_eq!(txs.iter().map(|tx| tx.0.clone()).collect::<Vec<_>>(), block.data.txs);
    let answer: TransactionsWithResults = served.call("Consensus/GetTransactionsWithResults", height).await.unwrap();
    assert_eq!((&answer.transactions, answer.results.len()), (&txs, results.len()));
    let mut events = 0;
    for (result, expected) in answer.results.iter().zip(&results) {
        assert_eq!((&result.error.module, result.error.code), (&expected.codespace, expected.code));
        assert_eq!(result.error.message.is_empty(), expected.log.is_empty());
        assert_eq!(result.gas_used, expected.gas_used.unsigned_abs());
        events += result.events.as_ref().map_or(0, Vec::len);
    }
    let answer: TransactionsWithProofs = served.call("Consensus/GetTransactionsWithProofs", height).await.unwrap();
    assert_eq!((&answer.transactions, answer.proofs.len()), (&txs, txs.len()));
    for (tx, proof) in txs.iter().zip(&answer.proofs) {
        verify_proof(proof, &block.header.data_hash, tx);
    }
    events
}

fn verify_proof(proof: &[u8], root: &[u8], tx: &[u8]) {
    let MerkleProof { total, index, leaf_hash, aunts } = cbor::from_slice(proof).unwrap();
    let aunts = aunts.into_iter().map(|aunt| aunt.0).collect();
    let proof = merkle::Proof { total, index, leaf_hash: leaf_hash.0, aunts };
    proof.verify(root, &merkle::sha256(tx)).unwrap();
}

#[tokio::test]
async fn blocks_results_validators_and_transactions() {
    let served = served(FAILING, 21).await;
    assert_eq!(served.recorded.len(), 21);
    let mut events = 0;
    for height in 1..=21 {
        check_block(&served, height).await;
        events += check_transactions(&served, height).await;
    }
    assert!(events > 20, "{events} events");
    let latest: i64 = served.get("Consensus/GetLatestHeight").await.unwrap();
    let newest: Block = served.call("Consensus/GetBlock", 0i64).await.unwrap();
    let retained: i64 = served.get("Consensus/GetLastRetainedHeight").await.unwrap();
    assert_eq!((latest, newest.height, retained), (21, 21, 1));
    let doc: Document = served.get("Consensus/GetGenesisDocument").await.unwrap();
    let context: String = served.get("Consensus/GetChainContext").await.unwrap();
    assert_eq!((doc.chain_context().as_str(), served.doc.chain_context().as_str()), (&*context, &*context));
    // Validators are known two heights ahead, without a header.
    let ahead: AtHeight = served.call("Consensus/GetLightBlock", 22i64).await.unwrap();
    assert_eq!(LightBlock::decode(&ahead.meta).unwrap().signed_header, None);
    served.end().await;
}

#[tokio::test]
async fn heights_that_are_not_there() {
    let served = served(FAILING, 0).await;
    let error = served.call::<_, Block>("Consensus/GetBlock", 0i64).await.unwrap_err();
    assert!(error.is("consensus", 1), "{error}");
    let error = served.call::<_, Quantity>("Staking/TotalSupply", 0i64).await.unwrap_err();
    assert!(error.is("consensus", 1), "{error}");
    let error = served.get::<i64>("Consensus/GetLatestHeight").await.unwrap_err();
    assert!(error.is("consensus", 1), "{error}");
    served.apply(0..3);
    for height in [4i64, 1 << 40, i64::MAX] {
        let error = served.call::<_, Quantity>("Staking/TotalSupply", height).await.unwrap_err();
        assert!(error.is("consensus", 3), "{height}: {error}");
        for method in ["GetBlock", "GetBlockResults", "GetTransactions", "StateToGenesis"] {
            let method = format!("Consensus/{method}");
            let error = served.call::<_, base_codec::Raw>(&method, height).await.unwrap_err();
            assert_eq!(error.detail, None, "{method} {height}: {error}");
        }
    }
    let error = served.call::<_, AtHeight>("Consensus/GetValidators", 1i64 << 40).await.unwrap_err();
    assert!(error.is("consensus", 3), "{error}");
    for height in [-1, i64::MIN] {
        assert!(served.call::<_, Block>("Consensus/GetBlock", height).await.is_err());
        assert!(served.call::<_, AtHeight>("Consensus/GetLightBlock", height).await.is_err());
        // The newest state, as in the reference.
        let supply: Quantity = served.call("Staking/TotalSupply", height).await.unwrap();
        assert_eq!(supply, served.call("Staking/TotalSupply", 3i64).await.unwrap());
    }
    let error = served.call::<_, u64>("Consensus/EstimateGas", EstimateGasRequest::default()).await.unwrap_err();
    assert!(error.is("consensus", 6), "{error}");
    // An archive says so before it looks at what was sent.
    *served.stores.kind.lock() = crate::Kind::Archive;
    let error = served.call::<_, u64>("Consensus/EstimateGas", EstimateGasRequest::default()).await.unwrap_err();
    assert!(error.is("consensus", crate::UNSUPPORTED), "{error}");
    served.end().await;
}

#[tokio::test]
async fn queries_answer_from_the_recorded_state() {
    let served = served(RUNTIME, 77).await;
    let heights = [1i64, 30, 77];
    for (height, tree) in served.recorded_states(&heights) {
        macro_rules! same {
            ($method:literal, $argument:expr, $expected:expr) => {{
                let answer = served.bytes($method, $argument).await;
                match $expected {
                    Ok(expected) => assert_eq!(answer.unwrap(), cbor::to_vec(&expected), "{} at {height}", $method),
                    Err(error) => assert!(answer.unwrap_err().is(error.code().0, error.code().1), "{error}"),
                }
            }};
        }
        let kv = &tree;
        same!("Staking/TotalSupply", height, apps_staking::query::total_supply(kv));
        same!("Staking/Addresses", height, apps_staking::query::addresses(kv));
        for owner in apps_staking::query::addresses(kv).unwrap() {
            let query = OwnerQuery { height, owner };
            same!("Staking/Account", query.clone(), apps_staking::query::account(kv, &owner));
            same!("Staking/DelegationsTo", query.clone(), apps_staking::query::delegations_to(kv, &owner));
        }
        let kind = ThresholdKind::from_name("entity").unwrap();
        same!("Staking/Threshold", ThresholdQuery { height, kind }, apps_staking::query::threshold(kv, kind));
        same!("Staking/ConsensusParameters", height, apps_staking::query::parameters(kv));
        same!("Beacon/GetEpoch", height, beacon::query::epoch(kv).map(|(epoch, _)| epoch));
        same!("Beacon/GetFutureEpoch", height, beacon::query::future_epoch(kv));
        same!("Scheduler/GetValidators", height, scheduler::query::validators(kv));
        same!("Registry/GetEntities", height, registry::query::entities(kv));
        let nodes = registry::query::nodes(kv).unwrap();
        same!("Registry/GetNodes", height, apps_core::Result::Ok(crate::serve::nil(nodes.clone())));
        for node in nodes {
            let query = IdQuery { height, id: node.id };
            same!("Registry/GetNode", query.clone(), registry::query::node(kv, &node.id));
            same!("Registry/GetNodeStatus", query, registry::query::node_status(kv, &node.id));
        }
        let query = GetRuntimesQuery { height, include_suspended: true };
        let runtimes = registry::query::runtimes(kv, true).unwrap();
        assert!(!runtimes.is_empty());
        same!("Registry/GetRuntimes", query, apps_core::Result::Ok(runtimes.clone()));
        for runtime in runtimes {
            let request = RuntimeRequest { runtime_id: runtime.id, height };
            same!("RootHash/GetRuntimeState", request.clone(), roothash::query::runtime_state(kv, &runtime.id));
            same!("RootHash/GetPastRoundRoots", request, roothash::query::past_round_roots(kv, &runtime.id));
            let request = InMessageQueueRequest { runtime_id: runtime.id, height, offset: 0, limit: 0 };
            // Nothing waits: nil in the reference.
            assert_eq!(served.bytes("RootHash/GetIncomingMessageQueue", request).await.unwrap(), [0xf6].as_slice());
        }
        let statuses = apps_keymanager::secrets::query::statuses(kv).map(crate::serve::nil);
        same!("KeyManager/GetStatuses", height, statuses.clone());
        same!("KeyManager.Secrets/GetStatuses", height, statuses);
        assert_eq!(served.bytes("Governance/Proposals", height).await.unwrap(), [0xf6].as_slice());
    }
    let missing = GetRuntimeQuery { height: 0, id: Namespace::default(), include_suspended: true };
    let error = served.call::<_, base_codec::Raw>("Registry/GetRuntime", missing).await.unwrap_err();
    assert!(error.is("registry", 11), "{error}");
    epochs(&served).await;

    let doc: Document = served.call("Consensus/StateToGenesis", 77i64).await.unwrap();
    assert_eq!(doc.staking, served.call("Staking/StateToGenesis", 77i64).await.unwrap());
    assert_eq!(doc.registry, served.call("Registry/StateToGenesis", 77i64).await.unwrap());
    assert_eq!((doc.height, &doc.chain_id), (77, &served.doc.chain_id));
    let account = *doc.staking.ledger.keys().next().unwrap();
    let found: Account = served.call("Staking/Account", OwnerQuery { height: 77, owner: account }).await.unwrap();
    assert_eq!(found.general.balance, doc.staking.ledger[&account].general.balance);
    served.end().await;
}

/// The first height of every epoch is found by search.
async fn epochs(served: &Served) {
    let mut began = std::collections::BTreeMap::new();
    for height in 1..=77i64 {
        let epoch: u64 = served.call("Beacon/GetEpoch", height).await.unwrap();
        began.entry(epoch).or_insert(height);
    }
    assert!(began.len() > 2, "{began:?}");
    let base: u64 = served.get("Beacon/GetBaseEpoch").await.unwrap();
    for (epoch, height) in &began {
        let found: i64 = served.call("Beacon/GetEpochBlock", *epoch).await.unwrap();
        assert_eq!(found, *height, "epoch {epoch} of {began:?}, base {base}");
    }
    let last = *began.keys().next_back().unwrap();
    assert!(served.call::<_, i64>("Beacon/GetEpochBlock", last + 1).await.is_err());
    assert!(base == 0 || served.call::<_, i64>("Beacon/GetEpochBlock", base - 1).await.is_err());
}

#[tokio::test]
async fn state_is_proven() {
    let served = served(FAILING, 21).await;
    let header = |height: usize| -> &CometBlock { &served.recorded[height - 1].1 };
    let root: Root = served.call::<_, Block>("Consensus/GetBlock", 10i64).await.unwrap().state_root;
    assert_eq!(root.hash.as_bytes().as_slice(), header(10).header.app_hash);
    let tree = TreeId { root, position: root.hash };
    let recorded = &served.recorded_states(&[9])[&9];
    // Parameters of the consensus layer.
    let key = Bytes(vec![0xf1]);
    let request = GetRequest { tree, key: key.clone(), ..GetRequest::default() };
    let ProofResponse { proof } = served.call("Consensus/StateSyncGet", request.clone()).await.unwrap();
    let found = verify(&root.hash, &proof).unwrap();
    let leaf = found.leaves().iter().find(|leaf| leaf.key() == key.as_slice()).expect("the key is proven");
    assert_eq!(Some(leaf.value().to_vec()), recorded.get(&key).unwrap());

    let request = GetPrefixesRequest { tree, prefixes: vec![Bytes(vec![0x50])], limit: 1000, proof_version: 0 };
    let ProofResponse { proof } = served.call("Consensus/StateSyncGetPrefixes", request).await.unwrap();
    let mut accounts = apps_core::kv::collect(recorded, &[0x50]).unwrap();
    let found = verify(&root.hash, &proof).unwrap();
    let proven = found.leaves().iter().map(|leaf| (leaf.key().to_vec(), leaf.value().to_vec()));
    let mut proven: Vec<_> = proven.filter(|(key, _)| key.starts_with(&[0x50])).collect();
    proven.sort();
    accounts.sort();
    assert_eq!(proven, accounts);
    assert!(!accounts.is_empty());

    let request = IterateRequest { tree, key: Bytes(vec![0x50]), prefetch: 2, proof_version: 1 };
    let ProofResponse { proof } = served.call("Consensus/StateSyncIterate", request).await.unwrap();
    assert!(verify(&root.hash, &proof).unwrap().leaves().len() >= 2);

    for spoil in [
        |root: &mut Root| root.version += 1,
        |root: &mut Root| root.version = 0,
        |root: &mut Root| root.version = u64::MAX,
        |root: &mut Root| root.hash = base_prims::Hash::EMPTY,
        |root: &mut Root| root.namespace = other_namespace(),
    ] {
        let mut other = request_with(&tree, &key);
        spoil(&mut other.tree.root);
        let error = served.call::<_, ProofResponse>("Consensus/StateSyncGet", other).await.unwrap_err();
        assert!(error.is("storage/mkvs/db", 8), "{error}");
    }
    served.end().await;
}

fn other_namespace() -> Namespace {
    let mut bytes = [0; 32];
    bytes[31] = 1;
    Namespace::from_bytes_unchecked(bytes)
}

fn request_with(tree: &TreeId, key: &Bytes) -> GetRequest {
    GetRequest { tree: *tree, key: key.clone(), ..GetRequest::default() }
}

#[tokio::test]
async fn transactions_and_evidence_are_submitted() {
    let served = served(FAILING, 21).await;
    let bytes = |height: i64, index: usize| -> &Vec<u8> {
        &served.recorded[usize::try_from(height).unwrap() - 1].1.data.txs[index]
    };
    let failed = (1..=21i64).find_map(|height| {
        let results = served.stores.executor.chain().results(height).unwrap().unwrap().tx_results;
        let index = results.iter().position(|result| result.code != 0)?;
        Some((height, index, results[index].clone()))
    });
    let (height, index, result) = failed.expect("a failed transaction");
    let tx: SignedTransaction = cbor::from_slice(bytes(height, index)).unwrap();
    let refused = served.call::<_, base_codec::Raw>("Consensus/SubmitTx", tx.clone()).await.unwrap_err();
    assert_eq!(refused.detail, None, "{refused}");
    *served.stores.verdict.lock() = Ok((height, u32::try_from(index).unwrap()));
    let submit = |method: &'static str, tx: SignedTransaction| {
        let client = served.client.clone();
        async move { client.call::<_, ()>("oasis-core.Consensus", method, &base_grpc::Cbor(tx)).await }
    };
    let error = submit("SubmitTx", tx.clone()).await.unwrap_err();
    assert!(error.is(&result.codespace, result.code), "{error}");
    assert_eq!(error.message, result.log);
    submit("SubmitTxNoWait", tx.clone()).await.unwrap();
    let waiting: Vec<Bytes> = served.get("Consensus/GetUnconfirmedTransactions").await.unwrap();
    assert_eq!(waiting, vec![Bytes(bytes(height, index).clone()); 3]);

    *served.stores.verdict.lock() = Ok((21, 0));
    let tx: SignedTransaction = cbor::from_slice(bytes(21, 0)).unwrap();
    submit("SubmitTx", tx.clone()).await.unwrap();
    let proof: Proof = served.call("Consensus/SubmitTxWithProof", tx.clone()).await.unwrap();
    assert_eq!(proof.height, 21);
    verify_proof(&proof.raw_proof, &served.recorded[20].1.header.data_hash, bytes(21, 0));

    let refusal =
        SubmitError::Refused { module: "consensus".to_owned(), code: 5, message: "consensus: duplicate".to_owned() };
    *served.stores.verdict.lock() = Err(refusal);
    for method in ["SubmitTx", "SubmitTxNoWait", "SubmitTxWithProof"] {
        let error = submit(method, tx.clone()).await.unwrap_err();
        assert!(error.is("consensus", 5), "{method}: {error}");
    }

    let malformed = Evidence { meta: Bytes(vec![0xff]) };
    let call = |evidence: Evidence| {
        let client = served.client.clone();
        async move { client.call::<_, ()>("oasis-core.Consensus", "SubmitEvidence", &base_grpc::Cbor(evidence)).await }
    };
    assert!(call(malformed).await.is_err());
    assert!(served.stores.evidence.lock().is_empty());
    call(Evidence::default()).await.unwrap();
    assert_eq!(served.stores.evidence.lock().len(), 1);
    served.end().await;
}

#[test]
fn an_empty_block_has_nil_results() {
    let answer = answers::results(1, &comet_chain::app::BlockResults::default());
    assert_eq!(answer.meta.decode_as::<BlockResultsMeta>().unwrap(), BlockResultsMeta::default());
    assert_eq!(answer.meta.0.iter().filter(|byte| **byte == 0xf6).count(), 3);
}
