//! What network to build: its nodes, where they listen, how fast it runs.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::DevnetError;

/// Most validators: each takes 10 to 30 MB and two ports.
pub const MAX_VALIDATORS: u16 = 64;
/// Most compute nodes.
pub const MAX_COMPUTES: u16 = 64;
/// Most client nodes.
pub const MAX_CLIENTS: u16 = 64;
/// Fewest blocks per epoch: proofs of randomness and registrations need room.
pub const MIN_EPOCH_INTERVAL: i64 = 6;
/// Shortest time between blocks.
pub const MIN_BLOCK_TIME: Duration = Duration::from_millis(50);
/// Longest time between blocks.
pub const MAX_BLOCK_TIME: Duration = Duration::from_secs(60);
/// Longest path of a socket, with its ending zero byte (`sun_path`).
pub const MAX_SOCKET_PATH: usize = 107;
/// Ports of a node: consensus, peer-to-peer.
const PORTS_PER_NODE: u16 = 2;

/// What a node is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Tells nodes of each other.
    Seed,
    /// Makes blocks.
    Validator,
    /// Executes the ParaTime.
    Compute,
    /// Follows, and answers whoever asks.
    Client,
}

impl Role {
    /// As in the key `mode` of the configuration.
    #[must_use]
    pub fn mode(self) -> &'static str {
        match self {
            Self::Seed => "seed",
            Self::Validator => "validator",
            Self::Compute => "compute",
            Self::Client => "client",
        }
    }

    /// The role with that mode.
    #[must_use]
    pub fn from_mode(mode: &str) -> Option<Self> {
        [Self::Seed, Self::Validator, Self::Compute, Self::Client].into_iter().find(|role| role.mode() == mode)
    }
}

/// One node of a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its name, and that of its directory: `validator-0`.
    pub name: String,
    /// What it is there for.
    pub role: Role,
    /// Its data directory.
    pub dir: PathBuf,
    /// Port for consensus peers.
    pub consensus_port: u16,
    /// Port for other peers.
    pub p2p_port: u16,
}

impl Node {
    /// Where it answers.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.dir.join("internal.sock")
    }

    /// Its configuration.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.dir.join("config.yml")
    }

    /// Its log.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.dir.join("node.log")
    }

    /// What it writes besides its log.
    #[must_use]
    pub fn console(&self) -> PathBuf {
        self.dir.join("console.log")
    }
}

/// A ParaTime of a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParaTime {
    /// Its program: an ELF executable that speaks the Runtime Host Protocol.
    pub binary: PathBuf,
    /// How many nodes execute it; all but one form the committee, the last one is its backup. Of fewer than three all
    /// are in the committee.
    pub computes: u16,
    /// Whether it runs in a sandbox; outside it has all rights of the node.
    pub sandboxed: bool,
    /// Rounds between checkpoints; 0: none are made.
    pub checkpoint_interval: u64,
    /// Most transactions of a round.
    pub max_batch_size: u64,
}

/// Sizes, places and times of a network.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Where everything lies.
    pub dir: PathBuf,
    /// How many validators.
    pub validators: u16,
    /// How many clients.
    pub clients: u16,
    /// The ParaTime, if there is to be one.
    pub paratime: Option<ParaTime>,
    /// First port; each node takes the next two.
    pub base_port: u16,
    /// Time between blocks.
    pub block_time: Duration,
    /// Blocks per epoch.
    pub epoch_interval: i64,
    /// Name of the network.
    pub chain_id: String,
    /// Start of the network, in seconds since 1970.
    pub genesis_time: i64,
}

impl Plan {
    /// How many nodes execute the ParaTime.
    #[must_use]
    pub fn computes(&self) -> u16 {
        self.paratime.as_ref().map_or(0, |paratime| paratime.computes)
    }

    /// How many nodes there are.
    fn count(&self) -> u16 {
        1 + self.validators + self.computes() + self.clients
    }

    /// The bundle of the ParaTime.
    #[must_use]
    pub fn bundle_file(&self) -> PathBuf {
        self.dir.join("paratime.orc")
    }

