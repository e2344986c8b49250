//! Properties against an ordered map: operations, overlays, iteration, proofs, write logs.

use std::ops::ControlFlow;

use base_prims::Hash;
use proptest::prelude::*;

use super::{Model, pairs, tree_of};
use crate::proof::{Builder, Proof, ProofError, Verified, Verifier, Verifiers, verify};
use crate::{Executor, KvRead, KvWrite, Overlay, Sequential, Tree, WriteLog, prefix_end, scan_prefix, wire, writelog};

/// Short keys over few bytes, so that prefixes of one another and shared paths are common.
fn key() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        proptest::collection::vec(prop_oneof![Just(0u8), Just(1), Just(0x80), Just(0xff), any::<u8>()], 0..5),
        proptest::collection::vec(any::<u8>(), 20..40),
    ]
}

#[derive(Clone, Debug)]
enum Op {
    Insert(Vec<u8>, Vec<u8>),
    Remove(Vec<u8>),
    /// Remove the n-th key present.
    RemoveNth(usize),
    Commit,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        5 => (key(), proptest::collection::vec(any::<u8>(), 0..4)).prop_map(|(k, v)| Op::Insert(k, v)),
        1 => key().prop_map(Op::Remove),
        3 => any::<usize>().prop_map(Op::RemoveNth),
        1 => Just(Op::Commit),
    ]
}

/// Runs tasks on real threads, as the node does.
struct Threads;

impl Executor for Threads {
    fn width(&self) -> usize {
        2
    }

    fn run<'a>(&self, tasks: Vec<Box<dyn FnOnce() + Send + 'a>>) {
        std::thread::scope(|s| {
            for task in tasks {
                s.spawn(task);
            }
        });
    }
}

