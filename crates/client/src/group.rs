//! Who is there, with attributes.

use crate::call::{Kind, Wait};
use crate::follow::Follow;
use crate::guard::{Acquisition, certainly};
use crate::{Client, ClientError, Guard, Session};
use proto::synod::v1 as api;
use proto::synod::v1::group_client::GroupClient;
use std::collections::BTreeMap;

/// A member's attributes: its address, its version, its load.
pub type Attributes = BTreeMap<String, String>;

/// Members asked for at a time.
const PAGE: u64 = 500;

/// A group, whose members leave with their sessions.
#[derive(Clone)]
pub struct Group {
    session: Session,
    name: String,
}

/// A member of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupMember {
    /// Of this membership: who came later has a greater one.
    pub token: u64,
    /// Its session.
    pub session: i64,
    /// Since when: milliseconds since 1970, by the cell's clock.
    pub since_unix_ms: u64,
    /// What it says of itself.
    pub attributes: Attributes,
}

impl GroupMember {
    fn of(member: api::GroupMember) -> GroupMember {
        GroupMember {
            token: member.token,
            session: member.session,
            since_unix_ms: member.since_unix_ms,
            attributes: member.attributes,
        }
    }
}

impl Group {
    /// The group of this name, for this session.
    pub fn new(session: &Session, name: &str) -> Group {
        Group {
            session: session.clone(),
            name: name.to_owned(),
        }
    }

    /// Joins.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn join(&self, attributes: &Attributes) -> Result<Membership, ClientError> {
        let make = |id, _| api::JoinRequest {
            change: None,
            name: self.name.clone(),
            session: self.session.number(),
            id,
            attributes: attributes.clone(),
        };
        let call = async |channel, request| GroupClient::new(channel).join(request).await;
        let guard = Acquisition::new(&self.session, &self.name)
            .wait(Wait::No, make, call, |answer: &api::JoinResponse| {
                answer.token
            })
            .await?;
        let guard = certainly(guard)?;
        Ok(Membership { guard })
    }

    /// Who is there now, in the order they came.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn members(&self) -> Result<Vec<GroupMember>, ClientError> {
        members(self.session.client(), &self.name).await
    }

    /// Follows who is there.
    pub fn observe(&self) -> Members {
        Members::of(self.session.client(), &self.name)
    }
}

/// Who is in a group now, for those who are not in it and need no session.
///
/// # Errors
/// See [`ClientError`].
pub async fn members(client: &Client, name: &str) -> Result<Vec<GroupMember>, ClientError> {
    let mut all = Vec::new();
    loop {
        let request = api::ListGroupRequest {
            consistency: None,
            name: name.to_owned(),
            skip: all.len() as u64,
            limit: PAGE as u32,
        };
        let call = async |channel, request| GroupClient::new(channel).list(request).await;
        let page = client.unary(Kind::Read, request, call).await?.message;
        all.extend(page.members.into_iter().map(GroupMember::of));
        if !page.more {
            return Ok(all);
        }
    }
}

/// Membership, given up when it is dropped.
#[must_use = "it is given up when it is dropped"]
pub struct Membership {
    guard: Guard,
}

impl Membership {
    /// What holds it.
    pub fn guard(&self) -> &Guard {
        &self.guard
    }

    /// What holds it, alone.
    pub fn into_guard(self) -> Guard {
        self.guard
    }

    /// Waits until it is lost, and says how; see [`Guard::lost`].
    pub async fn lost(&self) -> String {
        self.guard.lost().await
    }

    /// Says something else of this member. These are all its attributes from now on.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn update(&self, attributes: &Attributes) -> Result<(), ClientError> {
        let session = self.guard.session();
        let (change, _ticket) = session.change(&[]).await;
        let request = api::UpdateMemberRequest {
            change,
            session: session.number(),
            id: self.guard.id(),
            attributes: attributes.clone(),
        };
        let call = async |channel, request| GroupClient::new(channel).update(request).await;
        let client = session.client();
        client.unary(Kind::Once, request, call).await.map(drop)
    }

    /// Leaves now.
    ///
    /// # Errors
    /// See [`Guard::release`].
    pub async fn leave(self) -> Result<(), ClientError> {
        self.guard.release().await
    }
}

/// Follows who is in a group.
pub struct Members {
    answers: Follow<api::ObserveGroupRequest, api::ObserveGroupResponse>,
    /// By token.
    known: BTreeMap<u64, GroupMember>,
}

impl Members {
    /// Follows a group, without being in it.
    pub fn of(client: &Client, name: &str) -> Members {
        Members {
            answers: Follow::group(client, name),
            known: BTreeMap::new(),
        }
    }

    /// All members at first, then all after each change, by their tokens.
    ///
    /// # Errors
    /// No endpoint could serve for as long as a request may take.
    pub async fn next(&mut self) -> Result<&BTreeMap<u64, GroupMember>, ClientError> {
        let news = self.answers.next().await?;
        if news.whole {
            self.known.clear();
        }
        for token in news.left {
            self.known.remove(&token);
        }
        for member in news.changed {
            self.known.insert(member.token, GroupMember::of(member));
        }
        Ok(&self.known)
    }
}
