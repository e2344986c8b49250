//! What can be wrong with a bundle.

use std::{io, path::PathBuf};

use base_prims::{Hash, Namespace};
use wire_runtime::bundle::{ComponentId, ManifestError};

use crate::sigstruct;

/// Why a bundle was not read, unpacked, kept or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file system refused.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Not an archive, or a damaged one.
    #[error("{}: not a readable ZIP archive ({reason}); get the bundle again from where it was published", path.display())]
    Archive {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// More than the limits allow.
    #[error("{}: {what} of more than {limit} bytes; raise the limit if the bundle is trusted", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// What is too large.
        what: String,
        /// The limit.
        limit: u64,
    },
    /// More files than the limits allow.
    #[error("{}: {count} files in the bundle, at most {limit} are accepted", path.display())]
    TooManyFiles {
        /// The file.
        path: PathBuf,
        /// How many.
        count: usize,
        /// The limit.
        limit: usize,
    },
    /// A file's name that could leave the directory or is not portable.
    #[error("{}: file name {name:?} is not allowed in a bundle: {reason}", path.display())]
    Name {
        /// The bundle.
        path: PathBuf,
        /// The name.
        name: String,
        /// The rule.
        reason: &'static str,
    },
    /// The first entry is not the manifest.
    #[error("{}: the first entry is {found:?}, must be META-INF/MANIFEST.MF; build the bundle with a bundle tool, not with a ZIP tool", path.display())]
    ManifestPlace {
        /// The bundle.
        path: PathBuf,
        /// What is there.
        found: String,
    },
    /// The manifest is malformed or contradicts itself.
    #[error("{}: {source}", path.display())]
    Manifest {
        /// The bundle or manifest.
        path: PathBuf,
        /// What is wrong.
        source: ManifestError,
    },
    /// Another bundle than was asked for.
    #[error("{}: manifest hash is {found}, expected {expected}; this is another bundle or another version of it", path.display())]
    ManifestHash {
        /// The bundle.
        path: PathBuf,
        /// Its hash.
        found: Hash,
        /// The hash asked for.
        expected: Hash,
    },
    /// A bundle of another runtime.
    #[error("{}: bundle of runtime {found}, expected {expected}", path.display())]
    RuntimeId {
        /// The bundle.
        path: PathBuf,
        /// Its runtime.
        found: Namespace,
        /// The runtime asked for.
        expected: Namespace,
    },
    /// The manifest does not name a file that a component needs.
    #[error("{}: component {component} names no {what} in the manifest", path.display())]
    FileNotNamed {
        /// The bundle.
        path: PathBuf,
        /// The component.
        component: ComponentId,
        /// What the file is for.
        what: &'static str,
    },
    /// A file that a component needs is not there.
    #[error("{}: {what} {name:?} of component {component} is not in the bundle", path.display())]
    FileMissing {
        /// The bundle.
        path: PathBuf,
        /// The component.
        component: ComponentId,
        /// What the file is for.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// A file whose contents the manifest does not fix.
    #[error("{}: the manifest has no digest for file {name:?}", path.display())]
    DigestMissing {
        /// The bundle.
        path: PathBuf,
        /// The file.
        name: String,
    },
    /// A file with other contents than the manifest fixes.
    #[error("{}: file {name:?} has digest {found}, the manifest says {expected}; get the bundle again", path.display())]
    Digest {
        /// The bundle, or the directory of an unpacked one.
        path: PathBuf,
        /// The file.
        name: String,
        /// Its digest.
        found: Hash,
        /// The digest in the manifest.
        expected: Hash,
    },
    /// An enclave's signature does not verify.
    #[error("{}: signature of component {component}: {source}", path.display())]
    Signature {
        /// The bundle.
        path: PathBuf,
        /// The component.
        component: ComponentId,
        /// What is wrong.
        source: sigstruct::Error,
    },
    /// A question about a component that is not there or not of that kind.
    #[error("{}: component {component}: {reason}", path.display())]
    Component {
        /// The bundle.
        path: PathBuf,
        /// The component.
        component: ComponentId,
        /// What is missing.
        reason: &'static str,
    },
    /// A file that is neither an ELF executable nor an SGXS image.
    #[error("{}: neither an ELF executable nor an SGXS enclave image; bundles (.orc) need no wrapping", path.display())]
    UnknownBinary {
        /// The file.
        path: PathBuf,
    },
}

impl Error {
    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }
}
