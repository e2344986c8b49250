//! A small chain of rounds with states, and storages over simulated disks, for the tests of this crate.

use std::sync::Arc;

use base_codec::Bytes;
use base_kv::{KvStore, Memory};
use base_prims::{Hash, Namespace};
use mkvs_db::{Config, NodeDb};
use mkvs_tree::{LogEntry, Sequential, Tree, WriteLog};
use wire_consensus::roothash::{Block, Header, HeaderType};

use crate::storage::{Apply, Storage, roots_of};

pub(crate) const FIRST: u64 = 3;

pub(crate) fn id() -> Namespace {
    "8000000000000000000000000000000000000000000000000000000000000001".parse().unwrap()
}

/// A round: its block and what changed.
#[derive(Clone)]
pub(crate) struct Round {
    pub(crate) header: Header,
    pub(crate) io: WriteLog,
    pub(crate) state: WriteLog,
}

/// A chain of so many rounds after the first, which is empty. Every fifth has the state of the one before and no
/// inputs, as after an epoch.
pub(crate) fn chain(rounds: u64) -> Vec<Round> {
    let mut state = Tree::in_memory();
    let mut block = Block::genesis(id(), 1);
    block.header.round = FIRST;
    let mut out = vec![Round { header: block.header.clone(), io: vec![], state: vec![] }];
    for n in 1..=rounds {
        let kind = if n % 5 == 0 { HeaderType::EPOCH_TRANSITION } else { HeaderType::NORMAL };
        block = Block::empty_after(&block, n, kind);
        let (mut io_log, mut state_log) = (vec![], vec![]);
        if n % 5 != 0 {
            let put =
                |key: String, value: Vec<u8>| LogEntry { key: Bytes(key.into_bytes()), value: Some(Bytes(value)) };
            let mut io = Tree::in_memory();
            io_log = (0..n % 4 + 1).map(|i| put(format!("T{n} {i}"), vec![n as u8; 20])).collect();
            mkvs_tree::writelog::apply(&io_log, &mut io).unwrap();
            block.header.io_root = io.root_hash(&Sequential);
            state_log = (0..20).map(|i| put(format!("key {}", (n * 7 + i * 13) % 97), vec![n as u8; 30])).collect();
            let gone = format!("key {}", n % 97).into_bytes();
            state_log.retain(|e: &LogEntry| e.key.0 != gone);
            if mkvs_tree::KvRead::get(&state, &gone).unwrap().is_some() {
                state_log.push(LogEntry { key: Bytes(gone), value: None });
            }
            mkvs_tree::writelog::apply(&state_log, &mut state).unwrap();
            block.header.state_root = state.root_hash(&Sequential);
        }
        state.commit(n, 0, &Sequential);
        out.push(Round { header: block.header.clone(), io: io_log, state: state_log });
    }
    out
}

pub(crate) fn header(chain: &[Round], round: u64) -> Option<Header> {
    let index = usize::try_from(round.checked_sub(FIRST)?).ok()?;
    chain.get(index).map(|r| r.header.clone())
}

pub(crate) fn open(kv: Arc<dyn KvStore>) -> Result<Storage, mkvs_db::DbError> {
    let mut config = Config::new(id());
    config.threads = mkvs_db::Threads::new(1);
    NodeDb::open(kv, config).map(Storage::new)
}

pub(crate) fn memory() -> Storage {
    open(Arc::new(Memory::new())).unwrap()
}

/// A storage with the whole chain.
pub(crate) fn full(chain: &[Round]) -> Storage {
    let storage = memory();
    let mut before: Option<Header> = None;
    for round in chain {
        let [io, state] = roots_of(&round.header);
        storage.apply(&Apply { start: storage.empty_io(io.version), end: io, log: &round.io }).unwrap();
        let start = match &before {
            Some(before) => roots_of(before)[1],
            None => mkvs_tree::Root { hash: Hash::EMPTY, ..state },
        };
        storage.apply(&Apply { start, end: state, log: &round.state }).unwrap();
        storage.finalize(&round.header).unwrap();
        before = Some(round.header.clone());
    }
    storage
}

/// Whether both roots of a block can be read to the last pair.
pub(crate) fn is_whole(storage: &Storage, header: &Header) -> bool {
    roots_of(header).iter().all(|root| {
        let Ok(tree) = storage.db().read(root) else { return false };
        mkvs_tree::scan_prefix(&tree, &[], &mut |_, _| std::ops::ControlFlow::Continue(())).is_ok()
    })
}
