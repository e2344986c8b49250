//! Plans, their files, and the state that later commands read.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use crate::plan::{Plan, Role};
use crate::{DevnetError, KeyManager, Network, ParaTime, State};

fn plan(dir: PathBuf) -> Plan {
    Plan { dir, chain_id: "devnet test".to_owned(), genesis_time: 1_700_000_000, ..Plan::default() }
}

#[test]
fn nodes_have_names_and_ports_of_their_own() {
    let nodes = plan("/d".into()).nodes().expect("no fixture");
    let seen: Vec<_> = nodes.iter().map(|n| (n.name.as_str(), n.role, n.consensus_port, n.p2p_port)).collect();
    assert_eq!(
        seen,
        [
            ("seed-0", Role::Seed, 26_700, 26_701),
            ("validator-0", Role::Validator, 26_702, 26_703),
            ("validator-1", Role::Validator, 26_704, 26_705),
            ("validator-2", Role::Validator, 26_706, 26_707),
            ("client-0", Role::Client, 26_708, 26_709),
        ]
    );
}

#[test]
fn plans_that_make_no_network_are_refused() {
    let check = |change: &dyn Fn(&mut Plan)| {
        let mut plan = plan("/d".into());
        change(&mut plan);
        plan.check().map_err(|error| error.to_string())
    };
    assert_eq!(check(&|_| ()), Ok(()));
    let cases: [(&dyn Fn(&mut Plan), &str); 7] = [
        (&|p| p.validators = 0, "0 validators: between 1 and 64 are possible"),
        (&|p| p.validators = 65, "65 validators: between 1 and 64 are possible"),
        (&|p| p.clients = 65, "65 clients: at most 64 are possible"),
        (&|p| p.epoch_interval = 5, "an epoch of 5 blocks: at least 6 are needed"),
        (&|p| p.block_time = Duration::from_millis(1), "a block time of 1ms: between 50ms and 60s are possible"),
        (&|p| p.base_port = 80, "base port 80: between 1024 and 65525 is possible"),
        (&|p| p.base_port = 65_530, "base port 65530: between 1024 and 65525 is possible"),
    ];
    for (change, expected) in cases {
        assert_eq!(check(change), Err(expected.to_owned()));
    }
    let long = check(&|p| p.dir = format!("/{}", "d".repeat(90)).into()).expect_err("too long for a socket");
    assert!(long.contains("use --dir with a shorter path"), "{long}");
}

#[test]
fn a_taken_port_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("some port is free");
    let port = taken.local_addr().expect("it is bound").port();
    let plan = Plan { base_port: port, ..plan("/d".into()) };
    let error = plan.check_ports().expect_err("one is taken").to_string();
    assert!(error.starts_with(&format!("port {port} on 127.0.0.1 is taken")), "{error}");
}

#[test]
fn the_files_of_a_network_are_what_nodes_accept() {
    let dir = tempfile::tempdir().expect("a directory");
    let network = Network::create(plan(dir.path().join("net"))).expect("a network");
    let nodes = network.nodes();
    for node in &nodes {
        let config = node_config::Config::load(&node.config()).expect("its configuration is valid");
        assert_eq!(config.common.data_dir, node.dir.display().to_string());
    }
    let text = std::fs::read_to_string(network.plan.genesis_file()).expect("genesis");
    let document = wire_consensus::genesis::Document::from_json(&text).expect("it decodes");
    assert_eq!(document.chain_context().as_str(), network.chain_context);
    assert_eq!((document.registry.nodes.len(), document.registry.entities.len()), (3, 1));
    assert_eq!(document.to_canonical_json(), text);
    let local = apps_core::LocalConfig { allow_debug: true, ..apps_core::LocalConfig::default() };
    node_app::sanity_check(&document, &local).expect("the node's own checks pass");

    let accounts = crate::network::accounts(&network.plan.dir, crate::keys::load_key).expect("keys");
    assert_eq!(accounts.len(), network.accounts.len());
    for (read, made) in accounts.iter().zip(&network.accounts) {
        assert_eq!((read.name, read.address), (made.name, made.address));
    }
}

