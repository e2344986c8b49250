//! Commands against a network of our nodes, compared in shape with what the reference's commands said of a network of its
//! own: fields and their types, lines and their labels, streams and exit codes.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use cli_devnet::keyvalue::KeyValue;
use cli_devnet::trial::{now, program, runtime_id, until};
use cli_devnet::{Network, Node, ParaTime, Plan, Role, Running};
use serde_json::Value;

const NODE: &str = env!("CARGO_BIN_EXE_oasis-node");
/// Seconds that anything may take: a machine that does other things too is slow.
const PATIENCE: u64 = 240;
/// What we say beyond the reference.
const MORE: [&str; 2] = [".waits_for", ".consensus.problems"];
/// What the recorded nodes had and these have not, or not always: other settings, other times, other roles.
const MAY_LACK: [&str; 12] = [
    // Nothing is at fault here.
    ".faults",
    ".latest_block_size",
    // Key managers and their clients.
    ".key_manager",
    ".access_list",
    ".liveness",
    ".last_attempt_error_message",
    ".extra_info",
    ".version",
    ".consensus.is_validator",
    ".stake_accumulator.claims",
    ".commission_schedule",
    ".components",
];

/// One recorded command.
struct Recorded {
    args: Vec<String>,
    exit: i64,
    stdout: String,
    stderr: String,
}

fn recorded() -> BTreeMap<String, Recorded> {
    let path = dev_testkit::paths::vectors_dir().join("cli/oasis-node.json");
    let list: Value = serde_json::from_slice(&dev_testkit::read(&path).expect("recorded")).expect("JSON");
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    let entry = |value: &Value| {
        let args = value["args"].as_array().expect("a list").iter().skip(1).map(text).collect();
        let exit = value["exit"].as_i64().expect("a number");
        (text(&value["name"]), Recorded { args, exit, stdout: text(&value["stdout"]), stderr: text(&value["stderr"]) })
    };
    list.as_array().expect("a list").iter().map(entry).collect()
}

fn run(args: &[String]) -> Output {
    Command::new(NODE).args(args).stdin(std::process::Stdio::null()).output().expect("it runs")
}

/// A key of an object, or what kind of key it is where keys are data.
fn key_of(key: &str) -> &str {
    let is_id = key.len() == 64 && key.bytes().all(|byte| byte.is_ascii_hexdigit());
    match key {
        _ if is_id => "ID",
        key if key.starts_with("oasis1") => "ADDRESS",
        key if key.contains('/') => "NAME",
        key => key,
    }
}

/// Every field of a value with its type.
fn fields(value: &Value, at: &str, found: &mut BTreeMap<String, &'static str>) {
    let kind = match value {
        Value::Null => return,
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "text",
        Value::Array(items) => {
            items.iter().for_each(|item| fields(item, &format!("{at}[]"), found));
            "list"
        }
        Value::Object(members) => {
            members.iter().for_each(|(key, value)| fields(value, &format!("{at}.{}", key_of(key)), found));
            "object"
        }
    };
    found.insert(at.to_owned(), kind);
}

/// The fields of all values in a text, one after another.
fn fields_of(text: &str) -> BTreeMap<String, &'static str> {
    let mut found = BTreeMap::new();
    for value in serde_json::Deserializer::from_str(text).into_iter::<Value>() {
        fields(&value.unwrap_or_else(|error| panic!("{error}: {text}")), "", &mut found);
    }
    found
}

fn may_lack(field: &str) -> bool {
    MAY_LACK.iter().any(|part| field.contains(part))
}

fn same_fields(name: &str, ours: &str, theirs: &str) {
    let (ours, theirs) = (fields_of(ours), fields_of(theirs));
    for (field, kind) in &theirs {
        match ours.get(field) {
            Some(found) => assert_eq!(found, kind, "{name}: {field}"),
            None => assert!(may_lack(field), "{name}: {field} is missing in {ours:?}"),
        }
    }
    for field in ours.keys().filter(|field| !theirs.contains_key(*field)) {
        let known = MORE.iter().any(|part| field.starts_with(part)) || may_lack(field);
        assert!(known, "{name}: {field} is not in {theirs:?}");
    }
}

/// The labels of lines: what stands before a colon, or the whole line with its numbers taken out.
fn labels(text: &str) -> Vec<String> {
    let label = |line: &str| match line.split_once(": ") {
        Some((label, _)) => label.to_owned(),
        None => line.chars().filter(|c| !c.is_ascii_digit()).collect(),
    };
    // Of tables, the columns.
    let kept = text.lines().filter(|line| !line.starts_with("|-") && !line.contains("= |"));
    kept.map(|line| label(&line.split_whitespace().collect::<Vec<_>>().join(" "))).collect()
}

/// Messages and modules of log lines.
fn messages(text: &str) -> BTreeSet<(String, String)> {
    let field = |line: &str, name: &str| {
        let rest = line.split_once(&format!(" {name}=")).expect("a field").1;
        let (open, rest) = rest.strip_prefix('"').map_or((' ', rest), |rest| ('"', rest));
        rest.split(open).next().unwrap_or_default().to_owned()
    };
    text.lines().map(|line| (field(line, "module"), field(line, "msg"))).collect()
}

