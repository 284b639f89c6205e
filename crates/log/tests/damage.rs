//! Goal: whatever is flipped, cut or lost in the log's files, everything synced is there afterwards, or the member knows that it is not. Never silently less.
//! Method: random work, then one piece of damage at every place in turn, each on a fresh copy of the disk.

mod model;

use bytes::Bytes;
use model::{Driver, MEMBER, Model, Rng, read_all, settings};
use raft::{Index, Persist, SnapshotMark, Vote};
use synod_log::memory_disk::{Platter, Survival};
use synod_log::{Disk, DiskFile, Opened, open};

const SECTOR: usize = 512;

type Files = Vec<(String, Vec<u8>)>;

/// What one disk holds.
fn files_of(platter: &Platter) -> Files {
    let mut disk = platter.start_process();
    let names = disk.list().unwrap();
    let read = |name: String| {
        let mut file = disk.open(&name).unwrap();
        let mut bytes = vec![0; file.len().unwrap() as usize];
        assert_eq!(file.read_at(0, &mut bytes).unwrap(), bytes.len());
        (name, bytes)
    };
    names.into_iter().map(read).collect()
}

fn platter_of(files: &Files) -> Platter {
    let platter = Platter::new(1);
    let mut disk = platter.start_process();
    for (name, bytes) in files {
        let mut file = disk.create(name).unwrap();
        file.write_at(0, bytes).unwrap();
        file.sync().unwrap();
    }
    disk.sync_directory().unwrap();
    platter
}

/// Random work without a crash, all synced at the end.
fn worked(seed: u64, steps: u32) -> Driver {
    let mut driver = Driver::start(seed, 4 << 10);
    for _ in 0..steps {
        driver.step().unwrap();
    }
    driver.sync().unwrap();
    driver
}

/// Opens a damaged copy; checks that it holds all that one of the possible outcomes holds, or says that it does not, and goes on saying so. Gives whether it said so.
fn check(files: &Files, driver: &Driver, what: &str) -> bool {
    let outcomes = &driver.outcomes;
    let platter = platter_of(files);
    let opened = open(platter.start_process(), settings(4 << 10), MEMBER);
    let Opened {
        mut log, recovered, ..
    } = opened.unwrap_or_else(|error| panic!("{what}: {error:?}"));
    if !recovered.entries_lost {
        let differences: Vec<_> = outcomes
            .iter()
            .filter_map(|model| model.differs(&mut log, &recovered))
            .collect();
        assert!(
            differences.len() < outcomes.len(),
            "{what}: {recovered:?}: {differences:?}"
        );
        return false;
    }
    let start = recovered.snapshot.as_ref().map_or(0, |mark| mark.index.0);
    let kept = read_all(&mut log, start + 1);
    // What is kept is the log as it was after some sync, or nothing; never a mixture. The vote is the newest, or known to be lost.
    let was = |model: &Model| {
        model
            .beside(recovered.snapshot.as_ref())
            .entries
            .values()
            .eq(&kept)
    };
    assert!(
        kept.is_empty() || driver.history.iter().chain(&driver.outcomes).any(was),
        "{what}: {recovered:?} never was"
    );
    let model = driver
        .outcomes
        .iter()
        .find(|model| recovered.vote.is_none_or(|vote| vote == model.vote));
    let model = model.unwrap_or_else(|| {
        panic!(
            "{what}: the vote {:?} was none of {:?}",
            recovered.vote, driver.outcomes
        )
    });
    assert_eq!(recovered.last.0, start + kept.len() as u64, "{what}");
    assert!(
        !recovered.quarantined.is_empty(),
        "{what}: nothing was set aside"
    );
    for survival in [Survival::Nothing, Survival::Coin] {
        platter.lose_power(survival);
        let again = open(platter.start_process(), settings(4 << 10), MEMBER)
            .unwrap()
            .recovered;
        assert!(
            again.entries_lost,
            "{what}: forgot that it had lost something"
        );
        assert_eq!(
            (again.vote, again.last, &again.terms),
            (recovered.vote, recovered.last, &recovered.terms),
            "{what}"
        );
    }
    let mut log = open(platter.start_process(), settings(4 << 10), MEMBER)
        .unwrap()
        .log;
    log.append(&Persist {
        sequence: 1,
        vote: Some(model.vote),
        reset: None,
        entries: Vec::new(),
        commit: Index(0),
    });
    log.clear_entries_lost();
    log.sync().unwrap();
    platter.lose_power(Survival::Nothing);
    let healed = open(platter.start_process(), settings(4 << 10), MEMBER)
        .unwrap()
        .recovered;
    assert_eq!(
        (healed.entries_lost, healed.vote),
        (false, Some(model.vote)),
        "{what}"
    );
    true
}

fn log_files(files: &Files) -> Vec<usize> {
    (0..files.len())
        .filter(|n| {
            ["log-", "spare-", "blank-"]
                .iter()
                .any(|kind| files[*n].0.starts_with(kind))
        })
        .collect()
}

