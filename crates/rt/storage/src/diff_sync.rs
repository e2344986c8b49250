//! Following the chain: what changed in each round is fetched from peers, applied in order, and made final.
//!
//! Source: the main loop of `go/worker/storage/committee/worker.go`. The fetching is bounded in rounds, requests and bytes;
//! a root that is there already, or the same as the one before, is not fetched.

use std::collections::BTreeMap;
use std::time::Duration;

use mkvs_tree::{Root, RootType, WriteLog};
use wire_consensus::roothash::Header;

use crate::error::StorageError;
use crate::storage::{Apply, Storage, Synced, roots_of};
use crate::{Moment, Verdict};

/// How long a peer may take for a difference. Source: `diffResponseTimeout`.
pub const DIFF_TIME: Duration = Duration::from_secs(15);
/// Most rounds that are fetched before they are applied. Source: `maxInFlightRounds`.
pub const MAX_IN_FLIGHT_ROUNDS: u64 = 100;
/// Requests at once, unless configured otherwise (`storage.fetcher_count`).
pub const FETCHERS: usize = 4;
/// With so many bytes fetched but not applied only what is needed next is asked for.
pub const MAX_FETCHED_BYTES: usize = 256 << 20;
/// The first pause after a failed fetch; it doubles with each.
const FIRST_RETRY: Duration = Duration::from_secs(1);
/// Longest pause after a failed fetch.
const MAX_RETRY: Duration = Duration::from_secs(20);

/// Names a fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FetchId {
    /// The round.
    pub round: u64,
    /// I/O or state.
    pub root_type: RootType,
    /// Which attempt.
    pub attempt: u32,
}

/// A difference to ask peers for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FetchDiff {
    /// Its name.
    pub id: FetchId,
    /// Where it begins.
    pub start: Root,
    /// Where it ends.
    pub end: Root,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Ask peers that speak `diffsync`, then those of the old protocol, each within [`DIFF_TIME`]; then call
    /// [`DiffSync::fetched`].
    Fetch(FetchDiff),
    /// What the answer to a fetch was worth.
    Judge(FetchId, Verdict),
    /// A round is final: tell the history, the checkpointer, and whoever counts rounds behind.
    Synced(Synced),
}

#[derive(Debug)]
enum Diff {
    /// To be asked for, not before a time.
    Wanted {
        not_before: Moment,
    },
    Asked,
    /// Fetched, by an attempt.
    Here {
        log: WriteLog,
        bytes: usize,
    },
    /// Needs no fetch.
    Known,
}

#[derive(Debug)]
struct Item {
    start: Root,
    end: Root,
    diff: Diff,
    attempt: u32,
    pause: Duration,
}

/// The state of following. `header` arguments give the history's block of a round.
#[derive(Debug)]
pub struct DiffSync {
    fetchers: usize,
    first: u64,
    /// The last final round.
    synced: Option<u64>,
    latest: Option<u64>,
    /// Rounds in progress, by round and root.
    items: BTreeMap<(u64, RootType), Item>,
    headers: BTreeMap<u64, Header>,
    asked: usize,
    bytes: usize,
}

/// Bytes of a log's keys and values.
fn size(log: &WriteLog) -> usize {
    log.iter().map(|e| e.key.len() + e.value.as_ref().map_or(0, |v| v.len()) + 16).sum()
}

impl DiffSync {
    /// After `synced`, or from the runtime's first round on.
    pub fn new(fetchers: usize, first_round: u64, synced: Option<u64>) -> Self {
        Self {
            fetchers: fetchers.max(1),
            first: first_round,
            synced,
            latest: None,
            items: BTreeMap::new(),
            headers: BTreeMap::new(),
            asked: 0,
            bytes: 0,
        }
    }

    /// There is a new block.
    pub fn new_block(&mut self, round: u64) {
        self.latest = self.latest.max(Some(round));
    }

    /// The last final round.
    pub fn synced(&self) -> Option<u64> {
        self.synced
    }

