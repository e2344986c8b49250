//! A chain of four validators that sign two versions of it from some height on.

use base_crypto::ed25519::SecretKey;
use comet_chain::app::{BlockParams, ConsensusParams, EvidenceParams, ValidatorParams, ValidatorUpdate, VersionParams};
use comet_chain::app::{BlockResults, InitChainResult};
use comet_chain::light::{BoxFuture, Height, LightBlock, LightBlockProvider, ProviderError, UntrustedLightBlock};
use comet_chain::state::State;
use parking_lot::Mutex;
use wire_cometbft::block::{Block, BlockId, BlockIdFlag, Commit, CommitSig};
use wire_cometbft::evidence::Evidence;
use wire_cometbft::keys::{Address, signing_digest};
use wire_cometbft::{Duration, Time};

pub(crate) struct Fork {
    pub(crate) chain_id: String,
    chains: [Vec<LightBlock>; 2],
}

fn key(number: u8) -> SecretKey {
    SecretKey::from_seed(&[number; 32])
}

fn sign(state: &State, id: &BlockId, height: i64, time: Time) -> Commit {
    let signatures = state.validators.validators().iter().map(|validator| CommitSig {
        block_id_flag: BlockIdFlag::COMMIT,
        validator_address: validator.address.0.to_vec(),
        timestamp: time,
        signature: vec![0; 64],
    });
    let mut commit = Commit { height, round: 0, block_id: id.clone(), signatures: signatures.collect() };
    for (index, validator) in state.validators.validators().iter().enumerate() {
        let secret = (1..=4).map(key).find(|secret| secret.public() == validator.pub_key).unwrap();
        let bytes = commit.sign_bytes(&state.chain_id, index).unwrap();
        commit.signatures[index].signature = secret.sign(&signing_digest(&bytes)).to_vec();
    }
    commit
}

impl Fork {
    /// A chain of `top` blocks, with another version of those from `from` on.
    pub(crate) fn new(top: i64, from: i64) -> Self {
        let chains = [Self::chain(top, i64::MAX), Self::chain(top, from)];
        Self { chain_id: "fork".into(), chains }
    }

    fn chain(top: i64, lie_from: i64) -> Vec<LightBlock> {
        let params = ConsensusParams {
            block: BlockParams { max_bytes: 1 << 20, max_gas: -1 },
            evidence: EvidenceParams {
                max_age_num_blocks: 100,
                max_age_duration: Duration::from_secs(1000),
                max_bytes: 10_000,
            },
            validator: ValidatorParams { pub_key_types: vec!["ed25519".into()] },
            version: VersionParams { app: 1 },
        };
        let members: Vec<_> = (1..=4).map(|n| ValidatorUpdate { pub_key: key(n).public(), power: 10 }).collect();
        let start = Time::new(1_700_000_000, 0).unwrap();
        let mut state = State::genesis("fork".into(), 1, start, params, &members).unwrap();
        state.apply_init_chain(&InitChainResult { app_hash: vec![1; 32], ..InitChainResult::default() }).unwrap();
        let mut last = Commit::default();
        let mut blocks = Vec::new();
        for height in 1..=top {
            let proposer = Address(state.validators.proposer().unwrap().address.0);
            let txs = if height >= lie_from { vec![b"lie".to_vec()] } else { vec![] };
            let block: Block = state.make_block(txs, last, vec![], proposer).unwrap();
            let id = block.id().unwrap();
            let time = start.saturating_add(Duration::from_secs(height));
            last = sign(&state, &id, height, time);
            let validators = state.validators.clone();
            blocks.push(LightBlock { header: block.header.clone(), commit: last.clone(), validators });
            let results = BlockResults::default();
            state = state.after(id, &block.header, &results).unwrap();
            state.app_hash = vec![if height >= lie_from { 9 } else { 1 }; 32];
        }
        blocks
    }

    pub(crate) fn hash(&self, height: usize) -> [u8; 32] {
        self.chains[0][height - 1].header.hash().unwrap()
    }

    pub(crate) fn now(&self) -> Time {
        self.chains[0].last().unwrap().header.time.saturating_add(Duration::from_secs(1))
    }

    pub(crate) fn provider(&self, lying: bool) -> Side {
        Side { blocks: self.chains[usize::from(lying)].clone(), reported: Mutex::default() }
    }
}

/// One version's provider.
pub(crate) struct Side {
    blocks: Vec<LightBlock>,
    pub(crate) reported: Mutex<Vec<Evidence>>,
}

impl LightBlockProvider for Side {
    fn light_block(&self, height: Height) -> BoxFuture<'_, Result<UntrustedLightBlock, ProviderError>> {
        let top = self.blocks.len();
        let at = if height == 0 { top } else { usize::try_from(height).unwrap() };
        let block = self.blocks.get(at - 1).map(|block| UntrustedLightBlock(block.to_wire()));
        Box::pin(async move { block.ok_or(ProviderError::HeightTooHigh(height)) })
    }

    fn report(&self, evidence: Evidence) -> BoxFuture<'_, Result<(), ProviderError>> {
        self.reported.lock().push(evidence);
        Box::pin(async { Ok(()) })
    }
}
