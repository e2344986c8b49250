//! Recorded chains: `vectors/chains/NAME/` with genesis, blocks and state differences.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::{Error, paths, read};

/// One recorded chain's folder.
#[derive(Clone, Debug)]
pub struct Chain {
    /// The folder's name, which is that of the recorded scenario.
    pub name: String,
    dir: PathBuf,
}

/// One height of `blocks.jsonl.gz`; all byte fields are protobuf.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordedBlock {
    /// Block height, from 1.
    pub height: u64,
    /// Block hash, 32 bytes.
    pub hash: Vec<u8>,
    /// `tendermint.types.Block`.
    pub block: Vec<u8>,
    /// `tendermint.types.Commit` seen for this height.
    pub seen_commit: Vec<u8>,
    /// `tendermint.state.ABCIResponses`.
    pub abci_responses: Vec<u8>,
    /// `tendermint.types.ValidatorSet` at this height, with proposer priorities.
    pub validators: Vec<u8>,
}

/// One key of a state difference: `None` for a removed key.
pub type Change = (Vec<u8>, Option<Vec<u8>>);

/// One version of `state_diffs.jsonl.gz`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateDiff {
    /// State version, equal to the block height.
    pub version: u64,
    /// Root hash, 32 bytes: the next block's app hash.
    pub root: Vec<u8>,
    /// Number of keys in the whole state.
    pub keys: u64,
    /// What changed against the version before; the first line holds the whole state.
    pub diff: Vec<Change>,
}

impl Chain {
    /// All chains in the project's vectors folder, by name.
    ///
    /// # Errors
    /// If the folder cannot be listed.
    pub fn all() -> Result<Vec<Self>, Error> {
        let dir = paths::vectors_dir().join("chains");
        let io = |source| Error::Io { path: dir.clone(), source };
        let mut out = Vec::new();
        for entry in std::fs::read_dir(&dir).map_err(io)? {
            let entry = entry.map_err(io)?;
            if entry.file_type().map_err(io)?.is_dir() {
                out.push(Self::open(&entry.path()));
            }
        }
        out.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(out)
    }

    /// The chain in any folder of the same shape; nothing is read yet.
    pub fn open(dir: &Path) -> Self {
        let name = dir.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        Self { name, dir: dir.to_owned() }
    }

    /// The chain's folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The genesis document, JSON text.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn genesis(&self) -> Result<Vec<u8>, Error> {
        read(&self.dir.join("genesis.json"))
    }

    /// All recorded blocks by height.
    ///
    /// # Errors
    /// If the file cannot be read or has another shape.
    pub fn blocks(&self) -> Result<Vec<RecordedBlock>, Error> {
        blocks_from(&self.dir.join("blocks.jsonl.gz"))
    }

    /// All recorded state differences by version.
    ///
    /// # Errors
    /// If the file cannot be read or has another shape.
    pub fn state_diffs(&self) -> Result<Vec<StateDiff>, Error> {
        state_diffs_from(&self.dir.join("state_diffs.jsonl.gz"))
    }

    /// The recorded node's consensus write-ahead log, where there is one.
    ///
    /// # Errors
    /// If the file exists and cannot be read.
    pub fn wal(&self) -> Result<Option<Vec<u8>>, Error> {
        let path = self.dir.join("cs.wal.gz");
        if path.exists() { read(&path).map(Some) } else { Ok(None) }
    }
}

/// Reads any file of the shape of `blocks.jsonl.gz`.
///
/// # Errors
/// If the file cannot be read or has another shape.
pub fn blocks_from(path: &Path) -> Result<Vec<RecordedBlock>, Error> {
    let fields = ["height", "hash", "block", "seen_commit", "abci_responses", "validators"];
    lines(path, &fields, |line| {
        Ok(RecordedBlock {
            height: line.number("height")?,
            hash: line.hex("hash")?,
            block: line.base64("block")?,
            seen_commit: line.base64("seen_commit")?,
            abci_responses: line.base64("abci_responses")?,
            validators: line.base64("validators")?,
        })
    })
}

/// Reads any file of the shape of `state_diffs.jsonl.gz`.
///
/// # Errors
/// If the file cannot be read or has another shape.
pub fn state_diffs_from(path: &Path) -> Result<Vec<StateDiff>, Error> {
    lines(path, &["version", "root", "keys", "diff"], |line| {
        let pairs = line.field("diff")?.as_array().ok_or_else(|| line.error("diff", "not a list"))?;
        let diff = pairs.iter().map(|pair| line.change(pair)).collect::<Result<_, _>>()?;
        Ok(StateDiff { version: line.number("version")?, root: line.hex("root")?, keys: line.number("keys")?, diff })
    })
}

