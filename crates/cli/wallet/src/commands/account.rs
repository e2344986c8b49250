//! `oasis account`: what an account has, and what it does.

use std::path::PathBuf;

use base_codec::json;
use base_prims::{Address, PublicKey, Quantity};
use clap::{Args, Subcommand};
use wire_consensus::entity::{self, Entity};
use wire_consensus::registry::{self, UnfreezeNode};
use wire_consensus::signed::Signed;
use wire_consensus::staking::{
    self, Allow, AmendCommissionSchedule, Burn, CommissionRateBoundStep, CommissionRateStep, CommissionSchedule,
    Escrow, ReclaimEscrow, Transfer,
};
use wire_consensus::transaction::Transaction;

use super::{Selection, account_show};
use crate::args::{AccountFlag, NetworkFlag, ParaTimeFlags, Signing, Yes};
use crate::config::Store;
use crate::error::{CliError, Result};
use crate::out::outln;
use crate::{address, amount, tx, wallet};

/// The body of transactions that need none: null.
const NO_BODY: Option<u64> = None;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Show balance and other information
    #[command(visible_aliases = ["s", "balance", "b"])]
    Show(account_show::Show),
    /// Transfer given amount of tokens
    #[command(visible_alias = "t")]
    Transfer(TransferArgs),
    /// Delegate given amount of tokens to an entity
    Delegate(AmountTo),
    /// Undelegate given amount of shares from an entity
    Undelegate(SharesFrom),
    /// Configure beneficiary allowance for an account
    Allow(AllowArgs),
    /// Burn given amount of tokens
    Burn(BurnArgs),
    /// Amend the validator's commission schedule
    AmendCommissionSchedule(AmendArgs),
    /// Entity management in the network's registry
    #[command(subcommand)]
    Entity(EntityCommand),
    /// Unfreeze a frozen validator node
    NodeUnfreeze(UnfreezeArgs),
    /// Convert from a public key to an account address
    FromPublicKey {
        /// The key, base64.
        key: String,
    },
}

#[derive(Debug, Args)]
pub(super) struct TransferArgs {
    /// AMOUNT [DENOMINATION] TO
    #[arg(num_args = 2..=3, required = true, value_names = ["AMOUNT", "TO"])]
    words: Vec<String>,
    /// Subtract fee from the given amount.
    #[arg(long)]
    subtract_fee: bool,
    /// Treat safety check errors as warnings.
    #[arg(short = 'f', long)]
    force: bool,
    #[command(flatten)]
    signing: Signing,
}

#[derive(Debug, Args)]
pub(super) struct AmountTo {
    /// How many tokens.
    amount: String,
    /// To whom.
    to: String,
    #[command(flatten)]
    signing: Signing,
}

#[derive(Debug, Args)]
pub(super) struct SharesFrom {
    /// How many shares.
    shares: String,
    /// From whom.
    from: String,
    #[command(flatten)]
    signing: Signing,
}

#[derive(Debug, Args)]
pub(super) struct AllowArgs {
    /// Who may withdraw.
    beneficiary: String,
    /// How many tokens more (or, with a minus sign, less).
    #[arg(allow_hyphen_values = true)]
    amount: String,
    #[command(flatten)]
    signing: Signing,
}

#[derive(Debug, Args)]
pub(super) struct BurnArgs {
    /// How many tokens.
    amount: String,
    #[command(flatten)]
    signing: Signing,
}

#[derive(Debug, Args)]
pub(super) struct AmendArgs {
    /// Commission rate steps, each START/NUMERATOR.
    #[arg(long, value_delimiter = ',')]
    rates: Vec<String>,
    /// Commission rate bound steps, each START/MINIMUM/MAXIMUM.
    #[arg(long, value_delimiter = ',')]
    bounds: Vec<String>,
    #[command(flatten)]
    signing: Signing,
}

#[derive(Debug, Args)]
pub(super) struct UnfreezeArgs {
    /// The node, base64.
    node: String,
    #[command(flatten)]
    signing: Signing,
}

#[derive(Debug, Subcommand)]
pub(super) enum EntityCommand {
    /// Init an empty entity file
    Init {
        #[command(flatten)]
        account: AccountFlag,
        #[command(flatten)]
        yes: Yes,
        /// Output entity descriptor into specified JSON file.
        #[arg(short = 'o', long)]
        output_file: Option<PathBuf>,
    },
    /// Register or update account entity in registry
    Register {
        /// The entity's descriptor.
        file: PathBuf,
        #[command(flatten)]
        signing: Signing,
    },
    /// Remove account entity from registry
    Deregister {
        #[command(flatten)]
        signing: Signing,
    },
}

