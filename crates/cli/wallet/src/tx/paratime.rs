//! Transactions of ParaTimes.

use base_codec::{Bytes, Raw, cbor};
use base_prims::Quantity;

use super::{Made, confirm, export};
use crate::args::TxFlags;
use crate::commands::Selection;
use crate::config::Store;
use crate::error::{CliError, Result};
use crate::out::{out, outln};
use crate::paratime::Runtime;
use crate::remote::Remote;
use crate::sdk::call::{self, Opener};
use crate::sdk::{self, AddressSpec, SignerInfo, SigningContext, Transaction, UnverifiedTransaction, event, pretty};
use crate::wallet::{self, Unlocked};
use crate::{address, amount};

/// What one transaction of a ParaTime needs besides its body.
#[derive(Debug)]
pub(crate) struct Session<'a> {
    pub(crate) selection: &'a Selection<'a>,
    pub(crate) flags: &'a TxFlags,
    pub(crate) remote: Option<&'a Remote>,
    pub(crate) signer: &'a Unlocked,
    /// The Ethereum address as the user wrote it.
    pub(crate) original_to: Option<[u8; 20]>,
}

/// Which event tells how an operation of the consensus layer ended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Operation {
    pub(crate) code: u32,
    /// What is waited for.
    pub(crate) waiting: &'static str,
    pub(crate) succeeded: &'static str,
    pub(crate) failed: &'static str,
}

pub(crate) const DEPOSIT: Operation = Operation {
    code: event::DEPOSIT,
    waiting: "Waiting for deposit result...",
    succeeded: "Deposit succeeded.",
    failed: "Deposit failed with error",
};
pub(crate) const WITHDRAW: Operation = Operation {
    code: event::WITHDRAW,
    waiting: "Waiting for withdraw result...",
    succeeded: "Withdraw succeeded.",
    failed: "withdraw failed with error",
};
pub(crate) const DELEGATE: Operation = Operation {
    code: event::DELEGATE,
    waiting: "Waiting for delegation result...",
    succeeded: "Delegation succeeded.",
    failed: "delegation failed with error",
};
pub(crate) const UNDELEGATE: Operation = Operation {
    code: event::UNDELEGATE_START,
    waiting: "Waiting for undelegation result...",
    succeeded: "Undelegation started.",
    failed: "undelegation failed with error",
};

/// What came of a transaction that was sent.
#[derive(Debug)]
pub(crate) struct Executed {
    pub(crate) round: u64,
    /// What the call gave.
    pub(crate) result: Raw,
}

