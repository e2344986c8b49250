//! Hosts an executable and asks it what a recorded host asked, with the recorded answers to its own questions.
//!
//! `replay_trace TRACE EXECUTABLE [--sandbox]` prints, for each recorded request, whether the answer is the recorded one.
//! Requests are sent one after the other, so answers that depend on the wall clock or on requests in between may differ.

use std::{collections::BTreeMap, path::PathBuf, process::ExitCode, sync::Arc, time::Duration};

use base_codec::cbor;
use dev_testkit::rhp::{Direction, load};
use parking_lot::Mutex;
use rt_bundle::{Binary, Wrap};
use rt_host::{
    BoxFuture, ComponentConfig, HostError, HostHandler, HostInfo, Provisioner,
    sandbox::{DEFAULT_BINARY, Sandbox},
};
use tokio::time::{Instant, timeout};
use wire_runtime::{Body, MessageType, bundle::ComponentId, frame};

/// Answers questions as they were answered when the trace was recorded.
#[derive(Default)]
struct Recorded {
    answers: BTreeMap<Vec<u8>, Body>,
    counts: Mutex<BTreeMap<String, (usize, usize)>>,
}

impl HostHandler for Recorded {
    fn handle(&self, request: Body) -> BoxFuture<'_, Result<Body, wire_runtime::Error>> {
        Box::pin(async move {
            let found = self.answers.get(&cbor::to_vec(&request)).cloned();
            let mut counts = self.counts.lock();
            let (known, unknown) = counts.entry(request.name().to_owned()).or_default();
            match found {
                Some(answer) => {
                    *known += 1;
                    answer.into_result()
                }
                None => {
                    *unknown += 1;
                    Err(wire_runtime::Error::method_not_supported())
                }
            }
        })
    }
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [trace, executable, rest @ ..] = &args[..] else {
        eprintln!("usage: replay_trace TRACE EXECUTABLE [--sandbox]");
        return ExitCode::from(2);
    };
    let records = load(&PathBuf::from(trace)).expect("a trace");
    let (mut asked, mut pairs, mut handler) = (BTreeMap::new(), Vec::new(), Recorded::default());
    for record in &records {
        let message = frame::decode(&record.body).expect("a recorded frame");
        let from_host = record.direction == Direction::Host;
        if message.message_type == MessageType::REQUEST {
            asked.insert((from_host, message.id), message.body);
            continue;
        }
        let Some(request) = asked.remove(&(!from_host, message.id)) else { continue };
        if from_host {
            handler.answers.insert(cbor::to_vec(&request), message.body);
        } else {
            pairs.push((request, message.body));
        }
    }
    let Some((Body::RuntimeInfoRequest(info), _)) = pairs.first().cloned() else {
        eprintln!("the trace does not begin with a handshake");
        return ExitCode::from(2);
    };
    let wrap = Wrap {
        runtime_id: info.runtime_id,
        name: "replayed".into(),
        version: None,
        binary: Binary::Elf(PathBuf::from(executable).canonicalize().expect("an executable")),
    };
    let handler = Arc::new(handler);
    let bundle = Arc::new(wrap.to_exploded().expect("an ELF file"));
    let mut config = ComponentConfig::new(bundle, ComponentId::Ronl, handler.clone()).expect("a component");
    config.local_config = info.local_config.clone();
    let host_info = HostInfo {
        consensus_protocol_version: info.consensus_protocol_version,
        consensus_chain_context: info.consensus_chain_context.clone(),
    };
    let sandboxed = rest.iter().any(|arg| arg == "--sandbox");
    let provisioner = if sandboxed { Sandbox::new(DEFAULT_BINARY, host_info) } else { Sandbox::unconfined(host_info) };
    let begin = Instant::now();
    let host = provisioner.provision(config).expect("provisions");
    host.start().await.expect("starts");
    let (mut same, mut other) = (0, 0);
    for (request, recorded) in pairs.into_iter().skip(1) {
        let name = request.name().to_owned();
        let answer = match timeout(Duration::from_secs(60), host.call(request)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(HostError::Runtime(error))) => Body::Error(error),
            Ok(Err(e)) => {
                println!("{name}: {e}");
                other += 1;
                continue;
            }
            Err(_) => {
                println!("{name}: no answer within a minute");
                other += 1;
                continue;
            }
        };
        if answer == recorded {
            same += 1;
        } else {
            other += 1;
            println!("{name}: answer {} differs from recorded {}", answer.name(), recorded.name());
            if let (Body::Error(a), _) | (_, Body::Error(a)) = (&answer, &recorded) {
                println!("    {a}");
            }
        }
    }
    println!("sandboxed: {sandboxed}; {} ; took {:?}", host.status(), begin.elapsed());
    println!("answers as recorded: {same}, others: {other}");
    println!("questions of the runtime (answered from the trace, not in the trace): {:?}", handler.counts.lock());
    host.stop(Instant::now() + Duration::from_secs(10)).await.expect("stops");
    if other == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
