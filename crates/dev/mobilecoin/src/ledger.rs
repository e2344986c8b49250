//! The ledger database, appended blocks, archive files.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use mc_ledger::archive::{self, write_block, write_merged};
use mc_ledger::{LedgerDb, verify};
use serde_json::Value;
use wire_mobilecoin::archive::{block_path, merged_path};
use wire_mobilecoin::block::{Block, BlockContents, BlockData, BlockMetadata, BlockSignature};

use crate::case::{Case, Field, same};
use crate::{Checked, Counts};

/// A folder that is removed again.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Field<Self> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let name = format!("mobilecoin-check-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).map_err(|e| e.to_string())?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed stays in the system's folder for temporary files.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn optional<T: wire_mobilecoin::Message + Default>(case: &Case<'_>, name: &str) -> Field<Option<T>> {
    if case.field(name).is_null() { Ok(None) } else { case.message(name).map(Some) }
}

fn block_data(entry: &Case<'_>) -> Field<BlockData> {
    Ok(BlockData {
        block: entry.message("block_pb")?,
        contents: entry.message("contents_pb")?,
        signature: optional(entry, "signature_pb")?,
        metadata: optional(entry, "metadata_pb")?,
    })
}

/// The recorded chain of a file.
fn chain(root: &Value) -> Field<Vec<BlockData>> {
    let case = Case { value: &root["groups"]["chain"]["cases"][0], root };
    case.list("blocks")?.iter().map(|value| block_data(&case.at(value))).collect()
}

fn build(dir: &Path, blocks: &[BlockData]) -> Field<LedgerDb> {
    let db = LedgerDb::create(dir).map_err(|e| e.to_string())?;
    for data in blocks {
        db.append_block(&data.block, &data.contents, data.signature.as_ref(), data.metadata.as_ref())
            .map_err(|e| format!("block {}: {e}", data.block.index))?;
    }
    Ok(db)
}

/// A block offered on top of the chain.
pub(crate) fn append(case: &Case<'_>) -> Checked {
    let scratch = Scratch::new()?;
    let blocks = chain(case.root)?;
    let db = build(&scratch.0, &blocks)?;
    let block: Block = case.message("block_pb")?;
    let contents: BlockContents = case.message("contents_pb")?;
    let signature: Option<BlockSignature> = optional(case, "signature_pb")?;
    let metadata: Option<BlockMetadata> = optional(case, "metadata_pb")?;
    let ours = db.append_block(&block, &contents, signature.as_ref(), metadata.as_ref());
    let height = db.num_blocks().map_err(|e| e.to_string())?;
    same("blocks", height, blocks.len() as u64 + u64::from(ours.is_ok()))?;
    let ours = ours.map_or_else(|e| e.to_string(), |()| "ok".to_owned());
    let recorded = case.field("result");
    same("answer", Some(ours.as_str()), recorded.as_str().or(recorded["error"].as_str()))
}

/// The `blocks.json` beside a file or above it.
fn recorded_chain(path: &Path) -> Field<Vec<BlockData>> {
    let file = path
        .ancestors()
        .map(|folder| folder.join("blocks.json"))
        .find(|file| file.is_file())
        .ok_or("no blocks.json beside or above it")?;
    let text = dev_testkit::read(&file).map_err(|e| e.to_string())?;
    chain(&serde_json::from_slice(&text).map_err(|e| e.to_string())?)
}

/// A file of the archive holds the recorded blocks that its path names.
pub(crate) fn check_archive_file(path: &Path, counts: &mut Counts) -> Checked {
    let bytes = dev_testkit::read(path).map_err(|e| e.to_string())?;
    let full = path.to_string_lossy();
    let merged = full.contains("merged-");
    let blocks = archive::decode(&bytes, merged).map_err(|e| e.to_string())?;
    let first = blocks.first().ok_or("no blocks")?.block.index;
    let name = if merged { merged_path(blocks.len() as u64, first) } else { block_path(first) };
    same("path ends in its name", full.ends_with(&name), true)?;
    let chain = recorded_chain(path)?;
    for data in &blocks {
        let recorded = chain.get(data.block.index as usize).ok_or("a block that the chain does not have")?;
        same("block", data, recorded)?;
        counts.add("archived block");
    }
    check_written(&name, blocks)
}

/// What we write is read back the same.
fn check_written(name: &str, blocks: Vec<BlockData>) -> Checked {
    let scratch = Scratch::new()?;
    let written = match blocks.as_slice() {
        [one] if !name.starts_with("merged-") => write_block(&scratch.0, one.clone()),
        _ => write_merged(&scratch.0, blocks.clone()),
    };
    written.map_err(|e| e.to_string())?;
    let read = archive::read(&scratch.0, name).map_err(|e| e.to_string())?;
    same("file written by us", read, Some(blocks))
}

/// The reference's database opens, verifies, holds the chain and goes on; ours is the same; both truncate.
pub(crate) fn check_database(path: &Path, counts: &mut Counts) -> Checked {
    let err = |e: mc_ledger::Error| e.to_string();
    let blocks = recorded_chain(path)?;
    let scratch = Scratch::new()?;
    let copy = scratch.0.join("reference");
    std::fs::create_dir_all(&copy).map_err(|e| e.to_string())?;
    let bytes = dev_testkit::read(path).map_err(|e| e.to_string())?;
    std::fs::write(copy.join("data.mdb"), bytes).map_err(|e| e.to_string())?;
    let theirs = LedgerDb::open(&copy).map_err(err)?;
    let verified = verify::verify(&theirs, |_| {}).map_err(|e| e.to_string())?;
    same("blocks", verified.blocks, blocks.len() as u64)?;
    let ours = build(&scratch.0.join("ours"), &blocks)?;
    for db in [&theirs, &ours] {
        for data in &blocks {
            same("block", &db.block_data(data.block.index).map_err(err)?, data)?;
            counts.add("stored block");
        }
    }
    same("difference of tables", theirs.differing_table(&ours).map_err(err)?, None)?;
    for index in 0..verified.tx_outs {
        let proof = theirs.membership_proof(index).map_err(err)?;
        same("proof", &ours.membership_proof(index).map_err(err)?, &proof)?;
        counts.add("stored proof");
    }
    for height in (1..=blocks.len() as u64).rev() {
        theirs.truncate(height).map_err(err)?;
        verify::verify(&theirs, |_| {}).map_err(|e| e.to_string())?;
        if let Some(next) = blocks.get(height as usize) {
            same("root", theirs.root_element().map_err(err)?, next.block.root_element)?;
        }
        let fresh = build(&scratch.0.join(format!("fresh-{height}")), &blocks[..height as usize])?;
        same("difference after truncation", theirs.differing_table(&fresh).map_err(err)?, None)?;
        counts.add("truncation");
    }
    Ok(())
}
