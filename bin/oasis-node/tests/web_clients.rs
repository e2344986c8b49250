//! The npm client `@oasisprotocol/client`, in Node and in a headless Chromium, against a node's listener for web pages:
//! reads, a signed transaction, a subscription. The program is that of `examples/typescript`.
//!
//! Skipped, saying so, where npm, its registry or Chromium is missing.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use cli_devnet::trial::{now, synced};
use cli_devnet::{Network, Node, Plan, Role, Running};
use serde_json::Value;

/// Seconds that anything may take: a machine that does other things too is slow.
const PATIENCE: u64 = 240;
/// What pages may call.
const METHODS: [&str; 10] = [
    "Beacon/GetEpoch",
    "Consensus/EstimateGas",
    "Consensus/GetChainContext",
    "Consensus/GetStatus",
    "Consensus/SubmitTx",
    "Consensus/WatchBlocks",
    "Registry/GetEntities",
    "Scheduler/GetValidators",
    "Staking/Account",
    "Staking/TokenSymbol",
];
/// Base units that are paid.
const AMOUNT: u64 = 1_000_000_000;

/// Runs a command that may be missing; `None` if it is, or fails.
fn quietly(command: &mut Command) -> Option<String> {
    let output = command.stdin(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The example, built in a directory of its own; `None` without npm or its registry.
fn built(dir: &Path) -> Option<PathBuf> {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/typescript");
    let copy = dir.join("typescript");
    std::fs::create_dir_all(copy.join("src")).expect("made");
    for name in ["package.json", "index.html"] {
        std::fs::copy(example.join(name), copy.join(name)).expect("the example is there");
    }
    for entry in std::fs::read_dir(example.join("src")).expect("the example is there").flatten() {
        std::fs::copy(entry.path(), copy.join("src").join(entry.file_name())).expect("copied");
    }
    let npm = |args: &[&str]| quietly(Command::new("npm").args(args).current_dir(&copy));
    npm(&["install", "--no-audit", "--no-fund", "--ignore-scripts"])?;
    npm(&["run", "build"])?;
    Some(copy)
}

/// Lets pages call a node.
fn open_to_pages(node: &Node, port: u16) {
    let path = node.dir.join("config.yml");
    let text = std::fs::read_to_string(&path).expect("its configuration");
    let methods: Vec<String> = METHODS.iter().map(|method| format!("oasis-core.{method}")).collect();
    let web = format!(
        "common:\n  grpc_web:\n    listen_address: 127.0.0.1:{port}\n    origins: ['*']\n    methods: [{}]\n",
        methods.join(", ")
    );
    assert!(text.contains("common:\n"), "{text}");
    std::fs::write(&path, text.replacen("common:\n", &web, 1)).expect("written");
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("bound").port()
}

/// Serves the built example, and gives what the page reports.
fn serve(listener: &TcpListener, files: &Path, end: Instant) -> Option<String> {
    listener.set_nonblocking(true).expect("set");
    while Instant::now() < end {
        let Ok((stream, _)) = listener.accept() else {
            std::thread::sleep(Duration::from_millis(50));
            continue;
        };
        stream.set_nonblocking(false).expect("set");
        if let Some(report) = answer(stream, files) {
            return Some(report);
        }
    }
    None
}

fn answer(stream: TcpStream, files: &Path) -> Option<String> {
    let _ = stream.set_read_timeout(Some(Duration::from_secs(10)));
    let mut reader = BufReader::new(stream);
    let (mut first, mut length) = (String::new(), 0);
    reader.read_line(&mut first).ok()?;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 || line.trim().is_empty() {
            break;
        }
        if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let (method, path) = first.split_once(' ')?;
    let name = path.split([' ', '?']).next()?.trim_start_matches('/');
    let (status, kind, content) = match (method, name) {
        ("GET", "index.html") => ("200 OK", "text/html", std::fs::read(files.join(name)).ok()?),
        ("GET", "dist/browser.js") => ("200 OK", "text/javascript", std::fs::read(files.join(name)).ok()?),
        ("POST", _) => ("204 No Content", "text/plain", Vec::new()),
        _ => ("404 Not Found", "text/plain", Vec::new()),
    };
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        content.len()
    );
    let mut stream = reader.into_inner();
    stream.write_all(&[head.as_bytes(), &content].concat()).ok()?;
    (method == "POST").then(|| String::from_utf8_lossy(&body).into_owned())
}

/// Opens the page in a headless Chromium; `None` if there is none.
fn in_chromium(files: &Path, dir: &Path, address: &str) -> Option<String> {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let origin = listener.local_addr().expect("bound");
    let flags = [
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--no-first-run",
        "--disable-background-networking",
    ];
    let mut chromium = Command::new("chromium")
        .args(flags)
        .arg(format!("--user-data-dir={}", dir.join("chromium").display()))
        .arg(format!("http://{origin}/index.html#{address}&report=/outcome"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let report = serve(&listener, files, Instant::now() + Duration::from_secs(PATIENCE));
    let _ = chromium.kill();
    let _ = chromium.wait();
    Some(report.expect("the page reports"))
}

/// What the program did, against what must have happened.
fn check(outcome: &str, network: &Network, paid_before: u64, where_: &str) {
    let outcome: Value = serde_json::from_str(outcome).expect(outcome);
    let text = |name: &str| outcome[name].as_str().unwrap_or_else(|| panic!("{where_}: {name} in {outcome}"));
    let number = |name: &str| text(name).parse::<u64>().expect(name);
    assert_eq!(text("chainContext"), network.chain_context, "{where_}");
    assert_eq!(text("symbol"), "TEST", "{where_}");
    assert_eq!(text("from"), network.accounts[0].address.to_string(), "{where_}");
    assert_eq!((outcome["entities"].as_u64(), outcome["validators"].as_u64()), (Some(1), Some(3)), "{where_}");
    assert_eq!(number("nonceBefore"), paid_before, "{where_}");
    assert_eq!(number("balanceAfter") - number("balanceBefore"), AMOUNT, "{where_}");
    assert_eq!(text("transaction").len(), 64, "{where_}");
    let heights = outcome["heights"].as_array().expect("a list");
    let heights: Vec<u64> =
        heights.iter().map(|height| height.as_str().and_then(|text| text.parse().ok()).expect("a height")).collect();
    assert!(heights.len() == 3 && heights.windows(2).all(|pair| pair[0] < pair[1]), "{where_}: {heights:?}");
    assert!(text("refused").starts_with("consensus/"), "{where_}: {outcome}");
    assert!(text("forbidden").contains("is not offered to web pages"), "{where_}: {outcome}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_npm_client_works_in_node_and_in_a_browser() {
    let dir = tempfile::Builder::new().prefix("wc").tempdir().expect("a directory");
    let Some(files) = built(dir.path()) else {
        println!("skipped 2 runs of the npm client: npm or its registry is missing");
        return;
    };
    let mut plan = Plan {
        dir: dir.path().join("net"),
        validators: 3,
        clients: 1,
        base_port: 27_400,
        block_time: Duration::from_millis(300),
        chain_id: "web clients".to_owned(),
        genesis_time: now(),
        ..Plan::default()
    };
    plan.base_port = plan.free_base_port().expect("free ports");
    let network = Network::create(plan).expect("a network");
    let nodes = network.nodes();
    let client = nodes.iter().find(|node| node.role == Role::Client).expect("a client");
    let port = free_port();
    open_to_pages(client, port);
    let mut running =
        Running::new(Path::new(env!("CARGO_BIN_EXE_oasis-node")), nodes.clone()).expect("the program is there");
    running.start_all().expect("all start");
    synced(client, PATIENCE).await;

    let pem = std::fs::read_to_string(network.plan.dir.join("accounts/alice/entity.pem")).expect("a key");
    let key: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    let to = network.accounts[1].address.to_string();
    let node = format!("http://127.0.0.1:{port}");
    let amount = AMOUNT.to_string();
    let words = [files.join("dist/node.cjs").to_str().expect("text"), &node, &key, &to, &amount].map(str::to_owned);
    let output = tokio::task::spawn_blocking(move || Command::new("node").args(words).output()).await;
    let output = output.expect("it ends").expect("node is where npm is");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    check(&String::from_utf8_lossy(&output.stdout), &network, 0, "Node");

    let escaped = key.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D");
    let address = format!("node={node}&key={escaped}&to={to}&amount={amount}");
    let temporary = dir.path().to_owned();
    match tokio::task::spawn_blocking(move || in_chromium(&files, &temporary, &address)).await.expect("it ends") {
        Some(report) => check(&report, &network, 1, "Chromium"),
        None => println!("skipped 1 run of the npm client: chromium is missing"),
    }
    assert_eq!(running.stop(), Vec::<String>::new(), "nodes that had to be killed");
}
