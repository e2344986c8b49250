//! What a hostile runtime can take of its host: memory before, at most, and after, and how each attack ends.
//!
//! `cargo run --release -p rt-host --example hostile`. The runtime is this program again, in a process of its own; what is
//! measured is the anonymous memory of the host's process.

use std::{
    io::{Read as _, Write as _},
    os::unix::net::{UnixListener, UnixStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use base_prims::Version;
use rt_host::{
    BoxFuture, HostHandler, HostInfo,
    connection::{Connection, MAX_CALLS, MAX_FRAME_BYTES},
};
use wire_runtime::{
    Body, Empty, Error, Message, PROTOCOL_VERSION,
    frame::{self, FrameReader},
    host::LocalStorageGetRequest,
    runtime::InfoResponse,
};

const HOST: &str = "OASIS_WORKER_HOST";
const ATTACK: &str = "ATTACK";

/// Name, and what it is.
const ATTACKS: &[(&str, &str)] = &[
    ("announced", "announces a frame of 4 GiB"),
    ("slow", "announces 64 MiB and sends a byte at a time"),
    ("malformed", "malformed CBOR"),
    ("large", "frames of 64 MiB, one after the other"),
    ("nulls", "frames with a list of a million nulls"),
    ("flood", "requests without end, answers are read"),
    ("deaf", "requests of 64 KiB without end, answers are not read"),
    ("slots", "100,000 requests that the host takes long to answer"),
    ("silent", "answers nothing; 4,096 calls wait"),
    ("answers", "answers that nobody asked for, without end"),
];

/// How long an attack may go on.
const LENGTH: Duration = Duration::from_secs(8);

fn framed(content: &[u8]) -> Vec<u8> {
    let mut out = u32::try_from(content.len()).expect("short").to_be_bytes().to_vec();
    out.extend_from_slice(content);
    out
}

fn get(id: u64, bytes: usize) -> Vec<u8> {
    let body = Body::HostLocalStorageGetRequest(LocalStorageGetRequest { key: Some(vec![1; bytes].into()) });
    frame::encode(&Message::request(id, body), MAX_FRAME_BYTES).expect("fits")
}

/// The runtime: shakes hands, then attacks until the host closes.
fn attack(mut stream: UnixStream, kind: &str) -> std::io::Result<()> {
    let mut frames = FrameReader::new(MAX_FRAME_BYTES);
    let mut buffer = vec![0; 64 << 10];
    let id = loop {
        let count = stream.read(&mut buffer)?;
        frames.push(&buffer[..count]);
        if let Ok(Some(bytes)) = frames.next_frame() {
            break frame::decode(bytes).expect("a message").id;
        }
    };
    let info = InfoResponse { protocol_version: PROTOCOL_VERSION, runtime_version: Version::default(), features: None };
    let out = frame::encode(&Message::response(id, Body::RuntimeInfoResponse(info)), MAX_FRAME_BYTES).expect("fits");
    stream.write_all(&out)?;
    let mut reader = stream.try_clone()?;
    if kind != "deaf" {
        std::thread::spawn(move || while reader.read(&mut buffer).is_ok_and(|count| count > 0) {});
    }
    match kind {
        "announced" => stream.write_all(&u32::MAX.to_be_bytes())?,
        "slow" => {
            stream.write_all(&u32::try_from(MAX_FRAME_BYTES).expect("fits").to_be_bytes())?;
            loop {
                stream.write_all(&[0])?;
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        "malformed" => stream.write_all(&framed(&[0xbf; 100]))?,
        "large" => {
            let error = Error { module: "m".into(), code: 1, message: "x".repeat(MAX_FRAME_BYTES - 200) };
            let out = frame::encode(&Message::response(1, Body::Error(error)), MAX_FRAME_BYTES).expect("fits");
            loop {
                stream.write_all(&out)?;
            }
        }
        "nulls" => {
            let mut out = frame::encode(&Message::response(1, Body::Empty(Empty {})), 1000).expect("fits").split_off(4);
            let place = out.windows(6).position(|w| w == b"\x65Empty").expect("the name");
            let name = b"\x78\x1dRuntimeExecuteTxBatchResponse\xa1\x65batch\xa1\x6cio_write_log\x9a\x00\x0f\x00\x00";
            out.splice(place..place + 7, [name.as_slice(), &[0xf6; 0xf_0000]].concat());
            loop {
                stream.write_all(&framed(&out))?;
            }
        }
        "flood" | "slots" => {
            let count = if kind == "flood" { u64::MAX } else { 100_000 };
            for id in 0..count {
                stream.write_all(&get(id, 16))?;
            }
        }
        "deaf" => {
            let out = get(1, 64 << 10);
            loop {
                stream.write_all(&out)?;
            }
        }
        "answers" => {
            let out: Vec<u8> = (0..1000u64)
                .flat_map(|id| frame::encode(&Message::response(id << 32, Body::Empty(Empty {})), 1000).expect("fits"))
                .collect();
            loop {
                stream.write_all(&out)?;
            }
        }
        _ => {}
    }
    std::thread::sleep(2 * LENGTH);
    Ok(())
}

/// Answers, at once or never.
struct Handler {
    slow: bool,
}

impl HostHandler for Handler {
    fn handle(&self, request: Body) -> BoxFuture<'_, Result<Body, Error>> {
        Box::pin(async move {
            if self.slow {
                std::future::pending::<()>().await;
            }
            let Body::HostLocalStorageGetRequest(request) = request else { return Err(Error::method_not_supported()) };
            let value = request.key;
            Ok(Body::HostLocalStorageGetResponse(wire_runtime::host::LocalStorageGetResponse { value }))
        })
    }
}

/// Anonymous memory of this process in KiB.
fn memory() -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

async fn suffer(kind: &str, what: &str) {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("host.sock");
    let listener = UnixListener::bind(&path).expect("binds");
    let program = std::env::current_exe().expect("a path");
    let mut peer = std::process::Command::new(program).env(HOST, &path).env(ATTACK, kind).spawn().expect("starts");
    let (stream, _) = listener.accept().expect("accepts");
    stream.set_nonblocking(true).expect("set");
    let (reader, writer) = tokio::net::UnixStream::from_std(stream).expect("a stream").into_split();
    let before = memory();
    let (most, done) = (Arc::new(AtomicU64::new(before)), Arc::new(AtomicBool::new(false)));
    let sampler = std::thread::spawn({
        let (most, done) = (Arc::clone(&most), Arc::clone(&done));
        move || {
            while !done.load(Ordering::Relaxed) {
                most.fetch_max(memory(), Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(2));
            }
        }
    });
    let handler = Arc::new(Handler { slow: kind == "slots" });
    let connection = Arc::new(Connection::new(reader, writer, Default::default(), handler));
    connection.init(&HostInfo::default(), Default::default()).await.expect("handshake");
    let begin = Instant::now();
    if kind == "silent" {
        for _ in 0..MAX_CALLS {
            let connection = Arc::clone(&connection);
            tokio::spawn(async move { connection.call(Body::RuntimePingRequest(Empty {})).await });
        }
    }
    let end = match tokio::time::timeout(LENGTH, connection.closed()).await {
        Ok(reason) => format!("closed after {:.1} s: {reason}", begin.elapsed().as_secs_f64()),
        // The rest of the node goes on: a timer fires in time.
        Err(_) => {
            let late = begin.elapsed().saturating_sub(LENGTH);
            format!("goes on; {} requests refused; a timer of the node was {late:?} late", connection.refused())
        }
    };
    connection.shut_down().await;
    drop(connection);
    peer.kill().expect("ends");
    peer.wait().expect("ends");
    tokio::time::sleep(Duration::from_secs(1)).await;
    done.store(true, Ordering::Relaxed);
    sampler.join().expect("no panic");
    let mib = |kib: u64| kib as f64 / 1024.0;
    let most = most.load(Ordering::Relaxed);
    println!("| {what} | {:.1} | {:.1} | {:.1} | {end} |", mib(before), mib(most), mib(memory()));
}

fn main() {
    if let Some(path) = std::env::var_os(HOST) {
        let kind = std::env::var(ATTACK).unwrap_or_default();
        // The host ends the connection: that is the end of most attacks.
        let _ = attack(UnixStream::connect(path).expect("connects"), &kind);
        return;
    }
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    let tasks = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    tasks.block_on(async {
        println!("| Attack | MiB before | at most | after | End |\n|---|---|---|---|---|");
        for (kind, what) in ATTACKS {
            if wanted.is_empty() || wanted.iter().any(|name| name == kind) {
                tokio::spawn(suffer(kind, what)).await.expect("no panic");
            }
        }
    });
}
