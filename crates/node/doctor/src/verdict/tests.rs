//! Every verdict from made-up facts.

use super::*;
use crate::{Cgroup, Devices, Genesis, Named, Port, User};

/// A machine on which all is well.
fn good() -> Facts {
    Facts {
        user: User { root: false, root_allowed: false },
        files: Files { hard: 102_400, required: 476, recommended: 50_000 },
        machine: Machine { memory: 8 << 30, aes: true, processors: 4 },
        clock: Clock { ahead: Some(Ok(-0.01)) },
        temp: Temp { path: "/tmp".into(), error: None, free: 1 << 30 },
        data_dir: DataDir {
            path: "/node/data".into(),
            state: DirState::Private,
            free: 500 << 30,
            chain: true,
            guard: true,
            foreign: Vec::new(),
        },
        disk: Some(Ok(Disk { sync_ms: 0.8, rate: 800e6 })),
        genesis: Genesis { path: "/node/etc/genesis.json".into(), hash: Ok("bb3d".to_owned()) },
        chain: Chain::Agrees,
        open_keys: Vec::new(),
        named: Vec::new(),
        ports: vec![Port { key: "p2p.port".to_owned(), address: "0.0.0.0:9200".to_owned(), state: PortState::Free }],
        external: Vec::new(),
        seeds: vec![reach(None)],
        sandbox: Some(Sandbox {
            path: "/usr/bin/bwrap".into(),
            version: Ok("bubblewrap 0.8.0".to_owned()),
            trial: Ok(()),
            apparmor: false,
            forbidden: false,
        }),
        sgx: Sgx::default(),
        tdx: Devices::default(),
        cgroup: Cgroup { memory: None, tasks: Some(10_000), unified: true },
    }
}

fn reach(error: Option<&str>) -> Reach {
    Reach { key: "k".to_owned(), address: "1.2.3.4:26656".to_owned(), error: error.map(str::to_owned) }
}

/// Checks that a change gives exactly this one verdict beside good ones, with a remedy that holds the given words.
fn only(change: impl FnOnce(&mut Facts), name: &str, state: State, words: &str) {
    let mut facts = good();
    change(&mut facts);
    let wrong: Vec<Check> = examine(&facts).into_iter().filter(|check| check.state != State::Ok).collect();
    assert_eq!(wrong.len(), 1, "{wrong:#?}");
    assert_eq!((wrong[0].name, wrong[0].state), (name, state), "{:#?}", wrong[0]);
    assert!(wrong[0].remedy.contains(words) || wrong[0].found.contains(words), "{:#?}", wrong[0]);
    assert!(!wrong[0].remedy.is_empty());
}

/// Checks that a change leaves all well.
fn fine(change: impl FnOnce(&mut Facts)) {
    let mut facts = good();
    change(&mut facts);
    for check in examine(&facts) {
        assert_eq!(check.state, State::Ok, "{check:#?}");
        assert!(check.remedy.is_empty());
    }
}

#[test]
fn all_is_well() {
    fine(|_| {});
    assert!(examine(&good()).len() > 15);
}

#[test]
fn process() {
    only(|f| f.user.root = true, "user", State::Fail, "refuses to run as root");
    only(|f| f.user = User { root: true, root_allowed: true }, "user", State::Warn, "user of its own");
    only(|f| f.files.hard = 400, "open files", State::Fail, "476 required");
    only(|f| f.files.hard = 20_000, "open files", State::Warn, "LimitNOFILE=50000");
    only(|f| f.machine.memory = 1 << 30, "memory", State::Warn, "more memory");
    only(|f| f.machine.aes = false, "processor", State::Warn, "AES-NI");
    only(|f| f.cgroup.memory = Some(1 << 30), "control group", State::Warn, "MemoryMax=");
    only(|f| f.cgroup.tasks = Some(64), "control group", State::Warn, "TasksMax=");
    fine(|f| f.cgroup = Cgroup { memory: Some(4 << 30), tasks: None, unified: false });
}

#[test]
fn clocks() {
    only(|f| f.clock.ahead = Some(Ok(30.0)), "clock", State::Fail, "30.000 s ahead");
    only(|f| f.clock.ahead = Some(Ok(-2.0)), "clock", State::Warn, "2.000 s behind");
    only(|f| f.clock.ahead = Some(Err("x: timed out".to_owned())), "clock", State::Warn, "timed out");
    fine(|f| f.clock.ahead = None);
}

#[test]
fn directories() {
    let error = "mkdir /tmp/x: Read-only file system (os error 30)";
    only(|f| f.temp.error = Some(error.to_owned()), "temporary directory", State::Fail, "Read-only file system");
    only(|f| f.temp.free = 1000, "temporary directory", State::Fail, "emptyDir");
    let dir = |state: DirState| move |f: &mut Facts| f.data_dir.state = state;
    only(dir(DirState::Open(0o755)), "data directory", State::Fail, "chmod 700 /node/data");
    only(dir(DirState::Owner(0)), "data directory", State::Fail, "chown");
    only(dir(DirState::NotDirectory), "data directory", State::Fail, "not a directory");
    only(dir(DirState::Error("denied".to_owned())), "data directory", State::Fail, "denied");
    only(dir(DirState::NotSet), "data directory", State::Fail, "common.data_dir");
    fine(dir(DirState::Missing));
    only(|f| f.data_dir.free = 1 << 30, "disk space", State::Fail, "prune");
    only(|f| f.data_dir.free = 20 << 30, "disk space", State::Warn, "20.0 GiB free");
    only(|f| f.data_dir.guard = false, "signing guard", State::Fail, "twice");
    fine(|f| (f.data_dir.guard, f.data_dir.chain) = (false, false));
    only(|f| f.data_dir.foreign = vec!["tendermint".to_owned()], "older data", State::Warn, "tendermint");
    only(|f| f.disk = Some(Ok(Disk { sync_ms: 90.0, rate: 800e6 })), "disk speed", State::Warn, "SSD");
    only(|f| f.disk = Some(Ok(Disk { sync_ms: 1.0, rate: 10e6 })), "disk speed", State::Warn, "10 MB/s");
    only(|f| f.disk = Some(Err("denied".to_owned())), "disk speed", State::Warn, "not measured");
    fine(|f| f.disk = None);
}