#[test]
fn r1_a_flipped_bit_anywhere_is_harmless_or_told() {
    let (mut told, mut harmless) = (0, 0);
    for seed in 0..8 {
        let driver = worked(seed, 60 + 20 * seed as u32);
        let files = files_of(&driver.platter);
        let mut rng = Rng(seed);
        for n in log_files(&files) {
            // Every byte of a sector's header, a few of its payload; all of them over the seeds.
            let picked = |offset: &usize| {
                offset % SECTOR < 24 || (offset + 7 * seed as usize).is_multiple_of(56)
            };
            for offset in (0..files[n].1.len()).filter(picked) {
                let mut damaged = files.clone();
                damaged[n].1[offset] ^= 1 << rng.below(8);
                let what = format!("seed {seed}, {} byte {offset}", files[n].0);
                if check(&damaged, &driver, &what) {
                    told += 1
                } else {
                    harmless += 1
                }
            }
        }
    }
    assert!(
        told > 1000 && harmless > 1000,
        "{told} told, {harmless} harmless"
    );
}

#[test]
fn a_cut_anywhere_is_harmless_or_told() {
    let mut told = 0;
    for seed in 0..6 {
        let driver = worked(seed, 150);
        let files = files_of(&driver.platter);
        for n in log_files(&files) {
            for length in (0..files[n].1.len()).step_by(SECTOR / 2) {
                let mut damaged = files.clone();
                damaged[n].1.truncate(length);
                told += u32::from(check(
                    &damaged,
                    &driver,
                    &format!("seed {seed}, {} cut at {length}", files[n].0),
                ));
            }
        }
    }
    assert!(told > 10, "{told} told");
}

#[test]
fn a_written_sector_that_turns_to_zeros_is_told_unless_it_was_the_last_batch() {
    let mut told = 0;
    for seed in 0..20 {
        let mut driver = worked(seed, 120);
        // A last batch of one sector, and one before it.
        for term in 1..3 {
            let vote = Vote {
                term: raft::Term(driver.now.vote.term.0 + term),
                candidate: None,
            };
            driver.append(Persist {
                sequence: 0,
                vote: Some(vote),
                reset: None,
                entries: Vec::new(),
                commit: Index(0),
            });
            driver.sync().unwrap();
        }
        let files = files_of(&driver.platter);
        let address = |sector: &[u8]| {
            let field = |at: usize, bytes: usize| {
                sector[at..at + bytes]
                    .iter()
                    .rev()
                    .fold(0u64, |value, byte| value << 8 | u64::from(*byte))
            };
            (field(4, 8), field(12, 4), field(16, 4))
        };
        let newest = files.iter().filter(|(name, _)| name.starts_with("log-"));
        let last = newest
            .flat_map(|(_, bytes)| bytes.chunks(SECTOR).map(address))
            .max()
            .unwrap();
        for n in log_files(&files) {
            for sector in 0..files[n].1.len() / SECTOR {
                let range = sector * SECTOR..(sector + 1) * SECTOR;
                if address(&files[n].1[range.clone()]) == last {
                    continue;
                }
                let mut damaged = files.clone();
                damaged[n].1[range].fill(0);
                told += u32::from(check(
                    &damaged,
                    &driver,
                    &format!("seed {seed}, {} sector {sector}", files[n].0),
                ));
            }
        }
    }
    assert!(told > 20, "{told} told");
}

#[test]
fn damage_beside_a_torn_end_is_harmless_or_told() {
    let mut told = 0;
    for seed in 0..1500 {
        let mut driver = Driver::start(seed, 4 << 10);
        let fuse = driver.rng.below(200);
        driver.platter.set_fuse(fuse, None);
        while !driver.platter.burned() {
            let _refused_once_the_fuse_burns = driver.step();
        }
        driver.platter.lose_power(Survival::Coin);
        let mut files = files_of(&driver.platter);
        let logs = log_files(&files);
        for _ in 0..=driver.rng.below(2) {
            let n = logs[driver.rng.below(logs.len() as u64) as usize];
            let length = files[n].1.len() as u64;
            if length > 0 {
                files[n].1[driver.rng.below(length) as usize] ^= 1 << driver.rng.below(8);
            }
        }
        told += u32::from(check(&files, &driver, &format!("seed {seed}")));
    }
    assert!(told > 100, "{told} told");
}

#[test]
fn a_recovery_from_damage_may_be_interrupted() {
    let mut told = 0;
    for seed in 0..1000 {
        let mut driver = worked(seed, 40);
        let mut files = files_of(&driver.platter);
        let segments: Vec<usize> = log_files(&files)
            .into_iter()
            .filter(|n| files[*n].0.starts_with("log-"))
            .collect();
        let n = segments[driver.rng.below(segments.len() as u64) as usize];
        let length = files[n].1.len() as u64;
        files[n].1[driver.rng.below(length) as usize] ^= 1;
        let must_be_told = check(&files, &driver, &format!("seed {seed}"));
        let platter = platter_of(&files);
        for _ in 0..3 {
            let disk = platter.start_process();
            platter.set_fuse(driver.rng.below(20), None);
            let _stopped_on_the_way = open(disk, settings(4 << 10), MEMBER);
            platter.lose_power(Survival::Coin);
        }
        let recovered = open(platter.start_process(), settings(4 << 10), MEMBER)
            .unwrap()
            .recovered;
        assert_eq!(
            recovered.entries_lost, must_be_told,
            "seed {seed}: {recovered:?}"
        );
        let names = platter.start_process().list().unwrap();
        let aside = names
            .iter()
            .any(|name| name.starts_with(&files[n].0) && name.contains(".damaged-"));
        assert!(
            aside || !must_be_told,
            "seed {seed}: {} is not among {names:?}",
            files[n].0
        );
        told += u32::from(must_be_told);
    }
    assert!(told > 100, "{told} told");
}

