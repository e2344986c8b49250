//! `oasis paratime show`: rounds, their transactions and events.

use std::collections::BTreeMap;

use base_codec::json::{Map, ToJson, Value, value_to_string_pretty};
use base_codec::{Bytes, cbor};
use base_prims::Hash;
use clap::Args;
use wire_runtime::client::{ROUND_LATEST, TransactionWithResults};
use wire_runtime::transaction::BLOCK_TAG_HASH;

use super::Selection;
use crate::args::{Format, FormatFlag, NetworkFlag, ParaTimeFlags};
use crate::config::Store;
use crate::error::{CliError, Result};
use crate::out::{out, outln};
use crate::paratime::Runtime;
use crate::remote::Remote;
use crate::sdk::{CallResult, Event, UnverifiedTransaction, pretty};
use crate::tx::paratime::pretty_context;

#[derive(Debug, Args)]
pub(super) struct Show {
    /// A round, `latest`, `parameters` or `events`.
    what: String,
    /// A transaction of the round: its place or its hash.
    transaction: Option<String>,
    /// Explicitly set block round to use.
    #[arg(long)]
    round: Option<u64>,
    #[command(flatten)]
    network: NetworkFlag,
    #[command(flatten)]
    paratime: ParaTimeFlags,
    #[command(flatten)]
    format: FormatFlag,
}

/// Which transaction of a round.
enum Wanted {
    Place(usize),
    Hash(Hash),
}

pub(super) fn run(store: &Store, show: &Show) -> Result<()> {
    let selection = Selection::paratime(store, &show.network, &show.paratime)?;
    let (name, paratime) = selection.must_have_paratime()?;
    let selector = show.what.trim().to_lowercase();
    let round = match selector.as_str() {
        "latest" | "parameters" | "events" => ROUND_LATEST,
        text => text
            .parse()
            .map_err(|_| format!("malformed block number '{text}': expected a round, latest, parameters or events"))?,
    };
    let wanted = show.transaction.as_deref().map(|text| match text.parse() {
        Ok(place) => Ok(Wanted::Place(place)),
        Err(_) => text
            .parse()
            .map(Wanted::Hash)
            .map_err(|error| CliError::new(format!("malformed tx hash '{text}': {error}"))),
    });
    let wanted = wanted.transpose()?;
    let remote = Remote::connect(selection.network_name, selection.network)?;
    let runtime = Runtime::new(&remote, paratime)?;
    if show.format.format == Format::Text {
        let described = |name: &str, description: &str| {
            if description.is_empty() { name.to_owned() } else { format!("{name} ({description})") }
        };
        outln!("Network:        {}", selection.pretty_network());
        outln!("ParaTime:       {}", described(name, &paratime.description));
    }
    match selector.as_str() {
        "parameters" => parameters(&runtime, show.round.unwrap_or(ROUND_LATEST), show.format.format),
        "events" => events(&runtime, show.round.unwrap_or(ROUND_LATEST), show.format.format),
        _ => self::round(&selection, &runtime, round, wanted),
    }
}

fn round(selection: &Selection<'_>, runtime: &Runtime<'_>, round: u64, wanted: Option<Wanted>) -> Result<()> {
    let header = runtime.block(round)?.header;
    let time = header.timestamp.to_json();
    outln!("Round:          {}", header.round);
    outln!("Version:        {}", header.version);
    outln!("Namespace:      {}", header.namespace);
    outln!("Timestamp:      {}", time.as_str().unwrap_or_default());
    outln!("Type:           {}", header.header_type.0);
    outln!("Previous:       {}", header.previous_hash);
    outln!("I/O root:       {}", header.io_root);
    outln!("State root:     {}", header.state_root);
    outln!("Messages (out): {}", header.messages_hash);
    outln!("Messages (in):  {}", header.in_messages_hash);
    let transactions = runtime.transactions(header.round)?;
    outln!("Transactions:   {}", transactions.len());
    let of_block: Vec<_> =
        runtime.events(header.round)?.into_iter().filter(|event| event.tx_hash == Some(BLOCK_TAG_HASH)).collect();
    if !of_block.is_empty() {
        outln!("\n=== Block events ===\nEvents: {}\n", of_block.len());
        print_events("  ", &of_block);
    }
    let Some(wanted) = wanted else { return Ok(()) };
    outln!();
    let place = match wanted {
        Wanted::Place(place) => place,
        Wanted::Hash(hash) => {
            let bytes = |tx: &TransactionWithResults| tx.tx.as_ref().map(|bytes| Hash::of(&[bytes.as_slice()]));
            let found = transactions.iter().position(|tx| bytes(tx) == Some(hash));
            found.ok_or_else(|| CliError::new(format!("failed to find transaction with hash {hash}")))?
        }
    };
    let tx = transactions.get(place);
    let tx = tx.ok_or_else(|| CliError::new(format!("transaction index {place} is out of range")))?;
    transaction(selection, place, tx)
}

