//! Cutting a ledger back to a height.

use prost::Message as _;
use wire_mobilecoin::archive::{MERGE_BUCKETS, block_path, merged_path};

use crate::tables::{ActiveMintConfigs, message, nonce_key};
use crate::{Error, LedgerDb, mints};

impl LedgerDb {
    /// Removes all blocks from a height on, so that `height` blocks are left. The mint configurations and their totals are
    /// made anew from the blocks that stay.
    ///
    /// # Errors
    /// If there are fewer blocks, or none would be left, or writing fails. Then nothing is changed.
    pub fn truncate(&self, height: u64) -> Result<(), Error> {
        let mut txn = self.env.write_txn()?;
        let num_blocks = self.count_blocks(&txn)?;
        if height == 0 || height > num_blocks {
            return Err(Error::InvalidBlockIndex(height));
        }
        let tables = self.tables;
        let mut num_tx_outs = self.count_tx_outs(&txn)?;
        for index in (height..num_blocks).rev() {
            let contents = self.read_contents(&txn, index)?;
            let range = self.tx_outs_of(&txn, index)?;
            for (tx_out, out) in (range.first..num_tx_outs).zip(&contents.outputs) {
                let key = tx_out.to_be_bytes();
                tables.tx_out_by_index.delete(&mut txn, &key)?;
                tables.block_by_tx_out.delete(&mut txn, &key)?;
                tables.tx_out_index_by_hash.delete(&mut txn, &out.hash().0)?;
                tables.tx_out_index_by_public_key.delete(&mut txn, &out.public_key.0)?;
            }
            num_tx_outs = range.first;
            for image in &contents.key_images {
                tables.key_images.delete(&mut txn, &image.0)?;
            }
            for tx in &contents.mint_txs {
                tables.mint_nonces.delete(&mut txn, &nonce_key(&tx.prefix.nonce, tx.prefix.token_id))?;
            }
            for tx in &contents.validated_mint_config_txs {
                let prefix = &tx.mint_config_tx.prefix;
                tables.mint_config_nonces.delete(&mut txn, &nonce_key(&prefix.nonce, prefix.token_id))?;
            }
            let key = index.to_be_bytes();
            for table in [
                tables.blocks,
                tables.block_signatures,
                tables.block_metadata,
                tables.key_images_by_block,
                tables.tx_outs_by_block,
                tables.mint_config_txs_by_block,
                tables.mint_txs_by_block,
            ] {
                table.delete(&mut txn, &key)?;
            }
        }
        self.remove_hashes(&mut txn, num_tx_outs)?;
        self.set_counts(&mut txn, height, num_tx_outs)?;
        self.rebuild_edge(&mut txn, num_tx_outs)?;
        self.rebuild_mint_configs(&mut txn, height)?;
        txn.commit()?;
        Ok(())
    }

    /// Removes hashes of ranges that no longer hold a leaf, or reach beyond the new root.
    fn remove_hashes(&self, txn: &mut heed::RwTxn<'_>, num_tx_outs: u64) -> Result<(), Error> {
        let end = num_tx_outs.checked_sub(1).map(mc_tx::membership::root_end);
        let mut stale = Vec::new();
        for entry in self.tables.merkle_hash_by_range.iter(txn)? {
            let (key, _) = entry?;
            let (from, to) = key.split_first_chunk::<8>().ok_or(Error::Corrupt("tree of outputs"))?;
            let to: [u8; 8] = to.try_into().map_err(|_| Error::Corrupt("tree of outputs"))?;
            let (from, to) = (u64::from_be_bytes(*from), u64::from_be_bytes(to));
            if from >= num_tx_outs || end.is_none_or(|end| to > end) {
                stale.push(key.to_vec());
            }
        }
        for key in stale {
            self.tables.merkle_hash_by_range.delete(txn, &key)?;
        }
        Ok(())
    }

    fn rebuild_mint_configs(&self, txn: &mut heed::RwTxn<'_>, height: u64) -> Result<(), Error> {
        let table = self.tables.active_mint_configs;
        table.clear(txn)?;
        for index in 0..height {
            let contents = self.read_contents(txn, index)?;
            for tx in &contents.mint_txs {
                let key = tx.prefix.token_id.to_be_bytes();
                let mut active: ActiveMintConfigs =
                    message(table.get(txn, &key)?.ok_or(Error::NotFound)?, "mint configurations")?;
                let chosen = mints::choose(&active, tx)?;
                let config = &mut active.configs[chosen];
                config.total_minted = config.total_minted.checked_add(tx.prefix.amount).ok_or(Error::Capacity)?;
                table.put(txn, &key, &active.encode_to_vec())?;
            }
            for tx in &contents.validated_mint_config_txs {
                let tx = &tx.mint_config_tx;
                let fresh = tx
                    .prefix
                    .configs
                    .iter()
                    .map(|config| crate::tables::ActiveMintConfig { mint_config: config.clone(), total_minted: 0 });
                let active = ActiveMintConfigs { configs: fresh.collect(), mint_config_tx: tx.clone() };
                table.put(txn, &tx.prefix.token_id.to_be_bytes(), &active.encode_to_vec())?;
            }
        }
        Ok(())
    }
}

/// The archive's files that hold blocks from `height` on, merged ones too, if the ledger had `num_blocks`.
pub fn archive_files_from(height: u64, num_blocks: u64) -> Vec<String> {
    let mut out: Vec<String> = (height..num_blocks).map(block_path).collect();
    for bucket in MERGE_BUCKETS.into_iter().rev() {
        let mut first = height - height % bucket;
        while first < num_blocks && num_blocks - first >= bucket {
            out.push(merged_path(bucket, first));
            first += bucket;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merged_files_that_reach_over_the_height_are_listed() {
        let files = archive_files_from(150, 302);
        assert_eq!(files.len(), 152 + 2);
        assert_eq!(files[152..], [merged_path(100, 100), merged_path(100, 200)]);
        assert_eq!(archive_files_from(5, 5), Vec::<String>::new());
    }
}
