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

use super::Selection;
use crate::args::{AccountFlag, Format, FormatFlag, HeightFlag, NetworkFlag, ParaTimeFlags};
use crate::config::Store;
use crate::error::Result;
use crate::out::{out, outln};
use crate::remote::{OwnerQuery, Remote};
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
    let target = match (&show.address, selection.account, selection.account_name) {
        (Some(text), ..) => text.as_str(),
        (None, Some(account), _) => account.address.as_str(),
        (None, None, Some(name)) => name,
        (None, None, None) => return Err("no address given and no wallet configured".into()),
    };
    let owner = address::resolve(&store.config, selection.network, target)?;
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
    let names = address::names(&store.config);
    if show.format.format == Format::Json {
        let value = json(&selection, names.get(&owner), &owner, height, &account, &delegations);
        outln!("{}", value_to_string_pretty(&value));
        return Ok(());
    }
    out!("{}", text(&selection, &names, &owner, &account, &delegations));
    Ok(())
}

fn json(
    selection: &Selection<'_>,
    name: Option<&String>,
    owner: &Address,
    height: i64,
    account: &Account,
    delegations: &Delegations,
) -> Value {
    let mut out = Map::new();
    let mut add = |key: &str, value: Value| {
        out.insert(key.to_owned(), value);
    };
    if let Some(name) = name {
        add("name", name.to_json());
    }
    add("native_address", owner.to_json());
    add("nonce", account.general.nonce.to_json());
    add("network_name", selection.network_name.to_owned().to_json());
    add("height", height.to_json());
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

fn text(
    selection: &Selection<'_>,
    names: &BTreeMap<Address, String>,
    owner: &Address,
    account: &Account,
    delegations: &Delegations,
) -> String {
    let mut page = Page { selection, names, owner, out: String::new() };
    if let Some(name) = names.get(owner) {
        page.line(format_args!("Name:             {name}"));
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
