//! The first state of a cluster that goes on from what another one left: a snapshot of ours, or the contents of another store.
//!
//! Clients of the old cluster still hold revisions, tokens, sequences and ids, some of them from after the moment that is restored. So that none of
//! them is taken for one of the new cluster, every counter jumps above all that the old one can have reached; what clients must not go on with
//! unnoticed is gone (grants of locks, client records, signatures of tokens), and all history counts as compacted. Leases stay, with their whole time
//! to live ahead of them.

use crate::auth::{AuthChange, AuthOperation, AuthRejection};
use crate::client::Clients;
use crate::lease::Lease;
use crate::record::{NEVER, NewRecord};
use crate::{EventView, Settings, State};
use bytes::Bytes;
use std::fmt;
use std::ops::Bound;

/// Tokens stay below, so that languages without 64-bit integers read them exactly.
const ORDINAL_END: u64 = 1 << 53;
/// Longest key or value: as long as a record can say.
const LENGTH_MAX: usize = u32::MAX as usize;

/// How far the counters of the new cluster lie above those it is restored from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Raise {
    /// Of the log's indexes, of ordinals and tokens, and of sequences that ids are made from.
    pub positions: u64,
    /// Of revisions, those of users and roles too.
    pub revisions: i64,
}

/// A counter has no room left to be raised. Nothing changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoRoom {
    /// Which.
    pub counter: &'static str,
    /// Its value.
    pub value: u64,
    /// What it must stay below.
    pub end: u64,
}

impl fmt::Display for NoRoom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let NoRoom {
            counter,
            value,
            end,
        } = self;
        write!(
            f,
            "the {counter} is {value}, and cannot be raised without reaching {end}"
        )
    }
}

impl std::error::Error for NoRoom {}

fn raised(counter: &'static str, value: u64, by: u64, end: u64) -> Result<u64, NoRoom> {
    let room = NoRoom {
        counter,
        value,
        end,
    };
    value
        .checked_add(by)
        .filter(|raised| *raised < end)
        .ok_or(room)
}

impl State {
    /// Makes this the first state of a new cluster; see the module. Tokens of users are signed with `token_key` from now on, if authentication is on.
    ///
    /// # Errors
    /// A counter has no room left.
    ///
    /// # Panics
    /// If a batch is at work.
    pub fn restore(&mut self, raise: Raise, token_key: &Bytes) -> Result<(), NoRoom> {
        assert!(
            self.work.is_none(),
            "a state is restored while a batch is at work"
        );
        let Raise {
            positions,
            revisions,
        } = raise;
        let by = revisions.unsigned_abs();
        let index = raised("index", self.applied, positions, u64::MAX)?;
        let ordinal = raised("ordinal", self.ordinal, positions, ORDINAL_END)?;
        let revision = raised("revision", self.keys.revision as u64, by, NEVER as u64 - 1)?;
        let auth = raised("revision of users", self.auth.revision(), by, u64::MAX)?;

        while self.keys.removal.is_some() {
            self.keys
                .write_removal(&mut self.leases, u64::MAX, &mut { u64::MAX });
        }
        self.keys.revision = revision as i64;
        self.keys.compact(revision as i64);
        self.applied = index;
        self.ordinal = ordinal;
        let clock_ms = self.clock.clock_ms;
        for lease in self.leases.pin().range(Bound::Unbounded) {
            self.leases
                .set(Lease::new(lease.id, lease.ttl_ms, clock_ms));
        }
        self.locks = self.locks.abandoned(clock_ms);
        self.clients = Clients::default();
        self.ids.skip(positions);
        self.auth.restart(auth, token_key);
        self.space = self.space.without_alarms();
        self.show();
        self.hash_applied = self.compute_hash();
        Ok(())
    }
}

/// Builds a state from what another store holds: leases first, then its live keys. Nobody vouches for any of it.
pub struct Import {
    state: State,
    revision: i64,
    adrift: u64,
}

impl Import {
    /// Begins. `revision` is the other store's newest.
    ///
    /// # Errors
    /// The revision is none.
    pub fn new(settings: Settings, revision: i64) -> Result<Import, String> {
        if !(1..NEVER / 2).contains(&revision) {
            return Err(format!("revision {revision}"));
        }
        let mut state = State::new(settings);
        // Every live key is older: there is no history.
        state.keys.compacted = revision + 1;
        Ok(Import {
            state,
            revision,
            adrift: 0,
        })
    }

    /// Takes a lease, whose time begins anew.
    ///
    /// # Errors
    /// It makes no sense, as the text says.
    pub fn lease(&mut self, id: i64, ttl_ms: u64) -> Result<(), String> {
        if id == 0 || ttl_ms == 0 || self.state.leases.get(id).is_some() {
            return Err(format!(
                "lease {id:x} of {ttl_ms} ms makes no sense, or is there twice"
            ));
        }
        let clock_ms = self.state.clock.clock_ms;
        self.state.leases.set(Lease::new(id, ttl_ms, clock_ms));
        Ok(())
    }

    /// Takes a live key, as its newest change tells it. A lease that does not exist is left out: the key stays.
    ///
    /// # Errors
    /// It makes no sense, as the text says.
    pub fn key(&mut self, key: &EventView<'_>) -> Result<(), String> {
        let EventView {
            revision,
            create_revision,
            version,
            ..
        } = *key;
        let sane = !key.deleted
            && (2..=self.revision).contains(&revision)
            && (1..=revision).contains(&create_revision)
            && (1..NEVER).contains(&version)
            && (1..=LENGTH_MAX).contains(&key.key.len())
            && key.value.len() <= LENGTH_MAX;
        if !sane {
            return Err(format!(
                "key {:?} at revision {revision}, created at {create_revision}, version {version}",
                String::from_utf8_lossy(key.key)
            ));
        }
        let known = self.state.leases.get(key.lease).is_some();
        self.adrift += u64::from(key.lease != 0 && !known);
        let record = NewRecord {
            revision,
            deleted: false,
            create_revision,
            version,
            lease: if known { key.lease } else { 0 },
            key: key.key,
            value: key.value,
            previous: None,
            superseded: NEVER,
        };
        self.state.keys.restore_kept(&record)?;
        if known {
            self.state.leases.attach(key.lease, key.key);
        }
        Ok(())
    }

    /// Takes users and roles, as the changes that make them, and the revision they have.
    ///
    /// # Errors
    /// A change was refused: the text names it.
    pub fn auth(
        &mut self,
        changes: impl IntoIterator<Item = AuthOperation>,
        revision: u64,
    ) -> Result<(), (AuthOperation, AuthRejection)> {
        for operation in changes {
            let change = AuthChange {
                operation: Some(operation),
            };
            if let Err(rejection) = self.state.auth.apply(&change) {
                let operation = change.operation.expect("it was just put there");
                return Err((operation, rejection));
            }
        }
        let key = self.state.auth.token_key().clone();
        let revision = revision.max(self.state.auth.revision());
        self.state.auth.restart(revision, &key);
        Ok(())
    }

    /// Keys that named a lease which does not exist.
    pub fn adrift(&self) -> u64 {
        self.adrift
    }

    /// Ends: the first state of a new cluster, as [`State::restore`] makes it of what stood at `index` there.
    ///
    /// # Errors
    /// A counter has no room left.
    pub fn finish(mut self, index: u64, raise: Raise, token_key: &Bytes) -> Result<State, NoRoom> {
        let keys = &mut self.state.keys;
        (keys.revision, keys.compacted) = (self.revision, self.revision);
        self.state.applied = index;
        self.state.restore(raise, token_key)?;
        Ok(self.state)
    }
}
