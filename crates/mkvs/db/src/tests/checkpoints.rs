//! Checkpoints: the reference's digests, both ways, round trips, and bad chunks.

use base_prims::Hash;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mkvs_tree::{KvWrite, RootType, Sequential};
use serde_json::Value;

use super::*;
use crate::checkpoint::{CheckpointError, Files, Metadata, Restorer, create, decode_chunk, encode_chunk};
use crate::exec::Threads;

fn db_with(namespace: Namespace, pairs: &Model, version: u64) -> (NodeDb, Root) {
    let db = NodeDb::open(Arc::new(Memory::new()), Config::new(namespace)).unwrap();
    let mut tree = db.empty_tree(RootType::STATE);
    for (k, v) in pairs {
        tree.insert(k, v).unwrap();
    }
    let root = tree.commit_final(version).unwrap();
    (db, root)
}

/// Restores chunks in the order given and returns the database.
fn restore(metadata: &Metadata, chunks: &[Vec<u8>], order: impl Iterator<Item = usize>) -> NodeDb {
    let db = NodeDb::open(Arc::new(Memory::new()), Config::new(metadata.root.namespace)).unwrap();
    db.start_multipart(metadata.root.version).unwrap();
    let mut restorer = Restorer::new(db.clone());
    restorer.start(metadata.clone()).unwrap();
    let mut done = false;
    for index in order {
        assert!(!done && !db.has_root(&metadata.root).unwrap_or(true) || metadata.root.hash == Hash::EMPTY);
        done = restorer.restore_chunk(index as u64, &chunks[index]).unwrap();
    }
    assert!(done && restorer.current().is_none());
    db.finalize(&[metadata.root]).unwrap();
    assert_sound(&db, "checkpoints");
    db
}

/// Checkpoints recorded from the reference: ours have the same metadata, digests and bytes, and theirs restore here.
#[test]
fn recorded_checkpoints() {
    let recorded = dev_testkit::read(&root_dir().join("vectors/mkvs/checkpoints.json.gz")).unwrap();
    let cases: Vec<Value> = serde_json::from_slice(&recorded).unwrap();
    let (mut chunks_compared, mut restored) = (0, 0);
    for case in &cases {
        let unhex = |v: &Value| hex::decode(v.as_str().unwrap()).unwrap();
        let base64 = |v: &Value| STANDARD.decode(v.as_str().unwrap()).unwrap();
        let pairs: Model =
            case["pairs"].as_array().iter().flat_map(|p| p.iter()).map(|p| (unhex(&p[0]), unhex(&p[1]))).collect();
        let namespace = Namespace::from_bytes_unchecked(unhex(&case["namespace"]).try_into().unwrap());
        let (db, root) = db_with(namespace, &pairs, case["version"].as_u64().unwrap());
        assert_eq!(root.hash.as_bytes()[..], unhex(&case["root"]));
        let threads = case["threads"].as_u64().unwrap() as u16;
        let size = case["chunk_size"].as_u64().unwrap();
        let mut chunks = Vec::new();
        let metadata = create(&db, &root, size, threads, &Threads::new(2), &mut chunks).unwrap();
        let context = format!("{} pairs, {size} bytes, {threads} threads", pairs.len());
        for (i, theirs) in case["chunks"].as_array().iter().flat_map(|c| c.iter()).enumerate() {
            assert!(chunks[i] == base64(theirs), "{context}: chunk {i} differs");
            chunks_compared += 1;
        }
        let digests: Vec<Vec<u8>> = case["digests"].as_array().unwrap().iter().map(unhex).collect();
        assert_eq!(metadata.chunks.iter().map(|h| h.as_bytes().to_vec()).collect::<Vec<_>>(), digests, "{context}");
        assert_eq!(base_codec::cbor::to_vec(&metadata), base64(&case["metadata"]), "{context}");
        assert_eq!(metadata.id().as_bytes()[..], unhex(&case["id"]), "{context}");
        if let Some(theirs) = case["chunks"].as_array() {
            let theirs: Vec<Vec<u8>> = theirs.iter().map(base64).collect();
            let recorded: Metadata = base_codec::cbor::from_slice(&base64(&case["metadata"])).unwrap();
            let db = restore(&recorded, &theirs, (0..theirs.len()).rev());
            assert_eq!(contents(&db, &root).unwrap(), pairs);
            restored += 1;
        }
    }
    println!("{} checkpoints, {chunks_compared} chunks compared, {restored} restored", cases.len());
    assert!(cases.len() == 45 && chunks_compared > 50 && restored > 10);
    // The published digests of the reference's own test.
    assert_eq!(cases[0]["digests"][0], "bd09a699c0737d8a9783129f896fb6f452d9b77e81869237312e3bd48fb4cbc7");
    assert_eq!(cases[0]["digests"][1], "e852d2312ab1fe51ab066cc8a7a687e483d9e73206c3e56fc5caaecf6c347c7f");
}

