//! Random commands against a naive model that keeps everything: replies, reads at every revision, events, leases, bytes, snapshots.
//! One state works in tiny slices with queries, snapshots and the freeing of memory in between; the other in one go: both must agree.

mod support;

use bytes::Bytes;
use prost::Message;
use std::collections::BTreeMap;
use support::{Change, Model, Requests, Rng, reload};
use synod_state::*;

/// A query under way in the sliced state, with what it was pinned at.
struct Pending {
    query: Query,
    cursor: QueryCursor,
    revision: i64,
    compacted: i64,
}

struct Harness {
    rng: Rng,
    model: Model,
    sliced: State,
    whole: State,
    settings: Settings,
    pending: Vec<Pending>,
    snapshot: Option<(SnapshotCursor, Loader, u64, i64)>,
    index: u64,
    /// Batches after which a removal was not wholly written down.
    pending_seen: u64,
    /// Hashes of keys seen, by compaction and revision.
    hashes: BTreeMap<(i64, i64), u32>,
}

impl Harness {
    fn new(seed: u64) -> Harness {
        let mut rng = Rng(seed);
        let state_bytes_max = if rng.chance(20) { 200_000 } else { u64::MAX };
        // Small limits, so that everything meets removals that are not wholly written down.
        let settings = Settings {
            state_bytes_max,
            removal_keys_min: rng.below(5),
            removal_keys_per_batch: 1 + rng.below(3),
            ..Settings::default()
        };
        Harness {
            rng,
            model: Model::new(state_bytes_max),
            sliced: State::new(settings.clone()),
            whole: State::new(settings.clone()),
            settings,
            pending: Vec::new(),
            snapshot: None,
            index: 0,
            pending_seen: 0,
            hashes: BTreeMap::new(),
        }
    }

    /// Begins, steps and checks things that must not disturb the state.
    fn disturb(&mut self) {
        if self.rng.chance(10) && self.pending.len() < 4 {
            let query = Requests {
                rng: &mut self.rng,
                revision: self.sliced.revision(),
            }
            .query();
            let cursor = self.sliced.query_begin(query.clone());
            self.pending.push(Pending {
                query,
                cursor,
                revision: self.sliced.revision(),
                compacted: self.sliced.compacted(),
            });
        }
        if !self.pending.is_empty() && self.rng.chance(50) {
            let at = self.rng.below(self.pending.len() as u64) as usize;
            let budget = Budget(self.rng.below(4));
            if self.rng.chance(2) {
                self.sliced.query_cancel(self.pending.remove(at).cursor);
            } else if let Some((answer, revision)) =
                self.sliced.query_step(&mut self.pending[at].cursor, budget)
            {
                let pending = self.pending.remove(at);
                assert_eq!(revision, pending.revision, "revision of the view");
                self.check_answer(&pending, answer);
            }
        }
        if self.rng.chance(30) {
            let budget = Budget(self.rng.below(6));
            self.sliced.background_step(budget);
        }
        if let Some((mut cursor, mut loader, hash, revision)) = self.snapshot.take() {
            match self
                .sliced
                .snapshot_step(&mut cursor, 1 << self.rng.below(17))
            {
                Some(bytes) => {
                    loader.feed(&bytes).unwrap();
                    self.snapshot = Some((cursor, loader, hash, revision));
                }
                None => {
                    self.sliced.snapshot_cancel(cursor);
                    self.check_loaded(loader, hash, revision);
                }
            }
        }
    }

    fn check_answer(&mut self, pending: &Pending, answer: Answer) {
        let (revision, compacted) = (pending.revision, pending.compacted);
        let expected = match &pending.query {
            Query::Range(range) => self
                .model
                .range(range, revision, compacted)
                .map(Answer::Range),
            Query::Txn(txn) => self
                .model
                .txn(txn, Some((revision, compacted)))
                .map(Answer::Txn),
            other => panic!("{other:?} is not checked here"),
        };
        assert_eq!(
            answer,
            expected.unwrap_or_else(Answer::Rejected),
            "{:?} at {revision}",
            pending.query
        );
    }

    /// A loaded snapshot is the state at its index, whatever was written meanwhile.
    fn check_loaded(&mut self, loader: Loader, hash: u64, revision: i64) {
        let (loaded, header) = loader.finish().unwrap();
        assert_eq!(
            (loaded.hash(), header.hash),
            (hash, hash),
            "hash of the loaded state"
        );
        assert_eq!(loaded.revision(), revision);
        self.check_history(&loaded);
    }

