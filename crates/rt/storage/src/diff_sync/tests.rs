//! Following a chain with peers that are slow, lie and have nothing, and with crashes at every write.

use std::sync::Arc;

use base_codec::Bytes;
use base_kv::{Crash, Faulty, KvStore, Memory};
use mkvs_tree::LogEntry;
use proptest::prelude::*;

use super::*;
use crate::testing::*;

/// The log that leads to a root.
fn log_of(chain: &[Round], fetch: &FetchDiff) -> WriteLog {
    let round = &chain[(fetch.id.round - FIRST) as usize];
    if fetch.id.root_type == RootType::IO { round.io.clone() } else { round.state.clone() }
}

fn lie() -> WriteLog {
    vec![LogEntry { key: Bytes(b"lie".to_vec()), value: Some(Bytes(b"lie".to_vec())) }]
}

/// Runs until everything is final; `answer` says what peers say, `pick` which outstanding fetch ends next.
fn follow(
    sync: &mut DiffSync,
    storage: &Storage,
    chain: &[Round],
    mut answer: impl FnMut(&FetchDiff) -> Option<WriteLog>,
    mut pick: impl FnMut(usize) -> usize,
) -> Result<Vec<Effect>, StorageError> {
    let mut now = Moment::ZERO;
    let mut asked: Vec<FetchDiff> = Vec::new();
    let mut seen = Vec::new();
    let last = chain.last().unwrap().header.round;
    sync.new_block(last);
    for _ in 0..100_000 {
        let mut out = Vec::new();
        sync.poll(now, storage, &mut |r| header(chain, r), &mut out)?;
        for effect in &out {
            if let Effect::Fetch(fetch) = effect {
                assert!(fetch.start.hash != fetch.end.hash && asked.len() < FETCHERS);
                asked.push(*fetch);
            }
        }
        seen.extend(out);
        if sync.synced() == Some(last) {
            return Ok(seen);
        }
        if asked.is_empty() {
            now = sync.next_wakeup(now).expect("something is left to do");
            continue;
        }
        let fetch = asked.remove(pick(asked.len()) % asked.len());
        sync.fetched(now, fetch.id, answer(&fetch));
    }
    panic!("no end: {sync:?}");
}

fn rounds(effects: &[Effect]) -> Vec<u64> {
    let synced = effects.iter().filter_map(|e| match e {
        Effect::Synced(s) => Some(s.round),
        _ => None,
    });
    synced.collect()
}

#[test]
fn rounds_become_final_in_order() {
    let chain = chain(230);
    let storage = memory();
    let mut sync = DiffSync::new(FETCHERS, FIRST, None);
    let effects = follow(&mut sync, &storage, &chain, |f| Some(log_of(&chain, f)), |n| n / 2).unwrap();
    assert_eq!(rounds(&effects), (FIRST..=FIRST + 230).collect::<Vec<_>>());
    assert!(chain.iter().all(|r| is_whole(&storage, &r.header)));
    let judged = effects.iter().filter(|e| matches!(e, Effect::Judge(_, Verdict::Good))).count();
    let fetched = effects.iter().filter(|e| matches!(e, Effect::Fetch(_))).count();
    assert_eq!((judged, fetched), (fetched, 2 * 230 - 2 * 46), "nothing for rounds without changes");
    // And the differences can be passed on.
    let [_, state] = roots_of(&chain[7].header);
    let log = storage.diff(&roots_of(&chain[6].header)[1], &state).unwrap();
    let keys = |log: &WriteLog| log.iter().map(|e| e.key.0.clone()).collect::<std::collections::BTreeSet<_>>();
    assert!(keys(&log).is_subset(&keys(&chain[7].state)) && !log.is_empty());
}

#[test]
fn rounds_in_flight_are_bounded() {
    let chain = chain(300);
    let storage = memory();
    let mut sync = DiffSync::new(1000, FIRST, None);
    sync.new_block(FIRST + 300);
    let mut out = Vec::new();
    sync.poll(Moment::ZERO, &storage, &mut |r| header(&chain, r), &mut out).unwrap();
    let furthest = out.iter().filter_map(|e| if let Effect::Fetch(f) = e { Some(f.id.round) } else { None }).max();
    // The first round is empty and final at once.
    assert!(furthest.unwrap() <= FIRST + MAX_IN_FLIGHT_ROUNDS, "{furthest:?}");
    // With too much fetched only the next round is asked for.
    let mut sync = DiffSync::new(1000, FIRST, None);
    sync.new_block(FIRST + 300);
    sync.poll(Moment::ZERO, &storage, &mut |r| header(&chain, r), &mut vec![]).unwrap();
    for item in sync.items.values_mut() {
        item.diff = Diff::Wanted { not_before: Moment::ZERO };
    }
    (sync.asked, sync.bytes) = (0, MAX_FETCHED_BYTES);
    let mut out = Vec::new();
    sync.ask(Moment::ZERO, &mut out);
    let next = sync.next();
    assert!(out.len() == 2 && out.iter().all(|e| matches!(e, Effect::Fetch(f) if f.id.round == next)));
}

