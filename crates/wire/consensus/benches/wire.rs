//! Encoding and decoding of a node descriptor, and loading the largest recorded genesis document.

use base_codec::cbor;
use dev_testkit::paths;
use divan::{Bencher, black_box, counter::BytesCount};
use wire_consensus::{genesis::Document, node::Node};

fn main() {
    divan::main();
}

fn genesis_text() -> String {
    let file = paths::vectors_dir().join("chains/runtime-txsource-multi-short/genesis.json");
    String::from_utf8(dev_testkit::read(&file).expect("recorded genesis")).expect("JSON is text")
}

fn node_bytes() -> Vec<u8> {
    let doc = Document::from_json(&genesis_text()).expect("recorded genesis reads");
    let largest = doc.registry.nodes.iter().map(|n| n.blob().to_vec()).max_by_key(Vec::len);
    largest.expect("the recorded genesis has nodes")
}

#[divan::bench]
fn decode_node(bencher: Bencher<'_, '_>) {
    let bytes = node_bytes();
    bencher
        .counter(BytesCount::new(bytes.len()))
        .bench(|| cbor::from_slice::<Node>(black_box(&bytes)).expect("decodes"));
}

#[divan::bench]
fn encode_node(bencher: Bencher<'_, '_>) {
    let bytes = node_bytes();
    let node: Node = cbor::from_slice(&bytes).expect("decodes");
    bencher.counter(BytesCount::new(bytes.len())).bench(|| cbor::to_vec(black_box(&node)));
}

#[divan::bench]
fn load_genesis(bencher: Bencher<'_, '_>) {
    let text = genesis_text();
    bencher
        .counter(BytesCount::new(text.len()))
        .bench(|| Document::from_json(black_box(&text)).expect("recorded genesis reads"));
}

#[divan::bench]
fn hash_genesis(bencher: Bencher<'_, '_>) {
    let doc = Document::from_json(&genesis_text()).expect("recorded genesis reads");
    bencher.bench(|| black_box(&doc).hash());
}
