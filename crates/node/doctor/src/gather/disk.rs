//! Space and speed of disks.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::{Disk, Temp};

/// Bytes of the large write.
const LARGE: usize = 32 << 20;
/// Bytes written at once.
const CHUNK: usize = 1 << 20;
/// Small writes that are timed.
const SMALL: usize = 21;
/// Bytes of a small write.
const SMALL_SIZE: usize = 4096;

/// The directory, or the nearest above it that exists.
fn existing(path: &Path) -> &Path {
    let found = path.ancestors().find(|above| above.is_dir());
    found.filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Free bytes for this user; 0 if nobody knows.
pub(super) fn free(path: &Path) -> u64 {
    rustix::fs::statvfs(existing(path)).map_or(0, |disk| disk.f_bavail.saturating_mul(disk.f_frsize))
}

pub(super) fn temp() -> Temp {
    let path = std::env::temp_dir();
    let folder = path.join(format!("oasis-doctor-{}", std::process::id()));
    let made = std::fs::create_dir(&folder);
    if made.is_ok() {
        // It is empty and this user's.
        let _ = std::fs::remove_dir(&folder);
    }
    let error = made.err().map(|error| format!("mkdir {}: {error}", folder.display()));
    Temp { free: free(&path), path, error }
}

/// Removes the file when the measurement ends, however it ends.
struct Removed(PathBuf);

impl Drop for Removed {
    fn drop(&mut self) {
        // A file that could not be made is not there.
        let _ = std::fs::remove_file(&self.0);
    }
}

pub(super) fn speed(data_dir: &Path) -> Result<Disk, String> {
    let folder = existing(data_dir);
    let path = Removed(folder.join(format!(".oasis-doctor-{}", std::process::id())));
    let failed = |error: std::io::Error| format!("{}: {error}", folder.display());
    if free(folder) < 4 * LARGE as u64 {
        return Err("too little space".to_owned());
    }
    let mut file = File::options().write(true).create_new(true).open(&path.0).map_err(failed)?;
    let mut times = Vec::with_capacity(SMALL);
    for _ in 0..SMALL {
        let start = Instant::now();
        file.write_all(&[7; SMALL_SIZE]).and_then(|()| file.sync_data()).map_err(failed)?;
        times.push(start.elapsed().as_secs_f64() * 1000.0);
    }
    times.sort_by(f64::total_cmp);
    let chunk = vec![0x5a; CHUNK];
    let start = Instant::now();
    for _ in 0..LARGE / CHUNK {
        file.write_all(&chunk).map_err(failed)?;
    }
    file.sync_all().map_err(failed)?;
    Ok(Disk { sync_ms: times[SMALL / 2], rate: LARGE as f64 / start.elapsed().as_secs_f64().max(1e-6) })
}
