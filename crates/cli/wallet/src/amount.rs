//! Amounts of tokens as people write them.

use base_prims::Quantity;
use num_bigint::BigUint;

use crate::error::Result;

/// Most decimal places of a token.
const MAX_DECIMALS: u8 = 36;
/// Decimal places of commission rates in percent.
const COMMISSION_PERCENT_DECIMALS: u8 = 3;
/// Longest text that is taken for an amount.
const MAX_TEXT: usize = 128;

/// Reads `12.5` as base units of a token with that many decimals.
pub(crate) fn parse(text: &str, decimals: u8) -> Result<Quantity> {
    let wrong = |why: &str| Err(format!("malformed amount '{text}': {why}").into());
    if text.is_empty() || text.len() > MAX_TEXT {
        return wrong("expected a number such as 12.5");
    }
    let (whole, rest) = text.split_once('.').unwrap_or((text, ""));
    let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(rest) || text.ends_with('.') {
        return wrong("expected a number such as 12.5");
    }
    let rest = rest.trim_end_matches('0');
    let places = usize::from(decimals.min(MAX_DECIMALS));
    if rest.len() > places {
        return wrong(&format!("this token has {places} decimal places"));
    }
    let all = format!("{whole}{rest:0<places$}");
    match BigUint::parse_bytes(all.as_bytes(), 10) {
        Some(number) => Ok(Quantity::from_be_bytes(&number.to_bytes_be())),
        None => wrong("expected a number such as 12.5"),
    }
}

/// Base units as tokens: at least one decimal place, none more than needed.
pub(crate) fn format(amount: &Quantity, decimals: u8) -> String {
    let places = usize::from(decimals);
    let digits = format!("{:0>width$}", amount.to_string(), width = places + 1);
    let (whole, rest) = digits.split_at(digits.len() - places);
    let rest = rest.trim_end_matches('0');
    format!("{whole}.{}", if rest.is_empty() { "0" } else { rest })
}

/// A commission rate in percent.
pub(crate) fn percent(rate: &Quantity) -> String {
    format!("{}%", format(rate, COMMISSION_PERCENT_DECIMALS))
}
