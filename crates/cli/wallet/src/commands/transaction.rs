//! `oasis transaction`: transactions in files, made elsewhere.

use std::path::PathBuf;

use base_codec::json::FromJson;
use base_codec::{Bytes, cbor, json};
use clap::{Args, Subcommand};
use wire_consensus::pretty;
use wire_consensus::transaction::{SignedTransaction, Transaction};

use super::Selection;
use crate::args::{AccountFlag, NetworkFlag, ParaTimeFlags, Signing, TxFlags};
use crate::config::Store;
use crate::error::{CliError, Result};
use crate::out::out;
use crate::paratime::Runtime;
use crate::remote::Remote;
use crate::sdk::{self, pretty as sdk_pretty};
use crate::tx::paratime::{self, Session};
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
        /// A transaction, JSON or CBOR; of a group's members each adds a signature to what the one before wrote.
        file: PathBuf,
        #[command(flatten)]
        signing: Signing,
    },
    /// Submit a transaction
    Submit {
        #[command(flatten)]
        args: FileArgs,
        #[command(flatten)]
        account: AccountFlag,
    },
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
    UnsignedParaTime(sdk::Transaction),
    SignedParaTime(sdk::UnverifiedTransaction),
}

fn read<T: FromJson + cbor::Decode>(bytes: &[u8], holds: impl Fn(&T) -> bool) -> Option<T> {
    let text = std::str::from_utf8(bytes).ok().and_then(|text| json::from_str(text).ok());
    text.filter(&holds).or_else(|| cbor::from_slice(bytes).ok().filter(holds))
}

fn load(path: &PathBuf) -> Result<Found> {
    let length = std::fs::metadata(path).map_err(CliError::file("read", path))?.len();
    if length > MAX_FILE {
        return Err(format!("{}: {length} bytes: a transaction has at most {MAX_FILE}", path.display()).into());
    }
    let bytes = std::fs::read(path).map_err(CliError::file("read", path))?;
    let signed = read(&bytes, |tx: &SignedTransaction| !tx.0.blob().is_empty()).map(Found::Signed);
    let found = signed
        .or_else(|| read(&bytes, |tx: &Transaction| !tx.method.is_empty()).map(Found::Unsigned))
        .or_else(|| {
            let holds = |tx: &sdk::UnverifiedTransaction| !tx.body.is_empty() && !tx.auth_proofs.is_empty();
            read(&bytes, holds).map(Found::SignedParaTime)
        })
        .or_else(|| read(&bytes, sdk::Transaction::is_plausible).map(Found::UnsignedParaTime));
    found.ok_or_else(|| {
        format!("{}: malformed transaction: expected a transaction as JSON or CBOR, signed or not", path.display())
            .into()
    })
}

pub(super) fn run(store: &Store, command: Command) -> Result<()> {
    match command {
        Command::Show(args) => show(store, &args),
        Command::Sign { file, signing } => sign(store, &file, &signing),
        Command::Submit { args, account } => submit(store, &args, &account),
    }
}

fn show(store: &Store, args: &FileArgs) -> Result<()> {
    let selection = Selection::paratime(store, &args.network, &args.paratime)?;
    let mut out = String::new();
    let context = tx::pretty_context(&selection);
    let of_paratime = || paratime::pretty_context(&selection, None);
    match load(&args.file)? {
        Found::Signed(signed) => pretty::signed_transaction(&signed, &context, &mut out),
        Found::Unsigned(tx) => pretty::transaction(&tx, &context, &mut out),
        Found::SignedParaTime(signed) => {
            out!("{}{}", sdk_pretty::signed(&signed, &of_paratime()?), paratime::destination(&selection));
            return Ok(());
        }
        Found::UnsignedParaTime(tx) => {
            out!("{}{}", sdk_pretty::transaction(&tx, &of_paratime()?), paratime::destination(&selection));
            return Ok(());
        }
    }
    out!("{out}{}", tx::destination(&selection));
    Ok(())
}

/// The body of a ParaTime's signed transaction.
fn inner(signed: &sdk::UnverifiedTransaction) -> Result<sdk::Transaction> {
    cbor::from_slice(&signed.body).map_err(|error| CliError::new(format!("malformed transaction body: {error}")))
}

fn sign(store: &Store, file: &PathBuf, signing: &Signing) -> Result<()> {
    let selection = Selection::all(store, &signing.network, &signing.paratime, &signing.account)?;
    let name = selection.must_have_account()?;
    let found = load(file)?;
    if matches!(found, Found::Signed(_)) {
        return Err(format!("{}: the transaction is signed already", file.display()).into());
    }
    let signer = wallet::unlock(store, name, signing.tx.yes.yes)?;
    // Nothing is missing in a file, so nobody is asked.
    let flags = TxFlags { offline: true, ..signing.tx.clone() };
    let session = Session { selection: &selection, flags: &flags, remote: None, signer: &signer, original_to: None };
    let made = match found {
        Found::Unsigned(transaction) => Made::Signed(tx::sign(&selection, &flags, &signer, &transaction)?),
        Found::UnsignedParaTime(transaction) => {
            selection.must_have_paratime()?;
            let body = Bytes::from(cbor::to_vec(&transaction));
            Made::SignedParaTime(session.sign(&transaction, body, Vec::new())?)
        }
        Found::SignedParaTime(signed) => {
            selection.must_have_paratime()?;
            let transaction = inner(&signed)?;
            Made::SignedParaTime(session.sign(&transaction, signed.body, signed.auth_proofs)?)
        }
        Found::Signed(signed) => Made::Signed(signed),
    };
    tx::finish(&flags, None, &made)
}

fn submit(store: &Store, args: &FileArgs, account: &AccountFlag) -> Result<()> {
    let selection = Selection::all(store, &args.network, &args.paratime, account)?;
    let found = load(&args.file)?;
    if matches!(found, Found::Unsigned(_) | Found::UnsignedParaTime(_)) {
        let file = args.file.display();
        return Err(format!("{file}: the transaction is not signed; `oasis transaction sign` does that").into());
    }
    let connect = || Remote::connect(selection.network_name, selection.network);
    match found {
        Found::Signed(signed) => tx::send(&connect()?, &signed),
        Found::SignedParaTime(signed) => {
            let (_, of) = selection.must_have_paratime()?;
            let remote = connect()?;
            paratime::send(&Runtime::new(&remote, of)?, &signed, None).map(|_| ())
        }
        Found::Unsigned(_) | Found::UnsignedParaTime(_) => Ok(()),
    }
}
