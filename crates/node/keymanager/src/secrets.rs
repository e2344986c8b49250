//! Master and ephemeral secrets: when the enclave is initialised, makes secrets and takes them.
//!
//! Source: `go/worker/keymanager/secrets.go`. The enclave is initialised for each status of the key manager, after each of
//! its starts and when it took a proposed master secret; its signed answer goes into the node's descriptor. Secrets are
//! made for the next epoch, from a block on that is chosen by chance so that not all nodes do it at once.

use std::pin::Pin;
use std::sync::Arc;

use base_codec::{Bytes, cbor};
use base_metrics::table;
use base_prims::{Epoch, Namespace, Version};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use node_workers::backoff::{Backoff, LONGEST};
use node_workers::registration::{Contribution, Slot};
use rt_host::api::HostEvent;
use tokio::sync::broadcast;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use wire_consensus::keymanager::{
    SignedEncryptedEphemeralSecret, SignedEncryptedMasterSecret, SignedInitResponse, Status,
};
use wire_consensus::node::{Node, Runtime as NodeRuntime};

use crate::shared::Shared;
use crate::snapshot::Snapshot;
use crate::status::WorkerState;

mod tasks;

pub(crate) const MODULE: &str = "worker/keymanager/secrets";

/// How often the making of a secret is tried per epoch, and the loading of each secret.
const MAX_TRIES: u32 = 6;
/// Part of an epoch, in percent, within which secrets begin to be made.
const GENERATION_WINDOW: (i64, i64) = (10, 50);

/// The worker for secrets.
pub(crate) struct Secrets {
    shared: Arc<Shared>,
    slot: Slot,
}

/// Something that is tried a few times, once at a time.
#[derive(Debug, Default)]
struct Tries {
    used: u32,
    running: bool,
}

impl Tries {
    fn arm(&mut self) {
        self.used = 0;
    }

    fn disarm(&mut self) {
        self.used = MAX_TRIES;
    }

    /// Whether to try now.
    fn begin(&mut self) -> bool {
        if self.running || self.used >= MAX_TRIES {
            return false;
        }
        self.used += 1;
        self.running = true;
        true
    }

    /// A try ended; after a success there are no more, unless armed meanwhile.
    fn end(&mut self, ok: bool) {
        self.running = false;
        if ok && self.used > 0 {
            self.disarm();
        }
    }
}

/// How a task ended.
enum Done {
    Init(Option<Box<SignedInitResponse>>),
    MadeMaster(bool),
    MadeEphemeral(bool),
    LoadedMaster(Arc<SignedEncryptedMasterSecret>, bool),
    LoadedEphemeral(Arc<SignedEncryptedEphemeralSecret>, bool),
    /// The node registered with the enclave's answer; or another answer took its place before.
    Registered(bool),
}

type Task = Pin<Box<dyn Future<Output = Done> + Send>>;

/// The initialisation of the enclave.
#[derive(Default)]
struct Init {
    running: bool,
    /// Again once the running one has ended.
    required: bool,
    /// The enclave was initialised since it started.
    done: bool,
    backoff: Option<Backoff>,
    retry_at: Option<Instant>,
}

/// The worker while it runs.
struct Run<'a> {
    shared: &'a Arc<Shared>,
    slot: &'a Slot,
    seen: Arc<Snapshot>,
    tasks: FuturesUnordered<Task>,
    init: Init,
    /// Height from which secrets are made in this epoch.
    generate_at: i64,
    make_master: Tries,
    make_ephemeral: Tries,
    load_master: Tries,
    load_ephemeral: Tries,
}

fn same<T>(a: &Option<Arc<T>>, b: &Option<Arc<T>>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => Arc::ptr_eq(a, b),
        (None, None) => true,
        _ => false,
    }
}

/// The first epoch in which the next master secret may be made.
fn master_secret_epoch(status: &Status, proposed: Option<&SignedEncryptedMasterSecret>) -> Option<Epoch> {
    let mut epoch = 0;
    if status.next_generation() != 0 {
        let interval = status.policy.as_ref().map_or(0, |policy| policy.policy.master_secret_rotation_interval);
        // Secrets are made one epoch before they are used; 0 forbids rotation.
        epoch = status.rotation_epoch.checked_add(interval.checked_sub(1)?)?;
    }
    Some(proposed.map_or(epoch, |proposed| epoch.max(proposed.secret.epoch)))
}

