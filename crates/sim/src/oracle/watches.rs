//! W1 to W12 at the receiving end of a watch: what comes must be exactly the decided changes of its range, in order, from its start on.

use super::blame::{Blame, ended_with_lease};
use super::{Check, broken};
use crate::clock::Micros;
use crate::model::{Change, Model, in_range};
use replica::{Event, WatchBody, WatchCreate, WatchResponse};
use std::collections::BTreeSet;
use std::sync::Arc;

/// What a member has applied it tells within this time, to a stream that takes it.
const FED_WITHIN: Micros = 1_500_000;

/// One watch, followed across the streams it lived on.
#[derive(Clone, Debug)]
pub struct WatchOracle {
    create: WatchCreate,
    state: Life,
    /// Position in the model's changes: everything before it was delivered or does not concern this watch.
    cursor: usize,
    /// Delivered behind it: within one revision the order is free.
    ahead: BTreeSet<usize>,
    /// Newest progress mark.
    mark: i64,
    /// Revision of the last delivered event that has fragments outstanding.
    fragment_of: Option<i64>,
    /// A revision of which only a part came, and what was left out went with its lease: if the rest comes it was split, else it was kept.
    half_of: Option<i64>,
    /// The revision at which the member said that the watch has begun.
    begun_at: i64,
    delivered: u64,
    /// Since when the next change could have been told, and how many had been.
    owed: Option<(Micros, u64)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    Asked,
    Open,
    Ended,
}

impl WatchOracle {
    /// A watch that was asked for.
    pub fn new(create: WatchCreate) -> WatchOracle {
        WatchOracle {
            create,
            state: Life::Asked,
            cursor: 0,
            ahead: BTreeSet::new(),
            mark: 0,
            fragment_of: None,
            half_of: None,
            begun_at: 0,
            delivered: 0,
            owed: None,
        }
    }

    /// Where to resume: the revision after the last one wholly delivered; `None` before the watch began.
    pub fn resume_revision(&self, model: &Model) -> Option<i64> {
        let opened = self.state == Life::Open;
        // A revision of which only fragments came is wanted whole again.
        let seen = match self.fragment_of {
            Some(revision) => revision,
            None => match self
                .cursor
                .checked_sub(1)
                .and_then(|last| model.changes().get(last))
            {
                Some(change) => change.revision + 1,
                None => 2,
            },
        };
        opened.then_some(seen.max(self.create.start_revision).max(self.mark + 1))
    }

    /// The watch has ended, by compaction or refusal.
    pub fn ended(&self) -> bool {
        self.state == Life::Ended
    }

    /// The watch is open.
    pub fn open(&self) -> bool {
        self.state == Life::Open
    }

    /// Events delivered.
    pub fn delivered(&self) -> u64 {
        self.delivered
    }

    fn concerns(&self, model: &Model, position: usize) -> bool {
        let change = &model.changes()[position];
        change.revision >= self.create.start_revision && self.passes(&change.kv.key, change.deleted)
    }

    /// Range and filters let such a change through.
    fn passes(&self, key: &[u8], deleted: bool) -> bool {
        let filtered = if deleted {
            self.create.no_delete
        } else {
            self.create.no_put
        };
        !filtered && in_range(key, &self.create.key, &self.create.range_end)
    }

    /// The next change this watch must hear of, if it is decided already.
    fn next(&self, model: &Model) -> Option<usize> {
        (self.cursor..model.changes().len()).find(|position| self.awaits(model, *position))
    }

    fn awaits(&self, model: &Model, position: usize) -> bool {
        !self.ahead.contains(&position) && self.concerns(model, position)
    }

    /// The change of the next revision that an event tells of; the next one at all if there is none.
    fn told(&self, event: &Event, model: &Model) -> Option<usize> {
        let next = self.next(model)?;
        let revision = model.changes()[next].revision;
        let told = (next..model.changes().len())
            .take_while(|&position| model.changes()[position].revision == revision)
            .find(|&position| {
                model.changes()[position].kv.key == event.kv.key && self.awaits(model, position)
            });
        Some(told.unwrap_or(next))
    }

