//! `oasis account`: what an account has, and what it does.

use std::path::PathBuf;

use base_codec::{cbor, json};
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

use super::{Selection, account_show, metadata};
use crate::args::{AccountFlag, NetworkFlag, ParaTimeFlags, Signing, Yes};
use crate::config::Store;
use crate::error::{CliError, Result};
use crate::out::outln;
use crate::sdk::{self, BaseUnits, Denomination, method};
use crate::tx::paratime::{self, Session};
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
    /// Deposit tokens into ParaTime
    Deposit(MoveArgs),
    /// Withdraw tokens from ParaTime
    Withdraw {
        #[command(flatten)]
        args: MoveArgs,
        /// Subtract fee from the given amount.
        #[arg(long)]
        subtract_fee: bool,
    },
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
pub(super) struct MoveArgs {
    /// How many tokens.
    amount: String,
    /// To whom; to the account itself if nobody is named.
    to: Option<String>,
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
    /// Update an entity's metadata
    MetadataUpdate(metadata::Update),
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
        Command::Deposit(args) => deposit(store, &args),
        Command::Withdraw { args, subtract_fee } => withdraw(store, &args, subtract_fee),
        Command::Delegate(args) => delegate(store, &args),
        Command::Undelegate(args) => undelegate(store, &args),
        Command::Allow(args) => allow(store, &args),
        Command::Burn(args) => {
            let selection = Selection::for_consensus(store, &args.signing)?;
            let amount = tokens(&selection, &args.amount)?;
            tx::submit(store, &selection, &args.signing.tx, staking::METHOD_BURN, &Burn { amount })
        }
        Command::AmendCommissionSchedule(args) => amend(store, &args),
        Command::Entity(command) => entity_command(store, command),
        Command::NodeUnfreeze(args) => {
            let selection = Selection::for_consensus(store, &args.signing)?;
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

/// Network, ParaTime and account of an operation that both the consensus layer and ParaTimes have.
fn select<'a>(store: &'a Store, signing: &'a Signing) -> Result<Selection<'a>> {
    let selection = Selection::all(store, &signing.network, &signing.paratime, &signing.account)?;
    selection.must_have_account()?;
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
    let selection = select(store, signing)?;
    let (sum, token, to) = match args.words.as_slice() {
        [sum, to] => (sum, "", to),
        [sum, token, to] => (sum, token.as_str(), to),
        _ => return Err("expected AMOUNT [DENOMINATION] TO".into()),
    };
    let to = address::resolve_whole(&store.config, selection.network, to)?;
    check(address::reserved(&store.config, &to.address), args.force)?;
    if let Some((_, paratime)) = selection.paratime {
        let denomination = Denomination(token.to_owned());
        let amount = amount::parse(sum, paratime.token(&denomination).decimals)?;
        let mut body = sdk::ToAmount { to: to.address, amount: BaseUnits { amount, denomination } };
        if args.subtract_fee {
            body.amount = less_fee(store, &selection, signing, &body.amount, method::TRANSFER, &body)?;
        }
        paratime::submit(store, &selection, &signing.tx, (method::TRANSFER, &body), to.ethereum, None)?;
        return Ok(());
    }
    check(address::not_for_consensus(&store.config, &to), args.force)?;
    if !token.is_empty() {
        return Err("consensus layer only supports the native denomination".into());
    }
    let mut body = Transfer { to: to.address, amount: tokens(&selection, sum)? };
    if args.subtract_fee {
        let remote = tx::connect(&selection, &signing.tx)?;
        let signer = wallet::unlock(store, selection.must_have_account()?, signing.tx.yes.yes)?;
        let probe = Transaction::new(0, None, staking::METHOD_TRANSFER, &body);
        let key = PublicKey::from(signer.consensus()?.public());
        let fee = tx::price(&selection, &signing.tx, remote.as_ref(), key, &probe)?;
        body.amount = body.amount.sub(&fee.amount).map_err(|_| {
            CliError::new(format!("the fee of {} is more than the amount", selection.tokens(&fee.amount)))
        })?;
    }
    tx::submit(store, &selection, &signing.tx, staking::METHOD_TRANSFER, &body)
}

/// The amount less the fee of the transaction.
fn less_fee(
    store: &Store,
    selection: &Selection<'_>,
    signing: &Signing,
    amount: &BaseUnits,
    method: &str,
    body: &impl cbor::Encode,
) -> Result<BaseUnits> {
    let (_, paratime) = selection.must_have_paratime()?;
    let remote = tx::connect(selection, &signing.tx)?;
    let signer = wallet::unlock(store, selection.must_have_account()?, signing.tx.yes.yes)?;
    let flags = &signing.tx;
    let session = Session { selection, flags, remote: remote.as_ref(), signer: &signer, original_to: None };
    let fee = session.price(&mut sdk::Transaction::new(method, body))?.amount;
    let rest = amount.amount.sub(&fee.amount).map_err(|_| {
        let fee = paratime.amount(&fee.amount, &fee.denomination);
        CliError::new(format!("the fee of {fee} is more than the amount"))
    })?;
    Ok(BaseUnits { amount: rest, denomination: amount.denomination.clone() })
}

/// An amount of the token that stands for that of the consensus layer within the selected ParaTime.
fn consensus_amount(selection: &Selection<'_>, text: &str) -> Result<BaseUnits> {
    let (_, paratime) = selection.must_have_paratime()?;
    let denomination = paratime.consensus_token();
    Ok(BaseUnits { amount: amount::parse(text, paratime.token(&denomination).decimals)?, denomination })
}

fn deposit(store: &Store, args: &MoveArgs) -> Result<()> {
    let selection = select(store, &args.signing)?;
    selection.must_have_paratime()?;
    let resolve = |to: &String| address::resolve_whole(&store.config, selection.network, to);
    let to = args.to.as_ref().map(resolve).transpose()?;
    if let Some(to) = &to {
        check(address::reserved(&store.config, &to.address), args.force)?;
    }
    let amount = consensus_amount(&selection, &args.amount)?;
    let body = sdk::MaybeToAmount { to: to.map(|to| to.address), amount };
    let original = to.and_then(|to| to.ethereum);
    let flags = &args.signing.tx;
    paratime::submit(store, &selection, flags, (method::DEPOSIT, &body), original, Some(paratime::DEPOSIT))?;
    Ok(())
}

fn withdraw(store: &Store, args: &MoveArgs, subtract: bool) -> Result<()> {
    let selection = select(store, &args.signing)?;
    selection.must_have_paratime()?;
    let resolve = |to: &String| address::resolve_whole(&store.config, selection.network, to);
    let to = args.to.as_ref().map(resolve).transpose()?;
    let own = selection.account.as_ref().map_or("", |account| account.address.as_str());
    let checked = to.or_else(|| address::parse(own));
    if let Some(checked) = &checked {
        check(address::not_for_consensus(&store.config, checked), args.force)?;
        check(address::reserved(&store.config, &checked.address), args.force)?;
    }
    let amount = consensus_amount(&selection, &args.amount)?;
    let mut body = sdk::MaybeToAmount { to: to.map(|to| to.address), amount };
    if subtract {
        body.amount = less_fee(store, &selection, &args.signing, &body.amount, method::WITHDRAW, &body)?;
    }
    let flags = &args.signing.tx;
    paratime::submit(store, &selection, flags, (method::WITHDRAW, &body), None, Some(paratime::WITHDRAW))?;
    Ok(())
}

fn delegate(store: &Store, args: &AmountTo) -> Result<()> {
    let selection = select(store, &args.signing)?;
    let flags = &args.signing.tx;
    let to = address::resolve_whole(&store.config, selection.network, &args.to)?;
    if selection.paratime.is_some() {
        let body = sdk::ToAmount { to: to.address, amount: consensus_amount(&selection, &args.amount)? };
        let call = (method::DELEGATE, &body);
        paratime::submit(store, &selection, flags, call, to.ethereum, Some(paratime::DELEGATE))?;
        return Ok(());
    }
    let body = Escrow { account: to.address, amount: tokens(&selection, &args.amount)? };
    tx::submit(store, &selection, flags, staking::METHOD_ADD_ESCROW, &body)
}

fn undelegate(store: &Store, args: &SharesFrom) -> Result<()> {
    let selection = select(store, &args.signing)?;
    let flags = &args.signing.tx;
    let from = address::resolve_whole(&store.config, selection.network, &args.from)?;
    let shares = amount::parse(&args.shares, 0)?;
    if selection.paratime.is_some() {
        let body = sdk::Undelegate { from: from.address, shares };
        let call = (method::UNDELEGATE, &body);
        paratime::submit(store, &selection, flags, call, from.ethereum, Some(paratime::UNDELEGATE))?;
        return Ok(());
    }
    let body = ReclaimEscrow { account: from.address, shares };
    tx::submit(store, &selection, flags, staking::METHOD_RECLAIM_ESCROW, &body)
}

fn allow(store: &Store, args: &AllowArgs) -> Result<()> {
    let selection = Selection::for_consensus(store, &args.signing)?;
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
    let selection = Selection::for_consensus(store, &args.signing)?;
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
            let text = entity_json(&signer.consensus()?.public().into());
            match output_file {
                None => {
                    outln!("{text}");
                    Ok(())
                }
                Some(path) => std::fs::write(&path, text).map_err(CliError::file("write", path)),
            }
        }
        EntityCommand::Register { file, signing } => {
            let selection = Selection::for_consensus(store, &signing)?;
            let text = std::fs::read_to_string(&file).map_err(CliError::file("read", &file))?;
            let descriptor: Entity = json::from_str(&text)
                .map_err(|error| CliError::new(format!("malformed entity descriptor: {}: {error}", file.display())))?;
            let name = selection.must_have_account()?;
            let signer = wallet::unlock(store, name, signing.tx.yes.yes)?;
            let key = signer.consensus()?;
            let own = PublicKey::from(key.public());
            if own != descriptor.id {
                let found = descriptor.id;
                return Err(
                    format!("entity ID '{found}' does not correspond to selected account '{name}' ({own})").into()
                );
            }
            outln!("Signing the entity descriptor...");
            outln!("(In case you are using a hardware-based signer you may need to confirm on device.)");
            let signed = Signed::sign(key, entity::REGISTER_CONTEXT, None, &descriptor)
                .map_err(|error| CliError::new(error.to_string()))?;
            let flags = &signing.tx;
            let remote = tx::connect(&selection, flags)?;
            let transaction = Transaction::new(0, None, registry::METHOD_REGISTER_ENTITY, &signed);
            let made = tx::make(&selection, flags, remote.as_ref(), &signer, transaction)?;
            tx::finish(flags, remote.as_ref(), &made)
        }
        EntityCommand::MetadataUpdate(update) => metadata::run(store, &update),
        EntityCommand::Deregister { signing } => {
            let selection = Selection::for_consensus(store, &signing)?;
            tx::submit(store, &selection, &signing.tx, registry::METHOD_DEREGISTER_ENTITY, &NO_BODY)
        }
    }
}

/// A descriptor without nodes, with keys in the order of their names.
fn entity_json(id: &PublicKey) -> String {
    format!("{{\n  \"id\": \"{id}\",\n  \"nodes\": [],\n  \"v\": {}\n}}", entity::LATEST_VERSION)
}
