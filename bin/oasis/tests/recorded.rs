//! The command against outputs recorded from the reference, and against wrong input: real processes, real files.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

/// A configuration directory of its own.
struct Home(tempfile::TempDir);

impl Home {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a directory"))
    }

    fn run(&self, args: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_oasis"));
        command.args(args).env("XDG_CONFIG_HOME", self.0.path()).stdin(std::process::Stdio::null());
        command.output().expect("it runs")
    }

    /// Runs what must succeed, and gives what it wrote.
    fn ok(&self, args: &[&str]) -> String {
        let output = self.run(args);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{args:?}: {stderr}");
        String::from_utf8(output.stdout).expect("text")
    }

    /// Runs what must fail, and gives the reason that it wrote.
    fn fails(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert_eq!(output.status.code(), Some(1), "{args:?}: {}", String::from_utf8_lossy(&output.stdout));
        assert_eq!(String::from_utf8_lossy(&output.stdout), "", "{args:?}: results of a failure");
        String::from_utf8(output.stderr).expect("text")
    }

    fn config(&self) -> std::path::PathBuf {
        self.0.path().join("oasis/cli.toml")
    }
}

fn recorded() -> Vec<Value> {
    let path = dev_testkit::paths::vectors_dir().join("cli/oasis.json");
    let bytes = dev_testkit::read(&path).expect("the recorded outputs are there");
    serde_json::from_slice::<Vec<Value>>(&bytes).expect("a list")
}

fn words(entry: &Value) -> Vec<&str> {
    entry["args"].as_array().expect("a list").iter().skip(1).map(|word| word.as_str().expect("text")).collect()
}

/// Adds the network of the recording without asking a node.
fn with_local_network(home: &Home) {
    // Any chain context will do for what needs no node, save signatures: those are under the recorded one.
    let context = "7ca282757d728070a54898e76fa142ee92a78412d8fa630bdac1f242fe81ffc2";
    let add = ["network", "add", "local", "unix:/nowhere.sock", context, "--symbol", "TEST", "--num-decimals", "9"];
    home.ok(&[&add[..], &["--description", "Local", "-y"]].concat());
    home.ok(&["network", "set-default", "local"]);
}

#[test]
fn what_needs_no_node_is_as_recorded() {
    let mut compared = 0;
    for entry in recorded() {
        let args = words(&entry);
        let alone = matches!(
            args.as_slice(),
            ["network" | "wallet" | "paratime" | "addressbook", "list"] | ["account", "from-public-key", _]
        );
        let signs = args.starts_with(&["account", "transfer"]);
        let bad = args.starts_with(&["account", "show", "oasis1bad"]);
        if !(alone || signs || bad) {
            continue;
        }
        let home = Home::new();
        if signs || bad {
            with_local_network(&home);
        }
        let output = home.run(&args);
        assert_eq!(output.status.code().map(i64::from), entry["exit"].as_i64(), "{args:?}");
        assert_eq!(String::from_utf8_lossy(&output.stdout), entry["stdout"].as_str().expect("text"), "{args:?}");
        assert_eq!(String::from_utf8_lossy(&output.stderr), entry["stderr"].as_str().expect("text"), "{args:?}");
        compared += 1;
    }
    assert_eq!(compared, 7);
}

