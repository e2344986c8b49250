//! The command: arguments, progress, the first transaction, waiting, stopping.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use base_crypto::context::ChainContext;
use base_prims::Quantity;
use base_service::signals;
use clap::{Args, Parser, Subcommand};

use crate::chain::Chain;
use crate::keyvalue::KeyValue;
use crate::plan::{Node, ParaTime, Role};
use crate::process::STOP_PATIENCE;
use crate::{DevnetError, Network, Plan, Running, State};

/// How often the network is asked whether it is ready.
const POLL: Duration = Duration::from_millis(100);
/// How often it is looked at whether all nodes still run.
const WATCH: Duration = Duration::from_millis(500);
/// What the first transaction moves, in base units.
const FIRST_TRANSFER: u64 = 1_000_000_000;
/// Exit code for arguments that make no sense.
const USAGE: u8 = 2;

/// A local Oasis network of real processes on this machine.
///
/// Without a subcommand it makes keys, entity and genesis document, starts all nodes, says when they are ready, sends a
/// first transaction, and stays until Ctrl-C, which stops everything.
#[derive(Debug, Parser)]
#[command(name = "oasis-devnet", version, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    start: Start,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show the nodes of a network and how they stand.
    Status(At),
    /// Stop a network that was started with --detach, or left behind.
    Stop(At),
    /// Put load on the ParaTime of a running network and show how many transactions it executes, and how fast.
    Load(Load),
}

#[derive(Debug, Args)]
struct Load {
    /// Directory of the network.
    #[arg(long, default_value = ".devnet")]
    dir: PathBuf,
    /// Senders; each waits for its transaction's result before it sends the next.
    #[arg(long, default_value_t = 100)]
    senders: usize,
    /// For how long, in seconds.
    #[arg(long, default_value_t = 30)]
    seconds: u64,
    /// Bytes of the values that are set.
    #[arg(long, default_value_t = 32)]
    value_bytes: usize,
    /// Through which node; by default the first client.
    #[arg(long)]
    node: Option<String>,
}

#[derive(Debug, Args)]
struct At {
    /// Directory of the network.
    #[arg(long, default_value = ".devnet")]
    dir: PathBuf,
}

#[derive(Debug, Args)]
struct Start {
    /// Directory of the network: keys, genesis, configurations, data, logs.
    #[arg(long, default_value = ".devnet")]
    dir: PathBuf,
    /// Throw away the network in the directory and begin anew; without it a stopped network goes on.
    #[arg(long)]
    reset: bool,
    /// Number of validators.
    #[arg(long, default_value_t = 3)]
    validators: u16,
    /// Number of client nodes.
    #[arg(long, default_value_t = 1)]
    clients: u16,
    /// Program of a ParaTime to run; `simple-keyvalue` stands for the one beside this program.
    #[arg(long, value_name = "PROGRAM")]
    paratime: Option<PathBuf>,
    /// Number of nodes that execute the ParaTime.
    #[arg(long, default_value_t = 3, requires = "paratime")]
    computes: u16,
    /// Most transactions of a round.
    #[arg(long, default_value_t = 1_000, requires = "paratime")]
    batch: u64,
    /// Run the ParaTime without a sandbox: where bubblewrap is missing.
    #[arg(long, requires = "paratime")]
    unconfined: bool,
    /// First port; every node takes two.
    #[arg(long, default_value_t = 26_700)]
    base_port: u16,
    /// Time between blocks in milliseconds.
    #[arg(long, default_value_t = 500)]
    block_time: u64,
    /// Blocks per epoch.
    #[arg(long, default_value_t = 20)]
    epoch_interval: i64,
    /// Name of the network.
    #[arg(long, default_value = "devnet")]
    chain_id: String,
    /// Return as soon as the network is ready, and let it run.
    #[arg(long)]
    detach: bool,
    /// Seconds that the network may take until it is ready.
    #[arg(long, default_value_t = 60)]
    timeout: u64,
    /// The node program; by default `oasis-node` beside this one.
    #[arg(long)]
    node_binary: Option<PathBuf>,
}

/// Runs the command and gives its exit code.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are not failures.
            let code = if error.use_stderr() { ExitCode::from(USAGE) } else { ExitCode::SUCCESS };
            let _ = error.print();
            return code;
        }
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error),
    };
    let done = runtime.block_on(async {
        match cli.command {
            None => start(cli.start).await,
            Some(Command::Status(at)) => status(&absolute(&at.dir)?).await,
            Some(Command::Stop(at)) => stop(&absolute(&at.dir)?),
            Some(Command::Load(load)) => put_load(&load).await,
        }
    });
    done.map_or_else(|error| fail(&error), |()| ExitCode::SUCCESS)
}

