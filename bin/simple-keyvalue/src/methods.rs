//! The methods. Texts of errors are those of the reference where tests look at them.

use std::collections::BTreeMap;

use base_codec::{
    Bytes, Raw,
    cbor::{Decode, Encode, Encoder},
};
use base_crypto::{hash::sha512_256, mrae};
use mkvs_tree::{KvRead, KvWrite};
use rt_guest::{Context, Tag};
use rt_keymanager::client::KeyManager;
use wire_consensus::roothash::{
    Message,
    message::{RegistryMessage, StakingMessage},
};

use crate::{
    block::pending_key,
    encrypted,
    types::{
        AddEscrow, Call, Decrypt, Encrypt, FullAccount, Insert, KeyArgs, ReclaimEscrow, Transfer, UpdateRuntime,
        Withdraw,
    },
};

/// First byte of the keys of senders' next numbers.
const NONCE: u8 = 0xff;

/// Longest value in bytes.
const MAX_VALUE_BYTES: usize = 128;

/// A transaction, or a query, at work.
pub(crate) struct Tx<'a, 'c> {
    pub(crate) ctx: &'a mut Context<'c>,
    pub(crate) keys: &'a dyn KeyManager,
    /// Messages of the batch so far.
    pub(crate) messages: &'a mut Vec<Message>,
    pub(crate) tags: Vec<Tag>,
    pub(crate) check_only: bool,
}

type Result<T> = std::result::Result<T, String>;

fn text(error: impl ToString) -> String {
    error.to_string()
}

fn call<A: Decode, R: Encode>(
    tx: &mut Tx<'_, '_>,
    args: &Raw,
    f: impl FnOnce(&mut Tx<'_, '_>, A) -> Result<R>,
) -> Result<Raw> {
    let args = args.decode_as().map_err(|_| "malformed call arguments".to_owned())?;
    Ok(Raw::of(&f(tx, args)?))
}

/// Runs a transaction.
pub(crate) fn dispatch(tx: &mut Tx<'_, '_>, c: &Call) -> Result<Raw> {
    check_nonce(tx, c)?;
    let args = &c.args;
    match c.method.as_str() {
        "get_runtime_id" => call(tx, args, runtime_id),
        "consensus_accounts" => call(tx, args, consensus_accounts),
        "consensus_withdraw" => call(tx, args, |tx, a: Withdraw| {
            staking(tx, "withdraw", StakingMessage { withdraw: Some(a.withdraw), ..StakingMessage::default() })
        }),
        "consensus_transfer" => call(tx, args, |tx, a: Transfer| {
            staking(tx, "transfer", StakingMessage { transfer: Some(a.transfer), ..StakingMessage::default() })
        }),
        "consensus_add_escrow" => call(tx, args, |tx, a: AddEscrow| {
            staking(tx, "add_escrow", StakingMessage { add_escrow: Some(a.escrow), ..StakingMessage::default() })
        }),
        "consensus_reclaim_escrow" => call(tx, args, |tx, a: ReclaimEscrow| {
            let reclaim_escrow = Some(a.reclaim_escrow);
            staking(tx, "reclaim_escrow", StakingMessage { reclaim_escrow, ..StakingMessage::default() })
        }),
        "update_runtime" => call(tx, args, |tx, a: UpdateRuntime| {
            let registry = RegistryMessage { v: 0, update_runtime: Some(a.update_runtime) };
            emit(tx, "update_runtime", Message { registry: Some(registry), ..Message::default() })
        }),
        "insert" => call(tx, args, insert),
        "get" => call(tx, args, get),
        "remove" => call(tx, args, remove),
        "enc_insert" => call(tx, args, |tx, a: Insert| {
            with_key(tx, &a.key, Source::Generation(a.generation), |tx, key| {
                encrypted::insert(&mut tx.ctx.state, key, a.key.as_bytes(), a.value.as_bytes())
            })
        }),
        "churp_insert" => call(tx, args, |tx, a: Insert| {
            with_key(tx, &a.key, Source::Churp(a.churp_id), |tx, key| {
                encrypted::insert(&mut tx.ctx.state, key, a.key.as_bytes(), a.value.as_bytes())
            })
        }),
        "enc_get" => call(tx, args, enc_get),
        "churp_get" => call(tx, args, |tx, a: KeyArgs| {
            with_key(tx, &a.key, Source::Churp(a.churp_id), |tx, key| {
                encrypted::get(&tx.ctx.state, key, a.key.as_bytes())
            })
        }),
        "enc_remove" => call(tx, args, |tx, a: KeyArgs| {
            with_key(tx, &a.key, Source::Generation(a.generation), |tx, key| {
                encrypted::remove(&mut tx.ctx.state, key, a.key.as_bytes())
            })
        }),
        "churp_remove" => call(tx, args, |tx, a: KeyArgs| {
            with_key(tx, &a.key, Source::Churp(a.churp_id), |tx, key| {
                encrypted::remove(&mut tx.ctx.state, key, a.key.as_bytes())
            })
        }),
        "encrypt" => call(tx, args, encrypt),
        "decrypt" => call(tx, args, decrypt),
        _ => Err("method not found".to_owned()),
    }
}

