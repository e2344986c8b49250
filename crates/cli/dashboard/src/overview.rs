//! What is shown: plain values, as the page gets them in JSON.

use serde::Serialize;

/// Everything at one moment.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Overview {
    /// Chain context; empty until a node answers.
    pub chain_context: String,
    /// Newest height that any node has.
    pub height: i64,
    /// Its epoch.
    pub epoch: u64,
    /// Its time.
    pub time: String,
    /// The nodes.
    pub nodes: Vec<NodeView>,
    /// The validators of the newest block.
    pub validators: Vec<ValidatorView>,
    /// The newest blocks, newest first.
    pub blocks: Vec<BlockView>,
    /// Transactions of these blocks, newest first.
    pub transactions: Vec<TxView>,
    /// The ParaTimes and key managers.
    pub paratimes: Vec<ParaTimeView>,
}

/// How a node stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It does what it is there for.
    Ready,
    /// It catches up, or waits for something.
    Waiting,
    /// It does not answer.
    #[default]
    Down,
}

/// A node.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct NodeView {
    /// Its name here.
    pub name: String,
    /// Its mode.
    pub mode: String,
    /// How it stands.
    pub state: State,
    /// And why.
    pub why: String,
    /// Program version.
    pub version: String,
    /// Its newest height.
    pub height: i64,
    /// Peers of the consensus layer.
    pub consensus_peers: usize,
    /// Peers of the other layer.
    pub p2p_peers: i64,
    /// Its node key.
    pub id: String,
    /// When it registered last; empty if it never did.
    pub registered: String,
    /// Roles that it is registered with.
    pub roles: String,
    /// Whether its log can be shown.
    pub has_log: bool,
    /// The components that it hosts.
    pub components: Vec<ComponentView>,
}

/// A component that a node hosts.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct ComponentView {
    /// The runtime.
    pub runtime: String,
    /// Kind, and name of an off-chain one.
    pub name: String,
    /// Version.
    pub version: String,
    /// State.
    pub state: String,
    /// The worker's state, where there is one.
    pub worker: String,
    /// The node's newest round.
    pub round: u64,
}

/// A validator.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct ValidatorView {
    /// The node's name, if it is one of those asked.
    pub name: String,
    /// Its address.
    pub address: String,
    /// Its voting power.
    pub power: i64,
    /// Its votes for the blocks shown, in their order: `commit`, `nil`, `absent`; empty if it was no validator.
    pub votes: Vec<&'static str>,
}

/// A block.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct BlockView {
    /// Height.
    pub height: i64,
    /// Time.
    pub time: String,
    /// Hash.
    pub hash: String,
    /// Who proposed it.
    pub proposer: String,
    /// Round in which it was decided, once the next block says so.
    pub round: Option<i32>,
    /// Transactions in it.
    pub transactions: usize,
    /// Bytes.
    pub size: u64,
}

/// A transaction of the consensus layer.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct TxView {
    /// Height.
    pub height: i64,
    /// Hash.
    pub hash: String,
    /// Method.
    pub method: String,
    /// Address of the signer, with the node's name if it is one of those asked.
    pub from: String,
    /// Number of the sender's transaction.
    pub nonce: u64,
    /// Fee in base units.
    pub fee: String,
    /// Gas used.
    pub gas: u64,
    /// Bytes.
    pub size: usize,
    /// Why it failed; empty on success.
    pub error: String,
}

/// A ParaTime or a key manager.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct ParaTimeView {
    /// Its id.
    pub id: String,
    /// `compute` or `keymanager`.
    pub kind: String,
    /// Its key manager.
    pub key_manager: String,
    /// Version of its active deployment.
    pub version: String,
    /// Newest round.
    pub round: u64,
    /// Its time.
    pub time: String,
    /// Kind of its newest block.
    pub block: String,
    /// State after it.
    pub state_root: String,
    /// Why no committee works on it, if so.
    pub suspended: bool,
    /// The committee.
    pub committee: Vec<MemberView>,
    /// Of a key manager: what is known of its secrets.
    pub secrets: String,
    /// The newest rounds, newest first.
    pub rounds: Vec<RoundView>,
}

/// A member of a committee.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct MemberView {
    /// Name of the node, or its key.
    pub node: String,
    /// What it does.
    pub role: String,
}

/// A round of a ParaTime.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct RoundView {
    /// Its number.
    pub round: u64,
    /// Hashes of its transactions, with the sizes of transaction and result.
    pub transactions: Vec<(String, usize, usize)>,
}
