//! Manifests of runtime bundles.
//!
//! A bundle is an archive whose first entry is the manifest, JSON. Its hash is that of the manifest's *CBOR*, with the
//! same field names, and is what a runtime's deployment names as `bundle_checksum`. Three generations exist: executables
//! at the top level, components with a version at the top level, and components with versions of their own.
//! Source: `go/runtime/bundle/{manifest,component}.go`.

mod component;

use std::collections::{BTreeMap, BTreeSet};

use base_codec::{Codec, json};
use base_prims::{Hash, Namespace, Version};

pub use component::{
    Component, ComponentId, Elf, GPU_NVIDIA_H100, GPU_NVIDIA_H200, Gpu, Identity, Invalid, KIND_ROFL, KIND_RONL,
    MIN_TDX_MEMORY_MIB, Sgx, Tdx, TdxResources, TeeKind,
};

/// Name of the manifest's entry in the archive.
pub const MANIFEST_NAME: &str = "META-INF/MANIFEST.MF";
/// Folder of [`MANIFEST_NAME`].
pub const MANIFEST_DIR: &str = "META-INF";
/// Ending of bundle files.
pub const FILE_EXTENSION: &str = ".orc";

/// Label of where a bundle came from.
pub const LABEL_ORIGIN: &str = "net.oasis.origin";
/// Label of volumes that the node made by itself; the value is `true`.
pub const LABEL_VOLUME_AUTO_GENERATED: &str = "net.oasis.volume.auto_generated";
/// Label of a volume's runtime.
pub const LABEL_VOLUME_RUNTIME_ID: &str = "net.oasis.volume.runtime_id";
/// Label of a volume's component.
pub const LABEL_VOLUME_COMPONENT_ID: &str = "net.oasis.volume.component_id";
/// Label of a volume's name within its component.
pub const LABEL_VOLUME_NAME: &str = "net.oasis.volume.name";
/// Most labels of a bundle.
pub const MAX_LABELS: usize = 1024;
/// Most bytes of a label's key or value.
pub const MAX_LABEL_BYTES: usize = 1024;

/// A manifest. CBOR and JSON: map of the fields.
///
/// Read it from JSON with [`from_json`](Self::from_json), which applies the rules for older generations.
#[derive(Clone, Debug, Default, PartialEq, Eq, Codec)]
pub struct Manifest {
    /// For people.
    #[codec(omitempty)]
    pub name: String,
    /// The runtime.
    pub id: Namespace,
    /// Version of the on-chain component, in older generations.
    #[codec(omitempty)]
    pub version: Version,
    /// File of the on-chain component's ELF executable, in the oldest generation.
    #[codec(omitempty)]
    pub executable: String,
    /// SGX part of the on-chain component, in the oldest generation.
    #[codec(omitempty)]
    pub sgx: Option<Sgx>,
    /// The components.
    #[codec(omitempty)]
    pub components: Vec<Component>,
    /// SHA-512/256 of every other file, by name.
    pub digests: Option<BTreeMap<String, Hash>>,
}

