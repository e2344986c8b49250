//! Beginning with a checkpoint of peers. Source: `go/worker/storage/committee/checkpoint_sync.go`.
//!
//! Of all checkpoints that peers offer, those are tried whose root is that of the block of their round, the newest
//! first. Both roots of a round are restored, then the round is made final; an empty root needs no checkpoint.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use mkvs_db::checkpoint::{CheckpointError, ChunkMetadata, Metadata, Restorer};
use mkvs_tree::{Root, RootType};
use wire_consensus::roothash::Header;

use crate::Verdict;
use crate::error::StorageError;
use crate::storage::{Storage, Synced, roots_of};

/// How long peers may take to list their checkpoints. Source: `cpListsTimeout`.
pub const LIST_TIME: Duration = Duration::from_secs(30);
/// How long a peer may take for a chunk. Source: `cpRestoreTimeout`.
pub const CHUNK_TIME: Duration = Duration::from_secs(60);
/// The pause before the whole is tried again. Source: `checkpointSyncRetryDelay`.
pub const RETRY_DELAY: Duration = Duration::from_secs(10);
/// Most checkpoints taken note of per peer.
pub const MAX_CHECKPOINTS_PER_PEER: usize = 256;
/// Most chunks of a checkpoint: at 8 MiB a chunk, 2 TiB.
pub const MAX_CHUNKS: usize = 1 << 18;
/// A chunk is asked for so many times for each peer that has it, then the checkpoint is given up.
const ATTEMPTS_PER_PEER: usize = 3;

/// A chunk to fetch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChunkRequest<P> {
    /// Number of the attempt; goes into the [`ChunkOutcome`].
    pub id: u64,
    /// The chunk.
    pub chunk: ChunkMetadata,
    /// Who offered the checkpoint.
    pub peers: Vec<P>,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChunkOutcome<P> {
    /// Number of the attempt.
    pub id: u64,
    /// Who answered, and what; nothing if nobody did.
    pub answer: Option<(P, Vec<u8>)>,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event<P> {
    /// Ask one of the peers within [`CHUNK_TIME`], and call [`CheckpointSync::chunk`].
    Fetch(ChunkRequest<P>),
    /// What a peer's answer was worth.
    Judge(P, Verdict),
}

/// How it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// It goes on.
    Running,
    /// The round is restored and final.
    Done(Synced),
    /// No checkpoint was of use.
    Exhausted,
}

#[derive(Debug)]
struct Offer<P> {
    metadata: Metadata,
    peers: Vec<P>,
}

#[derive(Debug)]
struct Chunk {
    attempts: usize,
}

/// The state of a restore from peers. `P` names a peer.
#[derive(Debug)]
pub struct CheckpointSync<P> {
    storage: Storage,
    restorer: Restorer,
    fetchers: usize,
    /// Still to be tried, best last.
    offers: Vec<Offer<P>>,
    current: Option<Offer<P>>,
    /// The round being restored and the roots it still lacks.
    round: Option<(Header, BTreeSet<RootType>)>,
    headers: BTreeMap<u64, Header>,
    /// Chunks to ask for.
    wanted: BTreeSet<u64>,
    chunks: BTreeMap<u64, Chunk>,
    asked: BTreeMap<u64, u64>,
    next_id: u64,
}

impl<P: Clone + Ord> CheckpointSync<P> {
    /// Takes what peers listed. `header` gives the history's block of a round, `genesis` is the runtime's first round;
    /// `only_genesis` takes a checkpoint of no other.
    pub fn new(
        storage: Storage,
        fetchers: usize,
        genesis: u64,
        only_genesis: bool,
        listed: Vec<(P, Vec<Metadata>)>,
        header: &mut dyn FnMut(u64) -> Option<Header>,
        out: &mut Vec<Event<P>>,
    ) -> Self {
        let synced = storage.db().latest_version();
        let mut headers: BTreeMap<u64, Option<Header>> = BTreeMap::new();
        let mut bad: BTreeSet<P> = BTreeSet::new();
        let mut offers: BTreeMap<base_prims::Hash, Offer<P>> = BTreeMap::new();
        for (peer, all) in listed {
            for metadata in all.into_iter().take(MAX_CHECKPOINTS_PER_PEER) {
                let round = metadata.root.version;
                if metadata.validate().is_err() || metadata.chunks.len() > MAX_CHUNKS {
                    bad.insert(peer.clone());
                    continue;
                }
                // The first round has no inputs and outputs; some peers of upgraded networks offer them nevertheless.
                let odd = round == genesis && metadata.root.root_type == RootType::IO;
                let late = synced.is_some_and(|synced| synced >= round);
                if round < genesis || odd || late || (only_genesis && round != genesis) {
                    continue;
                }
                let Some(header) = headers.entry(round).or_insert_with(|| header(round)) else { continue };
                if !roots_of(header).contains(&metadata.root) {
                    bad.insert(peer.clone());
                    continue;
                }
                let offer = offers.entry(metadata.id()).or_insert_with(|| Offer { metadata, peers: Vec::new() });
                if !offer.peers.contains(&peer) {
                    offer.peers.push(peer.clone());
                }
            }
        }
        out.extend(bad.iter().map(|peer| Event::Judge(peer.clone(), Verdict::Bad)));
        let mut offers: Vec<Offer<P>> = offers.into_values().collect();
        for offer in &mut offers {
            offer.peers.retain(|peer| !bad.contains(peer));
        }
        offers.retain(|offer| !offer.peers.is_empty());
        offers.sort_by_key(|o| (o.metadata.root.version, o.peers.len(), o.metadata.root.hash));
        Self {
            restorer: Restorer::new(storage.db().clone()),
            storage,
            fetchers: fetchers.max(1),
            offers,
            current: None,
            round: None,
            headers: headers.into_iter().filter_map(|(round, h)| Some((round, h?))).collect(),
            wanted: BTreeSet::new(),
            chunks: BTreeMap::new(),
            asked: BTreeMap::new(),
            next_id: 0,
        }
    }

