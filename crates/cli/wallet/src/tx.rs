//! Transactions: gas, fee, nonce, preview, signature, export, sending. Here those of the consensus layer; those of
//! ParaTimes in [`paratime`].

pub(crate) mod paratime;

use std::io::Write as _;

use base_codec::{Codec, cbor, json};
use base_crypto::context::ChainContext;
use base_grpc::Cbor;
use base_prims::{PublicKey, Quantity};
use wire_consensus::pretty::{self, PrettyContext};
use wire_consensus::staking::Account;
use wire_consensus::transaction::{Fee, SignedTransaction, Transaction};

use crate::args::{TxFlags, TxFormat};
use crate::commands::Selection;
use crate::config::Store;
use crate::error::{CliError, Result};
use crate::out::{out, outln};
use crate::remote::{OwnerQuery, Remote};
use crate::wallet::{self, Unlocked};
use crate::{address, amount, prompt, sdk};

/// Argument of `Consensus.EstimateGas`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Codec)]
struct EstimateGas {
    signer: PublicKey,
    transaction: Option<Transaction>,
}

/// A transaction that is ready to be written out or sent.
#[derive(Debug)]
pub(crate) enum Made {
    /// Without a signature.
    Unsigned(Transaction),
    /// With one.
    Signed(SignedTransaction),
    /// Of a ParaTime, without a signature.
    UnsignedParaTime(sdk::Transaction),
    /// Of a ParaTime, with signatures.
    SignedParaTime(sdk::UnverifiedTransaction),
}

/// A connection, unless the flags say that there shall be none.
pub(crate) fn connect(selection: &Selection<'_>, flags: &TxFlags) -> Result<Option<Remote>> {
    if flags.offline { Ok(None) } else { Remote::connect(selection.network_name, selection.network).map(Some) }
}

/// Gas limit and the fee for it.
pub(crate) fn price(
    selection: &Selection<'_>,
    flags: &TxFlags,
    remote: Option<&Remote>,
    signer: PublicKey,
    tx: &Transaction,
) -> Result<Fee> {
    let price = match &flags.gas_price {
        None => Quantity::default(),
        Some(text) => amount::parse(text, selection.network.denomination.decimals)
            .map_err(|error| CliError::new(format!("bad gas price: {error}")))?,
    };
    let gas = match (flags.gas_limit, remote) {
        (Some(gas), _) => gas,
        (None, Some(remote)) => {
            let estimated = Transaction { nonce: flags.nonce.unwrap_or(tx.nonce), ..tx.clone() };
            let request = EstimateGas { signer, transaction: Some(estimated) };
            remote
                .call("Consensus", "EstimateGas", &Cbor(request))
                .map_err(|error| CliError::new(format!("failed to estimate gas: {error}")))?
        }
        (None, None) => return Err("nonce and/or gas limit must be specified in offline mode".into()),
    };
    Ok(Fee { amount: price.mul(&Quantity::from(gas)), gas })
}

/// Fills in what is missing, shows the transaction, asks, and signs.
pub(crate) fn make(
    selection: &Selection<'_>,
    flags: &TxFlags,
    remote: Option<&Remote>,
    signer: &Unlocked,
    mut tx: Transaction,
) -> Result<Made> {
    only_for_paratimes(flags)?;
    let key = PublicKey::from(signer.consensus()?.public());
    tx.fee = Some(price(selection, flags, remote, key, &tx)?);
    tx.nonce = match (flags.nonce, remote) {
        (Some(nonce), _) => nonce,
        (None, Some(remote)) => {
            let query = Cbor(OwnerQuery { height: 0, owner: signer.address() });
            let account: Account = remote.call("Staking", "Account", &query)?;
            account.general.nonce
        }
        (None, None) => return Err("nonce and/or gas limit must be specified in offline mode".into()),
    };
    if flags.unsigned {
        return Ok(Made::Unsigned(tx));
    }
    sign(selection, flags, signer, &tx).map(Made::Signed)
}

/// Unlocks the account, makes, signs and sends (or writes out) one transaction.
pub(crate) fn submit(
    store: &Store,
    selection: &Selection<'_>,
    flags: &TxFlags,
    method: &str,
    body: &impl cbor::Encode,
) -> Result<()> {
    let name = selection.must_have_account()?;
    let remote = connect(selection, flags)?;
    let signer = wallet::unlock(store, name, flags.yes.yes)?;
    let made = make(selection, flags, remote.as_ref(), &signer, Transaction::new(0, None, method, body))?;
    finish(flags, remote.as_ref(), &made)
}

