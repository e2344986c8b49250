//! The processes of the nodes: start, watch, stop.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};

use crate::DevnetError;
use crate::plan::Node;
use crate::user::User;

/// How long a node may take to end after it was asked to.
pub const STOP_PATIENCE: Duration = Duration::from_secs(15);
/// Lines of a log that are shown when its node ended.
const TAIL_LINES: usize = 8;
/// Bytes of a log that are looked at for them.
const TAIL_BYTES: u64 = 16 * 1024;
const POLL: Duration = Duration::from_millis(20);

/// The processes of a network; dropping it stops them, unless they were let go.
#[derive(Debug)]
pub struct Running {
    binary: PathBuf,
    nodes: Vec<(Node, Option<Child>)>,
    arguments: Vec<String>,
    user: Option<User>,
}

impl Running {
    /// No process yet, for these nodes.
    ///
    /// # Errors
    /// If the node program is not there.
    pub fn new(binary: &Path, nodes: Vec<Node>) -> Result<Self, DevnetError> {
        if !binary.is_file() {
            return Err(DevnetError::NoBinary { path: binary.to_owned() });
        }
        let nodes = nodes.into_iter().map(|node| (node, None)).collect();
        Ok(Self { binary: binary.to_owned(), nodes, arguments: Vec::new(), user: None })
    }

    /// Gives every node these arguments besides.
    #[must_use]
    pub fn with_arguments(mut self, arguments: &[&str]) -> Self {
        self.arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        self
    }

    /// Has another user run the nodes.
    #[must_use]
    pub fn with_user(mut self, user: Option<User>) -> Self {
        self.user = user;
        self
    }

    /// Starts every node that does not run and is not one to be started by hand.
    ///
    /// # Errors
    /// What could not be started.
    pub fn start_all(&mut self) -> Result<(), DevnetError> {
        let starts: Vec<_> =
            (0..self.nodes.len()).filter(|at| self.nodes.get(*at).is_some_and(|(n, _)| n.starts)).collect();
        starts.into_iter().try_for_each(|index| self.start(index))
    }

    /// Starts one node, unless it runs.
    ///
    /// # Errors
    /// If it could not be started.
    pub fn start(&mut self, index: usize) -> Result<(), DevnetError> {
        let binary = self.binary.clone();
        let Some((node, child)) = self.nodes.get_mut(index) else { return Ok(()) };
        if child.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None))) {
            return Ok(());
        }
        let console = node.console();
        let file = File::options().create(true).append(true).open(&console);
        let file = file.map_err(DevnetError::io("open", &console))?;
        let twin = file.try_clone().map_err(DevnetError::io("open", &console))?;
        let mut command = Command::new(&binary);
        command
            .arg("--config")
            .arg(node.config())
            .arg("--debug.dont_blame_oasis")
            .args(&node.arguments)
            .args(&self.arguments)
            .current_dir(&node.dir)
            .stdin(Stdio::null())
            .stdout(file)
            .stderr(twin)
            // A group of its own: Ctrl-C reaches only us, and we stop the nodes in order.
            .process_group(0);
        if let Some(user) = &self.user {
            user.apply(&mut command);
        }
        *child = Some(command.spawn().map_err(DevnetError::io("start", &binary))?);
        Ok(())
    }

    /// The nodes, with their process ids if they were started.
    #[must_use]
    pub fn pids(&self) -> Vec<Option<u32>> {
        self.nodes.iter().map(|(_, child)| child.as_ref().map(Child::id)).collect()
    }

    /// The first node that was started and ended, if one did.
    #[must_use]
    pub fn ended(&mut self) -> Option<DevnetError> {
        self.nodes.iter_mut().find_map(|(node, child)| {
            let status = child.as_mut()?.try_wait().ok()??;
            Some(ended(node, status))
        })
    }

    /// Kills one node at once, as a crash would.
    pub fn kill(&mut self, index: usize) {
        if let Some((_, child)) = self.nodes.get_mut(index)
            && let Some(mut child) = child.take()
        {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Leaves the processes alone.
    pub fn release(mut self) {
        for (_, child) in &mut self.nodes {
            *child = None;
        }
    }

    /// Ends all processes. Returns the names of those that had to be forced.
    pub fn stop(&mut self) -> Vec<String> {
        let mut children: Vec<_> =
            self.nodes.iter_mut().filter_map(|(node, child)| Some((node.name.clone(), child.take()?))).collect();
        children.retain_mut(|(_, child)| matches!(child.try_wait(), Ok(None)));
        for (_, child) in &children {
            signal(child.id(), Signal::TERM);
        }
        let until = Instant::now() + STOP_PATIENCE;
        while !children.is_empty() && Instant::now() < until {
            children.retain_mut(|(_, child)| matches!(child.try_wait(), Ok(None)));
            std::thread::sleep(POLL);
        }
        for (_, child) in &mut children {
            let _ = child.kill();
            let _ = child.wait();
        }
        children.into_iter().map(|(name, _)| name).collect()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop();
    }
}

fn ended(node: &Node, status: ExitStatus) -> DevnetError {
    let console = tail(&node.console());
    let (log, tail) = if console.is_empty() { (node.log(), tail(&node.log())) } else { (node.console(), console) };
    DevnetError::Ended { node: node.name.clone(), status: status.to_string(), log, tail }
}

/// The last lines of a file.
fn tail(path: &Path) -> String {
    use std::io::{Read as _, Seek as _, SeekFrom};
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
        let mut bytes = Vec::new();
        file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let text = String::from_utf8_lossy(&read().unwrap_or_default()).into_owned();
    let lines: Vec<_> = text.lines().collect();
    lines.get(lines.len().saturating_sub(TAIL_LINES)..).unwrap_or_default().join("\n")
}

fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        // It may have ended meanwhile.
        let _ = kill_process(pid, signal);
    }
}