    /// Reads and events at every readable revision (PROPERTIES KV4, W1-W3, W8, W9).
    fn check_history(&mut self, state: &State) {
        let (compacted, newest) = (state.compacted(), state.revision());
        for revision in compacted.max(1)..=newest {
            for key in self.model.keys.keys() {
                assert_eq!(
                    state.key_at(key, revision).as_ref(),
                    self.model.key_at(key, revision),
                    "key {key:?} at {revision}"
                );
            }
        }
        let from = compacted + self.rng.below((newest - compacted + 3) as u64) as i64;
        let complete = state.complete();
        assert!(
            complete <= newest,
            "complete at {complete}, {newest} is the newest"
        );
        let mut expected: Vec<_> = self
            .model
            .changes
            .iter()
            .filter(|change| (from..=complete).contains(&change.kv.mod_revision))
            .cloned()
            .collect();
        let (mut events, mut next) = (Vec::new(), EventPlace::before(from));
        while next.revision() <= complete {
            let (seen, before) = (events.len(), next);
            let (budget, rng) = (Budget(self.rng.below(5)), &mut self.rng);
            next = state
                .events_on(next, budget, &mut |event| {
                    events.push(change(&event));
                    rng.below(4) > 0
                })
                .unwrap();
            let last = events[seen..].last().map(|event| event.kv.mod_revision);
            assert!(
                next != before
                    && last.is_none_or(|last| last < next.revision() + i64::from(next.is_inside())),
                "events from {before:?} end at {last:?}, then come from {next:?}"
            );
        }
        assert_eq!(
            next,
            EventPlace::before(from.max(complete + 1)),
            "events from {from}"
        );
        for changes in [&mut events, &mut expected] {
            changes.sort_by_key(|change| (change.kv.mod_revision, change.kv.key.clone()));
        }
        assert_eq!(events, expected, "events from {from}");
        if compacted > 0 {
            assert_eq!(
                state.events(compacted - 1, Budget(10), &mut |_| ()),
                Err(compacted)
            );
        }
    }

    fn batch(&mut self) -> Batch {
        let clock_ms = self.model.clock_ms + self.rng.below(400);
        let groups = (0..self.rng.below(3)).map(|sequence| Group {
            member: self.rng.below(3),
            sequence,
            renewals: (0..self.rng.below(3))
                .map(|_| self.rng.below(7) as i64)
                .collect(),
            commands: (0..self.rng.below(4))
                .map(|_| {
                    Requests {
                        rng: &mut self.rng,
                        revision: self.model.revision,
                    }
                    .command()
                })
                .collect(),
            ..Group::default()
        });
        Batch {
            format: 1,
            clock_ms,
            wall_ms: 0,
            groups: groups.collect(),
        }
    }

    fn expected(&mut self, batch: &Batch) -> Applied {
        self.model.clock_ms = batch.clock_ms;
        let renewals: Vec<Vec<_>> = batch
            .groups
            .iter()
            .map(|group| {
                group
                    .renewals
                    .iter()
                    .map(|&id| (id, self.model.renew(id)))
                    .collect()
            })
            .collect();
        let expired = self.model.expire();
        let groups = batch
            .groups
            .iter()
            .zip(renewals)
            .map(|(group, renewals)| GroupApplied {
                member: group.member,
                sequence: group.sequence,
                renewals,
                replies: group
                    .commands
                    .iter()
                    .map(|command| (self.model.apply(command), self.model.revision))
                    .collect(),
                ..GroupApplied::default()
            });
        Applied {
            groups: groups.collect(),
            expired,
            ..Applied::default()
        }
    }

    fn apply(&mut self) {
        self.index += 1;
        let batch = self.batch();
        let bytes = batch.encode_to_vec();
        let expected = self.expected(&batch);
        self.whole.apply_begin(self.index, &bytes).unwrap();
        let whole = self.whole.apply_step(Budget(u64::MAX)).unwrap();
        self.sliced.apply_begin(self.index, &bytes).unwrap();
        let sliced = loop {
            let budget = Budget(self.rng.below(5));
            if let Some(applied) = self.sliced.apply_step(budget) {
                break applied;
            }
            self.disturb();
        };
        assert_eq!(whole, expected, "batch {batch:?}");
        assert_eq!(sliced, expected, "in slices, batch {batch:?}");
        for state in [&self.whole, &self.sliced] {
            assert_eq!(state.revision(), self.model.revision);
            assert_eq!(state.compacted(), self.model.compacted.max(0));
            assert_eq!(state.bytes(), self.model.bytes(), "bytes after {batch:?}");
            assert_eq!(
                state.keys() as usize,
                self.model
                    .live(
                        &Bytes::from_static(b"\0"),
                        &Bytes::from_static(b"\0"),
                        i64::MAX
                    )
                    .len()
            );
            assert_eq!(
                state.next_deadline_ms(),
                self.model.leases.values().map(|lease| lease.1).min()
            );
        }
        assert_eq!(
            self.whole.hash(),
            self.sliced.hash(),
            "hash after {batch:?}"
        );
        assert_eq!(self.whole.complete(), self.sliced.complete());
        self.pending_seen += u64::from(self.whole.complete() < self.whole.revision());
    }

