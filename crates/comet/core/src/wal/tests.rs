//! Logs with every kind of end.

use super::*;
use wire_cometbft::Time;
use wire_cometbft::wal::{EndHeight, RoundStateEvent, WalMessage, encode_record};

fn record(sum: WalMessageSum) -> Vec<u8> {
    encode_record(&TimedWalMessage { time: Time::UNIX_EPOCH, msg: Some(WalMessage::from(sum)) }).unwrap()
}

fn end(height: i64) -> Vec<u8> {
    record(WalMessageSum::EndHeight(EndHeight { height }))
}

fn step(height: i64, round: i32) -> Vec<u8> {
    record(WalMessageSum::RoundState(RoundStateEvent { height, round, step: "RoundStepPropose".into() }))
}

fn rounds(tail: &[TimedWalMessage]) -> Vec<i32> {
    let round = |message: &TimedWalMessage| match message.msg.as_ref()?.sum.as_ref()? {
        WalMessageSum::RoundState(event) => Some(event.round),
        _ => None,
    };
    tail.iter().filter_map(round).collect()
}

#[test]
fn records_after_the_last_ended_height() {
    let log = [end(0), step(1, 0), end(1), step(2, 4), step(2, 5)].concat();
    assert_eq!(rounds(&tail(&[&log], 2, 1).unwrap()), [4, 5]);
    assert_eq!(tail(&[&log], 1, 1), Err(TailError::AlreadyEnded(1)));
    assert_eq!(tail(&[&log], 3, 1), Err(TailError::NotFound(2)));
    assert_eq!(tail(&[&log], 6, 7), Err(TailError::BelowInitial { height: 6, initial: 7 }));
    assert_eq!(rounds(&tail(&[&log[..end(0).len()]], 7, 7).unwrap()), [0i32; 0]);
    assert_eq!(tail(&[], 1, 1), Err(TailError::NotFound(0)));
}

#[test]
fn the_log_may_be_cut_into_files_anywhere() {
    let records = [end(0), step(1, 0), end(1), step(2, 4), step(2, 5), step(2, 6)];
    for cut in 0..=records.len() {
        let (older, newer) = (records[..cut].concat(), records[cut..].concat());
        assert_eq!(rounds(&tail(&[&older, &newer], 2, 1).unwrap()), [4, 5, 6], "cut at {cut}");
    }
}

#[test]
fn bad_records_matter_only_in_this_height() {
    let mut spoiled = step(1, 9);
    let last = spoiled.len() - 1;
    spoiled[last] ^= 1;
    let log = [end(0), spoiled.clone(), end(1), step(2, 4)].concat();
    assert_eq!(rounds(&tail(&[&log], 2, 1).unwrap()), [4]);

    let good = [end(0), end(1), step(2, 4)].concat();
    for bad in [spoiled.clone(), spoiled[..5].to_vec(), spoiled[..last].to_vec(), vec![255; 40]] {
        let log = [good.clone(), bad].concat();
        assert!(matches!(tail(&[&log], 2, 1), Err(TailError::Corrupt { segment: 0, .. })));
        assert_eq!(intact_prefix(&log), good.len());
        assert_eq!(rounds(&tail(&[&log[..good.len()]], 2, 1).unwrap()), [4]);
    }
}
