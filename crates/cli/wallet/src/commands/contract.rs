//! `oasis contract`: WebAssembly contracts of ParaTimes.
//!
//! Source: `client-sdk/go/modules/contracts` of `oasisprotocol/oasis-sdk`.

use std::io::Write as _;
use std::path::PathBuf;

use base_codec::json::{ToJson, Value, to_string_pretty, value_to_string};
use base_codec::{Bytes, Codec, cbor};
use base_prims::{Address, Hash};
use clap::{Args, Subcommand};
use node_config::yaml;

use super::Selection;
use crate::args::{AccountFlag, NetworkFlag, ParaTimeFlags, Signing};
use crate::config::Store;
use crate::error::{CliError, Result};
use crate::out::outln;
use crate::paratime::Runtime;
use crate::remote::Remote;
use crate::sdk::{self, BaseUnits, Denomination, method, pretty};
use crate::tx::paratime;
use crate::{address, amount};

/// The only interface that contracts have.
const ABI_OASIS_V1: u8 = 1;
/// No contract is anywhere near this long.
const MAX_CODE: u64 = 64 << 20;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Upload WebAssembly smart contract
    Upload {
        /// The program.
        file: PathBuf,
        /// Who may instantiate it: nobody, everyone, owner or address:ADDRESS.
        #[arg(long, default_value = "everyone")]
        instantiate_policy: String,
        #[command(flatten)]
        signing: Signing,
    },
    /// Instantiate WebAssembly smart contract
    #[command(visible_alias = "inst")]
    Instantiate {
        /// The uploaded program.
        code_id: u64,
        /// Its arguments, YAML.
        data: String,
        /// Token amounts to send to a contract.
        #[arg(long, value_delimiter = ',')]
        tokens: Vec<String>,
        /// Who may upgrade it: nobody, everyone, owner or address:ADDRESS.
        #[arg(long, default_value = "owner")]
        upgrades_policy: String,
        #[command(flatten)]
        signing: Signing,
    },
    /// Call WebAssembly smart contract
    Call {
        /// The contract.
        instance_id: u64,
        /// Its arguments, YAML.
        data: String,
        /// Token amounts to send to a contract.
        #[arg(long, value_delimiter = ',')]
        tokens: Vec<String>,
        #[command(flatten)]
        signing: Signing,
    },
    /// Change WebAssembly smart contract upgrade policy
    ChangeUpgradePolicy {
        /// The contract.
        instance_id: u64,
        /// Who may upgrade it: nobody, everyone, owner or address:ADDRESS.
        policy: String,
        #[command(flatten)]
        signing: Signing,
    },
    /// Show information about instantiated contract
    Show(IdArgs),
    /// Show information about uploaded contract code
    ShowCode(IdArgs),
    /// Dump WebAssembly smart contract code
    DumpCode(IdArgs),
    /// WebAssembly smart contracts storage operations
    #[command(subcommand)]
    Storage(StorageCommand),
}

#[derive(Debug, Args)]
pub(crate) struct IdArgs {
    /// Its number.
    id: u64,
    #[command(flatten)]
    network: NetworkFlag,
    #[command(flatten)]
    paratime: ParaTimeFlags,
    #[command(flatten)]
    account: AccountFlag,
}

#[derive(Debug, Subcommand)]
pub(crate) enum StorageCommand {
    /// Dump contract store
    Dump {
        #[command(flatten)]
        of: IdArgs,
        /// Store kind: public or confidential.
        #[arg(long, default_value = "public")]
        kind: String,
        /// Result set limit.
        #[arg(long, default_value_t = 0)]
        limit: u64,
        /// Result set offset.
        #[arg(long, default_value_t = 0)]
        offset: u64,
    },
    /// Print value for given key in public contract store
    Get {
        #[command(flatten)]
        of: IdArgs,
        /// The key: text, or bytes in base64.
        key: String,
    },
}

/// Nothing, as a map.
#[derive(Debug, Clone, Default, PartialEq, Eq, Codec)]
struct Unit {}

/// Who may do something: one of these.
#[derive(Debug, Clone, Default, PartialEq, Eq, Codec)]
struct Policy {
    #[codec(omitempty)]
    nobody: Option<Unit>,
    #[codec(omitempty)]
    address: Option<Address>,
    #[codec(omitempty)]
    everyone: Option<Unit>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Codec)]
struct Upload {
    abi: u8,
    instantiate_policy: Policy,
    code: Bytes,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Codec)]
struct Instantiate {
    code_id: u64,
    upgrades_policy: Policy,
    data: Bytes,
    tokens: Vec<BaseUnits>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Codec)]
struct Call {
    id: u64,
    data: Bytes,
    tokens: Vec<BaseUnits>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Codec)]
