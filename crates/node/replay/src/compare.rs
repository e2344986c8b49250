//! Comparing what a block gave with what was recorded.

use std::{collections::BTreeMap, fmt};

use comet_chain::{app::BlockResults, exec::results_to_wire};
use serde_json::{Value, json};
use wire_cometbft::abci::{AbciResponses, DeliverTx, Event, ValidatorUpdate};

use crate::keys::describe_key;

/// The first difference between what was executed and what was recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// Height of the block.
    pub height: i64,
    /// Index of the transaction, if it is about one.
    pub tx: Option<usize>,
    /// What differs: `app hash`, `code`, `event 3`, `state`, …
    pub what: String,
    /// The state key, if it is about one.
    pub key: Option<Vec<u8>>,
    /// What was recorded.
    pub expected: String,
    /// What was executed.
    pub found: String,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "height {}", self.height)?;
        if let Some(tx) = self.tx {
            write!(f, ", transaction {tx}")?;
        }
        write!(f, ": {}", self.what)?;
        if let Some(key) = &self.key {
            write!(f, " [{}]", describe_key(key))?;
        }
        write!(f, ": expected {}, found {}", self.expected, self.found)
    }
}

impl Mismatch {
    /// The mismatch as an object.
    pub fn to_json(&self) -> Value {
        json!({
            "height": self.height,
            "transaction": self.tx,
            "what": self.what,
            "key": self.key.as_ref().map(hex::encode),
            "key_meaning": self.key.as_ref().map(|k| describe_key(k)),
            "expected": self.expected,
            "found": self.found,
        })
    }
}

/// Builds mismatches of one block.
pub(crate) struct At {
    pub(crate) height: i64,
}

impl At {
    pub(crate) fn mismatch(
        &self,
        tx: Option<usize>,
        what: impl Into<String>,
        expected: impl fmt::Display,
        found: impl fmt::Display,
    ) -> Mismatch {
        Mismatch {
            height: self.height,
            tx,
            what: what.into(),
            key: None,
            expected: expected.to_string(),
            found: found.to_string(),
        }
    }

    fn same<T: PartialEq + fmt::Debug>(&self, tx: Option<usize>, what: &str, e: &T, f: &T) -> Result<(), Mismatch> {
        if e == f { Ok(()) } else { Err(self.mismatch(tx, what, format!("{e:?}"), format!("{f:?}"))) }
    }

    /// Compares results; returns how many transactions were compared.
    pub(crate) fn results(&self, expected: &AbciResponses, found: &BlockResults) -> Result<usize, Mismatch> {
        let found = results_to_wire(found);
        let begin = |r: &AbciResponses| r.begin_block.clone().unwrap_or_default().events;
        self.events(None, "beginning of block", &begin(expected), &begin(&found))?;
        let (count, have) = (expected.deliver_txs.len(), found.deliver_txs.len());
        self.same(None, "number of results", &count, &have)?;
        for (i, (e, f)) in expected.deliver_txs.iter().zip(&found.deliver_txs).enumerate() {
            self.transaction(i, e, f)?;
        }
        let end = |r: &AbciResponses| r.end_block.clone().unwrap_or_default();
        let (e, f) = (end(expected), end(&found));
        self.events(None, "end of block", &e.events, &f.events)?;
        // Their order is not specified: the reference walks a map.
        self.same(None, "validator updates", &sorted(e.validator_updates), &sorted(f.validator_updates))?;
        self.same(None, "parameter updates", &e.consensus_param_updates, &f.consensus_param_updates)?;
        Ok(count)
    }

    fn transaction(&self, i: usize, e: &DeliverTx, f: &DeliverTx) -> Result<(), Mismatch> {
        let codes = |r: &DeliverTx| format!("{}/{} ({})", r.codespace, r.code, r.log);
        if (e.code, &e.codespace) != (f.code, &f.codespace) {
            return Err(self.mismatch(Some(i), "result code", codes(e), codes(f)));
        }
        self.same(Some(i), "result data", &hex::encode(&e.data), &hex::encode(&f.data))?;
        self.same(Some(i), "gas wanted", &e.gas_wanted, &f.gas_wanted)?;
        self.same(Some(i), "gas used", &e.gas_used, &f.gas_used)?;
        self.events(Some(i), "transaction", &e.events, &f.events)
    }

    fn events(&self, tx: Option<usize>, of: &str, expected: &[Event], found: &[Event]) -> Result<(), Mismatch> {
        for (i, (e, f)) in expected.iter().zip(found).enumerate() {
            if e != f {
                return Err(self.mismatch(tx, format!("event {i} of {of}"), show(Some(e)), show(Some(f))));
            }
        }
        let n = expected.len().min(found.len());
        if expected.len() != found.len() {
            return Err(self.mismatch(tx, format!("event {n} of {of}"), show(expected.get(n)), show(found.get(n))));
        }
        Ok(())
    }

    /// Compares the change of the state.
    pub(crate) fn diff(
        &self,
        expected: &[(Vec<u8>, Option<Vec<u8>>)],
        found: &BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    ) -> Result<(), Mismatch> {
        let expected: BTreeMap<_, _> = expected.iter().cloned().collect();
        let differing = |key: &Vec<u8>| expected.get(key) != found.get(key);
        let first = expected.keys().chain(found.keys()).filter(|k| differing(k)).min();
        let Some(key) = first else { return Ok(()) };
        let text = |v: Option<&Option<Vec<u8>>>| match v {
            None => "unchanged".to_owned(),
            Some(None) => "removed".to_owned(),
            Some(Some(v)) => hex::encode(v),
        };
        let mut mismatch = self.mismatch(None, "state", text(expected.get(key)), text(found.get(key)));
        mismatch.key = Some(key.clone());
        Err(mismatch)
    }
}

fn sorted(updates: Vec<ValidatorUpdate>) -> Vec<String> {
    let mut list: Vec<_> = updates.into_iter().map(|u| format!("{u:?}")).collect();
    list.sort();
    list
}

fn show(event: Option<&Event>) -> String {
    let Some(event) = event else { return "no event".to_owned() };
    let attributes: Vec<_> = event.attributes.iter().map(|a| format!("{}={}", a.key, a.value)).collect();
    format!("{} {{{}}}", event.kind, attributes.join(", "))
}
