//! Bringing application and stores level on start.
//!
//! Reference: `cometbft:consensus/replay.go` (`Handshaker`). Beyond it, states that were lost are made again from stored
//! results and blocks however many are missing, not only the last.

use std::cmp::Ordering;
use std::time::{Duration, Instant};

use comet_chain::app::Fatal;
use comet_chain::exec::proposed_block;
use comet_chain::state::{State, UpdateError};
use comet_chain::validators::ValidatorSet;
use wire_cometbft::block::{Block, BlockId};

use crate::error::StoreError;
use crate::exec::{ExecError, Executor};
use crate::genesis::Genesis;

/// Why application and stores cannot be brought level.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// A store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The application failed.
    #[error(transparent)]
    App(#[from] Fatal),
    /// A block could not be applied.
    #[error("replaying block {height}: {source}")]
    Exec {
        /// Height.
        height: i64,
        /// Why.
        source: Box<ExecError>,
    },
    /// Genesis is out of range.
    #[error("genesis: {0}")]
    Genesis(#[from] UpdateError),
    /// The state stored is that of another chain or start.
    #[error("stored state is of chain {stored:?}, genesis of {genesis:?}")]
    OtherChain {
        /// Chain id in the store.
        stored: String,
        /// Chain id in the genesis document.
        genesis: String,
    },
    /// The application has executed blocks, but the engine's state is not there.
    #[error("state of the engine is missing although the application is at height {app}")]
    NoState {
        /// Application's height.
        app: i64,
    },
    /// The application is ahead of the blocks stored: block store lost or of another time than the application's.
    #[error("application is at height {app}, ahead of the block store at {store}")]
    AppAhead {
        /// Application's height.
        app: i64,
        /// Newest block.
        store: i64,
    },
    /// Blocks that the application or the state needs were pruned.
    #[error("{what} is at height {height}, but blocks below {base} are pruned")]
    Pruned {
        /// Application or state.
        what: &'static str,
        /// Its height.
        height: i64,
        /// Lowest block.
        base: i64,
    },
    /// The state is ahead of the blocks stored.
    #[error("state is at height {state}, ahead of the block store at {store}")]
    StateAhead {
        /// State's height.
        state: i64,
        /// Newest block.
        store: i64,
    },
    /// The application's state is not the one that the chain names.
    #[error("app hash at height {height} is {got}, expected {expected}")]
    AppHash {
        /// Height after which.
        height: i64,
        /// Expected, upper hexadecimal.
        expected: String,
        /// The application's, upper hexadecimal.
        got: String,
    },
}

#[cfg(test)]
mod tests;

/// How often a long replay tells of itself.
const PROGRESS: Duration = Duration::from_secs(5);

/// Brings application and stores level, and tells the state to begin with.
///
/// | Heights | What is done |
/// |---|---|
/// | application 0 | genesis is handed to it; its answer makes the first state, if there is none |
/// | no blocks | application and state must be level (genesis, or state sync) |
/// | application < state | stored blocks are executed again, each checked against the next header's application hash |
/// | state < application ≤ blocks | states are made from the stored results, without the application |
/// | state = application < blocks | stored blocks are checked and applied as ever |
/// | application > blocks, state > blocks, needed blocks pruned | refused |
///
/// # Errors
/// If they cannot be brought level, or the application's state is not the one that the chain names.
pub fn handshake(executor: &Executor, genesis: &Genesis) -> Result<State, HandshakeError> {
    let (blocks, chain) = (executor.blocks(), executor.chain());
    let info = executor.app().lock().info();
    let mut app = Level { height: info.last_height, hash: info.last_app_hash };
    let stored = chain.load()?;
    check_start(stored.as_ref(), genesis)?;
    let (base, store) = (blocks.base(), blocks.height());
    let at = stored.as_ref().map_or(0, |state| state.last_block_height);
    tracing::info!(app = app.height, state = at, blocks = store, base, "handshake with application");

    let state = if app.height == 0 {
        let init = executor.app().lock().init_chain(&genesis.init_chain()?)?;
        app.hash.clone_from(&init.app_hash);
        match stored {
            Some(state) => state,
            None => {
                let mut state = genesis.state()?;
                state.apply_init_chain(&init)?;
                chain.save(&state)?;
                state
            }
        }
    } else {
        stored.ok_or(HandshakeError::NoState { app: app.height })?
    };
    check_heights(&app, &state, base, store)?;
    execute_again(executor, &state, &mut app)?;
    let state = catch_up(executor, state, &mut app)?;
    check_hash(state.last_block_height, &state.app_hash, &app.hash)?;
    tracing::info!(height = state.last_block_height, "application and stores are level");
    Ok(state)
}

/// Where the application stands.
struct Level {
    height: i64,
    hash: Vec<u8>,
}

fn check_start(stored: Option<&State>, genesis: &Genesis) -> Result<(), HandshakeError> {
    let Some(state) = stored else { return Ok(()) };
    if state.chain_id != genesis.chain_id || state.initial_height != genesis.initial_height {
        let describe = |id: &str, height: i64| format!("{id} from height {height}");
        return Err(HandshakeError::OtherChain {
            stored: describe(&state.chain_id, state.initial_height),
            genesis: describe(&genesis.chain_id, genesis.initial_height),
        });
    }
    Ok(())
}

fn check_heights(app: &Level, state: &State, base: i64, store: i64) -> Result<(), HandshakeError> {
    let at = state.last_block_height;
    if store == 0 {
        return match app.height.cmp(&at) {
            Ordering::Equal => Ok(()),
            Ordering::Greater => Err(HandshakeError::AppAhead { app: app.height, store: at }),
            Ordering::Less => Err(HandshakeError::Pruned { what: "application", height: app.height, base: at + 1 }),
        };
    }
    if app.height > store {
        return Err(HandshakeError::AppAhead { app: app.height, store });
    }
    if at > store {
        return Err(HandshakeError::StateAhead { state: at, store });
    }
    for (what, height) in [("application", app.height), ("state", at)] {
        let first = if height == 0 { state.initial_height } else { height.saturating_add(1) };
        if first < base {
            return Err(HandshakeError::Pruned { what, height, base });
        }
    }
    Ok(())
}

fn check_hash(height: i64, expected: &[u8], got: &[u8]) -> Result<(), HandshakeError> {
    if expected == got {
        return Ok(());
    }
    let (expected, got) = (hex::encode_upper(expected), hex::encode_upper(got));
    Err(HandshakeError::AppHash { height, expected, got })
}

/// A stored block with its id.
fn load(executor: &Executor, height: i64) -> Result<(Block, BlockId), StoreError> {
    let missing = StoreError::Missing { what: "block", height };
    let (Some(meta), Some(block)) = (executor.blocks().meta(height)?, executor.blocks().block(height)?) else {
        return Err(missing);
    };
    Ok((block, meta.block_id))
}

/// Executes blocks up to the state's height in an application that is behind it.
fn execute_again(executor: &Executor, state: &State, app: &mut Level) -> Result<(), HandshakeError> {
    let initial = state.initial_height;
    let to = state.last_block_height;
    let mut progress = Progress::new("executing stored blocks again", app.height, to);
    while app.height < to {
        let height = if app.height == 0 { initial } else { app.height + 1 };
        let failed = |source: ExecError| HandshakeError::Exec { height, source: Box::new(source) };
        let (block, _) = load(executor, height)?;
        check_hash(height - 1, &block.header.app_hash, &app.hash)?;
        let last_validators = if height == initial {
            ValidatorSet::default()
        } else {
            let set = executor.chain().validators(height - 1)?;
            set.ok_or(StoreError::Missing { what: "validators", height: height - 1 })?
        };
        let proposed = proposed_block(&block, &last_validators, initial).map_err(|e| failed(e.into()))?;
        let mut locked = executor.app().lock();
        locked.execute(&proposed).map_err(|e| failed(e.into()))?;
        app.hash = locked.commit().map_err(|e| failed(e.into()))?.app_hash;
        app.height = height;
        progress.at(height);
    }
    Ok(())
}

/// Brings the state up to the newest block: from stored results as far as the application is, then by applying.
fn catch_up(executor: &Executor, mut state: State, app: &mut Level) -> Result<State, HandshakeError> {
    let to = executor.blocks().height();
    let mut progress = Progress::new("applying stored blocks", state.last_block_height, to);
    while state.last_block_height < to {
        let height = state.next_height();
        let failed = |source: ExecError| HandshakeError::Exec { height, source: Box::new(source) };
        let (block, id) = load(executor, height)?;
        if height > app.height {
            check_hash(height - 1, &state.app_hash, &app.hash)?;
            state.validate_block(&block).map_err(|e| failed(e.into()))?;
            state = executor.apply_verified(&state, &block, &id).map_err(failed)?;
            app.height = height;
            app.hash.clone_from(&state.app_hash);
        } else {
            let results = executor.chain().results(height)?;
            let results = results.ok_or(StoreError::Missing { what: "results", height })?;
            let next = state.after(id, &block.header, &results);
            let mut next = next.map_err(|source| failed(ExecError::Results { height, source }))?;
            next.app_hash = if height == app.height {
                app.hash.clone()
            } else {
                let following = executor.blocks().meta(height + 1)?;
                following.ok_or(StoreError::Missing { what: "block", height: height + 1 })?.header.app_hash
            };
            executor.take(&next, &block)?;
            state = next;
        }
        progress.at(height);
    }
    Ok(state)
}

/// Tells of a long replay now and then.
struct Progress {
    what: &'static str,
    from: i64,
    to: i64,
    told: Instant,
}

impl Progress {
    fn new(what: &'static str, from: i64, to: i64) -> Self {
        if from < to {
            tracing::info!(from, to, "{what}");
        }
        Self { what, from, to, told: Instant::now() }
    }

    fn at(&mut self, height: i64) {
        if self.told.elapsed() >= PROGRESS {
            self.told = Instant::now();
            tracing::info!(height, from = self.from, to = self.to, "{}", self.what);
        }
    }
}
