//! Transactions that networks have seen, damaged in many ways, on the state that they were made for.

use std::collections::BTreeMap;

use apps_core::{Mux, mux::Purpose};
use apps_staking::state as staking;
use base_codec::{Raw, cbor};
use base_crypto::ed25519::SecretKey;
use base_prims::{Address, Quantity};
use comet_chain::app::{CheckKind, LastCommitInfo, ProposedBlock, TxResult, VoteInfo};
use dev_testkit::{paths::vectors_dir, transactions};
use mkvs_tree::Sequential;
use wire_cometbft::{Message as _, Time, block::Block, keys::Address as Address20, validators::ValidatorSet};
use wire_consensus::{
    meta::METHOD_META,
    transaction::{Fee, SignedTransaction, Transaction},
};

use super::{Rng, chain, local, public, secret};
use crate::{MemoryStore, NodeApp, NodeOptions, StateStore, build_mux};

const CHAIN: &str = "runtime-txsource-multi-short";
/// Versions of the state on which transactions are delivered.
const HEIGHTS: [u64; 3] = [60, 150, 260];
const BALANCE: u64 = 1_000_000_000_000;

type Changes = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// A recorded state with some accounts of the test in it.
struct Recorded {
    mux: Mux,
    store: MemoryStore,
    next: ProposedBlock,
    // Transactions of all blocks.
    txs: Vec<Vec<u8>>,
}

fn senders() -> [SecretKey; 3] {
    [secret(1), secret(2), secret(3)]
}

impl Recorded {
    fn at(height: u64) -> Self {
        let (chain, doc) = chain(CHAIN);
        let mut store = MemoryStore::new(Box::new(Sequential));
        for diff in chain.state_diffs().unwrap().iter().take_while(|d| d.version <= height) {
            let root = store.apply(&diff.diff).unwrap();
            assert_eq!(root.as_bytes()[..], diff.root, "version {}", diff.version);
        }
        let (mut txs, mut times, mut proposer) = (Vec::new(), Vec::<Time>::new(), Vec::new());
        let mut votes = Vec::new();
        for recorded in chain.blocks().unwrap() {
            let block = Block::decode(&recorded.block).unwrap();
            txs.extend(block.data.txs);
            times.push(block.header.time);
            if recorded.height == height {
                let set = ValidatorSet::decode(&recorded.validators).unwrap();
                votes.extend(set.validators.iter().map(|v| VoteInfo {
                    address: Address20::from_slice(&v.address).unwrap(),
                    power: v.voting_power,
                    signed_last_block: true,
                }));
            }
            if recorded.height == height + 1 {
                proposer = block.header.proposer_address;
            }
        }
        // The accounts of the test.
        let mut changes: Vec<(Vec<u8>, Option<Vec<u8>>)> = Vec::new();
        let mut total = staking::total_supply(store.state()).unwrap();
        for key in senders() {
            let address = Address::of_key(&public(&key));
            let mut account = staking::account(store.state(), &address).unwrap();
            account.general.balance = BALANCE.into();
            total.add_assign(&BALANCE.into());
            changes.push((account_key(&address), Some(cbor::to_vec(&account))));
        }
        changes.push((vec![0x51], Some(cbor::to_vec(&total))));
        store.apply(&changes).unwrap();
        let root = store.commit(height).unwrap();

        let mut mux = build_mux(&doc, NodeOptions { local: local(), upgrades: None });
        let index = usize::try_from(height).unwrap();
        mux.resume(store.state(), height.cast_signed(), root, times[index - 1]).unwrap();
        let next = ProposedBlock {
            height: height.cast_signed() + 1,
            time: times[index],
            proposer_address: Address20::from_slice(&proposer).unwrap(),
            last_commit: LastCommitInfo { round: 0, votes },
            ..ProposedBlock::default()
        };
        Self { mux, store, next, txs }
    }

