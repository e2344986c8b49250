//! One run of a network: who runs the nodes, start, progress until it works, first transactions, waiting, stopping.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use base_crypto::context::ChainContext;
use base_prims::Quantity;
use base_service::signals;
use tokio_util::sync::CancellationToken;

use crate::blueprint::Blueprint;
use crate::chain::Chain;
use crate::cli::{Start, absolute};
use crate::keyvalue::KeyValue;
use crate::plan::{KeyManager, Node, ParaTime, Role, find_program};
use crate::process::{STOP_PATIENCE, memory};
use crate::state::Hosted;
use crate::user::{USER_NAME, User, check_sandbox};
use crate::view::{Page, Screen};
use crate::{DevnetError, Network, Plan, Running, State, keys, paratime};

/// How often the network is asked whether it is ready.
const POLL: Duration = Duration::from_millis(100);
/// How often it is looked at whether all nodes still run.
const WATCH: Duration = Duration::from_millis(500);
/// What the first transaction moves, in base units.
const FIRST_TRANSFER: u64 = 1_000_000_000;
/// The node program.
const NODE_PROGRAM: &str = "oasis-node";
/// The program that makes sandboxes, where nodes look for it.
const SANDBOX_PROGRAM: &str = "/usr/bin/bwrap";
/// What stands for no ParaTime and no key manager.
const NONE: &str = "none";
/// The key that the first transaction of a ParaTime sets.
const FIRST_KEY: &str = "first";

/// Runs a network.
pub(crate) async fn start(start: Start) -> Result<(), DevnetError> {
    let began = Instant::now();
    let dir = absolute(&start.dir)?;
    let mut plan = plan(&start, dir.clone())?;
    plan.check()?;
    let blueprint = plan.blueprint()?;
    blueprint.notes.iter().for_each(|note| println!("{note}"));
    let binary = start.node_binary.clone().or_else(|| blueprint.node_binary.clone());
    let binary = binary.unwrap_or_else(|| find_program(PathBuf::from(NODE_PROGRAM)));
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
    let resumed = kept.is_some();
    let (state, user) = match kept {
        Some(state) => {
            println!("resuming the network in {} (--reset begins anew)", dir.display());
            let user = state.user.as_deref().map(User::find_or_create).transpose()?.map(|(user, _)| user);
            (state, user)
        }
        None => {
            plan.check_ports()?;
            plan.user = choose_user(&start, &blueprint, &dir, &binary)?;
            let user = plan.user.clone();
            let network = Network::create(plan)?;
            let state = State::new(&network)?;
            state.save()?;
            println!("made keys, entity and genesis document in {}", dir.display());
            (state, user)
        }
    };
    let stop = signals::stop_token().map_err(DevnetError::io("catch signals of", &dir))?;
    let nodes = state.nodes.iter().map(|(node, _)| node.clone()).collect();
    let mut running = Running::new(&binary, nodes)?.with_user(user);
    running.start_all()?;
    state.clone().with_pids(&running.pids()).save()?;
    println!("started {} nodes", running.pids().iter().flatten().count());
    let page = if start.no_dashboard || start.detach {
        None
    } else {
        Some(Page::start(&state, start.dashboard_port, &stop).await?)
    };
    if let Some(page) = &page {
        println!("the network can be watched at http://{}/", page.address);
    }
    let mut session =
        Session { state, running, patience: Duration::from_secs(start.timeout), began, stop, resumed, page };
    if blueprint.has_mock_epochs {
        println!("epochs stand still until `oasis-node debug control set-epoch` moves them");
    }
    let stopped = session.stop.clone();
    let up = tokio::select! {
        up = session.bring_up(blueprint.has_mock_epochs) => up,
        () = stopped.cancelled() => return session.finish(),
    };
    up?;
    session.describe();
    if start.detach {
        session.running.release();
        println!("the network runs on; stop it with `oasis-devnet stop --dir {}`", dir.display());
        return Ok(());
    }
    println!("press Ctrl-C to stop");
    session.watch(start.tui).await
}

