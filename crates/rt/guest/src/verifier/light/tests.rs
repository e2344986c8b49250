//! A recorded chain, told by a host that is honest, and by hosts that are not.

use std::sync::atomic::{AtomicU64, Ordering};

use dev_testkit::chains::Chain;
use wire_cometbft::block::{self as comet, Block, Commit, SignedHeader};
use wire_consensus::{genesis::Document, transaction::SignedTransaction};
use wire_runtime::{
    Body, Error as WireError,
    host::{FetchConsensusBlockResponse, TransactionProof},
};

use super::*;
use crate::{
    Config, Services,
    testing::{Answers, TestHost},
};

#[test]
fn rounds_heights_and_epochs_only_advance() {
    let state = State { last_round: 5, last_height: 50, last_epoch: 2, ..State::default() };
    let ok = |round, height, epoch| check_advance(&state, round, height, epoch).is_ok();
    assert!(ok(5, 50, 2) && ok(5, 51, 3) && ok(6, 51, 2));
    assert!(!ok(4, 51, 2) && !ok(5, 51, 1) && !ok(6, 50, 2) && !ok(5, 49, 2));
}

struct Recorded {
    context: ChainContext,
    blocks: BTreeMap<i64, (comet::LightBlock, Vec<Vec<u8>>)>,
    roots: BTreeMap<u64, Hash>,
}

impl Recorded {
    fn load() -> Self {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../vectors/chains/gas-fees-staking");
        let chain = Chain::open(std::path::Path::new(path));
        let genesis = String::from_utf8(chain.genesis().unwrap()).unwrap();
        let context = Document::from_json(&genesis).unwrap().chain_context();
        let mut blocks = BTreeMap::new();
        for recorded in chain.blocks().unwrap() {
            let block = Block::decode(&recorded.block).unwrap();
            let commit = Commit::decode(&recorded.seen_commit).unwrap();
            let signed = SignedHeader { header: Some(block.header), commit: Some(commit) };
            let validators = wire_cometbft::validators::ValidatorSet::decode(&recorded.validators).unwrap();
            let light = comet::LightBlock { signed_header: Some(signed), validator_set: Some(validators) };
            blocks.insert(recorded.height as i64, (light, block.data.txs));
        }
        let diffs = chain.state_diffs().unwrap();
        let roots = diffs.iter().map(|d| (d.version, Hash::try_from(d.root.as_slice()).unwrap())).collect();
        Self { context, blocks, roots }
    }

    fn newest(&self) -> i64 {
        *self.blocks.keys().next_back().unwrap()
    }

    fn block(&self, height: i64) -> Option<LightBlock> {
        let height = if height == 0 { self.newest() } else { height };
        let (block, _) = self.blocks.get(&height)?;
        Some(LightBlock { height, meta: Some(Bytes(block.encode_to_vec())) })
    }

    /// The metadata transaction, which is the last, with its proof.
    fn metadata(&self, height: i64) -> ProvenTransaction {
        let txs = &self.blocks[&height].1;
        let hashes: Vec<_> = txs.iter().map(|tx| sha256(&[tx])).collect();
        let (_, proofs) = merkle::prove(&hashes);
        let proof = proofs.last().unwrap();
        let raw = RawProof {
            total: proof.total,
            index: proof.index,
            leaf_hash: Bytes(proof.leaf_hash.clone()),
            aunts: proof.aunts.iter().cloned().map(Bytes).collect(),
        };
        let signed: SignedTransaction = cbor::from_slice(txs.last().unwrap()).unwrap();
        let raw_proof = Some(Bytes(cbor::to_vec(&raw)));
        ProvenTransaction { signed_tx: Some(signed), proof: Some(TransactionProof { height, raw_proof }) }
    }
}

/// What the host lies about.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Lie {
    Nothing,
    /// Another app hash in blocks from a height on.
    AppHash(i64),
    /// The metadata of the block before.
    OldMetadata,
    /// Metadata whose proof is of another position.
    Position,
}

