//! Goal: a disk that fails, or is full, costs neither what was durable nor what is queued. Method: the disk in memory, told to fail.

mod model;

use model::{Driver, MEMBER, Model, read_all, settings};
use raft::Index;
use synod_log::memory_disk::Survival;
use synod_log::{Disk, DiskFile, ReadEntries, StoreError, open};

const SEGMENT_BYTES: u64 = 64 << 10;

fn appended(driver: &mut Driver, count: u64) {
    let first = driver.now.last() + 1;
    for index in first..first + count {
        driver.entries(index, 1, 1);
        driver.sync().unwrap();
    }
}

fn restarted(driver: &mut Driver, survival: Survival) -> Model {
    driver.platter.lose_power(survival);
    driver.restart().unwrap();
    driver.now.clone()
}

#[test]
fn a_failed_sync_moves_to_another_file() {
    for survival in [Survival::Nothing, Survival::Everything, Survival::Coin] {
        let mut driver = Driver::start(1, SEGMENT_BYTES);
        appended(&mut driver, 5);
        driver.platter.fail_syncs(1);
        appended(&mut driver, 3);
        let expected = driver.now.clone();
        assert_eq!(read_all(&mut driver.log, 1).len(), 8);
        assert_eq!(restarted(&mut driver, survival), expected);
    }
}

#[test]
fn a_second_failure_is_told_and_the_queue_waits() {
    let mut driver = Driver::start(2, SEGMENT_BYTES);
    appended(&mut driver, 5);
    driver.entries(6, 1, 2);
    for _ in 0..4 {
        driver.platter.fail_syncs(10);
        assert!(matches!(driver.sync(), Err(StoreError::Failed(_))));
        assert_eq!(
            driver.log.read(Index(6), 1),
            ReadEntries::Absent,
            "an entry that is not durable was read"
        );
    }
    driver.platter.fail_syncs(0);
    driver.entries(8, 2, 1);
    driver.sync().unwrap();
    let expected = driver.now.clone();
    assert_eq!(expected.last(), 8);
    assert_eq!(restarted(&mut driver, Survival::Nothing), expected);
}

#[test]
fn r3_a_full_disk_leaves_one_segment_in_reserve_and_space_returned_is_service_returned() {
    let mut driver = Driver::start(3, SEGMENT_BYTES);
    appended(&mut driver, 3);
    assert!(!driver.log.low_on_space());
    let used = (1 << 40) - driver.platter.start_process().free_bytes().unwrap();
    driver.restart().unwrap();
    driver.platter.set_capacity(used);
    let mut bytes = 0;
    let refused = loop {
        let before = driver.log.log_bytes();
        driver.entries(driver.now.last() + 1, 1, 1);
        match driver.sync() {
            Ok(()) => bytes += driver.log.log_bytes() - before,
            Err(error) => break error,
        }
    };
    assert_eq!(refused, StoreError::Full);
    assert!(driver.log.low_on_space());
    assert!(
        bytes >= SEGMENT_BYTES,
        "only {bytes} bytes were taken on a full disk"
    );
    assert_eq!(driver.sync(), Err(StoreError::Full));
    driver.platter.set_capacity(1 << 40);
    driver.sync().unwrap();
    appended(&mut driver, 20);
    assert!(!driver.log.low_on_space());
    let expected = driver.now.clone();
    assert_eq!(restarted(&mut driver, Survival::Nothing), expected);
}

#[test]
fn r3_space_returned_is_seen_though_nothing_is_written() {
    let mut driver = Driver::start(3, SEGMENT_BYTES);
    appended(&mut driver, 3);
    let used = (1 << 40) - driver.platter.start_process().free_bytes().unwrap();
    driver.restart().unwrap();
    driver.platter.set_capacity(used);
    while !driver.log.low_on_space() {
        appended(&mut driver, 1);
    }
    driver.platter.set_capacity(1 << 40);
    assert!(!driver.log.low_on_space());
}

