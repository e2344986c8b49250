//! Access to recorded test data.

use serde_json::Value;

/// The cases of a file in `vectors/crypto`, which is a list.
pub(crate) fn cases(file: &str) -> Vec<Value> {
    let path = format!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../vectors/crypto/{}"), file);
    let text = dev_testkit::read(path.as_ref()).unwrap_or_else(|e| panic!("{path}: {e}"));
    let list: Vec<Value> = serde_json::from_slice(&text).unwrap();
    assert!(!list.is_empty(), "{path}");
    list
}

/// Bytes of a hexadecimal field; empty if absent.
pub(crate) fn bytes(case: &Value, field: &str) -> Vec<u8> {
    hex::decode(case.get(field).map_or("", |v| v.as_str().unwrap())).unwrap()
}

/// Bytes of a hexadecimal field of known length.
pub(crate) fn array<const N: usize>(case: &Value, field: &str) -> [u8; N] {
    bytes(case, field).try_into().unwrap()
}

/// Bytes of a hexadecimal text.
pub(crate) fn unhex<const N: usize>(text: &str) -> [u8; N] {
    hex::decode(text).unwrap().try_into().unwrap()
}