fn fail(error: &dyn std::error::Error) -> ExitCode {
    eprintln!("Error: {error}");
    ExitCode::FAILURE
}

fn absolute(dir: &Path) -> Result<PathBuf, DevnetError> {
    std::path::absolute(dir).map_err(DevnetError::io("find", dir))
}

/// The node program: as named, or beside this one.
fn node_binary(named: Option<PathBuf>) -> PathBuf {
    named.unwrap_or_else(|| {
        let own = std::env::current_exe().unwrap_or_default();
        own.with_file_name("oasis-node")
    })
}

/// The ParaTime's program: a path, or the name of one beside this program.
fn paratime_binary(named: PathBuf) -> PathBuf {
    if named.components().count() > 1 || named.is_file() {
        return std::path::absolute(&named).unwrap_or(named);
    }
    std::env::current_exe().unwrap_or_default().with_file_name(named)
}

async fn start(start: Start) -> Result<(), DevnetError> {
    let began = Instant::now();
    let dir = absolute(&start.dir)?;
    let plan = Plan {
        dir: dir.clone(),
        validators: start.validators,
        clients: start.clients,
        paratime: start.paratime.map(|program| ParaTime {
            binary: paratime_binary(program),
            computes: start.computes,
            sandboxed: !start.unconfined,
            checkpoint_interval: 0,
            max_batch_size: start.batch,
        }),
        base_port: start.base_port,
        block_time: Duration::from_millis(start.block_time),
        epoch_interval: start.epoch_interval,
        chain_id: start.chain_id,
        genesis_time: SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .ok()
            .and_then(|since| i64::try_from(since.as_secs()).ok())
            .unwrap_or(0),
    };
    plan.check()?;
    let binary = node_binary(start.node_binary);
    if !binary.is_file() {
        return Err(DevnetError::NoBinary { path: binary });
    }
    let old = State::load(&dir)?;
    if let Some(old) = &old {
        if start.reset {
            old.stop(STOP_PATIENCE);
            old.remove()?;
        } else if let Some((node, pid)) = old.running().first() {
            return Err(DevnetError::Running { dir, pid: *pid, node: node.name.clone() });
        }
    }
    let kept = old.filter(|_| !start.reset);
    let (nodes, chain_context, resumed) = match kept {
        Some(state) => {
            println!("resuming the network in {} (--reset begins anew)", dir.display());
            (state.nodes.into_iter().map(|(node, _)| node).collect(), state.chain_context, true)
        }
        None => {
            plan.check_ports()?;
            let network = Network::create(plan.clone())?;
            State::new(&plan, &network.chain_context, &[]).save()?;
            println!("made keys, entity and genesis document in {}", dir.display());
            (network.nodes(), network.chain_context, false)
        }
    };
    if rustix::process::geteuid().is_root() {
        println!("running the nodes as root: common.debug.allow_root is set in their configurations");
    }

    let stop = signals::stop_token().map_err(DevnetError::io("catch signals of", &dir))?;
    let mut running = Running::new(&binary, nodes.clone())?;
    running.start_all()?;
    save(&dir, &chain_context, &nodes, &running.pids())?;
    println!("started {} nodes", nodes.len());
    let ready = tokio::select! {
        ready = wait_ready(&nodes, &mut running, Duration::from_secs(start.timeout), &dir) => ready,
        () = stop.cancelled() => return finish(&dir, &chain_context, &nodes, running),
    };
    let height = ready?;
    println!("ready after {:.1} s at height {height}", began.elapsed().as_secs_f64());
    first_transaction(&dir, &chain_context, &nodes, resumed).await?;
    first_round(&nodes, &mut running, Duration::from_secs(start.timeout), &dir).await?;
    describe(&dir, &chain_context, &nodes);
    if start.detach {
        running.release();
        println!("the network runs on; stop it with `oasis-devnet stop --dir {}`", dir.display());
        return Ok(());
    }
    println!("press Ctrl-C to stop");
    loop {
        tokio::select! {
            () = stop.cancelled() => return finish(&dir, &chain_context, &nodes, running),
            () = tokio::time::sleep(WATCH) => {}
        }
        if let Some(ended) = running.ended() {
            return Err(ended);
        }
    }
}

