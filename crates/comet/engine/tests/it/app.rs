//! A small application: keys and values, durable in a file with each commit.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use comet_chain::app::{
    AppInfo, Application, ApplyChunkOutcome, ApplyChunkResult, BlockResults, CheckKind, CheckResult, Committed, Fatal,
    InitChain, InitChainResult, OfferSnapshotResult, PrepareProposal, ProposedBlock, Snapshot, Snapshots, TxResult,
    Verdict,
};
use wire_cometbft::merkle::sha256;

/// Code of a transaction without `=`.
pub(crate) const MALFORMED: u32 = 1;
/// Code of a transaction whose key is set already.
pub(crate) const TAKEN: u32 = 2;

/// Heights between snapshots.
const SNAPSHOT_INTERVAL: i64 = 5;

#[derive(Clone, Default)]
struct State {
    height: i64,
    hash: Vec<u8>,
    pairs: BTreeMap<String, String>,
}

/// Transactions are `key=value`; each key may be set once.
pub(crate) struct Toy {
    file: PathBuf,
    committed: State,
    next: Option<State>,
    /// The newest state of a height that [`SNAPSHOT_INTERVAL`] divides.
    snapshot: Option<State>,
    /// What is being restored, with the hash that the state must have.
    restoring: Option<(Snapshot, Vec<u8>)>,
    /// The application refuses to execute this height.
    pub(crate) halt_at: Option<i64>,
}

fn pair(tx: &[u8]) -> Option<(String, String)> {
    let (key, value) = std::str::from_utf8(tx).ok()?.split_once('=')?;
    Some((key.to_owned(), value.to_owned()))
}

impl Toy {
    pub(crate) fn open(dir: &Path) -> Self {
        std::fs::create_dir_all(dir).unwrap();
        let file = dir.join("toy");
        let committed = std::fs::read_to_string(&file).map(|text| read(&text)).unwrap_or_default();
        Self { file, committed, next: None, snapshot: None, restoring: None, halt_at: None }
    }

    fn verdict(state: &State, tx: &[u8]) -> u32 {
        match pair(tx) {
            None => MALFORMED,
            Some((key, _)) if state.pairs.contains_key(&key) => TAKEN,
            Some(_) => 0,
        }
    }

    fn store(&mut self, state: State) -> Result<(), Fatal> {
        let new = self.file.with_extension("new");
        std::fs::write(&new, write(&state)).map_err(|error| Fatal::Storage(Box::new(error)))?;
        std::fs::rename(&new, &self.file).map_err(|error| Fatal::Storage(Box::new(error)))?;
        self.committed = state;
        Ok(())
    }

    fn run(&self, height: i64, txs: &[Vec<u8>]) -> (State, Vec<TxResult>) {
        let mut state = self.committed.clone();
        let results = txs
            .iter()
            .map(|tx| {
                let code = Self::verdict(&state, tx);
                if let (0, Some((key, value))) = (code, pair(tx)) {
                    state.pairs.insert(key, value);
                }
                TxResult { code, data: tx.clone(), ..TxResult::default() }
            })
            .collect();
        state.height = height;
        let mut bytes = state.hash.clone();
        bytes.extend(height.to_be_bytes());
        txs.iter().for_each(|tx| bytes.extend(sha256(tx)));
        state.hash = sha256(&bytes).to_vec();
        (state, results)
    }
}

fn read(text: &str) -> State {
    let mut lines = text.lines();
    let height = lines.next().unwrap().parse().unwrap();
    let hash = lines.next().unwrap();
    let hash = (0..hash.len() / 2).map(|at| u8::from_str_radix(&hash[2 * at..2 * at + 2], 16).unwrap()).collect();
    State { height, hash, pairs: lines.map(|line| pair(line.as_bytes()).unwrap()).collect() }
}

fn write(state: &State) -> String {
    let hash: String = state.hash.iter().map(|byte| format!("{byte:02x}")).collect();
    let pairs: String = state.pairs.iter().map(|(key, value)| format!("{key}={value}\n")).collect();
    format!("{}\n{hash}\n{pairs}", state.height)
}

