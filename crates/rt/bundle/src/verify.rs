//! The checks that a bundle must pass, whether it was read or is to be written.

use std::{
    collections::BTreeSet,
    io::{self, Read, Write},
    path::Path,
};

use base_prims::{Hash, Version};
use sha2::{Digest as _, Sha256, Sha512_256};
use wire_consensus::{
    registry::VersionInfo,
    tee::{EnclaveIdentity, MrEnclave, MrSigner},
};
use wire_runtime::bundle::{Component, ComponentId, MANIFEST_NAME, Manifest};

use crate::{Error, sigstruct};

/// Where a bundle's files come from.
pub(crate) trait Files {
    /// For errors.
    fn path(&self) -> &Path;
    /// All names, the manifest's excluded.
    fn names(&self) -> Vec<String>;
    /// Passes a file's contents to `sink`, never more than the limits allow.
    fn copy(&mut self, name: &str, sink: &mut dyn Write) -> Result<(), Error>;
}

/// Hashes what is written to it.
pub(crate) struct Hashing<D, W = io::Sink> {
    hasher: D,
    inner: W,
}

impl<D: sha2::Digest> Hashing<D> {
    pub(crate) fn new() -> Self {
        Self::over(io::sink())
    }
}

impl<D: sha2::Digest, W: Write> Hashing<D, W> {
    pub(crate) fn over(inner: W) -> Self {
        Self { hasher: D::new(), inner }
    }
}

impl<W> Hashing<Sha512_256, W> {
    pub(crate) fn finish(self) -> Hash {
        Hash::new(self.hasher.finalize().into())
    }
}

impl<D: sha2::Digest, W: Write> Write for Hashing<D, W> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.inner.write_all(buf)?;
        self.hasher.update(buf);
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Digest of a reader's contents.
pub(crate) fn digest_of(mut from: impl Read) -> io::Result<Hash> {
    let mut hashing = Hashing::<Sha512_256>::new();
    io::copy(&mut from, &mut hashing)?;
    Ok(hashing.finish())
}

/// Checks files, digests and signatures; the manifest has been checked by itself.
pub(crate) fn verify(manifest: &Manifest, files: &mut dyn Files) -> Result<(), Error> {
    let components = manifest.available_components();
    let names = files.names();
    let present: BTreeSet<&str> = names.iter().map(String::as_str).collect();
    for (id, component) in &components {
        for (what, name) in component.files() {
            if name.is_empty() {
                return Err(Error::FileNotNamed { path: files.path().into(), component: id.clone(), what });
            }
            if name != MANIFEST_NAME && !present.contains(name) {
                return Err(Error::FileMissing {
                    path: files.path().into(),
                    component: id.clone(),
                    what,
                    name: name.into(),
                });
            }
        }
    }
    for name in &names {
        let expected = manifest.digests.as_ref().and_then(|digests| digests.get(name));
        let Some(expected) = expected else {
            return Err(Error::DigestMissing { path: files.path().into(), name: name.clone() });
        };
        let mut hashing = Hashing::<Sha512_256>::new();
        files.copy(name, &mut hashing)?;
        let found = hashing.finish();
        if found != *expected {
            return Err(Error::Digest { path: files.path().into(), name: name.clone(), found, expected: *expected });
        }
    }
    for (id, component) in &components {
        if let Some(sgx) = &component.sgx
            && !sgx.signature.is_empty()
        {
            signed_identity(id, component, files)?;
        }
    }
    Ok(())
}

/// Measurement of the component's enclave: SHA-256 of the SGXS stream.
fn mr_enclave(executable: &str, files: &mut dyn Files) -> Result<MrEnclave, Error> {
    let mut hashing = Hashing::<Sha256>::new();
    files.copy(executable, &mut hashing)?;
    Ok(MrEnclave::new(hashing.hasher.finalize().into()))
}

