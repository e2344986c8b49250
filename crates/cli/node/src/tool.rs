//! Small helpers that every subcommand uses: failures, files, the deprecation notice.

use std::fmt::{self, Display};
use std::os::unix::fs::OpenOptionsExt as _;
use std::{io::Write as _, path::Path, process::ExitCode};

use base_codec::json::{ToJson, to_string_pretty};
use base_service::{errln, outln};

/// Exit code of a failed query of `control` and of the next block's state, as in the reference.
pub(crate) const QUERY_FAILED: u8 = 128;

/// Why a command failed. Told as a log line, where the reference tells it too: on standard output, or in the log file of
/// the configuration.
#[derive(Debug)]
pub(crate) struct Failure {
    /// Module of the log line.
    module: &'static str,
    /// What failed; nothing is said if it is empty.
    what: String,
    /// Why.
    reason: Option<String>,
    /// Exit code.
    code: u8,
}

/// How a command ends.
pub(crate) type Done = Result<(), Failure>;

impl Failure {
    /// A failure without a cause beyond itself.
    pub(crate) fn new(module: &'static str, what: impl Into<String>) -> Self {
        Self { module, what: what.into(), reason: None, code: 1 }
    }

    /// A failure and its cause.
    pub(crate) fn because(module: &'static str, what: impl Into<String>, reason: impl Display) -> Self {
        Self { reason: Some(reason.to_string()), ..Self::new(module, what) }
    }

    /// Exit code 1 and nothing said: what there is to say was printed.
    pub(crate) fn quiet() -> Self {
        Self::new("", "")
    }

    /// With another exit code.
    pub(crate) fn code(self, code: u8) -> Self {
        Self { code, ..self }
    }

    fn report(&self) -> ExitCode {
        match &self.reason {
            Some(reason) => tracing::error!(module = self.module, err = reason.as_str(), "{}", self.what),
            None if self.what.is_empty() => {}
            None => tracing::error!(module = self.module, "{}", self.what),
        }
        ExitCode::from(self.code)
    }
}

impl Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.reason {
            Some(reason) => write!(f, "{}: {reason}", self.what),
            None => f.write_str(&self.what),
        }
    }
}

/// Turns any error into a failure of a command.
pub(crate) trait OrFail<T> {
    /// Says what failed.
    fn or_fail(self, module: &'static str, what: &str) -> Result<T, Failure>;
}

impl<T, E: Display> OrFail<T> for Result<T, E> {
    fn or_fail(self, module: &'static str, what: &str) -> Result<T, Failure> {
        self.map_err(|error| Failure::because(module, what, error))
    }
}

/// The exit code of a command.
pub(crate) fn end(done: Done) -> ExitCode {
    done.map_or_else(|failure| failure.report(), |()| ExitCode::SUCCESS)
}

/// Prints one error and gives the exit code of a failed command.
pub(crate) fn fail(error: impl Display) -> ExitCode {
    errln!("error: {error}");
    ExitCode::FAILURE
}

/// Reads a text file; the error names it.
pub(crate) fn read_text(path: &Path) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|e| format!("{}: cannot read: {e}", path.display()))
}

/// Reads a file; the error names it.
pub(crate) fn read_bytes(path: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|e| format!("{}: cannot read: {e}", path.display()))
}

/// Reads a JSON file; the error names it.
pub(crate) fn read_json<T: base_codec::json::FromJson>(path: &Path) -> Result<T, String> {
    let text = read_text(path)?;
    base_codec::json::from_str(&text).map_err(|e| format!("{}: {e}", path.display()))
}

/// Writes a file of the given mode, replacing what is there; the error names it.
pub(crate) fn write_file(path: &Path, content: &[u8], mode: u32) -> Result<(), String> {
    let write = || -> std::io::Result<()> {
        let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(path)?;
        file.write_all(content)?;
        file.sync_all()
    };
    write().map_err(|e| format!("{}: cannot write: {e}", path.display()))
}

/// Mode of files that commands write.
pub(crate) const FILE_MODE: u32 = 0o600;

/// Writes a value as indented JSON into a file that only this user may read.
pub(crate) fn write_json(path: &Path, value: &impl ToJson) -> Result<(), String> {
    write_file(path, to_string_pretty(value).as_bytes(), FILE_MODE)
}

/// Prints a value as indented JSON.
pub(crate) fn print_json(value: &impl ToJson) {
    outln!("{}", to_string_pretty(value));
}

/// Seconds since 1970.
pub(crate) fn now_unix() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
