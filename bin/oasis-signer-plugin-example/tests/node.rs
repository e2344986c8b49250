//! A validator whose keys a plugin holds.

use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use base_signer::{PluginConfig, SignerConfig};
use cli_devnet::chain::Chain;
use cli_devnet::{Network, Node, Plan, Role};
use node_config::Config;
use node_run::{Ended, Node as RunningNode, Options};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// A network of one validator, whose keys but those for TLS and randomness are taken out of its folder into another.
struct Alone {
    _dir: tempfile::TempDir,
    node: Node,
    held: PathBuf,
}

impl Alone {
    fn new(base_port: u16, keys: &[&str]) -> Self {
        let dir = tempfile::Builder::new().prefix("sg").tempdir().expect("a directory");
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
        let mut plan = Plan {
            dir: dir.path().join("net"),
            validators: 1,
            clients: 0,
            paratime: None,
            base_port,
            block_time: Duration::from_millis(200),
            epoch_interval: 10,
            chain_id: "signer test".to_owned(),
            genesis_time: i64::try_from(now).expect("in range"),
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

    async fn start(&self, signer: SignerConfig, stop: &CancellationToken) -> JoinHandle<Ended> {
        let config = Config::load(&self.node.config()).expect("a configuration");
        let options = Options {
            dont_blame_oasis: true,
            allow_test_keys: false,
            tee: rt_tee::VerifyOptions::default(),
            version: "0.0.0".to_owned(),
            votes: false,
            signer,
        };
        let running = RunningNode::start(config, options, stop.clone()).await.expect("it starts");
        tokio::spawn(running.run())
    }

    async fn height(&self) -> i64 {
        let Ok(chain) = Chain::connect(&self.node).await else { return 0 };
        chain.height().await.unwrap_or(0)
    }

    async fn reached(&self, height: i64) {
        let end = Instant::now() + Duration::from_secs(60);
        while self.height().await < height {
            assert!(Instant::now() < end, "height {height} was not reached");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Height of the last signature on record.
    fn signed(&self) -> i64 {
        let text =
            std::fs::read_to_string(self.node.dir.join("consensus/oasis_priv_validator.json")).expect("it voted");
        let record: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        record["height"].as_i64().expect("a number")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_validator_signs_everything_through_a_plugin() {
    let alone = Alone::new(27_400, &["identity.pem", "p2p.pem", "consensus.pem"]);
    let signer = SignerConfig {
        backend: "composite".to_owned(),
        composite: "node:plugin,p2p:plugin,consensus:plugin,vrf:file".to_owned(),
        plugin: PluginConfig {
            name: "example".to_owned(),
            path: env!("CARGO_BIN_EXE_oasis-signer-plugin-example").into(),
            config: alone.held.display().to_string(),
        },
        ..SignerConfig::default()
    };
    // Through an epoch, so that it has registered and proven randomness by itself.
    let stop = CancellationToken::new();
    let ended = alone.start(signer, &stop).await;
    alone.reached(25).await;
    assert!(alone.signed() >= 25);
    stop.cancel();
    assert_eq!(ended.await.expect("it ends"), Ended::Requested);
    assert!(!alone.node.dir.join("consensus.pem").exists(), "no key came back into the folder");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_alone_can_not_serve_a_node() {
    let alone = Alone::new(27_420, &[]);
    let config = Config::load(&alone.node.config()).expect("a configuration");
    let start = |plugin: PluginConfig| {
        let config = config.clone();
        async move {
            let options = Options {
                dont_blame_oasis: true,
                allow_test_keys: false,
                tee: rt_tee::VerifyOptions::default(),
                version: "0.0.0".to_owned(),
                votes: false,
                signer: SignerConfig { backend: "plugin".to_owned(), plugin, ..SignerConfig::default() },
            };
            RunningNode::start(config, options, CancellationToken::new()).await.err().map(|error| error.to_string())
        }
    };
    let path = env!("CARGO_BIN_EXE_oasis-signer-plugin-example");
    let plugin = PluginConfig { name: "example".to_owned(), path: path.into(), config: String::new() };
    assert!(start(plugin).await.is_some_and(|error| error.contains("vrf:file")));
}
