//! State of the root hash service: keys `20`–`2a`.

use std::{collections::BTreeMap, ops::ControlFlow};

use apps_core::{
    Error, Result,
    kv::{self, Key, KeyReader, KvRead, KvWrite},
};
use base_prims::{Hash, Namespace};
use wire_consensus::roothash::{
    IncomingMessage, IncomingMessageQueueMeta, Parameters, RoundResults, RoundRoots, RuntimeState,
};

/// Hash of the runtime identifier: [`RuntimeState`].
const RUNTIME: u8 = 0x20;
/// [`Parameters`].
const PARAMETERS: u8 = 0x21;
/// Height, hash of the runtime identifier: raw runtime identifier.
const TIMEOUT_QUEUE: u8 = 0x22;
/// Hash of the runtime identifier, round, evidence hash: empty.
const EVIDENCE: u8 = 0x24;
/// Hash of the runtime identifier: raw hash.
const STATE_ROOT: u8 = 0x25;
/// Hash of the runtime identifier: raw hash.
const IO_ROOT: u8 = 0x26;
/// Hash of the runtime identifier: [`RoundResults`].
const LAST_ROUND_RESULTS: u8 = 0x27;
/// Hash of the runtime identifier: [`IncomingMessageQueueMeta`].
const QUEUE_META: u8 = 0x28;
/// Hash of the runtime identifier, sequence number: [`IncomingMessage`].
const QUEUE: u8 = 0x29;
/// Hash of the runtime identifier, round: [`RoundRoots`].
const PAST_ROOTS: u8 = 0x2a;

/// Bytes before the round or sequence number in keys that have one.
const NUMBER_OFFSET: usize = 33;

fn key(prefix: u8, id: &Namespace) -> Vec<u8> {
    Key::new(prefix).hash(&id.hash()).into()
}

fn numbered_key(prefix: u8, id: &Namespace, number: u64) -> Vec<u8> {
    Key::new(prefix).hash(&id.hash()).u64(number).into()
}

fn timeout_key(height: i64, id: &Namespace) -> Vec<u8> {
    Key::new(TIMEOUT_QUEUE).i64(height).hash(&id.hash()).into()
}

fn evidence_key(id: &Namespace, round: u64, hash: &Hash) -> Vec<u8> {
    Key::new(EVIDENCE).hash(&id.hash()).u64(round).hash(hash).into()
}

/// The big-endian number in a key after prefix and runtime.
fn number_in(key: &[u8]) -> Result<u64> {
    key.get(NUMBER_OFFSET..NUMBER_OFFSET + 8)
        .and_then(|b| b.try_into().ok())
        .map(u64::from_be_bytes)
        .ok_or_else(|| Error::Fatal("roothash: malformed key in the state".to_owned()))
}

/// A runtime's state.
pub fn runtime_state(kv: &dyn KvRead, id: &Namespace) -> Result<Option<RuntimeState>> {
    kv::get(kv, &key(RUNTIME, id))
}

