//! `scp.json`, `consensus_msg.json`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use mc_crypto::ed25519;
use mc_scp::{Application, Node, message, quorum};
use serde_json::{Value, json};
use wire_mobilecoin::digest::digest32;
use wire_mobilecoin::peer::{ConsensusMsg, ConsensusMsgEnvelope, TxProposeAad};
use wire_mobilecoin::quorum::{Member, NodeId, QuorumSet, ResponderId};
use wire_mobilecoin::scp::{Ballot, Commit, Externalize, Msg, Nominate, Prepare, Topic};

use crate::case::{Case, Field, same, to_number};
use crate::{Checked, Checker};

pub(crate) const GROUPS: &[(&str, Checker)] = &[
    ("node_table", node_table),
    ("quorum", quorums),
    ("quorum_set_equality", equality),
    ("leader", leader),
    ("msg_digest", msg_digest),
    ("msg_validate", msg_validate),
    ("trace", trace),
    ("message", consensus_message),
    ("tx_propose_aad", tx_propose_aad),
];

fn node_of(entry: &Case<'_>) -> Field<NodeId> {
    let node = NodeId {
        responder_id: ResponderId { name: entry.text("responder_id")?.to_owned() },
        public_key: entry.fixed("public_key")?,
    };
    Ok(node)
}

fn node_table(case: &Case<'_>) -> Checked {
    for value in case.list("nodes")? {
        let entry = case.at(value);
        let (ours, recorded): (NodeId, NodeId) = (node_of(&entry)?, entry.message("node_id_pb")?);
        same("node", &ours, &recorded)?;
        same("responder id", ours.responder_id, recorded.responder_id)?;
    }
    Ok(())
}

/// The node of a number.
fn node(case: &Case<'_>, number: &Value) -> Field<NodeId> {
    let table = &case.root["groups"]["node_table"]["cases"][0]["nodes"];
    let entry = table.as_array().and_then(|list| list.iter().find(|e| e["n"] == *number));
    node_of(&case.at(entry.ok_or_else(|| format!("no node {number}"))?))
}

fn quorum_set(case: &Case<'_>, value: &Value) -> Field<QuorumSet> {
    let threshold = value["threshold"].as_u64().and_then(|t| u32::try_from(t).ok()).ok_or("no threshold")?;
    let mut members = Vec::new();
    for member in value["members"].as_array().ok_or("no members")? {
        members.push(match member {
            Value::Object(_) => Member::InnerSet(quorum_set(case, member)?),
            number => Member::Node(node(case, number)?),
        });
    }
    Ok(QuorumSet::new(threshold, members))
}

fn quorums(case: &Case<'_>) -> Checked {
    let set = quorum_set(case, case.field("quorum_set"))?;
    let local = node(case, case.field("local_node"))?;
    same("validity", Some(set.is_valid()), case.field("valid").as_bool())?;
    case.expect("digest", digest32(b"qs", &set))?;
    let mut sets: BTreeMap<NodeId, QuorumSet> = BTreeMap::new();
    for (number, value) in case.field("sender_quorum_sets").as_object().ok_or("no quorum sets")? {
        sets.insert(node(case, &json!(number.parse::<u64>().map_err(|e| e.to_string())?))?, quorum_set(case, value)?);
    }
    let mut satisfying = BTreeSet::new();
    for number in case.list("satisfying")? {
        satisfying.insert(node(case, number)?);
    }
    let passing = || sets.iter().filter(|(node, _)| satisfying.contains(*node));
    let found = !quorum::find_quorum(&local, &set, passing()).is_empty();
    same("quorum found", Some(found), case.field("quorum_found").as_bool())?;
    let blocking = quorum::is_blocking(&set, &|node| satisfying.contains(node) && sets.contains_key(node));
    same("blocking set found", Some(blocking), case.field("blocking_found").as_bool())?;
    for (number, weight) in case.list("weights")?.iter().enumerate() {
        let (numerator, denominator) = quorum::weight(&set, &node(case, &json!(number))?);
        same("weight", Some(numerator).zip(Some(denominator)), to_number(&weight[0]).zip(to_number(&weight[1])))?;
    }
    Ok(())
}

