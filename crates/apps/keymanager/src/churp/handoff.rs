//! The end of a handoff: success or another try.

use base_prims::{Epoch, PublicKey};
use wire_consensus::churp::{HANDOFFS_DISABLED, Status};

/// When a handoff is to be completed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Moment {
    /// Within its epoch: all applicants must have confirmed.
    InEpoch,
    /// After its epoch: those who confirmed are enough.
    EpochOver,
}

/// Completes the handoff if the nodes that confirmed it are enough for a committee. Whether they were.
pub(super) fn try_finalize(status: &mut Status, moment: Moment) -> bool {
    // Applications are sorted by node.
    let committee: Vec<PublicKey> =
        status.applications.iter().filter(|(_, a)| a.reconstructed).map(|(node, _)| *node).collect();
    if committee.len() < status.min_committee_size() {
        return false;
    }
    if moment == Moment::InEpoch && committee.len() != status.applications.len() {
        return false;
    }
    let mut next = HANDOFFS_DISABLED;
    if status.handoff < HANDOFFS_DISABLED.wrapping_sub(status.handoff_interval) {
        next = status.next_handoff.wrapping_add(status.handoff_interval);
    }
    // With handoffs in every epoch a late one leaves no time for applications: skip one.
    if moment == Moment::EpochOver && status.handoff_interval == 1 && next < HANDOFFS_DISABLED {
        next += 1;
    }
    if next == HANDOFFS_DISABLED {
        status.handoff_interval = 0;
    }
    status.handoff = status.next_handoff;
    status.checksum = status.next_checksum;
    status.committee = committee;
    reset(status, next);
    true
}

/// Forgets applications and confirmations and sets the epoch of the next handoff.
pub(super) fn reset(status: &mut Status, next_handoff: Epoch) {
    status.next_handoff = next_handoff;
    status.next_checksum = None;
    status.applications.clear();
}
