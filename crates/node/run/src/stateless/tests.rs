//! Answers that do not follow from verified headers, and providers that send them.

use std::path::Path;
use std::sync::Arc;

use base_codec::{Bytes, Raw};
use base_crypto::ed25519::SecretKey;
use base_grpc::{Cbor, Listener, Router, RpcError, serve};
use base_identity::TlsIdentity;
use base_prims::{Hash, Namespace};
use comet_chain::app::{TxResult, ValidatorUpdate};
use comet_chain::exec::results_hash;
use comet_chain::light::LightBlock;
use comet_chain::validators::ValidatorSet;
use mkvs_tree::{Root, RootType};
use node_rpc::types;
use tokio_util::sync::CancellationToken;
use wire_cometbft::block::{Commit, CommitSig, Data, Header};
use wire_cometbft::codec::Message as _;
use wire_cometbft::params::ConsensusParams;

use super::providers::Providers;
use super::verify::{self, Lie};

const HEIGHT: i64 = 7;

fn validators(power: i64) -> ValidatorSet {
    ValidatorSet::new(&[ValidatorUpdate { pub_key: [3; 32], power }]).unwrap()
}

fn txs() -> Vec<Vec<u8>> {
    vec![b"first".to_vec(), b"second".to_vec()]
}

fn last_commit() -> Commit {
    Commit { height: HEIGHT - 1, signatures: vec![CommitSig::absent()], ..Commit::default() }
}

/// A header that vouches for the other things here.
fn light() -> LightBlock {
    let commit = last_commit();
    let header = Header {
        chain_id: "test".to_owned(),
        height: HEIGHT,
        last_commit_hash: commit.hash().to_vec(),
        last_block_id: commit.block_id,
        data_hash: Data { txs: txs() }.hash().to_vec(),
        validators_hash: validators(1).hash().to_vec(),
        next_validators_hash: validators(2).hash().to_vec(),
        consensus_hash: ConsensusParams::default().hash().to_vec(),
        app_hash: vec![9; 32],
        ..Header::default()
    };
    LightBlock { header, commit: Commit::default(), validators: validators(1) }
}

fn block() -> types::Block {
    let header = light().header;
    let meta =
        types::BlockMeta { header: header.encode_to_vec().into(), last_commit: last_commit().encode_to_vec().into() };
    types::Block {
        height: HEIGHT,
        hash: header.hash().map(Hash::new).unwrap(),
        time: types::Timestamp::whole(header.time),
        state_root: Root {
            namespace: Namespace::ZERO,
            version: 6,
            root_type: RootType::STATE,
            hash: Hash::new([9; 32]),
        },
        size: 1000,
        meta: Raw::of(&meta),
    }
}

#[test]
fn a_block_is_what_its_header_says() {
    let light = light();
    assert_eq!(verify::block(&block(), &light), Ok(last_commit()));
    let lies: [(&str, fn(&mut types::Block)); 7] = [
        ("height", |block| block.height += 1),
        ("hash", |block| block.hash = Hash::new([1; 32])),
        ("time", |block| block.time = types::Timestamp::whole(wire_cometbft::Time::new(1, 0).unwrap())),
        ("root", |block| block.state_root.hash = Hash::new([8; 32])),
        ("version", |block| block.state_root.version += 1),
        ("malformed", |block| block.meta = Raw(vec![0x01])),
        ("commit", |block| {
            let mut commit = last_commit();
            commit.signatures.push(CommitSig::absent());
            let header = block.meta.decode_as::<types::BlockMeta>().unwrap().header;
            block.meta = Raw::of(&types::BlockMeta { header, last_commit: commit.encode_to_vec().into() });
        }),
    ];
    for (what, lie) in lies {
        let mut block = block();
        lie(&mut block);
        assert!(verify::block(&block, &light).is_err(), "{what}");
    }
}

