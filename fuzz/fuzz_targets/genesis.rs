//! Genesis documents: JSON text, canonical form and sanity checks.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wire_consensus::genesis::Document;

fuzz_target!(|text: &str| {
    if let Ok(doc) = Document::from_json(text) {
        let canonical = doc.to_canonical_json();
        let again = Document::from_json(&canonical).expect("what was written reads");
        assert_eq!(again.hash(), doc.hash());
        let _ = doc.sanity_check(true);
    }
});
