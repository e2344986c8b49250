//! Putting blocks and results together from the node's answers, and checking them against headers.

use std::collections::BTreeMap;

use base_codec::cbor;
use base_prims::Hash;
use wire_cometbft::{
    Message,
    abci::{AbciResponses, BeginBlock, DeliverTx, EndBlock, ValidatorUpdate, results_hash},
    block::{Block, Commit, Data, Header, LightBlock},
    evidence::EvidenceList,
    keys::PublicKey,
    params::{ConsensusParamsUpdate, VersionParams},
    validators::ValidatorSet,
};
use wire_consensus::genesis::{Document, GenesisTime};

use crate::{
    Error, Evidence,
    api::{self, Api, ResultsMeta},
};

/// A header with the last commit that its block holds.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    pub(crate) header: Header,
    pub(crate) last_commit: Commit,
    pub(crate) hash: Vec<u8>,
}

fn decode<M: Message>(method: &'static str, bytes: &[u8]) -> Result<M, Error> {
    M::decode(bytes).map_err(|e| Error::Answer { method, reason: e.to_string() })
}

/// Refuses data that a header contradicts.
pub(crate) fn check(height: i64, what: &'static str, header: &[u8], found: &[u8]) -> Result<(), Error> {
    if header == found {
        return Ok(());
    }
    Err(Error::Contradiction { height, what, expected: hex::encode(header), found: hex::encode(found) })
}

impl Head {
    pub(crate) fn fetch(api: &mut Api<'_>, height: i64) -> Result<Self, Error> {
        let block = api.block(height)?;
        let header: Header = decode("GetBlock", &block.meta.header.0)?;
        let last_commit: Commit = decode("GetBlock", &block.meta.last_commit.0)?;
        let hash = header.hash().unwrap_or_default();
        check(height, "block hash", block.hash.as_bytes(), &hash)?;
        if header.height != height {
            return Err(Error::Answer { method: "GetBlock", reason: format!("header of height {}", header.height) });
        }
        check(height, "hash of the last commit", &header.last_commit_hash, &last_commit.hash())?;
        Ok(Self { header, last_commit, hash: hash.to_vec() })
    }

    /// The state root after the block before; a chain's first block may have none.
    pub(crate) fn app_hash(&self) -> Result<Hash, Error> {
        let bytes = <[u8; 32]>::try_from(self.header.app_hash.as_slice())
            .map_err(|_| Error::Answer { method: "GetBlock", reason: "app hash is not 32 bytes long".to_owned() })?;
        Ok(Hash::new(bytes))
    }
}

/// The genesis document with the time's fraction that the first block's header has.
pub(crate) fn genesis(api: &mut Api<'_>) -> Result<(Document, String), Error> {
    let mut doc = api.genesis()?;
    let (expected, found) = (api.chain_context()?, doc.chain_context().as_str().to_owned());
    if expected != found {
        return Err(Error::ChainContext { expected, found });
    }
    // A node that was synced from a checkpoint has no first block; whole seconds are all there is then.
    if let Ok(first) = Head::fetch(api, doc.height)
        && first.header.time.seconds() == doc.time.0.seconds()
    {
        doc.time = GenesisTime(first.header.time);
    }
    debug_assert_eq!(cbor::to_vec(&doc.time), cbor::to_vec(&GenesisTime(doc.time.0)));
    Ok((doc, found))
}

/// The whole block.
pub(crate) fn block(api: &mut Api<'_>, head: &Head, evidence: &Evidence) -> Result<Block, Error> {
    let height = head.header.height;
    let data = Data { txs: api.transactions(height)? };
    check(height, "hash of the transactions", &head.header.data_hash, &data.hash())?;
    let evidence = match evidence.get(&height) {
        Some(list) => list.clone(),
        None if head.header.evidence_hash == EvidenceList::default().hash() => EvidenceList::default(),
        None => return Err(Error::Evidence { height }),
    };
    check(height, "hash of the evidence", &head.header.evidence_hash, &evidence.hash())?;
    Ok(Block { header: head.header.clone(), data, evidence, last_commit: Some(head.last_commit.clone()) })
}

/// The canonical commit for the block.
pub(crate) fn commit(api: &mut Api<'_>, head: &Head, next: &Head) -> Result<Commit, Error> {
    let height = head.header.height;
    let block: LightBlock = decode("GetLightBlock", &api.light_block(height)?)?;
    let commit = block
        .signed_header
        .and_then(|s| s.commit)
        .ok_or_else(|| Error::Answer { method: "GetLightBlock", reason: "no commit".to_owned() })?;
    check(height, "block of the commit", &head.hash, &commit.block_id.hash)?;
    check(height, "hash of the commit", &next.header.last_commit_hash, &commit.hash())?;
    Ok(commit)
}

/// The validator set of a height, in the form that state stores keep: without the total power.
pub(crate) fn validators(api: &mut Api<'_>, height: i64) -> Result<ValidatorSet, Error> {
    let mut set: ValidatorSet = decode("GetValidators", &api.validators(height)?)?;
    set.total_voting_power = 0;
    Ok(set)
}

/// The results of a block as they are stored. `next` and `after_next` are the validators of the two heights that follow.
pub(crate) fn results(
    meta: ResultsMeta,
    next: &Head,
    validators: (&ValidatorSet, &ValidatorSet),
    height: i64,
) -> Result<AbciResponses, Error> {
    let deliver_txs: Vec<DeliverTx> = meta.txs_results.unwrap_or_default().into_iter().map(Into::into).collect();
    check(height, "hash of the results", &next.header.last_results_hash, &results_hash(&deliver_txs))?;
    let version = VersionParams { app: next.header.version.app };
    Ok(AbciResponses {
        deliver_txs,
        end_block: Some(EndBlock {
            validator_updates: updates(validators.0, validators.1),
            consensus_param_updates: Some(ConsensusParamsUpdate {
                version: Some(version),
                ..ConsensusParamsUpdate::default()
            }),
            events: api::events(meta.end_block_events.unwrap_or_default()),
        }),
        begin_block: Some(BeginBlock { events: api::events(meta.begin_block_events.unwrap_or_default()) }),
    })
}

/// The updates that turn one set into the other, by key.
fn updates(before: &ValidatorSet, after: &ValidatorSet) -> Vec<ValidatorUpdate> {
    let powers = |set: &ValidatorSet| -> BTreeMap<Vec<u8>, (PublicKey, i64)> {
        set.validators.iter().map(|v| (v.pub_key.encode_to_vec(), (v.pub_key.clone(), v.voting_power))).collect()
    };
    let (before, after) = (powers(before), powers(after));
    let removed = before.iter().filter(|(key, _)| !after.contains_key(*key)).map(|(key, (k, _))| (key, k, 0));
    let changed = after
        .iter()
        .filter(|(key, (_, power))| before.get(*key).is_none_or(|(_, old)| old != power))
        .map(|(key, (k, power))| (key, k, *power));
    let all: BTreeMap<_, _> = removed.chain(changed).map(|(key, k, power)| (key, (k, power))).collect();
    all.into_values().map(|(k, power)| ValidatorUpdate { pub_key: k.clone(), power }).collect()
}
