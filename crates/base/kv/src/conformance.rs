//! What every implementation of [`KvStore`] must do; their tests call [`run`].

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use crate::{Batch, Durability, KvStore, Order};

/// Compares fresh stores with an ordered map over seeded random work.
///
/// # Panics
/// If the store differs from the map.
pub fn run<S: KvStore>(new: &mut dyn FnMut() -> S) {
    for seed in 1..=8u64 {
        against_a_map(&new(), seed);
    }
    edges(&new());
}

/// A small generator: quality does not matter here.
fn next(x: &mut u64) -> u64 {
    *x ^= *x << 13;
    *x ^= *x >> 7;
    *x ^= *x << 17;
    *x
}

fn against_a_map(store: &dyn KvStore, seed: u64) {
    let mut x = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut map: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
    let key = |n: u64| {
        let len = (n % 4 + 1) as usize;
        n.to_be_bytes()[8 - len..].iter().map(|b| b % 5).collect::<Vec<u8>>()
    };
    for round in 0..40 {
        let mut batch = Batch::new();
        for _ in 0..next(&mut x) % 20 {
            let k = key(next(&mut x));
            if next(&mut x).is_multiple_of(3) {
                batch.delete(&k);
                map.remove(&k);
            } else {
                let v = vec![round as u8; (next(&mut x) % 300) as usize];
                batch.put(&k, &v);
                map.insert(k, v);
            }
        }
        let durability = if round % 7 == 0 { Durability::Synced } else { Durability::Buffered };
        store.write(&batch, durability).expect("write");
        for _ in 0..10 {
            let (a, b) = (key(next(&mut x)), key(next(&mut x)));
            assert_eq!(store.get(&a).expect("get"), map.get(&a).cloned());
            let to = (!next(&mut x).is_multiple_of(4)).then_some(b.as_slice());
            let limit = (next(&mut x) % 12) as usize;
            let inside = |k: &[u8]| k >= a.as_slice() && to.is_none_or(|to| k < to);
            let expected: Vec<_> = map.iter().filter(|(k, _)| inside(k)).map(|(k, v)| (k.clone(), v.clone())).collect();
            for order in [Order::Forward, Order::Reverse] {
                let mut got = Vec::new();
                let mut visit = |k: &[u8], v: &[u8]| {
                    got.push((k.to_vec(), v.to_vec()));
                    if got.len() > limit { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
                };
                store.scan(&a, to, order, &mut visit).expect("scan");
                let mut expected = expected.clone();
                if order == Order::Reverse {
                    expected.reverse();
                }
                expected.truncate(limit + 1);
                assert_eq!(got, expected);
            }
        }
    }
    store.sync().expect("sync");
    store.compact().expect("compact");
    for (k, v) in &map {
        assert_eq!(store.get(k).expect("get").as_ref(), Some(v));
    }
    assert!(store.stats().expect("stats").used_bytes > 0);
}

fn edges(store: &dyn KvStore) {
    let mut batch = Batch::new();
    batch.put(b"a", b"1").put(b"a", b"2").delete(b"b").put(b"b", b"").put(b"c", b"3").delete(b"c");
    batch.put(&[0xff; 500], &vec![7; 200_000]);
    store.write(&batch, Durability::Synced).expect("write");
    assert_eq!(store.get(b"a").expect("get").as_deref(), Some(&b"2"[..]));
    assert_eq!(store.get(b"b").expect("get").as_deref(), Some(&b""[..]));
    assert_eq!(store.get(b"c").expect("get"), None);
    assert_eq!(store.get(&[0xff; 500]).expect("get").map(|v| v.len()), Some(200_000));
    let mut bad = Batch::new();
    bad.put(b"d", b"4").put(&[1; 501], b"5");
    assert!(store.write(&bad, Durability::Buffered).is_err(), "a key of 501 bytes is refused");
    assert_eq!(store.get(b"d").expect("get"), None, "nothing of a refused batch is visible");
    let mut bad = Batch::new();
    bad.put(b"", b"5");
    assert!(store.write(&bad, Durability::Buffered).is_err(), "an empty key is refused");
    let mut none = 0;
    store
        .scan(b"b", Some(b"a"), Order::Forward, &mut |_, _| {
            none += 1;
            ControlFlow::Continue(())
        })
        .expect("scan");
    assert_eq!(none, 0, "an empty range is no error");
    // A scan sees the store as it was at its start and does not block reading.
    let mut seen = 0;
    store
        .scan(b"a", None, Order::Forward, &mut |_, _| {
            seen += usize::from(store.get(b"a").is_ok_and(|v| v.is_some()));
            ControlFlow::Continue(())
        })
        .expect("scan");
    assert_eq!(seen, 3);
}
