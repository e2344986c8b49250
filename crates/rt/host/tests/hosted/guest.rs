//! The runtime: does what queries tell it to. Its configuration, from the handshake, can make it misbehave.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    os::unix::net::UnixStream,
    process::ExitCode,
    time::Duration,
};

use base_codec::cbor;
use base_prims::Version;
use wire_runtime::{
    Body, Empty, Message, MessageType, PROTOCOL_VERSION, error,
    frame::{self, FrameReader},
    runtime::{InfoResponse, QueryResponse},
};

pub(crate) fn run() -> ExitCode {
    let path = std::env::var_os(rt_host::sandbox::ENV_HOST).unwrap_or_default();
    let Ok(mut stream) = UnixStream::connect(path) else {
        return ExitCode::from(10);
    };
    println!(r#"{{"msg":"guest connected","level":"INFO","module":"guest","ts":"now"}}"#);
    let mut frames = FrameReader::new(frame::MAX_RUNTIME_FRAME_BYTES);
    let mut buffer = vec![0; 64 << 10];
    loop {
        let Ok(count) = stream.read(&mut buffer) else { return ExitCode::from(11) };
        if count == 0 {
            return ExitCode::SUCCESS;
        }
        frames.push(&buffer[..count]);
        while let Ok(Some(bytes)) = frames.next_frame() {
            let Ok(message) = frame::decode(bytes) else { return ExitCode::from(12) };
            if message.message_type != MessageType::REQUEST {
                continue;
            }
            let Some(answer) = answer(message.body, &mut stream) else { continue };
            let out = frame::encode(&Message::response(message.id, answer), frame::MAX_FRAME_BYTES);
            if out.map(|out| stream.write_all(&out)).is_err() {
                return ExitCode::from(13);
            }
        }
    }
}

fn answer(request: Body, stream: &mut UnixStream) -> Option<Body> {
    let config = |info: &wire_runtime::runtime::InfoRequest, key: &str| -> Option<String> {
        info.local_config.get(key).and_then(|raw| raw.decode_as().ok())
    };
    Some(match request {
        Body::RuntimeInfoRequest(info) => {
            match config(&info, "mode").as_deref() {
                Some("exit") => std::process::exit(7),
                Some("silent") => return None,
                Some("garbage") => {
                    let _ = stream.write_all(&[0, 0, 0, 2, 0xff, 0xff]);
                    return None;
                }
                _ => {}
            }
            let runtime_version = match config(&info, "version").as_deref() {
                Some("1.0.0") => Version::new(1, 0, 0),
                Some("2.0.0") => Version::new(2, 0, 0),
                _ => Version::default(),
            };
            Body::RuntimeInfoResponse(InfoResponse {
                protocol_version: PROTOCOL_VERSION,
                runtime_version,
                features: None,
            })
        }
        Body::RuntimePingRequest(_) => Body::Empty(Empty {}),
        Body::RuntimeConsensusSyncRequest(_) => Body::RuntimeConsensusSyncResponse(Empty {}),
        Body::RuntimeQueryRequest(query) => {
            let text = match perform(&query.method, stream) {
                Ok(text) => format!("ok {text}"),
                Err(e) => format!("denied {e}"),
            };
            Body::RuntimeQueryResponse(QueryResponse { data: cbor::to_vec(&text).into() })
        }
        _ => Body::Error(wire_runtime::Error::new(error::DISPATCHER, "method not supported")),
    })
}

/// Tries something; an error is what the system said.
fn perform(method: &str, stream: &mut UnixStream) -> Result<String, String> {
    let (name, argument) = method.split_once(' ').unwrap_or((method, ""));
    let said = |e: std::io::Error| e.to_string();
    let refused = |e: rustix::io::Errno| e.to_string();
    match name {
        "echo" => Ok(argument.into()),
        "exit" => std::process::exit(argument.parse().unwrap_or(1)),
        "hang" => loop {
            std::thread::sleep(Duration::from_secs(1000));
        },
        "oversize" => {
            let _ = stream.write_all(&0xffff_ffffu32.to_be_bytes());
            Ok(String::new())
        }
        "print" => {
            for _ in 0..argument.parse().unwrap_or(1) {
                println!("{}", "x".repeat(200));
            }
            Ok(String::new())
        }
        "connect" => TcpStream::connect(argument).map(|_| String::new()).map_err(said),
        "unix" => UnixStream::connect(argument).map(|_| String::new()).map_err(said),
        "abstract" => {
            use std::os::linux::net::SocketAddrExt as _;
            let address = std::os::unix::net::SocketAddr::from_abstract_name(argument).map_err(said)?;
            UnixStream::connect_addr(&address).map(|_| String::new()).map_err(said)
        }
        "read" => std::fs::read_to_string(argument).map_err(said),
        "write" => std::fs::write(argument, "written").map(|()| String::new()).map_err(said),
        "list" => {
            let entries = std::fs::read_dir(argument).map_err(said)?;
            let mut names: Vec<String> =
                entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
            names.sort();
            Ok(names.join(" "))
        }
        "signal" => {
            let pid = argument.parse().ok().and_then(rustix::process::Pid::from_raw).ok_or("no such number")?;
            rustix::process::kill_process(pid, rustix::process::Signal::TERM).map(|()| String::new()).map_err(refused)
        }
        "pid" => Ok(std::process::id().to_string()),
        "uid" => Ok(rustix::process::getuid().as_raw().to_string()),
        "hostname" => Ok(rustix::system::uname().nodename().to_string_lossy().into_owned()),
        "sethostname" => rustix::system::sethostname(b"other").map(|()| String::new()).map_err(refused),
        "mount" => {
            let flags = rustix::mount::MountFlags::empty();
            rustix::mount::mount("none", "/tmp", "tmpfs", flags, None).map(|()| String::new()).map_err(refused)
        }
        "env" => std::env::var(argument).map_err(|e| e.to_string()),
        "threads" => {
            let count: usize = argument.parse().unwrap_or(0);
            for made in 0..count {
                let thread = std::thread::Builder::new().stack_size(64 << 10);
                if let Err(e) = thread.spawn(|| std::thread::sleep(Duration::from_secs(30))) {
                    return Err(format!("after {made}: {e}"));
                }
            }
            Ok(String::new())
        }
        "memory" => {
            let mib: usize = argument.parse().unwrap_or(0);
            let mut all: Vec<Vec<u8>> = Vec::new();
            for taken in 0..mib {
                let mut part: Vec<u8> = Vec::new();
                if part.try_reserve_exact(1 << 20).is_err() {
                    return Err(format!("after {taken} MiB"));
                }
                part.resize(1 << 20, 1);
                all.push(part);
            }
            Ok(all.len().to_string())
        }
        other => Err(format!("unknown: {other}")),
    }
}
