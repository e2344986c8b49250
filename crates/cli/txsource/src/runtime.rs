//! Transactions of a key-value runtime (`simple-keyvalue`), and what it does in the consensus layer.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use base_codec::{Bytes, Codec, Raw, cbor};
use base_crypto::blacklist::test_key;
use base_grpc::Cbor;
use base_prims::{Address, Namespace, Quantity};
use futures_util::StreamExt as _;
use wire_consensus::roothash::{Event as RoothashEvent, METHOD_SUBMIT_MSG, SubmitMsg};
use wire_consensus::staking::{Allow, Escrow, METHOD_ALLOW, ReclaimEscrow, Transfer, Withdraw};
use wire_runtime::client::{RoundRequest, SubmitTxMetaResponse, TxRequest};
use wire_runtime::transaction::Tag;

use crate::Job;
use crate::base::address;
use crate::node::{LATEST, MODULE, Node, WorkloadError, violated};

const SERVICE: &str = "RuntimeClient";
/// Epoch from which on the runtime works.
const FIRST_EPOCH: u64 = 3;
/// How long a request may take.
const REQUEST_TIME: Duration = Duration::from_secs(240);
const PAUSE: Duration = Duration::from_secs(1);
/// How often, of a hundred, a request is about a key that exists.
const INSERT_EXISTING: u64 = 30;
const GET_EXISTING: u64 = 90;
const REMOVE_EXISTING: u64 = 50;
/// What the runtime may take of the test account.
const ALLOWANCE: u64 = 100_000;
/// What it moves each time.
const AMOUNT: u64 = 1;
/// Marks incoming messages.
const TAG: u64 = 42;
/// Longest random value, in bytes before it is written in hexadecimal.
const MAX_VALUE: u64 = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Request {
    Insert,
    Get,
    Remove,
    Withdraw,
    Transfer,
    AddEscrow,
    ReclaimEscrow,
    InMessage,
}

/// Each as often as it is chosen.
const REQUESTS: [(Request, u64); 8] = [
    (Request::Insert, 3),
    (Request::Get, 2),
    (Request::Remove, 3),
    (Request::Withdraw, 2),
    (Request::Transfer, 1),
    (Request::AddEscrow, 1),
    (Request::ReclaimEscrow, 1),
    (Request::InMessage, 1),
];

fn chosen(mut number: u64) -> Request {
    for (request, weight) in REQUESTS {
        match number.checked_sub(weight) {
            None => return request,
            Some(left) => number = left,
        }
    }
    Request::Insert
}

#[derive(Clone, Default, Codec)]
#[codec(cbor_only)]
struct Call {
    sender: Bytes,
    nonce: u64,
    method: String,
    args: Raw,
}

#[derive(Default, Codec)]
#[codec(cbor_only)]
struct Pair {
    key: String,
    value: String,
}

#[derive(Default, Codec)]
#[codec(cbor_only)]
struct Key {
    key: String,
}

#[derive(Default, Codec)]
#[codec(cbor_only)]
struct Withdrawal {
    withdraw: Withdraw,
}

#[derive(Default, Codec)]
#[codec(cbor_only)]
struct Payment {
    transfer: Transfer,
}

#[derive(Default, Codec)]
#[codec(cbor_only)]
struct Deposit {
    escrow: Escrow,
}

#[derive(Default, Codec)]
#[codec(cbor_only)]
struct Reclaim {
    reclaim_escrow: ReclaimEscrow,
}

/// What a call gave.
#[derive(Default, Codec)]
#[codec(cbor_only)]
struct Output {
    #[codec(rename = "Success", omitempty)]
    success: Raw,
    #[codec(rename = "Error", omitempty)]
    error: Option<String>,
}

struct KeyValue {
    job: Job,
    runtime: Namespace,
    /// What the runtime holds, of what this workload wrote.
    values: BTreeMap<String, String>,
    /// The account that the runtime takes from and gives to.
    account: Address,
    initial_balance: Quantity,
    withdrawn: Quantity,
    transferred: Quantity,
    escrowed: Quantity,
    reclaimed: Quantity,
}

