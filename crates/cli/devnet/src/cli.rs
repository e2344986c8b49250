//! The command: its arguments, and the subcommands that look at a network or end it.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, CommandFactory as _, Parser, Subcommand};

use crate::chain::Chain;
use crate::plan::{Node, Role};
use crate::process::STOP_PATIENCE;
use crate::{DevnetError, State, session, view};

/// Name of the program.
const PROGRAM: &str = "oasis-devnet";
/// Exit code for arguments that make no sense.
const USAGE: u8 = 2;

/// A local Oasis network of real processes on this machine.
///
/// Without a subcommand it makes keys, entity and genesis document, starts all nodes, says when they are ready, sends a
/// first transaction, and stays until Ctrl-C, which stops everything.
#[derive(Debug, Parser)]
#[command(name = PROGRAM, version, args_conflicts_with_subcommands = true)]
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
    /// Show a running network, on a page or in the terminal, until Ctrl-C.
    Dashboard(Look),
    /// Print the completions for a shell.
    Completion {
        /// The shell.
        shell: clap_complete::Shell,
    },
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
pub(crate) struct Look {
    /// Directory of the network.
    #[arg(long, default_value = ".devnet")]
    pub(crate) dir: PathBuf,
    /// Port of the page on 127.0.0.1; 0: any that is free.
    #[arg(long, default_value_t = DASHBOARD_PORT)]
    pub(crate) port: u16,
    /// In the terminal in the place of a page.
    #[arg(long)]
    pub(crate) tui: bool,
    /// In the terminal, once.
    #[arg(long)]
    pub(crate) once: bool,
}

/// Port of the page, unless it is taken.
const DASHBOARD_PORT: u16 = 26_680;

#[derive(Debug, Args)]
struct At {
    /// Directory of the network.
    #[arg(long, default_value = ".devnet")]
    dir: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct Start {
    /// Directory of the network: keys, genesis, configurations, data, logs.
    #[arg(long, default_value = ".devnet")]
    pub(crate) dir: PathBuf,
    /// Throw away the network in the directory and begin anew; without it a stopped network goes on.
    #[arg(long)]
    pub(crate) reset: bool,
    /// Number of validators.
    #[arg(long, default_value_t = 3)]
    pub(crate) validators: u16,
    /// Number of client nodes.
    #[arg(long, default_value_t = 1)]
    pub(crate) clients: u16,
    /// ParaTime to run: a program, a bundle (`.orc`), or `none`; a bare name is looked for beside this program.
    #[arg(long, value_name = "PROGRAM|BUNDLE", default_value = "simple-keyvalue")]
    pub(crate) paratime: PathBuf,
    /// Number of nodes that execute the ParaTime.
    #[arg(long, default_value_t = 3)]
    pub(crate) computes: u16,
    /// Key manager of the ParaTime: a program, or `none`. It runs without an enclave: its keys are no secret on this machine.
    #[arg(long, value_name = "PROGRAM", default_value = "simple-keymanager")]
    pub(crate) key_manager: PathBuf,
    /// Number of nodes that run the key manager.
    #[arg(long, default_value_t = 1)]
    pub(crate) keymanagers: u16,
    /// Most transactions of a round.
    #[arg(long, default_value_t = 1_000)]
    pub(crate) batch: u64,
    /// Run ParaTimes without a sandbox: where bubblewrap does not work.
    #[arg(long)]
    pub(crate) unconfined: bool,
    /// Start the network that a file describes, in the form that the reference's oasis-net-runner takes.
    #[arg(long, value_name = "FILE", conflicts_with_all = [
        "validators", "clients", "paratime", "computes", "key_manager", "keymanagers", "batch", "unconfined",
    ])]
    pub(crate) fixture: Option<PathBuf>,
    /// First port; every node takes two.
    #[arg(long, default_value_t = 26_700)]
    pub(crate) base_port: u16,
    /// Time between blocks in milliseconds.
    #[arg(long, default_value_t = DEFAULT_BLOCK_TIME)]
    pub(crate) block_time: u64,
    /// Blocks per epoch.
    #[arg(long, default_value_t = DEFAULT_EPOCH_INTERVAL)]
    pub(crate) epoch_interval: i64,
    /// Name of the network.
    #[arg(long, default_value = "devnet")]
    pub(crate) chain_id: String,
    /// Port of the page that shows the network, on 127.0.0.1; if it is taken, another one.
    #[arg(long, default_value_t = DASHBOARD_PORT)]
    pub(crate) dashboard_port: u16,
    /// Show no page.
    #[arg(long)]
    pub(crate) no_dashboard: bool,
    /// Show the network in the terminal once it is ready.
    #[arg(long, conflicts_with = "detach")]
    pub(crate) tui: bool,
    /// Return as soon as the network is ready, and let it run; `oasis-devnet dashboard` shows it then.
    #[arg(long)]
    pub(crate) detach: bool,
    /// Seconds that the network may take until it is ready.
    #[arg(long, default_value_t = 120)]
    pub(crate) timeout: u64,
    /// The node program; by default `oasis-node` beside this one.
    #[arg(long)]
    pub(crate) node_binary: Option<PathBuf>,
    /// Who runs the nodes when root starts the network; made if there is no such user.
    #[arg(long, default_value = crate::user::USER_NAME)]
    pub(crate) user: String,
    /// Let root run the nodes when root starts the network.
    #[arg(long, conflicts_with = "user")]
    pub(crate) allow_root: bool,
}

/// Time between blocks in milliseconds: short, as key managers and committees take several epochs until they work.
const DEFAULT_BLOCK_TIME: u64 = 200;
/// Blocks per epoch, for the same reason.
const DEFAULT_EPOCH_INTERVAL: i64 = 10;

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
            None => session::start(cli.start).await,
            Some(Command::Status(at)) => status(&absolute(&at.dir)?).await,
            Some(Command::Stop(at)) => stop(&absolute(&at.dir)?),
            Some(Command::Dashboard(look)) => view::look(look).await,
            Some(Command::Completion { shell }) => {
                clap_complete::generate(shell, &mut Cli::command(), PROGRAM, &mut std::io::stdout());
                Ok(())
            }
            Some(Command::Load(load)) => put_load(&load).await,
        }
    });
    done.map_or_else(|error| fail(&error), |()| ExitCode::SUCCESS)
}

fn fail(error: &dyn std::error::Error) -> ExitCode {
    eprintln!("Error: {error}");
    ExitCode::FAILURE
}

pub(crate) fn absolute(dir: &Path) -> Result<PathBuf, DevnetError> {
    std::path::absolute(dir).map_err(DevnetError::io("find", dir))
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
    println!("{outcome}");
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
