//! The configuration file of each node.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::blueprint::{Blueprint, NodePlan};
use crate::fixture::overlay;
use crate::plan::{Node, Plan, Role};

/// What the configurations of a network have in common.
pub(crate) struct Common<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) blueprint: &'a Blueprint,
    /// `KEY@HOST:PORT` of the seeds, for the consensus layer and for the others.
    pub(crate) seeds: &'a [String],
    /// The entities, base64.
    pub(crate) entities: &'a [String],
    /// Bundles by runtime.
    pub(crate) bundles: &'a [Vec<String>],
    /// The nodes run as root.
    pub(crate) root: bool,
}

/// The text of a node's configuration.
pub(crate) fn text(common: &Common<'_>, node: &Node, plan: &NodePlan) -> String {
    let (consensus, p2p) = (node.consensus_port, node.p2p_port);
    let address = format!("tcp://127.0.0.1:{consensus}");
    let mut config = json!({
        "mode": node.role.mode(),
        "common": {
            "data_dir": node.dir.display().to_string(),
            "log": {
                "file": node.log().display().to_string(),
                "format": "logfmt",
                "level": { "default": "info" },
            },
            "debug": { "allow_root": common.root.then_some(true) },
        },
        "genesis": { "file": common.plan.genesis_file().display().to_string() },
        "consensus": {
            "listen_address": address,
            "external_address": address,
            "validator": (node.role == Role::Validator).then_some(true),
            "p2p": { "allow_duplicate_ip": true, "send_rate": 51_200_000, "recv_rate": 51_200_000 },
            "debug": { "addr_book_lenient": true },
        },
        "p2p": { "port": p2p, "seeds": if node.role == Role::Seed { &[] } else { common.seeds } },
        "registration": { "entity_id": plan.entity.and_then(|place| common.entities.get(place)) },
    });
    let hosted: Vec<_> = common.blueprint.hosted(plan).collect();
    if !hosted.is_empty() {
        let bundles = plan.runtimes.iter().filter_map(|place| common.bundles.get(*place)).flatten();
        let configured = plan.runtime_config.iter().filter_map(|(place, config)| {
            let runtime = common.blueprint.runtimes.get(*place)?;
            Some(json!({ "id": runtime.id.to_string(), "config": config }))
        });
        let prune = hosted.iter().find_map(|runtime| runtime.prune.clone());
        overlay(
            &mut config,
            &json!({ "runtime": {
                "provisioner": plan.provisioner,
                "paths": bundles.collect::<Vec<_>>(),
                "runtimes": configured.collect::<Vec<_>>(),
                "prune": prune,
                // Nothing is fetched from elsewhere.
                "registries": Value::Array(Vec::new()),
            } }),
        );
        if let (Role::KeyManager, Some(runtime)) = (node.role, hosted.first()) {
            overlay(&mut config, &json!({ "keymanager": { "runtime_id": runtime.id.to_string() } }));
        }
    }
    overlay(&mut config, &common.blueprint.settings);
    overlay(&mut config, &plan.settings);
    let mut out = String::new();
    if let Value::Object(fields) = &config {
        fields.iter().for_each(|(key, value)| field(&mut out, key, value, 0));
    }
    out
}

/// Whether a part of a configuration says nothing; an empty list says that there are none.
fn is_silent(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(fields) => fields.values().all(is_silent),
        _ => false,
    }
}

/// A key with its value, as YAML.
fn field(out: &mut String, key: &str, value: &Value, indent: usize) {
    if is_silent(value) {
        return;
    }
    let space = " ".repeat(indent);
    // Writing into a string cannot fail.
    let _ = write!(out, "{space}{}:", plain(key));
    match value {
        Value::Object(fields) => {
            out.push('\n');
            fields.iter().for_each(|(key, value)| field(out, key, value, indent + 2));
        }
        Value::Array(items) if !items.is_empty() => {
            out.push('\n');
            for item in items {
                let _ = writeln!(out, "{space}  - {}", scalar(item));
            }
        }
        value => {
            let _ = writeln!(out, " {}", scalar(value));
        }
    }
}

/// A key as it is, if that can be.
fn plain(key: &str) -> String {
    let is_word = !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c));
    if is_word { key.to_owned() } else { quoted(key) }
}

/// A value on one line; lists and objects as in JSON, which YAML reads too.
fn scalar(value: &Value) -> String {
    match value {
        Value::String(text) => quoted(text),
        value => value.to_string(),
    }
}

/// A YAML string in single quotes.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
