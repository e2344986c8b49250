//! Which of the values that nodes nominate go into a block (reference: the service's `combine`).

use std::cmp::Reverse;
use std::collections::HashSet;

use wire_mobilecoin::mint::{MintConfigTx, MintTx};
use wire_mobilecoin::peer::ConsensusValue;
use wire_mobilecoin::{Point, TxHash};

/// Most transactions of a block.
pub const MAX_TXS: usize = 5_000;
/// Most mint configurations of a block.
pub const MAX_MINT_CONFIG_TXS: usize = 10;
/// Most mints of a block.
pub const MAX_MINT_TXS: usize = 10;

/// What is known of a transaction without its amounts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TxContext {
    /// Its hash.
    pub tx_hash: TxHash,
    /// See [`crate::fees::priority`].
    pub priority: u64,
    /// Its tombstone.
    pub tombstone_block: u64,
    /// Its key images.
    pub key_images: Vec<Point>,
    /// Highest indices of its membership proofs.
    pub highest_indices: Vec<u64>,
    /// Public keys of its outputs.
    pub output_public_keys: Vec<Point>,
}

/// The transactions that go together: by priority, each that shares no key image and no output key with those before.
pub fn combine_txs(mut contexts: Vec<TxContext>) -> Vec<TxHash> {
    contexts.sort_by(|a, b| {
        let key = |c: &TxContext| (Reverse(c.priority), c.tx_hash, c.tombstone_block);
        key(a)
            .cmp(&key(b))
            .then_with(|| a.key_images.cmp(&b.key_images))
            .then_with(|| a.highest_indices.cmp(&b.highest_indices))
            .then_with(|| a.output_public_keys.cmp(&b.output_public_keys))
    });
    let (mut images, mut keys) = (HashSet::new(), HashSet::new());
    let mut out = Vec::new();
    for context in contexts {
        if out.len() == MAX_TXS {
            break;
        }
        let taken = context.key_images.iter().any(|i| images.contains(i))
            || context.output_public_keys.iter().any(|k| keys.contains(k));
        if taken {
            continue;
        }
        images.extend(context.key_images);
        keys.extend(context.output_public_keys);
        out.push(context.tx_hash);
    }
    out
}

/// The mint configurations that go together: in order, the first of each nonce and token.
pub fn combine_mint_config_txs(mut txs: Vec<MintConfigTx>) -> Vec<MintConfigTx> {
    txs.sort();
    let mut seen = HashSet::new();
    txs.retain(|tx| seen.insert((tx.prefix.nonce.clone(), tx.prefix.token_id)));
    txs.truncate(MAX_MINT_CONFIG_TXS);
    txs
}

/// The mints that go together: in order, the first of each nonce and token, one for each configuration. `config_of`
/// names the active configuration that a mint falls under, if any.
pub fn combine_mint_txs(mut txs: Vec<MintTx>, config_of: impl Fn(&MintTx) -> Option<[u8; 32]>) -> Vec<MintTx> {
    txs.sort();
    let (mut seen, mut configs) = (HashSet::new(), HashSet::new());
    txs.retain(|tx| {
        seen.insert((tx.prefix.nonce.clone(), tx.prefix.token_id))
            && config_of(tx).is_some_and(|config| configs.insert(config))
    });
    txs.truncate(MAX_MINT_TXS);
    txs
}

/// The agreed values in their order: transactions, mint configurations, mints.
pub fn composite(txs: Vec<TxHash>, configs: Vec<MintConfigTx>, mints: Vec<MintTx>) -> Vec<ConsensusValue> {
    let txs = txs.into_iter().map(ConsensusValue::TxHash);
    let configs = configs.into_iter().map(ConsensusValue::MintConfigTx);
    txs.chain(configs).chain(mints.into_iter().map(ConsensusValue::MintTx)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context(hash: u8, priority: u64, image: u8) -> TxContext {
        TxContext {
            tx_hash: TxHash([hash; 32]),
            priority,
            tombstone_block: 10,
            key_images: vec![Point([image; 32])],
            highest_indices: vec![1],
            output_public_keys: vec![Point([hash; 32])],
        }
    }

    #[test]
    fn the_higher_priority_wins_a_shared_key_image() {
        let combined = combine_txs(vec![context(1, 5, 9), context(2, 7, 9), context(3, 6, 8), context(4, 6, 7)]);
        assert_eq!(combined, [2, 3, 4].map(|hash| TxHash([hash; 32])));
    }
}