#[test]
fn the_state_of_a_network_reads_back() {
    let dir = tempfile::tempdir().expect("a directory");
    assert!(State::load(dir.path()).expect("an empty directory may be used").is_none());
    let network = Network::create(plan(dir.path().to_owned())).expect("a network");
    let state = State::new(&network).expect("its plan is sound").with_pids(&[Some(1), None]);
    state.save().expect("saved");
    let read = State::load(dir.path()).expect("readable").expect("there");
    assert_eq!((&read.chain_context, &read.paratimes), (&network.chain_context, &state.paratimes));
    assert_eq!(read.nodes, state.nodes);
    // Process 1 exists, but is not a node of ours.
    assert!(read.running().is_empty());
    read.remove().expect("removed");
    assert!(!dir.path().exists());
}

#[test]
fn other_directories_are_left_alone() {
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::write(dir.path().join("thesis.txt"), "mine").expect("written");
    let error = State::load(dir.path()).expect_err("not ours");
    assert!(matches!(error, DevnetError::NotOurs { .. }), "{error}");
    std::fs::write(dir.path().join("devnet.json"), r#"{"form":1,"chain_context":"c","nodes":[{"name":"../x"}]}"#)
        .expect("written");
    let error = State::load(dir.path()).expect_err("a name that leads out of the directory");
    assert!(matches!(error, DevnetError::NotOurs { .. }), "{error}");
}

/// A program that is everywhere; nobody runs it here.
const ANY_PROGRAM: &str = "/bin/true";

fn fixture() -> Value {
    let program = |version: Value| json!([{ "kind": "ronl", "version": version, "binaries": { "0": ANY_PROGRAM } }]);
    json!({
        "tee": { "hardware": 0, "mr_signer": null },
        "network": {
            "node_binary": ANY_PROGRAM,
            "consensus": { "backend": "", "params": { "timeout_commit": 1_000_000_000, "max_tx_size": 0 } },
            "initial_height": 5,
            "halt_epoch": u64::MAX,
            "beacon": { "backend": "insecure" },
            "deterministic_identities": true,
            "staking_genesis": { "params": { "max_allowances": 7, "min_delegation": "0" }, "total_supply": "0" },
            "scheduler_weak_alpha_ok": true,
        },
        "entities": [{ "IsDebugTestEntity": true, "Restore": false }, { "IsDebugTestEntity": false }],
        "runtimes": [
            {
                "id": "c000000000000000ffffffffffffffffffffffffffffffffffffffffffffffff",
                "kind": 2,
                "entity": 0,
                "keymanager": -1,
                "deployments": [{ "valid_from": 0, "components": program(json!({})) }],
                "admission_policy": { "any_node": true },
                "governance_model": "entity",
            },
            {
                "id": "8000000000000000000000000000000000000000000000000000000000000000",
                "kind": 1,
                "entity": 0,
                "keymanager": 0,
                "deployments": [
                    { "valid_from": 0, "components": program(json!({ "minor": 1 })) },
                    { "valid_from": 9, "components": program(json!({ "minor": 2 })), "exclude_bundle": true },
                ],
                "executor": { "group_size": 2, "group_backup_size": 1, "round_timeout": 20, "max_messages": 128 },
                "txn_scheduler": {
                    "batch_flush_timeout": 1_000_000_000,
                    "max_batch_size": 1000,
                    "max_batch_size_bytes": 16_777_216,
                    "propose_batch_timeout": 2_000_000_000,
                },
                "admission_policy": { "entity_whitelist": { "entities": { "1": { "max_nodes": { "compute": 3 } } } } },
                "governance_model": "entity",
                "pruner": { "strategy": "keep_last", "interval": 1_000_000_000, "num_kept": 10 },
            },
        ],
        "validators": [{ "entity": 1, "consensus": { "supplementary_sanity_interval": 1, "min_gas_price": 3 } }],
        "keymanagers": [{ "runtime": 0, "entity": 1, "policy": 0, "runtime_provisioner": "unconfined", "churp_ids": [4] }],
        "keymanager_policies": [{ "runtime": 0, "serial": 6, "master_secret_rotation_interval": 2 }],
        "compute_workers": [
            { "entity": 1, "runtimes": [1], "checkpoint_check_interval": 1_000_000_000 },
            { "entity": 1, "runtimes": [1], "no_auto_start": true, "extra_args": [{ "name": "x", "values": ["y"] }] },
        ],
        "clients": [{ "runtimes": [1], "runtime_config": { "1": { "estimate": 5 } } }],
        "seeds": [{ "disable_addr_book_from_genesis": true }],
    })
}

fn with_fixture(dir: &Path, value: &Value) -> Plan {
    let path = dir.join("fixture.json");
    std::fs::write(&path, value.to_string()).expect("written");
    Plan { fixture: Some(path), ..plan(dir.join("net")) }
}

#[test]
fn fixtures_of_the_reference_make_networks() {
    let dir = tempfile::tempdir().expect("a directory");
    let plan = with_fixture(dir.path(), &fixture());
    let notes = plan.blueprint().expect("it can be read").notes;
    assert_eq!(notes, ["the fixture's network.deterministic_identities is left out"]);
    let network = Network::create(plan).expect("a network");
    let nodes = network.nodes();
    let names: Vec<_> = nodes.iter().map(|node| (node.name.as_str(), node.starts, node.hosts.len())).collect();
    assert_eq!(
        names,
        [
            ("seed-0", true, 0),
            ("validator-0", true, 0),
            ("keymanager-0", true, 1),
            ("compute-0", true, 1),
            ("compute-1", false, 1),
            ("client-0", true, 1),
        ]
    );
    assert_eq!(nodes[4].arguments, ["--x", "y", "--debug.allow_test_keys"]);
    let config = |place: usize| node_config::Config::load(&nodes[place].config()).expect("its configuration is valid");
    assert!(config(0).consensus.debug.disable_addr_book_from_genesis);
    assert_eq!((config(1).consensus.min_gas_price, config(1).consensus.supplementary_sanity.interval), (3, 1));
    assert_eq!(config(2).runtime.provisioner, "unconfined");
    assert_eq!((config(2).keymanager.churp.schemes.len(), config(3).storage.checkpointer.enabled), (1, true));
    assert_eq!((config(3).runtime.paths.len(), config(3).runtime.prune.num_kept), (1, 10));
    assert_eq!(config(5).runtime.runtimes.len(), 1);

    let text = std::fs::read_to_string(network.plan.genesis_file()).expect("genesis");
    let document = wire_consensus::genesis::Document::from_json(&text).expect("it decodes");
    let local =
        apps_core::LocalConfig { allow_debug: true, allow_test_keys: true, ..apps_core::LocalConfig::default() };
    node_app::sanity_check(&document, &local).expect("the node's own checks pass");
    assert_eq!((document.height, document.beacon.parameters.backend.as_str()), (5, "insecure"));
    assert_eq!(document.beacon.parameters.insecure_parameters.as_ref().map(|p| p.interval), Some(20));
    let consensus = &document.consensus.parameters;
    assert_eq!((consensus.timeout_commit, consensus.max_tx_size), (1_000_000_000, 131_072));
    assert_eq!(document.staking.parameters.max_allowances, 7);
    assert!(document.scheduler.parameters.debug_allow_weak_alpha);
    let [manager, paratime] = document.registry.runtimes.as_slice() else { panic!("two runtimes") };
    assert_eq!(paratime.key_manager, Some(manager.id));
    assert_eq!(paratime.deployments().map(|d| (d.version.minor, d.valid_from)).collect::<Vec<_>>(), [(1, 0), (2, 9)]);
    let listed = paratime.admission_policy.entity_whitelist.as_ref().and_then(|list| list.entities.as_ref());
    assert_eq!(listed.map(|entities| entities.len()), Some(1));
    let status = &document.keymanager.statuses[0];
    let policy = status.policy.as_ref().expect("a policy");
    assert_eq!((policy.policy.serial, policy.policy.master_secret_rotation_interval), (6, 2));

    let state = State::new(&network).expect("its plan is sound");
    state.save().expect("saved");
    let read = State::load(&network.plan.dir).expect("readable").expect("there");
    assert_eq!((read.nodes, read.paratimes), (state.nodes, state.paratimes));
}

#[test]
fn fixtures_that_make_no_network_are_refused_with_the_place() {
    let cases: [(&str, Value, &str); 10] = [
        ("/tee/hardware", json!(1), "tee.hardware: a devnet runs without enclaves"),
        ("/network/genesis_file", json!("g"), "network.genesis_file: a devnet makes its own"),
        ("/sentries", json!([{}]), "sentries: a devnet has none"),
        ("/validators/0/entity", json!(9), "validators[0].entity: there is no number 9, only 2"),
        ("/validators", json!([]), "validators: there are none"),
        ("/seeds", json!(7), "seeds: expected a list"),
        ("/runtimes/1/keymanager", json!(1), "runtimes[1].keymanager: runtime 1 is no key manager"),
        ("/runtimes/0/deployments/0/components/0/binaries", json!({ "1": "x" }), "binaries: none is for hardware 0"),
        ("/clients/0/node_name", json!("../x"), "clients[0].node_name: \"../x\": letters"),
        ("/compute_workers/0/runtime_provisioner", json!("mock"), "runtime_provisioner: found \"mock\""),
    ];
    let dir = tempfile::tempdir().expect("a directory");
    for (pointer, value, expected) in cases {
        let mut changed = fixture();
        let (parent, key) = pointer.rsplit_once('/').expect("a path");
        changed.pointer_mut(parent).expect("there")[key] = value;
        let error = with_fixture(dir.path(), &changed).check().expect_err(pointer).to_string();
        assert!(error.contains(expected), "{error}");
    }
    let mut plan = with_fixture(dir.path(), &fixture());
    std::fs::write(plan.fixture.as_ref().expect("set"), "[").expect("written");
    let error = plan.check().expect_err("not JSON").to_string();
    assert!(error.contains("not JSON"), "{error}");
    plan.fixture = Some(dir.path().join("none.json"));
    assert!(matches!(plan.check(), Err(DevnetError::Io { .. })));
}

#[test]
fn networks_with_a_key_manager_name_it_and_its_policy() {
    let dir = tempfile::tempdir().expect("a directory");
    let program = PathBuf::from(ANY_PROGRAM);
    let keymanager = Some(KeyManager { binary: program.clone(), nodes: 2 });
    let paratime = Some(ParaTime { binary: program, keymanager, ..ParaTime::default() });
    let network = Network::create(Plan { paratime, ..plan(dir.path().join("net")) }).expect("a network");
    let nodes = network.nodes();
    assert_eq!(nodes.iter().filter(|node| node.role == Role::KeyManager).count(), 2);
    for node in &nodes {
        let config = node_config::Config::load(&node.config()).expect("its configuration is valid");
        let id = node.hosts.first().filter(|_| node.role == Role::KeyManager).map(ToString::to_string);
        assert_eq!(config.keymanager.runtime_id, id.unwrap_or_default(), "{}", node.name);
    }
    let text = std::fs::read_to_string(network.plan.genesis_file()).expect("genesis");
    let document = wire_consensus::genesis::Document::from_json(&text).expect("it decodes");
    let local =
        apps_core::LocalConfig { allow_debug: true, allow_test_keys: true, ..apps_core::LocalConfig::default() };
    node_app::sanity_check(&document, &local).expect("the node's own checks pass");
    let policy = document.keymanager.statuses[0].policy.as_ref().expect("a policy");
    assert_eq!((policy.policy.serial, policy.signatures.as_ref().map(Vec::len)), (1, Some(3)));
    let state = State::new(&network).expect("its plan is sound");
    assert_eq!(state.paratimes.len(), 1);
    assert_eq!(state.paratimes[0].key_manager, Some(document.registry.runtimes[0].id));
    assert!(!state.paratimes[0].is_example);
}

#[test]
fn memory_is_that_of_a_process_and_its_children() {
    let (processes, bytes) = crate::process::memory(&[std::process::id()]);
    assert!(processes >= 1 && bytes > 100_000, "{processes} processes, {bytes} bytes");
    assert_eq!(crate::process::memory(&[]), (0, 0));
}
