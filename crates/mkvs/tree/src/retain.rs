//! Keeping the memory of unchanged nodes within its limit.

use std::sync::OnceLock;
use std::sync::atomic::Ordering;

use crate::node::{Link, NodeRef};
use crate::tree::{Retention, Tree};

impl Tree {
    /// Lets unused nodes go if more than `quarters` quarters of the limit are held.
    pub(crate) fn shrink(&mut self, quarters: usize) {
        let Retention::Bytes(max) = self.retention else { return };
        if self.held.load(Ordering::Relaxed) <= (max / 4).saturating_mul(quarters) {
            return;
        }
        for _ in 0..2 {
            let held = sweep(&mut self.root);
            self.held.store(held, Ordering::Relaxed);
            if held <= max {
                return;
            }
        }
    }

    /// Bytes of unchanged nodes in memory, roughly.
    pub fn held_bytes(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }
}

/// Lets go of unchanged nodes that were not used since the last sweep; returns the bytes that stay.
///
/// Nodes shared with another tree are left alone and not counted.
fn sweep(root: &mut Link) -> usize {
    let mut held = 0;
    root.post_order(
        false,
        &mut |link| match link {
            Link::Empty => false,
            Link::Dirty(..) => true,
            Link::Clean(clean) => {
                if !clean.take_used() {
                    clean.node = OnceLock::new();
                }
                held += clean.node.get().map_or(0, NodeRef::weight);
                clean.node.get().is_some()
            }
        },
        &mut |_| {},
    );
    held
}
