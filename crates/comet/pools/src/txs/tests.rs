//! The pool with an application that reads its verdict from the transaction.

use std::collections::HashSet;
use std::time::Duration;

use comet_chain::app::{
    AppInfo, BlockResults, Committed, Fatal, InitChain, InitChainResult, PrepareProposal, ProposedBlock, Snapshots,
    Verdict,
};
use comet_store::TxPool as _;
use proptest::prelude::*;
use tokio::sync::broadcast::error::TryRecvError;

use super::*;

/// What the application was asked and what it shall say.
#[derive(Debug, Default)]
pub(crate) struct Script {
    /// Transactions that are bad, whatever they say.
    pub(crate) bad: HashSet<Vec<u8>>,
    /// Priorities other than the transactions say.
    pub(crate) priorities: std::collections::HashMap<Vec<u8>, i64>,
    /// Checks so far, of either kind.
    pub(crate) checks: usize,
    pub(crate) rechecks: usize,
    /// Committed height as the application sees it.
    pub(crate) height: i64,
}

pub(crate) type SharedScript = Arc<Mutex<Script>>;

/// Transactions are `priority,sender,gas,anything`; what can't be read is bad.
pub(crate) struct ScriptedApp(SharedScript);

fn judge(script: &Script, tx: &[u8]) -> CheckResult {
    let bad = CheckResult { code: 7, codespace: "test".into(), log: "bad".into(), ..CheckResult::default() };
    let Some(text) = std::str::from_utf8(tx).ok().filter(|_| !script.bad.contains(tx)) else { return bad };
    let mut fields = text.split(',');
    let number = |fields: &mut std::str::Split<'_, char>| fields.next().and_then(|field| field.parse::<i64>().ok());
    let Some(priority) = number(&mut fields) else { return bad };
    let sender = fields.next().unwrap_or_default().to_owned();
    let gas_wanted = number(&mut fields).unwrap_or(1);
    let priority = script.priorities.get(tx).copied().unwrap_or(priority);
    CheckResult { priority, sender, gas_wanted, ..CheckResult::default() }
}

impl Application for ScriptedApp {
    fn check_tx(&mut self, tx: &[u8], kind: CheckKind) -> CheckResult {
        let mut script = self.0.lock();
        match kind {
            CheckKind::New => script.checks += 1,
            CheckKind::Recheck => script.rechecks += 1,
        }
        judge(&script, tx)
    }
    fn info(&self) -> AppInfo {
        AppInfo::default()
    }
    fn init_chain(&mut self, _: &InitChain) -> Result<InitChainResult, Fatal> {
        Err(Fatal::Internal("not used".into()))
    }
    fn prepare_proposal(&mut self, _: &PrepareProposal) -> Result<Vec<Vec<u8>>, Fatal> {
        Err(Fatal::Internal("not used".into()))
    }
    fn process_proposal(&mut self, _: &ProposedBlock) -> Result<Verdict, Fatal> {
        Err(Fatal::Internal("not used".into()))
    }
    fn execute(&mut self, _: &ProposedBlock) -> Result<BlockResults, Fatal> {
        Err(Fatal::Internal("not used".into()))
    }
    fn commit(&mut self) -> Result<Committed, Fatal> {
        self.0.lock().height += 1;
        Ok(Committed::default())
    }
    fn snapshots(&mut self) -> &mut dyn Snapshots {
        panic!("not used")
    }
}

pub(crate) fn pool_with(config: TxPoolConfig) -> (Arc<TxPool>, SharedScript) {
    let script = SharedScript::default();
    let app: Box<dyn Application> = Box::new(ScriptedApp(Arc::clone(&script)));
    (Arc::new(TxPool::new(config, Arc::new(Mutex::new(app)), 0)), script)
}

pub(crate) fn pool() -> (Arc<TxPool>, SharedScript) {
    pool_with(TxPoolConfig::default())
}