    /// Begins, or goes on with the next offer. Call again after each [`CheckpointSync::chunk`].
    ///
    /// # Errors
    /// If the storage fails; call [`CheckpointSync::abort`] then.
    pub fn poll(&mut self, out: &mut Vec<Event<P>>) -> Result<Progress, StorageError> {
        loop {
            if self.current.is_some() {
                self.ask(out);
                return Ok(Progress::Running);
            }
            if let Some((header, lacking)) = &self.round
                && lacking.is_empty()
            {
                let header = header.clone();
                self.round = None;
                self.storage.finalize(&header)?;
                return Ok(Progress::Done(Synced::of(&header)));
            }
            let Some(offer) = self.offers.pop() else {
                self.abort()?;
                return Ok(Progress::Exhausted);
            };
            self.begin(offer)?;
        }
    }

    fn begin(&mut self, offer: Offer<P>) -> Result<(), StorageError> {
        let root = offer.metadata.root;
        if self.round.as_ref().is_none_or(|(header, _)| header.round != root.version) {
            self.abort()?;
            let Some(header) = self.headers.get(&root.version).cloned() else { return Ok(()) };
            let lacking = roots_of(&header).into_iter().filter(|r| !r.hash.is_empty_hash());
            let lacking: BTreeSet<RootType> = lacking.map(|r| r.root_type).collect();
            self.storage.db().start_multipart(root.version)?;
            self.round = Some((header, lacking));
        }
        if !self.round.as_ref().is_some_and(|(_, lacking)| lacking.contains(&root.root_type)) {
            return Ok(());
        }
        self.wanted = (0..offer.metadata.chunks.len() as u64).collect();
        self.chunks.clear();
        self.asked.clear();
        self.restorer.start(offer.metadata.clone())?;
        self.current = Some(offer);
        Ok(())
    }

    fn ask(&mut self, out: &mut Vec<Event<P>>) {
        let Some(offer) = &self.current else { return };
        while self.asked.len() < self.fetchers
            && let Some(index) = self.wanted.pop_first()
        {
            let Some(chunk) = offer.metadata.chunk(index) else { continue };
            self.next_id += 1;
            self.chunks.entry(index).or_insert(Chunk { attempts: 0 }).attempts += 1;
            self.asked.insert(self.next_id, index);
            out.push(Event::Fetch(ChunkRequest { id: self.next_id, chunk, peers: offer.peers.clone() }));
        }
    }

    /// Takes a chunk. Outcomes of attempts that no longer matter are passed over.
    ///
    /// # Errors
    /// If the storage fails; call [`CheckpointSync::abort`] then.
    pub fn chunk(&mut self, outcome: ChunkOutcome<P>, out: &mut Vec<Event<P>>) -> Result<(), StorageError> {
        let Some(index) = self.asked.remove(&outcome.id) else { return Ok(()) };
        let Some((peer, bytes)) = outcome.answer else {
            self.again(index);
            return Ok(());
        };
        match self.restorer.restore_chunk(index, &bytes) {
            Ok(complete) => {
                out.push(Event::Judge(peer, Verdict::Good));
                if complete {
                    self.restored();
                }
                Ok(())
            }
            Err(CheckpointError::ChunkCorrupted { .. }) => {
                out.push(Event::Judge(peer, Verdict::Failure));
                self.again(index);
                Ok(())
            }
            Err(CheckpointError::ChunkInvalid { .. }) => {
                // All who offered it offered a lie.
                let offer = self.current.take();
                let liars: BTreeSet<P> = offer.into_iter().flat_map(|o| o.peers).chain([peer]).collect();
                self.drop_peers(&liars);
                out.extend(liars.into_iter().map(|liar| Event::Judge(liar, Verdict::Bad)));
                self.give_up();
                Ok(())
            }
            Err(e) => Err(e.into()),
        }
    }

    /// A chunk has to be fetched once more, if there is hope.
    fn again(&mut self, index: u64) {
        let peers = self.current.as_ref().map_or(0, |o| o.peers.len());
        let attempts = self.chunks.get(&index).map_or(0, |c| c.attempts);
        if attempts < peers.saturating_mul(ATTEMPTS_PER_PEER) {
            self.wanted.insert(index);
        } else {
            self.give_up();
        }
    }

    fn drop_peers(&mut self, liars: &BTreeSet<P>) {
        for offer in &mut self.offers {
            offer.peers.retain(|peer| !liars.contains(peer));
        }
        self.offers.retain(|offer| !offer.peers.is_empty());
    }

    fn restored(&mut self) {
        if let (Some(offer), Some((_, lacking))) = (self.current.take(), &mut self.round) {
            lacking.remove(&offer.metadata.root.root_type);
        }
        self.asked.clear();
        self.wanted.clear();
    }

    /// Forgets the checkpoint in progress. What was verified of it stays for the next one of the same root.
    fn give_up(&mut self) {
        self.restorer.abort();
        self.current = None;
        self.wanted.clear();
        self.asked.clear();
    }

    /// Ends the restore; what it brought is dropped.
    ///
    /// # Errors
    /// If the storage fails.
    pub fn abort(&mut self) -> Result<(), StorageError> {
        self.give_up();
        self.round = None;
        Ok(self.storage.db().abort_multipart()?)
    }

    /// Roots being restored and chunks left of the current one, for the log.
    pub fn current(&self) -> Option<(Root, usize)> {
        self.current.as_ref().map(|o| (o.metadata.root, self.restorer.pending().count()))
    }
}

#[cfg(test)]
mod tests;
