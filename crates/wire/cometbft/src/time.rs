//! Points in time and spans of time as the protocol stores, orders and prints them.

use std::fmt;

use crate::codec::{DecodeError, Field, Key, Message, Reader, WireType, put_key, put_nested};

/// Seconds from year 1 to 1970: the earliest second a timestamp may hold, negated.
const YEAR_ONE: i64 = -62_135_596_800;
/// First second of year 10000: timestamps lie before it.
const YEAR_TEN_THOUSAND: i64 = 253_402_300_800;
/// Nanoseconds of one second.
pub const NANOS_PER_SEC: i64 = 1_000_000_000;

/// A point in time, years 1 to 9999, to the nanosecond, always UTC.
///
/// The default is the first instant of year 1, which is what an absent timestamp decodes to. On the wire
/// it is `google.protobuf.Timestamp{1 seconds, 2 nanos}`, always written, even when its body is empty (1970).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time {
    seconds: i64,
    nanos: u32,
}

/// Why a text or a pair of numbers is no [`Time`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TimeError {
    /// Outside of years 1 to 9999, or nanoseconds outside of one second.
    #[error("time out of range: {seconds} s, {nanos} ns")]
    Range {
        /// Seconds since 1970.
        seconds: i64,
        /// Nanoseconds within the second.
        nanos: i64,
    },
    /// Not of the form `2006-01-02T15:04:05.999999999Z07:00`.
    #[error("malformed time")]
    Format,
}

impl Default for Time {
    fn default() -> Self {
        Self::ZERO
    }
}

impl Time {
    /// The first instant of year 1: "no time".
    pub const ZERO: Self = Self { seconds: YEAR_ONE, nanos: 0 };
    /// The first instant of 1970.
    pub const UNIX_EPOCH: Self = Self { seconds: 0, nanos: 0 };

    /// Time from seconds since 1970 and nanoseconds within that second.
    pub fn new(seconds: i64, nanos: u32) -> Result<Self, TimeError> {
        if !(YEAR_ONE..YEAR_TEN_THOUSAND).contains(&seconds) || i64::from(nanos) >= NANOS_PER_SEC {
            return Err(TimeError::Range { seconds, nanos: i64::from(nanos) });
        }
        Ok(Self { seconds, nanos })
    }

    /// Seconds since 1970; negative before.
    pub fn seconds(self) -> i64 {
        self.seconds
    }

    /// Nanoseconds within the second.
    pub fn nanos(self) -> u32 {
        self.nanos
    }

    /// Whether this is the first instant of year 1.
    pub fn is_zero(self) -> bool {
        self == Self::ZERO
    }

    /// Nanoseconds since 1970 modulo 2^64, as the reference computes them (`time.Time.UnixNano`, which
    /// wraps outside of the years 1678 to 2262).
    pub fn unix_nanos_wrapping(self) -> i64 {
        self.seconds.wrapping_mul(NANOS_PER_SEC).wrapping_add(i64::from(self.nanos))
    }

    /// Exact nanoseconds since 1970.
    pub fn unix_nanos(self) -> i128 {
        i128::from(self.seconds) * i128::from(NANOS_PER_SEC) + i128::from(self.nanos)
    }

    /// Time from nanoseconds since 1970.
    pub fn from_unix_nanos(nanos: i128) -> Result<Self, TimeError> {
        let per_sec = i128::from(NANOS_PER_SEC);
        let seconds = i64::try_from(nanos.div_euclid(per_sec)).map_err(|_| TimeError::Format)?;
        let rest = u32::try_from(nanos.rem_euclid(per_sec)).map_err(|_| TimeError::Format)?;
        Self::new(seconds, rest)
    }

    /// This time moved by `span`, kept within years 1 to 9999.
    pub fn saturating_add(self, span: Duration) -> Self {
        let nanos = self.unix_nanos() + i128::from(span.nanos());
        match Self::from_unix_nanos(nanos) {
            Ok(time) => time,
            Err(_) if span.nanos() < 0 => Self::ZERO,
            Err(_) => Self { seconds: YEAR_TEN_THOUSAND - 1, nanos: 999_999_999 },
        }
    }

    /// The span from `earlier` to this time, saturating at ±292 years as the reference's does.
    pub fn since(self, earlier: Self) -> Duration {
        let nanos = self.unix_nanos() - earlier.unix_nanos();
        let clamped = nanos.clamp(i128::from(i64::MIN), i128::from(i64::MAX));
        Duration::from_nanos(i64::try_from(clamped).unwrap_or(i64::MAX))
    }

