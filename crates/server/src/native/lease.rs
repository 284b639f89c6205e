//! Leases, names of leases, and sessions: the calls that take more than one step.

use super::{Native, stamped};
use crate::grpc::context::Context;
use crate::grpc::door::{
    Answered, Door, Outcome, REQUEST_TIMEOUT, random_lease_id, unexpected, within,
};
use etcd::{Advice, Code, Read, Status};
use futures_util::future::BoxFuture;
use native::{Header, Txn};
use proto::synod::v1;
use replica::Body;
use state::Rejection;
use std::sync::Arc;

/// A renewal on a stream; a lease that is gone is told by a time to live of 0.
pub(crate) fn renew_lease(
    door: Door,
    context: Arc<Context>,
    request: v1::RefreshRequest,
) -> BoxFuture<'static, Result<v1::RefreshResponse, Status>> {
    Box::pin(async move {
        let native = Native {
            door: &door,
            context: &context,
        };
        let id = native.lease_of(request.id, &request.name).await;
        let gone = |status: &Status| status.code == Code::NotFound;
        let (id, header, ttl_ms) = match id {
            Ok(id) => {
                let kept = native.keep_alive(id).await;
                let ((header, _), ttl_ms) = kept.map_err(native::advised)?;
                (id, header, ttl_ms)
            }
            Err(status) if gone(&status) => (0, native.unread(), None),
            Err(status) => return Err(native::advised(status)),
        };
        Ok(header.on(v1::RefreshResponse {
            header: None,
            id,
            ttl_ms: ttl_ms.unwrap_or(0),
        }))
    })
}

/// The same for sessions.
pub(crate) fn renew_session(
    door: Door,
    context: Arc<Context>,
    request: v1::RefreshSessionRequest,
) -> BoxFuture<'static, Result<v1::RefreshSessionResponse, Status>> {
    Box::pin(async move {
        let native = Native {
            door: &door,
            context: &context,
        };
        let session = request.session;
        let kept = native.keep_alive(session).await;
        let ((header, _), ttl_ms) = kept.map_err(native::advised)?;
        Ok(header.on(v1::RefreshSessionResponse {
            header: None,
            session,
            ttl_ms: ttl_ms.unwrap_or(0),
        }))
    })
}