impl Session<'_> {
    fn runtime(&self) -> Result<Option<Runtime<'_>>> {
        let (_, paratime) = self.selection.must_have_paratime()?;
        self.remote.map(|remote| Runtime::new(remote, paratime)).transpose()
    }

    /// Adds the signer, if it is missing, and gives gas and fee.
    pub(crate) fn price(&self, tx: &mut Transaction) -> Result<sdk::Fee> {
        let (_, paratime) = self.selection.must_have_paratime()?;
        let runtime = self.runtime()?;
        let spec = self.signer.public().spec();
        if !tx.has_signer(&spec) {
            let nonce = match (self.flags.nonce, &runtime) {
                (Some(nonce), _) => nonce,
                (None, Some(runtime)) => {
                    let query = sdk::AddressQuery { address: self.signer.address() };
                    runtime
                        .latest("accounts.Nonce", &query)
                        .map_err(|error| CliError::new(format!("failed to query nonce: {error}")))?
                }
                (None, None) => return Err("nonce must be specified in offline mode".into()),
            };
            let address_spec = AddressSpec { signature: Some(spec), multisig: None };
            tx.auth.signers.push(SignerInfo { address_spec, nonce });
        }
        let token = sdk::Denomination(self.flags.fee_denom.clone());
        let price = match (&self.flags.gas_price, &runtime) {
            (Some(text), _) => amount::parse(text, paratime.token(&token).decimals)
                .map_err(|error| CliError::new(format!("bad gas price: {error}")))?,
            (None, Some(runtime)) => {
                let prices: std::collections::BTreeMap<sdk::Denomination, Quantity> = runtime
                    .latest("core.MinGasPrice", &None::<u64>)
                    .map_err(|error| CliError::new(format!("failed to query minimum gas price: {error}")))?;
                prices.get(&token).cloned().unwrap_or_default()
            }
            (None, None) => Quantity::default(),
        };
        let gas = match (self.flags.gas_limit, &runtime) {
            (Some(gas), _) => gas,
            (None, Some(runtime)) => {
                let query = sdk::EstimateGas { tx: tx.clone() };
                let gas: u64 = runtime
                    .latest("core.EstimateGas", &query)
                    .map_err(|error| CliError::new(format!("failed to estimate gas: {error}")))?;
                // A fifth more, as the state may be another when the transaction is executed.
                gas.saturating_add(gas / 5)
            }
            (None, None) => return Err("gas limit must be specified in offline mode".into()),
        };
        let amount = sdk::BaseUnits { amount: price.mul(&Quantity::from(gas)), denomination: token };
        Ok(sdk::Fee { amount, gas, ..tx.auth.fee.clone() })
    }

    fn context(&self) -> Result<SigningContext> {
        signing_context(self.selection, self.original_to)
    }

    /// Fills in what is missing, encrypts if asked to, shows the transaction, asks, and signs.
    pub(crate) fn make(&self, mut tx: Transaction) -> Result<(Made, Option<Opener>)> {
        let fee = self.price(&mut tx)?;
        if tx.auth.fee.gas == 0 {
            tx.auth.fee = fee;
        }
        let mut opener = None;
        if self.flags.encrypted {
            let Some(runtime) = self.runtime()? else {
                return Err("encrypted transactions are not available in offline mode".into());
            };
            let key = runtime
                .latest("core.CallDataPublicKey", &None::<u64>)
                .map_err(|error| CliError::new(format!("failed to get runtime's call data public key: {error}")))?;
            let (encrypted, with) = call::encrypt(&tx.call, &key)?;
            tx.call = encrypted;
            opener = Some(with);
        }
        if self.flags.unsigned {
            return Ok((Made::UnsignedParaTime(tx), opener));
        }
        let body = Bytes::from(cbor::to_vec(&tx));
        Ok((Made::SignedParaTime(self.sign(&tx, body, Vec::new())?), opener))
    }

    /// Shows a transaction, asks, and adds the account's signature to those that are there.
    pub(crate) fn sign(
        &self,
        tx: &Transaction,
        body: Bytes,
        proofs: Vec<sdk::AuthProof>,
    ) -> Result<UnverifiedTransaction> {
        outln!("You are about to sign the following transaction:");
        out!(
            "{}{}",
            pretty::transaction(tx, &pretty_context(self.selection, self.original_to)?),
            destination(self.selection)
        );
        confirm(self.selection, self.flags)?;
        let signature = self.signer.keys.sign_paratime(&self.context()?, &body)?;
        let spec = self.signer.public().spec();
        tx.signed(body, proofs, &spec, &signature)
            .ok_or_else(|| "failed to sign transaction: the account is not among the transaction's signers".into())
    }

    /// Makes, then exports (`None`) or sends, and waits for the operation's end if there is one.
    pub(crate) fn finish(&self, tx: Transaction, operation: Option<Operation>) -> Result<Option<Executed>> {
        let (made, opener) = self.make(tx)?;
        if self.flags.export() {
            export(self.flags, &made)?;
            return Ok(None);
        }
        let (Made::SignedParaTime(signed), Some(runtime)) = (&made, self.runtime()?) else {
            return Err("there is no connection to send the transaction with".into());
        };
        let executed = send(&runtime, signed, opener.as_ref())?;
        if let Some(operation) = operation {
            let tx: Transaction = cbor::from_slice(&signed.body).map_err(|error| CliError::new(error.to_string()))?;
            let nonce = tx.auth.signers.first().map_or(0, |info| info.nonce);
            await_operation(&runtime, operation, self.signer.address(), nonce, executed.round)?;
        }
        Ok(Some(executed))
    }
}

/// For which ParaTime of which chain is signed.
fn signing_context(selection: &Selection<'_>, original_to: Option<[u8; 20]>) -> Result<SigningContext> {
    let runtime = selection.paratime.map(|(_, paratime)| paratime.namespace()).transpose()?.unwrap_or_default();
    Ok(SigningContext { runtime, chain_context: selection.network.chain_context.clone(), original_to })
}

/// What the text of a ParaTime's transactions depends on.
pub(crate) fn pretty_context<'a>(
    selection: &Selection<'a>,
    original_to: Option<[u8; 20]>,
) -> Result<pretty::Context<'a>> {
    Ok(pretty::Context {
        paratime: selection.paratime.map(|(_, paratime)| paratime),
        signing: signing_context(selection, original_to)?,
        names: address::names(selection.config),
        ethereum: address::ethereum_names(selection.config),
    })
}