    /// Cut to whole milliseconds, as the reference's `tmtime.Canonical` does.
    pub fn truncate_to_millis(self) -> Self {
        Self { seconds: self.seconds, nanos: self.nanos - self.nanos % 1_000_000 }
    }

    /// Reads RFC 3339 text with up to nine fractional digits and any zone offset (more digits are cut).
    pub fn parse_rfc3339(text: &str) -> Result<Self, TimeError> {
        parse_rfc3339(text.as_bytes())
    }
}

/// Prints RFC 3339 in UTC with trailing zeros of the fraction left out (Go's `RFC3339Nano`).
impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = civil_from_days(self.seconds.div_euclid(86_400));
        let rest = self.seconds.rem_euclid(86_400);
        let (hour, minute, second) = (rest / 3600, rest % 3600 / 60, rest % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")?;
        if self.nanos != 0 {
            let digits = format!("{:09}", self.nanos);
            write!(f, ".{}", digits.trim_end_matches('0'))?;
        }
        f.write_str("Z")
    }
}

impl fmt::Debug for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Date of a day counted from 1970-01-01 (proleptic Gregorian).
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    // Count from 0000-03-01 so that the leap day ends a year, and by eras of 400 years.
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// Day counted from 1970-01-01 of a date.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let shifted_month = if month > 2 { month - 3 } else { month + 9 };
    let day_of_year = (153 * shifted_month + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

fn digits(text: &[u8], from: usize, count: usize) -> Result<i64, TimeError> {
    let part = text.get(from..from + count).ok_or(TimeError::Format)?;
    part.iter().try_fold(0i64, |value, &c| {
        if c.is_ascii_digit() { Ok(value * 10 + i64::from(c - b'0')) } else { Err(TimeError::Format) }
    })
}

fn expect_byte(text: &[u8], at: usize, wanted: u8) -> Result<(), TimeError> {
    if text.get(at) == Some(&wanted) { Ok(()) } else { Err(TimeError::Format) }
}

fn parse_rfc3339(text: &[u8]) -> Result<Time, TimeError> {
    for (at, wanted) in [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')] {
        expect_byte(text, at, wanted)?;
    }
    let (year, month, day) = (digits(text, 0, 4)?, digits(text, 5, 2)?, digits(text, 8, 2)?);
    let (hour, minute, second) = (digits(text, 11, 2)?, digits(text, 14, 2)?, digits(text, 17, 2)?);
    if !(1..=12).contains(&month)
        || day < 1
        || day > days_in_month(year, month)
        || hour > 23
        || minute > 59
        || second > 59
    {
        return Err(TimeError::Format);
    }
    let mut at = 19;
    let mut nanos = 0u32;
    if matches!(text.get(at), Some(b'.' | b',')) {
        at += 1;
        let mut count = 0u32;
        while let Some(c) = text.get(at).filter(|c| c.is_ascii_digit()) {
            if count < 9 {
                nanos = nanos * 10 + u32::from(c - b'0');
            }
            count += 1;
            at += 1;
        }
        if count == 0 {
            return Err(TimeError::Format);
        }
        nanos *= 10u32.pow(9u32.saturating_sub(count));
    }
    let offset = match text.get(at) {
        Some(b'Z') if text.len() == at + 1 => 0,
        Some(&sign @ (b'+' | b'-')) if text.len() == at + 6 => {
            expect_byte(text, at + 3, b':')?;
            let (hours, minutes) = (digits(text, at + 1, 2)?, digits(text, at + 4, 2)?);
            if hours > 24 || minutes > 60 {
                return Err(TimeError::Format);
            }
            let span = hours * 3600 + minutes * 60;
            if sign == b'+' { span } else { -span }
        }
        _ => return Err(TimeError::Format),
    };
    let seconds = days_from_civil(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second - offset;
    Time::new(seconds, nanos)
}

/// The two numbers of `google.protobuf.Timestamp` and `google.protobuf.Duration`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct SecondsAndNanos {
    seconds: i64,
    nanos: i32,
}

impl Message for SecondsAndNanos {
    fn encode_fields(&self, out: &mut Vec<u8>) {
        self.seconds.encode_field(1, out);
        self.nanos.encode_field(2, out);
    }

    fn merge_field(&mut self, key: Key, reader: &mut Reader<'_>) -> Result<bool, DecodeError> {
        match key.number {
            1 => self.seconds.merge(key, reader)?,
            2 => self.nanos.merge(key, reader)?,
            _ => return Ok(false),
        }
        Ok(true)
    }
}

impl Field for Time {
    fn encode_field(&self, number: u32, out: &mut Vec<u8>) {
        put_key(number, WireType::Bytes, out);
        put_nested(out, |out| {
            self.seconds.encode_field(1, out);
            // Below 10^9 by construction.
            u64::from(self.nanos).encode_field(2, out);
        });
    }

    /// A later occurrence replaces an earlier one.
    fn merge(&mut self, key: Key, reader: &mut Reader<'_>) -> Result<(), DecodeError> {
        let parts = SecondsAndNanos::decode(reader.bytes(key)?)?;
        let out_of_range = DecodeError::TimeRange { seconds: parts.seconds, nanos: parts.nanos };
        let nanos = u32::try_from(parts.nanos).map_err(|_| out_of_range.clone())?;
        *self = Self::new(parts.seconds, nanos).map_err(|_| out_of_range)?;
        Ok(())
    }
}

/// A signed span of time in nanoseconds; on the wire `google.protobuf.Duration`, always written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Duration(i64);

impl Duration {
    /// Span of so many nanoseconds.
    pub const fn from_nanos(nanos: i64) -> Self {
        Self(nanos)
    }

    /// Span of so many milliseconds, saturating.
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis.saturating_mul(1_000_000))
    }

    /// Span of so many seconds, saturating.
    pub const fn from_secs(seconds: i64) -> Self {
        Self(seconds.saturating_mul(NANOS_PER_SEC))
    }

    /// Nanoseconds.
    pub const fn nanos(self) -> i64 {
        self.0
    }
}

