//! `digestible.json`: structured hashing of explicit trees and of described structs.

use merlin::Transcript;
use serde_json::Value;
use wire_mobilecoin::digest::{self, Digestible, Label};

use crate::case::{Case, Field, from_hex};
use crate::{Checked, Checker};

pub(crate) const GROUPS: &[(&str, Checker)] = &[("ast", ast), ("omission", omission)];

/// Transcripts take literals for labels; recorded ones are few and live as long as the check.
fn label(text: &str) -> Label {
    String::from(text).leak().as_bytes()
}

fn ast(case: &Case<'_>) -> Checked {
    let mut transcript = Transcript::new(b"digestible");
    append(label(case.text("context")?), case.field("ast"), &mut transcript)?;
    case.expect("digest", digest::finish(transcript))
}

fn append(context: Label, node: &Value, transcript: &mut Transcript) -> Checked {
    if node.as_str() == Some("none") {
        digest::none(context, transcript);
        return Ok(());
    }
    let text = |name: &str| node[name].as_str().ok_or_else(|| format!("{name} is no text"));
    if let Some(kind) = node["prim"].as_str() {
        digest::primitive(context, label(kind), &from_hex(&node["data"])?, transcript);
    } else if let Some(items) = node["seq"].as_array() {
        digest::sequence_head(context, items.len(), transcript);
        for item in items {
            append(b"", item, transcript)?;
        }
    } else if let Some(fields) = node["fields"].as_array() {
        let name = String::from(text("agg")?);
        transcript.append_message(context, b"agg");
        transcript.append_message(b"name", name.as_bytes());
        for field in fields {
            append(label(field[0].as_str().ok_or("field without a name")?), &field[1], transcript)?;
        }
        transcript.append_message(context, b"agg-end");
        transcript.append_message(b"name", name.as_bytes());
    } else if node["var"].is_string() {
        let which = node["which"].as_u64().and_then(|w| u32::try_from(w).ok()).ok_or("which")?;
        digest::variant(context, String::from(text("var")?).leak(), which, transcript);
        append(label(text("variant")?), &node["value"], transcript)?;
    } else {
        return Err(format!("unknown node {node}"));
    }
    Ok(())
}

/// The value of one line of words, appended as the words say.
type Appender = fn(&mut Transcript);

/// Structs that the words of the cases describe.
const DESCRIBED: &[(&str, Appender)] = &[
    ("struct Unit{}", |t| digest::aggregate(b"test", "Unit", t, |_| {})),
    ("tuple struct Tup(u64=7, bytes=empty, option u32=none)", |t| tup(&Vec::new(), None, t)),
    ("tuple struct Tup(u64=7, bytes=0102, option u32=9)", |t| tup(&vec![1, 2], Some(9), t)),
    (
        "struct named 'Other' {a:bytes never omitted=empty, b:u64 omitted when 0=0, c:u16=3 hashed under field name 'zz'}",
        |t| {
            digest::aggregate(b"test", "Other", t, |fields| {
                fields.always("a", &Vec::<u8>::new()).field("zz", &3u16);
            });
        },
    ),
    (
        "struct named 'Other' {a:bytes never omitted=01, b:u64 omitted when 0=8, c:u16=3 hashed under field name 'zz'}",
        |t| {
            digest::aggregate(b"test", "Other", t, |fields| {
                fields.always("a", &vec![1u8]).field("b", &8u64).field("zz", &3u16);
            });
        },
    ),
    ("transparent wrapper of 32 bytes 09..09", |t| [9u8; 32].digest_under(b"test", t)),
    ("enum En variant 0 'A' (unit)", |t| {
        digest::variant(b"test", "En", 0, t);
        digest::none(b"A", t);
    }),
    ("enum En variant 1 'B'(u32=5)", |t| {
        digest::variant(b"test", "En", 1, t);
        5u32.digest_under(b"B", t);
    }),
    ("enum En variant 2 'C'(u32=5, bytes=empty)", |t| {
        digest::variant(b"test", "En", 2, t);
        digest::aggregate(b"C", "", t, |fields| {
            fields.field("0", &5u32).field("1", &Vec::<u8>::new());
        });
    }),
    ("enum En variant 3 'D'{x:u64=5,y:option u16=none}", |t| {
        digest::variant(b"test", "En", 3, t);
        digest::aggregate(b"D", "", t, |fields| {
            fields.field("x", &5u64).field("y", &None::<u16>);
        });
    }),
    ("transparent enum Te variant 0 (u64=5)", |t| 5u64.digest_under(b"test", t)),
    ("transparent enum Te variant 1 (u32=5)", |t| 5u32.digest_under(b"test", t)),
    ("option u64 none", |t| None::<u64>.digest_under(b"test", t)),
    ("option u64 5", |t| Some(5u64).digest_under(b"test", t)),
    ("bytes empty", |t| Vec::<u8>::new().digest_under(b"test", t)),
    ("vec u64 empty", |t| Vec::<u64>::new().digest_under(b"test", t)),
    ("ordered set u64 {3,1,2}", |t| std::collections::BTreeSet::from([3u64, 1, 2]).digest_under(b"test", t)),
];

fn tup(bytes: &Vec<u8>, option: Option<u32>, transcript: &mut Transcript) {
    digest::aggregate(b"test", "Tup", transcript, |fields| {
        fields.field("0", &7u64).field("1", bytes).field("2", &option);
    });
}

fn described(words: &str) -> Field<Appender> {
    if let Some((_, appender)) = DESCRIBED.iter().find(|(text, _)| *text == words) {
        return Ok(*appender);
    }
    Err(format!("words that are not known: {words}"))
}

fn omission(case: &Case<'_>) -> Checked {
    if case.text("context")? != "test" {
        return Err("another context".into());
    }
    let mut transcript = Transcript::new(b"digestible");
    described(case.text("value")?)?(&mut transcript);
    case.expect("digest", digest::finish(transcript))
}
