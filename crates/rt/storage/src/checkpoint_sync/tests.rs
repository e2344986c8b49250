//! Restoring from peers that are right, lose chunks, or lie.

use std::sync::Arc;

use base_kv::{Crash, Faulty, KvStore, Memory};
use mkvs_db::Threads;
use mkvs_db::checkpoint::create;

use super::*;
use crate::testing::*;

type Peer = &'static str;

/// A checkpoint with its chunks.
#[derive(Clone)]
struct Made {
    metadata: Metadata,
    chunks: Vec<Vec<u8>>,
}

fn make(storage: &Storage, root: &Root, chunk: u64) -> Made {
    let mut chunks: Vec<Vec<u8>> = Vec::new();
    let metadata = create(storage.db(), root, chunk, 0, &Threads::new(1), &mut chunks).unwrap();
    Made { metadata, chunks }
}

/// Both checkpoints of a round.
fn both(chain: &[Round], round: u64, chunk: u64) -> Vec<Made> {
    let storage = full(&chain[..=(round - FIRST) as usize]);
    let roots = roots_of(&header(chain, round).unwrap());
    roots.iter().filter(|r| !r.hash.is_empty_hash()).map(|r| make(&storage, r, chunk)).collect()
}

fn listed(peer: Peer, made: &[Made]) -> (Peer, Vec<Metadata>) {
    (peer, made.iter().map(|m| m.metadata.clone()).collect())
}

struct Run {
    progress: Progress,
    judged: Vec<(Peer, Verdict)>,
    fetches: usize,
}

fn run(
    storage: &Storage,
    chain: &[Round],
    only_genesis: bool,
    lists: Vec<(Peer, Vec<Metadata>)>,
    mut answer: impl FnMut(&ChunkRequest<Peer>) -> Option<(Peer, Vec<u8>)>,
) -> Result<Run, StorageError> {
    let mut out = Vec::new();
    let mut find = |r| header(chain, r);
    let mut sync = CheckpointSync::new(storage.clone(), 3, FIRST, only_genesis, lists, &mut find, &mut out);
    let mut run = Run { progress: Progress::Running, judged: vec![], fetches: 0 };
    let mut asked = Vec::new();
    for _ in 0..10_000 {
        run.progress = sync.poll(&mut out)?;
        for event in std::mem::take(&mut out) {
            match event {
                Event::Fetch(request) => asked.push(request),
                Event::Judge(peer, verdict) => run.judged.push((peer, verdict)),
            }
        }
        if run.progress != Progress::Running {
            return Ok(run);
        }
        let request = asked.pop().expect("something is asked for");
        run.fetches += 1;
        let answer = answer(&request);
        sync.chunk(ChunkOutcome { id: request.id, answer }, &mut out)?;
    }
    panic!("no end");
}

fn chunk_of(made: &[Made], request: &ChunkRequest<Peer>) -> Vec<u8> {
    let m = made.iter().find(|m| m.metadata.chunk(request.chunk.index) == Some(request.chunk)).unwrap();
    m.chunks[request.chunk.index as usize].clone()
}

#[test]
fn the_newest_round_is_restored() {
    let chain = chain(14);
    let made: Vec<Made> = [FIRST + 6, FIRST + 13].iter().flat_map(|r| both(&chain, *r, 300)).collect();
    assert!(made.iter().any(|m| m.chunks.len() > 3));
    let storage = memory();
    let lists = vec![listed("a", &made[..2]), listed("b", &made)];
    let done = run(&storage, &chain, false, lists, |r| Some((r.peers[0], chunk_of(&made, r)))).unwrap();
    let head = &chain[13].header;
    assert_eq!(done.progress, Progress::Done(Synced::of(head)));
    assert!(is_whole(&storage, head) && storage.db().latest_version() == Some(FIRST + 13));
    assert!(done.judged.iter().all(|j| *j == ("b", Verdict::Good)));
    // And the chain goes on from there.
    let [_, state] = roots_of(&chain[14].header);
    storage.apply(&crate::Apply { start: roots_of(head)[1], end: state, log: &chain[14].state }).unwrap();
    // What is there is not restored again.
    let again = run(&storage, &chain, false, vec![listed("b", &made)], |_| None).unwrap();
    assert_eq!((again.progress, again.fetches), (Progress::Exhausted, 0));
}

#[test]
fn empty_roots_need_no_checkpoint() {
    let chain = chain(10);
    let made = both(&chain, FIRST + 10, 500);
    assert_eq!(made.len(), 1, "no inputs after an epoch");
    let storage = memory();
    let done = run(&storage, &chain, false, vec![listed("a", &made)], |r| Some(("a", chunk_of(&made, r)))).unwrap();
    assert_eq!(done.progress, Progress::Done(Synced::of(&chain[10].header)));
    assert!(is_whole(&storage, &chain[10].header));
}

