//! What off-chain components may manage: bundles, volumes, logs; and attestation of their labels.
//!
//! Everything a component adds is labelled with the component as origin, and it reaches only what has that label. Source:
//! `go/runtime/registry/handler_rofl{,_mgmt}.go`.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::Duration;

use base_codec::cbor::{self, Decode};
use base_crypto::context::{self, sign_with_context};
use base_crypto::tuplehash::tuple_hash256;
use base_prims::{Hash, Namespace, PublicKey, RawSignature, Version};
use rt_bundle::{Bundle, Limits, OpenOptions, check_name};
use rt_host::api::{BoxFuture, RuntimeHost as _};
use rt_host::composite::CompositeHost;
use rt_host::logs::{ComponentLog, rfc3339};
use rt_host::services::{Management, Served};
use wire_runtime::bundle::{ComponentId, KIND_ROFL, LABEL_ORIGIN, Manifest};
use wire_runtime::enclave_rpc::Request;
use wire_runtime::rofl::{self, Labels};
use wire_runtime::{Empty, Error, error};

use crate::bundles::Attached;
use crate::hosting::Hosting;
use crate::settings::{self, Permission};

/// Most bytes of a bundle that a component uploads. The reference has no limit.
pub const MAX_UPLOAD_BYTES: u64 = 16 << 30;
/// Most uploads of a component that are not added yet. The reference has no limit.
pub const MAX_UPLOADS: usize = 16;
/// Most bytes of a log that one answer has; of a longer one, the newest.
const MAX_LOG_BYTES: u64 = 16 << 20;
/// Label that tells instances apart.
const LABEL_INSTANCE: &str = "net.oasis.instance_id";
/// Customisation of the hash that names managed components.
const COMPONENT_NAME_CONTEXT: &[u8] = b"oasis-core/bundle: dynamic component ID";

fn plain(text: impl ToString) -> Error {
    Error::new(error::UNKNOWN, text.to_string())
}

fn args<T: Decode>(request: &Request) -> Served<T> {
    request.args.decode_as().map_err(plain)
}

/// Serves one component.
pub(crate) struct Managed {
    pub(crate) hosting: Weak<Hosting>,
    pub(crate) host: Weak<CompositeHost>,
    pub(crate) runtime: Namespace,
    /// Labels of the component's own bundle.
    pub(crate) labels: Labels,
}

impl Management for Managed {
    fn call(&self, component: ComponentId, endpoint: String, request: Request) -> BoxFuture<'_, Served<Vec<u8>>> {
        let (Some(hosting), Some(host)) = (self.hosting.upgrade(), self.host.upgrade()) else {
            return Box::pin(async { Err(plain("node is shutting down")) });
        };
        let call = Call { hosting, host, runtime: self.runtime, labels: self.labels.clone(), component };
        Box::pin(async move {
            tokio::task::spawn_blocking(move || call.serve(&endpoint, &request))
                .await
                .unwrap_or_else(|e| Err(plain(format!("internal error: {e}"))))
        })
    }
}

struct Call {
    hosting: Arc<Hosting>,
    host: Arc<CompositeHost>,
    runtime: Namespace,
    labels: Labels,
    component: ComponentId,
}

impl Call {
    fn serve(&self, endpoint: &str, request: &Request) -> Served<Vec<u8>> {
        match (endpoint, request.method.as_str()) {
            (rofl::ENDPOINT_BUNDLE_MANAGER, rofl::METHOD_BUNDLE_WRITE) => self.bundle_write(&args(request)?),
            (rofl::ENDPOINT_BUNDLE_MANAGER, rofl::METHOD_BUNDLE_ADD) => self.bundle_add(args(request)?),
            (rofl::ENDPOINT_BUNDLE_MANAGER, rofl::METHOD_BUNDLE_REMOVE) => {
                self.permit(Permission::BundleRemove)?;
                self.hosting.bundles.remove(&self.runtime, &self.own(args(request)?));
                Ok(empty())
            }
            (rofl::ENDPOINT_BUNDLE_MANAGER, rofl::METHOD_BUNDLE_LIST) => self.bundle_list(args(request)?),
            (rofl::ENDPOINT_VOLUME_MANAGER, rofl::METHOD_VOLUME_ADD) => {
                self.permit(Permission::VolumeAdd)?;
                let volume = self.hosting.volumes.create(self.own(args(request)?)).map_err(plain)?;
                Ok(cbor::to_vec(&rofl::VolumeAddResponse { id: volume.id }))
            }
            (rofl::ENDPOINT_VOLUME_MANAGER, rofl::METHOD_VOLUME_REMOVE) => {
                self.permit(Permission::VolumeRemove)?;
                self.hosting.volumes.remove(&self.own(args(request)?)).map_err(plain)?;
                Ok(empty())
            }
            (rofl::ENDPOINT_VOLUME_MANAGER, rofl::METHOD_VOLUME_LIST) => {
                self.permit(Permission::VolumeAdd)?;
                let found = self.hosting.volumes.find(&self.own(args(request)?)).into_iter();
                let volumes = found.map(|v| rofl::VolumeInfo { id: v.id, labels: v.labels }).collect();
                Ok(cbor::to_vec(&rofl::VolumeListResponse { volumes }))
            }
            (rofl::ENDPOINT_LOG_MANAGER, rofl::METHOD_LOG_GET) => self.log_get(args(request)?),
            (rofl::ENDPOINT_ATTESTATION, rofl::METHOD_ATTEST_LABELS) => self.attest_labels(args(request)?),
            _ => Err(plain("method not supported")),
        }
    }

