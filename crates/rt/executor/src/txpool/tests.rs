//! Tables for the pool, and the main queue against a model that keeps a plain list.

use std::collections::BTreeMap;

use base_codec::Bytes;
use proptest::prelude::*;
use wire_runtime::{Field, runtime::CheckTxMetadata};

use super::*;

mod model;

fn tx(n: u8) -> Vec<u8> {
    vec![n; usize::from(n) + 1]
}

fn hash(n: u8) -> Hash {
    Tx::new(tx(n)).hash
}

fn secs(n: u64) -> Moment {
    Duration::from_secs(n)
}

fn ok(sender: u8, seq: u64, priority: u64) -> CheckTxResult {
    let meta = CheckTxMetadata { priority, sender: Bytes(vec![sender]), sender_seq: seq, ..CheckTxMetadata::default() };
    CheckTxResult { meta: Field::Is(meta), ..CheckTxResult::default() }
}

fn bad() -> CheckTxResult {
    let mut result = CheckTxResult::default();
    result.error.code = 7;
    result
}

fn pool(change: impl FnOnce(&mut Config)) -> Pool {
    let mut config = Config::default();
    change(&mut config);
    let mut pool = Pool::new(config);
    pool.new_block(secs(0), 1);
    pool
}

/// Lets the runtime answer the checks that the pool asks for; other effects are returned.
fn run(pool: &mut Pool, now: Moment, mut answer: impl FnMut(&Tx) -> CheckTxResult) -> Vec<Effect> {
    let mut out = Vec::new();
    loop {
        let mut again = false;
        for effect in pool.poll(now) {
            if let Effect::Check { batch, txs } = effect {
                pool.checked(now, batch, Checked::Results(txs.iter().map(&mut answer).collect()));
                again = true;
            } else {
                out.push(effect);
            }
        }
        if !again {
            return out;
        }
    }
}

fn by_first_byte(t: &Tx) -> CheckTxResult {
    ok(t.data[0], 0, u64::from(t.data[0]))
}

#[test]
fn nothing_is_checked_before_the_first_block() {
    let mut pool = Pool::new(Config::default());
    pool.submit(tx(1), Origin::default(), None).unwrap();
    assert_eq!((pool.poll(secs(0)), pool.next_wakeup()), (vec![], None));
    pool.recheck();
    pool.new_block(secs(1), 1);
    assert_eq!(pool.next_wakeup(), Some(secs(0)));
    assert!(matches!(&pool.poll(secs(1))[..], [Effect::Check { batch: 0, txs }] if txs.len() == 1));
    assert_eq!(pool.poll(secs(1)), [], "one batch at a time");
}

#[test]
fn duplicates_are_refused_and_failures_forgotten() {
    let mut pool = pool(|_| ());
    let local = Origin { local: true, discard: false };
    assert_eq!(pool.submit(tx(1), local, Some(Ticket(1))), Ok(hash(1)));
    assert_eq!(pool.submit(tx(1), local, None), Err(SubmitError::Duplicate), "it waits already");
    assert_eq!(pool.submit(tx(1), local, Some(Ticket(2))), Ok(hash(1)), "but who asks gets the answer");
    let effects = run(&mut pool, secs(0), |_| bad());
    assert_eq!(effects.len(), 2);
    assert!(effects.iter().all(|e| matches!(e, Effect::Answer { result, .. } if result.error.code == 7)));
    assert_eq!((pool.sizes().rejected, pool.sizes().main), (1, 0));

    pool.submit(tx(1), local, Some(Ticket(3))).unwrap();
    run(&mut pool, secs(0), by_first_byte);
    assert_eq!(pool.submit(tx(1), local, None), Err(SubmitError::Duplicate));
    pool.used(&[hash(1)]);
    assert_eq!(pool.submit(tx(1), local, None), Err(SubmitError::Duplicate), "seen even after it was used");
    pool.reject(&[hash(1)]);
    assert_eq!(pool.submit(tx(1), local, None), Ok(hash(1)), "rejected ones may come again");
}

