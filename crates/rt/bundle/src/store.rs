//! The unpacked bundles of a data directory.
//!
//! They lie in `runtimes/bundles/MANIFEST-HASH/`, as the reference's do. What is being written or removed is in
//! `runtimes/tmp/bundles/`, which is emptied at start.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::Read,
    path::{Path, PathBuf},
};

use base_prims::{Hash, Namespace, Version};
use wire_runtime::bundle::{ComponentId, MANIFEST_NAME, Manifest};

use crate::{
    Bundle, Error, Exploded, Limits, OpenOptions,
    exploded::{explode, make_dir, sync_dir},
};

/// The bundles of a data directory.
#[derive(Clone, Debug)]
pub struct Store {
    bundles: PathBuf,
    temporary: PathBuf,
}

/// What is in a store.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    /// The bundles, in order of their hashes.
    pub bundles: Vec<Exploded>,
    /// Folders that are none, for the log.
    pub skipped: Vec<Skipped>,
}

/// A folder that is no bundle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// The folder.
    pub path: PathBuf,
    /// Why.
    pub reason: String,
}

impl Store {
    /// The store of a data directory. Nothing is touched yet.
    pub fn new(data_dir: &Path) -> Self {
        let runtimes = data_dir.join("runtimes");
        Self { bundles: runtimes.join("bundles"), temporary: runtimes.join("tmp").join("bundles") }
    }

    /// The folder of unpacked bundles.
    pub fn bundles_dir(&self) -> &Path {
        &self.bundles
    }

    /// The folder of what is being written: downloads and uploads go here too.
    pub fn temporary_dir(&self) -> &Path {
        &self.temporary
    }

    /// Makes the folders, and removes what an earlier run left unfinished. To be called once at start.
    ///
    /// # Errors
    /// If the file system refuses.
    pub fn prepare(&self) -> Result<(), Error> {
        if self.temporary.exists() {
            fs::remove_dir_all(&self.temporary).map_err(Error::io("empty the temporary folder", &self.temporary))?;
        }
        make_dir(&self.temporary)?;
        make_dir(&self.bundles)
    }

    /// Opens a bundle and unpacks it, unless it is there already; then what is there is checked.
    ///
    /// # Errors
    /// If the bundle is refused, the file system refuses, or a file that is there was changed.
    pub fn add(&self, path: &Path, options: &OpenOptions) -> Result<Exploded, Error> {
        let mut bundle = Bundle::open(path, options)?;
        self.explode(&mut bundle)
    }

    /// Unpacks an open bundle, as [`add`](Self::add) does.
    ///
    /// # Errors
    /// If the file system refuses, or a file that is there was changed.
    pub fn explode(&self, bundle: &mut Bundle) -> Result<Exploded, Error> {
        make_dir(&self.temporary)?;
        make_dir(&self.bundles)?;
        let target = self.bundles.join(bundle.manifest_hash().to_hex());
        explode(bundle, &target, &self.temporary)
    }

    /// The bundles that are there. Their files are not read.
    ///
    /// # Errors
    /// If the folder cannot be read.
    pub fn list(&self) -> Result<Listing, Error> {
        let problem = || Error::io("list the bundles in", &self.bundles);
        let mut dirs = Vec::new();
        for entry in fs::read_dir(&self.bundles).map_err(problem())? {
            let entry = entry.map_err(problem())?;
            if entry.file_type().is_ok_and(|t| t.is_dir()) {
                dirs.push(entry.path());
            }
        }
        dirs.sort();
        let mut out = Listing::default();
        for path in dirs {
            match load(&path) {
                Ok(bundle) => out.bundles.push(bundle),
                Err(reason) => out.skipped.push(Skipped { path, reason }),
            }
        }
        Ok(out)
    }

    /// Removes an unpacked bundle: it is gone at once, and its files soon after.
    ///
    /// # Errors
    /// If the file system refuses. What is left is removed at the next start.
    pub fn remove(&self, bundle: &Exploded) -> Result<(), Error> {
        make_dir(&self.temporary)?;
        let grave = tempfile::Builder::new()
            .prefix("removed-")
            .tempdir_in(&self.temporary)
            .map_err(Error::io("create a temporary folder in", &self.temporary))?;
        fs::rename(&bundle.dir, grave.path().join("bundle")).map_err(Error::io("remove bundle", &bundle.dir))?;
        sync_dir(&self.bundles)?;
        grave.close().map_err(Error::io("remove the files of bundle", &bundle.dir))
    }

    /// Removes the bundles that [`keep_at_start`] does not keep; returns those that stay.
    ///
    /// # Errors
    /// If one cannot be removed.
    pub fn clean_at_start(
        &self,
        bundles: Vec<Exploded>,
        configured: &BTreeSet<Namespace>,
        from_paths: &BTreeSet<Hash>,
    ) -> Result<Vec<Exploded>, Error> {
        let (kept, dropped): (Vec<_>, Vec<_>) =
            bundles.into_iter().partition(|b| keep_at_start(&b.manifest, configured, from_paths));
        for bundle in &dropped {
            self.remove(bundle)?;
        }
        Ok(kept)
    }
}

/// Reads the manifest of an unpacked bundle.
fn load(dir: &Path) -> Result<Exploded, String> {
    let path = dir.join(MANIFEST_NAME);
    let limit = Limits::default().manifest_bytes;
    let mut bytes = Vec::new();
    File::open(&path)
        .and_then(|file| file.take(limit + 1).read_to_end(&mut bytes))
        .map_err(|e| format!("unreadable manifest: {e}"))?;
    if bytes.len() as u64 > limit {
        return Err(format!("manifest of more than {limit} bytes"));
    }
    let manifest =
        Manifest::from_json(&String::from_utf8_lossy(&bytes)).map_err(|e| format!("malformed manifest: {e}"))?;
    let bundle = Exploded::new(manifest, dir.into());
    let expected = bundle.manifest_hash.to_hex();
    if dir.file_name().is_none_or(|name| name != expected.as_str()) {
        return Err(format!(
            "the manifest has hash {expected}, the folder another name; it was changed, remove the folder"
        ));
    }
    Ok(bundle)
}

/// Whether a bundle that was unpacked earlier is still wanted at start.
///
/// Not if its runtime is not configured. Bundles without on-chain component, and key managers', must be among those
/// given by path.
pub fn keep_at_start(manifest: &Manifest, configured: &BTreeSet<Namespace>, from_paths: &BTreeSet<Hash>) -> bool {
    configured.contains(&manifest.id)
        && (!(manifest.is_detached() || manifest.id.is_key_manager()) || from_paths.contains(&manifest.hash()))
}

/// Whether a running node may remove the bundle once `active` is its runtime's version.
///
/// Not for key managers, which may run obsolete versions, nor for bundles without on-chain component.
pub fn is_obsolete(manifest: &Manifest, runtime: &Namespace, active: Version) -> bool {
    manifest.id == *runtime
        && !runtime.is_key_manager()
        && manifest.component(&ComponentId::Ronl).is_some_and(|ronl| ronl.version < active)
}
