//! A validator whose keys are with a remote signer, which hangs for a while.

#[path = "node/alone.rs"]
mod alone;

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use alone::Alone;
use base_grpc::{Address, Cbor, Client};
use base_signer::{RemoteConfig, SignerConfig};
use cli_devnet::Node;
use node_rpc::status::{SignerStatus, Status};
use node_run::Ended;
use rustix::process::{Pid, Signal, kill_process};
use tokio_util::sync::CancellationToken;

/// What the node's status says of its signer: where it is, whether it works, and if not, why.
async fn signer_of(node: &Node) -> SignerStatus {
    let client = Client::connect(&Address::Unix(node.socket())).await.expect("it answers");
    let asked = client.call::<_, Cbor<Status>>("oasis-core.NodeController", "GetStatus", &()).await;
    asked.expect("a status").0.signer.expect("it is not in a file")
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

    let signer_status = signer_of(&alone.node).await;
    assert_eq!((signer_status.backend.as_str(), signer_status.working), ("remote", true));

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
    assert!(signer_of(&alone.node).await.working);
    stop.cancel();
    assert_eq!(ended.await.expect("it ends"), Ended::Requested);
    for key in ["identity.pem", "p2p.pem", "consensus.pem", "vrf.pem"] {
        assert!(!alone.node.dir.join(key).exists(), "{key} came back into the folder");
    }
}
