//! Tests of the JSON half: text and verdicts recorded from Go's `encoding/json` as oasis-core 26.1 uses it.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{Context, JsonKey, from_str, from_str_with, to_string, to_string_pretty};
use crate::{ByteList, Bytes, Codec, Raw, int_type};

#[derive(Clone, Debug, Default, PartialEq, Codec)]
struct Inner {
    #[codec(omitempty)]
    a: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Codec)]
struct Versioned {
    v: u16,
}

#[derive(Clone, Debug, Default, PartialEq, Codec)]
struct Doc {
    #[codec(flatten)]
    versioned: Versioned,
    #[codec(omitempty)]
    int: i64,
    #[codec(omitempty)]
    flag: bool,
    #[codec(omitempty)]
    text: String,
    #[codec(omitempty)]
    data: Bytes,
    #[codec(omitempty)]
    list: Vec<u64>,
    #[codec(omitempty)]
    map: BTreeMap<String, u8>,
    #[codec(omitempty)]
    nums: BTreeMap<i64, bool>,
    #[codec(omitempty)]
    ptr: Option<u64>,
    #[codec(omitempty)]
    ptr_in: Option<Inner>,
    #[codec(rename = "in", omitempty)]
    inner: Inner,
    #[codec(omitempty)]
    arr: [u8; 2],
    #[codec(omitempty)]
    raw: Raw,
    nil: Option<Vec<u64>>,
    nil_map: Option<BTreeMap<String, u64>>,
    nil_bytes: Option<Bytes>,
    raw_bare: Raw,
    r#type: String,
    #[codec(rename = "bare", json_rename = "Bare")]
    bare: u8,
}

int_type! {
    /// Named in JSON.
    text pub(super) struct Reason: u8 {
        /// Two votes.
        EQUIVOCATION = 1 => "consensus-equivocation",
        /// No votes.
        LIVENESS = 2 => "consensus-liveness",
    }
}

int_type! {
    /// A number in JSON.
    int pub(super) struct Tee: u8 {
        /// None.
        NONE = 0 => "none",
        /// SGX.
        SGX = 1 => "sgx",
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Codec)]
#[codec(json_key)]
struct Id(u64);

#[derive(Clone, Debug, Default, PartialEq, Codec)]
struct Enums {
    #[codec(omitempty)]
    reason: Reason,
    tee: Tee,
    slashing: BTreeMap<Reason, Id>,
    by_tee: BTreeMap<Tee, bool>,
    by_id: BTreeMap<Id, bool>,
}

fn full() -> Doc {
    Doc {
        versioned: Versioned { v: 3 },
        int: -9_007_199_254_740_993,
        flag: true,
        text: "<a>&\u{2028}\u{2029}\0\u{8}\u{c}\n\r\t\u{1f}\u{7f}\"\\/é𐅑".into(),
        data: Bytes(vec![1, 2]),
        list: vec![u64::MAX],
        map: BTreeMap::from([("b".into(), 1), ("aa".into(), 2), ("<".into(), 3)]),
        nums: BTreeMap::from([(9, true), (10, false), (-1, true)]),
        ptr: Some(0),
        ptr_in: Some(Inner::default()),
        inner: Inner { a: 5 },
        arr: [1, 2],
        raw: Raw(vec![0xf6]),
        nil: Some(vec![]),
        nil_map: Some(BTreeMap::new()),
        nil_bytes: Some(Bytes(vec![])),
        raw_bare: Raw(vec![1]),
        r#type: "t".into(),
        bare: 1,
    }
}

#[test]
fn text_is_that_of_go() {
    let compact: Vec<&str> = include_str!("tests/compact.txt").lines().collect();
    let pretty = [include_str!("tests/empty.json"), include_str!("tests/full.json")];
    for (i, doc) in [Doc::default(), full()].iter().enumerate() {
        assert_eq!(to_string(doc), compact[i]);
        assert_eq!(to_string_pretty(doc), pretty[i]);
        assert_eq!(from_str::<Doc>(pretty[i]).unwrap(), *doc);
        assert_eq!(from_str::<Doc>(compact[i]).unwrap(), *doc);
    }
}

/// Each line holds an input and what Go makes of it: `-` if it is refused, else the value written again.
#[test]
fn verdicts_are_those_of_go() {
    let mut count = 0;
    for line in include_str!("tests/verdicts.txt").lines() {
        let (input, want) = line.split_once('\t').unwrap();
        let got = from_str::<Doc>(input).map_or_else(|_| "-".to_owned(), |doc| to_string(&doc));
        assert_eq!(got, want, "{input}");
        count += 1;
    }
    assert!(count > 40, "only {count} verdicts");
}

