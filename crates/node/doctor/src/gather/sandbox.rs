//! bubblewrap, tried out.

use std::io::Read as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::Sandbox;

/// Longest wait for a program.
const PATIENCE: Duration = Duration::from_secs(5);
/// Most bytes of its output that are kept.
const MAX_OUTPUT: u64 = 4096;
/// Much as runtimes are run: nothing shared, own temporary directory and devices.
const ARGUMENTS: [&str; 16] = [
    "--unshare-all",
    "--die-with-parent",
    "--new-session",
    "--cap-drop",
    "ALL",
    "--ro-bind",
    "/",
    "/",
    "--tmpfs",
    "/tmp",
    "--dev",
    "/dev",
    "--hostname",
    "sandbox",
    "--",
    "/bin/true",
];

/// Runs a program; gives its first line of output, or why it failed.
pub(super) fn run(program: &Path, arguments: &[&str]) -> Result<String, String> {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| error.to_string())?;
    let start = Instant::now();
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if start.elapsed() < PATIENCE => std::thread::sleep(Duration::from_millis(10)),
            Ok(None) => {
                // It is ended and waited for, so that nothing stays behind.
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("did not end within {} s", PATIENCE.as_secs()));
            }
            Err(error) => return Err(error.to_string()),
        }
    };
    let mut text = String::new();
    let mut read = |stream: Option<&mut dyn std::io::Read>| {
        if let Some(stream) = stream {
            let mut bytes = Vec::new();
            // What can't be read is not shown.
            let _ = stream.take(MAX_OUTPUT).read_to_end(&mut bytes);
            text.push_str(&String::from_utf8_lossy(&bytes));
        }
    };
    read(child.stderr.as_mut().map(|stream| stream as &mut dyn std::io::Read));
    read(child.stdout.as_mut().map(|stream| stream as &mut dyn std::io::Read));
    let line = text.lines().next().unwrap_or_default().trim().to_owned();
    match status.success() {
        true => Ok(line),
        false if line.is_empty() => Err(status.to_string()),
        false => Err(line),
    }
}

fn setting(path: &str) -> Option<u64> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

pub(super) fn try_out(program: &Path) -> Sandbox {
    let version = run(program, &["--version"]);
    let trial = match &version {
        Ok(_) => run(program, &ARGUMENTS).map(|_| ()),
        Err(_) => Err("no bubblewrap to try".to_owned()),
    };
    Sandbox {
        path: program.to_owned(),
        version,
        trial,
        apparmor: setting("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == Some(1),
        forbidden: setting("/proc/sys/kernel/unprivileged_userns_clone") == Some(0)
            || setting("/proc/sys/user/max_user_namespaces") == Some(0),
    }
}