fn save(dir: &Path, chain_context: &str, nodes: &[Node], pids: &[Option<u32>]) -> Result<(), DevnetError> {
    let pids = pids.iter().copied().chain(std::iter::repeat(None));
    let nodes = nodes.iter().cloned().zip(pids).collect();
    State { dir: dir.to_owned(), chain_context: chain_context.to_owned(), nodes }.save()
}

fn finish(dir: &Path, chain_context: &str, nodes: &[Node], mut running: Running) -> Result<(), DevnetError> {
    println!("stopping {} nodes", nodes.len());
    let forced = running.stop();
    for node in &forced {
        println!("{node} did not end within {} s and was killed", STOP_PATIENCE.as_secs());
    }
    save(dir, chain_context, nodes, &[])?;
    println!("stopped; nothing is left running");
    Ok(())
}

/// Waits until every node answers, has caught up, and the network has made two blocks since.
async fn wait_ready(nodes: &[Node], running: &mut Running, patience: Duration, dir: &Path) -> Result<i64, DevnetError> {
    let until = Instant::now() + patience;
    let mut waiting: Vec<&Node> = nodes.iter().filter(|node| node.role != Role::Seed).collect();
    let all = waiting.len();
    let mut height = 0;
    while !waiting.is_empty() {
        if let Some(ended) = running.ended() {
            return Err(ended);
        }
        if Instant::now() > until {
            let names: Vec<_> = waiting.iter().map(|node| node.name.as_str()).collect();
            let what = format!("{} not in sync", names.join(", "));
            return Err(DevnetError::NotReady { seconds: patience.as_secs(), what, dir: dir.to_owned() });
        }
        let mut still = Vec::new();
        for node in waiting {
            match synced_height(node).await {
                Some(at) => {
                    height = height.max(at);
                    println!("  {} is in sync at height {at} ({}/{all})", node.name, all - still.len());
                }
                None => still.push(node),
            }
        }
        waiting = still;
        tokio::time::sleep(POLL).await;
    }
    Ok(height)
}

/// The node's height, once it has caught up and has a block.
async fn synced_height(node: &Node) -> Option<i64> {
    let chain = Chain::connect(node).await.ok()?;
    if !chain.is_synced().await.ok()? {
        return None;
    }
    chain.height().await.ok().filter(|height| *height > 0)
}

/// Moves tokens from one funded account to another, and shows what both have.
async fn first_transaction(dir: &Path, chain_context: &str, nodes: &[Node], resumed: bool) -> Result<(), DevnetError> {
    let last = nodes.iter().rev().find(|node| node.role != Role::Seed);
    let (Some(node), false) = (last, resumed) else { return Ok(()) };
    let fault = |message: String| DevnetError::Call { node: node.name.clone(), message };
    let context = ChainContext::parse(chain_context).map_err(|error| fault(error.to_string()))?;
    let accounts = crate::network::accounts(dir, crate::keys::load_key)?;
    let [from, to, ..] = accounts.as_slice() else { return Ok(()) };
    let chain = Chain::connect(node).await?;
    let amount = Quantity::from(FIRST_TRANSFER);
    let began = Instant::now();
    let hash = chain.transfer(&context, &from.key, to.address, &amount).await?;
    let balance = chain.account(to.address).await?.general.balance;
    println!(
        "sent {amount} base units from {} to {}: transaction {hash}, in a block after {:.1} s; {} now has {balance}",
        from.name,
        to.name,
        began.elapsed().as_secs_f64(),
        to.name,
    );
    Ok(())
}

/// Waits until the ParaTime has a committee, and has it execute a transaction.
async fn first_round(nodes: &[Node], running: &mut Running, patience: Duration, dir: &Path) -> Result<(), DevnetError> {
    let Some(node) = nodes.iter().rev().find(|node| matches!(node.role, Role::Compute | Role::Client)) else {
        return Ok(());
    };
    if !nodes.iter().any(|node| node.role == Role::Compute) {
        return Ok(());
    }
    let paratime = KeyValue::connect(node).await?;
    let until = Instant::now() + patience;
    loop {
        // The first rounds are those of the genesis block and of the elections.
        let standing = match paratime.newest().await {
            Ok(block) if block.header.round > 1 => break,
            Ok(block) => format!("round {}", block.header.round),
            Err(error) => error.to_string(),
        };
        if let Some(ended) = running.ended() {
            return Err(ended);
        }
        if Instant::now() > until {
            let what = format!("ParaTime has no committee yet ({standing})");
            return Err(DevnetError::NotReady { seconds: patience.as_secs(), what, dir: dir.to_owned() });
        }
        tokio::time::sleep(POLL).await;
    }
    // The same as in an earlier run would be refused for its nonce.
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos().to_string();
    let began = Instant::now();
    let meta = paratime.submit(paratime.insertion(now.as_bytes(), 0, "first", &now)).await?;
    if let Some(error) = meta.check_tx_error {
        return Err(DevnetError::Call { node: node.name.clone(), message: format!("ParaTime refuses: {error}") });
    }
    println!(
        "the ParaTime {} executed a transaction in round {} after {:.1} s",
        crate::paratime::id(),
        meta.round,
        began.elapsed().as_secs_f64()
    );
    Ok(())
}