/// What the arguments ask for.
fn plan(start: &Start, dir: PathBuf) -> Result<Plan, DevnetError> {
    let named = |path: &Path| (path.as_os_str() != NONE).then(|| find_program(path.to_owned()));
    let mut paratime = match named(&start.paratime).filter(|_| start.fixture.is_none()) {
        Some(binary) => Some(ParaTime {
            bundle: paratime::inspect(&binary)?,
            binary,
            keymanager: named(&start.key_manager).map(|binary| KeyManager { binary, nodes: start.keymanagers }),
            computes: start.computes,
            sandboxed: !start.unconfined,
            checkpoint_interval: 0,
            max_batch_size: start.batch,
        }),
        None => None,
    };
    if let Some(paratime) = &mut paratime
        && paratime.bundle.is_some_and(|bundle| !bundle.id.is_test())
        && paratime.keymanager.take().is_some()
    {
        println!("no key manager: outside of enclaves only ParaTimes whose id begins with 80 may have one");
    }
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Ok(Plan {
        dir,
        validators: start.validators,
        clients: start.clients,
        paratime,
        fixture: start.fixture.clone(),
        base_port: start.base_port,
        block_time: Duration::from_millis(start.block_time),
        epoch_interval: start.epoch_interval,
        chain_id: start.chain_id.clone(),
        genesis_time: i64::try_from(since.as_secs()).unwrap_or(0),
        user: None,
    })
}

/// Who is to run the nodes; says so if root started the network. Checks that there can be sandboxes.
fn choose_user(start: &Start, blueprint: &Blueprint, dir: &Path, binary: &Path) -> Result<Option<User>, DevnetError> {
    let sandbox = blueprint.nodes.iter().any(|node| !node.runtimes.is_empty() && node.provisioner == "sandboxed");
    let sandbox = sandbox.then_some(Path::new(SANDBOX_PROGRAM));
    let user = if rustix::process::geteuid().is_root() { unprivileged(start, dir, binary, sandbox)? } else { None };
    if let (Some(program), None) = (sandbox, &user) {
        check_sandbox(program, None).map_err(|reason| DevnetError::Sandbox { reason })?;
    }
    Ok(user)
}

/// The user that runs the nodes in root's place, or nobody, with the reason told.
fn unprivileged(start: &Start, dir: &Path, binary: &Path, sandbox: Option<&Path>) -> Result<Option<User>, DevnetError> {
    let as_root = |reason: &str| {
        println!("running the nodes as root, with common.debug.allow_root in their configurations: {reason}");
        Ok(None)
    };
    if start.allow_root {
        return as_root("--allow-root");
    }
    let (user, made) = match User::find_or_create(&start.user) {
        Ok(found) => found,
        Err(error) if start.user == USER_NAME => return as_root(&error.to_string()),
        Err(error) => return Err(error),
    };
    if made {
        println!("made the user {} to run the nodes", user.name);
    }
    keys::make_dir(dir)?;
    user.take(dir)?;
    let programs: Vec<_> = std::iter::once(binary).chain(sandbox).collect();
    if let Err(reason) = user.check(dir, &programs) {
        return as_root(&reason);
    }
    if let Some(Err(reason)) = sandbox.map(|program| check_sandbox(program, Some(&user))) {
        return as_root(&format!("bubblewrap does not work for {} ({reason})", user.name));
    }
    println!("running the nodes as the user {}", user.name);
    Ok(Some(user))
}

/// A network that was started.
struct Session {
    state: State,
    running: Running,
    patience: Duration,
    began: Instant,
    stop: CancellationToken,
    resumed: bool,
    page: Option<Page>,
}

impl Session {
    fn nodes(&self) -> impl DoubleEndedIterator<Item = &Node> {
        self.state.nodes.iter().map(|(node, _)| node).filter(|node| node.starts)
    }

    /// The node that is asked: the last one, a client if there is one.
    fn front(&self) -> Result<&Node, DevnetError> {
        let found = self.nodes().rev().find(|node| node.role != Role::Seed);
        found.ok_or_else(|| DevnetError::Plan("no node starts by itself".to_owned()))
    }

    /// A failure if a node ended, or if it takes too long.
    fn check(&mut self, until: Instant, what: impl FnOnce() -> String) -> Result<(), DevnetError> {
        if let Some(ended) = self.running.ended() {
            return Err(ended);
        }
        if Instant::now() <= until {
            return Ok(());
        }
        Err(DevnetError::NotReady { seconds: self.patience.as_secs(), what: what(), dir: self.state.dir.clone() })
    }

    /// Says what happened, and when.
    fn tell(&self, what: &str) {
        println!("[{:5.1} s] {what}", self.began.elapsed().as_secs_f64());
    }

    /// Waits until everything works, and tries it.
    async fn bring_up(&mut self, epochs_stand: bool) -> Result<(), DevnetError> {
        let height = self.wait_synced().await?;
        self.tell(&format!("all nodes are in sync at height {height}"));
        self.first_transfer().await?;
        if !epochs_stand {
            for paratime in self.state.paratimes.clone() {
                if let Some(id) = paratime.key_manager {
                    self.wait_key_manager(id).await?;
                }
                self.first_round(&paratime).await?;
            }
        }
        let pids: Vec<_> = self.running.pids().into_iter().flatten().collect();
        let (processes, bytes) = memory(&pids);
        let ready = self.began.elapsed().as_secs_f64();
        println!("ready after {ready:.1} s: {processes} processes with {} MB of anonymous memory", bytes >> 20);
        Ok(())
    }

