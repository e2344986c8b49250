//! Our MobileCoin code against recorded data: every case of every group of every file of `vectors/mobilecoin`'s formats.
//!
//! Layer: Dev. No counterpart in the reference. Files are recognized by their groups, so that any folder of the same
//! formats can be checked; a group that is not known is a difference, never a silent pass.
//!
//! Main items: [`check_file`], [`Counts`], [`Difference`].
//!
//! Tested by the recorded data itself, and by altering it: a changed expectation must be seen.

pub mod case;
mod chain;
mod config;
mod crypto;
mod digest;
mod ledger;
mod protocol;
mod txs;

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use serde_json::Value;

use case::Case;

/// What was compared, by group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts(pub BTreeMap<String, u64>);

impl Counts {
    /// Counts one comparison.
    pub fn add(&mut self, name: &str) {
        *self.0.entry(name.to_owned()).or_insert(0) += 1;
    }
}

/// The first thing in a file that is not as recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Where: a group, a case.
    pub place: String,
    /// What was found and what was expected.
    pub what: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.what)
    }
}

/// Whether a case is as recorded.
pub type Checked = Result<(), String>;

/// Compares the cases of a group.
type Checker = fn(&Case<'_>) -> Checked;

fn checker(group: &str) -> Option<Checker> {
    let tables: [&[(&str, Checker)]; 6] =
        [crypto::GROUPS, digest::GROUPS, txs::GROUPS, chain::GROUPS, protocol::GROUPS, config::GROUPS];
    tables.into_iter().flatten().find(|(name, _)| *name == group).map(|(_, checker)| *checker)
}

/// Compares everything in one file.
///
/// # Errors
/// The first difference.
pub fn check_file(path: &Path, counts: &mut Counts) -> Result<(), Difference> {
    let fail = |place: &str, what: String| Difference { place: place.to_owned(), what };
    let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default();
    match extension {
        "json" => {}
        "pb" => return ledger::check_archive_file(path, counts).map_err(|what| fail("archive file", what)),
        "mdb" => return ledger::check_database(path, counts).map_err(|what| fail("ledger", what)),
        _ => return Err(fail("file", "not a recorded format".into())),
    }
    let text = dev_testkit::read(path).map_err(|e| fail("file", e.to_string()))?;
    let root: Value = serde_json::from_slice(&text).map_err(|e| fail("file", e.to_string()))?;
    check_value(&root, counts)
}

/// Compares everything in a decoded file.
///
/// # Errors
/// The first difference.
pub fn check_value(root: &Value, counts: &mut Counts) -> Result<(), Difference> {
    let fail = |place: String, what: String| Difference { place, what };
    let groups = root["groups"].as_object().ok_or_else(|| fail("file".into(), "no groups".into()))?;
    for (name, group) in groups {
        let checker = checker(name).ok_or_else(|| fail(name.clone(), "unknown group".into()))?;
        let cases = group["cases"].as_array().ok_or_else(|| fail(name.clone(), "no cases".into()))?;
        for value in cases {
            let id = value["id"].as_str().unwrap_or(name);
            checker(&Case { value, root }).map_err(|what| fail(id.to_owned(), what))?;
            counts.add(name);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