#[test]
fn round_trips() {
    let rng = &mut Rng::new(5);
    for round in 0..40 {
        let count = rng.below(300);
        let model: Model = (0..count)
            .map(|_| {
                let key = rng.next().to_be_bytes()[..1 + rng.below(8) as usize].to_vec();
                (key, vec![rng.next() as u8; rng.below(100) as usize])
            })
            .collect();
        let (db, root) = db_with(Namespace::ZERO, &model, 9);
        let size = 1 + rng.below(20_000);
        let threads = (round % 14) as u16;
        let make = |exec: &dyn mkvs_tree::Executor| {
            let mut chunks = Vec::new();
            (create(&db, &root, size, threads, exec, &mut chunks).unwrap(), chunks)
        };
        let (metadata, chunks) = make(&Sequential);
        assert_eq!((&metadata, &chunks), (&make(&Threads::new(3)).0, &make(&Threads::new(3)).1));
        if threads == 1 {
            let mut sequential = Vec::new();
            assert_eq!(create(&db, &root, size, 0, &Sequential, &mut sequential).unwrap(), metadata);
        }
        let mut order: Vec<usize> = (0..chunks.len()).collect();
        order.sort_by_cached_key(|_| rng.next());
        let restored = restore(&metadata, &chunks, order.into_iter());
        assert_eq!(contents(&restored, &root).unwrap(), model);
        // The restored version is a base like any other.
        let mut tree = restored.tree(&root).unwrap();
        tree.insert(b"next", b"version").unwrap();
        tree.commit_final(10).unwrap();
        restored.prune(9).unwrap();
        assert_sound(&restored, "checkpoints");
    }
}

/// Chunks of two checkpoints of one tree, and one chunk twice: what came more than once is there once in the end.
#[test]
fn overlapping_chunks_leave_nothing_behind() {
    let model: Model = (0..300u32).map(|n| (n.to_be_bytes().to_vec(), vec![n as u8; 40])).collect();
    let (db, root) = db_with(Namespace::ZERO, &model, 3);
    let chunks_of = |size, threads| {
        let mut chunks = Vec::new();
        create(&db, &root, size, threads, &Sequential, &mut chunks).unwrap();
        chunks
    };
    let (fine, coarse, whole) = (chunks_of(500, 0), chunks_of(4_000, 2), chunks_of(1 << 20, 0));
    assert!(fine.len() > coarse.len() && coarse.len() > 2 && whole.len() == 1);
    for parts in [
        [&fine[..], &coarse].concat(),
        [&coarse[..], &fine].concat(),
        [&fine[..3], &whole, &coarse].concat(),
        [&whole[..], &fine].concat(),
        [&fine[..], &fine[2..5], &whole].concat(),
    ] {
        let metadata = Metadata { version: 1, root, chunks: parts.iter().map(|c| Hash::of(&[c])).collect() };
        for order in [(0..parts.len()).collect::<Vec<_>>(), (0..parts.len()).rev().collect()] {
            let restored = restore(&metadata, &parts, order.into_iter());
            assert_eq!(contents(&restored, &root).unwrap(), model);
            assert_eq!(restored.usage().unwrap().nodes, db.usage().unwrap().nodes);
        }
    }
}

