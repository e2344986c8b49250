//! A key-value ParaTime: the example of how one is written, and a stand-in for the reference's test runtime.
//!
//! Layer: L5. Reference counterpart: `tests/runtimes/simple-keyvalue`, whose methods, state and results it has, so that
//! whatever drives the one can drive the other.
//!
//! What it does not do: transactions are not signed and cost nothing; it is for tests alone.
//!
//! Main items: [`KeyValue`], the ParaTime; [`main_with_version`], which runs it. Methods are in `methods`, what happens
//! at the beginning of a block in `block`, encrypted values in `encrypted`.
//!
//! Invariants: as the reference's runtime, it leaves what a failed transaction wrote before it failed; equal batches on
//! equal states lead to the roots that the reference's runtime finds.
//!
//! Tested by replaying recorded batches of the reference's runtime (`vectors/rhp`) with byte-equal results.

mod block;
mod encrypted;
mod methods;
#[cfg(test)]
mod tests;
mod types;

use std::{process::ExitCode, sync::Arc};

use base_codec::{Bytes, cbor};
use base_prims::Version;
use rt_guest::{BatchResult, Config, Context, Env, Error, Host, Services, Transactions, TrustRoot, TxResult};
use rt_keymanager::client::{KeyManager, RemoteClient};
use wire_consensus::roothash::{IncomingMessage, Message};
use wire_runtime::{
    Error as WireError, Field,
    runtime::{CheckTxMetadata, CheckTxResult},
    transaction,
};

use methods::Tx;
use types::Call;

/// Most transactions of a batch; a descriptor must not allow fewer.
pub const MAX_BATCH_SIZE: usize = 100;
/// The same of the build with large batches.
pub const LARGE_BATCH_SIZE: usize = 10_000;
/// Transactions that a host offers for a batch, and those that are asked for at once when they are used up. A host gives
/// no more at once.
const FETCH_SIZE: u32 = 100;

/// Module of the ParaTime's own errors.
const MODULE: &str = "test";

fn error(text: impl Into<String>) -> WireError {
    WireError { module: MODULE.to_owned(), code: 1, message: text.into() }
}

/// The ParaTime.
pub struct KeyValue {
    keys: Arc<dyn KeyManager>,
    max_batch: usize,
    /// Where more candidates for a batch come from.
    more: Option<Host>,
}

impl std::fmt::Debug for KeyValue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyValue").finish_non_exhaustive()
    }
}

impl KeyValue {
    /// The ParaTime with a key manager.
    pub fn new(keys: Arc<dyn KeyManager>) -> Self {
        Self { keys, max_batch: MAX_BATCH_SIZE, more: None }
    }

    /// The same with batches of up to so many transactions, for which candidates are asked of the host.
    #[must_use]
    pub fn with_batches_of(self, max_batch: usize, host: Host) -> Self {
        Self { max_batch, more: Some(host), ..self }
    }

    /// What the host offers after these candidates.
    fn more(&self, last: Option<&Bytes>) -> Result<Vec<Bytes>, Error> {
        match (&self.more, last) {
            (Some(host), Some(last)) => host.tx_batch(Some(transaction::hash(last)), FETCH_SIZE),
            _ => Ok(Vec::new()),
        }
    }

    fn decode(tx: &[u8]) -> Result<Call, Error> {
        let call: Option<Call> = cbor::from_slice_exact::<types::RawCall>(tx).ok().and_then(types::RawCall::complete);
        call.ok_or_else(|| error("malformed transaction").into())
    }

    fn execute_one(&self, ctx: &mut Context<'_>, messages: &mut Vec<Message>, raw: &[u8]) -> Result<TxResult, Error> {
        let call = Self::decode(raw)?;
        let mut tx = Tx { ctx, keys: &*self.keys, messages, tags: Vec::new(), check_only: false };
        let outcome = methods::dispatch(&mut tx, &call);
        let tags = if outcome.is_ok() { tx.tags } else { Vec::new() };
        Ok(TxResult { output: cbor::to_vec(&types::Output(outcome)), tags })
    }

    fn check_one(&self, ctx: &mut Context<'_>, raw: &[u8]) -> Result<CheckTxResult, Error> {
        let call = Self::decode(raw)?;
        let mut messages = Vec::new();
        let mut tx = Tx { ctx, keys: &*self.keys, messages: &mut messages, tags: Vec::new(), check_only: true };
        let sender_state_seq = methods::nonce(&tx, &call.sender).map_err(Error::Other)?;
        let meta = CheckTxMetadata {
            sender: Bytes(call.sender.clone()),
            sender_seq: call.nonce,
            sender_state_seq,
            ..CheckTxMetadata::default()
        };
        Ok(match methods::dispatch(&mut tx, &call) {
            Ok(_) => CheckTxResult { meta: Field::Is(meta), ..CheckTxResult::default() },
            Err(text) => CheckTxResult { error: error(text), meta: Field::Null },
        })
    }

