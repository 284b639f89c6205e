//! The state handed out whole, as a stream: as a file that etcd's own tools read, or as a snapshot of ours for `synod snapshot`.
//!
//! The member makes a durable snapshot of its own first; a thread of lower priority tells it on and waits whenever the client does. Neither
//! holds up anybody else, and what it needs in memory does not grow with the values.

use super::cluster::member;
use super::context::Context;
use super::door::Door;
use super::failure;
use crate::OpenSnapshot;
use bytes::Bytes;
use etcd::bolt::Source;
use etcd::export::{Export, ExportError};
use etcd::{Code, Status};
use futures_util::Stream;
use proto::etcdserverpb::{Member, SnapshotRequest, SnapshotResponse};
use proto::synodpb::{SaveRequest, SaveResponse};
use sha2::{Digest, Sha256};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

/// Clients that may take the state at the same time.
pub(crate) const EXPORTS_MAX: usize = 4;

/// Pieces on the way to a client.
const PIECES_WAITING: usize = 8;
/// Bytes of a snapshot of ours read and sent at once.
const PIECE_BYTES: usize = 64 << 10;
/// Speed of a client that names none: a gigabyte in half a minute, which leaves most of a disk and of a core to those who write.
const BYTES_PER_SECOND: u64 = 32 << 20;

/// How much a thread steps back behind those that answer clients.
const NICENESS: i32 = 10;

type Pieces<M> = mpsc::Sender<Result<M, Status>>;

impl Door {
    /// Streams the state as it is when the call arrives, or a little newer, as a bbolt file; the SHA-256 of it comes last.
    pub fn snapshot(
        &self,
        _: &Context,
        _: SnapshotRequest,
    ) -> impl Stream<Item = Result<SnapshotResponse, Status>> + Send + use<> {
        let members: Vec<_> = self.handle.members().into_iter().map(member).collect();
        self.hand_out(move |snapshot, pieces| export(snapshot, &members, pieces))
    }

    /// Streams the same state in our own form, with everything in it.
    pub fn save(
        &self,
        _: &Context,
        request: SaveRequest,
    ) -> impl Stream<Item = Result<SaveResponse, Status>> + Send + use<> {
        let speed = match request.bytes_per_second {
            0 => BYTES_PER_SECOND,
            asked => asked,
        };
        self.hand_out(move |snapshot, pieces| save(snapshot, speed, pieces))
    }

    /// Has `tell` write a fresh durable snapshot to the client, on a thread of its own.
    fn hand_out<M: Send + 'static>(
        &self,
        tell: impl FnOnce(&OpenSnapshot, &Pieces<M>) -> Result<(), Status> + Send + 'static,
    ) -> ReceiverStream<Result<M, Status>> {
        let (pieces, stream) = mpsc::channel(PIECES_WAITING);
        let begun = begin(self.clone(), pieces.clone(), tell);
        tokio::spawn(async move {
            if let Err(status) = begun.await {
                let _ = pieces.send(Err(status)).await;
            }
        });
        ReceiverStream::new(stream)
    }
}

async fn begin<M: Send + 'static>(
    door: Door,
    pieces: Pieces<M>,
    tell: impl FnOnce(&OpenSnapshot, &Pieces<M>) -> Result<(), Status> + Send + 'static,
) -> Result<(), Status> {
    let room = door
        .exports
        .clone()
        .try_acquire_owned()
        .map_err(|_| Status::TOO_MANY_REQUESTS)?;
    tokio::select! {
        taken = door.handle.checkpoint() => taken.map_err(failure::status)?,
        () = pieces.closed() => return Ok(()),
    }
    let snapshot = door.handle.open_snapshot().await.map_err(unreadable)?;
    let write = move || {
        // Its own priority only: this is how Linux counts threads. Without it the thread is merely less polite.
        let _ = rustix::process::setpriority_process(None, NICENESS);
        if let Err(status) = tell(&snapshot, &pieces) {
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

fn export(
    snapshot: &OpenSnapshot,
    members: &[Member],
    pieces: &Pieces<SnapshotResponse>,
) -> Result<(), Status> {
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

fn save(
    snapshot: &OpenSnapshot,
    bytes_per_second: u64,
    pieces: &Pieces<SaveResponse>,
) -> Result<(), Status> {
    let (length, begun) = (snapshot.length(), Instant::now());
    let mut sha = Sha256::new();
    let mut at = 0;
    while at < length {
        let mut piece = vec![0; (length - at).min(PIECE_BYTES as u64) as usize];
        snapshot.read(at, &mut piece).map_err(unreadable)?;
        sha.update(&piece);
        at += piece.len() as u64;
        let told = SaveResponse {
            piece: Bytes::from(piece),
            remaining_bytes: length - at,
            sha256: Bytes::new(),
        };
        if pieces.blocking_send(Ok(told)).is_err() {
            return Ok(());
        }
        let due = Duration::from_secs_f64(at as f64 / bytes_per_second as f64);
        std::thread::sleep(due.saturating_sub(begun.elapsed()));
    }
    let last = SaveResponse {
        piece: Bytes::new(),
        remaining_bytes: 0,
        sha256: Bytes::copy_from_slice(&sha.finalize()),
    };
    // Who has gone does not want it.
    let _ = pieces.blocking_send(Ok(last));
    Ok(())
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
