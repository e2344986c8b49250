//! `oasis paratime statistics`: who took part in the rounds of a ParaTime.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use base_codec::Codec;
use base_grpc::Cbor;
use base_prims::{Address, Namespace, PublicKey};
use clap::Args;
use wire_consensus::node::Node;
use wire_consensus::roothash::{Event, HeaderType, RoundResults, RuntimeRequest, RuntimeState};
use wire_consensus::scheduler::{Committee, Role};

use super::Selection;
use crate::args::{NetworkFlag, ParaTimeFlags};
use crate::config::Store;
use crate::error::{CliError, Result};
use crate::out::{out, outln};
use crate::remote::Remote;

const HEADER: [&str; 15] = [
    "Entity Addr",
    "Entity Name",
    "Elected",
    "Primary",
    "Backup",
    "Prim Good Commit",
    "Prim Bad Commit",
    "Prim Missed",
    "Bckp Invoked",
    "Bckp Good Commit",
    "Bckp Bad Commit",
    "Bckp Missed",
    "Primary Proposer",
    "Prim Proposed",
    "Bckp Proposed",
];
/// Said every so many heights.
const PROGRESS: i64 = 1000;

#[derive(Debug, Args)]
pub(super) struct Statistics {
    /// First height; negative: so many before the end; 0: the oldest that the node has.
    #[arg(allow_negative_numbers = true, default_value_t = -1)]
    start: i64,
    /// Height after the last; 0: the newest.
    #[arg(default_value_t = 0)]
    end: i64,
    /// Output statistics into specified CSV file.
    #[arg(short = 'o', long)]
    output_file: Option<PathBuf>,
    #[command(flatten)]
    network: NetworkFlag,
    #[command(flatten)]
    paratime: ParaTimeFlags,
}

/// What is counted of an entity, in the order of the table.
#[derive(Debug, Default)]
struct Entity {
    elected: u64,
    primary: u64,
    backup: u64,
    primary_good: u64,
    primary_bad: u64,
    primary_missed: u64,
    backup_invoked: u64,
    backup_good: u64,
    backup_bad: u64,
    backup_missed: u64,
    proposer: u64,
    primary_proposed: u64,
    backup_proposed: u64,
}

#[derive(Debug, Default)]
struct Stats {
    rounds: u64,
    successful: u64,
    epoch_transitions: u64,
    failed: u64,
    suspended: u64,
    discrepancies: u64,
    timeouts: u64,
    entities: BTreeMap<Address, Entity>,
    /// Entities by node.
    owners: BTreeMap<PublicKey, PublicKey>,
    /// Who proposed the round in progress.
    scheduler: Option<PublicKey>,
    discrepancy: bool,
}

/// The part of a node's status that matters here.
#[derive(Debug, Default, Codec)]
#[codec(cbor_only)]
struct Retained {
    last_retained_height: i64,
}

#[derive(Debug, Clone, Default, Codec)]
#[codec(cbor_only)]
struct IdQuery {
    height: i64,
    id: PublicKey,
}

struct Reader<'a> {
    remote: &'a Remote,
    id: Namespace,
}

