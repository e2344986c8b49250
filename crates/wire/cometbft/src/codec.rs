//! Protobuf encoding and decoding with exactly the leniencies of the reference's generated code.
//!
//! A general protobuf library differs from the reference in what it accepts (over-long varints, repeated
//! occurrences of one field, groups) and in what it writes for empty embedded messages. Blocks and votes come
//! from peers, so each such difference would split the chain; hence this small codec.
//!
//! # Consensus
//! Reference: the gogoproto-generated `Unmarshal` functions of `cometbft:proto/tendermint`.
//! * A varint has at most ten bytes; bits above the 64th are dropped; narrower integers truncate.
//! * A field number is the low 32 bits of the key shifted right by 3, and must be positive.
//! * A known field with another wire type, an end-group mark outside of a group, or a length beyond the input
//!   is an error; unknown fields (groups included) are skipped.
//! * A repeated occurrence replaces a scalar, byte string, timestamp or oneof, and merges into an embedded message.
//! * Fields are written in ascending order; zero scalars and empty byte strings are left out; an embedded message
//!   that is not optional is always written.
//!
//! DEVIATION: text that is not UTF-8 is refused; the reference takes any bytes.

/// Why bytes are no such message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The input ends within a field.
    #[error("unexpected end of input")]
    UnexpectedEnd,
    /// A varint of more than ten bytes.
    #[error("integer overflow")]
    IntegerOverflow,
    /// A length of 2^63 or more.
    #[error("negative length")]
    NegativeLength,
    /// A field number of zero or above 2^31.
    #[error("illegal field number")]
    IllegalFieldNumber,
    /// Wire types 6 and 7 do not exist.
    #[error("illegal wire type {0}")]
    IllegalWireType(u8),
    /// The mark that ends a group, outside of a group.
    #[error("unexpected end of group")]
    UnexpectedEndGroup,
    /// A known field with another wire type.
    #[error("wrong wire type for field {0}")]
    WrongWireType(u32),
    /// Text that is not UTF-8.
    #[error("text is not utf-8 in field {0}")]
    NotUtf8(u32),
    /// A timestamp outside of years 1 to 9999, or a span that does not fit.
    #[error("time out of range: {seconds} s, {nanos} ns")]
    TimeRange {
        /// Seconds.
        seconds: i64,
        /// Nanoseconds.
        nanos: i32,
    },
    /// More elements than this kind of element may have in one list.
    #[error("more than {max} elements in field {number}")]
    TooMany {
        /// Field number.
        number: u32,
        /// Largest count allowed.
        max: usize,
    },
    /// The whole message is longer than allowed.
    #[error("message of {len} bytes, at most {max} allowed")]
    TooLong {
        /// Length found.
        len: usize,
        /// Largest length allowed.
        max: usize,
    },
}

/// How a field's value is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WireType {
    /// Variable-length integer (0).
    Varint,
    /// Eight bytes, little endian (1).
    Fixed64,
    /// Length and so many bytes (2).
    Bytes,
    /// Start of a group (3).
    StartGroup,
    /// Four bytes, little endian (5).
    Fixed32,
}

/// A field's number and wire type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    /// Field number, at least 1.
    pub number: u32,
    /// Layout of the value.
    pub wire_type: WireType,
}

impl Key {
    fn expect(self, wanted: WireType) -> Result<(), DecodeError> {
        if self.wire_type == wanted { Ok(()) } else { Err(DecodeError::WrongWireType(self.number)) }
    }
}

