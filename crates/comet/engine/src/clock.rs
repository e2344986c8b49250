//! The time of day.

use std::time::{SystemTime, UNIX_EPOCH};

use wire_cometbft::Time;

/// Now; `None` if the clock stands outside of the years 1970 to 9999.
pub(crate) fn now() -> Option<Time> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
    Time::new(i64::try_from(since.as_secs()).ok()?, since.subsec_nanos()).ok()
}
