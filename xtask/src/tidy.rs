//! `tidy`: what the project promises of its own shape, checked.

mod docs;
mod edges;
mod formats;
mod gaps;
mod purity;
mod sizes;
mod words;

use std::process::ExitCode;

use anyhow::{Result, bail};

pub(crate) use gaps::Gaps;

use crate::tree::{Tree, root};

/// One broken promise: `path: what`.
pub(crate) type Problem = String;

type Check = fn(&Tree) -> Vec<Problem>;

const CHECKS: &[(&str, Check)] = &[
    ("layers", edges::layers),
    ("manifests", edges::manifests),
    ("purity", purity::check),
    ("formats", formats::check),
    ("format coverage", formats::coverage),
    ("origin of vectors", formats::provenance),
    ("gaps", gaps::check),
    ("ignored tests", gaps::ignored_tests),
    ("sizes", sizes::check),
    ("documentation", docs::check),
    ("generated parts", docs::generated),
    ("words", words::check),
];

/// Runs all checks (or rewrites what is generated) and prints what is wrong.
pub(crate) fn run(flags: &[&str]) -> Result<ExitCode> {
    match flags {
        [] => {
            let outcome = outcome(&Tree::load()?);
            println!("tidy: {} passed, {} failed", outcome.passed, outcome.failed);
            Ok(if outcome.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        ["--write"] => {
            docs::write(&Tree::load()?, &root())?;
            Ok(ExitCode::SUCCESS)
        }
        ["--accept-sizes"] => {
            sizes::write(&Tree::load()?, &root())?;
            Ok(ExitCode::SUCCESS)
        }
        _ => bail!("tidy knows --write and --accept-sizes only"),
    }
}

/// How many checks passed and failed.
pub(crate) struct Outcome {
    pub(crate) passed: usize,
    pub(crate) failed: usize,
}

/// Runs all checks, printing one line per check and one per problem.
pub(crate) fn outcome(tree: &Tree) -> Outcome {
    let mut outcome = Outcome { passed: 0, failed: 0 };
    for (name, check) in CHECKS {
        let problems = check(tree);
        if problems.is_empty() {
            outcome.passed += 1;
            println!("tidy {name}: ok");
        } else {
            outcome.failed += 1;
            println!("tidy {name}: {} problem(s)", problems.len());
            for problem in problems {
                println!("  {problem}");
            }
        }
    }
    outcome
}
