//! The project as the checks see it: tracked files by path, and the workspace's crates.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::source::{code_only, is_test_path, test_modules};

/// One crate of the workspace.
#[derive(Clone, Debug, Default)]
pub(crate) struct Package {
    pub(crate) name: String,
    /// Folder relative to the root, such as `crates/base/prims`.
    pub(crate) dir: String,
    /// Normal and build dependencies by package name.
    pub(crate) deps: Vec<String>,
    /// Development dependencies by package name.
    pub(crate) dev_deps: Vec<String>,
}

/// Tracked (or trackable) files by path from the root, with `/` between the parts; binary files have no text.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tree {
    pub(crate) files: BTreeMap<String, Option<String>>,
    pub(crate) packages: Vec<Package>,
}

/// The project's root folder.
pub(crate) fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}

impl Tree {
    /// Reads the project: what git tracks or would track, and what cargo knows of the workspace.
    pub(crate) fn load() -> Result<Self> {
        let root = root();
        let mut files = BTreeMap::new();
        for path in tracked(&root)? {
            // Deleted but not yet staged.
            let Ok(bytes) = fs::read(root.join(&path)) else {
                continue;
            };
            files.insert(path, String::from_utf8(bytes).ok());
        }
        Ok(Self { files, packages: packages(&root)? })
    }

    /// The text files whose path passes the filter.
    pub(crate) fn texts<'a>(&'a self, keep: impl Fn(&str) -> bool + 'a) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.files.iter().filter_map(move |(path, text)| {
            let text = text.as_deref()?;
            keep(path).then_some((path.as_str(), text))
        })
    }

    /// The text of one file.
    pub(crate) fn text(&self, path: &str) -> Option<&str> {
        self.files.get(path)?.as_deref()
    }

    /// The workspace's Rust files (the separate fuzz workspace included).
    pub(crate) fn rust(&self) -> impl Iterator<Item = (&str, &str)> {
        self.texts(|path| path.ends_with(".rs"))
    }

    /// The package whose folder holds the file.
    pub(crate) fn package_of(&self, path: &str) -> Option<&Package> {
        self.packages.iter().find(|p| path.strip_prefix(p.dir.as_str()).is_some_and(|rest| rest.starts_with('/')))
    }

    /// The Rust files that are not tests, neither by their path nor by how they are declared.
    pub(crate) fn production(&self) -> impl Iterator<Item = (&str, &str)> {
        let mut tests = Vec::new();
        for (path, text) in self.rust() {
            let (dir, file) = path.rsplit_once('/').unwrap_or(("", path));
            let base = match file {
                "lib.rs" | "main.rs" => dir.to_owned(),
                _ => path.trim_end_matches(".rs").to_owned(),
            };
            tests.extend(test_modules(&code_only(text)).into_iter().map(|name| format!("{base}/{name}")));
        }
        self.rust().filter(move |(path, _)| {
            let declared =
                |stem: &String| path.strip_prefix(stem.as_str()).is_some_and(|r| r == ".rs" || r.starts_with('/'));
            !is_test_path(path) && !tests.iter().any(declared)
        })
    }

    #[cfg(test)]
    pub(crate) fn of(files: &[(&str, &str)]) -> Self {
        let files = files.iter().map(|(p, t)| ((*p).to_owned(), Some((*t).to_owned()))).collect();
        Self { files, packages: Vec::new() }
    }
}

fn tracked(root: &Path) -> Result<Vec<String>> {
    let out = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(root)
        .output()
        .context("running git ls-files")?;
    ensure!(out.status.success(), "git ls-files: {}", String::from_utf8_lossy(&out.stderr).trim());
    let mut paths: Vec<String> = out
        .stdout
        .split(|b| *b == 0)
        .filter(|p| !p.is_empty())
        .map(|p| String::from_utf8_lossy(p).into_owned())
        .collect();
    paths.sort();
    paths.dedup();
    Ok(paths)
}

fn packages(root: &Path) -> Result<Vec<Package>> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let out = Command::new(cargo)
        .args(["metadata", "--no-deps", "--format-version", "1"])
        .current_dir(root)
        .output()
        .context("running cargo metadata")?;
    ensure!(out.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&out.stderr).trim());
    let metadata: Value = serde_json::from_slice(&out.stdout).context("reading cargo metadata")?;
    let list = metadata["packages"].as_array().context("cargo metadata has no packages")?;
    list.iter().map(|p| package(root, p)).collect()
}

fn package(root: &Path, value: &Value) -> Result<Package> {
    let text = |v: &Value| v.as_str().map(str::to_owned).context("cargo metadata: a field is not a string");
    let manifest = PathBuf::from(text(&value["manifest_path"])?);
    let dir = manifest.parent().and_then(|d| d.strip_prefix(root).ok()).context("package outside the root")?;
    let mut package =
        Package { name: text(&value["name"])?, dir: dir.to_string_lossy().into_owned(), ..Package::default() };
    for dep in value["dependencies"].as_array().into_iter().flatten() {
        let list = if dep["kind"] == "dev" { &mut package.dev_deps } else { &mut package.deps };
        list.push(text(&dep["name"])?);
    }
    Ok(package)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_tests_from_production() {
        let files = ["src/lib.rs", "src/a.rs", "src/vectors.rs", "src/a/more.rs", "src/a/tests.rs", "src/a/ok.rs"];
        let mut tree = Tree::of(&files.map(|f| (f, "")));
        tree.files.insert("src/lib.rs".into(), Some("#[cfg(test)]\nmod vectors;\nmod a;".into()));
        tree.files.insert("src/a.rs".into(), Some("#[cfg(test)]\nmod more;".into()));
        let kept: Vec<&str> = tree.production().map(|(path, _)| path).collect();
        assert_eq!(kept, ["src/a.rs", "src/a/ok.rs", "src/lib.rs"]);
    }

    #[test]
    fn loads_this_project() {
        let tree = Tree::load().unwrap();
        assert!(tree.text("Cargo.toml").is_some());
        let me = tree.packages.iter().find(|p| p.name == "xtask").unwrap();
        assert_eq!(me.dir, "xtask");
        assert!(me.deps.iter().any(|d| d == "dev-testkit"));
        assert_eq!(tree.package_of("xtask/src/main.rs").unwrap().name, "xtask");
    }
}