/// Commits a block: `codes` are the results of its transactions.
pub(crate) fn commit(pool: &TxPool, height: i64, txs: &[&str], codes: &[u32]) {
    let app = Arc::clone(&pool.app);
    let mut app = app.lock();
    pool.before_commit();
    app.commit().unwrap();
    let txs: Vec<_> = txs.iter().map(|tx| tx.as_bytes().to_vec()).collect();
    let results: Vec<_> = codes.iter().map(|&code| TxResult { code, ..TxResult::default() }).collect();
    pool.after_commit(height, &txs, &results, &mut **app);
}

fn check(pool: &TxPool, tx: &str) -> CheckOutcome {
    pool.check(Bytes::copy_from_slice(tx.as_bytes()), None)
}

fn add(pool: &TxPool, txs: &[&str]) {
    for tx in txs {
        assert!(check(pool, tx).is_added(), "{tx}");
    }
}

fn texts(txs: impl IntoIterator<Item = impl AsRef<[u8]>>) -> Vec<String> {
    txs.into_iter().map(|tx| String::from_utf8(tx.as_ref().to_vec()).unwrap()).collect()
}

fn error(outcome: &CheckOutcome) -> String {
    outcome.error().map(ToString::to_string).unwrap_or_default()
}

fn has(pool: &TxPool, tx: &str) -> bool {
    pool.contains(&sha256(tx.as_bytes()))
}

#[test]
fn reaped_by_priority_then_arrival() {
    let (pool, _) = pool();
    add(&pool, &["5,,,a", "9,,,b", "5,,,c", "-1,,,d", "9,,,e"]);
    assert_eq!(texts(pool.unconfirmed()), ["9,,,b", "9,,,e", "5,,,a", "5,,,c", "-1,,,d"]);
    assert_eq!(texts(pool.reap(-1, -1)), texts(pool.unconfirmed()));
    assert_eq!((pool.size(), pool.bytes()), (5, 26));
}

#[test]
fn reaping_stops_at_the_first_that_does_not_fit() {
    let (pool, _) = pool();
    add(&pool, &["5,,10,a", "4,,100,b", "3,,1,c"]);
    assert!(pool.reap(0, -1).is_empty());
    // 7 bytes, key and length: 9 within a block.
    assert!(pool.reap(8, -1).is_empty());
    assert_eq!(texts(pool.reap(9, -1)), ["5,,10,a"]);
    assert_eq!(texts(pool.reap(18, -1)), ["5,,10,a"], "the next one takes 10 bytes; the one after is not tried");
    assert_eq!(pool.reap(27, -1).len(), 3);
    assert_eq!(texts(pool.reap(-1, 109)), ["5,,10,a"]);
    assert_eq!(pool.reap(-1, 110).len(), 2);
    assert_eq!(pool.reap(-1, 111).len(), 3);
    assert!(pool.reap(-1, 0).is_empty());
}

#[test]
fn gas_sums_do_not_overflow() {
    let (pool, _) = pool();
    let most = i64::MAX;
    add(&pool, &[&format!("5,,{most},a"), &format!("4,,{most},b")]);
    assert_eq!(pool.reap(-1, most - 1).len(), 0);
    assert_eq!(pool.reap(-1, -1).len(), 2);
}

#[test]
fn seen_transactions_are_not_checked_again() {
    let (pool, script) = pool();
    add(&pool, &["1,,,a"]);
    assert_eq!(error(&check(&pool, "1,,,a")), "tx already exists in cache");
    assert!(matches!(check(&pool, "bad"), CheckOutcome::Rejected(result) if result.code == 7));
    assert!(matches!(check(&pool, "bad"), CheckOutcome::Rejected(_)), "bad ones are forgotten");
    assert_eq!(script.lock().checks, 3);

    let (pool, script) = pool_with(TxPoolConfig { keep_invalid_in_cache: true, ..TxPoolConfig::default() });
    assert!(matches!(check(&pool, "bad"), CheckOutcome::Rejected(_)));
    assert_eq!(error(&check(&pool, "bad")), "tx already exists in cache");
    commit(&pool, 1, &["bad"], &[1]);
    assert_eq!(error(&check(&pool, "bad")), "tx already exists in cache");
    assert_eq!(script.lock().checks, 1);
}

