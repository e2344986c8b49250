//! CBOR items of any shape as short text: `[a b]` for lists and byte strings, `map[key:value]` for maps.

use base_codec::cbor::{Decoder, Error, Kind};

/// A key of a nested map: numbers come before text.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Integer(i128),
    Text(String),
}

/// The entries of a map with text keys that are not null, in the order of the bytes; `null` and no bytes at all are a map without entries.
pub(super) fn entries(bytes: &[u8]) -> Result<Vec<(String, String)>, Error> {
    if bytes.is_empty() {
        return Ok(Vec::new());
    }
    let mut d = Decoder::new(bytes)?;
    if d.take_null() {
        return Ok(Vec::new());
    }
    let (mut seen, mut out) = (std::collections::BTreeSet::new(), Vec::new());
    for _ in 0..d.map()? {
        let offset = d.offset();
        let key = d.text()?.to_owned();
        if !seen.insert(key.clone()) {
            return Err(Error::DuplicateKey { offset });
        }
        if !d.take_null() {
            let value = text(&mut d)?;
            out.push((key, value));
        }
    }
    Ok(out)
}

/// Reads the next item. The decoder has limited the depth of nesting, and with it the recursion.
fn text(d: &mut Decoder<'_>) -> Result<String, Error> {
    Ok(match d.kind()? {
        Kind::Unsigned | Kind::Negative | Kind::Simple => d.integer()?.value().to_string(),
        Kind::Bytes => list(d.bytes()?.iter().map(u8::to_string)),
        Kind::Text => d.text()?.to_owned(),
        Kind::Bool => d.bool()?.to_string(),
        Kind::Null => {
            d.skip()?;
            "<nil>".to_owned()
        }
        Kind::Array => {
            let items = (0..d.array()?).map(|_| text(d)).collect::<Result<Vec<_>, _>>()?;
            list(items.into_iter())
        }
        Kind::Map => map(d)?,
        Kind::Float => float(d.raw_item()?),
        Kind::Tag => return Err(Error::Tag { offset: d.offset() }),
    })
}

fn list(items: impl Iterator<Item = String>) -> String {
    format!("[{}]", items.collect::<Vec<_>>().join(" "))
}

fn map(d: &mut Decoder<'_>) -> Result<String, Error> {
    let mut pairs = std::collections::BTreeMap::new();
    for _ in 0..d.map()? {
        let offset = d.offset();
        let key = match d.kind()? {
            Kind::Unsigned | Kind::Negative => Key::Integer(d.integer()?.value()),
            Kind::Text => Key::Text(d.text()?.to_owned()),
            _ => return Err(d.wrong_kind("an integer or text as a key")),
        };
        if pairs.insert(key, text(d)?).is_some() {
            return Err(Error::DuplicateKey { offset });
        }
    }
    let pair = |(key, value)| match key {
        Key::Integer(n) => format!("{n}:{value}"),
        Key::Text(s) => format!("{s}:{value}"),
    };
    Ok(format!("map{}", list(pairs.into_iter().map(pair))))
}

/// A floating-point number from its item: the shortest text, with an exponent where that is below -4 or above 20.
fn float(item: &[u8]) -> String {
    let v = match *item {
        [_, a, b] => half(u16::from_be_bytes([a, b])),
        [_, a, b, c, d] => f64::from(f32::from_be_bytes([a, b, c, d])),
        [_, a, b, c, d, e, f, g, h] => f64::from_be_bytes([a, b, c, d, e, f, g, h]),
        _ => f64::NAN,
    };
    if v.is_infinite() {
        return if v > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    if v.is_nan() || v == 0.0 || (1e-4..1e21).contains(&v.abs()) {
        return v.to_string();
    }
    let text = format!("{v:e}");
    match text.split_once('e') {
        Some((mantissa, exponent)) => {
            let (sign, digits) = exponent.strip_prefix('-').map_or(('+', exponent), |digits| ('-', digits));
            format!("{mantissa}e{sign}{digits:0>2}")
        }
        None => text,
    }
}

/// An IEEE 754 number of 16 bits.
fn half(bits: u16) -> f64 {
    let (exponent, fraction) = (i32::from(bits >> 10 & 0x1f), f64::from(bits & 0x3ff));
    let magnitude = match exponent {
        0 => fraction * 2f64.powi(-24),
        31 if fraction == 0.0 => f64::INFINITY,
        31 => f64::NAN,
        e => (1024.0 + fraction) * 2f64.powi(e - 25),
    };
    if bits & 0x8000 == 0 { magnitude } else { -magnitude }
}
