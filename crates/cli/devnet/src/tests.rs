//! Plans, their files, and the state that later commands read.

use std::path::PathBuf;
use std::time::Duration;

use crate::plan::{Plan, Role};
use crate::{DevnetError, Network, State};

fn plan(dir: PathBuf) -> Plan {
    Plan {
        dir,
        validators: 3,
        paratime: None,
        clients: 1,
        base_port: 26_700,
        block_time: Duration::from_millis(500),
        epoch_interval: 20,
        chain_id: "devnet test".to_owned(),
        genesis_time: 1_700_000_000,
    }
}

#[test]
fn nodes_have_names_and_ports_of_their_own() {
    let nodes = plan("/d".into()).nodes();
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
    let plan = plan(dir.path().to_owned());
    assert!(State::load(dir.path()).expect("an empty directory may be used").is_none());
    let state = State::new(&plan, "context", &[Some(1), None]);
    state.save().expect("saved");
    let read = State::load(dir.path()).expect("readable").expect("there");
    assert_eq!(read.chain_context, "context");
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
