//! Puts today's configuration together from keys of the past.

use std::collections::BTreeMap;

use node_config::Config;
use node_config::yaml::{Kind, Node};

use crate::flatten::{Leaf, under};
use crate::peers::{P2P_PORT, PLACEHOLDER, Peer, is_key};
use crate::rules::{self, Rule, Special};
use crate::{Fate, Finding, Generation, Outcome};

/// Port of the runtime layer's network where older generations had none by default.
const VALIDATOR_P2P_PORT: &str = "9200";

/// A truth value that older keys gave, and where.
#[derive(Debug, Clone, Copy, Default)]
struct Flag {
    line: usize,
    on: bool,
}

/// What is known so far.
pub(crate) struct Builder {
    generation: Generation,
    known: Vec<String>,
    values: BTreeMap<String, Node>,
    /// Keys of today's generation that do not exist; reading the file says so.
    left: Vec<Leaf>,
    findings: Vec<Finding>,
    seen: BTreeMap<String, usize>,
    validator: Option<Flag>,
    compute: Option<Flag>,
    keymanager: Option<Flag>,
    storage: Option<Flag>,
    mode: Option<(usize, String)>,
    entity: Option<Leaf>,
    components: Option<Leaf>,
    binaries: Vec<(String, usize, Node)>,
    signatures: Vec<(String, usize, Node)>,
    supported: Vec<Node>,
}

fn truth(node: &Node) -> Option<bool> {
    match node.as_text()? {
        "true" | "True" | "TRUE" | "t" | "T" | "1" | "yes" | "Yes" | "on" | "On" => Some(true),
        "false" | "False" | "FALSE" | "f" | "F" | "0" | "no" | "No" | "off" | "Off" => Some(false),
        _ => None,
    }
}

/// Items of a list that may also be text with commas or spaces.
fn items(node: &Node) -> Option<Vec<Node>> {
    match &node.kind {
        Kind::List(items) => Some(items.clone()),
        Kind::Scalar { text, .. } => {
            let words = text.split([',', ' ', '\n']).filter(|word| !word.is_empty());
            Some(words.map(|word| Node::text(node.line, word)).collect())
        }
        Kind::Map(_) => None,
    }
}

fn list(line: usize, items: Vec<Node>) -> Node {
    Node { line, kind: Kind::List(items) }
}

fn map(line: usize, entries: Vec<(String, usize, Node)>) -> Node {
    Node { line, kind: Kind::Map(entries) }
}

impl Builder {
    pub(crate) fn new(generation: Generation) -> Self {
        Self {
            generation,
            known: Config::keys(),
            values: BTreeMap::new(),
            left: Vec::new(),
            findings: Vec::new(),
            seen: BTreeMap::new(),
            validator: None,
            compute: None,
            keymanager: None,
            storage: None,
            mode: None,
            entity: None,
            components: None,
            binaries: Vec::new(),
            signatures: Vec::new(),
            supported: Vec::new(),
        }
    }

    fn find(&mut self, leaf: &Leaf, fate: Fate) {
        self.findings.push(Finding { line: leaf.line, key: leaf.key.clone(), fate });
    }

    fn mapped(&mut self, leaf: &Leaf, to: impl Into<String>) {
        self.find(leaf, Fate::Mapped { to: to.into() });
    }

    fn dropped(&mut self, leaf: &Leaf, reason: impl Into<String>) {
        self.find(leaf, Fate::Dropped { reason: reason.into() });
    }

    fn unmapped(&mut self, leaf: &Leaf, reason: impl Into<String>) {
        self.find(leaf, Fate::Unmapped { reason: reason.into() });
    }

    /// Sets a key of today's that one key of the file stands for.
    fn set(&mut self, leaf: &Leaf, to: &str, value: Node) {
        if self.values.contains_key(to) {
            return self.unmapped(leaf, format!("{to}, which it is now, is given by another key too"));
        }
        self.values.insert(to.to_owned(), value);
        if leaf.key != to {
            self.mapped(leaf, to);
        }
    }

