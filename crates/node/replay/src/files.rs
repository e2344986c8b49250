//! Reading the files of a recorded chain, line by line.

use std::{
    fs::File,
    io::{BufRead, BufReader, Lines},
    path::{Path, PathBuf},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use flate2::bufread::MultiGzDecoder;
use serde_json::Value;

/// Longest line that is read, in bytes: far above any block, so that a bad file cannot fill the memory.
pub(crate) const MAX_LINE_BYTES: usize = 1 << 28;

/// A recorded file could not be read.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The file could not be opened or read.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A line does not have the recorded format.
    #[error("{path}, line {line}: expected {expected}")]
    Format {
        /// The file.
        path: PathBuf,
        /// Number of the line, from 1.
        line: usize,
        /// What should be there.
        expected: String,
    },
}

/// One line of `blocks.jsonl.gz`. All but height and block may be missing.
#[derive(Clone, Debug, Default)]
pub struct RecordedBlock {
    /// Height.
    pub height: i64,
    /// CometBFT `Block`, protobuf.
    pub block: Vec<u8>,
    /// Hash of the block.
    pub hash: Option<Vec<u8>>,
    /// CometBFT `Commit`, protobuf.
    pub seen_commit: Option<Vec<u8>>,
    /// `tendermint.state.ABCIResponses`, protobuf.
    pub abci_responses: Option<Vec<u8>>,
    /// `ValidatorSet` at the height, protobuf.
    pub validators: Option<Vec<u8>>,
}

/// One line of `state_diffs.jsonl.gz`.
#[derive(Clone, Debug, Default)]
pub struct RecordedDiff {
    /// Version of the state: the height.
    pub version: i64,
    /// Root of the state.
    pub root: Vec<u8>,
    /// Keys in the state.
    pub keys: u64,
    /// Changes against the version before; the first line holds the whole state.
    pub diff: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

/// A gzip file of JSON lines.
pub(crate) struct JsonLines {
    path: PathBuf,
    lines: Lines<BufReader<MultiGzDecoder<BufReader<File>>>>,
    line: usize,
}

impl JsonLines {
    pub(crate) fn open(path: &Path) -> Result<Self, FileError> {
        let file = File::open(path).map_err(|source| FileError::Io { path: path.to_owned(), source })?;
        let lines = BufReader::new(MultiGzDecoder::new(BufReader::new(file))).lines();
        Ok(Self { path: path.to_owned(), lines, line: 0 })
    }

    /// The file, or nothing if there is none.
    pub(crate) fn open_if_present(path: &Path) -> Result<Option<Self>, FileError> {
        match Self::open(path) {
            Ok(lines) => Ok(Some(lines)),
            Err(FileError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    fn format(&self, expected: &str) -> FileError {
        FileError::Format { path: self.path.clone(), line: self.line, expected: expected.to_owned() }
    }

    fn next_value(&mut self) -> Result<Option<Value>, FileError> {
        let Some(line) = self.lines.next() else { return Ok(None) };
        self.line += 1;
        let line = line.map_err(|source| FileError::Io { path: self.path.clone(), source })?;
        if line.len() > MAX_LINE_BYTES {
            return Err(self.format("a shorter line"));
        }
        serde_json::from_str(&line).map(Some).map_err(|e| self.format(&format!("a JSON object ({e})")))
    }

    fn base64(&self, v: &Value, field: &str) -> Result<Option<Vec<u8>>, FileError> {
        match v.get(field) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(s)) => {
                STANDARD.decode(s).map(Some).map_err(|_| self.format(&format!("base64 in field {field}")))
            }
            Some(_) => Err(self.format(&format!("base64 in field {field}"))),
        }
    }

    fn hex(&self, v: &Value, what: &str) -> Result<Vec<u8>, FileError> {
        v.as_str()
            .and_then(|s| hex::decode(s).ok())
            .ok_or_else(|| self.format(&format!("hexadecimal digits in {what}")))
    }

    /// The next block; what is not needed to execute it is left out unless `results` are wanted.
    pub(crate) fn next_block(&mut self, results: bool) -> Result<Option<RecordedBlock>, FileError> {
        let Some(v) = self.next_value()? else { return Ok(None) };
        let height =
            v.get("height").and_then(Value::as_i64).ok_or_else(|| self.format("an integer in field height"))?;
        let block = self.base64(&v, "block")?.ok_or_else(|| self.format("a field block"))?;
        if !results {
            return Ok(Some(RecordedBlock { height, block, ..RecordedBlock::default() }));
        }
        let hash = match v.get("hash") {
            None | Some(Value::Null) => None,
            Some(h) => Some(self.hex(h, "field hash")?),
        };
        Ok(Some(RecordedBlock {
            height,
            block,
            hash,
            seen_commit: self.base64(&v, "seen_commit")?,
            abci_responses: self.base64(&v, "abci_responses")?,
            validators: self.base64(&v, "validators")?,
        }))
    }

    pub(crate) fn next_diff(&mut self) -> Result<Option<RecordedDiff>, FileError> {
        let Some(v) = self.next_value()? else { return Ok(None) };
        let version =
            v.get("version").and_then(Value::as_i64).ok_or_else(|| self.format("an integer in field version"))?;
        let keys = v.get("keys").and_then(Value::as_u64).ok_or_else(|| self.format("an integer in field keys"))?;
        let root = self.hex(v.get("root").unwrap_or(&Value::Null), "field root")?;
        let pairs = v.get("diff").and_then(Value::as_array).ok_or_else(|| self.format("a list in field diff"))?;
        let mut diff = Vec::with_capacity(pairs.len());
        for pair in pairs {
            let [key, value] = pair.as_array().map(Vec::as_slice).unwrap_or_default() else {
                return Err(self.format("pairs in field diff"));
            };
            let value = if value.is_null() { None } else { Some(self.hex(value, "field diff")?) };
            diff.push((self.hex(key, "field diff")?, value));
        }
        Ok(Some(RecordedDiff { version, root, keys, diff }))
    }
}
