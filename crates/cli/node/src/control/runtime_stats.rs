//! `oasis-node control runtime-stats`: who took part in the rounds of a runtime. Reference:
//! `go/oasis-node/cmd/control/runtime_stats.go`.

use std::collections::{BTreeMap, BTreeSet};

use base_prims::{Namespace, PublicKey};
use base_service::{out, outln};
use node_rpc::status::ConsensusStatus;
use wire_consensus::node::Node;
use wire_consensus::roothash::{Block, Event, HeaderType, RoundResults, RuntimeRequest, RuntimeState};
use wire_consensus::scheduler::{Committee, Role};

use super::MODULE;
use crate::client::Rpc;
use crate::tool::{Done, FILE_MODE, Failure, OrFail as _, write_file};

/// Module and code of "there is no such runtime".
const NO_RUNTIME: (&str, u32) = ("roothash", 3);
/// Columns of the table and of the file.
const HEADER: [&str; 13] = [
    "Entity ID",
    "Elected",
    "Primary",
    "Backup",
    "Proposer",
    "Primary invoked",
    "Primary Good commit",
    "Prim Bad commmit",
    "Bckp invoked",
    "Bckp Good commit",
    "Bckp Bad commit",
    "Primary missed",
    "Bckp missed",
];

/// What is counted of an entity.
#[derive(Default)]
struct Entity {
    elected: u64,
    primary: u64,
    backup: u64,
    proposer: u64,
    primary_invoked: u64,
    primary_good: u64,
    primary_bad: u64,
    backup_invoked: u64,
    backup_good: u64,
    backup_bad: u64,
    primary_missed: u64,
    backup_missed: u64,
}

impl Entity {
    fn row(&self, id: &PublicKey) -> Vec<String> {
        let numbers = [
            self.elected,
            self.primary,
            self.backup,
            self.proposer,
            self.primary_invoked,
            self.primary_good,
            self.primary_bad,
            self.backup_invoked,
            self.backup_good,
            self.backup_bad,
            self.primary_missed,
            self.backup_missed,
        ];
        std::iter::once(id.to_string()).chain(numbers.iter().map(u64::to_string)).collect()
    }
}

/// What is counted of a runtime.
#[derive(Default)]
struct Stats {
    rounds: u64,
    successful: u64,
    epoch_transitions: u64,
    failed: u64,
    suspended: u64,
    discrepancies: u64,
    discrepancies_timeout: u64,
    entities: BTreeMap<PublicKey, Entity>,
    /// Entities by node.
    owners: BTreeMap<PublicKey, PublicKey>,
    round: u64,
    committee: Option<Committee>,
    discrepancy: bool,
}

pub(super) fn run(node: &Rpc, runtime: &Namespace, start: Option<i64>, end: Option<i64>) -> Done {
    let status: ConsensusStatus =
        node.get("Consensus", "GetStatus").or_fail(MODULE, "failed to query consensus status")?;
    let start = start.filter(|height| *height > 0).unwrap_or(status.last_retained_height);
    let end = end.filter(|height| *height > 0).unwrap_or(status.latest_height);
    let mut stats = Stats::default();
    for height in start..end {
        stats.height(node, runtime, height, height == start)?;
    }
    let rows: Vec<_> = stats.entities.iter().map(|(id, entity)| entity.row(id)).collect();
    stats.print(&rows);
    let path = format!("runtime-{runtime}-{start}-{end}-stats.csv");
    let lines = std::iter::once(HEADER.join(",")).chain(rows.iter().map(|row| row.join(",")));
    let text: String = lines.map(|line| line + "\n").collect();
    write_file(path.as_ref(), text.as_bytes(), FILE_MODE).or_fail(MODULE, "failed to write CSV output file")
}

impl Stats {
    fn height(&mut self, node: &Rpc, runtime: &Namespace, height: i64, first: bool) -> Done {
        let request = || RuntimeRequest { runtime_id: *runtime, height };
        let nodes: Option<Vec<Node>> =
            node.call("Registry", "GetNodes", height).or_fail(MODULE, "failed to get nodes")?;
        self.owners.extend(nodes.unwrap_or_default().into_iter().map(|node| (node.id, node.entity_id)));
        let block: Block = match node.call("RootHash", "GetLatestBlock", request()) {
            Ok(block) => block,
            Err(error) if error.is(NO_RUNTIME.0, NO_RUNTIME.1) => return Ok(()),
            Err(error) => return Err(Failure::because(MODULE, "failed to get roothash block", error)),
        };
        if !first {
            // Events of a height belong to the round before.
            let events: Option<Vec<Event>> =
                node.call("RootHash", "GetEvents", height).or_fail(MODULE, "failed to get roothash events")?;
            for event in events.unwrap_or_default().iter().filter(|event| event.runtime_id == *runtime) {
                if let Some(found) = &event.execution_discrepancy {
                    let counter = if found.timeout { &mut self.discrepancies_timeout } else { &mut self.discrepancies };
                    *counter += 1;
                    self.discrepancy = true;
                }
                if event.finalized.is_some() {
                    let results: Option<RoundResults> = node
                        .call("RootHash", "GetLastRoundResults", request())
                        .or_fail(MODULE, "failed to get last round results")?;
                    self.finalized(&block, &results.unwrap_or_default());
                }
            }
        }
        if self.round != block.header.round {
            self.round = block.header.round;
            self.begin_round(node, &block, request())?;
        }
        Ok(())
    }

