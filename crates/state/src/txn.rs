//! A transaction in slices: decide, check, run.
//!
//! As in etcd, every comparison of the whole tree looks at the state before the transaction; then every put and range on the way taken is
//! checked; only then is anything written. So a refused transaction has no effect, and nothing is ever undone.

use crate::bounds::Bounds;
use crate::delete::Deletion;
use crate::kv::{Keys, View, key_value};
use crate::lease::Leases;
use crate::range::RangeScan;
use crate::record::logical_size;
use crate::{
    Compare, DeleteRange, KeyValue, Put, Range, Rejection, StepReply, Txn, TxnReply, TxnStep,
};
use bytes::Bytes;
use std::collections::VecDeque;

/// See the module.
pub(crate) struct TxnRun {
    /// Decided so far: the steps that will run, in order.
    steps: VecDeque<Step>,
    /// Transactions whose lists are being decided, the innermost last.
    frames: Vec<Frame>,
    comparing: Option<Comparison>,
    /// Answers under construction, the innermost last.
    replies: Vec<TxnReply>,
    running: Option<Running>,
    phase: Phase,
    /// What comparisons see.
    before: View,
    /// The oldest readable revision then.
    compacted: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Decide,
    Check,
    Run,
}

enum Step {
    Enter(bool),
    Range(Range),
    Put(Put),
    Delete(DeleteRange),
    Leave,
}

/// A transaction being decided.
struct Frame {
    compares: VecDeque<Compare>,
    success: Vec<crate::TxnOperation>,
    failure: Vec<crate::TxnOperation>,
    /// What is left of the list chosen.
    chosen: Option<VecDeque<crate::TxnOperation>>,
}

/// A comparison over a range.
struct Comparison {
    compare: Compare,
    bounds: Bounds,
    after: Option<Vec<u8>>,
    any: bool,
}

enum Running {
    Range(Box<RangeScan>),
    Delete(Deletion),
}

/// How a slice ended.
pub(crate) enum Progress {
    /// More to do.
    Pending,
    /// The answer.
    Done(TxnReply),
    /// Nothing was changed.
    Refused(Rejection),
}

/// What a transaction may do besides reading.
pub(crate) enum Access<'a> {
    /// Read at a view only.
    Read(&'a Keys, View),
    /// Write.
    Write(
        &'a mut Keys,
        &'a mut Leases,
        /* bytes counted besides keys, and the limit */ (u64, u64),
    ),
}

impl Access<'_> {
    fn keys(&self) -> &Keys {
        match self {
            Access::Read(keys, _) => keys,
            Access::Write(keys, ..) => keys,
        }
    }
}

/// No step of the tree writes.
pub(crate) fn is_read_only(txn: &Txn) -> bool {
    txn.success
        .iter()
        .chain(&txn.failure)
        .all(|operation| match &operation.step {
            Some(TxnStep::Range(_)) => true,
            Some(TxnStep::Txn(txn)) => is_read_only(txn),
            Some(TxnStep::Put(_) | TxnStep::DeleteRange(_)) | None => false,
        })
}

/// Every step of the tree says what it is, and no put has an empty key.
pub(crate) fn is_valid(txn: &Txn) -> bool {
    txn.success
        .iter()
        .chain(&txn.failure)
        .all(|operation| match &operation.step {
            Some(TxnStep::Put(put)) => !put.key.is_empty(),
            Some(TxnStep::Range(_) | TxnStep::DeleteRange(_)) => true,
            Some(TxnStep::Txn(txn)) => is_valid(txn),
            None => false,
        })
}

#[cfg(feature = "mutations")]
fn uncompared(txn: Txn) -> Txn {
    let compares = Vec::new();
    Txn { compares, ..txn }
}

impl Frame {
    fn new(txn: Txn) -> Frame {
        Frame {
            compares: txn.compares.into(),
            success: txn.success,
            failure: txn.failure,
            chosen: None,
        }
    }

    fn choose(&mut self, succeeded: bool) {
        let (success, failure) = (
            std::mem::take(&mut self.success),
            std::mem::take(&mut self.failure),
        );
        self.compares.clear();
        self.chosen = Some(if succeeded { success } else { failure }.into());
    }
}