/// Whether that process is a node that was started with this configuration, and not some later one with its number.
pub(crate) fn is_node(pid: u32, config: &Path) -> bool {
    let there = i32::try_from(pid).ok().and_then(Pid::from_raw).is_some_and(|pid| test_kill_process(pid).is_ok());
    let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    there && command.split(|byte| *byte == 0).any(|word| word == config.as_os_str().as_encoded_bytes())
}

/// Ends processes that are not our children; returns those that had to be forced.
pub(crate) fn stop_all(processes: &[(u32, PathBuf)], patience: Duration) -> Vec<u32> {
    for (pid, _) in processes {
        signal(*pid, Signal::TERM);
    }
    let until = Instant::now() + patience;
    let left = || processes.iter().filter(|(pid, config)| is_node(*pid, config)).map(|(pid, _)| *pid);
    while left().next().is_some() && Instant::now() < until {
        std::thread::sleep(POLL);
    }
    let forced: Vec<_> = left().collect();
    for pid in &forced {
        signal(*pid, Signal::KILL);
    }
    forced
}

/// Memory of processes and of all that they started: how many they are, and their anonymous memory in bytes.
#[must_use]
pub fn memory(pids: &[u32]) -> (usize, u64) {
    let all = with_descendants(pids);
    let anonymous = |pid: &u32| {
        let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
        number(&text, "Anonymous:").unwrap_or(0).saturating_mul(1024)
    };
    (all.len(), all.iter().map(anonymous).fold(0, u64::saturating_add))
}

/// Processes with all that they started.
#[must_use]
pub fn with_descendants(pids: &[u32]) -> BTreeSet<u32> {
    let mut parents: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let text = std::fs::read_to_string(entry.path().join("status")).unwrap_or_default();
        if let Some(parent) = number(&text, "PPid:") {
            parents.entry(u32::try_from(parent).unwrap_or(0)).or_default().push(pid);
        }
    }
    let (mut todo, mut seen) = (pids.to_vec(), BTreeSet::new());
    while let Some(pid) = todo.pop() {
        if seen.insert(pid) {
            todo.extend(parents.get(&pid).into_iter().flatten());
        }
    }
    seen
}

/// The number behind a name at the beginning of a line.
fn number(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?.parse().ok()
}
