//! Manifests of bundles: whatever is read can be written, and keeps its hash.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wire_runtime::bundle::Manifest;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(manifest) = Manifest::from_json(text) else { return };
    let _ = (manifest.validate(), manifest.available_components(), manifest.file_name(), manifest.is_detached());
    let again = Manifest::from_json(&manifest.to_json()).expect("what was written is read");
    assert_eq!(again.hash(), manifest.hash());
});
