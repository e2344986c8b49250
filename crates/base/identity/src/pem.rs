//! PEM as the reference reads and writes it: one block of a known type and nothing behind it.

use base64::{Engine, prelude::BASE64_STANDARD};
use zeroize::{Zeroize, Zeroizing};

/// Characters on a full line of the body.
const LINE: usize = 64;

/// Why a text is not the PEM block that was expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PemError {
    /// There is no line that begins a block.
    #[error("no PEM block found")]
    NoBlock,
    /// A block begins but never ends.
    #[error("PEM block is cut off: no line ends it")]
    CutOff,
    /// The block is of another type.
    #[error("PEM block is of type `{found}`, expected `{expected}`")]
    WrongType {
        /// Type in the file.
        found: String,
        /// Type asked for.
        expected: &'static str,
    },
    /// Bytes follow the block.
    #[error("{bytes} bytes follow the PEM block")]
    Trailing {
        /// How many.
        bytes: usize,
    },
    /// The body is not base64.
    #[error("body of the PEM block is not base64")]
    NotBase64,
}

/// Position of `needle` in `text`.
fn find(text: &[u8], needle: &[u8]) -> Option<usize> {
    text.windows(needle.len()).position(|w| w == needle)
}

/// Splits behind the first line feed.
fn split_line(text: &[u8]) -> (&[u8], &[u8]) {
    text.split_at(text.iter().position(|b| *b == b'\n').map_or(text.len(), |i| i + 1))
}

/// Takes the bytes out of a text that holds a block of the given type; text before the block is skipped.
pub fn decode(expected: &'static str, text: &[u8]) -> Result<Zeroizing<Vec<u8>>, PemError> {
    const BEGIN: &[u8] = b"-----BEGIN ";
    const DASHES: &[u8] = b"-----";
    let mut rest = text;
    let found = loop {
        if rest.is_empty() {
            return Err(PemError::NoBlock);
        }
        let (line, after) = split_line(rest);
        rest = after;
        if let Some(name) = line.trim_ascii_end().strip_prefix(BEGIN).and_then(|l| l.strip_suffix(DASHES)) {
            break name;
        }
    };
    let end = [b"-----END ", found, DASHES].concat();
    let at = find(rest, &end).ok_or(PemError::CutOff)?;
    let (tail, trailing) = split_line(&rest[at..]);
    // Spaces may follow on the last line; anything else, and any further line, may not.
    let extra = tail[end.len()..].trim_ascii().len() + trailing.len();
    if extra > 0 {
        return Err(PemError::Trailing { bytes: extra });
    }
    if found != expected.as_bytes() {
        let found = String::from_utf8_lossy(&found[..found.len().min(64)]).into_owned();
        return Err(PemError::WrongType { found, expected });
    }
    let body: Zeroizing<Vec<u8>> =
        Zeroizing::new(rest[..at].iter().copied().filter(|b| !b.is_ascii_whitespace()).collect());
    BASE64_STANDARD.decode(body.as_slice()).map(Zeroizing::new).map_err(|_| PemError::NotBase64)
}

/// Writes a block: body in lines of 64 characters, a line feed at the end.
#[must_use]
pub fn encode(kind: &str, data: &[u8]) -> Zeroizing<String> {
    let mut body = BASE64_STANDARD.encode(data);
    // Never grows, so no copy of a secret is left behind.
    let mut text = String::with_capacity(2 * kind.len() + 40 + body.len() + body.len() / LINE);
    text.extend(["-----BEGIN ", kind, "-----\n"]);
    let mut left = body.as_str();
    while !left.is_empty() {
        let (line, more) = left.split_at(LINE.min(left.len()));
        text.extend([line, "\n"]);
        left = more;
    }
    text.extend(["-----END ", kind, "-----\n"]);
    body.zeroize();
    Zeroizing::new(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip() {
        for len in [0, 1, 32, 47, 48, 49, 64, 96, 500] {
            let data: Vec<u8> = (0..len).map(|i| i as u8).collect();
            let text = encode("STATIC ENTROPY", &data);
            assert_eq!(*decode("STATIC ENTROPY", text.as_bytes()).unwrap(), data);
            assert!(text.lines().all(|l| l.len() <= LINE));
        }
    }

    #[test]
    fn errors() {
        let text = encode("A", &[1, 2, 3]);
        let err = |t: &str| decode("A", t.as_bytes()).unwrap_err();
        assert_eq!(err(""), PemError::NoBlock);
        assert_eq!(err("hello\n"), PemError::NoBlock);
        for cut in 17..text.len() - 2 {
            assert_eq!(err(&text[..cut]), PemError::CutOff, "{cut}");
        }
        assert_eq!(err(&format!("{}x", *text)), PemError::Trailing { bytes: 1 });
        assert_eq!(err(&format!("{}\n", *text)), PemError::Trailing { bytes: 1 });
        assert_eq!(err(&text.replace("AQID", "A*ID")), PemError::NotBase64);
        assert_eq!(err(&encode("B", &[1])), PemError::WrongType { found: "B".into(), expected: "A" });
        assert!(decode("A", format!("a comment\n{}", *text).as_bytes()).is_ok());
        assert!(decode("A", text.replace('\n', "\r\n").as_bytes()).is_ok());
    }
}
