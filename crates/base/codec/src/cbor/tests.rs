//! Tests of the CBOR half: verdicts recorded from the reference, RFC 8949 examples, properties.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{Decode, Decoder, Encode, Error, MAX_DEPTH, from_slice, from_slice_exact, from_slice_relaxed, to_vec};
use crate::{ByteList, Bytes, Codec, Raw, fixed_bytes, int_type};

fixed_bytes! {
    /// A type with a binary marshaler.
    pub struct Bin4([u8; 4]);
}

fixed_bytes! {
    /// A type with a check of its own.
    pub struct Even([u8; 2], check = even);
}

fn even(bytes: &[u8; 2]) -> Result<(), &'static str> {
    if bytes[1].is_multiple_of(2) { Ok(()) } else { Err("odd") }
}

int_type! {
    /// An enum in the reference.
    int pub struct Number: u8 {
        /// One.
        ONE = 1 => "one",
    }
}

#[derive(Clone, Debug, Default, PartialEq, Codec)]
struct Fee {
    amount: Option<Bytes>,
    gas: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Codec)]
struct Tx {
    nonce: u64,
    #[codec(omitempty)]
    fee: Option<Fee>,
    method: String,
    #[codec(omitempty)]
    body: Raw,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Codec)]
struct Inner {
    #[codec(omitempty)]
    a: u64,
    #[codec(omitempty)]
    b: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Codec)]
struct Fixed {
    a: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Codec)]
struct Versioned {
    v: u16,
}

#[derive(Clone, Debug, Default, PartialEq, Codec)]
struct Word(String);

#[derive(Clone, Debug, Default, PartialEq, Codec)]
#[codec(cbor_only)]
struct All {
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
    ptr: Option<u64>,
    #[codec(omitempty)]
    ptr_in: Option<Inner>,
    #[codec(rename = "in", omitempty)]
    inner: Inner,
    #[codec(omitempty)]
    fix: Fixed,
    #[codec(omitempty)]
    bin: Bin4,
    #[codec(omitempty)]
    arr: [u8; 2],
    #[codec(omitempty)]
    kind: Number,
    nil: Option<Vec<u64>>,
    nil_map: Option<BTreeMap<Number, u64>>,
    nil_bytes: Option<Bytes>,
    r#type: Word,
    #[codec(rename = "Bare")]
    bare: u8,
    #[codec(skip)]
    skipped: u8,
}

#[derive(Clone, Debug, Default, PartialEq, Codec)]
#[codec(array)]
struct Arr {
    a: u64,
    b: Option<Bytes>,
}

#[derive(Clone, Debug, Default, PartialEq, Codec)]
struct Empty {}

type Recoder = fn(&[u8]) -> [Result<Vec<u8>, Error>; 2];

fn recode<T: Decode + Encode>(b: &[u8]) -> [Result<Vec<u8>, Error>; 2] {
    [from_slice::<T>(b).map(|v| to_vec(&v)), from_slice_relaxed::<T>(b).map(|v| to_vec(&v))]
}

/// The Rust type that stands for each Go type of the table.
const TYPES: &[(&str, Recoder)] = &[
    ("u8", recode::<u8>),
    ("u16", recode::<u16>),
    ("u32", recode::<u32>),
    ("u64", recode::<u64>),
    ("i8", recode::<i8>),
    ("i16", recode::<i16>),
    ("i32", recode::<i32>),
    ("i64", recode::<i64>),
    ("bool", recode::<bool>),
    ("text", recode::<String>),
    ("bytes", recode::<Option<Bytes>>),
    ("arr4", recode::<[u8; 4]>),
    ("bin4", recode::<Bin4>),
    ("raw", recode::<Raw>),
    ("kind", recode::<Number>),
    ("list-kind", recode::<Option<ByteList<Number>>>),
    ("list-u64", recode::<Option<Vec<u64>>>),
    ("list-text", recode::<Option<Vec<String>>>),
    ("list-bytes", recode::<Option<Vec<Option<Bytes>>>>),
    ("ptr-u64", recode::<Option<u64>>),
    ("ptr-bin4", recode::<Option<Bin4>>),
    ("ptr-raw-list", recode::<Option<Vec<Raw>>>),
    ("map-text-u64", recode::<Option<BTreeMap<String, u64>>>),
    ("map-u8-text", recode::<Option<BTreeMap<u8, String>>>),
    ("map-text-bytes", recode::<Option<BTreeMap<String, Option<Bytes>>>>),
    ("map-bin4-bool", recode::<Option<BTreeMap<Bin4, bool>>>),
    ("map-u64-ptr", recode::<Option<BTreeMap<u64, Option<u64>>>>),
    ("map-kind-kind", recode::<Option<BTreeMap<Number, Number>>>),
    ("map-i64-in", recode::<Option<BTreeMap<i64, Inner>>>),
    ("map-text-raw", recode::<Option<BTreeMap<String, Raw>>>),
    ("map-in-u8", recode::<Option<BTreeMap<Inner, u8>>>),
    ("map-text-map", recode::<Option<BTreeMap<String, Option<BTreeMap<String, u64>>>>>),
    ("map-text-bin4", recode::<Option<BTreeMap<String, Bin4>>>),
    ("tx", recode::<Tx>),
    ("all", recode::<All>),
    ("inner", recode::<Inner>),
    ("arr", recode::<Arr>),
    ("none", recode::<Empty>),
    ("list-tx", recode::<Option<Vec<Option<Tx>>>>),
    ("fee", recode::<Fee>),
];