#[test]
fn what_is_in_a_block_is_not_queued_afterwards() {
    let mut pool = pool(|_| ());
    let local = Origin { local: true, discard: false };
    pool.submit(tx(1), local, Some(Ticket(1))).unwrap();
    pool.submit(tx(2), local, None).unwrap();
    let effects = pool.poll(secs(0));
    let [Effect::Check { batch, .. }] = effects[..] else { panic!("{effects:?}") };
    // Somebody else's block has one that is being checked and one that was never here.
    pool.used(&[hash(1), hash(3)]);
    pool.checked(secs(0), batch, Checked::Results(vec![ok(1, 0, 0), ok(2, 0, 0)]));
    let effects = pool.poll(secs(0));
    assert!(
        effects.iter().any(|e| matches!(e, Effect::Answer { ticket: Ticket(1), result } if result.error.code == 0))
    );
    assert_eq!(pool.suggest(10).iter().map(|t| t.hash).collect::<Vec<_>>(), [hash(2)]);
    for n in [1, 3] {
        assert_eq!(pool.submit(tx(n), Origin::default(), None), Err(SubmitError::Duplicate));
    }
    assert!(pool.included.is_empty());
}

#[test]
fn only_checked_transactions_are_not_kept() {
    let mut pool = pool(|_| ());
    pool.submit(tx(1), Origin { local: true, discard: true }, Some(Ticket(1))).unwrap();
    let effects = run(&mut pool, secs(0), by_first_byte);
    assert!(matches!(&effects[..], [Effect::Answer { ticket: Ticket(1), result }] if result.error.code == 0));
    assert_eq!((pool.sizes().main, pool.get(&hash(1))), (0, None));
    assert!(pool.submit(tx(1), Origin::default(), None).is_ok());
}

#[test]
fn limits_of_the_check_queue() {
    let mut pool = pool(|c| (c.max_txs, c.check_batch, c.max_bytes) = (10, 4, 100));
    for n in 0..11 {
        let fits = pool.submit(tx(n), Origin::default(), None);
        assert_eq!(fits.is_ok(), n < 11, "{n}");
    }
    assert_eq!(pool.submit(tx(30), Origin::default(), None), Err(SubmitError::Full), "by number");
    let too_large = vec![0; MAX_CHECK_BYTES + 1];
    assert_eq!(pool.submit(too_large, Origin::default(), None), Err(SubmitError::TooLarge));
    assert!(matches!(&pool.poll(secs(0))[..], [Effect::Check { txs, .. }] if txs.len() == 4));
    assert_eq!(pool.submit(tx(40), Origin::default(), None), Err(SubmitError::Full), "by bytes: 66 + 41");
    assert!(pool.submit(tx(20), Origin::default(), None).is_ok());
    pool.checked(secs(0), 0, Checked::Results(vec![bad(); 4]));
    assert!(pool.submit(tx(22), Origin::default(), None).is_ok(), "what was checked is off the books");
}

#[test]
fn batches_of_checks_are_bounded_in_bytes() {
    let mut queue = CheckQueue::new(10, usize::MAX, 10);
    for n in 0..3u8 {
        let tx = Tx::new(vec![n; MAX_CHECK_BYTES / 2]);
        queue.push(Pending { tx, local: false, discard: false, checked: false, tickets: vec![] });
    }
    let sizes: Vec<usize> = std::iter::repeat_with(|| queue.pop().len()).take(3).collect();
    assert_eq!(sizes, [2, 1, 0]);
}

#[test]
fn failed_checks_are_tried_again_in_order() {
    let mut pool = pool(|c| c.check_batch = 2);
    for n in 1..=3 {
        pool.submit(tx(n), Origin::default(), None).unwrap();
    }
    let expect = |pool: &mut Pool, now, batch, first: &[u8]| {
        let txs: Vec<Tx> = first.iter().map(|n| Tx::new(tx(*n))).collect();
        assert_eq!(pool.poll(now), [Effect::Check { batch, txs }]);
    };
    expect(&mut pool, secs(0), 0, &[1, 2]);
    pool.checked(secs(1), 0, Checked::Failed);
    assert_eq!((pool.poll(secs(1)), pool.next_wakeup()), (vec![], Some(secs(2))));
    expect(&mut pool, secs(2), 1, &[1, 2]);
    pool.checked(secs(2), 0, Checked::Results(vec![bad(), bad()]));
    pool.checked(secs(2), 1, Checked::Results(vec![bad()]));
    assert_eq!(pool.poll(secs(2)), [], "a wrong number of results is a failure; an old batch is nothing");
    expect(&mut pool, secs(3), 2, &[1, 2]);
    pool.checked(secs(3), 2, Checked::TimedOut);
    assert_eq!(pool.poll(secs(3)), [Effect::AbortRuntime]);
    expect(&mut pool, secs(4), 3, &[1, 2]);
    pool.checked(secs(4), 3, Checked::NotSynced);
    expect(&mut pool, secs(4), 4, &[1, 2]);
    pool.checked(secs(4), 4, Checked::Results(vec![bad(), bad()]));
    expect(&mut pool, secs(4), 5, &[3]);
}

