//! Commands against nodes that run, over their sockets and over TLS, and against what they leave when they have stopped.

#[path = "commands/tls.rs"]
mod tls;

use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use cli_devnet::chain::Chain;
use cli_devnet::trial::{now, until};
use cli_devnet::{Network, Node, Plan, Role, Running};
use serde_json::Value;
use wire_consensus::genesis::Document;

const PROGRAM: &str = env!("CARGO_BIN_EXE_oasis-node");
/// Seconds that anything may take: a machine that does other things too is slow.
const PATIENCE: u64 = 240;
/// Exit code of queries that got no answer.
const QUERY_FAILED: i32 = 128;
/// The runtime that is registered here; nobody runs it.
const RUNTIME: &str = "80000000000000000000000000000000000000000000000000000000000000aa";

/// Commands of one operator, run in a folder of their own.
struct Cli<'a> {
    dir: &'a Path,
    genesis: String,
    socket: String,
    certificates: Option<PathBuf>,
}

impl Cli<'_> {
    fn run(&self, args: &[&str]) -> Output {
        let mut command = Command::new(PROGRAM);
        command.args(args).args(["--debug.dont_blame_oasis", "--debug.allow_test_keys"]).current_dir(self.dir);
        if let Some(path) = &self.certificates {
            command.env("SSL_CERT_FILE", path);
        }
        command.stdin(std::process::Stdio::null()).output().expect("it runs")
    }

    /// What a command writes that has to end with that code.
    fn ends(&self, code: i32, args: &[&str]) -> String {
        let output = self.run(args);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {text}{errors}");
        text
    }

    /// What a command writes, given as words, that has to work.
    fn ok(&self, line: &str) -> String {
        self.ends(0, &line.split_whitespace().collect::<Vec<_>>())
    }

    /// What a command writes that has to be refused.
    fn fails(&self, line: &str) -> String {
        self.ends(1, &line.split_whitespace().collect::<Vec<_>>())
    }

    /// The same about the node.
    fn ask(&self, line: &str) -> String {
        self.ok(&format!("{line} -a {}", self.socket))
    }

    fn refuses(&self, line: &str) -> String {
        self.fails(&format!("{line} -a {}", self.socket))
    }

    fn json(&self, line: &str) -> Value {
        serde_json::from_str(&self.ask(line)).expect("JSON")
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.dir.join(name), text).expect("written");
    }
}

fn has(text: &str, words: &[&str]) {
    for word in words {
        assert!(text.contains(word), "{word:?} is not in: {text}");
    }
}

/// Somebody who signs, with the folder of the key and the next nonce.
struct Signer<'a> {
    cli: &'a Cli<'a>,
    dir: String,
    nonce: u64,
}

impl Signer<'_> {
    fn line(&self, command: &str, more: &str) -> String {
        format!(
            "{command} --transaction.file tx.json --transaction.nonce {} --transaction.fee.gas 20000 -g {} \
             --signer.dir {} {more}",
            self.nonce, self.cli.genesis, self.dir
        )
    }

    /// Makes a transaction; it must show these words.
    fn sign(&self, command: &str, words: &[&str]) {
        let shown = self.cli.ok(&self.line(command, "-y"));
        has(&shown, &["You are about to sign", &format!("Nonce:  {}", self.nonce)]);
        has(&shown, words);
        has(&self.cli.ok(&format!("consensus show_tx --transaction.file tx.json -g {}", self.cli.genesis)), words);
    }

    /// Makes a transaction and has it executed.
    fn transact(&mut self, command: &str, words: &[&str]) {
        self.sign(command, words);
        self.cli.ask("consensus submit_tx --transaction.file tx.json");
        self.nonce += 1;
    }
}

/// Lets epochs begin when a command says so, and proposals have no title, as those of the older commands.
fn prepare(network: &Network) {
    let path = network.plan.genesis_file();
    let text = std::fs::read_to_string(&path).expect("the genesis document");
    let mut document = Document::from_json(&text).expect("the genesis document");
    document.beacon.parameters.debug_mock_backend = true;
    document.governance.parameters.allow_proposal_metadata = false;
    document.registry.parameters.debug_allow_test_runtimes = true;
    std::fs::write(&path, document.to_canonical_json()).expect("the genesis document is written");
}

