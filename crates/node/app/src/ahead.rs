//! Opening the transactions of blocks before their turn to be executed comes.

use std::{collections::VecDeque, sync::Arc};

use apps_core::{OpenedTxs, Opener};
use comet_chain::app::ProposedBlock;
use parking_lot::Mutex;

/// Blocks that are kept opened. Whoever syncs should not be further ahead than this: what is opened first is forgotten
/// first, and has to be opened again.
const MAX_OPENED: usize = 32;

struct Opened {
    hash: Vec<u8>,
    txs: Vec<Vec<u8>>,
    opened: OpenedTxs,
}

/// Decodes transactions and verifies their signatures ahead of execution. Cheap to clone; all clones share what was
/// opened.
///
/// Whether a block is opened ahead never changes its results.
#[derive(Clone)]
pub struct Ahead {
    opener: Opener,
    blocks: Arc<Mutex<VecDeque<Opened>>>,
}

impl Ahead {
    pub(crate) fn new(opener: Opener) -> Self {
        Self { opener, blocks: Arc::default() }
    }

    /// Opens the transactions of a block that is likely to be executed soon. Takes as long as verifying their signatures.
    pub fn open(&self, hash: &[u8], txs: &[Vec<u8>]) {
        let opened = self.opener.open(txs);
        let mut blocks = self.blocks.lock();
        while blocks.len() >= MAX_OPENED {
            blocks.pop_front();
        }
        blocks.push_back(Opened { hash: hash.to_vec(), txs: txs.to_vec(), opened });
    }

    /// What was opened for a block; if that was nothing, it is opened now. The hash only finds it: the transactions
    /// themselves have to be the same.
    pub(crate) fn take(&self, block: &ProposedBlock) -> OpenedTxs {
        let found = {
            let mut blocks = self.blocks.lock();
            let at = blocks.iter().position(|b| b.hash == block.hash && b.txs == block.txs);
            at.and_then(|at| blocks.remove(at))
        };
        found.map_or_else(|| self.opener.open(&block.txs), |b| b.opened)
    }
}
