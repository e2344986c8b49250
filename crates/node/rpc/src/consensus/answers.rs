//! Blocks, results, validators as clients get them. Source: `go/consensus/cometbft/{api,full,light}`.

use base_codec::{Bytes, Raw};
use base_grpc::RpcError;
use base_prims::{Hash, Namespace};
use mkvs_tree::{Root, RootType};
use wire_cometbft::block::{Block as CometBlock, Commit, LightBlock, SignedHeader};
use wire_cometbft::codec::Message as _;
use wire_cometbft::validators::ValidatorSet;

use crate::backend::{Backend, no_version, store_error};
use crate::serve::nil;
use crate::types::{AtHeight, Block, BlockMeta, BlockResults, BlockResultsMeta, Timestamp};

fn hash(bytes: &[u8]) -> Result<Hash, RpcError> {
    let bytes = <[u8; 32]>::try_from(bytes).map_err(|_| store_error("hash is not 32 bytes long"))?;
    Ok(Hash::new(bytes))
}

pub(crate) fn block(block: &CometBlock) -> Result<Block, RpcError> {
    let header = &block.header;
    let state = if header.app_hash.is_empty() { Hash::EMPTY } else { hash(&header.app_hash)? };
    let none = Commit::default();
    let meta = BlockMeta {
        header: header.encode_to_vec().into(),
        last_commit: block.last_commit.as_ref().unwrap_or(&none).encode_to_vec().into(),
    };
    Ok(Block {
        height: header.height,
        hash: header.hash().map(Hash::new).unwrap_or_default(),
        time: Timestamp::whole(header.time),
        state_root: Root {
            namespace: Namespace::ZERO,
            version: header.height.saturating_sub(1).unsigned_abs(),
            root_type: RootType::STATE,
            hash: state,
        },
        size: block.encode_to_vec().len() as u64,
        meta: Raw::of(&meta),
    })
}

pub(crate) fn results(height: i64, results: &comet_chain::app::BlockResults) -> BlockResults {
    let meta = BlockResultsMeta {
        txs_results: nil(results.tx_results.iter().map(Into::into).collect()),
        begin_block_events: nil(results.begin_events.iter().map(Into::into).collect()),
        end_block_events: nil(results.end_events.iter().map(Into::into).collect()),
    };
    BlockResults { height, meta: Raw::of(&meta) }
}

/// With the total power, which light clients want.
fn validator_set(backend: &Backend, height: i64) -> Result<ValidatorSet, RpcError> {
    let set = backend.engine.blocks().validators(height).map_err(store_error)?.ok_or_else(no_version)?;
    Ok(ValidatorSet { total_voting_power: set.total_voting_power(), ..set.to_wire() })
}

pub(crate) fn validators(backend: &Backend, height: i64) -> Result<AtHeight, RpcError> {
    let height = backend.height(height)?;
    Ok(AtHeight { height, meta: Bytes(validator_set(backend, height)?.encode_to_vec()) })
}

/// A height that is still to come has validators only.
pub(crate) fn light_block(backend: &Backend, height: i64) -> Result<AtHeight, RpcError> {
    let height = backend.height(height)?;
    let validators = validator_set(backend, height)?;
    let mut signed_header = None;
    if height <= backend.height(0)? {
        let block = backend.engine.blocks().light_block(height).map_err(store_error)?;
        let block = block.ok_or_else(|| store_error("failed to find block commit"))?;
        signed_header = Some(SignedHeader { header: Some(block.header), commit: Some(block.commit) });
    }
    let block = LightBlock { signed_header, validator_set: Some(validators) };
    Ok(AtHeight { height, meta: Bytes(block.encode_to_vec()) })
}
