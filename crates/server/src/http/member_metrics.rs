//! The member's state in `/metrics`, under the names etcd's dashboards and alerts use and under our own.

use super::metrics::Text;
use crate::grpc::door::Door;
use crate::{Counter, Handle};
use std::time::{SystemTime, UNIX_EPOCH};

/// Writes all of it.
pub(crate) fn write(door: &Door, text: &mut Text) {
    let handle = &door.handle;
    text.gauge(
        "etcd_server_quota_backend_bytes",
        "Bytes of keys and history allowed.",
        door.handle.status().state_bytes_max,
    );
    consensus(handle, text);
    keys(handle, text);
    peers(handle, text);
    our_own(handle, text);
    repair(handle, text);
    certificates(handle, text);
    alarms(door, text);
    process(text);
    let labelled = [
        (
            "etcd_server_version",
            "The etcd version this server speaks.",
            format!("server_version=\"{}\"", etcd::VERSION),
        ),
        (
            "etcd_cluster_version",
            "The etcd version the cluster speaks.",
            format!("cluster_version=\"{}\"", cluster_version()),
        ),
        (
            "etcd_server_id",
            "This member.",
            format!("server_id=\"{:x}\"", handle.member()),
        ),
    ];
    for (name, help, labels) in labelled {
        text.family(name, "gauge", help);
        text.sample(name, &labels, 1);
    }
}

fn consensus(handle: &Handle, text: &mut Text) {
    let status = handle.status();
    let metrics = handle.metrics();
    let leads = status.raft.leader == Some(status.raft.id);
    let is_learner = status.raft.configuration.learners.contains(&status.raft.id);
    text.gauge(
        "etcd_server_has_leader",
        "1 if a leader is known.",
        status.raft.leader.is_some().into(),
    );
    text.gauge(
        "etcd_server_is_leader",
        "1 if this member leads.",
        leads.into(),
    );
    text.gauge(
        "etcd_server_is_learner",
        "1 if this member does not vote.",
        is_learner.into(),
    );
    text.counter(
        "etcd_server_leader_changes_seen_total",
        "Leader changes seen.",
        metrics.leader_changes.get(),
    );
    text.gauge(
        "etcd_server_proposals_committed_total",
        "Log entries decided.",
        status.raft.commit.0,
    );
    text.gauge(
        "etcd_server_proposals_applied_total",
        "Log entries applied.",
        status.applied,
    );
    text.gauge(
        "etcd_server_proposals_pending",
        "Commands waiting for their outcome.",
        status.pending_commands,
    );
    text.counter(
        "etcd_server_proposals_failed_total",
        "Changes that ended without an answer.",
        metrics.proposals_failed.get(),
    );
    text.family(
        "etcd_disk_wal_fsync_duration_seconds",
        "histogram",
        "Time to make a write of the log durable.",
    );
    text.histogram(
        "etcd_disk_wal_fsync_duration_seconds",
        "",
        &metrics.log_syncs,
    );
    // There is no second place to commit to: what is synced is committed to disk.
    text.family(
        "etcd_disk_backend_commit_duration_seconds",
        "histogram",
        "Time to commit changes to disk, which is the write of the log.",
    );
    text.histogram(
        "etcd_disk_backend_commit_duration_seconds",
        "",
        &metrics.log_syncs,
    );
}

fn keys(handle: &Handle, text: &mut Text) {
    let status = handle.status();
    let metrics = handle.metrics();
    text.gauge(
        "etcd_mvcc_db_total_size_in_bytes",
        "Bytes of keys and history, in whole pages.",
        etcd::file_bytes(status.state_bytes),
    );
    text.gauge(
        "etcd_mvcc_db_total_size_in_use_in_bytes",
        "Bytes of keys and history.",
        status.state_bytes,
    );
    text.gauge("etcd_debugging_mvcc_keys_total", "Keys.", status.keys);
    text.gauge(
        "etcd_debugging_auth_revision",
        "Revision of users and roles.",
        handle.auth().revision(),
    );
    text.gauge(
        "etcd_debugging_mvcc_watcher_total",
        "Watches open.",
        status.watchers,
    );
    let streams = metrics
        .watch_streams_opened
        .get()
        .saturating_sub(metrics.watch_streams_closed.get());
    text.gauge(
        "etcd_debugging_mvcc_watch_stream_total",
        "Watch streams open.",
        streams,
    );
    text.gauge(
        "etcd_debugging_mvcc_current_revision",
        "Newest revision.",
        status.revision.unsigned_abs(),
    );
    text.gauge(
        "etcd_debugging_mvcc_compact_revision",
        "Oldest readable revision.",
        status.compacted.unsigned_abs(),
    );
}

