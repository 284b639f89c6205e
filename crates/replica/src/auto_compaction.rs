//! When history is compacted of the leader's own accord, and up to where: etcd's periodic and revision modes
//! (`etcdserver/api/v3compactor` of etcd 3.6). Time is an argument.
//!
//! Every member notes the revision at intervals, and only the leader compacts: so a new leader knows what the revision was a while ago.
//! One that has just started does not, and waits for the whole retention, as etcd does. Compacting twice to the same revision does nothing.

use raft::Instant;
use std::collections::VecDeque;
use std::time::Duration;

/// Parts of a period after which the revision is noted, and a compaction that came to nothing is tried again.
const PERIOD_PARTS: u32 = 10;
/// Longer retentions are compacted this often all the same.
const PERIOD_MAX: Duration = Duration::from_secs(3600);
/// How often the number of revisions is looked at.
const REVISIONS_INTERVAL: Duration = Duration::from_secs(300);

/// How much history is kept without being asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AutoCompaction {
    /// All of it.
    #[default]
    Off,
    /// What is younger than this.
    Periodic(Duration),
    /// This many revisions.
    Revisions(u64),
}

/// Decides when to compact, and up to where.
pub(crate) struct AutoCompactor {
    mode: AutoCompaction,
    /// What the revision was, the oldest first: periodic mode only, bounded by the retention and the interval.
    noted: VecDeque<(Instant, i64)>,
    look_at: Instant,
    /// No compaction before this, unless the last one came to nothing.
    not_before: Instant,
    /// What was decided last.
    decided: i64,
}

impl AutoCompactor {
    pub(crate) fn new(mode: AutoCompaction, now: Instant) -> AutoCompactor {
        let mut compactor = AutoCompactor {
            mode,
            noted: VecDeque::new(),
            look_at: now,
            not_before: now,
            decided: 0,
        };
        if let AutoCompaction::Revisions(_) = mode {
            compactor.look_at = now + REVISIONS_INTERVAL;
        }
        compactor
    }

    /// When to look again.
    pub(crate) fn due_at(&self) -> Option<Instant> {
        (self.mode != AutoCompaction::Off).then_some(self.look_at)
    }

    /// The revision to compact to now, if it is time to and this member leads.
    pub(crate) fn look(
        &mut self,
        now: Instant,
        leads: bool,
        revision: i64,
        compacted: i64,
    ) -> Option<i64> {
        if self.due_at().is_none_or(|at| at > now) {
            return None;
        }
        let (target, interval) = match self.mode {
            AutoCompaction::Off => return None,
            AutoCompaction::Periodic(retention) => {
                let interval = retention.min(PERIOD_MAX);
                self.look_at = now + interval / PERIOD_PARTS;
                (self.note(now, revision, retention), interval)
            }
            AutoCompaction::Revisions(kept) => {
                self.look_at = now + REVISIONS_INTERVAL;
                let kept = i64::try_from(kept).unwrap_or(i64::MAX);
                (Some(revision.saturating_sub(kept)), REVISIONS_INTERVAL)
            }
        };
        let came_to_nothing = self.decided > compacted;
        let target = target.filter(|&target| target > compacted)?;
        if !leads || (now < self.not_before && !came_to_nothing) {
            return None;
        }
        (self.not_before, self.decided) = (now + interval, target);
        Some(target)
    }

