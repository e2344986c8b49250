//! `check-vectors`: our code against recorded data, in any files of a family's shape.

mod adr8;
mod bodies;
mod chains;
mod mobilecoin;
mod rhp;
mod transactions;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use dev_testkit::paths::files_below;
use serde_json::json;

/// One kind of recorded data, and how our code is compared with it.
trait Family: Sync {
    /// The name on the command line, and of the folder below `vectors/`.
    fn name(&self) -> &'static str;
    /// One line on what is compared.
    fn about(&self) -> &'static str;
    /// Checks everything in one file. What it cannot judge is a difference, never a silent pass.
    fn check_file(&self, path: &Path, counts: &mut Counts) -> Result<(), Difference>;
}

const FAMILIES: &[&dyn Family] = &[&chains::Chains, &mobilecoin::MobileCoin, &rhp::Rhp, &transactions::Transactions];

/// Folders below `vectors/` that a family reads.
pub(crate) fn folders() -> Vec<&'static str> {
    FAMILIES.iter().map(|f| f.name()).collect()
}

/// What was compared, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Counts(BTreeMap<String, u64>);

impl Counts {
    fn add(&mut self, name: &str) {
        self.add_many(name, 1);
    }

    fn add_many(&mut self, name: &str, count: u64) {
        *self.0.entry(name.to_owned()).or_insert(0) += count;
    }
}

/// The first thing in a file that is not as recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Difference {
    /// Where: an entry, a height, a field.
    place: String,
    /// What was found and what was expected.
    what: String,
}

impl Difference {
    fn new(place: impl fmt::Display, what: impl fmt::Display) -> Self {
        Self { place: place.to_string(), what: what.to_string() }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.what)
    }
}

/// Prints the families.
pub(crate) fn list() -> ExitCode {
    for family in FAMILIES {
        println!("{:14} {}", family.name(), family.about());
    }
    ExitCode::SUCCESS
}

/// Checks the files (folders stand for all files in them) and prints one JSON line.
pub(crate) fn run(family: &str, paths: &[&str]) -> Result<ExitCode> {
    let Some(family) = FAMILIES.iter().find(|f| f.name() == family) else {
        bail!("no family is called {family}; there are {}", folders().join(", "));
    };
    let mut files = Vec::new();
    for path in paths {
        files.extend(expand(Path::new(path))?);
    }
    let report = check_all(*family, &files);
    println!("{}", report.line(family.name()));
    for difference in report.differences.iter().take(1) {
        eprintln!("difference: {difference}");
    }
    Ok(if report.differences.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A file is itself; a folder is all files below it but their README.
fn expand(path: &Path) -> Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let inside = files_below(path).with_context(|| path.display().to_string())?;
    let files: Vec<PathBuf> = inside.into_iter().filter(|f| !f.ends_with("README.md")).map(|f| path.join(f)).collect();
    if files.is_empty() {
        bail!("{}: no files in it", path.display());
    }
    Ok(files)
}

/// The outcome over all files.
struct Report {
    files: usize,
    counts: Counts,
    /// The first of each file, with the file's name.
    differences: Vec<String>,
}

impl Report {
    fn line(&self, family: &str) -> serde_json::Value {
        json!({
            "family": family,
            "files": self.files,
            "files_failed": self.differences.len(),
            "counts": self.counts.0,
            "difference": self.differences.first(),
        })
    }
}

fn check_all(family: &dyn Family, files: &[PathBuf]) -> Report {
    let mut report = Report { files: files.len(), counts: Counts::default(), differences: Vec::new() };
    for path in files {
        let mut counts = Counts::default();
        let result = family.check_file(path, &mut counts);
        let compared = counts.0.values().sum::<u64>();
        for (name, count) in counts.0 {
            report.counts.add_many(&name, count);
        }
        match result {
            Err(difference) => report.differences.push(format!("{}: {difference}", path.display())),
            Ok(()) if compared == 0 => {
                report.differences.push(format!("{}: nothing in it was compared", path.display()));
            }
            Ok(()) => {}
        }
    }
    report
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The check of a family as a test: all recorded files of it pass; the counts are printed.
    fn check_recorded(name: &str) {
        let family = FAMILIES.iter().find(|f| f.name() == name).expect("a known family");
        let files = expand(&dev_testkit::paths::vectors_dir().join(name)).unwrap();
        let report = check_all(*family, &files);
        println!("{}", report.line(name));
        assert!(report.differences.is_empty(), "{}", report.differences.join("\n"));
    }

    struct Odd;

    impl Family for Odd {
        fn name(&self) -> &'static str {
            "odd"
        }
        fn about(&self) -> &'static str {
            "paths of odd length are wrong, and 'none' holds nothing"
        }
        fn check_file(&self, path: &Path, counts: &mut Counts) -> Result<(), Difference> {
            let length = path.as_os_str().len();
            if path == Path::new("none") {
                return Ok(());
            }
            counts.add("paths");
            if length % 2 == 1 { Err(Difference::new("path", format!("{length} is odd"))) } else { Ok(()) }
        }
    }

    #[test]
    fn the_first_difference_is_named_and_nothing_compared_is_a_failure() {
        let check = |paths: &[&str]| check_all(&Odd, &paths.iter().map(PathBuf::from).collect::<Vec<_>>());
        assert!(check(&["ab", "cd"]).differences.is_empty());
        let report = check(&["ab", "abc", "x"]);
        assert_eq!(
            report.line("odd").to_string(),
            r#"{"family":"odd","files":3,"files_failed":2,"counts":{"paths":3},"difference":"abc: path: 3 is odd"}"#
        );
        assert_eq!(check(&["none"]).differences, ["none: nothing in it was compared"]);
    }

    #[test]
    fn recorded_transactions_agree() {
        check_recorded("transactions");
    }

    #[test]
    fn recorded_chains_agree() {
        check_recorded("chains");
    }

    #[test]
    fn recorded_runtime_traffic_agrees() {
        check_recorded("rhp");
    }

    #[test]
    fn unknown_families_and_empty_folders_are_errors() {
        assert!(run("unheard-of", &["a"]).is_err());
        assert!(expand(&dev_testkit::paths::project_root().join("docs/none")).unwrap().len() == 1);
    }
}