    /// Takes one key of the file.
    pub(crate) fn take(&mut self, leaf: Leaf) {
        if self.generation != Generation::Current
            && let Some(first) = self.seen.insert(leaf.key.clone(), leaf.line)
        {
            return self.unmapped(&leaf, format!("given twice, first in line {first}"));
        }
        let table = if self.generation == Generation::Current { rules::SINCE_23 } else { rules::OLD };
        if let Some(rule) = rules::find(table, &leaf.key) {
            return self.apply(rule, leaf);
        }
        let rest = under(&leaf.key, "consensus.tendermint").map(|rest| format!("consensus.{rest}"));
        match rest.filter(|to| self.known.contains(to)) {
            Some(to) if self.generation != Generation::Current => self.set(&leaf, &to, leaf.value.clone()),
            _ if self.generation == Generation::Current => self.keep(leaf),
            _ if self.known.contains(&leaf.key) => self.set(&leaf, &leaf.key.clone(), leaf.value.clone()),
            _ => self.unmapped(&leaf, "not a key of that generation; remove it or correct its name"),
        }
    }

    /// A key that was not mapped: the reader of the new file judges it.
    fn keep(&mut self, leaf: Leaf) {
        if self.known.contains(&leaf.key) && !self.values.contains_key(&leaf.key) {
            self.values.insert(leaf.key, leaf.value);
        } else {
            self.left.push(leaf);
        }
    }

    fn apply(&mut self, rule: Rule, leaf: Leaf) {
        match rule {
            Rule::To(to) => self.set(&leaf, to, leaf.value.clone()),
            Rule::Time(to) => {
                let text = leaf.value.as_text().unwrap_or_default();
                let bare = !text.is_empty() && text != "0" && text.bytes().all(|c| c.is_ascii_digit());
                let value = if bare { Node::text(leaf.value.line, format!("{text}ns")) } else { leaf.value.clone() };
                self.set(&leaf, to, value);
            }
            Rule::List(to) => match items(&leaf.value) {
                Some(items) => self.set(&leaf, to, list(leaf.value.line, items)),
                None => self.unmapped(&leaf, "found a map, expected a list"),
            },
            Rule::Not(to) => {
                if let Some(on) = self.flag(&leaf) {
                    self.set(&leaf, to, Node::word(leaf.value.line, if on.on { "false" } else { "true" }));
                }
            }
            Rule::Gone(reason) => self.dropped(&leaf, reason),
            Rule::CommandLine => {
                let flag = format!("--{}", leaf.key);
                self.unmapped(&leaf, format!("give it on the command line, as {flag}, or remove it"));
            }
            Rule::Operator(reason) => self.unmapped(&leaf, reason),
            Rule::Special(special) => self.special(special, leaf),
        }
    }

    fn flag(&mut self, leaf: &Leaf) -> Option<Flag> {
        let found = truth(&leaf.value).map(|on| Flag { line: leaf.line, on });
        if found.is_none() {
            self.unmapped(leaf, format!("found {}, expected true or false", leaf.value.describe()));
        }
        found
    }

    fn special(&mut self, special: Special, leaf: Leaf) {
        match special {
            Special::Validator => self.validator = self.flag(&leaf),
            Special::ComputeEnabled => self.compute = self.flag(&leaf),
            Special::KeymanagerEnabled => self.keymanager = self.flag(&leaf),
            Special::StorageEnabled => self.storage = self.flag(&leaf),
            Special::ConsensusMode => match leaf.value.as_text() {
                Some("full") => self.dropped(&leaf, "it is what every node is that is neither seed nor archive"),
                Some(mode @ ("seed" | "archive")) => self.wants(&leaf, mode),
                _ => self.unmapped(&leaf, format!("found {}, expected full, seed or archive", leaf.value.describe())),
            },
            Special::RuntimeMode => match leaf.value.as_text() {
                Some("none") => self.dropped(&leaf, "the mode of a node is chosen by `mode`"),
                Some(mode @ ("compute" | "keymanager" | "client")) => self.wants(&leaf, mode),
                Some("client-stateless") => self.stateless(&leaf),
                _ => {
                    let found = leaf.value.describe();
                    self.unmapped(
                        &leaf,
                        format!("found {found}, expected none, compute, keymanager, client or client-stateless"),
                    );
                }
            },
            Special::Mode => match leaf.value.as_text() {
                Some("stateless-client") => self.stateless(&leaf),
                _ => self.keep(leaf),
            },
            Special::LogLevel => self.log_level(leaf),
            Special::Seeds => self.seeds(leaf),
            Special::Peers(to) => self.peers(to, leaf),
            Special::PeerIds(to) => self.peer_ids(to, leaf),
            Special::Supported => match items(&leaf.value) {
                Some(items) => {
                    self.supported = items;
                    self.mapped(&leaf, "runtime.runtimes[].id");
                }
                None => self.unmapped(&leaf, "found a map, expected a list of runtime ids"),
            },
            Special::Paths => match &leaf.value.kind {
                Kind::Map(entries) => {
                    self.binaries = entries.clone();
                    self.mapped(&leaf, "runtime.binaries[].path");
                }
                _ => match items(&leaf.value) {
                    Some(items) => self.set(&leaf, "runtime.paths", list(leaf.value.line, items)),
                    None => self.keep(leaf),
                },
            },
            Special::Signatures => match &leaf.value.kind {
                Kind::Map(entries) => {
                    self.signatures = entries.clone();
                    self.mapped(&leaf, "runtime.binaries[].signature");
                }
                _ => self.unmapped(&leaf, "expected a map from runtime ids to files"),
            },
            Special::Entity => self.entity = Some(leaf),
            Special::Components => self.components = Some(leaf),
        }
    }

