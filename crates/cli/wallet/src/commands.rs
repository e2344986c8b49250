//! The commands: parsed here, run in the module of their group.

mod account;
mod account_show;
mod addressbook;
mod bundle;
pub(crate) mod contract;
mod governance;
mod metadata;
mod network;
mod network_show;
mod network_status;
mod paratime;
mod paratime_show;
mod paratime_stats;
mod transaction;
mod wallet;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};
use clap_complete::Shell;

use crate::args::{AccountFlag, NetworkFlag, ParaTimeFlags, Signing};
use crate::config::{Account, Config, Network, ParaTime, Store};
use crate::error::{CliError, Result};
use crate::out::outln;
use crate::wallet::{test_config, test_name};

/// CLI for interacting with the Oasis network
#[derive(Debug, Parser)]
#[command(name = "oasis", disable_version_flag = true, arg_required_else_help = true)]
struct Cli {
    /// Config file to use.
    #[arg(long, global = true)]
    config: Option<PathBuf>,
    /// Version for oasis.
    #[arg(short = 'v', long)]
    version: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Account operations
    #[command(subcommand, visible_aliases = ["a", "acc", "accounts"])]
    Account(account::Command),
    /// Manage addresses in the local address book
    #[command(subcommand, visible_alias = "ab")]
    Addressbook(addressbook::Command),
    /// Bundles of ParaTimes (.orc): create, show, compare, sign
    #[command(subcommand)]
    Bundle(bundle::Command),
    /// WebAssembly smart contracts operations
    #[command(subcommand, visible_alias = "c", alias = "contracts")]
    Contract(contract::Command),
    /// Consensus layer operations
    #[command(subcommand, visible_alias = "n", aliases = ["net", "networks"])]
    Network(network::Command),
    /// ParaTime layer operations
    #[command(subcommand, visible_aliases = ["p", "pt"], alias = "paratimes")]
    Paratime(paratime::Command),
    /// Raw transaction operations
    #[command(subcommand, visible_alias = "tx")]
    Transaction(transaction::Command),
    /// Manage accounts in the local wallet
    #[command(subcommand, visible_alias = "w", alias = "wallets")]
    Wallet(wallet::Command),
    /// Generate shell completion script
    Completion {
        /// The shell.
        shell: Shell,
    },
}

/// Runs the command and gives its exit code: 0, or 1 with the reason on standard error.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            let code = if error.use_stderr() { ExitCode::FAILURE } else { ExitCode::SUCCESS };
            let _ = error.print();
            return code;
        }
    };
    match execute(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("Error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn execute(cli: Cli) -> Result<()> {
    if cli.version {
        outln!("Software version: {}", env!("CARGO_PKG_VERSION"));
        return Ok(());
    }
    let command = match cli.command {
        None => {
            return Cli::command().print_help().map_err(CliError::file("write", "standard output"));
        }
        Some(Command::Completion { shell }) => {
            clap_complete::generate(shell, &mut Cli::command(), "oasis", &mut std::io::stdout());
            return Ok(());
        }
        // Needs no configuration.
        Some(Command::Bundle(command)) if !command.asks_network() => return bundle::run(None, command),
        Some(command) => command,
    };
    let mut store = Store::open(cli.config.as_deref())?;
    match command {
        Command::Account(command) => account::run(&store, command),
        Command::Addressbook(command) => addressbook::run(&mut store, command),
        Command::Bundle(command) => bundle::run(Some(&store), command),
        Command::Contract(command) => contract::run(&store, command),
        Command::Network(command) => network::run(&mut store, command),
        Command::Paratime(command) => paratime::run(&mut store, command),
        Command::Transaction(command) => transaction::run(&store, command),
        Command::Wallet(command) => wallet::run(&mut store, command),
        Command::Completion { .. } => Ok(()),
    }
}

/// The network, ParaTime and account that a command is about.
#[derive(Debug)]
pub(crate) struct Selection<'a> {
    pub(crate) config: &'a Config,
    pub(crate) network_name: &'a str,
    pub(crate) network: &'a Network,
    pub(crate) paratime: Option<(&'a str, &'a ParaTime)>,
    pub(crate) account_name: Option<&'a str>,
    /// The account.
    pub(crate) account: Option<Account>,
}

