//! Reading the events of a block's results back. Source: `EventsFromCometBFT` of `go/consensus/cometbft/*/events.go`.

use base_codec::cbor::{self, Decode};
use base_prims::Hash;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use comet_chain::app::{BlockResults, Event};
use wire_consensus::events::{EVENT_TYPE_PREFIX, TypedEvent};

use crate::{Error, Result};

/// One attribute of a service's event.
#[derive(Clone, Copy, Debug)]
pub struct Attribute<'a> {
    /// The kind of a typed event, or the name of something else.
    pub key: &'a str,
    /// The value.
    pub value: &'a str,
}

impl Attribute<'_> {
    /// The typed event, if it is of this kind.
    ///
    /// # Errors
    /// If it is of this kind but malformed.
    pub fn typed<E: TypedEvent + Decode>(&self) -> Result<Option<E>> {
        if self.key != E::KIND {
            return Ok(None);
        }
        let corrupt = |e: &dyn std::fmt::Display| Error::Uncoded(format!("corrupt {} event: {e}", E::KIND));
        let raw = STANDARD.decode(self.value).map_err(|e| corrupt(&e))?;
        cbor::from_slice(&raw).map(Some).map_err(|e| corrupt(&e))
    }

    /// The error for an attribute that the service does not emit.
    pub fn unknown(&self) -> Error {
        Error::Uncoded(format!("unknown event type: key: {}, val: {}", self.key, self.value))
    }
}

/// The attributes of an event, if it is the service's.
pub fn attributes<'a>(service: &str, event: &'a Event) -> Option<impl Iterator<Item = Attribute<'a>>> {
    let ours = event.kind.strip_prefix(EVENT_TYPE_PREFIX) == Some(service);
    ours.then(|| event.attributes.iter().map(|a| Attribute { key: &a.key, value: &a.value }))
}

/// Reads the events of a block: those of its beginning, of each transaction, and of its end. `read` gets the hash of the
/// transaction, the empty hash at the block's boundaries.
///
/// # Errors
/// What `read` returns first, or if there are not as many results as transactions.
pub fn of_block<T>(
    txs: &[Vec<u8>],
    results: &BlockResults,
    read: impl Fn(Hash, &Event) -> Result<Vec<T>>,
) -> Result<Vec<T>> {
    if txs.len() != results.tx_results.len() {
        let (txs, found) = (txs.len(), results.tx_results.len());
        return Err(Error::Uncoded(format!("{found} results of {txs} transactions")));
    }
    let of_txs = txs.iter().zip(&results.tx_results).map(|(tx, r)| (Hash::of(&[tx]), &r.events));
    let all = std::iter::once((Hash::EMPTY, &results.begin_events))
        .chain(of_txs)
        .chain(std::iter::once((Hash::EMPTY, &results.end_events)));
    let mut found = Vec::new();
    for (tx, events) in all {
        for event in events {
            found.extend(read(tx, event)?);
        }
    }
    Ok(found)
}

/// Reads an attribute as one of the typed events of a service into the field of its [`Event`](Event)-like struct:
/// `typed_into!(attribute, event, { transfer: TransferEvent, … })` says whether it was one of them.
#[macro_export]
macro_rules! typed_into {
    ($attribute:expr, $event:expr, { $($field:ident : $t:ty),* $(,)? }) => {{
        let mut found = false;
        $(if let Some(e) = $attribute.typed::<$t>()? {
            $event.$field = Some(e);
            found = true;
        })*
        found
    }};
}

#[cfg(test)]
mod tests {
    use comet_chain::app::{EventAttribute, TxResult};
    use wire_consensus::staking::BurnEvent;

    use super::*;

    fn event(service: &str, key: &str, value: &str) -> Event {
        let attribute = EventAttribute { key: key.to_owned(), value: value.to_owned(), index: false };
        Event { kind: format!("oasis_event_{service}"), attributes: vec![attribute] }
    }

    #[test]
    fn only_the_service_s_own_kind_is_read() {
        let burn = BurnEvent { amount: 7u64.into(), ..BurnEvent::default() };
        let good = event("100_staking", "burn", &burn.attribute_value());
        let read = |e: &Event| attributes("100_staking", e).unwrap().next().unwrap().typed::<BurnEvent>();
        assert_eq!(read(&good), Ok(Some(burn)));
        assert_eq!(read(&event("100_staking", "transfer", "")), Ok(None));
        assert!(read(&event("100_staking", "burn", "*")).is_err());
        assert!(read(&event("100_staking", "burn", "AA==")).is_err());
        assert!(attributes("200_registry", &good).is_none());
    }

    #[test]
    fn events_of_a_block_come_in_order_with_their_transactions() {
        let results = BlockResults {
            begin_events: vec![event("a", "1", "")],
            tx_results: vec![
                TxResult::default(),
                TxResult { events: vec![event("a", "2", ""), event("a", "3", "")], ..TxResult::default() },
            ],
            end_events: vec![event("a", "4", "")],
            ..BlockResults::default()
        };
        let txs = [b"x".to_vec(), b"y".to_vec()];
        let read = |tx: Hash, e: &Event| Ok(vec![(tx, e.attributes[0].key.clone())]);
        let (none, tx) = (Hash::EMPTY, Hash::of(&[b"y"]));
        let expected = [(none, "1"), (tx, "2"), (tx, "3"), (none, "4")].map(|(h, k)| (h, k.to_owned()));
        assert_eq!(of_block(&txs, &results, read).unwrap(), expected);
        assert!(of_block(&txs[..1], &results, read).is_err());
    }
}
