//! Limits that the system sets on the process.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Open files that the reference wants; fewer are worth a warning.
pub const RECOMMENDED_FILES: u64 = 50_000;

/// Too few files may be open.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LimitError {
    /// The hard limit is below what the configuration needs.
    #[error(
        "too low RLIMIT_NOFILE, current: {current} required: {required}: raise the limit (LimitNOFILE= of the service, or \
         /etc/security/limits.conf) or lower the number of peers"
    )]
    TooLow {
        /// The hard limit.
        current: u64,
        /// Files that may be open at once.
        required: u64,
    },
    /// The limit could not be set.
    #[error("failed to set RLIMIT_NOFILE to {wanted} (hard limit {hard}): {reason}")]
    Set {
        /// Wanted limit.
        wanted: u64,
        /// Hard limit.
        hard: u64,
        /// What the system says.
        reason: String,
    },
}

/// Raises the limit on open files to the hard limit, or sets it to `wanted` if that is not 0; gives the limit.
///
/// # Errors
/// If the limit is below `required`, or could not be set.
pub fn raise_open_files(required: u64, wanted: u64) -> Result<u64, LimitError> {
    let limit = getrlimit(Resource::Nofile);
    let hard = limit.maximum.unwrap_or(u64::MAX);
    let target = if wanted == 0 { hard } else { wanted.min(hard) };
    if limit.current != Some(target) {
        let new = Rlimit { current: Some(target), maximum: limit.maximum };
        setrlimit(Resource::Nofile, new).map_err(|error| LimitError::Set {
            wanted: target,
            hard,
            reason: error.to_string(),
        })?;
    }
    if target < required {
        return Err(LimitError::TooLow { current: target, required });
    }
    Ok(target)
}

/// Whether the process runs as root.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Files made from now on are for this user alone.
pub fn private_files() {
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_too_low_a_limit() {
        let limit = raise_open_files(16, 0).expect("more than a few files");
        let error = raise_open_files(limit.saturating_add(1), 0);
        if limit < u64::MAX {
            let error = error.expect_err("one more than allowed").to_string();
            assert!(error.contains(&format!("current: {limit} required: {}", limit + 1)), "{error}");
        }
    }
}