fn plan(dir: &Path) -> Plan {
    let mut plan = Plan {
        dir: dir.to_owned(),
        validators: 1,
        clients: 1,
        base_port: 27_800,
        block_time: Duration::from_millis(200),
        epoch_interval: 30,
        chain_id: "commands test".to_owned(),
        genesis_time: now(),
        ..Plan::default()
    };
    plan.base_port = plan.free_base_port().expect("free ports");
    plan
}

/// Descriptor of an upgrade to what runs already.
fn upgrade(handler: &str, epoch: u64) -> String {
    let target = "{\"consensus_protocol\":{\"major\":7},\"runtime_host_protocol\":{\"major\":5,\"minor\":1},\
                  \"runtime_committee_protocol\":{\"major\":5}}";
    format!("{{\"v\":1,\"handler\":\"{handler}\",\"target\":{target},\"epoch\":{epoch}}}")
}

/// Epochs and nodes, by the commands for test networks.
fn epochs(cli: &Cli<'_>) {
    cli.ask("debug control wait-nodes -n 1");
    cli.ask("debug control wait-ready");
    cli.ask("debug control set-epoch -e 1");
    has(&cli.refuses("debug control set-epoch -e 1"), &["set epoch"]);
    let beacon = cli.ask("debug beacon status");
    has(&beacon, &["\"Beacon\""]);
}

/// What the older commands show of accounts, and their transactions.
fn accounts(cli: &Cli<'_>, network: &Network) {
    let [alice, bob, ..] = network.accounts.as_slice() else { panic!("there are accounts") };
    let (alice, bob) = (alice.address.to_string(), bob.address.to_string());
    has(&cli.ask("stake info"), &["Token's ticker symbol: ", "Total supply: ", "Staking threshold (entity): "]);
    has(&cli.ask("stake list"), &[&alice, &bob]);
    has(&cli.ask("stake list -v"), &[&alice, "\"general\"", "\"escrow\""]);
    let of = format!("--stake.account.address {alice}");
    has(&cli.ask(&format!("stake account info {of}")), &["Account State for Height: ", "Balance:", "Nonce: 0"]);
    assert_eq!(cli.ask(&format!("stake account nonce {of}")).trim(), "0");
    cli.ok(&format!("stake account validate_address {of}"));
    has(&cli.fails("stake account validate_address --stake.account.address oasis1bad -v"), &["is not valid"]);

    let mut signer = Signer { cli, dir: network.plan.dir.join("accounts/alice").display().to_string(), nonce: 0 };
    let to = format!("--stake.transfer.destination {bob}");
    signer.transact(&format!("stake account gen_transfer --stake.amount 1500 {to}"), &["staking.Transfer", &bob]);
    // The same again is refused.
    has(&cli.refuses("consensus submit_tx --transaction.file tx.json"), &["duplicate transaction"]);
    signer.transact("stake account gen_burn --stake.amount 10", &["staking.Burn"]);
    let escrow = format!("--stake.escrow.account {alice}");
    let amount = "--stake.amount 400000000000";
    signer.transact(&format!("stake account gen_escrow {amount} {escrow}"), &["staking.AddEscrow", &alice]);
    let shares = "--stake.shares 1000";
    signer.transact(&format!("stake account gen_reclaim_escrow {shares} {escrow}"), &["staking.ReclaimEscrow"]);
    let beneficiary = format!("--stake.allow.beneficiary {bob} --stake.allow.amount_change 77");
    signer.transact(&format!("stake account gen_allow {beneficiary}"), &["staking.Allow", &bob]);
    let steps = "--stake.commission_schedule.rates 20/25000 --stake.commission_schedule.bounds 20/0/50000";
    signer.transact(
        &format!("stake account gen_amend_commission_schedule {steps}"),
        &["staking.AmendCommissionSchedule"],
    );
    let info = cli.ask(&format!("stake account info {of}"));
    has(&info, &["Allowances for this Account:", "Debonding Delegations", "(self)", "Nonce: 6"]);
    let mut other = Signer { cli, dir: network.plan.dir.join("accounts/bob").display().to_string(), nonce: 0 };
    let source = format!("--stake.withdraw.source {alice} --stake.amount 77");
    other.transact(&format!("stake account gen_withdraw {source}"), &["staking.Withdraw", &alice]);

    // Gas of a transaction that is not signed.
    cli.ok(&signer.line(&format!("stake account gen_transfer --stake.amount 1 {to}"), "--transaction.unsigned"));
    let key = cli.ok(&format!("signer export --signer.dir {0}", signer.dir));
    assert_eq!(key.trim(), "");
    let entity = std::fs::read_to_string(Path::new(&signer.dir).join("entity.json")).expect("exported");
    let entity: Value = serde_json::from_str(&entity).expect("JSON");
    let id = entity["id"].as_str().expect("a key");
    let gas = cli.ask(&format!("consensus estimate_gas --transaction.file tx.json --consensus.signer_pub {id}"));
    assert!(gas.trim().parse::<u64>().expect("a number") >= 1_000, "{gas}");
    assert_eq!(cli.ok(&format!("stake pubkey2address --public_key {id}")).trim(), alice);
}

