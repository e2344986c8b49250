//! How long a runtime takes from its start to its being ready, in the sandbox and without it. The runtime is this program,
//! which connects and answers at once. `cargo bench -p rt-host --bench start`.

use std::{
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use base_prims::{Namespace, Version};
use rt_bundle::{Binary, Wrap};
use rt_host::{
    ComponentConfig, HostEvent, HostInfo, NoHandler, Provisioner,
    sandbox::{DEFAULT_BINARY, ENV_HOST, Sandbox, probe},
};
use wire_runtime::{
    Body, Empty, Message, PROTOCOL_VERSION,
    bundle::ComponentId,
    frame::{self, FrameReader},
    runtime::InfoResponse,
};

/// Answers the handshake and pings until the host closes.
fn runtime(path: &Path) {
    let mut stream = UnixStream::connect(path).expect("connects");
    let mut frames = FrameReader::new(frame::MAX_RUNTIME_FRAME_BYTES);
    let mut buffer = vec![0; 64 << 10];
    while let Ok(count) = stream.read(&mut buffer) {
        if count == 0 {
            return;
        }
        frames.push(&buffer[..count]);
        while let Ok(Some(bytes)) = frames.next_frame() {
            let Ok(message) = frame::decode(bytes) else { return };
            let answer = match message.body {
                Body::RuntimeInfoRequest(_) => Body::RuntimeInfoResponse(InfoResponse {
                    protocol_version: PROTOCOL_VERSION,
                    runtime_version: Version::default(),
                    features: None,
                }),
                _ => Body::Empty(Empty {}),
            };
            let out = frame::encode(&Message::response(message.id, answer), frame::MAX_FRAME_BYTES).expect("fits");
            if stream.write_all(&out).is_err() {
                return;
            }
        }
    }
}

fn config() -> ComponentConfig {
    let wrap = Wrap {
        runtime_id: Namespace::default(),
        name: "bench".into(),
        version: None,
        binary: Binary::Elf(std::env::current_exe().expect("a path")),
    };
    let bundle = Arc::new(wrap.to_exploded().expect("an ELF file"));
    ComponentConfig::new(bundle, ComponentId::Ronl, Arc::new(NoHandler)).expect("a component")
}

async fn starts(name: &str, provisioner: &dyn Provisioner, count: usize) {
    let config = config();
    let mut times: Vec<Duration> = Vec::with_capacity(count);
    for _ in 0..count {
        let begin = Instant::now();
        let host = provisioner.provision(config.clone()).expect("provisions");
        let mut events = host.events();
        host.start().await.expect("starts");
        loop {
            match events.recv().await.expect("an event") {
                HostEvent::Started { .. } => break,
                HostEvent::FailedToStart { error } => panic!("{error}"),
                _ => {}
            }
        }
        times.push(begin.elapsed());
        host.stop(tokio::time::Instant::now() + Duration::from_secs(10)).await.expect("stops");
    }
    times.sort_unstable();
    println!(
        "{name}: start to ready, {count} times: median {:?}, least {:?}, most {:?}",
        times[count / 2],
        times[0],
        times[count - 1]
    );
}

fn main() {
    if let Some(path) = std::env::var_os(ENV_HOST) {
        return runtime(Path::new(&path));
    }
    // Under `cargo test --benches` once is enough.
    let count = if std::env::args().any(|arg| arg == "--bench") { 50 } else { 2 };
    let tasks = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    tasks.block_on(async {
        starts("without sandbox", &Sandbox::unconfined(HostInfo::default()), count).await;
        match probe(Path::new(DEFAULT_BINARY)).await {
            Ok(_) => starts("in the sandbox", &Sandbox::new(DEFAULT_BINARY, HostInfo::default()), count).await,
            Err(e) => dev_testkit::skip(1, &e.to_string()),
        }
    });
}
