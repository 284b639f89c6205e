//! What the tests share: a naive model that keeps every version of every key, and a generator of random requests.
#![allow(dead_code)]

use bytes::Bytes;
use std::collections::BTreeMap;
use synod_state::*;

/// One version of a key, or its removal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub deleted: bool,
    pub kv: KeyValue,
}

/// The state as one would write it down without a thought for time and memory.
#[derive(Clone, Default)]
pub struct Model {
    pub revision: i64,
    pub compacted: i64,
    pub clock_ms: u64,
    pub bytes_max: u64,
    /// The alarm for want of space is raised.
    pub full: bool,
    pub changes: Vec<Change>,
    pub keys: BTreeMap<Bytes, Vec<Change>>,
    /// Time to live and deadline.
    pub leases: BTreeMap<i64, (u64, u64)>,
    changed: bool,
}

const OVERHEAD: u64 = 64;

fn size(kv: &KeyValue) -> u64 {
    kv.key.len() as u64 + kv.value.len() as u64 + OVERHEAD
}

fn contains(key: &[u8], start: &Bytes, end: &Bytes) -> bool {
    match &end[..] {
        [] => key == start,
        [0] => key >= &start[..],
        end => key >= &start[..] && key < end,
    }
}

impl Model {
    pub fn new(bytes_max: u64) -> Model {
        Model {
            revision: 1,
            compacted: -1,
            bytes_max,
            ..Model::default()
        }
    }

    pub fn key_at(&self, key: &[u8], revision: i64) -> Option<&KeyValue> {
        let last = self
            .keys
            .get(key)?
            .iter()
            .rfind(|change| change.kv.mod_revision <= revision)?;
        (!last.deleted).then_some(&last.kv)
    }

    pub fn live(&self, start: &Bytes, end: &Bytes, revision: i64) -> Vec<KeyValue> {
        let keys = self.keys.keys().filter(|key| contains(key, start, end));
        keys.filter_map(|key| self.key_at(key, revision).cloned())
            .collect()
    }

    /// Live and history bytes.
    pub fn bytes(&self) -> u64 {
        let mut bytes = self.leases.len() as u64 * 128;
        for changes in self.keys.values() {
            for (at, change) in changes.iter().enumerate() {
                let replaced = changes
                    .get(at + 1)
                    .is_some_and(|next| next.kv.mod_revision <= self.compacted);
                let gone = change.deleted && change.kv.mod_revision <= self.compacted;
                bytes += if replaced || gone {
                    0
                } else {
                    size(&change.kv)
                };
            }
        }
        bytes
    }

    /// A range at a revision, with the oldest readable one.
    pub fn range(
        &self,
        range: &Range,
        current: i64,
        compacted: i64,
    ) -> Result<RangeReply, Rejection> {
        if range.revision > current {
            return Err(Rejection::FutureRevision { current });
        }
        if range.revision > 0 && range.revision < compacted {
            return Err(Rejection::Compacted { compacted });
        }
        Ok(self.range_at(
            range,
            if range.revision > 0 {
                range.revision
            } else {
                current
            },
        ))
    }

    fn range_at(&self, range: &Range, revision: i64) -> RangeReply {
        let mut kvs = self.live(&range.key, &range.range_end, revision);
        let count = kvs.len() as i64;
        if range.count_only {
            return RangeReply {
                kvs: Vec::new(),
                more: false,
                count,
            };
        }
        let filtered = [
            range.min_mod_revision,
            range.max_mod_revision,
            range.min_create_revision,
            range.max_create_revision,
        ] != [0; 4];
        let limit = if range.limit > 0 {
            range.limit as usize
        } else {
            usize::MAX
        };
        if range.sort_order == 0 && !filtered {
            kvs.truncate(limit.saturating_add(1));
        }
        kvs.retain(|kv| {
            (range.max_mod_revision == 0 || kv.mod_revision <= range.max_mod_revision)
                && (range.min_mod_revision == 0 || kv.mod_revision >= range.min_mod_revision)
                && (range.max_create_revision == 0
                    || kv.create_revision <= range.max_create_revision)
                && (range.min_create_revision == 0
                    || kv.create_revision >= range.min_create_revision)
        });
        let order = |a: &KeyValue, b: &KeyValue| match range.sort_target {
            1 => a.version.cmp(&b.version),
            2 => a.create_revision.cmp(&b.create_revision),
            3 => a.mod_revision.cmp(&b.mod_revision),
            4 => a.value.cmp(&b.value),
            _ => a.key.cmp(&b.key),
        };
        match range.sort_order {
            2 => kvs.sort_by(|a, b| order(b, a)),
            _ => kvs.sort_by(order),
        }
        let more = kvs.len() > limit;
        kvs.truncate(limit);
        if range.keys_only {
            kvs.iter_mut().for_each(|kv| kv.value = Bytes::new());
        }
        RangeReply { kvs, more, count }
    }