/// The states of all runtimes, suspended ones too, in key order.
pub fn runtime_states(kv: &dyn KvRead) -> Result<Vec<RuntimeState>> {
    let mut out = Vec::new();
    kv::iterate(kv, &[RUNTIME], &mut |key, value| {
        out.push(kv::decode(key, value)?);
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(out)
}

/// Stores a runtime's state, and the roots of its last block where proofs and clients look for them.
pub fn set_runtime_state(kv: &mut dyn KvWrite, state: &RuntimeState) -> Result<()> {
    let id = &state.runtime.id;
    let header = &state.last_block.header;
    kv::put(kv, &key(RUNTIME, id), state)?;
    kv::put_raw(kv, &key(STATE_ROOT, id), header.state_root.as_bytes())?;
    kv::put_raw(kv, &key(IO_ROOT, id), header.io_root.as_bytes())?;
    let max = parameters(&*kv)?.max_past_roots_stored;
    if max > 0 {
        // Make room for the new roots.
        if let Some(oldest) = header.round.checked_sub(max) {
            kv::remove(kv, &numbered_key(PAST_ROOTS, id, oldest))?;
        }
        let roots = RoundRoots { state_root: header.state_root, io_root: header.io_root };
        kv::put(kv, &numbered_key(PAST_ROOTS, id, header.round), &roots)?;
    }
    Ok(())
}

/// The parameters.
pub fn parameters(kv: &dyn KvRead) -> Result<Parameters> {
    kv::get(kv, &[PARAMETERS])?.ok_or_else(|| Error::Fatal("roothash: no consensus parameters in the state".to_owned()))
}

/// Sets the parameters.
pub fn set_parameters(kv: &mut dyn KvWrite, params: &Parameters) -> Result<()> {
    kv::put(kv, &[PARAMETERS], params)
}

/// Runtimes whose round times out at `height`, in key order.
pub fn timeouts_at(kv: &dyn KvRead, height: i64) -> Result<Vec<Namespace>> {
    let prefix: Vec<u8> = Key::new(TIMEOUT_QUEUE).i64(height).into();
    let mut out = Vec::new();
    kv::iterate(kv, &prefix, &mut |_, value| {
        let id = Namespace::try_from(value).map_err(|e| Error::Fatal(format!("roothash: timeout queue: {e}")))?;
        out.push(id);
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(out)
}

/// All scheduled timeouts with their heights, in key order.
pub fn timeouts(kv: &dyn KvRead) -> Result<Vec<(Namespace, i64)>> {
    let mut out = Vec::new();
    kv::iterate(kv, &[TIMEOUT_QUEUE], &mut |key, value| {
        let id = Namespace::try_from(value).map_err(|e| Error::Fatal(format!("roothash: timeout queue: {e}")))?;
        out.push((id, KeyReader::new(key)?.i64()?));
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(out)
}

/// Schedules a timeout.
pub fn schedule_timeout(kv: &mut dyn KvWrite, id: &Namespace, height: i64) -> Result<()> {
    kv::put_raw(kv, &timeout_key(height, id), id.as_bytes())
}

/// Removes a timeout.
pub fn clear_timeout(kv: &mut dyn KvWrite, id: &Namespace, height: i64) -> Result<()> {
    kv::remove(kv, &timeout_key(height, id))
}

/// Whether the evidence was submitted before.
pub fn has_evidence(kv: &dyn KvRead, id: &Namespace, round: u64, hash: &Hash) -> Result<bool> {
    Ok(kv::get_raw(kv, &evidence_key(id, round, hash))?.is_some())
}

/// Remembers evidence.
pub fn set_evidence(kv: &mut dyn KvWrite, id: &Namespace, round: u64, hash: &Hash) -> Result<()> {
    kv::put_raw(kv, &evidence_key(id, round, hash), &[])
}

/// Forgets evidence of rounds before `min_round`.
pub fn remove_expired_evidence(kv: &mut dyn KvWrite, id: &Namespace, min_round: u64) -> Result<()> {
    let mut expired = Vec::new();
    kv::iterate(&*kv, &key(EVIDENCE, id), &mut |key, _| {
        if number_in(key)? >= min_round {
            return Ok(ControlFlow::Break(()));
        }
        expired.push(key.to_vec());
        Ok(ControlFlow::Continue(()))
    })?;
    expired.iter().try_for_each(|key| kv::remove(kv, key))
}

fn root(kv: &dyn KvRead, prefix: u8, id: &Namespace) -> Result<Option<Hash>> {
    let Some(raw) = kv::get_raw(kv, &key(prefix, id))? else { return Ok(None) };
    let hash = Hash::try_from(raw.as_slice()).map_err(|e| Error::Fatal(format!("roothash: root: {e}")))?;
    Ok(Some(hash))
}

/// State root of a runtime's last block.
pub fn state_root(kv: &dyn KvRead, id: &Namespace) -> Result<Option<Hash>> {
    root(kv, STATE_ROOT, id)
}

/// I/O root of a runtime's last block.
pub fn io_root(kv: &dyn KvRead, id: &Namespace) -> Result<Option<Hash>> {
    root(kv, IO_ROOT, id)
}

/// Results of a runtime's last normal round; empty if there were none.
pub fn last_round_results(kv: &dyn KvRead, id: &Namespace) -> Result<RoundResults> {
    Ok(kv::get(kv, &key(LAST_ROUND_RESULTS, id))?.unwrap_or_default())
}

/// Sets the results of a runtime's last normal round.
pub fn set_last_round_results(kv: &mut dyn KvWrite, id: &Namespace, results: &RoundResults) -> Result<()> {
    kv::put(kv, &key(LAST_ROUND_RESULTS, id), results)
}

/// State of a runtime's queue of incoming messages.
pub fn queue_meta(kv: &dyn KvRead, id: &Namespace) -> Result<IncomingMessageQueueMeta> {
    Ok(kv::get(kv, &key(QUEUE_META, id))?.unwrap_or_default())
}

/// Sets the state of a runtime's queue.
pub fn set_queue_meta(kv: &mut dyn KvWrite, id: &Namespace, meta: &IncomingMessageQueueMeta) -> Result<()> {
    kv::put(kv, &key(QUEUE_META, id), meta)
}

/// Queued messages with sequence numbers from `offset` on; at most `limit` unless that is 0.
pub fn queue(kv: &dyn KvRead, id: &Namespace, offset: u64, limit: u32) -> Result<Vec<IncomingMessage>> {
    let max = if limit == 0 { usize::MAX } else { usize::try_from(limit).unwrap_or(usize::MAX) };
    let mut out = Vec::new();
    kv::iterate(kv, &key(QUEUE, id), &mut |key, value| {
        if number_in(key)? >= offset {
            out.push(kv::decode(key, value)?);
        }
        Ok(if out.len() >= max { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    })?;
    Ok(out)
}

/// Adds a message to a runtime's queue.
pub fn set_queued(kv: &mut dyn KvWrite, id: &Namespace, message: &IncomingMessage) -> Result<()> {
    kv::put(kv, &numbered_key(QUEUE, id, message.id), message)
}

/// Removes a message from a runtime's queue.
pub fn remove_queued(kv: &mut dyn KvWrite, id: &Namespace, number: u64) -> Result<()> {
    kv::remove(kv, &numbered_key(QUEUE, id, number))
}

/// Roots of a round, if they are still kept.
pub fn round_roots(kv: &dyn KvRead, id: &Namespace, round: u64) -> Result<Option<RoundRoots>> {
    kv::get(kv, &numbered_key(PAST_ROOTS, id, round))
}

/// The roots that are kept, by round.
pub fn past_round_roots(kv: &dyn KvRead, id: &Namespace) -> Result<BTreeMap<u64, RoundRoots>> {
    let mut out = BTreeMap::new();
    kv::iterate(kv, &key(PAST_ROOTS, id), &mut |key, value| {
        out.insert(number_in(key)?, kv::decode(key, value)?);
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(out)
}

/// Keeps only the newest `max` roots of each runtime.
pub fn shrink_past_roots(kv: &mut dyn KvWrite, max: u64) -> Result<()> {
    for rt in runtime_states(&*kv)? {
        let mut keys = Vec::new();
        kv::iterate(&*kv, &key(PAST_ROOTS, &rt.runtime.id), &mut |key, _| {
            keys.push(key.to_vec());
            Ok(ControlFlow::Continue(()))
        })?;
        let keep = usize::try_from(max).unwrap_or(usize::MAX);
        let excess = keys.len().saturating_sub(keep);
        keys.iter().take(excess).try_for_each(|key| kv::remove(kv, key))?;
    }
    Ok(())
}