#[test]
fn committed_transactions_stay_in_the_cache_if_they_succeeded() {
    let (pool, _) = pool();
    add(&pool, &["1,,,a", "1,,,b"]);
    commit(&pool, 1, &["1,,,a", "1,,,b", "1,,,c"], &[0, 5, 0]);
    assert_eq!(pool.size(), 0);
    assert!(check(&pool, "1,,,a").error().is_some());
    assert!(check(&pool, "1,,,b").is_added());
    assert!(check(&pool, "1,,,c").error().is_some(), "not seen before its block");
    // A block without results counts as failed.
    commit(&pool, 2, &["1,,,b"], &[]);
    assert!(check(&pool, "1,,,b").is_added());
}

#[test]
fn what_is_in_the_pool_is_known_without_a_cache() {
    let (pool, script) = pool_with(TxPoolConfig { cache_size: 0, ..TxPoolConfig::default() });
    add(&pool, &["1,,,a"]);
    assert_eq!(check(&pool, "1,,,a").error(), Some(&PoolError::InCache));
    assert_eq!((pool.size(), script.lock().checks), (1, 1));
}

#[test]
fn cache_is_bounded() {
    let (pool, _) = pool_with(TxPoolConfig { cache_size: 100, max_txs: 10, ..TxPoolConfig::default() });
    for n in 0..1000 {
        check(&pool, &format!("{},,,x", n % 7));
        check(&pool, &format!("{},,,{n}", n % 7));
        assert!(pool.remembered() <= 100 && pool.size() <= 10);
    }
}

#[test]
fn full_pool_gives_up_lower_priorities() {
    let (pool, _) = pool_with(TxPoolConfig { max_txs: 3, ..TxPoolConfig::default() });
    let mut dropped = pool.subscribe_dropped();
    add(&pool, &["5,,,a", "5,,,b", "7,,,c"]);
    let outcome = check(&pool, "5,,,d");
    assert_eq!(error(&outcome), "mempool is full: number of txs 3 (max: 3), total txs bytes 15 (max: 1073741824)");
    assert!(matches!(outcome, CheckOutcome::Refused { result: Some(result), .. } if result.code == 0));
    assert!(check(&pool, "6,,,e").is_added());
    // The newer one of the lowest went.
    assert_eq!(texts(pool.unconfirmed()), ["7,,,c", "6,,,e", "5,,,a"]);
    let notice = dropped.try_recv().unwrap();
    assert_eq!(notice, DroppedTx { hash: sha256(b"5,,,b"), reason: DropReason::Evicted });
    // Neither the refused nor the evicted one is remembered.
    add(&pool, &["8,,,z"]);
    assert!(matches!(check(&pool, "5,,,d").error(), Some(PoolError::Full { .. })));
    assert!(matches!(check(&pool, "5,,,b").error(), Some(PoolError::Full { .. })));
    assert_eq!(check(&pool, "8,,,z").error(), Some(&PoolError::InCache));
}

#[test]
fn full_of_bytes() {
    let (pool, _) = pool_with(TxPoolConfig { max_bytes: 30, ..TxPoolConfig::default() });
    add(&pool, &["1,,,aaaaaa", "2,,,bbbbbb", "3,,,cccccc"]);
    assert_eq!(pool.bytes(), 30);
    assert!(check(&pool, "2,,,ddddddd").error().is_some(), "11 bytes, 10 can be freed");
    assert_eq!(pool.size(), 3, "nothing is given up for nothing");
    assert!(check(&pool, "9,,,eeeeeee").is_added());
    assert_eq!(texts(pool.unconfirmed()), ["9,,,eeeeeee", "3,,,cccccc"]);
    assert_eq!(pool.bytes(), 21);
}

#[test]
fn one_transaction_per_named_sender() {
    let (pool, _) = pool();
    add(&pool, &["1,alice,,a", "1,bob,,b", "1,,,c", "1,,,d"]);
    let text = error(&check(&pool, "9,alice,,e"));
    let hash = upper_hex(&sha256(b"1,alice,,a"));
    assert_eq!(text, format!("rejected valid incoming transaction; tx already exists for sender \"alice\" ({hash})"));
    commit(&pool, 1, &["1,alice,,a"], &[0]);
    add(&pool, &["9,alice,,f"]);
    assert!(pool.remove(&sha256(b"9,alice,,f")));
    assert!(!pool.remove(&sha256(b"9,alice,,f")));
    add(&pool, &["9,alice,,g"]);
}

