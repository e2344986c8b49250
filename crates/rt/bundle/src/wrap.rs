//! Bare binaries as bundles.
//!
//! Older guides hand out a runtime as an ELF executable, or as an SGXS image with its signature.

use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

use base_prims::{Namespace, Version};
use wire_runtime::bundle::{Component, Elf, KIND_RONL, Manifest, Sgx};

use crate::{Builder, Error, Exploded};

const ELF_MAGIC: &[u8] = b"\x7fELF";
/// Tag of the first record of an SGXS stream.
const SGXS_MAGIC: &[u8] = b"ECREATE\0";

/// Names of the files in the bundle.
const ELF_NAME: &str = "runtime.elf";
const SGXS_NAME: &str = "runtime.sgxs";
const SIGNATURE_NAME: &str = "runtime.sig";

/// A runtime as it was handed out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Binary {
    /// An ELF executable.
    Elf(PathBuf),
    /// An enclave.
    Sgxs {
        /// The image.
        image: PathBuf,
        /// Its signature; without one it runs on debug networks only.
        signature: Option<PathBuf>,
        /// The executable from which it was made, if that was handed out too.
        elf: Option<PathBuf>,
    },
}

impl Binary {
    /// Tells by its first bytes what a file is. Beside `NAME.sgxs`, the signature is looked for as `NAME.sig`.
    ///
    /// # Errors
    /// If it is neither, or cannot be read.
    pub fn detect(path: &Path) -> Result<Self, Error> {
        let mut start = Vec::new();
        File::open(path)
            .and_then(|file| file.take(SGXS_MAGIC.len() as u64).read_to_end(&mut start))
            .map_err(Error::io("read", path))?;
        if start.starts_with(ELF_MAGIC) {
            return Ok(Self::Elf(path.into()));
        }
        if start == SGXS_MAGIC {
            let signature = path.with_extension("sig");
            return Ok(Self::Sgxs {
                image: path.into(),
                signature: signature.is_file().then_some(signature),
                elf: None,
            });
        }
        Err(Error::UnknownBinary { path: path.into() })
    }
}

/// A bare binary with what a bundle must say about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrap {
    /// The runtime.
    pub runtime_id: Namespace,
    /// For people.
    pub name: String,
    /// Its version; `None` takes the one that it answers when started, and stands as 0.0.0 in the manifest.
    pub version: Option<Version>,
    /// The binary.
    pub binary: Binary,
}

impl Wrap {
    /// The files by their names in the bundle.
    fn files(&self) -> Vec<(&'static str, &Path)> {
        match &self.binary {
            Binary::Elf(path) => vec![(ELF_NAME, path)],
            Binary::Sgxs { image, signature, elf } => {
                let mut out: Vec<(_, &Path)> = vec![(SGXS_NAME, image)];
                out.extend(signature.as_deref().map(|path| (SIGNATURE_NAME, path)));
                out.extend(elf.as_deref().map(|path| (ELF_NAME, path)));
                out
            }
        }
    }

    /// The component. A manifest must name an executable also where only an enclave was handed out: the image stands
    /// for it, which cannot be started without SGX.
    fn component(&self) -> Component {
        let (executable, sgx) = match &self.binary {
            Binary::Elf(_) => (ELF_NAME, None),
            Binary::Sgxs { signature, elf, .. } => (
                if elf.is_some() { ELF_NAME } else { SGXS_NAME },
                Some(Sgx {
                    executable: SGXS_NAME.into(),
                    signature: signature.as_ref().map_or_else(String::new, |_| SIGNATURE_NAME.into()),
                }),
            ),
        };
        Component {
            kind: KIND_RONL.into(),
            version: self.version.unwrap_or_default(),
            elf: Some(Elf { executable: executable.into() }),
            sgx,
            ..Component::default()
        }
    }

    /// The bundle, to be written.
    ///
    /// # Errors
    /// If a file cannot be read.
    pub fn to_builder(&self) -> Result<Builder, Error> {
        let mut builder = Builder::new(Manifest {
            name: self.name.clone(),
            id: self.runtime_id,
            components: vec![self.component()],
            ..Manifest::default()
        });
        for (name, path) in self.files() {
            builder.add_file(name, path)?;
        }
        Ok(builder)
    }

    /// The binary as if it were an unpacked bundle, with its files where they are.
    ///
    /// # Errors
    /// If a file cannot be read, or an enclave's signature does not verify.
    pub fn to_exploded(&self) -> Result<Exploded, Error> {
        let mut builder = self.to_builder()?;
        if let Binary::Sgxs { signature: Some(_), .. } = &self.binary {
            builder.enclave_identities(&wire_runtime::bundle::ComponentId::Ronl, None)?;
        }
        let files = self.files();
        let dir = files.first().and_then(|(_, path)| path.parent()).unwrap_or(Path::new("."));
        let mut out = Exploded::new(builder.manifest().clone(), dir.into());
        out.elsewhere = files.into_iter().map(|(name, path)| (name.to_owned(), path.to_owned())).collect();
        out.version_from_runtime = self.version.is_none();
        Ok(out)
    }
}