    /// A response came.
    pub fn on_response(&mut self, response: &WatchResponse, model: &Model, blame: &Blame) -> Check {
        self.on_body(response, model, blame)?;
        if response.revision > model.revision() {
            broken!(
                blame.of_revision(response.revision, model.revision(), model),
                "a response stands at revision {}, and {} is the last decided: {response:?}",
                response.revision,
                model.revision()
            );
        }
        Ok(())
    }

    fn on_body(&mut self, response: &WatchResponse, model: &Model, blame: &Blame) -> Check {
        match (&response.body, self.state) {
            (_, Life::Ended) => {
                broken!("W2", "a response after the end of the watch: {response:?}")
            }
            (WatchBody::Created, Life::Asked) => self.on_created(response.revision, model),
            (WatchBody::Refused(_) | WatchBody::Denied(_), Life::Asked) => {
                self.state = Life::Ended;
                Ok(())
            }
            (WatchBody::Compacted { compacted }, _) => self.on_compacted(*compacted, model),
            (WatchBody::Events { events, fragment }, Life::Open) => {
                self.check_order(events)?;
                for event in events {
                    self.on_event(event, model, blame)?;
                }
                self.on_end_of_events(events, *fragment, model)
            }
            (WatchBody::Progress, Life::Open) => self.on_progress(response.revision, model),
            (WatchBody::Canceled, _) => {
                self.state = Life::Ended;
                Ok(())
            }
            _ => broken!(
                "W1",
                "a response out of turn in state {:?}: {response:?}",
                self.state
            ),
        }
    }

    fn on_created(&mut self, revision: i64, model: &Model) -> Check {
        self.state = Life::Open;
        self.begun_at = revision;
        if self.create.start_revision == 0 {
            self.cursor = model
                .changes()
                .partition_point(|change| change.revision <= revision);
        }
        Ok(())
    }

    /// W11: only a watch whose next revision is gone may end so, and the revision told is one that was compacted to.
    fn on_compacted(&mut self, compacted: i64, model: &Model) -> Check {
        self.state = Life::Ended;
        let next = self.next(model).map_or(model.revision() + 1, |position| {
            model.changes()[position].revision
        });
        let wanted = if self.create.start_revision == 0 {
            next
        } else {
            next.min(self.create.start_revision.max(self.mark + 1))
        };
        if !model.was_compacted_to(compacted, model.revision()) {
            broken!(
                "W11",
                "the watch ends with compacted revision {compacted}, to which nothing was compacted"
            );
        }
        if wanted > compacted && self.cursor_revision(model) > compacted {
            broken!(
                "W11",
                "the watch wants revision {wanted} and ends although only {compacted} was compacted"
            );
        }
        Ok(())
    }

    fn cursor_revision(&self, model: &Model) -> i64 {
        self.cursor
            .checked_sub(1)
            .map_or(self.create.start_revision, |last| {
                model.changes()[last].revision
            })
    }

    /// W1: what comes together comes in order.
    fn check_order(&self, events: &[Arc<Event>]) -> Check {
        let falls = |pair: &[Arc<Event>]| pair[1].kv.mod_revision < pair[0].kv.mod_revision;
        if let Some(pair) = events.windows(2).find(|pair| falls(pair)) {
            broken!("W1", "{:?} comes behind {:?}", pair[1], pair[0]);
        }
        Ok(())
    }

    /// W5, W7, W10: the watch asked for events of this revision and kind.
    fn check_wanted(&self, event: &Event) -> Check {
        let (start, revision) = (self.create.start_revision, event.kv.mod_revision);
        if !self.passes(&event.kv.key, event.deleted) {
            broken!("W7", "{event:?} came, and {:?} was asked for", self.create);
        }
        if revision < start {
            let future = start > self.begun_at;
            broken!(
                if future { "W10" } else { "W5" },
                "{event:?} came to a watch from {start}, which began at {}",
                self.begun_at
            );
        }
        Ok(())
    }

