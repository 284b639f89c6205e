//! Goal: whatever is being done when the process dies or the power fails, everything whose sync had returned is there afterwards.
//! Method: random work on the log and on a model of it, stopped at a random disk operation, over and over on the same disk.

mod model;

use model::Driver;
use synod_log::memory_disk::Survival;

fn run(seed: u64, crashes: u32, failing_syncs: bool) -> Result<(), String> {
    let segment_bytes = [4 << 10, 16 << 10, 64 << 10][seed as usize % 3];
    let mut driver = Driver::start(seed, segment_bytes);
    for crash in 0..crashes {
        let fuse = driver.rng.below(1 << (3 + seed % 6));
        driver.platter.set_fuse(fuse, None);
        while !driver.platter.burned() {
            if failing_syncs && driver.rng.below(10) == 0 {
                driver.platter.fail_syncs(driver.rng.below(5) as u32);
            }
            let _refused_once_the_fuse_burns = driver.step();
        }
        driver.platter.fail_syncs(0);
        // Recovery, too, is interrupted now and then.
        for attempt in 0..3 {
            match driver.rng.below(4) {
                0 => driver.platter.crash(),
                1 => driver.platter.lose_power(Survival::Nothing),
                2 => driver.platter.lose_power(Survival::Everything),
                _ => driver.platter.lose_power(Survival::Coin),
            }
            if attempt < 2 && driver.rng.below(3) == 0 {
                let disk = driver.platter.start_process();
                driver.platter.set_fuse(driver.rng.below(12), None);
                let _stopped_on_the_way =
                    synod_log::open(disk, driver.settings.clone(), model::MEMBER);
            } else {
                break;
            }
        }
        driver
            .restart()
            .map_err(|text| format!("seed {seed}, crash {crash}: {text}"))?;
    }
    Ok(())
}

#[test]
fn every_synced_record_survives_two_thousand_crashes() {
    for seed in 0..200 {
        run(seed, 10, false).unwrap();
    }
}

#[test]
fn failing_syncs_lose_nothing_either() {
    for seed in 1000..1200 {
        run(seed, 5, true).unwrap();
    }
}
