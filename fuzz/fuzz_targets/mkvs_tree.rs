//! A tree against an ordered map under a script of operations: three bytes head, then key and value.
#![no_main]

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use mkvs_tree::{KvRead, KvWrite, Sequential, Tree};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let (mut tree, mut map) = (Tree::in_memory(), BTreeMap::new());
    let mut rest = data;
    while let Some(([op, key_len, value_len], tail)) = rest.split_first_chunk::<3>() {
        let Some((key, tail)) = tail.split_at_checked(usize::from(key_len % 40)) else { break };
        let Some((value, tail)) = tail.split_at_checked(usize::from(value_len % 8)) else { break };
        rest = tail;
        match op % 4 {
            0 | 1 => {
                tree.insert(key, value).expect("the key is short");
                map.insert(key.to_vec(), value.to_vec());
            }
            2 => {
                tree.remove(key).expect("nothing to load");
                map.remove(key);
            }
            _ => {
                assert_eq!(tree.get(key).expect("nothing to load"), map.get(key).cloned());
                tree.commit(1, 0, &Sequential);
            }
        }
    }
    let mut pairs = Vec::new();
    tree.iterate(b"", &mut |k, v| {
        pairs.push((k.to_vec(), v.to_vec()));
        ControlFlow::Continue(())
    })
    .expect("nothing to load");
    assert!(pairs.iter().map(|(k, v)| (k, v)).eq(map.iter()));
    let mut again = Tree::in_memory();
    for (k, v) in &map {
        again.insert(k, v).expect("the key is short");
    }
    assert_eq!(tree.root_hash(&Sequential), again.root_hash(&Sequential));
});