/// Accepts, refuses and stores exactly what the reference does, on hand-picked inputs and on mutations of valid ones.
///
/// The verdicts were recorded from `go/common/cbor` of oasis-core 26.1: for each Go type, what `Unmarshal` and
/// `UnmarshalRPC` answer, and what `Marshal` makes of the value.
#[test]
fn verdicts_are_those_of_the_reference() {
    let mut wrong = Vec::new();
    let mut count = 0;
    for line in include_str!("tests/verdicts.txt").lines().filter(|line| !line.starts_with('#')) {
        let parts: Vec<&str> = line.split(' ').collect();
        let [name, input, strict, relaxed] = parts[..] else { panic!("bad line {line}") };
        let bytes = hex::decode(if input == "." { "" } else { input }).unwrap();
        let strict = if strict == "=" { input } else { strict };
        let relaxed = if relaxed == "=" { strict } else { relaxed };
        let (_, recode) = TYPES.iter().find(|(n, _)| *n == name).unwrap();
        let got = recode(&bytes);
        for (mode, want, got) in [("strict", strict, &got[0]), ("relaxed", relaxed, &got[1])] {
            let got_text = got.as_ref().map_or("-".to_owned(), hex::encode);
            if got_text != want {
                wrong.push(format!("{name} {mode} {input}: want {want}, got {got_text} ({got:?})"));
            }
        }
        count += 1;
    }
    assert!(wrong.is_empty(), "{} of {count}:\n{}", wrong.len(), wrong[..wrong.len().min(30)].join("\n"));
    assert!(count > 8000, "only {count} verdicts");
}

/// RFC 8949, Appendix A: what this codec can hold.
#[test]
fn rfc_examples() {
    fn check<T: Decode + Encode + PartialEq + std::fmt::Debug>(value: T, hex: &str) {
        let bytes = hex::decode(hex).unwrap();
        assert_eq!(to_vec(&value), bytes, "{value:?}");
        assert_eq!(from_slice_exact::<T>(&bytes).unwrap(), value);
    }
    for (n, hex) in [
        (0, "00"),
        (1, "01"),
        (10, "0a"),
        (23, "17"),
        (24, "1818"),
        (25, "1819"),
        (100, "1864"),
        (1000, "1903e8"),
        (1_000_000, "1a000f4240"),
        (1_000_000_000_000, "1b000000e8d4a51000"),
        (u64::MAX, "1bffffffffffffffff"),
    ] {
        check::<u64>(n, hex);
    }
    for (n, hex) in [(-1, "20"), (-10, "29"), (-100, "3863"), (-1000, "3903e7"), (i64::MIN, "3b7fffffffffffffff")] {
        check::<i64>(n, hex);
    }
    check(false, "f4");
    check(true, "f5");
    check(None::<u64>, "f6");
    check(Bytes(vec![]), "40");
    check(Bytes(vec![1, 2, 3, 4]), "4401020304");
    for (text, hex) in [
        ("", "60"),
        ("a", "6161"),
        ("IETF", "6449455446"),
        ("\"\\", "62225c"),
        ("\u{fc}", "62c3bc"),
        ("\u{6c34}", "63e6b0b4"),
        ("\u{10151}", "64f0908591"),
    ] {
        check(text.to_owned(), hex);
    }
    check(Vec::<u64>::new(), "80");
    check(vec![1u64, 2, 3], "83010203");
    check((1..=25u64).collect::<Vec<_>>(), "98190102030405060708090a0b0c0d0e0f101112131415161718181819");
    check(BTreeMap::<u64, u64>::new(), "a0");
    check(BTreeMap::from([(1u64, 2u64), (3, 4)]), "a201020304");
    let letters = ["a", "b", "c", "d", "e"].map(|s| (s.to_owned(), s.to_uppercase()));
    check(BTreeMap::from(letters), "a56161614161626142616361436164614461656145");
    for refused in ["f93c00", "c11a514b67b0", "5f42010243030405ff", "7f657374726561646d696e67ff", "9fff", "bfff"] {
        let bytes = hex::decode(refused).unwrap();
        assert!(from_slice::<u64>(&bytes).is_err() && from_slice::<Bytes>(&bytes).is_err(), "{refused}");
    }
}

