//! `oasis-node config …`: migrating and showing configurations.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use base_service::{errln, out, outln};
use clap::Subcommand;
use node_migrate::{Generation, LoadError, Loaded};

use crate::tool::fail;

/// Subcommands of `config`.
#[derive(Subcommand)]
pub(crate) enum ConfigCommand {
    /// Write a configuration of any older generation with today's keys.
    Migrate(MigrateArgs),
    /// Print the configuration that a node would run with: the file, variables and defaults.
    Show,
}

#[derive(clap::Args)]
pub(crate) struct MigrateArgs {
    /// Configuration file of an older generation.
    #[arg(long = "in", value_name = "FILE")]
    input: PathBuf,
    /// File to write; not the same.
    #[arg(long = "out", value_name = "FILE")]
    output: PathBuf,
}

fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Reads a configuration of any generation; without a file, the defaults.
pub(crate) fn load(path: Option<&Path>) -> Result<Loaded, LoadError> {
    let Some(path) = path else { return node_migrate::load("", "", &environment) };
    let text = node_config::read_file(path)?;
    node_migrate::load(&path.display().to_string(), &text, &environment)
}

/// One warning per key of an older generation, and how to be rid of them.
pub(crate) fn warn(path: Option<&Path>, loaded: &Loaded) {
    if loaded.findings.is_empty() {
        return;
    }
    for finding in &loaded.findings {
        tracing::warn!(module = "config", line = finding.line, key = finding.key, "{finding}");
    }
    let path = path.unwrap_or(Path::new("")).display();
    tracing::warn!(
        module = "config",
        generation = %loaded.generation,
        "this configuration is of an older generation; run `oasis-node config migrate --in {path} --out NEW.yml` and use \
         the new file"
    );
}

pub(crate) fn run(command: &ConfigCommand, config: Option<&Path>) -> ExitCode {
    match command {
        ConfigCommand::Migrate(args) => migrate(args),
        ConfigCommand::Show => show(config),
    }
}

fn show(config: Option<&Path>) -> ExitCode {
    match load(config) {
        Err(error) => fail(error),
        Ok(loaded) => {
            for finding in &loaded.findings {
                errln!("warning: {finding}");
            }
            out!("{}", loaded.config.to_yaml());
            ExitCode::SUCCESS
        }
    }
}

fn migrate(args: &MigrateArgs) -> ExitCode {
    let MigrateArgs { input, output } = args;
    let same = |a: &Path, b: &Path| a == b || a.canonicalize().ok().is_some_and(|a| Some(a) == b.canonicalize().ok());
    if same(input, output) {
        return fail("input and output file names must be different");
    }
    let text = match node_config::read_file(input) {
        Ok(text) => text,
        Err(error) => return fail(error),
    };
    let outcome = match node_migrate::migrate(&text) {
        Ok(outcome) => outcome,
        Err(error) => return fail(format!("{}: {error}", input.display())),
    };
    let new = outcome.to_yaml();
    let file = File::options().write(true).create(true).truncate(true).mode(0o600).open(output);
    if let Err(error) = file.and_then(|mut file| file.write_all(new.as_bytes())) {
        return fail(format!("{}: cannot write: {error}", output.display()));
    }
    let (unmapped, done): (Vec<_>, Vec<_>) = outcome.findings.iter().partition(|finding| finding.is_unmapped());
    match outcome.generation {
        Generation::Current if done.is_empty() => outln!("{}: nothing to migrate", input.display()),
        generation => outln!("{}: configuration of generation {generation}", input.display()),
    }
    for finding in &done {
        outln!("  {finding}");
    }
    outln!("written to {}", output.display());
    let problems = node_migrate::problems_of(&new, &environment);
    if unmapped.is_empty() && problems.is_empty() {
        return ExitCode::SUCCESS;
    }
    for finding in &unmapped {
        outln!("not migrated: {finding}");
    }
    for problem in &problems {
        outln!("to settle in the new file: {problem}");
    }
    fail(format!("{} needs to be edited before a node can use it", output.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn exit(args: &[&str]) -> bool {
        let args = std::iter::once("oasis-node").chain(args.iter().copied()).map(Into::into);
        format!("{:?}", crate::run(args)) == format!("{:?}", ExitCode::SUCCESS)
    }

    #[test]
    fn migrates_files() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name).display().to_string();
        let (old, new) = (path("old.yml"), path("new.yml"));
        std::fs::write(&old, "datadir: /d\nworker.p2p.port: 7\n").unwrap();
        assert!(!exit(&["config", "migrate", "--in", &old, "--out", &old]));
        assert!(!exit(&["config", "migrate", "--in", &path("none"), "--out", &new]));
        assert!(exit(&["config", "migrate", "--in", &old, "--out", &new]));
        assert_eq!(std::fs::read_to_string(&new).unwrap(), "mode: client\ncommon:\n  data_dir: /d\np2p:\n  port: 7\n");
        assert_eq!(std::fs::metadata(&new).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(exit(&["--config", &new, "config", "show"]));
        assert!(exit(&["--config", &old, "config", "show"]));
        // What the operator must settle is an error, and the file is there to be edited.
        std::fs::write(&old, "datadir: /d\nnonsense: 1\nconsensus.tendermint.p2p.seed: [\"AB@1.2.3.4:1\"]\n").unwrap();
        assert!(!exit(&["config", "migrate", "--in", &old, "--out", &new]));
        let text = std::fs::read_to_string(&new).unwrap();
        assert!(text.contains("INSERT_P2P_PUBKEY_HERE@1.2.3.4:1") && text.contains("nonsense"), "{text}");
        assert!(!exit(&["--config", &old, "config", "show"]));
    }

    #[test]
    fn loads_every_generation() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.yml");
        std::fs::write(&path, "datadir: /d\n").unwrap();
        let loaded = load(Some(&path)).unwrap();
        assert_eq!((loaded.config.common.data_dir.as_str(), loaded.findings.len()), ("/d", 1));
        std::fs::write(&path, "common: {data_dir: /d}\n").unwrap();
        assert!(load(Some(&path)).unwrap().findings.is_empty());
        assert_eq!(load(None).unwrap().config, node_config::Config::default());
        std::fs::write(&path, "common: {data_dir: [}\n").unwrap();
        assert!(load(Some(&path)).is_err());
    }
}