/// Reads one message's fields.
#[derive(Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Reader of a whole message body.
    pub fn new(input: &'a [u8]) -> Self {
        Self { rest: input }
    }

    /// What has not been read yet.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], DecodeError> {
        let (head, rest) = self.rest.split_at_checked(len).ok_or(DecodeError::UnexpectedEnd)?;
        self.rest = rest;
        Ok(head)
    }

    /// One varint; bits above the 64th are dropped.
    pub fn varint(&mut self) -> Result<u64, DecodeError> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = self.rest.split_first().ok_or(DecodeError::UnexpectedEnd)?;
            self.rest = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(DecodeError::IntegerOverflow)
    }

    fn length(&mut self) -> Result<usize, DecodeError> {
        let length = self.varint()?;
        if length > i64::MAX as u64 {
            return Err(DecodeError::NegativeLength);
        }
        usize::try_from(length).map_err(|_| DecodeError::UnexpectedEnd)
    }

    /// The next field's key; `None` at the end.
    fn key(&mut self) -> Result<Option<Key>, DecodeError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let raw = self.varint()?;
        let wire = (raw & 7) as u8;
        if wire == 4 {
            return Err(DecodeError::UnexpectedEndGroup);
        }
        // The number is the low 32 bits, as the reference truncates it.
        let number = (raw >> 3) as u32;
        if number == 0 || number > i32::MAX as u32 {
            return Err(DecodeError::IllegalFieldNumber);
        }
        let wire_type = match wire {
            0 => WireType::Varint,
            1 => WireType::Fixed64,
            2 => WireType::Bytes,
            3 => WireType::StartGroup,
            5 => WireType::Fixed32,
            other => return Err(DecodeError::IllegalWireType(other)),
        };
        Ok(Some(Key { number, wire_type }))
    }

    fn skip_value(&mut self, wire: u8) -> Result<(), DecodeError> {
        match wire {
            0 => {
                self.varint()?;
            }
            1 => {
                self.take(8)?;
            }
            2 => {
                let len = self.length()?;
                self.take(len)?;
            }
            5 => {
                self.take(4)?;
            }
            other => return Err(DecodeError::IllegalWireType(other)),
        }
        Ok(())
    }

    /// Passes over an unknown field's value; groups nest without recursion.
    fn skip(&mut self, key: Key) -> Result<(), DecodeError> {
        match key.wire_type {
            WireType::Varint => return self.skip_value(0),
            WireType::Fixed64 => return self.skip_value(1),
            WireType::Bytes => return self.skip_value(2),
            WireType::Fixed32 => return self.skip_value(5),
            WireType::StartGroup => {}
        }
        let mut depth = 1usize;
        while depth > 0 {
            match (self.varint()? & 7) as u8 {
                3 => depth += 1,
                4 => depth -= 1,
                other => self.skip_value(other)?,
            }
        }
        Ok(())
    }

    /// The value of a varint field.
    pub fn integer(&mut self, key: Key) -> Result<u64, DecodeError> {
        key.expect(WireType::Varint)?;
        self.varint()
    }

    /// The value of a length-delimited field.
    pub fn bytes(&mut self, key: Key) -> Result<&'a [u8], DecodeError> {
        key.expect(WireType::Bytes)?;
        let len = self.length()?;
        self.take(len)
    }
}

/// A protobuf message of the protocol.
pub trait Message: Default {
    /// How many of these one list may hold; bounds what hostile bytes can make us allocate.
    const MAX_COUNT: usize = 1 << 20;

    /// Appends all fields in ascending order.
    fn encode_fields(&self, out: &mut Vec<u8>);

    /// Takes one field's value; `false` if the number is unknown (nothing was read).
    fn merge_field(&mut self, key: Key, reader: &mut Reader<'_>) -> Result<bool, DecodeError>;

    /// Reads a message body into what is there already.
    fn merge_from(&mut self, body: &[u8]) -> Result<(), DecodeError> {
        let mut reader = Reader::new(body);
        while let Some(key) = reader.key()? {
            if !self.merge_field(key, &mut reader)? {
                reader.skip(key)?;
            }
        }
        Ok(())
    }

    /// Decodes a message body.
    fn decode(body: &[u8]) -> Result<Self, DecodeError> {
        let mut message = Self::default();
        message.merge_from(body)?;
        Ok(message)
    }

    /// Decodes a message body of at most `max` bytes.
    fn decode_limited(body: &[u8], max: usize) -> Result<Self, DecodeError> {
        if body.len() > max {
            return Err(DecodeError::TooLong { len: body.len(), max });
        }
        Self::decode(body)
    }

    /// Decodes a message preceded by its length as varint; gives what follows too.
    fn decode_delimited(input: &[u8], max: usize) -> Result<(Self, &[u8]), DecodeError> {
        let mut reader = Reader::new(input);
        let len = reader.length()?;
        if len > max {
            return Err(DecodeError::TooLong { len, max });
        }
        let body = reader.take(len)?;
        Ok((Self::decode(body)?, reader.rest()))
    }

    /// The message body.
    fn encode_to_vec(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.encode_fields(&mut out);
        out
    }

    /// The message body preceded by its length as varint.
    fn encode_delimited(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_nested(&mut out, |out| self.encode_fields(out));
        out
    }

    /// Length of the message body in bytes.
    fn encoded_len(&self) -> usize {
        self.encode_to_vec().len()
    }
}

impl<M: Message> Message for Box<M> {
    const MAX_COUNT: usize = M::MAX_COUNT;