pub(super) fn run(store: &Store, command: Command) -> Result<()> {
    match command {
        Command::Show(show) => account_show::run(store, &show),
        Command::Transfer(args) => transfer(store, &args),
        Command::Delegate(args) => {
            let selection = consensus_selection(store, &args.signing)?;
            let amount = tokens(&selection, &args.amount)?;
            let account = address::resolve(&store.config, selection.network, &args.to)?;
            tx::submit(store, &selection, &args.signing.tx, staking::METHOD_ADD_ESCROW, &Escrow { account, amount })
        }
        Command::Undelegate(args) => {
            let selection = consensus_selection(store, &args.signing)?;
            let shares = amount::parse(&args.shares, 0)?;
            let account = address::resolve(&store.config, selection.network, &args.from)?;
            tx::submit(
                store,
                &selection,
                &args.signing.tx,
                staking::METHOD_RECLAIM_ESCROW,
                &ReclaimEscrow { account, shares },
            )
        }
        Command::Allow(args) => allow(store, &args),
        Command::Burn(args) => {
            let selection = consensus_selection(store, &args.signing)?;
            let amount = tokens(&selection, &args.amount)?;
            tx::submit(store, &selection, &args.signing.tx, staking::METHOD_BURN, &Burn { amount })
        }
        Command::AmendCommissionSchedule(args) => amend(store, &args),
        Command::Entity(command) => entity_command(store, command),
        Command::NodeUnfreeze(args) => {
            let selection = consensus_selection(store, &args.signing)?;
            let node_id = public_key(&args.node)?;
            tx::submit(store, &selection, &args.signing.tx, registry::METHOD_UNFREEZE_NODE, &UnfreezeNode { node_id })
        }
        Command::FromPublicKey { key } => {
            outln!("{}", Address::of_key(&public_key(&key)?));
            Ok(())
        }
    }
}

fn public_key(text: &str) -> Result<PublicKey> {
    text.parse().map_err(|error| format!("malformed public key '{text}': {error}").into())
}

/// Network and account of an operation that only the consensus layer has.
fn consensus_selection<'a>(store: &'a Store, signing: &'a Signing) -> Result<Selection<'a>> {
    let selection = Selection::all(store, &signing.network, &signing.paratime, &signing.account)?;
    selection.must_have_account()?;
    selection.only_consensus()?;
    Ok(selection)
}

fn tokens(selection: &Selection<'_>, text: &str) -> Result<Quantity> {
    amount::parse(text, selection.network.denomination.decimals)
}

/// With `force` a warning, else an error.
fn check(problem: Option<String>, force: bool) -> Result<()> {
    match problem {
        None => Ok(()),
        Some(reason) if force => {
            eprintln!("Warning: {reason}\nProceeding by force as requested");
            Ok(())
        }
        Some(reason) => Err(format!("{reason}\nUse --force to ignore this check").into()),
    }
}

fn transfer(store: &Store, args: &TransferArgs) -> Result<()> {
    let signing = &args.signing;
    let selection = consensus_selection(store, signing)?;
    let (sum, to) = match args.words.as_slice() {
        [sum, to] => (sum, to),
        [_, _, _] => return Err("consensus layer only supports the native denomination".into()),
        _ => return Err("expected AMOUNT [DENOMINATION] TO".into()),
    };
    let to = address::resolve(&store.config, selection.network, to)?;
    check(address::reserved(&store.config, &to), args.force)?;
    let mut body = Transfer { to, amount: tokens(&selection, sum)? };
    if args.subtract_fee {
        let remote = tx::connect(&selection, &signing.tx)?;
        let signer = wallet::unlock(store, selection.must_have_account()?, signing.tx.yes.yes)?;
        let probe = Transaction::new(0, None, staking::METHOD_TRANSFER, &body);
        let fee = tx::price(&selection, &signing.tx, remote.as_ref(), signer.public(), &probe)?;
        body.amount = body.amount.sub(&fee.amount).map_err(|_| {
            CliError::new(format!("the fee of {} is more than the amount", selection.tokens(&fee.amount)))
        })?;
    }
    tx::submit(store, &selection, &signing.tx, staking::METHOD_TRANSFER, &body)
}