fn peers(handle: &Handle, text: &mut Text) {
    let metrics = handle.metrics();
    text.counter(
        "etcd_network_peer_sent_bytes_total",
        "Bytes sent to other members.",
        metrics.peer_bytes_sent.get(),
    );
    text.counter(
        "etcd_network_peer_received_bytes_total",
        "Bytes received from other members.",
        metrics.peer_bytes_received.get(),
    );
    let failures =
        metrics.peer_messages_dropped_down.get() + metrics.peer_messages_dropped_full.get();
    text.counter(
        "etcd_network_peer_sent_failures_total",
        "Messages that could not be sent.",
        failures,
    );
    let round_trips = "etcd_network_peer_round_trip_time_seconds";
    let help = "Time until another member answers, by its connection for messages.";
    text.family(round_trips, "histogram", help);
    for (member, histogram) in metrics.peer_round_trips.all() {
        text.histogram(round_trips, &format!("To=\"{member:x}\""), &histogram);
    }
}

fn our_own(handle: &Handle, text: &mut Text) {
    let metrics = handle.metrics();
    let counters: [(&str, &str, &Counter); 13] = [
        (
            "synod_loop_turns_total",
            "Turns of the node loop.",
            &metrics.loop_turns,
        ),
        (
            "synod_requests_total",
            "Requests taken from the doors.",
            &metrics.requests,
        ),
        (
            "synod_requests_overloaded_total",
            "Requests refused because the queue was full.",
            &metrics.requests_overloaded,
        ),
        (
            "synod_proposals_total",
            "Changes proposed here.",
            &metrics.proposals,
        ),
        ("synod_reads_total", "Reads asked here.", &metrics.reads),
        (
            "synod_reads_failed_total",
            "Reads that ended without an answer.",
            &metrics.reads_failed,
        ),
        (
            "synod_leaderships_total",
            "Terms in which this member came to lead.",
            &metrics.leaderships,
        ),
        (
            "synod_peer_messages_sent_total",
            "Messages queued for other members.",
            &metrics.peer_messages_sent,
        ),
        (
            "synod_peer_messages_received_total",
            "Messages received from other members.",
            &metrics.peer_messages_received,
        ),
        (
            "synod_trace_spans_sent_total",
            "Spans of traces that the collector took.",
            &metrics.trace_spans_sent,
        ),
        (
            "synod_trace_spans_dropped_total",
            "Spans of traces that nobody took in time.",
            &metrics.trace_spans_dropped,
        ),
        (
            "synod_log_failures_total",
            "Writes of the log that failed and were tried again.",
            &metrics.log_failures,
        ),
        (
            "synod_snapshots_total",
            "Snapshots that became durable here.",
            &metrics.snapshots,
        ),
    ];
    for (name, help, counter) in counters {
        text.counter(name, help, counter.get());
    }
}

/// TLS (`docs/operate/tls.md`).
fn certificates(handle: &Handle, text: &mut Text) {
    let metrics = handle.metrics();
    let ports = [
        ("client", metrics.client_certificate_expires.get()),
        ("peer", metrics.peer_certificate_expires.get()),
    ];
    let expiry = "synod_tls_certificate_expiry_timestamp_seconds";
    text.family(expiry, "gauge", "When a port's certificate expires.");
    for (port, seconds) in ports.into_iter().filter(|(_, seconds)| *seconds > 0) {
        text.sample(expiry, &format!("port=\"{port}\""), seconds);
    }
    text.counter(
        "synod_tls_handshake_failures_total",
        "Connections refused before a word: no handshake, or the wrong protocol for the port.",
        metrics.handshake_failures.get(),
    );
    text.counter(
        "synod_tls_certificate_renewals_total",
        "Times that new certificates were taken up.",
        metrics.certificate_renewals.get(),
    );
    text.counter(
        "synod_tls_certificate_failures_total",
        "Times that new certificates could not be used.",
        metrics.certificate_failures.get(),
    );
}

