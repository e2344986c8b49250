//! Family `transactions`: generated transactions with JSON form and keys, and account keys from mnemonics.

use std::path::Path;

use base_codec::{Raw, cbor, json};
use base_crypto::context::ChainContext;
use base_crypto::ed25519::SecretKey;
use base_prims::PublicKey;
use dev_testkit::transactions::{Entry, load};
use serde_json::{Value, json};
use wire_consensus::transaction::{Fee, SIGNATURE_CONTEXT, SignedTransaction, Transaction};

use super::bodies::{Body, Checked, from_json, same_bytes};
use super::{Counts, Difference, Family, adr8};

/// See the module.
pub(super) struct Transactions;

impl Family for Transactions {
    fn name(&self) -> &'static str {
        "transactions"
    }

    fn about(&self) -> &'static str {
        "signed transactions: decode, verify, validate, encode again, also from JSON; account keys from mnemonics"
    }

    fn check_file(&self, path: &Path, counts: &mut Counts) -> Result<(), Difference> {
        let fail = |e: dev_testkit::Error| Difference::new("file", e);
        // Both are lists of objects with a kind; accounts have no signed transaction.
        let bytes = dev_testkit::read(path).map_err(fail)?;
        let list: Value = serde_json::from_slice(&bytes).map_err(|e| Difference::new("file", e))?;
        if list.get(0).is_some_and(|first| first.get("bip39_mnemonic").is_some()) {
            return adr8::check_file(path, &bytes, counts);
        }
        for (index, entry) in load(path).map_err(fail)?.iter().enumerate() {
            check_entry(entry, counts)
                .map_err(|what| Difference::new(format!("entry {index} ({})", entry.kind), what))?;
        }
        Ok(())
    }
}

fn same_json(what: &str, ours: &Value, recorded: &Value) -> Checked<()> {
    if ours == recorded { Ok(()) } else { Err(format!("{what}: ours is {ours}, recorded {recorded}")) }
}

fn check_entry(entry: &Entry, counts: &mut Counts) -> Checked<()> {
    let chain = chain_of(&entry.signature_context)?;
    let body = check_bytes(entry, &chain)?;
    check_json(entry, body)?;
    check_signing(entry, &chain)?;
    counts.add("transactions");
    counts.add(if entry.valid { "valid" } else { "invalid" });
    counts.add(body.method);
    Ok(())
}

/// The chain context at the end of the full signature context.
fn chain_of(context: &str) -> Checked<ChainContext> {
    let (name, chain) = context.split_once(" for chain ").ok_or_else(|| format!("no chain in {context}"))?;
    if name != SIGNATURE_CONTEXT.name() {
        return Err(format!("signature context is {name}, not {}", SIGNATURE_CONTEXT.name()));
    }
    ChainContext::parse(chain).map_err(|e| e.to_string())
}

/// The recorded bytes decode, verify, validate as recorded and encode again.
fn check_bytes(entry: &Entry, chain: &ChainContext) -> Checked<&'static Body> {
    let signed: SignedTransaction =
        cbor::from_slice(&entry.encoded_signed_tx).map_err(|e| format!("encoded_signed_tx: {e}"))?;
    same_bytes("signed transaction", &cbor::to_vec(&signed), &entry.encoded_signed_tx)?;
    same_bytes("blob", signed.0.blob(), &entry.encoded_tx)?;
    same_bytes("signer", signed.signer().as_bytes(), &entry.signer_public_key)?;
    let transaction = signed.open(chain).map_err(|e| format!("opening: {e}"))?;
    same_bytes("transaction", &cbor::to_vec(&transaction), &entry.encoded_tx)?;
    let body = Body::of(&transaction.method)?;
    let pretty = body.check(transaction.body.as_slice())?;
    same_json("body", &pretty, &entry.tx["body"])?;
    let verdict = body.validate(transaction.body.as_slice());
    if verdict.is_ok() != entry.valid {
        return Err(format!("validation says {verdict:?}, recorded as valid: {}", entry.valid));
    }
    let envelope = json!({
        "nonce": transaction.nonce,
        "fee": transaction.fee.as_ref().map(json::ToJson::to_json),
        "method": transaction.method,
        "body": pretty,
    });
    same_json("transaction", &envelope, &entry.tx)?;
    same_json("signed transaction", &json::ToJson::to_json(&signed), &entry.signed_tx)?;
    Ok(body)
}

