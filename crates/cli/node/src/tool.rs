//! Small helpers that every subcommand uses.

use std::{fmt, path::Path, process::ExitCode};

/// Prints one error and gives the exit code of a failed command.
pub(crate) fn fail(error: impl fmt::Display) -> ExitCode {
    eprintln!("error: {error}");
    ExitCode::FAILURE
}

/// Reads a text file; the error names it.
pub(crate) fn read_text(path: &Path) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|e| format!("{}: cannot read: {e}", path.display()))
}
