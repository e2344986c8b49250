//! What peers get, and what they do not.

use base_prims::Namespace;
use mkvs_db::Threads;
use mkvs_tree::{Root, proof};

use super::*;
use crate::storage::roots_of;
use crate::testing::*;

fn ask<Q: Encode, A: Decode>(
    serve: impl Fn(&str, &Raw) -> Result<Raw, ServeError>,
    method: &str,
    request: &Q,
) -> Result<A, ServeError> {
    let answer = serve(method, &Raw(cbor::to_vec(request)))?;
    Ok(cbor::from_slice(&answer).unwrap())
}

fn code(e: ServeError) -> (&'static str, u32) {
    (e.module, e.code)
}

#[test]
fn differences() {
    let chain = chain(6);
    let server = Server::new(full(&chain), None);
    let (start_root, end_root) = (roots_of(&chain[5].header)[1], roots_of(&chain[6].header)[1]);
    let request = GetDiffRequest { start_root, end_root };
    for serve in [Server::diff_sync, Server::storage_sync] {
        let got: GetDiffResponse = ask(|m, b| serve(&server, m, b), GET_DIFF, &request).unwrap();
        assert!(!got.write_log.is_empty());
    }
    let refused = |request: GetDiffRequest| {
        code(ask::<_, GetDiffResponse>(|m, b| server.diff_sync(m, b), GET_DIFF, &request).unwrap_err())
    };
    let far = GetDiffRequest { start_root: roots_of(&chain[3].header)[1], end_root };
    assert_eq!(refused(far), (DB_MODULE, 9));
    let unknown = Root { hash: base_prims::Hash::of(&[b"?"]), ..end_root };
    assert_eq!(refused(GetDiffRequest { start_root, end_root: unknown }), (DB_MODULE, 2));
    let other = |root: Root| Root { namespace: Namespace::default(), ..root };
    let elsewhere = GetDiffRequest { start_root: other(start_root), end_root: other(end_root) };
    assert_eq!(refused(elsewhere), (DB_MODULE, 10));
    assert_eq!(code(server.diff_sync("GetNothing", &Raw::default()).unwrap_err()), ("p2p/rpc", 1));
    assert_eq!(code(server.diff_sync(GET_DIFF, &Raw(vec![0xff])).unwrap_err()), ("p2p/rpc", 2));
    assert_eq!(code(server.diff_sync(GET_CHECKPOINTS, &Raw::default()).unwrap_err()), ("p2p/rpc", 1));
}

#[test]
fn checkpoints() {
    let chain = chain(6);
    let storage = full(&chain);
    let dir = tempfile::tempdir().unwrap();
    let files = Files::new(dir.path());
    let root = roots_of(&chain[6].header)[1];
    let metadata = files.create(storage.db(), &root, 300, 0, &Threads::new(1)).unwrap();
    let server = Server::new(storage.clone(), Some(files));
    let list = |server: &Server, version| -> Vec<Metadata> {
        let request = GetCheckpointsRequest { version };
        let got: GetCheckpointsResponse = ask(|m, b| server.storage_sync(m, b), GET_CHECKPOINTS, &request).unwrap();
        got.checkpoints
    };
    assert_eq!((list(&server, 1), list(&server, 2)), (vec![metadata.clone()], vec![]));
    let get = |server: &Server, chunk: ChunkMetadata| {
        ask::<_, GetChunkResponse>(|m, b| server.checkpoint_sync(m, b), GET_CHECKPOINT_CHUNK, &chunk)
    };
    let chunk = metadata.chunk(1).unwrap();
    assert_eq!(digest(&get(&server, chunk).unwrap().chunk), chunk.digest);
    let beyond = ChunkMetadata { index: 999, ..chunk };
    assert_eq!(code(get(&server, beyond).unwrap_err()), (codes::CHUNK_NOT_FOUND.module, 2));
    let mut other = chunk;
    other.root.namespace = Namespace::default();
    assert_eq!(code(get(&server, other).unwrap_err()), (codes::CHUNK_NOT_FOUND.module, 2));
    let without = Server::new(storage, None);
    assert!(list(&without, 1).is_empty());
    assert_eq!(code(get(&without, chunk).unwrap_err()), (codes::NOT_FOUND.module, 1));
}

#[test]
fn proofs() {
    let chain = chain(6);
    let server = Server::new(full(&chain), None);
    let root = roots_of(&chain[6].header)[1];
    let tree = TreeId { root, position: root.hash };
    let key = chain[6].state[0].key.clone();
    let serve = |m: &str, b: &Raw| server.storage_pub(m, b);
    let get = GetRequest { tree, key: key.clone(), ..GetRequest::default() };
    let answer: ProofResponse = ask(serve, GET, &get).unwrap();
    let verified = proof::verify(&root.hash, &answer.proof).unwrap();
    assert!(verified.leaves().iter().any(|leaf| leaf.key() == key.0));
    let iterate = IterateRequest { tree, key: key.clone(), prefetch: 5, proof_version: 0 };
    let answer: ProofResponse = ask(serve, ITERATE, &iterate).unwrap();
    assert!(proof::verify(&root.hash, &answer.proof).unwrap().leaves().len() >= 5);
    let prefixes = GetPrefixesRequest { tree, prefixes: vec![Bytes(b"key".to_vec())], limit: 9, proof_version: 0 };
    let answer: ProofResponse = ask(serve, GET_PREFIXES, &prefixes).unwrap();
    assert!(proof::verify(&root.hash, &answer.proof).is_ok());

    let refused = |request: IterateRequest| code(ask::<_, ProofResponse>(serve, ITERATE, &request).unwrap_err());
    assert_eq!(refused(IterateRequest { prefetch: MAX_PREFETCH + 1, ..iterate.clone() }), ("p2p/rpc", 2));
    let mut pruned = iterate;
    pruned.tree.root.hash = base_prims::Hash::of(&[b"?"]);
    assert_eq!(refused(pruned), (DB_MODULE, 8));
    let many = GetPrefixesRequest { prefixes: vec![Bytes::default(); MAX_PREFIXES + 1], ..prefixes };
    assert_eq!(code(ask::<_, ProofResponse>(serve, GET_PREFIXES, &many).unwrap_err()), ("p2p/rpc", 2));
    assert_eq!(code(server.storage_pub("Put", &Raw::default()).unwrap_err()), ("p2p/rpc", 1));
}
