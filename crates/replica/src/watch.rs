//! What watch streams ask for and hear (PROPERTIES W1–W12).

use state::KeyValue;
use state::auth::{AuthRejection, Caller};
use std::sync::Arc;

/// A request on a watch stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WatchRequest {
    /// Begin a watch.
    Create(WatchCreate),
    /// End one.
    Cancel {
        /// Which.
        watch: i64,
    },
    /// Tell how far the whole stream has come, once all of its watches have reached that point.
    Progress,
}

/// A watch to begin.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WatchCreate {
    /// On whose behalf: it must be allowed to read all keys of the range when the watch begins.
    pub caller: Caller,
    /// Its id on the stream; 0 lets the hub choose.
    pub watch: i64,
    /// First key.
    pub key: bytes::Bytes,
    /// First key after the range (empty: the single key; one zero byte: from `key` on).
    pub range_end: bytes::Bytes,
    /// First revision wanted; 0: from now on.
    pub start_revision: i64,
    /// Hear of progress when idle.
    pub progress_notify: bool,
    /// Leave out puts.
    pub no_put: bool,
    /// Leave out deletes.
    pub no_delete: bool,
    /// Give the previous state with each event.
    pub prev_kv: bool,
    /// Large revisions may come in marked fragments.
    pub fragment: bool,
}

/// A response on a watch stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchResponse {
    /// The watch; -1 for the progress of the whole stream.
    pub watch: i64,
    /// The revision of the state when it was made; for progress: the mark.
    pub revision: i64,
    /// What it says.
    pub body: WatchBody,
}

/// What a watch response says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WatchBody {
    /// The watch has begun.
    Created,
    /// It was not begun; the reason is etcd's text (a duplicate id, say).
    Refused(String),
    /// It was not begun: users and permissions stand against it.
    Denied(AuthRejection),
    /// It ended at the client's wish.
    Canceled,
    /// It ended because its next revision was compacted away (W11).
    Compacted {
        /// The oldest readable revision.
        compacted: i64,
    },
    /// Changes, whole revisions in order.
    Events {
        /// The changes.
        events: Vec<Arc<Event>>,
        /// More of the last revision follows (only if the watch allows fragments).
        fragment: bool,
    },
    /// Nothing at or below `revision` will follow (W6).
    Progress,
}

/// One change, made once per change and shared by all streams that hear of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The key was removed.
    pub deleted: bool,
    /// The key after the change; for a removal only key and mod revision.
    pub kv: KeyValue,
    /// The key before it, if a watch asked for it and history still has it.
    pub prev: Option<KeyValue>,
}
