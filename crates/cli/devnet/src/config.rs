//! The configuration file of each node.

use std::fmt::Write as _;

use crate::plan::{Node, Plan, Role};

/// What the configurations of a network have in common.
pub(crate) struct Common<'a> {
    pub(crate) plan: &'a Plan,
    /// `KEY@HOST:PORT` of the seed, for the consensus layer and for the others.
    pub(crate) seeds: &'a [String],
    /// The entity of the validators, base64.
    pub(crate) entity: &'a str,
    /// The nodes run as root.
    pub(crate) root: bool,
}

/// The text of a node's configuration.
pub(crate) fn text(common: &Common<'_>, node: &Node) -> String {
    let mut text = String::new();
    let (data, log) = (quoted(&node.dir.display()), quoted(&node.log().display()));
    let genesis = quoted(&common.plan.genesis_file().display());
    let (consensus, p2p) = (node.consensus_port, node.p2p_port);
    // Writing into a string cannot fail.
    let _ = write!(
        text,
        "mode: {mode}\n\
         common:\n  data_dir: {data}\n  log:\n    file: {log}\n    format: logfmt\n    level:\n      default: info\n",
        mode = node.role.mode(),
    );
    if common.root {
        text.push_str("  debug:\n    allow_root: true\n");
    }
    let _ = write!(
        text,
        "genesis:\n  file: {genesis}\n\
         consensus:\n  listen_address: tcp://127.0.0.1:{consensus}\n  external_address: tcp://127.0.0.1:{consensus}\n",
    );
    if node.role == Role::Validator {
        text.push_str("  validator: true\n");
    }
    text.push_str("  p2p:\n    allow_duplicate_ip: true\n    send_rate: 51200000\n    recv_rate: 51200000\n");
    text.push_str("  debug:\n    addr_book_lenient: true\n");
    let _ = write!(text, "p2p:\n  port: {p2p}\n");
    if node.role != Role::Seed {
        text.push_str("  seeds:\n");
        for seed in common.seeds {
            let _ = writeln!(text, "    - {}", quoted(seed));
        }
    }
    if matches!(node.role, Role::Validator | Role::Compute) {
        let _ = write!(text, "registration:\n  entity_id: {}\n", quoted(&common.entity));
    }
    if let Some(paratime) = &common.plan.paratime
        && matches!(node.role, Role::Compute | Role::Client)
    {
        let bundle = quoted(&common.plan.bundle_file().display());
        let provisioner = if paratime.sandboxed { "sandboxed" } else { "unconfined" };
        let _ = write!(text, "runtime:\n  provisioner: {provisioner}\n  paths:\n    - {bundle}\n");
        if paratime.checkpoint_interval > 0 && node.role == Role::Compute {
            text.push_str("storage:\n  checkpointer:\n    enabled: true\n    check_interval: 1s\n");
        }
    }
    text
}

/// A YAML string in single quotes.
fn quoted(value: &impl std::fmt::Display) -> String {
    format!("'{}'", value.to_string().replace('\'', "''"))
}
