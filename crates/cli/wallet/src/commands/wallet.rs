//! `oasis wallet`: accounts with keys.

use std::path::PathBuf;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use clap::Subcommand;
use zeroize::Zeroizing;

use crate::args::Yes;
use crate::config::Store;
use crate::error::{CliError, Result};
use crate::out::{out, outln};
use crate::wallet::keys::ethereum_text;
use crate::wallet::{
    self, ED25519_ADR8, ED25519_LEGACY, ED25519_RAW, FILE_KIND, LEDGER_KIND, MNEMONIC_ALGORITHMS, SECP256K1_RAW,
    Secret, Unlocked, pretty_kind,
};
use crate::{prompt, table};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Create a new account
    Create {
        /// Its name; a free one if none is given.
        name: Option<String>,
        /// Account kind.
        #[arg(long, default_value = FILE_KIND)]
        kind: String,
        /// Cryptographic algorithm to use for this account.
        #[arg(long = "file.algorithm", default_value = ED25519_ADR8)]
        algorithm: String,
        /// Key number to use in the key derivation scheme.
        #[arg(long = "file.number", default_value_t = 0)]
        number: u32,
        /// Cryptographic algorithm to use for this account on a Ledger device.
        #[arg(long = "ledger.algorithm", default_value = ED25519_LEGACY)]
        ledger_algorithm: String,
        /// Key number to use in the derivation scheme of a Ledger device.
        #[arg(long = "ledger.number", default_value_t = 0)]
        ledger_number: u32,
        #[command(flatten)]
        yes: Yes,
    },
    /// Import an existing account
    Import {
        /// Its name.
        name: String,
        /// Cryptographic algorithm to use for this account.
        #[arg(long, default_value = ED25519_RAW)]
        algorithm: String,
        /// Key number to use in the key derivation scheme.
        #[arg(long, default_value_t = 0)]
        number: u32,
        /// A secret key or mnemonic to use for this account.
        #[arg(long, default_value = "")]
        secret: String,
        #[command(flatten)]
        yes: Yes,
    },
    /// Import an existing account from file
    ImportFile {
        /// Its name.
        name: String,
        /// A key file, such as entity.pem.
        file: PathBuf,
        #[command(flatten)]
        yes: Yes,
    },
    /// List configured accounts
    #[command(visible_alias = "ls")]
    List,
    /// Show public account information
    #[command(visible_alias = "s")]
    Show {
        /// Its name.
        name: String,
        #[command(flatten)]
        yes: Yes,
    },
    /// Export secret account information
    Export {
        /// Its name.
        name: String,
        #[command(flatten)]
        yes: Yes,
    },
    /// Remove existing account(s)
    #[command(visible_alias = "rm")]
    Remove {
        /// Their names.
        #[arg(required = true)]
        names: Vec<String>,
        #[command(flatten)]
        yes: Yes,
    },
    /// Rename an existing account
    #[command(visible_alias = "mv")]
    Rename {
        /// Its name.
        old: String,
        /// Its new name.
        new: String,
    },
    /// Sets the given account as the default account
    SetDefault {
        /// Its name.
        name: String,
    },
}

pub(super) fn run(store: &mut Store, command: Command) -> Result<()> {
    match command {
        Command::Create { name, kind, algorithm, number, ledger_algorithm, ledger_number, yes } => {
            let name = name.map_or_else(|| free_name(store), Ok)?;
            wallet::check_free(store, &name)?;
            match kind.as_str() {
                FILE_KIND => {
                    let passphrase = prompt::new_passphrase(yes.yes)?;
                    wallet::create(store, &name, &algorithm, number, &passphrase)
                }
                LEDGER_KIND => wallet::create_ledger(store, &name, &ledger_algorithm, ledger_number),
                other => {
                    Err(format!("unknown kind of account '{other}': expected {FILE_KIND} or {LEDGER_KIND}").into())
                }
            }
        }
        Command::Import { name, algorithm, number, secret, yes } => {
            wallet::check_free(store, &name)?;
            let data = if secret.is_empty() && !yes.yes { ask_secret(&algorithm)? } else { Zeroizing::new(secret) };
            let passphrase = prompt::new_passphrase(yes.yes)?;
            wallet::import(store, &name, &Secret { algorithm, data }, number, &passphrase)
        }
        Command::ImportFile { name, file, yes } => {
            wallet::check_free(store, &name)?;
            let key = base_identity::load_key_file(&file).map_err(|error| CliError::new(error.to_string()))?;
            let data = Zeroizing::new(BASE64_STANDARD.encode(key.to_bytes().as_slice()));
            let passphrase = prompt::new_passphrase(yes.yes)?;
            wallet::import(store, &name, &Secret { algorithm: ED25519_RAW.to_owned(), data }, 0, &passphrase)
        }
        Command::List => {
            out!("{}", list(store));
            Ok(())
        }
        Command::Show { name, yes } => {
            let unlocked = wallet::unlock(store, &name, yes.yes)?;
            show(store, &name, &unlocked);
            Ok(())
        }
        Command::Export { name, yes } => export(store, &name, yes.yes),
        Command::Remove { names, yes } => remove(store, names, yes.yes),
        Command::Rename { old, new } => wallet::rename(store, &old, &new),
        Command::SetDefault { name } => {
            wallet::find(store, &name)?;
            store.config.wallets.default = name;
            store.save()
        }
    }
}

