//! A file as a list of dotted keys, as the flag library of older generations saw it.

use node_config::yaml::{Kind, Node};

use crate::Generation;

/// A key with its value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Leaf {
    /// Dotted path.
    pub(crate) key: String,
    /// Line of the key.
    pub(crate) line: usize,
    /// The value.
    pub(crate) value: Node,
}

/// Keys whose value is a map of free names.
const MAPS: [&str; 6] =
    ["log.level", "metrics.labels", "runtime.config", "runtime.paths", "runtime.sgx.signatures", "common.log.level"];

/// Top-level keys that only today's generation has.
const CURRENT: [&str; 7] = ["mode", "common", "p2p", "registration", "keymanager", "storage", "sentry"];

fn entries(node: &Node) -> &[(String, usize, Node)] {
    match &node.kind {
        Kind::Map(entries) => entries,
        _ => &[],
    }
}

/// Which keys a file uses; `None` if it is not a map.
pub(crate) fn generation(tree: &Node) -> Option<Generation> {
    let Kind::Map(top) = &tree.kind else {
        return tree.is_null().then_some(Generation::Current);
    };
    if top.iter().any(|(key, ..)| CURRENT.contains(&key.as_str())) {
        return Some(Generation::Current);
    }
    let leaves = flatten(tree, Generation::Workers);
    let has = |prefix: &str| leaves.iter().any(|leaf| leaf.key == prefix || under(&leaf.key, prefix).is_some());
    let map_of_paths = leaves.iter().any(|leaf| leaf.key == "runtime.paths" && matches!(leaf.value.kind, Kind::Map(_)));
    if map_of_paths
        || ["runtime.supported", "runtime.sgx.signatures", "worker.compute", "worker.client"].into_iter().any(has)
    {
        return Some(Generation::Workers);
    }
    let old = [
        "datadir",
        "log",
        "debug",
        "grpc",
        "worker",
        "signer",
        "consensus.tendermint",
        "consensus.backend",
        "runtime.mode",
        "runtime.sandbox",
        "runtime.history",
        "pprof.bind",
        "ias.proxy",
        "ias.debug",
    ];
    Some(if old.into_iter().any(has) { Generation::RuntimeMode } else { Generation::Current })
}

/// What follows the prefix and a dot.
pub(crate) fn under<'a>(key: &'a str, prefix: &str) -> Option<&'a str> {
    key.strip_prefix(prefix)?.strip_prefix('.')
}

/// All keys that have a value, in the order of the file. Older generations did not know upper case in keys, and took
/// dotted keys at any level.
pub(crate) fn flatten(tree: &Node, generation: Generation) -> Vec<Leaf> {
    let mut out = Vec::new();
    walk(tree, "", generation, &mut out);
    out
}

fn walk(node: &Node, path: &str, generation: Generation, out: &mut Vec<Leaf>) {
    for (key, line, value) in entries(node) {
        let name = match generation {
            Generation::Current => key.clone(),
            _ => key.to_lowercase(),
        };
        let key_path = if path.is_empty() { name } else { format!("{path}.{name}") };
        if let Some(map) = MAPS.iter().find(|map| under(&key_path, map).is_some()) {
            // An entry of a free map in dotted form. Its name keeps its case.
            let length = key_path.len() - map.len() - 1;
            let name = key.get(key.len().saturating_sub(length)..).unwrap_or(key).to_owned();
            add_to_map(map, *line, (name, *line, value.clone()), out);
        } else if MAPS.contains(&key_path.as_str()) && !entries(value).is_empty() {
            entries(value).iter().for_each(|entry| add_to_map(&key_path, *line, entry.clone(), out));
        } else if matches!(value.kind, Kind::Map(_)) {
            walk(value, &key_path, generation, out);
        } else if !value.is_null() {
            out.push(Leaf { key: key_path, line: *line, value: value.clone() });
        }
    }
}

fn add_to_map(map: &str, line: usize, entry: (String, usize, Node), out: &mut Vec<Leaf>) {
    let known = out.iter_mut().find(|leaf| leaf.key == map);
    match known.map(|leaf| &mut leaf.value.kind) {
        Some(Kind::Map(entries)) => entries.push(entry),
        _ => {
            out.push(Leaf { key: map.to_owned(), line, value: Node { line, kind: Kind::Map(vec![entry]) } });
        }
    }
}
