//! The evidence pool: proven misbehaviour that waits for a block, and what was in blocks already.
//!
//! Reference: `cometbft:evidence/pool.go`.
//!
//! Other than in the reference, what is pending is bounded, also per offender, for one validator can sign any number of
//! different votes; evidence too large for a proposal does not hold up what comes after it; and records of committed
//! evidence go when it is expired.

pub mod reactor;
mod records;

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use base_kv::{KvError, KvStore};
use comet_chain::evidence::{
    EvidenceSource, SourceError, VerifyError, is_expired, new_duplicate_vote, verify, verify_duplicate_vote,
};
use comet_chain::state::State;
use parking_lot::Mutex;
use tokio::sync::watch;
use wire_cometbft::Message;
use wire_cometbft::evidence::{DuplicateVoteEvidence, Evidence, EvidenceSum};
use wire_cometbft::merkle::Hash;
use wire_cometbft::vote::Vote;

use records::{EvidenceKey, Records, key_of};

/// Most pieces of evidence that wait.
pub const MAX_PENDING: usize = 1_000;
/// Most bytes of evidence that wait.
pub const MAX_PENDING_BYTES: usize = 16 << 20;
/// Most double votes of one validator that wait; each slashes it, one would do.
pub const MAX_PENDING_PER_VALIDATOR: usize = 16;
/// Most light client attacks that wait.
pub const MAX_PENDING_ATTACKS: usize = 16;
/// Most pairs of conflicting votes that wait for the end of their height.
pub const MAX_CONFLICTS: usize = 1_000;
/// Most of those of one validator.
pub const MAX_CONFLICTS_PER_VALIDATOR: usize = 4;

/// What became of evidence that is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Added {
    /// It waits for a block now.
    New,
    /// It waits already.
    Pending,
    /// It was in a block.
    Committed,
    /// It may be good, but there is no room for more of its kind.
    NoRoom,
}

