//! Keys and transactions of ParaTimes against what the reference's command made of the same input, byte for byte.

use std::process::{Command, Output, Stdio};

use serde_json::Value;

/// Recorded from the reference's command, one after the other in one directory; or a file that it wrote.
const RECORDED: &str = include_str!("recorded/paratime.json");

fn run(home: &std::path::Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_oasis"));
    command.args(args).env("XDG_CONFIG_HOME", home).current_dir(home).stdin(Stdio::null());
    command.output().expect("it runs")
}

#[test]
fn keys_and_transactions_are_those_of_the_reference() {
    let home = tempfile::tempdir().expect("a directory");
    let recorded: Vec<Value> = serde_json::from_str(RECORDED).expect("a list");
    let mut compared = 0;
    for entry in &recorded {
        if let Some(name) = entry["file"].as_str() {
            let bytes = hex::decode(entry["hex"].as_str().expect("text")).expect("hexadecimal");
            std::fs::write(home.path().join(name), bytes).expect("written");
            continue;
        }
        let words = entry["args"].as_array().expect("a list");
        let args: Vec<&str> = words.iter().map(|word| word.as_str().expect("text")).collect();
        let output = run(home.path(), &args);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code().map(i64::from), entry["exit"].as_i64(), "{args:?}: {stderr}");
        assert_eq!(String::from_utf8_lossy(&output.stdout), entry["stdout"].as_str().expect("text"), "{args:?}");
        // Reasons may say more than the reference's.
        let expected = entry["stderr"].as_str().expect("text");
        let first = expected.lines().next().unwrap_or_default();
        assert!(stderr.starts_with(first), "{args:?}: {stderr} instead of {expected}");
        compared += 1;
    }
    assert_eq!(compared, 70);
}

/// Signatures of Schnorrkel keys differ each time, so they are checked, not compared.
#[test]
fn schnorrkel_signatures_verify() {
    let home = tempfile::tempdir().expect("a directory");
    let flags =
        "--offline --nonce 7 --gas-limit 3000 -y --network testnet --paratime sapphire --account test:frank -o s.json";
    let transfer: Vec<&str> = "account transfer 1 test:grace".split(' ').chain(flags.split(' ')).collect();
    assert!(run(home.path(), &transfer).status.success());
    let show = |paratime: &str| {
        let output =
            run(home.path(), &["transaction", "show", "s.json", "--network", "testnet", "--paratime", paratime]);
        assert!(output.status.success());
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let shown = show("sapphire");
    assert!(shown.contains("(sr25519)") && !shown.contains("[INVALID SIGNATURE]"), "{shown}");
    // Signatures are for one ParaTime only.
    assert!(show("cipher").contains("[INVALID SIGNATURE]"));
}

/// Two of three sign a transaction one after the other, each on a machine of its own.
#[test]
fn a_group_signs_in_turns() {
    let home = tempfile::tempdir().expect("a directory");
    let ok = |args: &str| {
        let output = run(home.path(), &args.split(' ').collect::<Vec<_>>());
        assert!(output.status.success(), "{args}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    ok("account transfer 1 test:bob --account test:alice --paratime sapphire --network testnet --offline --nonce 0 \
        --gas-limit 9 --unsigned -o u.json"
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
        .as_str());
    let key = |name: &str| {
        let shown = ok(&format!("wallet show test:{name} -y"));
        shown.lines().find_map(|line| line.strip_prefix("Public Key:")).expect("a key").trim().to_owned()
    };
    let path = home.path().join("u.json");
    let mut tx: Value = serde_json::from_slice(&std::fs::read(&path).expect("there")).expect("json");
    let member = |kind: &str, name: &str| serde_json::json!({"public_key": {kind: key(name)}, "weight": 1});
    let signers = [member("ed25519", "alice"), member("secp256k1", "dave"), member("sr25519", "frank")];
    tx["ai"]["si"][0]["address_spec"] = serde_json::json!({"multisig": {"signers": signers, "threshold": 2}});
    std::fs::write(&path, tx.to_string()).expect("written");
    let of = "-y --network testnet --paratime sapphire";
    ok(&format!("transaction sign u.json --account test:alice -o one.json {of}"));
    ok(&format!("transaction sign one.json --account test:dave -o two.json {of}"));
    let shown = ok("transaction show two.json --network testnet --paratime sapphire");
    assert_eq!(shown.matches("(signature: ").count(), 2, "{shown}");
    assert!(shown.contains("2 of 3 (multisig)") && !shown.contains("[INVALID"), "{shown}");
    // Who is not of the group cannot sign.
    let args = format!("transaction sign two.json --account test:bob -o three.json {of}");
    let output = run(home.path(), &args.split(' ').collect::<Vec<_>>());
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("the account is not among the transaction's signers"));
}
