//! A small file system of its own for a member's data directory, to be filled and emptied: ext4 on a loop device, or tmpfs where there is no mkfs.ext4.

use crate::Outcome;
use crate::faults::system::{is_leftover, is_root, run};
use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

/// Size of such a disk.
const MEBIBYTES: u64 = 96;

/// A mounted disk. It goes with its handle; whoever uses it must be gone before.
pub struct SmallDisk {
    mount: PathBuf,
    kind: &'static str,
}

impl SmallDisk {
    /// Why there can be none here, if so.
    pub fn missing() -> Option<String> {
        (!is_root()).then(|| "mounting a small disk needs root".into())
    }

    /// Mounts an empty disk at `mount`, which is made.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn mount(mount: &Path) -> Outcome<SmallDisk> {
        sweep();
        fs::create_dir_all(mount)?;
        let (at, image) = (mount.display(), mount.with_extension("image"));
        let on_loop = File::create(&image)
            .and_then(|file| file.set_len(MEBIBYTES << 20))
            .map_err(Into::into)
            .and_then(|()| run(&format!("mkfs.ext4 -q -F -m 0 {}", image.display())))
            .and_then(|_| run(&format!("mount -o loop {} {at}", image.display())));
        let kind = match on_loop {
            Ok(_) => "ext4 on a loop device",
            Err(_) => {
                run(&format!(
                    "mount -t tmpfs -o size={MEBIBYTES}m synod-faults-{} {at}",
                    std::process::id()
                ))?;
                "tmpfs"
            }
        };
        Ok(SmallDisk {
            mount: mount.to_path_buf(),
            kind,
        })
    }

    /// What it is.
    pub fn kind(&self) -> String {
        format!("{MEBIBYTES} MiB of {}", self.kind)
    }

    /// Fills it to the last block.
    ///
    /// # Errors
    /// When it fails for another reason than being full.
    pub fn fill(&self) -> Outcome<()> {
        let mut ballast = File::create(self.ballast())?;
        for block in [1 << 20, 4 << 10] {
            let zeros = vec![0; block];
            loop {
                match ballast.write_all(&zeros).and_then(|()| ballast.sync_data()) {
                    Ok(()) => {}
                    Err(error) if error.kind() == ErrorKind::StorageFull => break,
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(())
    }

    /// Gives the space back.
    ///
    /// # Errors
    /// When the ballast cannot be removed.
    pub fn release(&self) -> Outcome<()> {
        match fs::remove_file(self.ballast()) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }

    fn ballast(&self) -> PathBuf {
        self.mount.join("ballast")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let at = self.mount.display();
        // A process that was just killed may hold it for a moment.
        for _ in 0..20 {
            if run(&format!("umount {at}")).is_ok() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        let _ = run(&format!("umount -l {at}"));
    }
}

/// Unmounts what a run that was killed left behind.
fn sweep() {
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    let points = mounts
        .lines()
        .filter_map(|line| line.split_whitespace().nth(1));
    for point in points {
        let ours = Path::new(point)
            .components()
            .any(|part| is_leftover(&part.as_os_str().to_string_lossy()));
        if ours {
            let _ = run(&format!("umount -l {point}"));
        }
    }
}