#[test]
fn sizes_are_checked_before_anything_else() {
    let (pool, script) = pool_with(TxPoolConfig { max_tx_bytes: 50, ..TxPoolConfig::default() });
    let of = |len: usize| format!("1,,,{}", "x".repeat(len - 4));
    assert_eq!(error(&check(&pool, &of(51))), "Tx too large. Max size is 50, but got 51");
    add(&pool, &[&of(50)]);
    let mut state = crate::evidence::tests::Net::new(1).latest().clone();
    // 731 bytes besides the signatures of four validators; then 40 for transactions.
    state.consensus_params.block.max_bytes = 11 + 626 + 94 + 4 * 111 + 40;
    state.consensus_params.block.max_gas = 10;
    pool.follow(&state);
    assert_eq!(error(&check(&pool, &of(39))), "tx size is too big: 41, max: 40");
    add(&pool, &[&of(38)]);
    assert_eq!(error(&check(&pool, "1,,11,a")), "gas wanted 11 is greater than max gas 10");
    assert_eq!(error(&check(&pool, "1,,-1,b")), "gas wanted -1 is negative");
    add(&pool, &["1,,10,c"]);
    state.consensus_params.block.max_bytes = 700;
    pool.follow(&state);
    assert_eq!(error(&check(&pool, "1,,,d")), "tx size is too big: 7, max: 0", "no room at all");
    assert_eq!(script.lock().checks, 5);
}

#[test]
fn the_rest_is_checked_again_after_a_block() {
    let (pool, script) = pool();
    let mut dropped = pool.subscribe_dropped();
    add(&pool, &["1,,,a", "2,,,b", "3,,,c", "4,,,d"]);
    {
        let mut script = script.lock();
        script.bad.insert(b"2,,,b".to_vec());
        script.bad.insert(b"4,,,d".to_vec());
        script.priorities.insert(b"1,,,a".to_vec(), 50);
    }
    commit(&pool, 1, &["4,,,d"], &[0]);
    assert_eq!(texts(pool.unconfirmed()), ["1,,,a", "3,,,c"], "with the new priority");
    assert_eq!(script.lock().rechecks, 3);
    let notice = dropped.try_recv().unwrap();
    assert_eq!(notice.hash, sha256(b"2,,,b"));
    assert!(matches!(notice.reason, DropReason::Invalid(result) if result.log == "bad"));
    assert_eq!(dropped.try_recv(), Err(TryRecvError::Empty));
    // A dropped one may come back.
    script.lock().bad.clear();
    add(&pool, &["2,,,b"]);
    // Gas is held against the limit again.
    let mut state = crate::evidence::tests::Net::new(1).latest().clone();
    state.consensus_params.block.max_gas = 0;
    pool.follow(&state);
    commit(&pool, 2, &[], &[]);
    assert_eq!(pool.size(), 0);
    assert!(matches!(dropped.try_recv().unwrap().reason, DropReason::Unfit(PoolError::Gas { wanted: 1, max: 0 })));
}

#[test]
fn without_recheck_nothing_is_asked() {
    let (pool, script) = pool_with(TxPoolConfig { recheck: false, ..TxPoolConfig::default() });
    add(&pool, &["1,,,a"]);
    script.lock().bad.insert(b"1,,,a".to_vec());
    commit(&pool, 1, &[], &[]);
    assert_eq!((pool.size(), script.lock().rechecks), (1, 0));
}

