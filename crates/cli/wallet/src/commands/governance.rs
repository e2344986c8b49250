//! `oasis network governance`: proposals and votes.

use std::path::PathBuf;

use base_codec::{Codec, Raw, cbor, json};
use base_grpc::Cbor;
use clap::{Args, Subcommand};
use wire_consensus::governance::{
    self, CancelUpgradeProposal, ChangeParametersProposal, Proposal, ProposalContent, ProposalMetadata, ProposalVote,
    Vote, VoteEntry,
};
use wire_consensus::upgrade::Descriptor;

use super::Selection;
use crate::args::{Format, FormatFlag, HeightFlag, NetworkFlag, Signing};
use crate::config::Store;
use crate::error::{CliError, Result};
use crate::out::{out, outln};
use crate::remote::Remote;
use crate::{address, table, tx};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List all governance proposals
    #[command(visible_alias = "ls")]
    List {
        #[command(flatten)]
        network: NetworkFlag,
        #[command(flatten)]
        height: HeightFlag,
    },
    /// Show proposal status by ID
    #[command(visible_alias = "s")]
    Show(ShowArgs),
    /// Cast a governance vote on a proposal
    CastVote {
        /// The proposal.
        proposal: u64,
        /// yes, no or abstain.
        vote: String,
        #[command(flatten)]
        signing: Signing,
    },
    /// Create a governance proposal
    #[command(subcommand)]
    CreateProposal(Create),
}

#[derive(Debug, Args)]
pub(super) struct ShowArgs {
    /// The proposal.
    proposal: u64,
    /// Individual entity votes.
    #[arg(long)]
    show_votes: bool,
    #[command(flatten)]
    network: NetworkFlag,
    #[command(flatten)]
    height: HeightFlag,
    #[command(flatten)]
    format: FormatFlag,
}

#[derive(Debug, Subcommand)]
pub(super) enum Create {
    /// Create an upgrade descriptor governance proposal
    Upgrade {
        /// The descriptor, JSON.
        file: PathBuf,
        #[command(flatten)]
        about: About,
        #[command(flatten)]
        signing: Signing,
    },
    /// Create a governance proposal for cancelling a pending upgrade
    CancelUpgrade {
        /// The proposal whose upgrade is to be cancelled.
        proposal: u64,
        #[command(flatten)]
        about: About,
        #[command(flatten)]
        signing: Signing,
    },
    /// Create a parameter change governance proposal
    ParameterChange {
        /// The module.
        module: String,
        /// The changes, JSON.
        file: PathBuf,
        #[command(flatten)]
        about: About,
        #[command(flatten)]
        signing: Signing,
    },
}

/// Text for people, which some networks demand of proposals and others do not allow.
#[derive(Debug, Clone, Args)]
pub(super) struct About {
    /// Title of the proposal, where the network's parameters allow one (allow_proposal_metadata).
    #[arg(long)]
    title: Option<String>,
    /// Description of the proposal.
    #[arg(long, default_value = "", requires = "title")]
    description: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Codec)]
struct ProposalQuery {
    height: i64,
    id: u64,
}

pub(super) fn run(store: &Store, command: Command) -> Result<()> {
    match command {
        Command::List { network, height } => {
            let selection = Selection::network(store, &network)?;
            let remote = Remote::connect(selection.network_name, selection.network)?;
            let proposals: Vec<Proposal> = remote.call("Governance", "Proposals", &Cbor(height.height))?;
            let names = address::names(&store.config);
            let row = |proposal: &Proposal| {
                vec![
                    proposal.id.to_string(),
                    kind(&proposal.content).to_owned(),
                    address::pretty(&names, &proposal.submitter),
                    proposal.created_at.to_string(),
                    proposal.closes_at.to_string(),
                    proposal.state.to_string(),
                ]
            };
            let rows: Vec<_> = proposals.iter().map(row).collect();
            out!("{}", table::render(&["ID", "Kind", "Submitter", "Created At", "Closes At", "State"], &rows));
            Ok(())
        }
        Command::Show(args) => show(store, &args),
        Command::CastVote { proposal, vote, signing } => {
            let vote = match vote.as_str() {
                "yes" => Vote::YES,
                "no" => Vote::NO,
                "abstain" => Vote::ABSTAIN,
                other => return Err(format!("malformed vote '{other}': expected yes, no or abstain").into()),
            };
            submit(store, &signing, governance::METHOD_CAST_VOTE, &ProposalVote { id: proposal, vote })
        }
        Command::CreateProposal(create) => propose(store, create),
    }
}

fn kind(content: &ProposalContent) -> &'static str {
    match (&content.upgrade, &content.cancel_upgrade, &content.change_parameters) {
        (Some(_), ..) => "upgrade",
        (_, Some(_), _) => "cancel upgrade",
        (_, _, Some(_)) => "change parameters",
        _ => "unknown",
    }
}

