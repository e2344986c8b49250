//! A thread with an owner: it waits for time to pass or for a nudge, and ends when its owner goes.

use std::{
    sync::Arc,
    thread::JoinHandle,
    time::{Duration, Instant},
};

use parking_lot::{Condvar, Mutex};

/// What the thread has to look at.
#[derive(Default)]
struct State {
    stop: bool,
    nudged: bool,
}

/// Wakes and stops a background thread. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Signal(Arc<(Mutex<State>, Condvar)>);

impl Signal {
    /// Wakes the thread before its time.
    pub(crate) fn nudge(&self) {
        self.0.0.lock().nudged = true;
        self.0.1.notify_all();
    }

    /// Whether the thread has to end.
    pub(crate) fn stopped(&self) -> bool {
        self.0.0.lock().stop
    }

    /// Waits for the time to pass, or less if nudged; says whether to go on.
    pub(crate) fn wait(&self, time: Duration) -> bool {
        let until = Instant::now().checked_add(time);
        let (lock, changed) = &*self.0;
        let mut state = lock.lock();
        while !state.stop && !state.nudged {
            match until {
                Some(until) if changed.wait_until(&mut state, until).timed_out() => break,
                Some(_) => {}
                None => changed.wait(&mut state),
            }
        }
        state.nudged = false;
        !state.stop
    }
}

/// A thread that is stopped and waited for when its owner is dropped.
pub(crate) struct Background {
    pub(crate) signal: Signal,
    thread: Option<JoinHandle<()>>,
}

impl Background {
    /// Starts a thread.
    ///
    /// # Errors
    /// If the system gives none.
    pub(crate) fn start(name: &str, body: impl FnOnce(Signal) + Send + 'static) -> std::io::Result<Self> {
        let signal = Signal::default();
        let inner = signal.clone();
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || body(inner))?;
        Ok(Self { signal, thread: Some(thread) })
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.signal.0.0.lock().stop = true;
        self.signal.0.1.notify_all();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("a background thread of the state panicked");
        }
    }
}