impl Native<'_> {
    /// Runs a transaction.
    pub async fn txn(&self, request: v1::TxnRequest) -> Outcome<v1::TxnResponse> {
        match native::txn(request, self.door.txn_operations_max)? {
            Txn::Write(change) => self.change(change).await,
            Txn::Read(ask) => self.ask(ask).await,
        }
    }

    /// Renews a lease by its id or its name.
    pub async fn refresh(&self, request: v1::RefreshRequest) -> Outcome<v1::RefreshResponse> {
        let id = self.lease_of(request.id, &request.name).await?;
        let ((header, stamp), ttl_ms) = self.keep_alive(id).await?;
        Ok(Answered {
            message: native::refreshed(header, id, ttl_ms)?,
            stamp: Some(stamp),
        })
    }

    /// Renews a session.
    pub async fn refresh_session(
        &self,
        request: v1::RefreshSessionRequest,
    ) -> Outcome<v1::RefreshSessionResponse> {
        let ((header, stamp), ttl_ms) = self.keep_alive(request.session).await?;
        Ok(Answered {
            message: native::refreshed_session(header, request.session, ttl_ms)?,
            stamp: Some(stamp),
        })
    }

    /// Tells the remaining time of a lease by its id or its name.
    pub async fn get_lease(
        &self,
        mut request: v1::GetLeaseRequest,
    ) -> Outcome<v1::GetLeaseResponse> {
        request.id = self.lease_of(request.id, &request.name).await?;
        self.ask(native::get_lease(request)?).await
    }

    /// Opens a session: its lease and its client record ride in one batch.
    pub async fn open_session(
        &self,
        request: v1::OpenSessionRequest,
    ) -> Outcome<v1::OpenSessionResponse> {
        let ttl_ms = request.ttl_ms;
        let (lease, client) = native::open_session(&request, random_lease_id()?)?;
        // The first one polled is proposed first.
        let (leased, opened) = tokio::join!(self.change(lease), self.change(client));
        match (leased, opened) {
            // Repeated, it finds what it opened.
            (Err(status), opened) if is_reason(&status, "lease-exists") => opened,
            (Err(status), _) => Err(status),
            // The second overtook the first, which was asked again with newer rights.
            (Ok(leased), Err(status)) if is_reason(&status, "session-not-found") => {
                let session = leased.message.id;
                self.change(native::client(session, ttl_ms)?).await
            }
            (Ok(_), opened) => opened,
        }
    }

    /// Makes a lease that has a name, or none if the name is taken.
    pub async fn register(&self, request: v1::RegisterRequest) -> Outcome<v1::RegisterResponse> {
        if request.name.is_empty() {
            let text = "name: 0 bytes are too few, at least 1";
            return Err(Status::new(Code::InvalidArgument, text));
        }
        let granting = v1::GrantRequest {
            change: None,
            id: request.id,
            ttl_ms: request.ttl_ms,
        };
        let chosen = random_lease_id()?;
        let id = if request.id == 0 { chosen } else { request.id };
        let ttl_ms = request.ttl_ms;
        let grant = native::grant(granting, chosen)?;
        let named = native::register(request, id, ttl_ms)?;
        let (granted, registered) = tokio::join!(self.change(grant), self.change(named));
        match granted {
            // Repeated, it finds the name it has.
            Err(status) if is_reason(&status, "lease-exists") => registered.map_err(taken),
            Err(status) => Err(status),
            Ok(_) => match registered {
                Ok(registered) => Ok(registered),
                Err(status) => {
                    let revoke = native::revoke(v1::RevokeRequest { change: None, id })?;
                    // If this fails, the lease ends by itself.
                    let _ = self.change(revoke).await;
                    Err(taken(status))
                }
            },
        }
    }

    /// The lease of an id or a name.
    async fn lease_of(&self, id: i64, name: &str) -> Result<i64, Status> {
        match (id, name.is_empty()) {
            (0, true) => Err(Status::new(
                Code::InvalidArgument,
                "id, name: give one of them",
            )),
            (id, true) => Ok(id),
            (0, false) => {
                let read = Read {
                    query: native::named(name),
                    serializable: false,
                };
                let asked = self.door.read(self.context, read, REQUEST_TIMEOUT).await?;
                if let state::Answer::Rejected(rejection) = asked.1 {
                    return Err(native::refusal(rejection));
                }
                let holder = native::holder(asked.1);
                let session = holder.map(|holder| holder.claimant.session);
                session.ok_or_else(|| native::refusal(Rejection::LeaseNotFound))
            }
            (_, false) => Err(Status::new(
                Code::InvalidArgument,
                "id, name: give one of them, not both",
            )),
        }
    }

    /// Renews a lease; its time to live, if there is such a lease.
    async fn keep_alive(&self, id: i64) -> Result<((Header, replica::Stamp), Option<u64>), Status> {
        self.door.check_user(self.context)?;
        let response = within(REQUEST_TIMEOUT, self.door.handle.keep_alive(id)).await?;
        let (header, body, stamp) = self.door.opened(response);
        let Body::KeepAlive(ttl_ms) = body else {
            return Err(unexpected());
        };
        Ok(((stamped(&header, stamp), stamp), ttl_ms))
    }

    /// The header of an answer that read nothing.
    pub fn unread(&self) -> Header {
        let status = self.door.handle.status();
        Header {
            stamp: String::new(),
            revision: status.revision,
            member: self.door.handle.member(),
        }
    }
}

fn is_reason(status: &Status, reason: &str) -> bool {
    status.advice.is_some_and(|advice| advice.reason == reason)
}

/// The name of a lease is taken, if that is what a lock's refusal says.
fn taken(status: Status) -> Status {
    if !is_reason(&status, "lock-busy") {
        return status;
    }
    let text = "a live lease has this name; wait until it ends, or choose another name";
    Status::new(Code::AlreadyExists, text).advised(Advice::permanent("lease-name-taken"))
}
