//! Reading and writing files of the archive.

use std::path::Path;

use prost::Message as _;
use wire_mobilecoin::archive::{ArchiveBlock, ArchiveBlocks, block_path, merged_path};
use wire_mobilecoin::block::BlockData;

use crate::Error;

/// The longest file that is read: 10,000 blocks of a few outputs are well below it.
pub const MAX_FILE_BYTES: u64 = 1 << 30;

/// The blocks of a file, one or several.
///
/// # Errors
/// If the bytes are neither, or a block is not what its own hashes say.
pub fn decode(bytes: &[u8], merged: bool) -> Result<Vec<BlockData>, Error> {
    let bad = |e: prost::DecodeError| Error::Archive(e.to_string());
    let blocks = match merged {
        true => ArchiveBlocks::decode(bytes).map_err(bad)?.blocks,
        false => vec![ArchiveBlock::decode(bytes).map_err(bad)?],
    };
    let out: Vec<BlockData> = blocks
        .into_iter()
        .map(|block| {
            block.v1.map(BlockData::from).ok_or_else(|| Error::Archive("a block of an unknown version".into()))
        })
        .collect::<Result<_, _>>()?;
    for pair in out.windows(2) {
        if pair[1].block.parent_id != pair[0].block.id || pair[1].block.index != pair[0].block.index + 1 {
            return Err(Error::Archive(format!("block {} does not follow", pair[1].block.index)));
        }
    }
    out.iter().try_for_each(check)?;
    Ok(out)
}

/// Whether a block's id and contents hash are right, and its signature and metadata, where it has them.
fn check(data: &BlockData) -> Result<(), Error> {
    let index = data.block.index;
    let fail = |what: &str| Err(Error::Archive(format!("block {index}: {what}")));
    if data.block.id != data.block.computed_id() {
        return fail("its id is wrong");
    }
    if data.block.contents_hash != data.contents.hash() {
        return fail("its contents are others");
    }
    if data.signature.as_ref().is_some_and(|s| !mc_tx::form::verify_block_signature(&data.block, s)) {
        return fail("its signature does not hold");
    }
    if data.metadata.as_ref().is_some_and(|m| !mc_tx::form::verify_metadata(m)) {
        return fail("its metadata do not hold");
    }
    if data.metadata.as_ref().is_some_and(|m| m.contents.block_id != data.block.id) {
        return fail("its metadata are of another block");
    }
    Ok(())
}

/// The bytes of a block's file.
pub fn encode(data: BlockData) -> Vec<u8> {
    ArchiveBlock::from(data).encode_to_vec()
}

/// Writes the file of a block below the archive's root, whole or not at all.
///
/// # Errors
/// If the disk fails.
pub fn write_block(root: &Path, data: BlockData) -> Result<(), Error> {
    let path = root.join(block_path(data.block.index));
    write_file(&path, &encode(data))
}

/// Writes a merged file below the archive's root, whole or not at all.
///
/// # Errors
/// If there are no blocks or the disk fails.
pub fn write_merged(root: &Path, blocks: Vec<BlockData>) -> Result<(), Error> {
    let first = blocks.first().ok_or_else(|| Error::Archive("no blocks to merge".into()))?.block.index;
    let path = root.join(merged_path(blocks.len() as u64, first));
    let merged = ArchiveBlocks { blocks: blocks.into_iter().map(ArchiveBlock::from).collect() };
    write_file(&path, &merged.encode_to_vec())
}

fn write_file(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let io = |source| Error::Io { path: path.to_owned(), source };
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(io)?;
    }
    let part = path.with_extension("part");
    std::fs::write(&part, bytes).map_err(io)?;
    std::fs::rename(&part, path).map_err(io)
}

/// Reads the blocks of a file below the archive's root; none if it is not there.
///
/// # Errors
/// If the file is too long, cannot be read or does not decode.
pub fn read(root: &Path, relative: &str) -> Result<Option<Vec<BlockData>>, Error> {
    let path = root.join(relative);
    let io = |source| Error::Io { path: path.clone(), source };
    match std::fs::metadata(&path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(io(e)),
        Ok(meta) if meta.len() > MAX_FILE_BYTES => {
            return Err(Error::Archive(format!("{relative} is {} bytes long", meta.len())));
        }
        Ok(_) => {}
    }
    let bytes = std::fs::read(&path).map_err(io)?;
    decode(&bytes, relative.starts_with("merged-")).map(Some)
}
