//! What network to build: its nodes, where they listen, how fast it runs.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base_prims::{Namespace, Version};

use crate::DevnetError;
use crate::blueprint::Blueprint;
use crate::user::User;

/// Most validators: each takes 10 to 30 MB and two ports.
pub const MAX_VALIDATORS: u16 = 64;
/// Most compute nodes.
pub const MAX_COMPUTES: u16 = 64;
/// Most nodes of a key manager.
pub const MAX_KEYMANAGERS: u16 = 16;
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

const ROLES: [Role; 6] = [Role::Seed, Role::Validator, Role::KeyManager, Role::Compute, Role::Observer, Role::Client];

/// What a node is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Tells nodes of each other.
    Seed,
    /// Makes blocks.
    Validator,
    /// Keeps keys for ParaTimes.
    KeyManager,
    /// Executes the ParaTime.
    Compute,
    /// Registered, sees what is confidential, executes for itself.
    Observer,
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
            Self::KeyManager => "keymanager",
            Self::Compute => "compute",
            Self::Observer => "observer",
            Self::Client => "client",
        }
    }

    /// The role with that mode.
    #[must_use]
    pub fn from_mode(mode: &str) -> Option<Self> {
        ROLES.into_iter().find(|role| role.mode() == mode)
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
    /// The runtimes that it hosts.
    pub hosts: Vec<Namespace>,
    /// Whether it is started with the others.
    pub starts: bool,
    /// What its command line has besides.
    pub arguments: Vec<String>,
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

/// A key manager of a network. It runs outside of an enclave: its secrets are not secret from the machine's owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyManager {
    /// Its program: an ELF executable that speaks the Runtime Host Protocol.
    pub binary: PathBuf,
    /// How many nodes run it.
    pub nodes: u16,
}

/// What a bundle says about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BundleId {
    /// The runtime's id.
    pub id: Namespace,
    /// The version of its on-chain component.
    pub version: Version,
}

/// A ParaTime of a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParaTime {
    /// Its program, an ELF executable that speaks the Runtime Host Protocol, or its bundle.
    pub binary: PathBuf,
    /// What the bundle says, if that is what `binary` is.
    pub bundle: Option<BundleId>,
    /// Its key manager, if it is to have one.
    pub keymanager: Option<KeyManager>,
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

impl Default for ParaTime {
    fn default() -> Self {
        Self {
            binary: PathBuf::new(),
            bundle: None,
            keymanager: None,
            computes: 3,
            sandboxed: true,
            checkpoint_interval: 0,
            max_batch_size: 1_000,
        }
    }
}

impl ParaTime {
    /// Whether its transactions are those of the key-value example, which this program can make.
    #[must_use]
    pub fn is_example(&self) -> bool {
        let stem = self.binary.file_stem().unwrap_or_default().to_string_lossy();
        stem.starts_with("simple-keyvalue")
    }
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
    /// A network in the reference's form, in the place of the sizes above.
    pub fixture: Option<PathBuf>,
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
    /// Who runs the nodes, if not whoever runs this program.
    pub user: Option<User>,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            dir: PathBuf::from(".devnet"),
            validators: 3,
            clients: 1,
            paratime: None,
            fixture: None,
            base_port: 26_700,
            block_time: Duration::from_millis(500),
            epoch_interval: 20,
            chain_id: "devnet".to_owned(),
            genesis_time: 0,
            user: None,
        }
    }
}

impl Plan {
    /// How many nodes execute the ParaTime.
    #[must_use]
    pub fn computes(&self) -> u16 {
        self.paratime.as_ref().map_or(0, |paratime| paratime.computes)
    }

    /// How many nodes run its key manager.
    #[must_use]
    pub fn keymanagers(&self) -> u16 {
        let manager = self.paratime.as_ref().and_then(|paratime| paratime.keymanager.as_ref());
        manager.map_or(0, |manager| manager.nodes)
    }

    /// What the network is made of.
    ///
    /// # Errors
    /// If the fixture cannot be read, or asks for what is not possible.
    pub(crate) fn blueprint(&self) -> Result<Blueprint, DevnetError> {
        match &self.fixture {
            Some(path) => crate::fixture::read(path, self),
            None => Ok(Blueprint::of_sizes(self)),
        }
    }

    /// The nodes: of a network of sizes the seed first, then validators, key managers, compute nodes, clients.
    ///
    /// # Errors
    /// See [`Plan::check`].
    pub fn nodes(&self) -> Result<Vec<Node>, DevnetError> {
        self.blueprint().map(|blueprint| self.place(&blueprint))
    }