    fn permit(&self, what: Permission) -> Served<()> {
        match settings::permitted(&self.hosting.config.runtime, &self.runtime, &self.component, what) {
            true => Ok(()),
            false => Err(plain("forbidden")),
        }
    }

    fn origin(&self) -> String {
        format!("{}-{}", self.runtime, self.component)
    }

    /// The labels asked for, with this component as origin whatever was asked for.
    fn own(&self, request: rofl::LabelsRequest) -> Labels {
        self.with_origin(request.labels)
    }

    fn with_origin(&self, labels: Option<Labels>) -> Labels {
        let mut labels = labels.unwrap_or_default();
        labels.insert(LABEL_ORIGIN.into(), self.origin());
        labels
    }

    /// Where this component's uploads lie. The name is hashed, as its characters may not suit a file system.
    fn uploads(&self) -> PathBuf {
        let folder = Hash::of(&[self.origin().as_bytes()]).to_hex();
        self.hosting.bundles.store().temporary_dir().join(folder)
    }

    fn upload(&self, name: &str) -> Served<PathBuf> {
        check_name(name).map_err(|e| plain(format!("invalid temporary name: {e}")))?;
        Ok(self.uploads().join(name))
    }

    fn bundle_write(&self, request: &rofl::BundleWriteRequest) -> Served<Vec<u8>> {
        self.permit(Permission::BundleAdd)?;
        let path = self.upload(&request.temporary_name)?;
        let dir = self.uploads();
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir).map_err(plain)?;
        let failed = |_| plain("failed to open temporary bundle");
        if request.create && !path.exists() {
            let there = fs::read_dir(&dir).map_err(failed)?.count();
            if there >= MAX_UPLOADS {
                return Err(plain(format!("{MAX_UPLOADS} temporary bundles already")));
            }
        }
        let mut options = fs::OpenOptions::new();
        match request.create {
            true => options.create(true).truncate(true).write(true).mode(0o600),
            false => options.append(true),
        };
        let mut file = options.open(&path).map_err(failed)?;
        let data = request.data.as_ref().map_or(&[][..], |data| data.as_slice());
        let size = file.metadata().map_err(plain)?.len();
        if size.saturating_add(data.len() as u64) > MAX_UPLOAD_BYTES {
            return Err(plain(format!("temporary bundle exceeds {MAX_UPLOAD_BYTES} bytes")));
        }
        file.write_all(data).map_err(plain)?;
        Ok(empty())
    }

    fn bundle_add(&self, request: rofl::BundleAddRequest) -> Served<Vec<u8>> {
        self.permit(Permission::BundleAdd)?;
        let labels = self.with_origin(request.labels);
        wire_runtime::bundle::validate_labels(&labels).map_err(plain)?;
        let owned = self.with_origin(None);
        let mut volumes = Attached::new();
        for (name, id) in request.volumes.unwrap_or_default() {
            let found = self.hosting.volumes.get(&id);
            let found = found.filter(|volume| wire_runtime::bundle::has_labels(&volume.labels, &owned));
            volumes.insert(name, found.ok_or_else(|| plain(format!("volume '{id}' not found")))?.path);
        }
        let path = self.upload(&request.temporary_name)?;
        let options = OpenOptions {
            limits: Limits::default(),
            manifest_hash: Some(request.manifest_hash),
            runtime_id: Some(self.runtime),
        };
        let mut bundle = Bundle::open(&path, &options).map_err(|e| plain(format!("failed to open bundle: {e}")))?;
        check_managed(bundle.manifest())?;
        bundle.rewrite(|manifest| rewrite_managed(manifest, &labels)).map_err(plain)?;
        let bundles = &self.hosting.bundles;
        let exploded =
            bundles.store().explode(&mut bundle).map_err(|e| plain(format!("failed to explode bundle: {e}")))?;
        bundles.register(Arc::new(exploded), labels, Some(volumes)).map_err(plain)?;
        fs::remove_file(&path).map_err(plain)?;
        Ok(empty())
    }

    fn bundle_list(&self, request: rofl::LabelsRequest) -> Served<Vec<u8>> {
        self.permit(Permission::BundleAdd)?;
        let found = self.hosting.bundles.find(&self.own(request)).into_iter();
        let bundles = found.map(|known| {
            let components = known.bundle.manifest.components.iter();
            let components: Vec<_> = components.map(|c| rofl::ComponentInfo { name: c.name.clone() }).collect();
            rofl::BundleInfo {
                manifest_hash: known.bundle.manifest_hash,
                components: (!components.is_empty()).then_some(components),
                labels: known.labels,
            }
        });
        Ok(cbor::to_vec(&rofl::BundleListResponse { bundles: bundles.collect() }))
    }

    fn log_get(&self, request: rofl::LogGetRequest) -> Served<Vec<u8>> {
        self.permit(Permission::LogView)?;
        let id: ComponentId = request.component_id.parse().map_err(plain)?;
        if id == ComponentId::Ronl {
            return Err(plain("RONL component not allowed"));
        }
        let found = self.hosting.bundles.find(&self.with_origin(request.labels));
        if !found.iter().any(|known| known.bundle.manifest.component(&id).is_some()) {
            return Err(plain("component not found"));
        }
        let path = ComponentLog::path_in(&self.hosting.data_dir, &self.runtime, &id);
        let since = rfc3339(Duration::from_secs(request.since.min(u64::from(u32::MAX))));
        let logs = read_log(&path, &since).map_err(plain)?;
        Ok(cbor::to_vec(&rofl::LogGetResponse { logs: (!logs.is_empty()).then_some(logs) }))
    }

    fn attest_labels(&self, request: rofl::AttestLabelsRequest) -> Served<Vec<u8>> {
        let keys = request.labels.unwrap_or_default();
        if keys.is_empty() {
            return Err(plain("no labels specified"));
        }
        if keys.len() > rofl::MAX_ATTEST_LABELS {
            return Err(plain(format!("too many labels specified (max: {})", rofl::MAX_ATTEST_LABELS)));
        }
        // A label that is not set and an empty one are the same.
        let value = |key: &String| self.labels.get(key).cloned().unwrap_or_default();
        let labels = keys.iter().map(|key| (key.clone(), value(key))).collect();
        let key = self.hosting.node_key.as_ref().ok_or_else(|| plain("failed to retrieve label attestation key"))?;
        let host = self.host.component(&self.component).ok_or_else(|| plain("failed to retrieve component"))?;
        let capability = host.capability_tee().ok_or_else(|| plain("failed to retrieve component RAK"))?;
        let attestation = cbor::to_vec(&rofl::LabelAttestation { labels: Some(labels), rak: capability.rak });
        let signature = sign_with_context(key, &context::ATTEST_LABELS, None, None, &attestation)
            .map_err(|_| plain("failed to sign label attestation"))?;
        Ok(cbor::to_vec(&rofl::AttestLabelsResponse {
            attestation: Some(attestation.into()),
            node_id: PublicKey::from(key.public()),
            signature: RawSignature::new(signature),
        }))
    }
}

