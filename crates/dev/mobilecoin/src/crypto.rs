//! `curve.json`, `account_keys.json`, `b58.json`, `tx_out.json`, `ring_signature.json`.

use mc_crypto::account::{Account, FOG_AUTHORITY_CONTEXT, burn_address, display, slip10_key};
use mc_crypto::amount::{Amount, AmountError, amount_shared_secret};
use mc_crypto::range::Statement;
use mc_crypto::{curve, ed25519, mlsag, onetime, range, schnorrkel};
use wire_mobilecoin::address::{AccountKey, Printable, PrintableWrapper, PublicAddress};
use wire_mobilecoin::tx::{MaskedAmount, MaskedAmountBody, RingMlsag, TxOut};
use wire_mobilecoin::{FogHint, Message, Point, Scalar32};

use crate::case::{Case, Field, normalized, same};
use crate::{Checked, Checker};

pub(crate) const GROUPS: &[(&str, Checker)] = &[
    ("pedersen_generator", pedersen_generator),
    ("commitment", commitment),
    ("hash_to_point", hash_to_point),
    ("key_image", key_image),
    ("onetime_keys", onetime_keys),
    ("bip39", bip39),
    ("root_entropy", root_entropy),
    ("subaddress", subaddress),
    ("fog_address", fog_address),
    ("burn_address", burn),
    ("schnorrkel", schnorrkel_signature),
    ("ed25519", ed25519_key),
    ("address", address),
    ("payment_request", payment_request),
    ("bad", bad),
    ("create", create),
    ("masked_amount", masked_amount),
    ("masked_token_id_length", masked_token_id_length),
    ("confirmation_number", confirmation_number),
    ("mlsag", ring_signature),
    ("range_proof", range_proof),
];

fn pedersen_generator(case: &Case<'_>) -> Checked {
    case.expect("generator", curve::pedersen_generator(case.number("token_id")?))
}

fn commitment(case: &Case<'_>) -> Checked {
    let blinding = case.fixed("blinding")?;
    case.expect("commitment", curve::commit(case.number("value")?, &blinding, case.number("token_id")?))
}

fn hash_to_point(case: &Case<'_>) -> Checked {
    case.expect("point", curve::hash_to_point(&case.fixed("public")?))
}

fn key_image(case: &Case<'_>) -> Checked {
    let private = case.fixed("private")?;
    case.expect("public", curve::public_key(&private))?;
    case.expect("key_image", onetime::key_image(&private))
}

fn onetime_keys(case: &Case<'_>) -> Checked {
    let err = |e: onetime::Error| e.to_string();
    let account = account(case)?;
    let index = case.number("subaddress_index")?;
    let recipient = account.address(index);
    case.expect("subaddress_view_public", recipient.view_public_key)?;
    case.expect("subaddress_spend_public", recipient.spend_public_key)?;
    let secret = case.fixed("tx_private")?;
    let public = onetime::tx_out_public_key(&secret, &recipient.spend_public_key).map_err(err)?;
    let target = onetime::target_key(&secret, &recipient).map_err(err)?;
    case.expect("tx_out_public_key", public)?;
    case.expect("target_key", target)?;
    case.expect("shared_secret", onetime::shared_secret(&secret, &recipient.view_public_key).map_err(err)?)?;
    case.expect("shared_secret", onetime::shared_secret(account.view_private(), &public).map_err(err)?)?;
    case.expect("recovered_spend_public", onetime::recover(account.view_private(), &target, &public).map_err(err)?)?;
    let subaddress = account.subaddress(index);
    let private = onetime::onetime_private(account.view_private(), subaddress.spend_private(), &public).map_err(err)?;
    case.expect("onetime_private", private)?;
    same("public one-time key", curve::public_key(&private), target)?;
    case.expect("key_image", onetime::key_image(&private))
}

fn account(case: &Case<'_>) -> Field<Account> {
    Ok(Account::new(case.fixed("view_private")?, case.fixed("spend_private")?))
}

