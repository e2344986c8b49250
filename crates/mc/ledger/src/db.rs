//! The database: reading, and appending blocks.

use std::path::{Path, PathBuf};

use heed::{Env, EnvOpenOptions, RoTxn, RwTxn};
use mc_tx::membership::{self, Tree};
use prost::Message as _;
use wire_mobilecoin::block::{Block, BlockContents, BlockData, BlockMetadata, BlockSignature, MAX_BLOCK_VERSION};
use wire_mobilecoin::tx::{MembershipElement, MembershipProof, Range, TxOut};
use wire_mobilecoin::{Hash, Point};

use crate::tables::{
    ActiveMintConfigs, KeyImageList, MetadataVersion, MintTxList, NAMES, Tables, TxOutRange, VERSION,
    ValidatedMintConfigTxList, message, number,
};
use crate::{Error, mints};

/// Address space that the database may grow to, bytes; the file is as large as what is in it.
const MAP_SIZE: usize = 1 << 40;

/// The file within the directory.
pub const FILE_NAME: &str = "data.mdb";

const NUM_BLOCKS: &[u8] = b"num_blocks";
const NUM_TX_OUTS: &[u8] = b"num_tx_outs";
const VERSION_KEY: &[u8] = b"version";

/// A ledger.
#[derive(Clone)]
pub struct LedgerDb {
    pub(crate) env: Env,
    pub(crate) tables: Tables,
    path: PathBuf,
}

/// Opens the environment of a directory.
#[expect(
    unsafe_code,
    reason = "mapping a file is unsafe: nothing else may change it meanwhile; the lock file sees to that"
)]
fn environment(path: &Path) -> Result<Env, Error> {
    let mut options = EnvOpenOptions::new();
    options.map_size(MAP_SIZE).max_dbs(NAMES.len() as u32 + 4);
    // SAFETY: the directory is the node's own, and processes that open it hold LMDB's lock.
    Ok(unsafe { options.open(path) }?)
}

impl LedgerDb {
    /// Makes an empty ledger in a directory that has none.
    ///
    /// # Errors
    /// If the directory cannot be written.
    pub fn create(path: &Path) -> Result<Self, Error> {
        let io = |source| Error::Io { path: path.to_owned(), source };
        std::fs::create_dir_all(path).map_err(io)?;
        let env = environment(path)?;
        let mut txn = env.write_txn()?;
        let tables = Tables::create(&env, &mut txn)?;
        if tables.metadata.get(&txn, VERSION_KEY)?.is_none() {
            let version = MetadataVersion {
                database_format_version: VERSION,
                created_by_crate_version: env!("CARGO_PKG_VERSION").to_owned(),
            };
            tables.metadata.put(&mut txn, VERSION_KEY, &version.encode_to_vec())?;
            tables.counts.put(&mut txn, NUM_BLOCKS, &0u64.to_be_bytes())?;
            tables.tx_out_counts.put(&mut txn, NUM_TX_OUTS, &0u64.to_be_bytes())?;
        }
        txn.commit()?;
        Ok(Self { env, tables, path: path.to_owned() })
    }

    /// Opens the ledger of a directory.
    ///
    /// # Errors
    /// If there is none, or it is of another version.
    pub fn open(path: &Path) -> Result<Self, Error> {
        if !path.join(FILE_NAME).exists() {
            return Err(Error::NotFound);
        }
        let env = environment(path)?;
        let txn = env.read_txn()?;
        let tables = Tables::open(&env, &txn)?;
        let stored = tables.metadata.get(&txn, VERSION_KEY)?.ok_or(Error::NotFound)?;
        let version: MetadataVersion = message(stored, "version")?;
        if version.database_format_version != VERSION {
            return Err(Error::Version { found: version.database_format_version, expected: VERSION });
        }
        // Committing a read transaction keeps the table handles that it opened.
        txn.commit()?;
        Ok(Self { env, tables, path: path.to_owned() })
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn read(&self) -> Result<RoTxn<'_, heed::WithTls>, Error> {
        Ok(self.env.read_txn()?)
    }

