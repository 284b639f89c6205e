//! W1 to W11: every watch is held to the watch oracle, across all reconnections that the client library made without telling.

use super::Verdict;
use crate::faults::history::Record;
use sim::recorded::{
    Blame, Check, Event, Model, WatchBody, WatchCreate, WatchOracle, WatchResponse,
};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Follows each watch through the history.
pub fn check(records: &[Record], model: &Model, verdict: &mut Verdict) {
    let mut watches: BTreeMap<i64, Followed> = BTreeMap::new();
    for record in records {
        match record.kind.as_str() {
            "watch" => {
                watches.insert(record.watch, Followed::new(record));
            }
            "created" | "events" | "progress" | "ended" => match watches.get_mut(&record.watch) {
                Some(watch) => verdict.note(watch.take(record, model)),
                None => verdict.note(Err((
                    "W2",
                    format!(
                        "watch {} shows something before it was asked for",
                        record.watch
                    ),
                ))),
            },
            _ => {}
        }
    }
    // Watches end after the last changes that the load made; leases may still end after that.
    let last = records
        .iter()
        .filter(|r| r.key == "kend" && r.ok())
        .map(|r| r.revision)
        .max();
    let complete = last.and_then(|last| {
        let changes = model
            .changes()
            .iter()
            .filter(|change| change.revision <= last);
        Model::replay(changes.cloned()).ok()
    });
    for watch in watches.values() {
        verdict.events += watch.oracle.delivered();
        if let (Some(model), true) = (&complete, watch.lasting && !watch.broken) {
            let check = watch.oracle.check_complete(model);
            verdict.note(
                check.map_err(|(property, text)| (property, format!("{}: {text}", watch.name))),
            );
        }
    }
}

struct Followed {
    name: String,
    oracle: WatchOracle,
    lasting: bool,
    /// Something was found: what follows says nothing new.
    broken: bool,
}

impl Followed {
    fn new(record: &Record) -> Followed {
        let create = WatchCreate {
            watch: record.watch,
            key: record.key.clone().into(),
            range_end: record.range_end.clone().into(),
            start_revision: record.start,
            prev_kv: record.previous,
            ..WatchCreate::default()
        };
        Followed {
            name: format!("watch {} at n{}", record.watch, record.member + 1),
            oracle: WatchOracle::new(create),
            lasting: record.lasting,
            broken: false,
        }
    }

    fn take(&mut self, record: &Record, model: &Model) -> Check {
        if self.broken {
            return Ok(());
        }
        let response = WatchResponse {
            watch: record.watch,
            revision: record.revision,
            body: body(record),
        };
        let held = match record.kind.as_str() {
            "ended" if record.modified == 0 => Err(("W11", format!("it ended: {}", record.error))),
            _ => self.oracle.on_response(&response, model, &Blame::default()),
        };
        self.broken = held.is_err();
        held.map_err(|(property, text)| {
            (
                property,
                format!("{} at {} us: {text}", self.name, record.called),
            )
        })
    }
}

fn body(record: &Record) -> WatchBody {
    match record.kind.as_str() {
        "created" => WatchBody::Created,
        "progress" => WatchBody::Progress,
        "ended" => WatchBody::Compacted {
            compacted: record.modified,
        },
        _ => {
            let event = |told: &crate::faults::history::Event| {
                Arc::new(Event {
                    deleted: told.deleted,
                    kv: told.kv.to_oracle(),
                    prev: told.previous.as_ref().map(|previous| previous.to_oracle()),
                })
            };
            let events = record.events.iter().map(event).collect();
            // The client library has put fragments together.
            WatchBody::Events {
                events,
                fragment: false,
            }
        }
    }
}
