//! What the configuration says about runtimes and their components. Source: `go/runtime/config`,
//! `go/runtime/registry/config.go`.

use std::collections::{BTreeMap, BTreeSet};

use base_codec::Raw;
use base_codec::cbor::{Encode, Encoder};
use base_prims::Namespace;
use node_config::schema::{ComponentSection, Runtime};
use node_config::{Any, Config, Mode};
use rt_host::api::PortForward;
use rt_host::discovery::ComponentSettings;
use wire_runtime::bundle::{ComponentId, TeeKind};

use crate::error::HostingError;

/// What a component may be permitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Permission {
    BundleAdd,
    BundleRemove,
    VolumeAdd,
    VolumeRemove,
    LogView,
}

impl Permission {
    fn name(self) -> &'static str {
        match self {
            Self::BundleAdd => "bundle_add",
            Self::BundleRemove => "bundle_remove",
            Self::VolumeAdd => "volume_add",
            Self::VolumeRemove => "volume_remove",
            Self::LogView => "log_view",
        }
    }
}

/// The entry of a component, where there is one.
pub(crate) fn component<'a>(
    config: &'a Runtime,
    runtime: &Namespace,
    id: &ComponentId,
) -> Option<&'a ComponentSection> {
    let entries = config.runtimes.iter().filter(|entry| entry.id.0 == *runtime);
    let mut components = entries.flat_map(|entry| &entry.components).map(|component| &component.0);
    components.find(|component| same(&component.id, id))
}

fn same(configured: &node_config::schema::ComponentId, id: &ComponentId) -> bool {
    use node_config::schema::ComponentId as Configured;
    match (configured, id) {
        (Configured::Ronl, ComponentId::Ronl) => true,
        (Configured::Rofl(a), ComponentId::Rofl(b)) => a == b,
        _ => false,
    }
}

/// What counts for whether a component is wanted and what it runs in.
pub(crate) fn component_settings(section: &ComponentSection) -> ComponentSettings {
    let tee = match section.tee.as_str() {
        "none" => Some(TeeKind::NONE),
        "sgx" => Some(TeeKind::SGX),
        "tdx" => Some(TeeKind::TDX),
        _ => None,
    };
    ComponentSettings { tee, disabled: section.disabled }
}

/// Whether a component is permitted something.
pub(crate) fn permitted(config: &Runtime, runtime: &Namespace, id: &ComponentId, what: Permission) -> bool {
    component(config, runtime, id).is_some_and(|section| section.permissions.iter().any(|p| p == what.name()))
}

/// Ports that are forwarded to a component.
pub(crate) fn incoming(section: Option<&ComponentSection>) -> Vec<PortForward> {
    let all = section.into_iter().flat_map(|section| &section.networking.incoming);
    all.map(|port| PortForward {
        ip: port.ip.clone(),
        protocol: port.protocol.clone(),
        src_port: port.src_port,
        dst_port: port.dst_port,
    })
    .collect()
}

/// What a component is told at the handshake: its own settings, or for the on-chain component without any those of the
/// runtime, or those of the older top-level key.
pub(crate) fn local_config(config: &Runtime, runtime: &Namespace, id: &ComponentId) -> BTreeMap<String, Raw> {
    let found = match component(config, runtime, id) {
        Some(section) => Some(&section.config),
        None if *id == ComponentId::Ronl => config
            .runtimes
            .iter()
            .find(|entry| entry.id.0 == *runtime)
            .map(|entry| &entry.config)
            .or_else(|| config.config.get(&runtime.to_string())),
        None => None,
    };
    let entries = found.into_iter().flatten();
    entries.map(|(key, value)| (key.clone(), Raw::of(&Value(value)))).collect()
}

/// A value of the configuration as CBOR.
struct Value<'a>(&'a Any);

impl Encode for Value<'_> {
    fn encode(&self, e: &mut Encoder) {
        match self.0 {
            Any::Null => e.null(),
            Any::Bool(value) => e.bool(*value),
            Any::Int(value) => match (i64::try_from(*value), u64::try_from(*value)) {
                (_, Ok(value)) => e.uint(value),
                (Ok(value), _) => e.int(value),
                // The reader takes no other integers.
                _ => e.null(),
            },
            Any::Float(value) => e.raw(&float(*value)),
            Any::Text(value) => e.text(value),
            Any::List(items) => {
                e.array(items.len());
                items.iter().for_each(|item| Value(item).encode(e));
            }
            Any::Map(entries) => {
                let mut keys: Vec<_> = entries.iter().collect();
                keys.sort_by_key(|(key, _)| (key.len(), key.as_bytes().to_vec()));
                e.map(keys.len());
                for (key, value) in keys {
                    e.text(key);
                    Value(value).encode(e);
                }
            }
        }
    }
}

/// The shortest form that keeps the value.
fn float(value: f64) -> Vec<u8> {
    if value.is_nan() {
        return vec![0xf9, 0x7e, 0x00];
    }
    #[allow(clippy::cast_possible_truncation)]
    let single = value as f32;
    if f64::from(single).to_bits() != value.to_bits() {
        let mut out = vec![0xfb];
        out.extend(value.to_be_bytes());
        return out;
    }
    if let Some(half) = half(single) {
        let mut out = vec![0xf9];
        out.extend(half.to_be_bytes());
        return out;
    }
    let mut out = vec![0xfa];
    out.extend(single.to_be_bytes());
    out
}

/// The 16-bit form of a number that has one.
fn half(value: f32) -> Option<u16> {
    let bits = value.to_bits();
    // Shifts of a 32-bit number by 16 fit.
    #[allow(clippy::cast_possible_truncation)]
    let sign = (bits >> 16) as u16 & 0x8000;
    let (exponent, fraction) = ((bits >> 23) & 0xff, bits & 0x7f_ffff);
    let magnitude = match exponent {
        0 if fraction == 0 => 0,
        0xff if fraction == 0 => 0x7c00,
        // Normal: exponents -14 to 15.
        113..=142 if fraction & 0x1fff == 0 => ((exponent - 112) << 10) | (fraction >> 13),
        // Subnormal: the leading one becomes part of the fraction.
        103..=112 => {
            let shift = 126 - exponent;
            let full = fraction | 0x80_0000;
            if full & ((1 << shift) - 1) != 0 {
                return None;
            }
            full >> shift
        }
        _ => return None,
    };
    u16::try_from(magnitude).ok().map(|magnitude| sign | magnitude)
}

/// Whether modes and runtimes fit, except in tests.
pub(crate) fn check_mode(mode: Mode, any: bool, unsafe_options: bool) -> Result<(), HostingError> {
    if unsafe_options {
        return Ok(());
    }
    match mode {
        Mode::Validator | Mode::Seed if any => {
            Err(HostingError::Mode("no runtimes should be configured when in validator or seed modes"))
        }
        Mode::Compute | Mode::KeyManager | Mode::Observer if !any => Err(HostingError::Mode(
            "at least one runtime must be configured when in compute, keymanager, or observer modes",
        )),
        _ => Ok(()),
    }
}

/// The runtimes that entries name, whether or not there are bundles of them.
pub(crate) fn named(config: &Config) -> BTreeSet<Namespace> {
    let entries = config.runtime.runtimes.iter().map(|entry| entry.id.0);
    entries.chain(config.runtime.binaries.iter().map(|binary| binary.id.0)).collect()
}

#[cfg(test)]
mod tests;