impl<'a> Selection<'a> {
    /// The network, as named or by default.
    pub(crate) fn network(store: &'a Store, flag: &'a NetworkFlag) -> Result<Self> {
        let config = &store.config;
        let default = &config.networks.default;
        let name = if flag.network.is_empty() { default } else { &flag.network };
        if name.is_empty() {
            return Err("no networks configured; add one with `oasis network add`".into());
        }
        let Some((network_name, network)) = config.networks.all.get_key_value(name) else {
            let known: Vec<_> = config.networks.all.keys().map(String::as_str).collect();
            return Err(format!("network '{name}' does not exist; there are {}", known.join(", ")).into());
        };
        Ok(Self { config, network_name, network, paratime: None, account_name: None, account: None })
    }

    /// Network and ParaTime.
    pub(crate) fn paratime(store: &'a Store, network: &'a NetworkFlag, flags: &'a ParaTimeFlags) -> Result<Self> {
        let mut selection = Self::network(store, network)?;
        let paratimes = &selection.network.paratimes;
        let name = if flags.paratime.is_empty() { &paratimes.default } else { &flags.paratime };
        if flags.no_paratime || name.is_empty() {
            return Ok(selection);
        }
        let found = paratimes.all.get_key_value(name);
        let (name, paratime) =
            found.ok_or_else(|| format!("ParaTime '{name}' does not exist on network '{}'", selection.network_name))?;
        selection.paratime = Some((name, paratime));
        Ok(selection)
    }

    /// Network, ParaTime and account; there may be none.
    pub(crate) fn all(
        store: &'a Store,
        network: &'a NetworkFlag,
        paratime: &'a ParaTimeFlags,
        account: &'a AccountFlag,
    ) -> Result<Self> {
        let mut selection = Self::paratime(store, network, paratime)?;
        let config = selection.config;
        let name = if account.account.is_empty() { &config.wallets.default } else { &account.account };
        if name.is_empty() {
            return Ok(selection);
        }
        selection.account = Some(match test_name(name) {
            Some(test) => test_config(test)?,
            None => crate::wallet::find(store, name)?.clone(),
        });
        selection.account_name = Some(name);
        Ok(selection)
    }

    /// The account, which must be there.
    pub(crate) fn must_have_account(&self) -> Result<&'a str> {
        self.account_name.ok_or_else(|| {
            "no accounts configured; create one with `oasis wallet create`, or name one with --account".into()
        })
    }

    /// Network and account of an operation that only the consensus layer has, whatever ParaTime is the default.
    pub(crate) fn for_consensus(store: &'a Store, signing: &'a Signing) -> Result<Self> {
        let mut selection = Self::all(store, &signing.network, &signing.paratime, &signing.account)?;
        selection.must_have_account()?;
        selection.paratime = None;
        Ok(selection)
    }

    /// The ParaTime, which must be there.
    pub(crate) fn must_have_paratime(&self) -> Result<(&'a str, &'a ParaTime)> {
        self.paratime.ok_or_else(|| {
            "no ParaTimes selected. Run `oasis paratime` to configure a ParaTime first. Then use --paratime <name> to \
             specify the ParaTime"
                .into()
        })
    }

    /// Name and description of the network.
    pub(crate) fn pretty_network(&self) -> String {
        if self.network.description.is_empty() {
            self.network_name.to_owned()
        } else {
            format!("{} ({})", self.network_name, self.network.description)
        }
    }

    /// Base units as tokens of the consensus layer.
    pub(crate) fn tokens(&self, amount: &base_prims::Quantity) -> String {
        let token = &self.network.denomination;
        format!("{} {}", crate::amount::format(amount, token.decimals), token.symbol)
    }
}
