//! Running pure work on threads.

use mkvs_tree::Executor;

/// Runs tasks on short-lived threads, at most as many as the machine has processors.
#[derive(Clone, Copy, Debug)]
pub struct Threads {
    width: usize,
}

impl Default for Threads {
    fn default() -> Self {
        Self { width: std::thread::available_parallelism().map_or(1, usize::from).min(16) }
    }
}

impl Threads {
    /// Runs at most `width` tasks at once.
    pub fn new(width: usize) -> Self {
        Self { width: width.max(1) }
    }
}

impl Executor for Threads {
    fn width(&self) -> usize {
        self.width
    }

    fn run<'a>(&self, tasks: Vec<Box<dyn FnOnce() + Send + 'a>>) {
        let queue = std::sync::Mutex::new(tasks.into_iter());
        let work = || {
            loop {
                let task = queue.lock().unwrap_or_else(std::sync::PoisonError::into_inner).next();
                match task {
                    Some(task) => task(),
                    None => break,
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..self.width {
                scope.spawn(work);
            }
            work();
        });
    }
}
