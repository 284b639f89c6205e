//! The state as a file that etcd's own tools read, streamed as it is written.
//!
//! The member makes a durable snapshot of its own first; a thread of lower priority tells it as etcd's and waits whenever the client does. Neither
//! holds up anybody else, and what it needs in memory does not grow with the values.

use super::cluster::member;
use super::context::Context;
use super::door::Door;
use super::failure;
use crate::OpenSnapshot;
use bytes::Bytes;
use etcd::export::{Export, ExportError};
use etcd::{Code, Status};
use futures_util::Stream;
use proto::etcdserverpb::{Member, SnapshotRequest, SnapshotResponse};
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

/// Clients that may take the state at the same time.
pub(crate) const EXPORTS_MAX: usize = 4;

/// Pieces on the way to a client.
const PIECES_WAITING: usize = 8;

/// How much a thread steps back behind those that answer clients.
const NICENESS: i32 = 10;

type Pieces = mpsc::Sender<Result<SnapshotResponse, Status>>;

impl Door {
    /// Streams the state as it is when the call arrives, or a little newer, as a bbolt file; the SHA-256 of it comes last.
    pub fn snapshot(
        &self,
        _: &Context,
        _: SnapshotRequest,
    ) -> impl Stream<Item = Result<SnapshotResponse, Status>> + Send + use<> {
        let (pieces, stream) = mpsc::channel(PIECES_WAITING);
        let door = self.clone();
        tokio::spawn(async move {
            if let Err(status) = door.export(&pieces).await {
                let _ = pieces.send(Err(status)).await;
            }
        });
        ReceiverStream::new(stream)
    }

    async fn export(&self, pieces: &Pieces) -> Result<(), Status> {
        let room = self
            .exports
            .clone()
            .try_acquire_owned()
            .map_err(|_| Status::TOO_MANY_REQUESTS)?;
        tokio::select! {
            taken = self.handle.checkpoint() => taken.map_err(failure::status)?,
            () = pieces.closed() => return Ok(()),
        }
        let snapshot = self.handle.open_snapshot().await.map_err(unreadable)?;
        let members: Vec<_> = self.handle.members().into_iter().map(member).collect();
        let pieces = pieces.clone();
        let write = move || {
            // Its own priority only: this is how Linux counts threads. Without it the thread is merely less polite.
            let _ = rustix::process::setpriority_process(None, NICENESS);
            if let Err(status) = write(&snapshot, &members, &pieces) {
                let _ = pieces.blocking_send(Err(status));
            }
            drop(room);
        };
        std::thread::Builder::new()
            .name("export".into())
            .spawn(write)
            .map_err(|error| unreadable(error.to_string()))?;
        Ok(())
    }
}

fn write(snapshot: &OpenSnapshot, members: &[Member], pieces: &Pieces) -> Result<(), Status> {
    let export = Export::plan(snapshot, members).map_err(refusal)?;
    let mut remaining = export.bytes();
    let mut sha = Sha256::new();
    let written = export.write(|piece| {
        sha.update(&piece);
        remaining -= piece.len() as u64;
        pieces.blocking_send(Ok(response(remaining, piece))).is_ok()
    });
    match written {
        Err(ExportError::Stopped) => Ok(()),
        Err(error) => Err(refusal(error)),
        Ok(()) => {
            let _ = pieces.blocking_send(Ok(response(0, sha.finalize().to_vec())));
            Ok(())
        }
    }
}

fn response(remaining_bytes: u64, blob: Vec<u8>) -> SnapshotResponse {
    SnapshotResponse {
        header: None,
        remaining_bytes,
        blob: Bytes::from(blob),
        version: etcd::CLUSTER_VERSION.into(),
    }
}

fn refusal(error: ExportError) -> Status {
    match error {
        ExportError::Removing => Status::new(
            Code::Unavailable,
            "etcdserver: a large removal is being written down, try again",
        ),
        error => unreadable(error.to_string()),
    }
}

fn unreadable(why: String) -> Status {
    tracing::warn!(why, "the state could not be told as a snapshot");
    Status::new(
        Code::Unavailable,
        format!("etcdserver: the snapshot cannot be read: {why}"),
    )
}
