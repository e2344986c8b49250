//! `oasis-node stake account …`.

use base_prims::{Address, Quantity};
use base_service::{out, outln};
use clap::Subcommand;
use wire_consensus::staking::{
    Allow, AmendCommissionSchedule, Burn, CommissionRateBoundStep, CommissionRateStep, Escrow, METHOD_ADD_ESCROW,
    METHOD_ALLOW, METHOD_AMEND_COMMISSION_SCHEDULE, METHOD_BURN, METHOD_RECLAIM_ESCROW, METHOD_TRANSFER,
    METHOD_WITHDRAW, ReclaimEscrow, Transfer, Withdraw,
};

use super::{MODULE, account_of, show};
use crate::args::{Session, TxArgs};
use crate::client::ClientArgs;
use crate::tool::{Done, Failure, OrFail as _};

/// An account to ask about.
#[derive(clap::Args)]
pub(crate) struct OwnerArgs {
    /// Account address.
    #[arg(id = "account", long = "stake.account.address", default_value = "", hide_default_value = true)]
    address: String,
    #[command(flatten)]
    client: ClientArgs,
}

impl OwnerArgs {
    fn parse(&self) -> Result<Address, Failure> {
        self.address.parse().or_fail(MODULE, "failed to parse account address")
    }
}

/// Subcommands of `stake account`.
#[derive(Subcommand)]
pub(crate) enum AccountCommand {
    /// Get account info.
    Info {
        #[command(flatten)]
        owner: OwnerArgs,
        /// Height of the state; 0 is the newest.
        #[arg(long, default_value_t = 0)]
        height: i64,
    },
    /// Get account nonce.
    Nonce(OwnerArgs),
    /// Validate account address.
    #[command(name = "validate_address")]
    ValidateAddress {
        #[command(flatten)]
        owner: OwnerArgs,
        /// Say why.
        #[arg(short = 'v', long)]
        verbose: bool,
    },
    /// Generate a transfer transaction.
    #[command(name = "gen_transfer")]
    GenTransfer {
        /// Transfer destination account address.
        #[arg(long = "stake.transfer.destination")]
        to: Address,
        #[command(flatten)]
        amount: AmountArgs,
        #[command(flatten)]
        tx: TxArgs,
    },
    /// Generate a burn transaction.
    #[command(name = "gen_burn")]
    GenBurn {
        #[command(flatten)]
        amount: AmountArgs,
        #[command(flatten)]
        tx: TxArgs,
    },
    /// Generate an escrow (stake) transaction.
    #[command(name = "gen_escrow")]
    GenEscrow {
        /// Address of the escrow account.
        #[arg(long = "stake.escrow.account")]
        account: Address,
        #[command(flatten)]
        amount: AmountArgs,
        #[command(flatten)]
        tx: TxArgs,
    },
    /// Generate a reclaim escrow (unstake) transaction.
    #[command(name = "gen_reclaim_escrow")]
    GenReclaimEscrow {
        /// Address of the escrow account.
        #[arg(long = "stake.escrow.account")]
        account: Address,
        /// Amount of shares for the transaction.
        #[arg(long = "stake.shares", default_value = "0")]
        shares: Quantity,
        #[command(flatten)]
        tx: TxArgs,
    },
    /// Generate an amend commission schedule transaction.
    #[command(name = "gen_amend_commission_schedule")]
    GenAmendCommissionSchedule {
        /// Commission rate step START_EPOCH/RATE, the rate in units of 1/100000; may be given several times.
        #[arg(long = "stake.commission_schedule.rates", value_delimiter = ',')]
        rates: Vec<String>,
        /// Commission rate bound step START_EPOCH/MIN/MAX, in units of 1/100000; may be given several times.
        #[arg(long = "stake.commission_schedule.bounds", value_delimiter = ',')]
        bounds: Vec<String>,
        #[command(flatten)]
        tx: TxArgs,
    },
    /// Generate an allow transaction.
    #[command(name = "gen_allow")]
    GenAllow {
        /// Allowance beneficiary address.
        #[arg(long = "stake.allow.beneficiary")]
        beneficiary: Address,
        /// Allowance change amount (in base units); may be negative.
        #[arg(long = "stake.allow.amount_change", default_value = "0", allow_hyphen_values = true)]
        change: String,
        #[command(flatten)]
        tx: TxArgs,
    },
    /// Generate a withdraw transaction.
    #[command(name = "gen_withdraw")]
    GenWithdraw {
        /// Withdraw source address.
        #[arg(long = "stake.withdraw.source")]
        from: Address,
        #[command(flatten)]
        amount: AmountArgs,
        #[command(flatten)]
        tx: TxArgs,
    },
}

/// How much.
#[derive(clap::Args)]
pub(crate) struct AmountArgs {
    /// Amount of stake (in base units) for the transaction.
    #[arg(long = "stake.amount", default_value = "0")]
    amount: Quantity,
}

