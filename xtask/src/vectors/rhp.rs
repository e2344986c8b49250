//! Family `rhp`: recorded traffic between hosts and runtimes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use base_codec::cbor;
use dev_testkit::rhp::{Direction, Record, load};
use mkvs_tree::LogEntry;
use wire_runtime::{Body, Message, MessageType, enclave_rpc, frame, transaction};

use super::bodies::{Checked, decode_exactly, same_bytes};
use super::{Counts, Difference, Family};

/// See the module.
pub(super) struct Rhp;

impl Family for Rhp {
    fn name(&self) -> &'static str {
        "rhp"
    }

    fn about(&self) -> &'static str {
        "runtime host protocol: frames decode and encode again, with what is inside of them; answers fit their requests"
    }

    fn check_file(&self, path: &Path, counts: &mut Counts) -> Result<(), Difference> {
        let records = load(path).map_err(|e| Difference::new("file", e))?;
        check(&records, counts)
    }
}

/// Requests of one side that await their answers, by id.
#[derive(Default)]
struct Side {
    open: BTreeMap<u64, Body>,
    asked: BTreeSet<u64>,
}

#[derive(Default)]
struct Sides {
    host: Side,
    runtime: Side,
}

impl Sides {
    /// The side that asks, where `Host` sends requests to the runtime.
    fn asking(&mut self, direction: Direction) -> &mut Side {
        match direction {
            Direction::Host => &mut self.host,
            Direction::Runtime => &mut self.runtime,
        }
    }
}

fn check(records: &[Record], counts: &mut Counts) -> Result<(), Difference> {
    let mut sides = Sides::default();
    for (index, record) in records.iter().enumerate() {
        let place = |name: &str| format!("frame {index} of {:?} ({name})", record.direction);
        let message = check_frame(&record.body).map_err(|e| Difference::new(place("?"), e))?;
        let name = message.body.name().to_owned();
        let checked = check_inside(&message.body, counts).and_then(|()| pair(&mut sides, record.direction, message));
        let answered = checked.map_err(|e| Difference::new(place(&name), e))?;
        counts.add("frames");
        counts.add(&name);
        if answered {
            counts.add("pairs");
        }
    }
    // A recording ends while the runtime runs.
    for side in [&sides.host, &sides.runtime] {
        counts.add_many("requests_without_answer", side.open.len() as u64);
    }
    Ok(())
}

/// The frame decodes into a message of a known type that is written as the same bytes.
fn check_frame(body: &[u8]) -> Checked<Message> {
    let message = frame::decode(body).map_err(|e| format!("{e} in {}", hex::encode(body)))?;
    if let Body::Unknown(name) = &message.body {
        return Err(format!("unknown body {name}"));
    }
    same_bytes("frame", &cbor::to_vec(&message), body)?;
    let framed = frame::encode(&message, frame::MAX_RUNTIME_FRAME_BYTES).map_err(|e| e.to_string())?;
    let (length, rest) = framed.split_at_checked(frame::LENGTH_BYTES).ok_or("a frame without length")?;
    let length: [u8; frame::LENGTH_BYTES] = length.try_into().map_err(|_| "a length of another size")?;
    let stated = frame::frame_length(length, frame::MAX_RUNTIME_FRAME_BYTES).map_err(|e| e.to_string())?;
    if stated != rest.len() {
        return Err(format!("written length is {stated}, the body has {}", rest.len()));
    }
    same_bytes("frame as it is written", rest, body)?;
    Ok(message)
}

/// Takes a request, or finds that of an answer. Says whether it was an answer.
fn pair(sides: &mut Sides, from: Direction, message: Message) -> Checked<bool> {
    let Message { id, message_type, body } = message;
    match message_type {
        MessageType::REQUEST => {
            if !body.is_request() {
                return Err("is sent as a request and is none".to_owned());
            }
            let (prefix, side) = match from {
                Direction::Host => ("Runtime", sides.asking(Direction::Host)),
                Direction::Runtime => ("Host", sides.asking(Direction::Runtime)),
            };
            if !body.name().starts_with(prefix) {
                return Err(format!("{from:?} asks what only the other side asks"));
            }
            if !side.asked.insert(id) {
                return Err(format!("request id {id} was used before"));
            }
            side.open.insert(id, body);
            Ok(false)
        }
        MessageType::RESPONSE => {
            let other = if from == Direction::Host { Direction::Runtime } else { Direction::Host };
            let request = sides.asking(other).open.remove(&id);
            let request = request.ok_or_else(|| format!("answers request {id}, which nobody made"))?;
            if body.answers(&request) {
                Ok(true)
            } else {
                Err(format!("answers request {id}, which is a {}", request.name()))
            }
        }
        other => Err(format!("message type {other}")),
    }
}