    fn working(&self) -> i64 {
        self.revision + i64::from(self.changed)
    }

    fn record(&mut self, change: Change) {
        self.changed = true;
        self.changes.push(change.clone());
        self.keys
            .entry(change.kv.key.clone())
            .or_default()
            .push(change);
    }

    fn put(&mut self, put: &Put) -> Option<KeyValue> {
        let old = self.key_at(&put.key, i64::MAX).cloned();
        let revision = self.revision + 1;
        let kept = old.clone().unwrap_or_default();
        self.record(Change {
            deleted: false,
            kv: KeyValue {
                key: put.key.clone(),
                value: if put.ignore_value {
                    kept.value
                } else {
                    put.value.clone()
                },
                create_revision: old.as_ref().map_or(revision, |old| old.create_revision),
                mod_revision: revision,
                version: kept.version + 1,
                lease: if put.ignore_lease {
                    kept.lease
                } else {
                    put.lease
                },
            },
        });
        old.filter(|_| put.prev_kv)
    }

    fn delete(&mut self, start: &Bytes, end: &Bytes) -> Vec<KeyValue> {
        let old = self.live(start, end, i64::MAX);
        for kv in &old {
            self.remove(&kv.key);
        }
        old
    }

    fn remove(&mut self, key: &Bytes) {
        let kv = KeyValue {
            key: key.clone(),
            mod_revision: self.revision + 1,
            ..KeyValue::default()
        };
        self.record(Change { deleted: true, kv });
    }

    fn check_put(&self, put: &Put) -> Result<(), Rejection> {
        if (put.ignore_value || put.ignore_lease) && self.key_at(&put.key, i64::MAX).is_none() {
            return Err(Rejection::KeyNotFound);
        }
        if put.lease != 0 && !self.leases.contains_key(&put.lease) {
            return Err(Rejection::LeaseNotFound);
        }
        Ok(())
    }

    fn check_space(&self, growth: u64) -> Result<(), Rejection> {
        let (bytes, bytes_max) = (self.bytes(), self.bytes_max);
        if growth > 0 && bytes + growth > bytes_max {
            Err(Rejection::NoSpace { bytes, bytes_max })
        } else {
            Ok(())
        }
    }

    /// Which branches are taken, outermost first, in the order of the steps.
    fn path(&self, txn: &Txn, revision: i64, path: &mut Vec<bool>) {
        let succeeded = txn
            .compares
            .iter()
            .all(|compare| self.holds(compare, revision));
        path.push(succeeded);
        for operation in if succeeded {
            &txn.success
        } else {
            &txn.failure
        } {
            if let Some(TxnStep::Txn(txn)) = &operation.step {
                self.path(txn, revision, path);
            }
        }
    }

    fn holds(&self, compare: &Compare, revision: i64) -> bool {
        let mut kvs = self.live(&compare.key, &compare.range_end, revision);
        if kvs.is_empty() {
            if compare.target == 3 {
                return false;
            }
            kvs.push(KeyValue::default());
        }
        kvs.iter().all(|kv| {
            let order = match compare.target {
                0 => kv.version.cmp(&compare.number),
                1 => kv.create_revision.cmp(&compare.number),
                2 => kv.mod_revision.cmp(&compare.number),
                3 => kv.value.cmp(&compare.value),
                _ => kv.lease.cmp(&compare.number),
            };
            [order.is_eq(), order.is_gt(), order.is_lt(), order.is_ne()][compare.result as usize]
        })
    }

