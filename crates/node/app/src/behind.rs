//! A key-value store whose writes reach the disk behind the back of whoever writes.

use std::{
    collections::{BTreeMap, VecDeque},
    ops::ControlFlow,
    sync::Arc,
    thread::JoinHandle,
};

use base_kv::{Batch, Durability, KvError, KvStats, KvStore, Op, Order, Visit};
use parking_lot::{Condvar, Mutex, MutexGuard};

/// Batches that may wait; who writes more waits for the disk.
const MAX_BATCHES: usize = 16;
/// Bytes that may wait, unless a single batch is larger.
const MAX_BYTES: usize = 32 << 20;
/// Changes that reads look through; with more waiting they wait for the disk first.
const MAX_SEARCHED: usize = 20_000;
/// Longest key, as every store has it: refused before it waits.
const MAX_KEY: usize = 500;

/// Writes on a thread of its own, in the order of writing. Reads see everything that was written at once.
///
/// A synced write returns before it is on disk: after a power loss up to `MAX_BATCHES` of the newest batches are gone,
/// never one without those after it. That is right for state that can be made again from what is kept elsewhere, as
/// the application's state from stored blocks, and for nothing else. [`KvStore::sync`] waits for everything.
///
/// A write that fails is reported by every later call that writes; nothing after it is written.
pub struct WriteBehind {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    inner: Arc<dyn KvStore>,
    queue: Mutex<Queue>,
    changed: Condvar,
}

#[derive(Default)]
struct Queue {
    // Oldest first; those being written stay until they are.
    waiting: VecDeque<(Arc<Batch>, Durability)>,
    ops: usize,
    bytes: usize,
    stop: bool,
    failed: Option<String>,
}

impl Queue {
    fn check(&self) -> Result<(), KvError> {
        match &self.failed {
            None => Ok(()),
            Some(text) => Err(KvError::Engine { action: "write behind", source: text.clone().into() }),
        }
    }

    fn batches(&self) -> Vec<Arc<Batch>> {
        self.waiting.iter().map(|(batch, _)| batch.clone()).collect()
    }
}

impl WriteBehind {
    /// Puts writes to `inner` onto a thread of their own. Nobody else may write to `inner`.
    ///
    /// # Errors
    /// If the thread cannot be started.
    pub fn new(inner: Arc<dyn KvStore>) -> std::io::Result<Self> {
        let shared = Arc::new(Shared { inner, queue: Mutex::default(), changed: Condvar::new() });
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

    /// What waits to be written, if that is little enough to look through. After a failure it stays visible.
    fn pending(&self) -> Vec<Arc<Batch>> {
        let mut queue = self.shared.queue.lock();
        self.shared.changed.wait_while(&mut queue, |q| q.failed.is_none() && q.ops > MAX_SEARCHED);
        queue.batches()
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
                queue.waiting.iter().cloned().collect()
            };
            let result = self.write(&batches);
            let mut queue = self.queue.lock();
            match result {
                Ok(()) => {
                    for (batch, _) in queue.waiting.drain(..batches.len()).collect::<Vec<_>>() {
                        queue.ops -= batch.len();
                        queue.bytes -= batch.bytes();
                    }
                }
                Err(e) => queue.failed = Some(e.to_string()),
            }
            self.changed.notify_all();
            if queue.failed.is_some() {
                return;
            }
        }
    }

    /// Writes the batches as one: all of them become durable together.
    fn write(&self, batches: &[(Arc<Batch>, Durability)]) -> Result<(), KvError> {
        if let [(batch, durability)] = batches {
            return self.inner.write(batch, *durability);
        }
        let synced = batches.iter().any(|(_, d)| *d == Durability::Synced);
        let mut all = Batch::new();
        for op in batches.iter().flat_map(|(batch, _)| batch.iter()) {
            match op {
                Op::Put(key, value) => all.put(key, value),
                Op::Delete(key) => all.delete(key),
            };
        }
        self.inner.write(&all, if synced { Durability::Synced } else { Durability::Buffered })
    }
}

