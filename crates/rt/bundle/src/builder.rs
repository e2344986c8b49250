//! Writing bundles.

use std::{
    collections::BTreeMap,
    fs::{File, Permissions},
    io::{BufReader, BufWriter, Read, Write},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use base_prims::Hash;
use wire_consensus::tee::{EnclaveIdentity, MrSigner};
use wire_runtime::bundle::{ComponentId, MANIFEST_NAME, Manifest};
use zip::{CompressionMethod, DateTime, ZipWriter, write::SimpleFileOptions};

use crate::{
    Error, check_name,
    exploded::sync_dir,
    verify::{self, Files, digest_of},
};

/// Effort of compression, 0 to 9.
const COMPRESSION_LEVEL: i64 = 6;

/// Files from this size on get 64-bit sizes.
const LARGE_FILE: u64 = 0xffff_ffff - (1 << 20);

/// Mode of bundles and of the files in them.
const MODE: u32 = 0o600;

/// A bundle in the making.
///
/// The archive has the manifest first and then the files in order of their names, all compressed, of 1980-01-01 and
/// with mode 0600, so that equal inputs give equal bytes. The compressed bytes may change with the version of the
/// compression library; the manifest's hash never does.
#[derive(Debug)]
pub struct Builder {
    manifest: Manifest,
    sources: Sources,
}

#[derive(Debug)]
struct Sources {
    /// For errors: where the bundle goes.
    path: PathBuf,
    files: BTreeMap<String, Source>,
}

#[derive(Debug)]
enum Source {
    Bytes(Vec<u8>),
    File(PathBuf),
}

impl Source {
    fn open(&self) -> Result<(Box<dyn Read + '_>, u64), Error> {
        match self {
            Self::Bytes(bytes) => Ok((Box::new(bytes.as_slice()), bytes.len() as u64)),
            Self::File(path) => {
                let file = File::open(path).map_err(Error::io("open", path))?;
                let size = file.metadata().map_err(Error::io("inspect", path))?.len();
                Ok((Box::new(BufReader::new(file)), size))
            }
        }
    }

    fn path(&self) -> &Path {
        match self {
            Self::Bytes(_) => Path::new("(memory)"),
            Self::File(path) => path,
        }
    }
}

impl Builder {
    /// A bundle of that manifest, whose digests are made anew.
    pub fn new(mut manifest: Manifest) -> Self {
        manifest.digests = Some(BTreeMap::new());
        Self { manifest, sources: Sources { path: PathBuf::from("(new bundle)"), files: BTreeMap::new() } }
    }

    /// Adds a file with these contents.
    ///
    /// # Errors
    /// If the name is not allowed.
    pub fn add_bytes(&mut self, name: &str, bytes: impl Into<Vec<u8>>) -> Result<(), Error> {
        self.add(name, Source::Bytes(bytes.into()))
    }

    /// Adds a file from disk. It is read now for its digest, and again when the bundle is written.
    ///
    /// # Errors
    /// If the name is not allowed or the file cannot be read.
    pub fn add_file(&mut self, name: &str, path: &Path) -> Result<(), Error> {
        self.add(name, Source::File(path.into()))
    }

    fn add(&mut self, name: &str, source: Source) -> Result<(), Error> {
        check_name(name).map_err(|reason| Error::Name { path: source.path().into(), name: name.into(), reason })?;
        let (reader, _) = source.open()?;
        let digest = digest_of(reader).map_err(Error::io("read", source.path()))?;
        self.manifest.digests.get_or_insert_default().insert(name.into(), digest);
        self.sources.files.insert(name.into(), source);
        Ok(())
    }

    /// The manifest as it stands.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Changes the manifest, e.g. to name a signature or identities; digests stay.
    pub fn edit(&mut self, change: impl FnOnce(&mut Manifest)) {
        let digests = self.manifest.digests.clone();
        change(&mut self.manifest);
        self.manifest.digests = digests;
    }

    /// As [`Bundle::enclave_identities`](crate::Bundle::enclave_identities).
    ///
    /// # Errors
    /// If there is no such component, or no way to tell.
    pub fn enclave_identities(
        &mut self,
        id: &ComponentId,
        test_signer: Option<MrSigner>,
    ) -> Result<Vec<EnclaveIdentity>, Error> {
        verify::identities(&self.manifest, id, test_signer, &mut self.sources)
    }

    /// Checks the bundle and writes it; an existing file is replaced, or left as it is on failure.
    ///
    /// # Errors
    /// If the bundle would be refused when read, or the file system refuses.
    pub fn write(&mut self, path: &Path) -> Result<Hash, Error> {
        self.sources.path = path.into();
        self.manifest.validate().map_err(|e| Error::Manifest { path: path.into(), source: e.into() })?;
        verify::verify(&self.manifest, &mut self.sources)?;
        let dir = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let temporary = tempfile::Builder::new()
            .prefix(".bundle-")
            .permissions(Permissions::from_mode(MODE))
            .tempfile_in(dir)
            .map_err(Error::io("create a temporary file in", dir))?;
        self.write_archive(temporary.as_file(), path)?;
        temporary.as_file().sync_all().map_err(Error::io("sync", path))?;
        temporary.persist(path).map_err(|e| Error::io("write bundle", path)(e.error))?;
        sync_dir(dir)?;
        Ok(self.manifest.hash())
    }

    fn write_archive(&self, file: &File, path: &Path) -> Result<(), Error> {
        let failed =
            |e: zip::result::ZipError| Error::Archive { path: path.into(), reason: format!("cannot be written: {e}") };
        let mut writer = ZipWriter::new(BufWriter::new(file));
        let manifest = Source::Bytes(self.manifest.to_json().into_bytes());
        let entries =
            std::iter::once((MANIFEST_NAME, &manifest)).chain(self.sources.files.iter().map(|(n, s)| (n.as_str(), s)));
        for (name, source) in entries {
            let (mut reader, size) = source.open()?;
            let options = SimpleFileOptions::default()
                .compression_method(CompressionMethod::Deflated)
                .compression_level(Some(COMPRESSION_LEVEL))
                .last_modified_time(DateTime::default())
                .unix_permissions(MODE)
                .large_file(size >= LARGE_FILE);
            writer.start_file(name, options).map_err(failed)?;
            std::io::copy(&mut reader, &mut writer).map_err(Error::io("write bundle", path))?;
        }
        writer.finish().map_err(failed)?.flush().map_err(Error::io("write bundle", path))
    }
}

impl Files for Sources {
    fn path(&self) -> &Path {
        &self.path
    }

    fn names(&self) -> Vec<String> {
        self.files.keys().cloned().collect()
    }

    fn copy(&mut self, name: &str, sink: &mut dyn Write) -> Result<(), Error> {
        let Some(source) = self.files.get(name) else {
            return Err(Error::Archive { path: self.path.clone(), reason: format!("no file {name:?}") });
        };
        let (mut reader, _) = source.open()?;
        std::io::copy(&mut reader, sink).map_err(Error::io("read", source.path()))?;
        Ok(())
    }
}