/// Why evidence is not taken.
#[derive(Debug, thiserror::Error)]
pub enum AddError {
    /// It is bad: whoever sent it should have known.
    #[error("invalid evidence: {0}")]
    Invalid(#[source] VerifyError),
    /// The node does not have the block that it is about (any more, or yet).
    #[error("evidence can't be checked: {0}")]
    Unknown(#[source] VerifyError),
    /// The node could not read the chain.
    #[error("evidence can't be checked: {0}")]
    Source(#[source] SourceError),
    /// The node could not read or write the pool.
    #[error("evidence store: {0}")]
    Store(#[from] KvError),
}

impl From<VerifyError> for AddError {
    fn from(error: VerifyError) -> Self {
        match error {
            VerifyError::Source(error) => Self::Source(error),
            error @ VerifyError::Missing { .. } => Self::Unknown(error),
            error => Self::Invalid(error),
        }
    }
}

/// Place of evidence in the order of arrival.
pub(crate) type EvidenceSeq = u64;

struct Pending {
    evidence: Arc<Evidence>,
    /// Bytes in a list, key and length included.
    bytes: usize,
    seq: EvidenceSeq,
}

struct Inner {
    state: Arc<State>,
    pending: BTreeMap<EvidenceKey, Pending>,
    by_arrival: BTreeMap<EvidenceSeq, EvidenceKey>,
    next: EvidenceSeq,
    bytes: usize,
    conflicts: Vec<(Vote, Vote)>,
    /// Committed, but could not be written.
    unwritten: BTreeMap<EvidenceKey, wire_cometbft::Time>,
}

/// Evidence that waits for a block, on disk and in memory.
pub struct EvidencePool {
    records: Records,
    source: Arc<dyn EvidenceSource + Send + Sync>,
    inner: Mutex<Inner>,
    arrivals: watch::Sender<EvidenceSeq>,
}

impl std::fmt::Debug for EvidencePool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EvidencePool").field("size", &self.size()).finish_non_exhaustive()
    }
}

/// Bytes of evidence within a list.
fn listed_bytes(evidence: &Evidence) -> usize {
    let len = evidence.encoded_len();
    let bits = usize::BITS - (len | 1).leading_zeros();
    len + 1 + bits.div_ceil(7) as usize
}

fn voter(evidence: &Evidence) -> Option<&[u8]> {
    match &evidence.sum {
        Some(EvidenceSum::DuplicateVote(duplicate)) => {
            duplicate.vote_a.as_ref().map(|vote| vote.validator_address.as_slice())
        }
        _ => None,
    }
}

impl Inner {
    /// Whether there is room for evidence against the same offender.
    fn has_room(&self, evidence: &Evidence, bytes: usize) -> bool {
        // What does not fit in a message could not be sent to peers.
        if bytes > reactor::MAX_EVIDENCE_MESSAGE_BYTES {
            return false;
        }
        if self.pending.len() >= MAX_PENDING || self.bytes.saturating_add(bytes) > MAX_PENDING_BYTES {
            return false;
        }
        let voter_here = voter(evidence);
        let alike = self.pending.values().filter(|pending| voter(&pending.evidence) == voter_here).count();
        alike < if voter_here.is_some() { MAX_PENDING_PER_VALIDATOR } else { MAX_PENDING_ATTACKS }
    }

    fn insert(&mut self, key: EvidenceKey, evidence: Evidence, bytes: usize) -> EvidenceSeq {
        self.next += 1;
        let seq = self.next;
        self.bytes += bytes;
        self.by_arrival.insert(seq, key);
        self.pending.insert(key, Pending { evidence: Arc::new(evidence), bytes, seq });
        seq
    }

    fn remove(&mut self, key: &EvidenceKey) {
        if let Some(pending) = self.pending.remove(key) {
            self.by_arrival.remove(&pending.seq);
            self.bytes -= pending.bytes;
        }
    }

    fn expired(&self) -> Vec<EvidenceKey> {
        let old = |evidence: &Evidence| is_expired(&self.state, evidence.height(), evidence.time());
        self.pending.iter().filter(|(_, pending)| old(&pending.evidence)).map(|(key, _)| *key).collect()
    }
}

impl EvidencePool {
    /// Opens the pool with the state after the last block; `source` is the stored chain, `comet_store::StoredChain`.
    ///
    /// # Errors
    /// If the store can't be read or written.
    pub fn open(
        store: Arc<dyn KvStore>,
        source: Arc<dyn EvidenceSource + Send + Sync>,
        state: Arc<State>,
    ) -> Result<Self, KvError> {
        let records = Records(store);
        let mut inner = Inner {
            state,
            pending: BTreeMap::new(),
            by_arrival: BTreeMap::new(),
            next: 0,
            bytes: 0,
            conflicts: Vec::new(),
            unwritten: BTreeMap::new(),
        };
        let mut gone = Vec::new();
        for (key, evidence) in records.pending()? {
            let bytes = listed_bytes(&evidence);
            let expired = is_expired(&inner.state, key.0, evidence.time());
            if expired || records.is_committed(&key)? || !inner.has_room(&evidence, bytes) {
                gone.push(key);
            } else {
                inner.insert(key, evidence, bytes);
            }
        }
        if !gone.is_empty() {
            records.remove_pending(&gone)?;
        }
        let arrivals = watch::Sender::new(inner.next);
        Ok(Self { records, source, inner: Mutex::new(inner), arrivals })
    }

    /// Pieces of evidence that wait.
    pub fn size(&self) -> usize {
        self.inner.lock().pending.len()
    }

    /// The state that evidence is held against.
    pub fn state(&self) -> Arc<State> {
        Arc::clone(&self.inner.lock().state)
    }

    /// Whether evidence, given by height and hash, waits for a block.
    pub fn is_pending(&self, height: i64, hash: &Hash) -> bool {
        self.inner.lock().pending.contains_key(&(height, *hash))
    }

    /// Whether evidence, given by height and hash, was in a block and is not expired.
    ///
    /// # Errors
    /// If the store can't be read.
    pub fn is_committed(&self, height: i64, hash: &Hash) -> Result<bool, KvError> {
        self.is_committed_key(&(height, *hash))
    }

    fn is_committed_key(&self, key: &EvidenceKey) -> Result<bool, KvError> {
        if self.inner.lock().unwritten.contains_key(key) {
            return Ok(true);
        }
        self.records.is_committed(key)
    }

    /// Takes evidence that a peer, a light client or an operator brings, if it holds. Checks signatures and reads the
    /// chain: for threads that may block.
    ///
    /// # Errors
    /// If it is bad or can't be checked.
    pub fn add(&self, mut evidence: Evidence) -> Result<Added, AddError> {
        evidence.normalize();
        let key = key_of(&evidence);
        if self.inner.lock().pending.contains_key(&key) {
            return Ok(Added::Pending);
        }
        if self.is_committed_key(&key)? {
            return Ok(Added::Committed);
        }
        let bytes = listed_bytes(&evidence);
        // Before the check: what there is no room for shall cost nothing.
        let state = {
            let inner = self.inner.lock();
            if !inner.has_room(&evidence, bytes) {
                return Ok(Added::NoRoom);
            }
            Arc::clone(&inner.state)
        };
        verify(&evidence, &state, &*self.source)?;
        self.insert(key, evidence)
    }

    /// Puts verified evidence into the pool, unless a block was faster.
    fn insert(&self, key: EvidenceKey, evidence: Evidence) -> Result<Added, AddError> {
        let bytes = listed_bytes(&evidence);
        let mut inner = self.inner.lock();
        if inner.pending.contains_key(&key) {
            return Ok(Added::Pending);
        }
        if inner.unwritten.contains_key(&key) || self.records.is_committed(&key)? {
            return Ok(Added::Committed);
        }
        if !inner.has_room(&evidence, bytes) {
            return Ok(Added::NoRoom);
        }
        self.records.put_pending(&key, &evidence)?;
        tracing::info!(height = key.0, offender = ?voter(&evidence).map(hex_of), "new evidence of misbehaviour");
        let seq = inner.insert(key, evidence, bytes);
        self.arrivals.send_replace(seq);
        Ok(Added::New)
    }

    /// Checks one piece of a block's evidence.
    fn check_one(&self, state: &State, evidence: &Evidence, key: &EvidenceKey) -> Result<(), String> {
        // The key of a light client attack does not cover all of it.
        let covered = voter(evidence).is_some();
        if covered && self.inner.lock().pending.contains_key(key) {
            return Ok(());
        }
        match self.is_committed_key(key) {
            Ok(false) => {}
            Ok(true) => return Err("evidence was already committed".to_owned()),
            Err(error) => return Err(AddError::Store(error).to_string()),
        }
        verify(evidence, state, &*self.source).map_err(|error| AddError::from(error).to_string())?;
        // The next checks of the same block need not verify it again.
        if let Err(error) = self.insert(*key, evidence.clone()) {
            tracing::error!(%error, "evidence of a proposed block can't be kept");
        }
        Ok(())
    }

    /// Evidence of two votes for a height that is over.
    fn evidence_of(&self, state: &State, first: Vote, second: Vote) -> Result<DuplicateVoteEvidence, VerifyError> {
        let height = first.height;
        let missing = |what| VerifyError::Missing { what, height };
        let (time, loaded);
        let set = if height == state.last_block_height {
            time = state.last_block_time;
            &state.last_validators
        } else {
            time = self.source.header(height).map_err(VerifyError::Source)?.ok_or(missing("header"))?.time;
            loaded = self.source.validators(height).map_err(VerifyError::Source)?.ok_or(missing("validators"))?;
            &loaded
        };
        let voter = hex_of(&first.validator_address);
        let evidence = new_duplicate_vote(first, second, time, set).ok_or(VerifyError::NotValidator(voter))?;
        evidence.validate_basic()?;
        verify_duplicate_vote(&evidence, &state.chain_id, set)?;
        Ok(evidence)
    }

    /// Makes evidence of the conflicting votes whose height is over; keeps those of the height that follows.
    fn flush_conflicts(&self, state: &State) {
        let over = {
            let mut inner = self.inner.lock();
            let all = std::mem::take(&mut inner.conflicts);
            let (over, mut waiting): (Vec<_>, Vec<_>) =
                all.into_iter().partition(|(first, _)| first.height <= state.last_block_height);
            waiting.retain(|(first, _)| first.height == state.next_height());
            inner.conflicts = waiting;
            over
        };
        for (first, second) in over {
            let (height, voter) = (first.height, hex_of(&first.validator_address));
            let added = self.evidence_of(state, first, second).map_err(AddError::from).and_then(|evidence| {
                let evidence = Evidence::from(evidence);
                self.insert(key_of(&evidence), evidence)
            });
            match added {
                Ok(added) => tracing::debug!(height, voter, ?added, "conflicting votes made evidence"),
                Err(error) => tracing::error!(height, voter, %error, "conflicting votes make no evidence"),
            }
        }
    }

    fn mark_committed(&self, committed: &[Evidence]) {
        let all: Vec<_> = committed.iter().map(|evidence| (key_of(evidence), evidence.time())).collect();
        let mut inner = self.inner.lock();
        for (key, _) in &all {
            inner.remove(key);
        }
        let mut writing = std::mem::take(&mut inner.unwritten);
        writing.extend(all);
        if writing.is_empty() {
            return;
        }
        let list: Vec<_> = writing.iter().map(|(key, time)| (*key, *time)).collect();
        if let Err(error) = self.records.commit(&list) {
            tracing::error!(%error, "committed evidence can't be noted on disk; will be tried with the next block");
            inner.unwritten = writing;
        }
    }

    fn prune(&self, state: &State) {
        let expired = {
            let mut inner = self.inner.lock();
            let expired = inner.expired();
            for key in &expired {
                inner.remove(key);
            }
            inner.unwritten.retain(|key, time| !is_expired(state, key.0, *time));
            expired
        };
        let removed = if expired.is_empty() { Ok(()) } else { self.records.remove_pending(&expired) };
        let pruned =
            removed.and_then(|()| self.records.prune_committed(|height, time| is_expired(state, height, time)));
        if let Err(error) = pruned {
            tracing::error!(%error, "expired evidence can't be removed from disk");
        }
    }

    /// The evidence that came next after that one.
    pub(crate) fn next_after(&self, seq: EvidenceSeq) -> Option<(EvidenceSeq, Arc<Evidence>)> {
        let inner = self.inner.lock();
        let (seq, key) = inner.by_arrival.range((Bound::Excluded(seq), Bound::Unbounded)).next()?;
        inner.pending.get(key).map(|pending| (*seq, Arc::clone(&pending.evidence)))
    }

    /// Changes with every new piece of evidence.
    pub(crate) fn subscribe_arrivals(&self) -> watch::Receiver<EvidenceSeq> {
        self.arrivals.subscribe()
    }
}

impl comet_store::EvidencePool for EvidencePool {
    fn pending(&self, max_bytes: i64) -> Vec<Evidence> {
        let inner = self.inner.lock();
        let mut left = if max_bytes < 0 { usize::MAX } else { usize::try_from(max_bytes).unwrap_or(usize::MAX) };
        let mut out = Vec::new();
        for pending in inner.pending.values() {
            if let Some(rest) = left.checked_sub(pending.bytes) {
                left = rest;
                out.push(Evidence::clone(&pending.evidence));
            }
        }
        out
    }

    fn check(&self, state: &State, evidence: &[Evidence]) -> Result<(), String> {
        let max = state.consensus_params.evidence.max_bytes;
        let bytes = evidence.iter().fold(0_usize, |sum, piece| sum.saturating_add(listed_bytes(piece)));
        if i64::try_from(bytes).map_or(true, |bytes| bytes > max) {
            return Err(format!("evidence of {bytes} bytes, at most {max} allowed"));
        }
        let mut keys = std::collections::BTreeSet::new();
        for piece in evidence {
            let key = key_of(piece);
            if !keys.insert(key.1) {
                return Err("duplicate evidence".to_owned());
            }
            self.check_one(state, piece, &key)?;
        }
        Ok(())
    }

    fn update(&self, state: &State, committed: &[Evidence]) {
        self.flush_conflicts(state);
        {
            let mut inner = self.inner.lock();
            if state.last_block_height > inner.state.last_block_height {
                inner.state = Arc::new(state.clone());
            }
        }
        self.mark_committed(committed);
        self.prune(state);
    }

    fn report_conflicting_votes(&self, first: Vote, second: Vote) {
        let mut inner = self.inner.lock();
        let same_voter = |(vote, _): &&(Vote, Vote)| vote.validator_address == first.validator_address;
        let of_voter = inner.conflicts.iter().filter(same_voter).count();
        if inner.conflicts.len() >= MAX_CONFLICTS || of_voter >= MAX_CONFLICTS_PER_VALIDATOR {
            tracing::debug!(height = first.height, "too many conflicting votes wait for their height to end");
            return;
        }
        inner.conflicts.push((first, second));
    }
}

fn hex_of(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect()
}

#[cfg(test)]
pub(crate) mod tests;
