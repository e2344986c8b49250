//! Keys: made, imported, kept in encrypted files or on devices, used to sign.

mod derive;
mod file;
pub(crate) mod keys;
pub(crate) mod ledger;

use base_crypto::ed25519::SecretKey;
use base_prims::{Address, Hash};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use zeroize::Zeroizing;

use crate::config::{self, Account, Store};
use crate::error::{CliError, Result};
use keys::{Keys, Public, ethereum_text};

pub(crate) use file::FILE_KIND;
pub(crate) use ledger::LEDGER_KIND;

/// Algorithm of keys derived from a mnemonic (ADR 8).
pub(crate) const ED25519_ADR8: &str = "ed25519-adr8";
/// Algorithm of keys given as they are.
pub(crate) const ED25519_RAW: &str = "ed25519-raw";
/// Algorithm of the first Ledger application.
pub(crate) const ED25519_LEGACY: &str = "ed25519-legacy";
/// Ethereum's keys derived from a mnemonic (BIP 44); for ParaTimes only, as those below.
pub(crate) const SECP256K1_BIP44: &str = "secp256k1-bip44";
/// Ethereum's keys given as they are.
pub(crate) const SECP256K1_RAW: &str = "secp256k1-raw";
/// Schnorrkel keys derived from a mnemonic (ADR 8).
pub(crate) const SR25519_ADR8: &str = "sr25519-adr8";
/// Schnorrkel keys given as they are.
pub(crate) const SR25519_RAW: &str = "sr25519-raw";
/// Algorithms whose keys come from a mnemonic.
pub(crate) const MNEMONIC_ALGORITHMS: [&str; 3] = [ED25519_ADR8, SECP256K1_BIP44, SR25519_ADR8];
/// Algorithms whose keys are given as they are.
pub(crate) const RAW_ALGORITHMS: [&str; 3] = [ED25519_RAW, SECP256K1_RAW, SR25519_RAW];
/// Before the name of a test account.
const TEST_PREFIX: &str = "test:";
/// Kind of test accounts.
const TEST_KIND: &str = "test";
/// Test accounts: name, algorithm, and the text that the key is made from.
const TEST_ACCOUNTS: [(&str, &str, &str); 8] = [
    ("alice", ED25519_RAW, "oasis-runtime-sdk/test-keys: alice"),
    ("bob", ED25519_RAW, "oasis-runtime-sdk/test-keys: bob"),
    ("charlie", ED25519_RAW, "oasis-runtime-sdk/test-keys: charlie"),
    ("cory", ED25519_RAW, "ekiden test entity key seed"),
    ("dave", SECP256K1_RAW, "oasis-runtime-sdk/test-keys: dave"),
    ("erin", SECP256K1_RAW, "oasis-runtime-sdk/test-keys: erin"),
    ("frank", SR25519_RAW, "oasis-runtime-sdk/test-keys: frank"),
    ("grace", SR25519_RAW, "oasis-runtime-sdk/test-keys: grace"),
];

/// A key that can sign, and what is known of it.
#[derive(Debug)]
pub(crate) struct Unlocked {
    pub(crate) keys: Keys,
    /// The words from which it was derived.
    mnemonic: Option<Zeroizing<String>>,
}

impl Unlocked {
    pub(crate) fn public(&self) -> Public {
        self.keys.public()
    }

    pub(crate) fn address(&self) -> Address {
        self.public().address()
    }

    /// The key, if it can sign for the consensus layer.
    pub(crate) fn consensus(&self) -> Result<&SecretKey> {
        self.keys.consensus().ok_or_else(|| {
            "account does not support signing consensus transactions; use an account with an ed25519 key".into()
        })
    }

    /// The secret key as text, and the words; neither of a key on a device.
    pub(crate) fn export(&self) -> (Option<Zeroizing<String>>, Option<&str>) {
        (self.keys.secret_text(), self.mnemonic.as_ref().map(|words| words.as_str()))
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
        if !MNEMONIC_ALGORITHMS.contains(&algorithm) {
            let known = MNEMONIC_ALGORITHMS.join(", ");
            return Err(format!("no key can be made for algorithm '{algorithm}': expected one of {known}").into());
        }
        Ok(Self { algorithm: algorithm.to_owned(), data: derive::new_mnemonic()? })
    }

    fn unlock(&self, number: u32) -> Result<Unlocked> {
        let keys = match self.algorithm.as_str() {
            ED25519_ADR8 => Keys::Ed25519(derive::ed25519(&self.data, number)?),
            ED25519_RAW => Keys::Ed25519(raw_key(&self.data)?),
            SECP256K1_BIP44 => Keys::Secp256k1(derive::secp256k1(&self.data, number)?),
            SECP256K1_RAW => Keys::Secp256k1(keys::secp256k1_key(&self.data)?),
            SR25519_ADR8 => Keys::Sr25519(Box::new(derive::sr25519(&self.data, number)?)),
            SR25519_RAW => Keys::Sr25519(Box::new(keys::sr25519_key(&self.data)?)),
            other => {
                let known = [MNEMONIC_ALGORITHMS, RAW_ALGORITHMS].concat().join(", ");
                return Err(format!("unsupported algorithm '{other}': expected one of {known}").into());
            }
        };
        let derived = MNEMONIC_ALGORITHMS.contains(&self.algorithm.as_str());
        Ok(Unlocked { keys, mnemonic: derived.then(|| self.data.clone()) })
    }
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

/// Names of the test accounts.
pub(crate) fn test_names() -> impl Iterator<Item = &'static str> {
    TEST_ACCOUNTS.iter().map(|(name, ..)| *name)
}

