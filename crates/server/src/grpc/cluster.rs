//! The calls about members: etcd's Cluster service, leadership and versions, and those of `synod member`.

use super::context::Context;
use super::door::{Answered, Door, Outcome, REQUEST_TIMEOUT, within};
use super::failure;
use crate::MemberView;
use crate::greet::random_id;
use etcd::{Code, Read, Status};
use proto::etcdserverpb::{
    DowngradeRequest, DowngradeResponse, Member, MemberAddRequest, MemberAddResponse,
    MemberListRequest, MemberListResponse, MemberPromoteRequest, MemberPromoteResponse,
    MemberRemoveRequest, MemberRemoveResponse, MemberUpdateRequest, MemberUpdateResponse,
    MoveLeaderRequest, MoveLeaderResponse, ResponseHeader, downgrade_request::DowngradeAction,
};
use proto::synodpb::{
    ChangeMembersRequest, ChangeMembersResponse, ListMembersRequest, ListMembersResponse,
    MemberInfo, MemberRole, member_change::Change,
};
use raft::{Configuration, MemberId};
use replica::{ChangeRequest, Failure, MemberChange, RefusalReason};
use state::Query;

/// etcd's version of the cluster, as it writes it in answers.
const CLUSTER_VERSION: (u64, u64) = (3, 6);

impl Door {
    /// Lists the members as the newest decided configuration names them.
    pub async fn member_list(
        &self,
        context: &Context,
        request: MemberListRequest,
    ) -> Outcome<MemberListResponse> {
        let mut stamp = None;
        if request.linearizable {
            stamp = Some(self.position(context).await?);
        }
        Ok(Answered {
            message: MemberListResponse {
                header: Some(self.member_header()),
                members: self.members(&self.decided().await),
            },
            stamp,
        })
    }

    /// Prepares a place for a member that has not started.
    pub async fn member_add(
        &self,
        context: &Context,
        request: MemberAddRequest,
    ) -> Outcome<MemberAddResponse> {
        let id = random_id();
        let add = MemberChange::Add {
            member: MemberId(id),
            peer_addresses: etcd::peer_addresses(&request.peer_ur_ls)?,
            stays_learner: request.is_learner,
            replaces: None,
        };
        let members = self.change_as_etcd(context, add).await?;
        let member = members.iter().find(|member| member.id == id).cloned();
        Ok(Answered::unstamped(MemberAddResponse {
            header: Some(self.member_header()),
            member,
            members,
        }))
    }

    /// Lets a member go.
    pub async fn member_remove(
        &self,
        context: &Context,
        request: MemberRemoveRequest,
    ) -> Outcome<MemberRemoveResponse> {
        let remove = MemberChange::Remove(MemberId(request.id));
        let members = self.change_as_etcd(context, remove).await?;
        Ok(Answered::unstamped(MemberRemoveResponse {
            header: Some(self.member_header()),
            members,
        }))
    }

    /// Changes where the others reach a member.
    pub async fn member_update(
        &self,
        context: &Context,
        request: MemberUpdateRequest,
    ) -> Outcome<MemberUpdateResponse> {
        let change = MemberChange::Move {
            member: MemberId(request.id),
            peer_addresses: etcd::peer_addresses(&request.peer_ur_ls)?,
        };
        let members = self.change_as_etcd(context, change).await?;
        Ok(Answered::unstamped(MemberUpdateResponse {
            header: Some(self.member_header()),
            members,
        }))
    }

    /// Makes a learner a voter.
    pub async fn member_promote(
        &self,
        context: &Context,
        request: MemberPromoteRequest,
    ) -> Outcome<MemberPromoteResponse> {
        let promote = MemberChange::Promote(MemberId(request.id));
        let members = self.change_as_etcd(context, promote).await?;
        Ok(Answered::unstamped(MemberPromoteResponse {
            header: Some(self.member_header()),
            members,
        }))
    }

    /// Hands leadership over; only the leader does.
    pub async fn move_leader(
        &self,
        _: &Context,
        request: MoveLeaderRequest,
    ) -> Outcome<MoveLeaderResponse> {
        let status = self.handle.status();
        if status.raft.leader != Some(status.raft.id) {
            return Err(Status::NOT_LEADER);
        }
        let mut voters = status.raft.configuration.voters.iter();
        if !voters.any(|voter| voter.member.0 == request.target_id) {
            return Err(Status::BAD_LEADER_TRANSFEREE);
        }
        match self
            .handle
            .transfer_leadership(Some(request.target_id))
            .await
        {
            Ok(()) => Ok(Answered::unstamped(MoveLeaderResponse::default())),
            Err(Failure::NoLeader) => Err(Status::new(
                Code::Unknown,
                "etcdserver: request timed out, leader transfer took too long",
            )),
            Err(failure) => Err(failure::status(failure)),
        }
    }

    /// Tells whether etcd of this version could go back to another. Members of synod do not become members of an older etcd: to go back, keys are
    /// taken out as a snapshot.
    pub async fn downgrade(
        &self,
        context: &Context,
        request: DowngradeRequest,
    ) -> Outcome<DowngradeResponse> {
        let action = DowngradeAction::try_from(request.action)
            .map_err(|_| Status::new(Code::Unknown, "etcdserver: unknown method"))?;
        if action != DowngradeAction::Cancel {
            etcd::downgrade_target(&request.version, CLUSTER_VERSION)?;
        }
        let stamp = self.position(context).await?;
        if action == DowngradeAction::Enable {
            return Err(Status::new(
                Status::NOT_CAPABLE.code,
                format!(
                    "{}: synod takes no part in downgrades of etcd; to go back to etcd, save a snapshot and restore it there",
                    Status::NOT_CAPABLE.text
                ),
            ));
        }
        // Nothing is under way that could be cancelled; etcd says no more than this either.
        let (major, minor) = CLUSTER_VERSION;
        Ok(Answered {
            message: DowngradeResponse {
                header: Some(self.header()),
                version: format!("{major}.{minor}"),
            },
            stamp: Some(stamp),
        })
    }

