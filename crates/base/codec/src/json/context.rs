//! Where in a document the reader is, and what it met there.

use std::fmt::Write as _;

use super::Value;

/// How many paths of unknown fields a [`Context`] keeps; further ones are only counted.
pub const MAX_UNKNOWN_FIELDS: usize = 1000;

/// Why a document was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}{}{problem}", if path.is_empty() { "" } else { ": " })]
pub struct Error {
    /// Field names, map keys and list indexes that lead to the value, such as `staking.ledger.oasis1….general`; empty
    /// for the document itself.
    pub path: String,
    /// What is wrong with the value.
    pub problem: String,
}

/// Tracks the path from the document to the value being read, and collects the paths of unknown fields.
#[derive(Clone, Debug, Default)]
pub struct Context {
    path: String,
    /// Length of `path` before each segment.
    starts: Vec<usize>,
    unknown: Vec<String>,
    unknown_count: usize,
}

impl Context {
    /// At the document itself.
    pub fn new() -> Self {
        Self::default()
    }

    /// Goes down into a field or map key. Every `push_*` is undone by one [`pop`](Self::pop), unless reading ends.
    pub fn push_key(&mut self, key: &str) {
        self.starts.push(self.path.len());
        if !self.path.is_empty() {
            self.path.push('.');
        }
        self.path.push_str(key);
    }

    /// Goes down into a list element.
    pub fn push_index(&mut self, index: usize) {
        self.starts.push(self.path.len());
        // Writing to a string can't fail.
        let _ = write!(self.path, "[{index}]");
    }

    /// Goes back up.
    pub fn pop(&mut self) {
        if let Some(start) = self.starts.pop() {
            self.path.truncate(start);
        }
    }

    /// Runs `read` one level down.
    pub fn in_key<T>(&mut self, key: &str, read: impl FnOnce(&mut Self) -> Result<T, Error>) -> Result<T, Error> {
        self.push_key(key);
        let result = read(self);
        self.pop();
        result
    }

    /// Runs `read` one level down.
    pub fn in_index<T>(&mut self, index: usize, read: impl FnOnce(&mut Self) -> Result<T, Error>) -> Result<T, Error> {
        self.push_index(index);
        let result = read(self);
        self.pop();
        result
    }

    /// The path to the present value.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// An error at the present value.
    pub fn error(&self, problem: impl Into<String>) -> Error {
        Error { path: self.path.clone(), problem: problem.into() }
    }

    /// An error at the present value: `found` is of the wrong type.
    pub fn expected(&self, expected: &str, found: &Value) -> Error {
        self.error(format!("expected {expected}, found {}", describe(found)))
    }

    /// Notes that the present object has a field that is not read.
    pub fn note_unknown(&mut self, key: &str) {
        self.unknown_count += 1;
        if self.unknown.len() < MAX_UNKNOWN_FIELDS {
            self.push_key(key);
            self.unknown.push(self.path.clone());
            self.pop();
        }
    }

    /// The paths of the first [`MAX_UNKNOWN_FIELDS`] unknown fields.
    pub fn unknown_fields(&self) -> &[String] {
        &self.unknown
    }

    /// How many unknown fields there were.
    pub fn unknown_count(&self) -> usize {
        self.unknown_count
    }
}

fn describe(v: &Value) -> &'static str {
    match v {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}
