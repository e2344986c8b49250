//! Times transactions of the key-value ParaTime in a network of three compute nodes, with rounds that end as soon as they
//! can.
//!
//! `throughput DIR NODE RUNTIME BLOCK_MS SECONDS SENDERS...`: makes a network in DIR, runs it with the program NODE and the
//! ParaTime RUNTIME, and lets one number of senders after the other submit through a client for so many seconds.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use cli_devnet::keyvalue::KeyValue;
use cli_devnet::load;
use cli_devnet::process::with_descendants;
use cli_devnet::trial::{self, synced, until, usage};
use cli_devnet::{Network, ParaTime, Plan, Role, Running};
use wire_consensus::genesis::Document;

const PATIENCE: u64 = 600;
/// Most transactions of a round.
const BATCH: u64 = 10_000;
/// How long a scheduler waits for a full batch, in nanoseconds: the least that a descriptor may have.
const FLUSH: i64 = 50_000_000;
/// Bytes of a value.
const VALUE: usize = 100;

#[tokio::main]
async fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().collect();
    let [_, dir, program, runtime, block, seconds, senders @ ..] = args.as_slice() else {
        bail!("throughput DIR NODE RUNTIME BLOCK_MS SECONDS SENDERS...")
    };
    let paratime =
        ParaTime { binary: PathBuf::from(runtime), sandboxed: false, max_batch_size: BATCH, ..ParaTime::default() };
    let mut plan = Plan {
        dir: PathBuf::from(dir),
        validators: 3,
        clients: 1,
        paratime: Some(paratime),
        block_time: Duration::from_millis(block.parse()?),
        epoch_interval: 120,
        genesis_time: trial::now(),
        ..Plan::default()
    };
    plan.base_port = plan.free_base_port()?;
    let network = Network::create(plan)?;
    let nodes = network.nodes();
    let file = network.plan.genesis_file();
    let mut document = Document::from_json(&std::fs::read_to_string(&file)?)?;
    for runtime in &mut document.registry.runtimes {
        runtime.txn_scheduler.batch_flush_timeout = FLUSH;
    }
    std::fs::write(&file, document.to_canonical_json())?;

    let mut running = Running::new(Path::new(program), nodes.clone())?;
    running.start_all()?;
    let client = nodes.iter().find(|node| node.role == Role::Client).context("a client")?;
    synced(client, PATIENCE).await;
    let keys = KeyValue::connect(client).await?;
    until("a round after the first", PATIENCE, async || keys.newest().await.ok().filter(|b| b.header.round > 1)).await;
    for senders in senders {
        let outcome = load::run(client, senders.parse()?, seconds.parse()?, VALUE).await?;
        println!(
            "{senders} senders: {outcome}{}",
            outcome.first_failure.as_deref().map_or_else(String::new, |r| format!(": {r}"))
        );
        for (node, pid) in nodes.iter().zip(running.pids()) {
            let Some(pid) = pid.filter(|_| node.role != Role::Seed) else { continue };
            println!("  {}: {}", node.name, usage(pid));
            for child in with_descendants(&[pid]).into_iter().filter(|child| *child != pid) {
                println!("    {child}: {}", usage(child));
            }
        }
    }
    running.stop();
    Ok(())
}
