//! Points in time with nanoseconds, and the time texts that evidence carries.

/// Nanoseconds per second.
const NANOS: i128 = 1_000_000_000;

/// A point in time: whole seconds since the Unix epoch and nanoseconds (below `10^9`) past them.
///
/// Block times have nanoseconds, and the reference compares them with all their digits: a certificate that ends at a
/// whole second has expired one nanosecond later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct UnixTime {
    seconds: i64,
    nanos: u32,
}

impl UnixTime {
    /// The time `seconds` after the Unix epoch; nanoseconds of `10^9` and more count as `10^9 - 1`.
    pub fn new(seconds: i64, nanos: u32) -> Self {
        Self { seconds, nanos: nanos.min(999_999_999) }
    }

    /// Whole seconds since the Unix epoch.
    pub fn seconds(&self) -> i64 {
        self.seconds
    }

    /// Nanoseconds past the whole second.
    pub fn nanos(&self) -> u32 {
        self.nanos
    }

    /// Nanoseconds from `earlier` to `self`.
    pub(crate) fn nanos_since(&self, earlier: UnixTime) -> i128 {
        (i128::from(self.seconds) - i128::from(earlier.seconds)) * NANOS + i128::from(self.nanos)
            - i128::from(earlier.nanos)
    }
}

impl From<i64> for UnixTime {
    fn from(seconds: i64) -> Self {
        Self::new(seconds, 0)
    }
}

/// Days from 1970-01-01 to the given day of the proleptic Gregorian calendar.
fn days_from_civil(year: i64, month: u32, day: u32) -> i64 {
    // Years that begin in March put the leap day at their end.
    let (y, m) = if month <= 2 { (year - 1, month + 9) } else { (year, month - 3) };
    let day_of_year = i64::from((153 * m + 2) / 5 + day - 1);
    y * 365 + y.div_euclid(4) - y.div_euclid(100) + y.div_euclid(400) + day_of_year - 719_468
}

fn days_in_month(year: i64, month: u32) -> u32 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

/// The time of a date and a time of day in UTC, if all parts are in range.
pub(crate) fn from_civil(year: i64, month: u32, day: u32, clock: (u32, u32, u32)) -> Option<UnixTime> {
    let (hour, minute, second) = clock;
    if !(1..=12).contains(&month) || day == 0 || day > days_in_month(year, month) {
        return None;
    }
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let seconds = i64::from(hour * 3600 + minute * 60 + second);
    Some(UnixTime::new(days_from_civil(year, month, day) * 86_400 + seconds, 0))
}

/// Takes a number of `least` to `most` digits from the front.
pub(crate) fn digits(text: &mut &[u8], least: usize, most: usize) -> Option<u32> {
    let count = text.iter().take(most).take_while(|b| b.is_ascii_digit()).count();
    if count < least {
        return None;
    }
    let (number, rest) = text.split_at(count);
    *text = rest;
    Some(number.iter().fold(0, |acc, b| acc * 10 + u32::from(b - b'0')))
}

fn literal(text: &mut &[u8], expected: &[u8]) -> Option<()> {
    *text = text.strip_prefix(expected)?;
    Some(())
}