    /// The nodes, seed first, then validators, compute nodes, clients.
    #[must_use]
    pub fn nodes(&self) -> Vec<Node> {
        let names = [
            (Role::Seed, 1),
            (Role::Validator, self.validators),
            (Role::Compute, self.computes()),
            (Role::Client, self.clients),
        ];
        let all = names.into_iter().flat_map(|(role, count)| (0..count).map(move |index| (role, index)));
        all.zip(0_u16..)
            .map(|((role, index), place)| {
                let name = format!("{}-{index}", role.mode());
                let port = self.base_port.saturating_add(place.saturating_mul(PORTS_PER_NODE));
                Node { role, dir: self.dir.join(&name), name, consensus_port: port, p2p_port: port.saturating_add(1) }
            })
            .collect()
    }

    /// Whether a network can be made like this.
    ///
    /// # Errors
    /// What is wrong, and what is possible.
    pub fn check(&self) -> Result<(), DevnetError> {
        let wrong = |text: String| Err(DevnetError::Plan(text));
        if self.validators == 0 || self.validators > MAX_VALIDATORS {
            return wrong(format!("{} validators: between 1 and {MAX_VALIDATORS} are possible", self.validators));
        }
        if self.clients > MAX_CLIENTS {
            return wrong(format!("{} clients: at most {MAX_CLIENTS} are possible", self.clients));
        }
        if let Some(paratime) = &self.paratime {
            if paratime.computes == 0 || paratime.computes > MAX_COMPUTES {
                let found = paratime.computes;
                return wrong(format!("{found} compute nodes: between 1 and {MAX_COMPUTES} are possible"));
            }
            if !paratime.binary.is_file() {
                return Err(DevnetError::NoBinary { path: paratime.binary.clone() });
            }
        }
        if self.epoch_interval < MIN_EPOCH_INTERVAL {
            return wrong(format!(
                "an epoch of {} blocks: at least {MIN_EPOCH_INTERVAL} are needed",
                self.epoch_interval
            ));
        }
        if !(MIN_BLOCK_TIME..=MAX_BLOCK_TIME).contains(&self.block_time) {
            let (found, least, most) = (self.block_time, MIN_BLOCK_TIME, MAX_BLOCK_TIME);
            return wrong(format!("a block time of {found:?}: between {least:?} and {most:?} are possible"));
        }
        let ports = self.count() * PORTS_PER_NODE;
        if self.base_port < 1024 || self.base_port.checked_add(ports).is_none() {
            let most = u16::MAX - ports;
            return wrong(format!("base port {}: between 1024 and {most} is possible", self.base_port));
        }
        self.check_paths()
    }

    fn check_paths(&self) -> Result<(), DevnetError> {
        let longest = self.nodes().iter().map(Node::socket).max_by_key(|path| path.as_os_str().len());
        let Some(socket) = longest else { return Ok(()) };
        let length = socket.as_os_str().len();
        if length > MAX_SOCKET_PATH {
            return Err(DevnetError::PathTooLong { dir: self.dir.clone(), socket, length, limit: MAX_SOCKET_PATH });
        }
        Ok(())
    }

    /// Whether all ports are free now.
    ///
    /// # Errors
    /// The first one that is not.
    pub fn check_ports(&self) -> Result<(), DevnetError> {
        for port in self.nodes().iter().flat_map(|node| [node.consensus_port, node.p2p_port]) {
            TcpListener::bind(("127.0.0.1", port)).map_err(|source| DevnetError::PortTaken { port, source })?;
        }
        Ok(())
    }

    /// A first port from which on enough are free, if there is one.
    #[must_use]
    pub fn free_base_port(&self) -> Option<u16> {
        let count = usize::from(self.count() * PORTS_PER_NODE);
        (self.base_port..u16::MAX - 1_000)
            .step_by(count.max(1))
            .find(|base| Self { base_port: *base, ..self.clone() }.check_ports().is_ok())
    }

    /// The genesis document's file.
    #[must_use]
    pub fn genesis_file(&self) -> PathBuf {
        genesis_file(&self.dir)
    }
}

/// The genesis document's file below a network's directory.
pub(crate) fn genesis_file(dir: &Path) -> PathBuf {
    dir.join("genesis.json")
}
