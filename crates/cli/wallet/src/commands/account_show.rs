//! `oasis account show`.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use base_codec::json::{Map, ToJson as _, Value, value_to_string_pretty};
use base_grpc::Cbor;
use base_prims::{Address, Quantity};
use clap::Args;
use wire_consensus::staking::{
    Account, CommissionSchedule, DebondingDelegation, DebondingDelegationInfo, Delegation, DelegationInfo, SharePool,
    StakeAccumulator,
};

use wire_consensus::roothash::{Block, RuntimeRequest};
use wire_runtime::client::ROUND_LATEST;

use super::Selection;
use crate::args::{AccountFlag, Format, FormatFlag, HeightFlag, NetworkFlag, ParaTimeFlags};
use crate::config::{ParaTime, Store};
use crate::error::{CliError, Result};
use crate::out::{out, outln};
use crate::paratime::Runtime;
use crate::remote::{OwnerQuery, Remote};
use crate::sdk::{self, Denomination};
use crate::wallet::keys::ethereum_text;
use crate::{address, amount};

#[derive(Debug, Args)]
pub(super) struct Show {
    /// The account; the default account if none is named.
    address: Option<String>,
    /// Show incoming and outgoing delegations.
    #[arg(long)]
    show_delegations: bool,
    #[command(flatten)]
    network: NetworkFlag,
    #[command(flatten)]
    paratime: ParaTimeFlags,
    #[command(flatten)]
    account: AccountFlag,
    #[command(flatten)]
    height: HeightFlag,
    #[command(flatten)]
    format: FormatFlag,
}

type Many<T> = BTreeMap<Address, Option<Vec<T>>>;

#[derive(Debug, Default)]
struct Delegations {
    outgoing: BTreeMap<Address, DelegationInfo>,
    outgoing_debonding: Many<DebondingDelegationInfo>,
    incoming: BTreeMap<Address, Delegation>,
    incoming_debonding: Many<DebondingDelegation>,
}

/// One line of a list of delegations.
struct Line {
    address: Address,
    amount: Quantity,
    shares: Quantity,
    end: Option<u64>,
}

pub(super) fn run(store: &Store, show: &Show) -> Result<()> {
    let selection = Selection::all(store, &show.network, &show.paratime, &show.account)?;
    let target = match (&show.address, &selection.account) {
        (Some(text), _) => text.as_str(),
        (None, Some(account)) => account.address.as_str(),
        (None, None) => return Err("no address given and no wallet configured".into()),
    };
    let resolved = address::resolve_whole(&store.config, selection.network, target)?;
    let owner = resolved.address;
    let ethereum = address::ethereum_names(&store.config);
    let ethereum = resolved.ethereum.map(|address| ethereum_text(&address)).or_else(|| ethereum.get(&owner).cloned());
    let remote = Remote::connect(selection.network_name, selection.network)?;
    let height = remote.height(show.height.height)?;
    let query = || Cbor(OwnerQuery { height, owner });
    let account: Account = remote.call("Staking", "Account", &query())?;
    let delegations = if show.show_delegations {
        Delegations {
            outgoing: remote.call("Staking", "DelegationInfosFor", &query())?,
            outgoing_debonding: remote.call("Staking", "DebondingDelegationInfosFor", &query())?,
            incoming: remote.call("Staking", "DelegationsTo", &query())?,
            incoming_debonding: remote.call("Staking", "DebondingDelegationsTo", &query())?,
        }
    } else {
        Delegations::default()
    };
    let inside = match selection.paratime {
        Some((name, paratime)) => Some(Inside::ask(&remote, name, paratime, show, height, owner)?),
        None => None,
    };
    let names = address::names(&store.config);
    let view = View { selection: &selection, owner, ethereum, height, account, delegations, inside };
    if show.format.format == Format::Json {
        outln!("{}", value_to_string_pretty(&json(&view, names.get(&owner))));
        return Ok(());
    }
    out!("{}", text(&view, &names));
    if view.inside.is_some() {
        out!("{}", paratime_text(&view, &names, &remote)?);
    }
    Ok(())
}

/// All that is shown.
struct View<'a> {
    selection: &'a Selection<'a>,
    owner: Address,
    ethereum: Option<String>,
    height: i64,
    account: Account,
    delegations: Delegations,
    inside: Option<Inside<'a>>,
}

/// What the account has in a ParaTime.
struct Inside<'a> {
    name: &'a str,
    paratime: &'a ParaTime,
    nonce: u64,
    balances: BTreeMap<Denomination, Quantity>,
    delegations: Vec<sdk::Delegation>,
    undelegations: Vec<sdk::Undelegation>,
}

