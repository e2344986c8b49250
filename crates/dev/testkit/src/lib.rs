//! Loads the recorded data that tests and checks compare against, and keeps account of what was read.
//!
//! Layer: dev (a dev-dependency of any crate; nothing in a shipped binary may depend on it).
//! Reference counterpart: none.
//!
//! It knows the *containers* (gzip, JSON lines, the host-protocol record file), not the network's formats: everything
//! inside comes out as bytes, and the crate under test decodes them. So it depends on no other crate of the workspace
//! and every one of them may use it.
//!
//! Main types: [`chains::Chain`], [`rhp::Record`], [`transactions::Entry`]; [`paths`] finds the folders,
//! [`read`] reads (and inflates) one file, [`skip`] reports cases that could not be run.
//!
//! Invariants: whatever goes through [`read`] is noted when the environment asks for it (see [`paths::READ_LOG_ENV`]),
//! so that the gate can fail on a vector file that no test read. Nothing is skipped without a printed count.
//!
//! Tested by its own unit tests on the recorded files.

pub mod chains;
pub mod paths;
pub mod rhp;
pub mod transactions;

use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;

/// The most bytes that one file may inflate to: far above any recorded file, far below what hurts.
pub const MAX_INFLATED_BYTES: u64 = 1 << 30;

/// Why recorded data could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file could not be opened, read or inflated.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file inflates to more than [`MAX_INFLATED_BYTES`].
    #[error("{}: inflates to more than {limit} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The limit in bytes.
        limit: u64,
    },
    /// The content has not the container's shape.
    #[error("{}: {place}: {problem}", path.display())]
    Shape {
        /// The file.
        path: PathBuf,
        /// Where in the file: a line, a record number, a field.
        place: String,
        /// What is wrong there.
        problem: String,
    },
}

impl Error {
    pub(crate) fn shape(path: &Path, place: impl Into<String>, problem: impl ToString) -> Self {
        Self::Shape { path: path.to_owned(), place: place.into(), problem: problem.to_string() }
    }
}

/// Reads one file whole, inflating it if its name ends in `.gz`, and notes that it was read.
///
/// # Errors
/// If it cannot be read or inflated, or inflates beyond [`MAX_INFLATED_BYTES`].
pub fn read(path: &Path) -> Result<Vec<u8>, Error> {
    let io = |source| Error::Io { path: path.to_owned(), source };
    let file = fs::File::open(path).map_err(io)?;
    let mut out = Vec::new();
    let got = if path.extension().is_some_and(|e| e == "gz") {
        MultiGzDecoder::new(io::BufReader::new(file)).take(MAX_INFLATED_BYTES + 1).read_to_end(&mut out)
    } else {
        file.take(MAX_INFLATED_BYTES + 1).read_to_end(&mut out)
    };
    got.map_err(io)?;
    if out.len() as u64 > MAX_INFLATED_BYTES {
        return Err(Error::TooLarge { path: path.to_owned(), limit: MAX_INFLATED_BYTES });
    }
    note_read(path).map_err(io)?;
    Ok(out)
}

/// Prints `skipped: COUNT WHY` on standard error, past the test harness's capture: the gate adds the counts up.
pub fn skip(count: usize, why: &str) {
    // A failing write to standard error leaves nothing to report to.
    let _ = writeln!(io::stderr(), "skipped: {count} {why}");
}

/// Notes a file as read, for tests that read recorded data by other means than [`read`].
///
/// # Errors
/// If the log folder that the environment names cannot be written.
pub fn note_read(path: &Path) -> io::Result<()> {
    // This crate's own tests look at containers only: they are no reader of what is inside.
    if cfg!(test) {
        return Ok(());
    }
    let Some(log) = std::env::var_os(paths::READ_LOG_ENV) else {
        return Ok(());
    };
    let full = fs::canonicalize(path)?;
    let vectors = fs::canonicalize(paths::vectors_dir())?;
    let Ok(inside) = full.strip_prefix(&vectors) else {
        return Ok(());
    };
    let log = PathBuf::from(log);
    fs::create_dir_all(&log)?;
    let name = log.join(format!("{}.txt", std::process::id()));
    let mut file = fs::OpenOptions::new().create(true).append(true).open(name)?;
    // One write per line, so that threads appending to the file do not mix theirs.
    file.write_all(format!("{}\n", inside.display()).as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_plain_and_gzip_files() {
        let plain = read(&paths::vectors_dir().join("README.md")).unwrap();
        assert!(plain.starts_with(b"# Vectors"));
        let packed = read(&paths::vectors_dir().join("transactions/registry.json.gz")).unwrap();
        assert_eq!(packed.first(), Some(&b'['));
    }

    #[test]
    fn errors_name_the_file() {
        let error = read(Path::new("no/such/file.json")).unwrap_err().to_string();
        assert!(error.starts_with("no/such/file.json: "), "{error}");
    }
}