fn expect_account(case: &Case<'_>, account: &Account) -> Checked {
    case.expect("view_private", account.view_private())?;
    case.expect("spend_private", account.spend_private())
}

fn bip39(case: &Case<'_>) -> Checked {
    let key = slip10_key(case.text("phrase")?, case.number32("account_index")?);
    case.expect("slip10_key", key)?;
    expect_account(case, &Account::from_slip10(&key))
}

fn root_entropy(case: &Case<'_>) -> Checked {
    expect_account(case, &Account::from_root_entropy(&case.array("root_entropy")?))
}

fn expect_address(case: &Case<'_>, address: &PublicAddress) -> Checked {
    same("address", address, &case.message::<PublicAddress>("public_address_pb")?)?;
    case.expect("short_address_hash", address.short_hash())
}

fn subaddress(case: &Case<'_>) -> Checked {
    let account = account(case)?;
    let index = case.number("index")?;
    let keys = account.subaddress(index);
    case.expect("subaddress_view_private", keys.view_private())?;
    case.expect("subaddress_spend_private", keys.spend_private())?;
    let address = account.address(index);
    case.expect("view_public", address.view_public_key)?;
    case.expect("spend_public", address.spend_public_key)?;
    case.expect_text("display", display(&address))?;
    expect_address(case, &address)
}

fn fog_address(case: &Case<'_>) -> Checked {
    let account = account(case)?;
    let key: AccountKey = case.message("account_key_pb")?;
    same("view key", &key.view_private_key, account.view_private())?;
    same("spend key", &key.spend_private_key, account.spend_private())?;
    let spki = case.hex("fog_authority_spki")?;
    same("authority", &key.fog_authority_spki, &spki)?;
    let signature = case.hex("fog_authority_sig")?;
    let (url, report) = (case.text("fog_report_url")?, case.text("fog_report_id")?);
    let address = account.fog_address(0, url, report, &spki).map_err(|e| e.to_string())?;
    let holds = schnorrkel::verify(&address.view_public_key, FOG_AUTHORITY_CONTEXT, &spki, &signature);
    same("recorded signature holds", holds, true)?;
    case.expect("fog_authority_sig", &address.fog_authority_sig)?;
    expect_address(case, &address)
}

fn burn(case: &Case<'_>) -> Checked {
    let address = burn_address();
    case.expect("view_private", mc_crypto::account::BURN_VIEW_PRIVATE)?;
    case.expect("spend_public", address.spend_public_key)?;
    case.expect("view_public", address.view_public_key)?;
    same("address", &address, &case.message("public_address_pb")?)
}

fn schnorrkel_signature(case: &Case<'_>) -> Checked {
    let (private, public): (Scalar32, Point) = (case.fixed("private")?, case.fixed("public")?);
    let (context, message) = (case.hex("context")?, case.hex("message")?);
    same("public key", curve::public_key(&private), public)?;
    let mut signature = case.hex("signature")?;
    same("recorded signature holds", schnorrkel::verify(&public, &context, &message, &signature), true)?;
    case.expect("signature", schnorrkel::sign(&private, &context, &message).map_err(|e| e.to_string())?)?;
    signature[3] ^= 1;
    same("altered signature holds", schnorrkel::verify(&public, &context, &message, &signature), false)
}

fn ed25519_key(case: &Case<'_>) -> Checked {
    let key = ed25519::PrivateKey::from_seed(&case.array("seed")?);
    case.expect("public", key.public())?;
    case.expect("private_der", key.to_der())?;
    case.expect("public_der", ed25519::public_to_der(&key.public()))?;
    let read = ed25519::PrivateKey::from_der(&case.hex("private_der")?).map_err(|e| e.to_string())?;
    same("key from DER", read.seed(), key.seed())?;
    let public = ed25519::public_from_der(&case.hex("public_der")?).map_err(|e| e.to_string())?;
    let message = case.text("message")?.as_bytes();
    case.expect("signature", key.sign(message))?;
    same("signature holds", ed25519::verify(&public, message, &case.fixed("signature")?), true)?;
    same("another message holds", ed25519::verify(&public, b"another", &case.fixed("signature")?), false)
}

