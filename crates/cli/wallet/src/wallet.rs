//! Keys: made, imported, kept in encrypted files, used to sign.

mod derive;
mod file;

use base_crypto::ed25519::SecretKey;
use base_prims::{Address, PublicKey};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use zeroize::Zeroizing;

use crate::config::{self, Account, Store};
use crate::error::{CliError, Result};

pub(crate) use file::FILE_KIND;

/// Algorithm of keys derived from a mnemonic (ADR 8).
pub(crate) const ED25519_ADR8: &str = "ed25519-adr8";
/// Algorithm of keys given as they are.
pub(crate) const ED25519_RAW: &str = "ed25519-raw";
/// Algorithms that the reference has besides these; their accounts live in ParaTimes only.
const PARATIME_ALGORITHMS: [&str; 4] = ["secp256k1-bip44", "secp256k1-raw", "sr25519-adr8", "sr25519-raw"];
/// Before the name of a test account.
const TEST_PREFIX: &str = "test:";
/// Names of test accounts whose keys can sign for the consensus layer.
pub(crate) const TEST_ACCOUNTS: [&str; 4] = ["alice", "bob", "charlie", "cory"];
/// Before the name of a test account in the text that its key is made from.
const TEST_SEED: &str = "oasis-runtime-sdk/test-keys: ";

/// A key that can sign, and what is known of it.
#[derive(Debug)]
pub(crate) struct Unlocked {
    pub(crate) key: SecretKey,
    /// The words from which it was derived.
    mnemonic: Option<Zeroizing<String>>,
}

impl Unlocked {
    pub(crate) fn public(&self) -> PublicKey {
        self.key.public().into()
    }

    pub(crate) fn address(&self) -> Address {
        Address::of_key(&self.public())
    }

    /// The secret key as text, and the words.
    pub(crate) fn export(&self) -> (Zeroizing<String>, Option<&str>) {
        let key = Zeroizing::new(BASE64_STANDARD.encode(self.key.to_bytes().as_slice()));
        (key, self.mnemonic.as_ref().map(|words| words.as_str()))
    }
}

/// What a file holds: the words or the key, and how the key comes from it.
#[derive(Debug)]
pub(crate) struct Secret {
    pub(crate) algorithm: String,
    pub(crate) data: Zeroizing<String>,
}

impl Secret {
    /// New words.
    fn generate(algorithm: &str) -> Result<Self> {
        check_algorithm(algorithm)?;
        if algorithm != ED25519_ADR8 {
            return Err(format!("algorithm '{algorithm}' has no mnemonic to generate; use {ED25519_ADR8}").into());
        }
        Ok(Self { algorithm: algorithm.to_owned(), data: derive::new_mnemonic()? })
    }

    fn unlock(&self, number: u32) -> Result<Unlocked> {
        check_algorithm(&self.algorithm)?;
        if self.algorithm == ED25519_ADR8 {
            let key = derive::adr8(&self.data, number)?;
            return Ok(Unlocked { key, mnemonic: Some(self.data.clone()) });
        }
        Ok(Unlocked { key: raw_key(&self.data)?, mnemonic: None })
    }
}

fn check_algorithm(algorithm: &str) -> Result<()> {
    if [ED25519_ADR8, ED25519_RAW].contains(&algorithm) {
        return Ok(());
    }
    if PARATIME_ALGORITHMS.contains(&algorithm) {
        return Err(format!(
            "algorithm '{algorithm}' is for accounts of ParaTimes, which this version does not support yet"
        )
        .into());
    }
    Err(format!("unsupported algorithm '{algorithm}': expected {ED25519_ADR8} or {ED25519_RAW}").into())
}

/// A secret key of 64 bytes, or its seed of 32, base64.
fn raw_key(text: &str) -> Result<SecretKey> {
    let bytes = BASE64_STANDARD.decode(text.trim()).map(Zeroizing::new);
    let bytes = bytes.map_err(|error| CliError::new(format!("malformed private key: expected base64: {error}")))?;
    if let Ok(seed) = <&[u8; 32]>::try_from(bytes.as_slice()) {
        return Ok(SecretKey::from_seed(seed));
    }
    let whole = <&[u8; 64]>::try_from(bytes.as_slice())
        .map_err(|_| CliError::new(format!("malformed private key: expected 64 bytes, found {}", bytes.len())))?;
    SecretKey::from_bytes(whole).map_err(|error| CliError::new(format!("malformed private key: {error}")))
}

