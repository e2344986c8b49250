//! The engine's own state after a block: what the next block must agree with.
//!
//! Reference: `cometbft:state/{state,validation,execution}.go`.

use wire_cometbft::Time;
use wire_cometbft::block::{BLOCK_PROTOCOL, BasicError, Block, BlockId, Commit, ConsensusVersion, Data, Header};
use wire_cometbft::codec::Message;
use wire_cometbft::evidence::{Evidence, EvidenceList};
use wire_cometbft::keys::{ADDRESS_SIZE, Address};
use wire_cometbft::merkle;
use wire_cometbft::params::{ConsensusParams, ParamsError};
use wire_cometbft::state as wire;

use crate::app::{BlockResults, InitChainResult, ValidatorUpdate};
use crate::commit::{CommitError, PendingCommit, check_full, median_time};
use crate::exec::results_hash;
use crate::validators::{ValidatorError, ValidatorSet};

/// Version of the reference's engine that stored states name.
pub const SOFTWARE_VERSION: &str = "0.37.16";

/// The state after the block of height `last_block_height`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// Protocol versions that the next block must name.
    pub version: ConsensusVersion,
    /// Chain id.
    pub chain_id: String,
    /// Height of the first block.
    pub initial_height: i64,
    /// Height of the last block; 0: none.
    pub last_block_height: i64,
    /// Id of the last block; empty: none.
    pub last_block_id: BlockId,
    /// Time of the last block; genesis time if there is none.
    pub last_block_time: Time,
    /// Validators of the height after the next.
    pub next_validators: ValidatorSet,
    /// Validators of the next height.
    pub validators: ValidatorSet,
    /// Validators of the last height.
    pub last_validators: ValidatorSet,
    /// Height from which `next_validators` holds, apart from priorities.
    pub last_height_validators_changed: i64,
    /// Parameters of the next height.
    pub consensus_params: ConsensusParams,
    /// Height from which the parameters hold.
    pub last_height_consensus_params_changed: i64,
    /// Hash of the last block's results.
    pub last_results_hash: Vec<u8>,
    /// State root of the application after the last block.
    pub app_hash: Vec<u8>,
}

