//! Light clients over recorded chains, with changed blocks, and over a chain that forks.

use std::collections::BTreeMap;
use std::sync::Arc;

use base_kv::{KvStore, Memory};
use comet_chain::commit::TrustLevel;
use comet_chain::light::{
    BoxFuture, Height, LightBlock, LightBlockProvider, Policy, ProviderError, UntrustedLightBlock,
};
use comet_sync::{Clock, LightClient, LightClientError, LightConfig, LocalProvider, TrustOptions};
use parking_lot::Mutex;
use wire_cometbft::evidence::{Evidence, EvidenceSum};
use wire_cometbft::{Duration, Time};

use crate::lab::{Node, Recorded};

/// A fixed moment.
pub(crate) struct At(pub(crate) Time);

impl Clock for At {
    fn now(&self) -> Time {
        self.0
    }
}

/// Light blocks of a recorded chain, some of them changed or missing.
pub(crate) struct Provider {
    chain: Arc<Recorded>,
    top: i64,
    changed: BTreeMap<i64, LightBlock>,
    missing: bool,
    pub(crate) fetched: Mutex<Vec<i64>>,
    pub(crate) reported: Mutex<Vec<Evidence>>,
}

impl Provider {
    pub(crate) fn honest(chain: &Arc<Recorded>) -> Self {
        Self {
            chain: Arc::clone(chain),
            top: chain.height(),
            changed: BTreeMap::new(),
            missing: false,
            fetched: Mutex::default(),
            reported: Mutex::default(),
        }
    }

    fn with(mut self, height: i64, change: impl Fn(&mut LightBlock)) -> Self {
        let mut block = self.chain.light_block(height);
        change(&mut block);
        self.changed.insert(height, block);
        self
    }
}

impl LightBlockProvider for Provider {
    fn light_block(&self, height: Height) -> BoxFuture<'_, Result<UntrustedLightBlock, ProviderError>> {
        Box::pin(async move {
            let height = if height == 0 { self.top } else { height };
            self.fetched.lock().push(height);
            if self.missing {
                return Err(ProviderError::NoResponse);
            }
            if height > self.top {
                return Err(ProviderError::HeightTooHigh(height));
            }
            let block = self.changed.get(&height).cloned().unwrap_or_else(|| self.chain.light_block(height));
            Ok(UntrustedLightBlock(block.to_wire()))
        })
    }

    fn report(&self, evidence: Evidence) -> BoxFuture<'_, Result<(), ProviderError>> {
        self.reported.lock().push(evidence);
        Box::pin(async { Ok(()) })
    }
}

pub(crate) fn trust(chain: &Recorded, height: i64) -> Option<TrustOptions> {
    Some(TrustOptions { height, hash: chain.block(height).unwrap().hash().unwrap() })
}

pub(crate) fn after_all(chain: &Recorded) -> Arc<At> {
    Arc::new(At(chain.blocks.last().unwrap().header.time.saturating_add(Duration::from_secs(1))))
}

fn config() -> LightConfig {
    let mut config = LightConfig::new(Duration::from_secs(36_000));
    config.policy.max_clock_drift = Duration::from_millis(1);
    config.max_block_lag = std::time::Duration::from_millis(5);
    config
}

/// All of the trusted power must sign: bisection goes through many heights.
fn strict() -> LightConfig {
    let mut config = config();
    config.policy = Policy { trust_level: TrustLevel { numerator: 1, denominator: 1 }, ..config.policy };
    config
}

async fn client(
    chain: &Arc<Recorded>,
    config: LightConfig,
    from: i64,
    providers: &[Arc<Provider>],
    kv: &Arc<dyn KvStore>,
) -> Result<LightClient, LightClientError> {
    let mut all = providers.iter().map(|provider| Arc::clone(provider) as Arc<dyn LightBlockProvider>);
    let primary = all.next().unwrap();
    let id = chain.genesis.chain_id.clone();
    LightClient::new(&id, config, trust(chain, from), primary, all.collect(), Arc::clone(kv), after_all(chain)).await
}

