//! Events for watches, straight from the revision log.

use crate::record::Record;
use crate::revision_log::Position;
use crate::{Budget, EventView, State};

/// Where a reading of events goes on: in front of a revision, or between two events of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventPlace {
    revision: i64,
    /// Of the next event, inside the revision. Records of readable events never move.
    inside: Option<Position>,
}

impl EventPlace {
    /// In front of the first event at or above a revision.
    pub fn before(revision: i64) -> EventPlace {
        EventPlace {
            revision,
            inside: None,
        }
    }

    /// The revision of the next event, at least.
    pub fn revision(self) -> i64 {
        self.revision
    }

    /// Some events of its revision lie before it.
    pub fn is_inside(self) -> bool {
        self.inside.is_some()
    }
}

/// See [`State::events_on`].
pub(crate) fn events(
    state: &State,
    from: EventPlace,
    budget: Budget,
    visit: &mut dyn FnMut(EventView<'_>) -> bool,
) -> Result<EventPlace, i64> {
    let (compacted, newest) = (state.visible.compacted, state.complete());
    if from.revision < compacted {
        return Err(compacted);
    }
    let log = &state.keys.log;
    let mut last = from.inside.map(|_| from.revision);
    let (mut visited, mut more) = (0, true);
    let mut next = EventPlace::before((newest + 1).max(from.revision));
    let start = from.inside.unwrap_or_else(|| log.start(from.revision));
    log.walk_on(start, |position, record| {
        let revision = record.revision;
        if revision < from.revision {
            return true;
        }
        if revision > newest {
            return false;
        }
        let inside = last == Some(revision);
        if visited > 0 && (!more || !inside && visited >= budget.0) {
            next = EventPlace {
                revision,
                inside: inside.then_some(position),
            };
            return false;
        }
        last = Some(revision);
        visited += 1;
        more = visit(event(&record));
        true
    });
    Ok(next)
}

fn event<'a>(record: &Record<'a>) -> EventView<'a> {
    let Record {
        revision,
        deleted,
        key,
        value,
        create_revision,
        version,
        lease,
        ..
    } = *record;
    EventView {
        revision,
        deleted,
        key,
        value,
        create_revision,
        version,
        lease,
    }
}
