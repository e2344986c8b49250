//! Transactions as text and JSON for people.
//!
//! The text is the reference's, line for line; where an encoding is malformed, only the wording of the error in angle
//! brackets is this project's own. Source: `go/common/prettyprint`, `go/consensus/api/transaction`,
//! `go/staking/api/{prettyprint.go,token}`, and the pretty-printing methods of the services' types.

use std::collections::BTreeMap;
use std::fmt;

use base_codec::{
    Bytes, cbor,
    json::{self, Map, ToJson, Value},
};
use base_crypto::context::ChainContext;
use base_prims::{Address, Hash, Quantity};
use base64::{Engine as _, engine::general_purpose::STANDARD};

use crate::{
    staking::{COMMISSION_RATE_DENOMINATOR, TOKEN_SYMBOL_MAX_CHARS, TOKEN_VALUE_EXPONENT_MAX},
    transaction::{Fee, SIGNATURE_CONTEXT, SignedTransaction, Transaction},
};

mod bodies;
#[cfg(test)]
mod tests;
mod value;

/// Base-10 exponent of the denominator of commission rates in percent.
const COMMISSION_PERCENT_EXPONENT: u8 = 3;
const _: () = assert!(COMMISSION_RATE_DENOMINATOR == 100 * 10u64.pow(COMMISSION_PERCENT_EXPONENT as u32));

/// What the text depends on besides the transaction.
#[derive(Clone, Debug, Default)]
pub struct PrettyContext {
    /// The chain whose signatures count. Without it no signature does, and the text says that it is invalid.
    pub chain: Option<ChainContext>,
    /// Symbol of the token, 1 to 8 bytes. Without it, or without the exponent, amounts are in base units.
    pub token_symbol: Option<String>,
    /// How many decimal places a token has, at most 20.
    pub token_value_exponent: Option<u8>,
    /// Names that are put before addresses of accounts in staking transactions.
    pub account_names: BTreeMap<Address, String>,
    /// Hash of the genesis document, added at the end if it is there.
    pub genesis_hash: Option<Hash>,
}

/// Why a transaction has no JSON for people.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PrettyError {
    /// No type is known for the method's body.
    #[error("unknown method body type: {method}")]
    UnknownMethod {
        /// The method.
        method: String,
    },
    /// The transaction or its body is malformed.
    #[error("malformed: {0}")]
    Malformed(#[from] cbor::Error),
    /// A value in the body has no text form.
    #[error("the body of {method} has a value without a text form")]
    NoText {
        /// The method.
        method: String,
    },
}

/// Appends the text of a signed transaction to `out`: hash, signer, whether the signature is valid (said only if not),
/// and the content, which is shown either way.
pub fn signed_transaction(tx: &SignedTransaction, cx: &PrettyContext, out: &mut String) {
    signed_transaction_prefixed(tx, cx, "", out);
}

/// As [`signed_transaction`], with `prefix` at the beginning of every line (but not of the genesis document's hash, nor
/// of further lines of a text within the transaction).
pub fn signed_transaction_prefixed(tx: &SignedTransaction, cx: &PrettyContext, prefix: &str, out: &mut String) {
    let mut w = Writer { cx, prefix: prefix.to_owned(), out };
    w.line(format_args!("Hash: {}", tx.hash()));
    w.line(format_args!("Signer: {}", tx.signer()));
    w.line(format_args!("        (signature: {})", tx.0.signature.signature));
    let valid = cx.chain.as_ref().is_some_and(|chain| tx.0.verify(SIGNATURE_CONTEXT, Some(chain)).is_ok());
    if !valid {
        w.line(format_args!("        [INVALID SIGNATURE]"));
    }
    w.line(format_args!("Content:"));
    w.nested(|w| match content(&tx.0.untrusted_raw_value) {
        Ok(tx) => w.transaction(&tx),
        Err(e) => w.malformed(&e, tx.0.blob()),
    });
}

/// Appends the text of a transaction to `out`.
pub fn transaction(tx: &Transaction, cx: &PrettyContext, out: &mut String) {
    Writer { cx, prefix: String::new(), out }.transaction(tx);
}

/// The JSON of a transaction with its body decoded: `nonce`, `fee`, `method`, `body`.
///
/// # Errors
/// If the method is unknown, the body is malformed, or a value in it has no text form.
pub fn to_pretty_json(tx: &Transaction) -> Result<Value, PrettyError> {
    let kind = bodies::kind(&tx.method).ok_or_else(|| PrettyError::UnknownMethod { method: tx.method.clone() })?;
    let body = (kind.json)(&tx.body)?.ok_or_else(|| PrettyError::NoText { method: tx.method.clone() })?;
    let mut out = Map::new();
    out.insert("nonce".to_owned(), tx.nonce.to_json());
    if let Some(fee) = &tx.fee {
        out.insert("fee".to_owned(), fee.to_json());
    }
    out.insert("method".to_owned(), tx.method.to_json());
    out.insert("body".to_owned(), body);
    Ok(Value::Object(out))
}