#[test]
fn transactions_results_parameters_and_validators_are_the_headers() {
    let light = light();
    let all = |txs: Vec<Vec<u8>>| txs.into_iter().map(Bytes).collect::<Vec<_>>();
    assert_eq!(verify::transactions(all(txs()), &light), Ok(txs()));
    let swapped = txs().into_iter().rev().collect();
    for wrong in [vec![], txs()[..1].to_vec(), swapped] {
        assert_eq!(verify::transactions(all(wrong), &light), Err(Lie::Differs("list of transactions")));
    }

    let good = TxResult { code: 0, gas_used: 5, ..TxResult::default() };
    let hash = results_hash(std::slice::from_ref(&good));
    let answer = |gas_used| {
        let results = vec![types::TxResult { gas_used, ..types::TxResult::default() }];
        let meta = types::BlockResultsMeta { txs_results: Some(results), ..types::BlockResultsMeta::default() };
        types::BlockResults { height: HEIGHT, meta: Raw::of(&meta) }
    };
    assert_eq!(verify::results(&answer(5), HEIGHT, 1, Some(&hash)).unwrap().tx_results, [good]);
    assert_eq!(verify::results(&answer(6), HEIGHT, 1, Some(&hash)), Err(Lie::Differs("hash of the results")));
    assert_eq!(verify::results(&answer(5), HEIGHT, 2, None), Err(Lie::Count { results: 1, txs: 2 }));
    assert_eq!(verify::results(&answer(5), 8, 1, None), Err(Lie::Height { asked: 8, got: 7 }));

    let params = |params: ConsensusParams| types::Parameters {
        height: HEIGHT,
        meta: params.encode_to_vec().into(),
        ..types::Parameters::default()
    };
    assert!(verify::params(&params(ConsensusParams::default()), &light).is_ok());
    let mut other = ConsensusParams::default();
    other.block.max_bytes += 1;
    assert_eq!(verify::params(&params(other), &light), Err(Lie::Differs("hash of the parameters")));

    let set = |power, height| types::AtHeight { height, meta: validators(power).to_wire().encode_to_vec().into() };
    assert_eq!(verify::next_validators(&set(2, 8), &light).unwrap().total_voting_power(), 2);
    assert_eq!(verify::next_validators(&set(1, 8), &light), Err(Lie::Differs("hash of the next validators")));
    assert_eq!(verify::next_validators(&set(2, 7), &light), Err(Lie::Height { asked: 8, got: 7 }));
}

#[test]
fn the_state_root_is_in_the_last_transaction_or_nowhere() {
    assert!(verify::state_after(&[]).is_err());
    assert!(verify::state_after(&txs()).is_err());
}

/// A provider that says what it is told to.
fn provider(path: &Path, txs: Vec<Vec<u8>>, stop: &CancellationToken) {
    let mut router = Router::new();
    router.unary("oasis-core.Consensus", "GetTransactions", move |Cbor(_): Cbor<i64>| {
        let txs: Vec<Bytes> = txs.iter().cloned().map(Bytes).collect();
        async move { Ok::<_, RpcError>(Cbor(txs)) }
    });
    tokio::spawn(serve(Listener::unix(path).unwrap(), Arc::new(router), stop.clone()));
}

#[tokio::test]
async fn a_provider_that_lies_is_asked_last_from_then_on() {
    let dir = tempfile::tempdir().unwrap();
    let stop = CancellationToken::new();
    let [liar, silent, honest] = ["liar", "silent", "honest"].map(|name| dir.path().join(name));
    provider(&liar, txs()[..1].to_vec(), &stop);
    provider(&honest, txs(), &stop);
    let addresses = [&liar, &silent, &honest].map(|path| format!("unix:{}", path.display()));
    let identity = TlsIdentity::issue(SecretKey::from_seed(&[5; 32]), 0).unwrap();
    let providers = Providers::new(&addresses, &identity).unwrap();
    let light = light();
    for _ in 0..2 {
        let check = |answer: Vec<Bytes>| verify::transactions(answer, &light);
        let (answer, which) = providers.ask("GetTransactions", Cbor(HEIGHT), check).await.unwrap();
        assert_eq!((answer, which), (txs(), 2));
    }
    // Of those that are left, the one that answers comes first, and the liar last.
    assert_eq!(providers.order(), [2, 1, 0]);
    // Nobody tells this.
    let all = |answer: Vec<Bytes>| {
        if answer.len() == 3 { Ok(()) } else { Err(Lie::Differs("number")) }
    };
    assert!(providers.ask("GetTransactions", Cbor(HEIGHT), all).await.is_err());
    assert!(Providers::new(&[], &identity).is_err());
    assert!(Providers::new(&["nokey@127.0.0.1:1".to_owned()], &identity).is_err());
    stop.cancel();
}
