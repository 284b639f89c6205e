//! Tells a snapshot of ours as etcd's: a bbolt file with etcd's buckets, as `etcdutl` and `etcd` of version 3.6 read it.
//!
//! The snapshot is gone through several times, front to back, because a bbolt file begins with what is known last. What is held meanwhile:
//! 24 bytes per lease and per key older than the compacted revision, and up to [`GATHERED_BYTES_MAX`] of these keys themselves, which stand in the
//! snapshot in no order.
//!
//! Revisions, creations, versions, leases and history are told as they are. The place of a change within its revision, which etcd
//! numbers and never shows, is counted anew.

use crate::bolt::{Plan, Planner, Source, Writer};
use crate::{CLUSTER_VERSION, key_value_len, write_key_value};
use bytes::{Bytes, BytesMut};
use prost::Message;
use proto::authpb;
use proto::etcdserverpb::Member;
use state::auth::Auth;
use state::{
    EventView, KeyValue, SnapshotCounters, SnapshotError, SnapshotHeader, SnapshotItem,
    SnapshotScan,
};
use std::fmt;

/// Bytes of a snapshot read at once.
const READ_BYTES: usize = 256 << 10;
/// Bytes of keys put into order at once.
pub const GATHERED_BYTES_MAX: usize = 64 << 20;
/// Bytes of the file given away at once.
const PIECE_BYTES: usize = 32 << 10;

#[cfg(test)]
mod tests;

/// Why a snapshot cannot be told as etcd's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExportError {
    /// It cannot be read, or is damaged; the text says where.
    Unreadable(String),
    /// It was taken while a large removal was being written down: a later one will do.
    Removing,
    /// Nobody wants it any more.
    Stopped,
}

impl fmt::Display for ExportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ExportError::Unreadable(why) => f.write_str(why),
            ExportError::Removing => f.write_str("a large removal is being written down"),
            ExportError::Stopped => f.write_str("nobody wants the rest"),
        }
    }
}

impl std::error::Error for ExportError {}

impl From<SnapshotError> for ExportError {
    fn from(error: SnapshotError) -> ExportError {
        ExportError::Unreadable(match error {
            SnapshotError::Corrupt(why) => why,
            SnapshotError::NewerFormat { format, known } => {
                format!("format {format} is newer than {known}, the newest known here")
            }
        })
    }
}

/// A lease's value in its bucket.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct LeaseRecord {
    #[prost(int64, tag = "1")]
    pub id: i64,
    #[prost(int64, tag = "2")]
    pub ttl: i64,
}

/// A bucket whose entries are few.
type Small = (&'static [u8], Vec<(Vec<u8>, Vec<u8>)>);

/// A snapshot ready to be written as etcd's.
pub struct Export<'a, S: Source + ?Sized> {
    source: &'a S,
    /// Buckets before `key` and behind it.
    before: Vec<Small>,
    behind: Vec<Small>,
    kept: Vec<Kept>,
    kept_is_sorted: bool,
    plan: Plan,
}

/// A key older than the compacted revision: its revision, its place in the snapshot among those, and its size.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Kept {
    revision: i64,
    place: u64,
    bytes: u32,
    sub: u32,
}

/// What the first walk finds besides keys.
#[derive(Default)]
struct Found {
    header: SnapshotHeader,
    counters: Option<SnapshotCounters>,
    auth: Auth,
    leases: Vec<(u64, i64)>,
    kept: Vec<Kept>,
    kept_is_sorted: bool,
}