pub(super) fn run(store: &Store, args: &Statistics) -> Result<()> {
    let selection = Selection::paratime(store, &args.network, &args.paratime)?;
    let (_, paratime) = selection.must_have_paratime()?;
    let id = paratime.namespace()?;
    let remote = Remote::connect(selection.network_name, selection.network)?;
    let end = remote.height(args.end)?;
    let start = match args.start {
        0 => remote.call::<_, Retained>("Consensus", "GetStatus", &())?.last_retained_height,
        before if before < 0 => end
            .checked_add(before)
            .filter(|start| *start > 0)
            .ok_or_else(|| CliError::new(format!("start-height {before} will underflow end-height {end}")))?,
        start => start,
    };
    outln!("=== PARATIME STATISTICS ===");
    outln!("{:<26} {}", "Network:", selection.pretty_network());
    outln!("{:<26} {id}", "ParaTime ID:");
    outln!("{:<26} {start:>8}", "Start height:");
    outln!("{:<26} {end:>8}", "End height:");
    let reader = Reader { remote: &remote, id };
    let mut stats = Stats::default();
    // A round may have begun before the first height.
    if let Ok(Some(state)) = reader.state(start - 1)
        && let Some(pool) = &state.commitment_pool
    {
        stats.discrepancy = pool.discrepancy;
    }
    for height in start..end {
        if height % PROGRESS == 0 {
            outln!("progressed: height: {height}");
        }
        stats.block(&reader, height)?;
    }
    stats.print();
    let rows = stats.rows();
    match &args.output_file {
        None => {
            outln!("\n=== ENTITY STATISTICS ===");
            out!("{}", boxed(&rows));
            Ok(())
        }
        Some(path) => {
            let lines = std::iter::once(HEADER.map(str::to_owned).to_vec()).chain(rows);
            let text: String = lines.map(|row| row.join(",") + "\n").collect();
            std::fs::write(path, text).map_err(CliError::file("write", path))
        }
    }
}

