//! `oasis-node keymanager …`: policies and statuses of key managers. Reference: `go/oasis-node/cmd/keymanager`.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use base_codec::{Bytes, cbor};
use base_crypto::blacklist::test_key;
use base_crypto::context::KEYMANAGER_POLICY;
use base_identity::{load_key_file, pem};
use base_prims::{Epoch, Namespace, PublicKey, RawSignature};
use clap::Subcommand;
use wire_consensus::keymanager::{EnclavePolicySgx, METHOD_UPDATE_POLICY, PolicySgx, SignedPolicySgx, Status};
use wire_consensus::signed::Signature;
use wire_consensus::tee::EnclaveIdentity;

use crate::args::{Session, TxArgs};
use crate::tool::{Done, FILE_MODE, Failure, OrFail as _, end, print_json, read_bytes, read_text, write_file};

const MODULE: &str = "cmd/keymanager";
/// Mode of policy and status files, which hold no secrets.
const PUBLIC_MODE: u32 = 0o644;
/// Bytes of a checksum of secrets.
const CHECKSUM_BYTES: usize = 32;
/// Test keys that may sign policies. Source: `go/keymanager/api`.
const TEST_KEYS: [&str; 4] = [
    "ekiden test key manager RAK seed",
    "ekiden key manager test multisig key 0",
    "ekiden key manager test multisig key 1",
    "ekiden key manager test multisig key 2",
];
const KEY_PEM: &str = "ED25519 PUBLIC KEY";
const SIGNATURE_PEM: &str = "ED25519 SIGNATURE";

/// The options whose order matters: what follows an enclave belongs to it.
const ENCLAVE: &str = "keymanager.policy.enclave.id";
const MAY_QUERY: &str = "keymanager.policy.may.query";
const MAY_REPLICATE: &str = "keymanager.policy.may.replicate";

/// Subcommands of `keymanager`.
#[derive(Subcommand)]
pub(crate) enum KeymanagerCommand {
    /// Generate keymanager policy file.
    #[command(name = "init_policy")]
    InitPolicy(PolicyArgs),
    /// Sign keymanager policy file.
    #[command(name = "sign_policy")]
    SignPolicy {
        #[command(flatten)]
        files: FileArgs,
        /// File of the key (PEM).
        #[arg(long = "keymanager.policy.key.file")]
        key: Option<PathBuf>,
        /// Number of the test key to use, from 1 (test networks only).
        #[arg(long = "keymanager.policy.testkey", hide = true, default_value_t = 0)]
        test_key: usize,
    },
    /// Verify keymanager policy file and (optionally) its signature.
    #[command(name = "verify_policy")]
    VerifyPolicy {
        #[command(flatten)]
        files: FileArgs,
        /// Only check that the policy is well formed.
        #[arg(long = "keymanager.policy.ignore.signature")]
        ignore_signature: bool,
        /// Show the policy.
        #[arg(short = 'v', long)]
        verbose: bool,
    },
    /// Generate keymanager status file.
    #[command(name = "init_status")]
    InitStatus(StatusArgs),
    /// Generate an update transaction.
    #[command(name = "gen_update")]
    GenUpdate {
        #[command(flatten)]
        files: FileArgs,
        #[command(flatten)]
        tx: TxArgs,
    },
}

/// A policy and its signatures.
#[derive(clap::Args)]
pub(crate) struct FileArgs {
    /// File of the policy (CBOR).
    #[arg(long = "keymanager.policy.file", default_value = "", hide_default_value = true, value_parser = path_or_none)]
    policy: PathBuf,
    /// File(s) of signatures (PEM).
    #[arg(long = "keymanager.policy.signature.file", value_delimiter = ',')]
    signatures: Vec<PathBuf>,
}