/// Reads `2006-01-02T15:04:05[.fraction]` followed by exactly `suffix`, with the leniencies of Go's `time.Parse`: the
/// hour may have one digit, the fraction may follow a comma, and digits after the ninth are dropped.
pub(crate) fn parse_timestamp(text: &str, suffix: &str) -> Option<UnixTime> {
    let mut rest = text.as_bytes();
    let rest = &mut rest;
    let year = digits(rest, 4, 4)?;
    literal(rest, b"-")?;
    let month = digits(rest, 2, 2)?;
    literal(rest, b"-")?;
    let day = digits(rest, 2, 2)?;
    literal(rest, b"T")?;
    let hour = digits(rest, 1, 2)?;
    literal(rest, b":")?;
    let minute = digits(rest, 2, 2)?;
    literal(rest, b":")?;
    let second = digits(rest, 2, 2)?;
    let mut nanos = 0;
    if let [b'.' | b',', first, ..] = rest
        && first.is_ascii_digit()
    {
        *rest = &rest[1..];
        let count = rest.iter().take_while(|b| b.is_ascii_digit()).count();
        let (fraction, tail) = rest.split_at(count);
        *rest = tail;
        nanos = (0..9).fold(0, |acc, i| acc * 10 + fraction.get(i).map_or(0, |b| u32::from(b - b'0')));
    }
    literal(rest, suffix.as_bytes())?;
    if !rest.is_empty() {
        return None;
    }
    let whole = from_civil(i64::from(year), month, day, (hour, minute, second))?;
    Some(UnixTime::new(whole.seconds, nanos))
}

/// Writes `2006-01-02T15:04:05[.fraction]` in UTC, the fraction without trailing zeros.
pub(crate) fn format_timestamp(time: UnixTime) -> String {
    let (days, second) = (time.seconds.div_euclid(86_400), time.seconds.rem_euclid(86_400));
    // Counted from 0000-03-01 in eras of 400 years, so that the leap day ends a year.
    let shifted = days + 719_468;
    let (era, day) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = era * 400 + year + i64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let mut out = format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}");
    if time.nanos != 0 {
        out.push_str(format!(".{:09}", time.nanos).trim_end_matches('0'));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps() {
        let avr = |t: &str| parse_timestamp(t, "");
        assert_eq!(avr("2018-03-30T22:02:26.123456"), Some(UnixTime::new(1_522_447_346, 123_456_000)));
        assert_eq!(avr("1970-01-01T00:00:00"), Some(UnixTime::default()));
        assert_eq!(avr("1969-12-31T23:59:59"), Some(UnixTime::from(-1)));
        assert_eq!(avr("2000-02-29T0:00:00"), Some(UnixTime::from(951_782_400)), "one-digit hour");
        assert_eq!(avr("2000-02-29T00:00:00,5"), Some(UnixTime::new(951_782_400, 500_000_000)), "comma");
        assert_eq!(avr("2000-02-29T00:00:00.1234567899"), Some(UnixTime::new(951_782_400, 123_456_789)));
        for bad in [
            "",
            "2001-02-29T00:00:00",
            "2000-13-01T00:00:00",
            "2000-01-00T00:00:00",
            "2000-01-01T24:00:00",
            "2000-01-01T00:60:00",
            "2000-01-01T00:00:60",
            "2000-01-01T00:0:00",
            "2000-01-01T00:00:00.",
            "2000-01-01T00:00:00Z",
            "2000-01-01 00:00:00",
        ] {
            assert_eq!(avr(bad), None, "{bad}");
        }
        assert_eq!(parse_timestamp("2022-12-16T12:45:36Z", "Z"), Some(UnixTime::from(1_671_194_736)));
        assert_eq!(parse_timestamp("2022-12-16T12:45:36", "Z"), None);
    }

    #[test]
    fn formatting_is_the_inverse() {
        assert_eq!(format_timestamp(UnixTime::new(1_522_447_346, 123_456_000)), "2018-03-30T22:02:26.123456");
        assert_eq!(format_timestamp(UnixTime::default()), "1970-01-01T00:00:00");
        for seconds in (-62_135_596_800..253_402_300_800).step_by(86_400 * 13 + 11_111) {
            let time = UnixTime::new(seconds, 500);
            assert_eq!(parse_timestamp(&format_timestamp(time), ""), Some(time));
        }
    }

    #[test]
    fn order_and_difference() {
        let a = UnixTime::new(5, 999_999_999);
        let b = UnixTime::from(6);
        assert!(a < b);
        assert_eq!(b.nanos_since(a), 1);
        assert_eq!(a.nanos_since(b), -1);
        assert_eq!(UnixTime::new(1, u32::MAX).nanos(), 999_999_999);
    }
}