    /// Waits until every node answers, has caught up, and has a block.
    async fn wait_synced(&mut self) -> Result<i64, DevnetError> {
        let until = Instant::now() + self.patience;
        let mut waiting: Vec<Node> = self.nodes().filter(|node| node.role != Role::Seed).cloned().collect();
        let all = waiting.len();
        let (mut height, mut told) = (0, 0);
        while !waiting.is_empty() {
            let names = |nodes: &[Node]| nodes.iter().map(|node| node.name.clone()).collect::<Vec<_>>().join(", ");
            self.check(until, || format!("{} not in sync", names(&waiting)))?;
            let mut still = Vec::new();
            for node in waiting {
                match synced_height(&node).await {
                    Some(at) => height = height.max(at),
                    None => still.push(node),
                }
            }
            waiting = still;
            let synced = all - waiting.len();
            if synced != told && synced < all {
                self.tell(&format!("{synced} of {all} nodes are in sync"));
            }
            told = synced;
            tokio::time::sleep(POLL).await;
        }
        Ok(height)
    }

    /// Moves tokens from one funded account to another, and shows what both have.
    async fn first_transfer(&self) -> Result<(), DevnetError> {
        if self.resumed {
            return Ok(());
        }
        let node = self.front()?;
        let fault = |message: String| DevnetError::Call { node: node.name.clone(), message };
        let context = ChainContext::parse(&self.state.chain_context).map_err(|error| fault(error.to_string()))?;
        let accounts = crate::network::accounts(&self.state.dir, keys::load_key)?;
        let [from, to, ..] = accounts.as_slice() else { return Ok(()) };
        let chain = Chain::connect(node).await?;
        let amount = Quantity::from(FIRST_TRANSFER);
        let began = Instant::now();
        let hash = chain.transfer(&context, &from.key, to.address, &amount).await?;
        let balance = chain.account(to.address).await?.general.balance;
        self.tell(&format!(
            "sent {amount} base units from {} to {}: transaction {hash}, in a block after {:.1} s; {} now has {balance}",
            from.name,
            to.name,
            began.elapsed().as_secs_f64(),
            to.name,
        ));
        Ok(())
    }

    /// Waits until a key manager has its first secret.
    async fn wait_key_manager(&mut self, id: base_prims::Namespace) -> Result<(), DevnetError> {
        let until = Instant::now() + self.patience;
        let chain = Chain::connect(self.front()?).await?;
        let mut told = 0;
        loop {
            let status = chain.key_manager(id).await;
            let nodes = status.as_ref().map_or(0, |status| status.nodes().len());
            if let Ok(status) = &status
                && !status.checksum().is_empty()
                && nodes > 0
            {
                let secure = if status.is_secure { "in enclaves" } else { "outside of enclaves: INSECURE, for tests" };
                let policy = status.policy.as_ref().map_or(0, |signed| signed.policy.serial);
                self.tell(&format!(
                    "the key manager has secret {} and policy {policy}, on {nodes} node(s), {secure}",
                    status.generation
                ));
                return Ok(());
            }
            if nodes != told {
                told = nodes;
                self.tell(&format!("{nodes} key manager node(s) registered, waiting for the first secret"));
            }
            let standing = status.map_or_else(|error| error.to_string(), |_| format!("{nodes} node(s) registered"));
            self.check(until, || format!("the key manager has no secret yet ({standing})"))?;
            tokio::time::sleep(POLL).await;
        }
    }

