//! The beginning of a block: results of the messages that the round before emitted.

use std::ops::ControlFlow;

use base_codec::cbor::Decode;
use mkvs_tree::{KvRead, KvWrite};
use rt_guest::{Context, Error};
use wire_consensus::{
    registry::Runtime,
    roothash::MessageEvent,
    staking::{AddEscrowResult, ReclaimEscrowResult, TransferResult, WithdrawResult},
};
use wire_runtime::host::EventKind;

/// First byte of the keys that hold the kinds of emitted messages, by index.
const PENDING: u8 = 0x00;

/// Key of the current epoch, which is there so that nodes that disagree about it disagree about the state.
const EPOCH_KEY: [u8; 1] = [0x02];

/// Most heights that are searched for a transfer's event.
const MAX_SEARCHED_HEIGHTS: u64 = 1000;

/// Key of the kind of the message of that index.
pub(crate) fn pending_key(index: u32) -> Vec<u8> {
    let mut key = vec![PENDING];
    key.extend_from_slice(&index.to_be_bytes());
    key
}

/// Processes results and leaves the state ready for transactions.
pub(crate) fn begin(ctx: &mut Context<'_>) -> Result<(), Error> {
    for event in &ctx.round_results.messages {
        let kind = ctx.state.take(&pending_key(event.index))?;
        check_result(ctx, kind.as_deref(), event)?;
    }
    let mut leftover = false;
    ctx.state.iterate(&pending_key(0), &mut |key, _| {
        leftover = key.len() == 5 && key.first() == Some(&PENDING);
        ControlFlow::Break(())
    })?;
    if leftover {
        return Err(Error::other("leftover message metadata (some messages not processed?)"));
    }
    ctx.state.insert(&EPOCH_KEY, &ctx.epoch.to_be_bytes())?;
    Ok(())
}

fn result<T: Decode>(event: &MessageEvent) -> Result<T, Error> {
    if event.result.is_empty() {
        return Err(Error::other(format!("message {} has no result: {} {}", event.index, event.module, event.code)));
    }
    event.result.decode_as().map_err(Error::other)
}

fn check_result(ctx: &Context<'_>, kind: Option<&[u8]>, event: &MessageEvent) -> Result<(), Error> {
    if kind.is_some() && !event.is_success() {
        return Ok(());
    }
    match kind {
        Some(b"withdraw") => result::<WithdrawResult>(event).map(drop),
        Some(b"transfer") => find_transfer(ctx, &result(event)?),
        Some(b"add_escrow") => result::<AddEscrowResult>(event).map(drop),
        Some(b"reclaim_escrow") => result::<ReclaimEscrowResult>(event).map(drop),
        Some(b"update_runtime") => result::<Runtime>(event).map(drop),
        _ => Err(Error::other(format!("message {} is unknown", event.index))),
    }
}

/// The transfer is among the events of some height up to now.
fn find_transfer(ctx: &Context<'_>, wanted: &TransferResult) -> Result<(), Error> {
    let newest = ctx.consensus.height();
    for height in (1..=newest).rev().take(MAX_SEARCHED_HEIGHTS as usize) {
        let events = ctx.verifier.events_at(height, EventKind::STAKING)?;
        let transfers = events.iter().filter_map(|e| e.staking.as_ref()).filter_map(|e| e.transfer.as_ref());
        if transfers.into_iter().any(|t| t.from == wanted.from && t.to == wanted.to && t.amount == wanted.amount) {
            return Ok(());
        }
    }
    Err(Error::other("no event of the transfer"))
}
