//! Text encodings inside evidence, with the leniencies of Go's standard library: base64, PEM, URL query escapes.

use base64::{
    Engine as _,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};

/// Standard alphabet, padding required, unused bits of the last character ignored.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::RequireCanonical),
);

/// Decodes base64, skipping CR and LF wherever they stand.
pub(crate) fn base64(text: &[u8]) -> Option<Vec<u8>> {
    if text.iter().any(|b| matches!(b, b'\r' | b'\n')) {
        let kept: Vec<u8> = text.iter().copied().filter(|b| !matches!(b, b'\r' | b'\n')).collect();
        return BASE64.decode(kept).ok();
    }
    BASE64.decode(text).ok()
}

/// Undoes URL query escaping: `+` is a space, `%XX` a byte; anything malformed is refused.
pub(crate) fn query_unescape(text: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        match byte {
            b'%' => {
                let mut decoded = [0];
                hex::decode_to_slice(rest.get(..2)?, &mut decoded).ok()?;
                out.push(decoded[0]);
                rest = &rest[2..];
            }
            b'+' => out.push(b' '),
            other => out.push(other),
        }
    }
    Some(out)
}

/// One PEM block.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct PemBlock {
    /// The words after `BEGIN`.
    pub(crate) label: Vec<u8>,
    /// The decoded body.
    pub(crate) bytes: Vec<u8>,
}

const BEGIN: &[u8] = b"-----BEGIN ";
const END: &[u8] = b"\n-----END ";
const DASHES: &[u8] = b"-----";

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|w| w == needle)
}

fn rfind(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).rposition(|w| w == needle)
}

/// The first line without its end and trailing blanks, and the length it takes up with its end.
fn line(data: &[u8]) -> (&[u8], usize) {
    let (mut text, consumed) = match data.iter().position(|&b| b == b'\n') {
        None => (data, data.len()),
        Some(at) => {
            let text = &data[..at];
            (text.strip_suffix(b"\r").unwrap_or(text), at + 1)
        }
    };
    while let Some(shorter) = text.strip_suffix(b" ").or_else(|| text.strip_suffix(b"\t")) {
        text = shorter;
    }
    (text, consumed)
}

/// What an attempt at one candidate block came to.
enum Attempt<'a> {
    /// A block and what follows its last line.
    Found(PemBlock, &'a [u8]),
    /// Not a block; the search goes on after the END mark.
    Skip,
    /// The headers ran past the END mark or the data; the search ends.
    Stop,
}

/// Reads the candidate that begins (after the BEGIN mark) at `start` and whose END mark is at `end`.
fn attempt(data: &[u8], start: usize, end: usize) -> Attempt<'_> {
    let (label, consumed) = line(&data[start..]);
    let Some(label) = label.strip_suffix(DASHES) else {
        return Attempt::Skip;
    };
    let mut body = start + consumed;
    let mut headers = false;
    loop {
        if body >= data.len() {
            return Attempt::Stop;
        }
        let (text, consumed) = line(&data[body..]);
        if !text.contains(&b':') {
            break;
        }
        headers = true;
        body += consumed;
    }
    if headers && body > end {
        // Headers that run past the END mark itself end the search.
        return if body > end + END.len() { Attempt::Stop } else { Attempt::Skip };
    }
    // The trailer is looked for where the END mark stood, whatever the headers swallowed.
    let Some(trailer) = data.get(end + END.len()..) else {
        return Attempt::Skip;
    };
    let Some(after) = trailer.strip_prefix(label).and_then(|t| t.strip_prefix(DASHES)) else {
        return Attempt::Skip;
    };
    let (blank, consumed) = line(after);
    if !blank.is_empty() {
        return Attempt::Skip;
    }
    let mut bytes = Vec::new();
    if body < end {
        let text: Vec<u8> = data[body..end].iter().copied().filter(|b| !matches!(b, b' ' | b'\t')).collect();
        match base64(&text) {
            Some(decoded) => bytes = decoded,
            None => return Attempt::Skip,
        }
    }
    Attempt::Found(PemBlock { label: label.to_vec(), bytes }, &after[consumed..])
}

/// Finds the next PEM block as Go's `encoding/pem` does: text before it is skipped, headers are skipped, a block
/// that is malformed is passed over. Returns the block and what follows it.
///
/// Takes time linear in the length of the data.
pub(crate) fn pem_block(data: &[u8]) -> Option<(PemBlock, &[u8])> {
    // Where the search for the next END mark begins.
    let mut from = 0;
    loop {
        let end = from + find(data.get(from..)?, END)?;
        let next = end + END.len();
        let begin = rfind(&data[from..end], BEGIN).map(|at| from + at);
        if let Some(begin) = begin
            && (begin == from || data[begin - 1] == b'\n')
        {
            match attempt(data, begin + BEGIN.len(), end) {
                Attempt::Found(block, rest) => return Some((block, rest)),
                Attempt::Skip => {}
                Attempt::Stop => return None,
            }
        }
        from = next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_leniencies() {
        assert_eq!(base64(b"AQI="), Some(vec![1, 2]));
        assert_eq!(base64(b"AQ\nI\r=\n"), Some(vec![1, 2]));
        assert_eq!(base64(b"AQJ="), Some(vec![1, 2]), "unused bits set");
        assert_eq!(base64(b"AQI"), None, "padding missing");
        assert_eq!(base64(b"AQ I="), None);
        assert_eq!(base64(b""), Some(vec![]));
    }

    #[test]
    fn query_escapes() {
        assert_eq!(query_unescape(b"a+b%20%2b%2B").as_deref(), Some(&b"a b ++"[..]));
        assert_eq!(query_unescape(b"%"), None);
        assert_eq!(query_unescape(b"%2"), None);
        assert_eq!(query_unescape(b"%zz"), None);
    }

    #[test]
    fn pem() {
        let block = |t: &str| pem_block(t.as_bytes()).map(|(b, rest)| (b.label, b.bytes, rest.to_vec()));
        let good = "-----BEGIN X Y-----\nAQ I=\n-----END X Y-----\nrest";
        assert_eq!(block(good), Some((b"X Y".to_vec(), vec![1, 2], b"rest".to_vec())));
        assert_eq!(block(&format!("junk\n{good}")), Some((b"X Y".to_vec(), vec![1, 2], b"rest".to_vec())));
        assert_eq!(block(&format!("junk{good}")), None, "not at the start of a line");
        assert_eq!(block("-----BEGIN A-----\nAQI=\n-----END B-----\n"), None);
        assert_eq!(block("-----BEGIN A-----\nAQI\n-----END A-----\n"), None);
        assert_eq!(block("-----BEGIN A-----\nAQI=\n-----END A-----x\n"), None);
        assert_eq!(
            block("-----BEGIN A-----\nK: v\n\nAQI=\n-----END A----- \t\r\nz"),
            Some((b"A".to_vec(), vec![1, 2], b"z".to_vec()))
        );
        assert_eq!(block("-----BEGIN A-----\n-----END A-----\n"), Some((b"A".to_vec(), vec![], vec![])));
        let two = format!("-----BEGIN A-----\n!!\n-----END A-----\n{good}");
        assert_eq!(block(&two), Some((b"X Y".to_vec(), vec![1, 2], b"rest".to_vec())), "a bad block is passed over");
        assert_eq!(block(""), None);
    }
}
