//! Tells the operator of a state that fills up: once when it passes the warning, and whenever an alarm comes or goes.

use crate::Metrics;
use replica::Status;
use state::Alarm;
use tracing::{info, warn};

/// The part of the warning that must be free before it may be given again.
const FREE_PARTS: u64 = 16;

/// What the operator was told last.
pub(crate) struct SpaceWatch {
    warn_bytes: u64,
    warned: bool,
    alarms: Vec<Alarm>,
}

impl SpaceWatch {
    pub(crate) fn new(warn_bytes: u64) -> SpaceWatch {
        SpaceWatch {
            warn_bytes,
            warned: false,
            alarms: Vec::new(),
        }
    }

    /// Looks whether there is something new to tell.
    pub(crate) fn look(&mut self, status: &Status, metrics: &Metrics) {
        let (bytes, bytes_max) = (status.state_bytes, status.state_bytes_max);
        metrics
            .above_warning
            .set(u64::from(bytes >= self.warn_bytes));
        if !self.warned && bytes >= self.warn_bytes {
            warn!(
                bytes,
                bytes_max, "state fills up: compact history, delete keys or raise state-bytes-max"
            );
            self.warned = true;
        } else if bytes < self.warn_bytes - self.warn_bytes / FREE_PARTS {
            self.warned = false;
        }
        if status.alarms == self.alarms {
            return;
        }
        let gone = |alarm: &&Alarm| !status.alarms.contains(alarm);
        for Alarm { kind, member } in self.alarms.iter().filter(gone) {
            info!(
                ?kind,
                member = format!("{member:x}"),
                bytes,
                bytes_max,
                "alarm lowered"
            );
        }
        let new = |alarm: &&Alarm| !self.alarms.contains(alarm);
        for Alarm { kind, member } in status.alarms.iter().filter(new) {
            warn!(
                ?kind,
                member = format!("{member:x}"),
                bytes,
                bytes_max,
                "alarm raised"
            );
        }
        self.alarms.clone_from(&status.alarms);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory_member;
    use state::AlarmKind;

    #[test]
    fn the_operator_is_warned_once_until_there_is_room_again() {
        let (handle, _member) = memory_member::stalled();
        let metrics = Metrics::default();
        let mut space = SpaceWatch::new(160);
        let mut look = |bytes| {
            let mut status = (*handle.status()).clone();
            status.state_bytes = bytes;
            let before = space.warned;
            space.look(&status, &metrics);
            (metrics.above_warning.get(), space.warned && !before)
        };
        let looks = [100, 160, 200, 155, 160, 149, 160].map(&mut look);
        let expected = [
            (0, false),
            (1, true),
            (1, false),
            // Not far enough below to be worth another warning.
            (0, false),
            (1, false),
            (0, false),
            (1, true),
        ];
        assert_eq!(looks, expected);
    }

    #[test]
    fn alarms_are_told_when_they_come_and_go() {
        let (handle, _member) = memory_member::stalled();
        let mut space = SpaceWatch::new(160);
        let alarm = Alarm {
            kind: AlarmKind::NoSpace,
            member: 7,
        };
        let mut status = (*handle.status()).clone();
        for alarms in [vec![alarm], vec![]] {
            status.alarms = alarms.clone();
            space.look(&status, &Metrics::default());
            assert_eq!(space.alarms, alarms);
        }
    }
}