/// Answers a query.
pub(crate) fn query(tx: &mut Tx<'_, '_>, method: &str, args: &[u8]) -> Result<Raw> {
    let args = Raw(args.to_vec());
    match method {
        "get_runtime_id" => call(tx, &args, runtime_id),
        "get" => call(tx, &args, get),
        "enc_get" => call(tx, &args, enc_get),
        _ => Err("method not found".to_owned()),
    }
}

fn nonce_key(sender: &[u8]) -> Vec<u8> {
    [&[NONCE], sender].concat()
}

/// The number of a sender's next transaction.
pub(crate) fn nonce(tx: &Tx<'_, '_>, sender: &[u8]) -> Result<u64> {
    match tx.ctx.state.get(&nonce_key(sender)).map_err(text)? {
        None => Ok(0),
        Some(raw) => raw.try_into().map(u64::from_be_bytes).map_err(|_| "malformed nonce".to_owned()),
    }
}

fn check_nonce(tx: &mut Tx<'_, '_>, c: &Call) -> Result<()> {
    let next = nonce(tx, &c.sender)?;
    let invalid = || format!("Invalid nonce: {}", c.nonce);
    if c.nonce < next || (!tx.check_only && c.nonce != next) {
        return Err(invalid());
    }
    if tx.check_only {
        return Ok(());
    }
    let after = c.nonce.checked_add(1).ok_or_else(invalid)?;
    tx.ctx.state.insert(&nonce_key(&c.sender), &after.to_be_bytes()).map_err(text)
}

fn runtime_id(tx: &mut Tx<'_, '_>, _: Raw) -> Result<Option<String>> {
    Ok(Some(tx.ctx.host.runtime_id().to_string()))
}

/// A list of two.
struct Pair<A, B>(A, B);

impl<A: Encode, B: Encode> Encode for Pair<A, B> {
    fn encode(&self, e: &mut Encoder) {
        e.array(2);
        self.0.encode(e);
        self.1.encode(e);
    }
}

/// All accounts and delegations of the consensus layer.
fn consensus_accounts(tx: &mut Tx<'_, '_>, _: Raw) -> Result<impl Encode + use<>> {
    if tx.check_only {
        return Ok(Pair(BTreeMap::new(), Default::default()));
    }
    let accounts = tx.ctx.consensus.accounts().map_err(text)?;
    let accounts = accounts.into_iter().map(|(address, account)| (address, FullAccount::from(account))).collect();
    Ok(Pair(accounts, tx.ctx.consensus.delegations().map_err(text)?))
}

fn staking(tx: &mut Tx<'_, '_>, kind: &str, message: StakingMessage) -> Result<Raw> {
    emit(tx, kind, Message { staking: Some(message), ..Message::default() })
}

/// Emits a message and notes of which kind it is, so that its result is understood in the next round.
fn emit(tx: &mut Tx<'_, '_>, kind: &str, message: Message) -> Result<Raw> {
    if tx.ctx.max_messages < 1 {
        return Err("message limit too low".to_owned());
    }
    if tx.check_only {
        return Ok(Raw::default());
    }
    let index = u32::try_from(tx.messages.len()).map_err(text)?;
    tx.messages.push(message);
    tx.ctx.state.insert(&pending_key(index), kind.as_bytes()).map_err(text)?;
    Ok(Raw::default())
}

fn utf8(value: Option<Vec<u8>>) -> Result<Option<String>> {
    value.map(String::from_utf8).transpose().map_err(text)
}