impl<'a, S: Source + ?Sized> Export<'a, S> {
    /// Reads a snapshot once and plans the file. `members` are told as the cluster's.
    ///
    /// # Errors
    /// See [`ExportError`].
    pub fn plan(source: &'a S, members: &[Member]) -> Result<Export<'a, S>, ExportError> {
        let mut found = Found {
            kept_is_sorted: true,
            ..Found::default()
        };
        walk(source, |item| found.take(item))?;
        let Some(counters) = found.counters else {
            return Err(ExportError::Unreadable(
                "the snapshot has no counters".into(),
            ));
        };
        found.kept.sort_unstable();
        number(&mut found.kept);
        let before = vec![
            (&b"alarm"[..], Vec::new()),
            (b"auth", auth(&found.auth)),
            (b"authRoles", roles(&found.auth)),
            (b"authUsers", users(&found.auth)),
            (
                b"cluster",
                vec![(b"clusterVersion".into(), CLUSTER_VERSION.into())],
            ),
        ];
        let behind = vec![
            (&b"lease"[..], leases(found.leases)),
            (b"members", members.iter().map(member).collect()),
            (b"members_removed", Vec::new()),
            (b"meta", meta(&found.header, counters, members)),
        ];
        let mut planner = Planner::new();
        plan_small(&mut planner, &before);
        planner.bucket(b"key");
        for kept in &found.kept {
            planner.entry(
                &revision_key(kept.revision, kept.sub, false),
                kept.bytes as usize,
            );
        }
        let mut subs = Subs::default();
        walk(source, |item| {
            if let SnapshotItem::Event(event) = item {
                let key = revision_key(event.revision, subs.next(event.revision), event.deleted);
                planner.entry(&key, record_len(&event));
            }
            Ok(())
        })?;
        plan_small(&mut planner, &behind);
        Ok(Export {
            source,
            before,
            behind,
            kept: found.kept,
            kept_is_sorted: found.kept_is_sorted,
            plan: planner.finish(),
        })
    }

    /// Bytes of the file.
    pub fn bytes(&self) -> u64 {
        self.plan.bytes()
    }

    /// Writes the file in pieces; `give` says whether it wants more.
    ///
    /// # Errors
    /// See [`ExportError`].
    pub fn write(self, give: impl FnMut(Vec<u8>) -> bool) -> Result<(), ExportError> {
        let Export {
            source,
            before,
            behind,
            kept,
            kept_is_sorted,
            plan,
        } = self;
        let mut file = File {
            writer: Writer::new(plan),
            give,
            buffer: BytesMut::new(),
        };
        file.small(&before)?;
        if kept_is_sorted {
            let mut at = kept.iter();
            walk(source, |item| match item {
                SnapshotItem::Kept(view) => {
                    let kept = at.next().ok_or_else(changed)?;
                    file.record(&view, kept.sub)
                }
                _ => Ok(()),
            })?;
        } else {
            for group in groups(&kept) {
                file.gathered(source, group)?;
            }
        }
        let mut subs = Subs::default();
        walk(source, |item| match item {
            SnapshotItem::Event(view) => file.record(&view, subs.next(view.revision)),
            _ => Ok(()),
        })?;
        file.small(&behind)?;
        file.flush(0)
    }
}

impl Found {
    fn take(&mut self, item: SnapshotItem<'_>) -> Result<(), ExportError> {
        match item {
            SnapshotItem::Header(header) => self.header = header,
            SnapshotItem::Counters(counters) if counters.is_removing => {
                return Err(ExportError::Removing);
            }
            SnapshotItem::Counters(counters) => self.counters = Some(counters),
            SnapshotItem::Auth(auth) => self.auth = auth,
            SnapshotItem::Lease { id, ttl_ms, .. } => {
                let seconds = i64::try_from(ttl_ms.div_ceil(1000)).unwrap_or(i64::MAX);
                self.leases.push((id as u64, seconds));
            }
            SnapshotItem::Kept(view) => {
                self.kept_is_sorted &= self
                    .kept
                    .last()
                    .is_none_or(|last| last.revision <= view.revision);
                let bytes = u32::try_from(record_len(&view))
                    .map_err(|_| ExportError::Unreadable("a record above 4 GiB".into()))?;
                self.kept.push(Kept {
                    revision: view.revision,
                    place: self.kept.len() as u64,
                    bytes,
                    sub: 0,
                });
            }
            SnapshotItem::Event(_) | SnapshotItem::End => {}
        }
        Ok(())
    }
}

/// Numbers the changes of each revision.
fn number(kept: &mut [Kept]) {
    let mut subs = Subs::default();
    for kept in kept {
        kept.sub = subs.next(kept.revision);
    }
}

/// Counts changes within a revision.
#[derive(Default)]
struct Subs {
    revision: i64,
    next: u32,
}

impl Subs {
    fn next(&mut self, revision: i64) -> u32 {
        if self.revision != revision {
            (self.revision, self.next) = (revision, 0);
        }
        self.next += 1;
        self.next - 1
    }
}

/// Parts of the sorted keys that may be held at once.
fn groups(kept: &[Kept]) -> impl Iterator<Item = &[Kept]> {
    let mut rest = kept;
    std::iter::from_fn(move || {
        let (mut bytes, mut count) = (0, 0);
        for kept in rest {
            bytes += kept.bytes as usize;
            if count > 0 && bytes > GATHERED_BYTES_MAX {
                break;
            }
            count += 1;
        }
        let (group, after) = rest.split_at(count);
        rest = after;
        (!group.is_empty()).then_some(group)
    })
}

/// The file being written.
struct File<G> {
    writer: Writer,
    give: G,
    buffer: BytesMut,
}

impl<G: FnMut(Vec<u8>) -> bool> File<G> {
    fn entry(&mut self, key: &[u8], value: &[u8]) -> Result<(), ExportError> {
        self.writer.entry(key, value);
        self.flush(PIECE_BYTES)
    }

