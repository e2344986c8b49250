//! Real sockets on this machine.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::*;

fn pull() -> Settings {
    Settings {
        mode: Mode::Pull,
        address: "127.0.0.1:0".to_owned(),
        interval: Duration::from_millis(100),
        ..Settings::default()
    }
}

async fn get(address: std::net::SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    // A refused request may end in a reset.
    let _ = stream.read_to_string(&mut text).await;
    text
}

#[tokio::test]
async fn answers_on_any_path_and_stops_at_once() {
    let service = Service::bind(&pull()).await.unwrap();
    let (address, stop) = (service.address().unwrap(), CancellationToken::new());
    let running = tokio::spawn(service.run(stop.clone()));
    crate::table::COMET_HEIGHT.with(&["chain"]).set(7.0);
    for path in ["/metrics", "/", "/anything?x=1"] {
        let text = get(address, &format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n")).await;
        assert!(text.starts_with("HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4"), "{text}");
        let height = "\n# TYPE cometbft_consensus_height gauge\ncometbft_consensus_height{chain_id=\"chain\"} 7\n";
        assert!(text.contains(height), "{text}");
        assert!(text.contains("\n# TYPE oasis_node_cpu_utime_seconds gauge\n"), "{text}");
    }
    assert!(get(address, "POST / HTTP/1.1\r\n\r\n").await.starts_with("HTTP/1.1 405"));
    assert!(get(address, "HEAD / HTTP/1.1\r\n\r\n").await.ends_with("\r\n\r\n"));
    // Neither an endless head nor a silent client holds anything up.
    assert_eq!(get(address, &"x".repeat(20_000)).await, "");
    let _silent = TcpStream::connect(address).await.unwrap();
    let before = std::time::Instant::now();
    stop.cancel();
    running.await.unwrap();
    assert!(before.elapsed() < Duration::from_secs(1));
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn pushes() {
    let gateway = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let labels = [("instance", "a b"), ("scenario", "e2e/x"), ("z", "")];
    let settings = Settings {
        mode: Mode::Push,
        address: format!("http://{}/", gateway.local_addr().unwrap()),
        interval: Duration::from_millis(100),
        job_name: "oasis-test-runner".to_owned(),
        labels: labels.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect(),
        debug: true,
        ..Settings::default()
    };
    for (wrong, text) in [
        (Settings { debug: false, ..settings.clone() }, "unsupported mode: 'push'"),
        (Settings { job_name: String::new(), ..settings.clone() }, "job_name required"),
        (Settings { labels: BTreeMap::new(), ..settings.clone() }, "'instance'"),
        (Settings { address: "https://x".to_owned(), ..settings.clone() }, "by http"),
        (Settings { mode: Mode::Pull, address: "nowhere".to_owned(), ..settings.clone() }, "cannot listen on nowhere"),
    ] {
        let error = Service::bind(&wrong).await.expect_err(text).to_string();
        assert!(error.contains(text), "{error}");
    }
    let stop = CancellationToken::new();
    let running = tokio::spawn(Service::bind(&settings).await.unwrap().run(stop.clone()));
    for answer in ["HTTP/1.1 500 Oops\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n"] {
        let (mut stream, _) = gateway.accept().await.unwrap();
        let mut text = String::new();
        let mut chunk = [0; 4096];
        while !text.contains("process_start_time_seconds ") {
            let n = stream.read(&mut chunk).await.unwrap();
            assert!(n > 0, "{text}");
            text.push_str(&String::from_utf8_lossy(&chunk[..n]));
        }
        let start = "PUT /metrics/job/oasis-test-runner/instance/a%20b/scenario@base64/ZTJlL3g/z@base64/= HTTP/1.1\r\n";
        assert!(text.starts_with(start), "{text}");
        stream.write_all(answer.as_bytes()).await.unwrap();
    }
    stop.cancel();
    running.await.unwrap();
}

#[test]
fn modes_have_names() {
    assert_eq!("PULL".parse::<Mode>().unwrap(), Mode::Pull);
    assert_eq!("bogus".parse::<Mode>().expect_err("none").to_string(), "metrics: unsupported mode: 'bogus'");
    assert_eq!(base64(b"a"), "YQ");
    assert_eq!(base64(b"ab/?"), "YWIvPw");
}
