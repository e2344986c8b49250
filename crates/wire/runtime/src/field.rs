//! Fields whose encoding carries more than their value.

use base_codec::cbor::{Decode, Decoder, Encode, Encoder, Error};

/// A struct field that may be left out, `null` or there, where senders differ in which they use for the same meaning.
///
/// Give it the attribute `omitempty`: it is empty when [`Absent`](Self::Absent), and only then.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Field<T> {
    /// The key is missing.
    #[default]
    Absent,
    /// The value is `null`.
    Null,
    /// The value.
    Is(T),
}

impl<T> Field<T> {
    /// The value, if there is one.
    pub fn as_option(&self) -> Option<&T> {
        match self {
            Self::Is(value) => Some(value),
            Self::Absent | Self::Null => None,
        }
    }

    /// The value, if there is one.
    pub fn into_option(self) -> Option<T> {
        match self {
            Self::Is(value) => Some(value),
            Self::Absent | Self::Null => None,
        }
    }
}

impl<T> From<Option<T>> for Field<T> {
    /// `None` is left out.
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Absent, Self::Is)
    }
}

impl<T: Encode> Encode for Field<T> {
    fn encode(&self, e: &mut Encoder) {
        match self {
            Self::Is(value) => value.encode(e),
            Self::Absent | Self::Null => e.null(),
        }
    }

    fn is_empty(&self) -> bool {
        matches!(self, Self::Absent)
    }
}

impl<T: Decode> Decode for Field<T> {
    fn decode(d: &mut Decoder<'_>) -> Result<Self, Error> {
        if d.take_null() { Ok(Self::Null) } else { T::decode(d).map(Self::Is) }
    }
}

/// A list (or `null`) of at most `MAX` elements, refused before room is made for them.
///
/// For elements that take much more memory than the one byte they may have on the wire. The reference has no such
/// limit; the ones in this crate are far above what its own configuration lets through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BoundedList<T, const MAX: usize>(pub Option<Vec<T>>);

impl<T, const MAX: usize> BoundedList<T, MAX> {
    /// The elements.
    pub fn as_slice(&self) -> &[T] {
        self.0.as_deref().unwrap_or_default()
    }
}

impl<T, const MAX: usize> Default for BoundedList<T, MAX> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T, const MAX: usize> From<Vec<T>> for BoundedList<T, MAX> {
    fn from(list: Vec<T>) -> Self {
        Self(Some(list))
    }
}

impl<T: Encode, const MAX: usize> Encode for BoundedList<T, MAX> {
    fn encode(&self, e: &mut Encoder) {
        self.0.encode(e);
    }

    fn is_empty(&self) -> bool {
        self.as_slice().is_empty()
    }
}

impl<T: Decode, const MAX: usize> Decode for BoundedList<T, MAX> {
    fn decode(d: &mut Decoder<'_>) -> Result<Self, Error> {
        if d.take_null() {
            return Ok(Self(None));
        }
        let offset = d.offset();
        let count = d.clone().array()?;
        if count > MAX {
            return Err(Error::invalid(offset, format!("a list of {count} elements, at most {MAX} are accepted")));
        }
        Vec::decode(d).map(|list| Self(Some(list)))
    }
}