    /// How many blocks there are.
    ///
    /// # Errors
    /// If reading fails.
    pub fn num_blocks(&self) -> Result<u64, Error> {
        let txn = self.read()?;
        self.count_blocks(&txn)
    }

    pub(crate) fn count_blocks(&self, txn: &RoTxn<'_>) -> Result<u64, Error> {
        self.tables.counts.get(txn, NUM_BLOCKS)?.map_or(Ok(0), |bytes| number(bytes, "number of blocks"))
    }

    pub(crate) fn count_tx_outs(&self, txn: &RoTxn<'_>) -> Result<u64, Error> {
        self.tables.tx_out_counts.get(txn, NUM_TX_OUTS)?.map_or(Ok(0), |bytes| number(bytes, "number of outputs"))
    }

    pub(crate) fn set_counts(&self, txn: &mut RwTxn<'_>, blocks: u64, tx_outs: u64) -> Result<(), Error> {
        self.tables.counts.put(txn, NUM_BLOCKS, &blocks.to_be_bytes())?;
        self.tables.tx_out_counts.put(txn, NUM_TX_OUTS, &tx_outs.to_be_bytes())?;
        Ok(())
    }

    /// How many outputs there are.
    ///
    /// # Errors
    /// If reading fails.
    pub fn num_tx_outs(&self) -> Result<u64, Error> {
        let txn = self.read()?;
        self.count_tx_outs(&txn)
    }

    /// A block's header.
    ///
    /// # Errors
    /// If there is no such block or reading fails.
    pub fn block(&self, index: u64) -> Result<Block, Error> {
        let txn = self.read()?;
        self.read_block(&txn, index)
    }

    fn read_block(&self, txn: &RoTxn<'_>, index: u64) -> Result<Block, Error> {
        message(self.tables.blocks.get(txn, &index.to_be_bytes())?.ok_or(Error::NotFound)?, "block")
    }

    /// A block with all that belongs to it.
    ///
    /// # Errors
    /// If there is no such block or reading fails.
    pub fn block_data(&self, index: u64) -> Result<BlockData, Error> {
        let txn = self.env.read_txn()?;
        let key = index.to_be_bytes();
        let block = self.read_block(&txn, index)?;
        let signature = self.tables.block_signatures.get(&txn, &key)?.map(|b| message(b, "block signature"));
        let metadata = self.tables.block_metadata.get(&txn, &key)?.map(|b| message(b, "block metadata"));
        let contents = self.read_contents(&txn, index)?;
        Ok(BlockData { block, contents, signature: signature.transpose()?, metadata: metadata.transpose()? })
    }

    pub(crate) fn read_contents(&self, txn: &RoTxn<'_>, index: u64) -> Result<BlockContents, Error> {
        let key = index.to_be_bytes();
        let images = self.tables.key_images_by_block.get(txn, &key)?.ok_or(Error::NotFound)?;
        let images: KeyImageList = message(images, "key images")?;
        let range = self.tx_outs_of(txn, index)?;
        let end = range.first.checked_add(range.count).ok_or(Error::Corrupt("outputs of a block"))?;
        let mut outputs = Vec::new();
        for tx_out in range.first..end {
            outputs.push(self.read_tx_out(txn, tx_out)?);
        }
        let configs = self.tables.mint_config_txs_by_block.get(txn, &key)?.unwrap_or_default();
        let configs: ValidatedMintConfigTxList = message(configs, "mint configurations of a block")?;
        let mints = self.tables.mint_txs_by_block.get(txn, &key)?.unwrap_or_default();
        let mints: MintTxList = message(mints, "mints of a block")?;
        Ok(BlockContents {
            key_images: images.key_images,
            outputs,
            validated_mint_config_txs: configs.validated_mint_config_txs,
            mint_txs: mints.mint_txs,
        })
    }

    pub(crate) fn tx_outs_of(&self, txn: &RoTxn<'_>, index: u64) -> Result<TxOutRange, Error> {
        let bytes = self.tables.tx_outs_by_block.get(txn, &index.to_be_bytes())?.ok_or(Error::NotFound)?;
        message(bytes, "outputs of a block")
    }

