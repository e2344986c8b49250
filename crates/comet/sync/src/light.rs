//! A light client: headers that follow from one trusted header, whoever brings them.
//!
//! Reference: `cometbft:light/{client,detector}.go`, with providers that are never removed
//! (`oasis-core:go/consensus/cometbft/light`). Single steps, bisection and the examination of divergent chains are in
//! [`comet_chain::light`] and [`comet_chain::detect`]; this fetches for them, within bounds, and remembers what is
//! trusted.

mod detector;
mod local;
mod store;

use std::future::Future;
use std::sync::Arc;
use std::time::SystemTime;

use base_kv::{KvError, KvStore};
use comet_chain::commit::{CommitError, Scope, verify_light};
use comet_chain::light::{
    Bisection, BisectionError, LightBlock, LightBlockProvider, LightError, Policy, ProviderError, Step,
    verify_backwards,
};
use parking_lot::Mutex;
use wire_cometbft::{Duration, Time};

pub use local::{LocalProvider, TakeEvidence};
use store::TrustedStore;

/// The time.
pub trait Clock: Send + Sync + 'static {
    /// Now.
    fn now(&self) -> Time;
}

/// The system's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Time {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        i128::try_from(since.as_nanos()).ok().and_then(|nanos| Time::from_unix_nanos(nanos).ok()).unwrap_or(Time::ZERO)
    }
}

/// The header that everything is trusted from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustOptions {
    /// Its height.
    pub height: i64,
    /// Its hash, 32 bytes.
    pub hash: [u8; 32],
}

/// Settings of a light client.
#[derive(Debug, Clone, Copy)]
pub struct LightConfig {
    /// How far it trusts.
    pub policy: Policy,
    /// How far a witness may be behind, beyond clock drift, before its silence counts.
    pub max_block_lag: std::time::Duration,
    /// How often a provider that does not answer is asked again.
    pub retries: usize,
    /// Most light blocks fetched for one verification.
    pub max_fetches: usize,
    /// Most headers walked back by hashes.
    pub max_backwards: i64,
    /// The store is cut down when it holds more blocks than this, …
    pub prune_above: usize,
    /// … to this many.
    pub prune_to: usize,
}

impl LightConfig {
    /// The reference's defaults, for a trusting period.
    pub const fn new(trusting_period: Duration) -> Self {
        Self {
            policy: Policy::new(trusting_period),
            max_block_lag: std::time::Duration::from_secs(10),
            retries: 5,
            max_fetches: 2000,
            max_backwards: 10_000,
            prune_above: 21_000,
            prune_to: 20_000,
        }
    }
}

