//! Mint configurations and how much was minted under them.

use heed::RwTxn;
use prost::Message as _;
use wire_mobilecoin::mint::{MintTx, ValidatedMintConfigTx};

use crate::Error;
use crate::tables::{
    ActiveMintConfig, ActiveMintConfigs, MintTxList, Tables, ValidatedMintConfigTxList, message, nonce_key,
};

/// Stores the mints of a block, then its configurations.
pub(crate) fn write(
    tables: &Tables,
    txn: &mut RwTxn<'_>,
    index: u64,
    configs: &[ValidatedMintConfigTx],
    mints: &[MintTx],
) -> Result<(), Error> {
    let block = index.to_be_bytes();
    for tx in mints {
        add_minted(tables, txn, tx)?;
        let key = nonce_key(&tx.prefix.nonce, tx.prefix.token_id);
        if tables.mint_nonces.get(txn, &key)?.is_some() {
            return Err(Error::DuplicateMintTx);
        }
        tables.mint_nonces.put(txn, &key, &block)?;
    }
    let list = MintTxList { mint_txs: mints.to_vec() };
    tables.mint_txs_by_block.put(txn, &block, &list.encode_to_vec())?;

    for validated in configs {
        let tx = &validated.mint_config_tx;
        let key = nonce_key(&tx.prefix.nonce, tx.prefix.token_id);
        if tables.mint_config_nonces.get(txn, &key)?.is_some() {
            return Err(Error::DuplicateMintConfigTx);
        }
        tables.mint_config_nonces.put(txn, &key, &block)?;
        let fresh = tx.prefix.configs.iter().map(|c| ActiveMintConfig { mint_config: c.clone(), total_minted: 0 });
        let active = ActiveMintConfigs { configs: fresh.collect(), mint_config_tx: tx.clone() };
        tables.active_mint_configs.put(txn, &tx.prefix.token_id.to_be_bytes(), &active.encode_to_vec())?;
    }
    let list = ValidatedMintConfigTxList { validated_mint_config_txs: configs.to_vec() };
    tables.mint_config_txs_by_block.put(txn, &block, &list.encode_to_vec())?;
    Ok(())
}

/// The configuration that a mint falls under: the first whose signers accept it and whose limit holds.
pub(crate) fn choose(active: &ActiveMintConfigs, tx: &MintTx) -> Result<usize, Error> {
    let amount = tx.prefix.amount;
    let digest = tx.prefix.hash();
    let mut exceeded = None;
    for (index, config) in active.configs.iter().enumerate() {
        let set = &config.mint_config.signer_set;
        if mc_tx::multisig::verify(set, &digest.0, &tx.signature).is_none() {
            continue;
        }
        let limit = config.mint_config.mint_limit;
        if config.total_minted.checked_add(amount).is_none_or(|total| total > limit) {
            exceeded.get_or_insert(Error::MintLimitExceeded(amount, config.total_minted, limit));
            continue;
        }
        let all = active.configs.iter().try_fold(0u64, |sum, c| sum.checked_add(c.total_minted));
        let all = all.ok_or(Error::Capacity)?;
        let total_limit = active.mint_config_tx.prefix.total_mint_limit;
        if all.checked_add(amount).is_none_or(|total| total > total_limit) {
            return Err(Error::TotalMintLimitExceeded(amount, all, total_limit));
        }
        return Ok(index);
    }
    Err(exceeded.unwrap_or(Error::MintSignature))
}

fn add_minted(tables: &Tables, txn: &mut RwTxn<'_>, tx: &MintTx) -> Result<(), Error> {
    let key = tx.prefix.token_id.to_be_bytes();
    let stored = tables.active_mint_configs.get(txn, &key)?.ok_or(Error::NotFound)?;
    let mut active: ActiveMintConfigs = message(stored, "mint configurations")?;
    let chosen = choose(&active, tx)?;
    let config = &mut active.configs[chosen];
    config.total_minted = config.total_minted.checked_add(tx.prefix.amount).ok_or(Error::Capacity)?;
    tables.active_mint_configs.put(txn, &key, &active.encode_to_vec())?;
    Ok(())
}
