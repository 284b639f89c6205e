//! What the clients of a run recorded, one line of JSON each; `conformance/client/record.go` writes them. Times are microseconds of the machine's
//! monotonic clock.

use crate::Outcome;
use serde::Deserialize;
use sim::recorded::{Change, KeyValue};
use std::path::Path;

/// One line.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Record {
    /// Which kind of operation or event.
    pub kind: String,
    /// Whose.
    pub client: i64,
    /// The member asked, counted from 0; below 0: whichever the client library chose.
    pub member: i64,
    /// When it was called, or happened.
    pub called: u64,
    /// When it returned.
    pub returned: u64,
    /// `ok`, `refused` (it took no effect) or `unknown`.
    pub outcome: String,
    /// The error of an outcome that is not `ok`.
    pub error: String,
    /// Of the answer's header.
    pub revision: i64,
    /// Of the answer's header.
    pub term: u64,
    /// The key, or the text of a mark.
    pub key: String,
    /// Written, or found by a read.
    pub value: Option<String>,
    /// By a swap.
    pub expected: Option<String>,
    /// By a swap that was refused.
    pub found: Option<String>,
    /// The revision at which the value found was set; of a watch that ended, the compacted revision.
    pub modified: i64,
    /// A serializable read.
    pub local: bool,
    /// The swap succeeded, the delete found something.
    pub done: bool,
    /// A lease.
    pub lease: i64,
    /// Its time to live in seconds.
    pub ttl: u64,
    /// The number of a watch.
    pub watch: i64,
    /// The end of its range.
    pub range_end: String,
    /// Where a watch begins; of an account, the revision of its hash.
    pub start: i64,
    /// The watch asked for previous values.
    pub previous: bool,
    /// The watch lives to the end.
    pub lasting: bool,
    /// Changes that a watch or an account shows, or the keys of a pair.
    pub events: Vec<Event>,
    /// Of a member's keys.
    pub hash: u32,
}

/// A change as told.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Event {
    /// The key was removed.
    pub deleted: bool,
    /// The key after it.
    pub kv: Key,
    /// The key before it.
    pub previous: Option<Key>,
}

/// A key as told.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Key {
    /// Its name.
    pub key: String,
    /// What it holds.
    pub value: String,
    /// When it was created.
    pub created: i64,
    /// When it was last changed.
    pub modified: i64,
    /// How often it was changed.
    pub version: i64,
    /// The lease it hangs on.
    pub lease: i64,
}

impl Key {
    /// The same in the oracles' terms.
    pub fn to_oracle(&self) -> KeyValue {
        KeyValue {
            key: self.key.clone().into(),
            value: self.value.clone().into(),
            create_revision: self.created,
            mod_revision: self.modified,
            version: self.version,
            lease: self.lease,
        }
    }
}

impl Event {
    /// The same in the oracles' terms.
    pub fn to_change(&self) -> Change {
        Change {
            revision: self.kv.modified,
            deleted: self.deleted,
            kv: self.kv.to_oracle(),
        }
    }
}

impl Record {
    /// It was answered well.
    pub fn ok(&self) -> bool {
        self.outcome == "ok"
    }

    /// It changes keys if it takes effect.
    pub fn writes(&self) -> bool {
        matches!(self.kind.as_str(), "put" | "put-pair" | "swap" | "delete")
    }

    /// A change that was answered well and did change something.
    pub fn changed(&self) -> bool {
        self.ok()
            && match self.kind.as_str() {
                "put" | "put-pair" => true,
                "swap" | "delete" => self.done,
                _ => false,
            }
    }
}

/// Reads a recorded history.
///
/// # Errors
/// When the file cannot be read or is none.
pub fn read(path: &Path) -> Outcome<Vec<Record>> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    // The load of a scenario that was broken off may have been killed in the midst of a line.
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let lines = whole.lines().enumerate();
    lines
        .map(|(at, line)| {
            serde_json::from_str(line)
                .map_err(|error| format!("{} line {}: {error}", path.display(), at + 1).into())
        })
        .collect()
}