#[test]
fn liars_are_named_and_asked_no_more() {
    let chain = chain(12);
    let storage = memory();
    let mut sync = DiffSync::new(FETCHERS, FIRST, None);
    let mut lies = 0;
    let answer = |f: &FetchDiff| {
        let mut log = log_of(&chain, f);
        match (f.id.round % 4, f.id.attempt) {
            (0, 0) => log = lie(),
            (1, 0) => log = vec![LogEntry { key: Bytes(vec![0; 9000]), value: None }],
            (2, 0 | 1) => return None,
            (3, 0) => log.clear(),
            _ => {}
        }
        lies += usize::from(f.id.round % 4 != 2 && f.id.attempt == 0);
        Some(log)
    };
    let effects = follow(&mut sync, &storage, &chain, answer, |_| 0).unwrap();
    let bad = effects.iter().filter(|e| matches!(e, Effect::Judge(_, Verdict::Bad))).count();
    assert_eq!(bad, lies);
    assert!(chain.iter().all(|r| is_whole(&storage, &r.header)));
    assert!(storage.db().check(&mut |_| std::ops::ControlFlow::Continue(())).unwrap().is_ok());
    assert_eq!((sync.bytes, sync.asked, sync.items.len()), (0, 0, 0));
}

#[test]
fn what_this_node_computed_is_not_fetched() {
    let chain = chain(3);
    let storage = memory();
    let mut sync = DiffSync::new(FETCHERS, FIRST, None);
    let compute = |round: usize| {
        let (this, before) = (&chain[round], &chain[round - 1]);
        let [io, state] = roots_of(&this.header);
        let io = Apply { start: storage.empty_io(io.version), end: io, log: &this.io };
        let state = Apply { start: roots_of(&before.header)[1], end: state, log: &this.state };
        storage.apply_round(&io, &state).unwrap();
    };
    let poll = |sync: &mut DiffSync| {
        let mut out = Vec::new();
        sync.poll(Moment::ZERO, &storage, &mut |r| header(&chain, r), &mut out).unwrap();
        out
    };
    sync.new_block(FIRST);
    assert_eq!(rounds(&poll(&mut sync)), [FIRST]);
    compute(1);
    sync.new_block(FIRST + 1);
    let effects = poll(&mut sync);
    assert!(effects.len() == 1 && rounds(&effects) == [FIRST + 1], "{effects:?}");
    // The block comes before the result.
    sync.new_block(FIRST + 2);
    let asked = poll(&mut sync);
    assert!(asked.len() == 2 && rounds(&asked).is_empty());
    compute(2);
    assert_eq!(rounds(&poll(&mut sync)), [FIRST + 2]);
    let Effect::Fetch(fetch) = asked[0] else { panic!() };
    sync.fetched(Moment::ZERO, fetch.id, Some(lie()));
    assert_eq!((sync.asked, sync.bytes), (0, 0), "late answers are nothing");
    assert!(matches!(sync.poll(Moment::ZERO, &storage, &mut |_| None, &mut vec![]), Ok(())));
    sync.new_block(FIRST + 3);
    let missing = sync.poll(Moment::ZERO, &storage, &mut |_| None, &mut vec![]);
    assert!(matches!(missing, Err(StorageError::NoBlock(_))));
}

#[test]
fn crashes_at_every_write() {
    let chain = chain(9);
    let run = |kv: Arc<dyn KvStore>| -> Result<Option<u64>, StorageError> {
        let storage = open(kv)?;
        let start = crate::start(&storage, &chain[0].header, &mut |r| header(&chain, r), None)?;
        let synced = start.synced.map(|s| s.round);
        if let Some(synced) = synced {
            assert!(is_whole(&storage, &header(&chain, synced).unwrap()));
        }
        let mut sync = DiffSync::new(2, FIRST, synced);
        if synced != Some(FIRST + 9) {
            follow(&mut sync, &storage, &chain, |f| Some(log_of(&chain, f)), |n| n)?;
        }
        assert!(chain.iter().skip(synced.map_or(0, |s| (s - FIRST) as usize)).all(|r| is_whole(&storage, &r.header)));
        assert!(storage.db().check(&mut |_| std::ops::ControlFlow::Continue(()))?.is_ok());
        Ok(synced)
    };
    let whole = Faulty::new(Memory::new(), None);
    let whole = Arc::new(whole);
    run(whole.clone()).unwrap();
    for at_write in 0..whole.writes() {
        for applied in [false, true] {
            let kv = Arc::new(Faulty::new(Memory::new(), Some(Crash { at_write, applied })));
            let failed = run(kv.clone());
            assert!(failed.is_err() && kv.is_down(), "write {at_write}");
            for luck in [0, 1, 7] {
                run(Arc::new(kv.restart(luck))).unwrap();
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn any_order_of_answers_and_failures(
        order in prop::collection::vec(any::<usize>(), 200),
        worth in prop::collection::vec(0..6u8, 200),
        from in 0..20u64,
    ) {
        let chain = chain(20);
        let storage = full(&chain[..=from as usize]);
        let mut sync = DiffSync::new(FETCHERS, FIRST, Some(FIRST + from));
        if from == 20 { return Ok(()); }
        let (mut i, mut j) = (0, 0);
        let answer = |f: &FetchDiff| {
            j += 1;
            match worth.get(j % 200).filter(|_| f.id.attempt < 3) {
                Some(0) => None,
                Some(1) => Some(lie()),
                _ => Some(log_of(&chain, f)),
            }
        };
        let pick = |n: usize| { i += 1; order[i % 200] % n.max(1) };
        let effects = follow(&mut sync, &storage, &chain, answer, pick).unwrap();
        prop_assert_eq!(rounds(&effects), (FIRST + from + 1..=FIRST + 20).collect::<Vec<_>>());
        prop_assert!(is_whole(&storage, &chain[20].header));
    }
}
