//! An open bundle.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufReader, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use base_prims::{Hash, Namespace};
use wire_consensus::tee::{EnclaveIdentity, MrSigner};
use wire_runtime::bundle::{ComponentId, MANIFEST_NAME, Manifest, ManifestError};
use zip::ZipArchive;

use crate::{
    Error, Limits, check_name,
    verify::{self, Files, digest_of},
};

/// What a bundle must be to be opened.
#[derive(Clone, Copy, Debug, Default)]
pub struct OpenOptions {
    /// How large it may be.
    pub limits: Limits,
    /// The manifest's hash.
    pub manifest_hash: Option<Hash>,
    /// The runtime.
    pub runtime_id: Option<Namespace>,
}

/// A bundle that was opened and verified. The file stays open; its contents are read when they are asked for.
#[derive(Debug)]
pub struct Bundle {
    manifest: Manifest,
    manifest_hash: Hash,
    manifest_text: Vec<u8>,
    contents: Contents,
}

/// The archive and its files.
#[derive(Debug)]
struct Contents {
    path: PathBuf,
    archive: ZipArchive<BufReader<File>>,
    /// Position of each file, the manifest excluded.
    files: BTreeMap<String, usize>,
    limits: Limits,
}

impl Bundle {
    /// Opens a bundle and verifies all of it.
    ///
    /// # Errors
    /// The first thing that is wrong, or not as the options ask.
    pub fn open(path: &Path, options: &OpenOptions) -> Result<Self, Error> {
        let mut contents = Contents::open(path, options.limits)?;
        let manifest_text = contents.manifest_text()?;
        let malformed = |source: ManifestError| Error::Manifest { path: path.into(), source };
        let text = String::from_utf8_lossy(&manifest_text);
        let manifest = Manifest::from_json(&text).map_err(|e| malformed(e.into()))?;
        let manifest_hash = manifest.hash();
        if let Some(expected) = options.manifest_hash
            && expected != manifest_hash
        {
            return Err(Error::ManifestHash { path: path.into(), found: manifest_hash, expected });
        }
        if let Some(expected) = options.runtime_id
            && expected != manifest.id
        {
            return Err(Error::RuntimeId { path: path.into(), found: manifest.id, expected });
        }
        manifest.validate().map_err(|e| malformed(e.into()))?;
        let listed = manifest.digests.as_ref().and_then(|digests| digests.get(MANIFEST_NAME));
        if let Some(expected) = listed {
            let found = Hash::of(&[&manifest_text]);
            if found != *expected {
                return Err(Error::Digest {
                    path: path.into(),
                    name: MANIFEST_NAME.into(),
                    found,
                    expected: *expected,
                });
            }
        }
        verify::verify(&manifest, &mut contents)?;
        Ok(Self { manifest, manifest_hash, manifest_text, contents })
    }

    /// Changes the manifest of an open bundle before it is unpacked: its hash, and so its folder, are those of what it
    /// became. Digests stay, so files do.
    ///
    /// # Errors
    /// If the new manifest breaks a rule; nothing changed then.
    pub fn rewrite(&mut self, change: impl FnOnce(&mut Manifest)) -> Result<(), Error> {
        let mut manifest = self.manifest.clone();
        change(&mut manifest);
        // Its own digest would be that of the text that was.
        if let Some(digests) = &mut manifest.digests {
            digests.remove(MANIFEST_NAME);
        }
        let malformed = |e: ManifestError| Error::Manifest { path: self.contents.path.clone(), source: e };
        manifest.validate().map_err(|e| malformed(e.into()))?;
        self.manifest_text = manifest.to_json().into_bytes();
        self.manifest_hash = manifest.hash();
        self.manifest = manifest;
        Ok(())
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.contents.path
    }

    /// The manifest.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The manifest's hash, the `bundle_checksum` of deployments.
    pub fn manifest_hash(&self) -> Hash {
        self.manifest_hash
    }

    /// The manifest's own bytes.
    pub fn manifest_text(&self) -> &[u8] {
        &self.manifest_text
    }

    /// Names of the files, the manifest's excluded.
    pub fn names(&self) -> Vec<String> {
        self.contents.names()
    }

    /// Copies a file's contents.
    ///
    /// # Errors
    /// If there is no such file, it cannot be read, or `sink` fails.
    pub fn copy(&mut self, name: &str, sink: &mut dyn Write) -> Result<(), Error> {
        self.contents.copy(name, sink)
    }

    /// The enclaves that a component may be: those in the manifest, else the one that its SGX part is.
    ///
    /// `test_signer` is the signer of unsigned enclaves, for debug networks only.
    ///
    /// # Errors
    /// If there is no such component, or no way to tell.
    pub fn enclave_identities(
        &mut self,
        id: &ComponentId,
        test_signer: Option<MrSigner>,
    ) -> Result<Vec<EnclaveIdentity>, Error> {
        verify::identities(&self.manifest, id, test_signer, &mut self.contents)
    }
}