    fn read_tx_out(&self, txn: &RoTxn<'_>, index: u64) -> Result<TxOut, Error> {
        message(self.tables.tx_out_by_index.get(txn, &index.to_be_bytes())?.ok_or(Error::NotFound)?, "output")
    }

    /// An output.
    ///
    /// # Errors
    /// If there is no such output or reading fails.
    pub fn tx_out(&self, index: u64) -> Result<TxOut, Error> {
        let txn = self.read()?;
        self.read_tx_out(&txn, index)
    }

    /// The index of the output with that public key.
    ///
    /// # Errors
    /// If reading fails.
    pub fn tx_out_index_by_public_key(&self, key: &Point) -> Result<Option<u64>, Error> {
        let txn = self.env.read_txn()?;
        let stored = self.tables.tx_out_index_by_public_key.get(&txn, &key.0)?;
        stored.map(|bytes| number(bytes, "index by public key")).transpose()
    }

    /// The index of the output with that hash.
    ///
    /// # Errors
    /// If reading fails.
    pub fn tx_out_index_by_hash(&self, hash: &Hash) -> Result<Option<u64>, Error> {
        let txn = self.env.read_txn()?;
        let stored = self.tables.tx_out_index_by_hash.get(&txn, &hash.0)?;
        stored.map(|bytes| number(bytes, "index by hash")).transpose()
    }

    /// The block that spent a key image.
    ///
    /// # Errors
    /// If reading fails.
    pub fn block_of_key_image(&self, image: &Point) -> Result<Option<u64>, Error> {
        let txn = self.env.read_txn()?;
        let stored = self.tables.key_images.get(&txn, &image.0)?;
        let little_endian = |bytes: &[u8]| bytes.try_into().map(u64::from_le_bytes);
        stored.map(|bytes| little_endian(bytes).map_err(|_| Error::Corrupt("block of a key image"))).transpose()
    }

    /// The block of an output.
    ///
    /// # Errors
    /// If there is no such output or reading fails.
    pub fn block_of_tx_out(&self, index: u64) -> Result<u64, Error> {
        let txn = self.env.read_txn()?;
        let stored = self.tables.block_by_tx_out.get(&txn, &index.to_be_bytes())?.ok_or(Error::NotFound)?;
        number(stored, "block of an output")
    }

    /// The mint configurations of a token.
    ///
    /// # Errors
    /// If reading fails.
    pub fn active_mint_configs(&self, token_id: u64) -> Result<Option<ActiveMintConfigs>, Error> {
        let txn = self.env.read_txn()?;
        let stored = self.tables.active_mint_configs.get(&txn, &token_id.to_be_bytes())?;
        stored.map(|bytes| message(bytes, "mint configurations")).transpose()
    }

    /// The root of the tree of all outputs.
    ///
    /// # Errors
    /// If reading fails.
    pub fn root_element(&self) -> Result<MembershipElement, Error> {
        let txn = self.read()?;
        membership::root_of(&StoredTree { db: self, txn: &txn })
    }

    /// The proof that an output is in the ledger.
    ///
    /// # Errors
    /// If there is no such output or reading fails.
    pub fn membership_proof(&self, index: u64) -> Result<MembershipProof, Error> {
        let txn = self.read()?;
        membership::proof_of(&StoredTree { db: self, txn: &txn }, index)?.ok_or(Error::NotFound)
    }