#[test]
fn checks_of_a_binary_type_apply_to_byte_strings_only() {
    assert_eq!(from_slice::<Even>(&[0x42, 1, 2]).unwrap(), Even::new([1, 2]));
    assert_eq!(from_slice::<Even>(&[0x42, 1, 3]), Err(Error::Invalid { offset: 0, reason: "odd".into() }));
    assert_eq!(from_slice::<Even>(&[0x82, 1, 3]).unwrap(), Even::new([1, 3]));
    let length = from_slice::<Even>(&[0x41, 1]).unwrap_err();
    assert_eq!(length.to_string(), "expected 2 bytes, found 1 at byte 0");
}

#[test]
fn errors_say_where_and_what() {
    let tx = to_vec(&BTreeMap::from([("nonce".to_owned(), "x".to_owned())]));
    let error = from_slice::<Tx>(&tx).unwrap_err();
    assert_eq!(error.to_string(), "expected an integer, found text at byte 7");
    let error = from_slice::<Tx>(&to_vec(&BTreeMap::from([("extra".to_owned(), 1u8)]))).unwrap_err();
    assert_eq!(error.to_string(), "unknown field \"extra\" at byte 1");
    assert_eq!(from_slice::<u8>(&[0x19, 1, 0]).unwrap_err().to_string(), "integer 256 at byte 0 does not fit u8");
}

#[test]
fn trailing_bytes_are_refused_only_on_request() {
    assert_eq!(from_slice::<u64>(&[1, 0xff]), Ok(1));
    assert_eq!(from_slice_exact::<u64>(&[1, 0xff]), Err(Error::TrailingBytes { offset: 1, count: 1 }));
}

#[test]
fn absent_raw_item_is_the_default() {
    assert_eq!(Raw::default().decode_as::<Tx>().unwrap(), Tx::default());
    assert_eq!(Raw::of(&7u64).decode_as::<u64>().unwrap(), 7);
}

/// Hostile heads cost neither stack nor memory.
#[test]
fn announced_sizes_reserve_nothing() {
    let mut nested = vec![0x81; 1_000_000];
    nested.push(0);
    assert!(matches!(from_slice::<Raw>(&nested), Err(Error::TooDeep { max: MAX_DEPTH, .. })));
    // Ten million elements announced, none there.
    assert!(matches!(from_slice::<Vec<Tx>>(&[0x9a, 0x00, 0x98, 0x96, 0x80]), Err(Error::UnexpectedEnd { .. })));
    // A list whose first element is wrong must not have made room for all.
    let mut list = vec![0x9a, 0x00, 0x0f, 0x42, 0x40, 0xf5];
    list.resize(list.len() + 999_999, 0xf6);
    assert!(from_slice::<Vec<All>>(&list).is_err());
    let reserved = super::impls::initial_capacity::<All>(1_000_000) * size_of::<All>();
    assert!(reserved <= 4096, "{reserved}");
}

#[derive(Clone, Debug, Default, PartialEq, Codec)]
#[codec(cbor_only)]
struct Generic<T> {
    value: T,
    #[codec(omitempty)]
    next: Option<Box<Generic<T>>>,
}

#[test]
fn generic_and_recursive_structs() {
    let value = Generic { value: 1u64, next: Some(Box::new(Generic { value: 2, next: None })) };
    let bytes = to_vec(&value);
    assert_eq!(hex::encode(&bytes), "a2646e657874a16576616c7565026576616c756501");
    assert_eq!(from_slice::<Generic<u64>>(&bytes).unwrap(), value);
}