    /// What every batch begins with: results of messages, then incoming messages, whose own results nobody asks for.
    fn begin(
        &self,
        ctx: &mut Context<'_>,
        messages: &mut Vec<Message>,
        in_msgs: &[IncomingMessage],
    ) -> Result<(), Error> {
        block::begin(ctx)?;
        for message in in_msgs {
            let data = message.data.as_ref().map_or(&[][..], |data| data.as_slice());
            if let Err(error) = self.execute_one(ctx, messages, data) {
                tracing::debug!(id = message.id, err = %error, "incoming message without effect");
            }
        }
        Ok(())
    }
}

impl Transactions for KeyValue {
    fn check(&self, ctx: &mut Context<'_>, batch: &[Bytes]) -> Result<Vec<CheckTxResult>, Error> {
        batch.iter().map(|raw| self.check_one(ctx, raw)).collect()
    }

    fn execute(
        &self,
        ctx: &mut Context<'_>,
        batch: &[Bytes],
        in_msgs: &[IncomingMessage],
    ) -> Result<BatchResult, Error> {
        let mut messages = Vec::new();
        self.begin(ctx, &mut messages, in_msgs)?;
        let results = batch.iter().map(|raw| self.execute_one(ctx, &mut messages, raw)).collect::<Result<_, _>>()?;
        Ok(BatchResult { results, messages, in_msgs_count: in_msgs.len(), ..BatchResult::default() })
    }

    fn schedule(
        &self,
        ctx: &mut Context<'_>,
        batch: &mut Vec<Bytes>,
        in_msgs: &[IncomingMessage],
    ) -> Result<BatchResult, Error> {
        let (mut messages, mut results, mut rejected) = (Vec::new(), Vec::new(), Vec::new());
        self.begin(ctx, &mut messages, in_msgs)?;
        let mut chosen = Vec::new();
        let mut candidates = std::mem::take(batch);
        while !candidates.is_empty() && chosen.len() < self.max_batch {
            let last = candidates.last().cloned();
            for raw in candidates {
                if chosen.len() >= self.max_batch {
                    break;
                }
                if !self.check_one(ctx, &raw)?.error.is_success() {
                    rejected.push(transaction::hash(&raw));
                    continue;
                }
                results.push(self.execute_one(ctx, &mut messages, &raw)?);
                chosen.push(raw);
            }
            candidates = self.more(last.as_ref())?;
        }
        *batch = chosen;
        Ok(BatchResult { results, messages, in_msgs_count: in_msgs.len(), rejected, ..BatchResult::default() })
    }

    fn query(&self, ctx: &mut Context<'_>, method: &str, args: &[u8]) -> Result<Vec<u8>, Error> {
        ctx.verifier.verify_for_query(ctx.consensus_block, ctx.header, ctx.epoch)?;
        let mut messages = Vec::new();
        let mut tx = Tx { ctx, keys: &*self.keys, messages: &mut messages, tags: Vec::new(), check_only: false };
        match methods::query(&mut tx, method, args) {
            Ok(answer) => Ok(answer.0),
            Err(text) => Err(error(text).into()),
        }
    }
}

fn init(env: &Env, max_batch: usize) -> Result<Services, Error> {
    let keys = Arc::new(RemoteClient::new(env, rt_keymanager::policy::TrustedSigners::test())?);
    let (status, policy) = (Arc::clone(&keys), Arc::clone(&keys));
    let mut transactions = KeyValue::new(keys);
    if max_batch > MAX_BATCH_SIZE {
        transactions = transactions.with_batches_of(max_batch, env.host.clone());
    }
    Ok(Services {
        transactions: Some(Box::new(transactions)),
        on_status: Some(Box::new(move |s| status.set_status(s))),
        on_quote_policy: Some(Box::new(move |p| {
            policy.set_quote_policy(p);
            Ok(())
        })),
        ..Services::default()
    })
}

/// The trust root of builds that have one, from the variables that the reference's test builds take it from.
fn trust_root() -> Option<TrustRoot> {
    Some(TrustRoot {
        height: option_env!("OASIS_TESTS_CONSENSUS_TRUST_HEIGHT")?.parse().ok()?,
        hash: option_env!("OASIS_TESTS_CONSENSUS_TRUST_HASH")?.to_owned(),
        runtime_id: option_env!("OASIS_TESTS_CONSENSUS_TRUST_RUNTIME_ID")?.parse().ok()?,
        chain_context: option_env!("OASIS_TESTS_CONSENSUS_TRUST_CHAIN_CONTEXT")?.to_owned(),
    })
}

/// Runs the ParaTime until its host closes the connection.
pub fn main_with_version(version: Version) -> ExitCode {
    main_with(version, MAX_BATCH_SIZE)
}

/// The same with batches of up to so many transactions.
pub fn main_with(version: Version, max_batch: usize) -> ExitCode {
    rt_guest::log::init(tracing::Level::INFO);
    let config = Config { version, schedule: Some(FETCH_SIZE), trust_root: trust_root(), ..Config::default() };
    let Err(end) = rt_guest::run(config, Box::new(move |env: &Env| init(env, max_batch)));
    tracing::info!(reason = %end, "runtime ends");
    if matches!(end, rt_guest::End::Closed) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