fn equality(case: &Case<'_>) -> Checked {
    let (a, b) = (quorum_set(case, case.field("a"))?, quorum_set(case, case.field("b"))?);
    same("a is valid", Some(a.is_valid()), case.field("a_valid").as_bool())?;
    same("b is valid", Some(b.is_valid()), case.field("b_valid").as_bool())?;
    same("equal", Some(a.equivalent(&b)), case.field("equal").as_bool())
}

fn leader(case: &Case<'_>) -> Checked {
    let set = quorum_set(case, case.field("quorum_set"))?;
    let local = node(case, case.field("node"))?;
    let fresh: Node<u64> = Node::new(local, set, case.number("slot")?);
    let ours: Vec<&str> = fresh.slot().leaders().iter().map(|l| l.responder_id.name.as_str()).collect();
    let recorded: Vec<&str> = case.list("leaders")?.iter().filter_map(Value::as_str).collect();
    same("leaders", ours, recorded)
}

fn numbers<C: FromIterator<u64>>(value: &Value) -> Field<C> {
    let list = value.as_array().ok_or("no list of values")?;
    list.iter().map(|v| to_number(v).ok_or_else(|| format!("{v} is no value"))).collect()
}

fn counter(value: &Value) -> Field<u32> {
    value.as_u64().and_then(|n| u32::try_from(n).ok()).ok_or_else(|| format!("{value} is no counter"))
}

fn ballot(value: &Value) -> Field<Ballot<u64>> {
    Ok(Ballot::new(counter(&value["N"])?, numbers(&value["X"])?))
}

fn optional_ballot(value: &Value) -> Field<Option<Ballot<u64>>> {
    if value.is_null() { Ok(None) } else { ballot(value).map(Some) }
}

fn topic(value: &Value) -> Field<Topic<u64>> {
    let nominate = |v: &Value| -> Field<Nominate<u64>> { Ok(Nominate { x: numbers(&v["X"])?, y: numbers(&v["Y"])? }) };
    let prepare = |v: &Value| -> Field<Prepare<u64>> {
        Ok(Prepare {
            b: ballot(&v["B"])?,
            p: optional_ballot(&v["P"])?,
            pp: optional_ballot(&v["PP"])?,
            cn: counter(&v["CN"])?,
            hn: counter(&v["HN"])?,
        })
    };
    let object = value.as_object().ok_or("no topic")?;
    let names: Vec<&str> = object.keys().map(String::as_str).collect();
    match names.as_slice() {
        ["nominate"] => Ok(Topic::Nominate(nominate(&value["nominate"])?)),
        ["nominate", "prepare"] | ["prepare", "nominate"] => {
            Ok(Topic::NominatePrepare(nominate(&value["nominate"])?, prepare(&value["prepare"])?))
        }
        ["prepare"] => Ok(Topic::Prepare(prepare(&value["prepare"])?)),
        ["commit"] => {
            let v = &value["commit"];
            Ok(Topic::Commit(Commit {
                b: ballot(&v["B"])?,
                pn: counter(&v["PN"])?,
                cn: counter(&v["CN"])?,
                hn: counter(&v["HN"])?,
            }))
        }
        ["externalize"] => {
            let v = &value["externalize"];
            Ok(Topic::Externalize(Externalize { c: ballot(&v["C"])?, hn: counter(&v["HN"])? }))
        }
        other => Err(format!("unknown topic {other:?}")),
    }
}

fn msg(case: &Case<'_>, value: &Value) -> Field<Msg<u64>> {
    Ok(Msg {
        sender_id: node(case, &value["sender"])?,
        slot_index: to_number(&value["slot"]).ok_or("no slot")?,
        quorum_set: quorum_set(case, &value["quorum_set"])?,
        topic: topic(&value["topic"])?,
    })
}

fn msg_digest(case: &Case<'_>) -> Checked {
    case.expect("digest", digest32(b"scp_msg", &msg(case, case.field("msg"))?))
}

fn msg_validate(case: &Case<'_>) -> Checked {
    let msg = msg(case, case.field("msg"))?;
    same("validity", Some(message::validate(&msg).is_ok()), case.field("valid").as_bool())?;
    same("counter", Some(u64::from(message::ballot_counter(&msg.topic))), to_number(case.field("bN")))
}

/// The application of the recorded runs.
struct Numbers;