    fn encode_fields(&self, out: &mut Vec<u8>) {
        M::encode_fields(self, out);
    }

    fn merge_field(&mut self, key: Key, reader: &mut Reader<'_>) -> Result<bool, DecodeError> {
        M::merge_field(self, key, reader)
    }
}

/// The value of one field (all occurrences of one number).
pub trait Field: Default {
    /// Appends key and value; nothing if the value is left out when empty.
    fn encode_field(&self, number: u32, out: &mut Vec<u8>);

    /// Appends key and value even if empty (members of a oneof).
    fn encode_always(&self, number: u32, out: &mut Vec<u8>) {
        self.encode_field(number, out);
    }

    /// Takes one occurrence.
    fn merge(&mut self, key: Key, reader: &mut Reader<'_>) -> Result<(), DecodeError>;
}

/// Appends a varint.
pub fn put_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a field's key.
pub fn put_key(number: u32, wire_type: WireType, out: &mut Vec<u8>) {
    let wire = match wire_type {
        WireType::Varint => 0,
        WireType::Fixed64 => 1,
        WireType::Bytes => 2,
        WireType::StartGroup => 3,
        WireType::Fixed32 => 5,
    };
    put_varint(u64::from(number) << 3 | wire, out);
}

/// Appends what `body` writes, preceded by its length.
pub fn put_nested(out: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.push(0);
    body(out);
    let len = out.len() - start - 1;
    if len < 0x80 {
        out[start] = len as u8;
    } else {
        let mut prefix = Vec::with_capacity(5);
        put_varint(len as u64, &mut prefix);
        out.splice(start..=start, prefix);
    }
}

macro_rules! integer_field {
    ($($type:ty: $to_wire:expr;)*) => {$(
        impl Field for $type {
            fn encode_field(&self, number: u32, out: &mut Vec<u8>) {
                if *self != Self::default() {
                    self.encode_always(number, out);
                }
            }

            fn encode_always(&self, number: u32, out: &mut Vec<u8>) {
                put_key(number, WireType::Varint, out);
                let to_wire: fn($type) -> u64 = $to_wire;
                put_varint(to_wire(*self), out);
            }

            fn merge(&mut self, key: Key, reader: &mut Reader<'_>) -> Result<(), DecodeError> {
                *self = reader.integer(key)? as $type;
                Ok(())
            }
        }
    )*};
}

integer_field! {
    u64: |value| value;
    i64: |value| value as u64;
    u32: u64::from;
    i32: |value| i64::from(value) as u64;
}

impl Field for bool {
    fn encode_field(&self, number: u32, out: &mut Vec<u8>) {
        if *self {
            put_key(number, WireType::Varint, out);
            out.push(1);
        }
    }

    fn merge(&mut self, key: Key, reader: &mut Reader<'_>) -> Result<(), DecodeError> {
        *self = reader.integer(key)? != 0;
        Ok(())
    }
}

/// A signed integer of eight bytes, little endian (`sfixed64`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sfixed64(pub i64);

impl Field for Sfixed64 {
    fn encode_field(&self, number: u32, out: &mut Vec<u8>) {
        if self.0 != 0 {
            put_key(number, WireType::Fixed64, out);
            out.extend_from_slice(&self.0.to_le_bytes());
        }
    }

    fn merge(&mut self, key: Key, reader: &mut Reader<'_>) -> Result<(), DecodeError> {
        key.expect(WireType::Fixed64)?;
        let mut raw = [0; 8];
        raw.copy_from_slice(reader.take(8)?);
        self.0 = i64::from_le_bytes(raw);
        Ok(())
    }
}

fn put_bytes(number: u32, value: &[u8], out: &mut Vec<u8>) {
    put_key(number, WireType::Bytes, out);
    put_varint(value.len() as u64, out);
    out.extend_from_slice(value);
}

impl Field for Vec<u8> {
    fn encode_field(&self, number: u32, out: &mut Vec<u8>) {
        if !self.is_empty() {
            put_bytes(number, self, out);
        }
    }

