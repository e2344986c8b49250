//! The end of a log file, with a filter.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::Path;

/// Most lines of an answer.
pub const MAX_LINES: usize = 500;
/// Bytes of a log that are looked at, from its end.
const MAX_BYTES: u64 = 2 << 20;
/// Longest line that is shown; the rest of it is cut.
const MAX_LINE: usize = 4 << 10;

/// What to show of a log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogQuery {
    /// Name of the node.
    pub node: String,
    /// Only lines that hold this text, whatever the case.
    pub filter: String,
    /// Only lines of this level and above: `debug`, `info`, `warn`, `error`; empty: all.
    pub level: String,
}

const LEVELS: [&str; 4] = ["debug", "info", "warn", "error"];

/// The rank of the level that a line names; lines without one, such as backtraces, belong to the highest.
fn rank(line: &str) -> usize {
    let named =
        |level: &&str| line.contains(&format!("level={level}")) || line.contains(&format!("\"level\":\"{level}\""));
    LEVELS.iter().position(named).unwrap_or(LEVELS.len())
}

/// The newest lines that pass, oldest first.
pub(crate) fn tail(path: &Path, query: &LogQuery) -> std::io::Result<Vec<String>> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    let start = length.saturating_sub(MAX_BYTES);
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    file.take(MAX_BYTES).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    // The first line may be a part of one.
    let lines: Vec<_> = text.lines().skip(usize::from(start > 0)).collect();
    let wanted = query.filter.to_lowercase();
    let least = LEVELS.iter().position(|level| *level == query.level).unwrap_or(0);
    let passes = |line: &&str| rank(line) >= least && (wanted.is_empty() || line.to_lowercase().contains(&wanted));
    let mut out: Vec<String> = lines.into_iter().rev().filter(passes).take(MAX_LINES).map(cut).collect();
    out.reverse();
    Ok(out)
}

fn cut(line: &str) -> String {
    let end = (0..=MAX_LINE.min(line.len())).rev().find(|at| line.is_char_boundary(*at)).unwrap_or(0);
    line.get(..end).unwrap_or_default().to_owned()
}