    fn finalized(&mut self, block: &Block, results: &RoundResults) {
        let Some(committee) = &self.committee else { return };
        if [HeaderType::EPOCH_TRANSITION, HeaderType::SUSPENDED].contains(&block.header.header_type) {
            return;
        }
        for member in committee.members() {
            let owner = self.owners.get(&member.public_key).copied().unwrap_or_default();
            let entity = self.entities.entry(owner).or_default();
            let (good, bad) =
                (results.good_compute_entities.contains(&owner), results.bad_compute_entities.contains(&owner));
            let counters = match member.role {
                Role::WORKER => {
                    entity.primary_invoked += 1;
                    [&mut entity.primary_good, &mut entity.primary_bad, &mut entity.primary_missed]
                }
                Role::BACKUP_WORKER if self.discrepancy => {
                    entity.backup_invoked += 1;
                    [&mut entity.backup_good, &mut entity.backup_bad, &mut entity.backup_missed]
                }
                _ => continue,
            };
            let [of_good, of_bad, of_missed] = counters;
            *(if good {
                of_good
            } else if bad {
                of_bad
            } else {
                of_missed
            }) += 1;
        }
    }

    fn begin_round(&mut self, node: &Rpc, block: &Block, request: RuntimeRequest) -> Done {
        self.rounds += 1;
        self.committee = None;
        match block.header.header_type {
            HeaderType::NORMAL => self.successful += 1,
            HeaderType::EPOCH_TRANSITION => self.epoch_transitions += 1,
            HeaderType::ROUND_FAILED => self.failed += 1,
            HeaderType::SUSPENDED => {
                self.suspended += 1;
                return Ok(());
            }
            other => return Err(Failure::new(MODULE, format!("unexpected block header type {}", other.0))),
        }
        let state: RuntimeState =
            node.call("RootHash", "GetRuntimeState", request).or_fail(MODULE, "failed to query runtime state")?;
        let Some(committee) = state.committee.filter(|_| state.commitment_pool.is_some()) else {
            tracing::warn!(module = MODULE, round = block.header.round, "unexpected missing committee for runtime");
            return Ok(());
        };
        let Some(scheduler) = committee.scheduler(block.header.round, 0).map(|member| member.public_key) else {
            return Err(Failure::new(MODULE, "failed to query primary scheduler, no workers in committee"));
        };
        self.discrepancy = false;
        let mut seen = BTreeSet::new();
        for member in committee.members() {
            let owner = self.owners.get(&member.public_key).copied().unwrap_or_default();
            let entity = self.entities.entry(owner).or_default();
            entity.elected += u64::from(seen.insert(member.public_key));
            entity.primary += u64::from(member.role == Role::WORKER);
            entity.backup += u64::from(member.role == Role::BACKUP_WORKER);
            entity.proposer += u64::from(member.public_key == scheduler);
        }
        self.committee = Some(committee);
        Ok(())
    }

    fn print(&self, rows: &[Vec<String>]) {
        outln!("Runtime rounds: {}", self.rounds);
        outln!("Successful rounds: {}", self.successful);
        outln!("Epoch transition rounds: {}", self.epoch_transitions);
        // Nothing counts these; the line stays for scripts.
        outln!("Proposer timeouted rounds: 0");
        outln!("Failed rounds: {}", self.failed);
        outln!("Discrepancies: {}", self.discrepancies);
        outln!("Discrepancies (timeout): {}", self.discrepancies_timeout);
        outln!("Suspended: {}", self.suspended);
        outln!("Entity stats");
        out!("{}", table(rows));
    }
}

/// A table as Markdown: headings in capitals and centred, numbers to the right.
fn table(rows: &[Vec<String>]) -> String {
    let widths: Vec<usize> = (0..HEADER.len())
        .map(|column| rows.iter().map(|row| row[column].len()).chain([HEADER[column].len()]).max().unwrap_or(0))
        .collect();
    let heading = |(name, width): (&&str, &usize)| format!(" {:^width$} ", name.to_uppercase());
    let mut lines = vec![HEADER.iter().zip(&widths).map(heading).collect::<Vec<_>>()];
    lines.push(widths.iter().map(|width| "-".repeat(width + 2)).collect());
    for row in rows {
        let cell = |(index, (text, width)): (usize, (&String, &usize))| {
            if index == 0 { format!(" {text:<width$} ") } else { format!(" {text:>width$} ") }
        };
        lines.push(row.iter().zip(&widths).enumerate().map(cell).collect());
    }
    lines.iter().map(|cells| format!("|{}|\n", cells.join("|"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_markdown() {
        let row: Vec<String> = Entity { elected: 12, ..Entity::default() }.row(&PublicKey::default());
        let text = table(&[row]);
        let lines: Vec<_> = text.lines().collect();
        assert!(lines[0].starts_with("|                  ENTITY ID                   | ELECTED | PRIMARY |"), "{text}");
        assert!(lines[1].starts_with("|----------------------------------------------|---------|"), "{text}");
        assert!(lines[2].contains("= |      12 |       0 |"), "{text}");
        assert_eq!(lines.iter().map(|line| line.len()).collect::<BTreeSet<_>>().len(), 1);
    }
}
