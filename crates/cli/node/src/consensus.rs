//! `oasis-node consensus …`: transactions and blocks. Reference: `go/oasis-node/cmd/consensus`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use base_codec::cbor;
use base_codec::json::{Map, ToJson as _, Value};
use base_prims::PublicKey;
use base_service::{out, outln};
use clap::Subcommand;
use node_rpc::types::{EstimateGasRequest, NextBlockState, Votes};
use wire_consensus::pretty;
use wire_consensus::signed::Signed;
use wire_consensus::transaction::{SignedTransaction, Transaction};

use crate::args::{GenesisArgs, Session, pretty_context};
use crate::client::ClientArgs;
use crate::tool::{Done, Failure, OrFail as _, QUERY_FAILED, end, print_json, read_bytes, read_json};

const MODULE: &str = "cmd/consensus";
const SERVICE: &str = "Consensus";

/// A transaction that exists.
#[derive(clap::Args)]
pub(crate) struct FileArgs {
    /// Path of the transaction.
    #[arg(long = "transaction.file")]
    file: PathBuf,
}

/// Subcommands of `consensus`.
#[derive(Subcommand)]
pub(crate) enum ConsensusCommand {
    /// Submit a pre-signed transaction.
    #[command(name = "submit_tx")]
    SubmitTx {
        #[command(flatten)]
        tx: FileArgs,
        #[command(flatten)]
        client: ClientArgs,
    },
    /// Show the content of a pre-signed transaction.
    #[command(name = "show_tx")]
    ShowTx {
        #[command(flatten)]
        tx: FileArgs,
        #[command(flatten)]
        genesis: GenesisArgs,
    },
    /// Estimate how much gas a transaction will use.
    #[command(name = "estimate_gas")]
    EstimateGas {
        #[command(flatten)]
        tx: FileArgs,
        /// Public key of the signer, in base64.
        #[arg(long = "consensus.signer_pub")]
        signer: PublicKey,
        #[command(flatten)]
        client: ClientArgs,
    },
    /// Show where the next block stands.
    #[command(name = "next_block_state")]
    NextBlockState(ClientArgs),
}

pub(crate) fn run(command: &ConsensusCommand, session: &Session) -> ExitCode {
    end(dispatch(command, session))
}

fn load(path: &Path) -> Result<SignedTransaction, Failure> {
    let signed: Signed = read_json(path).or_fail(MODULE, "failed to parse serialized transaction")?;
    Ok(SignedTransaction(signed))
}

fn dispatch(command: &ConsensusCommand, session: &Session) -> Done {
    match command {
        ConsensusCommand::SubmitTx { tx, client } => {
            let what = "failed to submit transaction";
            let node = client.connect(MODULE, what)?;
            node.send(SERVICE, "SubmitTx", load(&tx.file)?).or_fail(MODULE, what)
        }
        ConsensusCommand::ShowTx { tx, genesis } => {
            let doc = genesis.load(session)?;
            let mut text = String::new();
            pretty::signed_transaction(&load(&tx.file)?, &pretty_context(&doc), &mut text);
            out!("{text}");
            Ok(())
        }
        ConsensusCommand::EstimateGas { tx, signer, client } => {
            let what = "failed to estimate gas";
            let node = client.connect(MODULE, what)?;
            let raw = read_bytes(&tx.file).or_fail(MODULE, "failed to read raw serialized unsigned transaction")?;
            let transaction: Transaction =
                cbor::from_slice(&raw).or_fail(MODULE, "failed to parse serialized unsigned transaction")?;
            let request = EstimateGasRequest { signer: *signer, transaction: Some(transaction) };
            let gas: u64 = node.call(SERVICE, "EstimateGas", request).or_fail(MODULE, what)?;
            outln!("{gas}");
            Ok(())
        }
        ConsensusCommand::NextBlockState(client) => {
            let what = "failed to query next block state";
            let ask = || -> Result<NextBlockState, Failure> {
                client.connect(MODULE, what)?.get(SERVICE, "GetNextBlockState").or_fail(MODULE, what)
            };
            print_json(&next_block(&ask().map_err(|failure| failure.code(QUERY_FAILED))?));
            Ok(())
        }
    }
}

/// The state as JSON.
struct Json(Value);

impl base_codec::json::ToJson for Json {
    fn to_json(&self) -> Value {
        self.0.clone()
    }
}

fn object(fields: impl IntoIterator<Item = (&'static str, Value)>) -> Value {
    Value::Object(fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect::<Map<_, _>>())
}

fn next_block(state: &NextBlockState) -> Json {
    Json(object([
        ("height", state.height.to_json()),
        ("num_validators", state.num_validators.to_json()),
        ("voting_power", state.voting_power.to_json()),
        ("prevotes", votes(&state.prevotes)),
        ("precommits", votes(&state.precommits)),
    ]))
}

fn votes(votes: &Votes) -> Value {
    let list = votes.votes.as_ref().map_or(Value::Null, |votes| {
        let vote = |vote: &node_rpc::types::Vote| {
            object([
                ("node_id", vote.node_id.to_json()),
                ("entity_id", vote.entity_id.to_json()),
                ("entity_address", vote.entity_address.to_json()),
                ("voting_power", vote.voting_power.to_json()),
            ])
        };
        Value::Array(votes.iter().map(vote).collect())
    });
    let ratio = node_rpc::types::float_of(&votes.ratio).unwrap_or_default();
    let whole = ratio.fract() == 0.0 && ratio.abs() < 1e15;
    let ratio = if whole { Value::from(ratio as i64) } else { Value::from(ratio) };
    object([("voting_power", votes.voting_power.to_json()), ("ratio", ratio), ("votes", list)])
}
