//! Checkpoints in a folder: `VERSION/ROOT/meta` and `VERSION/ROOT/chunks/N`, as the reference keeps them.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use mkvs_tree::{Executor, Root};

use super::{CheckpointError, ChunkMetadata, ChunkSink, Metadata, VERSION, create};
use crate::db::NodeDb;

/// The checkpoints in a folder. One without metadata is unfinished and does not count.
#[derive(Clone, Debug)]
pub struct Files {
    dir: PathBuf,
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> CheckpointError {
    let path = path.to_owned();
    move |source| CheckpointError::Io { action, path, source }
}

/// Writes chunks to files, as long as somebody wants them.
struct ChunkDir<'a>(PathBuf, &'a (dyn Fn() -> bool + Sync));

impl ChunkSink for ChunkDir<'_> {
    fn put(&mut self, index: u64, chunk: &[u8]) -> io::Result<()> {
        if !(self.1)() {
            return Err(io::Error::new(io::ErrorKind::Interrupted, "no longer wanted"));
        }
        let mut file = fs::File::create(self.0.join(index.to_string()))?;
        file.write_all(chunk)?;
        file.sync_all()
    }
}

impl Files {
    /// The checkpoints in `dir`, which need not exist.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    fn folder(&self, root: &Root) -> PathBuf {
        self.dir.join(root.version.to_string()).join(root.hash.to_string())
    }

    fn read_meta(path: &Path) -> Result<Option<Metadata>, CheckpointError> {
        match fs::read(path) {
            Ok(bytes) => match base_codec::cbor::from_slice(&bytes) {
                Ok(metadata) => Ok(Some(metadata)),
                Err(_) => Err(CheckpointError::Metadata { path: path.to_owned() }),
            },
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(io_error("read", path)(e)),
        }
    }

    /// Makes a checkpoint of a stored root, or gives back the one that is there. See [`create`](super::create).
    ///
    /// # Errors
    /// If reading or writing fails; nothing is then left behind.
    pub fn create(
        &self,
        db: &NodeDb,
        root: &Root,
        chunk_size: u64,
        threads: u16,
        exec: &dyn Executor,
    ) -> Result<Metadata, CheckpointError> {
        self.create_while(db, root, chunk_size, threads, exec, &|| true)
    }

    /// As [`Files::create`], but asks before each chunk whether to go on.
    ///
    /// # Errors
    /// As [`Files::create`], and [`CheckpointError::Sink`] if it was not to go on.
    pub fn create_while(
        &self,
        db: &NodeDb,
        root: &Root,
        chunk_size: u64,
        threads: u16,
        exec: &dyn Executor,
        go_on: &(dyn Fn() -> bool + Sync),
    ) -> Result<Metadata, CheckpointError> {
        let folder = self.folder(root);
        if let Some(existing) = Self::read_meta(&folder.join("meta"))? {
            return Ok(existing);
        }
        let made = Self::write(&folder, &|sink| create(db, root, chunk_size, threads, exec, sink), go_on);
        if made.is_err() {
            let _ = self.remove(root);
        }
        made
    }

    fn write(
        folder: &Path,
        make: &dyn Fn(&mut dyn ChunkSink) -> Result<Metadata, CheckpointError>,
        go_on: &(dyn Fn() -> bool + Sync),
    ) -> Result<Metadata, CheckpointError> {
        let chunks = folder.join("chunks");
        if chunks.exists() {
            fs::remove_dir_all(&chunks).map_err(io_error("remove", &chunks))?;
        }
        fs::create_dir_all(&chunks).map_err(io_error("create", &chunks))?;
        let metadata = make(&mut ChunkDir(chunks, go_on))?;
        // The metadata comes last and at once, so that it stands for a complete checkpoint.
        let (part, path) = (folder.join("meta.part"), folder.join("meta"));
        let write = || {
            let mut file = fs::File::create(&part)?;
            file.write_all(&base_codec::cbor::to_vec(&metadata))?;
            file.sync_all()?;
            fs::rename(&part, &path)?;
            fs::File::open(folder)?.sync_all()
        };
        write().map_err(io_error("write", &path))?;
        Ok(metadata)
    }

    /// All checkpoints, or those of one version, oldest first. Unreadable ones are left out.
    ///
    /// # Errors
    /// If the folder cannot be read.
    pub fn list(&self, version: Option<u64>) -> Result<Vec<Metadata>, CheckpointError> {
        let mut out = Vec::new();
        let versions = match version {
            Some(version) => vec![self.dir.join(version.to_string())],
            None => folders(&self.dir)?,
        };
        for version in versions {
            for folder in folders(&version)? {
                if let Ok(Some(metadata)) = Self::read_meta(&folder.join("meta")) {
                    out.push(metadata);
                }
            }
        }
        out.sort_by_key(|m| m.root);
        Ok(out)
    }

    /// Removes what is left of checkpoints that were never finished. Nothing may be creating one meanwhile.
    ///
    /// # Errors
    /// If the folder cannot be read or something cannot be removed.
    pub fn remove_unfinished(&self) -> Result<(), CheckpointError> {
        for version in folders(&self.dir)? {
            for folder in folders(&version)? {
                if !folder.join("meta").exists() {
                    fs::remove_dir_all(&folder).map_err(io_error("remove", &folder))?;
                }
            }
            if folders(&version)?.is_empty() {
                let _ = fs::remove_dir(&version);
            }
        }
        Ok(())
    }

    /// The checkpoint of a root.
    ///
    /// # Errors
    /// [`CheckpointError::NotFound`] if there is none.
    pub fn get(&self, version: u16, root: &Root) -> Result<Metadata, CheckpointError> {
        let found = if version == VERSION { Self::read_meta(&self.folder(root).join("meta"))? } else { None };
        found.ok_or(CheckpointError::NotFound(*root))
    }

    /// The bytes of a chunk.
    ///
    /// # Errors
    /// [`CheckpointError::ChunkNotFound`] if it is not there.
    pub fn chunk(&self, chunk: &ChunkMetadata) -> Result<Vec<u8>, CheckpointError> {
        let path = self.folder(&chunk.root).join("chunks").join(chunk.index.to_string());
        if chunk.version != VERSION {
            return Err(CheckpointError::ChunkNotFound(chunk.index));
        }
        match fs::read(&path) {
            Ok(bytes) => Ok(bytes),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Err(CheckpointError::ChunkNotFound(chunk.index)),
            Err(e) => Err(io_error("read", &path)(e)),
        }
    }

    /// Deletes the checkpoint of a root.
    ///
    /// # Errors
    /// [`CheckpointError::NotFound`] if there is none.
    pub fn delete(&self, version: u16, root: &Root) -> Result<(), CheckpointError> {
        let meta = self.folder(root).join("meta");
        if version != VERSION || !meta.exists() {
            return Err(CheckpointError::NotFound(*root));
        }
        // Without metadata it no longer counts, whatever happens next.
        fs::remove_file(&meta).map_err(io_error("remove", &meta))?;
        self.remove(root)
    }

    fn remove(&self, root: &Root) -> Result<(), CheckpointError> {
        let folder = self.folder(root);
        fs::remove_dir_all(&folder).map_err(io_error("remove", &folder))?;
        if let Some(version) = folder.parent()
            && folders(version)?.is_empty()
        {
            // Somebody may have put something there in between.
            let _ = fs::remove_dir(version);
        }
        Ok(())
    }
}

/// The folders in a folder; none if it does not exist.
fn folders(dir: &Path) -> Result<Vec<PathBuf>, CheckpointError> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(io_error("list", dir)(e)),
    };
    let mut out = Vec::new();
    for entry in entries {
        let path = entry.map_err(io_error("list", dir))?.path();
        if path.is_dir() {
            out.push(path);
        }
    }
    Ok(out)
}