    /// Visits the steps that will run, nested ones in their place.
    fn taken<'a>(txn: &'a Txn, path: &mut std::vec::IntoIter<bool>, steps: &mut Vec<&'a TxnStep>) {
        let succeeded = path.next().unwrap();
        for operation in if succeeded {
            &txn.success
        } else {
            &txn.failure
        } {
            match operation.step.as_ref().unwrap() {
                TxnStep::Txn(txn) => Model::taken(txn, path, steps),
                step => steps.push(step),
            }
        }
    }

    /// A transaction; `at` is the revision a query is pinned at, with the oldest readable one.
    pub fn txn(&mut self, txn: &Txn, at: Option<(i64, i64)>) -> Result<TxnReply, Rejection> {
        let (revision, compacted) = at.unwrap_or((self.revision, self.compacted));
        let mut path = Vec::new();
        self.path(txn, revision, &mut path);
        let mut steps = Vec::new();
        Model::taken(txn, &mut path.clone().into_iter(), &mut steps);
        let mut growth = 0;
        for step in &steps {
            match step {
                TxnStep::Put(put) => {
                    self.check_put(put)?;
                    growth += put.key.len() as u64 + put.value.len() as u64 + OVERHEAD;
                }
                TxnStep::Range(range) if range.revision > revision => {
                    return Err(Rejection::FutureRevision { current: revision });
                }
                TxnStep::Range(range) if range.revision != 0 && range.revision < compacted => {
                    return Err(Rejection::Compacted {
                        compacted: compacted.max(0),
                    });
                }
                _ => {}
            }
        }
        self.check_space(growth)?;
        Ok(self.run(txn, at.map(|at| at.0), &mut path.into_iter()))
    }

    fn run(&mut self, txn: &Txn, at: Option<i64>, path: &mut std::vec::IntoIter<bool>) -> TxnReply {
        let succeeded = path.next().unwrap();
        let (mut steps, mut revisions) = (Vec::new(), Vec::new());
        for operation in if succeeded {
            &txn.success
        } else {
            &txn.failure
        } {
            let reply = match operation.step.as_ref().unwrap() {
                TxnStep::Range(range) => {
                    let present = at.unwrap_or(self.working());
                    StepReply::Range(self.range_at(
                        range,
                        if range.revision > 0 {
                            range.revision
                        } else {
                            present
                        },
                    ))
                }
                TxnStep::Put(put) => StepReply::Put {
                    prev: self.put(put),
                },
                TxnStep::DeleteRange(delete) => {
                    let prev = self.delete(&delete.key, &delete.range_end);
                    StepReply::DeleteRange {
                        deleted: prev.len() as i64,
                        prev: if delete.prev_kv { prev } else { Vec::new() },
                    }
                }
                TxnStep::Txn(txn) => StepReply::Txn(self.run(txn, at, path)),
            };
            revisions.push(if let StepReply::Txn(_) = reply {
                0
            } else {
                at.unwrap_or(self.working())
            });
            steps.push(reply);
        }
        TxnReply {
            succeeded,
            steps,
            revisions,
            revision: at.unwrap_or(self.working()),
        }
    }

    /// Renews a lease.
    pub fn renew(&mut self, id: i64) -> Option<u64> {
        let clock_ms = self.clock_ms;
        let (ttl_ms, deadline_ms) = self.leases.get_mut(&id)?;
        *deadline_ms = clock_ms
            .saturating_add(*ttl_ms)
            .saturating_add(*ttl_ms / 50);
        Some(*ttl_ms)
    }

    /// Ends leases whose time has come.
    pub fn expire(&mut self) -> Vec<i64> {
        let mut ended: Vec<_> = self
            .leases
            .iter()
            .map(|(&id, &(_, deadline))| (deadline, id))
            .filter(|&(deadline, _)| deadline <= self.clock_ms)
            .collect();
        ended.sort();
        ended.iter().for_each(|&(_, id)| self.revoke(id));
        ended.into_iter().map(|(_, id)| id).collect()
    }

    pub fn lease_keys(&self, id: i64, revision: i64) -> Vec<Bytes> {
        let keys = self
            .keys
            .keys()
            .filter(|key| self.key_at(key, revision).is_some_and(|kv| kv.lease == id));
        keys.cloned().collect()
    }

    fn revoke(&mut self, id: i64) {
        for key in self.lease_keys(id, i64::MAX) {
            self.remove(&key);
        }
        self.leases.remove(&id);
        self.commit();
    }

    fn commit(&mut self) {
        self.revision += i64::from(self.changed);
        self.changed = false;
    }

    /// Applies a command.
    pub fn apply(&mut self, command: &Command) -> Reply {
        self.look_for_room();
        let refused = Rejection::NoSpace {
            bytes: self.bytes(),
            bytes_max: self.bytes_max,
        };
        let outcome = match &command.operation {
            Some(_) if self.full && command.grows() => Err(refused.clone()),
            operation => self.reply(operation.as_ref().unwrap()),
        };
        self.full |= outcome.as_ref().is_err_and(|why| *why == refused);
        self.commit();
        self.look_for_room();
        outcome.unwrap_or_else(Reply::Rejected)
    }

    fn look_for_room(&mut self) {
        self.full &= self.bytes() > self.bytes_max - self.bytes_max / 16;
    }

    fn reply(&mut self, operation: &Operation) -> Result<Reply, Rejection> {
        Ok(match operation {
            Operation::Put(put) => {
                if put.lease != 0 && !self.leases.contains_key(&put.lease) {
                    return Err(Rejection::LeaseNotFound);
                }
                self.check_put(put)?;
                self.check_space(put.key.len() as u64 + put.value.len() as u64 + OVERHEAD)?;
                Reply::Put {
                    prev: self.put(put),
                }
            }
            Operation::DeleteRange(delete) => {
                let prev = self.delete(&delete.key, &delete.range_end);
                Reply::DeleteRange {
                    deleted: prev.len() as i64,
                    prev: if delete.prev_kv { prev } else { Vec::new() },
                }
            }
            Operation::Txn(txn) => Reply::Txn(self.txn(txn, None)?),
            Operation::Compact(Compact { revision }) => {
                if *revision <= self.compacted {
                    return Err(Rejection::Compacted {
                        compacted: self.compacted.max(0),
                    });
                }
                if *revision > self.revision {
                    return Err(Rejection::FutureRevision {
                        current: self.revision,
                    });
                }
                self.compacted = *revision;
                Reply::Compact
            }
            Operation::LeaseGrant(LeaseGrant { id, ttl_ms }) => {
                if self.leases.contains_key(id) {
                    return Err(Rejection::LeaseExists);
                }
                self.check_space(128)?;
                self.leases.insert(*id, (*ttl_ms, 0));
                self.renew(*id);
                Reply::LeaseGrant {
                    id: *id,
                    ttl_ms: *ttl_ms,
                }
            }
            Operation::LeaseRevoke(LeaseRevoke { id }) => {
                if !self.leases.contains_key(id) {
                    return Err(Rejection::LeaseNotFound);
                }
                self.revoke(*id);
                Reply::LeaseRevoke
            }
            Operation::SetFeatureLevel(_) => Reply::SetFeatureLevel,
            Operation::SetBytesMax(SetBytesMax { bytes_max }) => {
                self.bytes_max = *bytes_max;
                Reply::SetBytesMax
            }
            Operation::Auth(_)
            | Operation::Lock(_)
            | Operation::Client(_)
            | Operation::Id(_)
            | Operation::SetAlarm(_)
            | Operation::AutoCompact(_) => {
                unreachable!("the generator makes none")
            }
        })
    }
}

