//! Tree nodes in the wire form and in the stored form: whatever is accepted encodes to the same bytes.
#![no_main]

use mkvs_tree::{NodeId, stored, wire};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let Ok(node) = wire::decode(data) {
        let mut again = Vec::new();
        node.encode(&mut again).expect("a decoded node fits its form");
        assert_eq!(again, data);
    }
    let id = NodeId { version: 7, batch: 1, index: 3 };
    if let Ok(node) = stored::decode(data, &id) {
        let mut again = Vec::new();
        stored::encode(&node, &id, &mut again);
        // Numbers may come with superfluous bytes; the second round must be stable.
        let node = stored::decode(&again, &id).expect("what was encoded decodes");
        let mut third = Vec::new();
        stored::encode(&node, &id, &mut third);
        assert_eq!(third, again);
    }
});