/// Commands that a help lists, from the line after its heading on.
fn listed(text: &str) -> BTreeSet<String> {
    let after = text.split_once("Commands:\n").expect("a heading").1;
    let lines = after.lines().take_while(|line| line.starts_with("  "));
    lines.filter_map(|line| line.split_whitespace().next().map(str::to_owned)).collect()
}

fn compare(name: &str, theirs: &Recorded, output: &Output) {
    let (ours, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let code = output.status.code().map(i64::from);
    assert_eq!(code, Some(theirs.exit), "{name}: {ours}{errors}");
    match name {
        "help" | "control-help" => {
            let missing: Vec<_> = listed(&theirs.stdout).difference(&listed(&ours)).cloned().collect();
            assert!(missing.is_empty(), "{name}: {missing:?} are not in {ours}");
        }
        // A parent command that is given something unknown: ours refuses instead of showing its help.
        "no-socket" | "identity-show-address" | "genesis-check-unsafe" => {
            let (ours, theirs) = (messages(&ours), messages(&theirs.stdout));
            // Theirs tell of the failed call besides.
            assert!(!ours.is_empty() && ours.is_subset(&theirs), "{name}: {ours:?}, {theirs:?}");
        }
        _ if theirs.stdout.starts_with(['{', '[']) => same_fields(name, &ours, &theirs.stdout),
        "version" => {
            let theirs: Vec<_> = labels(&theirs.stdout);
            assert_eq!(labels(&ours), theirs[..theirs.len() - 1], "all but their toolchain");
        }
        _ => assert_eq!(labels(&ours), labels(&theirs.stdout), "{name}"),
    }
    if theirs.exit == 0 {
        assert_eq!(errors, theirs.stderr, "{name}");
    }
}

fn network(dir: &Path) -> Network {
    let mut plan = Plan {
        dir: dir.to_owned(),
        validators: 2,
        clients: 1,
        paratime: Some(ParaTime {
            binary: program(Path::new(NODE)),
            computes: 2,
            sandboxed: false,
            ..ParaTime::default()
        }),
        base_port: 28_400,
        block_time: Duration::from_millis(300),
        epoch_interval: 20,
        chain_id: "recorded test".to_owned(),
        genesis_time: now(),
        ..Plan::default()
    };
    plan.base_port = plan.free_base_port().expect("free ports");
    Network::create(plan).expect("a network")
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_say_what_the_references_say() {
    let dir = tempfile::Builder::new().prefix("rc").tempdir().expect("a directory");
    let network = network(dir.path());
    let nodes = network.nodes();
    let mut running = Running::new(Path::new(NODE), nodes.clone()).expect("the program is there");
    running.start_all().expect("all start");
    let of = |role| nodes.iter().find(|node| node.role == role).expect("there is one");
    let client = of(Role::Client);
    // Until the ParaTime has had transactions and the nodes have registered by themselves.
    let paratime = until("the client", PATIENCE, async || KeyValue::connect(client).await.ok()).await;
    until("a round after the first", PATIENCE, async || {
        paratime.newest().await.ok().filter(|block| block.header.round > 1)
    })
    .await;
    let tx = paratime.insertion(b"tester", 0, "key", "value");
    assert_eq!(paratime.submit(tx).await.expect("a round").check_tx_error, None);

    let data_dir = dir.path().join("identity");
    let socket = |node: &Node| node.socket().display().to_string();
    let mut compared = 0;
    let mut left_out = Vec::new();
    for (name, theirs) in recorded() {
        let node = match name.as_str() {
            "control-status-validator" => of(Role::Validator),
            "control-status-compute" => of(Role::Compute),
            "control-status-seed" => of(Role::Seed),
            // There is no key manager here; `config` is a command of ours; theirs shows its help for unknown words.
            "control-status-keymanager" | "unknown-command" | "identity-show-consensus-pubkey" => {
                left_out.push(name);
                continue;
            }
            _ => client,
        };
        let place = |word: &String| {
            if word.starts_with("unix:NET/") {
                return format!("unix:{}", socket(node));
            }
            if word.len() == 64 && word.starts_with("80000000") {
                return runtime_id().to_string();
            }
            let word = word.replace("NET/genesis.json", &network.plan.genesis_file().display().to_string());
            word.replace("DATADIR", &data_dir.display().to_string())
        };
        let args: Vec<_> = theirs.args.iter().map(place).collect();
        if name == "identity-init" {
            std::fs::DirBuilder::new().mode(0o700).create(&data_dir).expect("a folder");
        }
        let mut output = run(&args);
        output.stdout =
            String::from_utf8_lossy(&output.stdout).replace(&data_dir.display().to_string(), "DATADIR").into_bytes();
        compare(&name, &theirs, &output);
        compared += 1;
    }
    println!("skipped: {} recorded commands: {left_out:?}", left_out.len());
    assert_eq!(compared, 21);
    assert!(running.ended().is_none(), "all run");
    assert_eq!(running.stop(), Vec::<String>::new(), "all nodes end when they are asked to");
}