/// Why a block does not fit the state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BlockError {
    /// The block breaks a stateless rule.
    #[error(transparent)]
    Basic(#[from] BasicError),
    /// A header field is not what the state says.
    #[error("wrong {0} in header")]
    WrongField(&'static str),
    /// Another height than the next.
    #[error("wrong height in header: expected {expected}, got {got}")]
    Height {
        /// The next height.
        expected: i64,
        /// Height in the header.
        got: i64,
    },
    /// The first block carries signatures.
    #[error("initial block can't have last commit signatures")]
    InitialCommit,
    /// The last commit does not hold.
    #[error("last commit: {0}")]
    LastCommit(#[from] CommitError),
    /// The proposer is not a validator.
    #[error("proposer is not a validator")]
    Proposer,
    /// The time is not after the last block's.
    #[error("block time {time} not greater than last block time {last}")]
    TimeNotAfter {
        /// Time in the header.
        time: Time,
        /// Time of the last block.
        last: Time,
    },
    /// The time is not the median of the last commit, or not genesis time.
    #[error("invalid block time: expected {expected}, got {got}")]
    Time {
        /// Time that follows from the last commit.
        expected: Time,
        /// Time in the header.
        got: Time,
    },
    /// More bytes of evidence than the parameters allow.
    #[error("evidence of {got} bytes, at most {max} allowed")]
    EvidenceBytes {
        /// Bytes found.
        got: usize,
        /// Bytes allowed.
        max: i64,
    },
}

/// Why the results of a block cannot be taken into the state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UpdateError {
    /// A change of the validator set is refused.
    #[error("error changing validator set: {0}")]
    Validators(#[from] ValidatorError),
    /// A changed parameter is out of range.
    #[error("error updating consensus params: {0}")]
    Params(#[from] ParamsError),
    /// No validators, neither from genesis nor from the application.
    #[error("validator set is empty in genesis and after init chain")]
    NoValidators,
    /// Validators may not use Ed25519 keys.
    #[error("parameters do not allow ed25519 keys")]
    KeyType,
}

impl State {
    /// The state before the first block, before the application has spoken.
    pub fn genesis(
        chain_id: String,
        initial_height: i64,
        genesis_time: Time,
        consensus_params: ConsensusParams,
        validators: &[ValidatorUpdate],
    ) -> Result<Self, UpdateError> {
        consensus_params.validate_basic()?;
        let mut state = Self {
            version: ConsensusVersion { block: BLOCK_PROTOCOL, app: consensus_params.version.app },
            chain_id,
            initial_height,
            last_block_height: 0,
            last_block_id: BlockId::default(),
            last_block_time: genesis_time,
            next_validators: ValidatorSet::default(),
            validators: ValidatorSet::default(),
            last_validators: ValidatorSet::default(),
            last_height_validators_changed: initial_height,
            consensus_params,
            last_height_consensus_params_changed: initial_height,
            last_results_hash: Vec::new(),
            app_hash: Vec::new(),
        };
        if !validators.is_empty() {
            state.set_validators(validators)?;
        }
        Ok(state)
    }

    fn set_validators(&mut self, validators: &[ValidatorUpdate]) -> Result<(), UpdateError> {
        self.validators = ValidatorSet::new(validators)?;
        self.next_validators = self.validators.incremented(1)?;
        Ok(())
    }

    /// Takes in what the application made of genesis.
    pub fn apply_init_chain(&mut self, result: &InitChainResult) -> Result<(), UpdateError> {
        if !result.app_hash.is_empty() {
            self.app_hash = result.app_hash.clone();
        }
        if !result.validators.is_empty() {
            self.set_validators(&result.validators)?;
        } else if self.validators.is_empty() {
            return Err(UpdateError::NoValidators);
        }
        self.consensus_params = self.consensus_params.updated(&result.consensus_param_updates);
        self.consensus_params.validate_basic()?;
        self.version.app = self.consensus_params.version.app;
        self.last_results_hash = merkle::root::<&[u8]>(&[]).to_vec();
        Ok(())
    }

    /// Height of the next block.
    pub fn next_height(&self) -> i64 {
        if self.last_block_height == 0 { self.initial_height } else { self.last_block_height.saturating_add(1) }
    }

    /// Checks a block but for the signatures of its last commit, which are returned to be checked (none for the first
    /// block), and for its evidence beyond size and shape.
    pub fn check_block(&self, block: &Block) -> Result<Option<PendingCommit>, BlockError> {
        block.validate_basic()?;
        self.check_header(&block.header)?;
        let last_commit = block.last_commit.as_ref().ok_or(BasicError::Missing("last commit"))?;
        let header = &block.header;
        let pending = if header.height == self.initial_height {
            if !last_commit.signatures.is_empty() {
                return Err(BlockError::InitialCommit);
            }
            None
        } else {
            let last_height = header.height - 1;
            let set = &self.last_validators;
            Some(check_full(set, &self.chain_id, &self.last_block_id, last_height, last_commit)?)
        };
        if self.validators.find_bytes(&header.proposer_address).is_none() {
            return Err(BlockError::Proposer);
        }
        self.check_time(header, last_commit)?;
        let max = self.consensus_params.evidence.max_bytes;
        let got = if block.evidence.evidence.is_empty() { 0 } else { block.evidence.encoded_len() };
        if i64::try_from(got).is_ok_and(|got| got <= max) {
            return Ok(pending);
        }
        Err(BlockError::EvidenceBytes { got, max })
    }

    /// Checks a block wholly, but for its evidence beyond size and shape.
    pub fn validate_block(&self, block: &Block) -> Result<(), BlockError> {
        match self.check_block(block)? {
            Some(pending) => Ok(pending.verify()?),
            None => Ok(()),
        }
    }

    fn check_header(&self, header: &Header) -> Result<(), BlockError> {
        if header.version != self.version {
            return Err(BlockError::WrongField("version"));
        }
        if header.chain_id != self.chain_id {
            return Err(BlockError::WrongField("chain_id"));
        }
        if header.height != self.next_height() {
            return Err(BlockError::Height { expected: self.next_height(), got: header.height });
        }
        if header.last_block_id != self.last_block_id {
            return Err(BlockError::WrongField("last_block_id"));
        }
        let hashes: [(&'static str, &[u8], &[u8]); 5] = [
            ("app_hash", &header.app_hash, &self.app_hash),
            ("consensus_hash", &header.consensus_hash, &self.consensus_params.hash()),
            ("last_results_hash", &header.last_results_hash, &self.last_results_hash),
            ("validators_hash", &header.validators_hash, &self.validators.hash()),
            ("next_validators_hash", &header.next_validators_hash, &self.next_validators.hash()),
        ];
        match hashes.into_iter().find(|(_, got, expected)| got != expected) {
            Some((field, ..)) => Err(BlockError::WrongField(field)),
            None => Ok(()),
        }
    }

    fn check_time(&self, header: &Header, last_commit: &Commit) -> Result<(), BlockError> {
        let expected = if header.height == self.initial_height {
            self.last_block_time
        } else {
            if header.time <= self.last_block_time {
                return Err(BlockError::TimeNotAfter { time: header.time, last: self.last_block_time });
            }
            median_time(last_commit, &self.last_validators)?
        };
        if header.time != expected {
            return Err(BlockError::Time { expected, got: header.time });
        }
        Ok(())
    }

    /// A block for this state, all header fields filled in.
    pub fn make_block(
        &self,
        txs: Vec<Vec<u8>>,
        last_commit: Commit,
        evidence: Vec<Evidence>,
        proposer: Address,
    ) -> Result<Block, CommitError> {
        let height = self.next_height();
        let time = if height == self.initial_height {
            self.last_block_time
        } else {
            median_time(&last_commit, &self.last_validators)?
        };
        let data = Data { txs };
        let evidence = EvidenceList { evidence };
        let header = Header {
            version: self.version.clone(),
            chain_id: self.chain_id.clone(),
            height,
            time,
            last_block_id: self.last_block_id.clone(),
            last_commit_hash: last_commit.hash().to_vec(),
            data_hash: data.hash().to_vec(),
            validators_hash: self.validators.hash().to_vec(),
            next_validators_hash: self.next_validators.hash().to_vec(),
            consensus_hash: self.consensus_params.hash().to_vec(),
            app_hash: self.app_hash.clone(),
            last_results_hash: self.last_results_hash.clone(),
            evidence_hash: evidence.hash().to_vec(),
            proposer_address: proposer.0[..ADDRESS_SIZE].to_vec(),
        };
        Ok(Block { header, data, evidence, last_commit: Some(last_commit) })
    }

    /// The state after a block with these results; its `app_hash` is empty until the application has committed.
    ///
    /// # Consensus
    /// Validator updates enter `next_validators`, which is then rotated once; parameters hold from the next height.
    pub fn after(&self, block_id: BlockId, header: &Header, results: &BlockResults) -> Result<Self, UpdateError> {
        let adds_keys = results.validator_updates.iter().any(|update| update.power != 0);
        if adds_keys && !self.consensus_params.validator.pub_key_types.iter().any(|name| name == "ed25519") {
            return Err(UpdateError::KeyType);
        }
        let mut next_validators = self.next_validators.clone();
        let mut validators_changed = self.last_height_validators_changed;
        if !results.validator_updates.is_empty() {
            next_validators.update(&results.validator_updates)?;
            validators_changed = header.height.saturating_add(2);
        }
        next_validators.increment_proposer_priority(1)?;

        let mut version = self.version.clone();
        let mut consensus_params = self.consensus_params.clone();
        let mut params_changed = self.last_height_consensus_params_changed;
        if let Some(update) = &results.consensus_param_updates {
            consensus_params = consensus_params.updated(update);
            consensus_params.validate_basic()?;
            version.app = consensus_params.version.app;
            params_changed = header.height.saturating_add(1);
        }
        Ok(Self {
            version,
            chain_id: self.chain_id.clone(),
            initial_height: self.initial_height,
            last_block_height: header.height,
            last_block_id: block_id,
            last_block_time: header.time,
            next_validators,
            validators: self.next_validators.clone(),
            last_validators: self.validators.clone(),
            last_height_validators_changed: validators_changed,
            consensus_params,
            last_height_consensus_params_changed: params_changed,
            last_results_hash: results_hash(&results.tx_results).to_vec(),
            app_hash: Vec::new(),
        })
    }

    /// The message that is stored.
    pub fn to_wire(&self) -> wire::State {
        wire::State {
            version: wire::StateVersion { consensus: self.version.clone(), software: SOFTWARE_VERSION.to_owned() },
            chain_id: self.chain_id.clone(),
            last_block_height: self.last_block_height,
            last_block_id: self.last_block_id.clone(),
            last_block_time: self.last_block_time,
            next_validators: Some(self.next_validators.to_wire()),
            validators: Some(self.validators.to_wire()),
            last_validators: Some(self.last_validators.to_wire()),
            last_height_validators_changed: self.last_height_validators_changed,
            consensus_params: self.consensus_params.clone(),
            last_height_consensus_params_changed: self.last_height_consensus_params_changed,
            last_results_hash: self.last_results_hash.clone(),
            app_hash: self.app_hash.clone(),
            initial_height: self.initial_height,
        }
    }

    /// A stored state.
    pub fn from_wire(state: wire::State) -> Result<Self, ValidatorError> {
        Ok(Self {
            version: state.version.consensus,
            chain_id: state.chain_id,
            initial_height: state.initial_height,
            last_block_height: state.last_block_height,
            last_block_id: state.last_block_id,
            last_block_time: state.last_block_time,
            next_validators: ValidatorSet::from_stored(state.next_validators.as_ref())?,
            validators: ValidatorSet::from_stored(state.validators.as_ref())?,
            last_validators: ValidatorSet::from_stored(state.last_validators.as_ref())?,
            last_height_validators_changed: state.last_height_validators_changed,
            consensus_params: state.consensus_params,
            last_height_consensus_params_changed: state.last_height_consensus_params_changed,
            last_results_hash: state.last_results_hash,
            app_hash: state.app_hash,
        })
    }
}