    /// Notes the revision; gives what it was a whole retention ago, if that is known.
    fn note(&mut self, now: Instant, revision: i64, retention: Duration) -> Option<i64> {
        self.noted.push_back((now, revision));
        let old_enough = |at: Instant| now.since(at) >= retention;
        while self.noted.get(1).is_some_and(|&(at, _)| old_enough(at)) {
            self.noted.pop_front();
        }
        mutated!(CompactsYoungHistory, return Some(revision));
        let &(at, revision) = self.noted.front()?;
        old_enough(at).then_some(revision)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn minutes(minutes: u64) -> Duration {
        Duration::from_secs(60 * minutes)
    }

    /// Looks whenever it is due; the revision is that of the minute. Gives (minute, target) of what was decided; all of it takes effect.
    fn decided(mode: AutoCompaction, until: u64, leads: impl Fn(u64) -> bool) -> Vec<(u64, i64)> {
        let mut compactor = AutoCompactor::new(mode, Instant(0));
        let (mut compacted, mut all) = (0, Vec::new());
        while let Some(at) = compactor.due_at() {
            let minute = at.0 / 60_000_000;
            if minute > until {
                break;
            }
            if let Some(target) = compactor.look(at, leads(minute), minute as i64 + 1, compacted) {
                compacted = target;
                all.push((minute, target));
            }
        }
        all
    }

    #[test]
    fn nothing_is_compacted_unless_wanted() {
        assert_eq!(
            AutoCompactor::new(AutoCompaction::Off, Instant(0)).due_at(),
            None
        );
    }

    #[test]
    fn an_hour_is_kept_and_compacted_every_hour() {
        let mode = AutoCompaction::Periodic(minutes(60));
        assert_eq!(
            decided(mode, 250, |_| true),
            [(60, 1), (120, 61), (180, 121), (240, 181)]
        );
    }

    #[test]
    fn ten_minutes_are_compacted_every_ten() {
        let mode = AutoCompaction::Periodic(minutes(10));
        assert_eq!(decided(mode, 35, |_| true), [(10, 1), (20, 11), (30, 21)]);
    }

    #[test]
    fn a_day_is_compacted_every_hour() {
        let mode = AutoCompaction::Periodic(minutes(24 * 60));
        let times = decided(mode, 27 * 60, |_| true);
        assert_eq!(times, [(1440, 1), (1500, 61), (1560, 121), (1620, 181)]);
    }

    #[test]
    fn a_new_leader_knows_what_the_revision_was() {
        let mode = AutoCompaction::Periodic(minutes(60));
        assert_eq!(
            decided(mode, 200, |minute| minute >= 90),
            [(90, 31), (150, 91)]
        );
    }

    #[test]
    fn a_number_of_revisions_is_looked_at_every_five_minutes() {
        let mode = AutoCompaction::Revisions(10);
        assert_eq!(
            decided(mode, 25, |_| true),
            [(10, 1), (15, 6), (20, 11), (25, 16)]
        );
    }

    #[test]
    fn idle_history_is_compacted_once() {
        let mut compactor = AutoCompactor::new(AutoCompaction::Periodic(minutes(10)), Instant(0));
        let mut decided = Vec::new();
        let mut compacted = 0;
        for minute in 0..100 {
            let at = Instant(minute * 60_000_000);
            if let Some(target) = compactor.look(at, true, 7, compacted) {
                compacted = target;
                decided.push((minute, target));
            }
        }
        assert_eq!(decided, [(10, 7)]);
        assert!(compactor.noted.len() <= 12, "{}", compactor.noted.len());
    }

    #[test]
    fn what_came_to_nothing_is_tried_again_after_a_tenth() {
        let mut compactor = AutoCompactor::new(AutoCompaction::Periodic(minutes(60)), Instant(0));
        let mut tried = Vec::new();
        for minute in 0..=78 {
            let at = Instant(minute * 60_000_000);
            tried.extend(
                compactor
                    .look(at, true, minute as i64 + 1, 0)
                    .map(|target| (minute, target)),
            );
        }
        assert_eq!(tried, [(60, 1), (66, 7), (72, 13), (78, 19)]);
    }

    #[test]
    fn a_pause_keeps_more_not_less() {
        let mut compactor = AutoCompactor::new(AutoCompaction::Periodic(minutes(10)), Instant(0));
        compactor.look(Instant(0), true, 5, 0);
        let late = Instant(0) + minutes(1000);
        assert_eq!(compactor.look(late, true, 500, 0), Some(5));
    }
}