impl<'a> Inside<'a> {
    fn ask(
        remote: &Remote,
        name: &'a str,
        paratime: &'a ParaTime,
        show: &Show,
        height: i64,
        address: Address,
    ) -> Result<Self> {
        let runtime = Runtime::new(remote, paratime)?;
        let round = if show.height.height == 0 {
            ROUND_LATEST
        } else {
            let request = RuntimeRequest { runtime_id: paratime.namespace()?, height };
            remote.call::<_, Block>("RootHash", "GetLatestBlock", &Cbor(request))?.header.round
        };
        let failed = |error| {
            CliError::new(format!(
                "ParaTime '{name}': {error}; --no-paratime shows what the account has in the consensus layer"
            ))
        };
        let balances: sdk::Balances =
            runtime.query(round, "accounts.Balances", &sdk::AddressQuery { address }).map_err(failed)?;
        let nonce = runtime.query(round, "accounts.Nonce", &sdk::AddressQuery { address }).map_err(failed)?;
        let (mut delegations, mut undelegations) = (None, None);
        if show.show_delegations {
            delegations =
                runtime.query(round, "consensus.Delegations", &sdk::FromQuery { from: address }).map_err(failed)?;
            undelegations =
                runtime.query(round, "consensus.Undelegations", &sdk::ToQuery { to: address }).map_err(failed)?;
        }
        Ok(Self {
            name,
            paratime,
            nonce,
            balances: balances.balances,
            delegations: delegations.unwrap_or_default(),
            undelegations: undelegations.unwrap_or_default(),
        })
    }

    fn is_empty(&self) -> bool {
        self.nonce == 0 && self.balances.is_empty() && self.delegations.is_empty() && self.undelegations.is_empty()
    }
}

/// The ParaTime's section.
fn paratime_text(view: &View<'_>, names: &BTreeMap<Address, String>, remote: &Remote) -> Result<String> {
    let Some(inside) = view.inside.as_ref().filter(|inside| !inside.is_empty()) else { return Ok(String::new()) };
    let mut page = Page { selection: view.selection, names, owner: &view.owner, out: String::new() };
    page.line(format_args!("=== {} PARATIME ===", inside.name));
    page.line(format_args!("  Nonce: {}\n", inside.nonce));
    page.line(format_args!("  Balances for all denominations:"));
    for (denomination, amount) in &inside.balances {
        let token = inside.paratime.token(denomination);
        page.line(format_args!("  - Amount: {}", amount::format(amount, token.decimals)));
        page.line(format_args!("    Symbol: {}", token.symbol));
    }
    page.line(format_args!(""));
    let escrow = |owner: Address| -> Result<_> {
        let query = Cbor(OwnerQuery { height: view.height, owner });
        remote.call::<_, Account>("Staking", "Account", &query).map(|account| account.escrow)
    };
    let mut active = Vec::new();
    for delegation in &inside.delegations {
        let (address, shares) = (delegation.to, delegation.shares.clone());
        active.push(Line { address, amount: worth(&escrow(address)?.active, &shares), shares, end: None });
    }
    let mut debonding = Vec::new();
    for delegation in &inside.undelegations {
        let (address, shares, end) = (delegation.from, delegation.shares.clone(), Some(delegation.epoch));
        debonding.push(Line { address, amount: worth(&escrow(address)?.debonding, &shares), shares, end });
    }
    page.outgoing("Active", active);
    page.outgoing("Debonding", debonding);
    Ok(page.out)
}

fn json(view: &View<'_>, name: Option<&String>) -> Value {
    let View { account, delegations, .. } = view;
    let mut out = Map::new();
    let mut add = |key: &str, value: Value| {
        out.insert(key.to_owned(), value);
    };
    if let Some(name) = name {
        add("name", name.to_json());
    }
    if let Some(ethereum) = &view.ethereum {
        add("ethereum_address", ethereum.to_lowercase().to_json());
    }
    add("native_address", view.owner.to_json());
    add("nonce", account.general.nonce.to_json());
    add("network_name", view.selection.network_name.to_owned().to_json());
    add("height", view.height.to_json());
    add("general_account", account.general.to_json());
    if !delegations.outgoing.is_empty() {
        add("outgoing_delegations", delegations.outgoing.to_json());
    }
    if !delegations.outgoing_debonding.is_empty() {
        add("outgoing_debonding_delegations", delegations.outgoing_debonding.to_json());
    }
    if !delegations.incoming.is_empty() {
        add("incoming_delegations", delegations.incoming.to_json());
    }
    if !delegations.incoming_debonding.is_empty() {
        add("incoming_debonding_delegations", delegations.incoming_debonding.to_json());
    }
    add("escrow_account", account.escrow.to_json());
    if let Some(inside) = &view.inside {
        add("paratime_name", inside.name.to_owned().to_json());
        if !inside.balances.is_empty() {
            add("paratime_balances", inside.balances.to_json());
        }
        if inside.nonce != 0 {
            add("paratime_nonce", inside.nonce.to_json());
        }
        if !inside.delegations.is_empty() {
            add("paratime_delegations", inside.delegations.to_json());
        }
        if !inside.undelegations.is_empty() {
            add("paratime_undelegations", inside.undelegations.to_json());
        }
    }
    Value::Object(out)
}