/// Entities, runtimes and proposals: made, submitted, shown.
fn registrations(cli: &Cli<'_>, network: &Network, runtime: &Value) {
    let dir = network.plan.dir.join("accounts/alice").display().to_string();
    let mut signer = Signer { cli, dir: dir.clone(), nonce: 6 };
    cli.ok(&format!("registry entity init --entity.reuse_signer --force --signer.dir {dir}"));
    has(&cli.fails(&format!("registry entity init --signer.dir {dir}")), &["--force"]);
    let node = cli.json("control status")["identity"]["node"].as_str().expect("a key").to_owned();
    cli.ok(&format!("registry entity update --entity.node.id {node} --signer.dir {dir}"));
    signer.transact("registry entity gen_register", &["registry.RegisterEntity", &node]);
    let id = cli.ok(&format!("stake pubkey2address --public_key {node}"));
    has(&id, &["oasis1"]);

    let mut runtime = runtime.clone();
    runtime["id"] = RUNTIME.into();
    runtime["entity_id"] = {
        let text = std::fs::read_to_string(Path::new(&dir).join("entity.json")).expect("an entity");
        serde_json::from_str::<Value>(&text).expect("JSON")["id"].clone()
    };
    runtime.as_object_mut().expect("an object").remove("key_manager");
    cli.write("runtime.json", &runtime.to_string());
    signer.transact("registry runtime gen_register --runtime.descriptor runtime.json", &["registry.RegisterRuntime"]);
    has(&cli.ask("registry runtime list --include_suspended"), &[RUNTIME]);
    has(&cli.ask(&format!("control runtime-stats {RUNTIME}")), &["Runtime rounds: ", "| ", "ENTITY ID"]);
    has(&cli.refuses(&format!("debug storage check-roots {RUNTIME}")), &["block"]);

    has(&cli.ask("registry entity list -v"), &["\"id\"", "\"nodes\""]);
    has(&cli.ask("registry node list -v"), &["\"expiration\"", "\"consensus\""]);
    let config = network.nodes().iter().find(|node| node.role == Role::Validator).expect("one").config();
    has(&cli.ask(&format!("registry node is-registered --config {}", config.display())), &["node is registered"]);

    cli.write("upgrade.json", &upgrade("commands-test", 30));
    let submit = "governance gen_submit_proposal --proposal.upgrade.descriptor upgrade.json";
    signer.transact(submit, &["governance.SubmitProposal", "commands-test"]);
    let proposals = cli.json("governance list_proposals");
    let number = proposals[0]["id"].as_u64().expect("a number");
    has(&cli.ask(&format!("governance proposal_info --proposal.id {number}")), &["commands-test", "\"state\""]);
    // Validators' owners vote.
    let owner = network.plan.dir.join("entity").display().to_string();
    let mut voter = Signer { cli, dir: owner, nonce: 0 };
    let vote = format!("governance gen_cast_vote --vote yes --vote.proposal.id {number}");
    voter.transact(&vote, &["governance.CastVote", "yes"]);
    has(&cli.ask(&format!("governance proposal_votes --proposal.id {number}")), &["\"vote\"", "yes"]);
    has(&cli.refuses("governance proposal_info --proposal.id 77"), &["proposal"]);
    signer.sign("registry entity gen_deregister", &["registry.DeregisterEntity"]);
    has(&cli.refuses("consensus submit_tx --transaction.file tx.json"), &["registry"]);
}

