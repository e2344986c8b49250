//! From a result to a signature: results are stored and the record written, then proposal and commitment go out.

use base_prims::Hash;
use wire_consensus::roothash::{
    ComputeResultsHeader, ExecutorCommitmentFailure, ExecutorCommitmentHeader, ProposalHeader,
};
use wire_runtime::runtime::ExecuteTxBatchResponse;

use super::machine::{Job, Proposed, State};
use super::{
    CommitmentDraft, CommitmentRecord, Effect, Machine, ProposalDraft, ProposalRecord, Record, Store, Transactions,
};

/// Something that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Done,
    Asked(u64),
}

impl Step {
    /// Whether `id` is what was asked for; it is done then.
    fn take(&mut self, id: u64) -> bool {
        let mine = *self == Self::Asked(id);
        if mine {
            *self = Self::Done;
        }
        mine
    }
}

/// What waits for the disk.
#[derive(Debug)]
pub(super) struct Saving {
    /// Whether the batch was scheduled here.
    own: bool,
    proposal: Option<ProposalDraft>,
    commitment: CommitmentDraft,
    batch: Vec<Hash>,
    store: Step,
    record: Step,
}

impl Machine {
    /// The number of the round's record, with what this node is about to sign.
    fn write_record(&mut self, change: impl FnOnce(&mut Record), out: &mut Vec<Effect>) -> Step {
        let round = self.round().unwrap_or_default();
        if self.record.round != round {
            self.record = Record::new(self.setup(), round);
        }
        change(&mut self.record);
        let id = self.new_id();
        out.push(Effect::Record { id, record: Box::new(self.record.clone()) });
        Step::Asked(id)
    }

    fn write_commitment(&mut self, draft: &CommitmentDraft, out: &mut Vec<Effect>) -> Step {
        let commitment = CommitmentRecord { header: draft.header.clone(), messages: draft.messages.clone() };
        self.write_record(|record| record.commit(commitment), out)
    }

    pub(super) fn begin_saving(
        &mut self,
        job: Job,
        result: ExecuteTxBatchResponse,
        txs: &mut dyn Transactions,
        out: &mut Vec<Effect>,
    ) {
        let Some(active) = &mut self.active else { return };
        active.submitted.insert(job.rank);
        let (round, parent) = (active.round.number(), active.round.block.header.state_root);
        let previous_hash = active.round.block.header.hash();
        let epoch = active.members.committee.valid_for;
        let own = job.proposal.is_none();
        let (batch, proposal) = match &job.proposal {
            Some(proposal) => (proposal.batch.clone(), None),
            None => {
                let batch = result.tx_hashes.clone().into_option().unwrap_or_default();
                txs.reject(result.tx_reject_hashes.as_option().map_or(&[][..], Vec::as_slice));
                txs.promote(&batch);
                let header = ProposalHeader { round, previous_hash, batch_hash: result.tx_input_root };
                (batch.clone(), Some(ProposalDraft { epoch, header, batch }))
            }
        };
        let computed = result.batch;
        let (io_root, state_root) =
            (computed.header.io_root.unwrap_or_default(), computed.header.state_root.unwrap_or_default());
        let commitment = CommitmentDraft {
            header: ExecutorCommitmentHeader {
                scheduler_id: job.scheduler,
                header: computed.header,
                rak_signature: Some(computed.rak_sig),
                ..ExecutorCommitmentHeader::default()
            },
            messages: if job.scheduler == self.setup().node {
                computed.messages.0.unwrap_or_default()
            } else {
                Vec::new()
            },
        };
        let mut io_log = result.tx_input_write_log.into_option().unwrap_or_default();
        io_log.extend(computed.io_write_log.unwrap_or_default());
        let record = {
            let commitment =
                CommitmentRecord { header: commitment.header.clone(), messages: commitment.messages.clone() };
            let proposal = proposal.clone().map(|p| ProposalRecord { header: p.header, batch: p.batch });
            self.write_record(
                |record| {
                    record.proposals.extend(proposal);
                    record.commit(commitment);
                },
                out,
            )
        };
        let id = self.new_id();
        let state_log = computed.state_write_log.unwrap_or_default();
        let store = Store { id, round, io_root, io_log, parent_state: parent, state_root, state_log };
        out.push(Effect::Store(Box::new(store)));
        let saving = Saving { own, proposal, commitment, batch, store: Step::Asked(id), record };
        self.state = State::Saving(Box::new(saving));
    }