fn run(ops: Vec<Op>, store: &mut impl KvWrite, model: &mut Model, mut commit: impl FnMut(&mut dyn KvWrite, &Model)) {
    for op in ops {
        match op {
            Op::Insert(k, v) => {
                store.insert(&k, &v).unwrap();
                model.insert(k, v);
            }
            Op::Remove(k) => {
                store.remove(&k).unwrap();
                model.remove(&k);
            }
            Op::RemoveNth(n) => {
                if let Some(k) = model.keys().nth(n % model.len().max(1)).cloned() {
                    store.remove(&k).unwrap();
                    model.remove(&k);
                }
            }
            Op::Commit => commit(store, model),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn tree_behaves_like_a_map(ops in proptest::collection::vec(op(), 0..120), probes in proptest::collection::vec(key(), 8)) {
        let (mut tree, mut model) = (Tree::in_memory().with_write_log(), Model::new());
        let mut committed = Model::new();
        for chunk in ops.chunks(10) {
            run(chunk.to_vec(), &mut tree, &mut model, |_, _| {});
            for probe in &probes {
                prop_assert_eq!(tree.get(probe).unwrap(), BTreeMapGet::of(&model, probe));
                prop_assert_eq!(pairs(&tree, probe), pairs(&model, probe));
            }
            // Structure depends on the content alone.
            prop_assert_eq!(tree.root_hash(&Sequential), tree_of(&model).root_hash(&Sequential));
            let done = tree.commit(2, 0, &Sequential);
            let log: WriteLog = done.log.unwrap();
            writelog::apply(&log, &mut committed).unwrap();
            prop_assert_eq!(&committed, &model);
        }
    }

    #[test]
    fn parallel_hashing_gives_the_same_root(n in 200usize..600, seed in any::<u64>()) {
        let mut tree = Tree::in_memory();
        let mut x = seed | 1;
        for _ in 0..n {
            x = x.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            tree.insert(&x.to_be_bytes(), b"v").unwrap();
        }
        let mut other = tree.clone();
        prop_assert_eq!(tree.root_hash(&Threads), other.root_hash(&Sequential));
    }

    #[test]
    fn nested_overlays_behave_like_a_map(
        base in proptest::collection::vec(op(), 0..40), a in proptest::collection::vec(op(), 0..20),
        b in proptest::collection::vec(op(), 0..20), c in proptest::collection::vec(op(), 0..20),
        probes in proptest::collection::vec(key(), 6), keep in any::<bool>(), stop in 0usize..20,
    ) {
        let (mut tree, mut model) = (Tree::in_memory(), Model::new());
        run(base, &mut tree, &mut model, |_, _| {});
        let before = model.clone();
        let mut outer = Overlay::new(&mut tree);
        run(a, &mut outer, &mut model, |_, _| {});
        let after_a = model.clone();
        {
            let mut inner = Overlay::new(&mut outer as &mut dyn KvWrite);
            run(b, &mut inner, &mut model, |_, _| {});
            for probe in &probes {
                prop_assert_eq!(inner.get(probe).unwrap(), BTreeMapGet::of(&model, probe));
                prop_assert_eq!(pairs(&inner, probe), pairs(&model, probe));
                let mut first = Vec::new();
                inner.iterate(probe, &mut |k, _| {
                    first.push(k.to_vec());
                    if first.len() > stop { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
                }).unwrap();
                prop_assert!(first.len() <= stop + 1);
            }
            if keep {
                inner.commit().unwrap();
            }
        }
        if !keep {
            model = after_a;
        }
        run(c, &mut outer, &mut model, |_, _| {});
        prop_assert_eq!(pairs(&outer, b""), pairs(&model, b""));
        if keep {
            outer.commit().unwrap();
        } else {
            model = before;
            outer.discard();
        }
        prop_assert_eq!(pairs(&tree, b""), pairs(&model, b""));
        prop_assert_eq!(tree.root_hash(&Sequential), tree_of(&model).root_hash(&Sequential));
    }

    #[test]
    fn proofs_show_what_was_asked_and_verify(
        ops in proptest::collection::vec(op(), 0..80), probe in key(), limit in 0u16..6, version in 0u16..2, siblings in any::<bool>(),
    ) {
        let (mut tree, mut model) = (Tree::in_memory(), Model::new());
        run(ops, &mut tree, &mut model, |_, _| {});
        let root = tree.root_hash(&Sequential);
        tree.commit(1, 0, &Sequential);
        let new = || Builder::new(version).unwrap();
        let mut verifier = Verifier::new(3);
        let mut shows = |proof: &crate::Proof| {
            let pairs = |verified: Verified| -> Vec<(Vec<u8>, Vec<u8>)> {
                verified.leaves().iter().map(|l| (l.key().to_vec(), l.value().to_vec())).collect()
            };
            // With nodes remembered or not, and with nodes built or not.
            let all = pairs(verify(&root, proof).unwrap());
            assert_eq!(pairs(verifier.verify(&root, proof).unwrap()), all);
            let read = verifier.pairs(&root, proof).unwrap();
            assert!(read.iter().map(|(k, v)| (k.to_vec(), v.to_vec())).eq(all));
            let log = verify(&root, proof).unwrap().into_write_log();
            let shown: Model = log.into_iter().map(|e| (e.key.0, e.value.unwrap().0)).collect();
            assert!(shown.iter().all(|(k, v)| model.get(k) == Some(v)));
            shown
        };
        let shown = shows(&tree.prove_get(&probe, siblings, new()).unwrap());
        prop_assert_eq!(shown.get(&probe), model.get(&probe));
        let shown = shows(&tree.prove_iterate(&probe, limit, new()).unwrap());
        for (k, _) in model.range(probe.clone()..).take(usize::from(limit) + 1) {
            prop_assert!(shown.contains_key(k));
        }
        let prefix = probe.get(..probe.len().min(1)).unwrap_or_default();
        let shown = shows(&tree.prove_prefixes(&[prefix], limit, new()).unwrap());
        for (k, _) in model.iter().filter(|(k, _)| k.starts_with(prefix)).take(usize::from(limit)) {
            prop_assert!(shown.contains_key(k));
        }
        // A proof of a subtree starts at the position asked for.
        if let Some(crate::NodeRef::Inner(top)) = tree.root.node() {
            let position = top.left.hash().unwrap();
            let proof = tree.prove_get(&probe, siblings, new().at_position(position)).unwrap();
            prop_assert!(verify(&proof.untrusted_root, &proof).is_ok());
            prop_assert!(proof.untrusted_root == root || proof.untrusted_root == position);
        }
        prop_assert!(tree.prove_iterate(b"", u16::MAX, new().with_limit(10)).is_err() || model.len() < 2);
    }

    #[test]
    fn decoded_nodes_encode_to_the_same_bytes(data in proptest::collection::vec(any::<u8>(), 0..120), kind in 0u8..3, bits in 0u16..40) {
        let mut data = data;
        if let Some(first) = data.first_mut() {
            *first = kind;
        }
        if let Some(b) = data.get_mut(1..3) {
            b.copy_from_slice(&bits.to_le_bytes());
        }
        if let Ok(node) = wire::decode(&data) {
            let mut again = Vec::new();
            node.encode(&mut again).unwrap();
            prop_assert_eq!(again, data);
        }
    }

    #[test]
    fn prefix_scans_and_ends(keys in proptest::collection::btree_set(key(), 0..30), prefix in key()) {
        let model: Model = keys.into_iter().map(|k| (k, vec![1])).collect();
        let tree = tree_of(&model);
        let mut seen = Vec::new();
        scan_prefix(&tree, &prefix, &mut |k, _| { seen.push(k.to_vec()); ControlFlow::Continue(()) }).unwrap();
        let expected: Vec<_> = model.keys().filter(|k| k.starts_with(&prefix)).cloned().collect();
        prop_assert_eq!(&seen, &expected);
        let end = prefix_end(&prefix);
        let in_range = |k: &Vec<u8>| *k >= prefix && end.as_ref().is_none_or(|e| k < e);
        prop_assert_eq!(model.keys().filter(|k| in_range(k)).cloned().collect::<Vec<_>>(), expected);
    }
}

/// `Model` has two methods called `get`; this names the map's.
struct BTreeMapGet;

impl BTreeMapGet {
    fn of(model: &Model, key: &[u8]) -> Option<Vec<u8>> {
        std::collections::BTreeMap::get(model, key).cloned()
    }
}

#[test]
fn keys_and_paths_have_limits() {
    let mut tree = Tree::in_memory();
    assert!(tree.insert(&vec![0; crate::MAX_KEY_LEN], b"").is_ok());
    assert!(tree.insert(&vec![0; crate::MAX_KEY_LEN + 1], b"").is_err());
    assert_eq!(tree.get(&vec![0; crate::MAX_KEY_LEN + 1]).unwrap(), None);
}

#[test]
fn long_paths_need_little_stack() {
    // Each key leaves the path one bit before the key inserted before it did, so paths grow at the top.
    let mut key = vec![0xffu8; 2000];
    let run = move || {
        let mut tree = Tree::in_memory();
        for bit in (0..key.len() * 8).rev() {
            key[bit / 8] &= !(0x80 >> (bit % 8));
            tree.insert(&key, b"").unwrap();
        }
        let root = tree.root_hash(&Sequential);
        tree.commit(1, 0, &Sequential);
        assert_eq!(pairs(&tree, b"").len(), key.len() * 8);
        assert!(tree.prove_iterate(&[0xff; 2000], 1, Builder::new(0).unwrap()).is_err());
        let mut other = tree.clone();
        other.insert(&key, b"other").unwrap();
        assert_ne!(other.root_hash(&Sequential), root);
        drop(tree);
        drop(other);
    };
    std::thread::Builder::new().stack_size(256 << 10).spawn(run).unwrap().join().unwrap();
}

#[test]
fn overlay_refuses_what_the_tree_would_refuse() {
    let mut overlay = Overlay::new(Tree::in_memory());
    assert!(overlay.insert(&vec![0; crate::MAX_KEY_LEN + 1], b"").is_err());
    overlay.insert(b"a", b"1").unwrap();
    overlay.commit().unwrap();
    assert_eq!(overlay.base().get(b"a").unwrap().as_deref(), Some(&b"1"[..]));
}

/// Many proofs at once on threads, some of them bad: each gets the verdict that it gets alone.
#[test]
fn many_proofs_get_the_verdicts_that_they_get_alone() {
    let mut tree = Tree::in_memory();
    for n in 0..500u32 {
        tree.insert(&n.to_be_bytes(), &[7; 40]).unwrap();
    }
    let root = tree.root_hash(&Sequential);
    tree.commit(1, 0, &Sequential);
    let proofs: Vec<Proof> = (0..203u32)
        .map(|n| {
            let key = (n * 5).to_be_bytes();
            let mut proof = tree.prove_get(&key, false, Builder::new(1).unwrap()).unwrap();
            match n % 29 {
                3 => *proof.entries.iter_mut().flatten().last().unwrap().0.last_mut().unwrap() ^= 1,
                5 => proof.entries.push(None),
                7 => proof.untrusted_root = Hash::EMPTY,
                _ => {}
            }
            proof
        })
        .collect();
    let alone: Vec<_> = proofs.iter().map(|proof| Verifier::new(0).pairs(&root, proof)).collect();
    assert_eq!(alone.iter().filter(|r| r.is_err()).count(), 21);
    assert!(alone.contains(&Err(ProofError::Unused(1))));
    let work: Vec<_> = proofs.iter().map(|proof| (root, proof)).collect();
    for exec in [&Threads as &dyn Executor, &Sequential] {
        let mut verifiers = Verifiers::new(exec, 8);
        for _ in 0..2 {
            assert_eq!(verifiers.pairs(exec, &work), alone);
        }
        assert_eq!(verifiers.pairs(exec, &[]), []);
    }
}
