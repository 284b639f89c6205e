//! A wall clock that can be stepped for one process: libfaketime between a member and its C library, with the monotonic clock left alone. The machine's own
//! clock is never touched.

use crate::Outcome;
use crate::http;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// Where distributions put the library for programs with threads.
const LIBRARIES: [&str; 3] = [
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib64/faketime/libfaketimeMT.so.1",
];

/// The wall clock of one member.
pub struct Wall {
    file: PathBuf,
}

impl Wall {
    /// Why there can be none here, if so.
    pub fn missing() -> Option<String> {
        library()
            .is_none()
            .then(|| "no libfaketime (Debian: faketime)".into())
    }

    /// A clock that is right, kept in a file.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn new(file: &Path) -> Outcome<Wall> {
        let wall = Wall {
            file: file.to_path_buf(),
        };
        wall.step(0)?;
        Ok(wall)
    }

    /// The variables that put a process under this clock.
    pub fn environment(&self) -> Vec<(String, String)> {
        let library = library()
            .map(|path| path.display().to_string())
            .unwrap_or_default();
        let file = self.file.display().to_string();
        let pairs = [
            ("LD_PRELOAD", library.as_str()),
            ("FAKETIME_TIMESTAMP_FILE", &file),
            ("FAKETIME_NO_CACHE", "1"),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
            ("DONT_FAKE_MONOTONIC", "1"),
        ];
        pairs
            .map(|(name, value)| (name.to_string(), value.to_string()))
            .to_vec()
    }

    /// Makes it show so many seconds more (or less) than the right time.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn step(&self, seconds: i64) -> Outcome<()> {
        // Replaced whole: the process may read it at any moment.
        let fresh = self.file.with_extension("fresh");
        fs::write(&fresh, format!("{seconds:+}\n"))?;
        Ok(fs::rename(fresh, &self.file)?)
    }
}

/// By how many seconds the wall clock that a member shows in its metrics differs from the machine's.
///
/// # Errors
/// When the member shows none.
pub async fn shown_offset(member: SocketAddr) -> Outcome<i64> {
    let (_, body) = http::request(member, "/metrics", None).await?;
    let line = body
        .lines()
        .find_map(|line| line.strip_prefix("synod_wall_clock_seconds "));
    let shown: f64 = line
        .ok_or("no synod_wall_clock_seconds in /metrics")?
        .trim()
        .parse()?;
    let right = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs_f64();
    Ok((shown - right).round() as i64)
}

fn library() -> Option<PathBuf> {
    LIBRARIES
        .iter()
        .map(PathBuf::from)
        .find(|path| path.is_file())
}