/// The name of a test account, if it is one.
pub(crate) fn test_name(name: &str) -> Option<&str> {
    name.strip_prefix(TEST_PREFIX)
}

/// The key of a test account.
pub(crate) fn test_account(name: &str) -> Result<Unlocked> {
    if !TEST_ACCOUNTS.contains(&name) {
        return Err(format!("test account {name} does not exist; there are {}", TEST_ACCOUNTS.join(", ")).into());
    }
    let key = base_crypto::blacklist::test_key(&format!("{TEST_SEED}{name}"));
    Ok(Unlocked { key, mnemonic: None })
}

/// Kind of an account as people read it: `file (ed25519-adr8:0)`.
pub(crate) fn pretty_kind(account: &Account) -> String {
    let numbered = account.algorithm.ends_with("-adr8") || account.algorithm.ends_with("-bip44");
    let number = if numbered { format!(":{}", account.number) } else { String::new() };
    format!("{} ({}{number})", account.kind, account.algorithm)
}

/// Asks for the passphrase (unless `yes`, which stands for none) and unlocks an account.
pub(crate) fn unlock(store: &Store, name: &str, yes: bool) -> Result<Unlocked> {
    if let Some(test) = test_name(name) {
        return test_account(test);
    }
    let account = find(store, name)?;
    if account.kind != FILE_KIND {
        return Err(format!("accounts of kind '{}' are not supported yet", account.kind).into());
    }
    let passphrase = if yes {
        Zeroizing::default()
    } else {
        eprintln!("Unlock your account.");
        crate::prompt::passphrase("Passphrase:")?
    };
    let unlocked = file::load(store.dir(), name, &passphrase)?.unlock(account.number)?;
    let found = unlocked.address().to_string();
    if found != account.address {
        return Err(
            format!("address mismatch after loading account (expected: {} got: {found})", account.address).into()
        );
    }
    Ok(unlocked)
}

/// The account of that name.
pub(crate) fn find<'a>(store: &'a Store, name: &str) -> Result<&'a Account> {
    let found = store.config.wallets.all.get(name);
    found.ok_or_else(|| format!("account '{name}' does not exist in the wallet").into())
}

/// Whether a new account may have that name.
pub(crate) fn check_free(store: &Store, name: &str) -> Result<()> {
    config::check_name(name)?;
    if store.config.wallets.all.contains_key(name) {
        return Err(format!("account '{name}' already exists in the wallet").into());
    }
    if store.config.address_book.contains_key(name) {
        return Err(format!("address named '{name}' already exists in the address book").into());
    }
    Ok(())
}

/// Makes an account with a new key.
pub(crate) fn create(store: &mut Store, name: &str, algorithm: &str, number: u32, passphrase: &str) -> Result<()> {
    import(store, name, &Secret::generate(algorithm)?, number, passphrase)
}

/// Makes an account of a key or words that exist.
pub(crate) fn import(store: &mut Store, name: &str, secret: &Secret, number: u32, passphrase: &str) -> Result<()> {
    check_free(store, name)?;
    let unlocked = secret.unlock(number)?;
    file::save(store.dir(), name, secret, passphrase)?;
    let account = Account {
        address: unlocked.address().to_string(),
        algorithm: secret.algorithm.clone(),
        kind: FILE_KIND.to_owned(),
        number,
        ..Account::default()
    };
    let wallets = &mut store.config.wallets;
    wallets.all.insert(name.to_owned(), account);
    if wallets.default.is_empty() {
        name.clone_into(&mut wallets.default);
    }
    store.save()
}

/// Removes an account and its file.
pub(crate) fn remove(store: &mut Store, name: &str) -> Result<()> {
    let account = find(store, name)?;
    if account.kind == FILE_KIND {
        file::remove(store.dir(), name)?;
    }
    let wallets = &mut store.config.wallets;
    wallets.all.remove(name);
    if wallets.default == name {
        wallets.default.clear();
    }
    store.save()
}

/// Gives an account another name.
pub(crate) fn rename(store: &mut Store, old: &str, new: &str) -> Result<()> {
    let account = find(store, old)?.clone();
    check_free(store, new)?;
    if account.kind == FILE_KIND {
        file::rename(store.dir(), old, new)?;
    }
    let wallets = &mut store.config.wallets;
    wallets.all.remove(old);
    wallets.all.insert(new.to_owned(), account);
    if wallets.default == old {
        new.clone_into(&mut wallets.default);
    }
    store.save()
}
