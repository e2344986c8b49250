//! Rules that pre-signed inputs carry (reference: `mc-transaction-core::input_rules`).

use mc_crypto::amount::Amount;
use wire_mobilecoin::tx::{InputRules, RevealedTxOut, TxOut, TxPrefix};

use crate::error::RuleError;

/// Checks the rules of every input.
///
/// # Errors
/// The first rule that does not hold.
pub(crate) fn check(prefix: &TxPrefix) -> Result<(), RuleError> {
    prefix.inputs.iter().filter_map(|input| input.input_rules.as_ref()).try_for_each(|rules| check_one(rules, prefix))
}

fn check_one(rules: &InputRules, prefix: &TxPrefix) -> Result<(), RuleError> {
    if !rules.required_outputs.iter().all(|required| prefix.outputs.contains(required)) {
        return Err(RuleError::MissingRequiredOutput);
    }
    if rules.max_tombstone_block != 0 && prefix.tombstone_block > rules.max_tombstone_block {
        return Err(RuleError::MaxTombstoneBlockExceeded);
    }
    check_partial_fill(rules, prefix)
}

/// The amount that an output hides, by a secret that was given away.
fn open(revealed: &RevealedTxOut, out: &TxOut) -> Result<Amount, RuleError> {
    let secret: &[u8; 32] = revealed
        .amount_shared_secret
        .as_slice()
        .try_into()
        .map_err(|_| RuleError::InvalidAmountSecret(revealed.amount_shared_secret.len()))?;
    let masked = out.masked_amount.as_ref().ok_or(mc_crypto::amount::AmountError::Missing)?;
    Ok(Amount::unmask_with_amount_secret(masked, secret)?.0)
}

/// The output that is the revealed one but for its amount.
fn find<'a>(revealed: &RevealedTxOut, prefix: &'a TxPrefix) -> Option<&'a TxOut> {
    let wanted = &revealed.tx_out;
    prefix.outputs.iter().find(|out| {
        out.target_key == wanted.target_key
            && out.public_key == wanted.public_key
            && out.e_fog_hint == wanted.e_fog_hint
            && out.e_memo == wanted.e_memo
    })
}

/// What is not taken goes back as change, and outputs are at least the same fraction as what is taken.
fn check_partial_fill(rules: &InputRules, prefix: &TxPrefix) -> Result<(), RuleError> {
    let Some(change) = &rules.partial_fill_change else {
        return match rules.partial_fill_outputs.is_empty() && rules.min_partial_fill_value == 0 {
            true => Ok(()),
            false => Err(RuleError::UnexpectedPartialFillOutput),
        };
    };
    let whole = open(change, &change.tx_out)?;
    if whole.value == 0 {
        return Err(RuleError::ZeroPartialFillChange);
    }
    let real_change = open(change, find(change, prefix).ok_or(RuleError::MissingPartialFillChange)?)?;
    if real_change.token_id != whole.token_id {
        return Err(RuleError::ChangeTokenMismatch);
    }
    let taken = whole.value.checked_sub(real_change.value).ok_or(RuleError::ChangeExceedsLimit)?;
    if taken < rules.min_partial_fill_value {
        return Err(RuleError::MinPartialFillValue);
    }
    for partial in &rules.partial_fill_outputs {
        let full = open(partial, &partial.tx_out)?;
        let real = open(partial, find(partial, prefix).ok_or(RuleError::MissingRequiredOutput)?)?;
        if real.token_id != full.token_id {
            return Err(RuleError::FractionalOutputTokenMismatch);
        }
        // real / full >= taken / whole, without division.
        if u128::from(real.value) * u128::from(whole.value) < u128::from(full.value) * u128::from(taken) {
            return Err(RuleError::FractionalOutputAmount);
        }
    }
    Ok(())
}