#[test]
fn waiting_is_limited_by_blocks_and_time() {
    let (pool, _) = pool_with(TxPoolConfig { ttl_blocks: 2, ..TxPoolConfig::default() });
    let mut dropped = pool.subscribe_dropped();
    add(&pool, &["1,,,a"]);
    commit(&pool, 1, &[], &[]);
    add(&pool, &["1,,,b"]);
    commit(&pool, 2, &[], &[]);
    assert_eq!(pool.size(), 2);
    commit(&pool, 3, &[], &[]);
    assert_eq!(texts(pool.unconfirmed()), ["1,,,b"]);
    assert_eq!(dropped.try_recv().unwrap(), DroppedTx { hash: sha256(b"1,,,a"), reason: DropReason::Expired });
    add(&pool, &["1,,,a"]);

    let (pool, _) = pool_with(TxPoolConfig { ttl: Duration::from_millis(30), ..TxPoolConfig::default() });
    add(&pool, &["1,,,a"]);
    std::thread::sleep(Duration::from_millis(40));
    add(&pool, &["1,,,b"]);
    commit(&pool, 1, &[], &[]);
    assert!(!has(&pool, "1,,,a"));
}

#[test]
fn told_once_per_height_that_there_are_transactions() {
    let (pool, _) = pool();
    let mut available = pool.subscribe_available();
    let mut told = || {
        let changed = available.has_changed().unwrap();
        changed.then(|| *available.borrow_and_update())
    };
    assert_eq!(told(), None);
    check(&pool, "bad");
    assert_eq!(told(), None);
    add(&pool, &["1,,,a"]);
    assert_eq!(told(), Some(0));
    add(&pool, &["1,,,b", "1,,,c"]);
    assert_eq!(told(), None);
    commit(&pool, 1, &["1,,,a"], &[0]);
    assert_eq!(told(), Some(1));
    commit(&pool, 2, &["1,,,b", "1,,,c"], &[0, 0]);
    assert_eq!(told(), None);
    add(&pool, &["1,,,d"]);
    assert_eq!(told(), Some(2));
    pool.flush();
    commit(&pool, 3, &[], &[]);
    assert_eq!(told(), None);
    add(&pool, &["1,,,d"]);
    assert_eq!(told(), Some(3));
}

#[test]
fn closed_while_a_commit_is_under_way() {
    let (pool, script) = pool();
    pool.before_commit();
    assert_eq!(check(&pool, "1,,,a").error(), Some(&PoolError::Committing));
    assert_eq!(script.lock().checks, 0);
    pool.commit_failed();
    add(&pool, &["1,,,a"]);
}

