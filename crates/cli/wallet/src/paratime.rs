//! A ParaTime as a node serves it to clients: queries, transactions, blocks, events.

use std::time::{Duration, Instant};

use base_codec::{Bytes, cbor};
use base_grpc::Cbor;
use base_prims::{Namespace, Quantity};
use wire_consensus::roothash::Block;
use wire_runtime::client::{
    QueryRequest, QueryResponse, ROUND_LATEST, RoundRequest, SubmitTxMetaResponse, TransactionWithResults, TxRequest,
};
use wire_runtime::transaction::Tag;

use crate::config::{Denomination as Token, NATIVE, ParaTime};
use crate::error::{CliError, Result};
use crate::remote::Remote;
use crate::sdk::{Denomination, Event, UnverifiedTransaction};

const SERVICE: &str = "RuntimeClient";
/// How long a transaction may take into a round: one that got lost is sent again by the node after about two minutes.
const SUBMIT_TIMEOUT: Duration = Duration::from_secs(300);
/// How long an operation of the consensus layer may take to come back as an event.
const EVENT_TIMEOUT: Duration = Duration::from_secs(300);
/// Time between two looks at the newest round.
const POLL: Duration = Duration::from_millis(500);

/// One ParaTime through one node.
#[derive(Debug)]
pub(crate) struct Runtime<'a> {
    remote: &'a Remote,
    id: Namespace,
}

impl<'a> Runtime<'a> {
    pub(crate) fn new(remote: &'a Remote, paratime: &ParaTime) -> Result<Self> {
        Ok(Self { remote, id: paratime.namespace()? })
    }

    /// Asks what the state after a round says.
    pub(crate) fn query<R: cbor::Decode>(&self, round: u64, method: &str, args: &impl cbor::Encode) -> Result<R> {
        let args = Bytes::from(cbor::to_vec(args));
        let request = QueryRequest { runtime_id: self.id, component: None, round, method: method.to_owned(), args };
        let answer: QueryResponse = self.remote.call(SERVICE, "Query", &Cbor(request))?;
        cbor::from_slice_relaxed(&answer.data)
            .map_err(|error| CliError::new(format!("{method}: malformed answer: {error}")))
    }

    /// Asks what the newest state says.
    pub(crate) fn latest<R: cbor::Decode>(&self, method: &str, args: &impl cbor::Encode) -> Result<R> {
        self.query(ROUND_LATEST, method, args)
    }

    /// Sends a transaction and waits until it is in a round.
    pub(crate) fn submit(&self, tx: &UnverifiedTransaction) -> Result<SubmitTxMetaResponse> {
        let request = TxRequest { runtime_id: self.id, data: Bytes::from(cbor::to_vec(tx)) };
        self.remote.call_within(SUBMIT_TIMEOUT, SERVICE, "SubmitTxMeta", &Cbor(request))
    }

    fn at(&self, round: u64) -> Cbor<RoundRequest> {
        Cbor(RoundRequest { runtime_id: self.id, round })
    }

    pub(crate) fn block(&self, round: u64) -> Result<Block> {
        self.remote.call(SERVICE, "GetBlock", &self.at(round))
    }

    pub(crate) fn transactions(&self, round: u64) -> Result<Vec<TransactionWithResults>> {
        let found: Option<_> = self.remote.call(SERVICE, "GetTransactionsWithResults", &self.at(round))?;
        Ok(found.unwrap_or_default())
    }

    pub(crate) fn tags(&self, round: u64) -> Result<Vec<Tag>> {
        let found: Option<_> = self.remote.call(SERVICE, "GetEvents", &self.at(round))?;
        Ok(found.unwrap_or_default())
    }

    /// All events of a round.
    pub(crate) fn events(&self, round: u64) -> Result<Vec<Event>> {
        let read = |tag: Tag| {
            Event::read(&tag.key, &tag.value, Some(tag.tx_hash))
                .ok_or_else(|| CliError::new(format!("round {round}: an event has a malformed key")))
        };
        self.tags(round)?.into_iter().map(read).collect()
    }

    /// Waits, from that round on, for the first event that `wanted` knows.
    pub(crate) fn wait_for<T>(&self, from: u64, wanted: impl Fn(&Event) -> Option<T>) -> Result<T> {
        let (began, mut next) = (Instant::now(), from);
        loop {
            let newest = self.block(ROUND_LATEST)?.header.round;
            while next <= newest {
                if let Some(found) = self.events(next)?.iter().find_map(&wanted) {
                    return Ok(found);
                }
                next += 1;
            }
            if began.elapsed() > EVENT_TIMEOUT {
                let seconds = EVENT_TIMEOUT.as_secs();
                return Err(format!("no result within {seconds} s; `oasis account show` tells how things stand").into());
            }
            std::thread::sleep(POLL);
        }
    }
}

impl ParaTime {
    /// What is known of a token; sane defaults if nothing is.
    pub(crate) fn token(&self, denomination: &Denomination) -> Token {
        let name = if denomination.0.is_empty() { NATIVE } else { &denomination.0 };
        let known = self.denominations.get(name).or_else(|| self.denominations.get(&name.to_lowercase()));
        known.cloned().unwrap_or_else(|| Token { decimals: 9, symbol: denomination.0.clone() })
    }

    /// An amount of a token with its symbol.
    pub(crate) fn amount(&self, amount: &Quantity, denomination: &Denomination) -> String {
        let token = self.token(denomination);
        format!("{} {}", crate::amount::format(amount, token.decimals), token.symbol)
    }

    /// The token that stands for that of the consensus layer.
    pub(crate) fn consensus_token(&self) -> Denomination {
        if self.consensus_denomination == NATIVE {
            Denomination::default()
        } else {
            Denomination(self.consensus_denomination.clone())
        }
    }
}

#[cfg(test)]
mod tests;
