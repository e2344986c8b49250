//! Structured hashing over Merlin transcripts (reference: `crypto/digestible`).
//!
//! A value is a tree of nodes (primitive, none, sequence, aggregate, variant), each appended to the transcript under the
//! context that its parent gives it. Empty sequences, bytes, strings and options vanish inside aggregates.

use std::collections::{BTreeMap, BTreeSet};

use merlin::Transcript;

/// A context: labels of a transcript are literals.
pub type Label = &'static [u8];

/// A value that can be appended to a transcript as a node.
pub trait Digestible {
    /// Appends the value under the context.
    fn digest_under(&self, context: Label, transcript: &mut Transcript);

    /// The same where the value is a field of an aggregate: what is empty is left out.
    fn digest_as_field(&self, context: Label, transcript: &mut Transcript) {
        self.digest_under(context, transcript);
    }
}

/// The digest of a value: 32 bytes of a transcript labelled `digestible` that holds the value under the context.
pub fn digest32<T: Digestible + ?Sized>(context: Label, value: &T) -> [u8; 32] {
    let mut transcript = Transcript::new(b"digestible");
    value.digest_under(context, &mut transcript);
    finish(transcript)
}

/// The final step of every digest: 32 challenge bytes labelled `digest32`.
pub fn finish(mut transcript: Transcript) -> [u8; 32] {
    let mut out = [0u8; 32];
    transcript.challenge_bytes(b"digest32", &mut out);
    out
}

/// Appends a primitive of the named type.
pub fn primitive(context: Label, kind: Label, data: &[u8], transcript: &mut Transcript) {
    transcript.append_message(context, b"prim");
    transcript.append_message(kind, data);
}

/// Appends an absent value.
pub fn none(context: Label, transcript: &mut Transcript) {
    transcript.append_message(context, b"");
}

/// Appends a sequence; an empty one is none.
pub fn sequence<'a, T: Digestible + 'a>(
    context: Label,
    items: impl ExactSizeIterator<Item = &'a T>,
    transcript: &mut Transcript,
) {
    sequence_head(context, items.len(), transcript);
    for item in items {
        item.digest_under(b"", transcript);
    }
}

/// Appends what precedes the elements of a sequence: none if there are none.
pub fn sequence_head(context: Label, len: usize, transcript: &mut Transcript) {
    if len == 0 {
        return none(context, transcript);
    }
    transcript.append_message(context, b"seq");
    transcript.append_message(b"len", &(len as u64).to_le_bytes());
}

/// Appends an aggregate whose fields the closure gives.
pub fn aggregate(
    context: Label,
    name: &'static str,
    transcript: &mut Transcript,
    fields: impl FnOnce(&mut Fields<'_>),
) {
    transcript.append_message(context, b"agg");
    transcript.append_message(b"name", name.as_bytes());
    fields(&mut Fields(transcript));
    transcript.append_message(context, b"agg-end");
    transcript.append_message(b"name", name.as_bytes());
}

/// The fields of an aggregate, in order.
pub struct Fields<'a>(&'a mut Transcript);

impl Fields<'_> {
    /// A field that vanishes when it is empty.
    pub fn field<T: Digestible + ?Sized>(&mut self, name: &'static str, value: &T) -> &mut Self {
        value.digest_as_field(name.as_bytes(), self.0);
        self
    }

    /// A field that is there though it is empty.
    pub fn always<T: Digestible + ?Sized>(&mut self, name: &'static str, value: &T) -> &mut Self {
        value.digest_under(name.as_bytes(), self.0);
        self
    }
}

/// Appends the head of a variant of an enumeration; the value follows under the variant's name as context.
pub fn variant(context: Label, name: &'static str, which: u32, transcript: &mut Transcript) {
    transcript.append_message(context, b"var");
    transcript.append_message(b"name", name.as_bytes());
    transcript.append_message(b"which", &which.to_le_bytes());
}

macro_rules! integers {
    ($($type:ty => $kind:literal),*) => {$(
        impl Digestible for $type {
            fn digest_under(&self, context: Label, transcript: &mut Transcript) {
                primitive(context, $kind, &self.to_le_bytes(), transcript);
            }
        }
    )*};
}

integers!(u16 => b"uint", u32 => b"uint", u64 => b"uint", i32 => b"int", i64 => b"int");

impl Digestible for bool {
    fn digest_under(&self, context: Label, transcript: &mut Transcript) {
        primitive(context, b"bool", &[u8::from(*self)], transcript);
    }
}

impl<const N: usize> Digestible for [u8; N] {
    fn digest_under(&self, context: Label, transcript: &mut Transcript) {
        primitive(context, b"bytes", self, transcript);
    }
}

impl Digestible for [u8] {
    fn digest_under(&self, context: Label, transcript: &mut Transcript) {
        primitive(context, b"bytes", self, transcript);
    }
    fn digest_as_field(&self, context: Label, transcript: &mut Transcript) {
        if !self.is_empty() {
            self.digest_under(context, transcript);
        }
    }
}

impl Digestible for Vec<u8> {
    fn digest_under(&self, context: Label, transcript: &mut Transcript) {
        self.as_slice().digest_under(context, transcript);
    }
    fn digest_as_field(&self, context: Label, transcript: &mut Transcript) {
        self.as_slice().digest_as_field(context, transcript);
    }
}

impl Digestible for String {
    fn digest_under(&self, context: Label, transcript: &mut Transcript) {
        primitive(context, b"str", self.as_bytes(), transcript);
    }
    fn digest_as_field(&self, context: Label, transcript: &mut Transcript) {
        if !self.is_empty() {
            self.digest_under(context, transcript);
        }
    }
}

impl<T: Digestible> Digestible for Option<T> {
    fn digest_under(&self, context: Label, transcript: &mut Transcript) {
        match self {
            Some(value) => value.digest_under(context, transcript),
            None => none(context, transcript),
        }
    }
    fn digest_as_field(&self, context: Label, transcript: &mut Transcript) {
        if let Some(value) = self {
            value.digest_as_field(context, transcript);
        }
    }
}

impl<T: Digestible> Digestible for Vec<T> {
    fn digest_under(&self, context: Label, transcript: &mut Transcript) {
        sequence(context, self.iter(), transcript);
    }
    fn digest_as_field(&self, context: Label, transcript: &mut Transcript) {
        if !self.is_empty() {
            self.digest_under(context, transcript);
        }
    }
}

impl<T: Digestible> Digestible for BTreeSet<T> {
    fn digest_under(&self, context: Label, transcript: &mut Transcript) {
        sequence(context, self.iter(), transcript);
    }
    fn digest_as_field(&self, context: Label, transcript: &mut Transcript) {
        if !self.is_empty() {
            self.digest_under(context, transcript);
        }
    }
}

impl<K: Digestible, V: Digestible> Digestible for BTreeMap<K, V> {
    fn digest_under(&self, context: Label, transcript: &mut Transcript) {
        sequence_head(context, self.len(), transcript);
        for (key, value) in self {
            aggregate(b"", "Tuple", transcript, |tuple| {
                tuple.field("0", key).field("1", value);
            });
        }
    }
    fn digest_as_field(&self, context: Label, transcript: &mut Transcript) {
        if !self.is_empty() {
            self.digest_under(context, transcript);
        }
    }
}
