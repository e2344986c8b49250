//! The runtime: answers queries for its local configuration, and ends itself if that says so.

use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::ExitCode;

use base_codec::cbor;
use base_prims::Version;
use rt_host::sandbox::{ENV_HOST, SOCKET_IN_SANDBOX};
use wire_runtime::frame::{self, FrameReader};
use wire_runtime::runtime::{InfoResponse, QueryResponse};
use wire_runtime::{Body, Empty, Message, MessageType, PROTOCOL_VERSION, error};

/// What follows the program in a bundle, before its version.
pub(crate) const MARK: &[u8; 8] = b"VERSION:";

/// The major version that stands at the program's end.
fn version() -> Option<Version> {
    let inside = std::env::var_os(ENV_HOST)? == SOCKET_IN_SANDBOX;
    let path = if inside { PathBuf::from("/entrypoint") } else { std::env::current_exe().ok()? };
    let mut file = std::fs::File::open(path).ok()?;
    file.seek(SeekFrom::End(-9)).ok()?;
    let mut end = [0; 9];
    file.read_exact(&mut end).ok()?;
    end.starts_with(MARK).then(|| Version::new(u16::from(end[8]), 0, 0))
}

pub(crate) fn run() -> ExitCode {
    let path = std::env::var_os(ENV_HOST).unwrap_or_default();
    let (Ok(mut stream), Some(version)) = (UnixStream::connect(path), version()) else {
        return ExitCode::from(10);
    };
    println!(r#"{{"msg":"guest connected","level":"INFO","module":"guest","ts":"now"}}"#);
    let mut frames = FrameReader::new(frame::MAX_RUNTIME_FRAME_BYTES);
    let mut buffer = vec![0; 64 << 10];
    let mut greeting = String::new();
    loop {
        let count = stream.read(&mut buffer).unwrap_or(0);
        if count == 0 {
            return ExitCode::SUCCESS;
        }
        frames.push(&buffer[..count]);
        while let Ok(Some(bytes)) = frames.next_frame() {
            let Ok(message) = frame::decode(bytes) else { return ExitCode::from(12) };
            if message.message_type != MessageType::REQUEST {
                continue;
            }
            let answer = answer(message.body, version, &mut greeting);
            let out = frame::encode(&Message::response(message.id, answer), frame::MAX_FRAME_BYTES);
            if out.map(|out| stream.write_all(&out)).is_err() {
                return ExitCode::from(13);
            }
        }
    }
}

fn answer(request: Body, version: Version, greeting: &mut String) -> Body {
    match request {
        Body::RuntimeInfoRequest(info) => {
            let get = |key: &str| info.local_config.get(key).and_then(|raw| raw.decode_as::<String>().ok());
            if get("mode").as_deref() == Some("exit") {
                std::process::exit(7);
            }
            *greeting = get("greeting").unwrap_or_default();
            Body::RuntimeInfoResponse(InfoResponse {
                protocol_version: PROTOCOL_VERSION,
                runtime_version: version,
                features: None,
            })
        }
        Body::RuntimePingRequest(_) => Body::Empty(Empty {}),
        Body::RuntimeConsensusSyncRequest(_) => Body::RuntimeConsensusSyncResponse(Empty {}),
        Body::RuntimeQueryRequest(_) => {
            let text = format!("{greeting} from {version}");
            Body::RuntimeQueryResponse(QueryResponse { data: cbor::to_vec(&text).into() })
        }
        _ => Body::Error(wire_runtime::Error::new(error::DISPATCHER, "method not supported")),
    }
}
