//! What clients of the etcd API send: any bytes are a request or are refused, and what is let in can be written to the log, read again and applied.
#![no_main]

use libfuzzer_sys::fuzz_target;
use prost::Message;
use proto::etcdserverpb as pb;
use state::{Batch, Budget, Command, Group, Query, Settings, State};

/// Operations of a transaction at most, in each of its lists.
const OPERATIONS_MAX: usize = 128;

fuzz_target!(|bytes: &[u8]| {
    let Some((kind, bytes)) = bytes.split_first() else {
        return;
    };
    match kind % 9 {
        0 => with(bytes, |request| etcd::put(request).map(change)),
        1 => with(bytes, |request| etcd::delete_range(request).map(change)),
        2 => with(bytes, |request| Ok(change(etcd::compact(request)))),
        3 => with(bytes, |request| {
            etcd::range(request).map(|read| ask(read.query))
        }),
        4 => with(bytes, |request: pb::TxnRequest| {
            etcd::txn(request, OPERATIONS_MAX).map(|transaction| match transaction {
                etcd::Transaction::Read(read) => ask(read.query),
                etcd::Transaction::Write(command) => change(command),
            })
        }),
        5 => with(bytes, |request| Ok(change(etcd::lease_revoke(request)))),
        6 => with(bytes, |request| etcd::lease_grant(request, 7).map(change)),
        7 => with(bytes, |request| {
            Ok(ask(etcd::lease_time_to_live(request).query))
        }),
        _ => drop(pb::WatchRequest::decode(bytes)),
    }
});

fn with<M: Message + Default, T>(bytes: &[u8], door: impl FnOnce(M) -> Result<T, etcd::Status>) {
    if let Ok(message) = M::decode(bytes) {
        drop(door(message));
    }
}

fn change(command: Command) {
    let batch = Batch {
        format: state::FORMAT,
        groups: vec![Group {
            commands: vec![command],
            ..Group::default()
        }],
        ..Batch::default()
    };
    let mut state = State::new(Settings::default());
    let begun = state.apply_begin(1, &batch.encode_to_vec());
    begun.expect("what was let in can be read again");
    while state.apply_step(Budget(1000)).is_none() {}
}

fn ask(query: Query) {
    let mut state = State::new(Settings::default());
    let mut cursor = state.query_begin(query);
    while state.query_step(&mut cursor, Budget(1000)).is_none() {}
}