fn insert(tx: &mut Tx<'_, '_>, args: Insert) -> Result<Option<String>> {
    if args.value.len() > MAX_VALUE_BYTES {
        return Err("Value too big to be inserted.".to_owned());
    }
    if tx.check_only {
        return Ok(None);
    }
    let key = args.key.as_bytes();
    tx.tags.push(Tag::new(*b"kv_op", *b"insert"));
    tx.tags.push(Tag::new(*b"kv_key", key));
    // With the key in the tag's key, insertions of one key can be subscribed to.
    tx.tags.push(Tag::new([b"kv_insertion.", key].concat(), []));
    utf8(tx.ctx.state.replace(key, args.value.as_bytes()).map_err(text)?)
}

fn get(tx: &mut Tx<'_, '_>, args: KeyArgs) -> Result<Option<String>> {
    if tx.check_only {
        return Ok(None);
    }
    tx.tags.push(Tag::new(*b"kv_op", *b"get"));
    tx.tags.push(Tag::new(*b"kv_key", args.key.as_bytes()));
    utf8(tx.ctx.state.get(args.key.as_bytes()).map_err(text)?)
}

fn remove(tx: &mut Tx<'_, '_>, args: KeyArgs) -> Result<Option<String>> {
    if tx.check_only {
        return Ok(None);
    }
    tx.tags.push(Tag::new(*b"kv_op", *b"remove"));
    tx.tags.push(Tag::new(*b"kv_key", args.key.as_bytes()));
    utf8(tx.ctx.state.take(args.key.as_bytes()).map_err(text)?)
}

/// Where a key for values comes from.
enum Source {
    /// The master secret of a generation.
    Generation(u64),
    /// A secret sharing instance.
    Churp(u8),
}

fn with_key(
    tx: &mut Tx<'_, '_>,
    key: &str,
    source: Source,
    f: impl FnOnce(&mut Tx<'_, '_>, &mrae::SymmetricKey) -> Result<Option<Vec<u8>>>,
) -> Result<Option<String>> {
    if tx.check_only {
        return Ok(None);
    }
    let id = sha512_256(&[key.as_bytes()]);
    let state_key = match source {
        Source::Generation(generation) => tx.keys.keys(&id, generation).map(|pair| pair.state_key),
        Source::Churp(churp) => tx.keys.churp_state_key(churp, &id),
    };
    let state_key = state_key.map_err(text)?;
    utf8(f(tx, &mrae::SymmetricKey::from_bytes(&state_key))?)
}

fn enc_get(tx: &mut Tx<'_, '_>, args: KeyArgs) -> Result<Option<String>> {
    with_key(tx, &args.key, Source::Generation(args.generation), |tx, key| {
        encrypted::get(&tx.ctx.state, key, args.key.as_bytes())
    })
}

/// Encrypts for an ephemeral key. The sender's key follows from the name, which is for tests alone.
fn encrypt(tx: &mut Tx<'_, '_>, args: Encrypt) -> Result<Option<Bytes>> {
    if tx.check_only {
        return Ok(None);
    }
    let id = sha512_256(&[args.key_pair_id.as_bytes()]);
    let public = tx.keys.public_ephemeral_key(&id, args.epoch).map_err(text)?;
    let secret = mrae::BoxSecretKey::from_bytes(&id);
    let sealed = mrae::seal(&secret, public.key.as_bytes(), &[0; mrae::NONCE_LEN], &args.plaintext, &[])
        .map_err(|e| format!("failed to encrypt plaintext: {e}"))?;
    Ok(Some(Bytes([&secret.public()[..], &sealed].concat())))
}

fn decrypt(tx: &mut Tx<'_, '_>, args: Decrypt) -> Result<Option<Bytes>> {
    if tx.check_only {
        return Ok(None);
    }
    let id = sha512_256(&[args.key_pair_id.as_bytes()]);
    let pair = tx.keys.ephemeral_keys(&id, args.epoch);
    let pair = pair.map_err(|e| format!("private ephemeral key not available: {e}"))?;
    let (public, sealed) = args.ciphertext.split_first_chunk::<32>().ok_or("invalid ciphertext")?;
    let secret = mrae::BoxSecretKey::from_bytes(&pair.input_secret);
    let opened = mrae::open(&secret, public, &[0; mrae::NONCE_LEN], sealed, &[])
        .map_err(|e| format!("failed to decrypt ciphertext: {e}"))?;
    Ok(Some(Bytes(opened)))
}
