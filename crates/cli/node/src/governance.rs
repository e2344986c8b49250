//! `oasis-node governance …`: proposals and votes. Reference: `go/oasis-node/cmd/governance`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Subcommand;
use wire_consensus::governance::{
    CancelUpgradeProposal, METHOD_CAST_VOTE, METHOD_SUBMIT_PROPOSAL, Proposal, ProposalContent, ProposalQuery,
    ProposalVote, Vote, VoteEntry,
};
use wire_consensus::upgrade::Descriptor;

use crate::args::{Session, TxArgs};
use crate::client::ClientArgs;
use crate::tool::{Done, Failure, OrFail as _, end, print_json, read_json};

const MODULE: &str = "cmd/governance";
const SERVICE: &str = "Governance";

/// Subcommands of `governance`.
#[derive(Subcommand)]
pub(crate) enum GovernanceCommand {
    /// Generate a submit proposal transaction.
    #[command(name = "gen_submit_proposal")]
    GenSubmitProposal {
        /// Path of the upgrade descriptor to propose (JSON).
        #[arg(long = "proposal.upgrade.descriptor")]
        descriptor: Option<PathBuf>,
        /// Proposal whose upgrade to cancel.
        #[arg(long = "proposal.cancel_upgrade.id", default_value_t = 0)]
        cancel: u64,
        #[command(flatten)]
        tx: TxArgs,
    },
    /// Generate a cast vote transaction.
    #[command(name = "gen_cast_vote")]
    GenCastVote {
        /// Vote to be cast (yes, no, abstain).
        #[arg(long = "vote", default_value = "", hide_default_value = true)]
        vote: String,
        /// Proposal to vote on.
        #[arg(long = "vote.proposal.id", default_value_t = 0)]
        proposal: u64,
        #[command(flatten)]
        tx: TxArgs,
    },
    /// Display proposal info.
    #[command(name = "proposal_info")]
    ProposalInfo(ProposalArgs),
    /// Display votes for a proposal.
    #[command(name = "proposal_votes")]
    ProposalVotes(ProposalArgs),
    /// List active proposals.
    #[command(name = "list_proposals")]
    ListProposals {
        /// Include closed proposals.
        #[arg(long = "include_closed")]
        include_closed: bool,
        #[command(flatten)]
        client: ClientArgs,
    },
}

/// Which proposal.
#[derive(clap::Args)]
pub(crate) struct ProposalArgs {
    /// Proposal ID.
    #[arg(long = "proposal.id", default_value_t = 0)]
    id: u64,
    #[command(flatten)]
    client: ClientArgs,
}

impl ProposalArgs {
    fn query(&self) -> Result<ProposalQuery, Failure> {
        match self.id {
            0 => Err(Failure::new(MODULE, "proposal ID required")),
            proposal_id => Ok(ProposalQuery { height: 0, proposal_id }),
        }
    }
}

pub(crate) fn run(command: &GovernanceCommand, session: &Session) -> ExitCode {
    end(dispatch(command, session))
}

fn dispatch(command: &GovernanceCommand, session: &Session) -> Done {
    match command {
        GovernanceCommand::GenSubmitProposal { descriptor, cancel, tx } => {
            let doc = tx.prepare(session)?;
            let content = match (descriptor, cancel) {
                (Some(path), _) => {
                    let descriptor: Descriptor = read_json(path).or_fail(MODULE, "can't parse upgrade descriptor")?;
                    descriptor.validate_basic().or_fail(MODULE, "submitted upgrade descriptor is not valid")?;
                    ProposalContent { upgrade: Some(descriptor), ..ProposalContent::default() }
                }
                (None, 0) => {
                    let text = "missing required arguments: either 'proposal.upgrade.descriptor' or \
                                'proposal.cancel_upgrade.id' required";
                    return Err(Failure::new(MODULE, text));
                }
                (None, id) => {
                    let cancel = CancelUpgradeProposal { proposal_id: *id };
                    ProposalContent { cancel_upgrade: Some(cancel), ..ProposalContent::default() }
                }
            };
            tx.save(session, &doc, METHOD_SUBMIT_PROPOSAL, &content)
        }
        GovernanceCommand::GenCastVote { vote, proposal, tx } => {
            let doc = tx.prepare(session)?;
            if *proposal == 0 {
                return Err(Failure::new(MODULE, "vote proposal ID required"));
            }
            let known =
                Vote::from_name(vote).ok_or_else(|| format!("invalid vote {vote:?}: expected yes, no or abstain"));
            let vote = known.or_fail(MODULE, "failed to parse vote")?;
            tx.save(session, &doc, METHOD_CAST_VOTE, &ProposalVote { id: *proposal, vote })
        }
        GovernanceCommand::ProposalInfo(args) => {
            let what = "error querying proposal";
            let query = args.query()?;
            let proposal: Proposal =
                args.client.connect(MODULE, what)?.call(SERVICE, "Proposal", query).or_fail(MODULE, what)?;
            print_json(&proposal);
            Ok(())
        }
        GovernanceCommand::ProposalVotes(args) => {
            let what = "error querying proposal votes";
            let query = args.query()?;
            let votes: Option<Vec<VoteEntry>> =
                args.client.connect(MODULE, what)?.call(SERVICE, "Votes", query).or_fail(MODULE, what)?;
            print_json(&votes);
            Ok(())
        }
        GovernanceCommand::ListProposals { include_closed, client } => {
            let what = "error querying proposals";
            let method = if *include_closed { "Proposals" } else { "ActiveProposals" };
            let proposals: Option<Vec<Proposal>> =
                client.connect(MODULE, what)?.call(SERVICE, method, 0i64).or_fail(MODULE, what)?;
            print_json(&proposals);
            Ok(())
        }
    }
}