/// What shares of a pool are worth.
fn worth(pool: &SharePool, shares: &Quantity) -> Quantity {
    pool.stake_for_shares(shares)
}

fn sum(lines: &[Line]) -> Quantity {
    let mut total = Quantity::default();
    for line in lines {
        total.add_assign(&line.amount);
    }
    total
}

/// The number before the first line of a step, and the blanks before its others.
fn numbered(number: usize) -> (String, String) {
    let head = format!("({number}) ");
    let indent = " ".repeat(head.len());
    (head, indent)
}

struct Page<'a> {
    selection: &'a Selection<'a>,
    names: &'a BTreeMap<Address, String>,
    owner: &'a Address,
    out: String,
}

impl Page<'_> {
    fn line(&mut self, text: std::fmt::Arguments<'_>) {
        // Writing into a string cannot fail.
        let _ = writeln!(self.out, "{text}");
    }

    fn tokens(&self, amount: &Quantity) -> String {
        self.selection.tokens(amount)
    }

    /// An address with its name, and whether it is the account itself.
    fn who(&self, address: &Address) -> String {
        let own = if address == self.owner { " (self)" } else { "" };
        format!("{}{own}", address::pretty(self.names, address))
    }

    fn list(&mut self, field: &str, mut lines: Vec<Line>) {
        lines.sort_by(|a, b| {
            let amounts = b.amount.cmp(&a.amount);
            a.end.cmp(&b.end).then(amounts).then_with(|| a.address.to_string().cmp(&b.address.to_string()))
        });
        self.line(format_args!("    Delegations:"));
        let debonding = lines.first().is_some_and(|line| line.end.is_some());
        let width =
            ["Amount:", field, if debonding { "End Time:" } else { "" }].iter().map(|f| f.len()).max().unwrap_or(0);
        for line in &lines {
            let who = self.who(&line.address);
            let amount = self.tokens(&line.amount);
            self.line(format_args!("      - {field:<width$} {who}"));
            self.line(format_args!("        {:<width$} {amount} ({} shares)", "Amount:", line.shares));
            if let Some(end) = line.end {
                self.line(format_args!("        {:<width$} epoch {end}", "End Time:"));
            }
        }
        self.line(format_args!(""));
    }

    fn outgoing(&mut self, title: &str, lines: Vec<Line>) {
        if lines.is_empty() {
            return;
        }
        let total = self.tokens(&sum(&lines));
        self.line(format_args!("  {title} Delegations from this Account:"));
        self.line(format_args!("    Total: {total}\n"));
        self.list("To:", lines);
    }

    fn incoming(&mut self, title: &str, pool: &SharePool, lines: Vec<Line>) {
        if lines.is_empty() {
            return;
        }
        let total = self.tokens(&pool.balance);
        self.line(format_args!("  {title} Delegations to this Account:"));
        self.line(format_args!("    Total: {total} ({} shares)\n", pool.total_shares));
        self.list("From:", lines);
    }

    fn schedule(&mut self, schedule: &CommissionSchedule) {
        if schedule.rates.is_empty() && schedule.bounds.is_empty() {
            return;
        }
        self.line(format_args!("  Commission Schedule:"));
        self.line(format_args!("    Rates:{}", if schedule.rates.is_empty() { " (none)" } else { "" }));
        for (number, step) in (1..).zip(&schedule.rates) {
            let (head, indent) = numbered(number);
            self.line(format_args!("      {head}start: epoch {}", step.start));
            self.line(format_args!("      {indent}rate:  {}", amount::percent(&step.rate)));
        }
        self.line(format_args!("    Rate Bounds:{}", if schedule.bounds.is_empty() { " (none)" } else { "" }));
        for (number, step) in (1..).zip(&schedule.bounds) {
            let (head, indent) = numbered(number);
            self.line(format_args!("      {head}start:        epoch {}", step.start));
            self.line(format_args!("      {indent}minimum rate: {}", amount::percent(&step.rate_min)));
            self.line(format_args!("      {indent}maximum rate: {}", amount::percent(&step.rate_max)));
        }
        self.line(format_args!(""));
    }

    fn claims(&mut self, accumulator: &StakeAccumulator) {
        if accumulator.claims.is_empty() {
            return;
        }
        self.line(format_args!("  Stake Accumulator:\n    Claims:"));
        for (claim, thresholds) in &accumulator.claims {
            self.line(format_args!("      - Name: {claim}"));
            for threshold in thresholds.iter().flatten() {
                self.line(format_args!("        Staking Thresholds:"));
                match (&threshold.global, &threshold.constant) {
                    (Some(kind), _) => self.line(format_args!("          - Global: {kind}")),
                    (None, Some(amount)) => self.line(format_args!("          - Constant: {amount}")),
                    (None, None) => self.line(format_args!("          - (malformed)")),
                }
            }
        }
        self.line(format_args!(""));
    }

    fn allowances(&mut self, allowances: &BTreeMap<Address, Quantity>) {
        if allowances.is_empty() {
            return;
        }
        let mut sorted: Vec<_> = allowances.iter().collect();
        sorted.sort_by(|a, b| b.1.cmp(a.1).then_with(|| a.0.to_string().cmp(&b.0.to_string())));
        let mut total = Quantity::default();
        for (_, amount) in &sorted {
            total.add_assign(amount);
        }
        let total = self.tokens(&total);
        self.line(format_args!("  Allowances for this Account:"));
        self.line(format_args!("    Total: {total}"));
        self.line(format_args!("    Allowances:"));
        for (beneficiary, amount) in sorted {
            let (who, amount) = (self.who(beneficiary), self.tokens(amount));
            self.line(format_args!("      - Beneficiary: {who}"));
            self.line(format_args!("        Amount:      {amount}"));
        }
        self.line(format_args!(""));
    }
}