    pub(crate) fn place(&self, blueprint: &Blueprint) -> Vec<Node> {
        let place = |(node, place): (&crate::blueprint::NodePlan, u16)| {
            let port = self.base_port.saturating_add(place.saturating_mul(PORTS_PER_NODE));
            Node {
                name: node.name.clone(),
                role: node.role,
                dir: self.dir.join(&node.name),
                consensus_port: port,
                p2p_port: port.saturating_add(1),
                hosts: blueprint.hosted(node).map(|runtime| runtime.id).collect(),
                starts: node.starts,
                arguments: node.arguments.clone(),
            }
        };
        blueprint.nodes.iter().zip(0_u16..).map(place).collect()
    }

    /// Whether a network can be made like this.
    ///
    /// # Errors
    /// What is wrong, and what is possible.
    pub fn check(&self) -> Result<(), DevnetError> {
        let wrong = |text: String| Err(DevnetError::Plan(text));
        if self.fixture.is_none() {
            self.check_sizes()?;
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
        let nodes = self.nodes()?;
        let ports = ports(&nodes);
        if self.base_port < 1024 || self.base_port.checked_add(ports).is_none() {
            let most = u16::MAX - ports;
            return wrong(format!("base port {}: between 1024 and {most} is possible", self.base_port));
        }
        self.check_paths(&nodes)
    }

    fn check_sizes(&self) -> Result<(), DevnetError> {
        let wrong = |text: String| Err(DevnetError::Plan(text));
        if self.validators == 0 || self.validators > MAX_VALIDATORS {
            return wrong(format!("{} validators: between 1 and {MAX_VALIDATORS} are possible", self.validators));
        }
        if self.clients > MAX_CLIENTS {
            return wrong(format!("{} clients: at most {MAX_CLIENTS} are possible", self.clients));
        }
        let Some(paratime) = &self.paratime else { return Ok(()) };
        if paratime.computes == 0 || paratime.computes > MAX_COMPUTES {
            let found = paratime.computes;
            return wrong(format!("{found} compute nodes: between 1 and {MAX_COMPUTES} are possible"));
        }
        let manager = paratime.keymanager.as_ref();
        if let Some(found) = manager.map(|manager| manager.nodes).filter(|n| *n == 0 || *n > MAX_KEYMANAGERS) {
            return wrong(format!("{found} key manager nodes: between 1 and {MAX_KEYMANAGERS} are possible"));
        }
        let programs = [Some(&paratime.binary), manager.map(|manager| &manager.binary)];
        match programs.into_iter().flatten().find(|program| !program.is_file()) {
            Some(path) => Err(DevnetError::NoRuntime { path: path.clone() }),
            None => Ok(()),
        }
    }

    fn check_paths(&self, nodes: &[Node]) -> Result<(), DevnetError> {
        let longest = nodes.iter().map(Node::socket).max_by_key(|path| path.as_os_str().len());
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
        for port in self.nodes()?.iter().flat_map(|node| [node.consensus_port, node.p2p_port]) {
            TcpListener::bind(("127.0.0.1", port)).map_err(|source| DevnetError::PortTaken { port, source })?;
        }
        Ok(())
    }

    /// A first port from which on enough are free.
    ///
    /// # Errors
    /// If there is none.
    pub fn free_base_port(&self) -> Result<u16, DevnetError> {
        let count = usize::from(ports(&self.nodes()?));
        (self.base_port..u16::MAX - 1_000)
            .step_by(count.max(1))
            .find(|base| Self { base_port: *base, ..self.clone() }.check_ports().is_ok())
            .ok_or_else(|| DevnetError::Plan(format!("there are no {count} free ports from {} on", self.base_port)))
    }

    /// Where the bundles of runtimes lie.
    #[must_use]
    pub fn bundles_dir(&self) -> PathBuf {
        self.dir.join("bundles")
    }

    /// The genesis document's file.
    #[must_use]
    pub fn genesis_file(&self) -> PathBuf {
        genesis_file(&self.dir)
    }
}

/// A program: as named, or of that name beside this one.
pub(crate) fn find_program(named: PathBuf) -> PathBuf {
    if named.components().count() > 1 || named.is_file() {
        return std::path::absolute(&named).unwrap_or(named);
    }
    std::env::current_exe().unwrap_or_default().with_file_name(named)
}

/// How many ports nodes need.
fn ports(nodes: &[Node]) -> u16 {
    u16::try_from(nodes.len()).unwrap_or(u16::MAX).saturating_mul(PORTS_PER_NODE)
}

/// The genesis document's file below a network's directory.
pub(crate) fn genesis_file(dir: &Path) -> PathBuf {
    dir.join("genesis.json")
}
