//! The whole state of a cluster, streamed.

use crate::call::Kind;
use crate::{Client, ClientError};
use bytes::Bytes;
use proto::synodpb as own;
use proto::synodpb::backup_client::BackupClient;
use std::time::Duration;
use tokio::time::timeout;
use tonic::Streaming;

/// A member first writes all of its state to its disk; how long it may be silent, unless requests have more time.
const SILENCE_MAX: Duration = Duration::from_secs(120);

/// A state on its way here.
pub struct Saving {
    pieces: Streaming<own::SaveResponse>,
    patience: Duration,
}

impl Client {
    /// Asks for the whole state, as it is now or a little newer, at this speed at most; 0 leaves that to the member.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn save(&self, bytes_per_second: u64) -> Result<Saving, ClientError> {
        let request = own::SaveRequest { bytes_per_second };
        let answer = self
            .unary(Kind::Read, request, async |channel, request| {
                BackupClient::new(channel)
                    .max_decoding_message_size(usize::MAX)
                    .save(request)
                    .await
            })
            .await?;
        Ok(Saving {
            pieces: answer.message,
            patience: self.timeout.max(SILENCE_MAX),
        })
    }
}

impl Saving {
    /// The next bytes, and how many are still to come. The last of all is the SHA-256 of the bytes before; then comes nothing.
    ///
    /// # Errors
    /// The member ended it, or fell silent: what came so far is of no use.
    pub async fn next(&mut self) -> Result<Option<Piece>, ClientError> {
        let message = timeout(self.patience, self.pieces.message())
            .await
            .map_err(|_| ClientError::Unreachable {
                reason: format!("no part of the state came for {:?}", self.patience),
            })?
            .map_err(|status| ClientError::of("the stream of the state", &status))?;
        Ok(message.map(|message| match &message.sha256[..] {
            [] => Piece::Content {
                bytes: message.piece,
                remaining: message.remaining_bytes,
            },
            sha => Piece::End {
                sha256: Bytes::copy_from_slice(sha),
            },
        }))
    }
}

/// A part of a stream of the state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// Some of the state.
    Content {
        /// The bytes.
        bytes: Bytes,
        /// How many follow.
        remaining: u64,
    },
    /// There is no more.
    End {
        /// Of all that came before.
        sha256: Bytes,
    },
}