fn free_name(store: &Store) -> Result<String> {
    let free = (1_u64..).map(|number| format!("account_{number}")).find(|name| wallet::check_free(store, name).is_ok());
    free.ok_or_else(|| "no free account name".into())
}

fn ask_secret(algorithm: &str) -> Result<Zeroizing<String>> {
    let question = match algorithm {
        words if MNEMONIC_ALGORITHMS.contains(&words) => "Mnemonic:",
        SECP256K1_RAW => "Private key (hex-encoded):",
        _ => "Private key (base64-encoded):",
    };
    prompt::passphrase(question)
}

fn list(store: &Store) -> String {
    let wallets = &store.config.wallets;
    let row = |(name, account): (&String, &crate::config::Account)| {
        let marker = if wallets.default == *name { " (*)" } else { "" };
        let address = if account.eth_address.is_empty() { &account.address } else { &account.eth_address };
        vec![format!("{name}{marker}"), pretty_kind(account), address.clone()]
    };
    let rows: Vec<_> = wallets.all.iter().map(row).collect();
    table::render(&["Account", "Kind", "Address"], &rows)
}

fn show(store: &Store, name: &str, unlocked: &Unlocked) {
    let test = wallet::test_name(name).and_then(|name| wallet::test_config(name).ok());
    let kind = store.config.wallets.all.get(name).or(test.as_ref()).map_or_else(|| "<unknown>".to_owned(), pretty_kind);
    let public = unlocked.public();
    outln!("Name:             {name}");
    outln!("Kind:             {kind}");
    outln!("Public Key:       {public}");
    if let Some(address) = public.ethereum() {
        outln!("Ethereum address: {}", ethereum_text(&address));
    }
    outln!("Native address:   {}", public.address());
}

fn export(store: &Store, name: &str, yes: bool) -> Result<()> {
    eprintln!("WARNING: Exporting the account will expose secret key material!");
    let unlocked = wallet::unlock(store, name, yes)?;
    show(store, name, &unlocked);
    let (key, mnemonic) = unlocked.export();
    if let Some(words) = mnemonic {
        let number = store.config.wallets.all.get(name).map_or(0, |account| account.number);
        outln!("Secret mnemonic:\n{words}");
        outln!("Derived secret key for account number {number}:");
    } else if key.is_some() {
        outln!("Secret key:");
    }
    if let Some(key) = key {
        outln!("{}", key.as_str());
    }
    Ok(())
}

fn remove(store: &mut Store, mut names: Vec<String>, yes: bool) -> Result<()> {
    let mut seen = std::collections::BTreeSet::new();
    names.retain(|name| seen.insert(name.clone()));
    for name in &names {
        wallet::find(store, name)?;
    }
    if !yes {
        eprintln!("WARNING: Removing the account will ERASE secret key material!");
        eprintln!("WARNING: THIS ACTION IS IRREVERSIBLE!");
        let text = format!("I really want to remove accounts: {}", names.join(", "));
        if prompt::ask(&format!("Enter '{text}' (without quotes) to confirm removal:"))? != text {
            return Err("Aborted.".into());
        }
    }
    names.iter().try_for_each(|name| wallet::remove(store, name))
}
