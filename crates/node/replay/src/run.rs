//! The replay itself.

use std::{collections::BTreeMap, ops::ControlFlow, path::PathBuf, time::Instant};

use apps_core::epoch;
use apps_governance::upgrade::{Handler, Upgrades};
use base_prims::version::PROTOCOLS;
use comet_chain::{
    app::{BlockResults, Fatal, ProposedBlock, ValidatorUpdate},
    exec::{proposed_block, results_hash},
    state::State,
};
use node_app::{Change, NodeApp, NodeOptions, StateStore, build_mux};
use wire_cometbft::{
    Message as _,
    abci::AbciResponses,
    block::{Block, BlockId},
    validators::ValidatorSet,
};
use wire_consensus::{
    genesis::{Document, comet},
    upgrade::{Descriptor, LATEST_DESCRIPTOR_VERSION},
};

use crate::{
    compare::{At, Mismatch},
    files::{FileError, JsonLines, RecordedBlock, RecordedDiff},
    pipeline::{self, Coming, MAX_AWAITED, Verifier},
    report::Report,
};

/// What to replay and how.
pub struct Options {
    /// Folder with `genesis.json` and `blocks.jsonl.gz`.
    pub dir: PathBuf,
    /// Last height to execute; all if absent.
    pub to: Option<i64>,
    /// Whether recorded results and state are compared. If not, they need not be there.
    pub compare: bool,
    /// Settings and upgrades of the node; test networks need unsafe debug options to be allowed.
    pub node: NodeOptions,
    /// Where the state is kept.
    pub store: Box<dyn StateStore>,
    /// Shown every block, its results, and the application after its commit.
    pub observer: Option<Observer>,
}

/// Looks at the application after each block. See [`Options::observer`].
pub type Observer = Box<dyn FnMut(&Block, &BlockResults, &NodeApp)>;

/// Why a replay did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// A recorded file could not be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// The genesis document is unusable.
    #[error("{path}: {reason}")]
    Genesis {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A recorded block cannot be decoded or breaks a rule of the chain.
    #[error("height {height}: {reason}")]
    Block {
        /// The height.
        height: i64,
        /// Why.
        reason: String,
    },
    /// The application stopped.
    #[error("height {height}: {source}")]
    Application {
        /// The height.
        height: i64,
        /// Why.
        source: Fatal,
    },
    /// The first difference.
    #[error("{0}")]
    Mismatch(Box<Mismatch>),
}

impl From<Mismatch> for ReplayError {
    fn from(m: Mismatch) -> Self {
        Self::Mismatch(Box::new(m))
    }
}

/// The recorded state, kept beside the node's own to find what a block changed.
type Mirror = BTreeMap<Vec<u8>, Vec<u8>>;

struct Replay {
    app: NodeApp,
    state: State,
    report: Report,
    compare: bool,
    mirror: Mirror,
    diffs: Option<JsonLines>,
    first: bool,
    recorded_root: Option<Vec<u8>>,
    upgrades: Option<Upgrades>,
    observer: Option<Observer>,
}

/// Replays a recorded chain.
///
/// # Errors
/// At the first difference, or if files or blocks are unusable.
pub fn replay(options: Options) -> Result<Report, ReplayError> {
    let genesis = options.dir.join("genesis.json");
    let bad = |reason: String| ReplayError::Genesis { path: genesis.clone(), reason };
    let text = std::fs::read_to_string(&genesis).map_err(|source| FileError::Io { path: genesis.clone(), source })?;
    let doc = Document::from_json(&text).map_err(|e| bad(e.to_string()))?;
    let allow_debug = options.node.local.allow_debug;

    let params = comet::consensus_params(&doc, allow_debug).map_err(|e| bad(e.to_string()))?;
    let validators: Vec<_> = comet::validators(&doc)
        .map_err(|e| bad(e.to_string()))?
        .into_iter()
        .map(|v| ValidatorUpdate { pub_key: *v.pub_key.as_bytes(), power: v.power })
        .collect();
    let mut state = State::genesis(doc.comet_chain_id(), doc.height, doc.time.0, params, &validators)
        .map_err(|e| bad(e.to_string()))?;
    let upgrades = options.node.upgrades.clone();
    let mut app = NodeApp::new(build_mux(&doc, options.node), options.store, None);
    let init = app.init_chain(&doc).map_err(|source| ReplayError::Application { height: doc.height - 1, source })?;
    state.apply_init_chain(&init).map_err(|e| bad(e.to_string()))?;

    let diffs =
        if options.compare { JsonLines::open_if_present(&options.dir.join("state_diffs.jsonl.gz"))? } else { None };
    let blocks = JsonLines::open(&options.dir.join("blocks.jsonl.gz"))?;
    let mut replay = Replay {
        report: Report { chain: doc.chain_context().to_string(), ..Report::default() },
        app,
        state,
        compare: options.compare,
        mirror: Mirror::new(),
        diffs,
        first: true,
        recorded_root: None,
        upgrades,
        observer: options.observer,
    };
    let started = Instant::now();
    let ahead = replay.app.ahead().clone();
    let (read, open, signatures) =
        pipeline::run(blocks, options.compare, options.to, ahead, |coming, verifier| replay.run(coming, verifier))?;
    let Replay { app, mut report, .. } = replay;
    // The store may still be writing.
    let finishing = Instant::now();
    drop(app);
    report.commit += finishing.elapsed();
    (report.read, report.open, report.commit_signatures) = (read, open, signatures);
    report.total = started.elapsed();
    Ok(report)
}

