//! Numbers and messages as Go writes them (taken from the documentation of `encoding/gob`), and damaged ones.

use super::*;

fn uint(value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    put_uint(&mut out, value);
    out
}

fn int(value: i64) -> Vec<u8> {
    let mut out = Vec::new();
    put_int(&mut out, value);
    out
}

#[test]
fn numbers() {
    for (value, bytes) in [
        (0, &[0][..]),
        (7, &[7]),
        (127, &[0x7f]),
        (128, &[0xff, 0x80]),
        (256, &[0xfe, 1, 0]),
        (u64::MAX, &[0xf8, 255, 255, 255, 255, 255, 255, 255, 255]),
    ] {
        assert_eq!(uint(value), bytes, "{value}");
        assert_eq!(Cursor(bytes).uint(), Ok(value));
    }
    for (value, bytes) in [
        (0, &[0][..]),
        (-65, &[0xff, 129]),
        (-129, &[0xfe, 1, 1]),
        (7, &[14]),
        (i64::MIN, &[0xf8, 255, 255, 255, 255, 255, 255, 255, 255]),
    ] {
        assert_eq!(int(value), bytes, "{value}");
        assert_eq!(Cursor(bytes).int(), Ok(value));
    }
    assert!(Cursor(&[0xf7]).uint().is_err());
    assert!(Cursor(&[0xfe, 1]).uint().is_err());
}

/// The documentation's example: `type Point struct { X, Y int }` with 22 and 33.
const POINT: &[u8] = &[
    0x1f, 0xff, 0x81, 0x03, 0x01, 0x01, 0x05, b'P', b'o', b'i', b'n', b't', 0x01, 0xff, 0x82, 0x00, 0x01, 0x02, 0x01,
    0x01, b'X', 0x01, 0x04, 0x00, 0x01, 0x01, b'Y', 0x01, 0x04, 0x00, 0x00, 0x00, 0x07, 0xff, 0x82, 0x01, 0x2c, 0x01,
    0x42, 0x00,
];

#[test]
fn the_example_of_the_documentation() {
    const KIND: Kind = Kind::Struct("Point", &[("X", Kind::Int), ("Y", Kind::Int)]);
    let mut decoder = Decoder::default();
    assert_eq!(decoder.message(&POINT[1..32]), Ok(None));
    let value = decoder.message(&POINT[33..]).unwrap().unwrap();
    assert_eq!((value.field("X").int(), value.field("Y").int(), value.field("Z")), (22, 33, &Value::Nothing));
    let encoded = Encoder::default().encode(KIND, &Item::Struct(vec![Item::Int(22), Item::Int(33)]));
    assert_eq!(encoded, POINT);
    // The type is described once.
    assert_eq!(
        decoder.message(&POINT[1..32]),
        Err(GobError::Malformed("type is described twice, or there are too many"))
    );
}

/// Splits a stream into messages.
fn messages(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    while !bytes.is_empty() {
        let mut at = Cursor(bytes);
        all.push(at.take().unwrap().to_vec());
        bytes = at.0;
    }
    all
}

#[test]
fn values_come_back() {
    const KIND: Kind = Kind::Struct(
        "All",
        &[("A", Kind::Text), ("B", Kind::Ints), ("C", Kind::Bytes), ("D", Kind::Bool), ("E", Kind::Opaque("Key"))],
    );
    let (mut encoder, mut decoder) = (Encoder::default(), Decoder::default());
    let mut pass = |kind, item: &Item<'_>| {
        let mut values: Vec<_> =
            messages(&encoder.encode(kind, item)).iter().filter_map(|m| decoder.message(m).unwrap()).collect();
        assert_eq!(values.len(), 1);
        values.remove(0)
    };
    let item = Item::Struct(vec![
        Item::Text("text"),
        Item::Ints(&[1, -2, 300]),
        Item::Bytes(&[7; 200]),
        Item::Bool(true),
        Item::Bytes(&[9; 32]),
    ]);
    for _ in 0..2 {
        let value = pass(KIND, &item);
        assert_eq!(value.field("A").text(), "text");
        let ints: Vec<_> = value.field("B").list().iter().map(Value::int).collect();
        assert_eq!(ints, [1, -2, 300]);
        assert_eq!((value.field("C").bytes(), value.field("E").bytes()), (&[7; 200][..], &[9; 32][..]));
        assert!(value.field("D").is_true());
    }
    assert_eq!(pass(Kind::Struct("", &[]), &Item::Struct(Vec::new())), Value::Struct(Vec::new()));
    assert_eq!(pass(Kind::Interface, &Item::Nil), Value::Nothing);
    assert_eq!(pass(Kind::Uint, &Item::Uint(0)).uint(), 0);
    assert_eq!(pass(Kind::Opaque("Key"), &Item::Bytes(&[1; 32])).bytes(), [1; 32]);
}

#[test]
fn damage_is_refused_and_nothing_panics() {
    let mut seed = 1_u64;
    let mut random = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(seed >> 40).unwrap()
    };
    let whole = messages(POINT);
    for _ in 0..20_000 {
        let mut decoder = Decoder::default();
        for message in &whole {
            let mut message = message.clone();
            let at = random() % message.len();
            message[at] = random().to_le_bytes()[0];
            message.truncate(1 + random() % message.len());
            let _ = decoder.message(&message);
        }
    }
    // A list that says it is longer than the message.
    let mut decoder = Decoder::default();
    let mut list = Encoder::default().encode(Kind::Ints, &Item::Ints(&[1]));
    let parts = messages(&list);
    assert_eq!(decoder.message(&parts[0]), Ok(None));
    list = parts[1].clone();
    let at = list.len() - 2;
    list[at] = 0x7f;
    assert_eq!(decoder.message(&list), Err(GobError::Short));
    // A list of lists of itself.
    let mut own = Vec::new();
    put_int(&mut own, -65);
    own.extend([2, 1, 2]);
    put_int(&mut own, 65);
    own.extend([0, 1]);
    put_int(&mut own, 65);
    own.extend([0, 0]);
    let mut decoder = Decoder::default();
    assert_eq!(decoder.message(&own), Ok(None));
    let mut deep = int(65);
    deep.push(0);
    deep.extend([1; 100]);
    assert_eq!(decoder.message(&deep), Err(GobError::Malformed("types are nested too deeply")));
}
