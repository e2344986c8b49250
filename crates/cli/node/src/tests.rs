//! The command line against what the reference's program prints and takes.

use std::path::PathBuf;

use base_codec::json::ToJson as _;
use clap::CommandFactory as _;
use node_rpc::status::{
    ConsensusP2pStatus, ConsensusStatus, DebugStatus, LightClientStatus, P2pStatus, RegistrationStatus, SeedStatus,
    Status,
};
use serde_json::Value;
use wire_consensus::node::Node;
use wire_consensus::registry::NodeStatus;

use super::*;

/// Outputs recorded from the reference.
fn recorded() -> Vec<Value> {
    let bytes = dev_testkit::read(&dev_testkit::paths::vectors_dir().join("cli/oasis-node.json")).unwrap();
    serde_json::from_slice(&bytes).unwrap()
}

fn words(entry: &Value) -> Vec<String> {
    entry["args"].as_array().unwrap().iter().map(|word| word.as_str().unwrap().to_owned()).collect()
}

#[test]
fn recorded_command_lines_are_understood() {
    for entry in recorded() {
        let name = entry["name"].as_str().unwrap();
        let parsed = Cli::command().try_get_matches_from(words(&entry));
        let stderr = entry["stderr"].as_str().unwrap_or_default();
        // The reference answers an unknown word after a group of commands with the group's help; here it is an error.
        if stderr.starts_with("Error: unknown command") || name == "identity-show-consensus-pubkey" {
            assert!(parsed.is_err(), "{name}");
            continue;
        }
        match parsed {
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), ErrorKind::DisplayHelp, "{name}: {error}"),
        }
    }
}

#[test]
fn the_commands_shown_in_help_are_the_references() {
    for entry in recorded() {
        let path: &[&str] = match entry["name"].as_str().unwrap() {
            "help" => &[],
            "control-help" => &["control"],
            _ => continue,
        };
        let command = Cli::command();
        let command = path.iter().fold(&command, |command, name| command.find_subcommand(name).unwrap());
        let text = entry["stdout"].as_str().unwrap();
        let listed = text.lines().skip_while(|line| *line != "Available Commands:").skip(1);
        let mut count = 0;
        for line in listed.take_while(|line| !line.is_empty()) {
            let name = line.split_whitespace().next().unwrap();
            // `ias proxy` is not there yet; `help` is made when the commands are built.
            if ["ias", "help"].contains(&name) {
                continue;
            }
            let found = command.find_subcommand(name).unwrap_or_else(|| panic!("no command {path:?} {name}"));
            assert!(!found.is_hide_set(), "{name} is hidden");
            count += 1;
        }
        assert!(count > 5, "{path:?}: {count}");
    }
}

