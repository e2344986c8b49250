//! `gaps.toml`: every case that we do not pass or do not run, with its reason.

use super::Problem;
use crate::source::code_only;
use crate::tree::Tree;

const FILE: &str = "gaps.toml";

/// One `[[gap]]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Gap {
    /// What is missing, one line.
    case: String,
    /// Why, and what would close it.
    reason: String,
    /// Path below `vectors/` of files that nothing reads yet: a file, or a folder ending in `/`.
    vectors: Option<String>,
    /// `path::function` of an ignored test.
    test: Option<String>,
}

/// All gaps of the file.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gaps(Vec<Gap>);

impl Gaps {
    /// Reads the file's small part of TOML: `[[gap]]` tables of one-line strings.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut gaps: Vec<Gap> = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            let number = index + 1;
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            if line == "[[gap]]" {
                gaps.push(Gap::default());
                continue;
            }
            let gap = gaps.last_mut().ok_or_else(|| format!("line {number}: a value before the first [[gap]]"))?;
            let (key, value) = line.split_once(" = ").ok_or_else(|| format!("line {number}: not `key = \"value\"`"))?;
            let value = value
                .strip_prefix('"')
                .and_then(|v| v.strip_suffix('"'))
                .filter(|v| !v.contains(['"', '\\']))
                .ok_or_else(|| format!("line {number}: the value is not a plain string"))?
                .to_owned();
            match key {
                "case" => gap.case = value,
                "reason" => gap.reason = value,
                "vectors" => gap.vectors = Some(value),
                "test" => gap.test = Some(value),
                _ => return Err(format!("line {number}: unknown key `{key}`")),
            }
        }
        Ok(Self(gaps))
    }

    /// The gaps of the project; none if the file is missing or unreadable, which [`check`] reports.
    pub(crate) fn of(tree: &Tree) -> Self {
        tree.text(FILE).and_then(|text| Self::parse(text).ok()).unwrap_or_default()
    }

    /// Is the vector file (path below `vectors/`) known to be read by nothing?
    pub(crate) fn excuses_vector(&self, path: &str) -> bool {
        self.vectors().any(|excused| covers(excused, path))
    }

    /// The paths below `vectors/` that are excused.
    pub(crate) fn vectors(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|gap| gap.vectors.as_deref())
    }
}

/// Does the excused path (a file, or a folder ending in `/`) cover the file?
pub(crate) fn covers(excused: &str, path: &str) -> bool {
    if excused.ends_with('/') { path.starts_with(excused) } else { path == excused }
}

/// The file parses, and every entry says what and why.
pub(super) fn check(tree: &Tree) -> Vec<Problem> {
    let Some(text) = tree.text(FILE) else {
        return vec![format!("{FILE}: missing")];
    };
    let gaps = match Gaps::parse(text) {
        Ok(gaps) => gaps,
        Err(error) => return vec![format!("{FILE}: {error}")],
    };
    let mut out = Vec::new();
    for (gap, number) in gaps.0.iter().zip(1..) {
        if gap.case.trim().is_empty() {
            out.push(format!("{FILE}: gap {number} has no case"));
        }
        if gap.reason.trim().is_empty() {
            out.push(format!("{FILE}: gap {number} ({}) has no reason", gap.case));
        }
        if let Some(path) = &gap.vectors
            && !tree.files.keys().any(|f| f.strip_prefix("vectors/").is_some_and(|f| covers(path, f)))
        {
            out.push(format!("{FILE}: gap {number} excuses vectors/{path}, which does not exist"));
        }
    }
    out
}

/// An ignored test has its gap, named `path::function`.
pub(super) fn ignored_tests(tree: &Tree) -> Vec<Problem> {
    let gaps = Gaps::of(tree);
    let marker = concat!("#[", "ignore");
    let mut out = Vec::new();
    for (path, text) in tree.rust() {
        let code = code_only(text);
        for (at, _) in code.match_indices(marker) {
            let name: String = code[at..]
                .split_once("fn ")
                .map(|(_, rest)| rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect())
                .unwrap_or_default();
            let test = format!("{path}::{name}");
            if !gaps.0.iter().any(|gap| gap.test.as_deref() == Some(&test)) {
                out.push(format!("{test}: ignored without an entry `test = \"{test}\"` in {FILE}"));
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(gaps: &str) -> Vec<Problem> {
        check(&Tree::of(&[(FILE, gaps), ("vectors/cli/a.json", "")]))
    }

    #[test]
    fn wants_reasons() {
        assert!(problems("[[gap]]\ncase = \"a\"\nreason = \"b\"\nvectors = \"cli/\"\n").is_empty());
        assert_eq!(problems("[[gap]]\ncase = \"a\"\nreason = \" \"\n").len(), 1);
        assert_eq!(problems("[[gap]]\nreason = \"b\"\n").len(), 1);
        assert_eq!(problems("[[gap]]\ncase = \"a\"\nreason = \"b\"\nvectors = \"rhp/\"\n").len(), 1);
        assert_eq!(check(&Tree::default()).len(), 1);
    }

    #[test]
    fn refuses_what_it_does_not_understand() {
        let error = |text: &str| Gaps::parse(text).unwrap_err();
        assert_eq!(error("case = \"a\""), "line 1: a value before the first [[gap]]");
        assert_eq!(error("[[gap]]\ncase: a"), "line 2: not `key = \"value\"`");
        assert_eq!(error("[[gap]]\ncase = a"), "line 2: the value is not a plain string");
        assert_eq!(error("[[gap]]\nwhy = \"a\""), "line 2: unknown key `why`");
    }

    #[test]
    fn ignored_tests_need_an_entry() {
        let source = "#[test]\n#[ignore]\nfn slow() {}\n";
        let gap = "[[gap]]\ncase = \"slow\"\nreason = \"r\"\ntest = \"crates/a/src/b.rs::slow\"\n";
        assert_eq!(ignored_tests(&Tree::of(&[("crates/a/src/b.rs", source), (FILE, "")])).len(), 1);
        assert!(ignored_tests(&Tree::of(&[("crates/a/src/b.rs", source), (FILE, gap)])).is_empty());
        assert!(ignored_tests(&Tree::of(&[("crates/a/src/b.rs", "// #[ignore]\nfn a() {}")])).is_empty());
    }

    #[test]
    fn excuses_files_and_folders() {
        let gaps = Gaps::parse("[[gap]]\nvectors = \"cli/\"\n[[gap]]\nvectors = \"rhp/a.bin\"\n").unwrap();
        assert!(gaps.excuses_vector("cli/oasis.json") && gaps.excuses_vector("rhp/a.bin"));
        assert!(!gaps.excuses_vector("rhp/b.bin") && !gaps.excuses_vector("client/x"));
    }
}