impl Field for Duration {
    fn encode_field(&self, number: u32, out: &mut Vec<u8>) {
        put_key(number, WireType::Bytes, out);
        put_nested(out, |out| {
            (self.0 / NANOS_PER_SEC).encode_field(1, out);
            (self.0 % NANOS_PER_SEC).encode_field(2, out);
        });
    }

    /// A later occurrence replaces an earlier one.
    fn merge(&mut self, key: Key, reader: &mut Reader<'_>) -> Result<(), DecodeError> {
        let parts = SecondsAndNanos::decode(reader.bytes(key)?)?;
        let nanos = i64::from(parts.nanos);
        let mixed_signs = (parts.seconds < 0 && nanos > 0) || (parts.seconds > 0 && nanos < 0);
        let total = parts.seconds.checked_mul(NANOS_PER_SEC).and_then(|span| span.checked_add(nanos));
        match total {
            Some(total) if !mixed_signs && nanos.abs() < NANOS_PER_SEC => *self = Self(total),
            _ => {
                return Err(DecodeError::TimeRange { seconds: parts.seconds, nanos: parts.nanos });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_and_parses_rfc3339() {
        for (text, seconds, nanos) in [
            ("0001-01-01T00:00:00Z", YEAR_ONE, 0),
            ("1970-01-01T00:00:00Z", 0, 0),
            ("1969-12-31T23:59:59.5Z", -1, 500_000_000),
            ("2024-02-29T12:30:01.000000001Z", 1_709_209_801, 1),
            ("9999-12-31T23:59:59.999999999Z", YEAR_TEN_THOUSAND - 1, 999_999_999),
        ] {
            let time = Time::parse_rfc3339(text).unwrap();
            assert_eq!((time.seconds(), time.nanos()), (seconds, nanos), "{text}");
            assert_eq!(time.to_string(), text);
        }
        assert_eq!(Time::parse_rfc3339("2024-01-01T02:00:00+02:00").unwrap().to_string(), "2024-01-01T00:00:00Z");
        for bad in [
            "",
            "2024-01-01",
            "2023-02-29T00:00:00Z",
            "2024-01-01T00:00:00",
            "2024-01-01T00:00:60Z",
            "2024-01-01T00:00:00.Z",
        ] {
            assert!(Time::parse_rfc3339(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn range_is_years_1_to_9999() {
        assert!(Time::new(YEAR_ONE - 1, 0).is_err());
        assert!(Time::new(YEAR_TEN_THOUSAND, 0).is_err());
        assert!(Time::new(0, 1_000_000_000).is_err());
    }

    #[test]
    fn spans() {
        let time = Time::new(10, 5).unwrap();
        assert_eq!(time.saturating_add(Duration::from_secs(-20)).to_string(), "1969-12-31T23:59:50.000000005Z");
        assert_eq!(time.since(Time::UNIX_EPOCH).nanos(), 10_000_000_005);
        assert_eq!(time.since(Time::ZERO).nanos(), i64::MAX);
        assert_eq!(Time::ZERO.saturating_add(Duration::from_secs(-1)), Time::ZERO);
    }
}
