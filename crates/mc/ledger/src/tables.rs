//! Names, keys and values of the tables.

use heed::types::Bytes;
use heed::{Database, Env, RoTxn, RwTxn};
use prost::Message;
use wire_mobilecoin::Point;
use wire_mobilecoin::mint::{MintConfig, MintConfigTx, MintTx, ValidatedMintConfigTx};

use crate::Error;

/// The version of the tables that this crate reads and writes.
pub const VERSION: u64 = 20_220_921;

/// Everything is bytes: keys are big-endian numbers but for values of key images.
pub(crate) type Table = Database<Bytes, Bytes>;

macro_rules! tables {
    ($($(#[$doc:meta])* $field:ident: $name:literal),* $(,)?) => {
        /// The tables of a ledger.
        #[derive(Clone, Copy)]
        pub(crate) struct Tables {
            $($(#[$doc])* pub(crate) $field: Table,)*
        }

        /// Their names.
        pub(crate) const NAMES: &[&str] = &[$($name),*];

        impl Tables {
            /// Opens all tables.
            pub(crate) fn open(env: &Env, txn: &RoTxn<'_>) -> Result<Self, Error> {
                Ok(Self { $($field: env.open_database(txn, Some($name))?.ok_or(Error::Corrupt($name))?,)* })
            }

            /// Creates those that are missing.
            pub(crate) fn create(env: &Env, txn: &mut RwTxn<'_>) -> Result<Self, Error> {
                Ok(Self { $($field: env.create_database(txn, Some($name))?,)* })
            }
        }
    };
}

tables! {
    /// `version` → [`MetadataVersion`].
    metadata: "ledger_db_metadata",
    /// `num_blocks`.
    counts: "ledger_db:counts",
    /// Index → Block.
    blocks: "ledger_db:blocks",
    /// Index → BlockSignature.
    block_signatures: "ledger_db:block_signatures",
    /// Index → BlockMetadata.
    block_metadata: "ledger_db:block_metadata",
    /// Key image → block index, little-endian.
    key_images: "ledger_db:key_images",
    /// Index → [`KeyImageList`].
    key_images_by_block: "ledger_db:key_images_by_block",
    /// Index → [`TxOutRange`].
    tx_outs_by_block: "ledger_db:tx_outs_by_block",
    /// Output index → block index.
    block_by_tx_out: "ledger_db:block_number_by_tx_out_index",
    /// `num_tx_outs`.
    tx_out_counts: "tx_out_store:counts",
    /// Output index → TxOut.
    tx_out_by_index: "tx_out_store:tx_out_by_index",
    /// Hash of an output → output index.
    tx_out_index_by_hash: "tx_out_store:tx_out_index_by_hash",
    /// Public key of an output → output index.
    tx_out_index_by_public_key: "tx_out_store:tx_out_index_by_public_key",
    /// First and last leaf → hash.
    merkle_hash_by_range: "tx_out_store:merkle_hash_by_range",
    /// Token → [`ActiveMintConfigs`].
    active_mint_configs: "mint_config_store:active_mint_configs_by_token_id",
    /// Nonce and token → block index.
    mint_config_nonces: "mint_config_store:block_index_by_mint_config_tx_nonce_and_token_id",
    /// Index → [`ValidatedMintConfigTxList`].
    mint_config_txs_by_block: "mint_config_store:validated_mint_config_txs_by_block",
    /// Nonce and token → block index.
    mint_nonces: "mint_tx_store:block_index_by_mint_tx_nonce_and_token_id",
    /// Index → [`MintTxList`].
    mint_txs_by_block: "mint_tx_store:set_txs_by_block",
}

/// What made the tables.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct MetadataVersion {
    /// Version of the tables.
    #[prost(uint64, tag = "1")]
    pub(crate) database_format_version: u64,
    /// Version of the program that made them.
    #[prost(string, tag = "2")]
    pub(crate) created_by_crate_version: String,
}

/// Key images of a block.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct KeyImageList {
    #[prost(message, repeated, tag = "1")]
    pub(crate) key_images: Vec<Point>,
}

/// Outputs of a block.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(crate) struct TxOutRange {
    #[prost(uint64, tag = "1")]
    pub(crate) first: u64,
    #[prost(uint64, tag = "2")]
    pub(crate) count: u64,
}

/// A configuration and how much was minted under it.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct ActiveMintConfig {
    /// The configuration.
    #[prost(message, required, tag = "1")]
    pub mint_config: MintConfig,
    /// Minted so far.
    #[prost(uint64, tag = "2")]
    pub total_minted: u64,
}

/// The configurations of a token, in order of preference.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct ActiveMintConfigs {
    /// The configurations.
    #[prost(message, repeated, tag = "1")]
    pub configs: Vec<ActiveMintConfig>,
    /// What set them.
    #[prost(message, required, tag = "2")]
    pub mint_config_tx: MintConfigTx,
}

/// Mint configurations of a block.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct ValidatedMintConfigTxList {
    #[prost(message, repeated, tag = "1")]
    pub(crate) validated_mint_config_txs: Vec<ValidatedMintConfigTx>,
}

/// Mints of a block.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct MintTxList {
    #[prost(message, repeated, tag = "1")]
    pub(crate) mint_txs: Vec<MintTx>,
}

/// The key of a nonce of a token.
pub(crate) fn nonce_key(nonce: &[u8], token_id: u64) -> Vec<u8> {
    [nonce, &token_id.to_be_bytes()].concat()
}

/// A big-endian number.
pub(crate) fn number(bytes: &[u8], what: &'static str) -> Result<u64, Error> {
    bytes.try_into().map(u64::from_be_bytes).map_err(|_| Error::Corrupt(what))
}

/// A stored message.
pub(crate) fn message<T: Message + Default>(bytes: &[u8], what: &'static str) -> Result<T, Error> {
    T::decode(bytes).map_err(|_| Error::Corrupt(what))
}