fn allow(store: &Store, args: &AllowArgs) -> Result<()> {
    let selection = consensus_selection(store, &args.signing)?;
    let beneficiary = address::resolve(&store.config, selection.network, &args.beneficiary)?;
    let (negative, text) = match args.amount.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, args.amount.as_str()),
    };
    let body = Allow { beneficiary, negative, amount_change: tokens(&selection, text)? };
    tx::submit(store, &selection, &args.signing.tx, staking::METHOD_ALLOW, &body)
}

/// The numbers of a step such as `5/1000`.
fn step<const N: usize>(text: &str, form: &str) -> Result<[u64; N]> {
    let numbers: std::result::Result<Vec<u64>, _> = text.split('/').map(str::parse).collect();
    let numbers = numbers.ok().and_then(|numbers| <[u64; N]>::try_from(numbers).ok());
    numbers.ok_or_else(|| format!("malformed step '{text}': expected {form}").into())
}

fn amend(store: &Store, args: &AmendArgs) -> Result<()> {
    let selection = consensus_selection(store, &args.signing)?;
    let rate = |text: &String| {
        let [start, rate] = step(text, "START/NUMERATOR, such as 5/10000")?;
        Ok(CommissionRateStep { start, rate: Quantity::from(rate) })
    };
    let bound = |text: &String| {
        let [start, low, high] = step(text, "START/MINIMUM/MAXIMUM, such as 5/0/20000")?;
        Ok(CommissionRateBoundStep { start, rate_min: Quantity::from(low), rate_max: Quantity::from(high) })
    };
    let amendment = CommissionSchedule {
        rates: args.rates.iter().map(rate).collect::<Result<_>>()?,
        bounds: args.bounds.iter().map(bound).collect::<Result<_>>()?,
    };
    let body = AmendCommissionSchedule { amendment };
    tx::submit(store, &selection, &args.signing.tx, staking::METHOD_AMEND_COMMISSION_SCHEDULE, &body)
}

fn entity_command(store: &Store, command: EntityCommand) -> Result<()> {
    match command {
        EntityCommand::Init { account, yes, output_file } => {
            let (network, paratime) = (NetworkFlag::default(), ParaTimeFlags::default());
            let selection = Selection::all(store, &network, &paratime, &account)?;
            let signer = wallet::unlock(store, selection.must_have_account()?, yes.yes)?;
            let text = entity_json(&signer.public());
            match output_file {
                None => {
                    outln!("{text}");
                    Ok(())
                }
                Some(path) => std::fs::write(&path, text).map_err(CliError::file("write", path)),
            }
        }
        EntityCommand::Register { file, signing } => {
            let selection = consensus_selection(store, &signing)?;
            let text = std::fs::read_to_string(&file).map_err(CliError::file("read", &file))?;
            let descriptor: Entity = json::from_str(&text)
                .map_err(|error| CliError::new(format!("malformed entity descriptor: {}: {error}", file.display())))?;
            let name = selection.must_have_account()?;
            let signer = wallet::unlock(store, name, signing.tx.yes.yes)?;
            if signer.public() != descriptor.id {
                let (found, own) = (descriptor.id, signer.public());
                return Err(
                    format!("entity ID '{found}' does not correspond to selected account '{name}' ({own})").into()
                );
            }
            outln!("Signing the entity descriptor...");
            outln!("(In case you are using a hardware-based signer you may need to confirm on device.)");
            let signed = Signed::sign(&signer.key, entity::REGISTER_CONTEXT, None, &descriptor)
                .map_err(|error| CliError::new(error.to_string()))?;
            let flags = &signing.tx;
            let remote = tx::connect(&selection, flags)?;
            let transaction = Transaction::new(0, None, registry::METHOD_REGISTER_ENTITY, &signed);
            let made = tx::make(&selection, flags, remote.as_ref(), &signer, transaction)?;
            tx::finish(flags, remote.as_ref(), &made)
        }
        EntityCommand::Deregister { signing } => {
            let selection = consensus_selection(store, &signing)?;
            tx::submit(store, &selection, &signing.tx, registry::METHOD_DEREGISTER_ENTITY, &NO_BODY)
        }
    }
}

/// A descriptor without nodes, with keys in the order of their names.
fn entity_json(id: &PublicKey) -> String {
    format!("{{\n  \"id\": \"{id}\",\n  \"nodes\": [],\n  \"v\": {}\n}}", entity::LATEST_VERSION)
}