impl Application<u64> for Numbers {
    fn is_valid(&self, value: &u64) -> bool {
        *value < 1_000_000
    }
    fn combine(&self, values: &BTreeSet<u64>) -> Vec<u64> {
        values.iter().copied().take(5).collect()
    }
}

fn trace(case: &Case<'_>) -> Checked {
    let slot = case.number("slot")?;
    let mut nodes: BTreeMap<u64, Node<u64>> = BTreeMap::new();
    for value in case.list("quorum_sets")? {
        let number = to_number(&value["node"]).ok_or("no node")?;
        let set = quorum_set(case, &value["quorum_set"])?;
        nodes.insert(number, Node::new(node(case, &value["node"])?, set, slot));
    }
    // All nodes wait at the same time, so that each counts its own waits.
    let mut clocks: BTreeMap<u64, Duration> = BTreeMap::new();
    for (index, event) in case.list("events")?.iter().enumerate() {
        let place = |what: String| format!("event {index}: {what}");
        let number = to_number(&event["node"]).ok_or("no node")?;
        let acting = nodes.get_mut(&number).ok_or("no such node")?;
        let clock = clocks.entry(number).or_default();
        *clock += Duration::from_millis(to_number(&event["wait_ms"]).unwrap_or(0));
        let now = *clock;
        let ours = match event["type"].as_str() {
            Some("propose") => acting.propose(numbers(&event["values"])?, &Numbers, now),
            Some("deliver") => {
                let list = event["msgs"].as_array().ok_or("no messages")?;
                let msgs = list.iter().map(|value| msg(case, value)).collect::<Result<_, _>>()?;
                acting.handle(msgs, &Numbers, now)
            }
            Some("timeouts") => acting.timeouts(&Numbers, now),
            other => return Err(place(format!("unknown type {other:?}"))),
        };
        let recorded: Vec<Msg<u64>> = match &event["out"] {
            Value::Null => Vec::new(),
            Value::Array(list) => list.iter().map(|value| msg(case, value)).collect::<Result<_, _>>()?,
            one => vec![msg(case, one)?],
        };
        same("message", ours.into_iter().collect::<Vec<_>>(), recorded).map_err(place)?;
    }
    let recorded = case.field("externalized").as_object().ok_or("no externalized values")?;
    for (number, node) in &nodes {
        let ours = node.externalized().filter(|(index, _)| *index == slot).map(|(_, values)| values.to_vec());
        let expected = recorded.get(&number.to_string()).map(numbers::<Vec<u64>>).transpose()?;
        same("externalized", ours, expected)?;
    }
    Ok(())
}

fn consensus_message(case: &Case<'_>) -> Checked {
    let payload = case.hex("payload_cbor")?;
    let read = ConsensusMsg::from_cbor(&payload).map_err(|e| e.to_string())?;
    case.expect("payload_cbor", read.to_cbor())?;
    let envelope: ConsensusMsgEnvelope = case.message("grpc_message_pb")?;
    same("envelope", &envelope.payload, &payload)?;
    same("deliverer", envelope.from_responder_id.as_str(), case.text("sender")?)?;
    case.expect("scp_msg_digest", read.signed_digest())
        .or_else(|_| case.expect("scp_msg_digest", digest32(b"scp_msg", &read.scp_msg)))?;
    case.expect("broadcast_digest", read.broadcast_digest())?;
    case.expect("prev_block_id", read.prev_block_id)?;
    case.expect("signature", read.signature)?;
    case.expect("sender_key", read.scp_msg.sender_id.public_key)?;
    case.expect_text("sender", &read.scp_msg.sender_id.responder_id.name)?;
    case.expect_number("slot", read.scp_msg.slot_index)?;
    let valid = ed25519::verify(&read.scp_msg.sender_id.public_key, &read.signed_digest(), &read.signature);
    same("signature holds", Some(valid), case.field("signature_valid").as_bool())
}

fn tx_propose_aad(case: &Case<'_>) -> Checked {
    let read = TxProposeAad::from_cbor(&case.hex("cbor")?).map_err(|e| e.to_string())?;
    case.expect("cbor", read.to_cbor())?;
    case.expect("origin_key", read.origin_node.public_key)?;
    case.expect_text("origin_responder_id", &read.origin_node.responder_id.name)?;
    case.expect_text("relayed_by", &read.relayed_by.name)
}
