//! Keeps known peers across restarts.
//!
//! Source: `go/p2p/backup`. The bytes are CBOR: a map of namespaces to lists of peers' JSON ([`AddrInfo::to_json`]); a
//! node uses the empty namespace, a seed those it was told.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

use base_codec::{Bytes, cbor};

use crate::address::AddrInfo;

/// Largest backup that is read, in bytes.
pub const MAX_BACKUP: usize = 64 << 20;

/// Peers by namespace.
pub type Peers = BTreeMap<String, Vec<AddrInfo>>;

/// Where the bytes of a backup are kept. Calls block; they are made on a blocking thread.
pub trait PeerBackup: Send + Sync {
    /// The bytes last stored, if any.
    fn load(&self) -> io::Result<Option<Vec<u8>>>;
    /// Replaces the bytes, all or nothing.
    fn store(&self, bytes: &[u8]) -> io::Result<()>;
}

/// A backup in a file of its own.
#[derive(Debug, Clone)]
pub struct FileBackup {
    path: PathBuf,
}

impl FileBackup {
    /// Keeps the backup at that path; the folder must exist.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        Self { path }
    }
}

impl PeerBackup for FileBackup {
    fn load(&self) -> io::Result<Option<Vec<u8>>> {
        match std::fs::metadata(&self.path) {
            Ok(meta) if meta.len() > MAX_BACKUP as u64 => {
                Err(io::Error::new(io::ErrorKind::InvalidData, "peer backup too large"))
            }
            Ok(_) => std::fs::read(&self.path).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn store(&self, bytes: &[u8]) -> io::Result<()> {
        let temporary = self.path.with_extension("new");
        std::fs::write(&temporary, bytes)?;
        std::fs::rename(&temporary, &self.path)
    }
}

/// Encodes peers; those without addresses and empty namespaces are left out. `None` if nothing is left.
#[must_use]
pub fn encode(peers: &Peers) -> Option<Vec<u8>> {
    let map: BTreeMap<String, Vec<Bytes>> = peers
        .iter()
        .map(|(ns, list)| {
            let list = list.iter().filter(|p| !p.addrs.is_empty()).map(|p| Bytes(p.to_json())).collect::<Vec<_>>();
            (ns.clone(), list)
        })
        .filter(|(_, list)| !list.is_empty())
        .collect();
    (!map.is_empty()).then(|| cbor::to_vec(&map))
}

/// Why a backup could not be read.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// Not the CBOR of a backup.
    #[error("malformed backup: {0}")]
    Cbor(#[from] cbor::Error),
    /// One of the peers.
    #[error("malformed backup: {0}")]
    Peer(#[from] crate::address::AddressError),
    /// The file.
    #[error("reading backup: {0}")]
    Io(#[from] io::Error),
}

/// Reads peers back.
pub fn decode(bytes: &[u8]) -> Result<Peers, BackupError> {
    let map: BTreeMap<String, Vec<Bytes>> = cbor::from_slice(bytes)?;
    let read = |list: Vec<Bytes>| list.iter().map(|json| AddrInfo::from_json(json)).collect::<Result<Vec<_>, _>>();
    map.into_iter().map(|(ns, list)| Ok((ns, read(list)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use libp2p_identity::PeerId;
    use proptest::prelude::*;

    #[test]
    fn survives() {
        let dir = tempfile::tempdir().unwrap();
        let file = FileBackup::new(dir.path().join("peers.cbor"));
        assert!(file.load().unwrap().is_none());
        let with = AddrInfo { id: PeerId::random(), addrs: vec!["/ip4/1.2.3.4/tcp/5".parse().unwrap()] };
        let without = AddrInfo { id: PeerId::random(), addrs: vec![] };
        let peers = Peers::from([(String::new(), vec![with.clone(), without.clone()]), ("x".into(), vec![without])]);
        file.store(&encode(&peers).unwrap()).unwrap();
        let read = decode(&file.load().unwrap().unwrap()).unwrap();
        assert_eq!(read, Peers::from([(String::new(), vec![with])]));
        assert_eq!(encode(&Peers::new()), None);
    }

    #[test]
    fn bytes_are_a_map_of_lists_of_json() {
        let info = AddrInfo { id: PeerId::random(), addrs: vec!["/ip4/1.2.3.4/tcp/5".parse().unwrap()] };
        let json = info.to_json();
        let bytes = encode(&Peers::from([(String::new(), vec![info])])).unwrap();
        let want = [&[0xa1, 0x60, 0x81, 0x58, json.len() as u8][..], &json].concat();
        assert_eq!(bytes, want);
    }

    proptest! {
        #[test]
        fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = decode(&bytes);
        }
    }
}