/// Why a header is not trusted, or why that cannot be told.
#[derive(Debug, thiserror::Error)]
pub enum LightClientError {
    /// There is nobody to check the primary by.
    #[error("no witnesses")]
    NoWitnesses,
    /// The trust level is out of range.
    #[error(transparent)]
    TrustLevel(CommitError),
    /// There is neither a trusted header stored nor one given.
    #[error("nothing is trusted yet")]
    NoTrust,
    /// The height is below 1.
    #[error("height {0} is not positive")]
    Height(i64),
    /// The header at the trust height has another hash.
    #[error("header {height} has hash {got}, trusted is {expected}")]
    TrustHash {
        /// The trust height.
        height: i64,
        /// Hash given by the operator, lower hexadecimal.
        expected: String,
        /// Hash of the header fetched, lower hexadecimal.
        got: String,
    },
    /// No provider delivered the light block.
    #[error("light block {height}: {source}")]
    Provider {
        /// Its height.
        height: i64,
        /// What the last provider said.
        source: ProviderError,
    },
    /// The header does not follow from a trusted one.
    #[error(transparent)]
    Verification(#[from] BisectionError),
    /// A header does not hold in itself.
    #[error("light block {height}: {source}")]
    Invalid {
        /// Its height.
        height: i64,
        /// What is wrong.
        source: LightError,
    },
    /// The verification needs more light blocks than allowed.
    #[error("more than {0} light blocks would be needed")]
    TooManyFetches(usize),
    /// The height lies too far below the lowest trusted one.
    #[error("height {height} is too far below the lowest trusted height {lowest}")]
    TooFarBack {
        /// The height asked for.
        height: i64,
        /// The lowest trusted.
        lowest: i64,
    },
    /// Primary and a witness have two verified chains: evidence was sent to both.
    #[error("attack detected at height {0}: primary and witness have different verified headers")]
    Attack(i64),
    /// A witness has another header at the height that everything is trusted from.
    #[error("a witness has another header at trusted height {0}")]
    TrustConflict(i64),
    /// A witness has the same header with other proposer priorities.
    #[error("a witness has other proposer priorities at height {0}")]
    Priorities(i64),
    /// No witness confirmed the header.
    #[error("no witness confirmed header {0}")]
    NotConfirmed(i64),
    /// The trusted store failed.
    #[error(transparent)]
    Store(#[from] KvError),
    /// The trusted store holds something else.
    #[error("trusted store is corrupt at height {0}")]
    Corrupt(i64),
}

/// A provider of either role.
pub type Provider = Arc<dyn LightBlockProvider>;

/// Primary and witnesses; providers change roles, but none is removed.
struct Providers {
    primary: Provider,
    witnesses: Vec<Provider>,
}

/// The light client. One verification at a time.
pub struct LightClient {
    chain_id: String,
    config: LightConfig,
    providers: Mutex<Providers>,
    store: TrustedStore,
    clock: Arc<dyn Clock>,
    turn: tokio::sync::Mutex<()>,
}

/// Light blocks that one verification may still fetch.
struct Fetches {
    left: usize,
    most: usize,
}

impl Fetches {
    fn take(&mut self) -> Result<(), LightClientError> {
        self.left = self.left.checked_sub(1).ok_or(LightClientError::TooManyFetches(self.most))?;
        Ok(())
    }
}

/// How a verification against one provider went wrong.
enum Failed {
    /// The header in question itself is at fault, or nobody is.
    Finally(LightClientError),
    /// The provider brought a bad header on the way.
    Provider(LightClientError),
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn header_hash(block: &LightBlock) -> Vec<u8> {
    block.header.hash().map_or_else(Vec::new, |hash| hash.to_vec())
}

impl LightClient {
    /// A client that goes on from what `kv` holds, or begins with `trust`.
    ///
    /// With other trust options than those that the stored headers were reached from, the stored ones are removed.
    ///
    /// DEVIATION: the reference goes back to the trust height on every start with options below its newest header.
    ///
    /// # Errors
    /// If there is no witness, nothing to trust, or what the providers have is not what is trusted.
    pub async fn new(
        chain_id: &str,
        config: LightConfig,
        trust: Option<TrustOptions>,
        primary: Provider,
        witnesses: Vec<Provider>,
        kv: Arc<dyn KvStore>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, LightClientError> {
        if witnesses.is_empty() {
            return Err(LightClientError::NoWitnesses);
        }
        config.policy.trust_level.validate().map_err(LightClientError::TrustLevel)?;
        let store = TrustedStore::open(kv)?;
        let client = Self {
            chain_id: chain_id.to_owned(),
            config,
            providers: Mutex::new(Providers { primary, witnesses }),
            store,
            clock,
            turn: tokio::sync::Mutex::new(()),
        };
        match trust {
            Some(trust) if client.store.root()?.as_ref() != Some(&trust) || client.store.newest()?.is_none() => {
                client.begin(&trust).await?;
            }
            None if client.store.newest()?.is_none() => return Err(LightClientError::NoTrust),
            _ => {}
        }
        Ok(client)
    }

    /// Chain id.
    pub fn chain_id(&self) -> &str {
        &self.chain_id
    }

    /// The light block of a height (0: the newest), if it is trusted already.
    ///
    /// # Errors
    /// If the store fails.
    pub fn trusted(&self, height: i64) -> Result<Option<LightBlock>, LightClientError> {
        if height == 0 { self.store.newest() } else { self.store.get(height) }
    }

    /// Heights of the lowest and the newest trusted light block.
    ///
    /// # Errors
    /// If the store fails.
    pub fn trusted_range(&self) -> Result<Option<(i64, i64)>, LightClientError> {
        self.store.range()
    }

    /// The verified light block of a height.
    ///
    /// # Errors
    /// If it does not follow from what is trusted, cannot be had, or the witnesses do not have the same.
    pub async fn verify_at(&self, height: i64) -> Result<LightBlock, LightClientError> {
        if height <= 0 {
            return Err(LightClientError::Height(height));
        }
        let _turn = self.turn.lock().await;
        if let Some(block) = self.store.get(height)? {
            return Ok(block);
        }
        let block = self.primary_block(height).await?;
        self.verify(block).await
    }

    /// Verifies the primary's newest light block; `None` if it is not above the newest trusted one.
    ///
    /// # Errors
    /// As [`Self::verify_at`].
    pub async fn update(&self) -> Result<Option<LightBlock>, LightClientError> {
        let _turn = self.turn.lock().await;
        let newest = self.store.newest()?.ok_or(LightClientError::NoTrust)?;
        let block = self.primary_block(0).await?;
        if block.height() <= newest.height() { Ok(None) } else { self.verify(block).await.map(Some) }
    }

    /// Fetches and checks the header that the operator trusts.
    async fn begin(&self, trust: &TrustOptions) -> Result<(), LightClientError> {
        if trust.height <= 0 {
            return Err(LightClientError::Height(trust.height));
        }
        let block = self.primary_block(trust.height).await?;
        let hash = header_hash(&block);
        if hash != trust.hash {
            let (expected, got) = (hex(&trust.hash), hex(&hash));
            return Err(LightClientError::TrustHash { height: trust.height, expected, got });
        }
        self.check_own_commit(&block)?;
        self.confirm_first(&block).await?;
        self.store.clear()?;
        self.store.save(&block)?;
        self.store.set_root(trust)
    }

    fn check_own_commit(&self, block: &LightBlock) -> Result<(), LightClientError> {
        let LightBlock { header, commit, validators } = block;
        verify_light(validators, &self.chain_id, &commit.block_id, header.height, commit, Scope::Enough).map_err(
            |error| LightClientError::Invalid {
                height: header.height,
                source: LightError::InvalidHeader(comet_chain::light::InvalidHeader::Commit(error)),
            },
        )
    }

    async fn verify(&self, block: LightBlock) -> Result<LightBlock, LightClientError> {
        let (lowest, newest) = self.store.range()?.ok_or(LightClientError::NoTrust)?;
        let height = block.height();
        let verified = if height < lowest {
            self.backwards(lowest, block).await?
        } else {
            let from = self.store.at_or_below(height.min(newest))?.ok_or(LightClientError::NoTrust)?;
            self.forwards(from, block).await?
        };
        self.store.save(&verified)?;
        self.store.prune(self.config.prune_above, self.config.prune_to)?;
        Ok(verified)
    }

    /// From a trusted block up to `target`, with the witnesses' consent.
    async fn forwards(&self, from: LightBlock, target: LightBlock) -> Result<LightBlock, LightClientError> {
        let mut fetches = Fetches { left: self.config.max_fetches, most: self.config.max_fetches };
        let mut target = target;
        if from.height() == target.height() {
            return if header_hash(&from) == header_hash(&target) {
                Ok(from)
            } else {
                Err(LightClientError::TrustConflict(from.height()))
            };
        }
        // Each provider gets one chance to be the primary.
        let mut chances = self.providers.lock().witnesses.len();
        loop {
            let primary = self.primary();
            match self.bisect(&primary, from.clone(), target.clone(), &mut fetches).await {
                Ok(trace) => {
                    self.detect(&primary, trace).await?;
                    return Ok(target);
                }
                Err(Failed::Finally(error)) => return Err(error),
                Err(Failed::Provider(error)) => {
                    tracing::warn!(%error, "primary sent a bad light block on the way; replacing it");
                    if chances == 0 {
                        return Err(error);
                    }
                    chances -= 1;
                    let replacement = self.replace_primary(target.height()).await?;
                    if header_hash(&replacement) != header_hash(&target) {
                        return Err(error);
                    }
                    target = replacement;
                }
            }
        }
    }

    /// Verifies `target` with blocks of `source`; gives the trace.
    async fn bisect(
        &self,
        source: &Provider,
        from: LightBlock,
        target: LightBlock,
        fetches: &mut Fetches,
    ) -> Result<Vec<LightBlock>, Failed> {
        let height = target.height();
        let mut bisection = Bisection::new(from, target, self.config.policy);
        loop {
            match bisection.step(self.clock.now()) {
                Ok(Step::Done(trace)) => return Ok(trace),
                Ok(Step::Fetch(height)) => {
                    fetches.take().map_err(Failed::Finally)?;
                    let block = self.fetch(source, height).await;
                    bisection.provide(block.map_err(|source| match source {
                        ProviderError::BadLightBlock(_) => {
                            Failed::Provider(LightClientError::Provider { height, source })
                        }
                        _ => Failed::Finally(LightClientError::Provider { height, source }),
                    })?);
                }
                Err(error) => {
                    let bad = matches!(error.source, LightError::InvalidHeader(_) | LightError::Trusting(_));
                    let on_the_way = error.to != height && bad;
                    return Err(if on_the_way {
                        Failed::Provider(error.into())
                    } else {
                        Failed::Finally(error.into())
                    });
                }
            }
        }
    }

    /// Down to `target` by the hashes of last blocks.
    async fn backwards(&self, lowest: i64, target: LightBlock) -> Result<LightBlock, LightClientError> {
        let height = target.height();
        if lowest - height > self.config.max_backwards {
            return Err(LightClientError::TooFarBack { height, lowest });
        }
        let first = self.store.get(lowest)?.ok_or(LightClientError::Corrupt(lowest))?;
        let mut verified = first.header;
        // Each provider gets one chance to be the primary.
        let mut chances = self.witnesses().len();
        while verified.height > height {
            let below = verified.height - 1;
            let mut block = if below == height { target.clone() } else { self.primary_block(below).await? };
            while let Err(source) = verify_backwards(&block.header, &verified) {
                if below == height || chances == 0 {
                    return Err(LightClientError::Invalid { height: below, source });
                }
                chances -= 1;
                tracing::warn!(height = below, %source, "primary sent a bad header on the way back; replacing it");
                block = self.replace_primary(below).await?;
            }
            verified = block.header;
        }
        // The header is proven by its hash; its commit goes along with it.
        self.check_own_commit(&target)?;
        Ok(target)
    }

    fn primary(&self) -> Provider {
        Arc::clone(&self.providers.lock().primary)
    }

    fn witnesses(&self) -> Vec<Provider> {
        self.providers.lock().witnesses.clone()
    }

    /// A light block of a provider, consistent in itself.
    async fn fetch(&self, provider: &Provider, height: i64) -> Result<LightBlock, ProviderError> {
        self.asker().fetch(provider, height).await
    }

    /// A light block of the primary; if it has none, of a witness, which is the primary from then on.
    async fn primary_block(&self, height: i64) -> Result<LightBlock, LightClientError> {
        let primary = self.primary();
        match self.fetch(&primary, height).await {
            Ok(block) => Ok(block),
            Err(error) => {
                tracing::info!(height, %error, "primary has no such light block; asking witnesses");
                self.replace_primary(height).await
            }
        }
    }

    /// Makes the first witness that has the block the primary.
    async fn replace_primary(&self, height: i64) -> Result<LightBlock, LightClientError> {
        let mut last = ProviderError::NotFound(height);
        for witness in self.witnesses() {
            match self.fetch(&witness, height).await {
                Ok(block) => {
                    let mut providers = self.providers.lock();
                    let place = providers.witnesses.iter().position(|other| Arc::ptr_eq(other, &witness));
                    if let Some(place) = place {
                        let old = std::mem::replace(&mut providers.primary, witness);
                        // At the end: whoever failed is asked last.
                        providers.witnesses.remove(place);
                        providers.witnesses.push(old);
                    }
                    return Ok(block);
                }
                Err(error) => last = error,
            }
        }
        Err(LightClientError::Provider { height, source: last })
    }
}

/// Runs futures side by side; results in their order.
pub(crate) async fn side_by_side<T: Send + 'static>(
    work: Vec<impl Future<Output = T> + Send + 'static>,
) -> Vec<Option<T>> {
    let mut results: Vec<Option<T>> = Vec::with_capacity(work.len());
    let mut set = tokio::task::JoinSet::new();
    for (place, future) in work.into_iter().enumerate() {
        results.push(None);
        set.spawn(async move { (place, future.await) });
    }
    while let Some(done) = set.join_next().await {
        if let Ok((place, value)) = done
            && let Some(slot) = results.get_mut(place)
        {
            *slot = Some(value);
        }
    }
    results
}