    /// Commits to having failed, without having executed anything.
    pub(super) fn begin_failure(&mut self, job: &Job, out: &mut Vec<Effect>) {
        let Some(active) = &mut self.active else { return };
        active.submitted.insert(job.rank);
        let last = &active.round.block.header;
        let (round, previous_hash) = (last.round.wrapping_add(1), last.hash());
        let mut header = ExecutorCommitmentHeader {
            scheduler_id: job.scheduler,
            header: ComputeResultsHeader { round, previous_hash, ..ComputeResultsHeader::default() },
            ..ExecutorCommitmentHeader::default()
        };
        header.set_failure(ExecutorCommitmentFailure::UNKNOWN);
        let commitment = CommitmentDraft { header, messages: Vec::new() };
        let record = self.write_commitment(&commitment, out);
        let saving = Saving { own: false, proposal: None, commitment, batch: Vec::new(), store: Step::Done, record };
        self.state = State::Saving(Box::new(saving));
    }

    pub(super) fn stored(&mut self, id: u64, ok: bool, out: &mut Vec<Effect>) {
        let State::Saving(saving) = &mut self.state else { return };
        if !saving.store.take(id) {
            return;
        }
        if ok {
            self.saved(out);
        } else if saving.own {
            // A scheduler may not fail: others, or the next block, go on.
            self.state = State::WaitingForBatch;
        } else {
            saving.commitment.header.set_failure(ExecutorCommitmentFailure::UNKNOWN);
            saving.commitment.messages.clear();
            let commitment = saving.commitment.clone();
            let record = self.write_commitment(&commitment, out);
            if let State::Saving(saving) = &mut self.state {
                saving.record = record;
            }
        }
    }

    pub(super) fn recorded(&mut self, id: u64, ok: bool, out: &mut Vec<Effect>) {
        let State::Saving(saving) = &mut self.state else { return };
        if !saving.record.take(id) {
            return;
        }
        if ok {
            self.saved(out);
        } else {
            // What is not on record is not signed.
            self.state = State::WaitingForBatch;
        }
    }

    /// Signs what may be signed by now.
    fn saved(&mut self, out: &mut Vec<Effect>) {
        let State::Saving(saving) = &mut self.state else { return };
        if saving.record != Step::Done {
            return;
        }
        if let Some(proposal) = saving.proposal.take() {
            out.push(Effect::Propose(proposal));
        }
        if saving.store != Step::Done {
            return;
        }
        out.push(Effect::Commit(Box::new(saving.commitment.clone())));
        if let Some(io_root) = saving.commitment.header.header.io_root {
            self.proposed = Some(Proposed { io_root, batch: std::mem::take(&mut saving.batch) });
        }
        self.state = State::WaitingForBatch;
    }

    /// Takes up what the record says of the round: nothing else is signed for the same schedulers, and what was on
    /// record is sent again, for it may not have been sent.
    pub(super) fn resume(&mut self, out: &mut Vec<Effect>) {
        let Some(active) = &mut self.active else { return };
        if self.record.round != active.round.number() {
            return;
        }
        let round = self.record.round;
        let committee = &active.members.committee;
        let last = active.round.block.header.hash();
        let epoch = committee.valid_for;
        let rank = |id| committee.scheduler_rank(round, id);
        let mut again = None;
        for commitment in &self.record.commitments {
            active.submitted.extend(rank(&commitment.header.scheduler_id));
            let header = &commitment.header.header;
            if header.previous_hash == last {
                again = Some(commitment.clone());
            }
        }
        if !self.record.proposals.is_empty() {
            active.submitted.insert(active.rank);
        }
        let Some(again) = again else { return };
        let own = again.header.scheduler_id == self.setup().node;
        let proposal = self.record.proposals.iter().rfind(|p| own && p.header.previous_hash == last).cloned();
        let batch = proposal.as_ref().map(|p| p.batch.clone()).unwrap_or_default();
        let proposal = proposal.map(|p| ProposalDraft { epoch, header: p.header, batch: p.batch });
        let roots = (again.header.header.io_root, again.header.header.state_root);
        let commitment = CommitmentDraft { header: again.header, messages: again.messages };
        let store = match roots {
            (Some(io_root), Some(state_root)) => {
                let id = self.new_id();
                out.push(Effect::FindRoots { id, round, io_root, state_root });
                Step::Asked(id)
            }
            _ => Step::Done,
        };
        // If the roots are gone there is nothing to commit to, not even a failure: the other may have been signed.
        let saving = Saving { own: true, proposal, commitment, batch, store, record: Step::Done };
        self.state = State::Saving(Box::new(saving));
        self.saved(out);
    }
}