    /// Appends a block.
    ///
    /// # Errors
    /// The first rule that it breaks, in the reference's order; or if writing fails. Then nothing is changed.
    pub fn append_block(
        &self,
        block: &Block,
        contents: &BlockContents,
        signature: Option<&BlockSignature>,
        metadata: Option<&BlockMetadata>,
    ) -> Result<(), Error> {
        let mut txn = self.env.write_txn()?;
        self.check(&txn, block, contents, metadata)?;
        let tables = &self.tables;
        let key = block.index.to_be_bytes();
        tables.blocks.put(&mut txn, &key, &block.encode_to_vec())?;
        if let Some(signature) = signature {
            tables.block_signatures.put(&mut txn, &key, &signature.encode_to_vec())?;
        }
        if let Some(metadata) = metadata {
            tables.block_metadata.put(&mut txn, &key, &metadata.encode_to_vec())?;
        }
        for image in &contents.key_images {
            tables.key_images.put(&mut txn, &image.0, &block.index.to_le_bytes())?;
        }
        let images = KeyImageList { key_images: contents.key_images.clone() };
        tables.key_images_by_block.put(&mut txn, &key, &images.encode_to_vec())?;
        let first = self.count_tx_outs(&txn)?;
        let range = TxOutRange { first, count: contents.outputs.len() as u64 };
        let end = first.checked_add(range.count).ok_or(Error::Capacity)?;
        tables.tx_outs_by_block.put(&mut txn, &key, &range.encode_to_vec())?;
        for (index, out) in (first..end).zip(&contents.outputs) {
            tables.block_by_tx_out.put(&mut txn, &index.to_be_bytes(), &key)?;
            self.write_tx_out(&mut txn, index, out)?;
        }
        mints::write(tables, &mut txn, block.index, &contents.validated_mint_config_txs, &contents.mint_txs)?;
        self.set_counts(&mut txn, block.index.checked_add(1).ok_or(Error::Capacity)?, end)?;
        txn.commit()?;
        Ok(())
    }

    fn check(
        &self,
        txn: &RoTxn<'_>,
        block: &Block,
        contents: &BlockContents,
        metadata: Option<&BlockMetadata>,
    ) -> Result<(), Error> {
        let num_blocks = self.count_blocks(txn)?;
        if block.index != num_blocks {
            return Err(Error::InvalidBlockIndex(block.index));
        }
        match num_blocks.checked_sub(1) {
            None => {
                if block.version != 0 {
                    return Err(Error::InvalidBlockVersion(block.version));
                }
                if block.parent_id != Hash::default() {
                    return Err(Error::InvalidParentBlockId(block.parent_id));
                }
            }
            Some(last) => {
                let parent = self.read_block(txn, last)?;
                if block.version < parent.version || block.version > MAX_BLOCK_VERSION {
                    return Err(Error::InvalidBlockVersion(block.version));
                }
                if block.parent_id != parent.id {
                    return Err(Error::InvalidParentBlockId(block.parent_id));
                }
            }
        }
        self.check_contents(txn, block, contents)?;
        if block.computed_id() != block.id {
            return Err(Error::InvalidBlockId(block.id));
        }
        if block.version >= 3 && metadata.is_none() {
            return Err(Error::BlockMetadataRequired);
        }
        Ok(())
    }

    fn check_contents(&self, txn: &RoTxn<'_>, block: &Block, contents: &BlockContents) -> Result<(), Error> {
        let minting = !contents.mint_txs.is_empty() || !contents.validated_mint_config_txs.is_empty();
        if contents.outputs.is_empty() && contents.validated_mint_config_txs.is_empty() {
            return Err(Error::NoOutputs);
        }
        if contents.outputs.len() < contents.mint_txs.len() {
            return Err(Error::TooFewOutputs);
        }
        if contents.key_images.is_empty() && !minting && block.index != 0 {
            return Err(Error::NoKeyImages);
        }
        if block.contents_hash != contents.hash() {
            return Err(Error::InvalidBlockContents);
        }
        if contents.outputs.iter().any(|out| out.masked_amount.is_none()) {
            return Err(Error::MissingMaskedAmount);
        }
        for image in &contents.key_images {
            if self.tables.key_images.get(txn, &image.0)?.is_some() {
                return Err(Error::KeyImageAlreadySpent);
            }
        }
        for out in &contents.outputs {
            if self.tables.tx_out_index_by_public_key.get(txn, &out.public_key.0)?.is_some() {
                return Err(Error::DuplicateOutputPublicKey);
            }
        }
        Ok(())
    }