    /// Lists the members with what each is at the moment.
    pub async fn list_members(
        &self,
        context: &Context,
        _: ListMembersRequest,
    ) -> Outcome<ListMembersResponse> {
        let stamp = self.position(context).await?;
        let leader = self.handle.status().raft.leader;
        Ok(Answered {
            message: ListMembersResponse {
                header: Some(self.header()),
                members: self.infos(&self.decided().await),
                leader: leader.map_or(0, |leader| leader.member.0),
            },
            stamp: Some(stamp),
        })
    }

    /// Makes several changes at once.
    pub async fn change_members(
        &self,
        context: &Context,
        request: ChangeMembersRequest,
    ) -> Outcome<ChangeMembersResponse> {
        let mut added = Vec::new();
        let changes = request.changes.into_iter().map(|change| {
            Ok(match change.change {
                Some(Change::Add(add)) => {
                    let id = random_id();
                    added.push(id);
                    MemberChange::Add {
                        member: MemberId(id),
                        peer_addresses: add.peer_addresses,
                        stays_learner: add.learner,
                        replaces: Some(MemberId(add.replaces)).filter(|id| id.0 != 0),
                    }
                }
                Some(Change::Promote(id)) => MemberChange::Promote(MemberId(id)),
                Some(Change::Remove(id)) => MemberChange::Remove(MemberId(id)),
                Some(Change::Move(change)) => MemberChange::Move {
                    member: MemberId(change.member),
                    peer_addresses: change.peer_addresses,
                },
                None => {
                    let text = "synod: a change of members that is not known here";
                    return Err(Status::new(Code::InvalidArgument, text));
                }
            })
        });
        let changes: Vec<MemberChange> = changes.collect::<Result<_, _>>()?;
        let request = ChangeRequest {
            changes,
            as_etcd: false,
        };
        self.check_leader(context)?;
        let change = self.handle.change_members(request);
        let configuration = match tokio::time::timeout(REQUEST_TIMEOUT, change).await {
            Ok(Ok(configuration)) => configuration,
            // For people: the reason in words, not in etcd's.
            Ok(Err(Failure::MembershipRefused(refusal))) => {
                let code = match refusal.reason {
                    RefusalReason::UnknownMember => Code::NotFound,
                    RefusalReason::Invalid => Code::InvalidArgument,
                    _ => Code::FailedPrecondition,
                };
                return Err(Status::new(code, refusal.text));
            }
            Ok(Err(failure)) => return Err(failure::status(failure)),
            Err(_) => return Err(Status::TIMED_OUT),
        };
        Ok(Answered::unstamped(ChangeMembersResponse {
            header: Some(self.header()),
            members: self.infos(&configuration),
            added,
        }))
    }

    async fn change_as_etcd(
        &self,
        context: &Context,
        change: MemberChange,
    ) -> Result<Vec<Member>, Status> {
        self.check_leader(context)?;
        let request = ChangeRequest {
            changes: vec![change],
            as_etcd: true,
        };
        let configuration = within(REQUEST_TIMEOUT, self.handle.change_members(request)).await?;
        Ok(self.members(&configuration))
    }

    /// Waits until this member has seen all that was decided before.
    async fn position(&self, context: &Context) -> Result<replica::Stamp, Status> {
        let read = Read {
            query: Query::Position,
            serializable: false,
        };
        let (_, _, stamp) = self.read(context, read, REQUEST_TIMEOUT).await?;
        Ok(stamp)
    }

    async fn decided(&self) -> Configuration {
        let status = self.handle.status_now().await;
        Configuration::clone(&status.raft.configuration_decided)
    }

    fn members(&self, configuration: &Configuration) -> Vec<Member> {
        let members = self.handle.members_of(configuration);
        members.into_iter().map(member).collect()
    }

    fn infos(&self, configuration: &Configuration) -> Vec<MemberInfo> {
        let info = |view: MemberView| {
            let member = &configuration.members[&MemberId(view.id)];
            let role = match (view.votes, view.is_learner) {
                (true, _) => MemberRole::Voter,
                (false, true) => MemberRole::Learner,
                (false, false) => MemberRole::Joining,
            };
            MemberInfo {
                id: view.id,
                name: view.name,
                peer_addresses: view.peer_addresses,
                client_addresses: view.client_addresses,
                role: role.into(),
                replaces: member.replaces.map_or(0, |id| id.0),
                priority: member.priority,
                incarnation: member.incarnation.0,
            }
        };
        let members = self.handle.members_of(configuration);
        members.into_iter().map(info).collect()
    }

    /// etcd leaves the revision out of these.
    fn member_header(&self) -> ResponseHeader {
        ResponseHeader {
            revision: 0,
            ..self.header()
        }
    }
}

/// A member as a message.
pub(crate) fn member(view: MemberView) -> Member {
    let urls = |addresses: &[String]| {
        addresses
            .iter()
            .map(|address| match address.contains("://") {
                true => address.clone(),
                false => format!("http://{address}"),
            })
            .collect()
    };
    Member {
        id: view.id,
        peer_ur_ls: urls(&view.peer_addresses),
        client_ur_ls: urls(&view.client_addresses),
        name: view.name,
        is_learner: view.is_learner,
    }
}