/// Damage, and what became of it (`docs/operate/repair.md`).
fn repair(handle: &Handle, text: &mut Text) {
    let metrics = handle.metrics();
    let counters: [(&str, &str, &Counter); 6] = [
        (
            "synod_repair_damage_found_total",
            "Times that damage was found in files of the data directory.",
            &metrics.damage_found,
        ),
        (
            "synod_repair_files_quarantined_total",
            "Damaged files that were set aside.",
            &metrics.files_quarantined,
        ),
        (
            "synod_repair_completed_total",
            "Damage made good, by the other members or by a new snapshot.",
            &metrics.repairs,
        ),
        (
            "synod_repair_restarts_total",
            "Times that the member began anew from its directory, inside the process.",
            &metrics.reopenings,
        ),
        (
            "synod_repair_incarnations_total",
            "Times that the record of votes was lost and the member was admitted anew.",
            &metrics.votes_lost,
        ),
        (
            "synod_state_differs_total",
            "Times that the states of the members were found to differ.",
            &metrics.states_differ,
        ),
    ];
    for (name, help, counter) in counters {
        text.counter(name, help, counter.get());
    }
    let lost = handle.status().raft.standing == raft::Standing::EntriesLost;
    text.gauge(
        "synod_repair_may_have_lost_entries",
        "1 while the member does not count because it may have lost entries.",
        lost.into(),
    );
    text.gauge(
        "synod_disk_low_on_space",
        "1 while only what frees space is admitted.",
        metrics.low_on_space.get(),
    );
}

/// What is full, or about to be.
fn alarms(door: &Door, text: &mut Text) {
    let metrics = door.handle.metrics();
    text.gauge(
        "synod_state_above_warning",
        "1 while the state is larger than state-bytes-warn.",
        metrics.above_warning.get(),
    );
    text.counter(
        "synod_client_connections_refused_total",
        "Client connections refused because there were too many.",
        metrics.connections_refused.get(),
    );
    let name = "etcd_debugging_server_alarms";
    text.family(name, "gauge", "1 for each alarm that is raised.");
    for alarm in door.alarms() {
        let kind = etcd::alarm_kind(alarm);
        let labels = format!("server_id=\"{:x}\",alarm_type=\"{kind}\"", alarm.member);
        text.sample(name, &labels, 1);
    }
}

/// The cluster version without its patch number, as etcd shows it here.
fn cluster_version() -> &'static str {
    etcd::CLUSTER_VERSION
        .rsplit_once('.')
        .map_or(etcd::CLUSTER_VERSION, |(front, _)| front)
}

/// What the operating system says of this process; nothing where it does not say.
fn process(text: &mut Text) {
    let resident = resident_bytes().unwrap_or(0);
    text.gauge("process_resident_memory_bytes", "Memory in use.", resident);
    let open_files = std::fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count() as u64);
    text.gauge(
        "process_open_fds",
        "Files and connections open.",
        open_files,
    );
    text.family("process_cpu_seconds_total", "counter", "CPU time used.");
    text.sample(
        "process_cpu_seconds_total",
        "",
        cpu_seconds().unwrap_or(0.0),
    );
    let wall = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0.0, |since| since.as_secs_f64());
    text.family(
        "synod_wall_clock_seconds",
        "gauge",
        "What this member takes for the time of day, in seconds since 1970.",
    );
    text.sample("synod_wall_clock_seconds", "", format!("{wall:.3}"));
}

fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
}

fn cpu_seconds() -> Option<f64> {
    /// Linux counts CPU time in hundredths of a second for programs, whatever it does inside.
    const TICKS_PER_SECOND: f64 = 100.0;
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The name in parentheses may hold spaces; user and system time are the 12th and 13th fields after it.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = fields.get(11)?.parse::<f64>().ok()? + fields.get(12)?.parse::<f64>().ok()?;
    Some(ticks / TICKS_PER_SECOND)
}