    fn wants(&mut self, leaf: &Leaf, mode: &str) {
        match &self.mode {
            Some((line, other)) if other != mode => {
                let reason = format!("mode {mode} can't be had together with mode {other} of line {line}");
                self.unmapped(leaf, reason);
            }
            _ => {
                self.mode = Some((leaf.line, mode.to_owned()));
                self.mapped(leaf, format!("mode: {mode}"));
            }
        }
    }

    fn stateless(&mut self, leaf: &Leaf) {
        self.mode = Some((leaf.line, "client".to_owned()));
        self.values.insert("consensus.local_storage".to_owned(), Node::word(leaf.line, "false"));
        self.mapped(leaf, "mode: client with consensus.local_storage: false");
    }

    fn log_level(&mut self, leaf: Leaf) {
        let entries = match &leaf.value.kind {
            Kind::Map(entries) => {
                let renamed = |name: &str| name.replace("tendermint", "cometbft");
                entries.iter().map(|(name, line, level)| (renamed(name), *line, level.clone())).collect()
            }
            Kind::Scalar { .. } => vec![("default".to_owned(), leaf.line, leaf.value.clone())],
            Kind::List(_) => return self.unmapped(&leaf, "found a list, expected a level, or levels by module"),
        };
        self.set(&leaf, "common.log.level", map(leaf.value.line, entries));
    }

    /// Peers of a list, with findings for those whose key is not known.
    fn translate(&mut self, leaf: &Leaf) -> Vec<(usize, Peer)> {
        let Some(items) = items(&leaf.value) else {
            self.unmapped(leaf, "found a map, expected a list of ID@IP:port");
            return Vec::new();
        };
        let mut peers = Vec::new();
        for item in items {
            let text = item.as_text().unwrap_or_default();
            let peer = Peer::translate(text);
            if !peer.known {
                let at = Leaf { key: leaf.key.clone(), line: item.line, value: item.clone() };
                let reason = format!(
                    "{text:?} names a hash; peers are named by public key now: ask the peer's operator for it (`oasis-node \
                     control status`, consensus.p2p.pub_key) and put it in the place of {PLACEHOLDER}"
                );
                self.unmapped(&at, reason);
            }
            peers.push((item.line, peer));
        }
        peers
    }

    fn seeds(&mut self, leaf: Leaf) {
        let mut seeds: Vec<Node> = Vec::new();
        for (line, peer) in self.translate(&leaf) {
            for text in std::iter::once(peer.to_text()).chain(peer.on_p2p_port()) {
                if !seeds.iter().any(|seed| seed.as_text() == Some(text.as_str())) {
                    seeds.push(Node::text(line, text));
                }
            }
        }
        self.set(&leaf, "p2p.seeds", list(leaf.value.line, seeds));
    }

    fn peers(&mut self, to: &str, leaf: Leaf) {
        let peers = self.translate(&leaf).into_iter().map(|(line, peer)| Node::text(line, peer.to_text())).collect();
        self.set(&leaf, to, list(leaf.value.line, peers));
    }

    fn peer_ids(&mut self, to: &str, leaf: Leaf) {
        let ids = items(&leaf.value).unwrap_or_default();
        let mut keys = Vec::new();
        for id in ids {
            let text = id.as_text().unwrap_or_default();
            if !is_key(text) {
                let at = Leaf { key: leaf.key.clone(), line: id.line, value: id.clone() };
                self.unmapped(
                    &at,
                    format!("{text:?} is a hash; put the peer's public key in the place of {PLACEHOLDER}"),
                );
            }
            keys.push(Node::text(id.line, if is_key(text) { text } else { PLACEHOLDER }));
        }
        self.set(&leaf, to, list(leaf.value.line, keys));
    }