/// What a policy says.
#[derive(clap::Args)]
pub(crate) struct PolicyArgs {
    #[command(flatten)]
    files: FileArgs,
    /// Number of the policy, which grows.
    #[arg(long = "keymanager.policy.serial")]
    serial: u32,
    /// Runtime that the policy is for (64 hexadecimal digits).
    #[arg(long = "keymanager.policy.id")]
    id: Namespace,
    /// Enclave of the key manager (128 hexadecimal digits); permissions that follow are its.
    #[arg(long = ENCLAVE)]
    _enclaves: Vec<String>,
    /// Enclaves that may have the master secrets: ID,ID,...
    #[arg(long = MAY_REPLICATE)]
    _may_replicate: Vec<String>,
    /// Enclaves of a runtime that may have keys: RUNTIME=ID,ID,...
    #[arg(long = MAY_QUERY)]
    _may_query: Vec<String>,
    /// Epochs between new master secrets.
    #[arg(long = "keymanager.policy.master_secret_rotation_interval", default_value_t = 0)]
    rotation_interval: Epoch,
}

/// What a status says.
#[derive(clap::Args)]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    files: FileArgs,
    /// Runtime that the status is for (64 hexadecimal digits).
    #[arg(long = "keymanager.status.id")]
    id: Namespace,
    /// File of the status (JSON).
    #[arg(long = "keymanager.status.file", default_value = "km_status.json")]
    file: PathBuf,
    /// Whether the key manager is initialized.
    #[arg(long = "keymanager.status.initialized", num_args = 0..=1, require_equals = true, default_value = "false",
        default_missing_value = "true", action = clap::ArgAction::Set)]
    initialized: bool,
    /// Whether it is secure.
    #[arg(long = "keymanager.status.secure", num_args = 0..=1, require_equals = true, default_value = "false",
        default_missing_value = "true", action = clap::ArgAction::Set)]
    secure: bool,
    /// Checksum of its master secret (hexadecimal).
    #[arg(long = "keymanager.status.checksum", default_value = "", hide_default_value = true)]
    checksum: String,
    /// Its runtime signing key (base64).
    #[arg(long = "keymanager.status.rsk")]
    rsk: Option<PublicKey>,
}

/// A path; an empty one, as the reference's tools write "none", is none.
#[allow(clippy::unnecessary_wraps)] // The form of a value parser.
fn path_or_none(text: &str) -> Result<PathBuf, std::convert::Infallible> {
    Ok(PathBuf::from(text))
}

pub(crate) fn run(command: &KeymanagerCommand, session: &Session, line: &[OsString]) -> ExitCode {
    end(dispatch(command, session, line))
}

fn dispatch(command: &KeymanagerCommand, session: &Session, line: &[OsString]) -> Done {
    match command {
        KeymanagerCommand::InitPolicy(args) => init_policy(args, line),
        KeymanagerCommand::SignPolicy { files, key, test_key } => {
            let signed = sign(session, files, key.as_deref(), *test_key);
            let signature = signed.or_fail(MODULE, "failed to sign policy")?;
            let Some(path) = files.signatures.first() else {
                return Err(Failure::new(MODULE, "failed to write policy file signature: no file given"));
            };
            let saved = write_file(path, signature_pem(&signature).as_bytes(), FILE_MODE);
            saved.or_fail(MODULE, "failed to write policy file signature")
        }
        KeymanagerCommand::VerifyPolicy { files, ignore_signature, verbose } => {
            let what = "failed to verify policy";
            let (policy, raw) = read_policy(&files.policy).or_fail(MODULE, what)?;
            if *verbose {
                print_json(&policy);
            }
            if !ignore_signature {
                for signature in read_signatures(&files.signatures).or_fail(MODULE, what)? {
                    let verified = signature.verify(&KEYMANAGER_POLICY, None, &raw);
                    verified.map_err(|_| "signature is not valid for given policy").or_fail(MODULE, what)?;
                }
            }
            Ok(())
        }
        KeymanagerCommand::InitStatus(args) => {
            let status = status(args).or_fail(MODULE, "failed to generate status")?;
            let text = base_codec::json::to_string_pretty(&status);
            let saved = write_file(&args.file, text.as_bytes(), PUBLIC_MODE);
            saved.or_fail(MODULE, "failed to write key manager status json file")
        }
        KeymanagerCommand::GenUpdate { files, tx } => {
            let doc = tx.prepare(session)?;
            let (policy, _) = read_policy(&files.policy).or_fail(MODULE, "failed to unmarshal policy file")?;
            let signatures = read_signatures(&files.signatures).or_fail(MODULE, "failed to read signature file")?;
            let signed = SignedPolicySgx { policy, signatures: (!signatures.is_empty()).then_some(signatures) };
            let blacklist = doc.blacklist(session.options.local().allow_test_keys);
            signed.verify(None, &blacklist).or_fail(MODULE, "failed to validate SignedPolicySGX")?;
            tx.save(session, &doc, METHOD_UPDATE_POLICY, &signed)
        }
    }
}