    /// Which promise it breaks that an event came, and not `expected`.
    fn blame(
        &self,
        event: &Event,
        expected: Option<&Change>,
        model: &Model,
        blame: &Blame,
    ) -> &'static str {
        let changes = model.changes();
        let revision = event.kv.mod_revision;
        let first = changes.partition_point(|change| change.revision < revision);
        let is_it = |change: &Change| change.deleted == event.deleted && change.kv == event.kv;
        let Some(position) = (first..changes.len())
            .take_while(|&position| changes[position].revision == revision)
            .find(|&position| is_it(&changes[position]))
        else {
            return blame.of_event(event, expected, self.cursor_revision(model), model);
        };
        if position < self.cursor || self.ahead.contains(&position) {
            return "W2";
        }
        expected.map_or("W3", |expected| self.gap(expected, model))
    }

    /// Which promise it breaks that a change was left out.
    fn gap(&self, left_out: &Change, model: &Model) -> &'static str {
        let fresh = self.delivered == 0 && self.mark == 0 && self.create.start_revision > 0;
        if self.half_of == Some(left_out.revision) && ended_with_lease(left_out, model) {
            "L4"
        } else if left_out.revision < model.compacted() {
            // What could not be read any more is told, not passed over.
            "W11"
        } else if fresh {
            "W5"
        } else {
            "W3"
        }
    }

    /// W1 to W3, W5, W7 to W10: the event is exactly the next one, or another of the same revision.
    fn on_event(&mut self, event: &Event, model: &Model, blame: &Blame) -> Check {
        self.check_wanted(event)?;
        let Some(position) = self.told(event, model) else {
            broken!(
                self.blame(event, None, model, blame),
                "an event that was delivered before, or is not decided: {event:?}; {}",
                self.position(model)
            );
        };
        let expected = &model.changes()[position];
        if event.deleted != expected.deleted || event.kv != expected.kv {
            broken!(
                self.blame(event, Some(expected), model, blame),
                "{event:?} came, and {expected:?} is next; {}",
                self.position(model)
            );
        }
        if self.half_of == Some(expected.revision) {
            broken!("W4", "{event:?} came after others of its revision");
        }
        if self
            .fragment_of
            .is_some_and(|revision| revision != expected.revision)
        {
            broken!(
                "W4",
                "{event:?} came while revision {:?} was not whole",
                self.fragment_of
            );
        }
        self.check_previous(event, model)?;
        if self.next(model) == Some(position) {
            self.cursor = position + 1;
            self.ahead.retain(|&ahead| ahead > position);
        } else {
            self.ahead.insert(position);
        }
        self.delivered += 1;
        Ok(())
    }

    fn check_previous(&self, event: &Event, model: &Model) -> Check {
        // As in etcd, a put that creates its key has none, also where the same revision removed the key before.
        let creates = !event.deleted && event.kv.create_revision == event.kv.mod_revision;
        let before = model.key_at(&event.kv.key, event.kv.mod_revision - 1);
        let before = before.filter(|_| !creates);
        if !self.create.prev_kv {
            return Ok(());
        }
        match &event.prev {
            Some(previous) if Some(previous) != before.as_ref() => {
                broken!("W8", "{event:?} names a previous state, it was {before:?}")
            }
            None if before.is_some() && event.kv.mod_revision > model.compacted() => {
                broken!(
                    "W8",
                    "{event:?} names no previous state, it was {before:?}, and {} is readable",
                    model.compacted()
                )
            }
            _ => Ok(()),
        }
    }

    /// W4: a response ends with a whole revision unless it says otherwise, and only to those who asked for fragments.
    fn on_end_of_events(&mut self, events: &[Arc<Event>], fragment: bool, model: &Model) -> Check {
        let Some(last) = events.last() else {
            broken!("W4", "a response of events without events")
        };
        let revision = last.kv.mod_revision;
        let split = self
            .next(model)
            .is_some_and(|position| model.changes()[position].revision == revision);
        let left_out = self.next(model).map(|position| &model.changes()[position]);
        if split && !fragment && left_out.is_some_and(|it| ended_with_lease(it, model)) {
            self.half_of = Some(revision);
        } else if split != fragment {
            broken!(
                "W4",
                "revision {revision} is {} and the response says fragment {fragment}",
                if split { "split" } else { "whole" }
            );
        }
        if fragment && !self.create.fragment {
            broken!(
                "W4",
                "revision {revision} comes in fragments to a watch that asked for none"
            );
        }
        self.fragment_of = fragment.then_some(revision);
        Ok(())
    }

    /// W6: everything up to the mark was delivered, and marks do not go back.
    pub fn on_progress(&mut self, mark: i64, model: &Model) -> Check {
        if self.state != Life::Open {
            return Ok(());
        }
        // A watch that was resumed has heard of everything before its start.
        let heard = self.mark.max(self.create.start_revision - 1);
        if mark < heard {
            broken!("W6", "the mark goes back from {heard} to {mark}");
        }
        if let Some(position) = self.next(model)
            && model.changes()[position].revision <= mark
        {
            broken!(
                self.passed_over(position, mark, model),
                "the mark {mark} passes {:?}, which was not delivered",
                model.changes()[position]
            );
        }
        self.mark = mark;
        Ok(())
    }

    /// Which promise it breaks that a mark passes a change, and maybe others behind it.
    fn passed_over(&self, first: usize, mark: i64, model: &Model) -> &'static str {
        let changes = model.changes();
        let mut others = (first + 1..changes.len())
            .take_while(|&position| changes[position].revision <= mark)
            .filter(|&position| self.awaits(model, position));
        let alone = others.next().is_none();
        let nothing_came = self.delivered == 0 && self.mark == 0;
        if self.half_of == Some(changes[first].revision) {
            "L4"
        } else if nothing_came && alone && changes[first].revision == self.create.start_revision {
            "W5"
        } else if nothing_came && self.create.no_put != self.create.no_delete {
            // All that its filter lets through.
            "W7"
        } else {
            "W6"
        }
    }

    /// W12: a watch whose stream takes more hears soon of what its member has `reached`, if it could be told of anything.
    pub fn check_fed(&mut self, reached: Option<i64>, at: Micros, model: &Model) -> Check {
        let owes = |position: usize| {
            let revision = model.changes()[position].revision;
            reached.is_some_and(|reached| revision <= reached)
        };
        let owed = self.state == Life::Open && self.next(model).is_some_and(owes);
        match self.owed {
            Some((since, delivered)) if owed && delivered == self.delivered => {
                if at - since > FED_WITHIN {
                    broken!(
                        if self.half_of.is_some() { "L4" } else { "W12" },
                        "nothing was told for {} us of what its member had applied; {}",
                        at - since,
                        self.position(model)
                    );
                }
            }
            _ => self.owed = owed.then_some((at, self.delivered)),
        }
        Ok(())
    }

    fn position(&self, model: &Model) -> String {
        format!(
            "the watch of {:?}..{:?} from {} stands behind revision {}",
            self.create.key,
            self.create.range_end,
            self.create.start_revision,
            self.cursor_revision(model)
        )
    }

    /// W3 at the end: everything decided was delivered.
    pub fn check_complete(&self, model: &Model) -> Check {
        if self.state == Life::Open
            && let Some(position) = self.next(model)
        {
            broken!(
                self.gap(&model.changes()[position], model),
                "{:?} was never delivered; {}",
                model.changes()[position],
                self.position(model)
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use state::{Batch, Command, Group, Operation, Put};

    fn model(keys: &[&'static str]) -> Model {
        let commands = keys.iter().map(|key| {
            let put = Put {
                key: (*key).into(),
                value: "v".into(),
                ..Put::default()
            };
            Command {
                operation: Some(Operation::Put(put)),
                ..Command::default()
            }
        });
        let group = Group {
            commands: commands.collect(),
            ..Group::default()
        };
        let mut model = Model::new();
        model
            .apply(
                &Batch {
                    groups: vec![group],
                    ..Batch::default()
                },
                0,
            )
            .unwrap();
        model
    }

    fn see(oracle: &mut WatchOracle, response: &WatchResponse, model: &Model) -> Check {
        oracle.on_response(response, model, &Blame::default())
    }

    /// Which promise a response breaks.
    fn broken_by(oracle: &WatchOracle, response: &WatchResponse, model: &Model) -> &'static str {
        see(&mut oracle.clone(), response, model).unwrap_err().0
    }

    fn watch_from(start_revision: i64, begun_at: i64, model: &Model) -> WatchOracle {
        let mut oracle = WatchOracle::new(WatchCreate {
            key: "a".into(),
            range_end: "z".into(),
            start_revision,
            ..WatchCreate::default()
        });
        let created = WatchResponse {
            watch: 1,
            revision: begun_at,
            body: WatchBody::Created,
        };
        see(&mut oracle, &created, model).unwrap();
        oracle
    }

    fn watch(model: &Model) -> WatchOracle {
        watch_from(2, model.revision(), model)
    }

    fn events(model: &Model, positions: &[usize]) -> WatchResponse {
        let of = |position: &usize| {
            let change = &model.changes()[*position];
            Arc::new(Event {
                deleted: change.deleted,
                kv: change.kv.clone(),
                prev: None,
            })
        };
        let body = WatchBody::Events {
            events: positions.iter().map(of).collect(),
            fragment: false,
        };
        WatchResponse {
            watch: 1,
            revision: model.revision(),
            body,
        }
    }

    #[test]
    fn exact_events_pass_and_gaps_and_repeats_do_not() {
        let model = model(&["a", "b", "~", "c", "d"]);
        let mut oracle = watch(&model);
        see(&mut oracle, &events(&model, &[0, 1]), &model).unwrap();
        assert_eq!(oracle.resume_revision(&model), Some(4));
        let breaks = |positions: &[usize]| broken_by(&oracle, &events(&model, positions), &model);
        assert_eq!(breaks(&[1]), "W2");
        assert_eq!(breaks(&[2]), "W7");
        assert_eq!(breaks(&[4]), "W3");
        assert_eq!(breaks(&[4, 3]), "W1");
        assert_eq!(oracle.check_complete(&model).unwrap_err().0, "W3");
        see(&mut oracle, &events(&model, &[3, 4]), &model).unwrap();
        oracle.check_complete(&model).unwrap();
    }

    #[test]
    fn a_watch_that_begins_elsewhere_than_was_asked_is_seen() {
        let model = model(&["a", "b", "c", "d"]);
        let breaks = |oracle: &WatchOracle, positions: &[usize]| {
            broken_by(oracle, &events(&model, positions), &model)
        };
        assert_eq!(breaks(&watch(&model), &[1]), "W5");
        assert_eq!(breaks(&watch_from(3, 5, &model), &[0]), "W5");
        assert_eq!(breaks(&watch_from(4, 2, &model), &[1]), "W10");
        let mut filtered = watch(&model);
        filtered.create.no_put = true;
        assert_eq!(breaks(&filtered, &[0]), "W7");
    }

    #[test]
    fn an_event_that_the_log_does_not_know_is_named_by_what_is_wrong_with_it() {
        let model = model(&["a", "b", "c", "d"]);
        let changed = |change: fn(&mut Event)| {
            let mut response = events(&model, &[0]);
            if let WatchBody::Events { events, .. } = &mut response.body {
                change(Arc::make_mut(&mut events[0]));
            }
            broken_by(&watch(&model), &response, &model)
        };
        assert_eq!(changed(|it| it.kv.version = 2), "W9");
        assert_eq!(changed(|it| it.kv.mod_revision = 9), "KV3");
    }

    #[test]
    fn a_mark_past_an_undelivered_event_is_seen() {
        let model = model(&["a", "b"]);
        let mut oracle = watch(&model);
        let mark = |revision| WatchResponse {
            watch: 1,
            revision,
            body: WatchBody::Progress,
        };
        assert_eq!(broken_by(&oracle, &mark(2), &model), "W5");
        assert_eq!(broken_by(&oracle, &mark(3), &model), "W6");
        see(&mut oracle, &events(&model, &[0, 1]), &model).unwrap();
        see(&mut oracle, &mark(3), &model).unwrap();
        assert_eq!(broken_by(&oracle, &mark(2), &model), "W6");
        let mut resumed = watch(&model);
        resumed.create.start_revision = 4;
        assert_eq!(broken_by(&resumed, &mark(2), &model), "W6");
        see(&mut resumed, &mark(3), &model).unwrap();
    }
}