impl Reader<'_> {
    fn request(&self, height: i64) -> Cbor<RuntimeRequest> {
        Cbor(RuntimeRequest { runtime_id: self.id, height })
    }

    /// `None` before the ParaTime was there.
    fn state(&self, height: i64) -> Result<Option<RuntimeState>> {
        if height < 1 {
            return Ok(None);
        }
        match self.remote.call("RootHash", "GetRuntimeState", &self.request(height)) {
            Ok(state) => Ok(Some(state)),
            Err(error) if error.to_string().contains("invalid runtime") => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl Stats {
    fn block(&mut self, reader: &Reader<'_>, height: i64) -> Result<()> {
        let Some(state) = reader.state(height)? else { return Ok(()) };
        let (Some(committee), Some(_)) = (&state.committee, &state.commitment_pool) else { return Ok(()) };
        let events: Option<Vec<Event>> = reader.remote.call("RootHash", "GetEvents", &Cbor(height))?;
        for event in events.into_iter().flatten().filter(|event| event.runtime_id == reader.id) {
            if let Some(committed) = &event.executor_committed {
                if committed.commit.node_id == committed.commit.header.scheduler_id {
                    self.scheduler = Some(committed.commit.node_id);
                }
            } else if let Some(discrepancy) = &event.execution_discrepancy {
                if discrepancy.timeout {
                    self.timeouts += 1;
                } else {
                    self.discrepancies += 1;
                }
                self.discrepancy = true;
            } else if event.finalized.is_some() {
                self.finalized(reader, height, &state, committee)?;
                self.discrepancy = false;
            }
        }
        Ok(())
    }

    fn finalized(
        &mut self,
        reader: &Reader<'_>,
        height: i64,
        state: &RuntimeState,
        committee: &Committee,
    ) -> Result<()> {
        let header = &state.last_block.header;
        self.rounds += 1;
        match header.header_type {
            HeaderType::NORMAL => self.successful += 1,
            HeaderType::ROUND_FAILED => self.failed += 1,
            HeaderType::EPOCH_TRANSITION => {
                self.epoch_transitions += 1;
                return Ok(());
            }
            HeaderType::SUSPENDED => {
                self.suspended += 1;
                return Ok(());
            }
            other => return Err(format!("unexpected block header type {} at height {height}", other.0).into()),
        }
        let first = committee
            .scheduler(header.round, 0)
            .map(|member| member.public_key)
            .ok_or("failed to query primary scheduler, no workers in committee")?;
        let results: RoundResults = reader.remote.call("RootHash", "GetLastRoundResults", &reader.request(height))?;
        let mut seen = BTreeSet::new();
        for member in committee.members() {
            let owner = self.owner(reader, height, member.public_key)?;
            let good = results.good_compute_entities.contains(&owner);
            let bad = !good && results.bad_compute_entities.contains(&owner);
            let (scheduler, discrepancy) = (self.scheduler, self.discrepancy);
            let entity = self.entities.entry(Address::of_key(&owner)).or_default();
            entity.elected += u64::from(seen.insert(member.public_key));
            match member.role {
                Role::WORKER => {
                    entity.primary += 1;
                    entity.primary_good += u64::from(good);
                    entity.primary_bad += u64::from(bad);
                    entity.primary_missed += u64::from(!good && !bad);
                    entity.proposer += u64::from(member.public_key == first);
                    if Some(member.public_key) == scheduler {
                        entity.primary_proposed += u64::from(member.public_key == first);
                        entity.backup_proposed += u64::from(member.public_key != first);
                    }
                }
                Role::BACKUP_WORKER => {
                    entity.backup += 1;
                    if discrepancy {
                        entity.backup_invoked += 1;
                        entity.backup_good += u64::from(good);
                        entity.backup_bad += u64::from(bad);
                        entity.backup_missed += u64::from(!good && !bad);
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The entity of a node; it never changes.
    fn owner(&mut self, reader: &Reader<'_>, height: i64, node: PublicKey) -> Result<PublicKey> {
        if let Some(owner) = self.owners.get(&node) {
            return Ok(*owner);
        }
        let found: Node = reader.remote.call("Registry", "GetNode", &Cbor(IdQuery { height, id: node }))?;
        self.owners.insert(node, found.entity_id);
        Ok(found.entity_id)
    }

    fn print(&self) {
        let lines = [
            ("ParaTime rounds:", self.rounds),
            ("Successful rounds:", self.successful),
            ("Epoch transition rounds:", self.epoch_transitions),
            // The reference shows this line, and counts nothing for it.
            ("Proposer timed out rounds:", 0),
            ("Failed rounds:", self.failed),
            ("Discrepancies:", self.discrepancies),
            ("Discrepancies (timeout):", self.timeouts),
            ("Suspended:", self.suspended),
        ];
        for (title, count) in lines {
            outln!("{title:<26} {count}");
        }
    }

    fn rows(&self) -> Vec<Vec<String>> {
        let row = |(address, entity): (&Address, &Entity)| {
            let numbers = [
                entity.elected,
                entity.primary,
                entity.backup,
                entity.primary_good,
                entity.primary_bad,
                entity.primary_missed,
                entity.backup_invoked,
                entity.backup_good,
                entity.backup_bad,
                entity.backup_missed,
                entity.proposer,
                entity.primary_proposed,
                entity.backup_proposed,
            ];
            // Names are from a public list that this command does not fetch.
            let names = [address.to_string(), String::new()];
            names.into_iter().chain(numbers.iter().map(u64::to_string)).collect::<Vec<_>>()
        };
        let mut rows: Vec<_> = self.entities.iter().map(row).collect();
        rows.sort();
        rows
    }
}

/// A table with lines between its columns and below its head.
fn boxed(rows: &[Vec<String>]) -> String {
    let header = HEADER.map(str::to_uppercase);
    let cell = |row: &[String], column: usize| row.get(column).map_or(0, |cell| cell.chars().count());
    let width = |column: usize| rows.iter().map(|row| cell(row, column)).max().unwrap_or(0).max(cell(&header, column));
    let widths: Vec<usize> = (0..HEADER.len()).map(width).collect();
    let line = |row: &[String], centred: bool| {
        let cells = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| if centred { format!(" {cell:^width$} ") } else { format!(" {cell:<width$} ") });
        format!("|{}|\n", cells.collect::<Vec<_>>().join("|"))
    };
    let dashes: Vec<String> = widths.iter().map(|width| "-".repeat(width + 2)).collect();
    let mut out = line(&header, true);
    out.push_str(&format!("|{}|\n", dashes.join("+")));
    rows.iter().for_each(|row| out.push_str(&line(row, false)));
    out
}