#[test]
fn files_of_the_node() {
    only(|f| f.genesis.hash = Err("no such file".to_owned()), "genesis", State::Fail, "genesis.file");
    only(|f| f.chain = Chain::Differs("of chain x".to_owned()), "chain data", State::Fail, "of chain x");
    fine(|f| f.chain = Chain::Running);
    fine(|f| f.chain = Chain::None);
    only(|f| f.open_keys = vec!["/d/identity.pem".into()], "key files", State::Fail, "chmod 600 /d/identity.pem");
    let named = |error: Option<&str>| Named {
        key: "runtime.paths[0]".to_owned(),
        path: "/x.orc".into(),
        error: error.map(str::to_owned),
    };
    only(|f| f.named = vec![named(None), named(Some("gone"))], "configured files", State::Fail, "/x.orc: gone");
    fine(|f| f.named = vec![named(None)]);
}

#[test]
fn network() {
    only(|f| f.ports[0].state = PortState::Taken, "port", State::Fail, "ss -ltnp");
    only(|f| f.ports[0].state = PortState::Error("no such address".to_owned()), "port", State::Fail, "p2p.port");
    fine(|f| f.ports[0].state = PortState::Ours);
    only(|f| f.external = vec![reach(Some("timed out"))], "reachable", State::Warn, "firewall");
    fine(|f| f.external = vec![reach(None)]);
    only(|f| f.seeds = vec![reach(Some("timed out"))], "seeds", State::Fail, "0 of 1 reached");
    only(|f| f.seeds = vec![reach(None), reach(Some("refused"))], "seeds", State::Warn, "refused");
    fine(|f| f.seeds = Vec::new());
}

#[test]
fn sandboxes() {
    let change = |change: fn(&mut Sandbox)| move |f: &mut Facts| f.sandbox.iter_mut().for_each(change);
    fine(|f| f.sandbox = None);
    fine(change(|s| s.version = Ok("bubblewrap 0.3.3".to_owned())));
    only(
        change(|s| s.version = Ok("bubblewrap 0.3.1".to_owned())),
        "bubblewrap",
        State::Fail,
        "0.3.3 or newer required",
    );
    only(change(|s| s.version = Ok("hello".to_owned())), "bubblewrap", State::Warn, "hello");
    only(change(|s| s.version = Err("No such file".to_owned())), "bubblewrap", State::Fail, "apt install bubblewrap");
    let denied = |s: &mut Sandbox| s.trial = Err("bwrap: Failed to mount tmpfs: Permission denied".to_owned());
    only(change(denied), "sandbox", State::Fail, "seccomp=unconfined");
    let found = |f: &mut Facts| f.sandbox.iter_mut().for_each(denied);
    only(found, "sandbox", State::Fail, "Failed to mount tmpfs");
    only(change(|s| (s.trial, s.apparmor) = (Err("x".to_owned()), true)), "sandbox", State::Fail, "AppArmor profile");
    only(
        change(|s| (s.trial, s.forbidden) = (Err("x".to_owned()), true)),
        "sandbox",
        State::Fail,
        "unprivileged_userns_clone=1",
    );
    for (text, numbers) in
        [("bubblewrap 0.8.0", Some([0, 8, 0])), ("bubblewrap 1.0", Some([1, 0, 0])), ("", None), ("x", None)]
    {
        assert_eq!(version(text), numbers, "{text}");
    }
}

#[test]
fn enclaves() {
    let sgx = |change: fn(&mut Sgx)| {
        move |f: &mut Facts| {
            f.sgx = Sgx {
                devices: Devices { needed: true, devices: vec![("/dev/sgx_enclave".into(), None)] },
                legacy: false,
                processor: true,
                noexec: false,
                aesm: ("/var/run/aesmd/aesm.socket".into(), None),
            };
            change(&mut f.sgx);
        }
    };
    fine(sgx(|_| {}));
    fine(sgx(|s| (s.devices.needed, s.devices.devices[0].1) = (false, Some("none".to_owned()))));
    only(sgx(|s| s.devices.devices[0].1 = Some("denied".to_owned())), "SGX", State::Fail, "/dev/sgx_enclave: denied");
    only(
        sgx(|s| (s.devices.devices[0].1, s.processor) = (Some("none".to_owned()), false)),
        "SGX",
        State::Fail,
        "enable SGX in the BIOS",
    );
    only(
        sgx(|s| (s.devices.devices[0].1, s.legacy) = (Some("none".to_owned()), true)),
        "SGX",
        State::Fail,
        "/dev/isgx",
    );
    only(sgx(|s| s.noexec = true), "SGX", State::Fail, "remount,exec /dev");
    only(sgx(|s| s.aesm.1 = Some("No such file".to_owned())), "AESM", State::Fail, "libsgx-aesm-ecdsa-plugin");
    let tdx =
        |error: Option<&str>| Devices { needed: true, devices: vec![("/dev/kvm".into(), error.map(str::to_owned))] };
    fine(|f| f.tdx = tdx(None));
    only(|f| f.tdx = tdx(Some("denied")), "TDX", State::Fail, "group kvm");
}