fn expect_printed(case: &Case<'_>, wrapper: &PrintableWrapper) -> Checked {
    same("wrapper", wrapper, &case.message("wrapper_pb")?)?;
    case.expect_text("b58", wrapper.to_b58())?;
    let read = PrintableWrapper::from_b58(case.text("b58")?).map_err(|e| e.to_string())?;
    same("wrapper from text", &read, wrapper)
}

fn address(case: &Case<'_>) -> Checked {
    let address = case.message("public_address_pb")?;
    expect_printed(case, &PrintableWrapper { wrapper: Some(Printable::PublicAddress(address)) })
}

fn payment_request(case: &Case<'_>) -> Checked {
    let request = wire_mobilecoin::address::PaymentRequest {
        public_address: Some(case.message("public_address_pb")?),
        value: case.number("value")?,
        memo: case.text("memo")?.to_owned(),
        token_id: case.number("token_id")?,
        payment_id: case.number("payment_id")?,
    };
    expect_printed(case, &PrintableWrapper { wrapper: Some(Printable::PaymentRequest(request)) })
}

fn bad(case: &Case<'_>) -> Checked {
    let error = match PrintableWrapper::from_b58(case.text("b58")?) {
        Ok(_) => return Err("accepted".into()),
        Err(error) => format!("{error:?}"),
    };
    let name = |debug: &str| debug.split('(').next().unwrap_or_default().to_owned();
    same("error", name(&error), name(case.text("error")?))
}

fn create(case: &Case<'_>) -> Checked {
    let account = account(case)?;
    let version = case.number32("block_version")?;
    let amount = Amount { value: case.number("value")?, token_id: case.number("token_id")? };
    let recipient = account.address(case.number("subaddress_index")?);
    let secret = case.fixed("tx_private")?;
    let hint = FogHint(case.array("fog_hint")?);
    let memo: Option<[u8; 66]> = match case.text("memo_plaintext")? {
        "" => None,
        _ => Some(case.array("memo_plaintext")?),
    };
    let made =
        onetime::create_tx_out(version, amount, &recipient, &secret, hint, memo.as_ref()).map_err(|e| e.to_string())?;
    let recorded: TxOut = case.message("tx_out_pb")?;
    same("output", &made, &recorded)?;
    case.expect("tx_out_pb", made.encode_to_vec())?;
    case.expect("hash", made.hash())?;
    case.expect("leaf_hash", onetime::leaf_hash(&made))?;
    let body = made.masked_amount.as_ref().ok_or("no amount")?.body();
    case.expect("commitment", body.commitment)?;
    case.expect("masked_token_id", &body.masked_token_id)?;
    case.expect_number("masked_value", body.masked_value)?;
    case.expect("e_memo", made.e_memo.as_ref().map_or(&[][..], |m| &m.0))?;
    let shared = onetime::shared_secret(account.view_private(), &made.public_key).map_err(|e| e.to_string())?;
    case.expect("shared_secret", shared)?;
    if let (Some(plain), Some(encrypted)) = (memo, &made.e_memo) {
        same("memo", onetime::apply_memo_key(&shared, &encrypted.0), plain)?;
    }
    let (seen, blinding) = onetime::view_key_match(account.view_private(), &recorded).map_err(|e| e.to_string())?;
    same("amount seen", seen, amount)?;
    case.expect("blinding", blinding)?;
    let wrong = onetime::view_key_match(&case.fixed("wrong_view_private")?, &recorded);
    let wrong = wrong.err().ok_or("a wrong view key matches")?;
    same("error of a wrong key", normalized(&format!("{wrong:?}")).as_str(), case.text("wrong_view_error")?)
}

fn versioned(version: u64, body: MaskedAmountBody) -> Field<MaskedAmount> {
    match version {
        1 => Ok(MaskedAmount::V1(body)),
        2 => Ok(MaskedAmount::V2(body)),
        other => Err(format!("no masking version {other}")),
    }
}