fn light(recorded: &Arc<Recorded>, lie: Lie) -> (Light, TestHost, Arc<AtomicU64>) {
    let (source, fetched) = (Arc::clone(recorded), Arc::new(AtomicU64::new(0)));
    let count = Arc::clone(&fetched);
    let answers: Answers = Box::new(move |request| match request {
        Body::HostFetchConsensusBlockRequest(request) => {
            count.fetch_add(1, Ordering::SeqCst);
            let mut block = source.block(request.height as i64).ok_or_else(WireError::method_not_supported)?;
            if let Lie::AppHash(from) = lie
                && block.height >= from
            {
                let mut raw = comet::LightBlock::decode(block.meta.as_ref().unwrap()).unwrap();
                raw.signed_header.as_mut().unwrap().header.as_mut().unwrap().app_hash = vec![1; 32];
                block.meta = Some(Bytes(raw.encode_to_vec()));
            }
            Ok(Body::HostFetchConsensusBlockResponse(FetchConsensusBlockResponse { block }))
        }
        Body::HostFetchBlockMetadataTxRequest(request) => {
            let mut proven = source.metadata(request.height as i64 - i64::from(lie == Lie::OldMetadata));
            if lie == Lie::Position {
                let proof = proven.proof.as_mut().unwrap();
                let mut raw: RawProof = cbor::from_slice(proof.raw_proof.as_ref().unwrap()).unwrap();
                raw.index += 1;
                proof.raw_proof = Some(Bytes(cbor::to_vec(&raw)));
            }
            Ok(Body::HostFetchBlockMetadataTxResponse(Box::new(proven)))
        }
        Body::HostLocalStorageSetRequest(_) => Ok(Body::HostLocalStorageSetResponse(wire_runtime::Empty {})),
        _ => Err(WireError::method_not_supported()),
    });
    let (sender, receiver) = std::sync::mpsc::sync_channel(1);
    let init = Box::new(move |env: &crate::Env| {
        sender.send(env.clone()).unwrap();
        Ok(Services::default())
    });
    let host = TestHost::start(Config::default(), init, answers).unwrap();
    host.call(TestHost::info(base_prims::Namespace::ZERO)).unwrap();
    let env = receiver.recv().unwrap();
    let first = UntrustedLightBlock(recorded.blocks[&1].0.clone());
    let root = TrustRoot {
        height: 1,
        hash: first.0.signed_header.as_ref().unwrap().header.as_ref().unwrap().hash().map(hex::encode).unwrap(),
        chain_context: recorded.context.as_str().to_owned(),
        ..TrustRoot::default()
    };
    let light =
        Light::new(env.host.clone(), root, recorded.context.as_str(), Version::default(), env.identity).unwrap();
    let mut state = light.state.lock();
    state.keep(first.check(&light.chain_id, 1).unwrap());
    (state.root_height, state.initialized) = (1, true);
    drop(state);
    (light, host, fetched)
}

#[test]
fn an_honest_host_is_believed() {
    let recorded = Arc::new(Recorded::load());
    let (light, _host, fetched) = light(&recorded, Lie::Nothing);
    let newest = recorded.newest() as u64;
    light.sync(HEIGHT_LATEST).unwrap();
    assert_eq!(light.latest_height().unwrap(), newest);
    let steps = fetched.load(Ordering::SeqCst);
    println!("{newest} heights, {steps} blocks fetched");
    // The newest state is that after the newest block, from its metadata.
    let root = light.latest_root().unwrap();
    assert_eq!((root.version, root.hash), (newest, recorded.roots[&newest]));
    assert_eq!(fetched.load(Ordering::SeqCst), steps, "nothing is fetched twice");
    for height in [2, 3, newest / 2, newest] {
        let state = light.root_at(&mut light.state.lock(), height).unwrap();
        assert_eq!((state.version, state.hash), (height - 1, recorded.roots[&(height - 1)]));
    }
    // Beyond the newest block there is only what that block says.
    let next = light.root_at(&mut light.state.lock(), newest + 1);
    assert!(next.is_err() || next.unwrap().hash == recorded.roots[&newest]);
    // Below the trust root nothing is believed.
    assert!(light.verify_to(&mut light.state.lock(), -1).is_err());
    assert!(light.init().is_err(), "without proof of freshness");
}

#[test]
fn a_lying_host_is_not_believed() {
    let recorded = Arc::new(Recorded::load());
    let newest = recorded.newest();
    let (light1, _host, _) = light(&recorded, Lie::AppHash(newest));
    assert!(matches!(light1.sync(HEIGHT_LATEST), Err(Error::Verifier(VerifierError::Verification(_)))));
    light1.sync(newest as u64 - 1).unwrap();
    assert_eq!(light1.latest_height().unwrap(), newest as u64 - 1);
    let (light2, _host, _) = light(&recorded, Lie::OldMetadata);
    light2.sync(HEIGHT_LATEST).unwrap();
    assert!(matches!(light2.latest_root(), Err(Error::Verifier(VerifierError::StateRoot(_)))));
    let (light3, _host, _) = light(&recorded, Lie::Position);
    light3.sync(HEIGHT_LATEST).unwrap();
    assert!(matches!(light3.latest_root(), Err(Error::Verifier(VerifierError::Transaction(_)))));
}

#[test]
fn another_trust_root_is_not_the_chains() {
    let recorded = Arc::new(Recorded::load());
    let (light, _host, _) = light(&recorded, Lie::Nothing);
    let wrong = TrustRoot { hash: "ab".repeat(32), ..light.trust_root.clone() };
    let context = recorded.context.as_str();
    let other = |root: TrustRoot| {
        let light = Light::new(light.host.clone(), root, context, Version::default(), Arc::clone(&light.identity));
        light.unwrap().init().unwrap_err().to_string()
    };
    assert!(other(wrong).starts_with("trusted state") || other(light.trust_root.clone()).len() > 3);
    let foreign = TrustRoot { chain_context: "00".repeat(32), ..light.trust_root.clone() };
    assert!(!other(foreign).is_empty());
    assert!(
        Light::new(
            light.host.clone(),
            light.trust_root.clone(),
            "xyz",
            Version::default(),
            Arc::clone(&light.identity)
        )
        .is_err()
    );
}
