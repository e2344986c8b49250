//! For tests: an application with a disk of its own that crashes when told, and a chain made with it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use base_crypto::ed25519::SecretKey;
use base_kv::KvStore;
use comet_chain::app::{
    AppInfo, Application, ApplyChunkResult, BlockParams, BlockResults, CheckKind, CheckResult, Committed,
    ConsensusParams, ConsensusParamsUpdate, EvidenceParams, Fatal, InitChain, InitChainResult, OfferSnapshotResult,
    PrepareProposal, ProposedBlock, Snapshot, Snapshots, TxResult, ValidatorParams, ValidatorUpdate, Verdict,
    VersionParams,
};
use comet_chain::exec::proposed_block;
use comet_chain::state::State;
use parking_lot::Mutex;
use wire_cometbft::block::{Block, BlockId, BlockIdFlag, Commit, CommitSig};
use wire_cometbft::keys::{Address, signing_digest};
use wire_cometbft::merkle::sha256;
use wire_cometbft::part_set::PartSet;
use wire_cometbft::{Duration, Time};

use crate::{BlockStore, ChainStore, Executor, Genesis, NoEvidence, NoTxs, SharedApp};

pub(crate) const CHAIN: &str = "toy-chain";
pub(crate) const START: i64 = 1_700_000_000;

/// What the application has on disk.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ToyDisk {
    pub(crate) height: i64,
    pub(crate) hash: Vec<u8>,
}

/// Where the application crashes: while committing this height, before or after that takes effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AppCrash {
    Before(i64),
    After(i64),
}

/// Hashes what it executes; a transaction `v` and a number makes that key a validator or gives it more power.
pub(crate) struct Toy {
    pub(crate) disk: Arc<Mutex<ToyDisk>>,
    pub(crate) crash: Option<AppCrash>,
    /// So many heights are retained; 0: all.
    pub(crate) retain: i64,
    pub(crate) judged: Arc<Mutex<usize>>,
    genesis: Vec<u8>,
    pending: Option<ToyDisk>,
}

impl Toy {
    pub(crate) fn new(disk: &Arc<Mutex<ToyDisk>>) -> Self {
        Self {
            disk: Arc::clone(disk),
            crash: None,
            retain: 0,
            judged: Arc::default(),
            genesis: Vec::new(),
            pending: None,
        }
    }

    pub(crate) fn shared(self) -> SharedApp {
        Arc::new(Mutex::new(Box::new(self)))
    }
}

impl Application for Toy {
    fn info(&self) -> AppInfo {
        let disk = self.disk.lock();
        AppInfo { last_height: disk.height, last_app_hash: disk.hash.clone(), app_version: 1 }
    }

    fn init_chain(&mut self, request: &InitChain) -> Result<InitChainResult, Fatal> {
        self.genesis = sha256(&request.app_state).to_vec();
        Ok(InitChainResult { app_hash: self.genesis.clone(), ..InitChainResult::default() })
    }

    fn check_tx(&mut self, _: &[u8], _: CheckKind) -> CheckResult {
        CheckResult::default()
    }

    fn prepare_proposal(&mut self, request: &PrepareProposal) -> Result<Vec<Vec<u8>>, Fatal> {
        let mut txs = request.txs.clone();
        txs.push(b"prepared".to_vec());
        if request.txs.iter().any(|tx| tx == b"too much") {
            txs.push(vec![0; usize::try_from(request.max_tx_bytes).unwrap()]);
        }
        Ok(txs)
    }

    fn process_proposal(&mut self, block: &ProposedBlock) -> Result<Verdict, Fatal> {
        *self.judged.lock() += 1;
        let bad = block.txs.iter().any(|tx| tx == b"bad");
        Ok(if bad { Verdict::Reject } else { Verdict::Accept })
    }

    fn execute(&mut self, block: &ProposedBlock) -> Result<BlockResults, Fatal> {
        let disk = self.disk.lock().clone();
        let before = if disk.height == 0 { self.genesis.clone() } else { disk.hash };
        if disk.height + 1 != block.height {
            return Err(Fatal::Internal(format!("block {} after {}", block.height, disk.height)));
        }
        let signed: Vec<u8> = block.last_commit.votes.iter().map(|vote| u8::from(vote.signed_last_block)).collect();
        let mut hash = [before.as_slice(), &block.hash, &signed].concat();
        let mut results = BlockResults::default();
        for tx in &block.txs {
            hash.extend_from_slice(tx);
            if let [b'v', number] = tx.as_slice() {
                let pub_key = key(*number).public();
                results.validator_updates.push(ValidatorUpdate { pub_key, power: 10 + block.height });
            }
            results.tx_results.push(TxResult { data: tx.clone(), gas_used: 1, ..TxResult::default() });
        }
        results.consensus_param_updates =
            Some(ConsensusParamsUpdate { version: Some(VersionParams { app: 1 }), ..Default::default() });
        self.pending = Some(ToyDisk { height: block.height, hash: sha256(&hash).to_vec() });
        Ok(results)
    }

    fn commit(&mut self) -> Result<Committed, Fatal> {
        let next = self.pending.take().ok_or_else(|| Fatal::Internal("nothing executed".into()))?;
        let crash = || Fatal::Internal("crash".into());
        if self.crash == Some(AppCrash::Before(next.height)) {
            return Err(crash());
        }
        *self.disk.lock() = next.clone();
        if self.crash == Some(AppCrash::After(next.height)) {
            return Err(crash());
        }
        let retain_height = if self.retain > 0 { (next.height - self.retain).max(0) } else { 0 };
        Ok(Committed { app_hash: next.hash, retain_height })
    }