impl TxnRun {
    /// Begins. `before` is the state that comparisons see.
    pub fn new(txn: Txn, before: View, compacted: i64) -> TxnRun {
        TxnRun {
            steps: VecDeque::new(),
            frames: vec![Frame::new(txn)],
            comparing: None,
            replies: Vec::new(),
            running: None,
            phase: Phase::Decide,
            before,
            compacted,
        }
    }

    /// Works for about `fuel` units.
    pub fn step(&mut self, access: &mut Access<'_>, fuel: &mut u64) -> Progress {
        if self.phase == Phase::Decide {
            if !self.decide(access.keys(), fuel) {
                return Progress::Pending;
            }
            self.phase = Phase::Check;
        }
        if self.phase == Phase::Check {
            if let Err(rejection) = self.check(access) {
                return Progress::Refused(rejection);
            }
            self.phase = Phase::Run;
        }
        self.run(access, fuel)
    }

    /// Decides which lists run; true when all are known.
    fn decide(&mut self, keys: &Keys, fuel: &mut u64) -> bool {
        while let Some(frame) = self.frames.last_mut() {
            if *fuel == 0 {
                return false;
            }
            let Some(chosen) = &mut frame.chosen else {
                let succeeded = match self.comparing.take() {
                    Some(mut scan) => match scan.step(keys, &self.before, fuel) {
                        Some(holds) => holds,
                        None => {
                            self.comparing = Some(scan);
                            return false;
                        }
                    },
                    None => true,
                };
                match frame.compares.pop_front() {
                    Some(compare) if succeeded => self.comparing = Some(Comparison::new(compare)),
                    _ => {
                        frame.choose(succeeded);
                        self.steps.push_back(Step::Enter(succeeded));
                    }
                }
                continue;
            };
            *fuel -= 1;
            match chosen
                .pop_front()
                .map(|operation| operation.step.expect("checked before"))
            {
                Some(TxnStep::Range(range)) => self.steps.push_back(Step::Range(range)),
                Some(TxnStep::Put(put)) => self.steps.push_back(Step::Put(put)),
                Some(TxnStep::DeleteRange(delete)) => self.steps.push_back(Step::Delete(delete)),
                Some(TxnStep::Txn(txn)) => {
                    let txn = mutated!(InnerAlwaysSucceeds, uncompared(txn), txn);
                    self.frames.push(Frame::new(txn));
                }
                None => {
                    self.steps.push_back(Step::Leave);
                    self.frames.pop();
                }
            }
        }
        true
    }

    /// Checks the puts and ranges that will run, in their order as etcd 3.6 does (3.5 checked all puts first), then the space they need.
    fn check(&self, access: &Access<'_>) -> Result<(), Rejection> {
        let keys = access.keys();
        let mut growth = 0;
        for step in &self.steps {
            match (step, access) {
                (Step::Put(put), Access::Write(_, leases, _)) => {
                    check_put(put, keys, leases, &self.before)?;
                    growth += logical_size(put.key.len(), put.value.len());
                }
                (Step::Range(range), _) => self.check_range(range)?,
                _ => {}
            }
        }
        if let Access::Write(_, _, (other_bytes, bytes_max)) = access {
            let bytes = keys.bytes + other_bytes;
            if growth > 0 && bytes + growth > *bytes_max {
                return Err(Rejection::NoSpace {
                    bytes,
                    bytes_max: *bytes_max,
                });
            }
        }
        Ok(())
    }

    fn check_range(&self, range: &Range) -> Result<(), Rejection> {
        match range.revision {
            0 => {}
            revision if revision > self.before.revision => {
                return Err(Rejection::FutureRevision {
                    current: self.before.revision,
                });
            }
            revision if revision < self.compacted && !mutated!(InnerReadsCompacted) => {
                return Err(Rejection::Compacted {
                    compacted: self.compacted.max(0),
                });
            }
            _ => {}
        }
        Ok(())
    }