    /// Executes a block of transactions over the state, which stays as it is.
    fn deliver(&self, txs: &[Vec<u8>]) -> (Vec<TxResult>, Changes) {
        let block = ProposedBlock { txs: txs.to_vec(), ..self.next.clone() };
        let executed = self.mux.execute(self.store.state(), &block, Purpose::Propose).unwrap();
        let changed = |(k, v): &(Vec<u8>, Option<Vec<u8>>)| self.store.state().get(k).unwrap() != *v;
        (executed.results.tx_results, executed.changes.into_iter().filter(changed).collect())
    }

    fn sign(&self, tx: &Transaction, key: &SecretKey) -> Vec<u8> {
        cbor::to_vec(&tx.sign(key, self.mux.chain()).unwrap())
    }
}

fn account_key(address: &Address) -> Vec<u8> {
    [&[0x50][..], address.as_bytes()].concat()
}

/// Changes some bytes: flips, replaces, removes, repeats, inserts or cuts.
fn damage(rng: &mut Rng, bytes: &mut Vec<u8>) {
    /// Heads of items that change how what follows is read.
    const HEADS: [u8; 14] = [0x00, 0x18, 0x1b, 0x20, 0x40, 0x5f, 0x60, 0x80, 0x9b, 0xa0, 0xbf, 0xc0, 0xf6, 0xff];
    for _ in 0..=rng.below(3) {
        if bytes.is_empty() {
            return;
        }
        let at = rng.below(bytes.len());
        let n = 1 + rng.below((bytes.len() - at).min(20));
        match rng.below(8) {
            0 | 1 => bytes[at] ^= 1 << rng.below(8),
            2 => bytes[at] = *rng.pick(&HEADS),
            3 => bytes[at..at + n].fill(0xff),
            4 => drop(bytes.drain(at..at + n)),
            5 => {
                let repeated = bytes[at..at + n].to_vec();
                bytes.splice(at..at, repeated);
            }
            6 => {
                let new = rng.bytes(n);
                bytes.splice(at..at, new);
            }
            _ if rng.percent(20) => bytes.truncate(at),
            _ => bytes[at] = bytes[at].wrapping_add(1),
        }
    }
}

/// The transaction's name and contents of everything that was recorded or generated, without block metadata.
fn contents(recorded: &Recorded) -> Vec<Transaction> {
    let mut all = Vec::new();
    for raw in &recorded.txs {
        let signed: SignedTransaction = cbor::from_slice(raw).unwrap();
        all.push(signed.open(recorded.mux.chain()).unwrap());
    }
    for name in ["governance", "registry", "staking"] {
        let path = vectors_dir().join(format!("transactions/{name}.json.gz"));
        for entry in transactions::load(&path).unwrap().into_iter().step_by(17) {
            all.push(cbor::from_slice(&entry.encoded_tx).unwrap());
        }
    }
    all.retain(|tx: &Transaction| tx.method != METHOD_META);
    all
}

#[test]
fn damaged_bytes_are_answered() {
    let mut rng = Rng::new(11);
    let (mut sent, mut good) = (0, 0);
    for height in HEIGHTS {
        let recorded = Recorded::at(height);
        let (_, doc) = chain(CHAIN);
        let mut txs = Vec::new();
        for raw in recorded.txs.iter().filter(|raw| raw.len() < 4000) {
            for _ in 0..4 {
                let original = raw;
                let mut raw = original.clone();
                while raw == *original {
                    damage(&mut rng, &mut raw);
                }
                // A damaged envelope can still hold a sound metadata transaction, which nobody may send.
                let meta = cbor::from_slice::<SignedTransaction>(&raw)
                    .ok()
                    .and_then(|s| s.open(recorded.mux.chain()).ok())
                    .is_some_and(|tx: Transaction| tx.method == METHOD_META);
                if !meta {
                    txs.push(raw);
                }
            }
        }
        for block in txs.chunks(200) {
            let (results, _) = recorded.deliver(block);
            assert_eq!(results.len(), block.len());
            sent += results.len();
            good += results.iter().filter(|r| r.code == 0).count();
        }
        for raw in &txs {
            recorded.mux.check(recorded.store.state(), raw);
        }
        // The pool's own path, over the state of the genesis.
        let store = MemoryStore::new(Box::new(Sequential));
        let mut app =
            NodeApp::new(build_mux(&doc, NodeOptions { local: local(), upgrades: None }), Box::new(store), None);
        app.init_chain(&doc).unwrap();
        for raw in txs.iter().step_by(5) {
            app.check_tx(raw, CheckKind::New);
        }
    }
    println!("{sent} damaged transactions delivered and checked, {good} succeeded");
    assert!(sent > 3000);
}