#[test]
fn accounts_are_made_kept_and_exported() {
    let home = Home::new();
    let words = "equip will roof matter pink blind book anxiety banner elbow sun young";
    home.ok(&["wallet", "import", "one", "--algorithm", "ed25519-adr8", "--secret", words, "-y"]);
    home.ok(&["wallet", "import", "two", "--algorithm", "ed25519-adr8", "--number", "1", "--secret", words, "-y"]);
    let shown = home.ok(&["wallet", "show", "one", "-y"]);
    assert!(shown.contains("Kind:             file (ed25519-adr8:0)"), "{shown}");
    let exported = home.ok(&["wallet", "export", "one", "-y"]);
    assert!(exported.contains(&format!("Secret mnemonic:\n{words}\n")), "{exported}");
    assert!(exported.contains("Derived secret key for account number 0:\n"), "{exported}");

    // The key alone gives the same account.
    let key = exported.trim_end().lines().last().expect("a key").to_owned();
    home.ok(&["wallet", "import", "raw", "--secret", &key, "-y"]);
    let address = |name: &str| {
        let shown = home.ok(&["wallet", "show", name, "-y"]);
        shown.lines().find_map(|line| line.strip_prefix("Native address:   ")).expect("an address").to_owned()
    };
    assert_eq!(address("one"), address("raw"));
    assert_ne!(address("one"), address("two"));

    home.ok(&["wallet", "create", "-y"]);
    home.ok(&["wallet", "rename", "account_1", "mine"]);
    home.ok(&["wallet", "set-default", "mine"]);
    home.ok(&["wallet", "remove", "two", "-y"]);
    let listed = home.ok(&["wallet", "list"]);
    let names: Vec<_> = listed.lines().skip(1).map(|line| line.split("   ").next().expect("a name").trim()).collect();
    assert_eq!(names, ["mine (*)", "one", "raw"]);
    assert!(home.fails(&["wallet", "show", "two", "-y"]).contains("account 'two' does not exist in the wallet"));
    assert!(home.fails(&["wallet", "create", "mine", "-y"]).contains("account 'mine' already exists in the wallet"));

    use std::os::unix::fs::PermissionsExt as _;
    let mode = |path: &Path| std::fs::metadata(path).expect("there").permissions().mode() & 0o777;
    assert_eq!(mode(&home.0.path().join("oasis/mine.wallet")), 0o600);
    assert_eq!(mode(&home.0.path().join("oasis")), 0o700);
    assert_eq!(mode(&home.config()), 0o644);
}

#[test]
fn keys_come_from_words_as_published() {
    let path = dev_testkit::paths::vectors_dir().join("transactions/staking_accounts.json");
    let bytes = dev_testkit::read(&path).expect("the published vectors are there");
    let sets: Vec<Value> = serde_json::from_slice(&bytes).expect("a list");
    let home = Home::new();
    let mut compared = 0;
    for (set, entry) in sets.iter().enumerate() {
        // The command has no passphrase of the mnemonic, as the reference's has none.
        if entry["bip39_passphrase"].as_str() != Some("") {
            continue;
        }
        let words = entry["bip39_mnemonic"].as_str().expect("words");
        for account in entry["oasis_accounts"].as_array().expect("a list") {
            let path = account["bip32_path"].as_str().expect("a path");
            let number = path.trim_start_matches("m/44'/474'/").trim_end_matches('\'');
            let name = format!("a{set}-{number}");
            let import = ["wallet", "import", &name, "--algorithm", "ed25519-adr8", "--secret", words, "-y"];
            home.ok(&[&import[..], &["--number", number]].concat());
            let shown = home.ok(&["wallet", "show", &name, "-y"]);
            let address = account["address"].as_str().expect("an address");
            assert!(shown.contains(&format!("Native address:   {address}\n")), "{path}: {shown}");
            compared += 1;
        }
    }
    assert!(compared > 0);
}

