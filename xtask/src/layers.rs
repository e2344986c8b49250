//! Which crate lies in which layer: the one table of allowed edges.
//!
//! An edge goes to the same or a lower layer. L0–L2 are pure: no I/O, clock, randomness, threads or async runtime.

/// A layer; `Dev` is outside the order: nothing but `Dev` depends on it, except as a development dependency.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Layer {
    /// Bytes, keys, primitive types.
    L0,
    /// Wire formats.
    L1,
    /// State machines and rules.
    L2,
    /// Services, storage, network.
    L3,
    /// Composition and commands.
    L4,
    /// Binaries.
    L5,
    /// Tests and tools.
    Dev,
}

use Layer::{Dev, L0, L1, L2, L3, L4, L5};

/// Folder of a crate, or `family/*` for all others of a family, and its layer.
const TABLE: &[(&str, Layer)] = &[
    ("crates/base/codec", L0),
    ("crates/base/codec-derive", L0),
    ("crates/base/crypto", L0),
    ("crates/base/prims", L0),
    ("crates/base/grpc", L3),
    ("crates/base/identity", L3),
    ("crates/base/kv", L3),
    ("crates/base/metrics", L3),
    ("crates/base/kv-disk", L3),
    ("crates/base/service", L3),
    ("crates/base/signer", L3),
    // It names the proof and quote types of the tree and of attestation.
    ("crates/wire/runtime", L2),
    ("crates/wire/*", L1),
    ("crates/comet/core", L2),
    ("crates/comet/chain", L2),
    ("crates/comet/*", L3),
    ("crates/mkvs/tree", L2),
    ("crates/mkvs/db", L3),
    ("crates/apps/*", L2),
    ("crates/rt/tee", L2),
    ("crates/rt/bundle", L3),
    ("crates/rt/host", L3),
    ("crates/rt/guest", L3),
    ("crates/rt/keymanager", L3),
    ("crates/rt/executor", L3),
    ("crates/rt/history", L3),
    ("crates/rt/storage", L3),
    ("crates/mc/crypto", L2),
    ("crates/mc/tx", L2),
    ("crates/mc/scp", L2),
    ("crates/mc/attest", L3),
    ("crates/mc/config", L3),
    ("crates/mc/ledger", L3),
    ("crates/mc/service", L4),
    ("crates/p2p/*", L3),
    ("crates/pt/*", L3),
    ("crates/node/*", L4),
    ("crates/cli/*", L4),
    ("bin/*", L5),
    ("crates/dev/*", Dev),
    ("xtask", Dev),
];

/// The layer of the crate in that folder, if the table has it.
pub(crate) fn layer_of(dir: &str) -> Option<Layer> {
    let exact = TABLE.iter().find(|(path, _)| *path == dir);
    let family = || {
        let (parent, _) = dir.rsplit_once('/')?;
        TABLE.iter().find(|(path, _)| path.strip_suffix("/*") == Some(parent))
    };
    exact.or_else(family).map(|(_, layer)| *layer)
}

/// Why the edge is not allowed, if it is not. `dev` marks a development dependency.
pub(crate) fn refuse(from: &str, to: &str, dev: bool) -> Option<String> {
    let (Some(a), Some(b)) = (layer_of(from), layer_of(to)) else {
        return None;
    };
    match (a, b) {
        (Dev, _) => None,
        (_, Dev) if dev => None,
        (_, Dev) => Some(format!("{from} ({a:?}) may depend on {to} (Dev) for tests only")),
        _ if b > a => Some(format!("{from} ({a:?}) depends on {to} ({b:?}), a higher layer")),
        _ if family(from) == "mc" && !matches!(family(to), "mc" | "base") && to != "crates/wire/mobilecoin" => {
            Some(format!("{from} depends on {to}; the mc family shares only base"))
        }
        _ if family(from) == "pt" && family(to) == "node" => {
            Some(format!("{from} depends on {to}; ParaTimes and the node meet only in wire"))
        }
        _ if a != L5 && b == L5 => Some(format!("{from} depends on a binary, {to}")),
        _ => None,
    }
}

/// `crates/FAMILY/NAME` → `FAMILY`.
fn family(dir: &str) -> &str {
    dir.strip_prefix("crates/").and_then(|rest| rest.split('/').next()).unwrap_or("")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_exact_rows_before_families() {
        assert_eq!(layer_of("crates/base/kv"), Some(L3));
        assert_eq!(layer_of("crates/wire/consensus"), Some(L1));
        assert_eq!(layer_of("crates/wire/runtime"), Some(L2));
        assert_eq!(layer_of("bin/oasis-node"), Some(L5));
        assert_eq!(layer_of("crates/base/unheard-of"), None);
    }

    #[test]
    fn refuses_wrong_edges() {
        let refused = |from: &str, to: &str, dev: bool| refuse(from, to, dev).is_some();
        assert!(refused("crates/base/prims", "crates/wire/consensus", false));
        assert!(refused("crates/base/prims", "crates/dev/testkit", false));
        assert!(refused("crates/mc/tx", "crates/wire/consensus", false));
        assert!(!refused("crates/mc/tx", "crates/wire/mobilecoin", false));
        assert!(refused("crates/wire/net", "crates/base/kv", true));
        assert!(!refused("crates/base/prims", "crates/dev/testkit", true));
        assert!(!refused("crates/wire/consensus", "crates/base/prims", false));
        assert!(!refused("xtask", "crates/wire/consensus", false));
    }
}