#[test]
fn a_member_starts_on_a_full_disk() {
    for count in [10, 40, 100] {
        let mut driver = Driver::start(4, SEGMENT_BYTES);
        appended(&mut driver, count);
        let used = (1 << 40) - driver.platter.start_process().free_bytes().unwrap();
        driver.platter.set_capacity(used);
        for _ in 0..10 {
            let expected = driver.now.clone();
            assert_eq!(restarted(&mut driver, Survival::Nothing), expected);
        }
    }
}

#[test]
fn restarts_do_not_pile_up_files() {
    let mut driver = Driver::start(5, SEGMENT_BYTES);
    appended(&mut driver, 100);
    let count = |driver: &Driver| driver.platter.start_process().list().unwrap().len();
    let before = count(&driver);
    driver.restart().unwrap();
    let logged = driver.log.log_bytes();
    for _ in 0..50 {
        restarted(&mut driver, Survival::Coin);
        appended(&mut driver, 1);
    }
    // A segment left behind is at least a quarter full.
    let needed = 2 + (driver.log.log_bytes() - logged) / (SEGMENT_BYTES / 4);
    let after = count(&driver);
    assert!(
        after <= before + needed as usize,
        "{before} files became {after}, {needed} more are needed"
    );
}

#[test]
fn released_files_are_used_again() {
    let mut driver = Driver::start(6, SEGMENT_BYTES);
    appended(&mut driver, 400);
    driver.log.release(Index(390));
    appended(&mut driver, 10);
    let written = driver.platter.counts().bytes_written;
    let log_bytes = driver.log.log_bytes();
    appended(&mut driver, 50);
    let written = driver.platter.counts().bytes_written - written;
    let logged = driver.log.log_bytes() - log_bytes;
    assert!(
        written <= logged + 1024,
        "{written} bytes were written for {logged} of log"
    );
    assert_eq!(driver.log.read(Index(1), 100), ReadEntries::Absent);
    assert!(matches!(
        driver.log.read(Index(391), 100),
        ReadEntries::Entries(_)
    ));
}

#[test]
fn damage_met_while_running_is_not_served() {
    let mut driver = Driver::start(7, SEGMENT_BYTES);
    appended(&mut driver, 100);
    let names = driver.platter.start_process().list().unwrap();
    let name = names
        .into_iter()
        .find(|name| name.starts_with("log-"))
        .unwrap();
    driver.restart().unwrap();
    assert!(driver.platter.flip_bit(&name, 30_000, 1));
    let mut from = 1;
    let mut served = Vec::new();
    let damaged = loop {
        match driver.log.read(Index(from), 1000) {
            ReadEntries::Entries(entries) => {
                from += entries.len() as u64;
                served.extend(entries);
            }
            ReadEntries::Damaged(found) => break found.what,
            ReadEntries::Absent => panic!("no damage was met up to {from}"),
        }
    };
    assert!(damaged.contains("damaged in batch"), "{damaged}");
    assert!(
        served
            .iter()
            .eq(driver.now.entries.values().take(served.len()))
    );
}

#[test]
fn a_batch_larger_than_a_segment_gets_a_file_of_its_own() {
    let mut driver = Driver::start(8, 4 << 10);
    for round in 0..6 {
        driver.entries(driver.now.last() + 1, 1, 60 * (round % 3));
        driver.sync().unwrap();
        let expected = driver.now.clone();
        assert_eq!(restarted(&mut driver, Survival::Coin), expected);
    }
    let mut disk = driver.platter.start_process();
    let lengths: Vec<u64> = disk
        .list()
        .unwrap()
        .iter()
        .map(|name| disk.clone().open(name).unwrap().len().unwrap())
        .collect();
    assert!(
        lengths.iter().any(|length| *length > 4 << 10),
        "{lengths:?}"
    );
    drop(disk);
    let platter = driver.platter.clone();
    assert!(open(platter.start_process(), settings(4 << 10), MEMBER).is_ok());
}
