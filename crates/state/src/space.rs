//! The limit on bytes, and the alarms: what is refused when the state is full, and until when.
//!
//! The limit is part of the state. The leader's setting is written into the log when it differs, so members with different settings agree at
//! every index. A growing write that does not fit is refused and raises the alarm `NoSpace`; under it every growing write is refused, as in
//! etcd, until no more than 15/16 of the limit is counted: by then there is room for more than one write, so the alarm does not flutter.
//! Deletes and compaction pass always. An alarm raised by hand stays until it is lowered by hand.

use crate::hash;
use crate::{Command, Operation, Rejection, SetAlarm, State, Txn, TxnStep};
use std::collections::BTreeMap;

/// The part of the limit that must be free before the alarm goes.
const FREE_PARTS: u64 = 16;
/// Alarms at most; they name members, which are few.
const ALARMS_MAX: usize = 64;

/// What an alarm says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum AlarmKind {
    /// The state is full: growing writes are refused.
    NoSpace = 1,
    /// The states of the members differ: writes are refused. Raised by hand only.
    Corrupt = 2,
}

/// An alarm, as readers see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Alarm {
    /// What it says.
    pub kind: AlarmKind,
    /// The member it names: for one that was not raised by hand, the one that proposed the write that did not fit.
    pub member: u64,
}

/// Limit and alarms as they stand in a snapshot.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct SpaceRecord {
    #[prost(uint64, optional, tag = "1")]
    pub bytes_max: Option<u64>,
    #[prost(message, repeated, tag = "2")]
    pub alarms: Vec<AlarmRecord>,
}

/// An alarm as it stands in a snapshot.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct AlarmRecord {
    #[prost(enumeration = "AlarmKind", tag = "1")]
    pub kind: i32,
    #[prost(fixed64, tag = "2")]
    pub member: u64,
    #[prost(bool, tag = "3")]
    pub by_hand: bool,
}

/// See the module.
#[derive(Default)]
pub(crate) struct Space {
    /// The limit; `None` until the log says one.
    bytes_max: Option<u64>,
    /// The alarms, with whether each was raised by hand.
    alarms: BTreeMap<Alarm, bool>,
}

impl Space {
    /// Something of the kind is raised.
    fn is_raised(&self, kind: AlarmKind) -> bool {
        self.alarms.keys().any(|alarm| alarm.kind == kind)
    }

    /// Equal on all members at equal index; `None` while nothing was ever set.
    pub fn hash(&self) -> Option<u64> {
        if self.bytes_max.is_none() && self.alarms.is_empty() {
            return None;
        }
        let mut words = vec![
            u64::from(self.bytes_max.is_some()),
            self.bytes_max.unwrap_or_default(),
        ];
        for (alarm, &by_hand) in &self.alarms {
            words.extend([alarm.kind as u64, alarm.member, u64::from(by_hand)]);
        }
        Some(hash::mix_all(&words))
    }

    /// The limit alone: alarms name members of a cluster.
    pub fn without_alarms(&self) -> Space {
        Space {
            bytes_max: self.bytes_max,
            alarms: BTreeMap::new(),
        }
    }

    /// As it stands in a snapshot; `None` while nothing was ever set.
    pub fn record(&self) -> Option<SpaceRecord> {
        self.hash()?;
        let alarms = self
            .alarms
            .iter()
            .filter(|_| !mutated!(SnapshotLosesAlarms))
            .map(|(alarm, &by_hand)| AlarmRecord {
                kind: alarm.kind as i32,
                member: alarm.member,
                by_hand,
            });
        Some(SpaceRecord {
            bytes_max: self.bytes_max,
            alarms: alarms.collect(),
        })
    }

    /// What a snapshot holds.
    ///
    /// # Errors
    /// It makes no sense, as the text says.
    pub fn from_record(record: &SpaceRecord) -> Result<Space, String> {
        if record.alarms.len() > ALARMS_MAX {
            return Err(format!(
                "{} alarms, at most {ALARMS_MAX} are possible",
                record.alarms.len()
            ));
        }
        let mut alarms = BTreeMap::new();
        for &AlarmRecord {
            kind,
            member,
            by_hand,
        } in &record.alarms
        {
            let kind =
                AlarmKind::try_from(kind).map_err(|_| format!("no alarm is of kind {kind}"))?;
            alarms.insert(Alarm { kind, member }, by_hand);
        }
        Ok(Space {
            bytes_max: record.bytes_max,
            alarms,
        })
    }
}

impl State {
    /// The limit on bytes in force.
    pub fn bytes_max(&self) -> u64 {
        self.space
            .bytes_max
            .unwrap_or(self.settings.state_bytes_max)
    }

    /// The alarms, by kind and member.
    pub fn alarms(&self) -> impl Iterator<Item = Alarm> {
        self.space.alarms.keys().copied()
    }