/// The key of a test account.
pub(crate) fn test_account(name: &str) -> Result<Unlocked> {
    let found = TEST_ACCOUNTS.iter().find(|(known, ..)| *known == name);
    let Some((_, algorithm, seed)) = found else {
        let known: Vec<_> = test_names().collect();
        return Err(format!("test account {name} does not exist; there are {}", known.join(", ")).into());
    };
    let secret = Hash::of(&[seed.as_bytes()]);
    let malformed = |error: &dyn std::fmt::Display| CliError::new(format!("test account {name}: {error}"));
    let keys = match *algorithm {
        SECP256K1_RAW => Keys::Secp256k1(keys::secp256k1_key(&hex::encode(secret.as_bytes()))?),
        SR25519_RAW => {
            let secret = schnorrkel::MiniSecretKey::from_bytes(secret.as_bytes()).map_err(|error| malformed(&error))?;
            Keys::Sr25519(Box::new(secret.expand(schnorrkel::ExpansionMode::Ed25519).to_keypair()))
        }
        _ => Keys::Ed25519(SecretKey::from_seed(secret.as_bytes())),
    };
    Ok(Unlocked { keys, mnemonic: None })
}

/// The configuration that a test account would have.
pub(crate) fn test_config(name: &str) -> Result<Account> {
    let unlocked = test_account(name)?;
    let algorithm = TEST_ACCOUNTS.iter().find(|(known, ..)| *known == name).map_or("", |(_, algorithm, _)| *algorithm);
    Ok(Account {
        address: unlocked.address().to_string(),
        algorithm: algorithm.to_owned(),
        eth_address: unlocked.public().ethereum().map(|address| ethereum_text(&address)).unwrap_or_default(),
        kind: TEST_KIND.to_owned(),
        ..Account::default()
    })
}

/// Kind of an account as people read it: `file (ed25519-adr8:0)`.
pub(crate) fn pretty_kind(account: &Account) -> String {
    let numbered = account.kind == LEDGER_KIND || MNEMONIC_ALGORITHMS.contains(&account.algorithm.as_str());
    let number = if numbered { format!(":{}", account.number) } else { String::new() };
    if account.kind == TEST_KIND {
        return format!("{} ({})", account.kind, account.algorithm);
    }
    format!("{} ({}{number})", account.kind, account.algorithm)
}

/// Whether the keys of that algorithm can sign for the consensus layer.
pub(crate) fn is_for_consensus(algorithm: &str) -> bool {
    [ED25519_ADR8, ED25519_RAW, ED25519_LEGACY].contains(&algorithm)
}

/// Asks for the passphrase (unless `yes`, which stands for none) and unlocks an account.
pub(crate) fn unlock(store: &Store, name: &str, yes: bool) -> Result<Unlocked> {
    if let Some(test) = test_name(name) {
        return test_account(test);
    }
    let account = find(store, name)?;
    let unlocked = match account.kind.as_str() {
        FILE_KIND => {
            let passphrase = if yes {
                Zeroizing::default()
            } else {
                eprintln!("Unlock your account.");
                crate::prompt::passphrase("Passphrase:")?
            };
            file::load(store.dir(), name, &passphrase)?.unlock(account.number)?
        }
        LEDGER_KIND => Unlocked { keys: ledger::unlock(&account.algorithm, account.number)?, mnemonic: None },
        other => {
            let known = [FILE_KIND, LEDGER_KIND].join(" or ");
            return Err(format!("account '{name}' is of kind '{other}': expected {known}").into());
        }
    };
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
    add(store, name, &unlocked, FILE_KIND, &secret.algorithm, number)
}

/// Makes an account of a key on the connected device.
pub(crate) fn create_ledger(store: &mut Store, name: &str, algorithm: &str, number: u32) -> Result<()> {
    check_free(store, name)?;
    let unlocked = Unlocked { keys: ledger::unlock(algorithm, number)?, mnemonic: None };
    add(store, name, &unlocked, LEDGER_KIND, algorithm, number)
}

fn add(store: &mut Store, name: &str, unlocked: &Unlocked, kind: &str, algorithm: &str, number: u32) -> Result<()> {
    let account = Account {
        address: unlocked.address().to_string(),
        algorithm: algorithm.to_owned(),
        eth_address: unlocked.public().ethereum().map(|address| ethereum_text(&address)).unwrap_or_default(),
        kind: kind.to_owned(),
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
