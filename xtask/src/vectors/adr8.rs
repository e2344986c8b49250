//! Account keys from a mnemonic: BIP-39 seed, SLIP-0010 for Ed25519, path `m/44'/474'/i'` (Oasis ADR 0008).

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use base_crypto::ed25519::SecretKey;
use base_prims::{Address, PublicKey};
use hmac::{Hmac, KeyInit, Mac};
use serde_json::Value;
use sha2::Sha512;

use super::{Counts, Difference};

const SEED_ROUNDS: u32 = 2048;
/// Hardened children only: the highest bit of the index.
const HARDENED: u32 = 1 << 31;
const KIND: &str = "standard account key generation";

fn hmac_sha512(key: &[u8], parts: &[&[u8]]) -> [u8; 64] {
    let mut mac = Hmac::<Sha512>::new_from_slice(key).expect("HMAC takes keys of any length");
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

/// BIP-39: PBKDF2 of the mnemonic, salted with the passphrase; one block, since the seed is as long as the hash.
fn seed(mnemonic: &str, passphrase: &str) -> [u8; 64] {
    let mut round = hmac_sha512(mnemonic.as_bytes(), &[b"mnemonic", passphrase.as_bytes(), &1u32.to_be_bytes()]);
    let mut out = round;
    for _ in 1..SEED_ROUNDS {
        round = hmac_sha512(mnemonic.as_bytes(), &[&round]);
        for (o, r) in out.iter_mut().zip(round) {
            *o ^= r;
        }
    }
    out
}

/// SLIP-0010: the private key at the path of indices, all hardened.
fn derive(seed: &[u8], path: &[u32]) -> [u8; 32] {
    let split = |node: [u8; 64]| {
        let (mut key, mut code) = ([0; 32], [0; 32]);
        key.copy_from_slice(&node[..32]);
        code.copy_from_slice(&node[32..]);
        (key, code)
    };
    let (mut key, mut code) = split(hmac_sha512(b"ed25519 seed", &[seed]));
    for index in path {
        (key, code) = split(hmac_sha512(&code, &[&[0], &key, &index.to_be_bytes()]));
    }
    key
}

/// `m/44'/474'/0'` → the three indices with their hardened bit.
fn parse_path(text: &str) -> Result<Vec<u32>> {
    let parts = text.strip_prefix("m/").with_context(|| format!("path {text} does not start with m/"))?;
    let index = |part: &str| {
        let number = part.strip_suffix('\'').with_context(|| format!("{part} in path {text} is not hardened"))?;
        let number: u32 = number.parse().with_context(|| format!("{part} in path {text}"))?;
        ensure!(number < HARDENED, "{part} in path {text} is out of range");
        Ok(number | HARDENED)
    };
    parts.split('/').map(index).collect()
}

/// Checks a file of mnemonics with the accounts they give.
pub(super) fn check_file(path: &Path, bytes: &[u8], counts: &mut Counts) -> Result<(), Difference> {
    let list: Vec<Value> =
        serde_json::from_slice(bytes).map_err(|e| Difference::new(path.display(), format!("not a list: {e}")))?;
    for (index, entry) in list.iter().enumerate() {
        check_entry(entry, counts).map_err(|e| Difference::new(format!("mnemonic {index}"), format!("{e:#}")))?;
    }
    Ok(())
}

fn text<'a>(value: &'a Value, field: &str) -> Result<&'a str> {
    value[field].as_str().with_context(|| format!("{field} is missing or no string"))
}

fn same(what: &str, ours: &str, recorded: &str) -> Result<()> {
    ensure!(ours == recorded, "{what}: computed {ours}, recorded {recorded}");
    Ok(())
}

fn known_fields(value: &Value, known: &[&str]) -> Result<()> {
    let object = value.as_object().context("not an object")?;
    match object.keys().find(|k| !known.contains(&k.as_str())) {
        Some(other) => bail!("unknown field {other}"),
        None => Ok(()),
    }
}

fn check_entry(entry: &Value, counts: &mut Counts) -> Result<()> {
    known_fields(entry, &["kind", "bip39_mnemonic", "bip39_passphrase", "bip39_seed", "oasis_accounts"])?;
    let kind = text(entry, "kind")?;
    ensure!(kind == KIND, "unknown kind {kind}");
    let (mnemonic, passphrase) = (text(entry, "bip39_mnemonic")?, text(entry, "bip39_passphrase")?);
    // Words beyond ASCII would have to be normalized first.
    ensure!(mnemonic.is_ascii() && passphrase.is_ascii(), "mnemonic or passphrase is not ASCII: cannot be judged");
    let seed = seed(mnemonic, passphrase);
    same("bip39_seed", &hex::encode(seed), text(entry, "bip39_seed")?)?;
    counts.add("mnemonics");
    let accounts = entry["oasis_accounts"].as_array().context("oasis_accounts is no list")?;
    ensure!(!accounts.is_empty(), "no accounts");
    for account in accounts {
        known_fields(account, &["bip32_path", "private_key", "public_key", "address"])?;
        let path = text(account, "bip32_path")?;
        let key = SecretKey::from_seed(&derive(&seed, &parse_path(path)?));
        let public = PublicKey::new(key.public());
        same(path, &hex::encode(*key.to_bytes()), text(account, "private_key")?)?;
        same(path, &hex::encode(public.as_bytes()), text(account, "public_key")?)?;
        same(path, &Address::of_key(&public).to_string(), text(account, "address")?)?;
        counts.add("accounts");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn derives_as_slip_0010_says() {
        // Test vector 1 for ed25519 of SLIP-0010: seed 000102…0f, chain m/0'/1'.
        let seed: Vec<u8> = (0..16).collect();
        let key = derive(&seed, &parse_path("m/0'/1'").unwrap());
        assert_eq!(hex::encode(key), "b1d0bad404bf35da785a64ca1ac54b2617211d2777696fbffaf208f746ae84f2");
    }

    #[test]
    fn refuses_other_paths() {
        for bad in ["44'/474'", "m/44", "m/2147483648'", "m/x'", "m/"] {
            assert!(parse_path(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn sees_differences() {
        let path = dev_testkit::paths::vectors_dir().join("transactions/staking_accounts.json");
        let text = String::from_utf8(dev_testkit::read(&path).unwrap()).unwrap();
        let check = |text: &str| check_file(&path, text.as_bytes(), &mut Counts::default());
        assert_eq!(check(&text), Ok(()));
        assert!(check(&text.replace("fb181e94", "fb181e95")).is_err());
        assert!(check(&text.replace("oasis1qqx0", "oasis1qqx1")).is_err());
        assert!(check(&text.replace("\"kind\"", "\"sort\"")).is_err());
        assert!(check(&text.replace("standard account", "other account")).is_err());
    }
}