    /// The configuration and what became of each key.
    pub(crate) fn finish(mut self) -> Outcome {
        if self.generation != Generation::Current {
            self.finish_mode();
            self.finish_runtimes();
            self.finish_defaults();
        } else if let Some((line, mode)) = self.mode.take() {
            self.values.insert("mode".to_owned(), Node::word(line, mode));
        }
        self.finish_components();
        self.findings.sort_by_key(|finding| finding.line);
        let mut tree = map(1, Vec::new());
        for key in &self.known {
            if let Some(value) = self.values.remove(key) {
                insert(&mut tree, key, value.line, value);
            }
        }
        for leaf in self.left {
            insert(&mut tree, &leaf.key, leaf.line, leaf.value);
        }
        Outcome { generation: self.generation, tree, findings: self.findings }
    }

    /// Which of the parts that used to be enabled one by one is the node's mode.
    fn finish_mode(&mut self) {
        let leaf = |key: &str, line| Leaf { key: key.to_owned(), line, value: Node::word(line, "true") };
        for (flag, key, mode) in [
            (self.compute, "worker.compute.enabled", "compute"),
            (self.keymanager, "worker.keymanager.enabled", "keymanager"),
        ] {
            match flag {
                Some(Flag { line, on: true }) => self.wants(&leaf(key, line), mode),
                Some(Flag { line, on: false }) => {
                    self.dropped(&leaf(key, line), "the mode of a node is chosen by `mode`")
                }
                None => {}
            }
        }
        if let Some(Flag { line, on }) = self.storage {
            let leaf = leaf("worker.storage.enabled", line);
            if on && self.mode.is_none() {
                let reason =
                    "nodes for storage alone do not exist any more: enable worker.compute to execute, or remove it";
                self.unmapped(&leaf, reason);
            } else {
                self.dropped(&leaf, "every node of a runtime keeps its state");
            }
        }
        let validates = self.validator.is_some_and(|flag| flag.on);
        if let Some(Flag { line, on }) = self.validator {
            let runtimes =
                self.values.contains_key("runtime.paths") || !self.binaries.is_empty() || !self.supported.is_empty();
            let leaf = leaf("consensus.validator", line);
            if on && self.mode.is_none() && !runtimes {
                self.wants(&leaf, "validator");
                self.register_validator(line);
            } else {
                self.values
                    .insert("consensus.validator".to_owned(), Node::word(line, if on { "true" } else { "false" }));
            }
        }
        let (line, mode) = self.mode.clone().unwrap_or((1, "client".to_owned()));
        self.values.insert("mode".to_owned(), Node::word(line, mode.clone()));
        if let Some(leaf) = self.entity.take() {
            if mode == "client" && !validates {
                self.dropped(&leaf, "a client does not register");
            } else {
                let value = leaf.value.clone();
                self.set(&leaf, "registration.entity", value);
            }
        }
    }

    /// Validators had no network of the runtime layer; today each has one and registers its address.
    fn register_validator(&mut self, line: usize) {
        let missing = |key: &str| !self.values.contains_key(key);
        let external = self.values.get("consensus.external_address").and_then(Node::as_text);
        let host =
            external.and_then(|address| address.trim_start_matches("tcp://").rsplit_once(':')).map(|(host, _)| host);
        if missing("p2p.port") && missing("p2p.registration.addresses") {
            if let Some(host) = host {
                let address = Node::text(line, format!("{host}:{P2P_PORT}"));
                self.values.insert("p2p.registration.addresses".to_owned(), list(line, vec![address]));
            }
            self.values.insert("p2p.port".to_owned(), Node::word(line, VALIDATOR_P2P_PORT));
        }
    }