fn memory() -> Arc<dyn KvStore> {
    Arc::new(Memory::new())
}

#[tokio::test]
async fn forwards_backwards_between_and_from_the_store() {
    let chain = Arc::new(Recorded::named("vault"));
    let providers = [Arc::new(Provider::honest(&chain)), Arc::new(Provider::honest(&chain))];
    let kv = memory();
    let light = client(&chain, strict(), 50, &providers, &kv).await.unwrap();
    for height in [90, 70, 45, 51, chain.height()] {
        assert_eq!(light.verify_at(height).await.unwrap(), chain.light_block(height), "{height}");
    }
    assert_eq!(light.trusted_range().unwrap(), Some((45, chain.height())));
    assert!(light.update().await.unwrap().is_none());
    assert!(matches!(light.verify_at(0).await, Err(LightClientError::Height(0))));
    assert!(light.verify_at(chain.height() + 1).await.is_err());
    drop(light);

    // What is trusted is remembered.
    providers[0].fetched.lock().clear();
    let light = client(&chain, strict(), 50, &providers, &kv).await.unwrap();
    assert_eq!(light.trusted(70).unwrap(), Some(chain.light_block(70)));
    light.verify_at(90).await.unwrap();
    assert!(providers[0].fetched.lock().is_empty());
    // With another root, it is not.
    let light = client(&chain, strict(), 20, &providers, &kv).await.unwrap();
    assert_eq!(light.trusted_range().unwrap(), Some((20, 20)));
    assert_eq!(light.update().await.unwrap().unwrap().height(), chain.height());
}

#[tokio::test]
async fn refusals_at_the_start() {
    let chain = Arc::new(Recorded::named("vault"));
    let honest = || Arc::new(Provider::honest(&chain));
    let start = async |providers: &[Arc<Provider>], trust: Option<TrustOptions>| {
        let mut all = providers.iter().map(|provider| Arc::clone(provider) as Arc<dyn LightBlockProvider>);
        let (primary, id) = (all.next().unwrap(), chain.genesis.chain_id.clone());
        LightClient::new(&id, config(), trust, primary, all.collect(), memory(), after_all(&chain)).await.err()
    };
    assert!(matches!(start(&[honest()], trust(&chain, 5)).await, Some(LightClientError::NoWitnesses)));
    assert!(matches!(start(&[honest(), honest()], None).await, Some(LightClientError::NoTrust)));
    let wrong = Some(TrustOptions { height: 5, hash: [7; 32] });
    assert!(matches!(start(&[honest(), honest()], wrong).await, Some(LightClientError::TrustHash { height: 5, .. })));
    // A witness that has another header there.
    let other = |height| Arc::new(Provider::honest(&chain).with(height, |block| *block = chain.light_block(6)));
    assert!(start(&[honest(), other(5)], trust(&chain, 5)).await.is_none(), "not a block of that height");
    // A primary that does not answer is replaced.
    let mut silent = Provider::honest(&chain);
    silent.missing = true;
    assert!(start(&[Arc::new(silent), honest()], trust(&chain, 5)).await.is_none());
}

/// A change of any part of the target is refused, and the client goes on from what it had.
#[tokio::test]
async fn changed_targets_are_refused() {
    let chain = Arc::new(Recorded::named("vault"));
    let changes: [fn(&mut LightBlock); 5] = [
        |block| block.header.app_hash[0] ^= 1,
        |block| block.commit.signatures[0].signature[3] ^= 1,
        |block| block.commit.round += 1,
        |block| block.commit.block_id.hash[0] ^= 1,
        |block| block.header.height += 1,
    ];
    for (case, change) in changes.into_iter().enumerate() {
        let liar = Arc::new(Provider::honest(&chain).with(100, change));
        // Both have it, so that there is no other to turn to.
        let providers = [Arc::clone(&liar), liar];
        let light = client(&chain, config(), 10, &providers, &memory()).await.unwrap();
        assert!(light.verify_at(100).await.is_err(), "case {case}");
        assert_eq!(light.trusted_range().unwrap(), Some((10, 10)));
        assert_eq!(light.verify_at(99).await.unwrap(), chain.light_block(99));
    }
}

