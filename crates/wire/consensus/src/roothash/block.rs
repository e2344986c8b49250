//! Runtime blocks: a header per round.
//!
//! Source: `go/roothash/api/block`.

use base_codec::{
    Codec,
    cbor::{self, Decode, Decoder, Encode, Encoder},
    json::{self, FromJson, ToJson, Value},
};
use base_prims::{Hash, Namespace};

/// Why a block was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Codec)]
pub struct HeaderType(pub u8);

impl HeaderType {
    /// Never stored.
    pub const INVALID: Self = Self(0);
    /// The runtime processed a batch (also a genesis block).
    pub const NORMAL: Self = Self(1);
    /// The round failed; state is unchanged.
    pub const ROUND_FAILED: Self = Self(2);
    /// A new committee took over; state is unchanged.
    pub const EPOCH_TRANSITION: Self = Self(3);
    /// The runtime was suspended; state is unchanged.
    pub const SUSPENDED: Self = Self(4);
}

/// Seconds since 1970. CBOR: integer. JSON: RFC 3339 text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Timestamp(pub u64);

impl Encode for Timestamp {
    fn encode(&self, e: &mut Encoder) {
        self.0.encode(e);
    }
    fn is_empty(&self) -> bool {
        self.0 == 0
    }
}

impl Decode for Timestamp {
    const SCALAR: bool = true;
    fn decode(d: &mut Decoder<'_>) -> Result<Self, cbor::Error> {
        u64::decode(d).map(Self)
    }
}

const SECONDS_PER_DAY: i64 = 86_400;

/// Day of the proleptic Gregorian calendar, `days` after 1970-01-01, as (year, month, day).
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    // Eras of 400 years, counted from 0000-03-01 so that leap days end a year.
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_index = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_index + 2) / 5 + 1;
    let month = if month_index < 10 { month_index + 3 } else { month_index - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

impl Timestamp {
    /// RFC 3339 in UTC. (The reference writes local time; both read any offset.)
    pub fn to_rfc3339(self) -> Option<String> {
        // Years have four digits: 9999-12-31T23:59:59Z is the last that can be written.
        let secs = i64::try_from(self.0).ok().filter(|s| *s < 253_402_300_800)?;
        let (year, month, day) = civil_from_days(secs / SECONDS_PER_DAY);
        let rest = secs % SECONDS_PER_DAY;
        let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
        Some(format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z"))
    }

    /// Reads RFC 3339 with `Z` or a numeric offset; fractions of a second are dropped. Times before 1970 wrap around.
    pub fn parse_rfc3339(text: &str) -> Option<Self> {
        let number = |range: std::ops::Range<usize>| -> Option<i64> {
            let digits = text.get(range)?;
            digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok())?
        };
        let bytes = text.as_bytes();
        let separators = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
        if !separators.iter().all(|(i, c)| bytes.get(*i) == Some(c)) {
            return None;
        }
        let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
        let (hour, minute, second) = (number(11..13)?, number(14..16)?, number(17..19)?);
        let days = days_from_civil(year, month, day);
        if !(1..=12).contains(&month) || civil_from_days(days) != (year, month, day) {
            return None;
        }
        if hour > 23 || minute > 59 || second > 59 {
            return None;
        }
        let mut at = 19;
        if bytes.get(at) == Some(&b'.') {
            let digits = bytes[at + 1..].iter().take_while(|b| b.is_ascii_digit()).count();
            if digits == 0 {
                return None;
            }
            at += 1 + digits;
        }
        let offset = match bytes.get(at)? {
            b'Z' if bytes.len() == at + 1 => 0,
            sign @ (b'+' | b'-') if bytes.len() == at + 6 && bytes[at + 3] == b':' => {
                let (hours, minutes) = (number(at + 1..at + 3)?, number(at + 4..at + 6)?);
                if hours > 23 || minutes > 59 {
                    return None;
                }
                let seconds = hours * 3600 + minutes * 60;
                if *sign == b'+' { seconds } else { -seconds }
            }
            _ => return None,
        };
        let secs = days * SECONDS_PER_DAY + hour * 3600 + minute * 60 + second - offset;
        Some(Self(secs.cast_unsigned()))
    }
}

impl ToJson for Timestamp {
    fn to_json(&self) -> Value {
        // A time that has no text form is an error in the reference; a number loses nothing.
        self.to_rfc3339().map_or_else(|| Value::from(self.0), Value::String)
    }
}

impl FromJson for Timestamp {
    fn from_json(v: &Value, cx: &mut json::Context) -> Result<Self, json::Error> {
        match v {
            Value::Null => Ok(Self::default()),
            Value::String(s) => {
                Self::parse_rfc3339(s).ok_or_else(|| cx.error(format!("not a time in RFC 3339: {s:?}")))
            }
            other => Err(cx.expected("a time in RFC 3339", other)),
        }
    }
}

/// Header of a block.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct Header {
    /// Version of the format.
    pub version: u16,
    /// The runtime.
    pub namespace: Namespace,
    /// Round number.
    pub round: u64,
    /// Time of the consensus block.
    pub timestamp: Timestamp,
    /// Why the block was made.
    pub header_type: HeaderType,
    /// Hash of the header before; the empty hash for the first.
    pub previous_hash: Hash,
    /// Root of inputs and outputs.
    pub io_root: Hash,
    /// Root of the state after the round.
    pub state_root: Hash,
    /// Hash of the messages that the runtime emitted.
    pub messages_hash: Hash,
    /// Hash of the incoming messages that were processed.
    #[codec(rename = "in_msgs_hash")]
    pub in_messages_hash: Hash,
}

impl Header {
    /// SHA-512/256 of the CBOR.
    pub fn hash(&self) -> Hash {
        Hash::of_cbor(self)
    }

    /// Whether `previous` is the header before this one.
    pub fn follows(&self, previous: &Self) -> bool {
        self.previous_hash == previous.hash()
    }
}

/// A block: its header.
#[derive(Clone, Debug, PartialEq, Eq, Default, Codec)]
pub struct Block {
    /// The header.
    pub header: Header,
}

impl Block {
    /// The first block of a runtime: empty, made at `timestamp` (seconds since 1970).
    pub fn genesis(id: Namespace, timestamp: u64) -> Self {
        Self {
            header: Header {
                version: 0,
                namespace: id,
                round: 0,
                timestamp: Timestamp(timestamp),
                header_type: HeaderType::NORMAL,
                previous_hash: Hash::EMPTY,
                io_root: Hash::EMPTY,
                state_root: Hash::EMPTY,
                messages_hash: Hash::EMPTY,
                in_messages_hash: Hash::EMPTY,
            },
        }
    }

    /// The block after `previous` with the same state, made at `timestamp` (seconds since 1970).
    pub fn empty_after(previous: &Self, timestamp: u64, header_type: HeaderType) -> Self {
        let p = &previous.header;
        Self {
            header: Header {
                version: p.version,
                namespace: p.namespace,
                round: p.round.wrapping_add(1),
                timestamp: Timestamp(timestamp),
                header_type,
                previous_hash: p.hash(),
                io_root: Hash::EMPTY,
                state_root: p.state_root,
                messages_hash: Hash::EMPTY,
                in_messages_hash: Hash::EMPTY,
            },
        }
    }
}