    fn run(&mut self, access: &mut Access<'_>, fuel: &mut u64) -> Progress {
        loop {
            if let Some(running) = &mut self.running {
                if !running.step(access, fuel) {
                    return Progress::Pending;
                }
                let reply = self
                    .running
                    .take()
                    .map(Running::finish)
                    .expect("it is at work");
                let revision = self.revision(access);
                self.answer(reply, revision);
            }
            if *fuel == 0 {
                return Progress::Pending;
            }
            *fuel -= 1;
            match (
                self.steps
                    .pop_front()
                    .expect("the outermost transaction has its end"),
                &mut *access,
            ) {
                (Step::Enter(succeeded), _) => self.replies.push(TxnReply {
                    succeeded,
                    ..TxnReply::default()
                }),
                (Step::Leave, access) => {
                    let revision = self.revision(access);
                    let mut reply = self.replies.pop().expect("entered before");
                    reply.revision = revision;
                    if self.replies.is_empty() {
                        return Progress::Done(reply);
                    }
                    self.answer(StepReply::Txn(reply), 0);
                }
                (Step::Range(range), access) => {
                    let view = match access {
                        Access::Read(_, view) => *view,
                        Access::Write(keys, ..) => {
                            mutated!(RangeInTxnSeesBefore, self.before, keys.working())
                        }
                    };
                    let view = if range.revision > 0 {
                        View {
                            revision: range.revision,
                            end: None,
                        }
                    } else {
                        view
                    };
                    self.running = Some(Running::Range(Box::new(RangeScan::new(range, view))));
                }
                (Step::Put(put), Access::Write(keys, leases, _)) => {
                    let prev = apply_put(&put, keys, leases);
                    let revision = keys.revision + 1;
                    self.answer(StepReply::Put { prev }, revision);
                }
                (Step::Delete(delete), Access::Write(..)) => {
                    self.running = Some(Running::Delete(Deletion::new(&delete)));
                }
                (Step::Put(_) | Step::Delete(_), Access::Read(..)) => {
                    unreachable!("a write in a read-only transaction")
                }
            }
        }
    }

    fn answer(&mut self, step: StepReply, revision: i64) {
        let reply = self
            .replies
            .last_mut()
            .expect("a step runs inside a transaction");
        reply.steps.push(step);
        reply.revisions.push(revision);
    }

    fn revision(&self, access: &Access<'_>) -> i64 {
        match access {
            Access::Read(_, view) => view.revision,
            Access::Write(keys, ..) => keys.working().revision,
        }
    }
}

impl Running {
    /// Works for about `fuel` units; true when done.
    fn step(&mut self, access: &mut Access<'_>, fuel: &mut u64) -> bool {
        match (self, access) {
            (Running::Range(scan), access) => scan.step(access.keys(), fuel),
            (Running::Delete(deletion), Access::Write(keys, leases, _)) => {
                deletion.step(keys, leases, fuel)
            }
            (Running::Delete(_), Access::Read(..)) => {
                unreachable!("a removal in a read-only transaction")
            }
        }
    }

    fn finish(self) -> StepReply {
        match self {
            Running::Range(scan) => StepReply::Range(scan.finish()),
            Running::Delete(deletion) => {
                let (deleted, prev) = deletion.finish();
                StepReply::DeleteRange { deleted, prev }
            }
        }
    }
}

/// The checks of a put that depend on the state before the command.
pub(crate) fn check_put(
    put: &Put,
    keys: &Keys,
    leases: &Leases,
    before: &View,
) -> Result<(), Rejection> {
    if (put.ignore_value || put.ignore_lease) && keys.get(&put.key, before).is_none() {
        return Err(Rejection::KeyNotFound);
    }
    if put.lease != 0 && leases.get(put.lease).is_none() {
        return Err(Rejection::LeaseNotFound);
    }
    Ok(())
}

