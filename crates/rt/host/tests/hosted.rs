//! Real processes, in the sandbox and without it. The test program is its own runtime: where it finds a host's socket in
//! its environment, it serves the protocol instead of running tests.

mod hosted {
    pub(crate) mod enclave;
    pub(crate) mod guest;
    pub(crate) mod lifecycle;
    pub(crate) mod sandboxed;
}

use std::{
    panic::AssertUnwindSafe,
    pin::Pin,
    process::ExitCode,
    time::{Duration, Instant},
};

use futures_util::FutureExt as _;

/// A test: its name and what it does; `Some` is why it could not be run.
pub(crate) type Test = (&'static str, fn() -> Pin<Box<dyn Future<Output = Option<String>>>>);

/// Wraps async functions as tests.
#[macro_export]
macro_rules! tests {
    ($($name:ident),* $(,)?) => {
        pub(crate) fn all() -> Vec<$crate::Test> {
            vec![$((concat!(module_path!(), "::", stringify!($name)), || Box::pin(async { $name().await }))),*]
        }
    };
}

/// Names the test that this program is to be, where a test runs it again in other surroundings.
pub(crate) const INNER: &str = "HOSTED_INNER";

/// Longest that a test may take.
const LIMIT: Duration = Duration::from_secs(120);

fn main() -> ExitCode {
    if hosted::enclave::is_loader() {
        return hosted::enclave::run();
    }
    if std::env::var_os(rt_host::sandbox::ENV_HOST).is_some() {
        return hosted::guest::run();
    }
    if let Ok(what) = std::env::var(INNER) {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
        runtime.block_on(hosted::sandboxed::inner(&what));
        return ExitCode::SUCCESS;
    }
    let filters: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let mut tests = hosted::lifecycle::all();
    tests.extend(hosted::sandboxed::all());
    tests.extend(hosted::enclave::all());
    if std::env::args().any(|arg| arg == "--list") {
        tests.iter().for_each(|(name, _)| println!("{name}: test"));
        return ExitCode::SUCCESS;
    }
    let count = tests.len();
    tests.retain(|(name, _)| filters.is_empty() || filters.iter().any(|filter| name.contains(filter.as_str())));
    println!("\nrunning {} tests", tests.len());
    let (mut passed, mut failed) = (0, 0);
    let begin = Instant::now();
    for (name, test) in &tests {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
        let outcome =
            runtime.block_on(AssertUnwindSafe(async { tokio::time::timeout(LIMIT, test()).await }).catch_unwind());
        runtime.shutdown_timeout(Duration::from_secs(5));
        match outcome {
            Ok(Ok(skipped)) => {
                passed += 1;
                println!("test {name} ... ok");
                if let Some(why) = skipped {
                    dev_testkit::skip(1, &why);
                }
            }
            Ok(Err(_)) => {
                failed += 1;
                println!("test {name} ... FAILED (no end after {LIMIT:?})");
            }
            Err(_) => {
                failed += 1;
                println!("test {name} ... FAILED");
            }
        }
    }
    println!(
        "\ntest result: {}. {passed} passed; {failed} failed; 0 ignored; 0 measured; {} filtered out; finished in {:.2}s\n",
        if failed == 0 { "ok" } else { "FAILED" },
        count - tests.len(),
        begin.elapsed().as_secs_f64()
    );
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