/// Shows a transaction, asks, and signs it as it is.
pub(crate) fn sign(
    selection: &Selection<'_>,
    flags: &TxFlags,
    signer: &Unlocked,
    tx: &Transaction,
) -> Result<SignedTransaction> {
    outln!("You are about to sign the following transaction:");
    out!("{}", preview(selection, tx));
    confirm(selection, flags)?;
    let chain = ChainContext::parse(&selection.network.chain_context)
        .map_err(|error| CliError::new(format!("network '{}': {error}", selection.network_name)))?;
    tx.sign(signer.consensus()?, &chain).map_err(|error| CliError::new(error.to_string()))
}

/// Shows whose signature it will be, and asks.
fn confirm(selection: &Selection<'_>, flags: &TxFlags) -> Result<()> {
    let name = selection.account_name.unwrap_or_default();
    let description = selection.account.as_ref().map_or("", |account| account.description.as_str());
    if description.is_empty() {
        outln!("Account:  {name}");
    } else {
        outln!("Account:  {name} ({description})");
    }
    prompt::confirm("Sign this transaction?", flags.yes.yes, "signing aborted")?;
    outln!("(In case you are using a hardware-based signer you may need to confirm on device.)");
    Ok(())
}

/// Refuses flags that the consensus layer does not have.
fn only_for_paratimes(flags: &TxFlags) -> Result<()> {
    if flags.encrypted {
        return Err("--encrypted not supported for consensus transactions".into());
    }
    if !flags.fee_denom.is_empty() {
        return Err("consensus layer only supports the native denomination for paying fees".into());
    }
    Ok(())
}

/// What the text of transactions depends on.
pub(crate) fn pretty_context(selection: &Selection<'_>) -> PrettyContext {
    let denomination = &selection.network.denomination;
    PrettyContext {
        chain: ChainContext::parse(&selection.network.chain_context).ok(),
        token_symbol: Some(denomination.symbol.clone()),
        token_value_exponent: Some(denomination.decimals),
        account_names: address::names(selection.config),
        genesis_hash: None,
    }
}

/// The transaction and where it goes, as text.
pub(crate) fn preview(selection: &Selection<'_>, tx: &Transaction) -> String {
    let mut out = String::new();
    pretty::transaction(tx, &pretty_context(selection), &mut out);
    out.push_str(&destination(selection));
    out
}

/// Network and ParaTime, as text.
pub(crate) fn destination(selection: &Selection<'_>) -> String {
    format!("\nNetwork:  {}\nParaTime: none (consensus layer)\n", selection.pretty_network())
}

/// Writes the transaction out, if the flags say so, else sends it.
pub(crate) fn finish(flags: &TxFlags, remote: Option<&Remote>, made: &Made) -> Result<()> {
    if flags.export() {
        return export(flags, made);
    }
    match (made, remote) {
        (Made::Signed(signed), Some(remote)) => send(remote, signed),
        _ => Err("there is no connection to send the transaction with".into()),
    }
}

/// Sends a transaction and waits until it is in a block.
pub(crate) fn send(remote: &Remote, signed: &SignedTransaction) -> Result<()> {
    outln!("Broadcasting transaction...");
    remote.submit("Consensus", "SubmitTx", &Cbor(signed.clone())).map_err(|error| hint(&error))?;
    outln!("Transaction executed successfully.");
    outln!("Transaction hash: {}", signed.hash());
    Ok(())
}

/// What often helps.
fn hint(error: &CliError) -> CliError {
    let text = error.to_string();
    let tip = if text.contains("balance") { "\nTip: `oasis account show` shows what the account has." } else { "" };
    CliError::Refused(format!("{text}{tip}"))
}

fn export(flags: &TxFlags, made: &Made) -> Result<()> {
    let bytes = match (flags.format, made) {
        (TxFormat::Json, Made::Unsigned(tx)) => json::to_string_pretty(tx).into_bytes(),
        (TxFormat::Json, Made::Signed(tx)) => json::to_string_pretty(tx).into_bytes(),
        (TxFormat::Json, Made::UnsignedParaTime(tx)) => json::to_string_pretty(tx).into_bytes(),
        (TxFormat::Json, Made::SignedParaTime(tx)) => json::to_string_pretty(tx).into_bytes(),
        (TxFormat::Cbor, Made::Unsigned(tx)) => cbor::to_vec(tx),
        (TxFormat::Cbor, Made::Signed(tx)) => cbor::to_vec(tx),
        (TxFormat::Cbor, Made::UnsignedParaTime(tx)) => cbor::to_vec(tx),
        (TxFormat::Cbor, Made::SignedParaTime(tx)) => cbor::to_vec(tx),
    };
    match &flags.output_file {
        None => std::io::stdout().write_all(&bytes).map_err(CliError::file("write", "standard output")),
        Some(path) => std::fs::write(path, &bytes).map_err(CliError::file("write", path)),
    }
}
