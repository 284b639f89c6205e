//! The data directory as a whole: whose it is, and which version wrote it. See `docs/design/data-directory.md`.

use crate::{Disk, DiskError, DiskFile, OpenError};

/// Version of the directory's layout.
pub const VERSION: u32 = 1;

const VERSION_FILE: &str = "version";
const VERSION_STAGED: &str = "version.tmp";
/// What a directory may hold before it is ours: our own first steps, certificates of the member's own making, and what file systems put at
/// the top of a mount.
const TOLERATED: [&str; 4] = ["lock", VERSION_STAGED, "fixtures", "lost+found"];
const HEADING: &str = "synod data directory\nformat ";
/// Ours is shorter by far; a longer file is somebody else's.
const VERSION_BYTES_MAX: u64 = 256;

/// Takes the directory for this process and makes sure that it is ours, or empty and now ours.
///
/// # Errors
/// See [`OpenError`]; nothing but the lock file was touched.
pub(crate) fn prepare<D: Disk>(disk: &mut D) -> Result<(), OpenError> {
    disk.lock().map_err(|error| match error {
        DiskError::Locked => OpenError::Locked,
        other => OpenError::Disk(other),
    })?;
    let names = disk.list().map_err(OpenError::Disk)?;
    if names.iter().any(|name| name == VERSION_FILE) {
        return check_version(disk);
    }
    match names
        .iter()
        .find(|name| !TOLERATED.contains(&name.as_str()))
    {
        Some(foreign) => Err(OpenError::Foreign(format!(
            "it holds '{foreign}' but no '{VERSION_FILE}' file of Synod"
        ))),
        None => write_file(
            disk,
            VERSION_STAGED,
            VERSION_FILE,
            format!("{HEADING}{VERSION}\n").as_bytes(),
        )
        .map_err(OpenError::Disk),
    }
}

fn check_version<D: Disk>(disk: &mut D) -> Result<(), OpenError> {
    let bytes = read_file(disk, VERSION_FILE, VERSION_BYTES_MAX).map_err(OpenError::Disk)?;
    let foreign = || {
        OpenError::Foreign(format!(
            "its '{VERSION_FILE}' file was not written by Synod"
        ))
    };
    let text = bytes
        .as_deref()
        .and_then(|bytes| std::str::from_utf8(bytes).ok())
        .ok_or_else(foreign)?;
    let number = text
        .strip_prefix(HEADING)
        .and_then(|rest| rest.lines().next())
        .ok_or_else(foreign)?;
    let found: u32 = number.parse().map_err(|_| foreign())?;
    if found > VERSION {
        return Err(OpenError::NewerVersion {
            found,
            known: VERSION,
        });
    }
    Ok(())
}

/// Replaces a small file so that a crash leaves the old or the new one, whole.
pub(crate) fn write_file<D: Disk>(
    disk: &mut D,
    staged: &str,
    name: &str,
    bytes: &[u8],
) -> Result<(), DiskError> {
    let mut file = disk.create(staged)?;
    file.write_at(0, bytes)?;
    file.sync()?;
    disk.rename(staged, name)?;
    disk.sync_directory()
}

/// Reads a small file; `None` if it is longer than `bytes_max`.
pub(crate) fn read_file<D: Disk>(
    disk: &mut D,
    name: &str,
    bytes_max: u64,
) -> Result<Option<Vec<u8>>, DiskError> {
    let mut file = disk.open(name)?;
    let length = file.len()?;
    if length > bytes_max {
        return Ok(None);
    }
    let mut bytes = vec![0; length as usize];
    let read = file.read_at(0, &mut bytes)?;
    bytes.truncate(read);
    Ok(Some(bytes))
}

/// Sets a damaged file aside under a name that nothing reads. Never deletes.
///
/// # Errors
/// The disk failed; the file stands where it was.
pub(crate) fn quarantine<D: Disk>(disk: &mut D, name: &str) -> Result<String, DiskError> {
    let names = disk.list()?;
    let aside = (1u64..)
        .map(|n| format!("{name}.damaged-{n}"))
        .find(|aside| !names.contains(aside))
        .expect("a free number exists");
    disk.rename(name, &aside)?;
    disk.sync_directory()?;
    Ok(aside)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory_disk::{Platter, Survival};

    #[test]
    fn an_empty_directory_becomes_ours_and_stays_so() {
        let platter = Platter::new(1);
        assert_eq!(prepare(&mut platter.start_process()), Ok(()));
        platter.lose_power(Survival::Nothing);
        let mut disk = platter.start_process();
        assert_eq!(prepare(&mut disk), Ok(()));
        assert_eq!(
            read_file(&mut disk, VERSION_FILE, 100).unwrap().unwrap(),
            b"synod data directory\nformat 1\n"
        );
    }

    #[test]
    fn a_crash_at_any_step_leaves_a_directory_that_opens() {
        for operations in 0..6 {
            let platter = Platter::new(operations);
            let mut disk = platter.start_process();
            platter.set_fuse(operations, None);
            let _stopped_on_the_way = prepare(&mut disk);
            platter.lose_power(Survival::Coin);
            assert_eq!(
                prepare(&mut platter.start_process()),
                Ok(()),
                "stopped after {operations} operations"
            );
        }
    }

    #[test]
    fn a_foreign_or_newer_directory_is_refused_and_not_changed() {
        let platter = Platter::new(1);
        let mut disk = platter.start_process();
        disk.create("holiday.jpg").unwrap();
        let Err(OpenError::Foreign(text)) = prepare(&mut disk) else {
            panic!("a foreign directory was taken")
        };
        assert!(text.contains("holiday.jpg"), "{text}");
        assert_eq!(platter.start_process().list().unwrap(), ["holiday.jpg"]);

        let platter = Platter::new(1);
        let mut disk = platter.start_process();
        write_file(
            &mut disk,
            "t",
            VERSION_FILE,
            b"synod data directory\nformat 2\n",
        )
        .unwrap();
        assert_eq!(
            prepare(&mut disk),
            Err(OpenError::NewerVersion { found: 2, known: 1 })
        );
        let mut disk = platter.start_process();
        write_file(&mut disk, "t", VERSION_FILE, b"14\n").unwrap();
        assert!(matches!(prepare(&mut disk), Err(OpenError::Foreign(_))));
    }

    #[test]
    fn a_second_opener_is_refused() {
        let platter = Platter::new(1);
        let mut disk = platter.start_process();
        prepare(&mut disk).unwrap();
        assert_eq!(prepare(&mut disk.clone()), Err(OpenError::Locked));
    }

    #[test]
    fn a_damaged_file_is_set_aside_under_a_new_name_each_time() {
        let platter = Platter::new(1);
        let mut disk = platter.start_process();
        disk.create("a").unwrap();
        assert_eq!(quarantine(&mut disk, "a").unwrap(), "a.damaged-1");
        disk.create("a").unwrap();
        assert_eq!(quarantine(&mut disk, "a").unwrap(), "a.damaged-2");
        assert_eq!(disk.list().unwrap(), ["a.damaged-1", "a.damaged-2"]);
    }
}
