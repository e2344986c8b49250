//! The machine that runs the tests.

use std::os::unix::fs::PermissionsExt as _;

use super::*;
use crate::{PortState, State, examine, to_json, to_text};

fn config(dir: &Path) -> Config {
    let mut config = Config::default();
    config.common.data_dir = dir.display().to_string();
    config.consensus.listen_address = "tcp://127.0.0.1:0".to_owned();
    config.p2p.port = 0;
    config
}

fn offline() -> Options {
    Options { offline: true, time_server: Some("time.invalid".to_owned()) }
}

#[test]
fn looks_at_this_machine() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
    let mut config = config(dir.path());
    config.genesis.file = dir.path().join("none.json").display().to_string();
    config.registration.entity = dir.path().join("entity.json").display().to_string();
    std::fs::write(dir.path().join("identity.pem"), "").unwrap();
    std::fs::set_permissions(dir.path().join("identity.pem"), std::fs::Permissions::from_mode(0o644)).unwrap();
    let facts = gather(&config, &offline(), |_| Err("not asked".to_owned()));
    assert_eq!(facts.data_dir.state, DirState::Private);
    assert!(facts.data_dir.free > 0 && facts.machine.memory > 1 << 28 && facts.files.hard > 0);
    assert!(facts.genesis.hash.as_ref().is_err_and(|error| error.contains("No such file")));
    assert_eq!(facts.chain, Chain::None);
    assert_eq!(facts.open_keys, [dir.path().join("identity.pem")]);
    assert!(facts.named[0].error.is_some());
    assert!(facts.ports.iter().all(|port| port.state == PortState::Free), "{:?}", facts.ports);
    assert_eq!((facts.clock.ahead, facts.seeds.len(), facts.external.len()), (None, 0, 0));
    let disk = facts.disk.clone().unwrap().unwrap();
    assert!(disk.rate > 0.0 && disk.sync_ms >= 0.0);
    // Nothing is left behind.
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn asks_about_the_chain_only_if_there_is_one() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
    let data = dir.path().join("data");
    std::fs::create_dir_all(data.join("consensus/data/store")).unwrap();
    std::fs::create_dir(data.join("tendermint")).unwrap();
    let facts = gather(&config(&data), &offline(), |_| Ok(()));
    assert!(facts.data_dir.chain && !facts.data_dir.guard);
    assert_eq!(facts.data_dir.foreign, ["tendermint"]);
    assert_eq!(facts.chain, Chain::None, "there is no genesis document");
    assert!(matches!(facts.data_dir.state, DirState::Open(_)));
    assert!(facts.disk.is_none());
    for state in [data_dir(Path::new("")).state, data_dir(&dir.path().join("none")).state] {
        assert!(matches!(state, DirState::NotSet | DirState::Missing));
    }
}

#[test]
fn ports_that_are_taken() {
    let dir = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let mut config = config(dir.path());
    config.consensus.listen_address = format!("tcp://{address}");
    config.consensus.external_address = format!("tcp://{address}");
    config.p2p.seeds = vec![format!("key@{address}"), "key@127.0.0.1:1".to_owned(), "nonsense".to_owned()];
    let ports = network::ports(&config, false);
    assert_eq!(ports[0].state, PortState::Taken);
    assert_eq!(network::ports(&config, true)[0].state, PortState::Ours);
    assert_eq!(network::external(&config, &ports, false)[0].error, None);
    let seeds = network::reach(network::seeds(&config));
    assert_eq!(seeds.len(), 2);
    assert!(seeds[0].error.is_none() && seeds[1].error.is_some());
    config.consensus.listen_address = "not an address".to_owned();
    assert!(matches!(network::ports(&config, false)[0].state, PortState::Error(_)));
}

#[test]
fn tries_programs() {
    assert_eq!(sandbox::run(Path::new("/bin/echo"), &["hello"]), Ok("hello".to_owned()));
    let sh = |script: &str| sandbox::run(Path::new("/bin/sh"), &["-c", script]);
    assert_eq!(
        sh("echo 'bwrap: Failed to mount tmpfs: Permission denied' >&2; exit 1"),
        Err("bwrap: Failed to mount tmpfs: Permission denied".to_owned())
    );
    assert!(sh("exit 3").is_err_and(|error| error.contains('3')));
    assert!(sh("sleep 60").is_err_and(|error| error.contains("did not end")));
    let none = sandbox::try_out(Path::new("/no/such/program"));
    assert!(none.version.is_err() && none.trial.is_err());
}

#[test]
fn reads_time_servers() {
    let mut answer = [0; 48];
    answer[0] = 0x24;
    answer[1] = 2;
    answer[40..44].copy_from_slice(&3_913_056_000u32.to_be_bytes());
    answer[44] = 0x80;
    assert_eq!(system::server_time(&answer), Some(1_704_067_200.5));
    for wrong in [&answer[..40], &[][..]] {
        assert_eq!(system::server_time(wrong), None);
    }
    answer[1] = 0;
    assert_eq!(system::server_time(&answer), None, "a refusal");
    // A server of this machine that answers with its own time.
    let server = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = server.local_addr().unwrap().to_string();
    let serving = std::thread::spawn(move || {
        let mut packet = [0; 48];
        let (_, peer) = server.recv_from(&mut packet).unwrap();
        answer[1] = 1;
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        let seconds = u32::try_from(now + 2_208_988_800 - 100).unwrap();
        answer[40..44].copy_from_slice(&seconds.to_be_bytes());
        server.send_to(&answer, peer).unwrap();
    });
    let ahead = system::clock(Some(&address)).ahead.unwrap().unwrap();
    serving.join().unwrap();
    assert!((ahead - 100.0).abs() < 5.0, "{ahead}");
    assert!(system::clock(Some("127.0.0.1:1")).ahead.unwrap().is_err());
}

#[test]
fn prints_for_people_and_programs() {
    let dir = tempfile::tempdir().unwrap();
    let facts = gather(&config(&dir.path().join("new")), &offline(), |_| Ok(()));
    let checks = examine(&facts);
    assert_eq!(crate::worst(&checks), State::Fail, "there is no genesis document");
    let text = to_text(&checks);
    assert!(text.contains("fail genesis: ") && text.contains("       -> download"), "{text}");
    let json: serde_json::Value = serde_json::from_str(&to_json(&checks)).unwrap();
    assert_eq!(json["state"], "fail");
    assert_eq!(json["checks"].as_array().unwrap().len(), checks.len());
}