/// A bad block on the way costs the primary its role.
#[tokio::test]
async fn a_bad_block_on_the_way_replaces_the_primary() {
    let chain = Arc::new(Recorded::named("vault"));
    let probe = [Arc::new(Provider::honest(&chain)), Arc::new(Provider::honest(&chain))];
    let light = client(&chain, strict(), 1, &probe, &memory()).await.unwrap();
    light.verify_at(140).await.unwrap();
    let way: Vec<i64> =
        probe[0].fetched.lock().iter().copied().filter(|height| ![0, 1, 140].contains(height)).collect();
    assert!(!way.is_empty(), "nothing in between was needed");
    for height in way {
        let liar = Provider::honest(&chain).with(height, |block| block.commit.signatures[0].signature[3] ^= 1);
        let providers = [Arc::new(liar), Arc::new(Provider::honest(&chain))];
        let light = client(&chain, strict(), 1, &providers, &memory()).await.unwrap();
        assert_eq!(light.verify_at(140).await.unwrap(), chain.light_block(140), "bad block at {height}");
    }
}

#[tokio::test]
async fn witnesses_must_agree() {
    let chain = Arc::new(Recorded::named("runtime-runtime"));
    let honest = || Arc::new(Provider::honest(&chain));
    // Silent ones do not count as agreeing.
    let mut silent = Provider::honest(&chain);
    silent.missing = true;
    let light = client(&chain, config(), 10, &[honest(), Arc::new(silent)], &memory()).await.unwrap();
    assert!(matches!(light.verify_at(60).await, Err(LightClientError::NotConfirmed(60))));
    // One that is behind is waited for, and does not count either; its time is before the header's.
    let mut behind = Provider::honest(&chain);
    behind.top = 40;
    let light = client(&chain, config(), 10, &[honest(), Arc::new(behind)], &memory()).await.unwrap();
    assert!(matches!(light.verify_at(60).await, Err(LightClientError::NotConfirmed(60))));
    // One with other priorities.
    let other = Provider::honest(&chain).with(60, |block| {
        block.validators = block.validators.incremented(1).unwrap();
    });
    let light = client(&chain, config(), 10, &[honest(), Arc::new(other)], &memory()).await.unwrap();
    assert!(matches!(light.verify_at(60).await, Err(LightClientError::Priorities(60))));
    // One that lies about the header and cannot prove it is passed over, if another agrees.
    let lie = || {
        Provider::honest(&chain).with(60, |block| {
            block.header.app_hash[0] ^= 1;
            block.commit.block_id.hash = block.header.hash().unwrap().to_vec();
        })
    };
    let liar = Arc::new(lie());
    let light = client(&chain, config(), 10, &[honest(), Arc::clone(&liar), honest()], &memory()).await.unwrap();
    assert_eq!(light.verify_at(60).await.unwrap(), chain.light_block(60));
    assert!(liar.reported.lock().is_empty());
    let light = client(&chain, config(), 10, &[honest(), Arc::new(lie())], &memory()).await.unwrap();
    assert!(matches!(light.verify_at(60).await, Err(LightClientError::NotConfirmed(60))));
}

#[tokio::test]
async fn work_is_bounded() {
    let chain = Arc::new(Recorded::named("vault"));
    let providers = [Arc::new(Provider::honest(&chain)), Arc::new(Provider::honest(&chain))];
    let few = LightConfig { max_fetches: 0, max_backwards: 5, ..strict() };
    let light = client(&chain, few, 20, &providers, &memory()).await.unwrap();
    assert!(matches!(light.verify_at(140).await, Err(LightClientError::TooManyFetches(0))));
    assert!(matches!(light.verify_at(14).await, Err(LightClientError::TooFarBack { height: 14, lowest: 20 })));
    light.verify_at(15).await.unwrap();
    let pruning = LightConfig { prune_above: 10, prune_to: 8, ..config() };
    let light = client(&chain, pruning, 20, &providers, &memory()).await.unwrap();
    for height in 21..60 {
        light.verify_at(height).await.unwrap();
        let (lowest, newest) = light.trusted_range().unwrap().unwrap();
        assert!(newest - lowest < 10 && newest == height);
    }
}

