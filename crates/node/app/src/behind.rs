//! A key-value store whose writes reach the disk behind the back of whoever writes.

use std::{
    collections::VecDeque,
    ops::{ControlFlow, Range},
    sync::Arc,
    thread::JoinHandle,
    time::Duration,
};

use base_kv::{Batch, Durability, KvError, KvStats, KvStore, Op, Order, Visit};
use parking_lot::{Condvar, Mutex, MutexGuard};

/// Batches that may wait; who writes more waits for the disk.
pub(crate) const MAX_BATCHES: usize = 32;
/// How long batches wait for more, unless half of what may wait does. Many written as one cost little more than one.
const GATHER: Duration = Duration::from_millis(50);
/// Bytes that may wait, unless a single batch is larger.
const MAX_BYTES: usize = 32 << 20;
/// Longest key, as every store has it: refused before it waits.
const MAX_KEY: usize = 500;

/// Writes on a thread of its own, in the order of writing. Reads see everything that was written at once.
///
/// A synced write returns before it is on disk: after a power loss, or if the process is killed, up to 32 of the
/// newest batches are gone, never one without those after it. That is right for state that can be made again from
/// what is kept elsewhere, as the application's state from stored blocks, and for nothing else. [`KvStore::sync`] waits
/// for everything.
///
/// A write that fails is reported by every later call that writes; nothing after it is written.
pub struct WriteBehind {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// The changes of a batch in the order of their keys, one for each key.
struct Changes {
    data: Vec<u8>,
    // Where each key and value is in `data`; no value for a removal.
    ops: Vec<(Range<usize>, Option<Range<usize>>)>,
}

impl Changes {
    fn of(batch: &Batch) -> Self {
        let mut ops: Vec<(&[u8], Option<&[u8]>)> = Vec::with_capacity(batch.len());
        for op in batch.iter() {
            ops.push(match op {
                Op::Put(key, value) => (key, Some(value)),
                Op::Delete(key) => (key, None),
            });
        }
        // The sort keeps the order of equal keys; the last one counts.
        ops.sort_by_key(|(key, _)| *key);
        let mut data = Vec::with_capacity(batch.bytes());
        let mut push = |bytes: &[u8]| {
            let start = data.len();
            data.extend_from_slice(bytes);
            start..data.len()
        };
        let mut kept = Vec::with_capacity(ops.len());
        for (at, (key, value)) in ops.iter().enumerate() {
            if ops.get(at + 1).is_none_or(|(next, _)| next != key) {
                kept.push((push(key), value.map(&mut push)));
            }
        }
        Self { data, ops: kept }
    }

    fn slice(&self, range: &Range<usize>) -> &[u8] {
        self.data.get(range.clone()).unwrap_or_default()
    }

    fn pair(&self, (key, value): &(Range<usize>, Option<Range<usize>>)) -> (&[u8], Option<&[u8]>) {
        (self.slice(key), value.as_ref().map(|v| self.slice(v)))
    }

    fn get(&self, key: &[u8]) -> Option<Option<&[u8]>> {
        let at = self.ops.binary_search_by(|(k, _)| self.slice(k).cmp(key)).ok()?;
        self.ops.get(at).map(|op| self.pair(op).1)
    }

    fn range<'a>(&'a self, from: &[u8], to: Option<&[u8]>) -> impl DoubleEndedIterator<Item = Pair<'a>> + use<'a> {
        let start = self.ops.partition_point(|(k, _)| self.slice(k) < from);
        let end = to.map_or(self.ops.len(), |to| self.ops.partition_point(|(k, _)| self.slice(k) < to));
        self.ops.get(start..end.max(start)).unwrap_or_default().iter().map(|op| self.pair(op))
    }
}

/// Batches that wait, the oldest first, as readers see them.
type Waiting = Arc<[Arc<Changes>]>;

struct Shared {
    inner: Arc<dyn KvStore>,
    queue: Mutex<Queue>,
    changed: Condvar,
    gather: Duration,
}

struct Queue {
    // Oldest first; those being written stay until they are.
    waiting: VecDeque<(Arc<Changes>, Durability)>,
    seen: Waiting,
    bytes: usize,
    // Somebody waits until everything is written.
    hurry: usize,
    stop: bool,
    failed: Option<String>,
}

impl Queue {
    /// Whether there is time to wait for more.
    fn may_gather(&self) -> bool {
        let little = self.waiting.len() < MAX_BATCHES / 2 && self.bytes < MAX_BYTES / 2;
        little && self.hurry == 0 && !self.stop
    }

    fn check(&self) -> Result<(), KvError> {
        match &self.failed {
            None => Ok(()),
            Some(text) => Err(KvError::Engine { action: "write behind", source: text.clone().into() }),
        }
    }

