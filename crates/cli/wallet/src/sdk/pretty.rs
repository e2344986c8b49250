//! Transactions of ParaTimes as people read them.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use base_codec::json::{Map, Value, to_string_pretty, value_to_string_pretty};
use base_codec::{Bytes, cbor};
use base_prims::{Address, Quantity};
use base64::{Engine as _, prelude::BASE64_STANDARD};

use super::{
    BaseUnits, Fee, MaybeToAmount, SignatureSpec, SigningContext, ToAmount, Transaction, Undelegate,
    UnverifiedTransaction, method,
};
use crate::commands::contract;
use crate::config::ParaTime;
use crate::wallet::keys::{ethereum_text, verifies};

/// What the text depends on besides the transaction.
#[derive(Debug)]
pub(crate) struct Context<'a> {
    pub(crate) paratime: Option<&'a ParaTime>,
    pub(crate) signing: SigningContext,
    pub(crate) names: BTreeMap<Address, String>,
    pub(crate) ethereum: BTreeMap<Address, String>,
}

/// Deepest value that is shown decoded.
const MAX_DEPTH: usize = 32;

/// A value of unknown form as JSON: byte strings in base64 (or hexadecimal), maps in the order of their keys. `None` if it
/// cannot be shown.
pub(crate) fn generic(bytes: &[u8], hexadecimal: bool) -> Option<Value> {
    let mut decoder = cbor::Decoder::relaxed(bytes).ok()?;
    let value = item(&mut decoder, hexadecimal, 0)?;
    decoder.finish().ok()?;
    Some(value)
}

fn item(d: &mut cbor::Decoder<'_>, hexadecimal: bool, depth: usize) -> Option<Value> {
    use cbor::Kind;
    if depth > MAX_DEPTH {
        return None;
    }
    if d.take_null() {
        return Some(Value::Null);
    }
    match d.kind().ok()? {
        Kind::Bytes => {
            let bytes = d.bytes().ok()?;
            Some(Value::String(if hexadecimal { hex::encode(bytes) } else { BASE64_STANDARD.encode(bytes) }))
        }
        Kind::Text => Some(Value::String(d.text().ok()?.to_owned())),
        Kind::Array => {
            let count = d.array().ok()?;
            (0..count).map(|_| item(d, hexadecimal, depth + 1)).collect::<Option<Vec<_>>>().map(Value::Array)
        }
        Kind::Map => {
            let mut entries = BTreeMap::new();
            for _ in 0..d.map().ok()? {
                let Value::String(key) = item(d, hexadecimal, depth + 1)? else { return None };
                entries.insert(key, item(d, hexadecimal, depth + 1)?);
            }
            Some(Value::Object(entries.into_iter().collect::<Map<_, _>>()))
        }
        Kind::Bool => d.bool().ok().map(Value::Bool),
        _ => {
            let number = d.integer().ok()?.value();
            i64::try_from(number).map(Value::from).or_else(|_| u64::try_from(number).map(Value::from)).ok()
        }
    }
}

/// JSON whose lines after the first begin with `prefix`.
pub(crate) fn indented(json: &str, prefix: &str) -> String {
    json.replace('\n', &format!("\n{prefix}"))
}

struct Writer<'a> {
    cx: &'a Context<'a>,
    out: &'a mut String,
}

