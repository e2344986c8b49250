//! Which channel sends next: a pure scheduler by priority.
//!
//! Reference: `cometbft:p2p/conn/connection.go` (`selectChannelToGossipOn`, `updateStats`).

use bytes::{Buf, Bytes};

use crate::packet::{MAX_PAYLOAD, put_piece};

/// A channel's share and what it sends.
#[derive(Debug)]
struct Lane {
    channel: u8,
    priority: u64,
    /// What remains of the message being sent.
    sending: Option<Bytes>,
    /// Bytes sent of late.
    recent: u64,
}

/// Chooses channels and cuts their messages into packets.
#[derive(Debug)]
pub struct Scheduler {
    lanes: Vec<Lane>,
}

impl Scheduler {
    /// Scheduler for channels of the given number and priority.
    pub fn new(channels: impl IntoIterator<Item = (u8, u32)>) -> Self {
        let lane = |(channel, priority): (u8, u32)| Lane {
            channel,
            priority: u64::from(priority.max(1)),
            sending: None,
            recent: 0,
        };
        Self { lanes: channels.into_iter().map(lane).collect() }
    }

    /// Has each channel that sends nothing take its next message from `next`, which is given the channel's place.
    pub fn refill(&mut self, mut next: impl FnMut(usize) -> Option<Bytes>) {
        for (at, lane) in self.lanes.iter_mut().enumerate() {
            if lane.sending.is_none() {
                lane.sending = next(at);
            }
        }
    }

    /// Appends one packet of the channel that sent least of late for its priority. Whether that ended a message; `None`
    /// if there is nothing to send.
    pub fn put_packet(&mut self, out: &mut Vec<u8>) -> Option<bool> {
        let ready = self.lanes.iter_mut().filter(|lane| lane.sending.is_some());
        let lane = ready.reduce(|best, lane| {
            let lower = u128::from(lane.recent) * u128::from(best.priority)
                < u128::from(best.recent) * u128::from(lane.priority);
            if lower { lane } else { best }
        })?;
        let message = lane.sending.as_mut()?;
        let last = message.len() <= MAX_PAYLOAD;
        let len = message.len().min(MAX_PAYLOAD);
        let written = put_piece(lane.channel, last, &message[..len], out);
        message.advance(len);
        if last {
            lane.sending = None;
        }
        lane.recent = lane.recent.saturating_add(written as u64);
        Some(last)
    }

    /// Lets what was sent count less; due every two seconds.
    pub fn decay(&mut self) {
        for lane in &mut self.lanes {
            lane.recent = lane.recent / 5 * 4 + lane.recent % 5 * 4 / 5;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(len: usize) -> Bytes {
        Bytes::from(vec![7; len])
    }

    #[test]
    fn shares_follow_priorities() {
        let mut scheduler = Scheduler::new([(0x22, 9), (0x30, 3), (0x00, 1)]);
        let mut sent = [0_usize; 3];
        let mut out = Vec::new();
        for _ in 0..1300 {
            scheduler.refill(|at| {
                sent[at] += 1;
                Some(message(1000))
            });
            out.clear();
            assert_eq!(scheduler.put_packet(&mut out), Some(true));
        }
        assert!(sent[0].abs_diff(900) < 10 && sent[1].abs_diff(300) < 10 && sent[2].abs_diff(100) < 10, "{sent:?}");
    }

    #[test]
    fn long_messages_are_cut_and_others_pass_between() {
        let mut scheduler = Scheduler::new([(0x40, 5), (0x22, 7)]);
        let mut queues = [vec![message(3000)], vec![message(10)]];
        let mut out = Vec::new();
        let mut ends = Vec::new();
        loop {
            scheduler.refill(|at| queues[at].pop());
            let Some(last) = scheduler.put_packet(&mut out) else { break };
            ends.push(last);
        }
        assert_eq!(ends, [false, true, false, true]);
    }

    #[test]
    fn the_past_fades() {
        let mut scheduler = Scheduler::new([(1, 1)]);
        scheduler.refill(|_| Some(message(986)));
        let mut out = Vec::new();
        scheduler.put_packet(&mut out);
        let before = scheduler.lanes[0].recent;
        scheduler.decay();
        assert_eq!(scheduler.lanes[0].recent, before * 4 / 5);
        (0..100).for_each(|_| scheduler.decay());
        assert_eq!(scheduler.lanes[0].recent, 0);
    }
}