#[test]
fn a_segment_of_another_copy_of_the_log_is_told() {
    let mut told = 0;
    let files_after = |seed: u64| {
        let mut driver = Driver::start(seed, 4 << 10);
        for index in 1..=60 {
            driver.entries(index, 1, 1);
            driver.sync().unwrap();
        }
        (files_of(&driver.platter), driver)
    };
    let ((ours, driver), (other, _)) = (files_after(1), files_after(2));
    for (name, bytes) in other.iter().filter(|(name, _)| name.starts_with("log-")) {
        let mut mixed = ours.clone();
        let Some(file) = mixed
            .iter_mut()
            .find(|(ours, content)| ours == name && content != bytes)
        else {
            continue;
        };
        file.1.clone_from(bytes);
        // Its last batch has nothing behind it that could tell: it is the log, as far as anybody can see.
        let begun = |(name, content): &&(String, Vec<u8>)| {
            name.starts_with("log-") && content.iter().any(|byte| *byte != 0)
        };
        let newest = mixed.iter().rfind(begun);
        if newest.is_some_and(|(newest, _)| newest != name) {
            let recovered = open(
                platter_of(&mixed).start_process(),
                settings(4 << 10),
                MEMBER,
            )
            .unwrap()
            .recovered;
            assert!(
                recovered.entries_lost && !recovered.quarantined.is_empty(),
                "{name} of another: {recovered:?}"
            );
            assert!(
                recovered.vote.is_none_or(|vote| vote == driver.now.vote),
                "{name} of another: {recovered:?}"
            );
            told += 1;
        }
    }
    assert!(told > 3, "{told} told");
}

#[test]
fn damage_before_a_snapshot_costs_nothing() {
    let mut driver = Driver::start(5, 4 << 10);
    for index in 1..=40 {
        driver.entries(index, 1, 1);
        driver.sync().unwrap();
    }
    let mark = SnapshotMark {
        index: Index(40),
        term: raft::Term(1),
        configuration: model::configuration(1),
    };
    let bytes = Bytes::from_static(b"state");
    driver.snapshots.stage(1, 0, &bytes).unwrap();
    driver
        .snapshots
        .stage_finish(1, &mark, 5, crc32c::crc32c(&bytes))
        .unwrap();
    for index in 41..=120 {
        driver.entries(index, 1, 1);
        driver.sync().unwrap();
    }
    let mut files = files_of(&driver.platter);
    let oldest = log_files(&files)[0];
    files[oldest].1[700] ^= 1;
    assert!(!check(&files, &driver, "the oldest segment is flipped"));
    let set_aside = open(
        platter_of(&files).start_process(),
        settings(4 << 10),
        MEMBER,
    )
    .unwrap()
    .recovered
    .quarantined;
    assert_eq!(set_aside.len(), 1, "{set_aside:?}");
}

#[test]
fn a_log_that_is_gone_is_told() {
    let mut driver = worked(3, 100);
    let identity = synod_log::Identity {
        member: MEMBER,
        directory: MEMBER,
        incarnation: raft::Incarnation(1),
        cluster: 9,
        bootstrap: model::configuration(1),
    };
    driver.log.write_identity(&identity).unwrap();
    let mut files = files_of(&driver.platter);
    files.retain(|(name, _)| !name.starts_with("log-"));
    let recovered = open(
        platter_of(&files).start_process(),
        settings(4 << 10),
        MEMBER,
    )
    .unwrap()
    .recovered;
    assert_eq!((recovered.vote, recovered.entries_lost), (None, true));
}

#[test]
fn another_members_log_is_refused() {
    let files = files_of(&worked(3, 50).platter);
    let mut other = files_of(&Driver::start(1, 4 << 10).platter);
    other.retain(|(name, _)| !name.starts_with("log-") && name != "identity");
    let stranger = Platter::new(2);
    open(
        stranger.start_process(),
        settings(4 << 10),
        raft::MemberId(8),
    )
    .unwrap();
    other.extend(
        files_of(&stranger)
            .into_iter()
            .filter(|(name, _)| name == "identity"),
    );
    other.extend(
        files
            .into_iter()
            .filter(|(name, _)| name.starts_with("log-")),
    );
    let refused = open(
        platter_of(&other).start_process(),
        settings(4 << 10),
        raft::MemberId(9),
    )
    .err();
    assert!(
        matches!(refused, Some(synod_log::OpenError::Foreign(_))),
        "{refused:?}"
    );
}