    fn small(&mut self, buckets: &[Small]) -> Result<(), ExportError> {
        let entries = buckets.iter().flat_map(|(_, entries)| entries);
        for (key, value) in entries {
            self.entry(key, value)?;
        }
        Ok(())
    }

    fn record(&mut self, view: &EventView<'_>, sub: u32) -> Result<(), ExportError> {
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.clear();
        write_record(view, &mut buffer);
        let key = revision_key(view.revision, sub, view.deleted);
        let written = self.entry(&key, &buffer);
        self.buffer = buffer;
        written
    }

    /// Reads these keys, wherever they stand in the snapshot, and writes them in order.
    fn gathered<S: Source + ?Sized>(
        &mut self,
        source: &S,
        group: &[Kept],
    ) -> Result<(), ExportError> {
        let mut wanted: Vec<(u64, usize)> = group
            .iter()
            .enumerate()
            .map(|(rank, kept)| (kept.place, rank))
            .collect();
        wanted.sort_unstable();
        let mut records = vec![Vec::new(); group.len()];
        let (mut wanted, mut place) = (wanted.into_iter().peekable(), 0);
        walk(source, |item| {
            if let SnapshotItem::Kept(view) = item {
                if let Some((_, rank)) = wanted.next_if(|(wanted, _)| *wanted == place) {
                    let mut buffer = BytesMut::with_capacity(group[rank].bytes as usize);
                    write_record(&view, &mut buffer);
                    records[rank] = buffer.to_vec();
                }
                place += 1;
            }
            Ok(())
        })?;
        for (kept, record) in group.iter().zip(records) {
            if record.len() != kept.bytes as usize {
                return Err(changed());
            }
            self.entry(&revision_key(kept.revision, kept.sub, false), &record)?;
        }
        Ok(())
    }

