//! What must hold in every run, said again without the production code's own helpers.
//!
//! * Agreement: no two honest nodes store different blocks of a height, nor one node over a restart.
//! * Valid commits: signatures in a stored commit, checked over bytes written out here, are for the block with more
//!   than two thirds of the power.
//! * Lock: after a precommit for a block, a node prevotes that block, until it could have seen two thirds of a later
//!   round's prevotes for something else; and it precommits only what it could have seen two thirds of prevotes for.
//! * No double sign: one thing per height, round and type leaves a node's guard, over all restarts.
//! * Equal application hash after each height.
//! * Time grows from block to block.
//! * Evidence of reported conflicting votes lands in a block within [`EVIDENCE_WITHIN`] heights.

use std::collections::{BTreeMap, BTreeSet};

use base_crypto::ed25519;
use comet_chain::state::State;
use comet_core::HeldBlock;
use sha2::{Digest, Sha512, Sha512_256};
use wire_cometbft::Time;
use wire_cometbft::block::{BlockId, Commit};
use wire_cometbft::evidence::EvidenceSum;
use wire_cometbft::vote::{SignedMsgType, Vote};

use crate::node::Observed;

/// Heights within which evidence must be in a block.
pub const EVIDENCE_WITHIN: i64 = 10;

type Powers = BTreeMap<Vec<u8>, ([u8; 32], i64)>;

/// Voters by block.
type Voters = BTreeMap<Vec<u8>, BTreeSet<Vec<u8>>>;

#[derive(Debug, Default)]
struct Watched {
    /// What was signed, by height, round, type.
    signed: BTreeMap<(i64, i32, i32), Vec<u8>>,
    /// Prevotes that the node was sent or made, by height, round, block: voters.
    prevotes: BTreeMap<(i64, i32), Voters>,
    /// Its own precommits for blocks, by height.
    precommits: BTreeMap<i64, BTreeMap<i32, Vec<u8>>>,
    /// Conflicts reported since the last crash: height and validator.
    conflicts: BTreeSet<(i64, Vec<u8>)>,
}

/// Watches the honest nodes of one run.
#[derive(Debug)]
pub struct Oracle {
    chain_id: String,
    powers: BTreeMap<i64, Powers>,
    blocks: BTreeMap<i64, (Vec<u8>, Time)>,
    app_hashes: BTreeMap<i64, Vec<u8>>,
    watched: BTreeMap<usize, Watched>,
    faults_in_blocks: BTreeSet<(i64, Vec<u8>)>,
    /// Signatures that were checked and hold.
    checked: BTreeSet<[u8; 64]>,
    locked_votes: u64,
    violations: Vec<String>,
}

/// Identity of a block: hash and parts.
fn key(id: &BlockId) -> Vec<u8> {
    let mut key = id.hash.clone();
    key.extend_from_slice(&id.part_set_header.total.to_be_bytes());
    key.extend_from_slice(&id.part_set_header.hash);
    key
}

fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn bytes_field(number: u8, bytes: &[u8], out: &mut Vec<u8>) {
    out.push(number << 3 | 2);
    varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

/// What a precommit signs, written out by hand.
fn precommit_bytes(chain_id: &str, commit: &Commit, for_block: bool, time: Time) -> Vec<u8> {
    let mut body = vec![0x08, 2, 0x11];
    body.extend_from_slice(&commit.height.to_le_bytes());
    if commit.round != 0 {
        body.push(0x19);
        body.extend_from_slice(&i64::from(commit.round).to_le_bytes());
    }
    if for_block {
        let mut parts = vec![0x08];
        varint(u64::from(commit.block_id.part_set_header.total), &mut parts);
        bytes_field(2, &commit.block_id.part_set_header.hash, &mut parts);
        let mut id = Vec::new();
        bytes_field(1, &commit.block_id.hash, &mut id);
        bytes_field(2, &parts, &mut id);
        bytes_field(4, &id, &mut body);
    }
    let mut stamp = Vec::new();
    for (number, value) in [(1u8, time.seconds() as u64), (2, u64::from(time.nanos()))] {
        if value != 0 {
            stamp.push(number << 3);
            varint(value, &mut stamp);
        }
    }
    bytes_field(5, &stamp, &mut body);
    bytes_field(6, chain_id.as_bytes(), &mut body);
    let mut out = Vec::new();
    varint(body.len() as u64, &mut out);
    out.extend(body);
    out
}

impl Oracle {
    /// An oracle for a chain that starts from this state.
    pub fn new(genesis: &State) -> Self {
        let mut oracle = Self {
            chain_id: genesis.chain_id.clone(),
            powers: BTreeMap::new(),
            blocks: BTreeMap::new(),
            app_hashes: BTreeMap::new(),
            watched: BTreeMap::new(),
            faults_in_blocks: BTreeSet::new(),
            checked: BTreeSet::new(),
            locked_votes: 0,
            violations: Vec::new(),
        };
        oracle.note_validators(genesis);
        oracle
    }

    fn note_validators(&mut self, state: &State) {
        let set = state.validators.validators();
        let powers = set.iter().map(|v| (v.address.0.to_vec(), (v.pub_key, v.voting_power))).collect();
        self.powers.entry(state.last_block_height + 1).or_insert(powers);
    }

    fn violated(&mut self, what: String) {
        if self.violations.len() < 20 {
            self.violations.push(what);
        }
    }

    /// What was violated so far.
    pub fn violations(&self) -> &[String] {
        &self.violations
    }

    /// Greatest height of any stored block.
    pub fn height(&self) -> i64 {
        self.blocks.keys().next_back().copied().unwrap_or(0)
    }

    /// Number of faults that blocks name.
    pub fn faults(&self) -> usize {
        self.faults_in_blocks.len()
    }

    /// Number of votes that were checked against a lock of an earlier round.
    pub fn locked_votes(&self) -> u64 {
        self.locked_votes
    }

    /// An honest node was sent a vote.
    pub fn delivered(&mut self, node: usize, vote: &Vote) {
        if vote.kind == SignedMsgType::PREVOTE {
            let watched = self.watched.entry(node).or_default();
            let round = watched.prevotes.entry((vote.height, vote.round)).or_default();
            round.entry(key(&vote.block_id)).or_default().insert(vote.validator_address.clone());
        }
    }

    /// An honest node crashed.
    pub fn crashed(&mut self, node: usize) {
        self.watched.entry(node).or_default().conflicts.clear();
    }

    /// An honest node did something.
    pub fn observe(&mut self, node: usize, observed: &Observed) {
        match observed {
            Observed::Signed { height, round, kind, bytes, vote } => {
                let signed = &mut self.watched.entry(node).or_default().signed;
                let before = signed.entry((*height, *round, kind.0)).or_insert_with(|| bytes.clone());
                if before != bytes {
                    self.violated(format!("node {node} signed twice at {height}/{round}/{}", kind.0));
                }
                if let Some(vote) = vote {
                    self.voted(node, vote);
                }
            }
            Observed::Saved(block, commit) => self.saved(node, block, commit),
            Observed::Applied(state) => {
                self.note_validators(state);
                let height = state.last_block_height;
                let hash = self.app_hashes.entry(height).or_insert_with(|| state.app_hash.clone());
                if *hash != state.app_hash {
                    self.violated(format!("node {node} has another application hash at {height}"));
                }
            }
            Observed::Conflict(vote) => {
                let watched = self.watched.entry(node).or_default();
                watched.conflicts.insert((vote.height, vote.validator_address.clone()));
            }
            Observed::Failed(reason) => self.violated(format!("node {node} stopped: {reason}")),
        }
    }

    fn power_of(&self, height: i64, voters: &BTreeSet<Vec<u8>>) -> i64 {
        let powers = self.powers.get(&height);
        voters.iter().filter_map(|voter| Some(powers?.get(voter)?.1)).sum()
    }

    fn is_two_thirds(&self, height: i64, power: i64) -> bool {
        let total: i64 = self.powers.get(&height).map_or(0, |powers| powers.values().map(|(_, power)| power).sum());
        power * 3 > total * 2
    }

    /// Whether a node could have seen two thirds of a round's prevotes for something that `wanted` picks.
    fn polka(&self, node: usize, height: i64, round: i32, wanted: impl Fn(&[u8]) -> bool) -> bool {
        let Some(votes) = self.watched.get(&node).and_then(|watched| watched.prevotes.get(&(height, round))) else {
            return false;
        };
        votes.iter().any(|(block, voters)| wanted(block) && self.is_two_thirds(height, self.power_of(height, voters)))
    }

    fn voted(&mut self, node: usize, vote: &Vote) {
        let (height, round, block) = (vote.height, vote.round, key(&vote.block_id));
        self.delivered(node, vote);
        if vote.kind == SignedMsgType::PREVOTE {
            let locked = self.watched.get(&node).and_then(|watched| {
                let (at, block) = watched.precommits.get(&height)?.range(..round).next_back()?;
                Some((*at, block.clone()))
            });
            self.locked_votes += u64::from(locked.is_some());
            let Some((at, locked)) = locked.filter(|(_, locked)| *locked != block) else { return };
            let released = (at + 1..=round).any(|round| self.polka(node, height, round, |other| other != locked));
            if !released {
                self.violated(format!("node {node} prevoted against its lock of round {at} at {height}/{round}"));
            }
        } else if !vote.block_id.hash.is_empty() {
            if !self.polka(node, height, round, |voted| voted == block) {
                self.violated(format!("node {node} precommitted without two thirds of prevotes at {height}/{round}"));
            }
            let precommits = &mut self.watched.entry(node).or_default().precommits;
            precommits.entry(height).or_default().insert(round, block);
        }
    }

    fn saved(&mut self, node: usize, block: &HeldBlock, commit: &Commit) {
        let header = &block.block().header;
        let height = header.height;
        let entry = (block.hash().to_vec(), header.time);
        let first = self.blocks.entry(height).or_insert_with(|| entry.clone());
        if *first != entry {
            self.violated(format!("node {node} committed another block at {height}"));
        }
        if self.blocks.get(&(height - 1)).is_some_and(|(_, before)| *before >= header.time) {
            self.violated(format!("time does not grow at {height}"));
        }
        if commit.height != height || commit.block_id.hash != block.hash() || !self.commit_holds(commit) {
            self.violated(format!("node {node} stored a commit that does not hold at {height}"));
        }
        for evidence in &block.block().evidence.evidence {
            if let Some(EvidenceSum::DuplicateVote(duplicate)) = &evidence.sum
                && let Some(vote) = &duplicate.vote_a
            {
                self.faults_in_blocks.insert((vote.height, vote.validator_address.clone()));
            }
        }
    }

    fn commit_holds(&mut self, commit: &Commit) -> bool {
        let Some(powers) = self.powers.get(&commit.height) else { return false };
        let mut voters = BTreeSet::new();
        for entry in commit.signatures.iter().filter(|entry| entry.block_id_flag.0 != 1) {
            let Some((public, _)) = powers.get(&entry.validator_address) else { return false };
            let for_block = entry.block_id_flag.0 == 2;
            let bytes = precommit_bytes(&self.chain_id, commit, for_block, entry.timestamp);
            let digest: [u8; 32] =
                Sha512_256::new().chain_update(b"oasis-core/tendermint").chain_update(bytes).finalize().into();
            let Ok(signature): Result<&[u8; 64], _> = entry.signature.as_slice().try_into() else { return false };
            // Signer, bytes and signature as one: what another node stored needs no second look.
            let whole: [u8; 64] =
                Sha512::new().chain_update(public).chain_update(digest).chain_update(signature).finalize().into();
            if !self.checked.contains(&whole) && !ed25519::verify(public, &digest, signature) {
                return false;
            }
            self.checked.insert(whole);
            if for_block {
                voters.insert(entry.validator_address.clone());
            }
        }
        self.is_two_thirds(commit.height, self.power_of(commit.height, &voters))
    }

    /// At the end of a run.
    pub fn finish(&mut self) {
        let height = self.height();
        let missing: Vec<String> = self
            .watched
            .iter()
            .flat_map(|(node, watched)| watched.conflicts.iter().map(move |conflict| (node, conflict)))
            .filter(|(_, (at, _))| at + EVIDENCE_WITHIN <= height)
            .filter(|(_, conflict)| !self.faults_in_blocks.contains(*conflict))
            .map(|(node, (at, _))| format!("evidence of height {at}, seen by node {node}, did not land"))
            .collect();
        missing.into_iter().for_each(|what| self.violated(what));
    }
}

#[cfg(test)]
mod tests;