pub(super) fn run(command: &AccountCommand, session: &Session) -> Done {
    match command {
        AccountCommand::Info { owner, height } => {
            let address = owner.parse()?;
            let node = owner.client.connect(MODULE, "failed to fetch latest block")?;
            out!("{}", show::account_info(&node, address, *height)?);
            Ok(())
        }
        AccountCommand::Nonce(owner) => {
            let address = owner.parse()?;
            let node = owner.client.connect(MODULE, "failed to query account")?;
            outln!("{}", account_of(&node, address, 0)?.general.nonce);
            Ok(())
        }
        AccountCommand::ValidateAddress { owner, verbose } => validate(&owner.address, *verbose),
        AccountCommand::GenTransfer { to, amount, tx } => {
            let doc = tx.prepare(session)?;
            tx.save(session, &doc, METHOD_TRANSFER, &Transfer { to: *to, amount: amount.amount.clone() })
        }
        AccountCommand::GenBurn { amount, tx } => {
            let doc = tx.prepare(session)?;
            tx.save(session, &doc, METHOD_BURN, &Burn { amount: amount.amount.clone() })
        }
        AccountCommand::GenEscrow { account, amount, tx } => {
            let doc = tx.prepare(session)?;
            tx.save(session, &doc, METHOD_ADD_ESCROW, &Escrow { account: *account, amount: amount.amount.clone() })
        }
        AccountCommand::GenReclaimEscrow { account, shares, tx } => {
            let doc = tx.prepare(session)?;
            let body = ReclaimEscrow { account: *account, shares: shares.clone() };
            tx.save(session, &doc, METHOD_RECLAIM_ESCROW, &body)
        }
        AccountCommand::GenAmendCommissionSchedule { rates, bounds, tx } => {
            let doc = tx.prepare(session)?;
            let body = amendment(rates, bounds).or_fail(MODULE, "failed to parse commission schedule")?;
            tx.save(session, &doc, METHOD_AMEND_COMMISSION_SCHEDULE, &body)
        }
        AccountCommand::GenAllow { beneficiary, change, tx } => {
            let doc = tx.prepare(session)?;
            let (negative, amount) = match change.strip_prefix('-') {
                Some(amount) => (true, amount),
                None => (false, change.as_str()),
            };
            let amount_change = amount.parse().or_fail(MODULE, "failed to parse allowance change amount")?;
            tx.save(session, &doc, METHOD_ALLOW, &Allow { beneficiary: *beneficiary, negative, amount_change })
        }
        AccountCommand::GenWithdraw { from, amount, tx } => {
            let doc = tx.prepare(session)?;
            tx.save(session, &doc, METHOD_WITHDRAW, &Withdraw { from: *from, amount: amount.amount.clone() })
        }
    }
}

fn validate(text: &str, verbose: bool) -> Done {
    match text.parse::<Address>() {
        Ok(_) => {
            if verbose {
                outln!("account address '{text}' is valid");
            }
            Ok(())
        }
        Err(error) => {
            if verbose {
                outln!("account address '{text}' is not valid: {error}");
            }
            Err(Failure::quiet())
        }
    }
}

/// The numbers of a step: an epoch and as many quantities.
fn step<const N: usize>(text: &str) -> Result<(u64, [Quantity; N]), String> {
    let wrong = || format!("malformed step {text:?}");
    let mut parts = text.split('/');
    let start = parts.next().and_then(|part| part.parse().ok()).ok_or_else(wrong)?;
    let quantities: Result<Vec<Quantity>, _> = parts.map(str::parse).collect();
    let quantities = quantities.map_err(|_| wrong())?;
    Ok((start, quantities.try_into().map_err(|_| wrong())?))
}

fn amendment(rates: &[String], bounds: &[String]) -> Result<AmendCommissionSchedule, String> {
    let mut body = AmendCommissionSchedule::default();
    for text in rates {
        let (start, [rate]) = step(text)?;
        body.amendment.rates.push(CommissionRateStep { start, rate });
    }
    for text in bounds {
        let (start, [rate_min, rate_max]) = step(text)?;
        body.amendment.bounds.push(CommissionRateBoundStep { start, rate_min, rate_max });
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_of_a_commission_schedule() {
        let body = amendment(&["5/1000".to_owned()], &["7/1/2".to_owned()]).unwrap();
        assert_eq!((body.amendment.rates[0].start, &body.amendment.rates[0].rate), (5, &Quantity::from(1000u64)));
        assert_eq!((body.amendment.bounds[0].start, &body.amendment.bounds[0].rate_max), (7, &Quantity::from(2u64)));
        for bad in ["", "5", "5/", "x/1", "5/1/2", "5/-1"] {
            assert!(amendment(&[bad.to_owned()], &[]).is_err(), "{bad}");
        }
    }
}