fn init_policy(args: &PolicyArgs, line: &[OsString]) -> Done {
    let enclaves = enclaves(line).or_fail(MODULE, "failed to parse enclave permissions")?;
    let policy = PolicySgx {
        serial: args.serial,
        id: args.id,
        enclaves: Some(enclaves),
        master_secret_rotation_interval: args.rotation_interval,
        ..PolicySgx::default()
    };
    let saved = write_file(&args.files.policy, &cbor::to_vec(&policy), PUBLIC_MODE);
    saved.or_fail(MODULE, "failed to write key manager policy cbor file")?;
    tracing::info!(module = MODULE, id = %policy.id, "generated key manager policy file");
    Ok(())
}

/// An enclave as these commands take it: 64 bytes in hexadecimal digits, measurement first.
fn enclave(text: &str) -> Result<EnclaveIdentity, String> {
    let bytes = hex::decode(text).ok();
    let halves = bytes.as_deref().and_then(|bytes| bytes.split_at_checked(bytes.len() / 2));
    let identity = halves.and_then(|(enclave, signer)| {
        Some(EnclaveIdentity { mr_enclave: enclave.try_into().ok()?, mr_signer: signer.try_into().ok()? })
    });
    identity.ok_or_else(|| format!("malformed enclave ID {text:?}: expected 128 hexadecimal digits"))
}

fn enclave_list(text: &str) -> Result<Vec<EnclaveIdentity>, String> {
    text.split(',').map(enclave).collect()
}

/// Permissions by enclave, in the order of the command line.
fn enclaves(line: &[OsString]) -> Result<BTreeMap<EnclaveIdentity, Option<EnclavePolicySgx>>, String> {
    let mut found = BTreeMap::new();
    let mut current: Option<(EnclaveIdentity, EnclavePolicySgx)> = None;
    let mut words = line.iter().map(|word| word.to_string_lossy().into_owned());
    while let Some(word) = words.next() {
        let Some(option) = word.strip_prefix("--") else { continue };
        let (name, value) = match option.split_once('=') {
            Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
            None => (option.to_owned(), None),
        };
        if ![ENCLAVE, MAY_QUERY, MAY_REPLICATE].contains(&name.as_str()) {
            continue;
        }
        let value = value.or_else(|| words.next()).unwrap_or_default();
        if name == ENCLAVE {
            let id = enclave(&value)?;
            let empty = EnclavePolicySgx { may_query: Some(BTreeMap::new()), may_replicate: Some(Vec::new()) };
            if let Some((id, policy)) = current.replace((id, empty)) {
                found.insert(id, Some(policy));
            }
            continue;
        }
        let Some((_, policy)) = &mut current else { continue };
        if name == MAY_REPLICATE {
            policy.may_replicate.get_or_insert_default().extend(enclave_list(&value)?);
        } else {
            let (runtime, ids) = value.split_once('=').ok_or_else(|| format!("{value:?} is not RUNTIME=ID,ID,..."))?;
            let runtime: Namespace = runtime.parse().map_err(|_| format!("malformed runtime ID {runtime:?}"))?;
            policy.may_query.get_or_insert_default().insert(runtime, Some(enclave_list(ids)?));
        }
    }
    found.extend(current.map(|(id, policy)| (id, Some(policy))));
    Ok(found)
}

