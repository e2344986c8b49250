//! A real Prometheus scrapes the service, where one is installed.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use base_metrics::{Mode, Service, Settings, table};
use tokio_util::sync::CancellationToken;

/// Longest wait for a scrape.
const PATIENCE: Duration = Duration::from_secs(40);

struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn query(address: SocketAddr, expression: &str) -> Option<f64> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    let request = format!("GET /api/v1/query?query={expression} HTTP/1.0\r\n\r\n");
    stream.write_all(request.as_bytes()).ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    let answer: serde_json::Value = serde_json::from_str(text.split_once("\r\n\r\n")?.1).ok()?;
    answer["data"]["result"][0]["value"][1].as_str()?.parse().ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn prometheus_reads_what_is_set() {
    if Command::new("prometheus").arg("--version").output().is_err() {
        println!("skipped 1 case: prometheus is not installed");
        return;
    }
    let settings = Settings {
        mode: Mode::Pull,
        address: "127.0.0.1:0".to_owned(),
        interval: Duration::from_secs(1),
        ..Settings::default()
    };
    let service = Service::bind(&settings).await.unwrap();
    let (target, stop) = (service.address().unwrap(), CancellationToken::new());
    let running = tokio::spawn(service.run(stop.clone()));
    table::COMET_HEIGHT.with(&["a \"chain\""]).set(4_711.0);
    table::GRPC_SERVER_LATENCY.with(&["/x/Y"]).observe(0.25);

    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("prometheus.yml");
    let text = format!(
        "scrape_configs: [{{job_name: node, scrape_interval: 1s, static_configs: [{{targets: ['{target}']}}]}}]"
    );
    std::fs::write(&config, text).unwrap();
    let web = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let _prometheus = Ended(
        Command::new("prometheus")
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", dir.path().join("data").display()))
            .arg(format!("--web.listen-address={web}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap(),
    );
    let start = Instant::now();
    let expect = |expression: &str, value: f64| {
        while query(web, expression) != Some(value) {
            assert!(start.elapsed() < PATIENCE, "{expression}: {:?}", query(web, expression));
            std::thread::sleep(Duration::from_millis(200));
        }
    };
    tokio::task::block_in_place(|| {
        expect("up", 1.0);
        expect("cometbft_consensus_height", 4_711.0);
        expect("oasis_grpc_server_latency_sum", 0.25);
        expect("oasis_worker_node_registered", 0.0);
    });
    stop.cancel();
    running.await.unwrap();
}
