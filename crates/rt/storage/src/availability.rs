//! Whether the storage is near enough to the chain's end for the node to offer its services.

/// Available with fewer rounds behind. Source: `maximumRoundDelayForAvailability`.
pub const AVAILABLE_BELOW: u64 = 10;
/// No longer available with more rounds behind. Source: `minimumRoundDelayForUnavailability`.
pub const UNAVAILABLE_ABOVE: u64 = 15;

/// The decision, which does not change with every round in between.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Availability(bool);

impl Availability {
    /// Takes note of the last final and the newest round; says whether the node is now available if that changed.
    pub fn update(&mut self, synced: Option<u64>, latest: Option<u64>) -> Option<bool> {
        let behind = latest?.saturating_sub(synced?);
        let now = if self.0 { behind <= UNAVAILABLE_ABOVE } else { behind < AVAILABLE_BELOW };
        let changed = now != self.0;
        self.0 = now;
        changed.then_some(now)
    }

    /// Whether the node is available.
    pub fn is_available(&self) -> bool {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn has_two_thresholds() {
        let mut a = Availability::default();
        let cases = [
            (None, Some(5), None),
            (Some(1), None, None),
            (Some(0), Some(10), None),
            (Some(1), Some(10), Some(true)),
            (Some(1), Some(16), None),
            (Some(1), Some(17), Some(false)),
            (Some(1), Some(11), None),
            (Some(12), Some(11), Some(true)),
        ];
        for (synced, latest, expected) in cases {
            assert_eq!(a.update(synced, latest), expected, "{synced:?} {latest:?}");
        }
        assert!(a.is_available());
    }
}
