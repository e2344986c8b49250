//! Blocks of the runtime and of the consensus layer, and what they begin.

use std::sync::Arc;

use rt_executor::round::{Input, StateName};
use tokio_util::sync::CancellationToken;
use wire_consensus::roothash::{AnnotatedBlock, ExecutorCommit, Header, HeaderType};

use super::{Done, MAX_EARLY, MAX_HEIGHTS_BEHIND, MAX_LOOKUPS, Task};
use crate::effects;
use crate::position::{self, Height, Position};

impl Task {
    pub(super) fn new_block(&mut self, block: AnnotatedBlock) {
        // Of several that wait only the newest begins a round.
        let passed_over = self.next_block.replace(block);
        if let Some(header) = passed_over.and_then(|b| b.block).map(|b| b.header) {
            self.look_up(header);
        }
        self.prepare_next();
    }

    pub(super) fn prepare_next(&mut self) {
        if self.preparing {
            return;
        }
        let Some(block) = self.next_block.take() else { return };
        let round = block.block.as_ref().map_or(0, |block| block.header.round);
        self.preparing = true;
        let (chain, light) = (Arc::clone(&self.setup.chain), Arc::clone(&self.setup.light_blocks));
        let preparing = position::prepare(chain, light, self.setup.runtime, self.node, block);
        self.work.spawn(async move { Done::Prepared(preparing.await, round) });
    }

    /// Takes a block's transactions out of the pool, if it has any and they can be found out.
    pub(super) fn look_up(&mut self, header: Header) {
        let Some(storage) = self.setup.storage.clone() else { return };
        let empty = header.header_type != HeaderType::NORMAL || header.io_root.is_empty_hash();
        let sizes = self.shared.pool.lock().sizes();
        if empty || self.lookups >= MAX_LOOKUPS || sizes.main + sizes.checking == 0 {
            return;
        }
        self.lookups += 1;
        let history = Arc::clone(&self.setup.history);
        self.work.spawn(async move { Done::Used(effects::used(history, storage, header).await) });
    }

    pub(super) fn prepared(&mut self, position: Result<Box<Position>, position::PositionError>, round: u64) {
        self.preparing = false;
        match position {
            Ok(position) => self.begin_round(Arc::new(*position)),
            Err(error) => tracing::error!(module = "worker/common/committee", runtime_id = %self.setup.runtime, round,
                err = %error, "skipping round, failed to fetch state and round results"),
        }
        self.prepare_next();
    }

    pub(super) fn begin_round(&mut self, position: Arc<Position>) {
        let header = &position.chain.block.header;
        let epoch = |p: &Position| p.round.committee.as_ref().map(|members| members.committee.valid_for);
        let new_epoch = epoch(&position);
        let changed = self.position.as_deref().and_then(epoch) != new_epoch;
        self.metrics.block(&position);
        if header.header_type == HeaderType::ROUND_FAILED {
            tracing::warn!(module = "worker/common/committee", runtime_id = %self.setup.runtime, round = header.round,
                "round has failed");
        }
        if changed {
            tracing::info!(module = "worker/common/committee", runtime_id = %self.setup.runtime, epoch = ?new_epoch,
                "committee transition");
            if let Some(epoch) = new_epoch {
                self.metrics.committee(epoch);
            }
        }
        {
            let now = self.now();
            let mut pool = self.shared.pool.lock();
            pool.new_block(now, header.round);
            pool.load_incoming(&position.incoming);
            if changed {
                pool.recheck();
            }
        }
        self.finish_round(header);
        let number = position.round.number();
        self.position = Some(Arc::clone(&position));
        if self.machine.is_some() {
            self.step(Input::Round(Box::new(position.round.clone())));
            if let Some((height, rank)) = position.discrepancy {
                self.inputs.push_back(Input::Discrepancy { height, round: number, rank });
            }
            for (round, input) in std::mem::take(&mut self.early) {
                match round.cmp(&number) {
                    std::cmp::Ordering::Less => {}
                    std::cmp::Ordering::Equal => self.inputs.push_back(input),
                    std::cmp::Ordering::Greater => self.early.push_back((round, input)),
                }
            }
        }
        self.tell();
    }

    pub(super) fn finish_round(&mut self, header: &Header) {
        std::mem::replace(&mut self.round_over, CancellationToken::new()).cancel();
        tracing::info!(module = "worker/executor/committee", runtime_id = %self.setup.runtime, round = header.round,
            header_type = header.header_type.0, "considering the round finalized");
        if self.machine.as_ref().is_some_and(|machine| machine.state() == StateName::ProcessingBatch) {
            tracing::warn!(module = "worker/executor/committee", runtime_id = %self.setup.runtime, round = header.round,
                "aborting processing batch");
            self.metrics.aborted();
        }
        match self.committed.take() {
            Some((io_root, start)) if header.header_type == HeaderType::NORMAL && io_root == header.io_root => {
                self.metrics.finalized(start.elapsed());
            }
            _ => self.look_up(header.clone()),
        }
    }

    pub(super) fn read_heights(&mut self) {
        if self.reading || self.machine.is_none() {
            return;
        }
        let newest = self.setup.chain.latest_height();
        if self.next_height > newest || !*self.setup.chain.synced().borrow() {
            return;
        }
        let height = self.next_height.max(newest.saturating_sub(MAX_HEIGHTS_BEHIND));
        self.next_height = height.saturating_add(1);
        self.reading = true;
        let (chain, runtime) = (Arc::clone(&self.setup.chain), self.setup.runtime);
        self.work.spawn_blocking(move || Done::Height(height, position::read_height(&*chain, &runtime, height)));
    }

    pub(super) fn height_read(&mut self, height: i64, read: Result<Height, node_workers::ChainError>) {
        self.reading = false;
        match read {
            Ok(read) => {
                self.inputs.push_back(Input::Consensus { epoch_change_next: read.epoch_change_next });
                self.metrics.events(read.events.len());
                for event in read.events {
                    if let Some(committed) = event.executor_committed {
                        let round = committed.commit.header.header.round;
                        self.of_round(round, Input::Committed(Box::new(committed.commit)));
                    }
                    if let Some(found) = event.execution_discrepancy {
                        tracing::warn!(module = "worker/executor/committee", runtime_id = %self.setup.runtime, height,
                            round = found.round, rank = found.rank, timeout = found.timeout, authoritative = true,
                            "execution discrepancy detected");
                        let (round, rank) = (found.round, found.rank);
                        let height = u64::try_from(height).unwrap_or(0);
                        self.of_round(round, Input::Discrepancy { height, round, rank });
                    }
                }
            }
            Err(error) => {
                tracing::debug!(module = "worker/executor/committee", runtime_id = %self.setup.runtime, height,
                err = %error, "events cannot be read")
            }
        }
        self.read_heights();
    }

    /// Something about a round, which may not have begun here yet.
    pub(super) fn of_round(&mut self, round: u64, input: Input) {
        match &self.position {
            Some(position) if round <= position.round.number() => self.inputs.push_back(input),
            _ => {
                if self.early.len() >= MAX_EARLY {
                    self.early.pop_front();
                }
                self.early.push_back((round, input));
            }
        }
    }

    pub(super) fn observed(&mut self, commit: Option<&ExecutorCommit>) {
        let Some(commit) = commit.filter(|commit| commit.id == self.setup.runtime) else { return };
        for one in commit.commits.iter().flatten() {
            self.of_round(one.header.header.round, Input::Observed(Box::new(one.clone())));
        }
    }
}
