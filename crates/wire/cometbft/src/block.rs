//! Blocks, headers and commits: messages, hashes, stateless rules.
//!
//! Reference: `cometbft:types/{block,tx,light}.go`, `proto/tendermint/types/{types,block}.proto`.

use crate::codec::{DecodeError, Field, Key, Message, Reader, messages};
use crate::evidence::{Evidence, EvidenceError, EvidenceList};
use crate::keys::ADDRESS_SIZE;
use crate::limits::{BLOCK_PART_BYTES, MAX_BLOCK_BYTES, MAX_CHAIN_ID_BYTES, MAX_SIGNATURE_BYTES, MAX_VOTES};
use crate::merkle::{self, HASH_SIZE, Hash, sha256};
use crate::part_set::PartSet;
use crate::time::Time;
use crate::validators::ValidatorSet;
use crate::vote::{SignedMsgType, Vote, vote_sign_bytes};

/// The block protocol version that every header must name.
pub const BLOCK_PROTOCOL: u64 = 11;

messages! {
    /// Versions of the protocols a block was made by (`tendermint.version.Consensus`).
    pub struct ConsensusVersion {
        /// Block protocol.
        1 => block: u64,
        /// Application protocol.
        2 => app: u64,
    }

    /// Number of parts of an encoded block and the root of their hash tree.
    pub struct PartSetHeader {
        /// Number of parts.
        1 => total: u32,
        /// Root hash: empty or 32 bytes.
        2 => hash: Vec<u8>,
    }

    /// Names a block by the hash of its header and by its parts; all empty: no block.
    pub struct BlockId {
        /// Header hash: empty or 32 bytes.
        1 => hash: Vec<u8>,
        /// The block's parts.
        2 => part_set_header: PartSetHeader,
    }

    /// A block's header. Hashes are empty or 32 bytes, except `app_hash`, which may have any length.
    pub struct Header {
        /// Protocol versions.
        1 => version: ConsensusVersion,
        /// Chain id, at most 50 bytes.
        2 => chain_id: String,
        /// Height, from 1.
        3 => height: i64,
        /// Median of the last commit's times; genesis time at the initial height.
        4 => time: Time,
        /// The block before.
        5 => last_block_id: BlockId,
        /// Hash of the block's `last_commit`.
        6 => last_commit_hash: Vec<u8>,
        /// Hash of the block's transactions.
        7 => data_hash: Vec<u8>,
        /// Hash of the validators of this height.
        8 => validators_hash: Vec<u8>,
        /// Hash of the validators of the next height.
        9 => next_validators_hash: Vec<u8>,
        /// Hash of the parameters of this height.
        10 => consensus_hash: Vec<u8>,
        /// State root after the block before.
        11 => app_hash: Vec<u8>,
        /// Hash of the transaction results of the block before.
        12 => last_results_hash: Vec<u8>,
        /// Hash of the block's evidence.
        13 => evidence_hash: Vec<u8>,
        /// Address of the proposer, 20 bytes.
        14 => proposer_address: Vec<u8>,
    }

    /// A block's transactions.
    pub struct Data {
        /// Transactions in order.
        1 => txs: Vec<Vec<u8>>,
    }

    /// A block.
    pub struct Block {
        /// Header.
        1 => header: Header,
        /// Transactions.
        2 => data: Data,
        /// Evidence of misbehaviour.
        3 => evidence: EvidenceList,
        /// Precommits for the block before; empty (but present) in the first block.
        4 => last_commit: Option<Commit>,
    }

    /// Precommits of one round, in the order of the validator set.
    pub struct Commit {
        /// Height of the block committed.
        1 => height: i64,
        /// Round of the precommits.
        2 => round: i32,
        /// The block committed.
        3 => block_id: BlockId,
        /// One entry per validator.
        4 => signatures: Vec<CommitSig>,
    }

    /// One validator's precommit, without what the commit says already.
    pub struct CommitSig [at most MAX_VOTES] {
        /// What the validator voted for.
        1 => block_id_flag: BlockIdFlag,
        /// The validator's address; empty if absent.
        2 => validator_address: Vec<u8>,
        /// Time of the vote; year 1 if absent.
        3 => timestamp: Time,
        /// Signature; empty if absent.
        4 => signature: Vec<u8>,
    }

    /// A header with the commit that signs it.
    pub struct SignedHeader {
        /// The header.
        1 => header: Option<Header>,
        /// Precommits for it.
        2 => commit: Option<Commit>,
    }

    /// A signed header with the validator set of its height.
    pub struct LightBlock {
        /// Header and commit.
        1 => signed_header: Option<SignedHeader>,
        /// Validators of the height.
        2 => validator_set: Option<ValidatorSet>,
    }

    /// A block's header and sizes, as block stores keep it (`tendermint.types.BlockMeta`).
    pub struct BlockMeta {
        /// The block's id.
        1 => block_id: BlockId,
        /// Encoded size in bytes.
        2 => block_size: i64,
        /// Header.
        3 => header: Header,
        /// Number of transactions.
        4 => num_txs: i64,
    }
}