/// Network and ParaTime, as text.
pub(crate) fn destination(selection: &Selection<'_>) -> String {
    let Some((name, paratime)) = selection.paratime else { return super::destination(selection) };
    let description =
        if paratime.description.is_empty() { String::new() } else { format!(" ({})", paratime.description) };
    format!("\nNetwork:  {}\nParaTime: {name}{description}\n", selection.pretty_network())
}

/// Unlocks the account, then makes and sends (or writes out) one transaction.
pub(crate) fn submit(
    store: &Store,
    selection: &Selection<'_>,
    flags: &TxFlags,
    call: (&str, &impl cbor::Encode),
    original_to: Option<[u8; 20]>,
    operation: Option<Operation>,
) -> Result<Option<Executed>> {
    let name = selection.must_have_account()?;
    selection.must_have_paratime()?;
    let remote = super::connect(selection, flags)?;
    let signer = wallet::unlock(store, name, flags.yes.yes)?;
    let session = Session { selection, flags, remote: remote.as_ref(), signer: &signer, original_to };
    session.finish(Transaction::new(call.0, call.1), operation)
}

/// Sends a transaction, waits until it was executed, and says what came of it.
pub(crate) fn send(runtime: &Runtime<'_>, tx: &UnverifiedTransaction, opener: Option<&Opener>) -> Result<Executed> {
    outln!("Broadcasting transaction...");
    let sent = runtime.submit(tx)?;
    if let Some(error) = sent.check_tx_error {
        let failed = sdk::Failed { module: error.module, code: error.code, message: error.message };
        return Err(CliError::Refused(format!("Transaction check failed with error: {}", hint(&failed))));
    }
    outln!("Transaction included in block successfully.");
    outln!("Round:            {}", sent.round);
    outln!("Transaction hash: {}", tx.hash());
    let output = sent.output.unwrap_or_default();
    let result: sdk::CallResult = cbor::from_slice(&output)
        .map_err(|error| CliError::new(format!("failed to unmarshal call result: {error}")))?;
    if !result.unknown.is_empty() {
        outln!("                  (Transaction result is encrypted.)");
    }
    let result = match opener {
        Some(opener) => opener.open(result)?,
        None => result,
    };
    if let Some(failed) = &result.failed {
        return Err(CliError::Refused(format!("Execution failed with error: {}", hint(failed))));
    }
    if result.ok.is_empty() {
        let unknown = hex::encode_upper(result.unknown.as_slice());
        return Err(CliError::Refused(format!("Execution result unknown: {unknown}")));
    }
    outln!("Execution successful.");
    Ok(Executed { round: sent.round, result: result.ok })
}

/// What often helps.
fn hint(failed: &sdk::Failed) -> String {
    let tip = match (failed.module.as_str(), failed.code) {
        ("accounts", 2) | ("core", 5) => "\nTip: `oasis account show` shows what the account has in the ParaTime.",
        ("staking", 5) => "\nTip: Did you forget to run `oasis account allow`?",
        ("staking", 9) => {
            "\nTip: You can see minimum staking transfer amount by running `oasis network show parameters`"
        }
        _ => "",
    };
    format!("{failed}{tip}")
}

fn await_operation(
    runtime: &Runtime<'_>,
    operation: Operation,
    account: base_prims::Address,
    nonce: u64,
    round: u64,
) -> Result<()> {
    outln!("{}", operation.waiting);
    let ended = runtime.wait_for(round, |found| {
        if found.module != event::MODULE || found.code != operation.code {
            return None;
        }
        let events: Vec<sdk::OperationEvent> = decode_events(&found.value)?;
        let own = |ended: &sdk::OperationEvent| {
            let whose = if operation.code == event::UNDELEGATE_START { ended.to } else { ended.from };
            whose == account && ended.nonce == nonce
        };
        events.into_iter().find(own)
    })?;
    match ended.error {
        None => {
            outln!("{}", operation.succeeded);
            Ok(())
        }
        Some(error) => {
            let failed = sdk::Failed { module: error.module, code: error.code, message: String::new() };
            let (module, code) = (&failed.module, failed.code);
            let tip = hint(&failed);
            let tip = tip.split_once('\n').map(|(_, tip)| format!("\n{tip}")).unwrap_or_default();
            Err(CliError::Refused(format!("{}: module: {module} code: {code}{tip}", operation.failed)))
        }
    }
}

/// One event's value has all events of its kind that the transaction emitted; of an older ParaTime just one.
pub(crate) fn decode_events<T: cbor::Decode>(value: &[u8]) -> Option<Vec<T>> {
    cbor::from_slice_relaxed(value).ok().or_else(|| cbor::from_slice_relaxed(value).ok().map(|one| vec![one]))
}