struct ChangeUpgradePolicy {
    id: u64,
    upgrades_policy: Policy,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Codec)]
struct Id {
    id: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Codec)]
#[codec(cbor_only)]
struct Code {
    id: u64,
    hash: Hash,
    abi: u8,
    #[codec(omitempty)]
    abi_sv: u32,
    uploader: Address,
    instantiate_policy: Policy,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Codec)]
#[codec(cbor_only)]
struct CodeStorage {
    code: Bytes,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Codec)]
#[codec(cbor_only)]
struct Instance {
    id: u64,
    code_id: u64,
    creator: Address,
    upgrades_policy: Policy,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Codec)]
#[codec(cbor_only)]
struct StorageQuery {
    id: u64,
    key: Bytes,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Codec)]
#[codec(cbor_only)]
struct StorageValue {
    value: Option<Bytes>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Codec)]
#[codec(cbor_only)]
struct RawStorageQuery {
    id: u64,
    store_kind: u32,
    #[codec(omitempty)]
    limit: u64,
    #[codec(omitempty)]
    offset: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Codec)]
#[codec(cbor_only)]
struct RawStorage {
    items: Option<Vec<Pair>>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Codec)]
#[codec(array, cbor_only)]
struct Pair {
    key: Bytes,
    value: Bytes,
}

/// The body of a call of this module as JSON, with its fields in their own order.
pub(crate) fn body_json(call: &sdk::Call) -> Option<String> {
    fn shown<T: cbor::Decode + ToJson>(call: &sdk::Call) -> Option<String> {
        call.body.decode_as::<T>().ok().map(|body| to_string_pretty(&body))
    }
    match call.method.as_str() {
        method::UPLOAD => shown::<Upload>(call),
        method::INSTANTIATE => shown::<Instantiate>(call),
        method::CALL => shown::<Call>(call),
        method::CHANGE_UPGRADE_POLICY => shown::<ChangeUpgradePolicy>(call),
        _ => None,
    }
}

pub(super) fn run(store: &Store, command: Command) -> Result<()> {
    match command {
        Command::Upload { file, instantiate_policy, signing } => {
            let selection = select(store, &signing)?;
            let instantiate_policy = policy(&selection, &instantiate_policy)?;
            let body = Upload { abi: ABI_OASIS_V1, instantiate_policy, code: compressed(&file)? };
            if let Some(id) = submit::<Id>(store, &selection, &signing, (method::UPLOAD, &body))? {
                outln!("Code ID: {}", id.id);
            }
            Ok(())
        }
        Command::Instantiate { code_id, data, tokens, upgrades_policy, signing } => {
            let selection = select(store, &signing)?;
            let upgrades_policy = policy(&selection, &upgrades_policy)?;
            let tokens = self::tokens(&selection, &tokens)?;
            let body = Instantiate { code_id, upgrades_policy, data: from_yaml(&data)?, tokens };
            if let Some(id) = submit::<Id>(store, &selection, &signing, (method::INSTANTIATE, &body))? {
                outln!("Instance ID: {}", id.id);
            }
            Ok(())
        }
        Command::Call { instance_id, data, tokens, signing } => {
            let selection = select(store, &signing)?;
            let tokens = self::tokens(&selection, &tokens)?;
            let body = Call { id: instance_id, data: from_yaml(&data)?, tokens };
            if let Some(result) = submit::<Bytes>(store, &selection, &signing, (method::CALL, &body))? {
                let shown = pretty::generic(&result, false)
                    .ok_or_else(|| CliError::new("failed to unmarshal call result: not CBOR"))?;
                outln!("Call result:\n{}", to_yaml(&shown));
            }
            Ok(())
        }
        Command::ChangeUpgradePolicy { instance_id, policy, signing } => {
            let selection = select(store, &signing)?;
            let upgrades_policy = self::policy(&selection, &policy)?;
            let body = ChangeUpgradePolicy { id: instance_id, upgrades_policy };
            paratime::submit(store, &selection, &signing.tx, (method::CHANGE_UPGRADE_POLICY, &body), None, None)?;
            Ok(())
        }
        Command::Show(of) => ask(store, &of, |runtime, names| {
            let found: Instance = runtime.latest("contracts.Instance", &Id { id: of.id })?;
            outln!("ID:              {}", found.id);
            outln!("Code ID:         {}", found.code_id);
            outln!("Creator:         {}", address::pretty(names, &found.creator));
            outln!("Upgrades policy: {}", found.upgrades_policy);
            Ok(())
        }),
        Command::ShowCode(of) => ask(store, &of, |runtime, names| {
            let found: Code = runtime.latest("contracts.Code", &Id { id: of.id })?;
            let abi = if found.abi == ABI_OASIS_V1 { "Oasis v1" } else { "[unknown]" };
            outln!("ID:                 {}", found.id);
            outln!("Hash:               {}", found.hash);
            outln!("ABI:                {abi} (sv: {})", found.abi_sv);
            outln!("Uploader:           {}", address::pretty(names, &found.uploader));
            outln!("Instantiate policy: {}", found.instantiate_policy);
            Ok(())
        }),
        Command::DumpCode(of) => ask(store, &of, |runtime, _| {
            let found: CodeStorage = runtime.latest("contracts.CodeStorage", &Id { id: of.id })?;
            std::io::stdout().write_all(&found.code).map_err(CliError::file("write", "standard output"))
        }),
        Command::Storage(command) => storage(store, command),
    }
}