/// A name that no other run has.
fn unique(what: &str) -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    format!("{what}: {}", now.as_nanos())
}

pub(crate) async fn run(job: Job) -> Result<(), WorkloadError> {
    let runtime = job.runtime()?;
    let key = test_key(&unique("runtime messages"));
    let account = address(&key);
    job.base.give(account, ALLOWANCE).await?;
    let beneficiary = Address::of_runtime(&runtime);
    let body = Allow { beneficiary, negative: false, amount_change: ALLOWANCE.into() };
    job.base.funded(&key, METHOD_ALLOW, &body).await?;
    let initial_balance = job.node().balance(account).await?;
    tracing::info!(module = MODULE, epoch = FIRST_EPOCH, "waiting for epoch");
    job.node().wait_epoch(FIRST_EPOCH).await?;
    let zero = Quantity::default;
    let mut all = KeyValue {
        job,
        runtime,
        values: BTreeMap::new(),
        account,
        initial_balance,
        withdrawn: zero(),
        transferred: zero(),
        escrowed: zero(),
        reclaimed: zero(),
    };
    let weights: u64 = REQUESTS.iter().map(|(_, weight)| weight).sum();
    loop {
        let request = chosen(all.job.random.below(weights));
        tracing::debug!(module = MODULE, ?request, "runtime request");
        match request {
            Request::Insert => all.insert().await?,
            Request::Get => all.get().await?,
            Request::Remove => all.remove().await?,
            Request::InMessage => all.in_message().await?,
            Request::Withdraw | Request::Transfer | Request::AddEscrow | Request::ReclaimEscrow => {
                all.funds(request).await?;
            }
        }
        if !all.job.deadline.pause(PAUSE).await {
            return Ok(());
        }
    }
}

impl KeyValue {
    fn node(&self) -> &Node {
        self.job.node()
    }

    /// A random value; one of the keys that exist, if wanted and there are any.
    fn value(&mut self, existing: bool) -> String {
        if existing && !self.values.is_empty() {
            let at = self.job.random.index(self.values.len());
            return self.values.keys().nth(at).cloned().unwrap_or_default();
        }
        let len = usize::try_from(self.job.random.below(MAX_VALUE) + 1).unwrap_or(1);
        let bytes = self.job.random.bytes(len);
        bytes.iter().map(|byte| format!("{byte:02X}")).collect()
    }

    fn call(&mut self, method: &str, args: &impl cbor::Encode) -> Vec<u8> {
        let sender = Bytes(format!("sender-{}", self.job.random.number()).into_bytes());
        cbor::to_vec(&Call { sender, nonce: 0, method: method.to_owned(), args: Raw(cbor::to_vec(args)) })
    }

    /// Executes a call; what it gave, and in which round.
    async fn submit(&mut self, method: &str, args: &impl cbor::Encode) -> Result<(Raw, u64), WorkloadError> {
        let request = TxRequest { runtime_id: self.runtime, data: Bytes(self.call(method, args)) };
        let submitting = self.node().call(SERVICE, "SubmitTxMeta", request);
        let done = tokio::time::timeout(REQUEST_TIME, submitting).await;
        let timeout = WorkloadError::Timeout { what: "runtime transaction", limit: REQUEST_TIME };
        let meta: SubmitTxMetaResponse = done.map_err(|_| timeout)??;
        if let Some(error) = meta.check_tx_error {
            return violated(format!("{method}: check of the transaction failed: {error:?}"));
        }
        let output = meta.output.unwrap_or_default();
        let malformed = |error| WorkloadError::Violated(format!("{method}: malformed output: {error}"));
        let output: Output = cbor::from_slice(&output).map_err(malformed)?;
        match output.error {
            Some(error) => violated(format!("{method}: {error}")),
            None => Ok((output.success, meta.round)),
        }
    }