fn empty() -> Vec<u8> {
    cbor::to_vec(&Empty {})
}

/// Whether a component may bring a bundle of that kind.
fn check_managed(manifest: &Manifest) -> Served<()> {
    let legacy = || Err(plain("legacy bundles are not supported"));
    if manifest.is_legacy() {
        return legacy();
    }
    for component in &manifest.components {
        if component.kind != KIND_ROFL {
            return Err(plain("non-ROFL components are not supported"));
        }
        if !component.executable.is_empty() {
            return legacy();
        }
        if component.disabled {
            return Err(plain("disabled components are not supported"));
        }
    }
    Ok(())
}

/// Renames components by who brought them, for which instance, so that they collide with no others. Without versions an
/// upgrade is a removal and an addition.
fn rewrite_managed(manifest: &mut Manifest, labels: &Labels) {
    let label = |key: &str| labels.get(key).map_or(&[][..], |value| value.as_bytes());
    manifest.name = String::new();
    manifest.version = Version::default();
    for component in &mut manifest.components {
        let parts = [label(LABEL_ORIGIN), label(LABEL_INSTANCE), component.name.as_bytes()];
        component.name = Hash::new(tuple_hash256(COMPONENT_NAME_CONTEXT, &parts)).to_hex();
        component.version = Version::default();
    }
}

/// Complete lines with a time after `since`.
fn read_log(path: &std::path::Path, since: &str) -> std::io::Result<Vec<String>> {
    use std::io::{Read as _, Seek as _, SeekFrom};
    let mut file = fs::File::open(path)?;
    let length = file.metadata()?.len();
    let skipped = length.saturating_sub(MAX_LOG_BYTES);
    file.seek(SeekFrom::Start(skipped))?;
    let mut bytes = Vec::new();
    file.take(MAX_LOG_BYTES).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let end = text.rfind('\n').map_or(0, |at| at + 1);
    let lines = text.get(..end).unwrap_or_default().lines().skip(usize::from(skipped > 0));
    let is_after = |line: &&str| {
        let value: Option<serde_json::Value> = serde_json::from_str(line).ok();
        value.as_ref().and_then(|value| value.get("ts")?.as_str()).is_some_and(|at| at > since)
    };
    Ok(lines.filter(is_after).map(str::to_owned).collect())
}

#[cfg(test)]
mod tests;