/// The recorded JSON gives the recorded bytes.
fn check_json(entry: &Entry, body: &Body) -> Checked<()> {
    let Some(object) = entry.tx.as_object() else {
        return Err("tx is not an object".into());
    };
    if let Some(other) = object.keys().find(|k| !["nonce", "fee", "method", "body"].contains(&k.as_str())) {
        return Err(format!("tx: unknown field {other}"));
    }
    let raw = body.encode_json(&entry.tx["body"])?;
    let transaction = Transaction {
        nonce: entry.tx["nonce"].as_u64().ok_or("tx: nonce is no integer")?,
        fee: entry.tx.get("fee").map(from_json::<Fee>).transpose()?,
        method: entry.tx["method"].as_str().ok_or("tx: method is no string")?.to_owned(),
        body: Raw(raw),
    };
    same_bytes("transaction from JSON", &cbor::to_vec(&transaction), &entry.encoded_tx)?;
    let signed: SignedTransaction = from_json(&entry.signed_tx)?;
    same_bytes("signed transaction from JSON", &cbor::to_vec(&signed), &entry.encoded_signed_tx)
}

/// Signing with the recorded key gives the recorded signature, and an altered signature does not verify.
fn check_signing(entry: &Entry, chain: &ChainContext) -> Checked<()> {
    let private: &[u8; 64] =
        entry.signer_private_key.as_slice().try_into().map_err(|_| "signer_private_key is not 64 bytes".to_owned())?;
    let key = SecretKey::from_bytes(private).map_err(|e| format!("signer_private_key: {e}"))?;
    same_bytes("public key", PublicKey::new(key.public()).as_bytes(), &entry.signer_public_key)?;
    let transaction: Transaction = cbor::from_slice(&entry.encoded_tx).map_err(|e| format!("encoded_tx: {e}"))?;
    let mut signed = transaction.sign(&key, chain).map_err(|e| format!("signing: {e}"))?;
    same_bytes("our signature", &cbor::to_vec(&signed), &entry.encoded_signed_tx)?;
    if let Some(byte) = signed.0.untrusted_raw_value.as_mut().and_then(|blob| blob.0.last_mut()) {
        *byte ^= 1;
    }
    if signed.0.verify(SIGNATURE_CONTEXT, Some(chain)).is_ok() {
        return Err("an altered transaction verifies".into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One entry of each kind, to be altered.
    fn entries() -> Vec<Entry> {
        let dir = dev_testkit::paths::vectors_dir().join("transactions");
        let mut out: Vec<Entry> = Vec::new();
        for name in ["governance", "registry", "staking"] {
            for entry in load(&dir.join(format!("{name}.json.gz"))).unwrap() {
                if !out.iter().any(|e| e.kind == entry.kind) {
                    out.push(entry);
                }
            }
        }
        out
    }

    #[test]
    fn every_altered_field_is_a_difference() {
        type Change = fn(&mut Entry);
        let changes: &[(&str, Change)] = &[
            ("chain", |e| e.signature_context = e.signature_context.replace(" for chain ", " for chain 0")),
            ("context", |e| e.signature_context = e.signature_context.replace("consensus", "consensu5")),
            ("method", |e| e.tx["method"] = json!("staking.Steal")),
            ("nonce", |e| e.tx["nonce"] = json!(77)),
            ("fee", |e| e.tx["fee"]["gas"] = json!(77)),
            ("more", |e| e.tx["more"] = json!(1)),
            ("body", |e| e.tx["body"]["more"] = json!(1)),
            ("signature", |e| e.signed_tx["signature"]["public_key"] = json!("")),
            ("encoded", |e| e.encoded_tx.push(0)),
            ("encoded signed", |e| *e.encoded_signed_tx.last_mut().unwrap() ^= 1),
            ("cut", |e| e.encoded_signed_tx.truncate(20)),
            ("valid", |e| e.valid = !e.valid),
            ("private key", |e| e.signer_private_key[0] ^= 1),
            ("public key", |e| e.signer_public_key[0] ^= 1),
        ];
        for entry in entries() {
            check_entry(&entry, &mut Counts::default()).unwrap();
            for (name, change) in changes {
                let mut altered = entry.clone();
                change(&mut altered);
                let checked = check_entry(&altered, &mut Counts::default());
                assert!(checked.is_err(), "{}: {name} was altered and nobody saw it", entry.kind);
            }
        }
    }
}