#[test]
fn bad_chunks_are_refused_and_nothing_of_them_kept() {
    let model: Model = (0..500u32).map(|n| (n.to_be_bytes().to_vec(), vec![n as u8; 40])).collect();
    let (db, root) = db_with(Namespace::ZERO, &model, 3);
    let mut chunks = Vec::new();
    let metadata = create(&db, &root, 2_000, 0, &Sequential, &mut chunks).unwrap();
    assert!(chunks.len() > 4);
    let kv = Arc::new(Memory::new());
    let target = NodeDb::open(Arc::clone(&kv) as Arc<dyn KvStore>, config()).unwrap();
    let mut restorer = Restorer::new(target.clone());
    assert!(matches!(restorer.restore_chunk(0, &chunks[0]), Err(CheckpointError::NoRestore)));
    restorer.start(metadata.clone()).unwrap();
    assert!(matches!(restorer.start(metadata.clone()), Err(CheckpointError::RestoreInProgress)));
    assert!(matches!(restorer.restore_chunk(0, &chunks[0]), Err(CheckpointError::Db(DbError::NoMultipart(_)))));
    target.start_multipart(3).unwrap();
    let before = kv.stats().unwrap();
    let mut altered = chunks[0].clone();
    altered[40] ^= 1;
    assert!(matches!(restorer.restore_chunk(0, &altered), Err(CheckpointError::ChunkCorrupted { index: 0, .. })));
    assert!(matches!(restorer.restore_chunk(999, &chunks[0]), Err(CheckpointError::ChunkNotFound(999))));
    assert_eq!(kv.stats().unwrap(), before);
    // Chunks that are what the metadata says, but prove nothing.
    let mut lying = metadata.clone();
    for (what, chunk) in [
        ("not snappy", b"no snappy stream".to_vec()),
        ("no entries", encode_chunk(&[]).0),
        ("bogus entry", encode_chunk(&[Some(base_codec::Bytes(b"this chunk is bogus".to_vec()))]).0),
        ("another tree", {
            let (other, other_root) = db_with(Namespace::ZERO, &[(vec![1], vec![2])].into(), 3);
            let mut out = Vec::new();
            create(&other, &other_root, 1_000, 0, &Sequential, &mut out).unwrap();
            out.remove(0)
        }),
    ] {
        lying.chunks[0] = Hash::of(&[&chunk]);
        restorer.abort();
        restorer.start(lying.clone()).unwrap();
        let refused = restorer.restore_chunk(0, &chunk);
        assert!(matches!(refused, Err(CheckpointError::ChunkInvalid { index: 0, .. })), "{what}: {refused:?}");
        assert!(restorer.current().is_none(), "{what}");
        assert_eq!(kv.stats().unwrap(), before, "{what}");
    }
    // A checkpoint that lists too few chunks is found out at its end.
    let mut short = metadata.clone();
    short.chunks.truncate(2);
    restorer.start(short).unwrap();
    assert!(!restorer.restore_chunk(0, &chunks[0]).unwrap());
    assert!(matches!(restorer.restore_chunk(0, &chunks[0]), Err(CheckpointError::ChunkAlreadyRestored(0))));
    assert!(matches!(restorer.restore_chunk(1, &chunks[1]), Err(CheckpointError::ChunkInvalid { .. })));
    assert!(!target.has_root(&root).unwrap());
    target.abort_multipart().unwrap();
    assert_eq!(target.usage().unwrap().nodes, 0);
    let empty = Metadata { chunks: Vec::new(), ..metadata };
    assert!(matches!(restorer.start(empty), Err(CheckpointError::NoChunks)));
}

#[test]
fn compressed_bombs_are_bounded() {
    let zeros = vec![0u8; 1 << 20];
    let mut out = snap::write::FrameEncoder::new(Vec::new());
    for _ in 0..300 {
        std::io::Write::write_all(&mut out, &zeros).unwrap();
    }
    let bomb = out.into_inner().unwrap();
    assert!(decode_chunk(&bomb, &Hash::EMPTY).unwrap_err().contains("uncompressed"));
}

#[test]
fn files_in_a_folder() {
    let dir = tempfile::tempdir().unwrap();
    let model: Model = (0..100u32).map(|n| (n.to_be_bytes().to_vec(), vec![1; 30])).collect();
    let (db, root) = db_with(Namespace::ZERO, &model, 3);
    let files = Files::new(dir.path().join("checkpoints"));
    assert!(files.list(None).unwrap().is_empty());
    assert!(matches!(files.get(1, &root), Err(CheckpointError::NotFound(_))));
    let made = files.create(&db, &root, 1_000, 0, &Sequential).unwrap();
    assert_eq!(files.create(&db, &root, 5, 0, &Sequential).unwrap(), made, "the one that is there");
    assert_eq!(files.list(None).unwrap(), std::slice::from_ref(&made));
    assert_eq!(files.list(Some(3)).unwrap(), std::slice::from_ref(&made));
    assert!(files.list(Some(4)).unwrap().is_empty());
    assert_eq!(files.get(1, &root).unwrap(), made);
    let chunks: Vec<_> = (0..made.chunks.len() as u64).map(|i| files.chunk(&made.chunk(i).unwrap()).unwrap()).collect();
    assert_eq!(contents(&restore(&made, &chunks, 0..chunks.len()), &root).unwrap(), model);
    let mut beyond = made.chunk(0).unwrap();
    beyond.index = 999;
    assert!(matches!(files.chunk(&beyond), Err(CheckpointError::ChunkNotFound(999))));
    let missing = Root { hash: Hash::of(&[b"missing"]), ..root };
    assert!(files.create(&db, &missing, 1_000, 0, &Sequential).is_err());
    files.delete(1, &root).unwrap();
    assert!(matches!(files.delete(1, &root), Err(CheckpointError::NotFound(_))));
    assert!(files.list(None).unwrap().is_empty());
    assert!(!dir.path().join("checkpoints/3").exists());
}