fn any_inner() -> impl Strategy<Value = Inner> {
    (any::<u64>(), any::<bool>()).prop_map(|(a, b)| Inner { a, b })
}

fn any_bytes() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), 0..40)
}

prop_compose! {
    fn any_all()(
        v in any::<u16>(), int in any::<i64>(), flag in any::<bool>(), text in ".{0,30}", data in any_bytes(),
        list in proptest::collection::vec(any::<u64>(), 0..5),
        map in proptest::collection::btree_map("[a-z]{0,4}", any::<u8>(), 0..6),
        ptr in any::<Option<u64>>(), ptr_in in proptest::option::of(any_inner()), inner in any_inner(),
        (bin, arr, kind, bare) in any::<([u8; 4], [u8; 2], u8, u8)>(),
        nil in proptest::option::of(proptest::collection::vec(any::<u64>(), 0..30)),
        nil_map in proptest::option::of(proptest::collection::btree_map(any::<u8>(), any::<u64>(), 0..6)),
    ) -> All {
        All {
            versioned: Versioned { v }, int, flag, r#type: Word(text.clone()), text, data: Bytes(data.clone()), list, map,
            ptr, ptr_in, inner, fix: Fixed { a: v.into() }, bin: Bin4::new(bin), arr, kind: Number(kind), nil,
            nil_map: nil_map.map(|m| m.into_iter().map(|(k, v)| (Number(k), v)).collect()),
            nil_bytes: (bare > 9).then_some(Bytes(data)), bare, skipped: 0,
        }
    }
}

/// Map keys of all well-formed maps in `b` ascend.
fn assert_canonical(d: &mut Decoder<'_>) {
    match d.kind().unwrap() {
        super::Kind::Array => (0..d.array().unwrap()).for_each(|_| assert_canonical(d)),
        super::Kind::Map => {
            let mut last: Option<&[u8]> = None;
            for _ in 0..d.map().unwrap() {
                let key = d.raw_item().unwrap();
                assert!(last.is_none_or(|last| (last.len(), last) < (key.len(), key)));
                last = Some(key);
                assert_canonical(d);
            }
        }
        _ => d.skip().unwrap(),
    }
}

proptest! {
    #[test]
    fn round_trip(value in any_all()) {
        let bytes = to_vec(&value);
        prop_assert_eq!(from_slice_exact::<All>(&bytes).unwrap(), value.clone());
        prop_assert_eq!(from_slice_relaxed::<All>(&bytes).unwrap(), value);
        assert_canonical(&mut Decoder::new(&bytes).unwrap());
    }

    #[test]
    fn round_trip_of_maps(
        map in proptest::collection::btree_map(".{0,30}", proptest::collection::btree_map(any::<i64>(), any::<bool>(), 0..5), 0..9),
    ) {
        let bytes = to_vec(&map);
        prop_assert_eq!(from_slice_exact::<BTreeMap<String, BTreeMap<i64, bool>>>(&bytes).unwrap(), map);
        assert_canonical(&mut Decoder::new(&bytes).unwrap());
    }

    /// Never panics; what is accepted encodes to something that decodes to the same.
    #[test]
    fn arbitrary_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        for (name, recode) in TYPES {
            for first in recode(&bytes).into_iter().flatten() {
                let [again, _] = recode(&first);
                prop_assert_eq!(again.unwrap(), first, "{}", name);
            }
        }
    }

    /// As above, beginning like a map or list so that more is reached.
    #[test]
    fn arbitrary_items(head in 0x80u8..0xb8, bytes in proptest::collection::vec(0u8..0xa4, 0..60)) {
        let bytes: Vec<u8> = std::iter::once(head).chain(bytes).collect();
        for (name, recode) in TYPES {
            for first in recode(&bytes).into_iter().flatten() {
                let [again, _] = recode(&first);
                prop_assert_eq!(again.unwrap(), first, "{}", name);
            }
        }
    }

    #[test]
    fn arbitrary_bytes_well_formed_and_skip_agree(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(end) = super::well_formed(&bytes, 0) {
            let mut d = Decoder::new(&bytes).unwrap();
            d.skip().unwrap();
            prop_assert_eq!(d.offset(), end);
        }
    }
}
