//! The text of `stake account info`.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use base_prims::{Address, Epoch, Quantity};
use node_rpc::types::Block;
use wire_consensus::staking::{
    Account, CommissionSchedule, DebondingDelegation, DebondingDelegationInfo, Delegation, DelegationInfo, OwnerQuery,
    SharePool, StakeAccumulator,
};

use super::{MODULE, SERVICE, Token, account_of};
use crate::client::Rpc;
use crate::tool::{Failure, OrFail as _};

/// A delegation as it is shown.
struct Line {
    address: Address,
    amount: Quantity,
    shares: Quantity,
    end: Option<Epoch>,
}

/// Everything about an account at a height.
pub(super) fn account_info(node: &Rpc, owner: Address, height: i64) -> Result<String, Failure> {
    let height = match height {
        0 => {
            let block: Block =
                node.call("Consensus", "GetBlock", 0i64).or_fail(MODULE, "failed to fetch latest block")?;
            block.height
        }
        height => height,
    };
    let account = account_of(node, owner, height)?;
    let query = || OwnerQuery { height, owner };
    let what = "failed to query delegations of account";
    let outgoing: Option<BTreeMap<Address, DelegationInfo>> =
        node.call(SERVICE, "DelegationInfosFor", query()).or_fail(MODULE, what)?;
    let incoming: Option<BTreeMap<Address, Delegation>> =
        node.call(SERVICE, "DelegationsTo", query()).or_fail(MODULE, what)?;
    let outgoing_debonding: Option<BTreeMap<Address, Option<Vec<DebondingDelegationInfo>>>> =
        node.call(SERVICE, "DebondingDelegationInfosFor", query()).or_fail(MODULE, what)?;
    let incoming_debonding: Option<BTreeMap<Address, Option<Vec<DebondingDelegation>>>> =
        node.call(SERVICE, "DebondingDelegationsTo", query()).or_fail(MODULE, what)?;
    let token = Token::query(node)?;
    let text = Text { token, owner };
    let active = outgoing.unwrap_or_default().into_iter().map(|(address, info)| {
        let amount = info.pool.stake_for_shares(&info.shares);
        Line { address, amount, shares: info.shares, end: None }
    });
    let debonding = outgoing_debonding.unwrap_or_default().into_iter().flat_map(|(address, infos)| {
        infos.unwrap_or_default().into_iter().map(move |info| {
            let amount = info.pool.stake_for_shares(&info.shares);
            Line { address, amount, shares: info.shares, end: Some(info.debond_end_time) }
        })
    });
    let pool = &account.escrow.active;
    let to_active = incoming.unwrap_or_default().into_iter().map(|(address, delegation)| {
        let amount = pool.stake_for_shares(&delegation.shares);
        Line { address, amount, shares: delegation.shares, end: None }
    });
    let pool = &account.escrow.debonding;
    let to_debonding = incoming_debonding.unwrap_or_default().into_iter().flat_map(|(address, delegations)| {
        delegations.unwrap_or_default().into_iter().map(move |delegation| {
            let amount = pool.stake_for_shares(&delegation.shares);
            Line { address, amount, shares: delegation.shares, end: Some(delegation.debond_end_time) }
        })
    });
    let lines = [active.collect(), debonding.collect(), to_active.collect(), to_debonding.collect()];
    Ok(text.account(height, &account, lines))
}

/// Writes with the token's units.
struct Text {
    token: Token,
    owner: Address,
}

fn total(lines: &[Line]) -> Quantity {
    lines.iter().fold(Quantity::ZERO, |sum, line| sum.add(&line.amount))
}

impl Text {
    /// `lines`: active and debonding delegations from the account, then to it.
    fn account(&self, height: i64, account: &Account, lines: [Vec<Line>; 4]) -> String {
        let [active, debonding, to_active, to_debonding] = lines;
        let mut out = format!("Account State for Height: {height}\nBalance:\n");
        let balance = &account.general.balance;
        let all = balance.add(&total(&active)).add(&total(&debonding));
        out.push_str(&format!("  Total: {}\n", self.token.amount(&all)));
        out.push_str(&format!("  Available: {}\n", self.token.amount(balance)));
        for (kind, lines) in [("Active", active), ("Debonding", debonding)] {
            if !lines.is_empty() {
                out.push_str(&format!("  {kind} Delegations from this Account:\n"));
                out.push_str(&format!("    Total: {}\n", self.token.amount(&total(&lines))));
                self.delegations(&mut out, lines, "To:", "    ");
            }
        }
        out.push('\n');
        self.allowances(&mut out, &account.general.allowances);
        let escrow = &account.escrow;
        for (kind, pool, lines) in
            [("Active", &escrow.active, to_active), ("Debonding", &escrow.debonding, to_debonding)]
        {
            self.incoming(&mut out, kind, pool, lines);
        }
        self.schedule(&mut out, &escrow.commission_schedule);
        accumulator(&mut out, &escrow.stake_accumulator);
        out.push_str(&format!("Nonce: {}\n", account.general.nonce));
        out
    }

