//! A bounded reader of DER elements with the strictness of the reference's certificate parser.

/// ASN.1 universal tags that certificates use.
pub(crate) mod tag {
    pub(crate) const BOOLEAN: u8 = 0x01;
    pub(crate) const INTEGER: u8 = 0x02;
    pub(crate) const BIT_STRING: u8 = 0x03;
    pub(crate) const OCTET_STRING: u8 = 0x04;
    pub(crate) const OID: u8 = 0x06;
    pub(crate) const UTC_TIME: u8 = 0x17;
    pub(crate) const GENERALIZED_TIME: u8 = 0x18;
    pub(crate) const SEQUENCE: u8 = 0x30;
    /// Constructed, context specific `[n]`.
    pub(crate) const fn explicit(n: u8) -> u8 {
        0xa0 | n
    }
    /// Primitive, context specific `[n]`.
    pub(crate) const fn implicit(n: u8) -> u8 {
        0x80 | n
    }
}

/// A cursor over DER bytes. Every method consumes what it returns; on `None` the cursor is unspecified.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Der<'a>(&'a [u8]);

/// One element: its tag, its bytes with header, and its content.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Element<'a> {
    pub(crate) tag: u8,
    pub(crate) full: &'a [u8],
    pub(crate) content: &'a [u8],
}

impl<'a> Der<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn rest(&self) -> &'a [u8] {
        self.0
    }

    pub(crate) fn peek_tag(&self) -> Option<u8> {
        self.0.first().copied()
    }

    /// The next element, whatever its tag: low tag numbers and shortest-form lengths of at most four bytes only.
    pub(crate) fn any(&mut self) -> Option<Element<'a>> {
        let (&tag, rest) = self.0.split_first()?;
        if tag & 0x1f == 0x1f {
            return None;
        }
        let (&first, rest) = rest.split_first()?;
        let (header, length) = if first & 0x80 == 0 {
            (2, usize::from(first))
        } else {
            let count = usize::from(first & 0x7f);
            if count == 0 || count > 4 {
                return None;
            }
            let digits = rest.get(..count)?;
            let length = digits.iter().fold(0u64, |acc, &b| (acc << 8) | u64::from(b));
            if length < 128 || digits[0] == 0 {
                return None;
            }
            (2 + count, usize::try_from(length).ok()?)
        };
        let end = length.checked_add(header)?;
        let full = self.0.get(..end)?;
        self.0 = &self.0[end..];
        Some(Element { tag, full, content: &full[header..] })
    }

    /// The next element, which must have the tag.
    pub(crate) fn element(&mut self, tag: u8) -> Option<Element<'a>> {
        self.any().filter(|e| e.tag == tag)
    }

    /// The content of the next element, which must have the tag.
    pub(crate) fn read(&mut self, tag: u8) -> Option<Der<'a>> {
        self.element(tag).map(|e| Der(e.content))
    }

    /// The next element if it has the tag; `Some(None)` if another one or nothing follows.
    pub(crate) fn optional(&mut self, tag: u8) -> Option<Option<Der<'a>>> {
        if self.peek_tag() == Some(tag) { self.read(tag).map(Some) } else { Some(None) }
    }

    /// The content of an INTEGER in shortest two's complement form.
    pub(crate) fn integer_bytes(&mut self) -> Option<&'a [u8]> {
        let bytes = self.element(tag::INTEGER)?.content;
        match bytes {
            [] => None,
            [0, next, ..] if next & 0x80 == 0 => None,
            [0xff, next, ..] if next & 0x80 != 0 => None,
            _ => Some(bytes),
        }
    }

    /// An INTEGER that fits into 64 bits.
    pub(crate) fn integer(&mut self) -> Option<i64> {
        let bytes = self.integer_bytes()?;
        if bytes.len() > 8 {
            return None;
        }
        let start = if bytes[0] & 0x80 == 0 { 0i64 } else { -1 };
        Some(bytes.iter().fold(start, |acc, &b| (acc << 8) | i64::from(b)))
    }

    /// A non-negative INTEGER, without leading zeros.
    pub(crate) fn unsigned(&mut self) -> Option<&'a [u8]> {
        let bytes = self.integer_bytes()?;
        match bytes {
            [first, ..] if first & 0x80 != 0 => None,
            [0, rest @ ..] => Some(rest),
            _ => Some(bytes),
        }
    }

    /// A BOOLEAN, 0x00 or 0xff.
    pub(crate) fn boolean(&mut self) -> Option<bool> {
        match self.element(tag::BOOLEAN)?.content {
            [0x00] => Some(false),
            [0xff] => Some(true),
            _ => None,
        }
    }

    /// A BIT STRING: number of unused bits at its end (which are zero) and its bytes.
    pub(crate) fn bit_string(&mut self) -> Option<(u8, &'a [u8])> {
        let (&padding, bytes) = self.element(tag::BIT_STRING)?.content.split_first()?;
        if padding > 7 {
            return None;
        }
        match bytes.last() {
            None if padding != 0 => None,
            Some(last) if last & ((1 << padding) - 1) != 0 => None,
            _ => Some((padding, bytes)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_must_be_shortest() {
        assert!(Der::new(&[0x04, 0x01, 7]).any().is_some());
        assert!(Der::new(&[0x04, 0x81, 0x01, 7]).any().is_none(), "long form of a short length");
        assert!(Der::new(&[0x04, 0x80]).any().is_none(), "indefinite");
        assert!(Der::new(&[0x04, 0x82, 0x00, 0x80]).any().is_none(), "leading zero");
        assert!(Der::new(&[0x04, 0x84, 0xff, 0xff, 0xff, 0xff]).any().is_none(), "beyond the end");
        assert!(Der::new(&[0x1f, 0x01, 0x00]).any().is_none(), "high tag number");
    }

    #[test]
    fn integers() {
        let int = |b: &[u8]| Der::new(b).integer();
        assert_eq!(int(&[2, 1, 0]), Some(0));
        assert_eq!(int(&[2, 2, 0, 0xff]), Some(255));
        assert_eq!(int(&[2, 1, 0xff]), Some(-1));
        assert_eq!(int(&[2, 8, 0x80, 0, 0, 0, 0, 0, 0, 0]), Some(i64::MIN));
        assert_eq!(int(&[2, 2, 0, 1]), None, "not the shortest");
        assert_eq!(int(&[2, 2, 0xff, 0x80]), None, "not the shortest");
        assert_eq!(int(&[2, 9, 1, 0, 0, 0, 0, 0, 0, 0, 0]), None, "too large");
        assert_eq!(int(&[2, 0]), None);
    }

    #[test]
    fn bit_strings() {
        let bits = |b: &[u8]| Der::new(b).bit_string().map(|(p, b)| (p, b.to_vec()));
        assert_eq!(bits(&[3, 2, 0, 5]), Some((0, vec![5])));
        assert_eq!(bits(&[3, 2, 1, 4]), Some((1, vec![4])));
        assert_eq!(bits(&[3, 2, 1, 5]), None, "padding bits set");
        assert_eq!(bits(&[3, 2, 8, 0]), None);
        assert_eq!(bits(&[3, 1, 1]), None);
        assert_eq!(bits(&[3, 1, 0]), Some((0, vec![])));
    }
}