/// Commands with their own options, as the reference has them; `C` stands for those of clients, `T` for transactions.
const SURFACE: &[(&str, &str)] = &[
    ("control status", "C"),
    ("control is-synced", "C"),
    ("control wait-sync", "C"),
    ("control shutdown", "C"),
    ("control clear-deregister", ""),
    ("control upgrade-binary", "C"),
    ("control cancel-upgrade", "C"),
    ("control add-bundle", "C"),
    ("control runtime-stats", "C"),
    (
        "genesis init",
        "genesis.file entity node runtime roothash keymanager staking chain.id initial_height beacon.backend",
    ),
    ("genesis check", "genesis.file"),
    ("genesis dump", "C genesis.file height"),
    ("genesis migrate", "genesis.file genesis.new_file genesis.new_chain_id"),
    ("identity init", "datadir verbose"),
    ("identity show-tls-pubkey", "datadir"),
    ("identity show-sentry-client-pubkey", "datadir"),
    ("identity show-address", "C"),
    ("identity cometbft show-node-address", "datadir verbose"),
    ("identity cometbft show-consensus-address", "datadir verbose"),
    ("storage inspect", "output"),
    ("storage check", ""),
    ("storage migrate", ""),
    ("storage rename-ns", ""),
    ("storage compact", ""),
    ("storage prune", ""),
    ("unsafe-reset", "datadir dry_run force preserve.local_storage preserve.mkvs_database"),
    ("completion bash", ""),
    ("stake info", "C"),
    ("stake list", "C verbose"),
    ("stake pubkey2address", "public_key"),
    ("stake account info", "C stake.account.address height"),
    ("stake account nonce", "C stake.account.address"),
    ("stake account validate_address", "stake.account.address verbose"),
    ("stake account gen_transfer", "T stake.amount stake.transfer.destination"),
    ("stake account gen_burn", "T stake.amount"),
    ("stake account gen_escrow", "T stake.amount stake.escrow.account"),
    ("stake account gen_reclaim_escrow", "T stake.shares stake.escrow.account"),
    (
        "stake account gen_amend_commission_schedule",
        "T stake.commission_schedule.rates stake.commission_schedule.bounds",
    ),
    ("stake account gen_allow", "T stake.allow.beneficiary stake.allow.amount_change"),
    ("stake account gen_withdraw", "T stake.amount stake.withdraw.source"),
    ("registry entity init", "entity.reuse_signer force"),
    ("registry entity update", "entity.node.id entity.node.descriptor"),
    ("registry entity gen_register", "T"),
    ("registry entity gen_deregister", "T"),
    ("registry entity list", "C verbose"),
    (
        "registry node init",
        "node.entity_id node.expiration node.role node.p2p_address node.consensus_address node.runtime.id \
         node.is_self_signed",
    ),
    ("registry node list", "C verbose"),
    ("registry node is-registered", "C"),
    ("registry runtime list", "C verbose include_suspended"),
    ("registry runtime gen_register", "T runtime.descriptor"),
    ("governance gen_submit_proposal", "T proposal.upgrade.descriptor proposal.cancel_upgrade.id"),
    ("governance gen_cast_vote", "T vote vote.proposal.id"),
    ("governance list_proposals", "C include_closed"),
    ("governance proposal_info", "C proposal.id"),
    ("governance proposal_votes", "C proposal.id"),
    ("consensus submit_tx", "C transaction.file"),
    ("consensus show_tx", "transaction.file genesis.file"),
    ("consensus estimate_gas", "C transaction.file consensus.signer_pub"),
    ("consensus next_block_state", "C"),
    ("signer export", ""),
    (
        "keymanager init_policy",
        "keymanager.policy.file keymanager.policy.serial keymanager.policy.id keymanager.policy.enclave.id \
         keymanager.policy.may.query keymanager.policy.may.replicate",
    ),
    ("keymanager sign_policy", "keymanager.policy.file keymanager.policy.signature.file keymanager.policy.key.file"),
    ("keymanager verify_policy", "keymanager.policy.file keymanager.policy.ignore.signature verbose"),
    ("keymanager init_status", "keymanager.status.id keymanager.status.file keymanager.status.checksum"),
    ("keymanager gen_update", "T keymanager.policy.file keymanager.policy.signature.file"),
    ("debug control set-epoch", "C epoch"),
    ("debug control wait-nodes", "C nodes"),
    ("debug control wait-ready", "C"),
    ("debug beacon status", "C"),
    ("debug dumpdb", "genesis.file dump.output dump.version dump.read_only_db"),
    ("debug storage export", "genesis.file storage.export.dir"),
    ("debug storage check-roots", "C"),
    ("debug storage benchmark", ""),
];

#[test]
fn commands_have_the_references_options() {
    // Checks names of options too: two of one name would take each other's values.
    Cli::command().debug_assert();
    let mut root = Cli::command();
    root.build();
    for (path, options) in SURFACE {
        let mut command = &root;
        for name in path.split(' ') {
            command = command.find_subcommand(name).unwrap_or_else(|| panic!("no command {path}"));
        }
        let has = |name: &str| command.get_arguments().any(|arg| arg.get_long() == Some(name));
        for option in options.split_whitespace() {
            let wanted: &[&str] = match option {
                "C" => &["address", "wait", "insecure"],
                "T" => &[
                    "transaction.file",
                    "transaction.nonce",
                    "transaction.fee.amount",
                    "transaction.fee.gas",
                    "transaction.unsigned",
                    "assume_yes",
                    "genesis.file",
                ],
                _ => &[option],
            };
            for name in wanted {
                assert!(has(name), "{path} lacks --{name}");
            }
        }
        for name in ["config", "debug.dont_blame_oasis", "signer.backend", "signer.dir"] {
            assert!(has(name), "{path} lacks --{name}");
        }
    }
}