#[test]
fn named_integers() {
    let text = r#"{"reason":"consensus-liveness","tee":1,"slashing":{"consensus-equivocation":7},"by_tee":{"1":true,"77":false},"by_id":{"10":true,"9":true}}"#;
    let value: Enums = from_str(text).unwrap();
    assert_eq!(value.reason, Reason::LIVENESS);
    assert!(!value.by_tee[&Tee(77)]);
    assert_eq!(to_string(&value), text);
    assert_eq!(from_str::<Reason>("1").unwrap_err().to_string(), "expected a string, found a number");
    assert!(from_str::<Reason>("\"1\"").is_err());
    assert_eq!((Reason::LIVENESS.to_string(), Reason(9).to_string()), ("consensus-liveness".into(), "9".into()));
    assert_eq!((Tee::SGX.name(), Tee(9).name()), (Some("sgx"), None));
    assert_eq!(Tee::from_key("256").ok(), None);
}

#[test]
fn lists_of_named_bytes() {
    let list = ByteList(vec![Reason::LIVENESS, Reason::EQUIVOCATION]);
    assert_eq!(crate::cbor::to_vec(&list), [0x42, 2, 1]);
    let text = r#"["consensus-liveness","consensus-equivocation"]"#;
    assert_eq!(to_string(&list), text);
    assert_eq!(from_str::<ByteList<Reason>>(text).unwrap(), list);
    assert_eq!(from_str::<ByteList<Reason>>("\"AgE=\"").unwrap(), list);
    assert!(from_str::<ByteList<Reason>>("[2,1]").is_err());
}

#[test]
fn errors_name_the_path() {
    let error = from_str::<Doc>(r#"{"in":{"a":"5"}}"#).unwrap_err();
    assert_eq!(error.to_string(), "in.a: expected an unsigned integer, found a string");
    let error = from_str::<Doc>(r#"{"list":[1,-2]}"#).unwrap_err();
    assert_eq!(error.to_string(), "list[1]: expected an unsigned integer of type u64, found -2");
    let error = from_str::<Vec<Doc>>(r#"[{},{"map":{"k":300}}]"#).unwrap_err();
    assert_eq!(error.to_string(), "[1].map.k: expected an unsigned integer of type u8, found 300");
    assert_eq!(from_str::<Doc>("7").unwrap_err().to_string(), "expected an object, found a number");
}

#[test]
fn unknown_fields_are_collected() {
    let mut cx = Context::new();
    from_str_with::<Doc>(r#"{"in":{"zzz":1},"q":{"deep":2},"ptr_in":{"y":0}}"#, &mut cx).unwrap();
    assert_eq!(cx.unknown_fields(), ["in.zzz", "q", "ptr_in.y"]);
    assert_eq!((cx.unknown_count(), cx.path()), (3, ""));
    let many: String = (0..2000).map(|i| format!("\"x{i}\":0,")).collect();
    let mut cx = Context::new();
    from_str_with::<Doc>(&format!("{{{many}\"v\":1}}"), &mut cx).unwrap();
    assert_eq!((cx.unknown_fields().len(), cx.unknown_count()), (super::MAX_UNKNOWN_FIELDS, 2000));
}

proptest! {
    #[test]
    fn round_trip(
        text in any::<String>(), int in any::<i64>(), list in proptest::collection::vec(any::<u64>(), 0..4),
        data in proptest::collection::vec(any::<u8>(), 0..9),
        map in proptest::collection::btree_map(any::<String>(), any::<u8>(), 0..4),
        nil in proptest::option::of(proptest::collection::vec(any::<u64>(), 0..4)),
    ) {
        let doc = Doc { text, int, list, data: Bytes(data), map, nil, ..Doc::default() };
        prop_assert_eq!(from_str::<Doc>(&to_string(&doc)).unwrap(), doc.clone());
        prop_assert_eq!(from_str::<Doc>(&to_string_pretty(&doc)).unwrap(), doc);
    }

    #[test]
    fn arbitrary_text(text in "[\\[\\]{}:,\"a-z0-9.-]{0,40}") {
        let _ = from_str::<Doc>(&text);
        let _ = from_str::<BTreeMap<i64, Vec<Raw>>>(&text);
    }
}
