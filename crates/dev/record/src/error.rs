//! Why a chain could not be recorded.

use std::{io, path::PathBuf};

/// Why a chain could not be recorded.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The node cannot be reached at this address.
    #[error("{address}: {reason}")]
    Connect {
        /// The address.
        address: String,
        /// Why.
        reason: String,
    },
    /// A call failed or was refused.
    #[error("{method}: {reason}")]
    Call {
        /// Short name of the method.
        method: &'static str,
        /// Status and message.
        reason: String,
    },
    /// An answer does not have the method's form.
    #[error("{method}: malformed answer: {reason}")]
    Answer {
        /// Short name of the method.
        method: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// The node has no such heights, or not yet their state root.
    #[error(
        "heights {from} to {to} cannot be recorded: the node has {oldest} to {newest}, the newest without its root"
    )]
    Range {
        /// First height asked for.
        from: i64,
        /// Last height asked for.
        to: i64,
        /// Oldest height of the node.
        oldest: i64,
        /// Newest height of the node.
        newest: i64,
    },
    /// The genesis document is not that of the chain.
    #[error("genesis document hashes to {found}, the chain's context is {expected}")]
    ChainContext {
        /// What the node states.
        expected: String,
        /// What the document hashes to.
        found: String,
    },
    /// An answer contradicts a header of the chain.
    #[error("height {height}: {what} is {found}, the header says {expected}")]
    Contradiction {
        /// Height of the data.
        height: i64,
        /// What was checked.
        what: &'static str,
        /// The header's value, hexadecimal.
        expected: String,
        /// The value found, hexadecimal.
        found: String,
    },
    /// The block holds evidence that was not supplied.
    #[error("height {height}: the block has evidence, which no method gives: supply it")]
    Evidence {
        /// The height.
        height: i64,
    },
    /// Consensus parameters changed in a way that the recorded form of results cannot be made from.
    #[error("height {height}: consensus parameters change at the next height")]
    Parameters {
        /// The height.
        height: i64,
    },
    /// A proof of state does not verify, or does not show what was asked for.
    #[error("version {version}: {reason}")]
    State {
        /// Version of the state.
        version: u64,
        /// What is wrong.
        reason: String,
    },
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file of evidence has another form.
    #[error("{path}, line {line}: {reason}")]
    EvidenceFile {
        /// The file.
        path: PathBuf,
        /// Number of the line, from 1.
        line: usize,
        /// What is wrong.
        reason: String,
    },
}
