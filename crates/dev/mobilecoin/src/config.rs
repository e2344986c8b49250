//! Small text formats, node configuration, channels.

use mc_attest::{channel, evidence, report_data};
use mc_config::{network, token, tokens, uri};
use serde_json::{Value, json};
use wire_mobilecoin::Message as _;
use wire_mobilecoin::archive::{block_path, merged_path};
use wire_mobilecoin::attest::{DcapEvidence, EvidenceMessage};
use wire_mobilecoin::quorum::{Member, QuorumSet};
use wire_mobilecoin::tx::Tx;

use crate::case::{Case, Field, normalized, same};
use crate::{Checked, Checker};

pub(crate) const GROUPS: &[(&str, Checker)] = &[
    ("single", single_path),
    ("merged", merged),
    ("token", client_token),
    ("report_data", report_data_hash),
    ("IX", noise),
    ("NX", noise),
    ("session", session),
    ("network", network_file),
    ("tokens", tokens_file),
    ("uri", uri_text),
];

fn single_path(case: &Case<'_>) -> Checked {
    case.expect_text("path", block_path(case.number("index")?))
}

fn merged(case: &Case<'_>) -> Checked {
    case.expect_text("path", merged_path(case.number("bucket")?, case.number("first_index")?))
}

fn client_token(case: &Case<'_>) -> Checked {
    let secret: [u8; 32] = case.array("secret")?;
    let (user, time) = (case.text("user")?, case.number("time")?);
    let password = token::password(&secret, user, time);
    case.expect_text("password", &password)?;
    case.expect_text("authorization_header", token::header(case.text("username")?, &password))?;
    let header = case.text("authorization_header")?;
    let check = |header: &str, now: u64| token::check(&secret, header, now, 100);
    same("token", check(header, time + 99), Ok(user.to_owned()))?;
    same("expired", check(header, time + 100), Err(token::Error::ExpiredAuthorizationToken))?;
    let forged = token::header(user, &password.replace(':', ":0"));
    same("forged token holds", check(&forged, time).is_ok(), false)
}

fn report_data_hash(case: &Case<'_>) -> Checked {
    let custom = match case.field("custom_identity") {
        Value::Null => None,
        _ => Some(case.array::<32>("custom_identity")?),
    };
    case.expect("sha256", report_data::hash(&case.array("nonce")?, &case.array("key")?, custom.as_ref()))
}

fn noise(case: &Case<'_>) -> Checked {
    let err = |e: channel::Error| e.to_string();
    let pattern = channel::Pattern::of_name(case.text("protocol")?).ok_or("unknown protocol")?;
    let prologue = case.text("prologue")?.as_bytes();
    let initiator_static = match case.field("initiator_static") {
        Value::Null => None,
        _ => Some(case.array::<32>("initiator_static")?),
    };
    let responder_static: [u8; 32] = case.array("responder_static")?;
    case.expect("responder_static_public", channel::public_key(&responder_static))?;
    if let Some(key) = &initiator_static {
        case.expect("initiator_static_public", channel::public_key(key))?;
    }
    let ephemeral = |name: &str| case.array::<32>(name);
    let mut initiator =
        channel::Initiator::new(pattern, prologue, initiator_static.as_ref(), Some(ephemeral("initiator_ephemeral")?))
            .map_err(err)?;
    let first = initiator.start(&case.hex("payload_1")?).map_err(err)?;
    case.expect("message_1", &first)?;
    let responder =
        channel::Responder::new(pattern, prologue, &responder_static, Some(ephemeral("responder_ephemeral")?))
            .map_err(err)?;
    let (accepted, payload) = responder.accept(&first).map_err(err)?;
    case.expect("payload_1", &payload)?;
    let (mut responder, second) = accepted.answer(&case.hex("payload_2")?).map_err(err)?;
    case.expect("message_2", &second)?;
    let (mut initiator, payload) = initiator.finish(&second).map_err(err)?;
    case.expect("payload_2", payload)?;
    case.expect("channel_binding", initiator.id())?;
    case.expect("channel_binding", responder.id())?;
    for value in case.list("transport")? {
        let entry = case.at(value);
        let (aad, plaintext) = (entry.hex("aad")?, entry.hex("plaintext")?);
        let (sender, receiver) = match entry.text("from")? {
            "initiator" => (&mut initiator, &mut responder),
            _ => (&mut responder, &mut initiator),
        };
        entry.expect_number("nonce", sender.sent())?;
        let sealed = sender.encrypt(&aad, &plaintext).map_err(err)?;
        entry.expect("ciphertext", &sealed)?;
        entry.expect("plaintext", receiver.decrypt(&aad, &sealed).map_err(err)?)?;
    }
    Ok(())
}