impl Contents {
    fn open(path: &Path, limits: Limits) -> Result<Self, Error> {
        let file = File::open(path).map_err(Error::io("open bundle", path))?;
        let size = file.metadata().map_err(Error::io("inspect bundle", path))?.len();
        if size > limits.archive_bytes {
            return Err(Error::TooLarge { path: path.into(), what: "archive".into(), limit: limits.archive_bytes });
        }
        let announced = entry_count(&file, size).map_err(Error::io("read bundle", path))?;
        let archive = ZipArchive::new(BufReader::new(file)).map_err(|e| unreadable(path, &e))?;
        // The library keeps one of several entries with the same name.
        if announced.is_some_and(|count| usize::from(count) != archive.len()) {
            return Err(Error::Archive { path: path.into(), reason: "it has several entries of one name".into() });
        }
        let mut contents = Self { path: path.into(), archive, files: BTreeMap::new(), limits };
        contents.list()?;
        Ok(contents)
    }

    /// Checks the entries' names and announced sizes.
    fn list(&mut self) -> Result<(), Error> {
        let count = self.archive.len();
        if count > self.limits.files {
            return Err(Error::TooManyFiles { path: self.path.clone(), count, limit: self.limits.files });
        }
        let mut unpacked = 0u64;
        for index in 0..count {
            let entry = self.archive.by_index(index).map_err(|e| unreadable(&self.path, &e))?;
            let name = String::from_utf8_lossy(entry.name_raw()).into_owned();
            unpacked = unpacked.saturating_add(entry.size());
            drop(entry);
            if index == 0 {
                if name != MANIFEST_NAME {
                    return Err(Error::ManifestPlace { path: self.path.clone(), found: name });
                }
                continue;
            }
            check_name(&name).map_err(|reason| Error::Name { path: self.path.clone(), name: name.clone(), reason })?;
            self.files.insert(name, index);
        }
        if count == 0 {
            return Err(Error::ManifestPlace { path: self.path.clone(), found: String::new() });
        }
        if unpacked > self.limits.unpacked_bytes {
            return Err(self.too_large("contents", self.limits.unpacked_bytes));
        }
        Ok(())
    }

    fn too_large(&self, what: impl Into<String>, limit: u64) -> Error {
        Error::TooLarge { path: self.path.clone(), what: what.into(), limit }
    }

    fn manifest_text(&mut self) -> Result<Vec<u8>, Error> {
        let limit = self.limits.manifest_bytes;
        let mut out = Vec::new();
        let entry = self.archive.by_index(0).map_err(|e| unreadable(&self.path, &e))?;
        entry.take(limit.saturating_add(1)).read_to_end(&mut out).map_err(Error::io("read manifest of", &self.path))?;
        if out.len() as u64 > limit {
            return Err(self.too_large("manifest", limit));
        }
        Ok(out)
    }
}

/// How many entries the end of the archive announces, if it is found and says so in its short form.
fn entry_count(mut file: &File, size: u64) -> std::io::Result<Option<u16>> {
    /// Length of the record at the end, and most bytes of the comment that may follow it.
    const RECORD: usize = 22;
    const MAX_COMMENT: u64 = 0xffff;
    const MAGIC: &[u8] = b"PK\x05\x06";
    let from = size.saturating_sub(RECORD as u64 + MAX_COMMENT);
    file.seek(SeekFrom::Start(from))?;
    let mut tail = Vec::new();
    file.take(size - from).read_to_end(&mut tail)?;
    file.rewind()?;
    let record = tail.windows(RECORD).rev().find(|w| w.starts_with(MAGIC));
    Ok(record.map(|record| u16::from_le_bytes([record[10], record[11]])).filter(|count| *count != u16::MAX))
}

fn unreadable(path: &Path, e: &zip::result::ZipError) -> Error {
    Error::Archive { path: path.into(), reason: e.to_string() }
}

impl Files for Contents {
    fn path(&self) -> &Path {
        &self.path
    }

    fn names(&self) -> Vec<String> {
        self.files.keys().cloned().collect()
    }

    fn copy(&mut self, name: &str, sink: &mut dyn Write) -> Result<(), Error> {
        let index = match name {
            // A manifest that names itself as an executable is no use, but the reference accepts it.
            MANIFEST_NAME => Some(0),
            _ => self.files.get(name).copied(),
        };
        let index =
            index.ok_or_else(|| Error::Archive { path: self.path.clone(), reason: format!("no file {name:?}") })?;
        let path = &self.path;
        let entry = self.archive.by_index(index).map_err(|e| unreadable(path, &e))?;
        // What is announced has been checked; more than that is not unpacked.
        let announced = entry.size();
        let copied = std::io::copy(&mut entry.take(announced.saturating_add(1)), sink).map_err(|e| match e.kind() {
            std::io::ErrorKind::InvalidData | std::io::ErrorKind::InvalidInput | std::io::ErrorKind::UnexpectedEof => {
                Error::Archive { path: path.clone(), reason: format!("{name:?}: {e}") }
            }
            _ => Error::io("copy a file of", path)(e),
        })?;
        if copied != announced {
            return Err(Error::Archive {
                path: self.path.clone(),
                reason: format!("{name:?} is not of the announced {announced} bytes"),
            });
        }
        Ok(())
    }
}

/// Digest of a file on disk.
pub(crate) fn digest_of_file(path: &Path) -> Result<Hash, Error> {
    let file = File::open(path).map_err(Error::io("open", path))?;
    digest_of(BufReader::new(file)).map_err(Error::io("read", path))
}
