//! What is known of the machine and the files that the configuration names.

use std::path::PathBuf;

/// Everything that verdicts rest on.
#[derive(Debug, Clone, PartialEq)]
pub struct Facts {
    /// Who runs the node.
    pub user: User,
    /// Open files.
    pub files: Files,
    /// Memory and processors.
    pub machine: Machine,
    /// The clock.
    pub clock: Clock,
    /// The temporary directory.
    pub temp: Temp,
    /// The data directory.
    pub data_dir: DataDir,
    /// Speed of its disk; `None`: not measured.
    pub disk: Option<Result<Disk, String>>,
    /// The genesis document.
    pub genesis: Genesis,
    /// Whether the data belongs to that genesis document.
    pub chain: Chain,
    /// Key files that others can read.
    pub open_keys: Vec<PathBuf>,
    /// Files that the configuration names, with what is wrong with them.
    pub named: Vec<Named>,
    /// Ports to listen on.
    pub ports: Vec<Port>,
    /// Own addresses told to others.
    pub external: Vec<Reach>,
    /// Seeds.
    pub seeds: Vec<Reach>,
    /// The sandbox; `None`: no runtime needs it.
    pub sandbox: Option<Sandbox>,
    /// Intel SGX.
    pub sgx: Sgx,
    /// Intel TDX; devices that virtual machines need.
    pub tdx: Devices,
    /// Control groups.
    pub cgroup: Cgroup,
}

/// Who runs the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Root.
    pub root: bool,
    /// The configuration allows root.
    pub root_allowed: bool,
}

/// Limits on open files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    /// Limit that the process may raise to.
    pub hard: u64,
    /// What the configured connections and stores can need.
    pub required: u64,
    /// What the guides advise.
    pub recommended: u64,
}

/// Memory and processors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// Bytes of memory.
    pub memory: u64,
    /// Whether the processor has AES instructions.
    pub aes: bool,
    /// Processors.
    pub processors: usize,
}

/// The clock against a time server.
#[derive(Debug, Clone, PartialEq)]
pub struct Clock {
    /// Seconds that this clock is ahead, or why nobody knows; `None`: not asked.
    pub ahead: Option<Result<f64, String>>,
}

/// The temporary directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Temp {
    /// Where.
    pub path: PathBuf,
    /// Why no folder can be made in it.
    pub error: Option<String>,
    /// Free bytes.
    pub free: u64,
}

/// The data directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataDir {
    /// Where.
    pub path: PathBuf,
    /// In which state.
    pub state: DirState,
    /// Free bytes of its disk.
    pub free: u64,
    /// Whether there is a chain in it.
    pub chain: bool,
    /// Whether there is the file that guards against signing twice.
    pub guard: bool,
    /// Folders of other programs or older releases.
    pub foreign: Vec<String>,
}

/// State of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DirState {
    /// Not configured.
    NotSet,
    /// Not there yet.
    Missing,
    /// For this user alone.
    Private,
    /// Others may use it: its mode.
    Open(u32),
    /// Somebody else's: the user's id.
    Owner(u32),
    /// Not a directory.
    NotDirectory,
    /// Not readable.
    Error(String),
}

/// Speed of a disk.
#[derive(Debug, Clone, PartialEq)]
pub struct Disk {
    /// Milliseconds that a small write takes to be safe, in the middle of several.
    pub sync_ms: f64,
    /// Bytes per second of a large write that is made safe once.
    pub rate: f64,
}

/// The genesis document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Genesis {
    /// Its file.
    pub path: PathBuf,
    /// Its hash, or why there is none.
    pub hash: Result<String, String>,
}

/// Whether the data belongs to the genesis document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Chain {
    /// There is no chain yet, or no genesis document to compare with.
    None,
    /// A node runs on it and looked.
    Running,
    /// It does.
    Agrees,
    /// It does not, or is damaged.
    Differs(String),
}

/// A file that the configuration names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// The key.
    pub key: String,
    /// The file.
    pub path: PathBuf,
    /// What is wrong.
    pub error: Option<String>,
}

/// A port to listen on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// The key.
    pub key: String,
    /// `IP:port`.
    pub address: String,
    /// Whether it can be listened on.
    pub state: PortState,
}

/// Whether a port can be listened on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PortState {
    /// Yes.
    Free,
    /// The running node does.
    Ours,
    /// Another program does.
    Taken,
    /// No, for another reason.
    Error(String),
}

/// Whether an address can be connected to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reach {
    /// The key.
    pub key: String,
    /// `host:port`.
    pub address: String,
    /// Why not.
    pub error: Option<String>,
}

/// The sandbox of runtimes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sandbox {
    /// The program.
    pub path: PathBuf,
    /// What it calls itself, or why it does not run.
    pub version: Result<String, String>,
    /// What it says when it is tried.
    pub trial: Result<(), String>,
    /// Whether the system restricts namespaces of users through AppArmor.
    pub apparmor: bool,
    /// Whether the system forbids namespaces of users.
    pub forbidden: bool,
}

/// Devices.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Devices {
    /// Whether the configuration asks for what they are for.
    pub needed: bool,
    /// Device and what is wrong with it.
    pub devices: Vec<(PathBuf, Option<String>)>,
}

/// Intel SGX.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sgx {
    /// Its devices.
    pub devices: Devices,
    /// Whether the driver of before Linux 5.11 is there instead.
    pub legacy: bool,
    /// Whether the processor has it.
    pub processor: bool,
    /// Whether programs in `/dev` may not run.
    pub noexec: bool,
    /// Socket of the service that makes quotes, and why it can't be used.
    pub aesm: (PathBuf, Option<String>),
}

/// Control groups.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cgroup {
    /// Least limit on memory that applies.
    pub memory: Option<u64>,
    /// Least limit on tasks that applies.
    pub tasks: Option<u64>,
    /// Whether there is the unified hierarchy.
    pub unified: bool,
}