    /// Waits until a ParaTime has a committee, and has it execute a transaction.
    async fn first_round(&mut self, hosted: &Hosted) -> Result<(), DevnetError> {
        let hosts = |node: &&Node| matches!(node.role, Role::Client | Role::Compute) && node.hosts.contains(&hosted.id);
        let Some(node) = self.nodes().rev().find(hosts).cloned() else { return Ok(()) };
        let paratime = KeyValue::connect_to(&node, hosted.id).await?;
        let until = Instant::now() + self.patience;
        loop {
            // The first rounds are those of the genesis block and of the elections.
            let standing = match paratime.newest().await {
                Ok(block) if block.header.round > 1 => break,
                Ok(block) => format!("round {}", block.header.round),
                Err(error) => error.to_string(),
            };
            self.check(until, || format!("ParaTime {} has no committee yet ({standing})", hosted.id))?;
            tokio::time::sleep(POLL).await;
        }
        self.tell(&format!("the ParaTime {} has a committee", hosted.id));
        if !hosted.is_example {
            println!("sent no transaction to it: this program can only make those of the key-value example");
            return Ok(());
        }
        // The same as in an earlier run would be refused for its nonce.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos().to_string();
        let is_confidential = hosted.key_manager.is_some();
        let value = format!("hello {now}");
        let tx = if is_confidential {
            paratime.confidential_insertion(now.as_bytes(), 0, FIRST_KEY, &value)
        } else {
            paratime.insertion(now.as_bytes(), 0, FIRST_KEY, &value)
        };
        loop {
            let began = Instant::now();
            let refused = match paratime.submit(tx.clone()).await {
                Ok(meta) => match meta.check_tx_error {
                    None => {
                        let took = began.elapsed().as_secs_f64();
                        return self.show_result(&paratime, meta.round, took, &value, is_confidential).await;
                    }
                    Some(error) => format!("it refuses a transaction: {error}"),
                },
                Err(error) => error.to_string(),
            };
            // Its key manager may not be connected yet.
            self.check(until, || format!("ParaTime {}: {refused}", hosted.id))?;
            tokio::time::sleep(POLL).await;
        }
    }

    async fn show_result(
        &self,
        paratime: &KeyValue,
        round: u64,
        took: f64,
        sent: &str,
        is_confidential: bool,
    ) -> Result<(), DevnetError> {
        let held =
            if is_confidential { paratime.confidential_get(FIRST_KEY).await? } else { paratime.get(FIRST_KEY).await? };
        if held.as_deref() != Some(sent) {
            let message = format!("the ParaTime holds {held:?} where {sent:?} was set");
            return Err(DevnetError::Call { node: self.front()?.name.clone(), message });
        }
        let (method, how) = if is_confidential {
            ("enc_insert", ", encrypted with a key from the key manager")
        } else {
            ("insert", "")
        };
        self.tell(&format!(
            "the ParaTime executed {method}({FIRST_KEY} = {sent:?}) in round {round} after {took:.1} s; a query finds \
             {:?}{how}",
            held.unwrap_or_default()
        ));
        Ok(())
    }

    fn describe(&self) {
        let dir = &self.state.dir;
        println!("\nchain context  {}", self.state.chain_context);
        println!("genesis        {}", crate::plan::genesis_file(dir).display());
        for node in self.nodes() {
            let (name, p2p, socket) = (&node.name, node.p2p_port, node.socket());
            println!(
                "{name:<14} consensus 127.0.0.1:{}  p2p 127.0.0.1:{p2p}  unix:{}",
                node.consensus_port,
                socket.display()
            );
        }
        for paratime in &self.state.paratimes {
            println!("ParaTime       {}", paratime.id);
            if let Some(id) = paratime.key_manager {
                println!("key manager    {id}");
            }
        }
        if let Some(page) = &self.page {
            println!("dashboard      http://{}/", page.address);
        }
        println!("accounts       alice, bob, charlie: keys below {}", dir.join("accounts").display());
        if let Ok(node) = self.front() {
            println!("try            oasis-node control status -a unix:{}\n", node.socket().display());
        }
    }

    /// Waits until it is stopped, or a node ends.
    async fn watch(mut self, in_terminal: bool) -> Result<(), DevnetError> {
        let mut screen = in_terminal.then(|| Screen::new(&self.state));
        loop {
            if let Some(screen) = &mut screen {
                screen.draw().await;
            }
            tokio::select! {
                () = self.stop.cancelled() => {
                    drop(screen);
                    return self.finish();
                }
                () = tokio::time::sleep(WATCH) => {}
            }
            if let Some(ended) = self.running.ended() {
                return Err(ended);
            }
        }
    }

    fn finish(mut self) -> Result<(), DevnetError> {
        println!("stopping {} nodes", self.running.pids().iter().flatten().count());
        for node in &self.running.stop() {
            println!("{node} did not end within {} s and was killed", STOP_PATIENCE.as_secs());
        }
        self.state.with_pids(&[]).save()?;
        println!("stopped; nothing is left running");
        Ok(())
    }
}

/// The node's height, once it has caught up and has a block.
async fn synced_height(node: &Node) -> Option<i64> {
    let chain = Chain::connect(node).await.ok()?;
    if !chain.is_synced().await.ok()? {
        return None;
    }
    chain.height().await.ok().filter(|height| *height > 0)
}
