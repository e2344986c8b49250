//! `dist`: release builds that come out the same everywhere, and what is made of them: archive, Debian package, OCI image.
//!
//! Everything that is made is equal when the programs are: names in order, owner root, times from the newest commit.

mod archive;
mod debian;
mod image;
mod manual;
mod stage;
#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context as _, Result, bail, ensure};
use sha2::{Digest as _, Sha256};

use crate::tree::root;

/// What is handed out: package and program have one name.
pub(crate) const PROGRAMS: [&str; 8] = [
    "oasis",
    "oasis-core-runtime-loader",
    "oasis-devnet",
    "oasis-node",
    "oasis-remote-signer",
    "oasis-signer-plugin-example",
    "simple-keymanager",
    "simple-keyvalue",
];
const PROFILE: &str = "dist";

/// How things are made.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// Where the programs are.
    pub(crate) programs: PathBuf,
    /// Where the results go.
    pub(crate) out: PathBuf,
    /// Seconds since 1970 that stand for the time of everything.
    pub(crate) epoch: u64,
    /// Version of the packages.
    pub(crate) version: String,
}

/// Runs the command.
pub(crate) fn run(args: &[&str]) -> Result<ExitCode> {
    let (mut out, mut programs, mut kinds) = (root().join("target/dist-out"), None, Vec::new());
    let mut rest = args.iter();
    while let Some(word) = rest.next() {
        match *word {
            "--out" => out = PathBuf::from(rest.next().context("--out needs a directory")?),
            "--programs" => programs = Some(PathBuf::from(rest.next().context("--programs needs a directory")?)),
            "reproduce" => {
                let packages: Vec<&str> = rest.copied().collect();
                return reproduce(if packages.is_empty() { &PROGRAMS } else { &packages });
            }
            kind @ ("archive" | "deb" | "oci") => kinds.push(kind),
            other => {
                bail!("dist knows no {other:?}; there are archive, deb, oci, reproduce, --out DIR, --programs DIR")
            }
        }
    }
    if kinds.is_empty() {
        kinds = vec!["archive", "deb", "oci"];
    }
    let programs = match programs {
        Some(dir) => dir,
        None => build(&root(), &root().join("target"), &PROGRAMS)?,
    };
    fs::create_dir_all(&out).with_context(|| out.display().to_string())?;
    let settings = Settings { programs, out, epoch: epoch(&root())?, version: version(&root())? };
    let staged = stage::stage(&settings, &root())?;
    let mut made = Vec::new();
    for kind in kinds {
        made.extend(match kind {
            "archive" => vec![archive::write(&settings, &staged)?],
            "deb" => vec![debian::write(&settings, &staged)?],
            _ => vec![image::write(&settings, &staged)?],
        });
    }
    let mut sums = String::new();
    for name in PROGRAMS {
        println!("{}  {name}", sha256_of(&settings.programs.join(name))?);
    }
    for path in &made {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        sums.push_str(&format!("{}  {name}\n", sha256_of(path)?));
    }
    print!("{sums}");
    fs::write(settings.out.join("SHA256SUMS"), &sums)?;
    println!("in {}", settings.out.display());
    Ok(ExitCode::SUCCESS)
}

/// The SHA-256 of a file, hexadecimal.
pub(crate) fn sha256_of(path: &Path) -> Result<String> {
    Ok(hex::encode(Sha256::digest(fs::read(path).with_context(|| path.display().to_string())?)))
}

/// Time of the newest commit, or what the environment says, in seconds since 1970.
fn epoch(root: &Path) -> Result<u64> {
    if let Ok(text) = std::env::var("SOURCE_DATE_EPOCH") {
        return text.parse().context("SOURCE_DATE_EPOCH");
    }
    let out = Command::new("git").args(["log", "-1", "--format=%ct"]).current_dir(root).output().context("git log")?;
    String::from_utf8_lossy(&out.stdout).trim().parse().context("time of the newest commit; set SOURCE_DATE_EPOCH")
}

fn version(root: &Path) -> Result<String> {
    let text = fs::read_to_string(root.join("Cargo.toml"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("version = \"")).context("version of the workspace")?;
    Ok(line.trim_end_matches('"').to_owned())
}

/// Builds programs for release, without a trace of where, and gives the directory that they are in.
fn build(root: &Path, target: &Path, packages: &[&str]) -> Result<PathBuf> {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(["build", "--locked", "--profile", PROFILE]).arg("--target-dir").arg(target).current_dir(root);
    packages.iter().for_each(|package| {
        command.args(["--package", package]);
    });
    for (name, value) in environment(root)? {
        command.env(name, value);
    }
    ensure!(command.status().context("running cargo build")?.success(), "cargo build failed");
    Ok(target.join(PROFILE))
}

/// What makes the result independent of the machine: paths are replaced in debug information and messages, in C code
/// too, and nothing takes the time of day.
fn environment(root: &Path) -> Result<Vec<(&'static str, OsString)>> {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo"))).context("no HOME")?;
    let sysroot = Command::new("rustc").args(["--print", "sysroot"]).output().context("rustc")?;
    let sysroot = PathBuf::from(String::from_utf8_lossy(&sysroot.stdout).trim());
    let places = [(root, "/wadi"), (home.as_path(), "/cargo"), (sysroot.as_path(), "/rust")];
    let rust: Vec<String> =
        places.iter().map(|(from, to)| format!("--remap-path-prefix={}={to}", from.display())).collect();
    let c: Vec<String> = places.iter().map(|(from, to)| format!("-ffile-prefix-map={}={to}", from.display())).collect();
    Ok(vec![
        ("CARGO_ENCODED_RUSTFLAGS", rust.join("\x1f").into()),
        ("CFLAGS", c.join(" ").into()),
        ("CARGO_INCREMENTAL", "0".into()),
        ("SOURCE_DATE_EPOCH", epoch(root)?.to_string().into()),
        ("TZ", "UTC".into()),
        ("LC_ALL", "C".into()),
    ])
}

/// Builds the programs twice, at two places, and compares.
fn reproduce(packages: &[&str]) -> Result<ExitCode> {
    let copy = std::env::temp_dir().join(format!("wadi-reproduce-{}", std::process::id()));
    fs::create_dir_all(&copy)?;
    let listed = Command::new("git").args(["ls-files", "-z"]).current_dir(root()).stdout(Stdio::piped()).output()?;
    for name in listed.stdout.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let name = String::from_utf8_lossy(name).into_owned();
        let (from, to) = (root().join(&name), copy.join(&name));
        if from.is_file() && !name.starts_with("vectors/") {
            fs::create_dir_all(to.parent().unwrap_or(&copy))?;
            fs::copy(&from, &to).with_context(|| name.clone())?;
        }
    }
    let first = build(&root(), &root().join("target"), packages)?;
    let second = build(&copy, &copy.join("elsewhere"), packages)?;
    let mut differing = 0;
    for name in packages {
        let (one, other) = (sha256_of(&first.join(name))?, sha256_of(&second.join(name))?);
        let verdict = if one == other { "same" } else { "DIFFERENT" };
        println!("{one}  {name}  {verdict}");
        differing += usize::from(one != other);
    }
    fs::remove_dir_all(&copy)?;
    println!("{} of {} programs are the same from two places", packages.len() - differing, packages.len());
    Ok(if differing == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
