//! A validator whose keys are with a remote signer, which hangs for a while.

use std::net::TcpListener;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use base_signer::{RemoteConfig, SignerConfig};
use cli_devnet::chain::Chain;
use cli_devnet::{Network, Node, Plan, Role};
use node_config::Config;
use node_run::{Ended, Node as RunningNode, Options};
use rustix::process::{Pid, Signal, kill_process};
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

/// The program, ended with this.
struct Signer {
    child: Child,
    config: RemoteConfig,
}

impl Drop for Signer {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Signer {
    /// Makes what the folder has not, and serves its keys.
    fn start(alone: &Alone) -> Self {
        let program = || {
            let mut command = Command::new(env!("CARGO_BIN_EXE_oasis-remote-signer"));
            command.arg("--datadir").arg(&alone.held).stdin(Stdio::null());
            command
        };
        assert!(program().arg("init_client").status().expect("it runs").success());
        // The keys are there, except for one that nobody asks for here.
        assert!(!program().arg("init").stderr(Stdio::null()).status().expect("it runs").success());
        let entity = alone.held.join("entity.pem");
        assert!(entity.exists(), "made before it found the others");
        let port = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a port").port();
        let client = alone.held.join("remote_signer_client_cert.pem");
        let child = program()
            .args(["--grpc.port", &port.to_string()])
            .arg("--client.certificate")
            .arg(&client)
            .stdout(Stdio::null())
            .spawn()
            .expect("it starts");
        let config = RemoteConfig {
            address: format!("127.0.0.1:{port}"),
            client_certificate: client,
            client_key: alone.held.join("remote_signer_client_key.pem"),
            server_certificate: alone.held.join("remote_signer_server_cert.pem"),
        };
        let signer = Self { child, config };
        let end = Instant::now() + Duration::from_secs(20);
        while std::net::TcpStream::connect(&signer.config.address).is_err() {
            assert!(Instant::now() < end, "the signer does not listen");
            std::thread::sleep(Duration::from_millis(50));
        }
        signer
    }

    fn send(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("a process");
        kill_process(pid, signal).expect("it runs");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_validator_signs_everything_remotely_and_waits_for_a_signer_that_hangs() {
    let alone = Alone::new(27_440, &["identity.pem", "p2p.pem", "consensus.pem", "vrf.pem"]);
    let signer = Signer::start(&alone);
    let config =
        SignerConfig { backend: "remote".to_owned(), remote: signer.config.clone(), ..SignerConfig::default() };
    let stop = CancellationToken::new();
    let ended = alone.start(config, &stop).await;
    // Through an epoch: it has registered and proven randomness by itself.
    alone.reached(25).await;

    // A signer that hangs: no block without its signature, and the node answers all the same.
    signer.send(Signal::STOP);
    tokio::time::sleep(Duration::from_secs(2)).await;
    let (height, signed) = (alone.height().await, alone.signed());
    assert!(height >= 25);
    tokio::time::sleep(Duration::from_secs(8)).await;
    assert_eq!((alone.height().await, alone.signed()), (height, signed), "nothing is signed meanwhile");
    signer.send(Signal::CONT);
    alone.reached(height + 3).await;
    assert!(alone.signed() >= height + 3);
    stop.cancel();
    assert_eq!(ended.await.expect("it ends"), Ended::Requested);
    for key in ["identity.pem", "p2p.pem", "consensus.pem", "vrf.pem"] {
        assert!(!alone.node.dir.join(key).exists(), "{key} came back into the folder");
    }
}
