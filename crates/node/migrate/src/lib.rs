//! Configurations of older generations mapped to today's.
//!
//! Layer: L4, pure: text in, text and a list of findings out. Reference counterpart: `go/oasis-node/cmd/config/migrate` of
//! the releases 23.0 to 24.3; the reference removed it afterwards, and it never knew files of 2021.
//!
//! It reads no files, opens no bundles and does not decide what a node is; it only says with today's keys what the file said
//! with those of its time.
//!
//! Main types: [`migrate`] gives an [`Outcome`] with the new text for `config migrate`; [`load`] gives the [`Config`] that a
//! node starts with, whatever its file's [`Generation`]; [`Finding`] is one key that was mapped, dropped or could not be
//! mapped.
//!
//! Invariants: no key that is set is lost without a finding; a file of today's generation without keys of the past comes out
//! as it went in; what can't be mapped never starts a node.
//!
//! Tests: files as the guides of 2021, 2022 and today print them, with the configuration that must come out; tables of single
//! keys; every row of the table leads to a key that exists.

mod build;
mod flatten;
mod peers;
mod rules;

use std::fmt;

use node_config::yaml::Node;
use node_config::{Config, ConfigError, Problem};

use crate::build::Builder;

/// Which keys a file uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Generation {
    /// 21.x and before: dotted flags, workers enabled one by one, runtimes as bare binaries.
    Workers,
    /// 22.x: dotted flags, `runtime.mode` and bundles.
    RuntimeMode,
    /// 23.0 and later.
    Current,
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Workers => "21.x",
            Self::RuntimeMode => "22.x",
            Self::Current => "23.0 or later",
        })
    }
}

/// What became of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Line of the file.
    pub line: usize,
    /// The key as it is in the file, in the case that counts.
    pub key: String,
    /// What became of it.
    pub fate: Fate,
}

/// What became of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// It has another name or form.
    Mapped {
        /// Today's key, with its value where that says more.
        to: String,
    },
    /// It has no effect any more.
    Dropped {
        /// Why.
        reason: String,
    },
    /// The operator must decide.
    Unmapped {
        /// Why, and what to do.
        reason: String,
    },
}

impl Finding {
    /// Whether the operator must decide.
    pub fn is_unmapped(&self) -> bool {
        matches!(self.fate, Fate::Unmapped { .. })
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { line, key, fate } = self;
        match fate {
            Fate::Mapped { to } => write!(f, "line {line}: {key} is now {to}"),
            Fate::Dropped { reason } => write!(f, "line {line}: {key} has no effect any more: {reason}"),
            Fate::Unmapped { reason } => write!(f, "line {line}: {key}: {reason}"),
        }
    }
}

/// A migrated file.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// Which keys the file used.
    pub generation: Generation,
    /// The configuration with today's keys, with the lines of the file it came from.
    pub tree: Node,
    /// Keys that were mapped, dropped or could not be mapped, in the order of the file.
    pub findings: Vec<Finding>,
}

impl Outcome {
    /// The new file. What could not be mapped stands in comments at its end.
    pub fn to_yaml(&self) -> String {
        let mut out = self.tree.to_yaml();
        let mut left = self.findings.iter().filter(|finding| finding.is_unmapped()).peekable();
        if left.peek().is_some() {
            out.push_str("\n# Not migrated, with the lines of the old file:\n");
        }
        for finding in left {
            // A value may hold line breaks; nothing of it must leave the comment.
            out.push_str(&format!("#   {}\n", finding.to_string().replace(['\n', '\r'], " ")));
        }
        out
    }
}

/// Why a file can't be migrated.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// It is not YAML, or not a map of keys.
    #[error("line {line}: not valid YAML: {reason}")]
    Syntax {
        /// The line.
        line: usize,
        /// Why.
        reason: String,
    },
}

/// Why a node can't start with a file.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// As for any file.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A file of an older generation with keys that have no counterpart.
    #[error(
        "config file '{path}' is of generation {generation} and can't be used as it is; run `oasis-node config migrate \
         --in {path} --out NEW.yml` and settle:{}", list(.unmapped)
    )]
    Unmapped {
        /// The file.
        path: String,
        /// Its generation.
        generation: Generation,
        /// What can't be mapped.
        unmapped: Vec<Finding>,
    },
}

fn list(findings: &[Finding]) -> String {
    findings.iter().map(|finding| format!("\n  {finding}")).collect()
}

/// A configuration to start with.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// Which keys the file used.
    pub generation: Generation,
    /// Keys that were mapped or dropped; empty for a file with today's keys alone.
    pub findings: Vec<Finding>,
}

/// Maps the text of a file of any generation. Variables of the environment are left as they are.
///
/// # Errors
/// If the text is not a YAML map.
pub fn migrate(text: &str) -> Result<Outcome, MigrateError> {
    let syntax = |line, reason: &str| MigrateError::Syntax { line, reason: reason.to_owned() };
    let tree = node_config::yaml::parse(text).map_err(|error| syntax(error.line, &error.message))?;
    match tree {
        Some(tree) => migrate_tree(&tree).ok_or_else(|| syntax(tree.line, "expected a map of keys and values")),
        None => Ok(Outcome { generation: Generation::Current, tree: Node::word(1, "{}"), findings: Vec::new() }),
    }
}

/// Maps a parsed file; `None` if it is not a map.
fn migrate_tree(tree: &Node) -> Option<Outcome> {
    let generation = flatten::generation(tree)?;
    let mut builder = Builder::new(generation);
    flatten::flatten(tree, generation).into_iter().for_each(|leaf| builder.take(leaf));
    Some(builder.finish())
}

/// Reads and checks a configuration of any generation: `name` is its path, `lookup` gives variables of the environment.
///
/// # Errors
/// Everything that is wrong with it, or everything that has no counterpart today, all at once.
pub fn load(name: &str, text: &str, lookup: &dyn Fn(&str) -> Option<String>) -> Result<Loaded, LoadError> {
    let Some(tree) = node_config::parse(name, text, lookup)? else {
        return Ok(Loaded { config: Config::default(), generation: Generation::Current, findings: Vec::new() });
    };
    let as_it_is = |generation| -> Result<Loaded, LoadError> {
        Ok(Loaded { config: Config::from_tree(name, &tree)?, generation, findings: Vec::new() })
    };
    let Some(Outcome { generation, tree: new, findings }) = migrate_tree(&tree) else {
        return as_it_is(Generation::Current);
    };
    if findings.is_empty() {
        return as_it_is(generation);
    }
    let unmapped: Vec<Finding> = findings.iter().filter(|finding| finding.is_unmapped()).cloned().collect();
    if !unmapped.is_empty() {
        return Err(LoadError::Unmapped { path: name.to_owned(), generation, unmapped });
    }
    Ok(Loaded { config: Config::from_tree(name, &new)?, generation, findings })
}

/// What is wrong with a migrated configuration, if anything; `lookup` gives variables of the environment.
pub fn problems_of(text: &str, lookup: &dyn Fn(&str) -> Option<String>) -> Vec<Problem> {
    match Config::from_text("", text, lookup) {
        Ok(_) => Vec::new(),
        Err(ConfigError::Problems { problems, .. }) => problems,
        Err(error) => vec![Problem { line: None, path: String::new(), message: error.to_string() }],
    }
}

#[cfg(test)]
mod tests;