/// One JSON object of a line file.
struct Line<'a> {
    path: &'a Path,
    number: usize,
    value: Value,
}

impl Line<'_> {
    fn error(&self, field: &str, problem: impl ToString) -> Error {
        Error::shape(self.path, format!("line {}, {field}", self.number), problem)
    }

    fn field(&self, name: &str) -> Result<&Value, Error> {
        self.value.get(name).ok_or_else(|| self.error(name, "missing"))
    }

    fn text(&self, name: &str) -> Result<&str, Error> {
        self.field(name)?.as_str().ok_or_else(|| self.error(name, "not a string"))
    }

    fn number(&self, name: &str) -> Result<u64, Error> {
        self.field(name)?.as_u64().ok_or_else(|| self.error(name, "not an unsigned integer"))
    }

    fn hex(&self, name: &str) -> Result<Vec<u8>, Error> {
        hex::decode(self.text(name)?).map_err(|e| self.error(name, e))
    }

    fn base64(&self, name: &str) -> Result<Vec<u8>, Error> {
        STANDARD.decode(self.text(name)?).map_err(|e| self.error(name, e))
    }

    fn change(&self, pair: &Value) -> Result<Change, Error> {
        let bad = || self.error("diff", "an entry is not [hex, hex or null]");
        let [key, value] = pair.as_array().map(Vec::as_slice).ok_or_else(bad)? else {
            return Err(bad());
        };
        let bytes = |v: &Value| hex::decode(v.as_str().ok_or_else(bad)?).map_err(|e| self.error("diff", e));
        Ok((bytes(key)?, if value.is_null() { None } else { Some(bytes(value)?) }))
    }
}

/// Parses a file of JSON lines; a field that is not in `known` is an error, so that new data is not overlooked.
fn lines<T>(path: &Path, known: &[&str], parse: impl Fn(&Line<'_>) -> Result<T, Error>) -> Result<Vec<T>, Error> {
    let bytes = read(path)?;
    let mut out = Vec::new();
    for (index, text) in bytes.split(|b| *b == b'\n').enumerate() {
        if text.is_empty() {
            continue;
        }
        let number = index + 1;
        let value = serde_json::from_slice(text).map_err(|e| Error::shape(path, format!("line {number}"), e))?;
        let line = Line { path, number, value };
        let object = line.value.as_object().ok_or_else(|| line.error("line", "not an object"))?;
        if let Some(other) = object.keys().find(|k| !known.contains(&k.as_str())) {
            return Err(line.error(other, "unknown field"));
        }
        out.push(parse(&line)?);
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loads_every_recorded_chain() {
        let chains = Chain::all().unwrap();
        assert!(!chains.is_empty(), "no recorded chains in vectors/chains");
        for chain in chains {
            let blocks = chain.blocks().unwrap();
            let diffs = chain.state_diffs().unwrap();
            assert!(!blocks.is_empty(), "{}", chain.name);
            assert!(blocks.iter().zip(1..).all(|(b, h)| b.height == h && b.hash.len() == 32), "{}", chain.name);
            assert!(diffs.iter().zip(1..).all(|(d, v)| d.version == v && d.root.len() == 32), "{}", chain.name);
            assert!(chain.genesis().unwrap().starts_with(b"{"));
            if let Some(wal) = chain.wal().unwrap() {
                assert!(!wal.is_empty());
            }
        }
    }

    #[test]
    fn key_counts_follow_from_the_differences() {
        let chain = Chain::all().unwrap().into_iter().find(|c| c.name == "debond").expect("debond was recorded");
        let mut keys = std::collections::BTreeSet::new();
        for diff in chain.state_diffs().unwrap() {
            for (key, value) in diff.diff {
                if value.is_some() {
                    keys.insert(key)
                } else {
                    keys.remove(&key)
                };
            }
            assert_eq!(keys.len() as u64, diff.keys, "version {}", diff.version);
        }
    }

    #[test]
    fn refuses_other_shapes() {
        let dir = std::env::temp_dir().join(format!("testkit-chains-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let path = dir.join("state_diffs.jsonl");
        let check = |text: &str, expected: &str| {
            std::fs::write(&path, text).unwrap();
            let error = state_diffs_from(&path).unwrap_err().to_string();
            assert!(error.ends_with(expected), "{error}");
        };
        check("{\"version\":1}", "line 1, diff: missing");
        check("\n[]", "line 2, line: not an object");
        check(r#"{"version":1,"root":"","keys":0,"diff":[["00"]]}"#, "an entry is not [hex, hex or null]");
        check(r#"{"version":1,"root":"","keys":0,"diff":[],"more":1}"#, "line 1, more: unknown field");
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
