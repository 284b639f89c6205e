//! Leases: made at the destination with the ids and times to live they have at the source, renewed there as long as they live here, and ended with
//! them. A lease never ends earlier than at the source; at the switch it has up to its whole time to live.

use crate::output::Failed;
use client::{Client, ClientError};
use proto::etcdserverpb as pb;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// How servers say that a lease exists, and that none does.
const EXISTS: &str = "lease already exists";
const NOT_FOUND: &str = "requested lease not found";

/// A lease that lives on both sides.
struct Held {
    ttl: Duration,
    renewed: Instant,
}

/// See the module.
#[derive(Default)]
pub(super) struct Leases {
    held: BTreeMap<i64, Held>,
    /// Gone at the source, by the revision at which that was seen: their keys go first, as they did there.
    ending: BTreeMap<i64, i64>,
}

impl Leases {
    /// Makes a lease at the destination if it is not known yet; false if it has ended at the source.
    pub async fn ensure(
        &mut self,
        source: &Client,
        target: &Client,
        id: i64,
    ) -> Result<bool, Failed> {
        if self.held.contains_key(&id) {
            return Ok(true);
        }
        let request = pb::LeaseTimeToLiveRequest { id, keys: false };
        let told = match source.lease_time_to_live(request).await {
            Ok(told) => told.message,
            Err(ClientError::Refused { message, .. }) if message.contains(NOT_FOUND) => {
                return Ok(false);
            }
            Err(error) => return Err(error.into()),
        };
        if told.ttl <= 0 {
            return Ok(false);
        }
        let grant = pb::LeaseGrantRequest {
            id,
            ttl: told.granted_ttl,
        };
        match target.lease_grant(grant).await {
            Ok(_) => {}
            // An earlier attempt made it.
            Err(ClientError::Refused { message, .. }) if message.contains(EXISTS) => {
                target.lease_keep_alive(id).await?;
            }
            Err(error) => return Err(error.into()),
        }
        let held = Held {
            ttl: Duration::from_secs(told.granted_ttl.unsigned_abs()),
            renewed: Instant::now(),
        };
        self.held.insert(id, held);
        Ok(true)
    }

    /// Makes, renews and ends leases as they are at the source, all of whose revisions up to `done` are at the destination.
    pub async fn follow(
        &mut self,
        source: &Client,
        target: &Client,
        done: i64,
    ) -> Result<(), Failed> {
        let told = source.lease_list().await?.message;
        let seen_at = told.header.map_or(0, |header| header.revision);
        let living: BTreeSet<i64> = told.leases.iter().map(|lease| lease.id).collect();
        for &id in &living {
            self.ensure(source, target, id).await?;
        }
        for &id in self.held.keys() {
            if !living.contains(&id) {
                self.ending.entry(id).or_insert(seen_at);
            }
        }
        let ended: Vec<i64> = self
            .ending
            .iter()
            .filter(|&(_, seen_at)| *seen_at <= done)
            .map(|(&id, _)| id)
            .collect();
        for id in ended {
            match target.lease_revoke(pb::LeaseRevokeRequest { id }).await {
                Ok(_) => {}
                Err(ClientError::Refused { message, .. }) if message.contains(NOT_FOUND) => {}
                Err(error) => return Err(error.into()),
            }
            self.ending.remove(&id);
            self.held.remove(&id);
        }
        for (&id, held) in &mut self.held {
            if !self.ending.contains_key(&id) && held.renewed.elapsed() >= held.ttl / 3 {
                let sent = Instant::now();
                target.lease_keep_alive(id).await?;
                held.renewed = sent;
            }
        }
        Ok(())
    }
}