impl Writer<'_> {
    fn line(&mut self, prefix: &str, text: std::fmt::Arguments<'_>) {
        // Writing into a string cannot fail.
        let _ = writeln!(self.out, "{prefix}{text}");
    }

    fn amount(&self, units: &BaseUnits) -> String {
        self.quantity(&units.amount, units)
    }

    fn quantity(&self, amount: &Quantity, units: &BaseUnits) -> String {
        match self.cx.paratime {
            Some(paratime) => paratime.amount(amount, &units.denomination),
            None => "<error: ParaTime information not available>".to_owned(),
        }
    }

    fn address(&self, address: &Address) -> String {
        let ethereum = self.cx.ethereum.get(address);
        let shown = match self.cx.signing.original_to {
            Some(original) if super::address::of_ethereum(&original) == *address => Some(ethereum_text(&original)),
            _ => ethereum.cloned(),
        };
        match (self.cx.names.get(address), shown) {
            (Some(name), Some(ethereum)) => format!("{name} ({ethereum})"),
            (Some(name), None) => format!("{name} ({address})"),
            (None, Some(ethereum)) => format!("{ethereum} ({address})"),
            (None, None) => address.to_string(),
        }
    }

    fn body(&mut self, tx: &Transaction, prefix: &str) {
        let call = &tx.call;
        let to_amount = |writer: &mut Self, to: String, amount: &BaseUnits| {
            let amount = writer.amount(amount);
            writer.line(prefix, format_args!("To: {to}"));
            writer.line(prefix, format_args!("Amount: {amount}"));
        };
        match call.method.as_str() {
            method::TRANSFER | method::DELEGATE => {
                if let Ok(body) = call.body.decode_as::<ToAmount>() {
                    let to = self.address(&body.to);
                    return to_amount(self, to, &body.amount);
                }
            }
            method::DEPOSIT | method::WITHDRAW => {
                if let Ok(body) = call.body.decode_as::<MaybeToAmount>() {
                    let to = body.to.map_or_else(|| "Self".to_owned(), |to| self.address(&to));
                    return to_amount(self, to, &body.amount);
                }
            }
            method::UNDELEGATE => {
                if let Ok(body) = call.body.decode_as::<Undelegate>() {
                    let from = self.address(&body.from);
                    self.line(prefix, format_args!("From: {from}"));
                    return self.line(prefix, format_args!("Shares: {}", body.shares));
                }
            }
            _ => {}
        }
        let json = contract::body_json(call).or_else(|| {
            generic(&call.body, false).filter(Value::is_object).map(|value| value_to_string_pretty(&value))
        });
        let json = json.unwrap_or_else(|| to_string_pretty(&Bytes::from(call.body.as_slice())));
        let json = indented(&json, prefix);
        self.line(prefix, format_args!("{json}"));
    }

    fn fee(&mut self, fee: &Fee, prefix: &str) {
        let amount = self.amount(&fee.amount);
        let price = fee.amount.amount.quo(&Quantity::from(fee.gas)).unwrap_or_default();
        let price = self.quantity(&price, &fee.amount);
        self.line(prefix, format_args!("Amount: {amount}"));
        self.line(prefix, format_args!("Gas limit: {}", fee.gas));
        self.line(prefix, format_args!("(gas price: {price} per gas unit)"));
        if let Some(proxy) = &fee.proxy {
            self.line(prefix, format_args!("Fee proxy:"));
            self.line(prefix, format_args!("  Module: {}", proxy.module));
            self.line(prefix, format_args!("  ID:     {}", hex::encode(proxy.id.as_slice())));
        }
    }

    fn transaction(&mut self, tx: &Transaction, prefix: &str) {
        let format = match tx.call.format {
            0 => "plain",
            super::call::ENCRYPTED => "encrypted/x25519-deoxysii",
            _ => "[unknown]",
        };
        let inner = format!("{prefix}  ");
        self.line(prefix, format_args!("Format: {format}"));
        if !tx.call.method.is_empty() {
            self.line(prefix, format_args!("Method: {}", tx.call.method));
        }
        self.line(prefix, format_args!("Body:"));
        self.body(tx, &inner);
        self.line(prefix, format_args!("Authorized signer(s):"));
        for (index, info) in tx.auth.signers.iter().enumerate() {
            let who = match (&info.address_spec.signature, &info.address_spec.multisig) {
                (Some(spec), _) => key_text(spec),
                (None, Some(group)) => format!("{} of {} (multisig)", group.threshold, group.signers.len()),
                (None, None) => "(malformed)".to_owned(),
            };
            self.line(prefix, format_args!("  {}. {who}", index + 1));
            self.line(prefix, format_args!("     Nonce: {}", info.nonce));
        }
        self.line(prefix, format_args!("Fee:"));
        self.fee(&tx.auth.fee, &inner);
    }

    fn signed(&mut self, signed: &UnverifiedTransaction) {
        self.line("", format_args!("Hash: {}", signed.hash()));
        let tx: Transaction = match cbor::from_slice(&signed.body) {
            Ok(tx) => tx,
            Err(error) => return self.line("", format_args!("  <error: malformed transaction body: {error}>")),
        };
        self.line("", format_args!("Signer(s):"));
        let mut number = 0;
        for (info, proof) in tx.auth.signers.iter().zip(&signed.auth_proofs) {
            let mut made: Vec<(SignatureSpec, &Bytes)> = Vec::new();
            if let Some(spec) = info.address_spec.signature.clone().filter(|_| !proof.signature.is_empty()) {
                made.push((spec, &proof.signature));
            }
            if let (Some(group), Some(signatures)) = (&info.address_spec.multisig, &proof.multisig) {
                for (member, signature) in group.signers.iter().zip(signatures) {
                    let Some(signature) = signature else { continue };
                    let key = member.public_key.clone();
                    let spec =
                        SignatureSpec { ed25519: key.ed25519, secp256k1eth: key.secp256k1, sr25519: key.sr25519 };
                    made.push((spec, signature));
                }
            }
            for (spec, signature) in made {
                number += 1;
                let key = spec.key().map(|(_, key)| BASE64_STANDARD.encode(key.as_slice())).unwrap_or_default();
                self.line("", format_args!("  {number}. {key}"));
                self.line("", format_args!("     (signature: {})", BASE64_STANDARD.encode(signature.as_slice())));
                if !verifies(&spec, &self.cx.signing, &signed.body, signature) {
                    self.line("", format_args!("     [INVALID SIGNATURE]"));
                }
            }
        }
        self.line("", format_args!("Content:"));
        self.transaction(&tx, "  ");
    }
}

fn key_text(spec: &SignatureSpec) -> String {
    match spec.key() {
        Some((kind, key)) => format!("{} ({kind})", BASE64_STANDARD.encode(key.as_slice())),
        None => "(malformed)".to_owned(),
    }
}

/// The text of a transaction without signatures.
pub(crate) fn transaction(tx: &Transaction, cx: &Context<'_>) -> String {
    let mut out = String::new();
    Writer { cx, out: &mut out }.transaction(tx, "");
    out
}

/// The text of a transaction with its signatures.
pub(crate) fn signed(tx: &UnverifiedTransaction, cx: &Context<'_>) -> String {
    let mut out = String::new();
    Writer { cx, out: &mut out }.signed(tx);
    out
}