/// A policy, and its bytes, which must be the canonical ones.
fn read_policy(path: &Path) -> Result<(PolicySgx, Vec<u8>), String> {
    let raw = read_bytes(path)?;
    let policy: PolicySgx = cbor::from_slice(&raw).map_err(|error| format!("{}: {error}", path.display()))?;
    if cbor::to_vec(&policy) != raw {
        return Err("policy file not in canonical form".to_owned());
    }
    Ok((policy, raw))
}

fn sign(session: &Session, files: &FileArgs, key: Option<&Path>, number: usize) -> Result<Signature, String> {
    let key = match (key, number) {
        (Some(path), _) => load_key_file(path).map_err(|error| error.to_string())?,
        (None, 0) => return Err("no private key file or test key provided".to_owned()),
        (None, _) if !session.options.dont_blame_oasis => {
            return Err("refusing to use test keys for signing".to_owned());
        }
        (None, number) => test_key(TEST_KEYS.get(number - 1).ok_or("test key index invalid")?),
    };
    let (_, raw) = read_policy(&files.policy)?;
    Signature::sign(&key, &KEYMANAGER_POLICY, None, &raw).map_err(|error| error.to_string())
}

fn signature_pem(signature: &Signature) -> String {
    let key = pem::encode(KEY_PEM, signature.public_key.as_bytes());
    let signature = pem::encode(SIGNATURE_PEM, signature.signature.as_bytes());
    format!("{}{}", key.as_str(), signature.as_str())
}

fn read_signatures(paths: &[PathBuf]) -> Result<Vec<Signature>, String> {
    paths.iter().map(|path| read_signature(path)).collect()
}

fn read_signature(path: &Path) -> Result<Signature, String> {
    let wrong = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let text = read_text(path)?;
    let at = text.rfind("-----BEGIN").ok_or_else(|| wrong(&"holds no PEM block"))?;
    let (key, signature) = text.split_at(at);
    let key = pem::decode(KEY_PEM, key.as_bytes()).map_err(|error| wrong(&error))?;
    let signature = pem::decode(SIGNATURE_PEM, signature.as_bytes()).map_err(|error| wrong(&error))?;
    let key: [u8; 32] = key.as_slice().try_into().map_err(|_| wrong(&"key is not 32 bytes long"))?;
    let signature: [u8; 64] = signature.as_slice().try_into().map_err(|_| wrong(&"signature is not 64 bytes long"))?;
    Ok(Signature { public_key: key.into(), signature: RawSignature::new(signature) })
}

fn status(args: &StatusArgs) -> Result<Status, String> {
    let policy = if args.files.policy.as_os_str().is_empty() {
        None
    } else {
        let (policy, _) = read_policy(&args.files.policy)?;
        let signatures = read_signatures(&args.files.signatures)?;
        Some(SignedPolicySgx { policy, signatures: (!signatures.is_empty()).then_some(signatures) })
    };
    if args.checksum.is_empty() == args.initialized {
        return Err(
            "keymanager.status.checksum is needed if keymanager.status.initialized is true, and only then".into()
        );
    }
    if args.rsk.is_some() && !args.initialized {
        return Err("keymanager.status.rsk provided, but keymanager.status.initialized is false".to_owned());
    }
    let checksum = decode_hex(&args.checksum)?;
    if !checksum.is_empty() && checksum.len() != CHECKSUM_BYTES {
        return Err(format!("checksum {} is not {CHECKSUM_BYTES} bytes long", args.checksum));
    }
    Ok(Status {
        id: args.id,
        is_initialized: args.initialized,
        is_secure: args.secure,
        checksum: Some(Bytes(checksum)),
        policy,
        rsk: args.rsk,
        ..Status::default()
    })
}

fn decode_hex(text: &str) -> Result<Vec<u8>, String> {
    hex::decode(text).map_err(|_| format!("{text:?} is not hexadecimal"))
}
