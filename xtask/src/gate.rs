//! `test`: the whole gate, step by step, closing with one line of counts.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::mpsc;

use anyhow::{Context, Result, bail};
use dev_testkit::paths::{READ_LOG_ENV, files_below};

use crate::tidy::{self, Gaps};
use crate::tree::{Tree, root};

/// What was run so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    passed: usize,
    failed: usize,
    skipped: usize,
}

impl Counts {
    fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }

    fn check(passed: bool) -> Self {
        Self { passed: usize::from(passed), failed: usize::from(!passed), skipped: 0 }
    }

    const SKIPPED: Self = Self { passed: 0, failed: 0, skipped: 1 };
}

type Step = fn(&Path) -> Result<Counts>;

/// Cheap first. A failing step does not stop the later ones: one run shows everything.
const STEPS: &[(&str, Step)] =
    &[("fmt", fmt), ("tidy", tidy_step), ("clippy", clippy), ("tests", tests), ("docs", docs)];

/// Runs the named steps, or all.
pub(crate) fn run(only: Option<&str>) -> Result<ExitCode> {
    let wanted: Option<Vec<&str>> = only.map(|list| list.split(',').collect());
    if let Some(other) = wanted.iter().flatten().find(|name| !STEPS.iter().any(|(step, _)| step == *name)) {
        let known: Vec<&str> = STEPS.iter().map(|(name, _)| *name).collect();
        bail!("no step is called {other}; there are {}", known.join(", "));
    }
    let root = root();
    let mut total = Counts::default();
    let mut broken = Vec::new();
    for (name, step) in STEPS.iter().filter(|(name, _)| wanted.as_ref().is_none_or(|list| list.contains(name))) {
        println!("==> {name}");
        let counts = step(&root).with_context(|| format!("step {name}"))?;
        if counts.failed > 0 {
            broken.push(*name);
        }
        total.add(counts);
    }
    if !broken.is_empty() {
        println!("failed: {}", broken.join(", "));
    }
    println!("{} passed, {} failed, {} skipped", total.passed, total.failed, total.skipped);
    Ok(if total.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn cargo() -> OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

/// Runs cargo with its output passed through; true if it succeeded.
fn cargo_passes(root: &Path, args: &[&str], env: &[(&str, &str)]) -> Result<bool> {
    let mut command = Command::new(cargo());
    command.args(args).envs(env.iter().copied()).current_dir(root);
    Ok(command.status().with_context(|| format!("running cargo {}", args.join(" ")))?.success())
}

/// Is the cargo subcommand there, if need be after asking rustup for the component?
fn component(subcommand: &str, name: &str) -> bool {
    let present = || {
        let mut command = Command::new(cargo());
        command.args([subcommand, "--version"]).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|s| s.success())
    };
    let install = || Command::new("rustup").args(["component", "add", name]).status().is_ok_and(|s| s.success());
    present() || (install() && present())
}

fn fmt(root: &Path) -> Result<Counts> {
    if !component("fmt", "rustfmt") {
        println!("skipped: 1 formatting: rustfmt is missing and rustup could not add it");
        return Ok(Counts::SKIPPED);
    }
    Ok(Counts::check(cargo_passes(root, &["fmt", "--all", "--check"], &[])?))
}

fn tidy_step(_root: &Path) -> Result<Counts> {
    let outcome = tidy::outcome(&Tree::load()?);
    Ok(Counts { passed: outcome.passed, failed: outcome.failed, skipped: 0 })
}

fn clippy(root: &Path) -> Result<Counts> {
    if !component("clippy", "clippy") {
        println!("skipped: 1 lints: clippy is missing and rustup could not add it");
        return Ok(Counts::SKIPPED);
    }
    let args = ["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"];
    Ok(Counts::check(cargo_passes(root, &args, &[])?))
}

fn docs(root: &Path) -> Result<Counts> {
    let args = ["doc", "--workspace", "--no-deps", "--quiet"];
    Ok(Counts::check(cargo_passes(root, &args, &[("RUSTDOCFLAGS", "-D warnings")])?))
}

/// Runs every test, then asks whether every recorded file was read by one.
fn tests(root: &Path) -> Result<Counts> {
    let log = root.join("target/vectors-read");
    if log.exists() {
        fs::remove_dir_all(&log).with_context(|| log.display().to_string())?;
    }
    // Tests start programs of other packages too, which `cargo test` alone does not build.
    if !cargo_passes(root, &["build", "--workspace", "--bins", "--tests"], &[])? {
        return Ok(Counts::check(false));
    }
    let mut counts = cargo_test(root, &log)?;
    let unread = unread_vectors(root, &log)?;
    for problem in &unread {
        println!("  {problem}");
    }
    println!("vectors read: {}", if unread.is_empty() { "ok".into() } else { format!("{} problem(s)", unread.len()) });
    counts.add(Counts::check(unread.is_empty()));
    Ok(counts)
}

fn cargo_test(root: &Path, log: &Path) -> Result<Counts> {
    let mut child = Command::new(cargo())
        .args(["test", "--workspace", "--no-fail-fast", "--", "--show-output"])
        .env(READ_LOG_ENV, log)
        .current_dir(root)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("running cargo test")?;
    let (lines, received) = mpsc::channel();
    let mut readers = Vec::new();
    if let Some(out) = child.stdout.take() {
        readers.push(forward(out, lines.clone(), false));
    }
    if let Some(err) = child.stderr.take() {
        readers.push(forward(err, lines, true));
    }
    let mut counts = Counts::default();
    let mut failures = Failures::default();
    for (line, is_err) in received {
        counts.add(count_line(&line));
        if !is_err {
            failures.read(&line);
        }
    }
    failures.tell();
    for reader in readers {
        if reader.join().is_err() {
            bail!("reading the output of cargo test failed");
        }
    }
    let status = child.wait().context("waiting for cargo test")?;
    Ok(settle(counts, status.success()))
}

/// A build failure or a crashed test binary has no count of its own.
fn settle(mut counts: Counts, success: bool) -> Counts {
    if !success && counts.failed == 0 {
        println!("cargo test failed without a failing test: a build failure or a crashed test binary");
        counts.failed += 1;
    }
    if success && counts.passed == 0 {
        println!("cargo test succeeded, but ran nothing");
        counts.failed += 1;
    }
    counts
}

/// Most lines of failed tests that are told again.
const MAX_FAILURE_LINES: usize = 400;

/// What failed tests printed: thousands of lines of others follow it, so it is told again at the end.
#[derive(Debug, Default)]
struct Failures {
    within: bool,
    lines: Vec<String>,
}

impl Failures {
    /// A test program prints `failures:`, the output of each failed test, and `failures:` again before their names.
    fn read(&mut self, line: &str) {
        let line = line.trim_end();
        if line == "failures:" {
            self.within = !self.within;
        } else if line.starts_with("test result: ") {
            self.within = false;
        } else if self.within && !line.is_empty() && !is_frame(line) && self.lines.len() < MAX_FAILURE_LINES {
            self.lines.push(line.to_owned());
        }
    }

    fn tell(&self) {
        if !self.lines.is_empty() {
            println!("what failed tests printed, without backtraces:");
        }
        for line in &self.lines {
            println!("  {line}");
        }
    }
}

/// Is it a line of a backtrace: `  12: function` or `      at path:1:2`?
fn is_frame(line: &str) -> bool {
    let text = line.trim_start();
    let number = text.split_once(": ").is_some_and(|(before, _)| before.bytes().all(|byte| byte.is_ascii_digit()));
    line.len() != text.len() && (number || text.starts_with("at "))
}

/// Passes lines on to our own stream and to the counter.
fn forward(
    from: impl Read + Send + 'static,
    to: mpsc::Sender<(String, bool)>,
    is_err: bool,
) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        let mut reader = BufReader::new(from);
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
            // If our own output is gone there is nobody left to tell; the counts still matter for the exit code.
            let _ = if is_err { std::io::stderr().write_all(&line) } else { std::io::stdout().write_all(&line) };
            if to.send((String::from_utf8_lossy(&line).into_owned(), is_err)).is_err() {
                return;
            }
            line.clear();
        }
    })
}

