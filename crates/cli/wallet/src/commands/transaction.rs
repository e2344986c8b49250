//! `oasis transaction`: transactions in files, made elsewhere.

use std::path::PathBuf;

use base_codec::{cbor, json};
use clap::{Args, Subcommand};
use wire_consensus::pretty;
use wire_consensus::transaction::{SignedTransaction, Transaction};

use super::Selection;
use crate::args::{NetworkFlag, ParaTimeFlags, Signing};
use crate::config::Store;
use crate::error::{CliError, Result};
use crate::out::out;
use crate::remote::Remote;
use crate::tx::{self, Made};
use crate::wallet;

/// No file of a transaction is anywhere near this long.
const MAX_FILE: u64 = 64 << 20;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Pretty print a transaction
    Show(FileArgs),
    /// Sign a transaction
    Sign {
        /// A transaction, JSON or CBOR.
        file: PathBuf,
        #[command(flatten)]
        signing: Signing,
    },
    /// Submit a transaction
    Submit(FileArgs),
}

#[derive(Debug, Args)]
pub(super) struct FileArgs {
    /// A transaction, JSON or CBOR.
    file: PathBuf,
    #[command(flatten)]
    network: NetworkFlag,
    #[command(flatten)]
    paratime: ParaTimeFlags,
}

/// What a file can hold.
enum Found {
    Unsigned(Transaction),
    Signed(SignedTransaction),
}

fn load(path: &PathBuf) -> Result<Found> {
    let length = std::fs::metadata(path).map_err(CliError::file("read", path))?.len();
    if length > MAX_FILE {
        return Err(format!("{}: {length} bytes: a transaction has at most {MAX_FILE}", path.display()).into());
    }
    let bytes = std::fs::read(path).map_err(CliError::file("read", path))?;
    if let Ok(text) = std::str::from_utf8(&bytes) {
        if let Some(signed) = json::from_str(text).ok().filter(|signed: &SignedTransaction| !signed.0.blob().is_empty())
        {
            return Ok(Found::Signed(signed));
        }
        if let Some(tx) = json::from_str(text).ok().filter(|tx: &Transaction| !tx.method.is_empty()) {
            return Ok(Found::Unsigned(tx));
        }
    }
    if let Some(signed) = cbor::from_slice(&bytes).ok().filter(|signed: &SignedTransaction| !signed.0.blob().is_empty())
    {
        return Ok(Found::Signed(signed));
    }
    if let Some(tx) = cbor::from_slice(&bytes).ok().filter(|tx: &Transaction| !tx.method.is_empty()) {
        return Ok(Found::Unsigned(tx));
    }
    Err(format!("{}: neither a signed nor an unsigned consensus transaction, as JSON or CBOR", path.display()).into())
}

pub(super) fn run(store: &Store, command: Command) -> Result<()> {
    match command {
        Command::Show(args) => {
            let selection = Selection::network(store, &args.network)?;
            let mut out = String::new();
            let context = tx::pretty_context(&selection);
            match load(&args.file)? {
                Found::Signed(signed) => pretty::signed_transaction(&signed, &context, &mut out),
                Found::Unsigned(tx) => pretty::transaction(&tx, &context, &mut out),
            }
            out!("{out}{}", tx::destination(&selection));
            Ok(())
        }
        Command::Sign { file, signing } => {
            let selection = Selection::all(store, &signing.network, &signing.paratime, &signing.account)?;
            let name = selection.must_have_account()?;
            let Found::Unsigned(transaction) = load(&file)? else {
                return Err(format!("{}: the transaction is signed already", file.display()).into());
            };
            let signer = wallet::unlock(store, name, signing.tx.yes.yes)?;
            let flags = crate::args::TxFlags { offline: true, ..signing.tx.clone() };
            let signed = tx::sign(&selection, &flags, &signer, &transaction)?;
            tx::finish(&flags, None, &Made::Signed(signed))
        }
        Command::Submit(args) => {
            let selection = Selection::network(store, &args.network)?;
            let Found::Signed(signed) = load(&args.file)? else {
                return Err(format!(
                    "{}: the transaction is not signed; `oasis transaction sign` does that",
                    args.file.display()
                )
                .into());
            };
            let remote = Remote::connect(selection.network_name, selection.network)?;
            tx::send(&remote, &signed)
        }
    }
}