fn storage(store: &Store, command: StorageCommand) -> Result<()> {
    match command {
        StorageCommand::Dump { of, kind, limit, offset } => {
            let store_kind = match kind.as_str() {
                "public" => 0,
                "confidential" => 1,
                other => {
                    return Err(format!("unsupported store kind '{other}': expected public or confidential").into());
                }
            };
            ask(store, &of, |runtime, _| {
                let query = RawStorageQuery { id: of.id, store_kind, limit, offset };
                let found: RawStorage = runtime.latest("contracts.InstanceRawStorage", &query)?;
                let items = found.items.unwrap_or_default();
                outln!("Showing {} {kind} record(s) of contract {}:", items.len(), of.id);
                let shown = items.iter().map(|item| {
                    let key = match std::str::from_utf8(&item.key) {
                        Ok(text) => Value::String(text.to_owned()),
                        Err(_) => item.key.to_json(),
                    };
                    let value = pretty::generic(&item.value, false).unwrap_or_else(|| item.value.to_json());
                    format!("{}:{}", value_to_string(&key), value_to_string(&value))
                });
                outln!("{{{}}}", shown.collect::<Vec<_>>().join(","));
                Ok(())
            })
        }
        StorageCommand::Get { of, key } => ask(store, &of, |runtime, _| {
            use base64::Engine as _;
            let bytes = base64::prelude::BASE64_STANDARD.decode(&key).unwrap_or_else(|_| key.clone().into_bytes());
            let query = StorageQuery { id: of.id, key: Bytes::from(bytes) };
            let found: StorageValue = runtime.latest("contracts.InstanceStorage", &query)?;
            let shown = match found.value {
                None => Value::Null,
                Some(value) => pretty::generic(&value, false).unwrap_or_else(|| value.to_json()),
            };
            outln!("{}", value_to_string(&shown));
            Ok(())
        }),
    }
}

fn select<'a>(store: &'a Store, signing: &'a Signing) -> Result<Selection<'a>> {
    let selection = Selection::all(store, &signing.network, &signing.paratime, &signing.account)?;
    selection.must_have_account()?;
    selection.must_have_paratime()?;
    Ok(selection)
}

/// Sends a call, unless it is written out, and reads its result.
fn submit<R: cbor::Decode>(
    store: &Store,
    selection: &Selection<'_>,
    signing: &Signing,
    call: (&str, &impl cbor::Encode),
) -> Result<Option<R>> {
    let executed = paratime::submit(store, selection, &signing.tx, call, None, None)?;
    let read = |executed: paratime::Executed| {
        cbor::from_slice_relaxed(&executed.result)
            .map_err(|error| CliError::new(format!("failed to unmarshal call result: {error}")))
    };
    executed.map(read).transpose()
}

type Names = std::collections::BTreeMap<Address, String>;

fn ask(store: &Store, of: &IdArgs, show: impl FnOnce(&Runtime<'_>, &Names) -> Result<()>) -> Result<()> {
    let selection = Selection::all(store, &of.network, &of.paratime, &of.account)?;
    let (_, paratime) = selection.must_have_paratime()?;
    let remote = Remote::connect(selection.network_name, selection.network)?;
    show(&Runtime::new(&remote, paratime)?, &address::names(&store.config))
}

impl std::fmt::Display for Policy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (&self.nobody, &self.address, &self.everyone) {
            (Some(_), ..) => f.write_str("nobody"),
            (_, Some(address), _) => write!(f, "address:{address}"),
            (_, _, Some(_)) => f.write_str("everyone"),
            _ => f.write_str("[unknown]"),
        }
    }
}