/// What one line of the output of `cargo test` adds: a binary's result, or cases that a test says it skipped.
fn count_line(line: &str) -> Counts {
    let line = line.trim();
    if let Some(rest) = line.strip_prefix("test result: ") {
        let field = |name: &str| {
            let part = rest.split(['.', ';']).map(str::trim).find_map(|part| part.strip_suffix(name));
            part.and_then(|number| number.trim().parse().ok()).unwrap_or(0)
        };
        return Counts { passed: field(" passed"), failed: field(" failed"), skipped: field(" ignored") };
    }
    let skipped = line.strip_prefix("skipped: ").and_then(|rest| rest.split_whitespace().next());
    Counts { skipped: skipped.and_then(|number| number.parse().ok()).unwrap_or(0), ..Counts::default() }
}

/// Recorded files that no test read and no gap excuses, and gaps that excuse files which are read.
fn unread_vectors(root: &Path, log: &Path) -> Result<Vec<String>> {
    let mut read = BTreeSet::new();
    if log.exists() {
        for file in files_below(log)? {
            let text = fs::read_to_string(log.join(&file)).with_context(|| file.display().to_string())?;
            read.extend(text.lines().map(str::to_owned));
        }
    }
    let files = files_below(&root.join("vectors")).context("listing vectors")?;
    let gaps_text = fs::read_to_string(root.join("gaps.toml")).context("gaps.toml")?;
    let gaps = Gaps::parse(&gaps_text).map_err(|e| anyhow::anyhow!("gaps.toml: {e}"))?;
    Ok(judge_reads(&files, &read, &gaps))
}

