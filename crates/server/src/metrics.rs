//! What a member counts while it runs. Plain atomics that anybody may read; the door gives them names and a format.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// A number that only rises.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Relaxed);
    }

    /// Adds one.
    pub fn inc(&self) {
        self.add(1);
    }

    /// Reads.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// A number that rises and falls.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    /// Sets it.
    pub fn set(&self, n: u64) {
        self.0.store(n, Relaxed);
    }

    /// Reads.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Durations, counted in buckets that double.
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [Counter; Histogram::BOUNDS_MICROS.len()],
    count: Counter,
    sum_micros: Counter,
}

impl Histogram {
    /// Upper bounds of the buckets in microseconds; what is longer counts only in [`Histogram::count`].
    pub const BOUNDS_MICROS: [u64; 16] = [
        125, 250, 500, 1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 64_000, 128_000, 256_000,
        512_000, 1_024_000, 2_048_000, 4_096_000,
    ];

    /// Counts a duration.
    pub fn observe(&self, duration: Duration) {
        let micros = duration.as_micros() as u64;
        if let Some(bucket) = Self::BOUNDS_MICROS
            .iter()
            .position(|bound| micros <= *bound)
        {
            self.buckets[bucket].inc();
        }
        self.count.inc();
        self.sum_micros.add(micros);
    }

    /// How many were counted.
    pub fn count(&self) -> u64 {
        self.count.get()
    }

    /// Their sum in seconds.
    pub fn sum_seconds(&self) -> f64 {
        self.sum_micros.get() as f64 / 1e6
    }

    /// (upper bound in seconds, how many were at or below it), ascending.
    pub fn cumulative(&self) -> Vec<(f64, u64)> {
        let mut total = 0;
        let bounds = Self::BOUNDS_MICROS.iter().zip(&self.buckets);
        bounds
            .map(|(bound, bucket)| {
                total += bucket.get();
                (*bound as f64 / 1e6, total)
            })
            .collect()
    }
}

/// Histograms of other members.
#[derive(Debug, Default)]
pub struct ByMember(Mutex<BTreeMap<u64, Arc<Histogram>>>);

impl ByMember {
    /// Members remembered; those of the others that came and went are not counted.
    const MEMBERS_MAX: usize = 64;

    /// That of a member.
    pub fn of(&self, member: u64) -> Arc<Histogram> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= ByMember::MEMBERS_MAX && !known.contains_key(&member) {
            return Arc::default();
        }
        known.entry(member).or_default().clone()
    }

    /// All, by member.
    pub fn all(&self) -> Vec<(u64, Arc<Histogram>)> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known
            .iter()
            .map(|(member, histogram)| (*member, histogram.clone()))
            .collect()
    }
}

/// The connection on which a member speaks to another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PeerLink {
    /// It is up.
    pub connected: bool,
    /// How long the last answer took; 0 before the first.
    pub round_trip: Duration,
}

/// Connections to other members.
#[derive(Debug, Default)]
pub struct PeerLinks(Mutex<BTreeMap<u64, PeerLink>>);

impl PeerLinks {
    /// Notes something of a member's, unless too many are known.
    pub fn note(&self, member: u64, note: impl FnOnce(&mut PeerLink)) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() < ByMember::MEMBERS_MAX || known.contains_key(&member) {
            note(known.entry(member).or_default());
        }
    }

    /// All, by member; also those of members that left.
    pub fn all(&self) -> Vec<(u64, PeerLink)> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known
            .iter()
            .map(|(member, link)| (*member, *link))
            .collect()
    }
}

/// Everything a member counts.
#[derive(Debug, Default)]
pub struct Metrics {
    /// Turns of the node loop.
    pub loop_turns: Counter,
    /// Requests taken from the doors.
    pub requests: Counter,
    /// Requests refused because the loop's queue was full.
    pub requests_overloaded: Counter,
    /// Changes proposed here.
    pub proposals: Counter,
    /// Of them, those that ended without an answer.
    pub proposals_failed: Counter,
    /// Reads asked here.
    pub reads: Counter,
    /// Of them, those that ended without an answer.
    pub reads_failed: Counter,
    /// Changes of the known leader.
    pub leader_changes: Counter,
    /// Terms in which this member came to lead.
    pub leaderships: Counter,
    /// Messages queued for other members.
    pub peer_messages_sent: Counter,
    /// Messages dropped because the connection was down.
    pub peer_messages_dropped_down: Counter,
    /// Messages dropped because the queue to the member was full.
    pub peer_messages_dropped_full: Counter,
    /// Messages received from other members.
    pub peer_messages_received: Counter,
    /// Bytes written to other members.
    pub peer_bytes_sent: Counter,
    /// Bytes read from other members.
    pub peer_bytes_received: Counter,
    /// How soon other members answer.
    pub peer_round_trips: ByMember,
    /// How the connections to other members are.
    pub peer_links: PeerLinks,
    /// Connections to other members that were made.
    pub peer_connects: Counter,
    /// Connections refused by either side for who the other is.
    pub peer_refusals: Counter,
    /// Connections that were refused before a word: no handshake, or the wrong protocol for the port.
    pub handshake_failures: Counter,
    /// Times that new certificates were taken up.
    pub certificate_renewals: Counter,
    /// Times that new certificates could not be used.
    pub certificate_failures: Counter,
    /// When the client port's certificate expires, in seconds since 1970; 0 without TLS.
    pub client_certificate_expires: Gauge,
    /// When the peer port's certificate expires, in seconds since 1970; 0 without TLS.
    pub peer_certificate_expires: Gauge,
    /// Writes of the log made durable, with the time each took.
    pub log_syncs: Histogram,
    /// Batches of entries handed to the log.
    pub log_persists: Counter,
    /// Writes of the log that failed and were tried again.
    pub log_failures: Counter,
    /// Times that damage was found in files of the data directory.
    pub damage_found: Counter,
    /// Damaged files that were set aside.
    pub files_quarantined: Counter,
    /// Damage that was made good, by the other members or by a new snapshot.
    pub repairs: Counter,
    /// Times that the states of the members were found to differ.
    pub states_differ: Counter,
    /// Free space is below the low-water mark: 1 or 0.
    pub low_on_space: Gauge,
    /// The state is larger than what operators want to be warned of: 1 or 0.
    pub above_warning: Gauge,
    /// Client connections refused because there were too many.
    pub connections_refused: Counter,
    /// Times that the member began anew from its disk, inside the process.
    pub reopenings: Counter,
    /// Times that the member became a new incarnation because the record of its votes was lost.
    pub votes_lost: Counter,
    /// Spans of traces that a collector took.
    pub trace_spans_sent: Counter,
    /// Spans of traces that nobody took in time.
    pub trace_spans_dropped: Counter,
    /// Snapshots that became durable here.
    pub snapshots: Counter,
    /// Watch streams opened.
    pub watch_streams_opened: Counter,
    /// Watch streams closed.
    pub watch_streams_closed: Counter,
}
