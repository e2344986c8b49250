//! A validator alone in its network, whose keys are elsewhere; for tests of signers.

use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;
use std::time::Duration;

use base_signer::SignerConfig;
use cli_devnet::chain::Chain;
use cli_devnet::trial::{now, until};
use cli_devnet::{Network, Node, Plan, Role};
use node_config::Config;
use node_run::{Ended, Node as RunningNode, Options, RunError};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Seconds that anything may take: a machine that does other things too is slow.
const PATIENCE: u64 = 240;

/// A network of one validator, whose keys but those for TLS and randomness are taken out of its folder into another.
pub(crate) struct Alone {
    _dir: tempfile::TempDir,
    pub(crate) node: Node,
    pub(crate) held: PathBuf,
}

impl Alone {
    pub(crate) fn new(base_port: u16, keys: &[&str]) -> Self {
        let dir = tempfile::Builder::new().prefix("sg").tempdir().expect("a directory");
        let mut plan = Plan {
            dir: dir.path().join("net"),
            validators: 1,
            clients: 0,
            base_port,
            block_time: Duration::from_millis(200),
            epoch_interval: 10,
            chain_id: "signer test".to_owned(),
            genesis_time: now(),
            ..Plan::default()
        };
        plan.base_port = plan.free_base_port().expect("free ports");
        let network = Network::create(plan).expect("a network");
        let node = network.nodes().into_iter().find(|node| node.role == Role::Validator).expect("there is one");
        let held = dir.path().join("held");
        std::fs::DirBuilder::new().mode(0o700).create(&held).expect("a folder");
        for key in keys {
            std::fs::rename(node.dir.join(key), held.join(key)).expect("it has that key");
        }
        Self { _dir: dir, node, held }
    }

    /// Starts the node with that signer, if it lets it.
    pub(crate) async fn try_start(
        &self,
        signer: SignerConfig,
        stop: &CancellationToken,
    ) -> Result<RunningNode, RunError> {
        let config = Config::load(&self.node.config()).expect("a configuration");
        let options = Options {
            dont_blame_oasis: true,
            allow_test_keys: false,
            tee: rt_tee::VerifyOptions::default(),
            version: "0.0.0".to_owned(),
            votes: false,
            signer,
        };
        RunningNode::start(config, options, stop.clone()).await
    }

    pub(crate) async fn start(&self, signer: SignerConfig, stop: &CancellationToken) -> JoinHandle<Ended> {
        let running = self.try_start(signer, stop).await.expect("it starts");
        tokio::spawn(running.run())
    }

    pub(crate) async fn height(&self) -> i64 {
        let Ok(chain) = Chain::connect(&self.node).await else { return 0 };
        chain.height().await.unwrap_or(0)
    }

    pub(crate) async fn reached(&self, height: i64) {
        until(&format!("height {height}"), PATIENCE, async || (self.height().await >= height).then_some(())).await;
    }

    /// Height of the last signature on record.
    pub(crate) fn signed(&self) -> i64 {
        let text =
            std::fs::read_to_string(self.node.dir.join("consensus/oasis_priv_validator.json")).expect("it voted");
        let record: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        record["height"].as_i64().expect("a number")
    }
}