#[test]
fn failed_transactions_change_nonce_and_fee_only() {
    let mut rng = Rng::new(12);
    let [mut unauthenticated, mut failed, mut succeeded] = [0; 3];
    let mut methods: BTreeMap<String, [usize; 2]> = BTreeMap::new();
    for height in HEIGHTS {
        let recorded = Recorded::at(height);
        let (_, idle) = recorded.deliver(&[]);
        for original in contents(&recorded) {
            let key = rng.pick(&senders()).to_bytes();
            let key = SecretKey::from_bytes(&key).unwrap();
            let mut tx = Transaction { nonce: 0, ..original };
            tx.fee = Some(Fee { amount: (1 + rng.draw() % 10_000).into(), gas: 1_000_000 });
            if rng.percent(90) {
                damage(&mut rng, &mut tx.body.0);
            }
            match rng.below(30) {
                0 => tx.nonce = rng.draw() % 3,
                1 => tx.fee = Some(Fee { amount: Quantity::from_u128(u128::MAX), gas: 1 }),
                2 => tx.fee.as_mut().unwrap().gas = rng.draw() % 2000,
                3 => tx.fee = None,
                4 => tx.method.truncate(rng.below(tx.method.len())),
                _ => {}
            }
            // Not every body that this builds is an item; the envelope must stay one.
            if cbor::from_slice::<Raw>(&tx.body).is_err() {
                tx.body = Raw::of(&base_codec::Bytes(std::mem::take(&mut tx.body.0)));
            }
            let (results, changes) = recorded.deliver(&[recorded.sign(&tx, &key)]);
            let count = methods.entry(tx.method.clone()).or_default();
            if results[0].code == 0 {
                succeeded += 1;
                count[0] += 1;
                continue;
            }
            count[1] += 1;
            if changes == idle {
                unauthenticated += 1;
                continue;
            }
            failed += 1;
            // What a transfer without meaning does, for the same fee.
            let plain = Transaction { method: "staking.Transfer".to_owned(), body: Raw(vec![0x00]), ..tx.clone() };
            let (plain_results, expected) = recorded.deliver(&[recorded.sign(&plain, &key)]);
            assert_ne!(plain_results[0].code, 0);
            let differing = |k: &&Vec<u8>| changes.get(*k) != expected.get(*k);
            let other: Vec<_> = changes.keys().chain(expected.keys()).filter(differing).map(|k| hex(k)).collect();
            assert!(other.is_empty(), "{} at {height}: {} changed {other:?}", tx.method, results[0].log);
            // And that is the sender's account, and where fees go.
            for k in expected.keys().filter(|k| idle.get(*k) != expected.get(*k)) {
                let fees = [0x50, 0x52, 0x57].contains(&k[0]);
                assert!(fees, "{} at {height}: key {}", tx.method, hex(k));
            }
            let address = Address::of_key(&public(&key));
            let raw = expected.get(&account_key(&address)).and_then(Option::as_ref).expect("the sender's account");
            let account: wire_consensus::staking::Account = cbor::from_slice(raw).unwrap();
            assert_eq!(account.general.nonce, 1);
            let fee = tx.fee.map(|f| f.amount).unwrap_or_default();
            assert_eq!(account.general.balance.add(&fee), Quantity::from(BALANCE));
        }
    }
    println!("{unauthenticated} without effect, {failed} failed for their fee, {succeeded} succeeded");
    let known = methods.iter().filter(|(_, [good, bad])| good + bad > 20).count();
    assert!(known >= 10, "{known} methods");
    assert!(unauthenticated > 50 && failed > 500 && succeeded > 50);
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
