//! Chunks of the snapshot being restored: which are wanted, asked for, on disk, applied.
//!
//! Reference: `cometbft:statesync/chunks.go`. Only chunks shortly before the next one to be applied are fetched, and they
//! are removed when applied, so that the folder stays small however large the snapshot is.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Instant;

use comet_core::PeerId;

/// Chunks on disk or asked for at most, from the next one to be applied on.
pub const MAX_AHEAD: u32 = 32;
/// Peers asked for one chunk that are remembered.
pub const MAX_ASKED: usize = 8;

#[derive(Debug)]
enum Stage {
    /// Asked for; the last request was made at this time.
    Asked { peers: Vec<PeerId>, at: Instant },
    /// On disk.
    Stored { sender: PeerId },
    /// Taken by the application.
    Applied,
}

/// A chunk from disk.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Chunk {
    /// Its number.
    pub index: u32,
    /// Contents.
    pub bytes: Vec<u8>,
    /// Who sent it.
    pub sender: PeerId,
}

/// The queue. Its folder is removed when it is dropped.
#[derive(Debug)]
pub(super) struct ChunkQueue {
    dir: PathBuf,
    count: u32,
    /// Chunks that are not merely wanted. Applied ones at the beginning are left out.
    stages: BTreeMap<u32, Stage>,
    /// Every chunk below is applied.
    next: u32,
}

impl ChunkQueue {
    /// A queue for `count` chunks in the new folder `dir`.
    ///
    /// # Errors
    /// If the folder cannot be made.
    pub(super) fn new(dir: &Path, count: u32) -> io::Result<Self> {
        std::fs::create_dir_all(dir)?;
        Ok(Self { dir: dir.to_owned(), count, stages: BTreeMap::new(), next: 0 })
    }

    fn path(&self, index: u32) -> PathBuf {
        self.dir.join(index.to_string())
    }

    /// Whether every chunk was applied.
    pub(super) fn is_done(&self) -> bool {
        self.next >= self.count
    }

    #[cfg(test)]
    fn next(&self) -> u32 {
        self.next
    }

    /// Number of chunks asked for and not there.
    pub(super) fn open_requests(&self) -> usize {
        self.stages.values().filter(|stage| matches!(stage, Stage::Asked { .. })).count()
    }

    /// The lowest chunk that is to be asked for for the first time.
    pub(super) fn wanted(&self) -> Option<u32> {
        let end = self.count.min(self.next.saturating_add(MAX_AHEAD));
        (self.next..end).find(|index| !self.stages.contains_key(index))
    }

    /// Chunks that were asked for before `deadline`, with who was asked.
    pub(super) fn overdue(&self, deadline: Instant) -> Vec<(u32, Vec<PeerId>)> {
        let overdue = |(index, stage): (&u32, &Stage)| match stage {
            Stage::Asked { peers, at } if *at <= deadline => Some((*index, peers.clone())),
            _ => None,
        };
        self.stages.iter().filter_map(overdue).collect()
    }

    /// A chunk is asked of a peer.
    pub(super) fn asked(&mut self, index: u32, peer: PeerId, now: Instant) {
        let stage = self.stages.entry(index).or_insert_with(|| Stage::Asked { peers: Vec::new(), at: now });
        if let Stage::Asked { peers, at } = stage {
            *at = now;
            if !peers.contains(&peer) {
                if peers.len() >= MAX_ASKED {
                    peers.remove(0);
                }
                peers.push(peer);
            }
        }
    }

    /// Takes a chunk; `false` if it was not asked of this peer or is there already.
    ///
    /// # Errors
    /// If it cannot be written.
    pub(super) fn store(&mut self, index: u32, bytes: &[u8], sender: &PeerId) -> io::Result<bool> {
        match self.stages.get(&index) {
            Some(Stage::Asked { peers, .. }) if peers.contains(sender) => {}
            _ => return Ok(false),
        }
        std::fs::write(self.path(index), bytes)?;
        self.stages.insert(index, Stage::Stored { sender: sender.clone() });
        Ok(true)
    }

    /// A peer says that it does not have a chunk; `false` if it was not asked.
    pub(super) fn missing(&mut self, index: u32, peer: &PeerId) -> bool {
        let Some(Stage::Asked { peers, .. }) = self.stages.get_mut(&index) else {
            return false;
        };
        let before = peers.len();
        peers.retain(|other| other != peer);
        let told = peers.len() < before;
        if peers.is_empty() {
            self.stages.remove(&index);
        }
        told
    }

    /// The next chunk to be applied, if it is there.
    ///
    /// # Errors
    /// If it cannot be read.
    pub(super) fn load_next(&self) -> io::Result<Option<Chunk>> {
        let index = self.next;
        match self.stages.get(&index) {
            Some(Stage::Stored { sender }) => {
                Ok(Some(Chunk { index, bytes: std::fs::read(self.path(index))?, sender: sender.clone() }))
            }
            _ => Ok(None),
        }
    }

    /// The application took a chunk.
    pub(super) fn applied(&mut self, index: u32) {
        self.remove_file(index);
        self.stages.insert(index, Stage::Applied);
        while matches!(self.stages.get(&self.next), Some(Stage::Applied)) {
            self.stages.remove(&self.next);
            self.next += 1;
        }
    }

    /// A chunk is to be fetched and applied (again).
    pub(super) fn refetch(&mut self, index: u32) {
        if index >= self.count {
            return;
        }
        self.remove_file(index);
        // Those applied after it stay applied.
        for between in index..self.next {
            self.stages.insert(between, Stage::Applied);
        }
        self.next = self.next.min(index);
        self.stages.remove(&index);
    }