/// Policies of key managers.
fn key_managers(cli: &Cli<'_>, network: &Network) {
    let enclave = "0".repeat(128);
    cli.ok(&format!(
        "keymanager init_policy --keymanager.policy.file policy.cbor --keymanager.policy.serial 1 \
         --keymanager.policy.id {RUNTIME} --keymanager.policy.enclave.id {enclave}"
    ));
    let file = "--keymanager.policy.file policy.cbor";
    for key in 1..=3 {
        cli.ok(&format!(
            "keymanager sign_policy {file} --keymanager.policy.testkey {key} --keymanager.policy.signature.file \
             policy.sign.{key}"
        ));
    }
    let signatures = "--keymanager.policy.signature.file policy.sign.1,policy.sign.2,policy.sign.3";
    has(&cli.ok(&format!("keymanager verify_policy {file} {signatures} -v")), &["\"serial\": 1"]);
    cli.write("policy.sign.3", "nothing");
    cli.fails(&format!("keymanager verify_policy {file} {signatures}"));
    cli.ok(&format!(
        "keymanager init_status --keymanager.status.id {RUNTIME} --keymanager.status.file status.json {file} \
         --keymanager.policy.signature.file policy.sign.1,policy.sign.2"
    ));
    has(&std::fs::read_to_string(cli.dir.join("status.json")).expect("written"), &["\"is_initialized\"", "\"policy\""]);
    let signer = Signer { cli, dir: network.plan.dir.join("accounts/charlie").display().to_string(), nonce: 0 };
    let update = format!("keymanager gen_update {file} --keymanager.policy.signature.file policy.sign.1,policy.sign.2");
    signer.sign(&update, &["keymanager.UpdatePolicy"]);
    // There is no such key manager.
    cli.refuses("consensus submit_tx --transaction.file tx.json");
}

/// Upgrades of one node, and its end.
fn control(cli: &Cli<'_>) {
    has(&cli.ask("control is-synced"), &["node completed initial syncing"]);
    cli.ask("control wait-sync");
    has(&cli.ask("control status"), &["\"latest_height\"", "\"registration\""]);
    has(&cli.ask("consensus next_block_state"), &["\"height\"", "\"prevotes\""]);
    has(&cli.ask("identity show-address"), &["oasis1"]);
    cli.write("pending.json", &upgrade("commands-test-node", 90));
    cli.ask("control upgrade-binary pending.json");
    assert_eq!(cli.json("control status")["pending_upgrades"].as_array().map(Vec::len), Some(1));
    cli.ask("control cancel-upgrade pending.json");
    assert!(cli.json("control status").get("pending_upgrades").is_none());
    cli.write("wrong.json", "{\"v\":0}");
    has(&cli.refuses("control upgrade-binary wrong.json"), &["descriptor"]);
    // This node runs no ParaTimes.
    cli.refuses("control add-bundle nothing.orc");
    let nobody = cli.ends(QUERY_FAILED, &["control", "status", "-a", "unix:nobody.sock"]);
    has(&nobody, &["failed to query status"]);
    cli.ends(QUERY_FAILED, &["identity", "show-address", "-a", "unix:nobody.sock"]);
}

/// State of a network as a genesis document, and as that of a new network.
fn documents(cli: &Cli<'_>) {
    cli.ask("genesis dump --height 3 --genesis.file dumped.json");
    has(&cli.ok("genesis check -g dumped.json"), &["valid", "hash: ", "SHA256"]);
    cli.ok("genesis migrate -g dumped.json --genesis.new_file new.json --genesis.new_chain_id another");
    cli.ok("genesis check -g new.json");
    has(&std::fs::read_to_string(cli.dir.join("new.json")).expect("written"), &["\"another\""]);
}

