//! What later commands need to know of a network: `devnet.json` in its directory, which also marks it as ours.

use std::path::{Path, PathBuf};
use std::time::Duration;

use base_prims::Namespace;
use serde_json::{Value, json};

use wire_consensus::registry::RuntimeKind;

use crate::plan::{Node, Role};
use crate::{DevnetError, Network, process};

/// The file.
pub const MARKER: &str = "devnet.json";
/// Form of the file.
const FORM: u64 = 2;

/// A network in a directory, as its file tells.
#[derive(Debug, Clone)]
pub struct State {
    /// Where.
    pub dir: PathBuf,
    /// Chain context.
    pub chain_context: String,
    /// Nodes with the processes that were started for them.
    pub nodes: Vec<(Node, Option<u32>)>,
    /// Its ParaTimes.
    pub paratimes: Vec<Hosted>,
    /// Who runs the nodes, if not whoever runs this program.
    pub user: Option<String>,
}

/// A ParaTime of a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hosted {
    /// Its id.
    pub id: Namespace,
    /// Its key manager.
    pub key_manager: Option<Namespace>,
    /// Its transactions are those of the key-value example.
    pub is_example: bool,
}

impl State {
    /// The state of a network that was just made.
    ///
    /// # Errors
    /// If its plan cannot be read again.
    pub fn new(network: &Network) -> Result<Self, DevnetError> {
        let plan = &network.plan;
        let blueprint = plan.blueprint()?;
        let managers = |place: usize| blueprint.runtimes.get(place).map(|manager| manager.id);
        let paratimes = blueprint.runtimes.iter().filter(|r| r.kind == RuntimeKind::COMPUTE && !r.is_late);
        let hosted = paratimes.map(|runtime| Hosted {
            id: runtime.id,
            key_manager: runtime.key_manager.and_then(managers),
            is_example: runtime.is_example,
        });
        Ok(Self {
            dir: plan.dir.clone(),
            chain_context: network.chain_context.clone(),
            nodes: network.nodes().into_iter().map(|node| (node, None)).collect(),
            paratimes: hosted.collect(),
            user: plan.user.as_ref().map(|user| user.name.clone()),
        })
    }

    /// The same with these processes.
    #[must_use]
    pub fn with_pids(mut self, pids: &[Option<u32>]) -> Self {
        let pids = pids.iter().copied().chain(std::iter::repeat(None));
        self.nodes.iter_mut().zip(pids).for_each(|((_, pid), new)| *pid = new);
        self
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
                hosts: texts(entry.get("hosts")?)?.iter().map(|id| id.parse().ok()).collect::<Option<_>>()?,
                starts: entry.get("starts")?.as_bool()?,
                arguments: texts(entry.get("arguments")?)?,
            };
            let pid = entry.get("pid").and_then(Value::as_u64).and_then(|pid| u32::try_from(pid).ok());
            Some((node, pid))
        };
        let nodes = value.get("nodes")?.as_array()?.iter().map(node).collect::<Option<Vec<_>>>()?;
        let chain_context = value.get("chain_context")?.as_str()?.to_owned();
        let paratime = |entry: &Value| {
            Some(Hosted {
                id: entry.get("id")?.as_str()?.parse().ok()?,
                key_manager: match entry.get("key_manager")? {
                    Value::Null => None,
                    id => Some(id.as_str()?.parse().ok()?),
                },
                is_example: entry.get("example")?.as_bool()?,
            })
        };
        let paratimes = value.get("paratimes")?.as_array()?.iter().map(paratime).collect::<Option<Vec<_>>>()?;
        let user = value.get("user")?.as_str().map(str::to_owned);
        Some(Self { dir: dir.to_owned(), chain_context, nodes, paratimes, user })
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
                "hosts": node.hosts.iter().map(ToString::to_string).collect::<Vec<_>>(),
                "starts": node.starts,
                "arguments": node.arguments,
                "pid": pid,
            })
        };
        let nodes: Vec<_> = self.nodes.iter().map(node).collect();
        let paratime = |hosted: &Hosted| {
            let key_manager = hosted.key_manager.map(|id| id.to_string());
            json!({ "id": hosted.id.to_string(), "key_manager": key_manager, "example": hosted.is_example })
        };
        let paratimes: Vec<_> = self.paratimes.iter().map(paratime).collect();
        let value = json!({
            "form": FORM,
            "chain_context": self.chain_context,
            "user": self.user,
            "paratimes": paratimes,
            "nodes": nodes,
        });
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

/// A list of texts.
fn texts(value: &Value) -> Option<Vec<String>> {
    value.as_array()?.iter().map(|text| text.as_str().map(str::to_owned)).collect()
}
