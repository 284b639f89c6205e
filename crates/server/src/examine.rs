//! How a member is doing beneath the protocols: its disk, its clock, its connections. For `synod doctor`.

use crate::Config;
use rustix::fs::{fdatasync, statvfs};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::Semaphore;

/// Syncs that are measured, unless they take longer than [`MEASURING_MAX`] together.
const SYNCS: usize = 64;
/// Bytes of one write.
const WRITE_BYTES: usize = 4096;
/// How long measuring may keep a disk busy.
const MEASURING_MAX: Duration = Duration::from_secs(2);

/// How long small writes took to become durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SyncTimes {
    /// How many were made.
    pub syncs: usize,
    /// The one in the middle.
    pub median: Duration,
    /// The longest.
    pub worst: Duration,
}

impl SyncTimes {
    /// Measures the disk of a directory, in a file that has no name any more when the first byte is written.
    ///
    /// # Errors
    /// It cannot be written to.
    pub fn measure(directory: &Path) -> io::Result<SyncTimes> {
        let mut file = scratch(directory)?;
        let block = [0x5a; WRITE_BYTES];
        // As the log does: into space that the file has already.
        file.write_all(&vec![0; WRITE_BYTES * SYNCS])?;
        file.sync_all()?;
        file.seek(SeekFrom::Start(0))?;
        let begun = Instant::now();
        let mut times = Vec::with_capacity(SYNCS);
        while times.is_empty() || (times.len() < SYNCS && begun.elapsed() < MEASURING_MAX) {
            let since = Instant::now();
            file.write_all(&block)?;
            fdatasync(&file)?;
            times.push(since.elapsed());
        }
        times.sort_unstable();
        Ok(SyncTimes {
            syncs: times.len(),
            median: times[times.len() / 2],
            worst: times[times.len() - 1],
        })
    }
}

fn scratch(directory: &Path) -> io::Result<File> {
    let path = directory.join(format!(".sync-times-{}", std::process::id()));
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .open(&path)?;
    fs::remove_file(&path)?;
    Ok(file)
}

/// Bytes that may still be written to the disk of a directory.
///
/// # Errors
/// The system does not say.
pub fn free_bytes(directory: &Path) -> io::Result<u64> {
    let disk = statvfs(directory)?;
    Ok(disk.f_bavail * disk.f_frsize)
}

/// What a member knows of itself to that end.
pub(crate) struct Examiner {
    pub(crate) name: String,
    pub(crate) data_dir: PathBuf,
    pub(crate) election_timeout: Duration,
    pub(crate) disk_low_water_bytes: u64,
    /// Its disk is measured by one at a time.
    pub(crate) measuring: Semaphore,
}

impl Examiner {
    pub(crate) fn new(config: &Config) -> Examiner {
        Examiner {
            name: config.name.clone(),
            data_dir: config.data_dir.clone(),
            election_timeout: config.election_timeout,
            disk_low_water_bytes: config.disk_low_water_bytes,
            measuring: Semaphore::new(1),
        }
    }

    /// Measures the disk, away from everything else. `None`: somebody else does so at the moment.
    pub(crate) async fn sync_times(&self) -> Option<io::Result<SyncTimes>> {
        let _alone = self.measuring.try_acquire().ok()?;
        let directory = self.data_dir.clone();
        let measured = tokio::task::spawn_blocking(move || SyncTimes::measure(&directory)).await;
        Some(measured.unwrap_or_else(|_| Err(io::Error::other("measuring ended early"))))
    }
}

/// Milliseconds since 1970 by the wall clock.
pub fn wall_ms() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measuring_leaves_nothing_behind() {
        let directory = tempfile::tempdir().expect("a directory");
        let times = SyncTimes::measure(directory.path()).expect("it can be written to");
        assert!(times.syncs > 0 && times.median <= times.worst, "{times:?}");
        let left = fs::read_dir(directory.path()).expect("it is there").count();
        assert_eq!(left, 0);
        assert!(free_bytes(directory.path()).expect("the system says") > 0);
        assert!(SyncTimes::measure(&directory.path().join("missing")).is_err());
    }
}
