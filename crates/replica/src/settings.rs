//! Limits and timing of a member.

use crate::AutoCompaction;
use std::time::Duration;

/// Limits and timing of a member.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Of consensus.
    pub raft: raft::Settings,
    /// Of the state.
    pub state: state::Settings,
    /// The rest.
    pub limits: Limits,
    /// How much history a leader keeps without being asked.
    pub auto_compaction: AutoCompaction,
    /// What the cell's configuration is to say of this member; it sees to that itself. `None`: it leaves the configuration as it is.
    pub advertised: Option<Advertised>,
}

/// What the other members and their clients are told of this one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Advertised {
    /// Where members reach it, as `host:port`.
    pub peer_addresses: Vec<String>,
    /// Where clients reach it, as `host:port`.
    pub client_addresses: Vec<String>,
    /// The newest behaviour it knows (PROPERTIES U1).
    pub feature_level: u32,
    /// Preference in elections and transfers: a higher one is preferred.
    pub priority: u32,
}

/// Bounds of the queues of a member, each with what happens when it is full.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Bytes of one command at most; larger ones are refused ([`Failure::TooLarge`]).
    pub command_bytes_max: usize,
    /// Live and history bytes of the state at most; in force is the leader's. `None`: it leaves the limit as it is.
    pub state_bytes_max: Option<u64>,
    /// Commands waiting for their outcome at most; more are refused ([`Failure::Overloaded`]).
    pub pending_commands_max: usize,
    /// Queries waiting or running at most; more are refused ([`Failure::Overloaded`]).
    pub pending_queries_max: usize,
    /// Work on queries in one turn, in the state's units of about a microsecond. A query that needs more than an eighth of it goes on beside others, a
    /// quarter at a time.
    pub query_units: u64,
    /// Bytes of commands in one batch at most.
    pub batch_bytes_max: usize,
    /// A snapshot is taken when the log since the last one exceeds this and the size of the state.
    pub snapshot_log_bytes: u64,
    /// Entries kept in the log behind a snapshot, for followers a little behind.
    pub snapshot_keep_entries: u64,
    /// Watches at most; more are refused, and told why.
    pub watches_max: usize,
    /// Watches of one stream at most; more are refused, and told why.
    pub stream_watches_max: usize,
    /// Leases of the cell at which this member proposes no more ([`Failure::TooManyLeases`]).
    pub leases_max: usize,
    /// Events read from history at once for watches that are behind, and so in one response to them, but whole revisions (PROPERTIES W12). A stream that
    /// takes no more has none waiting: it is fed from history when it reads again.
    pub watch_buffer_events: usize,
    /// How often an idle watch that asked for progress hears of it.
    pub watch_progress_interval: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            command_bytes_max: 3 << 19,
            state_bytes_max: None,
            pending_commands_max: 65_536,
            pending_queries_max: 65_536,
            query_units: 512,
            batch_bytes_max: 256 << 10,
            snapshot_log_bytes: 64 << 20,
            snapshot_keep_entries: 10_000,
            watches_max: 1_000_000,
            stream_watches_max: 250_000,
            leases_max: 1_000_000,
            watch_buffer_events: 1024,
            watch_progress_interval: Duration::from_secs(600),
        }
    }
}
