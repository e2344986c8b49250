//! `oasis network`: which networks there are, and what they look like.

use clap::{Args, Subcommand};

use super::{governance, network_show, network_status};
use crate::args::{FormatFlag, NetworkFlag, Yes};
use crate::config::{self, Denomination, Network, Store};
use crate::error::{CliError, Result};
use crate::out::out;
use crate::remote::Remote;
use crate::{prompt, table};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Add a new network
    Add {
        /// Its name.
        name: String,
        /// Address of a node: HOST:PORT or unix:PATH.
        rpc: String,
        /// Its chain context; asked of the node if none is given.
        chain_context: Option<String>,
        #[command(flatten)]
        token: Token,
    },
    /// Add a new local network
    AddLocal {
        /// Its name.
        name: String,
        /// The node's socket: unix:PATH.
        rpc: String,
        #[command(flatten)]
        token: Token,
    },
    /// List configured networks
    #[command(visible_alias = "ls")]
    List,
    /// Remove an existing network
    #[command(visible_alias = "rm")]
    Remove {
        /// Its name.
        name: String,
        #[command(flatten)]
        yes: Yes,
    },
    /// Set the default network
    SetDefault {
        /// Its name.
        name: String,
    },
    /// Set the RPC endpoint of the given network
    SetRpc {
        /// Its name.
        name: String,
        /// Address of a node: HOST:PORT or unix:PATH.
        rpc: String,
    },
    /// Set the chain context of the given network
    SetChainContext {
        /// Its name.
        name: String,
        /// The chain context; asked of the node if none is given.
        chain_context: Option<String>,
    },
    /// Show network properties
    #[command(visible_alias = "s")]
    Show(network_show::Show),
    /// Show the recommended light client trust for consensus state sync
    Trust {
        #[command(flatten)]
        network: NetworkFlag,
        #[command(flatten)]
        format: FormatFlag,
    },
    /// Show the current status of the node and the network
    Status {
        #[command(flatten)]
        network: NetworkFlag,
        #[command(flatten)]
        format: FormatFlag,
    },
    /// Governance operations
    #[command(subcommand, visible_alias = "gov")]
    Governance(governance::Command),
}

#[derive(Debug, Args)]
pub(super) struct Token {
    /// Network's token symbol.
    #[arg(long, default_value = "")]
    symbol: String,
    /// Network's number of decimal places.
    #[arg(long)]
    num_decimals: Option<u8>,
    /// Network's description.
    #[arg(long, default_value = "")]
    description: String,
    #[command(flatten)]
    yes: Yes,
}

pub(super) fn run(store: &mut Store, command: Command) -> Result<()> {
    match command {
        Command::Add { name, rpc, chain_context, token } => add(store, &name, &rpc, chain_context, &token),
        Command::AddLocal { name, rpc, token } => {
            if !rpc.starts_with("unix:") {
                return Err(format!("address '{rpc}' is not local: expected unix:PATH").into());
            }
            add(store, &name, &rpc, None, &token)
        }
        Command::List => {
            out!("{}", list(store));
            Ok(())
        }
        Command::Remove { name, yes } => remove(store, &name, yes.yes),
        Command::SetDefault { name } => {
            find(store, &name)?;
            store.config.networks.default = name;
            store.save()
        }
        Command::SetRpc { name, rpc } => {
            find(store, &name)?.rpc = rpc;
            save(store)
        }
        Command::SetChainContext { name, chain_context } => {
            let network = find(store, &name)?;
            network.chain_context = chain_context.map_or_else(|| ask_chain_context(&network.rpc), Ok)?;
            save(store)
        }
        Command::Show(show) => network_show::run(store, &show),
        Command::Status { network, format } => network_status::status(store, &network, format.format),
        Command::Trust { network, format } => network_status::trust(store, &network, format.format),
        Command::Governance(command) => governance::run(store, command),
    }
}

fn find<'a>(store: &'a mut Store, name: &str) -> Result<&'a mut Network> {
    store.config.networks.all.get_mut(name).ok_or_else(|| format!("network '{name}' does not exist").into())
}

/// Saves what holds, and nothing else.
fn save(store: &Store) -> Result<()> {
    store.config.check()?;
    store.save()
}

fn ask_chain_context(rpc: &str) -> Result<String> {
    Remote::open(rpc)?.call("Consensus", "GetChainContext", &())
}

fn add(store: &mut Store, name: &str, rpc: &str, chain_context: Option<String>, token: &Token) -> Result<()> {
    config::check_name(name)?;
    if store.config.networks.all.contains_key(name) {
        return Err(format!("network '{name}' already exists").into());
    }
    let chain_context = chain_context.map_or_else(|| ask_chain_context(rpc), Ok)?;
    let missing = |given: bool| !given && !token.yes.yes;
    let ask = |missing: bool, question: &str, given: &str| {
        if missing { prompt::ask(question) } else { Ok(given.to_owned()) }
    };
    let description = ask(missing(!token.description.is_empty()), "Description:", &token.description)?;
    let symbol = ask(missing(!token.symbol.is_empty()), "Denomination symbol:", &token.symbol)?;
    let decimals = match token.num_decimals {
        Some(decimals) => decimals,
        None if token.yes.yes => 9,
        None => {
            let text = prompt::ask("Denomination decimal places:")?;
            text.parse().map_err(|_| CliError::new(format!("malformed number '{text}': expected 0 to 255")))?
        }
    };
    let denomination = Denomination { decimals, symbol };
    let network = Network { chain_context, description, rpc: rpc.to_owned(), denomination, ..Network::default() };
    store.config.networks.all.insert(name.to_owned(), network);
    if store.config.networks.default.is_empty() {
        name.clone_into(&mut store.config.networks.default);
    }
    save(store)
}

fn remove(store: &mut Store, name: &str, yes: bool) -> Result<()> {
    let paratimes = find(store, name)?.paratimes.all.len();
    if paratimes > 0 {
        let question =
            format!("WARNING: The network you are about to remove has {paratimes} paratimes configured. Continue?");
        prompt::confirm(&question, yes, "not removing network")?;
    }
    store.config.networks.all.remove(name);
    if store.config.networks.default == name {
        store.config.networks.default.clear();
    }
    store.save()
}

fn list(store: &Store) -> String {
    let networks = &store.config.networks;
    let row = |(name, network): (&String, &Network)| {
        let marker = if networks.default == *name { " (*)" } else { "" };
        vec![format!("{name}{marker}"), network.chain_context.clone(), network.rpc.clone()]
    };
    let rows: Vec<_> = networks.all.iter().map(row).collect();
    table::render(&["Name", "Chain Context", "RPC"], &rows)
}
