//! Hosted processes, in the sandbox. The test program is its own runtime: where it finds a host's socket in its
//! environment, it serves the protocol instead of running tests. Its version stands behind its end in the bundle.

#[path = "../src/testing.rs"]
mod testing;

mod processes {
    pub(crate) mod guest;
    pub(crate) mod switching;
}

use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::process::ExitCode;
use std::time::Duration;

use futures_util::FutureExt as _;

/// A test: its name and what it does.
type Test = (&'static str, fn() -> Pin<Box<dyn Future<Output = ()>>>);

/// Longest that a test may take.
const LIMIT: Duration = Duration::from_secs(120);

/// Whether this machine can sandbox.
fn sandbox() -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let probing = rt_host::sandbox::probe(std::path::Path::new(rt_host::sandbox::DEFAULT_BINARY));
    runtime.block_on(probing).map(drop).map_err(|problem| problem.to_string())
}

fn main() -> ExitCode {
    if std::env::var_os(rt_host::sandbox::ENV_HOST).is_some() {
        return processes::guest::run();
    }
    let tests: [Test; 4] = [
        ("a_second_bundle_added_while_running_takes_over_at_its_epoch", || {
            Box::pin(processes::switching::a_second_bundle_added_while_running_takes_over_at_its_epoch())
        }),
        ("a_runtime_that_fails_leaves_others_alone", || {
            Box::pin(processes::switching::a_runtime_that_fails_leaves_others_alone())
        }),
        ("bare_binaries_run_as_what_the_chain_wants_or_say_what_they_are", || {
            Box::pin(processes::switching::bare_binaries_run_as_what_the_chain_wants_or_say_what_they_are())
        }),
        ("a_deployment_brings_its_bundle_from_a_registry", || {
            Box::pin(processes::switching::a_deployment_brings_its_bundle_from_a_registry())
        }),
    ];
    if std::env::args().any(|arg| arg == "--list") {
        tests.iter().for_each(|(name, _)| println!("{name}: test"));
        return ExitCode::SUCCESS;
    }
    let filters: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let wanted = |name: &str| filters.is_empty() || filters.iter().any(|filter| name.contains(filter.as_str()));
    let mut failed = 0;
    if let Err(problem) = sandbox() {
        let count = tests.iter().filter(|(name, _)| wanted(name)).count();
        dev_testkit::skip(count, &format!("the sandbox does not work here: {problem}"));
        return ExitCode::SUCCESS;
    }
    for (name, test) in tests.iter().filter(|(name, _)| wanted(name)) {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
        let test = AssertUnwindSafe(async { tokio::time::timeout(LIMIT, test()).await });
        let outcome = runtime.block_on(test.catch_unwind());
        runtime.shutdown_timeout(Duration::from_secs(5));
        let good = matches!(outcome, Ok(Ok(())));
        println!("test {name} ... {}", if good { "ok" } else { "FAILED" });
        failed += usize::from(!good);
    }
    println!("\ntest result: {failed} failed");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
