//! The lock service: names held for as long as a lease lives.

use super::context::Context;
use super::door::{Answered, Door, Outcome};
use super::queue::{Candidate, unknown};
use bytes::Bytes;
use etcd::{Code, Status};
use proto::etcdserverpb::DeleteRangeRequest;
use proto::v3lockpb::{LockRequest, LockResponse, UnlockRequest, UnlockResponse};

/// The place of a waiter went away before its turn came.
const SESSION_EXPIRED: &str = "mutex: session is expired";

impl Door {
    /// Waits until a name is free and takes it.
    pub async fn lock(&self, context: &Context, request: LockRequest) -> Outcome<LockResponse> {
        let mut candidate = Candidate::new(self, context, &request.name, request.lease).await?;
        let (entered, mut stamp) = candidate.enter(Bytes::new()).await?;
        let mut header = entered.header;
        if !entered.first {
            (header, stamp) = candidate
                .wait(&entered.place)
                .await?
                .ok_or_else(|| Status::new(Code::Unknown, SESSION_EXPIRED))?;
        }
        candidate.arrived();
        Ok(Answered {
            message: LockResponse {
                header: Some(header),
                key: entered.place.key,
            },
            stamp,
        })
    }

    /// Gives a name back, or a place in its queue.
    pub async fn unlock(
        &self,
        context: &Context,
        request: UnlockRequest,
    ) -> Outcome<UnlockResponse> {
        let delete = DeleteRangeRequest {
            key: request.key,
            ..Default::default()
        };
        let deleted = self.delete_range(context, delete).await.map_err(unknown)?;
        Ok(deleted.map(|deleted| UnlockResponse {
            header: deleted.header,
        }))
    }
}
