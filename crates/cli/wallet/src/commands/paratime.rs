//! `oasis paratime`: which ParaTimes are known, what they do, and registering one.

use std::path::PathBuf;

use base_codec::json;
use clap::{Args, Subcommand};
use wire_consensus::registry;

use super::{Selection, paratime_show, paratime_stats};
use crate::args::{Signing, Yes};
use crate::config::{self, Denomination, NATIVE, Network, ParaTime, Store};
use crate::error::{CliError, Result};
use crate::out::out;
use crate::{prompt, table, tx};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Add a new ParaTime
    Add(Add),
    /// List configured ParaTimes
    #[command(visible_alias = "ls")]
    List,
    /// Remove an existing ParaTime
    #[command(visible_alias = "rm")]
    Remove {
        /// The network.
        network: String,
        /// Its name.
        name: String,
    },
    /// Sets the default ParaTime for the given network
    SetDefault {
        /// The network.
        network: String,
        /// Its name.
        name: String,
    },
    /// Register a new ParaTime or update an existing one
    Register {
        /// The descriptor, JSON.
        file: PathBuf,
        #[command(flatten)]
        signing: Signing,
    },
    /// Show information about a ParaTime block, its transactions, events or other parameters
    #[command(visible_alias = "s")]
    Show(paratime_show::Show),
    /// Show ParaTime statistics
    #[command(visible_alias = "stats")]
    Statistics(paratime_stats::Statistics),
    /// Denomination operations
    #[command(subcommand, visible_alias = "denom")]
    Denomination(DenominationCommand),
}

#[derive(Debug, Args)]
pub(super) struct Add {
    /// The network.
    network: String,
    /// Its name.
    name: String,
    /// Its identifier, 64 hexadecimal digits.
    id: String,
    /// ParaTime's native token symbol.
    #[arg(long, default_value = "")]
    symbol: String,
    /// ParaTime's number of decimal places.
    #[arg(long, default_value_t = 9)]
    num_decimals: u8,
    /// ParaTime's description.
    #[arg(long, default_value = "")]
    description: String,
    #[command(flatten)]
    yes: Yes,
}

#[derive(Debug, Subcommand)]
pub(super) enum DenominationCommand {
    /// Set denomination
    Set {
        /// The network.
        network: String,
        /// The ParaTime.
        paratime: String,
        /// The token.
        denomination: String,
        /// Its decimal places.
        decimals: u8,
        /// Its symbol.
        #[arg(long, default_value = "")]
        symbol: String,
    },
    /// Set native denomination
    SetNative {
        /// The network.
        network: String,
        /// The ParaTime.
        paratime: String,
        /// The token.
        symbol: String,
        /// Its decimal places.
        decimals: u8,
    },
    /// Remove denomination
    #[command(visible_alias = "rm")]
    Remove {
        /// The network.
        network: String,
        /// The ParaTime.
        paratime: String,
        /// The token.
        denomination: String,
    },
}

pub(super) fn run(store: &mut Store, command: Command) -> Result<()> {
    match command {
        Command::Add(add) => self::add(store, add),
        Command::List => {
            out!("{}", list(store));
            Ok(())
        }
        Command::Remove { network, name } => {
            let paratimes = &mut find_network(store, &network)?.paratimes;
            paratimes.all.remove(&name).ok_or_else(|| format!("paratime '{name}' does not exist"))?;
            if paratimes.default == name {
                paratimes.default.clear();
            }
            save(store)
        }
        Command::SetDefault { network, name } => {
            let paratimes = &mut find_network(store, &network)?.paratimes;
            if !paratimes.all.contains_key(&name) {
                return Err(format!("paratime '{name}' does not exist").into());
            }
            paratimes.default = name;
            save(store)
        }
        Command::Register { file, signing } => register(store, &file, &signing),
        Command::Show(show) => paratime_show::run(store, &show),
        Command::Statistics(args) => paratime_stats::run(store, &args),
        Command::Denomination(command) => denomination(store, command),
    }
}

fn register(store: &Store, file: &PathBuf, signing: &Signing) -> Result<()> {
    let selection = Selection::for_consensus(store, signing)?;
    let text = std::fs::read_to_string(file).map_err(CliError::file("read", file))?;
    let descriptor: registry::Runtime = json::from_str(&text)
        .map_err(|error| CliError::new(format!("malformed ParaTime descriptor: {}: {error}", file.display())))?;
    tx::submit(store, &selection, &signing.tx, registry::METHOD_REGISTER_RUNTIME, &descriptor)
}

fn save(store: &Store) -> Result<()> {
    store.config.check()?;
    store.save()
}

fn find_network<'a>(store: &'a mut Store, name: &str) -> Result<&'a mut Network> {
    store.config.networks.all.get_mut(name).ok_or_else(|| format!("network '{name}' does not exist").into())
}

fn find<'a>(store: &'a mut Store, network: &str, name: &str) -> Result<&'a mut ParaTime> {
    let found = find_network(store, network)?.paratimes.all.get_mut(name);
    found.ok_or_else(|| format!("paratime '{name}' does not exist on network '{network}'").into())
}

fn add(store: &mut Store, add: Add) -> Result<()> {
    config::check_name(&add.name)?;
    let network = find_network(store, &add.network)?;
    if network.paratimes.all.contains_key(&add.name) {
        return Err(format!("paratime '{}' already exists on network '{}'", add.name, add.network).into());
    }
    let symbol = if add.symbol.is_empty() && !add.yes.yes { prompt::ask("Denomination symbol:")? } else { add.symbol };
    let native = Denomination { decimals: add.num_decimals, symbol };
    let paratime = ParaTime {
        consensus_denomination: NATIVE.to_owned(),
        description: add.description,
        id: add.id,
        denominations: std::iter::once((NATIVE.to_owned(), native)).collect(),
    };
    paratime.namespace()?;
    network.paratimes.all.insert(add.name.clone(), paratime);
    if network.paratimes.default.is_empty() {
        network.paratimes.default = add.name;
    }
    save(store)
}

fn list(store: &Store) -> String {
    let mut rows = Vec::new();
    for (network, of) in &store.config.networks.all {
        for (name, paratime) in &of.paratimes.all {
            let marker = if of.paratimes.default == *name { " (*)" } else { "" };
            let tokens = paratime.denominations.iter().map(|(key, token)| {
                let native = if key == NATIVE { " (*)" } else { "" };
                format!("{}[{}]{native}", token.symbol, token.decimals)
            });
            let tokens = tokens.collect::<Vec<_>>().join("\n");
            rows.push(vec![network.clone(), format!("{name}{marker}"), paratime.id.clone(), tokens]);
        }
    }
    table::render(&["Network", "Paratime", "ID", "Denominations"], &rows)
}

fn denomination(store: &mut Store, command: DenominationCommand) -> Result<()> {
    match command {
        DenominationCommand::Set { network, paratime, denomination, decimals, symbol } => {
            let symbol = if symbol.is_empty() { denomination.clone() } else { symbol };
            let token = Denomination { decimals, symbol };
            find(store, &network, &paratime)?.denominations.insert(denomination.to_lowercase(), token);
        }
        DenominationCommand::SetNative { network, paratime, symbol, decimals } => {
            let token = Denomination { decimals, symbol };
            find(store, &network, &paratime)?.denominations.insert(NATIVE.to_owned(), token);
        }
        DenominationCommand::Remove { network, paratime, denomination } => {
            let key = denomination.to_lowercase();
            let removed = find(store, &network, &paratime)?.denominations.remove(&key);
            removed.ok_or_else(|| format!("denomination '{denomination}' does not exist"))?;
        }
    }
    save(store)
}