    fn show(&mut self) {
        self.seen = self.waiting.iter().map(|(changes, _)| Arc::clone(changes)).collect();
    }
}

impl WriteBehind {
    /// Puts writes to `inner` onto a thread of their own. Nobody else may write to `inner`.
    ///
    /// # Errors
    /// If the thread cannot be started.
    pub fn new(inner: Arc<dyn KvStore>) -> std::io::Result<Self> {
        Self::with_delay(inner, GATHER)
    }

    /// As [`WriteBehind::new`], where batches wait that long for more.
    ///
    /// # Errors
    /// If the thread cannot be started.
    pub(crate) fn with_delay(inner: Arc<dyn KvStore>, gather: Duration) -> std::io::Result<Self> {
        let queue = Queue {
            waiting: VecDeque::new(),
            seen: Arc::from(Vec::new()),
            bytes: 0,
            hurry: 0,
            stop: false,
            failed: None,
        };
        let shared = Arc::new(Shared { inner, queue: Mutex::new(queue), changed: Condvar::new(), gather });
        let writer = shared.clone();
        let thread = std::thread::Builder::new().name("write-behind".to_owned()).spawn(move || writer.run())?;
        Ok(Self { shared, thread: Some(thread) })
    }

    fn wait_while(&self, mut more: impl FnMut(&Queue) -> bool) -> Result<MutexGuard<'_, Queue>, KvError> {
        let mut queue = self.shared.queue.lock();
        self.shared.changed.wait_while(&mut queue, |q| q.failed.is_none() && more(q));
        queue.check()?;
        Ok(queue)
    }

    /// Waits until everything is written.
    fn drain(&self) -> Result<(), KvError> {
        self.shared.queue.lock().hurry += 1;
        self.shared.changed.notify_all();
        let drained = self.wait_while(|q| !q.waiting.is_empty()).map(drop);
        self.shared.queue.lock().hurry -= 1;
        drained
    }

    /// What waits to be written. After a failure it stays visible.
    fn pending(&self) -> Waiting {
        Arc::clone(&self.shared.queue.lock().seen)
    }
}

impl Shared {
    fn run(&self) {
        loop {
            let batches: Vec<_> = {
                let mut queue = self.queue.lock();
                self.changed.wait_while(&mut queue, |q| q.waiting.is_empty() && !q.stop);
                if queue.waiting.is_empty() {
                    return;
                }
                self.changed.wait_while_for(&mut queue, |q| q.may_gather(), self.gather);
                queue.waiting.iter().cloned().collect()
            };
            let result = self.write(&batches);
            let mut queue = self.queue.lock();
            match result {
                Ok(()) => {
                    for (changes, _) in queue.waiting.drain(..batches.len()).collect::<Vec<_>>() {
                        queue.bytes -= changes.data.len();
                    }
                    queue.show();
                }
                Err(e) => queue.failed = Some(e.to_string()),
            }
            self.changed.notify_all();
            if queue.failed.is_some() {
                return;
            }
        }
    }

    /// Writes the batches as one, each key once: all of them become durable together.
    fn write(&self, batches: &[(Arc<Changes>, Durability)]) -> Result<(), KvError> {
        let synced = batches.iter().any(|(_, d)| *d == Durability::Synced);
        let mut all = Batch::new();
        for (key, value) in Merged::new(batches.iter().map(|(c, _)| &**c), &[], None, Order::Forward) {
            match value {
                Some(value) => all.put(key, value),
                None => all.delete(key),
            };
        }
        self.inner.write(&all, if synced { Durability::Synced } else { Durability::Buffered })
    }
}

/// The changes of several batches in the order of their keys; where several change a key, the newest counts.
struct Merged<'a> {
    // Newest first.
    sources: Vec<std::iter::Peekable<Source<'a>>>,
    order: Order,
}

type Pair<'a> = (&'a [u8], Option<&'a [u8]>);
type Source<'a> = Box<dyn Iterator<Item = Pair<'a>> + 'a>;

impl<'a> Merged<'a> {
    fn new(
        batches: impl DoubleEndedIterator<Item = &'a Changes>,
        from: &[u8],
        to: Option<&[u8]>,
        order: Order,
    ) -> Self {
        let source = |changes: &'a Changes| -> Source<'a> {
            let range = changes.range(from, to);
            if order == Order::Forward { Box::new(range) } else { Box::new(range.rev()) }
        };
        Self { sources: batches.rev().map(|c| source(c).peekable()).collect(), order }
    }

    fn peek(&mut self) -> Option<&'a [u8]> {
        let keys = self.sources.iter_mut().filter_map(|s| s.peek().map(|(key, _)| *key));
        if self.order == Order::Forward { keys.min() } else { keys.max() }
    }
}

impl<'a> Iterator for Merged<'a> {
    type Item = Pair<'a>;