impl Replay {
    fn run(&mut self, coming: &mut Coming, verifier: &Verifier) -> Result<(), ReplayError> {
        let outcome = self.blocks(coming, verifier);
        // A bad commit comes before whatever came of executing the blocks after it.
        verifier.finish(0)?;
        outcome
    }

    fn blocks(&mut self, coming: &mut Coming, verifier: &Verifier) -> Result<(), ReplayError> {
        loop {
            let started = Instant::now();
            let next = coming.next()?;
            self.report.wait += started.elapsed();
            let Some(prepared) = next else { break };
            self.block(&prepared.recorded, &prepared.block, prepared.id, verifier)?;
        }
        if self.report.blocks == 0 {
            return Err(ReplayError::Block {
                height: self.state.next_height(),
                reason: "no block recorded".to_owned(),
            });
        }
        Ok(())
    }

    fn block(
        &mut self,
        recorded: &RecordedBlock,
        block: &Block,
        id: BlockId,
        verifier: &Verifier,
    ) -> Result<(), ReplayError> {
        let height = recorded.height;
        let bad = |reason: String| ReplayError::Block { height, reason };
        let at = At { height };
        // The header commits to the state and results of the block before.
        if self.state.app_hash != block.header.app_hash {
            let (expected, found) = (&block.header.app_hash, &self.state.app_hash);
            return Err(differs(&at, "app hash in header", expected, found));
        }
        if self.state.last_results_hash != block.header.last_results_hash {
            let (expected, found) = (&block.header.last_results_hash, &self.state.last_results_hash);
            return Err(differs(&at, "last results hash in header", expected, found));
        }

        let started = Instant::now();
        // The signatures are verified while this block and the next few are executed.
        if let Some(pending) = self.state.check_block(block).map_err(|e| bad(e.to_string()))? {
            verifier.start(height, pending);
        }
        let proposed = proposed_block(block, &self.state.last_validators, self.state.initial_height)
            .map_err(|e| bad(e.to_string()))?;
        self.report.verify += started.elapsed();
        let (results, changes) = self.execute(&proposed)?;
        let started = Instant::now();
        verifier.finish(MAX_AWAITED)?;
        self.report.verify += started.elapsed();
        self.report.blocks += 1;
        self.report.transactions += results.tx_results.len() as u64;
        self.report.failed += results.tx_results.iter().filter(|r| r.code != 0).count() as u64;
        let next = self.state.after(id, &block.header, &results).map_err(|e| bad(e.to_string()))?;
        if self.compare {
            let started = Instant::now();
            self.compare_block(&at, recorded, &results, changes)?;
            self.report.compare += started.elapsed();
        }
        let started = Instant::now();
        let committed = self.app.commit().map_err(|source| ReplayError::Application { height, source })?;
        self.report.commit += started.elapsed();
        self.state = next;
        self.state.app_hash = committed.app_hash;
        if self.compare {
            self.compare_root(&at)?;
        } else if let Some((_, root)) = self.app.store().committed() {
            self.report.app_hashes.push((height, root));
        }
        if let Some(observer) = &mut self.observer {
            observer(block, &results, &self.app);
        }
        self.first = false;
        debug_assert_eq!(self.state.last_results_hash, results_hash(&results.tx_results));
        Ok(())
    }

    fn execute(&mut self, proposed: &ProposedBlock) -> Result<(BlockResults, Vec<Change>), ReplayError> {
        let height = proposed.height;
        if self.first && self.compare {
            // The first recorded difference holds the whole state, that of genesis included.
            let started = Instant::now();
            self.read_state(height)?;
            self.report.compare += started.elapsed();
        }
        let started = Instant::now();
        let results = match self.app.execute(proposed) {
            Err(stopped @ (Fatal::InvalidBlock { .. } | Fatal::Halt { .. })) => {
                self.execute_with_upgrade(proposed, stopped)
            }
            other => other,
        }
        .map_err(|source| ReplayError::Application { height, source })?;
        self.report.execute += started.elapsed();
        let changes = if self.compare { self.app.pending_changes().to_vec() } else { Vec::new() };
        Ok((results, changes))
    }