#[test]
fn chunks_that_get_lost_are_fetched_again() {
    let chain = chain(8);
    let made = both(&chain, FIRST + 8, 300);
    let storage = memory();
    let mut count = 0;
    let lists = vec![listed("a", &made), listed("b", &made)];
    let done = run(&storage, &chain, false, lists, |r| {
        count += 1;
        match count % 3 {
            0 => None,
            1 => Some(("a", b"broken".to_vec())),
            _ => Some(("b", chunk_of(&made, r))),
        }
    });
    let done = done.unwrap();
    assert_eq!(done.progress, Progress::Done(Synced::of(&chain[8].header)));
    assert!(done.judged.contains(&("a", Verdict::Failure)) && !done.judged.contains(&("a", Verdict::Bad)));
    // Nobody has anything: it ends.
    let storage = memory();
    let none = run(&storage, &chain, false, vec![listed("a", &made)], |_| None).unwrap();
    assert_eq!(none.progress, Progress::Exhausted);
    assert_eq!(storage.db().multipart_version(), None);
}

#[test]
fn liars_are_found_and_others_asked() {
    let chain = chain(9);
    let made = both(&chain, FIRST + 9, 300);
    let old = both(&chain, FIRST + 7, 300);
    // Metadata of the right root with chunks that prove nothing.
    let mut forged = made[1].clone();
    forged.chunks[0] = old[1].chunks[0].clone();
    forged.metadata.chunks[0] = crate::messages::digest(&forged.chunks[0]);
    // The right root but a chunk left out.
    let mut short = made[1].clone();
    short.chunks.pop();
    short.metadata.chunks.pop();
    // A root that no block has.
    let mut other = made[1].clone();
    other.metadata.root.hash = base_prims::Hash::of(&[b"other"]);
    let mut empty = made[1].clone();
    empty.metadata.chunks.clear();
    let all = [made.clone(), old.clone(), vec![forged.clone(), short.clone()]].concat();
    let lists = vec![
        listed("honest", &made),
        listed("forger", &[forged.clone()]),
        listed("friend", &[forged]),
        listed("shortener", &[short]),
        listed("inventor", &[other]),
        listed("empty", &[empty]),
    ];
    let storage = memory();
    let done = run(&storage, &chain, false, lists, |r| Some((r.peers[0], chunk_of(&all, r)))).unwrap();
    assert_eq!(done.progress, Progress::Done(Synced::of(&chain[9].header)));
    assert!(is_whole(&storage, &chain[9].header));
    assert!(storage.db().check(&mut |_| std::ops::ControlFlow::Continue(())).unwrap().is_ok());
    let bad: BTreeSet<Peer> = done.judged.iter().filter(|j| j.1 == Verdict::Bad).map(|j| j.0).collect();
    assert!(bad.is_superset(&["inventor", "empty"].into()) && !bad.contains("honest"), "{bad:?}");
    assert!(bad.contains("forger") == bad.contains("friend"), "all who offered it");
}

#[test]
fn only_the_first_round_if_so_configured() {
    let mut chain = chain(6);
    let made = both(&chain, FIRST + 6, 300);
    let done = run(&memory(), &chain, true, vec![listed("a", &made)], |_| None).unwrap();
    assert_eq!((done.progress, done.fetches), (Progress::Exhausted, 0));
    // A runtime that begins with a state.
    let mut first = both(&chain, FIRST + 4, 300);
    let state = first.pop().unwrap();
    chain[0].header.state_root = state.metadata.root.hash;
    let mut state = state;
    state.metadata.root.version = FIRST;
    let storage = memory();
    let lists = vec![listed("a", &made), listed("b", &[state.clone()])];
    let done = run(&storage, &chain, true, lists, |r| Some(("b", chunk_of(&[state.clone()], r)))).unwrap();
    assert_eq!(done.progress, Progress::Done(Synced::of(&chain[0].header)));
    assert!(is_whole(&storage, &chain[0].header));
}

#[test]
fn crashes_at_every_write() {
    let chain = chain(9);
    let made = both(&chain, FIRST + 9, 300);
    let restore = |kv: Arc<dyn KvStore>| -> Result<(), StorageError> {
        let storage = open(kv)?;
        assert_eq!(storage.db().multipart_version(), None, "what was begun is gone");
        let start = crate::start(&storage, &chain[0].header, &mut |r| header(&chain, r), None)?;
        if start.synced.is_none_or(|s| s.round == FIRST) {
            let lists = vec![listed("a", &made)];
            let done = run(&storage, &chain, false, lists, |r| Some(("a", chunk_of(&made, r))))?;
            assert_eq!(done.progress, Progress::Done(Synced::of(&chain[9].header)));
        }
        assert!(is_whole(&storage, &chain[9].header));
        assert!(storage.db().check(&mut |_| std::ops::ControlFlow::Continue(()))?.is_ok());
        Ok(())
    };
    let whole = Arc::new(Faulty::new(Memory::new(), None));
    restore(whole.clone()).unwrap();
    for at_write in 0..whole.writes() {
        for applied in [false, true] {
            let kv = Arc::new(Faulty::new(Memory::new(), Some(Crash { at_write, applied })));
            assert!(restore(kv.clone()).is_err() && kv.is_down());
            for luck in [0, 2, 5] {
                restore(Arc::new(kv.restart(luck))).unwrap();
            }
        }
    }
}
