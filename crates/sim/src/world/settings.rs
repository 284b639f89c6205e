//! The settings all members of a world share.

use super::*;

/// Draws the settings that make rare things frequent: small segments, early snapshots, short buffers.
pub(super) fn draw_common(rng: &mut Rng) -> Common {
    let limits = replica::Limits {
        // The log counts in steps of 64 KiB: below that a snapshot is due at nearly every entry, and who is behind never finds the log.
        snapshot_log_bytes: *rng.pick(&[
            4 << 10,
            64 << 10,
            128 << 10,
            256 << 10,
            512 << 10,
            1 << 20,
        ]),
        snapshot_keep_entries: *rng.pick(&[0, 10, 100]),
        // So little that a read of a few keys goes on over many turns, in which others write.
        query_units: *rng.pick(&[8, 64, 512]),
        watch_buffer_events: *rng.pick(&[4, 32, 1024]),
        watch_progress_interval: std::time::Duration::from_secs(2),
        ..replica::Limits::default()
    };
    // So small that removals are often written down while other commands are applied.
    let state = state::Settings {
        removal_keys_min: *rng.pick(&[0, 1, 3]),
        removal_keys_per_batch: *rng.pick(&[1, 2, 8]),
        ..state::Settings::default()
    };
    let raft = raft::Settings {
        cache_bytes_max: *rng.pick(&[2 << 10, 64 << 10, 16 << 20]),
        ..raft::Settings::default()
    };
    Common {
        publishes: true,
        replica: replica::Settings {
            raft,
            state,
            limits,
            ..replica::Settings::default()
        },
        log: log::Settings {
            segment_bytes: *rng.pick(&[64 << 10, 256 << 10]),
            low_water_bytes: 0,
        },
    }
}