    fn next(&mut self) -> Option<Pair<'a>> {
        let key = self.peek()?;
        let mut found = None;
        for source in &mut self.sources {
            let here = source.next_if(|(k, _)| *k == key);
            found = found.or(here);
        }
        found
    }
}

impl KvStore for WriteBehind {
    fn get_with(&self, key: &[u8], visit: &mut dyn FnMut(&[u8])) -> Result<bool, KvError> {
        for changes in self.pending().iter().rev() {
            match changes.get(key) {
                Some(Some(value)) => {
                    visit(value);
                    return Ok(true);
                }
                Some(None) => return Ok(false),
                None => {}
            }
        }
        self.shared.inner.get_with(key, visit)
    }

    fn scan(&self, from: &[u8], to: Option<&[u8]>, order: Order, visit: Visit<'_>) -> Result<(), KvError> {
        // Taken before the store is read: what is written in between is seen twice, with the same values.
        let pending = self.pending();
        let mut own = Merged::new(pending.iter().map(|c| &**c), from, to, order);
        let before = |a: &[u8], b: &[u8]| if order == Order::Forward { a < b } else { a > b };
        let mut stopped = false;
        self.shared.inner.scan(from, to, order, &mut |key, value| {
            while own.peek().is_some_and(|k| before(k, key)) {
                let Some((k, v)) = own.next() else { break };
                stopped = v.is_some_and(|v| visit(k, v).is_break());
                if stopped {
                    return ControlFlow::Break(());
                }
            }
            let flow = match own.peek() {
                Some(k) if k == key => match own.next() {
                    Some((k, Some(v))) => visit(k, v),
                    _ => ControlFlow::Continue(()),
                },
                _ => visit(key, value),
            };
            stopped = flow.is_break();
            flow
        })?;
        while !stopped && let Some((k, v)) = own.next() {
            stopped = v.is_some_and(|v| visit(k, v).is_break());
        }
        Ok(())
    }

    fn write(&self, batch: &Batch, durability: Durability) -> Result<(), KvError> {
        for op in batch.iter() {
            let (Op::Put(key, _) | Op::Delete(key)) = op;
            if key.is_empty() || key.len() > MAX_KEY {
                return Err(KvError::Key { len: key.len() });
            }
        }
        let changes = Arc::new(Changes::of(batch));
        let bytes = changes.data.len();
        let full = |q: &Queue| {
            let many = q.waiting.len() >= MAX_BATCHES || q.bytes.saturating_add(bytes) > MAX_BYTES;
            !q.waiting.is_empty() && many
        };
        let mut queue = self.wait_while(full)?;
        queue.waiting.push_back((changes, durability));
        queue.show();
        queue.bytes += bytes;
        drop(queue);
        self.shared.changed.notify_all();
        Ok(())
    }

    fn sync(&self) -> Result<(), KvError> {
        self.drain()?;
        self.shared.inner.sync()
    }

    fn compact(&self) -> Result<(), KvError> {
        self.drain()?;
        self.shared.inner.compact()
    }

    /// Bytes that wait to be written count as used.
    fn stats(&self) -> Result<KvStats, KvError> {
        let waiting = self.shared.queue.lock().bytes as u64;
        let stats = self.shared.inner.stats()?;
        Ok(KvStats { used_bytes: stats.used_bytes.saturating_add(waiting), ..stats })
    }
}