    /// The newest round.
    pub fn latest(&self) -> Option<u64> {
        self.latest
    }

    /// The last round in progress, if any is.
    pub fn pending(&self) -> Option<u64> {
        self.items.keys().next_back().map(|(round, _)| *round)
    }

    fn next(&self) -> u64 {
        self.synced.map_or(self.first, |synced| synced.saturating_add(1))
    }

    /// Applies what can be applied and says what is to be done. Blocks on the disk.
    ///
    /// # Errors
    /// If the storage fails or a block is not in the history: there is no going on.
    pub fn poll(
        &mut self,
        now: Moment,
        storage: &Storage,
        header: &mut dyn FnMut(u64) -> Option<Header>,
        out: &mut Vec<Effect>,
    ) -> Result<(), StorageError> {
        while self.step(now, storage, header, out)? {}
        Ok(())
    }

    /// As [`DiffSync::poll`], but applies one round at most; whether there may be more to apply.
    ///
    /// # Errors
    /// As [`DiffSync::poll`].
    pub fn step(
        &mut self,
        now: Moment,
        storage: &Storage,
        header: &mut dyn FnMut(u64) -> Option<Header>,
        out: &mut Vec<Effect>,
    ) -> Result<bool, StorageError> {
        self.open_rounds(storage, header)?;
        let applied = self.apply_next(now, storage, out)?;
        if applied {
            self.open_rounds(storage, header)?;
        }
        self.ask(now, out);
        Ok(applied)
    }

    /// Begins with rounds for which there is room.
    fn open_rounds(
        &mut self,
        storage: &Storage,
        header: &mut dyn FnMut(u64) -> Option<Header>,
    ) -> Result<(), StorageError> {
        let Some(latest) = self.latest else { return Ok(()) };
        let next = self.next();
        let last = latest.min(next.saturating_add(MAX_IN_FLIGHT_ROUNDS - 1));
        for round in next..=last {
            if self.items.contains_key(&(round, RootType::STATE)) {
                continue;
            }
            let this = self.header(round, header)?;
            let before = match round.checked_sub(1).filter(|_| round > self.first) {
                Some(before) => Some(self.header(before, header)?),
                None => None,
            };
            let [io, state] = roots_of(&this);
            let empty = |root: &Root| Root { hash: base_prims::Hash::EMPTY, ..*root };
            // The first round's state begins with the empty tree of the same version.
            let start = before.map_or_else(|| empty(&state), |b| roots_of(&b)[1]);
            self.open(storage, empty(&io), io)?;
            self.open(storage, start, state)?;
        }
        Ok(())
    }

    fn open(&mut self, storage: &Storage, start: Root, end: Root) -> Result<(), StorageError> {
        let there = start.hash == end.hash || storage.db().has_root(&end)?;
        let diff = if there { Diff::Known } else { Diff::Wanted { not_before: Moment::ZERO } };
        let item = Item { start, end, diff, attempt: 0, pause: FIRST_RETRY };
        self.items.insert((end.version, end.root_type), item);
        Ok(())
    }

    fn header(&mut self, round: u64, header: &mut dyn FnMut(u64) -> Option<Header>) -> Result<Header, StorageError> {
        if let Some(known) = self.headers.get(&round) {
            return Ok(known.clone());
        }
        let found = header(round).ok_or(StorageError::NoBlock(round))?;
        self.headers.insert(round, found.clone());
        Ok(found)
    }