#[test]
fn new_transactions_are_published_after_the_block_spread() {
    let mut pool = pool(|_| ());
    pool.new_block(secs(10), 2);
    pool.submit(tx(1), Origin { local: true, discard: false }, None).unwrap();
    pool.submit(tx(2), Origin::default(), None).unwrap();
    let effects = run(&mut pool, secs(10), by_first_byte);
    assert!(matches!(&effects[..], [Effect::Available(new)] if new.len() == 2));
    let soon = secs(10) + NEW_BLOCK_PUBLISH_DELAY;
    assert_eq!(pool.next_wakeup(), Some(soon));
    assert_eq!(pool.poll(soon), [Effect::Publish(Tx::new(tx(1)))], "the other was published by somebody else");
    // The interval of the settings is below what the network allows.
    assert_eq!(pool.next_wakeup(), Some(secs(135)));
    assert_eq!(pool.poll(secs(135)), [Effect::Publish(Tx::new(tx(2)))]);
    pool.publish_failed(secs(135), &hash(2));
    assert_eq!(pool.poll(secs(136)), [Effect::Publish(Tx::new(tx(1))), Effect::Publish(Tx::new(tx(2)))]);
    pool.used(&[hash(1)]);
    assert_eq!(pool.next_wakeup(), Some(secs(136 + 125)));
}

#[test]
fn publishing_is_bounded() {
    let mut pool = pool(|_| ());
    let count = MAX_PUBLISH + 200;
    for n in 0..count {
        pool.submit(n.to_be_bytes().to_vec(), Origin { local: true, discard: false }, None).unwrap();
    }
    let of_its_own = |tx: &Tx| {
        let meta = CheckTxMetadata { sender: Bytes(tx.data.to_vec()), ..CheckTxMetadata::default() };
        CheckTxResult { meta: Field::Is(meta), ..CheckTxResult::default() }
    };
    let published = |effects: &[Effect]| effects.iter().filter(|e| matches!(e, Effect::Publish(_))).count();
    run(&mut pool, secs(0), of_its_own);
    assert_eq!(published(&pool.poll(secs(1))), MAX_PUBLISH);
    assert_eq!(published(&pool.poll(secs(1))), 0);
    assert_eq!(pool.next_wakeup(), Some(secs(1) + PUBLISH_PAUSE));
    assert_eq!(published(&pool.poll(secs(1) + PUBLISH_PAUSE)), 200);
    // Again, more slowly.
    let again = pool.next_wakeup().unwrap();
    assert_eq!(again, secs(1) + pool.republish_interval());
    assert_eq!(published(&pool.poll(again)), MAX_REPUBLISH);
    assert_eq!(published(&pool.poll(again)), 0);
    assert_eq!(pool.next_wakeup(), Some(again + REPUBLISH_AGAIN));
    assert_eq!(published(&pool.poll(again + REPUBLISH_AGAIN)), MAX_REPUBLISH);
}

#[test]
fn what_is_too_long_for_gossip_is_not_published() {
    let mut pool = pool(|_| ());
    for len in [MAX_PUBLISH_BYTES, MAX_PUBLISH_BYTES + 1] {
        pool.submit(vec![len as u8; len], Origin { local: true, discard: false }, None).unwrap();
    }
    run(&mut pool, secs(0), by_first_byte);
    assert_eq!(pool.poll(secs(1)).len(), 1);
    assert_eq!(pool.suggest(10).len(), 2);
}

#[test]
fn everything_is_checked_again_every_few_rounds() {
    let mut pool = pool(|_| ());
    for n in 1..=3 {
        pool.submit(tx(n), Origin { local: true, discard: false }, None).unwrap();
    }
    run(&mut pool, secs(0), by_first_byte);
    pool.new_block(secs(1), 5);
    assert_eq!((pool.sizes().main, pool.sizes().checking), (3, 0));
    pool.new_block(secs(2), 6);
    assert_eq!((pool.sizes().main, pool.sizes().checking), (0, 3));
    assert!(pool.get(&hash(2)).is_some(), "proposals can still be resolved");
    let effects = run(&mut pool, secs(2), |t| if t.data[0] == 2 { bad() } else { by_first_byte(t) });
    assert_eq!(effects.len(), 2, "published, and not announced again: {effects:?}");
    assert_eq!((pool.sizes().main, pool.sizes().accepted), (2, 3));
    assert!(pool.submit(tx(2), Origin::default(), None).is_ok());
    pool.new_block(secs(3), 11);
    assert_eq!(pool.sizes().main, 2, "five rounds are not more than five");
}

