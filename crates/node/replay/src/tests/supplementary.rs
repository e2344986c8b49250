//! The supplementary checks at every height of recorded chains: nothing fails, and nothing changes.

use std::num::NonZeroU64;

use apps_core::SanitySchedule;

use super::*;

fn checked(dir: &Path) -> Report {
    let mut options = options(dir, true);
    let every = SanitySchedule { interval: NonZeroU64::MIN, seed: 0 };
    options.node.local.supplementary_sanity = Some(every);
    // Roots, results and state differences are compared, so the checks leave no trace in them.
    replay(options).unwrap_or_else(|e| panic!("{}: {e}", dir.display()))
}

fn all_in(folder: &str) -> u64 {
    let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../vectors")).join(folder);
    let mut chains = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let dir = entry.unwrap().path();
        if dir.is_dir() {
            let report = checked(&dir);
            assert_eq!((report.unchecked, report.roots), (0, report.blocks), "{}", dir.display());
            chains += 1;
        }
    }
    chains
}

#[test]
fn recorded_chains_pass_at_every_height() {
    assert_eq!(all_in("chains"), 11);
}

#[test]
fn our_own_recordings_pass_at_every_height() {
    assert_eq!(all_in("chains-recorded"), 13);
}
