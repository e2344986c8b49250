//! Tells whether the sandbox works on this machine, and what to do where it does not.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use tokio::{process::Command, time::timeout};

/// Oldest version of bubblewrap that has what the sandbox needs.
pub const MIN_VERSION: (u32, u32, u32) = (0, 3, 3);
/// How long a try-out may take.
const PROBE_TIMEOUT: Duration = Duration::from_secs(10);
/// Most bytes of output that are kept.
const MAX_OUTPUT: usize = 2000;

/// A sandbox that works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Its version.
    pub version: (u32, u32, u32),
}

/// Why the sandbox does not work, and what helps.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// There is no such file.
    #[error(
        "sandbox binary {} not found; install it (apt install bubblewrap, dnf install bubblewrap) or set \
         runtime.sandbox_binary", path.display()
    )]
    Missing {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// It cannot be run, or does not say what it is.
    #[error("{} --version failed: {reason}; is it bubblewrap?", path.display())]
    NotBubblewrap {
        /// The file.
        path: PathBuf,
        /// What happened.
        reason: String,
    },
    /// Too old.
    #[error(
        "{} is bubblewrap {}.{}.{}, at least 0.3.3 is needed; upgrade it or build a newer one and set \
         runtime.sandbox_binary", path.display(), found.0, found.1, found.2
    )]
    TooOld {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: (u32, u32, u32),
    },
    /// A sandbox cannot be made.
    #[error("a sandbox cannot be made: {output}; {remedy}")]
    Refused {
        /// What it said.
        output: String,
        /// What helps.
        remedy: &'static str,
    },
}

/// Asks for the version and makes a sandbox as for a runtime, in which nothing happens.
///
/// # Errors
/// What does not work.
pub async fn probe(binary: &Path) -> Result<Report, Problem> {
    if !binary.is_file() {
        return Err(Problem::Missing { path: binary.into() });
    }
    let failed = |reason: String| Problem::NotBubblewrap { path: binary.into(), reason };
    let (ok, output) = run(binary, &["--version"]).await.map_err(failed)?;
    let version = parse_version(&output).filter(|_| ok).ok_or_else(|| failed(output))?;
    if version < MIN_VERSION {
        return Err(Problem::TooOld { path: binary.into(), found: version });
    }
    let arguments = [
        "--unshare-all",
        "--cap-drop",
        "ALL",
        "--hostname",
        "oasis-core",
        "--ro-bind",
        "/",
        "/",
        "--tmpfs",
        "/tmp",
        "--dev",
        "/dev",
        "--die-with-parent",
        "--new-session",
        "--chdir",
        "/",
        "--",
        "/bin/true",
    ];
    match run(binary, &arguments).await {
        Ok((true, _)) => Ok(Report { version }),
        Ok((false, output)) | Err(output) => Err(Problem::Refused { remedy: remedy(&output), output }),
    }
}

/// Runs it; whether it succeeded, and what it printed.
async fn run(binary: &Path, arguments: &[&str]) -> Result<(bool, String), String> {
    let output = Command::new(binary).args(arguments).stdin(Stdio::null()).kill_on_drop(true).output();
    let output = timeout(PROBE_TIMEOUT, output).await.map_err(|_| format!("no end after {PROBE_TIMEOUT:?}"))?;
    let output = output.map_err(|e| e.to_string())?;
    let bytes: Vec<u8> = output.stdout.into_iter().chain(output.stderr).take(MAX_OUTPUT).collect();
    Ok((output.status.success(), String::from_utf8_lossy(&bytes).trim().to_owned()))
}

/// `bubblewrap 0.8.0`.
fn parse_version(text: &str) -> Option<(u32, u32, u32)> {
    let mut parts = text.strip_prefix("bubblewrap ")?.split_whitespace().next()?.split('.').map(str::parse);
    let mut next = || parts.next()?.ok();
    Some((next()?, next()?, next().unwrap_or(0)))
}

/// What helps against what bubblewrap said.
pub(crate) fn remedy(output: &str) -> &'static str {
    let has = |part: &str| output.contains(part);
    if has("setting up uid map")
        || has("No permissions to create")
        || has("creating new namespace")
        || has("Creating new namespace")
    {
        "user namespaces are restricted: load the AppArmor profile of contrib/apparmor, or set \
         kernel.apparmor_restrict_unprivileged_userns=0 (kernel.unprivileged_userns_clone=1 on older systems)"
    } else if has("Failed to mount") || has("Failed to make / slave") || has("pivot_root") {
        "mounting is forbidden, as in a container: run it with --security-opt apparmor=unconfined and \
         --security-opt seccomp=unconfined, or with a profile that allows mounts"
    } else if has("proc") {
        "/proc is masked, as in a container: unmask it (docker: --security-opt systempaths=unconfined)"
    } else {
        "run the same command by hand to see more"
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn fake(dir: &Path, script: &str) -> PathBuf {
        let path = dir.join("bwrap");
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("written");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).expect("made executable");
        path
    }

    #[test]
    fn versions_are_read() {
        for (text, version) in [
            ("bubblewrap 0.8.0", Some((0, 8, 0))),
            ("bubblewrap 0.11.0\n", Some((0, 11, 0))),
            ("bubblewrap 1.0", Some((1, 0, 0))),
            ("bwrap 0.8.0", None),
            ("bubblewrap x", None),
            ("", None),
        ] {
            assert_eq!(parse_version(text), version, "{text}");
        }
    }

    #[tokio::test]
    async fn each_problem_has_a_remedy() {
        let dir = tempfile::tempdir().expect("a folder");
        let text = |problem: Result<Report, Problem>| problem.expect_err("a problem").to_string();
        assert!(text(probe(&dir.path().join("none")).await).contains("apt install bubblewrap"));
        let path = fake(dir.path(), "echo bubblewrap 0.3.1");
        assert_eq!(probe(&path).await, Err(Problem::TooOld { path: path.clone(), found: (0, 3, 1) }));
        fake(dir.path(), "echo hello");
        assert!(matches!(probe(&path).await, Err(Problem::NotBubblewrap { .. })));
        for (said, helps) in [
            ("bwrap: setting up uid map: Permission denied", "contrib/apparmor"),
            ("bwrap: No permissions to create new namespace", "contrib/apparmor"),
            ("bwrap: Failed to mount tmpfs: Permission denied", "apparmor=unconfined"),
            ("bwrap: Can't mount proc on /newroot/proc", "systempaths"),
            ("something", "by hand"),
        ] {
            fake(
                dir.path(),
                &format!("[ \"$1\" = --version ] && echo bubblewrap 0.8.0 && exit 0\necho \"{said}\" >&2; exit 1"),
            );
            let text = text(probe(&path).await);
            assert!(text.contains(said) && text.contains(helps), "{text}");
        }
        fake(dir.path(), "echo bubblewrap 0.3.3");
        assert_eq!(probe(&path).await, Ok(Report { version: (0, 3, 3) }));
    }
}
