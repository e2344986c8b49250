//! `oasis-node stake …`: accounts and delegations. Reference: `go/oasis-node/cmd/stake`.

use std::collections::BTreeMap;
use std::process::ExitCode;

use base_prims::{Address, PublicKey, Quantity};
use base_service::outln;
use clap::Subcommand;
use wire_consensus::staking::{Account, OwnerQuery, ThresholdKind, ThresholdQuery};

use crate::args::Session;
use crate::client::{ClientArgs, Rpc};
use crate::tool::{Done, Failure, OrFail as _, end, print_json};

mod account;
mod show;

const MODULE: &str = "cmd/stake";
const SERVICE: &str = "Staking";
/// Thresholds that `stake info` shows.
const THRESHOLDS: [ThresholdKind; 7] = [
    ThresholdKind::ENTITY,
    ThresholdKind::NODE_VALIDATOR,
    ThresholdKind::NODE_COMPUTE,
    ThresholdKind::NODE_KEY_MANAGER,
    ThresholdKind::RUNTIME_COMPUTE,
    ThresholdKind::RUNTIME_KEY_MANAGER,
    ThresholdKind::KEY_MANAGER_CHURP,
];

/// Subcommands of `stake`.
#[derive(Subcommand)]
pub(crate) enum StakeCommand {
    /// Show staking token info.
    Info(ClientArgs),
    /// List accounts.
    List {
        /// Show whole accounts.
        #[arg(short = 'v', long)]
        verbose: bool,
        #[command(flatten)]
        client: ClientArgs,
    },
    /// Convert a public key (such as an entity's) to a staking account address.
    Pubkey2address {
        /// Public key (Base64-encoded).
        #[arg(long = "public_key", default_value = "", hide_default_value = true)]
        key: String,
    },
    /// Account management commands.
    #[command(subcommand, arg_required_else_help = true)]
    Account(Box<account::AccountCommand>),
}

/// A token's symbol and exponent.
pub(crate) struct Token {
    symbol: String,
    exponent: u8,
}

impl Token {
    fn query(node: &Rpc) -> Result<Self, Failure> {
        let symbol = node.call(SERVICE, "TokenSymbol", 0i64);
        let exponent = node.call(SERVICE, "TokenValueExponent", 0i64);
        Ok(Self {
            symbol: symbol.or_fail(MODULE, "failed to query token's symbol")?,
            exponent: exponent.or_fail(MODULE, "failed to query token's value exponent")?,
        })
    }

    /// An amount in tokens: at least one decimal place, no more than needed.
    fn amount(&self, amount: &Quantity) -> String {
        let exponent = usize::from(self.exponent);
        let digits = format!("{:0>width$}", amount.to_string(), width = exponent + 1);
        let (whole, fraction) = digits.split_at(digits.len() - exponent);
        let fraction = fraction.trim_end_matches('0');
        format!("{whole}.{} {}", if fraction.is_empty() { "0" } else { fraction }, self.symbol)
    }
}

pub(crate) fn run(command: &StakeCommand, session: &Session) -> ExitCode {
    end(dispatch(command, session))
}

fn dispatch(command: &StakeCommand, session: &Session) -> Done {
    match command {
        StakeCommand::Info(client) => info(client),
        StakeCommand::List { verbose, client } => list(client, *verbose),
        StakeCommand::Pubkey2address { key } => {
            if key.is_empty() {
                return Err(Failure::new(MODULE, "cannot convert an empty public key"));
            }
            let key: PublicKey = key.parse().or_fail(MODULE, "failed to parse public key")?;
            outln!("{}", Address::of_key(&key));
            Ok(())
        }
        StakeCommand::Account(command) => account::run(command, session),
    }
}

fn info(client: &ClientArgs) -> Done {
    let node = client.connect(MODULE, "failed to query token's symbol")?;
    let token = Token::query(&node)?;
    outln!("Token's ticker symbol: {}", token.symbol);
    outln!("Token's value base-10 exponent: {}", token.exponent);
    let pools = [
        ("Total supply", "TotalSupply", "failed to query total supply"),
        ("Common pool", "CommonPool", "failed to query common pool"),
        ("Last block fees", "LastBlockFees", "failed to query last block fees"),
        ("Governance deposits", "GovernanceDeposits", "failed to query governance deposits"),
    ];
    for (name, method, what) in pools {
        let amount: Quantity = node.call(SERVICE, method, 0i64).or_fail(MODULE, what)?;
        outln!("{name}: {}", token.amount(&amount));
    }
    for kind in THRESHOLDS {
        match node.call::<_, Quantity>(SERVICE, "Threshold", ThresholdQuery { height: 0, kind }) {
            Ok(amount) => outln!("Staking threshold ({kind}): {}", token.amount(&amount)),
            Err(error) if error.is("staking", 6) => {
                tracing::warn!(module = MODULE, "invalid staking threshold kind: {kind}");
            }
            Err(error) => return Err(Failure::because(MODULE, "failed to query staking threshold", error)),
        }
    }
    Ok(())
}

fn account_of(node: &Rpc, owner: Address, height: i64) -> Result<Account, Failure> {
    node.call(SERVICE, "Account", OwnerQuery { height, owner }).or_fail(MODULE, "failed to query account")
}

fn list(client: &ClientArgs, verbose: bool) -> Done {
    let what = "failed to query addresses";
    let node = client.connect(MODULE, what)?;
    let addresses: Option<Vec<Address>> = node.call(SERVICE, "Addresses", 0i64).or_fail(MODULE, what)?;
    for address in addresses.unwrap_or_default() {
        if verbose {
            print_json(&BTreeMap::from([(address, account_of(&node, address, 0)?)]));
        } else {
            outln!("{address}");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_in_tokens() {
        let token = Token { symbol: "TEST".to_owned(), exponent: 6 };
        for (amount, text) in
            [(0u64, "0.0 TEST"), (1, "0.000001 TEST"), (2_000_000, "2.0 TEST"), (1_234_500, "1.2345 TEST")]
        {
            assert_eq!(token.amount(&Quantity::from(amount)), text);
        }
        let whole = Token { symbol: "T".to_owned(), exponent: 0 };
        assert_eq!(whole.amount(&Quantity::from(5u64)), "5.0 T");
    }
}
