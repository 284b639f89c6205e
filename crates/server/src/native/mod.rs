//! The native API on a running member, without framing: gRPC and JSON stand on these (docs/operate/native.md).

mod calls;
mod issue;
mod lease;
mod observe;
mod sign;
mod watch;

pub(crate) use calls::{call, call_stream};
pub(crate) use issue::Issuers;
pub(crate) use lease::{renew_lease, renew_session};
pub(crate) use sign::verifying_keys;

use crate::grpc::context::Context;
use crate::grpc::door::{Answered, Door, Outcome, Patience, REQUEST_TIMEOUT};
use etcd::{Code, Read, Status};
use native::{Ask, Change, Headed, Header, Level};
use replica::{Consistency, Stamp};
use std::time::Duration;

/// How long a read may take that waits for a stamp, or has much to read.
const READ_TIMEOUT: Duration = Duration::from_secs(60);

/// The calls, on behalf of one request.
#[derive(Clone, Copy)]
pub(crate) struct Native<'a> {
    /// Those of the member.
    pub door: &'a Door,
    /// What the request says beside its message.
    pub context: &'a Context,
}

impl Native<'_> {
    /// Makes a change and gives its answer.
    pub async fn change<R: Headed>(&self, change: Change<R>) -> Outcome<R> {
        let patience = if change.waits {
            Patience::Caller
        } else {
            Patience::Request
        };
        let (command, answer) = change.split();
        let decided = self.door.change_within(self.context, command, patience);
        let (header, reply, stamp) = decided.await?;
        Ok(Answered {
            message: answer(stamped(&header, stamp), reply)?,
            stamp: Some(stamp),
        })
    }

    /// Asks and gives the answer.
    pub async fn ask<R: Headed>(&self, ask: Ask<R>) -> Outcome<R> {
        let mut context = self.context.clone();
        let mut timeout = REQUEST_TIMEOUT;
        if let Some(level) = &ask.level {
            context.consistency = Some(consistency(level)?);
            timeout = READ_TIMEOUT;
        }
        let read = Read {
            query: ask.query.clone(),
            serializable: false,
        };
        let (header, answer, stamp) = self.door.read(&context, read, timeout).await?;
        Ok(Answered {
            message: ask.answer(stamped(&header, stamp), answer)?,
            stamp: Some(stamp),
        })
    }
}

/// The header of an answer.
fn stamped(header: &etcd::Header, stamp: Stamp) -> Header {
    Header {
        stamp: stamp.to_string(),
        revision: header.revision,
        member: header.member,
    }
}

fn consistency(level: &Level) -> Result<Consistency, Status> {
    Ok(match level {
        Level::Linearizable => Consistency::Linearizable,
        Level::AtLeast(stamp) => Consistency::AtLeast(stamp.parse().map_err(|_| {
            let text = format!("consistency.stamp: {stamp:?} is not a stamp; pass one back as it came with an earlier answer");
            Status::new(Code::InvalidArgument, text)
        })?),
        Level::Bounded(ms) => Consistency::Bounded(Duration::from_millis(*ms)),
        Level::Local => Consistency::Local,
    })
}

/// A number for an acquisition whose caller has none.
fn random_id() -> Result<u64, Status> {
    // Never 0: a lease's is not either.
    crate::grpc::door::random_lease_id().map(|id| id as u64)
}
