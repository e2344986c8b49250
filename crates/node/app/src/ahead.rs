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
        self.open_all(&[(hash, txs)]);
    }

    /// Opens the transactions of several blocks, given by hash, with their signatures verified in one batch, which takes
    /// less time than one batch for each.
    pub fn open_all(&self, blocks: &[(&[u8], &[Vec<u8>])]) {
        let txs: Vec<_> = blocks.iter().map(|(_, txs)| *txs).collect();
        let all = self.opener.open_all(&txs);
        let mut kept = self.blocks.lock();
        for ((hash, txs), opened) in blocks.iter().zip(all) {
            while kept.len() >= MAX_OPENED {
                kept.pop_front();
            }
            kept.push_back(Opened { hash: hash.to_vec(), txs: txs.to_vec(), opened });
        }
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

#[cfg(test)]
mod tests {
    use crate::{
        MemoryStore, NodeApp, NodeOptions, build_mux,
        tests::{chain, local},
    };
    use comet_chain::exec::proposed_block;
    use mkvs_tree::Sequential;
    use wire_cometbft::block::Block;

    use super::*;

    /// What was opened for the hash of a block is used for the same transactions only.
    #[test]
    fn other_transactions_under_the_hash_of_a_block_are_not_used_for_it() {
        let (recorded, doc) = chain("gas-fees-staking");
        let node = || {
            let options = NodeOptions { local: local(), upgrades: None };
            let mut app =
                NodeApp::new(build_mux(&doc, options), Box::new(MemoryStore::new(Box::new(Sequential))), None);
            app.init_chain(&doc).unwrap();
            app
        };
        let (mut plain, mut misled, mut helped) = (node(), node(), node());
        let params = wire_consensus::genesis::comet::consensus_params(&doc, true).unwrap();
        let validators: Vec<_> = wire_consensus::genesis::comet::validators(&doc)
            .unwrap()
            .into_iter()
            .map(|v| comet_chain::app::ValidatorUpdate { pub_key: *v.pub_key.as_bytes(), power: v.power })
            .collect();
        let chain_id = doc.comet_chain_id();
        let mut state =
            comet_chain::state::State::genesis(chain_id, doc.height, doc.time.0, params, &validators).unwrap();
        let mut wrong = 0;
        for recorded in recorded.blocks().unwrap() {
            let block = Block::decode_checked(&recorded.block).unwrap();
            let proposed = proposed_block(&block, &state.last_validators, state.initial_height).unwrap();
            // Each is missing, doubled or damaged in turn, under the right hash; as is the list as it should be, later.
            for at in 0..proposed.txs.len() {
                let mut others = vec![proposed.txs.clone(); 3];
                others[0].remove(at);
                others[1].insert(at, proposed.txs[at].clone());
                let middle = others[2][at].len() / 2;
                others[2][at][middle] ^= 1;
                let all: Vec<_> = others.iter().map(|txs| (&proposed.hash[..], &txs[..])).collect();
                misled.ahead().open_all(&all);
                wrong += all.len();
            }
            helped.ahead().open(&proposed.hash, &proposed.txs);
            let held = helped.ahead().blocks.lock().len();
            let expected = plain.execute(&proposed).unwrap();
            assert_eq!(misled.execute(&proposed).unwrap(), expected, "block {}", proposed.height);
            assert_eq!(helped.execute(&proposed).unwrap(), expected);
            assert_eq!(helped.ahead().blocks.lock().len(), held - 1, "what was opened is used, and once");
            let committed = plain.commit().unwrap();
            assert_eq!(misled.commit().unwrap(), committed);
            assert_eq!(helped.commit().unwrap(), committed);
            state = state.after(block.id().unwrap(), &block.header, &expected).unwrap();
            state.app_hash = committed.app_hash;
        }
        assert!(wrong > 100, "{wrong}");
        assert!(misled.ahead().blocks.lock().len() <= MAX_OPENED);
    }
}