/// The JSON of a signed transaction with the blob decoded, but not the body within it: that stays base64, as in the
/// reference. See [`to_pretty_json`] for the body.
///
/// # Errors
/// If the blob is malformed.
pub fn signed_to_pretty_json(tx: &SignedTransaction) -> Result<Value, PrettyError> {
    let inner: Transaction = content(&tx.0.untrusted_raw_value)?;
    Ok(opened(inner.to_json(), "signature", tx.0.signature.to_json()))
}

/// Reads a signed blob; a nil one (which an empty one is not) is the default value, as in the reference.
fn content<T: cbor::Decode>(blob: &Option<Bytes>) -> Result<T, cbor::Error> {
    blob.as_ref().map_or_else(|| Ok(T::default()), |blob| cbor::from_slice(blob))
}

/// The JSON of an envelope with its blob decoded.
fn opened(content: Value, signatures_field: &str, signatures: Value) -> Value {
    let mut out = Map::new();
    out.insert("untrusted_raw_value".to_owned(), content);
    out.insert(signatures_field.to_owned(), signatures);
    Value::Object(out)
}

/// `amount / 10^exponent` as a decimal with at least one decimal place.
fn decimal(amount: &Quantity, exponent: u8) -> String {
    let places = usize::from(exponent);
    let digits = format!("{:0>width$}", amount.to_string(), width = places + 1);
    let (whole, rest) = digits.split_at(digits.len() - places);
    let rest = rest.trim_end_matches('0');
    format!("{whole}.{}", if rest.is_empty() { "0" } else { rest })
}

/// A commission rate in percent.
fn percentage(rate: &Quantity) -> String {
    if *rate > Quantity::from(COMMISSION_RATE_DENOMINATOR) {
        return "(invalid)".to_owned();
    }
    format!("{}%", decimal(rate, COMMISSION_PERCENT_EXPONENT))
}

/// Where text goes.
struct Writer<'a> {
    cx: &'a PrettyContext,
    /// Begins every line.
    prefix: String,
    out: &'a mut String,
}

impl Writer<'_> {
    fn line(&mut self, text: fmt::Arguments<'_>) {
        self.out.push_str(&self.prefix);
        // Writing to a string can't fail.
        let _ = fmt::Write::write_fmt(self.out, text);
        self.out.push('\n');
    }

    /// Writes with the lines indented by two more spaces.
    fn nested(&mut self, write: impl FnOnce(&mut Self)) {
        let len = self.prefix.len();
        self.prefix.push_str("  ");
        write(self);
        self.prefix.truncate(len);
    }

    /// Writes indented JSON.
    fn json(&mut self, v: &Value) {
        // Texts within JSON have no raw line breaks.
        let text = json::value_to_string_pretty(v).replace('\n', &format!("\n{}", self.prefix));
        self.line(format_args!("{text}"));
    }

    fn malformed(&mut self, e: &cbor::Error, bytes: &[u8]) {
        self.line(format_args!("<error: {e}>"));
        self.line(format_args!("<malformed: {}>", STANDARD.encode(bytes)));
    }

    /// An amount of tokens, in tokens if the context says how.
    fn amount(&self, amount: &Quantity) -> String {
        let symbol = self.cx.token_symbol.as_deref().filter(|s| (1..=TOKEN_SYMBOL_MAX_CHARS).contains(&s.len()));
        let exponent = self.cx.token_value_exponent.filter(|e| *e <= TOKEN_VALUE_EXPONENT_MAX);
        match (symbol, exponent) {
            (Some(symbol), Some(exponent)) => format!("{} {symbol}", decimal(amount, exponent)),
            _ => format!("{amount} base units"),
        }
    }

    /// An address, with its name before it if it has one.
    fn address(&self, address: &Address) -> String {
        match self.cx.account_names.get(address).filter(|name| !name.is_empty()) {
            Some(name) => format!("{name} ({address})"),
            None => address.to_string(),
        }
    }

    /// The body of a method.
    fn body(&mut self, method: &str, body: &[u8]) {
        match bodies::kind(method) {
            Some(kind) => (kind.print)(body, self),
            None => self.line(format_args!("<unknown method body: {}>", STANDARD.encode(body))),
        }
    }

    fn transaction(&mut self, tx: &Transaction) {
        self.line(format_args!("Method: {}", tx.method));
        self.line(format_args!("Body:"));
        self.nested(|w| w.body(&tx.method, &tx.body));
        self.line(format_args!("Nonce:  {}", tx.nonce));
        match &tx.fee {
            Some(fee) => {
                self.line(format_args!("Fee:"));
                self.nested(|w| w.fee(fee));
            }
            None => self.line(format_args!("Fee:   none")),
        }
        if let Some(hash) = &self.cx.genesis_hash {
            self.out.push_str(&format!("Other info:\n  Genesis document's hash: {hash}\n"));
        }
    }

    fn fee(&mut self, fee: &Fee) {
        self.line(format_args!("Amount: {}", self.amount(&fee.amount)));
        self.line(format_args!("Gas limit: {}", fee.gas));
        self.line(format_args!("(gas price: {} per gas unit)", self.amount(&fee.gas_price())));
    }
}