    /// The answer to a request about a key is the value that it has.
    fn check_answer(&self, key: &str, answer: &Raw) -> Result<(), WorkloadError> {
        let malformed = |error| WorkloadError::Violated(format!("malformed answer: {error}"));
        let found: Option<String> = cbor::from_slice(&answer.0).map_err(malformed)?;
        if found.as_ref() == self.values.get(key) {
            return Ok(());
        }
        violated(format!("invalid response value of {key}, expected: {:?}, got: {found:?}", self.values.get(key)))
    }

    /// The round's events are those of one operation.
    async fn check_events(&self, round: u64, operation: &str, key: &str) -> Result<(), WorkloadError> {
        let request = RoundRequest { runtime_id: self.runtime, round };
        let events: Vec<Tag> = self.node().ask(SERVICE, "GetEvents", request).await?;
        check_events(&events, operation, key)
    }

    async fn insert(&mut self) -> Result<(), WorkloadError> {
        let existing = self.job.random.percent(INSERT_EXISTING);
        let (key, value) = (self.value(existing), self.value(false));
        let (answer, round) = self.submit("insert", &Pair { key: key.clone(), value: value.clone() }).await?;
        self.check_answer(&key, &answer)?;
        self.check_events(round, "insert", &key).await?;
        self.values.insert(key, value);
        Ok(())
    }

    async fn get(&mut self) -> Result<(), WorkloadError> {
        let existing = self.job.random.percent(GET_EXISTING);
        let key = self.value(existing);
        let (answer, round) = self.submit("get", &Key { key: key.clone() }).await?;
        self.check_answer(&key, &answer)?;
        self.check_events(round, "get", &key).await
    }

    async fn remove(&mut self) -> Result<(), WorkloadError> {
        let existing = self.job.random.percent(REMOVE_EXISTING);
        let key = self.value(existing);
        let (answer, round) = self.submit("remove", &Key { key: key.clone() }).await?;
        self.check_answer(&key, &answer)?;
        self.check_events(round, "remove", &key).await?;
        self.values.remove(&key);
        Ok(())
    }

    /// Inserts by way of a message in the consensus layer, and waits until the runtime has processed it.
    async fn in_message(&mut self) -> Result<(), WorkloadError> {
        let (key, value) = (self.value(false), self.value(false));
        let data = self.call("insert", &Pair { key: key.clone(), value: value.clone() });
        let mut events = self.node().watch("RootHash", "WatchEvents", self.runtime).await?;
        let body = SubmitMsg { id: self.runtime, tag: TAG, data: Some(Bytes(data)), ..SubmitMsg::default() };
        let signer = test_key(&unique("incoming messages"));
        let start = Instant::now();
        self.job.base.funded(&signer, METHOD_SUBMIT_MSG, &body).await?;
        let caller = address(&signer);
        loop {
            let left = REQUEST_TIME.saturating_sub(start.elapsed());
            let timeout = WorkloadError::Timeout { what: "processing of an incoming message", limit: REQUEST_TIME };
            let event = tokio::time::timeout(left, events.next()).await.map_err(|_| timeout)?;
            let Some(event) = event else { return violated("the stream of events ended") };
            let failed = |error| WorkloadError::Call { method: "RootHash.WatchEvents".to_owned(), error };
            let Cbor(event): Cbor<RoothashEvent> = event.map_err(failed)?;
            if event.in_msg_processed.is_some_and(|done| done.caller == caller && done.tag == TAG) {
                break;
            }
        }
        self.values.insert(key, value);
        Ok(())
    }