/// The trusted header is too old to start from.
#[tokio::test]
async fn expiry() {
    let chain = Arc::new(Recorded::named("vault"));
    let providers = [Arc::new(Provider::honest(&chain)), Arc::new(Provider::honest(&chain))];
    let mut short = config();
    short.policy.trusting_period = Duration::from_secs(1);
    let light = client(&chain, short, 10, &providers, &memory()).await.unwrap();
    assert!(matches!(light.verify_at(100).await, Err(LightClientError::Verification(_))));
}

/// The node's own stores as a provider.
#[tokio::test]
async fn the_local_provider() {
    let chain = Arc::new(Recorded::named("gas-fees-staking"));
    let dir = tempfile::tempdir().unwrap();
    let node = Node::open(dir.path(), &chain);
    node.chain.save(&chain.genesis_state()).unwrap();
    for height in 1..=10i64 {
        let (block, at) = (chain.block(height).unwrap(), height as usize - 1);
        let parts = block.part_set();
        node.blocks.save(block, &parts, &chain.commits[at], comet_store::Durability::Synced).unwrap();
        node.executor.apply(&chain.states[at], block, &block.id().unwrap()).unwrap();
    }
    let taken = Arc::new(Mutex::new(0));
    let count = Arc::clone(&taken);
    let take = Arc::new(move |_: Evidence| {
        *count.lock() += 1;
        Ok(())
    });
    let provider = LocalProvider::new(Arc::clone(&node.blocks), Arc::clone(&node.chain), Some(take));
    let id = &chain.genesis.chain_id;
    for height in 1..=10 {
        let block = provider.light_block(height).await.unwrap().check(id, height).unwrap();
        assert_eq!(
            (&block.header, &block.validators),
            (&chain.light_block(height).header, &chain.light_block(height).validators)
        );
    }
    assert_eq!(provider.light_block(0).await.unwrap().check(id, 0).unwrap().height(), 10);
    assert_eq!(provider.light_block(11).await, Err(ProviderError::HeightTooHigh(11)));
    provider.report(Evidence::default()).await.unwrap();
    assert_eq!(*taken.lock(), 1);

    // A light client over it.
    let local: Arc<dyn LightBlockProvider> = Arc::new(provider);
    let light =
        LightClient::new(id, config(), trust(&chain, 2), Arc::clone(&local), vec![local], memory(), after_all(&chain));
    assert_eq!(light.await.unwrap().verify_at(9).await.unwrap().header, chain.light_block(9).header);
}

/// Two sides that both prove their header: evidence goes to each, and the client stops. The fork is made with keys of its own.
#[tokio::test]
async fn an_attack_is_reported_to_both_sides() {
    let fork = crate::fork::Fork::new(12, 6);
    let (id, now) = (fork.chain_id.clone(), fork.now());
    let (honest, lying) = (Arc::new(fork.provider(false)), Arc::new(fork.provider(true)));
    for primary_lies in [true, false] {
        let (primary, witness) = if primary_lies { (&lying, &honest) } else { (&honest, &lying) };
        let light = LightClient::new(
            &id,
            config(),
            Some(TrustOptions { height: 1, hash: fork.hash(1) }),
            Arc::clone(primary) as Arc<dyn LightBlockProvider>,
            vec![Arc::clone(witness) as Arc<dyn LightBlockProvider>],
            memory(),
            Arc::new(At(now)),
        );
        let error = light.await.unwrap().verify_at(12).await.unwrap_err();
        assert!(matches!(error, LightClientError::Attack(_)), "{error}");
    }
    for provider in [&honest, &lying] {
        let reported = provider.reported.lock();
        assert_eq!(reported.len(), 2);
        for evidence in reported.iter() {
            let Some(EvidenceSum::LightClientAttack(attack)) = &evidence.sum else { panic!("other evidence") };
            attack.validate_basic().unwrap();
            assert!(!attack.byzantine_validators.is_empty());
        }
    }
}
