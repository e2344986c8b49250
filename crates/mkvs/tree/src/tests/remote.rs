//! Reading and changing a tree whose nodes come from an untrusted remote.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use base_prims::Namespace;
use proptest::prelude::*;

use super::{Model, pairs, tree_of};
use crate::proof::Proof;
use crate::sync::{GetPrefixesRequest, GetRequest, IterateRequest, ReadSyncer, Remote, Root, RootType, Server};
use crate::{KvRead, KvWrite, LoadError, Retention, Sequential, Tree, TreeError};

/// Serves a tree, counts requests, and can spoil its answers.
struct Peer {
    tree: Tree,
    root: Root,
    asked: AtomicUsize,
    spoil: Option<usize>,
}

impl Peer {
    fn new(mut tree: Tree, spoil: Option<usize>) -> Self {
        let hash = tree.root_hash(&Sequential);
        let root = Root { namespace: Namespace::default(), version: 1, root_type: RootType::STATE, hash };
        Self { tree, root, asked: AtomicUsize::new(0), spoil }
    }

    fn answer(&self, proof: Result<Proof, String>) -> Result<Proof, String> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let mut proof = proof?;
        if let Some(n) = self.spoil {
            let entries = proof.entries.len();
            match proof.entries.get_mut(n % entries.max(1)) {
                Some(Some(e)) if n % 3 == 0 => e.push(0),
                Some(Some(e)) => *e.last_mut().unwrap() ^= 1,
                _ => proof.entries.push(None),
            }
        }
        Ok(proof)
    }

    fn server(&self) -> Server<'_> {
        Server::new(&self.tree, self.root, 1 << 20)
    }
}

impl ReadSyncer for Peer {
    fn get(&self, r: &GetRequest) -> Result<Proof, String> {
        self.answer(self.server().get(r))
    }
    fn get_prefixes(&self, r: &GetPrefixesRequest) -> Result<Proof, String> {
        self.answer(self.server().get_prefixes(r))
    }
    fn iterate(&self, r: &IterateRequest) -> Result<Proof, String> {
        self.answer(self.server().iterate(r))
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, ..ProptestConfig::default() })]

    #[test]
    fn remote_tree_equals_the_served_one(
        model in proptest::collection::btree_map(proptest::collection::vec(any::<u8>(), 0..4), proptest::collection::vec(any::<u8>(), 0..9), 0..60),
        probes in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..4), 6),
        version in 0u16..2, cache in prop_oneof![Just(2_000usize), Just(1 << 20)], spoil in 0usize..1000,
    ) {
        let mut model: Model = model;
        let peer = Peer::new(tree_of(&model), None);
        let root = peer.root;
        let remote = Arc::new(Remote::new(peer, root, cache).with_proof_version(version));
        let mut tree = Tree::remote(Arc::clone(&remote), Retention::Bytes(4_000));
        for probe in &probes {
            prop_assert_eq!(tree.get(probe).unwrap(), KvRead::get(&model, probe).unwrap());
            prop_assert_eq!(pairs(&tree, probe), pairs(&model, probe));
        }
        for (i, probe) in probes.iter().enumerate() {
            if i % 2 == 0 {
                tree.insert(probe, b"new").unwrap();
                model.insert(probe.clone(), b"new".to_vec());
            }
            if let Some(k) = model.keys().nth(i * 7).cloned() {
                tree.remove(&k).unwrap();
                model.remove(&k);
            }
        }
        prop_assert_eq!(pairs(&tree, b""), pairs(&model, b""));
        prop_assert_eq!(tree.root_hash(&Sequential), tree_of(&model).root_hash(&Sequential));

        // The same remote, spoiling every answer, gives nothing.
        let honest = tree_of(&model);
        if !model.is_empty() {
            let peer = Peer::new(honest, Some(spoil));
            let root = peer.root;
            let tree = Tree::remote(Arc::new(Remote::new(peer, root, cache)), Retention::Bytes(4_000));
            let got = tree.get(b"x");
            prop_assert!(matches!(got, Err(TreeError::Load(LoadError::BadProof(_) | LoadError::NotInProof(_)))), "{got:?}");
        }
    }
}

#[test]
fn prefetching_saves_requests() {
    let peer = Peer::new(tree_of((0..1000u32).map(|i| (i.to_be_bytes(), b"v"))), None);
    let root = peer.root;
    let peer = Arc::new(peer);
    struct Shared(Arc<Peer>);
    impl ReadSyncer for Shared {
        fn get(&self, r: &GetRequest) -> Result<Proof, String> {
            self.0.get(r)
        }
        fn get_prefixes(&self, r: &GetPrefixesRequest) -> Result<Proof, String> {
            self.0.get_prefixes(r)
        }
        fn iterate(&self, r: &IterateRequest) -> Result<Proof, String> {
            self.0.iterate(r)
        }
    }
    let remote = Arc::new(Remote::new(Shared(Arc::clone(&peer)), root, 1 << 20));
    remote.prefetch(&[vec![0, 0, 0]], 300).unwrap();
    let tree = Tree::remote(Arc::clone(&remote), Retention::All);
    for i in 0..256u32 {
        assert!(tree.get(&i.to_be_bytes()).unwrap().is_some());
    }
    assert_eq!(peer.asked.load(Ordering::Relaxed), 1);
    let mut cursor = tree.cursor().with_prefetch(100);
    cursor.seek(&500u32.to_be_bytes()).unwrap();
    for _ in 0..100 {
        cursor.advance().unwrap();
    }
    assert!(peer.asked.load(Ordering::Relaxed) <= 3);
    let wrong = Root { version: 2, ..root };
    let tree = Tree::remote(Arc::new(Remote::new(Shared(peer), wrong, 0)), Retention::All);
    assert!(matches!(tree.get(b"a"), Err(TreeError::Load(LoadError::Remote(_)))));
}