fn masked_amount(case: &Case<'_>) -> Checked {
    let shared: Point = case.fixed("shared_secret")?;
    let amount = Amount { value: case.number("value")?, token_id: case.number("token_id")? };
    let masked = amount.mask(case.number32("block_version")?, &shared).map_err(|e| e.to_string())?;
    same("version", matches!(masked, MaskedAmount::V2(_)), case.number("mask_version")? == 2)?;
    case.expect("commitment", masked.body().commitment)?;
    case.expect_number("masked_value", masked.body().masked_value)?;
    case.expect("masked_token_id", &masked.body().masked_token_id)?;
    let (seen, blinding) = Amount::unmask(&masked, &shared).map_err(|e| e.to_string())?;
    same("amount", seen, amount)?;
    case.expect("blinding", blinding)?;
    if !case.field("amount_shared_secret").is_null() {
        let secret = amount_shared_secret(&shared);
        case.expect("amount_shared_secret", secret)?;
        let opened = Amount::unmask_with_amount_secret(&masked, &secret).map_err(|e| e.to_string())?;
        same("amount by its own secret", opened.0, amount)?;
    }
    let mut altered = masked;
    altered.body_mut().masked_value ^= 1;
    let error = Amount::unmask(&altered, &shared).err().ok_or("an altered amount opens")?;
    same("error", format!("{error:?}").as_str(), case.text("altered_masked_value_error")?)
}

fn masked_token_id_length(case: &Case<'_>) -> Checked {
    let shared = case.fixed("shared_secret")?;
    let body = MaskedAmountBody {
        commitment: Point::default(),
        masked_value: case.number("masked_value")?,
        masked_token_id: case.hex("masked_token_id")?,
    };
    let masked = versioned(case.number("mask_version")?, body)?;
    let result = case.at(case.field("result"));
    match Amount::unmask_fields(&masked, &shared) {
        Err(AmountError::InvalidMaskedTokenId(_)) => same("error", "InvalidMaskedTokenId", result.text("error")?),
        Err(other) => Err(format!("{other:?}")),
        Ok((amount, blinding)) => {
            result.expect_number("value", amount.value)?;
            result.expect_number("token_id", amount.token_id)?;
            result.expect("commitment", amount.commitment(&blinding))
        }
    }
}

fn confirmation_number(case: &Case<'_>) -> Checked {
    case.expect("confirmation", onetime::confirmation_number(&case.fixed("shared_secret")?))
}

fn ring_signature(case: &Case<'_>) -> Checked {
    let mut ring = Vec::new();
    for member in case.list("ring")? {
        let point = |i: usize| -> Field<Point> {
            let bytes = crate::case::from_hex(&member[i])?;
            Point::try_from(bytes.as_slice()).map_err(|e| e.to_string())
        };
        ring.push(mlsag::Member { target_key: point(1)?, commitment: point(2)? });
    }
    let signature: RingMlsag = case.message("signature_pb")?;
    case.expect("key_image", signature.key_image)?;
    let output: Point = case.fixed("output_commitment")?;
    case.verdict(mlsag::verify(&case.hex("message")?, &ring, &output, &signature))
}

fn range_proof(case: &Case<'_>) -> Checked {
    let mut commitments = Vec::new();
    for value in case.list("commitments")? {
        let bytes = crate::case::from_hex(value)?;
        commitments.push(Point::try_from(bytes.as_slice()).map_err(|e| e.to_string())?);
    }
    let proof = case.hex("proof")?;
    let statement = Statement { proof: &proof, commitments: &commitments, token_id: case.number("token_id")? };
    let ours = match range::verify(&statement) {
        Ok(()) => "ok",
        Err(range::Error::Format) => "deserialize: FormatError",
        Err(_) => "ProofError(VerificationError)",
    };
    let recorded = case.field("result");
    same("verdict", ours, recorded.as_str().or(recorded["error"].as_str()).unwrap_or_default())
}