fn describe(dir: &Path, chain_context: &str, nodes: &[Node]) {
    println!("\nchain context  {chain_context}");
    println!("genesis        {}", crate::plan::genesis_file(dir).display());
    for node in nodes {
        let (name, p2p, socket) = (&node.name, node.p2p_port, node.socket());
        println!(
            "{name:<14} consensus 127.0.0.1:{}  p2p 127.0.0.1:{p2p}  unix:{}",
            node.consensus_port,
            socket.display()
        );
    }
    println!("accounts       keys below {}", dir.join("accounts").display());
    if let Some(node) = nodes.iter().rev().find(|node| node.role != Role::Seed) {
        println!("try            oasis-node control status -a unix:{}\n", node.socket().display());
    }
}

async fn status(dir: &Path) -> Result<(), DevnetError> {
    let state = State::load(dir)?.ok_or_else(|| DevnetError::Missing { dir: dir.to_owned() })?;
    let running: Vec<_> = state.running().into_iter().map(|(node, pid)| (node.name.clone(), pid)).collect();
    for (node, _) in &state.nodes {
        let pid = running.iter().find(|(name, _)| *name == node.name).map(|(_, pid)| *pid);
        let line = match pid {
            None => "stopped".to_owned(),
            Some(pid) if node.role == Role::Seed => format!("runs as {pid}"),
            Some(pid) => match standing(node).await {
                Ok(text) => format!("runs as {pid}, {text}"),
                Err(error) => format!("runs as {pid}, does not answer: {error}"),
            },
        };
        println!("{:<14} {line}", node.name);
    }
    Ok(())
}

async fn put_load(load: &Load) -> Result<(), DevnetError> {
    let dir = absolute(&load.dir)?;
    let state = State::load(&dir)?.ok_or_else(|| DevnetError::Missing { dir: dir.clone() })?;
    let chosen = |node: &Node| load.node.as_ref().map_or(node.role == Role::Client, |name| *name == node.name);
    let node = state.nodes.iter().map(|(node, _)| node).find(|node| chosen(node));
    let node = node.ok_or_else(|| DevnetError::Plan("the network has no such node".to_owned()))?;
    let outcome = crate::load::run(node, load.senders, load.seconds, load.value_bytes).await?;
    println!(
        "{} transactions in {:.1} s: {:.0} per second, in {} rounds; result after {:.2} s (half), {:.2} s (9 of 10), \
         {:.2} s (99 of 100); {} failed",
        outcome.executed,
        outcome.took.as_secs_f64(),
        outcome.rate(),
        outcome.rounds,
        outcome.within(50).as_secs_f64(),
        outcome.within(90).as_secs_f64(),
        outcome.within(99).as_secs_f64(),
        outcome.failed,
    );
    if let Some(reason) = outcome.first_failure {
        println!("first failure: {reason}");
    }
    Ok(())
}

async fn standing(node: &Node) -> Result<String, DevnetError> {
    let chain = Chain::connect(node).await?;
    let (height, epoch) = (chain.height().await?, chain.epoch(0).await?);
    let synced = if chain.is_synced().await? { "in sync" } else { "catching up" };
    Ok(format!("height {height}, epoch {epoch}, {synced}"))
}

fn stop(dir: &Path) -> Result<(), DevnetError> {
    let state = State::load(dir)?.ok_or_else(|| DevnetError::Missing { dir: dir.to_owned() })?;
    let (count, forced) = state.stop(STOP_PATIENCE);
    for node in &forced {
        println!("{node} did not end within {} s and was killed", STOP_PATIENCE.as_secs());
    }
    println!("stopped {count} nodes");
    Ok(())
}
