//! Round trip of a small call through a real socket, and throughput of 1 KiB calls, to a process of its own that only
//! echoes. `cargo bench -p rt-host --bench rhp`. The process is this program again; another host may be measured against
//! it: it connects to the socket that `OASIS_WORKER_HOST` names.

use std::{
    io::{Read as _, Write as _},
    os::unix::net::{UnixListener, UnixStream},
    sync::Arc,
    time::{Duration, Instant},
};

use base_prims::Version;
use rt_host::{HostInfo, NoHandler, connection::Connection};
use wire_runtime::{
    Body, Empty, Message, PROTOCOL_VERSION,
    frame::{self, FrameReader},
    runtime::{InfoResponse, QueryRequest, QueryResponse},
};

/// Names the host's socket to the process that echoes.
const HOST: &str = "OASIS_WORKER_HOST";

/// Answers pings and queries.
fn peer(mut stream: UnixStream) {
    let mut frames = FrameReader::new(frame::MAX_RUNTIME_FRAME_BYTES);
    let mut buffer = vec![0; 64 << 10];
    let mut out = Vec::new();
    while let Ok(count) = stream.read(&mut buffer) {
        if count == 0 {
            return;
        }
        frames.push(&buffer[..count]);
        out.clear();
        while let Ok(Some(bytes)) = frames.next_frame() {
            let Ok(message) = frame::decode(bytes) else { return };
            let answer = match message.body {
                Body::RuntimeInfoRequest(_) => Body::RuntimeInfoResponse(InfoResponse {
                    protocol_version: PROTOCOL_VERSION,
                    runtime_version: Version::default(),
                    features: None,
                }),
                Body::RuntimeQueryRequest(query) => Body::RuntimeQueryResponse(QueryResponse { data: query.args }),
                _ => Body::Empty(Empty {}),
            };
            out.extend(frame::encode(&Message::response(message.id, answer), frame::MAX_FRAME_BYTES).expect("fits"));
        }
        if stream.write_all(&out).is_err() {
            return;
        }
    }
}

/// A process that ends with its connection.
struct Peer(std::process::Child);

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn connect() -> (Arc<Connection>, Peer) {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("host.sock");
    let listener = UnixListener::bind(&path).expect("binds");
    let program = std::env::current_exe().expect("a path");
    let peer = Peer(std::process::Command::new(program).env(HOST, &path).spawn().expect("starts"));
    let (stream, _) = listener.accept().expect("accepts");
    stream.set_nonblocking(true).expect("set");
    let (reader, writer) = tokio::net::UnixStream::from_std(stream).expect("a stream").into_split();
    let connection = Connection::new(reader, writer, Default::default(), Arc::new(NoHandler));
    connection.init(&HostInfo::default(), Default::default()).await.expect("handshake");
    (Arc::new(connection), peer)
}

async fn latency(calls: usize) {
    let (connection, _peer) = connect().await;
    let mut times: Vec<Duration> = Vec::with_capacity(calls);
    for _ in 0..calls {
        let begin = Instant::now();
        connection.call(Body::RuntimePingRequest(Empty {})).await.expect("answers");
        times.push(begin.elapsed());
    }
    times.sort_unstable();
    let at = |share: f64| times[((calls - 1) as f64 * share) as usize];
    println!("round trip of a ping: median {:?}, p90 {:?}, p99 {:?}, least {:?}", at(0.5), at(0.9), at(0.99), times[0]);
}

async fn throughput(calls: usize, width: usize) {
    let (connection, _peer) = connect().await;
    let begin = Instant::now();
    let tasks: Vec<_> = (0..width)
        .map(|_| {
            let connection = Arc::clone(&connection);
            tokio::spawn(async move {
                for _ in 0..calls / width {
                    let args = vec![7; 1024].into();
                    let query = QueryRequest { method: "echo".into(), args, ..QueryRequest::default() };
                    connection.call(Body::RuntimeQueryRequest(Box::new(query))).await.expect("answers");
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("no panic");
    }
    let took = begin.elapsed();
    println!("1 KiB calls, {width} at a time: {:.0} per second", calls as f64 / took.as_secs_f64());
}

fn main() {
    if let Some(path) = std::env::var_os(HOST) {
        return peer(UnixStream::connect(path).expect("connects"));
    }
    // Under `cargo test --benches` once is enough.
    let quick = !std::env::args().any(|arg| arg == "--bench");
    let (few, many) = if quick { (50, 640) } else { (20_000, 128_000) };
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    runtime.block_on(async move {
        // As a node calls: from a task of the runtime.
        tokio::spawn(latency(few)).await.expect("no panic");
        for width in [1, 8, 64] {
            tokio::spawn(throughput(many, width)).await.expect("no panic");
        }
    });
}
