//! `oasis network`: which networks there are, and what they look like.

use clap::{Args, Subcommand};

use super::{Selection, governance, network_show};
use crate::args::{Format, FormatFlag, NetworkFlag, Yes};
use crate::config::{self, Denomination, Network, Store};
use crate::error::{CliError, Result};
use crate::out::{out, outln};
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
        Command::Status { network, format } => status(store, &network, format.format),
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

/// What the text needs of a node's status; the rest is skipped.
#[derive(Debug, Default, base_codec::Codec)]
struct Status {
    software_version: String,
    identity: Identity,
    #[codec(omitempty)]
    consensus: Option<Consensus>,
    #[codec(omitempty)]
    registration: Option<Registration>,
}

#[derive(Debug, Default, base_codec::Codec)]
struct Identity {
    node: base_prims::PublicKey,
}

#[derive(Debug, Default, base_codec::Codec)]
struct Consensus {
    status: u8,
    version: base_prims::Version,
    latest_height: i64,
    latest_hash: base_prims::Hash,
    latest_time: i64,
    latest_epoch: u64,
    chain_context: String,
    is_validator: bool,
}

#[derive(Debug, Default, base_codec::Codec)]
struct Registration {
    last_attempt_successful: bool,
    #[codec(omitempty)]
    last_attempt_error_message: String,
    #[codec(omitempty)]
    last_attempt: i64,
    #[codec(omitempty)]
    last_registration: i64,
    #[codec(omitempty)]
    descriptor: Option<wire_consensus::node::Node>,
}

fn time(seconds: i64) -> String {
    wire_cometbft::Time::new(seconds, 0).map_or_else(
        |_| seconds.to_string(),
        |time| {
            let text = time.to_string();
            text.trim_end_matches('Z').replacen('T', " ", 1) + " +0000 UTC"
        },
    )
}

fn status(store: &Store, network: &NetworkFlag, format: Format) -> Result<()> {
    if format == Format::Json {
        return Err("--format json is not supported here yet; `oasis-node control status` gives it".into());
    }
    let selection = Selection::network(store, network)?;
    let remote = Remote::connect(selection.network_name, selection.network)?;
    let status: Status = remote.call("NodeController", "GetStatus", &())?;
    outln!("=== NETWORK STATUS ===");
    outln!("Network:      {}", selection.pretty_network());
    outln!("Node's ID:    {}", status.identity.node);
    outln!("Core version: {}\n", status.software_version);
    outln!("==== Consensus ====");
    if let Some(consensus) = &status.consensus {
        let known = config::builtin::name_of(&consensus.chain_context).unwrap_or("unknown");
        outln!("Status:               {}", if consensus.status == 0 { "ready" } else { "syncing" });
        outln!("Version:              {}", consensus.version);
        outln!("Chain context:        {known} ({})", consensus.chain_context);
        outln!("Latest height:        {} ({})", consensus.latest_height, time(consensus.latest_time));
        outln!("Latest block hash:    {}", consensus.latest_hash);
        outln!("Latest epoch:         {}", consensus.latest_epoch);
        outln!("Is validator:         {}", consensus.is_validator);
    }
    if let Some(registration) = &status.registration {
        outln!("Registration:         {}", registration.last_attempt_successful);
        if registration.last_registration > 0 {
            outln!("  Last:               {}", time(registration.last_registration));
        }
        if !registration.last_attempt_successful && registration.last_attempt > 0 {
            outln!("  Last attempt:       {}", time(registration.last_attempt));
        }
        if !registration.last_attempt_successful && !registration.last_attempt_error_message.is_empty() {
            outln!("  Last attempt error: {}", registration.last_attempt_error_message);
        }
        if let Some(descriptor) = &registration.descriptor {
            outln!("  Entity ID:          {}", descriptor.entity_id);
        }
    }
    Ok(())
}