    fn own(&self, address: &Address) -> &'static str {
        if *address == self.owner { " (self)" } else { "" }
    }

    fn delegations(&self, out: &mut String, mut lines: Vec<Line>, field: &str, prefix: &str) {
        out.push_str(&format!("{prefix}Delegations:\n"));
        lines.sort_by(|a, b| {
            let key = |line: &Line| (line.end, std::cmp::Reverse(line.amount.clone()), line.address.to_string());
            key(a).cmp(&key(b))
        });
        let debonding = lines.first().is_some_and(|line| line.end.is_some());
        let width = if debonding { "End Time:".len() } else { "Amount:".len() };
        for line in lines {
            let own = self.own(&line.address);
            out.push_str(&format!("{prefix}  - {field:<width$} {}{own}\n", line.address));
            let amount = self.token.amount(&line.amount);
            out.push_str(&format!("{prefix}    {:<width$} {amount} ({} shares)\n", "Amount:", line.shares));
            if let Some(end) = line.end {
                out.push_str(&format!("{prefix}    {:<width$} epoch {end}\n", "End Time:"));
            }
        }
    }

    fn allowances(&self, out: &mut String, allowances: &BTreeMap<Address, Quantity>) {
        if allowances.is_empty() {
            return;
        }
        let sum = allowances.values().fold(Quantity::ZERO, |sum, amount| sum.add(amount));
        out.push_str(&format!("Allowances for this Account:\n  Total: {}\n", self.token.amount(&sum)));
        out.push_str("  Allowances:\n");
        let mut list: Vec<_> = allowances.iter().collect();
        list.sort_by_key(|(address, amount)| (std::cmp::Reverse((*amount).clone()), address.to_string()));
        let width = "Beneficiary:".len();
        for (address, amount) in list {
            out.push_str(&format!("    - Beneficiary: {address}{}\n", self.own(address)));
            out.push_str(&format!("      {:<width$} {}\n", "Amount:", self.token.amount(amount)));
        }
        out.push('\n');
    }

    fn incoming(&self, out: &mut String, kind: &str, pool: &SharePool, lines: Vec<Line>) {
        if lines.is_empty() {
            return;
        }
        let amount = self.token.amount(&pool.balance);
        out.push_str(&format!("{kind} Delegations to this Account:\n"));
        out.push_str(&format!("  Total: {amount} ({} shares)\n", pool.total_shares));
        self.delegations(out, lines, "From:", "  ");
        out.push('\n');
    }

    fn schedule(&self, out: &mut String, schedule: &CommissionSchedule) {
        if schedule.is_empty() {
            return;
        }
        out.push_str("Commission Schedule:\n");
        out.push_str(if schedule.rates.is_empty() { "  Rates: (none)\n" } else { "  Rates:\n" });
        for (index, step) in schedule.rates.iter().enumerate() {
            let mark = format!("({}) ", index + 1);
            out.push_str(&format!("    {mark}start: epoch {}\n", step.start));
            out.push_str(&format!("    {:width$}rate:  {}\n", "", percent(&step.rate), width = mark.len()));
        }
        out.push_str(if schedule.bounds.is_empty() { "  Rate Bounds: (none)\n" } else { "  Rate Bounds:\n" });
        for (index, step) in schedule.bounds.iter().enumerate() {
            let mark = format!("({}) ", index + 1);
            out.push_str(&format!("    {mark}start:        epoch {}\n", step.start));
            for (name, rate) in [("minimum", &step.rate_min), ("maximum", &step.rate_max)] {
                out.push_str(&format!("    {:width$}{name} rate: {}\n", "", percent(rate), width = mark.len()));
            }
        }
        out.push('\n');
    }
}

/// A commission rate, which is in units of a thousandth of a percent.
fn percent(rate: &Quantity) -> String {
    let percent = Token { symbol: String::new(), exponent: 3 };
    format!("{}%", percent.amount(rate).trim_end())
}

fn accumulator(out: &mut String, accumulator: &StakeAccumulator) {
    if accumulator.claims.is_empty() {
        return;
    }
    out.push_str("Stake Accumulator:\n  Claims:\n");
    for (name, thresholds) in &accumulator.claims {
        out.push_str(&format!("    - Name: {name}\n"));
        for threshold in thresholds.iter().flatten() {
            out.push_str("      Staking Thresholds:\n");
            let text = match (&threshold.global, &threshold.constant) {
                (Some(kind), _) => format!("Global: {kind}"),
                (None, Some(amount)) => format!("Constant: {amount}"),
                (None, None) => "(malformed)".to_owned(),
            };
            // Writing to a string does not fail.
            let _ = writeln!(out, "        - {text}");
        }
    }
    out.push('\n');
}
