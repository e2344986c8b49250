//! A store on a simulated machine that crashes at a chosen write.

use std::ops::ControlFlow;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::{Batch, Durability, KvError, KvStats, KvStore, Memory, Order};

/// When and how the machine crashes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Crash {
    /// Number of the write, counted from 0, at which it crashes.
    pub at_write: u64,
    /// Whether that write still takes effect, with only its confirmation lost.
    pub applied: bool,
}

/// A store whose unsynced writes can be lost: after a crash, [`Faulty::restart`] gives what the disk kept.
#[derive(Debug)]
pub struct Faulty {
    /// What a running process sees.
    seen: Memory,
    disk: Mutex<Disk>,
    crash: Option<Crash>,
}

#[derive(Debug)]
struct Disk {
    synced: Memory,
    unsynced: Vec<Batch>,
    writes: u64,
    down: bool,
}

impl Faulty {
    /// A store that starts with the contents of `disk` and crashes as told, or never.
    pub fn new(disk: Memory, crash: Option<Crash>) -> Self {
        let state = Disk { synced: disk.clone(), unsynced: Vec::new(), writes: 0, down: false };
        Self { seen: disk, disk: Mutex::new(state), crash }
    }

    fn lock(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Number of writes and syncs so far: the crash points there are.
    pub fn writes(&self) -> u64 {
        self.lock().writes
    }

    /// Whether the machine crashed.
    pub fn is_down(&self) -> bool {
        self.lock().down
    }

    /// What is on disk after the machine is started again: everything synced, and of the writes since, in order, as
    /// many as `luck` says (modulo their number plus one).
    pub fn restart(&self, luck: u64) -> Memory {
        let disk = self.lock();
        let out = disk.synced.clone();
        let kept = luck % (disk.unsynced.len() as u64 + 1);
        for batch in disk.unsynced.iter().take(usize::try_from(kept).unwrap_or(usize::MAX)) {
            // Accepted once, so accepted again.
            let _ = out.apply(batch);
        }
        out
    }

    /// Counts a write; returns whether it takes effect and whether it is confirmed.
    fn count(&self, disk: &mut Disk) -> Result<(bool, bool), KvError> {
        if disk.down {
            return Err(KvError::Crashed);
        }
        let number = disk.writes;
        disk.writes += 1;
        match self.crash {
            Some(crash) if crash.at_write == number => {
                disk.down = true;
                Ok((crash.applied, false))
            }
            _ => Ok((true, true)),
        }
    }

    fn check(&self) -> Result<(), KvError> {
        if self.is_down() { Err(KvError::Crashed) } else { Ok(()) }
    }
}

impl Disk {
    fn flush(&mut self) -> Result<(), KvError> {
        for batch in std::mem::take(&mut self.unsynced) {
            self.synced.apply(&batch)?;
        }
        Ok(())
    }
}

impl KvStore for Faulty {
    fn get_with(&self, key: &[u8], visit: &mut dyn FnMut(&[u8])) -> Result<bool, KvError> {
        self.check()?;
        self.seen.get_with(key, visit)
    }

    fn scan(
        &self,
        from: &[u8],
        to: Option<&[u8]>,
        order: Order,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<(), KvError> {
        self.check()?;
        self.seen.scan(from, to, order, visit)
    }

    fn write(&self, batch: &Batch, durability: Durability) -> Result<(), KvError> {
        let mut disk = self.lock();
        let (applied, confirmed) = self.count(&mut disk)?;
        if applied {
            self.seen.apply(batch)?;
            disk.unsynced.push(batch.clone());
            if durability == Durability::Synced {
                disk.flush()?;
            }
        }
        if confirmed { Ok(()) } else { Err(KvError::Crashed) }
    }

    fn sync(&self) -> Result<(), KvError> {
        let mut disk = self.lock();
        let (applied, confirmed) = self.count(&mut disk)?;
        if applied {
            disk.flush()?;
        }
        if confirmed { Ok(()) } else { Err(KvError::Crashed) }
    }

    fn compact(&self) -> Result<(), KvError> {
        self.check()
    }

    fn stats(&self) -> Result<KvStats, KvError> {
        self.check()?;
        self.seen.stats()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conforms_while_it_is_up() {
        crate::conformance::run(&mut || Faulty::new(Memory::new(), None));
    }

    #[test]
    fn keeps_a_prefix_and_everything_synced() {
        let put = |n: u8| {
            let mut b = Batch::new();
            b.put(&[n], &[n]);
            b
        };
        for at_write in 0..6 {
            for applied in [false, true] {
                let store = Faulty::new(Memory::new(), Some(Crash { at_write, applied }));
                for n in 1..=6u8 {
                    let durability = if n == 3 { Durability::Synced } else { Durability::Buffered };
                    assert_eq!(store.write(&put(n), durability).is_ok(), u64::from(n) <= at_write);
                }
                assert!(store.is_down() && store.get(&[1]).is_err());
                for luck in 0..10 {
                    let disk = store.restart(luck);
                    let kept = (1..=6u8).take_while(|n| disk.get(&[*n]).unwrap().is_some()).count() as u64;
                    let most = at_write + u64::from(applied);
                    assert!(kept <= most && (most < 3 || kept >= 3), "{at_write} {applied} {luck}: {kept}");
                    assert_eq!(disk.stats().unwrap().used_bytes, kept * 2);
                }
            }
        }
    }
}
