//! Events for watches, straight from the revision log.

use crate::record::Record;
use crate::{Budget, EventView, State};

/// See [`State::events`].
pub(crate) fn events(
    state: &State,
    from: i64,
    budget: Budget,
    visit: &mut dyn FnMut(EventView<'_>),
) -> Result<i64, i64> {
    let (compacted, newest) = (state.visible.compacted, state.complete());
    if from < compacted {
        return Err(compacted);
    }
    let (mut visited, mut last, mut next) = (0, None, (newest + 1).max(from));
    state.keys.log.walk(from, |record| {
        if record.revision > newest {
            return false;
        }
        if last != Some(record.revision) {
            if visited >= budget.0.max(1) {
                next = record.revision;
                return false;
            }
            last = Some(record.revision);
        }
        visited += 1;
        visit(event(&record));
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
