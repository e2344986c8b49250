//! The devnet from beginning to end, as somebody who has just cloned the project gets it: real processes, a key manager,
//! a ParaTime in a sandbox, a transaction in it, and nothing left behind.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use cli_devnet::{Plan, User};

const DEVNET: &str = env!("CARGO_BIN_EXE_oasis-devnet");
/// How long anything may take: the machine may be busy with other things.
const PATIENCE: Duration = Duration::from_secs(600);
/// What is printed once everything works.
const UP: &str = "press Ctrl-C to stop";

/// A devnet that is killed if the test ends before it.
struct Devnet {
    child: Child,
    lines: Receiver<String>,
    seen: Vec<String>,
}

impl Devnet {
    fn start(arguments: &[&str]) -> Self {
        let mut child = Command::new(DEVNET)
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the devnet starts");
        let (told, lines) = channel();
        let (out, err) = (child.stdout.take().expect("piped"), child.stderr.take().expect("piped"));
        let twin = told.clone();
        std::thread::spawn(move || BufReader::new(out).lines().map_while(Result::ok).for_each(|l| drop(told.send(l))));
        std::thread::spawn(move || BufReader::new(err).lines().map_while(Result::ok).for_each(|l| drop(twin.send(l))));
        Self { child, lines, seen: Vec::new() }
    }

    /// Waits for a line that holds a text.
    fn wait_for(&mut self, text: &str) -> String {
        let until = Instant::now() + PATIENCE;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => {
                    self.seen.push(line.clone());
                    if line.contains(text) {
                        return line;
                    }
                }
                Err(error) => panic!("no {text:?} ({error}) after:\n{}", self.seen.join("\n")),
            }
        }
    }

    fn line(&self, text: &str) -> &str {
        let found = self.seen.iter().find(|line| line.contains(text));
        found.unwrap_or_else(|| panic!("no {text:?} in:\n{}", self.seen.join("\n")))
    }
}

impl Drop for Devnet {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            interrupt(&self.child);
            let until = Instant::now() + Duration::from_secs(60);
            while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < until {
                std::thread::sleep(Duration::from_millis(100));
            }
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// What Ctrl-C does.
fn interrupt(child: &Child) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(child.id()).expect("small"));
    rustix::process::kill_process(pid.expect("not zero"), rustix::process::Signal::INT).expect("it is there");
}

/// Processes that have the network's directory on their command line.
fn left_behind(dir: &Path) -> Vec<String> {
    let wanted = dir.display().to_string();
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").expect("there is one").flatten() {
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        if line.contains(&wanted) {
            found.push(line);
        }
    }
    found
}

fn programs() {
    for name in ["oasis-node", "simple-keymanager", "simple-keyvalue"] {
        let path = PathBuf::from(DEVNET).with_file_name(name);
        assert!(path.is_file(), "{} is missing: cargo build -p {name}", path.display());
    }
}

#[test]
fn the_network_comes_up_works_and_leaves_nothing() {
    programs();
    let dir = tempfile::Builder::new().prefix("dn").tempdir().expect("a directory");
    let dir = dir.path().join("net");
    let plan = Plan { dir: dir.clone(), base_port: 29_500, validators: 9, ..Plan::default() };
    let port = plan.free_base_port().expect("free ports").to_string();
    let place = dir.display().to_string();
    let mut arguments = vec!["--dir", &place, "--base-port", &port, "--dashboard-port", "0", "--timeout", "600"];
    let tried = Command::new("/usr/bin/bwrap").args(["--unshare-all", "--ro-bind", "/", "/", "true"]).output();
    if !tried.is_ok_and(|out| out.status.success()) {
        println!("skipped: 1 the sandbox, bubblewrap does not work here; the ParaTime runs without");
        arguments.push("--unconfined");
    }
    // A test makes no users.
    if User::find("oasis-devnet").is_none() {
        arguments.push("--allow-root");
    }
    let mut devnet = Devnet::start(&arguments);
    devnet.wait_for(UP);
    println!("{}", devnet.seen.join("\n"));
    devnet.line("outside of enclaves: INSECURE");
    let executed = devnet.line("the ParaTime executed enc_insert(first = ");
    assert!(executed.contains("encrypted with a key from the key manager"), "{executed}");
    devnet.line("MB of anonymous memory");
    interrupt(&devnet.child);
    devnet.wait_for("stopped; nothing is left running");
    let status = devnet.child.wait().expect("it ends");
    assert!(status.success(), "{status}");
    assert_eq!(left_behind(&dir), Vec::<String>::new());
}
