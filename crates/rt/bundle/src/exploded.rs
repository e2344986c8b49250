//! Unpacked bundles.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions as FileOptions, Permissions},
    io::Write,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use base_prims::Hash;
use sha2::Sha512_256;
use wire_runtime::bundle::{MANIFEST_DIR, MANIFEST_NAME, Manifest};

use crate::{Bundle, Error, archive::digest_of_file, verify::Hashing};

/// Mode of folders and executables.
const MODE_PRIVATE_EXECUTABLE: u32 = 0o700;
/// Mode of other files.
const MODE_PRIVATE: u32 = 0o600;

/// A bundle whose files lie on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exploded {
    /// The manifest.
    pub manifest: Manifest,
    /// Its hash.
    pub manifest_hash: Hash,
    /// The folder of its files.
    pub dir: PathBuf,
    /// Files that lie elsewhere, by name; only of bare binaries.
    pub(crate) elsewhere: BTreeMap<String, PathBuf>,
    /// Whether the on-chain component's version is to be taken from its own answer; only of bare binaries.
    pub version_from_runtime: bool,
}

impl Exploded {
    /// A bundle whose files lie in `dir`, which nobody has checked.
    pub fn new(manifest: Manifest, dir: PathBuf) -> Self {
        Self { manifest_hash: manifest.hash(), manifest, dir, elsewhere: BTreeMap::new(), version_from_runtime: false }
    }

    /// Where a file of the bundle lies.
    pub fn file(&self, name: &str) -> PathBuf {
        self.elsewhere.get(name).cloned().unwrap_or_else(|| self.dir.join(name))
    }
}

/// Makes a folder that only its owner may enter, with those above it.
pub(crate) fn make_dir(path: &Path) -> Result<(), Error> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(MODE_PRIVATE_EXECUTABLE)
        .create(path)
        .map_err(Error::io("create folder", path))
}

pub(crate) fn sync_dir(path: &Path) -> Result<(), Error> {
    File::open(path).and_then(|dir| dir.sync_all()).map_err(Error::io("sync folder", path))
}

fn set_mode(path: &Path, mode: u32) -> Result<(), Error> {
    fs::set_permissions(path, Permissions::from_mode(mode)).map_err(Error::io("set permissions of", path))
}

/// Names of the files that must be executable.
fn executables(manifest: &Manifest) -> Vec<String> {
    manifest
        .available_components()
        .values()
        .filter_map(|c| c.elf_executable().map(str::to_owned))
        .filter(|name| name != MANIFEST_NAME)
        .collect()
}

/// Unpacks a bundle to `target`, which lies on the same file system as `temporary`; or checks what is there.
///
/// Files that are missing in an existing folder are added.
pub(crate) fn explode(bundle: &mut Bundle, target: &Path, temporary: &Path) -> Result<Exploded, Error> {
    let staging = tempfile::Builder::new()
        .prefix("explode-")
        .tempdir_in(temporary)
        .map_err(Error::io("create a temporary folder in", temporary))?;
    if target.exists() {
        complete(bundle, target, staging.path())?;
    } else {
        write_all(bundle, staging.path())?;
        match fs::rename(staging.path(), target) {
            Ok(()) => {}
            // Somebody else was faster.
            Err(_) if target.is_dir() => complete(bundle, target, staging.path())?,
            Err(e) => return Err(Error::io("move the unpacked bundle to", target)(e)),
        }
        if let Some(parent) = target.parent() {
            sync_dir(parent)?;
        }
    }
    Ok(Exploded::new(bundle.manifest().clone(), target.into()))
}

/// Writes all files of a bundle into an empty folder.
fn write_all(bundle: &mut Bundle, dir: &Path) -> Result<(), Error> {
    for name in bundle.names() {
        write_one(bundle, &name, &dir.join(&name))?;
    }
    for name in executables(bundle.manifest()) {
        set_mode(&dir.join(name), MODE_PRIVATE_EXECUTABLE)?;
    }
    make_dir(&dir.join(MANIFEST_DIR))?;
    write_one(bundle, MANIFEST_NAME, &dir.join(MANIFEST_NAME))?;
    set_mode(dir, MODE_PRIVATE_EXECUTABLE)?;
    sync_dir(&dir.join(MANIFEST_DIR))?;
    sync_dir(dir)
}

/// Writes a file of a bundle and checks once more that it is the one that the manifest means.
fn write_one(bundle: &mut Bundle, name: &str, to: &Path) -> Result<(), Error> {
    let file =
        FileOptions::new().write(true).create_new(true).mode(MODE_PRIVATE).open(to).map_err(Error::io("create", to))?;
    let mut hashing = Hashing::<Sha512_256, _>::over(&file);
    if name == MANIFEST_NAME {
        hashing.write_all(bundle.manifest_text()).map_err(Error::io("write", to))?;
    } else {
        bundle.copy(name, &mut hashing)?;
    }
    let found = hashing.finish();
    let expected = expected_digest(bundle, name);
    if found != expected {
        return Err(Error::Digest { path: bundle.path().into(), name: name.into(), found, expected });
    }
    file.sync_all().map_err(Error::io("sync", to))
}

fn expected_digest(bundle: &Bundle, name: &str) -> Hash {
    if name == MANIFEST_NAME {
        return Hash::of(&[bundle.manifest_text()]);
    }
    bundle.manifest().digests.as_ref().and_then(|digests| digests.get(name)).copied().unwrap_or_default()
}

/// Checks the files in a folder and adds those that are missing.
fn complete(bundle: &mut Bundle, dir: &Path, staging: &Path) -> Result<(), Error> {
    make_dir(&dir.join(MANIFEST_DIR))?;
    let mut names = bundle.names();
    names.push(MANIFEST_NAME.into());
    for (i, name) in names.iter().enumerate() {
        let path = dir.join(name);
        if path.exists() {
            let (found, expected) = (digest_of_file(&path)?, expected_digest(bundle, name));
            if found != expected {
                return Err(Error::Digest { path: dir.into(), name: name.clone(), found, expected });
            }
        } else {
            let part = staging.join(format!("missing-{i}"));
            write_one(bundle, name, &part)?;
            fs::rename(&part, &path).map_err(Error::io("move a file to", &path))?;
        }
    }
    for name in executables(bundle.manifest()) {
        set_mode(&dir.join(name), MODE_PRIVATE_EXECUTABLE)?;
    }
    sync_dir(dir)
}