/// Random numbers of one seed (splitmix64).
#[derive(Clone)]
pub struct Rng(pub u64);

impl Rng {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// Random requests over a few keys.
pub struct Requests<'a> {
    pub rng: &'a mut Rng,
    pub revision: i64,
}

impl Requests<'_> {
    pub fn key(&mut self) -> Bytes {
        let names: [&[u8]; 14] = [
            b"a",
            b"aa",
            b"ab",
            b"b",
            b"b\0",
            b"ba",
            b"c",
            b"d",
            b"key/1",
            b"key/10",
            b"key/2",
            b"key/3",
            b"z",
            &[255, 255],
        ];
        Bytes::copy_from_slice(names[self.rng.below(names.len() as u64) as usize])
    }

    fn end(&mut self) -> Bytes {
        match self.rng.below(5) {
            0 => Bytes::from_static(b"\0"),
            1 | 2 => Bytes::new(),
            _ => self.key(),
        }
    }

    fn lease(&mut self) -> i64 {
        if self.rng.chance(60) {
            0
        } else {
            self.rng.below(6) as i64 + 1
        }
    }

    fn near(&mut self) -> i64 {
        let back = if self.rng.chance(50) { 6 } else { 60 };
        self.revision + 2 - self.rng.below(back) as i64
    }

    pub fn put(&mut self) -> Put {
        let length = if self.rng.chance(15) {
            self.rng.below(90_000)
        } else {
            self.rng.below(5)
        };
        let byte = b'0' + self.rng.below(4) as u8;
        let (ignore_value, ignore_lease) = (self.rng.chance(8), self.rng.chance(8));
        Put {
            key: self.key(),
            value: if ignore_value {
                Bytes::new()
            } else {
                Bytes::from(vec![byte; length as usize])
            },
            lease: if ignore_lease { 0 } else { self.lease() },
            prev_kv: self.rng.chance(30),
            ignore_value,
            ignore_lease,
        }
    }

    fn delete(&mut self) -> DeleteRange {
        DeleteRange {
            key: self.key(),
            range_end: self.end(),
            prev_kv: self.rng.chance(40),
        }
    }

    pub fn range(&mut self) -> Range {
        let bound = |requests: &mut Self| {
            if requests.rng.chance(85) {
                0
            } else {
                requests.near().max(0)
            }
        };
        let key = if self.rng.chance(40) {
            Bytes::from_static(b"\0")
        } else {
            self.key()
        };
        Range {
            range_end: if key[0] == 0 {
                Bytes::from_static(b"\0")
            } else {
                self.end()
            },
            key,
            limit: if self.rng.chance(60) {
                0
            } else {
                self.rng.below(6) as i64 - 1
            },
            revision: if self.rng.chance(60) { 0 } else { self.near() },
            sort_order: self.rng.below(3) as i32,
            sort_target: self.rng.below(5) as i32,
            keys_only: self.rng.chance(15),
            count_only: self.rng.chance(15),
            min_mod_revision: bound(self),
            max_mod_revision: bound(self),
            min_create_revision: bound(self),
            max_create_revision: bound(self),
        }
    }

    fn compare(&mut self) -> Compare {
        Compare {
            result: self.rng.below(4) as i32,
            target: self.rng.below(5) as i32,
            key: self.key(),
            range_end: if self.rng.chance(70) {
                Bytes::new()
            } else {
                self.end()
            },
            number: if self.rng.chance(50) {
                self.rng.below(4) as i64
            } else {
                self.near()
            },
            value: Bytes::from(vec![
                b'0' + self.rng.below(4) as u8;
                self.rng.below(3) as usize
            ]),
        }
    }

    pub fn txn(&mut self, depth: u64, writes: bool) -> Txn {
        let compares = (0..self.rng.below(3)).map(|_| self.compare()).collect();
        Txn {
            compares,
            success: self.steps(depth, writes),
            failure: self.steps(depth, writes),
        }
    }

    fn steps(&mut self, depth: u64, writes: bool) -> Vec<TxnOperation> {
        let steps = (0..self.rng.below(4)).map(|_| match self.rng.below(10) {
            0..=2 if writes => TxnStep::Put(self.put()),
            3..=4 if writes => TxnStep::DeleteRange(self.delete()),
            5..=6 if depth > 0 => TxnStep::Txn(self.txn(depth - 1, writes)),
            _ if writes => TxnStep::Range(self.range()),
            // Whether a negative revision is compacted depends on a compaction at 0, which a query begun earlier does not show.
            _ => TxnStep::Range(Range {
                revision: self.near().max(0),
                ..self.range()
            }),
        });
        steps
            .map(|step| TxnOperation { step: Some(step) })
            .collect()
    }

    pub fn command(&mut self) -> Command {
        let operation = match self.rng.below(100) {
            0..45 => Operation::Put(self.put()),
            45..60 => Operation::DeleteRange(self.delete()),
            60..80 => Operation::Txn(self.txn(2, true)),
            80..86 => Operation::Compact(Compact {
                revision: self.near(),
            }),
            86..95 => Operation::LeaseGrant(LeaseGrant {
                id: self.rng.below(6) as i64 + 1,
                // One of 0 is over in the batch that grants it, and cannot be renewed.
                ttl_ms: 1 + self.rng.below(3000),
            }),
            _ => Operation::LeaseRevoke(LeaseRevoke {
                id: self.rng.below(6) as i64 + 1,
            }),
        };
        Command {
            operation: Some(operation),
            ..Command::default()
        }
    }

    pub fn query(&mut self) -> Query {
        if self.rng.chance(70) {
            Query::Range(self.range())
        } else {
            Query::Txn(self.txn(2, false))
        }
    }
}