/// What is read of a node that does not run any more.
fn stopped(cli: &Cli<'_>, node: &Node) {
    let config = node.config().display().to_string();
    cli.ok(&format!("debug dumpdb --config {config} -g {} --dump.output stopped.json", cli.genesis));
    cli.ok("genesis check -g stopped.json");
    has(&cli.ok(&format!("storage inspect --config {config} --output json")), &["\"latest_version\""]);
    has(&cli.ok(&format!("storage check consensus --config {config}")), &["no errors found"]);
    cli.ok(&format!("storage compact --config {config}"));
    cli.ok(&format!("storage prune --config {config}"));
    cli.ok(&format!("debug storage export --config {config} -g {} --storage.export.dir exported", cli.genesis));
    cli.ok("debug storage benchmark --dir measured");
    assert!(!cli.dir.join("measured").exists(), "it cleans up");
    cli.ok(&format!("control clear-deregister --config {config}"));
    cli.ok(&format!("debug clear-upgrades --config {config}"));
    let dir = node.dir.display().to_string();
    has(&cli.ok(&format!("identity show-tls-pubkey --datadir {dir}")), &["="]);
    has(&cli.ok(&format!("identity show-sentry-client-pubkey --datadir {dir}")), &["="]);
    has(&cli.ok(&format!("identity cometbft show-node-address -v --datadir {dir}")), &["fingerprint"]);
    cli.ok(&format!("identity cometbft show-consensus-address --datadir {dir}"));
    cli.ok(&format!("unsafe-reset --dry_run --config {config}"));
    assert!(node.dir.join("consensus").exists(), "nothing was removed");
    cli.ok(&format!("unsafe-reset --preserve.mkvs_database=false --config {config}"));
    assert!(!node.dir.join("consensus").exists() && node.dir.join("identity.pem").exists());
}

