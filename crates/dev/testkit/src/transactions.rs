//! Generated signed transactions with their JSON form: `vectors/transactions/NAME.json.gz`.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::{Error, read};

/// One generated transaction.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Kind as the generator names it, such as `Transfer`.
    pub kind: String,
    /// Full signature context with its chain separation.
    pub signature_context: String,
    /// JSON form of the transaction, with the method's decoded body.
    pub tx: Value,
    /// JSON form of the signed envelope.
    pub signed_tx: Value,
    /// CBOR of the transaction.
    pub encoded_tx: Vec<u8>,
    /// CBOR of the signed envelope.
    pub encoded_signed_tx: Vec<u8>,
    /// Whether the reference accepts the body in stateless checks.
    pub valid: bool,
    /// Ed25519 seed and public key, 64 bytes; a test key.
    pub signer_private_key: Vec<u8>,
    /// Ed25519 public key, 32 bytes.
    pub signer_public_key: Vec<u8>,
}

const FIELDS: [&str; 9] = [
    "kind",
    "signature_context",
    "tx",
    "signed_tx",
    "encoded_tx",
    "encoded_signed_tx",
    "valid",
    "signer_private_key",
    "signer_public_key",
];

/// Reads one file of transactions.
///
/// # Errors
/// If the file cannot be read or an entry has a missing, unknown or ill-typed field.
pub fn load(path: &Path) -> Result<Vec<Entry>, Error> {
    let bytes = read(path)?;
    let list: Vec<Value> = serde_json::from_slice(&bytes).map_err(|e| Error::shape(path, "top level", e))?;
    list.iter().enumerate().map(|(index, value)| entry(path, index, value)).collect()
}

fn entry(path: &Path, index: usize, value: &Value) -> Result<Entry, Error> {
    let fail = |field: &str, problem: String| Error::shape(path, format!("entry {index}, {field}"), problem);
    let object = value.as_object().ok_or_else(|| fail("entry", "not an object".into()))?;
    if let Some(other) = object.keys().find(|k| !FIELDS.contains(&k.as_str())) {
        return Err(fail(other, "unknown field".into()));
    }
    let field = |name: &str| object.get(name).cloned().ok_or_else(|| fail(name, "missing".into()));
    let text = |name: &str| match field(name)? {
        Value::String(text) => Ok(text),
        other => Err(fail(name, format!("not a string but {other}"))),
    };
    let bytes = |name: &str| STANDARD.decode(text(name)?).map_err(|e| fail(name, e.to_string()));
    Ok(Entry {
        kind: text("kind")?,
        signature_context: text("signature_context")?,
        tx: field("tx")?,
        signed_tx: field("signed_tx")?,
        encoded_tx: bytes("encoded_tx")?,
        encoded_signed_tx: bytes("encoded_signed_tx")?,
        valid: field("valid")?.as_bool().ok_or_else(|| fail("valid", "not a boolean".into()))?,
        signer_private_key: bytes("signer_private_key")?,
        signer_public_key: bytes("signer_public_key")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::paths;

    #[test]
    fn loads_the_generated_files() {
        for (name, count) in [("governance", 2902), ("registry", 128), ("staking", 2496)] {
            let entries = load(&paths::vectors_dir().join(format!("transactions/{name}.json.gz"))).unwrap();
            assert_eq!(entries.len(), count, "{name}");
            assert!(entries.iter().all(|e| e.signer_private_key.ends_with(&e.signer_public_key)), "{name}");
        }
    }

    #[test]
    fn refuses_other_fields() {
        let path = Path::new("x.json");
        let error = entry(path, 3, &serde_json::json!({"kind": "Transfer", "more": 1})).unwrap_err();
        assert_eq!(error.to_string(), "x.json: entry 3, more: unknown field");
        let error = entry(path, 0, &serde_json::json!({"kind": 1})).unwrap_err();
        assert_eq!(error.to_string(), "x.json: entry 0, kind: not a string but 1");
    }
}