#[tokio::test]
async fn submissions_that_wait_are_bounded() {
    let (pool, _) = pool();
    let app = Arc::clone(&pool.app);
    let mut tasks = tokio::task::JoinSet::new();
    let (held, release) = std::sync::mpsc::channel::<()>();
    let (ready, is_ready) = tokio::sync::oneshot::channel();
    let holder = std::thread::spawn(move || {
        let _guard = app.lock();
        ready.send(()).unwrap();
        release.recv().unwrap();
    });
    is_ready.await.unwrap();
    for n in 0..MAX_WAITING_SUBMISSIONS + 10 {
        let pool = Arc::clone(&pool);
        tasks.spawn(async move { pool.submit(Bytes::from(format!("1,,,{n}")), None).await });
    }
    let mut refused = 0;
    for _ in 0..10 {
        let outcome = tasks.join_next().await.unwrap().unwrap();
        assert_eq!(
            error(&outcome),
            format!("too many transactions wait to be checked (max: {MAX_WAITING_SUBMISSIONS})")
        );
        refused += 1;
    }
    assert_eq!(refused, 10);
    // A peer still gets its turn in the queue, and what is known is answered at once.
    let known = Bytes::from("x".repeat((1 << 20) + 1));
    assert!(matches!(pool.submit(known, None).await.error(), Some(PoolError::TooLarge { .. })));
    held.send(()).unwrap();
    while let Some(outcome) = tasks.join_next().await {
        assert!(outcome.unwrap().is_added());
    }
    holder.join().unwrap();
    assert_eq!(pool.size(), MAX_WAITING_SUBMISSIONS);
    assert_eq!(pool.submissions.load(Ordering::Relaxed), 0);
    // A wait that is given up gives its place back.
    let waiting = pool.submit(Bytes::from_static(b"1,,,late"), None);
    drop(waiting);
    assert_eq!(pool.submissions.load(Ordering::Relaxed), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn checks_race_with_commits() {
    let (pool, script) = pool_with(TxPoolConfig { max_txs: 500, ..TxPoolConfig::default() });
    let mut tasks = tokio::task::JoinSet::new();
    for sender in 0..8 {
        let pool = Arc::clone(&pool);
        tasks.spawn(async move {
            for n in 0..250 {
                let peer = PeerId::new(&format!("peer{sender}"));
                // Half of them come from two peers.
                let tx = format!("{},,,{}", n % 10, if n % 2 == 0 { n } else { sender * 1000 + n });
                pool.submit(Bytes::from(tx), Some(peer)).await;
            }
        });
    }
    let committer = {
        let (pool, script) = (Arc::clone(&pool), Arc::clone(&script));
        std::thread::spawn(move || {
            let mut committed = HashSet::new();
            for height in 1..=40 {
                let txs = texts(pool.reap(300, -1));
                assert!(txs.iter().all(|tx| committed.insert(tx.clone())), "a transaction was in two blocks");
                // What was committed is bad from now on: nothing of it may be left or come back.
                script.lock().bad.extend(txs.iter().map(|tx| tx.as_bytes().to_vec()));
                let refs: Vec<_> = txs.iter().map(String::as_str).collect();
                commit(&pool, height, &refs, &vec![0; refs.len()]);
                let left = pool.unconfirmed();
                let bad = &script.lock().bad;
                assert!(left.iter().all(|tx| !bad.contains(&tx[..])), "height {height}");
                std::thread::sleep(Duration::from_millis(2));
            }
        })
    };
    while tasks.join_next().await.is_some() {}
    committer.join().unwrap();
    let all = pool.unconfirmed();
    assert!(all.len() <= 500);
    assert_eq!(all.iter().map(|tx| tx.len() as u64).sum::<u64>(), pool.bytes());
    assert_eq!(all.iter().collect::<HashSet<_>>().len(), all.len());
}

/// The reference's rules, written down plainly.
#[derive(Debug, Default)]
struct Model {
    /// By arrival.
    txs: Vec<(String, i64, String)>,
    /// Oldest first.
    cache: Vec<String>,
    max_txs: usize,
    max_bytes: usize,
    cache_size: usize,
}

impl Model {
    fn push(&mut self, tx: &str) -> bool {
        let known = self.cache.iter().any(|seen| seen == tx);
        self.forget(tx);
        if self.cache.len() == self.cache_size {
            self.cache.remove(0);
        }
        self.cache.push(tx.to_owned());
        !known
    }

    fn forget(&mut self, tx: &str) {
        self.cache.retain(|seen| seen != tx);
    }

    fn bytes(&self) -> usize {
        self.txs.iter().map(|(tx, ..)| tx.len()).sum()
    }

    fn check(&mut self, script: &Script, tx: &str) -> &'static str {
        let pooled = self.txs.iter().any(|(known, ..)| known == tx);
        if !self.push(tx) || pooled {
            return "cache";
        }
        let result = judge(script, tx.as_bytes());
        if result.code != 0 {
            self.forget(tx);
            return "bad";
        }
        if !result.sender.is_empty() && self.txs.iter().any(|(.., sender)| *sender == result.sender) {
            return "sender";
        }
        if self.txs.len() >= self.max_txs || self.bytes() + tx.len() > self.max_bytes {
            let mut victims: Vec<(i64, usize)> = (0..self.txs.len())
                .filter(|&at| self.txs[at].1 < result.priority)
                .map(|at| (self.txs[at].1, at))
                .collect();
            let total: usize = victims.iter().map(|&(_, at)| self.txs[at].0.len()).sum();
            if victims.is_empty() || total < tx.len() {
                self.forget(tx);
                return "full";
            }
            victims.sort_by_key(|&(priority, at)| (priority, std::cmp::Reverse(at)));
            let mut freed = 0;
            let mut gone = Vec::new();
            for (_, at) in victims {
                freed += self.txs[at].0.len();
                gone.push(self.txs[at].0.clone());
                if freed >= tx.len() {
                    break;
                }
            }
            for tx in gone {
                self.txs.retain(|(kept, ..)| *kept != tx);
                self.forget(&tx);
            }
        }
        self.txs.push((tx.to_owned(), result.priority, result.sender));
        "added"
    }

    fn commit(&mut self, script: &Script, txs: &[(&str, u32)]) {
        for (tx, code) in txs {
            if *code == 0 {
                self.push(tx);
            } else {
                self.forget(tx);
            }
            self.txs.retain(|(kept, ..)| kept != tx);
        }
        for (tx, ..) in std::mem::take(&mut self.txs) {
            let result = judge(script, tx.as_bytes());
            if result.code == 0 {
                self.txs.push((tx, result.priority, result.sender));
            } else {
                self.forget(&tx);
            }
        }
    }

    fn sorted(&self) -> Vec<String> {
        let mut all = self.txs.clone();
        all.sort_by_key(|(_, priority, _)| std::cmp::Reverse(*priority));
        all.into_iter().map(|(tx, ..)| tx).collect()
    }
}

#[derive(Debug, Clone)]
enum Step {
    Check(usize),
    Commit(Vec<(usize, bool)>),
    Spoil(usize),
    Mend(usize),
    Reprioritize(usize, i64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        10 => (0..40_usize).prop_map(Step::Check),
        2 => proptest::collection::vec((0..40_usize, any::<bool>()), 0..6).prop_map(Step::Commit),
        1 => (0..40_usize).prop_map(Step::Spoil),
        1 => (0..40_usize).prop_map(Step::Mend),
        1 => (0..40_usize, 0..8_i64).prop_map(|(tx, priority)| Step::Reprioritize(tx, priority)),
    ];
    proptest::collection::vec(step, 0..120)
}

/// Forty transactions of different lengths, some of named senders.
fn tx_of(n: usize) -> String {
    let sender = if n.is_multiple_of(4) { format!("s{}", n % 3) } else { String::new() };
    format!("{},{sender},,{}{n}", n % 7, "x".repeat(n % 11))
}

proptest! {
    #[test]
    fn equals_the_plain_model(steps in steps(), max_txs in 1..12_usize, max_bytes in 20..200_usize, cache_size in 1..30_usize) {
        let config = TxPoolConfig { max_txs, max_bytes: max_bytes as u64, cache_size, ..TxPoolConfig::default() };
        let (pool, script) = pool_with(config);
        let mut model = Model { max_txs, max_bytes, cache_size, ..Model::default() };
        let mut height = 0;
        for step in steps {
            match step {
                Step::Check(n) => {
                    let outcome = match check(&pool, &tx_of(n)) {
                        CheckOutcome::Added(_) => "added",
                        CheckOutcome::Rejected(_) => "bad",
                        CheckOutcome::Refused { error: PoolError::InCache, .. } => "cache",
                        CheckOutcome::Refused { error: PoolError::SenderBusy { .. }, .. } => "sender",
                        CheckOutcome::Refused { error: PoolError::Full { .. }, .. } => "full",
                        CheckOutcome::Refused { .. } => "other",
                    };
                    prop_assert_eq!(outcome, model.check(&script.lock(), &tx_of(n)));
                }
                Step::Commit(txs) => {
                    height += 1;
                    let txs: Vec<_> = txs.into_iter().map(|(n, good)| (tx_of(n), u32::from(!good))).collect();
                    let refs: Vec<_> = txs.iter().map(|(tx, code)| (tx.as_str(), *code)).collect();
                    let (names, codes): (Vec<_>, Vec<_>) = refs.iter().copied().unzip();
                    commit(&pool, height, &names, &codes);
                    model.commit(&script.lock(), &refs);
                }
                Step::Spoil(n) => { script.lock().bad.insert(tx_of(n).into_bytes()); }
                Step::Mend(n) => { script.lock().bad.remove(tx_of(n).as_bytes()); }
                Step::Reprioritize(n, priority) => {
                    script.lock().priorities.insert(tx_of(n).into_bytes(), priority);
                }
            }
            prop_assert_eq!(texts(pool.unconfirmed()), model.sorted());
            prop_assert_eq!((pool.size(), pool.bytes() as usize), (model.txs.len(), model.bytes()));
            prop_assert!(pool.size() <= max_txs && pool.bytes() as usize <= max_bytes);
            prop_assert_eq!(pool.remembered(), model.cache.len());
        }
    }
}