impl Drop for WriteBehind {
    /// Waits until everything is written.
    fn drop(&mut self) {
        self.shared.queue.lock().stop = true;
        self.shared.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            // A writer that panicked has failed already.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use base_kv::{Crash, Faulty, Memory, conformance};

    use super::*;

    #[test]
    fn is_a_store_like_any_other() {
        conformance::run(&mut || WriteBehind::new(Arc::new(Memory::new())).unwrap());
    }

    /// A store whose writes wait until they are let through.
    struct Gate {
        inner: Memory,
        open: Mutex<bool>,
        opened: Condvar,
    }

    impl Gate {
        fn set(&self, open: bool) {
            *self.open.lock() = open;
            self.opened.notify_all();
        }
    }

    impl KvStore for Gate {
        fn get_with(&self, key: &[u8], visit: &mut dyn FnMut(&[u8])) -> Result<bool, KvError> {
            self.inner.get_with(key, visit)
        }
        fn scan(&self, from: &[u8], to: Option<&[u8]>, order: Order, visit: Visit<'_>) -> Result<(), KvError> {
            self.inner.scan(from, to, order, visit)
        }
        fn write(&self, batch: &Batch, durability: Durability) -> Result<(), KvError> {
            self.opened.wait_while(&mut self.open.lock(), |open| !*open);
            self.inner.write(batch, durability)
        }
        fn sync(&self) -> Result<(), KvError> {
            self.inner.sync()
        }
        fn compact(&self) -> Result<(), KvError> {
            self.inner.compact()
        }
        fn stats(&self) -> Result<KvStats, KvError> {
            self.inner.stats()
        }
    }

    fn put(store: &dyn KvStore, key: &str, value: &str) -> Result<(), KvError> {
        store.write(Batch::new().put(key.as_bytes(), value.as_bytes()), Durability::Synced)
    }

    fn pairs(store: &dyn KvStore, order: Order) -> String {
        let mut all = String::new();
        store
            .scan(b"a", None, order, &mut |k, v| {
                all += &format!("{}={} ", String::from_utf8_lossy(k), String::from_utf8_lossy(v));
                ControlFlow::Continue(())
            })
            .unwrap();
        all
    }

    #[test]
    fn what_waits_is_read_like_what_is_written() {
        let gate = Arc::new(Gate { inner: Memory::new(), open: Mutex::new(true), opened: Condvar::new() });
        let store = WriteBehind::new(gate.clone()).unwrap();
        for key in ["a", "b", "d"] {
            put(&store, key, "old").unwrap();
        }
        store.sync().unwrap();
        gate.set(false);
        put(&store, "b", "1").unwrap();
        put(&store, "b", "2").unwrap();
        put(&store, "c", "3").unwrap();
        put(&store, "e", "4").unwrap();
        store.write(Batch::new().delete(b"d"), Durability::Buffered).unwrap();
        assert_eq!(pairs(&store, Order::Forward), "a=old b=2 c=3 e=4 ");
        assert_eq!(pairs(&store, Order::Reverse), "e=4 c=3 b=2 a=old ");
        assert_eq!(store.get(b"b").unwrap().as_deref(), Some(&b"2"[..]));
        assert_eq!(store.get(b"d").unwrap(), None);
        assert_eq!(pairs(&*gate, Order::Forward), "a=old b=old d=old ", "nothing is written yet");
        gate.set(true);
        drop(store);
        assert_eq!(pairs(&*gate, Order::Forward), "a=old b=2 c=3 e=4 ");
    }

    #[test]
    fn after_a_failed_write_nothing_more_is_written() {
        let crash = Crash { at_write: 1, applied: false };
        let disk = Arc::new(Faulty::new(Memory::new(), Some(crash)));
        let store = WriteBehind::new(disk.clone()).unwrap();
        put(&store, "a", "1").unwrap();
        store.drain().unwrap();
        // The first of these fails behind our back, and then we are told.
        while put(&store, "b", "2").is_ok() {
            std::thread::yield_now();
        }
        assert!(store.sync().is_err());
        drop(store);
        assert_eq!(pairs(&disk.restart(0), Order::Forward), "a=1 ");
    }

    #[test]
    fn batches_are_gathered_and_written_as_one_and_nobody_waits_for_more_than_there_is() {
        let disk = Arc::new(Faulty::new(Memory::new(), None));
        let store = WriteBehind::with_delay(disk.clone(), Duration::from_secs(3600)).unwrap();
        for i in 0..MAX_BATCHES / 2 - 1 {
            put(&store, "same", &i.to_string()).unwrap();
        }
        std::thread::sleep(Duration::from_millis(20));
        assert_eq!(disk.writes(), 0);
        put(&store, "last", "x").unwrap();
        while disk.writes() == 0 {
            std::thread::yield_now();
        }
        put(&store, "more", "y").unwrap();
        store.sync().unwrap();
        // Half of what may wait as one write, the rest when it was asked for, and the sync itself.
        assert_eq!(disk.writes(), 3);
        put(&store, "at the end", "z").unwrap();
        drop(store);
        assert_eq!(disk.writes(), 4);
        assert_eq!(pairs(&disk.restart(0), Order::Forward), "at the end=z last=x more=y same=14 ");
    }

    #[test]
    fn no_more_waits_than_the_limit() {
        let gate = Arc::new(Gate { inner: Memory::new(), open: Mutex::new(false), opened: Condvar::new() });
        let store = Arc::new(WriteBehind::new(gate.clone()).unwrap());
        for i in 0..MAX_BATCHES {
            put(&*store, &format!("k{i:02}"), "v").unwrap();
        }
        let writer = store.clone();
        assert_eq!(pairs(&*gate, Order::Forward), "");
        let one_more = std::thread::spawn(move || put(&*writer, "last", "v"));
        std::thread::sleep(std::time::Duration::from_millis(50));
        assert!(!one_more.is_finished());
        assert_eq!(store.shared.queue.lock().waiting.len(), MAX_BATCHES);
        gate.set(true);
        one_more.join().unwrap().unwrap();
        store.sync().unwrap();
        assert_eq!(gate.inner.get(b"last").unwrap().as_deref(), Some(&b"v"[..]));
    }
}