    /// Executes a block that does not hold as it is with the upgrade that its network made there. Upgrades that operators
    /// submitted to their nodes are in no block, but each block states its own state root: the handler that gives it
    /// is the one that ran.
    fn execute_with_upgrade(&mut self, proposed: &ProposedBlock, stopped: Fatal) -> Result<BlockResults, Fatal> {
        let Some(upgrades) = self.upgrades.clone() else { return Err(stopped) };
        let fatal = |e: apps_core::Error| Fatal::Internal(e.to_string());
        if matches!(stopped, Fatal::Halt { .. }) {
            // The node was restarted here.
            upgrades.restart().map_err(fatal)?;
            return self.app.execute(proposed);
        }
        let state = self.app.store().state();
        let epoch = match epoch::future_of_state(state).map_err(fatal)? {
            Some(future) if future.height == proposed.height => future.epoch,
            _ => epoch::of_state(state).map_err(fatal)?.epoch,
        };
        let before = upgrades.snapshot();
        for (handler, _) in Handler::ALL {
            let version = LATEST_DESCRIPTOR_VERSION;
            let descriptor = Descriptor { v: version, handler: handler.to_owned(), target: PROTOCOLS, epoch };
            upgrades.submit(&descriptor).map_err(fatal)?;
            let mut tried = self.app.execute(proposed);
            if matches!(tried, Err(Fatal::Halt { .. })) && upgrades.restart().is_ok() {
                tried = self.app.execute(proposed);
            }
            if let Ok(results) = tried {
                self.report.upgrades.push((proposed.height, handler.to_owned()));
                return Ok(results);
            }
            upgrades.restore(before.clone());
        }
        Err(stopped)
    }

    fn read_state(&mut self, height: i64) -> Result<(), ReplayError> {
        let mirror = &mut self.mirror;
        self.app
            .store()
            .state()
            .iterate(&[], &mut |k, v| {
                mirror.insert(k.to_vec(), v.to_vec());
                ControlFlow::Continue(())
            })
            .map_err(|e| ReplayError::Block { height, reason: e.to_string() })
    }

    fn compare_block(
        &mut self,
        at: &At,
        recorded: &RecordedBlock,
        results: &BlockResults,
        changes: Vec<Change>,
    ) -> Result<(), ReplayError> {
        let bad = |reason: String| ReplayError::Block { height: at.height, reason };
        match &recorded.abci_responses {
            None => self.report.unchecked += 1,
            Some(raw) => {
                let expected = AbciResponses::decode(raw).map_err(|e| bad(format!("abci_responses: {e}")))?;
                at.results(&expected, results)?;
                self.report.results += 1;
            }
        }
        match &recorded.validators {
            None => self.report.unchecked += 1,
            Some(raw) => {
                let expected = ValidatorSet::decode(raw).map_err(|e| bad(format!("validators: {e}")))?;
                let found = self.state.validators.to_wire();
                if expected != found {
                    return Err(at
                        .mismatch(None, "validator set", format!("{expected:?}"), format!("{found:?}"))
                        .into());
                }
                self.report.validator_sets += 1;
            }
        }
        self.pending_diff(at, changes)
    }

    /// Takes the block's changes into the mirror and compares what really changed.
    fn pending_diff(&mut self, at: &At, changes: Vec<Change>) -> Result<(), ReplayError> {
        let recorded = self.next_diff(at.height)?;
        let mut found = BTreeMap::new();
        if self.first {
            found = self.mirror.iter().map(|(k, v)| (k.clone(), Some(v.clone()))).collect();
        }
        for (key, value) in changes {
            let before = match &value {
                Some(v) => self.mirror.insert(key.clone(), v.clone()),
                None => self.mirror.remove(&key),
            };
            if self.first && value.is_none() {
                found.remove(&key);
            } else if self.first || before != value {
                found.insert(key, value);
            }
        }
        let Some(recorded) = recorded else {
            self.report.unchecked += 1;
            return Ok(());
        };
        at.diff(&recorded.diff, &found)?;
        if recorded.keys != self.mirror.len() as u64 {
            return Err(at.mismatch(None, "number of keys", recorded.keys, self.mirror.len()).into());
        }
        self.recorded_root = Some(recorded.root);
        self.report.diffs += 1;
        Ok(())
    }

    fn next_diff(&mut self, height: i64) -> Result<Option<RecordedDiff>, ReplayError> {
        let Some(lines) = &mut self.diffs else { return Ok(None) };
        match lines.next_diff()? {
            Some(diff) if diff.version == height => Ok(Some(diff)),
            Some(diff) => Err(ReplayError::Block {
                height,
                reason: format!("state_diffs.jsonl.gz continues with version {}", diff.version),
            }),
            None => Ok(None),
        }
    }

    fn compare_root(&mut self, at: &At) -> Result<(), ReplayError> {
        let Some(expected) = self.recorded_root.take() else { return Ok(()) };
        let (expected, found) = (hex::encode(expected), hex::encode(&self.state.app_hash));
        if expected != found {
            return Err(at.mismatch(None, "state root", expected, found).into());
        }
        self.report.roots += 1;
        Ok(())
    }
}

fn differs(at: &At, what: &'static str, expected: &[u8], found: &[u8]) -> ReplayError {
    at.mismatch(None, what, hex::encode_upper(expected), hex::encode_upper(found)).into()
}
