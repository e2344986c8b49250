//! TupleHash256 (NIST SP 800-185): a hash of a list of byte strings in which borders between them count.
//!
//! Reference: `go/common/crypto/tuplehash`.

use cshake::{
    CShake256,
    digest::{ExtendableOutput, Update, XofReader},
};

/// `left_encode` and `right_encode` of the standard: the shortest big-endian form (at least one byte) of `value`,
/// with its length in bytes before or after it.
fn encode(value: u64, length_first: bool) -> ([u8; 9], usize) {
    let bytes = value.to_be_bytes();
    let skip = bytes.iter().take(7).take_while(|b| **b == 0).count();
    let len = 8 - skip;
    let mut out = [0; 9];
    let at = usize::from(length_first);
    out[at..at + len].copy_from_slice(&bytes[skip..]);
    out[if length_first { 0 } else { len }] = len as u8;
    (out, len + 1)
}

/// Number of bits in `bytes` bytes; memory never holds 2^61 bytes, so it cannot saturate.
fn bits(bytes: usize) -> u64 {
    (bytes as u64).saturating_mul(8)
}

/// An incremental TupleHash256.
#[derive(Clone)]
pub struct TupleHash256(CShake256);

impl TupleHash256 {
    /// Starts a hash with a customization string (domain separation).
    #[must_use]
    pub fn new(customization: &[u8]) -> Self {
        Self(CShake256::new_with_function_name(b"TupleHash", customization))
    }

    /// Appends one whole element of the tuple.
    pub fn update(&mut self, element: &[u8]) -> &mut Self {
        let (prefix, len) = encode(bits(element.len()), true);
        self.0.update(&prefix[..len]);
        self.0.update(element);
        self
    }

    /// Fills `out`; its length is an input to the hash.
    pub fn finalize_into(mut self, out: &mut [u8]) {
        let (suffix, len) = encode(bits(out.len()), false);
        self.0.update(&suffix[..len]);
        self.0.finalize_xof().read(out);
    }

    /// The 32-byte digest, the only length the network uses.
    #[must_use]
    pub fn finalize(self) -> [u8; 32] {
        let mut out = [0; 32];
        self.finalize_into(&mut out);
        out
    }
}

/// The 32-byte TupleHash256 of `elements` under `customization`.
#[must_use]
pub fn tuple_hash256(customization: &[u8], elements: &[&[u8]]) -> [u8; 32] {
    let mut h = TupleHash256::new(customization);
    for e in elements {
        h.update(e);
    }
    h.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// TupleHash samples #4 to #6 published by NIST with SP 800-185.
    #[test]
    fn nist_samples() {
        let check = |custom: &[u8], elements: &[&[u8]], want: &str| {
            let mut h = TupleHash256::new(custom);
            for e in elements {
                h.update(e);
            }
            let mut out = [0; 64];
            h.finalize_into(&mut out);
            assert_eq!(hex::encode(out), want);
        };
        let (a, b) = ([0, 1, 2], [0x10, 0x11, 0x12, 0x13, 0x14, 0x15]);
        let c = [0x20, 0x21, 0x22, 0x23, 0x24, 0x25, 0x26, 0x27, 0x28];
        check(
            b"",
            &[&a, &b],
            "cfb7058caca5e668f81a12a20a2195ce97a925f1dba3e7449a56f82201ec6073\
             11ac2696b1ab5ea2352df1423bde7bd4bb78c9aed1a853c78672f9eb23bbe194",
        );
        check(
            b"My Tuple App",
            &[&a, &b],
            "147c2191d5ed7efd98dbd96d7ab5a11692576f5fe2a5065f3e33de6bba9f3aa1\
             c4e9a068a289c61c95aab30aee1e410b0b607de3620e24a4e3bf9852a1d4367e",
        );
        check(
            b"My Tuple App",
            &[&a, &b, &c],
            "45000be63f9b6bfd89f54717670f69a9bc763591a4f05c50d68891a744bcc6e7\
             d6d5b5e82c018da999ed35b0bb49c9678e526abd8e85c13ed254021db9e790ce",
        );
    }

    #[test]
    fn recorded_digests() {
        use crate::vectors::{array, cases};
        for case in cases("tuplehash.json") {
            let elements: Vec<Vec<u8>> = case["elements"]
                .as_array()
                .unwrap()
                .iter()
                .map(|e| hex::decode(e.as_str().unwrap()).unwrap())
                .collect();
            let elements: Vec<&[u8]> = elements.iter().map(Vec::as_slice).collect();
            let custom = case["customization"].as_str().unwrap();
            assert_eq!(tuple_hash256(custom.as_bytes(), &elements), array(&case, "digest"), "{custom}");
        }
    }

    #[test]
    fn length_encodings() {
        let check = |v: u64, left: &[u8], right: &[u8]| {
            let (l, n) = encode(v, true);
            assert_eq!(&l[..n], left);
            let (r, n) = encode(v, false);
            assert_eq!(&r[..n], right);
        };
        check(0, &[1, 0], &[0, 1]);
        check(1, &[1, 1], &[1, 1]);
        check(256, &[2, 1, 0], &[1, 0, 2]);
        check(0xdead_beef, &[4, 0xde, 0xad, 0xbe, 0xef], &[0xde, 0xad, 0xbe, 0xef, 4]);
        check(u64::MAX, &[8, 255, 255, 255, 255, 255, 255, 255, 255], &[255, 255, 255, 255, 255, 255, 255, 255, 8]);
    }

    #[test]
    fn borders_count() {
        assert_ne!(tuple_hash256(b"x", &[b"ab", b"c"]), tuple_hash256(b"x", &[b"a", b"bc"]));
        assert_ne!(tuple_hash256(b"x", &[b"ab"]), tuple_hash256(b"y", &[b"ab"]));
    }
}