    /// Gives away what is written, if it is at least this much.
    fn flush(&mut self, least: usize) -> Result<(), ExportError> {
        if self.writer.waiting() < least.max(1) {
            return Ok(());
        }
        if (self.give)(self.writer.take()) {
            Ok(())
        } else {
            Err(ExportError::Stopped)
        }
    }
}

fn changed() -> ExportError {
    ExportError::Unreadable("the snapshot changed while it was read".into())
}

/// Goes through a snapshot from its front.
fn walk<S: Source + ?Sized>(
    source: &S,
    mut visit: impl FnMut(SnapshotItem<'_>) -> Result<(), ExportError>,
) -> Result<(), ExportError> {
    let mut scan = SnapshotScan::new();
    let mut buffer = vec![0; READ_BYTES];
    let mut at = 0;
    while at < source.length() {
        let piece = (source.length() - at).min(READ_BYTES as u64) as usize;
        source
            .read(at, &mut buffer[..piece])
            .map_err(ExportError::Unreadable)?;
        scan.feed(&buffer[..piece], &mut visit)?;
        at += piece as u64;
    }
    Ok(scan.finish()?)
}

fn plan_small(planner: &mut Planner, buckets: &[Small]) {
    for (name, entries) in buckets {
        planner.bucket(name);
        for (key, value) in entries {
            planner.entry(key, value.len());
        }
    }
}

/// A key of the bucket `key`: the revision, the place within it, and a mark if it is a removal.
fn revision_key(revision: i64, sub: u32, deleted: bool) -> Vec<u8> {
    let mut key = Vec::with_capacity(18);
    key.extend_from_slice(&revision.to_be_bytes());
    key.push(b'_');
    key.extend_from_slice(&i64::from(sub).to_be_bytes());
    if deleted {
        key.push(b't');
    }
    key
}

/// A record as a key; of a removal only the name is told.
fn key_value(view: &EventView<'_>) -> KeyValue {
    let key = Bytes::copy_from_slice(view.key);
    if view.deleted {
        return KeyValue {
            key,
            ..KeyValue::default()
        };
    }
    KeyValue {
        key,
        create_revision: view.create_revision,
        mod_revision: view.revision,
        version: view.version,
        value: Bytes::copy_from_slice(view.value),
        lease: view.lease,
    }
}

fn record_len(view: &EventView<'_>) -> usize {
    key_value_len(&key_value(view))
}

fn write_record(view: &EventView<'_>, buffer: &mut BytesMut) {
    write_key_value(&key_value(view), buffer);
}

fn auth(auth: &Auth) -> Vec<(Vec<u8>, Vec<u8>)> {
    vec![
        (b"authEnabled".to_vec(), vec![auth.is_enabled().into()]),
        (
            b"authRevision".to_vec(),
            auth.revision().to_be_bytes().to_vec(),
        ),
    ]
}

fn roles(auth: &Auth) -> Vec<(Vec<u8>, Vec<u8>)> {
    auth.roles()
        .map(|name| {
            let permissions = auth.permissions(name).unwrap_or_default();
            let role = authpb::Role {
                name: name.to_owned().into(),
                key_permission: permissions
                    .into_iter()
                    .map(|permission| authpb::Permission {
                        perm_type: permission.kind,
                        key: permission.key,
                        range_end: permission.range_end,
                    })
                    .collect(),
            };
            (name.into(), role.encode_to_vec())
        })
        .collect()
}

fn users(auth: &Auth) -> Vec<(Vec<u8>, Vec<u8>)> {
    let user = |name: &str| {
        let user = auth.user(name)?;
        let record = authpb::User {
            name: name.to_owned().into(),
            password: user.password_hash.clone(),
            roles: user.roles().map(str::to_owned).collect(),
            options: Some(authpb::UserAddOptions {
                no_password: user.no_password,
            }),
        };
        Some((name.into(), record.encode_to_vec()))
    };
    auth.users().filter_map(user).collect()
}

/// Leases, in the order of their keys, which hold their ids without a sign.
fn leases(mut leases: Vec<(u64, i64)>) -> Vec<(Vec<u8>, Vec<u8>)> {
    leases.sort_unstable();
    leases
        .into_iter()
        .map(|(id, ttl)| {
            let record = LeaseRecord { id: id as i64, ttl };
            (id.to_be_bytes().to_vec(), record.encode_to_vec())
        })
        .collect()
}

fn member(member: &Member) -> (Vec<u8>, Vec<u8>) {
    let text = |text: &String| format!("{:?}", text);
    let list = |urls: &[String]| urls.iter().map(text).collect::<Vec<_>>().join(",");
    let learner = if member.is_learner {
        ",\"isLearner\":true"
    } else {
        ""
    };
    let json = format!(
        "{{\"id\":{},\"peerURLs\":[{}]{learner},\"name\":{},\"clientURLs\":[{}]}}",
        member.id,
        list(&member.peer_ur_ls),
        text(&member.name),
        list(&member.client_ur_ls),
    );
    (format!("{:x}", member.id).into(), json.into())
}

fn meta(
    header: &SnapshotHeader,
    counters: SnapshotCounters,
    members: &[Member],
) -> Vec<(Vec<u8>, Vec<u8>)> {
    let ids = |learners: bool| {
        let ids = members
            .iter()
            .filter(|member| member.is_learner == learners);
        ids.map(|member| member.id.to_string())
            .collect::<Vec<_>>()
            .join(",")
    };
    let learners = Some(ids(true)).filter(|ids| !ids.is_empty());
    let learners = learners.map_or(String::new(), |ids| format!("\"learners\":[{ids}],"));
    let conf_state = format!(
        "{{\"voters\":[{}],{learners}\"auto_leave\":false}}",
        ids(false)
    );
    let mut entries = vec![
        (b"confState".to_vec(), conf_state.into_bytes()),
        (
            b"consistent_index".to_vec(),
            header.index.to_be_bytes().to_vec(),
        ),
    ];
    if counters.compacted > 0 {
        let revision = revision_key(counters.compacted, 0, false);
        entries.push((b"finishedCompactRev".to_vec(), revision.clone()));
        entries.push((b"scheduledCompactRev".to_vec(), revision));
    }
    entries.push((b"storageVersion".to_vec(), CLUSTER_VERSION.into()));
    entries.push((b"term".to_vec(), header.term.to_be_bytes().to_vec()));
    entries
}
