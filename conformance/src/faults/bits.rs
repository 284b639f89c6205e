//! Flips bits in the files of a member that does not run.

use crate::Outcome;
use crate::random::Random;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Bits flip in sectors that hold something.
const SECTOR: usize = 512;

/// Which files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// A file of the log.
    Log,
    /// The newest snapshot; the log where there is none.
    Snapshot,
    /// Who the directory belongs to.
    Identity,
}

/// Flips some bits in one file of `directory`, where it is not all zeros; says where.
///
/// # Errors
/// When there is no such file, or it cannot be changed.
pub fn flip(directory: &Path, target: Target, random: &mut Random) -> Outcome<String> {
    let mut candidates = written_files(directory, target)?;
    if candidates.is_empty() && target == Target::Snapshot {
        candidates = written_files(directory, Target::Log)?;
    }
    if candidates.is_empty() {
        return Err(format!("no file for {target:?} in {}", directory.display()).into());
    }
    let path = random.pick(&candidates);
    let bytes = fs::read(path)?;
    let written: Vec<usize> = (0..bytes.len())
        .step_by(SECTOR)
        .filter(|at| is_written(&bytes, *at))
        .collect();
    let file = OpenOptions::new().write(true).open(path)?;
    let mut places = Vec::new();
    for _ in 0..1 + random.below(3) {
        let sector = *random.pick(&written);
        let at = sector + random.below(SECTOR.min(bytes.len() - sector) as u64) as usize;
        let bit = random.below(8);
        file.write_all_at(&[bytes[at] ^ (1 << bit)], at as u64)?;
        places.push(format!("{at}.{bit}"));
    }
    file.sync_all()?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let (length, places) = (bytes.len(), places.join(", "));
    Ok(format!("{name} of {length} bytes at {places}"))
}

fn is_written(bytes: &[u8], sector: usize) -> bool {
    let end = bytes.len().min(sector + SECTOR);
    bytes[sector..end].iter().any(|byte| *byte != 0)
}

fn written_files(directory: &Path, target: Target) -> Outcome<Vec<PathBuf>> {
    let mut names: Vec<String> = fs::read_dir(directory)?
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| target.owns(name))
        .collect();
    names.sort_unstable();
    let paths = names.iter().map(|name| directory.join(name));
    let written =
        |path: &PathBuf| fs::read(path).is_ok_and(|bytes| bytes.iter().any(|byte| *byte != 0));
    Ok(paths.filter(written).collect())
}

impl Target {
    fn owns(self, name: &str) -> bool {
        if name.contains("damaged") {
            return false;
        }
        match self {
            Target::Log => name.starts_with("log-"),
            Target::Snapshot => name.starts_with("snapshot-"),
            Target::Identity => name == "identity",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_to_three_written_bits_change_and_nothing_else() {
        let directory = std::env::temp_dir().join(format!("synod-bits-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let mut before = vec![0; 4096];
        before[512..1024].fill(0xaa);
        for (seed, target) in [(1, Target::Log), (2, Target::Snapshot), (3, Target::Log)] {
            fs::write(directory.join("log-1"), &before).unwrap();
            flip(&directory, target, &mut Random::new(seed)).unwrap();
            let after = fs::read(directory.join("log-1")).unwrap();
            let changed: u32 = before
                .iter()
                .zip(&after)
                .map(|(a, b)| (a ^ b).count_ones())
                .sum();
            assert!((1..=3).contains(&changed), "{changed} bits changed");
            assert_eq!(
                (&before[..512], &before[1024..]),
                (&after[..512], &after[1024..])
            );
        }
        assert!(flip(&directory, Target::Identity, &mut Random::new(1)).is_err());
        fs::remove_dir_all(&directory).unwrap();
    }
}