    /// Applies the next round if it is complete; whether it was.
    fn apply_next(&mut self, now: Moment, storage: &Storage, out: &mut Vec<Effect>) -> Result<bool, StorageError> {
        let round = self.next();
        for root_type in [RootType::IO, RootType::STATE] {
            let Some(item) = self.items.get_mut(&(round, root_type)) else { return Ok(false) };
            if matches!(item.diff, Diff::Wanted { .. } | Diff::Asked) {
                // Meanwhile this node may have computed it.
                if !item.end.hash.is_empty_hash() && storage.db().has_root(&item.end)? {
                    self.asked -= usize::from(matches!(item.diff, Diff::Asked));
                    item.attempt += 1;
                    item.diff = Diff::Known;
                } else {
                    return Ok(false);
                }
            }
        }
        for root_type in [RootType::IO, RootType::STATE] {
            let Some(item) = self.items.get_mut(&(round, root_type)) else { return Ok(false) };
            let id = FetchId { round, root_type, attempt: item.attempt };
            let (log, fetched) = match &item.diff {
                Diff::Here { log, .. } => (log.as_slice(), true),
                _ => (&[][..], false),
            };
            // An empty I/O tree needs no making.
            let nothing = root_type == RootType::IO && item.end.hash.is_empty_hash();
            let applied =
                if nothing { Ok(()) } else { storage.apply(&Apply { start: item.start, end: item.end, log }) };
            match applied {
                Ok(()) if fetched => out.push(Effect::Judge(id, Verdict::Good)),
                Ok(()) => {}
                Err(e) if e.is_bad_log() && fetched => {
                    out.push(Effect::Judge(id, Verdict::Bad));
                    self.take_bytes((round, root_type));
                    self.again(now, (round, root_type));
                    return Ok(false);
                }
                Err(e) => return Err(e),
            }
        }
        let Some(header) = self.headers.get(&round) else { return Err(StorageError::NoBlock(round)) };
        storage.finalize(header)?;
        out.push(Effect::Synced(Synced::of(header)));
        for root_type in [RootType::IO, RootType::STATE] {
            self.take_bytes((round, root_type));
            self.items.remove(&(round, root_type));
        }
        self.synced = Some(round);
        // The header of the last final round is needed for the next one's start.
        self.headers = self.headers.split_off(&round);
        Ok(true)
    }

    fn take_bytes(&mut self, key: (u64, RootType)) {
        if let Some(Item { diff: Diff::Here { bytes, .. }, .. }) = self.items.get(&key) {
            self.bytes -= bytes;
        }
    }

    /// Asks for the difference once more, after a pause.
    fn again(&mut self, now: Moment, key: (u64, RootType)) {
        if let Some(item) = self.items.get_mut(&key) {
            item.diff = Diff::Wanted { not_before: now + item.pause };
            item.pause = (item.pause * 2).min(MAX_RETRY);
            item.attempt += 1;
        }
    }

    fn ask(&mut self, now: Moment, out: &mut Vec<Effect>) {
        let next = self.next();
        for ((round, root_type), item) in &mut self.items {
            if self.asked >= self.fetchers || (self.bytes >= MAX_FETCHED_BYTES && *round != next) {
                break;
            }
            if let Diff::Wanted { not_before } = item.diff
                && not_before <= now
            {
                item.diff = Diff::Asked;
                self.asked += 1;
                let id = FetchId { round: *round, root_type: *root_type, attempt: item.attempt };
                out.push(Effect::Fetch(FetchDiff { id, start: item.start, end: item.end }));
            }
        }
    }

    /// A fetch ended; without result nobody had it. What was not asked for, or no longer is, is passed over.
    pub fn fetched(&mut self, now: Moment, id: FetchId, log: Option<WriteLog>) {
        let key = (id.round, id.root_type);
        let Some(item) = self.items.get_mut(&key) else { return };
        if item.attempt != id.attempt || !matches!(item.diff, Diff::Asked) {
            return;
        }
        self.asked -= 1;
        match log {
            Some(log) => {
                let bytes = size(&log);
                self.bytes += bytes;
                item.diff = Diff::Here { log, bytes };
            }
            None => self.again(now, key),
        }
    }

    /// When to poll again if nothing happens.
    pub fn next_wakeup(&self, now: Moment) -> Option<Moment> {
        let wanted = self.items.values().filter_map(|item| match item.diff {
            Diff::Wanted { not_before } if not_before > now => Some(not_before),
            _ => None,
        });
        wanted.min()
    }
}

#[cfg(test)]
mod tests;
