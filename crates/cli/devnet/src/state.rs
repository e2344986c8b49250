//! What later commands need to know of a network: `devnet.json` in its directory, which also marks it as ours.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use crate::plan::{Node, Plan, Role};
use crate::{DevnetError, process};

/// The file.
pub const MARKER: &str = "devnet.json";
/// Form of the file.
const FORM: u64 = 1;

/// A network in a directory, as its file tells.
#[derive(Debug, Clone)]
pub struct State {
    /// Where.
    pub dir: PathBuf,
    /// Chain context.
    pub chain_context: String,
    /// Nodes with the processes that were started for them.
    pub nodes: Vec<(Node, Option<u32>)>,
}

impl State {
    /// The state of a network that was just made or started.
    #[must_use]
    pub fn new(plan: &Plan, chain_context: &str, pids: &[Option<u32>]) -> Self {
        let pids = pids.iter().copied().chain(std::iter::repeat(None));
        let nodes = plan.nodes().into_iter().zip(pids).collect();
        Self { dir: plan.dir.clone(), chain_context: chain_context.to_owned(), nodes }
    }

    /// Reads the state, if the directory has one.
    ///
    /// # Errors
    /// If the directory holds something that is not a devnet.
    pub fn load(dir: &Path) -> Result<Option<Self>, DevnetError> {
        let path = dir.join(MARKER);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Self::none(dir),
            Err(error) => return Err(DevnetError::io("read", path)(error)),
        };
        let parsed = serde_json::from_str(&text).ok().and_then(|value: Value| Self::parse(dir, &value));
        parsed.map(Some).ok_or_else(|| DevnetError::NotOurs { dir: dir.to_owned(), marker: MARKER })
    }

    /// There is no file: fine if there is nothing else either.
    fn none(dir: &Path) -> Result<Option<Self>, DevnetError> {
        let empty = match std::fs::read_dir(dir) {
            Ok(mut entries) => entries.next().is_none(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => true,
            Err(error) => return Err(DevnetError::io("read", dir)(error)),
        };
        if empty { Ok(None) } else { Err(DevnetError::NotOurs { dir: dir.to_owned(), marker: MARKER }) }
    }

    fn parse(dir: &Path, value: &Value) -> Option<Self> {
        if value.get("form")?.as_u64()? != FORM {
            return None;
        }
        let node = |entry: &Value| {
            let port = |key: &str| u16::try_from(entry.get(key)?.as_u64()?).ok();
            let name = entry.get("name")?.as_str()?.to_owned();
            if name.is_empty() || name.contains(['/', '\\', '.']) {
                return None;
            }
            let node = Node {
                role: Role::from_mode(entry.get("mode")?.as_str()?)?,
                dir: dir.join(&name),
                name,
                consensus_port: port("consensus_port")?,
                p2p_port: port("p2p_port")?,
            };
            let pid = entry.get("pid").and_then(Value::as_u64).and_then(|pid| u32::try_from(pid).ok());
            Some((node, pid))
        };
        let nodes = value.get("nodes")?.as_array()?.iter().map(node).collect::<Option<Vec<_>>>()?;
        let chain_context = value.get("chain_context")?.as_str()?.to_owned();
        Some(Self { dir: dir.to_owned(), chain_context, nodes })
    }

    /// Writes the state whole.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn save(&self) -> Result<(), DevnetError> {
        let node = |(node, pid): &(Node, Option<u32>)| {
            json!({
                "name": node.name,
                "mode": node.role.mode(),
                "socket": format!("unix:{}", node.socket().display()),
                "config": node.config().display().to_string(),
                "log": node.log().display().to_string(),
                "consensus_port": node.consensus_port,
                "p2p_port": node.p2p_port,
                "pid": pid,
            })
        };
        let nodes: Vec<_> = self.nodes.iter().map(node).collect();
        let value = json!({ "form": FORM, "chain_context": self.chain_context, "nodes": nodes });
        let (path, aside) = (self.dir.join(MARKER), self.dir.join(format!("{MARKER}.new")));
        std::fs::write(&aside, format!("{value:#}\n")).map_err(DevnetError::io("write", &aside))?;
        std::fs::rename(&aside, &path).map_err(DevnetError::io("write", &path))
    }

    /// The processes of this network that still run.
    #[must_use]
    pub fn running(&self) -> Vec<(&Node, u32)> {
        let alive = |(node, pid): &'_ (Node, Option<u32>)| pid.filter(|pid| process::is_node(*pid, &node.config()));
        self.nodes.iter().filter_map(|entry| alive(entry).map(|pid| (&entry.0, pid))).collect()
    }

    /// Ends what runs: asks, waits, then forces. Returns how many there were, and which had to be forced.
    pub fn stop(&self, patience: Duration) -> (usize, Vec<String>) {
        let running = self.running();
        let processes: Vec<_> = running.iter().map(|(node, pid)| (*pid, node.config())).collect();
        let forced = process::stop_all(&processes, patience);
        let names = running.iter().filter(|(_, pid)| forced.contains(pid)).map(|(node, _)| node.name.clone()).collect();
        (running.len(), names)
    }

    /// Removes the directory of a network that is not running.
    ///
    /// # Errors
    /// If it runs, or can't be removed.
    pub fn remove(&self) -> Result<(), DevnetError> {
        if let Some((node, pid)) = self.running().first() {
            return Err(DevnetError::Running { dir: self.dir.clone(), pid: *pid, node: node.name.clone() });
        }
        std::fs::remove_dir_all(&self.dir).map_err(DevnetError::io("remove", &self.dir))
    }
}