fn session(case: &Case<'_>) -> Checked {
    let err = |e: channel::Error| e.to_string();
    let prologue = case.text("client_responder_id")?.as_bytes();
    let ephemeral = case.array::<32>("client_ephemeral_private")?;
    let mut client = channel::Initiator::new(channel::Pattern::Nx, prologue, None, Some(ephemeral)).map_err(err)?;
    case.expect("auth_request", client.start(&[]).map_err(err)?)?;
    let answer = case.hex("auth_response")?;
    let (mut channel, payload) = client.finish(&answer).map_err(err)?;
    case.expect("channel_id", channel.id())?;
    let wrapped = EvidenceMessage::decode(payload.as_slice()).map_err(|e| e.to_string())?;
    let found: DcapEvidence = wrapped.dcap_evidence.ok_or("no evidence in the answer")?;
    same("evidence", &found, &case.message("evidence_pb")?)?;
    same("kind", "dcap", case.text("evidence_kind")?)?;
    let root = case.text("sim_root_pem")?;
    let (at, key) = (case.number("valid_at")?, channel.remote_static().ok_or("no key of the server")?);
    let policy = evidence::Policy::simulation(root);
    let verified = evidence::verify(&found, &policy, &key, at).map_err(|e| e.to_string())?;
    same("measurement", verified.mrenclave, [0; 32])?;
    for wrong in [at + 86_400 * 400, at - 86_400 * 400] {
        same("evidence out of time holds", evidence::verify(&found, &policy, &key, wrong).is_ok(), false)?;
    }
    let mut other = key;
    other[0] ^= 1;
    same("evidence for another key holds", evidence::verify(&found, &policy, &other, at).is_ok(), false)?;
    // What the client sent is what it encrypts to: the recorded plaintext is not in the file, its length is.
    for value in case.list("requests")? {
        let entry = case.at(value);
        let plaintext = channel.decrypt_own(&entry.hex("aad")?, &entry.hex("ciphertext")?).map_err(err)?;
        entry.expect_number("plaintext_len", plaintext.len() as u64)?;
        let tx = Tx::decode(plaintext.as_slice()).map_err(|e| e.to_string())?;
        entry.expect("tx_hash", tx.hash())?;
    }
    Ok(())
}

fn member_json(set: &QuorumSet, resolved: bool) -> Value {
    let member = |member: &Member| match member {
        Member::Node(node) if resolved => json!({
            "public_key": node.public_key.to_string(),
            "responder_id": node.responder_id.name,
        }),
        Member::Node(node) => json!(node.responder_id.name),
        Member::InnerSet(inner) => member_json(inner, resolved),
    };
    json!({"threshold": set.threshold, "members": set.members().map(member).collect::<Vec<_>>()})
}

fn same_json(what: &str, ours: &Value, recorded: &Value) -> Checked {
    if ours == recorded { Ok(()) } else { Err(format!("{what}: ours is {ours}, recorded {recorded}")) }
}

fn error_of(what: &str, ours: &str, recorded: &Value) -> Checked {
    let recorded = recorded["error"].as_str().ok_or_else(|| format!("refused with {ours}, recorded as read"))?;
    let name = |text: &str| normalized(text).split(['(', ' ', ':']).next().unwrap_or_default().to_owned();
    same(what, name(ours), name(recorded))
}