/// Why text is no manifest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// Not the expected JSON.
    #[error("failed to parse manifest: {0}")]
    Json(#[from] json::Error),
    /// Contradicts itself.
    #[error("malformed manifest: {0}")]
    Invalid(#[from] Invalid),
}

impl Manifest {
    /// Reads a manifest. Unknown fields are ignored, and do not count for the hash.
    ///
    /// A version at the top level is copied to the on-chain component. The result is not [validated](Self::validate).
    ///
    /// # Errors
    /// If the text is not JSON of that form.
    pub fn from_json(text: &str) -> Result<Self, json::Error> {
        let mut manifest: Self = json::from_str(text)?;
        manifest.apply_top_version();
        Ok(manifest)
    }

    /// The manifest as the reference writes it.
    pub fn to_json(&self) -> String {
        json::to_string(self)
    }

    fn has_top_version(&self) -> bool {
        self.version.to_u64() > 0
    }

    fn apply_top_version(&mut self) {
        if self.has_top_version()
            && let Some(ronl) = self.components.iter_mut().find(|c| c.is_ronl())
        {
            ronl.version = self.version;
        }
    }

    /// The manifest's hash, the `bundle_checksum` of deployments.
    ///
    /// With a version at the top level, that of the on-chain component does not count.
    pub fn hash(&self) -> Hash {
        if self.has_top_version()
            && let Some(position) = self.components.iter().position(Component::is_ronl)
        {
            let mut hashed = self.clone();
            hashed.components[position].version = Version::default();
            return Hash::of_cbor(&hashed);
        }
        Hash::of_cbor(self)
    }

    /// Recommended name of the bundle's file.
    pub fn file_name(&self) -> String {
        format!("{}{FILE_EXTENSION}", self.hash().to_hex())
    }

    /// Whether executables are at the top level.
    pub fn is_legacy(&self) -> bool {
        !self.executable.is_empty() || self.sgx.is_some()
    }

    /// Whether there is no on-chain component, so that it must come from another bundle.
    pub fn is_detached(&self) -> bool {
        !self.is_legacy() && !self.components.iter().any(Component::is_ronl)
    }

    /// Checks the manifest by itself.
    ///
    /// # Errors
    /// The first rule that it breaks.
    pub fn validate(&self) -> Result<(), Invalid> {
        let mut seen = BTreeSet::new();
        for (position, component) in self.components.iter().enumerate() {
            let in_component = |rule: String| Invalid(format!("component {position}: {rule}"));
            if !seen.insert((&component.kind, &component.name)) {
                return Err(in_component(format!("another component with id '{}' already exists", component.label())));
            }
            component.validate().map_err(|e| in_component(e.0))?;
        }
        if self.is_legacy() && self.components.iter().any(Component::is_ronl) {
            return Err(Invalid("manifest defines both legacy and componentized RONL component".into()));
        }
        if let Some(sgx) = &self.sgx {
            sgx.validate().map_err(|e| Invalid(format!("sgx: {e}")))?;
        }
        Ok(())
    }

    /// All components, the on-chain one of the oldest generation included, in order of their ids.
    ///
    /// Components of an unknown kind, which do not validate, are left out.
    pub fn available_components(&self) -> BTreeMap<ComponentId, Component> {
        let mut out = BTreeMap::new();
        if let Some(ronl) = self.legacy_component() {
            out.insert(ComponentId::Ronl, ronl);
        }
        for component in &self.components {
            if let Some(id) = component.id() {
                out.insert(id, component.clone());
            }
        }
        out
    }

    /// The component of that id.
    pub fn component(&self, id: &ComponentId) -> Option<Component> {
        self.components
            .iter()
            .find(|c| c.id().as_ref() == Some(id))
            .cloned()
            .or_else(|| (*id == ComponentId::Ronl).then(|| self.legacy_component()).flatten())
    }

    fn legacy_component(&self) -> Option<Component> {
        self.is_legacy().then(|| Component {
            kind: KIND_RONL.into(),
            version: self.version,
            elf: Some(Elf { executable: self.executable.clone() }),
            sgx: self.sgx.clone(),
            ..Component::default()
        })
    }
}

/// Checks the labels of a bundle or volume.
///
/// # Errors
/// If there are too many or one is too large.
pub fn validate_labels(labels: &BTreeMap<String, String>) -> Result<(), Invalid> {
    if labels.len() > MAX_LABELS {
        return Err(Invalid(format!("too many labels: {}, at most {MAX_LABELS} are accepted", labels.len())));
    }
    for (key, value) in labels {
        if key.len() > MAX_LABEL_BYTES || value.len() > MAX_LABEL_BYTES {
            return Err(Invalid(format!(
                "label too large: key of {} bytes, value of {} bytes, at most {MAX_LABEL_BYTES} are accepted",
                key.len(),
                value.len()
            )));
        }
    }
    Ok(())
}

/// Whether `labels` has all of `wanted`.
pub fn has_labels(labels: &BTreeMap<String, String>, wanted: &BTreeMap<String, String>) -> bool {
    wanted.iter().all(|(key, value)| labels.get(key) == Some(value))
}