/// What a body carries as bytes is a message of its own.
fn check_inside(body: &Body, counts: &mut Counts) -> Checked<()> {
    match body {
        Body::HostRPCCallRequest(r) if r.kind == Some(enclave_rpc::Kind::NOISE_SESSION) => {
            let bytes = r.request.as_ref().map_or(&[][..], |b| &b.0);
            decode_exactly::<enclave_rpc::Frame>("enclave frame", bytes)?;
            counts.add("enclave_frames");
        }
        Body::RuntimeLocalRPCCallRequest(r) => {
            let bytes = r.request.as_ref().map_or(&[][..], |b| &b.0);
            decode_exactly::<enclave_rpc::Request>("local request", bytes)?;
            counts.add("local_calls");
        }
        Body::RuntimeLocalRPCCallResponse(r) => {
            let bytes = r.response.as_ref().map_or(&[][..], |b| &b.0);
            decode_exactly::<enclave_rpc::Message>("local answer", bytes)?;
            counts.add("local_calls");
        }
        Body::RuntimeExecuteTxBatchResponse(r) => {
            for entry in r.tx_input_write_log.as_option().into_iter().flatten() {
                check_entry(entry, counts)?;
            }
            for entry in r.batch.io_write_log.iter().flatten() {
                check_entry(entry, counts)?;
            }
        }
        _ => {}
    }
    Ok(())
}

/// A key and value of a round's tree of transactions.
fn check_entry(entry: &LogEntry, counts: &mut Counts) -> Checked<()> {
    let key = transaction::Key::parse(&entry.key).ok_or_else(|| format!("key {}", hex::encode(&entry.key.0)))?;
    same_bytes("key", &key.to_bytes(), &entry.key)?;
    let value = entry.value.as_ref().map_or(&[][..], |v| &v.0);
    match key {
        transaction::Key::Transaction { hash, kind: transaction::ArtifactKind::Input } => {
            let artifacts: transaction::InputArtifacts = decode_exactly("input", value)?;
            let input = artifacts.input.ok_or("an input without transaction")?;
            same_bytes("transaction hash", transaction::hash(&input).as_bytes(), hash.as_bytes())?;
            counts.add("inputs");
        }
        transaction::Key::Transaction { .. } => {
            decode_exactly::<transaction::OutputArtifacts>("output", value)?;
            counts.add("outputs");
        }
        transaction::Key::Tag { .. } => counts.add("tags"),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records() -> Vec<Record> {
        load(&dev_testkit::paths::vectors_dir().join("rhp/keyvalue-compute.bin")).unwrap()
    }

    fn first_difference(records: &[Record]) -> Option<String> {
        check(records, &mut Counts::default()).err().map(|d| d.to_string())
    }

    #[test]
    fn counts_what_was_compared() {
        let mut counts = Counts::default();
        assert_eq!(check(&records(), &mut counts), Ok(()));
        let count = |name: &str| counts.0.get(name).copied().unwrap_or(0);
        assert_eq!(count("frames"), records().len() as u64);
        assert_eq!(2 * count("pairs") + count("requests_without_answer"), count("frames"));
        assert!(count("inputs") > 0 && count("outputs") > 0);
    }

    #[test]
    fn every_kind_of_difference_is_seen() {
        let good = records();
        assert_eq!(first_difference(&good), None);

        let mut longer = good.clone();
        longer[3].body.push(0);
        assert!(first_difference(&longer).unwrap().starts_with("frame 3 of "));

        // Every changed byte is an error or changes the frame, which then has another answer or none; here: all that
        // are refused are refused with the place, and none panics.
        for at in 0..good[0].body.len() {
            let mut changed = good[..1].to_vec();
            changed[0].body[at] ^= 0x20;
            if let Some(difference) = first_difference(&changed) {
                assert!(difference.starts_with("frame 0 of "), "{difference}");
            }
        }

        let mut twice = good.clone();
        twice.insert(1, good[0].clone());
        assert!(first_difference(&twice).unwrap().contains("was used before"));

        let answer = good.iter().position(|r| frame::decode(&r.body).unwrap().message_type == MessageType::RESPONSE);
        let orphan = [good[answer.unwrap()].clone()];
        assert!(first_difference(&orphan).unwrap().contains("which nobody made"));

        let mut swapped = good.clone();
        swapped[0].direction = Direction::Runtime;
        assert!(first_difference(&swapped).unwrap().contains("only the other side asks"));
    }

    #[test]
    fn an_answer_of_another_kind_and_an_unknown_body_are_differences() {
        let record = |direction, message: &Message| Record { direction, time_secs: 0.0, body: cbor::to_vec(message) };
        let asked = Message::request(0, Body::RuntimePingRequest(wire_runtime::Empty {}));
        let other = Message::response(0, Body::HostIdentityResponse(Default::default()));
        let pair = [record(Direction::Host, &asked), record(Direction::Runtime, &other)];
        assert!(first_difference(&pair).unwrap().contains("which is a RuntimePingRequest"));
        let unknown = Message::request(0, Body::Unknown("RuntimeFlyRequest".to_owned()));
        assert!(first_difference(&[record(Direction::Host, &unknown)]).unwrap().contains("unknown body"));
    }
}
