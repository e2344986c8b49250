//! The devnet from beginning to end, as somebody who has just cloned the project gets it: real processes, a key manager,
//! a ParaTime in a sandbox, a transaction in it, the dashboard in a browser, and nothing left behind.

mod browser;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use cli_devnet::{Plan, User};
use serde_json::Value;

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

/// Asks the dashboard.
fn get(address: &str, host: &str, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).expect("the dashboard listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time limit");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n").expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("head and body");
    let code = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a code");
    (code, body.to_owned())
}

/// Asks the dashboard until what it shows is as it should be.
fn overview(address: &str, holds: impl Fn(&Value) -> bool) -> Value {
    let until = Instant::now() + PATIENCE;
    loop {
        let (code, body) = get(address, address, "/api/overview");
        assert_eq!(code, 200);
        let shown: Value = serde_json::from_str(&body).expect("JSON");
        if holds(&shown) {
            return shown;
        }
        assert!(Instant::now() < until, "{shown:#}");
        std::thread::sleep(Duration::from_millis(500));
    }
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

fn count(value: &Value) -> usize {
    value.as_array().map_or(0, Vec::len)
}

fn programs() {
    for name in ["oasis-node", "simple-keymanager", "simple-keyvalue"] {
        let path = PathBuf::from(DEVNET).with_file_name(name);
        assert!(path.is_file(), "{} is missing: cargo build -p {name}", path.display());
    }
}

#[test]
fn the_network_comes_up_works_shows_itself_and_leaves_nothing() {
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
    let url = devnet.line("dashboard ").rsplit(' ').next().expect("an address").to_owned();
    let address = url.trim_start_matches("http://").trim_end_matches('/').to_owned();

    dashboard(&address);
    browser::look(&url, &dir);
    terminal(&place);

    interrupt(&devnet.child);
    devnet.wait_for("stopped; nothing is left running");
    let status = devnet.child.wait().expect("it ends");
    assert!(status.success(), "{status}");
    assert_eq!(left_behind(&dir), Vec::<String>::new());
}

fn dashboard(address: &str) {
    let shown = overview(address, |shown| {
        let nodes = shown["nodes"].as_array().into_iter().flatten();
        let ready = nodes.filter(|node| node["state"] == "ready").count();
        ready == 9 && count(&shown["blocks"]) > 3 && count(&shown["paratimes"]) == 2
    });
    assert_eq!(count(&shown["validators"]), 3, "{shown:#}");
    let named = shown["validators"].as_array().into_iter().flatten();
    assert!(named.clone().all(|validator| validator["name"].as_str().is_some_and(|n| n.starts_with("validator-"))));
    assert!(
        named.clone().any(|validator| validator["votes"].as_array().is_some_and(|v| v.iter().any(|v| v == "commit")))
    );
    let paratimes = shown["paratimes"].as_array().cloned().unwrap_or_default();
    let paratime = paratimes.iter().find(|paratime| paratime["kind"] == "compute").expect("the ParaTime");
    assert_eq!(count(&paratime["committee"]), 3, "{paratime:#}");
    assert!(paratime["round"].as_u64() > Some(1));
    let manager = paratimes.iter().find(|paratime| paratime["kind"] == "keymanager").expect("the key manager");
    assert!(manager["secrets"].as_str().is_some_and(|text| text.contains("insecure")), "{manager:#}");
    let compute = shown["nodes"].as_array().into_iter().flatten().find(|node| node["mode"] == "compute");
    assert_eq!(compute.map(|node| count(&node["components"])), Some(1), "{shown:#}");

    let (code, body) = get(address, address, "/api/log?node=validator-0&level=info&filter=committed");
    let lines: Value = serde_json::from_str(&body).expect("JSON");
    let lines = lines["lines"].as_array().cloned().unwrap_or_default();
    assert_eq!(code, 200);
    let holds = |line: &Value| line.as_str().is_some_and(|line| line.to_lowercase().contains("committed"));
    assert!(lines.iter().all(holds), "{lines:?}");
    assert!(get(address, address, "/api/log?node=nobody").1.contains("not a node"));
    assert_eq!(get(address, "evil.example", "/api/overview").0, 403);
    assert_eq!(get(address, address, "/etc/passwd").0, 404);
}

fn terminal(place: &str) {
    let run = |arguments: &[&str]| {
        let out = Command::new(DEVNET).args(arguments).args(["--dir", place]).output().expect("it runs");
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        assert!(out.status.success(), "{text}{}", String::from_utf8_lossy(&out.stderr));
        text
    };
    let shown = run(&["dashboard", "--once"]);
    for wanted in ["validator-2", "keymanager-0", "PARATIME", "TRANSACTION"] {
        assert!(shown.contains(wanted), "{wanted} in {shown}");
    }
    let standing = run(&["status"]);
    assert_eq!(standing.lines().filter(|line| line.contains("in sync")).count(), 8, "{standing}");
    let second = Command::new(DEVNET).args(["--dir", place]).output().expect("it runs");
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(!second.status.success() && said.contains("is running"), "{said}");
}