    /// Chunks of a sender that were not applied are to be fetched again.
    pub(super) fn discard_sender(&mut self, sender: &PeerId) {
        let theirs = |stage: &Stage| matches!(stage, Stage::Stored { sender: other } if other == sender);
        let discarded: Vec<u32> =
            self.stages.iter().filter(|(_, stage)| theirs(stage)).map(|(index, _)| *index).collect();
        for index in discarded {
            self.remove_file(index);
            self.stages.remove(&index);
        }
        self.forget_requests(sender);
    }

    /// Requests to a peer will not be answered.
    pub(super) fn forget_requests(&mut self, peer: &PeerId) {
        self.stages.retain(|_, stage| match stage {
            Stage::Asked { peers, .. } => {
                peers.retain(|other| other != peer);
                !peers.is_empty()
            }
            _ => true,
        });
    }

    /// Begins anew.
    pub(super) fn restart(&mut self) {
        let stored: Vec<u32> = self.stages.keys().copied().collect();
        stored.into_iter().for_each(|index| self.remove_file(index));
        self.stages.clear();
        self.next = 0;
    }

    fn remove_file(&self, index: u32) {
        if matches!(self.stages.get(&index), Some(Stage::Stored { .. }))
            && let Err(error) = std::fs::remove_file(self.path(index))
        {
            tracing::warn!(index, %error, "chunk file cannot be removed");
        }
    }
}

impl Drop for ChunkQueue {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.dir) {
            tracing::warn!(dir = %self.dir.display(), %error, "folder of chunks cannot be removed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(number: u32) -> PeerId {
        PeerId::new(&number.to_string())
    }

    fn queue(count: u32) -> (tempfile::TempDir, ChunkQueue) {
        let dir = tempfile::tempdir().unwrap();
        let queue = ChunkQueue::new(&dir.path().join("chunks"), count).unwrap();
        (dir, queue)
    }

    fn files(dir: &tempfile::TempDir) -> usize {
        std::fs::read_dir(dir.path().join("chunks")).map_or(0, Iterator::count)
    }

    #[test]
    fn chunks_come_in_any_order_and_are_applied_in_theirs() {
        let (dir, mut queue) = queue(4);
        let now = Instant::now();
        for index in 0..4 {
            assert_eq!(queue.wanted(), Some(index));
            queue.asked(index, peer(index), now);
        }
        assert_eq!((queue.wanted(), queue.open_requests()), (None, 4));
        assert!(!queue.store(2, b"two", &peer(1)).unwrap(), "another peer was asked");
        for index in [2, 0, 3, 1] {
            assert!(queue.store(index, &[index as u8], &peer(index)).unwrap());
            assert!(!queue.store(index, &[9], &peer(index)).unwrap());
        }
        for index in 0..4 {
            let chunk = queue.load_next().unwrap().unwrap();
            assert_eq!(chunk, Chunk { index, bytes: vec![index as u8], sender: peer(index) });
            queue.applied(index);
        }
        assert!(queue.is_done() && files(&dir) == 0);
        drop(queue);
        assert!(!dir.path().join("chunks").exists());
    }

    #[test]
    fn what_is_fetched_ahead_is_bounded() {
        let (_dir, mut queue) = queue(100_000);
        let mut asked = 0;
        while let Some(index) = queue.wanted() {
            queue.asked(index, peer(1), Instant::now());
            asked += 1;
        }
        assert_eq!(asked, MAX_AHEAD);
        queue.store(0, b"x", &peer(1)).unwrap();
        queue.applied(0);
        assert_eq!(queue.wanted(), Some(MAX_AHEAD));
        for number in 0..100 {
            queue.asked(1, peer(number), Instant::now());
        }
        assert_eq!(queue.overdue(Instant::now())[0].1.len(), MAX_ASKED);
    }

    #[test]
    fn refetch_restart_and_senders() {
        let (dir, mut queue) = queue(5);
        let now = Instant::now();
        for index in 0..5 {
            queue.asked(index, peer(index % 2), now);
            queue.store(index, b"x", &peer(index % 2)).unwrap();
        }
        (0..3).for_each(|index| queue.applied(index));
        queue.refetch(1);
        assert_eq!((queue.next(), queue.wanted()), (1, Some(1)));
        queue.asked(1, peer(7), now);
        queue.store(1, b"y", &peer(7)).unwrap();
        queue.applied(1);
        assert_eq!(queue.next(), 3);
        queue.discard_sender(&peer(1));
        assert_eq!((queue.wanted(), files(&dir)), (Some(3), 1));
        queue.asked(3, peer(2), now);
        assert!(!queue.missing(3, &peer(5)) && queue.missing(3, &peer(2)));
        assert_eq!(queue.wanted(), Some(3));
        queue.restart();
        assert_eq!((queue.next(), queue.wanted(), files(&dir)), (0, Some(0), 0));
        queue.refetch(99);
    }

    #[test]
    fn late_requests_are_told() {
        let (_dir, mut queue) = queue(2);
        let now = Instant::now();
        queue.asked(0, peer(1), now);
        assert!(queue.overdue(now - std::time::Duration::from_secs(1)).is_empty());
        assert_eq!(queue.overdue(now), vec![(0, vec![peer(1)])]);
        queue.forget_requests(&peer(1));
        assert!(queue.overdue(now).is_empty() && queue.wanted() == Some(0));
    }
}
