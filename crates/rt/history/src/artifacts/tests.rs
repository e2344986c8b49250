//! Trees built here read back, limits, and what malformed trees lead to.

use wire_runtime::transaction::{BLOCK_TAG_HASH, hash};

use super::*;

fn batch() -> Vec<Bytes> {
    [b"first".as_slice(), b"second", b"third"].iter().map(|b| Bytes(b.to_vec())).collect()
}

fn tag(key: &[u8], value: &[u8], tx_hash: Hash) -> Tag {
    Tag { key: Bytes(key.to_vec()), value: Bytes(value.to_vec()), tx_hash }
}

fn full() -> Tree {
    let outputs: Vec<Bytes> = (0..3u8).map(|n| Bytes(vec![n])).collect();
    let tags = [
        tag(b"a", b"1", hash(b"first")),
        tag(b"a", b"2", hash(b"third")),
        tag(b"ab", b"3", hash(b"second")),
        tag(b"a", b"4", BLOCK_TAG_HASH),
    ];
    let mut tree = input_tree(&batch()).unwrap();
    add_outputs(&mut tree, &batch(), &outputs, &tags).unwrap();
    tree
}

#[test]
fn what_goes_in_comes_out() {
    let tree = full();
    let all = transactions(&tree).unwrap();
    assert_eq!(all.iter().map(|t| t.input.as_slice()).collect::<Vec<_>>(), [b"first".as_slice(), b"second", b"third"]);
    assert_eq!(all.iter().map(|t| t.output.clone().unwrap()).collect::<Vec<_>>(), [[0], [1], [2]]);
    assert_eq!(input_batch(&tree, 0, 0).unwrap(), batch());
    assert_eq!(transaction(&tree, &hash(b"second")).unwrap(), all[1]);
    assert!(matches!(transaction(&tree, &hash(b"fourth")), Err(ArtifactsError::NotFound)));
    let some = some_transactions(&tree, &[hash(b"third"), hash(b"fourth")]).unwrap();
    assert_eq!(some.into_iter().collect::<Vec<_>>(), [(hash(b"third"), all[2].clone())]);
    assert_eq!(tags(&tree).unwrap().len(), 4);
    let found = tags_of(&tree, b"a").unwrap();
    assert_eq!(found.len(), 3);
    assert!(found.iter().all(|t| t.key.0 == b"a"));
    assert!(found.iter().any(|t| t.tx_hash == BLOCK_TAG_HASH && t.value.0 == b"4"));
    assert_eq!(tags_of(&tree, b"ab").unwrap(), [tag(b"ab", b"3", hash(b"second"))]);

    let inputs = input_tree(&batch()).unwrap();
    assert_eq!(transactions(&inputs).unwrap()[0].output, None);
    assert_eq!(input_root(&[]).unwrap(), Hash::EMPTY);
    assert!(transactions(&Tree::in_memory()).unwrap().is_empty());
    assert!(matches!(input_root(&[Bytes::default()]), Err(ArtifactsError::Format(FormatError::EmptyInput))));
}

#[test]
fn limits() {
    let tree = full();
    assert_eq!(input_batch(&tree, 3, 16).unwrap(), batch());
    assert!(matches!(input_batch(&tree, 2, 0), Err(ArtifactsError::Format(FormatError::TooMany { max: 2 }))));
    assert!(matches!(input_batch(&tree, 3, 15), Err(ArtifactsError::Format(FormatError::TooLarge { max: 15 }))));
}

#[test]
fn malformed_trees() {
    let mut tree = full();
    tree.remove(&transaction_key(&hash(b"first"), ArtifactKind::Input)).unwrap();
    assert!(matches!(transactions(&tree), Err(ArtifactsError::Format(FormatError::OutputWithoutInput { .. }))));
    let mut tree = input_tree(&batch()).unwrap();
    tree.remove(&transaction_key(&hash(b"first"), ArtifactKind::Input)).unwrap();
    assert!(matches!(input_batch(&tree, 0, 0), Err(ArtifactsError::Format(FormatError::Order { .. }))));
    assert_eq!(transactions(&tree).unwrap().len(), 2);
    let mut tree = full();
    tree.insert(&transaction_key(&hash(b"first"), ArtifactKind::Output), &[0xff]).unwrap();
    assert!(matches!(transactions(&tree), Err(ArtifactsError::Format(FormatError::Artifacts { .. }))));
    assert!(matches!(transaction(&tree, &hash(b"first")), Err(ArtifactsError::Format(FormatError::Artifacts { .. }))));
    let mut tree = full();
    tree.insert(b"Eshort", b"").unwrap();
    assert!(matches!(tags(&tree), Err(ArtifactsError::Format(FormatError::Key))));
}

#[test]
fn recorded_rounds() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../vectors/rhp/keyvalue-compute.bin");
    let (mut rounds, mut inputs, mut outputs) = (0, 0, 0);
    for record in dev_testkit::rhp::load(path.as_ref()).unwrap() {
        let body = wire_runtime::frame::decode(&record.body).unwrap().body;
        let wire_runtime::Body::RuntimeExecuteTxBatchResponse(response) = body else { continue };
        let mut tree = Tree::in_memory();
        // Responses to batches of proposals do not repeat the inputs.
        let Some(input_log) = response.tx_input_write_log.as_option().filter(|log| !log.is_empty()) else { continue };
        mkvs_tree::writelog::apply(input_log, &mut tree).unwrap();
        assert_eq!(tree.root_hash(&Sequential), response.tx_input_root);
        let batch = input_batch(&tree, 0, 0).unwrap();
        assert_eq!(input_root(&batch).unwrap(), response.tx_input_root);
        let hashes: Vec<Hash> = batch.iter().map(|input| hash(input)).collect();
        assert_eq!(Some(&hashes), response.tx_hashes.as_option());
        mkvs_tree::writelog::apply(&response.batch.io_write_log.clone().unwrap(), &mut tree).unwrap();
        assert_eq!(Some(tree.root_hash(&Sequential)), response.batch.header.io_root);
        let all = transactions(&tree).unwrap();
        for found in tags(&tree).unwrap() {
            assert!(tags_of(&tree, &found.key).unwrap().contains(&found));
        }
        rounds += 1;
        inputs += all.len();
        outputs += all.iter().filter(|t| t.output.is_some()).count();
    }
    println!("{rounds} rounds, {inputs} inputs");
    assert!(rounds > 0 && inputs > 0 && outputs == inputs);
}