    fn encode_always(&self, number: u32, out: &mut Vec<u8>) {
        put_bytes(number, self, out);
    }

    fn merge(&mut self, key: Key, reader: &mut Reader<'_>) -> Result<(), DecodeError> {
        *self = reader.bytes(key)?.to_vec();
        Ok(())
    }
}

impl Field for Vec<Vec<u8>> {
    fn encode_field(&self, number: u32, out: &mut Vec<u8>) {
        for value in self {
            put_bytes(number, value, out);
        }
    }

    fn merge(&mut self, key: Key, reader: &mut Reader<'_>) -> Result<(), DecodeError> {
        self.push(reader.bytes(key)?.to_vec());
        Ok(())
    }
}

fn text(key: Key, reader: &mut Reader<'_>) -> Result<String, DecodeError> {
    let raw = reader.bytes(key)?;
    Ok(std::str::from_utf8(raw).map_err(|_| DecodeError::NotUtf8(key.number))?.to_owned())
}

impl Field for String {
    fn encode_field(&self, number: u32, out: &mut Vec<u8>) {
        if !self.is_empty() {
            put_bytes(number, self.as_bytes(), out);
        }
    }

    fn merge(&mut self, key: Key, reader: &mut Reader<'_>) -> Result<(), DecodeError> {
        *self = text(key, reader)?;
        Ok(())
    }
}

impl Field for Vec<String> {
    fn encode_field(&self, number: u32, out: &mut Vec<u8>) {
        for value in self {
            put_bytes(number, value.as_bytes(), out);
        }
    }

    fn merge(&mut self, key: Key, reader: &mut Reader<'_>) -> Result<(), DecodeError> {
        self.push(text(key, reader)?);
        Ok(())
    }
}

/// Packed when written, packed or not when read.
impl Field for Vec<u64> {
    fn encode_field(&self, number: u32, out: &mut Vec<u8>) {
        if !self.is_empty() {
            put_key(number, WireType::Bytes, out);
            put_nested(out, |out| self.iter().for_each(|&value| put_varint(value, out)));
        }
    }

    fn merge(&mut self, key: Key, reader: &mut Reader<'_>) -> Result<(), DecodeError> {
        if key.wire_type == WireType::Varint {
            self.push(reader.varint()?);
            return Ok(());
        }
        key.expect(WireType::Bytes)?;
        let len = reader.length()?;
        let after = reader.rest.len().checked_sub(len).ok_or(DecodeError::UnexpectedEnd)?;
        // As the reference does, the last integer may reach beyond the stated length.
        while reader.rest.len() > after {
            self.push(reader.varint()?);
        }
        Ok(())
    }
}

/// An embedded message that is always written.
impl<M: Message> Field for M {
    fn encode_field(&self, number: u32, out: &mut Vec<u8>) {
        put_key(number, WireType::Bytes, out);
        put_nested(out, |out| self.encode_fields(out));
    }

    fn merge(&mut self, key: Key, reader: &mut Reader<'_>) -> Result<(), DecodeError> {
        self.merge_from(reader.bytes(key)?)
    }
}

/// An embedded message that may be absent.
impl<M: Message> Field for Option<M> {
    fn encode_field(&self, number: u32, out: &mut Vec<u8>) {
        if let Some(message) = self {
            message.encode_field(number, out);
        }
    }

    fn merge(&mut self, key: Key, reader: &mut Reader<'_>) -> Result<(), DecodeError> {
        self.get_or_insert_default().merge_from(reader.bytes(key)?)
    }
}

impl<M: Message> Field for Vec<M> {
    fn encode_field(&self, number: u32, out: &mut Vec<u8>) {
        for message in self {
            message.encode_field(number, out);
        }
    }

