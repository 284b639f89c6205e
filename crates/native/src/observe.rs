//! What those are told who follow a name: a lock, a leader, a group.

use crate::lock::of_kind;
use crate::view::{acquisition, group_member, lock_info};
use etcd::Status;
use proto::synod::v1;
use state::lock::{Kind, LockDetail};
use std::collections::BTreeMap;

/// Who holds a name, of any kind. Nothing is told of one that is not in use; so with all functions here.
pub fn observed(detail: Option<LockDetail>) -> v1::ObserveResponse {
    detail.map_or_else(v1::ObserveResponse::default, |detail| {
        let holders = detail.claims.into_iter().filter(|claim| claim.token != 0);
        v1::ObserveResponse {
            header: None,
            lock: Some(lock_info(detail.lock)),
            holders: holders.map(acquisition).collect(),
        }
    })
}

/// Who leads.
///
/// # Errors
/// The name is something else's.
pub fn observed_leader(detail: Option<LockDetail>) -> Result<v1::LeaderResponse, Status> {
    let mut answer = v1::LeaderResponse::default();
    if let Some(detail) = detail {
        of_kind(&detail, Kind::Lock)?;
        let holder = detail.claims.into_iter().find(|claim| claim.token != 0);
        answer.leader = holder.map(acquisition);
    }
    Ok(answer)
}

/// What a follower of a group knows.
#[derive(Debug, Default)]
pub struct ObservedGroup {
    /// By token; `None` before it was told anything.
    members: Option<BTreeMap<u64, v1::GroupMember>>,
}

impl ObservedGroup {
    /// Who came, changed or left since the answer before.
    ///
    /// # Errors
    /// The name is something else's.
    pub fn tell(&mut self, detail: Option<LockDetail>) -> Result<v1::ObserveGroupResponse, Status> {
        let mut answer = v1::ObserveGroupResponse::default();
        let mut now = BTreeMap::new();
        if let Some(detail) = detail {
            of_kind(&detail, Kind::Group)?;
            answer.version = detail.lock.version;
            let members = detail.claims.into_iter().map(group_member);
            now.extend(members.map(|member| (member.token, member)));
        }
        answer.whole = self.members.is_none();
        let before = self.members.replace(now.clone()).unwrap_or_default();
        let left = before.keys().filter(|token| !now.contains_key(token));
        answer.left = left.copied().collect();
        let new = |(token, member): &(u64, v1::GroupMember)| before.get(token) != Some(member);
        let changed = now.into_iter().filter(new).map(|(_, member)| member);
        answer.changed = changed.collect();
        Ok(answer)
    }
}