/// What a member has that loads a snapshot of this state.
pub fn reload(state: &mut State, settings: &Settings) -> State {
    let mut cursor = state.snapshot_begin(SnapshotHeader {
        index: state.applied(),
        ..SnapshotHeader::default()
    });
    let mut loader = Loader::new(settings.clone());
    while let Some(bytes) = state.snapshot_step(&mut cursor, 1 << 16) {
        loader.feed(&bytes).unwrap();
    }
    state.snapshot_cancel(cursor);
    loader.finish().unwrap().0
}

/// Applies commands as one batch, in slices of this budget.
pub fn apply(state: &mut State, clock_ms: u64, commands: Vec<Command>, budget: u64) -> Applied {
    let batch = Batch {
        format: 1,
        clock_ms,
        wall_ms: 1_000_000 + clock_ms,
        groups: vec![Group {
            commands,
            ..Group::default()
        }],
    };
    let bytes = prost::Message::encode_to_vec(&batch);
    state.apply_begin(state.applied() + 1, &bytes).unwrap();
    loop {
        if let Some(applied) = state.apply_step(Budget(budget)) {
            return applied;
        }
    }
}

/// The answer to a command in a batch of its own.
pub fn run(state: &mut State, clock_ms: u64, command: Command) -> (Reply, i64) {
    let applied = apply(state, clock_ms, vec![command], 3);
    applied.groups[0].replies[0].clone()
}

/// A command without more.
pub fn plain(operation: Operation) -> Command {
    Command {
        operation: Some(operation),
        ..Command::default()
    }
}

/// A snapshot's bytes.
pub fn snapshot(state: &mut State) -> Vec<u8> {
    let mut cursor = state.snapshot_begin(SnapshotHeader {
        index: state.applied(),
        ..SnapshotHeader::default()
    });
    let mut bytes = Vec::new();
    while let Some(piece) = state.snapshot_step(&mut cursor, 64) {
        bytes.extend_from_slice(&piece);
    }
    state.snapshot_cancel(cursor);
    bytes
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Compares lines with a file of golden bytes; `UPDATE_GOLDEN=1` writes it.
pub fn check_golden(name: &str, lines: &[String]) {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let path = folder.join(name);
    let text = lines.join("\n") + "\n";
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    assert_eq!(text, std::fs::read_to_string(&path).unwrap(), "{name}");
}
