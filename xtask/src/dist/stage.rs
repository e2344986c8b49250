//! What is installed, and where: programs, services, completions, manual pages, documents.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::dist::archive::gzip;
use crate::dist::{Settings, manual};

/// Programs for everybody; the others are only used by the devnet, and lie where it looks for them.
const COMMANDS: [&str; 4] = ["oasis", "oasis-core-runtime-loader", "oasis-node", "oasis-remote-signer"];
const HELPERS: [&str; 4] = ["oasis-devnet", "oasis-signer-plugin-example", "simple-keymanager", "simple-keyvalue"];
/// Programs that have manual pages.
const DOCUMENTED: [&str; 4] = ["oasis", "oasis-devnet", "oasis-node", "oasis-remote-signer"];
/// Programs that make completions, with the words that ask for them, and places by shell.
const COMPLETED: [&str; 3] = ["oasis", "oasis-devnet", "oasis-node"];
const SHELLS: [(&str, &str, &str); 3] = [
    ("bash", "usr/share/bash-completion/completions/", ""),
    ("fish", "usr/share/fish/vendor_completions.d/", ".fish"),
    ("zsh", "usr/share/zsh/vendor-completions/_", ""),
];
/// Documents of the project that are installed.
const DOCUMENTS: [&str; 4] = ["FORMATS.md", "LICENSE", "README.md", "SECURITY.md"];

/// A file, directory or link to be installed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// Path below the root, without a slash at the beginning.
    pub(super) path: String,
    pub(super) kind: Kind,
    pub(super) mode: u32,
    /// Number of user and group.
    pub(super) owner: u32,
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    Directory,
    Bytes(Vec<u8>),
    File(PathBuf),
    Link(PathBuf),
}

/// Everything to be installed, by path.
#[derive(Debug, Clone, Default)]
pub(super) struct Stage {
    entries: BTreeMap<String, Entry>,
}

impl Stage {
    pub(super) fn file(&mut self, path: impl Into<String>, mode: u32, kind: Kind) {
        let path = path.into();
        let mut parent = Path::new(&path).parent();
        while let Some(dir) = parent.filter(|dir| !dir.as_os_str().is_empty()) {
            let dir_path = dir.display().to_string();
            let entry = Entry { path: dir_path.clone(), kind: Kind::Directory, mode: 0o755, owner: 0 };
            self.entries.entry(dir_path).or_insert(entry);
            parent = dir.parent();
        }
        self.entries.insert(path.clone(), Entry { path, kind, mode, owner: 0 });
    }

    /// A directory with an owner.
    pub(super) fn directory(&mut self, path: &str, mode: u32, owner: u32) {
        self.file(path, mode, Kind::Directory);
        if let Some(entry) = self.entries.get_mut(path) {
            entry.owner = owner;
        }
    }

    /// In the order of their paths: directories come before what is in them.
    pub(super) fn entries(&self) -> Vec<Entry> {
        self.entries.values().cloned().collect()
    }
}

/// Collects everything that is installed from the programs and the project's files.
pub(super) fn stage(settings: &Settings, root: &Path) -> Result<Stage> {
    let mut stage = Stage::default();
    for (names, dir) in [(COMMANDS, "usr/bin"), (HELPERS, "usr/lib/wadi")] {
        for name in names {
            let path = settings.programs.join(name);
            ensure!(path.is_file(), "there is no {}", path.display());
            stage.file(format!("{dir}/{name}"), 0o755, Kind::File(path));
        }
    }
    stage.file("usr/bin/oasis-devnet", 0o777, Kind::Link("../lib/wadi/oasis-devnet".into()));
    stage.file("usr/lib/wadi/oasis-node", 0o777, Kind::Link("../../bin/oasis-node".into()));
    for name in COMPLETED {
        for (shell, before, after) in SHELLS {
            let text = answer(&settings.programs.join(name), &["completion", shell])?;
            stage.file(format!("{before}{name}{after}"), 0o644, Kind::Bytes(text));
        }
    }
    for name in DOCUMENTED {
        let page = manual::page(&settings.programs.join(name), name, &settings.version, settings.epoch)?;
        stage.file(format!("usr/share/man/man1/{name}.1.gz"), 0o644, Kind::Bytes(gzip(page.as_bytes())?));
    }
    for (from, to) in [
        ("systemd", "usr/lib/systemd/system"),
        ("sysusers.d", "usr/lib/sysusers.d"),
        ("tmpfiles.d", "usr/lib/tmpfiles.d"),
    ] {
        copy_all(&mut stage, &root.join("contrib").join(from), to)?;
    }
    for (from, to) in [("apparmor", "apparmor"), ("grafana", "grafana"), ("prometheus", "prometheus")] {
        copy_all(&mut stage, &root.join("contrib").join(from), &format!("usr/share/doc/wadi/{to}"))?;
    }
    copy_all(&mut stage, &root.join("docs/guide"), "usr/share/doc/wadi/guide")?;
    for name in DOCUMENTS {
        stage.file(format!("usr/share/doc/wadi/{name}"), 0o644, Kind::File(root.join(name)));
    }
    Ok(stage)
}

/// The files that lie directly in a directory.
fn copy_all(stage: &mut Stage, from: &Path, to: &str) -> Result<()> {
    for entry in fs::read_dir(from).with_context(|| from.display().to_string())? {
        let path = entry?.path();
        if path.is_file() {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            stage.file(format!("{to}/{name}"), 0o644, Kind::File(path));
        }
    }
    Ok(())
}

/// What a program prints.
pub(super) fn answer(program: &Path, words: &[&str]) -> Result<Vec<u8>> {
    let out = Command::new(program).args(words).env("COLUMNS", "100").output();
    let out = out.with_context(|| program.display().to_string())?;
    ensure!(
        out.status.success(),
        "{} {}: {}",
        program.display(),
        words.join(" "),
        String::from_utf8_lossy(&out.stderr)
    );
    Ok(out.stdout)
}