#[test]
fn a_closed_output_is_no_failure() {
    let home = Home::new();
    let mut command = Command::new(env!("CARGO_BIN_EXE_oasis"));
    command.args(["network", "list"]).env("XDG_CONFIG_HOME", home.0.path());
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let output = command.stdout(writer).stderr(std::process::Stdio::piped()).spawn();
    let output = output.expect("it runs").wait_with_output().expect("it ends");
    assert!(output.status.success());
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

#[test]
fn a_wrong_passphrase_says_so() {
    use std::io::Write as _;
    let home = Home::new();
    let with_input = |args: &[&str], input: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_oasis"));
        command.args(args).env("XDG_CONFIG_HOME", home.0.path());
        command
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped());
        let mut child = command.spawn().expect("it runs");
        child.stdin.take().expect("piped").write_all(input.as_bytes()).expect("it reads");
        child.wait_with_output().expect("it ends")
    };
    assert!(with_input(&["wallet", "create", "mine"], "secret\nsecret\n").status.success());
    assert!(with_input(&["wallet", "show", "mine"], "secret\n").status.success());
    let wrong = with_input(&["wallet", "show", "mine"], "guess\n");
    let reason = String::from_utf8_lossy(&wrong.stderr).into_owned();
    assert_eq!(wrong.status.code(), Some(1));
    assert!(reason.contains("failed to open account state (maybe incorrect passphrase?)"), "{reason}");
    let unequal = with_input(&["wallet", "create", "other"], "a\nb\n");
    assert!(String::from_utf8_lossy(&unequal.stderr).contains("passphrases do not match"));
    assert!(!home.0.path().join("oasis/other.wallet").exists(), "nothing is kept of a failure");
}

#[test]
fn wrong_input_gets_one_clear_line() {
    let home = Home::new();
    with_local_network(&home);
    let pay = |amount: &'static str, to: &'static str| {
        let rest = ["--account", "test:alice", "--offline", "--nonce", "0", "--gas-limit", "1", "-y"];
        [&["account", "transfer", amount, to][..], &rest].concat()
    };
    let cases: [(Vec<&str>, &str); 9] = [
        (pay("1", "oasis1bad"), "unsupported address format"),
        (pay("1", "test:nobody"), "unsupported test account: nobody"),
        (pay("1.2.3", "test:bob"), "malformed amount '1.2.3'"),
        (pay("0.0000000001", "test:bob"), "this token has 9 decimal places"),
        (pay("1", "pool:consensus:burn"), "is consensus burn address\nUse --force to ignore this check"),
        (
            vec!["network", "status", "--network", "moon"],
            "network 'moon' does not exist; there are local, mainnet, testnet",
        ),
        (vec!["network", "status"], "failed to connect to unix:/nowhere.sock"),
        (vec!["network", "add", "Moon", "unix:/x", "00"], "begin with a letter, found 'Moon'"),
        (vec!["account", "show", "--no-paratime"], "no address given and no wallet configured"),
    ];
    for (args, expected) in cases {
        let reason = home.fails(&args);
        assert!(reason.starts_with("Error: ") && reason.contains(expected), "{args:?}: {reason}");
    }
    // A configuration that is damaged is left as it is.
    std::fs::write(home.config(), "networks = 7").expect("written");
    let reason = home.fails(&["network", "list"]);
    assert!(reason.contains("cli.toml"), "{reason}");
    assert_eq!(std::fs::read_to_string(home.config()).expect("there"), "networks = 7");
}

#[test]
fn a_signature_is_made_in_two_steps() {
    let home = Home::new();
    with_local_network(&home);
    let file = home.0.path().join("tx.json");
    let name = file.to_str().expect("text");
    let offline = ["--nonce", "3", "--gas-limit", "2000", "--account", "test:alice"];
    home.ok(&[&["account", "burn", "2.5", "--offline", "--unsigned", "-o", name][..], &offline].concat());
    let shown = home.ok(&["transaction", "show", name]);
    assert!(shown.starts_with("Method: staking.Burn\n") && shown.contains("Amount: 2.5 TEST"), "{shown}");
    let signed = home.0.path().join("signed.json");
    let target = signed.to_str().expect("text");
    home.ok(&["transaction", "sign", name, "--account", "test:alice", "-o", target, "-y"]);
    let shown = home.ok(&["transaction", "show", target]);
    assert!(shown.contains("Signer: NcPzNW3YU2T+ugNUtUWtoQnRvbOL9dYSaBfbjHLP1pE="), "{shown}");
    assert!(!shown.contains("INVALID SIGNATURE"), "{shown}");
    assert!(home.fails(&["transaction", "submit", name]).contains("the transaction is not signed"));
}