/// What a commit's entry stands for. The reference keeps it in a byte: only the low eight bits count.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BlockIdFlag(pub u8);

impl BlockIdFlag {
    /// No vote came in.
    pub const ABSENT: Self = Self(1);
    /// A vote for the commit's block.
    pub const COMMIT: Self = Self(2);
    /// A vote for no block.
    pub const NIL: Self = Self(3);
}

impl Field for BlockIdFlag {
    fn encode_field(&self, number: u32, out: &mut Vec<u8>) {
        u32::from(self.0).encode_field(number, out);
    }

    fn merge(&mut self, key: Key, reader: &mut Reader<'_>) -> Result<(), DecodeError> {
        self.0 = reader.integer(key)? as u8;
        Ok(())
    }
}

/// Which stateless rule a block, header, commit, vote or light block breaks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BasicError {
    /// The bytes do not decode.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// Another block protocol.
    #[error("block protocol is {0}, not {BLOCK_PROTOCOL}")]
    BlockProtocol(u64),
    /// Chain id above 50 bytes.
    #[error("chain id of {0} bytes")]
    ChainIdTooLong(usize),
    /// Zero or negative height where it must be positive, or negative where it must not.
    #[error("height {0} out of range")]
    Height(i64),
    /// Negative round.
    #[error("round {0} out of range")]
    Round(i32),
    /// A hash that is neither empty nor 32 bytes.
    #[error("{field} has {len} bytes")]
    HashSize {
        /// Name of the field.
        field: &'static str,
        /// Length found.
        len: usize,
    },
    /// An address that is not 20 bytes (or not empty, for an absent vote).
    #[error("address of {0} bytes")]
    AddressSize(usize),
    /// A signature that is missing, too long, or there although the vote is absent.
    #[error("signature of {0} bytes")]
    SignatureSize(usize),
    /// A time although the vote is absent.
    #[error("absent vote has a time")]
    AbsentTime,
    /// A flag other than absent, commit, nil.
    #[error("unknown block id flag {0}")]
    BlockIdFlag(u8),
    /// A block id that is empty, partly filled, or not empty where it must be.
    #[error("block id is neither complete nor allowed to be otherwise")]
    BlockIdShape,
    /// A commit without entries.
    #[error("commit without signatures")]
    NoSignatures,
    /// A part of the message that must be there is not.
    #[error("missing {0}")]
    Missing(&'static str),
    /// A header's hash is not that of the block's content.
    #[error("wrong {0} in header")]
    WrongHash(&'static str),
    /// Evidence breaks a rule.
    #[error("evidence {index}: {source}")]
    Evidence {
        /// Position in the list.
        index: usize,
        /// What is wrong with it.
        source: Box<EvidenceError>,
    },
    /// A vote's or proposal's type.
    #[error("unexpected message type {0}")]
    Type(i32),
    /// A vote's validator index below zero.
    #[error("validator index {0} out of range")]
    ValidatorIndex(i32),
    /// A header of another chain.
    #[error("header belongs to another chain")]
    WrongChain,
    /// Commit and header disagree.
    #[error("commit signs another {0}")]
    CommitMismatch(&'static str),
    /// A validator set breaks a rule.
    #[error("validator set: {0}")]
    ValidatorSet(&'static str),
}

/// Checks that a hash is empty or 32 bytes.
pub(crate) fn validate_hash(field: &'static str, hash: &[u8]) -> Result<(), BasicError> {
    if hash.is_empty() || hash.len() == HASH_SIZE {
        Ok(())
    } else {
        Err(BasicError::HashSize { field, len: hash.len() })
    }
}

impl PartSetHeader {
    /// Whether this is the header of no parts at all.
    pub fn is_zero(&self) -> bool {
        self.total == 0 && self.hash.is_empty()
    }

    /// Checks the hash's length.
    pub fn validate_basic(&self) -> Result<(), BasicError> {
        validate_hash("part set hash", &self.hash)
    }
}

impl BlockId {
    /// Whether this names no block.
    pub fn is_zero(&self) -> bool {
        self.hash.is_empty() && self.part_set_header.is_zero()
    }

    /// Whether this fully names a block.
    pub fn is_complete(&self) -> bool {
        self.hash.len() == HASH_SIZE && self.part_set_header.total > 0 && self.part_set_header.hash.len() == HASH_SIZE
    }

    /// Checks the lengths of the hashes.
    pub fn validate_basic(&self) -> Result<(), BasicError> {
        validate_hash("block hash", &self.hash)?;
        self.part_set_header.validate_basic()
    }

    /// The bytes by which block ids are told apart and ordered: hash, then the encoded parts header.
    pub fn key(&self) -> Vec<u8> {
        let mut key = self.hash.clone();
        self.part_set_header.encode_fields(&mut key);
        key
    }
}

impl Header {
    /// Hash of the header: root over its 14 encoded fields; `None` without `validators_hash`.
    ///
    /// # Consensus
    /// Version, time and block id are leaves as messages; every other field is wrapped as field 1 of a message of its
    /// own, and the leaf is empty if the field is.
    pub fn hash(&self) -> Option<Hash> {
        if self.validators_hash.is_empty() {
            return None;
        }
        fn wrap(value: &impl Field) -> Vec<u8> {
            let mut out = Vec::new();
            value.encode_field(1, &mut out);
            out
        }
        // Time as a field is always written with key and length; the leaf is the body alone.
        let time = wrap(&self.time)[2..].to_vec();
        Some(merkle::root(&[
            self.version.encode_to_vec(),
            wrap(&self.chain_id),
            wrap(&self.height),
            time,
            self.last_block_id.encode_to_vec(),
            wrap(&self.last_commit_hash),
            wrap(&self.data_hash),
            wrap(&self.validators_hash),
            wrap(&self.next_validators_hash),
            wrap(&self.consensus_hash),
            wrap(&self.app_hash),
            wrap(&self.last_results_hash),
            wrap(&self.evidence_hash),
            wrap(&self.proposer_address),
        ]))
    }

    /// Checks versions, ranges and lengths.
    pub fn validate_basic(&self) -> Result<(), BasicError> {
        if self.version.block != BLOCK_PROTOCOL {
            return Err(BasicError::BlockProtocol(self.version.block));
        }
        if self.chain_id.len() > MAX_CHAIN_ID_BYTES {
            return Err(BasicError::ChainIdTooLong(self.chain_id.len()));
        }
        if self.height <= 0 {
            return Err(BasicError::Height(self.height));
        }
        self.last_block_id.validate_basic()?;
        validate_hash("last_commit_hash", &self.last_commit_hash)?;
        validate_hash("data_hash", &self.data_hash)?;
        validate_hash("evidence_hash", &self.evidence_hash)?;
        if self.proposer_address.len() != ADDRESS_SIZE {
            return Err(BasicError::AddressSize(self.proposer_address.len()));
        }
        validate_hash("validators_hash", &self.validators_hash)?;
        validate_hash("next_validators_hash", &self.next_validators_hash)?;
        validate_hash("consensus_hash", &self.consensus_hash)?;
        validate_hash("last_results_hash", &self.last_results_hash)
    }
}

impl Data {
    /// The header's `data_hash`: root over the SHA-256 of each transaction.
    pub fn hash(&self) -> Hash {
        merkle::root(&self.txs.iter().map(|tx| sha256(tx)).collect::<Vec<_>>())
    }
}

impl CommitSig {
    /// Entry of a validator whose vote did not come in.
    pub fn absent() -> Self {
        Self { block_id_flag: BlockIdFlag::ABSENT, ..Self::default() }
    }

    /// Whether the validator voted for the commit's block.
    pub fn is_for_block(&self) -> bool {
        self.block_id_flag == BlockIdFlag::COMMIT
    }

    /// Whether no vote came in.
    pub fn is_absent(&self) -> bool {
        self.block_id_flag == BlockIdFlag::ABSENT
    }

    /// Checks flag, lengths, and that an absent entry is empty.
    pub fn validate_basic(&self) -> Result<(), BasicError> {
        match self.block_id_flag {
            BlockIdFlag::ABSENT if !self.validator_address.is_empty() => {
                Err(BasicError::AddressSize(self.validator_address.len()))
            }
            BlockIdFlag::ABSENT if !self.timestamp.is_zero() => Err(BasicError::AbsentTime),
            BlockIdFlag::ABSENT if !self.signature.is_empty() => Err(BasicError::SignatureSize(self.signature.len())),
            BlockIdFlag::ABSENT => Ok(()),
            BlockIdFlag::COMMIT | BlockIdFlag::NIL => {
                if self.validator_address.len() != ADDRESS_SIZE {
                    return Err(BasicError::AddressSize(self.validator_address.len()));
                }
                validate_signature(&self.signature)
            }
            BlockIdFlag(other) => Err(BasicError::BlockIdFlag(other)),
        }
    }
}

/// Checks that a signature is there and not too long.
pub(crate) fn validate_signature(signature: &[u8]) -> Result<(), BasicError> {
    if signature.is_empty() || signature.len() > MAX_SIGNATURE_BYTES {
        return Err(BasicError::SignatureSize(signature.len()));
    }
    Ok(())
}

impl Commit {
    /// The header's `last_commit_hash`: root over the encoded entries.
    pub fn hash(&self) -> Hash {
        merkle::root(&self.signatures.iter().map(Message::encode_to_vec).collect::<Vec<_>>())
    }

    /// Checks ranges, block id and every entry; below height 1 the entries are checked for shape alone.
    pub fn validate_basic(&self) -> Result<(), BasicError> {
        self.block_id.validate_basic()?;
        self.signatures.iter().try_for_each(CommitSig::validate_basic)?;
        if self.height < 0 {
            return Err(BasicError::Height(self.height));
        }
        if self.round < 0 {
            return Err(BasicError::Round(self.round));
        }
        if self.height >= 1 {
            if self.block_id.is_zero() {
                return Err(BasicError::BlockIdShape);
            }
            if self.signatures.is_empty() {
                return Err(BasicError::NoSignatures);
            }
        }
        Ok(())
    }

    /// The precommit of the entry at `index`; `None` if there is no such entry.
    pub fn vote(&self, index: usize) -> Option<Vote> {
        let entry = self.signatures.get(index)?;
        Some(Vote {
            kind: SignedMsgType::PRECOMMIT,
            height: self.height,
            round: self.round,
            block_id: if entry.is_for_block() { self.block_id.clone() } else { BlockId::default() },
            timestamp: entry.timestamp,
            validator_address: entry.validator_address.clone(),
            validator_index: i32::try_from(index).ok()?,
            signature: entry.signature.clone(),
        })
    }

    /// What the validator at `index` signed; `None` if there is no such entry.
    pub fn sign_bytes(&self, chain_id: &str, index: usize) -> Option<Vec<u8>> {
        let entry = self.signatures.get(index)?;
        let nil = BlockId::default();
        let block_id = if entry.is_for_block() { &self.block_id } else { &nil };
        Some(vote_sign_bytes(chain_id, SignedMsgType::PRECOMMIT, self.height, self.round, block_id, entry.timestamp))
    }
}

impl Block {
    /// Decodes a block as the reference does: bytes, then every stateless rule.
    pub fn decode_checked(bytes: &[u8]) -> Result<Self, BasicError> {
        let mut block = Self::decode_limited(bytes, MAX_BLOCK_BYTES)?;
        block.normalize();
        block.validate_basic()?;
        Ok(block)
    }

    /// Clears what the reference drops when it takes a block over from the wire.
    pub fn normalize(&mut self) {
        self.evidence.evidence.iter_mut().for_each(Evidence::normalize);
    }

    /// The header's hash; `None` if the header has no validators hash.
    pub fn hash(&self) -> Option<Hash> {
        self.header.hash()
    }

    /// The block's encoded parts of 64 KiB with their proofs.
    pub fn part_set(&self) -> PartSet {
        PartSet::from_bytes(&self.encode_to_vec(), BLOCK_PART_BYTES)
    }

    /// The block's id: header hash and parts header.
    pub fn id(&self) -> Option<BlockId> {
        Some(BlockId { hash: self.hash()?.to_vec(), part_set_header: self.part_set().header().clone() })
    }

    /// Checks header, commit and evidence, and that the header's hashes are those of the content.
    pub fn validate_basic(&self) -> Result<(), BasicError> {
        self.header.validate_basic()?;
        let last_commit = self.last_commit.as_ref().ok_or(BasicError::Missing("last commit"))?;
        last_commit.validate_basic()?;
        if self.header.last_commit_hash != last_commit.hash() {
            return Err(BasicError::WrongHash("last_commit_hash"));
        }
        if self.header.data_hash != self.data.hash() {
            return Err(BasicError::WrongHash("data_hash"));
        }
        for (index, evidence) in self.evidence.evidence.iter().enumerate() {
            evidence.validate_basic().map_err(|source| BasicError::Evidence { index, source: Box::new(source) })?;
        }
        if self.header.evidence_hash != self.evidence.hash() {
            return Err(BasicError::WrongHash("evidence_hash"));
        }
        Ok(())
    }
}

impl SignedHeader {
    /// Checks both halves and that the commit is for this header of this chain.
    pub fn validate_basic(&self, chain_id: &str) -> Result<(&Header, &Commit), BasicError> {
        let header = self.header.as_ref().ok_or(BasicError::Missing("header"))?;
        let commit = self.commit.as_ref().ok_or(BasicError::Missing("commit"))?;
        header.validate_basic()?;
        commit.validate_basic()?;
        if header.chain_id != chain_id {
            return Err(BasicError::WrongChain);
        }
        if commit.height != header.height {
            return Err(BasicError::CommitMismatch("height"));
        }
        let hash = header.hash().map_or_else(Vec::new, |hash| hash.to_vec());
        if hash != commit.block_id.hash {
            return Err(BasicError::CommitMismatch("block"));
        }
        Ok((header, commit))
    }
}

impl LightBlock {
    /// Checks all parts and that the validator set is the one the header names.
    pub fn validate_basic(&self, chain_id: &str) -> Result<(&Header, &Commit, &ValidatorSet), BasicError> {
        let signed = self.signed_header.as_ref().ok_or(BasicError::Missing("signed header"))?;
        let validators = self.validator_set.as_ref().ok_or(BasicError::Missing("validator set"))?;
        let (header, commit) = signed.validate_basic(chain_id)?;
        validators.validate_basic()?;
        if header.validators_hash != validators.hash() {
            return Err(BasicError::WrongHash("validators_hash"));
        }
        Ok((header, commit, validators))
    }
}