fn policy(selection: &Selection<'_>, text: &str) -> Result<Policy> {
    let of = |address: Address| Policy { address: Some(address), ..Policy::default() };
    match text {
        "nobody" => Ok(Policy { nobody: Some(Unit {}), ..Policy::default() }),
        "everyone" => Ok(Policy { everyone: Some(Unit {}), ..Policy::default() }),
        "owner" => {
            let account = selection.account.as_ref().map_or("", |account| account.address.as_str());
            account.parse().map(of).map_err(|error| format!("malformed address of the account: {error}").into())
        }
        text => match text.strip_prefix("address:") {
            Some(address) => address::resolve(selection.config, selection.network, address)
                .map(of)
                .map_err(|error| format!("malformed address in policy: {error}").into()),
            None => Err(format!("invalid policy: {text}: expected nobody, everyone, owner or address:ADDRESS").into()),
        },
    }
}

fn tokens(selection: &Selection<'_>, texts: &[String]) -> Result<Vec<BaseUnits>> {
    let (_, paratime) = selection.must_have_paratime()?;
    let native = Denomination::default();
    let decimals = paratime.token(&native).decimals;
    let read = |text: &String| {
        let amount = amount::parse(text, decimals).map_err(|error| format!("malformed token amount: {error}"))?;
        Ok(BaseUnits { amount, denomination: native.clone() })
    };
    texts.iter().map(read).collect()
}

fn compressed(file: &PathBuf) -> Result<Bytes> {
    let length = std::fs::metadata(file).map_err(CliError::file("read", file))?.len();
    if length > MAX_CODE {
        return Err(format!("{}: {length} bytes: a contract has at most {MAX_CODE}", file.display()).into());
    }
    let code = std::fs::read(file).map_err(CliError::file("read", file))?;
    let mut encoder = snap::write::FrameEncoder::new(Vec::new());
    let failed = |error: &dyn std::fmt::Display| CliError::new(format!("could not compress the contract: {error}"));
    encoder.write_all(&code).map_err(|error| failed(&error))?;
    encoder.into_inner().map(Bytes::from).map_err(|error| failed(&error))
}

/// Arguments in YAML as CBOR.
fn from_yaml(text: &str) -> Result<Bytes> {
    let node = yaml::parse(text)
        .map_err(|error| CliError::new(format!("malformed arguments: line {}: {}", error.line, error.message)))?;
    let mut encoder = cbor::Encoder::new();
    match node {
        Some(node) => encode(&node, &mut encoder),
        None => encoder.null(),
    }
    Ok(Bytes::from(encoder.into_vec()))
}

fn encode(node: &yaml::Node, e: &mut cbor::Encoder) {
    match &node.kind {
        _ if node.is_null() => e.null(),
        yaml::Kind::Scalar { text, plain: true } => match (text.as_str(), text.parse::<i64>(), text.parse::<u64>()) {
            ("true" | "True" | "TRUE", ..) => e.bool(true),
            ("false" | "False" | "FALSE", ..) => e.bool(false),
            (_, Ok(number), _) => e.int(number),
            (_, _, Ok(number)) => e.uint(number),
            _ => e.text(text),
        },
        yaml::Kind::Scalar { text, plain: false } => e.text(text),
        yaml::Kind::List(items) => {
            e.array(items.len());
            items.iter().for_each(|item| encode(item, e));
        }
        yaml::Kind::Map(entries) => {
            // The last of a key that is repeated counts; shorter keys come first.
            let mut sorted: std::collections::BTreeMap<(usize, &str), &yaml::Node> = std::collections::BTreeMap::new();
            for (key, _, value) in entries {
                sorted.insert((key.len(), key), value);
            }
            e.map(sorted.len());
            for ((_, key), value) in sorted {
                e.text(key);
                encode(value, e);
            }
        }
    }
}

/// A result as YAML.
fn to_yaml(value: &Value) -> String {
    fn node(value: &Value) -> yaml::Node {
        let kind = match value {
            Value::String(text) => return yaml::Node::text(0, text.clone()),
            Value::Array(items) => yaml::Kind::List(items.iter().map(node).collect()),
            Value::Object(entries) => {
                yaml::Kind::Map(entries.iter().map(|(key, value)| (key.clone(), 0, node(value))).collect())
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => return yaml::Node::word(0, value.to_string()),
        };
        yaml::Node { line: 0, kind }
    }
    node(value).to_yaml()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_yaml() {
        let cases = [
            ("", "f6"),
            ("say_hello: {who: me}", "a1697361795f68656c6c6fa16377686f626d65"),
            ("{b: 1, aa: [true, null, '7', -2]}", "a261620162616184f5f6613721"),
        ];
        for (text, expected) in cases {
            assert_eq!(hex::encode(from_yaml(text).expect(text).as_slice()), expected, "{text}");
        }
        assert!(from_yaml("{").is_err());
        let result = serde_json::json!({"greeting": "hi", "list": [1, true]});
        assert_eq!(to_yaml(&result).trim(), "greeting: \"hi\"\nlist:\n  - 1\n  - true");
    }
}