fn judge_reads(files: &[PathBuf], read: &BTreeSet<String>, gaps: &Gaps) -> Vec<String> {
    let mut out = Vec::new();
    for path in files.iter().map(|p| p.to_string_lossy()).filter(|p| !p.ends_with("README.md")) {
        if !read.contains(path.as_ref()) && !gaps.excuses_vector(&path) {
            out.push(format!("vectors/{path}: read by no test"));
        }
    }
    for path in read.iter().filter(|path| gaps.excuses_vector(path)) {
        out.push(format!("vectors/{path}: is read now; take its entry out of gaps.toml"));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adds_up_what_cargo_test_prints() {
        let check = |line: &str, passed, failed, skipped| {
            assert_eq!(count_line(line), Counts { passed, failed, skipped }, "{line}");
        };
        check(
            "test result: ok. 31 passed; 0 failed; 2 ignored; 0 measured; 0 filtered out; finished in 0.20s",
            31,
            0,
            2,
        );
        check("test result: FAILED. 3 passed; 4 failed; 0 ignored; 0 measured; 0 filtered out", 3, 4, 0);
        check("skipped: 12 files of the reference are absent", 0, 0, 12);
        check("test foo::skipped ... ok", 0, 0, 0);
        check("skipped: some", 0, 0, 0);
    }

    #[test]
    fn tells_again_what_failed_tests_printed() {
        let mut failures = Failures::default();
        let printed = "running 2 tests\ntest a ... FAILED\n\nsuccesses:\n\n---- b stdout ----\nfine\n\nfailures:\n\n\
                       ---- a stdout ----\nthread 'a' panicked at a.rs:1:2:\nnot 3\n   0: begin\n             at ./a.rs:1:2\n\
                       \nfailures:\n    a\n\ntest result: FAILED. 1 passed; 1 failed\n";
        for line in printed.lines() {
            failures.read(line);
        }
        assert_eq!(failures.lines, ["---- a stdout ----", "thread 'a' panicked at a.rs:1:2:", "not 3"]);
        assert!(!failures.within);
    }

    #[test]
    fn a_failure_without_a_count_still_fails() {
        let some = Counts { passed: 3, ..Counts::default() };
        assert_eq!(settle(some, false).failed, 1);
        assert_eq!(settle(some, true).failed, 0);
        assert_eq!(settle(Counts::default(), true).failed, 1);
    }

    #[test]
    fn unread_and_wrongly_excused_files_are_named() {
        let files: Vec<PathBuf> = ["README.md", "a/x.gz", "b/y", "c/z"].map(PathBuf::from).to_vec();
        let read = BTreeSet::from(["a/x.gz".to_owned(), "c/z".to_owned()]);
        let gaps = Gaps::parse("[[gap]]\nvectors = \"c/\"\n").unwrap();
        let out = judge_reads(&files, &read, &gaps);
        assert_eq!(out.len(), 2, "{out:?}");
        assert!(out[0].starts_with("vectors/b/y: read by no test"));
        assert!(out[1].starts_with("vectors/c/z: is read now"));
    }

    #[test]
    fn unknown_steps_are_refused() {
        assert!(run(Some("tests,none")).unwrap_err().to_string().starts_with("no step is called none"));
    }
}