/// Puts; everything was checked. A key that the same transaction removed first has nothing to keep: no value, no lease.
pub(crate) fn apply_put(put: &Put, keys: &mut Keys, leases: &mut Leases) -> Option<KeyValue> {
    let (mut value, mut lease, mut prev) = (put.value.clone(), put.lease, None);
    if put.prev_kv || put.ignore_value || put.ignore_lease {
        let old = keys.get(&put.key, &keys.working());
        if put.ignore_value {
            value = old.map_or(Bytes::new(), |old| Bytes::copy_from_slice(old.value));
        }
        if put.ignore_lease {
            let kept = old.map_or(0, |old| old.lease);
            lease = mutated!(KeptLeaseIsLost, 0, kept);
        }
        prev = old.filter(|_| put.prev_kv).map(|old| key_value(&old));
    }
    mutated!(
        PutKeepsLease,
        if lease == 0 && !put.ignore_lease {
            let old = keys.get(&put.key, &keys.working());
            lease = old.map_or(0, |old| old.lease);
        }
    );
    if let Some(lease) = keys.write_removal_of(&put.key)
        && lease != 0
    {
        leases.detach(lease, &put.key);
    }
    let old_lease = keys
        .put(&put.key, &value, lease)
        .map_or(0, |replaced| replaced.lease);
    if old_lease != lease {
        if old_lease != 0 {
            leases.detach(old_lease, &put.key);
        }
        if lease != 0 && (old_lease == 0 || !mutated!(MovedKeyNotAttached)) {
            leases.attach(lease, &put.key);
        }
    }
    prev
}

impl Comparison {
    fn new(compare: Compare) -> Comparison {
        Comparison {
            bounds: Bounds::new(&compare.key, &compare.range_end),
            compare,
            after: None,
            any: false,
        }
    }

    /// Whether it holds, once known.
    fn step(&mut self, keys: &Keys, view: &View, fuel: &mut u64) -> Option<bool> {
        let (mut holds, mut stopped) = (true, None);
        crate::range::walk_index(keys, &self.bounds, false, self.after.as_deref(), |slot| {
            *fuel = fuel.saturating_sub(1);
            // Comparisons look at the newest state, where no key has records to pass over but those of the command at work.
            if let crate::kv::Found::Live(position) = keys.find(slot, view, &mut { u64::MAX }) {
                self.any = true;
                holds = compare_record(&self.compare, &key_of(&keys.log.record(position)));
            }
            if holds && *fuel == 0 {
                stopped = Some(slot);
            }
            mutated!(
                ComparesFirstOnly,
                if self.any {
                    return false;
                }
            );
            holds && stopped.is_none()
        });
        if let Some(slot) = stopped {
            self.after = Some(keys.log.key(slot.position()).to_vec());
            return None;
        }
        if !self.any {
            // A value compared with no key at all never holds; numbers of a missing key are 0.
            let missing = Compared {
                version: 0,
                create_revision: 0,
                mod_revision: 0,
                value: &[],
                lease: 0,
            };
            let comparable = self.compare.target != TARGET_VALUE || mutated!(MissingIsEmpty);
            return Some(comparable && compare_record(&self.compare, &missing));
        }
        Some(holds)
    }
}

const TARGET_VALUE: i32 = 3;

struct Compared<'a> {
    version: i64,
    create_revision: i64,
    mod_revision: i64,
    value: &'a [u8],
    lease: i64,
}

fn key_of<'a>(record: &crate::record::Record<'a>) -> Compared<'a> {
    Compared {
        version: record.version,
        create_revision: record.create_revision,
        mod_revision: record.revision,
        value: record.value,
        lease: record.lease,
    }
}

/// One comparison with one key. Numbers that etcd does not define compare as etcd does: an unknown target is equal, an unknown result holds.
fn compare_record(compare: &Compare, key: &Compared<'_>) -> bool {
    let order = match compare.target {
        0 => key.version.cmp(&compare.number),
        1 => key.create_revision.cmp(&compare.number),
        2 => key.mod_revision.cmp(&compare.number),
        TARGET_VALUE => key.value.cmp(&compare.value[..]),
        4 => key.lease.cmp(&compare.number),
        _ => std::cmp::Ordering::Equal,
    };
    match compare.result {
        0 => order.is_eq(),
        1 => order.is_gt(),
        2 => order.is_lt(),
        3 => order.is_ne(),
        _ => true,
    }
}
