//! Volumes of components: files that outlive them. Source: `go/runtime/volume`.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::path::PathBuf;

use base_codec::{Codec, json};
use parking_lot::Mutex;
use wire_runtime::bundle::{has_labels, validate_labels};
use wire_runtime::rofl::Labels;

use crate::error::HostingError;

/// Most volumes of a node. The reference has no limit.
pub const MAX_VOLUMES: usize = 4096;
/// Most bytes of a volume's descriptor that are read.
const MAX_DESCRIPTOR_BYTES: u64 = 8 << 20;
const DESCRIPTOR: &str = "descriptor.json";
const VOLUME: &str = "volume";

/// `descriptor.json`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
struct Descriptor {
    id: String,
    labels: Labels,
}

/// A volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Volume {
    /// 64 hexadecimal digits.
    pub(crate) id: String,
    /// Where its content lies; the file appears with the first use.
    pub(crate) path: PathBuf,
    pub(crate) labels: Labels,
}

/// The volumes of a data directory.
pub(crate) struct Volumes {
    dir: PathBuf,
    known: Mutex<BTreeMap<String, Volume>>,
}

fn make_dir(path: &Path) -> Result<(), HostingError> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(HostingError::io(path))
}

impl Volumes {
    /// Reads those that are there; what is no volume is passed over.
    pub(crate) fn open(data_dir: &Path) -> Result<Self, HostingError> {
        let dir = data_dir.join("runtimes/volumes");
        make_dir(&dir)?;
        let mut known = BTreeMap::new();
        for entry in fs::read_dir(&dir).map_err(HostingError::io(&dir))? {
            let path = entry.map_err(HostingError::io(&dir))?.path();
            if !path.is_dir() {
                continue;
            }
            match read(&path) {
                Ok(volume) => {
                    known.insert(volume.id.clone(), volume);
                }
                Err(reason) => {
                    tracing::warn!(module = "runtime/volume/manager", path = %path.display(), err = reason,
                        "skipping malformed volume descriptor");
                }
            }
        }
        Ok(Self { dir, known: Mutex::new(known) })
    }

    pub(crate) fn get(&self, id: &str) -> Option<Volume> {
        self.known.lock().get(id).cloned()
    }

    /// All that have these labels.
    pub(crate) fn find(&self, labels: &Labels) -> Vec<Volume> {
        self.known.lock().values().filter(|volume| has_labels(&volume.labels, labels)).cloned().collect()
    }

    /// The first that has these labels, or a new one.
    pub(crate) fn get_or_create(&self, labels: &Labels) -> Result<Volume, HostingError> {
        if let Some(found) = self.find(labels).into_iter().next() {
            return Ok(found);
        }
        self.create(labels.clone())
    }

    pub(crate) fn create(&self, labels: Labels) -> Result<Volume, HostingError> {
        validate_labels(&labels).map_err(|e| HostingError::Volume(e.to_string()))?;
        let mut known = self.known.lock();
        if known.len() >= MAX_VOLUMES {
            return Err(HostingError::Volume(format!("there are {MAX_VOLUMES} volumes already; remove some")));
        }
        let mut raw = [0; 32];
        getrandom::fill(&mut raw).map_err(|e| HostingError::Volume(format!("no randomness: {e}")))?;
        let id = base_prims::Hash::new(raw).to_hex();
        let dir = self.dir.join(&id);
        make_dir(&dir)?;
        let descriptor = Descriptor { id: id.clone(), labels: labels.clone() };
        let path = dir.join(DESCRIPTOR);
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        let write = |file: &mut fs::File| {
            std::io::Write::write_all(file, json::to_string(&descriptor).as_bytes())?;
            file.sync_all()
        };
        if let Err(source) = file.as_mut().map_err(|e| std::io::Error::new(e.kind(), e.to_string())).and_then(write) {
            let _ = fs::remove_dir_all(&dir);
            return Err(HostingError::Io { path, source });
        }
        let volume = Volume { path: dir.join(VOLUME), id: id.clone(), labels };
        tracing::info!(module = "runtime/volume/manager", id, path = %volume.path.display(), "volume created");
        known.insert(id, volume.clone());
        Ok(volume)
    }

    /// Removes all that have these labels.
    pub(crate) fn remove(&self, labels: &Labels) -> Result<(), HostingError> {
        let mut known = self.known.lock();
        let found: Vec<String> =
            known.values().filter(|v| has_labels(&v.labels, labels)).map(|v| v.id.clone()).collect();
        for id in found {
            let dir = self.dir.join(&id);
            match fs::remove_dir_all(&dir) {
                Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                    return Err(HostingError::Io { path: dir, source });
                }
                _ => known.remove(&id),
            };
        }
        Ok(())
    }
}

fn read(dir: &Path) -> Result<Volume, String> {
    use std::io::Read as _;
    let mut text = String::new();
    fs::File::open(dir.join(DESCRIPTOR))
        .and_then(|file| file.take(MAX_DESCRIPTOR_BYTES).read_to_string(&mut text))
        .map_err(|e| e.to_string())?;
    let descriptor: Descriptor = json::from_str(&text).map_err(|e| e.to_string())?;
    if dir.file_name().is_none_or(|name| name != descriptor.id.as_str()) {
        return Err(format!("it names the volume {:?}", descriptor.id));
    }
    Ok(Volume { path: dir.join(VOLUME), id: descriptor.id, labels: descriptor.labels })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn volumes_outlive_the_node_and_are_found_by_labels() {
        let dir = tempfile::tempdir().expect("a folder");
        let volumes = Volumes::open(dir.path()).expect("opens");
        let a = volumes.get_or_create(&labels(&[("app", "a")])).expect("creates");
        let b = volumes.create(labels(&[("app", "b"), ("owner", "x")])).expect("creates");
        assert_eq!(volumes.get_or_create(&labels(&[("app", "a")])).expect("finds"), a);
        assert_eq!(a.id.len(), 64);
        fs::create_dir(dir.path().join("runtimes/volumes/strange")).expect("makes");

        let again = Volumes::open(dir.path()).expect("opens");
        assert_eq!(again.get(&a.id), Some(a.clone()));
        assert_eq!(again.find(&labels(&[("owner", "x")])), std::slice::from_ref(&b));
        again.remove(&labels(&[("owner", "x")])).expect("removes");
        assert_eq!(again.get(&b.id), None);
        assert!(!b.path.parent().expect("a folder").exists());
        assert_eq!(again.find(&Labels::new()), [a]);
    }
}
