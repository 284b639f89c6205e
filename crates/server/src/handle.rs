//! What the doors hold of a running member: requests in, outcomes out.

use replica::{Consistency, Failure, Response, Status, WatchRequest, WatchResponse};
use state::{Command, Query};
use std::sync::Arc;

/// A door's way to the node loop. Cheap to clone. Dropping a call's future cancels the request's reply, not the request.
#[derive(Clone)]
pub struct Handle {}

impl Handle {
    /// Proposes a change and waits for its outcome.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn propose(&self, _command: Command) -> Result<Response, Failure> {
        todo!()
    }

    /// Renews a lease; many calls of one turn ride in one log entry.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn keep_alive(&self, _lease: i64) -> Result<Response, Failure> {
        todo!()
    }

    /// Reads.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn read(&self, _consistency: Consistency, _query: Query) -> Result<Response, Failure> {
        todo!()
    }

    /// Opens a watch stream.
    pub fn watch(&self) -> WatchStream {
        todo!()
    }

    /// What the member said of itself last (refreshed every turn of the loop that changed something).
    pub fn status(&self) -> Arc<Status> {
        todo!()
    }

    /// The cluster's id.
    pub fn cluster(&self) -> u64 {
        todo!()
    }

    /// This member's id.
    pub fn member(&self) -> u64 {
        todo!()
    }

    /// Asks the leader to hand over; ends when another member leads or after a few seconds.
    pub async fn transfer_leadership(&self, _target: Option<u64>) -> Result<(), Failure> {
        todo!()
    }
}

/// A watch stream of one connection. Closing is dropping.
pub struct WatchStream {}

impl WatchStream {
    /// Sends a request; waits while the loop's queue is full.
    pub async fn request(&self, _request: WatchRequest) {
        todo!()
    }

    /// The next response; `None` when the member stops. Credits are given as responses are taken, so a slow reader holds back only itself.
    pub async fn next(&mut self) -> Option<WatchResponse> {
        todo!()
    }
}