    pub(crate) fn check_space(&self, growth: u64) -> Result<(), Rejection> {
        let (bytes, bytes_max) = (self.counted_bytes(), self.bytes_max());
        if bytes + growth > bytes_max {
            Err(Rejection::NoSpace { bytes, bytes_max })
        } else {
            Ok(())
        }
    }

    /// Whether the alarms let a command pass. Leases that end, end.
    pub(crate) fn check_alarms(&self, command: &Command) -> Result<(), Rejection> {
        if self.space.alarms.is_empty() {
            return Ok(());
        }
        if self.space.is_raised(AlarmKind::Corrupt) && command.is_of_keys() {
            return Err(Rejection::Corrupt);
        }
        let refused = mutated!(FullRefusesDeletes, command.is_of_keys(), command.grows());
        if self.space.is_raised(AlarmKind::NoSpace) && refused {
            let (bytes, bytes_max) = (self.counted_bytes(), self.bytes_max());
            return Err(Rejection::NoSpace { bytes, bytes_max });
        }
        Ok(())
    }

    /// A growing write of this member did not fit. One too large for a state that is not full is its own fault, and no alarm.
    pub(crate) fn note_refusal(&mut self, member: u64) {
        if !self.space.is_raised(AlarmKind::NoSpace) && !self.has_room() {
            let kind = AlarmKind::NoSpace;
            self.space.alarms.insert(Alarm { kind, member }, false);
        }
    }

    /// Lowers the alarm if there is room again.
    pub(crate) fn note_room(&mut self) {
        if !self.space.alarms.is_empty() && self.has_room() && !mutated!(AlarmStays) {
            let stays = |alarm: &Alarm, by_hand: bool| by_hand || alarm.kind != AlarmKind::NoSpace;
            self.space
                .alarms
                .retain(|alarm, by_hand| stays(alarm, *by_hand));
        }
    }

    fn has_room(&self) -> bool {
        let bytes_max = self.bytes_max();
        self.counted_bytes() <= bytes_max - bytes_max / FREE_PARTS
    }

    /// Sets the limit.
    pub(crate) fn set_bytes_max(&mut self, bytes_max: u64) {
        self.space.bytes_max = Some(bytes_max);
    }

    /// Raises or lowers an alarm by hand; whether it was raised before.
    pub(crate) fn set_alarm(&mut self, change: &SetAlarm) -> Result<bool, Rejection> {
        let Ok(kind) = AlarmKind::try_from(change.kind) else {
            let reason = format!("no alarm is of kind {}", change.kind);
            return Err(Rejection::Invalid(reason));
        };
        let alarm = Alarm {
            kind,
            member: change.member,
        };
        if !change.raise {
            return Ok(self.space.alarms.remove(&alarm).is_some());
        }
        if self.space.alarms.len() >= ALARMS_MAX && !self.space.alarms.contains_key(&alarm) {
            let reason = format!("{ALARMS_MAX} alarms are raised, lower one first");
            return Err(Rejection::Invalid(reason));
        }
        Ok(self.space.alarms.insert(alarm, true).is_some())
    }
}

impl Command {
    /// It makes the state grow: refused while the state or the disk is full. A transaction does if either branch may put.
    pub fn grows(&self) -> bool {
        fn may_put(txn: &Txn) -> bool {
            txn.success
                .iter()
                .chain(&txn.failure)
                .any(|operation| match &operation.step {
                    Some(TxnStep::Put(_)) => true,
                    Some(TxnStep::Txn(txn)) => may_put(txn),
                    Some(TxnStep::Range(_) | TxnStep::DeleteRange(_)) | None => false,
                })
        }
        match &self.operation {
            Some(Operation::Put(_) | Operation::LeaseGrant(_) | Operation::Client(_)) => true,
            Some(Operation::Lock(command)) => command.grows(),
            Some(Operation::Txn(txn)) => may_put(txn),
            Some(
                Operation::DeleteRange(_)
                | Operation::Compact(_)
                | Operation::AutoCompact(_)
                | Operation::LeaseRevoke(_)
                | Operation::Id(_)
                | Operation::SetFeatureLevel(_)
                | Operation::Auth(_)
                | Operation::SetBytesMax(_)
                | Operation::SetAlarm(_),
            )
            | None => false,
        }
    }

    /// It changes keys, leases, history, or what hangs on leases.
    fn is_of_keys(&self) -> bool {
        match &self.operation {
            Some(
                Operation::Put(_)
                | Operation::DeleteRange(_)
                | Operation::Txn(_)
                | Operation::Compact(_)
                | Operation::AutoCompact(_)
                | Operation::LeaseGrant(_)
                | Operation::LeaseRevoke(_)
                | Operation::Lock(_)
                | Operation::Client(_)
                | Operation::Id(_),
            ) => true,
            Some(
                Operation::SetFeatureLevel(_)
                | Operation::Auth(_)
                | Operation::SetBytesMax(_)
                | Operation::SetAlarm(_),
            )
            | None => false,
        }
    }
}