    fn snapshots(&mut self) -> &mut dyn Snapshots {
        self
    }
}

impl Snapshots for Toy {
    fn list(&mut self) -> Result<Vec<Snapshot>, Fatal> {
        Ok(Vec::new())
    }
    fn load_chunk(&mut self, _: u64, _: u32, _: u32) -> Result<Option<Vec<u8>>, Fatal> {
        Ok(None)
    }
    fn offer(&mut self, _: &Snapshot, _: &[u8]) -> Result<OfferSnapshotResult, Fatal> {
        Ok(OfferSnapshotResult::Reject)
    }
    fn apply_chunk(&mut self, _: u32, _: &[u8], _: &str) -> Result<ApplyChunkResult, Fatal> {
        Err(Fatal::Internal("no snapshots".into()))
    }
}

/// A validator's key.
pub(crate) fn key(number: u8) -> SecretKey {
    SecretKey::from_seed(&[number; 32])
}

pub(crate) fn params() -> ConsensusParams {
    ConsensusParams {
        block: BlockParams { max_bytes: 1 << 20, max_gas: -1 },
        evidence: EvidenceParams {
            max_age_num_blocks: 100,
            max_age_duration: Duration::from_secs(1000),
            max_bytes: 50_000,
        },
        validator: ValidatorParams { pub_key_types: vec!["ed25519".into()] },
        version: VersionParams { app: 1 },
    }
}

pub(crate) fn genesis() -> Genesis {
    Genesis {
        chain_id: CHAIN.into(),
        initial_height: 1,
        time: Time::new(START, 0).unwrap(),
        params: params(),
        validators: (1..=4).map(|n| ValidatorUpdate { pub_key: key(n).public(), power: 10 }).collect(),
        app_state: b"genesis".to_vec(),
    }
}

/// A block of the chain and the state after it.
#[derive(Debug, Clone)]
pub(crate) struct Made {
    pub(crate) block: Block,
    pub(crate) parts: PartSet,
    pub(crate) id: BlockId,
    pub(crate) seen: Commit,
    pub(crate) after: State,
}

/// The commit of a block by all validators of `state`, but for `absent`.
pub(crate) fn commit(state: &State, id: &BlockId, height: i64, absent: Option<usize>) -> Commit {
    let keys: BTreeMap<Address, SecretKey> = (0..20).map(|n| (Address::of(&key(n).public()), key(n))).collect();
    let entry = |(at, validator): (usize, &comet_chain::validators::Validator)| {
        if absent == Some(at) {
            return CommitSig::absent();
        }
        let timestamp = Time::new(START + height * 5 + i64::try_from(at).unwrap(), 7).unwrap();
        CommitSig {
            block_id_flag: BlockIdFlag::COMMIT,
            validator_address: validator.address.0.to_vec(),
            timestamp,
            signature: Vec::new(),
        }
    };
    let signatures = state.validators.validators().iter().enumerate().map(entry).collect();
    let mut commit = Commit { height, round: 0, block_id: id.clone(), signatures };
    for at in 0..commit.signatures.len() {
        if commit.signatures[at].is_absent() {
            continue;
        }
        let bytes = commit.sign_bytes(CHAIN, at).unwrap();
        let key = &keys[&state.validators.get(at).unwrap().address];
        commit.signatures[at].signature = key.sign(&signing_digest(&bytes)).to_vec();
    }
    commit
}

/// A chain of so many blocks; gives the state before them too.
pub(crate) fn chain(count: i64, tx_bytes: usize) -> (State, Vec<Made>) {
    let disk = Arc::default();
    let mut app = Toy::new(&disk);
    let genesis = genesis();
    let mut state = genesis.state().unwrap();
    state.apply_init_chain(&app.init_chain(&genesis.init_chain().unwrap()).unwrap()).unwrap();
    let first = state.clone();
    let mut last_commit = Commit::default();
    let mut made = Vec::new();
    for height in 1..=count {
        let mut txs = vec![vec![u8::try_from(height % 251).unwrap(); tx_bytes]];
        if height % 3 == 0 {
            txs.push(vec![b'v', u8::try_from(height / 3 % 6 + 1).unwrap()]);
        }
        let proposer = state.validators.proposer().unwrap().address;
        let block = state.make_block(txs, last_commit, vec![], proposer).unwrap();
        let parts = block.part_set();
        let id = block.id().unwrap();
        let seen = commit(&state, &id, height, (height % 4 == 0).then(|| state.validators.len() - 1));
        let results =
            app.execute(&proposed_block(&block, &state.last_validators, state.initial_height).unwrap()).unwrap();
        let mut after = state.after(id.clone(), &block.header, &results).unwrap();
        after.app_hash = app.commit().unwrap().app_hash;
        state = after.clone();
        last_commit = seen.clone();
        made.push(Made { block, parts, id, seen, after });
    }
    (first, made)
}

/// Stores in a folder with small files.
pub(crate) fn stores(
    dir: &Path,
    kv: Arc<dyn KvStore>,
) -> Result<(Arc<BlockStore>, Arc<ChainStore>), crate::StoreError> {
    let chain = Arc::new(ChainStore::open(Arc::clone(&kv), CHAIN)?);
    let blocks = Arc::new(BlockStore::open_with(dir, kv, CHAIN, 4096)?);
    Ok((blocks, chain))
}

/// An executor without pools.
pub(crate) fn executor(blocks: &Arc<BlockStore>, chain: &Arc<ChainStore>, app: Toy) -> Executor {
    Executor::new(Arc::clone(blocks), Arc::clone(chain), app.shared(), Arc::new(NoTxs), Arc::new(NoEvidence))
}