fn text(view: &View<'_>, names: &BTreeMap<Address, String>) -> String {
    let View { selection, owner, account, delegations, .. } = view;
    let mut page = Page { selection, names, owner, out: String::new() };
    if let Some(name) = names.get(owner) {
        page.line(format_args!("Name:             {name}"));
    }
    if let Some(ethereum) = &view.ethereum {
        page.line(format_args!("Ethereum address: {ethereum}"));
    }
    page.line(format_args!("Native address:   {owner}\n"));
    page.line(format_args!("=== CONSENSUS LAYER ({}) ===", selection.network_name));
    page.line(format_args!("  Nonce: {}\n", account.general.nonce));

    let outgoing = delegations.outgoing.iter().map(|(to, info)| Line {
        address: *to,
        amount: worth(&info.pool, &info.shares),
        shares: info.shares.clone(),
        end: None,
    });
    let outgoing: Vec<_> = outgoing.collect();
    let debonding: Vec<_> = many(&delegations.outgoing_debonding)
        .map(|(to, info)| Line {
            address: to,
            amount: worth(&info.pool, &info.shares),
            shares: info.shares.clone(),
            end: Some(info.debond_end_time),
        })
        .collect();
    let mut total = account.general.balance.clone();
    total.add_assign(&sum(&outgoing));
    total.add_assign(&sum(&debonding));
    let (total, available) = (page.tokens(&total), page.tokens(&account.general.balance));
    page.line(format_args!("  Total: {total}"));
    page.line(format_args!("  Available: {available}\n"));
    page.outgoing("Active", outgoing);
    page.outgoing("Debonding", debonding);
    page.allowances(&account.general.allowances);

    let escrow = &account.escrow;
    let incoming = delegations.incoming.iter().map(|(from, delegation)| Line {
        address: *from,
        amount: worth(&escrow.active, &delegation.shares),
        shares: delegation.shares.clone(),
        end: None,
    });
    page.incoming("Active", &escrow.active, incoming.collect());
    let incoming = many(&delegations.incoming_debonding).map(|(from, delegation)| Line {
        address: from,
        amount: worth(&escrow.debonding, &delegation.shares),
        shares: delegation.shares.clone(),
        end: Some(delegation.debond_end_time),
    });
    page.incoming("Debonding", &escrow.debonding, incoming.collect());

    page.schedule(&escrow.commission_schedule);
    page.claims(&escrow.stake_accumulator);
    page.out
}

fn many<T>(all: &Many<T>) -> impl Iterator<Item = (Address, &T)> {
    all.iter().flat_map(|(address, list)| list.iter().flatten().map(|item| (*address, item)))
}