    /// Lets the runtime move tokens, if there are any to move.
    async fn funds(&mut self, request: Request) -> Result<(), WorkloadError> {
        let amount = || Quantity::from(AMOUNT);
        let runtime = Address::of_runtime(&self.runtime);
        match request {
            Request::Withdraw => {
                let withdraw = Withdraw { from: self.account, amount: amount() };
                self.submit("consensus_withdraw", &Withdrawal { withdraw }).await?;
                self.withdrawn.add_assign(&amount());
            }
            Request::ReclaimEscrow => {
                if self.node().account(self.account, LATEST).await?.escrow.active.balance.is_zero() {
                    return Ok(());
                }
                // Nothing is slashed or rewarded: a share is worth one unit.
                let reclaim_escrow = ReclaimEscrow { account: self.account, shares: amount() };
                self.submit("consensus_reclaim_escrow", &Reclaim { reclaim_escrow }).await?;
                self.reclaimed.add_assign(&amount());
            }
            _ if self.node().balance(runtime).await?.is_zero() => return Ok(()),
            Request::Transfer => {
                let transfer = Transfer { to: self.account, amount: amount() };
                self.submit("consensus_transfer", &Payment { transfer }).await?;
                self.transferred.add_assign(&amount());
            }
            _ => {
                let escrow = Escrow { account: self.account, amount: amount() };
                self.submit("consensus_add_escrow", &Deposit { escrow }).await?;
                self.escrowed.add_assign(&amount());
            }
        }
        self.check_balances().await
    }

    /// What account and runtime have is what was moved.
    async fn check_balances(&self) -> Result<(), WorkloadError> {
        let height = self.node().height().await?;
        let account = self.node().account(self.account, height).await?;
        let runtime = self.node().account(Address::of_runtime(&self.runtime), height).await?;
        let equal = |what: &str, found: &Quantity, plus: [&Quantity; 2], minus: [&Quantity; 2]| {
            // Sides are added up so that nothing can go below zero.
            let (left, right) = (found.add(minus[0]).add(minus[1]), plus[0].add(plus[1]));
            if left == right { Ok(()) } else { violated(format!("{what} has {found}, which is not what was moved")) }
        };
        let zero = Quantity::default();
        let general = &account.general.balance;
        equal("test account", general, [&self.initial_balance, &self.transferred], [&self.withdrawn, &zero])?;
        let escrow = &account.escrow.active.balance;
        equal("escrow of test account", escrow, [&self.escrowed, &zero], [&self.reclaimed, &zero])?;
        // What is reclaimed comes back with a delay.
        let held = runtime.general.balance.add(&account.escrow.debonding.balance);
        equal("runtime", &held, [&self.withdrawn, &self.reclaimed], [&self.transferred, &self.escrowed])
    }
}

fn check_events(events: &[Tag], operation: &str, key: &str) -> Result<(), WorkloadError> {
    let expected = if operation == "insert" { 3 } else { 2 };
    if events.len() != expected {
        return violated(format!("unexpected number of events (expected: {expected} got: {})", events.len()));
    }
    let insertion = format!("kv_insertion.{key}");
    for event in events {
        let known = match event.key.0.as_slice() {
            b"kv_op" => event.value.0.as_slice() == operation.as_bytes(),
            b"kv_key" => event.value.0.as_slice() == key.as_bytes(),
            other => other == insertion.as_bytes() && operation == "insert",
        };
        if !known {
            return violated(format!("unexpected event {event:?} of {operation} {key}"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(key: &str, value: &str) -> Tag {
        let bytes = |text: &str| Bytes(text.as_bytes().to_vec());
        Tag { key: bytes(key), value: bytes(value), ..Tag::default() }
    }

    #[test]
    fn every_request_is_chosen_by_its_weight() {
        let total: u64 = REQUESTS.iter().map(|(_, weight)| weight).sum();
        for (request, weight) in REQUESTS {
            let times = (0..total).filter(|number| chosen(*number) == request).count();
            assert_eq!(u64::try_from(times), Ok(weight), "{request:?}");
        }
    }

    #[test]
    fn events_of_another_operation_are_noticed() {
        let get = [event("kv_op", "get"), event("kv_key", "a")];
        assert!(check_events(&get, "get", "a").is_ok());
        assert!(check_events(&get, "remove", "a").is_err());
        assert!(check_events(&get, "get", "b").is_err());
        assert!(check_events(&get, "insert", "a").is_err());
        let insert = [event("kv_op", "insert"), event("kv_key", "a"), event("kv_insertion.a", "x")];
        assert!(check_events(&insert, "insert", "a").is_ok());
        assert!(check_events(&insert[..2], "insert", "a").is_err());
    }
}
