//! Where recorded data lies, relative to the project's root.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Environment variable with the folder in which reads of vector files are noted, one text file per process.
pub const READ_LOG_ENV: &str = "WADI_VECTORS_READ";

/// The project's root folder.
pub fn project_root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../..")
}

/// The project's `vectors/` folder.
pub fn vectors_dir() -> PathBuf {
    project_root().join("vectors")
}

/// `../shared/vectors/published/RELATIVE`, files as published by the reference, or `None` where that folder is absent:
/// report the case with [`crate::skip`] then.
pub fn published(relative: &str) -> Option<PathBuf> {
    let path = project_root().join("../shared/vectors/published").join(relative);
    path.exists().then_some(path)
}

/// All regular files below a folder, sorted, as paths relative to it.
///
/// # Errors
/// If a folder cannot be listed.
pub fn files_below(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut out = Vec::new();
    let mut open = vec![PathBuf::new()];
    while let Some(inside) = open.pop() {
        for entry in fs::read_dir(dir.join(&inside))? {
            let entry = entry?;
            let path = inside.join(entry.file_name());
            if entry.file_type()?.is_dir() {
                open.push(path);
            } else {
                out.push(path);
            }
        }
    }
    out.sort();
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_nested_files_sorted() {
        let files = files_below(&vectors_dir()).unwrap();
        assert!(files.contains(&PathBuf::from("transactions/staking.json.gz")));
        assert!(files.is_sorted());
    }
}