/// Descriptors of an entity and its nodes, made in files.
fn descriptors(cli: &Cli<'_>, node: &Node) {
    let read =
        |path: &Path| -> Value { serde_json::from_str(&std::fs::read_to_string(path).expect("a file")).expect("JSON") };
    for name in ["first", "second"] {
        std::fs::DirBuilder::new().mode(0o700).create(cli.dir.join(name)).expect("a folder");
        cli.ok(&format!("registry entity init --signer.dir {name}"));
    }
    for file in ["entity.pem", "entity.json", "entity_genesis.json"] {
        let mode = std::fs::metadata(cli.dir.join("first").join(file)).expect("made").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
    has(&cli.fails("registry entity init --signer.dir first"), &["specify --force"]);
    has(&cli.fails("registry entity init --signer.dir first -s nothing"), &["unsupported signer backend"]);
    let entity = read(&cli.dir.join("first/entity.json"));
    assert_eq!(entity["v"], 2);
    let id = entity["id"].as_str().expect("a key").to_owned();
    cli.ok(&format!(
        "registry node init --config {} --node.entity_id {id} --node.role validator,compute-worker \
         --node.expiration 9 --node.p2p_address 127.0.0.1:9200 --node.consensus_address 127.0.0.1:26656 \
         --node.runtime.id {RUNTIME}",
        node.config().display()
    ));
    let made = node.dir.join("node_genesis.json");
    assert_eq!(read(&made)["signatures"].as_array().map(Vec::len), Some(5));
    cli.ok(&format!("registry entity update --entity.node.descriptor {} --signer.dir first", made.display()));
    let entity = read(&cli.dir.join("first/entity.json"));
    assert_eq!(entity["nodes"].as_array().map(Vec::len), Some(1), "{entity}");
    // The list is replaced, not added to; and a node belongs to one entity only.
    let other = read(&cli.dir.join("second/entity.json"))["id"].as_str().expect("a key").to_owned();
    cli.ok(&format!("registry entity update --entity.node.id {other} --signer.dir first"));
    assert_eq!(read(&cli.dir.join("first/entity.json"))["nodes"], serde_json::json!([other]));
    let line = format!("registry entity update --entity.node.descriptor {} --signer.dir second", made.display());
    has(&cli.fails(&line), &["entity ID mismatch"]);
    assert!(read(&cli.dir.join("second/entity.json")).get("nodes").is_none());
}

/// The descriptor of a runtime as the reference showed it.
fn recorded_runtime() -> Value {
    let path = dev_testkit::paths::vectors_dir().join("cli/oasis-node.json");
    let recorded: Value = serde_json::from_slice(&dev_testkit::read(&path).expect("recorded")).expect("JSON");
    let list = recorded.as_array().expect("a list").iter().find(|entry| entry["name"] == "registry-runtime-list");
    let text = list.expect("it is there")["stdout"].as_str().expect("text");
    let mut all = serde_json::Deserializer::from_str(text).into_iter::<Value>().map(|found| found.expect("JSON"));
    all.find(|runtime| runtime["kind"] == 1).expect("one that computes")
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_speak_to_nodes_and_read_what_they_leave() {
    let temp = tempfile::Builder::new().prefix("cm").tempdir().expect("a directory");
    let network = Network::create(plan(&temp.path().join("net"))).expect("a network");
    prepare(&network);
    let nodes = network.nodes();
    let of = |role| nodes.iter().position(|node| node.role == role).expect("there is one");
    let (validator, client) = (of(Role::Validator), of(Role::Client));
    let running = Running::new(Path::new(PROGRAM), nodes.clone()).expect("the program is there");
    let mut running = running.with_arguments(&["--debug.allow_test_keys"]);
    running.start_all().expect("all start");
    until("some blocks", PATIENCE, async || {
        Chain::connect(&nodes[client]).await.ok()?.height().await.ok().filter(|at| *at >= 3)
    })
    .await;
    let cli = |at: usize| Cli {
        dir: temp.path(),
        genesis: network.plan.genesis_file().display().to_string(),
        socket: format!("unix:{}", nodes[at].socket().display()),
        certificates: None,
    };

    let here = cli(validator);
    epochs(&here);
    control(&here);
    accounts(&here, &network);
    registrations(&here, &network, &recorded_runtime());
    key_managers(&here, &network);
    documents(&here);
    tls::over_tls(&here, &nodes[validator]).await;

    // What needs a stopped node says so while it runs.
    let config = nodes[validator].config().display().to_string();
    let dump = format!("debug dumpdb --config {config} -g {} --dump.output stopped.json", here.genesis);
    here.fails(&dump);
    here.fails(&format!("storage inspect --config {config}"));
    here.fails(&format!("unsafe-reset --config {config}"));

    // A node that is registered nowhere ends at once when it is asked to.
    cli(client).ask("control shutdown");
    let all = std::cell::RefCell::new(running);
    until("the client's end", PATIENCE, async || all.borrow_mut().ended().map(|_| ())).await;
    let mut running = all.into_inner();
    stopped(&cli(client), &nodes[client]);
    descriptors(&cli(client), &nodes[client]);
    assert_eq!(running.stop(), Vec::<String>::new(), "all nodes end when they are asked to");
    stopped(&here, &nodes[validator]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_status_is_there_while_a_node_starts() {
    let temp = tempfile::Builder::new().prefix("cs").tempdir().expect("a directory");
    let network = Network::create(Plan { base_port: 27_850, ..plan(&temp.path().join("net")) }).expect("a network");
    let nodes = network.nodes();
    let client = nodes.iter().position(|node| node.role == Role::Client).expect("there is one");
    // It waits for somebody who has the state, and there is nobody.
    let text = std::fs::read_to_string(nodes[client].config()).expect("a configuration");
    let hash = "11".repeat(32);
    let lines = format!(
        "consensus:\n  state_sync:\n    enabled: true\n  light_client:\n    trust:\n      period: 1h\n      \
         height: 5\n      hash: '{hash}'\n"
    );
    std::fs::write(nodes[client].config(), text.replace("consensus:\n", &lines)).expect("written");
    let cli = Cli {
        dir: temp.path(),
        genesis: String::new(),
        socket: format!("unix:{}", nodes[client].socket().display()),
        certificates: None,
    };
    let mut running = Running::new(Path::new(PROGRAM), nodes.clone()).expect("the program is there");
    running.start(client).expect("it starts");
    until("the socket", PATIENCE, async || nodes[client].socket().exists().then_some(())).await;
    let status = cli.json("control status");
    assert_eq!(status["mode"], "client");
    assert_eq!(status["consensus"]["status"], "syncing");
    has(status["waits_for"].as_str().expect("text"), &["starting"]);
    // What can not be said yet is waited for.
    let mut waiting = Command::new(PROGRAM).args(["control", "wait-sync", "-a", &cli.socket]).spawn().expect("it runs");
    cli.json("control status");
    assert!(waiting.try_wait().expect("it is known").is_none(), "it waits");
    assert!(running.ended().is_none(), "it runs");
    assert_eq!(running.stop(), Vec::<String>::new(), "it ends when it is asked to");
    assert!(!waiting.wait().expect("it ends").success());
}
