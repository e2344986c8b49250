//! Forms of the messages, and what is refused.

use super::keymanager::*;
use super::txsync::*;
use super::*;
use crate::txpool::{Config, Origin, Tx};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[test]
fn forms() {
    assert_eq!(hex(&cbor::to_vec(&CommitteeMessage::default())), "a0");
    let message = CommitteeMessage { epoch: 3, proposal: Some(Proposal::default()) };
    let bytes = cbor::to_vec(&message);
    // {"epoch": 3, "Proposal": {…}}: the shorter name first.
    assert!(hex(&bytes).starts_with("a26565706f6368036850726f706f73616ca3"), "{}", hex(&bytes));
    assert_eq!(cbor::from_slice::<CommitteeMessage>(&bytes), Ok(message));

    assert_eq!(hex(&TxMessage(vec![1, 2]).to_bytes()), "420102");
    assert_eq!(TxMessage::from_bytes(&[0x42, 1, 2]), Ok(TxMessage(vec![1, 2])));
    assert!(TxMessage::from_bytes(&[0x42, 1]).is_err() && TxMessage::from_bytes(&[0x01]).is_err());

    assert_eq!(hex(&cbor::to_vec(&GetTxsRequest::default())), "a163747873f6");
    assert_eq!(hex(&cbor::to_vec(&GetTxsResponse::default())), "a0");
    assert_eq!(hex(&cbor::to_vec(&GetTxsResponse { txs: vec![Bytes(vec![7])] })), "a163747873814107");

    let call = CallEnclaveRequest { data: Some(Bytes(vec![1])), kind: Kind::default() };
    assert_eq!(hex(&cbor::to_vec(&call)), "a164646174614101");
    assert_eq!(cbor::from_slice::<CallEnclaveRequest>(&cbor::to_vec(&call)), Ok(call));
    assert_eq!(hex(&cbor::to_vec(&CallEnclaveResponse::default())), "a16464617461f6");
}

#[test]
fn transactions_by_hash() {
    let mut pool = Pool::new(Config::default());
    let txs: Vec<Tx> = (0..200u8).map(|n| Tx::new(vec![n; 3])).collect();
    for tx in &txs {
        pool.submit(tx.data.to_vec(), Origin::default(), None).unwrap();
    }
    let ask = |n: std::ops::Range<usize>| GetTxsRequest { hashes: Some(txs[n].iter().map(|t| t.hash).collect()) };
    assert_eq!(answer(&pool, &ask(0..200)).txs.len(), MAX_TXS);
    let unknown = GetTxsRequest { hashes: Some(vec![Hash::EMPTY, txs[5].hash]) };
    assert_eq!(answer(&pool, &unknown).txs, [Bytes(vec![5; 3])]);
    assert!(answer(&pool, &GetTxsRequest::default()).txs.is_empty());

    let response = answer(&pool, &ask(0..2));
    assert_eq!(verify(&ask(0..2), response.clone()), Ok(txs[..2].to_vec()));
    assert_eq!(verify(&ask(1..4), response.clone()), Err(Unasked::Other(txs[0].hash)));
    assert_eq!(verify(&ask(0..1), response), Err(Unasked::TooMany { asked: 1, got: 2 }));
    let twice = GetTxsResponse { txs: vec![Bytes(vec![0; 3]); 2] };
    assert_eq!(verify(&ask(0..2), twice).unwrap().len(), 1);
}

#[test]
fn answers_fit_a_frame() {
    let mut pool = Pool::new(Config::default());
    let txs: Vec<Tx> = (0..3u8).map(|n| Tx::new(vec![n; 30 << 20])).collect();
    for tx in &txs {
        pool.submit(tx.data.to_vec(), Origin::default(), None).unwrap();
    }
    let request = GetTxsRequest { hashes: Some(txs.iter().map(|t| t.hash).collect()) };
    assert_eq!(answer(&pool, &request).txs.len(), 1);
}
