//! The election service: one leader per name, in order of arrival.

use super::context::Context;
use super::door::{Answered, Door, Outcome};
use super::queue::{Candidate, Followed, Follower, session, unknown};
use bytes::Bytes;
use etcd::queue::{Place, Queue};
use etcd::{Code, Status};
use futures_util::Stream;
use proto::etcdserverpb::ResponseHeader;
use proto::mvccpb;
use proto::v3electionpb::{
    CampaignRequest, CampaignResponse, LeaderKey, LeaderRequest, LeaderResponse, ProclaimRequest,
    ProclaimResponse, ResignRequest, ResignResponse,
};
use replica::Event;
use std::collections::VecDeque;
use std::sync::Arc;

const NOT_LEADER: &str = "election: not leader";
const NO_LEADER: &str = "election: no leader";
const LEADER_MISSING: &str = "\"leader\" field must be provided";

fn refused<T>(text: &'static str) -> Result<T, Status> {
    Err(Status::new(Code::Unknown, text))
}

impl Door {
    /// Waits until the candidate leads.
    pub async fn campaign(
        &self,
        context: &Context,
        request: CampaignRequest,
    ) -> Outcome<CampaignResponse> {
        let mut candidate = Candidate::new(self, context, &request.name, request.lease).await?;
        let (entered, stamp) = candidate.enter(request.value.clone()).await?;
        let (place, lease) = (entered.place, candidate.lease());
        if entered.found.is_some_and(|found| found != request.value) {
            let proclaim = place.proclaim(lease, request.value);
            let answered = self.txn(context, proclaim).await.map_err(unknown)?;
            if !answered.message.succeeded {
                return refused(NOT_LEADER);
            }
        }
        if !entered.first && candidate.wait(&place).await?.is_none() {
            return refused(NOT_LEADER);
        }
        candidate.arrived();
        Ok(Answered {
            message: CampaignResponse {
                header: Some(entered.header),
                leader: Some(LeaderKey {
                    name: request.name,
                    key: place.key,
                    rev: place.created,
                    lease,
                }),
            },
            stamp,
        })
    }

    /// Changes what the leader tells.
    pub async fn proclaim(
        &self,
        context: &Context,
        request: ProclaimRequest,
    ) -> Outcome<ProclaimResponse> {
        let Some(leader) = request.leader else {
            return refused(LEADER_MISSING);
        };
        let lease = session(self, context, leader.lease).await?;
        let proclaim = place(leader).proclaim(lease, request.value);
        let answered = self.txn(context, proclaim).await.map_err(unknown)?;
        if !answered.message.succeeded {
            return refused(NOT_LEADER);
        }
        Ok(answered.map(|answer| ProclaimResponse {
            header: answer.header,
        }))
    }

    /// Asks who leads.
    pub async fn leader(
        &self,
        context: &Context,
        request: LeaderRequest,
    ) -> Outcome<LeaderResponse> {
        let answered = self.holder(context, &Queue::new(&request.name)).await?;
        if answered.message.1.is_none() {
            return refused(NO_LEADER);
        }
        Ok(answered.map(|(header, kv)| LeaderResponse {
            header: Some(header),
            kv,
        }))
    }

    /// Steps down; nothing happens if somebody else leads.
    pub async fn resign(
        &self,
        context: &Context,
        request: ResignRequest,
    ) -> Outcome<ResignResponse> {
        let Some(leader) = request.leader else {
            return refused(LEADER_MISSING);
        };
        let leave = place(leader).leave();
        let answered = self.txn(context, leave).await.map_err(unknown)?;
        Ok(answered.map(|answer| ResignResponse {
            header: answer.header,
        }))
    }

    /// Tells who leads, now and whenever that changes.
    pub fn observe(
        &self,
        context: &Context,
        request: LeaderRequest,
    ) -> impl Stream<Item = Result<LeaderResponse, Status>> + Send + use<> {
        let observer = Observer {
            door: self.clone(),
            context: context.clone(),
            queue: Queue::new(&request.name),
            following: None,
            heard: VecDeque::new(),
            told: Default::default(),
        };
        futures_util::stream::try_unfold(observer, async |mut observer| {
            Ok(Some((observer.next().await?, observer)))
        })
    }

    async fn holder(
        &self,
        context: &Context,
        queue: &Queue,
    ) -> Outcome<(ResponseHeader, Option<mvccpb::KeyValue>)> {
        let answered = self.range(context, queue.holder()).await.map_err(unknown)?;
        Ok(answered.map(|(header, reply)| {
            let kv = reply.kvs.into_iter().next().map(etcd::key_value);
            (header.into(), kv)
        }))
    }
}

fn place(leader: LeaderKey) -> Place {
    Place {
        key: leader.key,
        created: leader.rev,
    }
}

/// One client's view of an election.
struct Observer {
    door: Door,
    context: Context,
    queue: Queue,
    /// Follows the leader's key, or all keys while nobody leads.
    following: Option<Follower>,
    /// Changes heard of and not told yet.
    heard: VecDeque<(i64, Arc<Event>)>,
    /// Key and revision of what was told last. A leader that comes later may well have an older revision: it waited.
    told: (Bytes, i64),
}

impl Observer {
    async fn next(&mut self) -> Result<LeaderResponse, Status> {
        loop {
            while let Some((revision, event)) = self.heard.pop_front() {
                if event.deleted {
                    self.follow_nobody();
                } else if let Some(response) =
                    self.tell(revision, etcd::key_value(event.kv.clone()))
                {
                    return Ok(response);
                }
            }
            match &mut self.following {
                None => {
                    if let Some(response) = self.look().await? {
                        return Ok(response);
                    }
                }
                Some(follower) => match follower.next().await? {
                    Followed::Changes { revision, events } => {
                        self.heard = events.into_iter().map(|event| (revision, event)).collect();
                    }
                    Followed::Lost => self.follow_nobody(),
                },
            }
        }
    }

    fn follow_nobody(&mut self) {
        self.following = None;
        self.heard.clear();
    }

    /// Reads who leads and follows them. While nobody does, waits for the first to come.
    async fn look(&mut self) -> Result<Option<LeaderResponse>, Status> {
        let (header, kv) = self.door.holder(&self.context, &self.queue).await?.message;
        if let Some(kv) = kv {
            self.follow(kv.key.clone(), header.revision + 1).await?;
            return Ok(self.tell(header.revision, kv));
        }
        let range = [self.queue.range()];
        let mut all = Follower::open(&self.door, &self.context, range, header.revision + 1).await?;
        while let Followed::Changes { events, .. } = all.next().await? {
            if let Some(put) = events.iter().find(|event| !event.deleted) {
                let revision = put.kv.mod_revision;
                self.follow(put.kv.key.clone(), revision + 1).await?;
                return Ok(self.tell(revision, etcd::key_value(put.kv.clone())));
            }
        }
        Ok(None)
    }

    async fn follow(&mut self, key: Bytes, from: i64) -> Result<(), Status> {
        let range = [(key, Bytes::new())];
        self.following = Some(Follower::open(&self.door, &self.context, range, from).await?);
        Ok(())
    }

    /// What to tell, unless it was told already.
    fn tell(&mut self, revision: i64, kv: mvccpb::KeyValue) -> Option<LeaderResponse> {
        let told = (kv.key.clone(), kv.mod_revision);
        if told == std::mem::replace(&mut self.told, told.clone()) {
            return None;
        }
        let term = self.door.handle.status().raft.term.0;
        Some(LeaderResponse {
            header: Some(self.door.header_at(revision, term).into()),
            kv: Some(kv),
        })
    }
}