/// A status with every part that the mode has.
fn status(mode: &str) -> Status {
    let mut status = Status { mode: mode.to_owned(), ..Status::default() };
    if mode == "seed" {
        status.seed = Some(SeedStatus::default());
        return status;
    }
    status.debug = Some(DebugStatus::default());
    status.consensus = Some(ConsensusStatus {
        latest_block_size: 1,
        p2p: Some(ConsensusP2pStatus::default()),
        ..ConsensusStatus::default()
    });
    status.light_client = Some(LightClientStatus::default());
    status.registration = Some(RegistrationStatus {
        descriptor: Some(Node { software_version: "0".to_owned(), ..Node::default() }),
        node_status: Some(NodeStatus::default()),
        ..RegistrationStatus::default()
    });
    status.p2p = Some(P2pStatus::default());
    status
}

fn keys(value: &Value) -> Vec<&String> {
    value.as_object().map(|object| object.keys().collect()).unwrap_or_default()
}

#[test]
fn the_status_has_the_references_shape() {
    for (name, mode) in [("control-status-validator", "validator"), ("control-status-seed", "seed")] {
        let Some(entry) = recorded().into_iter().find(|entry| entry["name"] == name) else { continue };
        let theirs: Value = serde_json::from_str(entry["stdout"].as_str().unwrap()).unwrap();
        let ours = status(mode).to_json();
        assert_eq!(keys(&ours), keys(&theirs), "{name}");
        for part in ["debug", "identity", "consensus", "light_client", "p2p", "seed"] {
            assert_eq!(keys(&ours[part]), keys(&theirs[part]), "{name}: {part}");
        }
        assert_eq!(keys(&ours["consensus"]["p2p"]), keys(&theirs["consensus"]["p2p"]), "{name}");
        let registration = |status: &Value| -> Vec<String> {
            let kept = |key: &&&String| **key != "last_attempt_error_message";
            keys(&status["registration"]).iter().filter(kept).map(|key| (*key).clone()).collect()
        };
        assert_eq!(registration(&ours), registration(&theirs), "{name}");
    }
}

#[test]
fn a_command_tells_by_its_exit_code() {
    let run = |line: &[&str]| {
        let line = std::iter::once("oasis-node").chain(line.iter().copied());
        format!("{:?}", super::run(line.map(OsString::from)))
    };
    let code = |code: u8| format!("{:?}", ExitCode::from(code));
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| -> PathBuf { dir.path().join(name) };
    let nowhere = "unix:/nonexistent.sock";
    assert_eq!(run(&["--version"]), code(0));
    assert_eq!(run(&["control"]), code(0), "help");
    assert_eq!(run(&["no-such-command"]), code(1));
    assert_eq!(run(&["control", "status", "-a", nowhere]), code(128));
    assert_eq!(run(&["control", "is-synced", "-a", nowhere]), code(128));
    assert_eq!(run(&["control", "wait-sync", "-a", nowhere]), code(1));
    assert_eq!(run(&["consensus", "next_block_state", "-a", nowhere]), code(128));
    assert_eq!(run(&["identity", "init"]), code(1), "no directory");
    let data = path("node");
    std::fs::create_dir(&data).unwrap();
    let data = data.to_str().unwrap();
    assert_eq!(run(&["identity", "init", "--datadir", data]), code(0));
    assert_eq!(run(&["identity", "show-tls-pubkey", "--datadir", data]), code(0));
    assert_eq!(run(&["identity", "cometbft", "show-node-address", "-v", "--datadir", data]), code(0));
    let entity = path("entity");
    std::fs::create_dir(&entity).unwrap();
    let entity = entity.to_str().unwrap();
    assert_eq!(run(&["registry", "entity", "init", "--signer.dir", entity]), code(0));
    assert_eq!(run(&["registry", "entity", "init", "--signer.dir", entity]), code(1), "exists");
    assert_eq!(run(&["unsafe-reset", "--datadir", data]), code(1), "holds no state");
}