    fn merge(&mut self, key: Key, reader: &mut Reader<'_>) -> Result<(), DecodeError> {
        if self.len() >= M::MAX_COUNT {
            return Err(DecodeError::TooMany { number: key.number, max: M::MAX_COUNT });
        }
        self.push(M::decode(reader.bytes(key)?)?);
        Ok(())
    }
}

/// Declares message structs: `number => name: type` per field, in ascending order.
macro_rules! messages {
    ($(
        $(#[$meta:meta])*
        pub struct $name:ident $([at most $max:expr])? {
            $( $(#[$field_meta:meta])* $number:literal => $field:ident: $type:ty, )*
        }
    )*) => {$(
        $(#[$meta])*
        #[derive(Debug, Clone, Default, PartialEq, Eq)]
        pub struct $name {
            $( $(#[$field_meta])* pub $field: $type, )*
        }

        impl $crate::codec::Message for $name {
            $( const MAX_COUNT: usize = $max; )?

            #[allow(unused_variables)]
            fn encode_fields(&self, out: &mut Vec<u8>) {
                $( $crate::codec::Field::encode_field(&self.$field, $number, out); )*
            }

            #[allow(unused_variables)]
            fn merge_field(
                &mut self,
                key: $crate::codec::Key,
                reader: &mut $crate::codec::Reader<'_>,
            ) -> Result<bool, $crate::codec::DecodeError> {
                match key.number {
                    $( $number => $crate::codec::Field::merge(&mut self.$field, key, reader)?, )*
                    _ => return Ok(false),
                }
                #[allow(unreachable_code)]
                Ok(true)
            }
        }
    )*};
}
pub(crate) use messages;

/// Declares a message that is nothing but a oneof: a struct with `sum` and the enum of its members.
macro_rules! oneofs {
    ($(
        $(#[$meta:meta])*
        pub struct $name:ident $([at most $max:expr])? = enum $sum:ident {
            $( $(#[$variant_meta:meta])* $number:literal => $variant:ident($type:ty), )*
        }
    )*) => {$(
        $(#[$meta])*
        #[derive(Debug, Clone, Default, PartialEq, Eq)]
        pub struct $name {
            /// The member that is set; the last one on the wire counts.
            pub sum: Option<$sum>,
        }

        #[doc = concat!("The members of [`", stringify!($name), "`].")]
        #[derive(Debug, Clone, PartialEq, Eq)]
        #[allow(clippy::large_enum_variant)]
        pub enum $sum {
            $( $(#[$variant_meta])* $variant($type), )*
        }

        impl From<$sum> for $name {
            fn from(sum: $sum) -> Self {
                Self { sum: Some(sum) }
            }
        }

        impl $crate::codec::Message for $name {
            $( const MAX_COUNT: usize = $max; )?

            fn encode_fields(&self, out: &mut Vec<u8>) {
                match &self.sum {
                    None => {}
                    $( Some($sum::$variant(value)) => $crate::codec::Field::encode_always(value, $number, out), )*
                }
            }

            fn merge_field(
                &mut self,
                key: $crate::codec::Key,
                reader: &mut $crate::codec::Reader<'_>,
            ) -> Result<bool, $crate::codec::DecodeError> {
                self.sum = Some(match key.number {
                    $( $number => {
                        let mut value = <$type>::default();
                        $crate::codec::Field::merge(&mut value, key, reader)?;
                        $sum::$variant(value)
                    } )*
                    _ => return Ok(false),
                });
                Ok(true)
            }
        }
    )*};
}
pub(crate) use oneofs;

/// Declares an integer of the protocol with named values; any other value decodes too.
macro_rules! open_enums {
    ($(
        $(#[$meta:meta])*
        pub struct $name:ident {
            $( $(#[$value_meta:meta])* $value_name:ident = $value:literal, )*
        }
    )*) => {$(
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub i32);

        impl $name {
            $( $(#[$value_meta])* pub const $value_name: Self = Self($value); )*
        }

        impl $crate::codec::Field for $name {
            fn encode_field(&self, number: u32, out: &mut Vec<u8>) {
                self.0.encode_field(number, out);
            }

            fn merge(
                &mut self,
                key: $crate::codec::Key,
                reader: &mut $crate::codec::Reader<'_>,
            ) -> Result<(), $crate::codec::DecodeError> {
                self.0.merge(key, reader)
            }
        }
    )*};
}
pub(crate) use open_enums;