    fn write_tx_out(&self, txn: &mut RwTxn<'_>, index: u64, out: &TxOut) -> Result<(), Error> {
        let tables = &self.tables;
        let key = index.to_be_bytes();
        if tables.tx_out_index_by_public_key.get(txn, &out.public_key.0)?.is_some() {
            return Err(Error::DuplicateOutputPublicKey);
        }
        tables.tx_out_by_index.put(txn, &key, &out.encode_to_vec())?;
        tables.tx_out_index_by_hash.put(txn, &out.hash().0, &key)?;
        tables.tx_out_index_by_public_key.put(txn, &out.public_key.0, &key)?;
        self.update_tree(txn, index, membership::leaf_hash(out))
    }

    /// Puts a leaf and all hashes above it.
    fn update_tree(&self, txn: &mut RwTxn<'_>, index: u64, leaf: Hash) -> Result<(), Error> {
        let ranges = membership::ranges_above(index);
        let mut hash = leaf;
        for (level, range) in ranges.iter().enumerate() {
            if level > 0 {
                let half = (range.to - range.from) / 2;
                let left = Range { from: range.from, to: range.from + half };
                let right = Range { from: left.to + 1, to: range.to };
                let read = |range: Range| self.read_hash(txn, range);
                let left = read(left)?.ok_or(Error::Corrupt("tree of outputs"))?;
                let right = read(right)?.unwrap_or_else(membership::nil_hash);
                hash = membership::node_hash(&left, &right);
            }
            self.tables.merkle_hash_by_range.put(txn, &range_key(*range), &hash.0)?;
        }
        Ok(())
    }

    fn read_hash(&self, txn: &RoTxn<'_>, range: Range) -> Result<Option<Hash>, Error> {
        let stored = self.tables.merkle_hash_by_range.get(txn, &range_key(range))?;
        stored.map(|bytes| Hash::try_from(bytes).map_err(|_| Error::Corrupt("tree of outputs"))).transpose()
    }

    /// Recomputes the hashes above the last output, after later ones were removed.
    pub(crate) fn rebuild_edge(&self, txn: &mut RwTxn<'_>, num_tx_outs: u64) -> Result<(), Error> {
        let Some(last) = num_tx_outs.checked_sub(1) else {
            return Ok(());
        };
        let leaf = membership::leaf_hash(&self.read_tx_out(txn, last)?);
        self.update_tree(txn, last, leaf)
    }
}

/// The key of a range of leaves.
pub(crate) fn range_key(range: Range) -> [u8; 16] {
    let mut key = [0u8; 16];
    key[..8].copy_from_slice(&range.from.to_be_bytes());
    key[8..].copy_from_slice(&range.to.to_be_bytes());
    key
}

/// The tree of outputs as it is stored.
struct StoredTree<'a, 'b> {
    db: &'a LedgerDb,
    txn: &'a RoTxn<'b>,
}

impl Tree for StoredTree<'_, '_> {
    type Error = Error;

    fn num_leaves(&self) -> Result<u64, Error> {
        self.db.count_tx_outs(self.txn)
    }

    fn hash_of(&self, range: Range) -> Result<Hash, Error> {
        self.db.read_hash(self.txn, range)?.ok_or(Error::Corrupt("tree of outputs"))
    }
}

impl LedgerDb {
    /// The first table, by name, in which two ledgers differ; what made them is not compared.
    ///
    /// # Errors
    /// If reading fails.
    pub fn differing_table(&self, other: &Self) -> Result<Option<&'static str>, Error> {
        let (a, b) = (self.env.read_txn()?, other.env.read_txn()?);
        for name in NAMES.iter().filter(|name| **name != "ledger_db_metadata") {
            let open = |db: &Self, txn: &RoTxn<'_>| -> Result<crate::tables::Table, Error> {
                db.env.open_database(txn, Some(name))?.ok_or(Error::Corrupt(name))
            };
            let (ours, theirs) = (open(self, &a)?, open(other, &b)?);
            let mut theirs = theirs.iter(&b)?;
            for entry in ours.iter(&a)? {
                if theirs.next().transpose()? != Some(entry?) {
                    return Ok(Some(name));
                }
            }
            if theirs.next().transpose()?.is_some() {
                return Ok(Some(name));
            }
        }
        Ok(None)
    }
}