impl KvStore for WriteBehind {
    fn get_with(&self, key: &[u8], visit: &mut dyn FnMut(&[u8])) -> Result<bool, KvError> {
        for batch in self.pending().iter().rev() {
            let found = batch.iter().filter(|op| matches!(op, Op::Put(k, _) | Op::Delete(k) if *k == key)).last();
            match found {
                Some(Op::Put(_, value)) => {
                    visit(value);
                    return Ok(true);
                }
                Some(Op::Delete(_)) => return Ok(false),
                None => {}
            }
        }
        self.shared.inner.get_with(key, visit)
    }

    fn scan(&self, from: &[u8], to: Option<&[u8]>, order: Order, visit: Visit<'_>) -> Result<(), KvError> {
        let pending = self.pending();
        let mut changes: BTreeMap<&[u8], Option<&[u8]>> = BTreeMap::new();
        for op in pending.iter().flat_map(|batch| batch.iter()) {
            let (key, value) = match op {
                Op::Put(key, value) => (key, Some(value)),
                Op::Delete(key) => (key, None),
            };
            if key >= from && to.is_none_or(|to| key < to) {
                changes.insert(key, value);
            }
        }
        if changes.is_empty() {
            return self.shared.inner.scan(from, to, order, visit);
        }
        let mut own: VecDeque<_> = match order {
            Order::Forward => changes.into_iter().collect(),
            Order::Reverse => changes.into_iter().rev().collect(),
        };
        let before = |a: &[u8], b: &[u8]| if order == Order::Forward { a < b } else { a > b };
        let mut stopped = false;
        self.shared.inner.scan(from, to, order, &mut |key, value| {
            while let Some(&(k, v)) = own.front()
                && before(k, key)
            {
                own.pop_front();
                stopped = v.is_some_and(|v| visit(k, v).is_break());
                if stopped {
                    return ControlFlow::Break(());
                }
            }
            let flow = match own.front() {
                Some(&(k, v)) if k == key => {
                    own.pop_front();
                    v.map_or(ControlFlow::Continue(()), |v| visit(k, v))
                }
                _ => visit(key, value),
            };
            stopped = flow.is_break();
            flow
        })?;
        while !stopped && let Some((k, v)) = own.pop_front() {
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
        let bytes = batch.bytes();
        let full = |q: &Queue| {
            let many = q.waiting.len() >= MAX_BATCHES || q.bytes.saturating_add(bytes) > MAX_BYTES;
            !q.waiting.is_empty() && many
        };
        let mut queue = self.wait_while(full)?;
        queue.waiting.push_back((Arc::new(batch.clone()), durability));
        queue.ops += batch.len();
        queue.bytes += bytes;
        drop(queue);
        self.shared.changed.notify_all();
        Ok(())
    }

    fn sync(&self) -> Result<(), KvError> {
        drop(self.wait_while(|q| !q.waiting.is_empty())?);
        self.shared.inner.sync()
    }

    fn compact(&self) -> Result<(), KvError> {
        drop(self.wait_while(|q| !q.waiting.is_empty())?);
        self.shared.inner.compact()
    }

    fn stats(&self) -> Result<KvStats, KvError> {
        self.shared.inner.stats()
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
        drop(store.wait_while(|q| !q.waiting.is_empty()).unwrap());
        // The first of these fails behind our back, and then we are told.
        while put(&store, "b", "2").is_ok() {
            std::thread::yield_now();
        }
        assert!(store.sync().is_err());
        drop(store);
        assert_eq!(pairs(&disk.restart(0), Order::Forward), "a=1 ");
    }

    #[test]
    fn no_more_waits_than_the_limit() {
        let gate = Arc::new(Gate { inner: Memory::new(), open: Mutex::new(false), opened: Condvar::new() });
        let store = Arc::new(WriteBehind::new(gate.clone()).unwrap());
        for i in 0..MAX_BATCHES {
            put(&*store, &format!("k{i:02}"), "v").unwrap();
        }
        let writer = store.clone();
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