/// Verifies the signature of the component's enclave.
fn signed_identity(id: &ComponentId, component: &Component, files: &mut dyn Files) -> Result<EnclaveIdentity, Error> {
    let Some(sgx) = &component.sgx else {
        return Err(Error::Component {
            path: files.path().into(),
            component: id.clone(),
            reason: "it has no SGX part",
        });
    };
    let mr_enclave = mr_enclave(&sgx.executable, files)?;
    let mut signature = Capped::default();
    files.copy(&sgx.signature, &mut signature)?;
    let signed = sigstruct::verify(&signature.bytes)
        .and_then(|(sigstruct, mr_signer)| {
            if sigstruct.enclave_hash == mr_enclave {
                Ok(mr_signer)
            } else {
                Err(sigstruct::Error::OtherEnclave { signed: sigstruct.enclave_hash, found: mr_enclave })
            }
        })
        .map_err(|source| Error::Signature { path: files.path().into(), component: id.clone(), source })?;
    Ok(EnclaveIdentity { mr_enclave, mr_signer: signed })
}

/// Keeps one byte more than a signature has, and drops the rest.
#[derive(Default)]
struct Capped {
    bytes: Vec<u8>,
}

impl Write for Capped {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let room = (sigstruct::BYTES + 1).saturating_sub(self.bytes.len());
        self.bytes.extend_from_slice(&buf[..buf.len().min(room)]);
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The enclaves that a component may be: those in the manifest, else the one that its SGX part is.
///
/// An unsigned enclave has `test_signer` as its signer, if that is given.
pub(crate) fn identities(
    manifest: &Manifest,
    id: &ComponentId,
    test_signer: Option<MrSigner>,
    files: &mut dyn Files,
) -> Result<Vec<EnclaveIdentity>, Error> {
    let problem =
        |files: &dyn Files, reason| Error::Component { path: files.path().into(), component: id.clone(), reason };
    let Some(component) = manifest.component(id) else {
        return Err(problem(files, "not in the bundle"));
    };
    if !component.identities.is_empty() {
        return Ok(component.identities.iter().map(|i| i.enclave).collect());
    }
    let Some(sgx) = &component.sgx else {
        return Err(problem(
            files,
            "the manifest names no enclave identity and there is no SGX part to compute it from",
        ));
    };
    if !sgx.signature.is_empty() {
        return Ok(vec![signed_identity(id, &component, files)?]);
    }
    let Some(mr_signer) = test_signer else {
        return Err(problem(files, "the enclave has no signature; sign the bundle, or use it on a debug network only"));
    };
    let mr_enclave = mr_enclave(&sgx.executable, files)?;
    Ok(vec![EnclaveIdentity { mr_enclave, mr_signer }])
}

/// How a bundle differs from what a deployment in a runtime's descriptor says.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    /// The descriptor fixes no bundle.
    #[error("the deployment has no bundle checksum")]
    NoChecksum,
    /// The descriptor's checksum is no hash.
    #[error("the deployment's bundle checksum has {length} bytes instead of 32")]
    MalformedChecksum {
        /// Its length.
        length: usize,
    },
    /// Another bundle.
    #[error("manifest hash is {found}, the deployment's bundle checksum is {expected}")]
    Checksum {
        /// The bundle's.
        found: Hash,
        /// The deployment's.
        expected: Hash,
    },
    /// The on-chain component has another version.
    #[error("on-chain component has version {found}, the deployment is of version {expected}")]
    Version {
        /// The bundle's.
        found: Version,
        /// The deployment's.
        expected: Version,
    },
    /// There is no on-chain component.
    #[error("the bundle has no on-chain component")]
    Detached,
}

/// Compares a manifest with a deployment of its runtime; empty if they agree.
pub fn compare_with_deployment(manifest: &Manifest, deployment: &VersionInfo) -> Vec<Mismatch> {
    let mut out = Vec::new();
    let checksum: &[u8] = &deployment.bundle_checksum;
    match Hash::try_from(checksum) {
        Ok(expected) => {
            let found = manifest.hash();
            if found != expected {
                out.push(Mismatch::Checksum { found, expected });
            }
        }
        Err(_) if checksum.is_empty() => out.push(Mismatch::NoChecksum),
        Err(_) => out.push(Mismatch::MalformedChecksum { length: checksum.len() }),
    }
    match manifest.component(&ComponentId::Ronl) {
        Some(ronl) if ronl.version != deployment.version => {
            out.push(Mismatch::Version { found: ronl.version, expected: deployment.version })
        }
        Some(_) => {}
        None => out.push(Mismatch::Detached),
    }
    out
}