fn transaction(selection: &Selection<'_>, place: usize, tx: &TransactionWithResults) -> Result<()> {
    let empty = Bytes::default();
    let bytes = tx.tx.as_ref().unwrap_or(&empty);
    outln!("=== Transaction {place} ===");
    match cbor::from_slice::<UnverifiedTransaction>(bytes) {
        Ok(signed) => match signed.auth_proofs.as_slice() {
            [proof] if !proof.module.is_empty() => {
                outln!("[module-specific transaction encoding scheme: {}]", proof.module);
            }
            _ => {
                outln!("Kind: oasis");
                out!("{}", pretty::signed(&signed, &pretty_context(selection, None)?));
            }
        },
        // A ParaTime that is not built on the Oasis Runtime SDK.
        Err(_) => {
            outln!("Hash: {}", Hash::of(&[bytes.as_slice()]));
            outln!("{}", shown(bytes, "transaction", "  "));
        }
    }
    outln!("\n=== Result of transaction {place} ===");
    let result = tx.result.as_ref().unwrap_or(&empty);
    match cbor::from_slice::<CallResult>(result) {
        Ok(CallResult { failed: Some(failed), .. }) => {
            outln!(
                "Status:  failed\nModule:  {}\nCode:    {}\nMessage: {}",
                failed.module,
                failed.code,
                failed.message
            );
        }
        Ok(CallResult { ok, .. }) if !ok.is_empty() => outln!("Status: ok\nData:\n{}", shown(&ok, "result", "  ")),
        Ok(CallResult { unknown, .. }) if !unknown.is_empty() => {
            outln!("Status: unknown\nData:\n{}", shown(&unknown, "result", "  "));
        }
        _ => outln!("{}", shown(result, "result", "  ")),
    }
    outln!("\n=== Events emitted by transaction {place} ===");
    let hash = Hash::of(&[bytes.as_slice()]);
    let events = tx.events.as_deref().unwrap_or_default();
    let events: Vec<_> = events.iter().filter_map(|event| Event::read(&event.key, &event.value, Some(hash))).collect();
    if events.is_empty() {
        outln!("No events emitted by this transaction.");
        return Ok(());
    }
    outln!("Events: {}\n", events.len());
    print_events("  ", &events);
    Ok(())
}

/// CBOR as JSON with hexadecimal bytes, or what it is in hexadecimal.
fn shown(bytes: &[u8], kind: &str, indent: &str) -> String {
    match pretty::generic(bytes, true) {
        Some(value) => format!("{indent}{}", pretty::indented(&value_to_string_pretty(&value), indent)),
        None => format!("{indent}[showing raw {kind} data]\n{indent}{}", hex::encode(bytes)),
    }
}

fn print_events(indent: &str, events: &[Event]) {
    for (place, event) in events.iter().enumerate() {
        outln!("{indent}--- Event {place} ---");
        outln!("{indent}Module: {}", event.module);
        outln!("{indent}Code:   {}", event.code);
        if let Some(hash) = &event.tx_hash {
            outln!("{indent}Tx hash: {hash}");
        }
        outln!("{indent}Data:\n{}\n", shown(&event.value, "event", &format!("{indent}  ")));
    }
}

fn events(runtime: &Runtime<'_>, round: u64, format: Format) -> Result<()> {
    let events = runtime.events(round)?;
    if format == Format::Json {
        let value = |event: &Event| {
            let mut out = Map::new();
            out.insert("code".to_owned(), event.code.to_json());
            out.insert("data".to_owned(), Bytes::from(event.value.as_slice()).to_json());
            out.insert("module".to_owned(), event.module.to_json());
            if let Some(value) = pretty::generic(&event.value, false) {
                out.insert("parsed".to_owned(), value);
            }
            if let Some(hash) = &event.tx_hash {
                out.insert("tx_hash".to_owned(), hash.to_json());
            }
            Value::Object(out)
        };
        outln!("{}", value_to_string_pretty(&Value::Array(events.iter().map(value).collect())));
    } else if events.is_empty() {
        outln!("No events emitted in this block.");
    } else {
        print_events("", &events);
    }
    Ok(())
}

/// Thresholds by kind.
type Thresholds = BTreeMap<String, crate::sdk::BaseUnits>;

fn parameters(runtime: &Runtime<'_>, round: u64, format: Format) -> Result<()> {
    let sections = [("rofl", "rofl.StakeThresholds"), ("rofl market", "roflmarket.StakeThresholds")];
    let mut all = Map::new();
    for (name, method) in sections {
        let found: Thresholds = runtime
            .query(round, method, &None::<u64>)
            .map_err(|error| CliError::new(format!("{method}: {error}; the ParaTime may not have this module")))?;
        all.insert(name.to_owned(), found.to_json());
    }
    if format == Format::Json {
        outln!("{}", value_to_string_pretty(&Value::Object(all)));
        return Ok(());
    }
    for (name, value) in &all {
        outln!("\n=== {} PARAMETERS ===\n{}", name.to_uppercase(), super::network_show::plain(value));
    }
    Ok(())
}
