//! A small deterministic application: keys and values, and changes of the validator set.
//!
//! Transactions: `set KEY VALUE`, `val INDEX POWER` (power of the validator with that key; never the last one away).
//! A transaction that begins with `bad` makes a proposal unacceptable.

use std::collections::BTreeMap;

use comet_chain::app::{
    AppInfo, Application, ApplyChunkOutcome, ApplyChunkResult, BlockResults, CheckKind, CheckResult, Committed, Fatal,
    InitChain, InitChainResult, OfferSnapshotResult, PrepareProposal, ProposedBlock, Snapshot, Snapshots, TxResult,
    ValidatorUpdate, Verdict,
};
use sha2::{Digest, Sha256};

/// The application; a clone of it is what its disk holds.
#[derive(Debug, Clone, Default)]
pub struct KvApp {
    height: i64,
    values: BTreeMap<String, String>,
    powers: BTreeMap<[u8; 32], i64>,
    keys: Vec<[u8; 32]>,
    pending: Option<Executed>,
    none: NoSnapshots,
}

/// What a block leaves: height, values, powers.
type Executed = (i64, BTreeMap<String, String>, BTreeMap<[u8; 32], i64>);

#[derive(Debug, Clone, Default)]
struct NoSnapshots;

impl KvApp {
    /// The application of a network whose validators, present and future, have these keys.
    pub fn new(keys: Vec<[u8; 32]>) -> Self {
        Self { keys, ..Self::default() }
    }

    /// Height of the last committed block.
    pub fn height(&self) -> i64 {
        self.height
    }

    /// State root.
    pub fn hash(&self) -> Vec<u8> {
        let mut hash = Sha256::new();
        for (key, value) in &self.values {
            hash.update((key.len() as u64).to_be_bytes());
            hash.update(key);
            hash.update((value.len() as u64).to_be_bytes());
            hash.update(value);
        }
        for (key, power) in &self.powers {
            hash.update(key);
            hash.update(power.to_be_bytes());
        }
        hash.finalize().to_vec()
    }

    fn run_tx(&self, tx: &[u8], values: &mut BTreeMap<String, String>, powers: &mut BTreeMap<[u8; 32], i64>) -> u32 {
        let text = String::from_utf8_lossy(tx);
        match text.split(' ').collect::<Vec<_>>()[..] {
            ["set", key, value] => {
                values.insert(key.to_owned(), value.to_owned());
                0
            }
            ["val", index, power] => {
                let key = index.parse::<usize>().ok().and_then(|index| self.keys.get(index));
                let (Some(key), Ok(power @ 0..=1000)) = (key, power.parse::<i64>()) else { return 2 };
                let was = powers.get(key).copied().unwrap_or(0);
                if was == power || (power == 0 && powers.values().filter(|power| **power > 0).count() <= 1) {
                    return 3;
                }
                powers.insert(*key, power);
                0
            }
            _ => 1,
        }
    }
}

impl Application for KvApp {
    fn info(&self) -> AppInfo {
        AppInfo { last_height: self.height, last_app_hash: self.hash(), app_version: 1 }
    }

    fn init_chain(&mut self, request: &InitChain) -> Result<InitChainResult, Fatal> {
        self.powers = request.validators.iter().map(|update| (update.pub_key, update.power)).collect();
        Ok(InitChainResult { app_hash: self.hash(), ..InitChainResult::default() })
    }

    fn check_tx(&mut self, tx: &[u8], _kind: CheckKind) -> CheckResult {
        CheckResult { code: u32::from(tx.starts_with(b"bad")), ..CheckResult::default() }
    }

    fn prepare_proposal(&mut self, request: &PrepareProposal) -> Result<Vec<Vec<u8>>, Fatal> {
        Ok(request.txs.iter().take(20).cloned().collect())
    }

    fn process_proposal(&mut self, block: &ProposedBlock) -> Result<Verdict, Fatal> {
        let bad = block.txs.iter().any(|tx| tx.starts_with(b"bad"));
        Ok(if bad { Verdict::Reject } else { Verdict::Accept })
    }

    fn execute(&mut self, block: &ProposedBlock) -> Result<BlockResults, Fatal> {
        if block.height != self.height + 1 {
            return Err(Fatal::Internal(format!("block {} after {}", block.height, self.height)));
        }
        let (mut values, mut powers) = (self.values.clone(), self.powers.clone());
        let tx_results = block
            .txs
            .iter()
            .map(|tx| TxResult { code: self.run_tx(tx, &mut values, &mut powers), ..TxResult::default() })
            .collect();
        values.insert("height".into(), block.height.to_string());
        for item in &block.misbehavior {
            values.insert(format!("fault {}", item.address), item.height.to_string());
        }
        let changed = powers.iter().filter(|(key, power)| self.powers.get(*key).copied().unwrap_or(0) != **power);
        let validator_updates = changed.map(|(key, power)| ValidatorUpdate { pub_key: *key, power: *power }).collect();
        self.pending = Some((block.height, values, powers));
        Ok(BlockResults { tx_results, validator_updates, ..BlockResults::default() })
    }

    fn commit(&mut self) -> Result<Committed, Fatal> {
        let (height, values, powers) = self.pending.take().ok_or_else(|| Fatal::Internal("nothing executed".into()))?;
        (self.height, self.values, self.powers) = (height, values, powers);
        Ok(Committed { app_hash: self.hash(), retain_height: 0 })
    }

    fn snapshots(&mut self) -> &mut dyn Snapshots {
        &mut self.none
    }
}

impl Snapshots for NoSnapshots {
    fn list(&mut self) -> Result<Vec<Snapshot>, Fatal> {
        Ok(Vec::new())
    }

    fn load_chunk(&mut self, _height: u64, _format: u32, _chunk: u32) -> Result<Option<Vec<u8>>, Fatal> {
        Ok(None)
    }

    fn offer(&mut self, _snapshot: &Snapshot, _app_hash: &[u8]) -> Result<OfferSnapshotResult, Fatal> {
        Ok(OfferSnapshotResult::Reject)
    }

    fn apply_chunk(&mut self, _index: u32, _chunk: &[u8], _sender: &str) -> Result<ApplyChunkResult, Fatal> {
        let outcome = ApplyChunkOutcome::Abort;
        Ok(ApplyChunkResult { outcome, refetch_chunks: Vec::new(), reject_senders: Vec::new() })
    }
}