#[test]
fn a_batch_is_checked_against_one_state() {
    let mut pool = pool(|_| ());
    for n in 1..=3 {
        pool.submit(tx(n), Origin::default(), None).unwrap();
    }
    // A runtime that counts the sender's number up during the batch.
    run(&mut pool, secs(0), |t| {
        let seq = u64::from(t.data[0]) - 1;
        let mut result = ok(9, seq, 0);
        if let Field::Is(meta) = &mut result.meta {
            meta.sender_state_seq = seq;
        }
        result
    });
    let order: Vec<Hash> = pool.suggest(10).iter().map(|t| t.hash).collect();
    assert_eq!(order, [hash(1), hash(2), hash(3)]);
}

#[test]
fn proposals_are_resolved_from_everywhere() {
    let mut pool = pool(|_| ());
    pool.submit(tx(1), Origin::default(), None).unwrap();
    run(&mut pool, secs(0), by_first_byte);
    let message = IncomingMessage { data: Some(Bytes(tx(2))), ..IncomingMessage::default() };
    pool.load_incoming(&[message, IncomingMessage::default()]);
    pool.submit(tx(3), Origin::default(), None).unwrap();
    let batch = [hash(1), hash(2), hash(4), hash(3), hash(4)];
    let resolved = pool.promote(&batch);
    assert_eq!(resolved.missing(&batch), [hash(4)]);
    assert_eq!(pool.submit_proposed(vec![tx(4), tx(5)]).len(), 2);
    assert!(pool.promote(&batch).missing(&batch).is_empty());
    assert_eq!(pool.sizes().checking, 3, "they are checked as well");
    pool.load_incoming(&[]);
    pool.reject(&[hash(1)]);
    assert!(pool.get(&hash(1)).is_some() && pool.get(&hash(2)).is_some(), "kept until the round ends");
    pool.clear_proposed();
    assert!(pool.get(&hash(1)).is_none() && pool.get(&hash(2)).is_none() && pool.get(&hash(4)).is_some());
    let huge: Vec<Vec<u8>> = (0..6).map(|n| vec![n; 30 << 20]).collect();
    assert_eq!(pool.submit_proposed(huge).len(), MAX_PROPOSED_BYTES / (30 << 20));
}

#[test]
fn answers_say_why_a_transaction_is_not_queued() {
    let mut pool = pool(|c| c.max_txs = 2);
    let mut submit = |n: u8, result: CheckTxResult| {
        pool.submit(tx(n), Origin::default(), Some(Ticket(u64::from(n)))).unwrap();
        let effects = run(&mut pool, secs(0), |_| result.clone());
        let answer = effects.into_iter().find_map(|e| match e {
            Effect::Answer { result, .. } => Some(result.error),
            _ => None,
        });
        let error = answer.unwrap();
        (error.module, error.code, error.message)
    };
    let not_queued = |text: &str| (MODULE.to_owned(), CODE_NOT_QUEUED, text.to_owned());
    assert_eq!(submit(1, ok(1, 0, 5)).1, 0);
    assert_eq!(submit(2, ok(1, 0, 5)), not_queued("replacement transaction underpriced"));
    assert_eq!(submit(3, ok(1, 0, 6)).1, 0);
    assert_eq!(submit(4, ok(2, 0, 6)).1, 0);
    assert_eq!(submit(5, ok(3, 0, 6)), not_queued("transaction underpriced"));
    let mut expired = ok(2, 3, 9);
    if let Field::Is(meta) = &mut expired.meta {
        meta.sender_state_seq = 4;
    }
    assert_eq!(submit(6, expired), not_queued("transaction expired"));
    let held: BTreeMap<Hash, ()> = pool.all().map(|t| (t.hash, ())).collect();
    assert_eq!(held.into_keys().collect::<Vec<_>>(), [hash(3)], "the sender's first one expired with it");
}