    fn between(&mut self) {
        if self.snapshot.is_none() && self.rng.chance(10) {
            let header = SnapshotHeader {
                index: self.index,
                ..SnapshotHeader::default()
            };
            let cursor = self.sliced.snapshot_begin(header);
            self.snapshot = Some((
                cursor,
                Loader::new(self.settings.clone()),
                self.sliced.hash(),
                self.sliced.revision(),
            ));
        }
        if self.rng.chance(20) {
            self.check_leases();
        }
        if self.rng.chance(10) {
            let revision = if self.rng.chance(50) {
                0
            } else {
                self.model.revision - self.rng.below(5) as i64
            };
            let hashes = [
                ask(&mut self.sliced, Query::HashKv { revision }),
                ask(&mut self.whole, Query::HashKv { revision }),
            ];
            assert_eq!(hashes[0], hashes[1], "hash of keys at {revision}");
            if let Answer::HashKv {
                hash,
                compact_revision,
                hash_revision,
            } = hashes[0]
            {
                // How much of a removal is written down does not show.
                let seen = self.hashes.entry((compact_revision, hash_revision));
                assert_eq!(*seen.or_insert(hash), hash, "hash of keys at {revision}");
            }
        }
        if self.rng.chance(4) && self.snapshot.is_none() && self.pending.is_empty() {
            // A member that installs a snapshot goes on like the others.
            self.sliced = reload(&mut self.sliced, &self.settings);
        }
        if self.rng.chance(5) {
            let whole = std::mem::replace(&mut self.whole, State::new(self.settings.clone()));
            self.check_history(&whole);
            self.whole = whole;
            let sliced = std::mem::replace(&mut self.sliced, State::new(self.settings.clone()));
            self.check_history(&sliced);
            self.sliced = sliced;
        }
    }

    fn check_leases(&mut self) {
        let ids: Vec<i64> = self.model.leases.keys().copied().collect();
        assert_eq!(ask(&mut self.sliced, Query::Leases), Answer::Leases(ids));
        for id in 1..=6 {
            let expected = self
                .model
                .leases
                .get(&id)
                .map(|&(granted_ms, deadline_ms)| LeaseView {
                    id,
                    granted_ms,
                    remaining_ms: deadline_ms
                        .saturating_sub(self.model.clock_ms)
                        .saturating_sub(granted_ms / 50),
                    keys: self.model.lease_keys(id, i64::MAX),
                });
            assert_eq!(
                ask(&mut self.sliced, Query::LeaseTimeToLive { id, keys: true }),
                Answer::Lease(expected),
                "lease {id}"
            );
        }
    }
}

fn change(event: &EventView<'_>) -> Change {
    let kv = KeyValue {
        key: Bytes::copy_from_slice(event.key),
        value: Bytes::copy_from_slice(event.value),
        create_revision: event.create_revision,
        mod_revision: event.revision,
        version: event.version,
        lease: event.lease,
    };
    Change {
        deleted: event.deleted,
        kv,
    }
}

fn ask(state: &mut State, query: Query) -> Answer {
    let mut cursor = state.query_begin(query);
    loop {
        if let Some((answer, _)) = state.query_step(&mut cursor, Budget(3)) {
            return answer;
        }
    }
}

fn run(seed: u64, batches: u64) -> u64 {
    let mut harness = Harness::new(seed);
    for _ in 0..batches {
        harness.apply();
        harness.between();
        harness.disturb();
    }
    harness.pending_seen
}

fn run_seeds(seeds: std::ops::Range<u64>, batches: u64) {
    let from = std::env::var("STATE_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    let seeds = from.map_or(seeds.clone(), |from| from..from + seeds.end - seeds.start);
    let mut pending_seen = 0;
    for seed in seeds {
        let result = std::panic::catch_unwind(|| run(seed, batches));
        pending_seen +=
            result.unwrap_or_else(|_| panic!("seed {seed} with {batches} batches fails"));
    }
    assert!(
        pending_seen > 100,
        "only {pending_seen} batches ended with a removal pending"
    );
}

#[test]
fn kv4_kv6_l4_random_commands_equal_the_model_in_short_runs() {
    run_seeds(0..400, 40);
}

#[test]
fn kv4_kv5_w3_random_commands_equal_the_model_in_long_runs() {
    run_seeds(1000..1020, 600);
}
