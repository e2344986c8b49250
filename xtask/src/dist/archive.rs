//! Archives whose bytes depend on their contents alone: tar in the ustar form, compressed without a time.

use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use flate2::{Compression, GzBuilder};

use crate::dist::Settings;
use crate::dist::stage::{Entry, Kind, Stage};

const BLOCK: usize = 512;
/// Longest name, and longest directory before it.
const MAX_NAME: usize = 100;
const MAX_PREFIX: usize = 155;
/// Longest target of a link.
const MAX_LINK: usize = 100;

/// Writes the archive of everything that is installed.
pub(super) fn write(settings: &Settings, stage: &Stage) -> Result<PathBuf> {
    let path = settings.out.join(format!("wadi-{}-{}.tar.gz", settings.version, std::env::consts::ARCH));
    let bytes = gzip(&tar(&stage.entries(), settings.epoch)?)?;
    fs::write(&path, bytes).with_context(|| path.display().to_string())?;
    Ok(path)
}

/// The bytes compressed, without name and time.
pub(super) fn gzip(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut encoder = GzBuilder::new().mtime(0).write(Vec::new(), Compression::new(6));
    encoder.write_all(bytes)?;
    Ok(encoder.finish()?)
}

/// An archive of the entries, in their order, all owned by root or by the owner that they name.
pub(super) fn tar(entries: &[Entry], epoch: u64) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    for entry in entries {
        let (kind, content, link) = match &entry.kind {
            Kind::Directory => (b'5', Vec::new(), None),
            Kind::Bytes(bytes) => (b'0', bytes.clone(), None),
            Kind::File(path) => (b'0', fs::read(path).with_context(|| path.display().to_string())?, None),
            Kind::Link(target) => (b'2', Vec::new(), Some(target.as_path())),
        };
        let is_directory = matches!(entry.kind, Kind::Directory);
        out.extend(header(entry, is_directory, kind, content.len(), link, epoch)?);
        let rest = content.len() % BLOCK;
        out.extend(content);
        out.resize(out.len() + if rest == 0 { 0 } else { BLOCK - rest }, 0);
    }
    // Two empty blocks end it.
    out.resize(out.len() + 2 * BLOCK, 0);
    Ok(out)
}

fn header(
    entry: &Entry,
    is_directory: bool,
    kind: u8,
    size: usize,
    link: Option<&Path>,
    epoch: u64,
) -> Result<[u8; BLOCK]> {
    let mut name = entry.path.clone();
    if is_directory {
        name.push('/');
    }
    let (prefix, name) = split(&name).with_context(|| format!("the name {name} is too long"))?;
    let mut block = [0; BLOCK];
    let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, name.as_bytes());
    put(100, format!("{:07o}", entry.mode).as_bytes());
    put(108, format!("{:07o}", entry.owner).as_bytes());
    put(116, format!("{:07o}", entry.owner).as_bytes());
    put(124, format!("{size:011o}").as_bytes());
    put(136, format!("{epoch:011o}").as_bytes());
    put(148, b"        ");
    put(156, &[kind]);
    if let Some(link) = link {
        let link = link.as_os_str().as_bytes();
        ensure!(link.len() <= MAX_LINK, "the link of {name} is too long");
        put(157, link);
    }
    put(257, b"ustar\x0000");
    put(345, prefix.as_bytes());
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    Ok(block)
}

/// Directory and name, where the whole does not fit into the name.
fn split(path: &str) -> Option<(&str, &str)> {
    if path.len() <= MAX_NAME {
        return Some(("", path));
    }
    let fits = |at: &usize| *at <= MAX_PREFIX && path.len() - at - 1 <= MAX_NAME && path.len() - at > 1;
    let at = path.match_indices('/').map(|(at, _)| at).find(fits)?;
    Some((&path[..at], &path[at + 1..]))
}