fn network_file(case: &Case<'_>) -> Checked {
    let result = case.field("result");
    let read = network::Network::read(case.text("file_name")?, case.text("text")?, case.text("own_responder_id")?);
    let network = match read {
        Ok(network) => network,
        Err(error) => return error_of("error", &format!("{error:?}"), result),
    };
    let peers: Vec<Value> = network
        .broadcast_peers
        .iter()
        .map(|peer| {
            json!({
                "addr": peer.addr(),
                "relay_incoming_txs": peer.relays_incoming_txs(),
                "responder_id": peer.responder_id(),
                "tls": peer.uses_tls(),
                "url": peer.normalized(),
            })
        })
        .collect();
    same_json("broadcast peers", &json!(peers), &result["broadcast_peers"])?;
    if !result["known_peers"].is_null() {
        let known: Vec<String> = network.known_peers.iter().map(|peer| peer.normalized().to_owned()).collect();
        same_json("known peers", &json!(known), &result["known_peers"])?;
    }
    same_json("sources", &json!(network.tx_source_urls), &result["tx_source_urls"])?;
    same_json("quorum set", &member_json(&network.quorum_set, false), &result["quorum_set"])?;
    match (network.resolved_quorum_set(), &result["resolved_quorum_set"]) {
        (Ok(set), recorded) if recorded["error"].is_null() => {
            same_json("resolved quorum set", &member_json(&set, true), recorded)
        }
        (Ok(set), recorded) => Err(format!("resolved to {set:?}, recorded {recorded}")),
        (Err(error), recorded) => error_of("resolved quorum set", &format!("{error:?}"), recorded),
    }
}

fn tokens_file(case: &Case<'_>) -> Checked {
    let result = case.field("result");
    let tokens = match tokens::Tokens::read(case.text("text")?) {
        Ok(tokens) => tokens,
        Err(error) => return error_of("error", &format!("{error:?}"), result),
    };
    let fees: Vec<Value> = tokens.fee_map.iter().map(|(id, fee)| json!([id.to_string(), fee.to_string()])).collect();
    same_json("fees", &json!(fees), &result["fee_map"])?;
    case.at(result).expect("fee_map_digest", tokens.fee_map.digest())?;
    let governors: Vec<Value> =
        tokens.governors.iter().map(|(id, set)| json!([id.to_string(), hex::encode(set.encode_to_vec())])).collect();
    same_json("governors", &json!(governors), &result["governors"])?;
    case.at(result).expect("governors_digest", tokens.governors.signed_digest())
}

fn uri_text(case: &Case<'_>) -> Checked {
    let family = match case.text("family")? {
        "client" => uri::Family::Client,
        "peer" => uri::Family::Peer,
        "admin" => uri::Family::Admin,
        other => return Err(format!("unknown family {other}")),
    };
    let read = uri::Uri::parse(family, case.text("text")?);
    let uri = match (read, case.field("error").as_str()) {
        (Ok(uri), None) => uri,
        (Ok(uri), Some(error)) => return Err(format!("read as {uri}, recorded {error}")),
        (Err(error), _) => return error_of("error", &format!("{error:?}"), case.value),
    };
    expect_uri(case, &uri)
}

fn expect_uri(case: &Case<'_>, uri: &uri::Uri) -> Checked {
    let optional = |name: &str, ours: Option<String>| -> Checked {
        let recorded: Field<Option<String>> = Ok(case.field(name).as_str().map(str::to_owned));
        same(name, ours, recorded?)
    };
    case.expect_text("addr", uri.addr())?;
    case.expect_text("host", uri.host())?;
    case.expect_number("port", uri.port().into())?;
    case.expect_text("display", uri)?;
    case.expect_text("normalized", uri.normalized())?;
    case.expect_text("username", uri.username())?;
    case.expect_text("password", uri.password())?;
    same("tls", Some(uri.uses_tls()), case.field("tls").as_bool())?;
    optional("responder_id", uri.responder_id_checked())?;
    optional("tls_hostname", uri.tls_hostname())?;
    if case.value.get("node_key").is_some() {
        optional("node_key", uri.message_key().map(|key| key.to_string()))?;
    }
    Ok(())
}
