//! Family `mobilecoin`: recorded data of the second network, checked by `dev-mobilecoin`.

use std::path::Path;

use super::{Counts, Difference, Family};

/// See the module.
pub(super) struct MobileCoin;

impl Family for MobileCoin {
    fn name(&self) -> &'static str {
        "mobilecoin"
    }

    fn about(&self) -> &'static str {
        "keys, proofs, transactions, blocks, ledger, protocol runs, channels and configuration of MobileCoin"
    }

    fn check_file(&self, path: &Path, counts: &mut Counts) -> Result<(), Difference> {
        let mut found = dev_mobilecoin::Counts::default();
        let result = dev_mobilecoin::check_file(path, &mut found);
        let file = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        for (group, count) in found.0 {
            // Files of the archive are many and count together.
            let name = if file.ends_with(".pb") { format!("archive:{group}") } else { format!("{file}:{group}") };
            counts.add_many(&name, count);
        }
        result.map_err(|d| Difference::new(d.place, d.what))
    }
}