fn show(store: &Store, args: &ShowArgs) -> Result<()> {
    let selection = Selection::network(store, &args.network)?;
    let remote = Remote::connect(selection.network_name, selection.network)?;
    let height = remote.height(args.height.height)?;
    let query = || Cbor(ProposalQuery { height, id: args.proposal });
    let proposal: Proposal = remote.call("Governance", "Proposal", &query())?;
    let votes: Vec<VoteEntry> = remote.call("Governance", "Votes", &query())?;
    if args.format.format == Format::Json {
        outln!("{}", json::to_string_pretty(&proposal));
        if args.show_votes {
            outln!("{}", json::to_string_pretty(&votes));
        }
        return Ok(());
    }
    let names = address::names(&store.config);
    outln!("=== PROPOSAL STATUS ===");
    outln!("Network:     {}", selection.pretty_network());
    outln!("Proposal ID: {}", proposal.id);
    outln!("Status:      {}", proposal.state);
    outln!("Submitted By: {}", address::pretty(&names, &proposal.submitter));
    outln!("Created At:  epoch {}", proposal.created_at);
    outln!("Closes At:   epoch {}", proposal.closes_at);
    outln!("Deposit:     {}", selection.tokens(&proposal.deposit));
    if let Some(results) = &proposal.results {
        outln!("Results:");
        for (vote, stake) in results {
            outln!("  - {vote}: {stake}");
        }
    }
    outln!("\n=== PROPOSAL CONTENT ===\n{}", json::to_string_pretty(&proposal.content));
    if args.show_votes {
        outln!("\n=== VOTES ===");
        for entry in &votes {
            outln!("  - {}: {}", address::pretty(&names, &entry.voter), entry.vote);
        }
    }
    Ok(())
}

fn read<T: json::FromJson>(path: &PathBuf, what: &str) -> Result<T> {
    let text = std::fs::read_to_string(path).map_err(CliError::file("read", path))?;
    json::from_str(&text).map_err(|error| format!("malformed {what}: {}: {error}", path.display()).into())
}

fn propose(store: &Store, create: Create) -> Result<()> {
    let (mut content, about, signing) = match create {
        Create::Upgrade { file, about, signing } => {
            let upgrade: Descriptor = read(&file, "upgrade descriptor")?;
            (ProposalContent { upgrade: Some(upgrade), ..ProposalContent::default() }, about, signing)
        }
        Create::CancelUpgrade { proposal, about, signing } => {
            let cancel = CancelUpgradeProposal { proposal_id: proposal };
            (ProposalContent { cancel_upgrade: Some(cancel), ..ProposalContent::default() }, about, signing)
        }
        Create::ParameterChange { module, file, about, signing } => {
            let changes = changes(&module, &file)?;
            let change = ChangeParametersProposal { module, changes };
            (ProposalContent { change_parameters: Some(change), ..ProposalContent::default() }, about, signing)
        }
    };
    content.metadata = about.title.map(|title| ProposalMetadata { title, description: about.description });
    submit(store, &signing, governance::METHOD_SUBMIT_PROPOSAL, &content)
}

/// The changes of a module, from JSON to the CBOR that the proposal holds.
fn changes(module: &str, file: &PathBuf) -> Result<Raw> {
    fn encoded<T: json::FromJson + cbor::Encode>(file: &PathBuf) -> Result<Raw> {
        let value: T = read(file, "parameter changes")?;
        let bytes = cbor::to_vec(&value);
        cbor::from_slice(&bytes).map_err(|error| CliError::new(error.to_string()))
    }
    match module {
        "governance" => encoded::<governance::ParameterChanges>(file),
        "keymanager" => encoded::<wire_consensus::keymanager::ParameterChanges>(file),
        "registry" => encoded::<wire_consensus::registry::ParameterChanges>(file),
        "roothash" => encoded::<wire_consensus::roothash::ParameterChanges>(file),
        "scheduler" => encoded::<wire_consensus::scheduler::ParameterChanges>(file),
        "staking" => encoded::<wire_consensus::staking::ParameterChanges>(file),
        "vault" => encoded::<wire_consensus::vault::ParameterChanges>(file),
        other => Err(format!(
            "unsupported module '{other}': expected governance, keymanager, registry, roothash, scheduler, staking or vault"
        )
        .into()),
    }
}

fn submit(store: &Store, signing: &Signing, method: &str, body: &impl cbor::Encode) -> Result<()> {
    let selection = Selection::for_consensus(store, signing)?;
    tx::submit(store, &selection, &signing.tx, method, body)
}