impl Secrets {
    pub(crate) fn new(shared: Arc<Shared>, slot: Slot) -> Self {
        Self { shared, slot }
    }

    /// Runs until stopped.
    pub(crate) async fn run(&self, stop: &CancellationToken) {
        tracing::info!(module = MODULE, "starting master and ephemeral secrets worker");
        self.shared.secrets.lock().worker.status = WorkerState::STARTING;
        // The node registers before the enclave is initialised: only nodes that are known get secrets.
        self.slot.set_available(Arc::new(|_| Ok(())));
        let mut run = Run {
            shared: &self.shared,
            slot: &self.slot,
            seen: Arc::default(),
            tasks: FuturesUnordered::new(),
            init: Init::default(),
            generate_at: i64::MAX,
            make_master: Tries::default(),
            make_ephemeral: Tries::default(),
            load_master: Tries::default(),
            load_ephemeral: Tries::default(),
        };
        run.work(stop).await;
        self.shared.secrets.lock().worker.status = WorkerState::STOPPED;
        tracing::info!(module = MODULE, "master and ephemeral secrets worker stopped");
    }
}

impl Run<'_> {
    async fn work(&mut self, stop: &CancellationToken) {
        let mut seen = self.shared.snapshot.subscribe();
        let mut events = self.shared.host.events();
        seen.mark_changed();
        loop {
            let retry_at = self.init.retry_at;
            tokio::select! {
                changed = seen.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let snapshot = Arc::clone(&seen.borrow_and_update());
                    if snapshot.height > self.seen.height {
                        self.block(snapshot);
                    }
                }
                event = events.recv() => match event {
                    Ok(HostEvent::Started { .. }) | Err(broadcast::error::RecvError::Lagged(_)) => self.started(),
                    Ok(_) => {}
                    Err(broadcast::error::RecvError::Closed) => return,
                },
                Some(done) = self.tasks.next(), if !self.tasks.is_empty() => self.ended(done),
                () = tokio::time::sleep_until(retry_at.unwrap_or_else(Instant::now)), if retry_at.is_some() => {
                    self.init.retry_at = None;
                    self.initialize();
                }
                () = stop.cancelled() => return,
            }
        }
    }

    /// The enclave started: its key is new, which makes the last answer worthless, and its memory is empty.
    fn started(&mut self) {
        self.init.done = false;
        self.load_master.arm();
        self.load_ephemeral.arm();
        self.initialize();
    }

    fn block(&mut self, new: Arc<Snapshot>) {
        let old = std::mem::replace(&mut self.seen, new);
        if old.height == 0 || old.epoch != self.seen.epoch {
            let (from, to) = GENERATION_WINDOW;
            self.generate_at = self.seen.random_height(from, to, self.shared.draw());
            tracing::debug!(
                module = MODULE,
                height = self.generate_at,
                epoch = self.seen.epoch,
                "block height for generating secrets selected"
            );
            self.make_master.arm();
            self.make_ephemeral.arm();
        }
        if !same(&old.status, &self.seen.status) {
            self.status_changed();
        }
        if !same(&old.master, &self.seen.master) {
            self.master_proposed();
        }
        if !same(&old.ephemeral, &self.seen.ephemeral) {
            self.ephemeral_published();
        }
        self.make();
        self.load();
    }

    fn status_changed(&mut self) {
        let Some(status) = &self.seen.status else { return };
        tracing::debug!(module = MODULE, generation = status.generation, rotation_epoch = status.rotation_epoch,
            checksum = %Hex(status.checksum()), nodes = status.nodes().len(), "key manager status updated");
        let label = [self.shared.label.as_str()];
        table::WORKER_KEYMANAGER_CONSENSUS_MASTER_SECRET_GENERATION_NUMBER.with(&label).set(status.generation as f64);
        table::WORKER_KEYMANAGER_CONSENSUS_MASTER_SECRET_ROTATION_EPOCH_NUMBER
            .with(&label)
            .set(status.rotation_epoch as f64);
        self.shared.secrets.lock().status = Some((**status).clone());
        // A new generation or policy may be in it.
        self.initialize();
    }

    fn master_proposed(&mut self) {
        let Some(secret) = self.seen.master.as_ref().map(|signed| &signed.secret) else { return };
        tracing::debug!(
            module = MODULE,
            generation = secret.generation,
            epoch = secret.epoch,
            "new master secret proposed"
        );
        let label = [self.shared.label.as_str()];
        table::WORKER_KEYMANAGER_CONSENSUS_MASTER_SECRET_PROPOSAL_GENERATION_NUMBER
            .with(&label)
            .set(secret.generation as f64);
        table::WORKER_KEYMANAGER_CONSENSUS_MASTER_SECRET_PROPOSAL_EPOCH_NUMBER.with(&label).set(secret.epoch as f64);
        self.load_master.arm();
    }

    fn ephemeral_published(&mut self) {
        let Some(secret) = self.seen.ephemeral.as_ref().map(|signed| &signed.secret) else { return };
        tracing::debug!(module = MODULE, epoch = secret.epoch, "new ephemeral secret published");
        let label = [self.shared.label.as_str()];
        table::WORKER_KEYMANAGER_CONSENSUS_EPHEMERAL_SECRET_EPOCH_NUMBER.with(&label).set(secret.epoch as f64);
        self.load_ephemeral.arm();
    }

    /// Initialises the enclave, or has it done again after what runs.
    fn initialize(&mut self) {
        let Some(status) = self.seen.status.clone() else { return };
        if self.init.running {
            self.init.required = true;
            return;
        }
        (self.init.running, self.init.required, self.init.retry_at) = (true, false, None);
        let shared = Arc::clone(self.shared);
        self.tasks.push(Box::pin(async move {
            let answer = tasks::init(&shared, &status).await;
            let answer = answer.inspect_err(|error| {
                tracing::error!(module = MODULE, err = %error, "failed to initialize enclave");
            });
            Done::Init(answer.ok().map(Box::new))
        }));
    }

    fn initialized(&mut self, answer: Option<Box<SignedInitResponse>>) {
        // Without a version the enclave has ended meanwhile.
        let answer = answer.and_then(|answer| self.shared.version().map(|version| (answer, version)));
        self.init.running = false;
        match &answer {
            Some(_) => (self.init.done, self.init.backoff) = (true, None),
            None if !self.init.required => {
                let shared = self.shared;
                let backoff = self.init.backoff.get_or_insert_with(|| Backoff::new(LONGEST, shared.draw()));
                self.init.retry_at = Some(Instant::now() + backoff.wait());
            }
            None => {}
        }
        if self.init.required {
            // There are newer secrets or a newer policy.
            self.initialize();
        } else if let Some((answer, version)) = answer {
            self.register(&answer, version);
        }
    }

    fn register(&mut self, answer: &SignedInitResponse, version: Version) {
        let response = &answer.init_response;
        tracing::info!(module = MODULE, is_secure = response.is_secure, checksum = %Hex(response.checksum()),
            next_checksum = %Hex(response.next_checksum()), policy_checksum = %Hex(response.policy_checksum()),
            "registering key manager");
        let registered =
            self.slot.set_available_and_watch(with_extra_info(self.shared.runtime, version, cbor::to_vec(answer)));
        self.tasks.push(Box::pin(async move { Done::Registered(registered.await.is_ok()) }));
    }

    /// Makes secrets for the next epoch, if it is time.
    fn make(&mut self) {
        let Some(status) = self.seen.status.clone() else { return };
        let (height, epoch) = (self.seen.height, self.seen.epoch);
        // With a single node there is nobody to disturb, and epochs that are moved by hand need not wait.
        let early = height < self.generate_at && status.nodes().len() > 1;
        let Some(next) = epoch.checked_add(1) else { return };
        if early || !self.init.done || !status.nodes().contains(&self.shared.node_id) {
            return;
        }
        let proposed = self.seen.master.as_deref();
        let due = master_secret_epoch(&status, proposed).is_some_and(|first| first <= epoch)
            && proposed.is_none_or(|proposed| proposed.secret.epoch != next)
            && status.verify_rotation_epoch(next).is_ok();
        if due && self.make_master.begin() {
            let (shared, status) = (Arc::clone(self.shared), Arc::clone(&status));
            self.tasks.push(Box::pin(async move {
                let made = tasks::make_master(&shared, &status, next).await;
                if let Err(error) = &made {
                    tracing::error!(module = MODULE, height, err = %error, "failed to generate master secret");
                }
                Done::MadeMaster(made.is_ok())
            }));
        }
        let published = self.seen.ephemeral.as_ref().is_some_and(|published| published.secret.epoch == next);
        if !published && self.make_ephemeral.begin() {
            let shared = Arc::clone(self.shared);
            self.tasks.push(Box::pin(async move {
                let made = tasks::make_ephemeral(&shared, &status, next).await;
                if let Err(error) = &made {
                    tracing::error!(module = MODULE, height, err = %error, "failed to generate ephemeral secret");
                }
                Done::MadeEphemeral(made.is_ok())
            }));
        }
    }

    /// Hands published secrets to the enclave.
    fn load(&mut self) {
        let Some(status) = &self.seen.status else { return };
        if !self.init.done {
            return;
        }
        // One that was accepted, or was not in time, is no proposal any more.
        let proposed = self.seen.master.as_ref().filter(|m| m.secret.generation == status.next_generation());
        if let Some(secret) = proposed.cloned()
            && self.load_master.begin()
        {
            let shared = Arc::clone(self.shared);
            self.tasks.push(Box::pin(async move {
                let loaded = tasks::load_master(&shared, &secret).await;
                if let Err(error) = &loaded {
                    tracing::error!(module = MODULE, err = %error, "failed to load master secret");
                }
                Done::LoadedMaster(secret, loaded.is_ok())
            }));
        }
        if let Some(secret) = self.seen.ephemeral.clone()
            && self.load_ephemeral.begin()
        {
            let shared = Arc::clone(self.shared);
            self.tasks.push(Box::pin(async move {
                let loaded = tasks::load_ephemeral(&shared, &secret).await;
                if let Err(error) = &loaded {
                    tracing::error!(module = MODULE, err = %error, "failed to load ephemeral secret");
                }
                Done::LoadedEphemeral(secret, loaded.is_ok())
            }));
        }
    }

    fn ended(&mut self, done: Done) {
        match done {
            Done::Init(answer) => {
                self.initialized(answer);
                // What waited for the enclave need not wait for the next block.
                self.make();
                self.load();
            }
            Done::MadeMaster(ok) => self.make_master.end(ok),
            Done::MadeEphemeral(ok) => self.make_ephemeral.end(ok),
            Done::LoadedMaster(secret, ok) => {
                let current = self.seen.master.as_ref().is_some_and(|now| Arc::ptr_eq(now, &secret));
                self.load_master.end(ok && current);
                if ok {
                    // Others learn from the descriptor that this node is ready for the rotation.
                    self.initialize();
                }
            }
            Done::LoadedEphemeral(secret, ok) => {
                let current = self.seen.ephemeral.as_ref().is_some_and(|now| Arc::ptr_eq(now, &secret));
                self.load_ephemeral.end(ok && current);
            }
            Done::Registered(false) => {}
            Done::Registered(true) => {
                tracing::info!(module = MODULE, "key manager registered (extra info updated)");
                let mut status = self.shared.secrets.lock();
                let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
                status.worker.last_registration = Some(i64::try_from(now.as_secs()).unwrap_or(i64::MAX));
                status.worker.status = WorkerState::READY;
            }
        }
    }
}

/// Adds the enclave's answer to the descriptor's entry of the runtime.
fn with_extra_info(id: Namespace, version: Version, info: Vec<u8>) -> Contribution {
    Arc::new(move |node: &mut Node| {
        let runtimes = node.runtimes.get_or_insert_default();
        let extra_info = Some(Bytes(info.clone()));
        match runtimes.iter_mut().find(|runtime| runtime.id == id && runtime.version == version) {
            Some(runtime) => runtime.extra_info = extra_info,
            None => runtimes.push(NodeRuntime { id, version, extra_info, ..NodeRuntime::default() }),
        }
        Ok(())
    })
}

/// Bytes in logs.
struct Hex<'a>(&'a [u8]);

impl std::fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

#[cfg(test)]
mod tests;
