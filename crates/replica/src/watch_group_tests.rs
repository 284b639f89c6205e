use super::*;
use crate::watch_index::Keys;
use prost::Message;
use state::{Batch, Command, DeleteRange, Operation, Put, Settings};

/// A state with `keys` keys, each put at a revision of its own, and then removed, all at one revision.
fn emptied(keys: u32) -> State {
    let mut state = State::new(Settings {
        removal_keys_min: u64::MAX,
        ..Settings::default()
    });
    let put = |n: u32| {
        Operation::Put(Put {
            key: format!("k{n:06}").into(),
            ..Put::default()
        })
    };
    let remove = Operation::DeleteRange(DeleteRange {
        key: "k".into(),
        range_end: "l".into(),
        prev_kv: false,
    });
    let operations = (0..keys).map(put).chain([remove]);
    let batch = Batch {
        format: state::FORMAT,
        groups: vec![state::Group {
            commands: operations
                .map(|operation| Command {
                    operation: Some(operation),
                    ..Command::default()
                })
                .collect(),
            ..state::Group::default()
        }],
        ..Batch::default()
    };
    state.apply_begin(1, &batch.encode_to_vec()).unwrap();
    state.apply_step(Budget(u64::MAX)).unwrap();
    state
}

#[test]
fn a_revision_with_very_many_events_is_read_once() {
    const KEYS: u32 = 150_000;
    let state = emptied(KEYS);
    let mut group = Group::new(0, 1, 4096);
    group.index.insert(&Keys::new(b"other", b"").unwrap(), 0);
    let (mut read, mut partial) = (0, 0);
    while group.cursor < state.complete() {
        let visited = group.scan(&state, &Table::default()).unwrap();
        assert!(visited <= MATCH_EVENTS_MAX, "{visited} events in one slice");
        read += visited;
        partial += u32::from(group.is_partial());
    }
    assert_eq!(read, 2 * u64::from(KEYS));
    assert_eq!(partial, KEYS / MATCH_EVENTS_MAX as u32);
}

#[test]
fn a_state_that_was_replaced_is_read_from_the_start_of_the_revision() {
    let state = emptied(100_000);
    let mut group = Group::new(0, 100_001, 4096);
    group.index.insert(&Keys::new(b"other", b"").unwrap(), 0);
    group.scan(&state, &Table::default()).unwrap();
    assert!(group.is_partial());
    group.forget_partial();
    let mut read = 0;
    while group.cursor < state.complete() {
        read += group.scan(&state, &Table::default()).unwrap();
    }
    assert_eq!(read, 100_000);
}
