//! Bounds of a runtime's process: an addition of this node, off by default.
//!
//! A control group (version 2) holds all processes of a runtime, where the node may make one below its own. Elsewhere
//! each process gets resource limits, which bound memory by process and processes by user, and not for a node that runs
//! as root. [`enforcement`] tells which applies.

use std::{
    fs::{self, File, OpenOptions},
    io,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use crate::logs::Source;

/// Where control groups are mounted.
const CGROUP_ROOT: &str = "/sys/fs/cgroup";

/// Bounds of a runtime's process and its children. `None` is unbounded, as with the reference.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ResourceLimits {
    /// Bytes of memory.
    pub memory_bytes: Option<u64>,
    /// Processes and threads.
    pub processes: Option<u64>,
}

impl ResourceLimits {
    /// Whether anything is bounded.
    pub fn any(&self) -> bool {
        self.memory_bytes.is_some() || self.processes.is_some()
    }
}

/// How bounds are enforced on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Enforcement {
    /// By control groups below this folder.
    ControlGroup(PathBuf),
    /// By resource limits of processes.
    ResourceLimits {
        /// Why not by control groups.
        reason: String,
        /// Whether the number of processes is bounded; not for root.
        processes: bool,
    },
}

/// How bounds would be enforced; makes no group for a runtime yet.
pub fn enforcement() -> Enforcement {
    let reason = match own_group(Path::new("/proc/self/cgroup"), Path::new(CGROUP_ROOT)) {
        Ok(dir) => match delegate(&dir) {
            Ok(()) => return Enforcement::ControlGroup(dir),
            Err(e) => format!("{}: {e}", dir.display()),
        },
        Err(reason) => reason,
    };
    Enforcement::ResourceLimits { reason, processes: !rustix::process::geteuid().is_root() }
}

/// The node's own group.
fn own_group(table: &Path, root: &Path) -> Result<PathBuf, String> {
    let text = fs::read_to_string(table).map_err(|e| format!("{}: {e}", table.display()))?;
    let path = text.lines().find_map(|line| line.strip_prefix("0::")).ok_or("no control groups of version 2")?;
    let dir = root.join(path.trim_start_matches('/'));
    if !dir.join("cgroup.controllers").is_file() {
        return Err(format!("{} is no control group of version 2", dir.display()));
    }
    // The node moved itself out of the way earlier.
    Ok(if dir.file_name().is_some_and(|name| name == NODE_GROUP) {
        dir.parent().map(Path::to_path_buf).unwrap_or(dir)
    } else {
        dir
    })
}

/// Name of the group that the node moves itself to: a group with processes cannot have groups with limits below it.
const NODE_GROUP: &str = "node";

/// Makes groups with limits possible below `dir`.
fn delegate(dir: &Path) -> io::Result<()> {
    let enabled = fs::read_to_string(dir.join("cgroup.subtree_control"))?;
    let has = |name: &str| enabled.split_whitespace().any(|word| word == name);
    if has("memory") && has("pids") {
        return Ok(());
    }
    let node = dir.join(NODE_GROUP);
    match fs::create_dir(&node) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
        _ => {}
    }
    fs::write(node.join("cgroup.procs"), std::process::id().to_string())?;
    fs::write(dir.join("cgroup.subtree_control"), "+memory +pids")
}

/// The group of one process, or what stands for it.
#[derive(Debug)]
pub(crate) struct Confinement {
    limits: ResourceLimits,
    group: Option<PathBuf>,
}

impl Confinement {
    /// Makes a group if there are limits and it is possible.
    pub(crate) fn prepare(limits: &ResourceLimits, source: &Source) -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        if !limits.any() {
            return Self { limits: *limits, group: None };
        }
        let group = match enforcement() {
            Enforcement::ControlGroup(parent) => {
                let number = NUMBER.fetch_add(1, Ordering::Relaxed);
                let dir = parent.join(format!("runtime-{}-{number}", std::process::id()));
                make_group(&dir, limits).map(|()| dir).map_err(|e| e.to_string())
            }
            Enforcement::ResourceLimits { reason, .. } => Err(reason),
        };
        if let Err(reason) = &group {
            tracing::warn!(runtime_id = %source.runtime_id, component = %source.component, reason,
                "limits are enforced by process, not for the runtime as a whole");
        }
        Self { limits: *limits, group: group.ok() }
    }

    /// Address space of each process, where there is no group.
    pub(crate) fn address_space(&self) -> Option<u64> {
        if self.group.is_some() { None } else { self.limits.memory_bytes }
    }

    /// Processes of the user, where there is no group.
    pub(crate) fn user_processes(&self) -> Option<u64> {
        if self.group.is_some() { None } else { self.limits.processes }
    }

    /// The file by which a process joins the group.
    pub(crate) fn open_group(&self) -> io::Result<Option<File>> {
        self.group.as_ref().map(|dir| OpenOptions::new().write(true).open(dir.join("cgroup.procs"))).transpose()
    }

    /// Ends whatever is left in the group and removes it.
    pub(crate) async fn release(&self) {
        let Some(dir) = &self.group else {
            return;
        };
        let _ = fs::write(dir.join("cgroup.kill"), "1");
        for _ in 0..100 {
            match fs::remove_dir(dir) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => {}
                _ => return,
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        tracing::warn!(group = %dir.display(), "control group of an ended runtime cannot be removed");
    }
}

fn make_group(dir: &Path, limits: &ResourceLimits) -> io::Result<()> {
    fs::create_dir(dir)?;
    if let Some(bytes) = limits.memory_bytes {
        fs::write(dir.join("memory.max"), bytes.to_string())?;
        // Without this the rest would go to swap; not every kernel has it.
        let _ = fs::write(dir.join("memory.swap.max"), "0");
    }
    if let Some(count) = limits.processes {
        fs::write(dir.join("pids.max"), count.to_string())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_and_prepares_a_group() {
        let dir = tempfile::tempdir().expect("a folder");
        let table = dir.path().join("table");
        fs::write(&table, "4:memory:/other\n0::/slice/node.service\n").expect("written");
        assert!(own_group(&table, dir.path()).is_err(), "there is no such group");
        let group = dir.path().join("slice/node.service");
        fs::create_dir_all(&group).expect("made");
        fs::write(group.join("cgroup.controllers"), "cpu memory pids").expect("written");
        fs::write(group.join("cgroup.subtree_control"), "").expect("written");
        assert_eq!(own_group(&table, dir.path()), Ok(group.clone()));
        delegate(&group).expect("delegates");
        assert_eq!(fs::read_to_string(group.join("cgroup.subtree_control")).expect("there"), "+memory +pids");
        assert_eq!(fs::read_to_string(group.join("node/cgroup.procs")).expect("there"), std::process::id().to_string());
        // From within the group that the node moved to, the same one is found.
        fs::write(&table, "0::/slice/node.service/node\n").expect("written");
        fs::write(group.join("node/cgroup.controllers"), "").expect("written");
        assert_eq!(own_group(&table, dir.path()), Ok(group.clone()));

        let limits = ResourceLimits { memory_bytes: Some(1 << 30), processes: Some(64) };
        make_group(&group.join("r"), &limits).expect("makes");
        assert_eq!(fs::read_to_string(group.join("r/memory.max")).expect("there"), "1073741824");
        assert_eq!(fs::read_to_string(group.join("r/pids.max")).expect("there"), "64");
        fs::write(&table, "4:memory:/other\n").expect("written");
        assert!(own_group(&table, dir.path()).is_err());
    }
}