impl Application for Toy {
    fn info(&self) -> AppInfo {
        let State { height, hash, .. } = &self.committed;
        AppInfo { last_height: *height, last_app_hash: hash.clone(), app_version: 1 }
    }

    fn init_chain(&mut self, request: &InitChain) -> Result<InitChainResult, Fatal> {
        self.committed = State { hash: sha256(request.chain_id.as_bytes()).to_vec(), ..State::default() };
        Ok(InitChainResult { app_hash: self.committed.hash.clone(), ..InitChainResult::default() })
    }

    fn check_tx(&mut self, tx: &[u8], _kind: CheckKind) -> CheckResult {
        let code = Self::verdict(&self.committed, tx);
        CheckResult { code, codespace: "toy".into(), log: format!("code {code}"), ..CheckResult::default() }
    }

    fn prepare_proposal(&mut self, request: &PrepareProposal) -> Result<Vec<Vec<u8>>, Fatal> {
        Ok(request.txs.clone())
    }

    fn process_proposal(&mut self, block: &ProposedBlock) -> Result<Verdict, Fatal> {
        let good = block.txs.iter().all(|tx| pair(tx).is_some());
        Ok(if good { Verdict::Accept } else { Verdict::Reject })
    }

    fn execute(&mut self, block: &ProposedBlock) -> Result<BlockResults, Fatal> {
        if self.halt_at == Some(block.height) {
            return Err(Fatal::Halt { height: block.height, reason: "upgrade".into() });
        }
        if block.height != self.committed.height + 1 {
            return Err(Fatal::Internal(format!("block {} after {}", block.height, self.committed.height)));
        }
        let (state, tx_results) = self.run(block.height, &block.txs);
        self.next = Some(state);
        Ok(BlockResults { tx_results, ..BlockResults::default() })
    }

    fn commit(&mut self) -> Result<Committed, Fatal> {
        let state = self.next.take().ok_or_else(|| Fatal::Internal("nothing to commit".into()))?;
        self.store(state)?;
        if self.committed.height % SNAPSHOT_INTERVAL == 0 {
            self.snapshot = Some(self.committed.clone());
        }
        Ok(Committed { app_hash: self.committed.hash.clone(), retain_height: 0 })
    }

    fn snapshots(&mut self) -> &mut dyn Snapshots {
        self
    }
}

impl Snapshots for Toy {
    fn list(&mut self) -> Result<Vec<Snapshot>, Fatal> {
        let told = |state: &State| Snapshot {
            height: state.height as u64,
            format: 1,
            chunks: 1,
            hash: sha256(write(state).as_bytes()).to_vec(),
            metadata: Vec::new(),
        };
        Ok(self.snapshot.iter().map(told).collect())
    }

    fn load_chunk(&mut self, height: u64, format: u32, chunk: u32) -> Result<Option<Vec<u8>>, Fatal> {
        let wanted = self.snapshot.as_ref().filter(|state| (state.height as u64, 1, 0) == (height, format, chunk));
        Ok(wanted.map(|state| write(state).into_bytes()))
    }

    fn offer(&mut self, snapshot: &Snapshot, app_hash: &[u8]) -> Result<OfferSnapshotResult, Fatal> {
        self.restoring = Some((snapshot.clone(), app_hash.to_vec()));
        Ok(OfferSnapshotResult::Accept)
    }

    fn apply_chunk(&mut self, _: u32, chunk: &[u8], _: &str) -> Result<ApplyChunkResult, Fatal> {
        let (snapshot, app_hash) = self.restoring.take().ok_or_else(|| Fatal::Internal("nothing offered".into()))?;
        let good = sha256(chunk).to_vec() == snapshot.hash;
        let state = good.then(|| read(std::str::from_utf8(chunk).unwrap())).filter(|state| state.hash == app_hash);
        let outcome = match state {
            Some(state) => {
                self.store(state)?;
                ApplyChunkOutcome::Accept
            }
            None => ApplyChunkOutcome::RejectSnapshot,
        };
        Ok(ApplyChunkResult { outcome, refetch_chunks: Vec::new(), reject_senders: Vec::new() })
    }
}