    fn finish_runtimes(&mut self) {
        let signatures = std::mem::take(&mut self.signatures);
        let same = |a: &str, b: &str| a.eq_ignore_ascii_case(b);
        let binaries = std::mem::take(&mut self.binaries);
        for (id, line, signature) in &signatures {
            if !binaries.iter().any(|(other, ..)| same(other, id)) {
                let leaf = Leaf { key: "runtime.sgx.signatures".to_owned(), line: *line, value: signature.clone() };
                self.unmapped(&leaf, format!("no runtime {id} in runtime.paths"));
            }
        }
        let mut entries = Vec::new();
        for (id, line, path) in &binaries {
            let mut entry =
                vec![("id".to_owned(), *line, Node::text(*line, id.clone())), ("path".to_owned(), *line, path.clone())];
            if let Some((_, line, signature)) = signatures.iter().find(|(other, ..)| same(other, id)) {
                entry.push(("signature".to_owned(), *line, signature.clone()));
            }
            entries.push(map(*line, entry));
        }
        if let Some(first) = entries.first() {
            self.values.insert("runtime.binaries".to_owned(), list(first.line, entries));
        }
        let runtimes: Vec<Node> = std::mem::take(&mut self.supported)
            .into_iter()
            .map(|id| {
                let line = id.line;
                map(line, vec![("id".to_owned(), line, id)])
            })
            .collect();
        if let Some(first) = runtimes.first() {
            self.values.insert("runtime.runtimes".to_owned(), list(first.line, runtimes));
        }
    }

    /// Where the default has changed, what the file meant is said.
    fn finish_defaults(&mut self) {
        let text = |this: &Self, key: &str| this.values.get(key).and_then(Node::as_text).map(str::to_owned);
        for (when, is, then, old) in [
            ("consensus.prune.strategy", Some("keep_n"), "consensus.prune.num_kept", "3600"),
            ("runtime.prune.strategy", Some("keep_last"), "runtime.prune.num_kept", "600"),
            ("consensus.light_client.trust.hash", None, "consensus.light_client.trust.period", "24h"),
        ] {
            let holds = text(self, when).is_some_and(|value| is.is_none_or(|is| is == value) && !value.is_empty());
            if holds && !self.values.contains_key(then) {
                let line = self.values.get(when).map_or(1, |node| node.line);
                self.values.insert(then.to_owned(), Node::word(line, old));
            }
        }
    }

    /// Components used to be named without their runtime.
    fn finish_components(&mut self) {
        let Some(leaf) = self.components.take() else { return };
        let mut runtimes: Vec<(Option<Node>, Node)> = Vec::new();
        if let Some(Node { kind: Kind::List(entries), .. }) = self.values.get("runtime.runtimes") {
            for entry in entries {
                let Kind::Map(keys) = &entry.kind else { continue };
                if let Some((_, _, id)) = keys.iter().find(|(key, ..)| key == "id") {
                    runtimes.push((Some(entry.clone()), id.clone()));
                }
            }
        }
        if let Some(Node { kind: Kind::Map(entries), .. }) = self.values.get("runtime.config") {
            runtimes.extend(entries.iter().map(|(id, line, _)| (None, Node::text(*line, id.clone()))));
            runtimes.dedup_by(|a, b| a.1.as_text() == b.1.as_text());
        }
        let [(entry, id)] = runtimes.as_slice() else {
            let reason = "components belong to a runtime now: put them into runtime.runtimes[].components of theirs";
            return self.unmapped(&leaf, reason);
        };
        let mut keys = match entry {
            Some(Node { kind: Kind::Map(keys), .. }) => keys.clone(),
            _ => vec![("id".to_owned(), leaf.line, id.clone())],
        };
        if keys.iter().any(|(key, ..)| key == "components") {
            return self.unmapped(&leaf, "runtime.runtimes[0].components, which it is now, is given too");
        }
        keys.push(("components".to_owned(), leaf.line, leaf.value.clone()));
        self.values.insert("runtime.runtimes".to_owned(), list(leaf.line, vec![map(leaf.line, keys)]));
        self.mapped(&leaf, "runtime.runtimes[0].components");
    }
}

/// Puts a value at a dotted path.
fn insert(tree: &mut Node, path: &str, line: usize, value: Node) {
    let Kind::Map(entries) = &mut tree.kind else { return };
    match path.split_once('.') {
        None => entries.push((path.to_owned(), line, value)),
        Some((first, rest)) => {
            let at = entries.iter().position(|(key, _, node)| key == first && matches!(node.kind, Kind::Map(_)));
            let at = at.unwrap_or_else(|| {
                entries.push((first.to_owned(), line, map(line, Vec::new())));
                entries.len() - 1
            });
            if let Some((_, _, section)) = entries.get_mut(at) {
                insert(section, rest, line, value);
            }
        }
    }
}
