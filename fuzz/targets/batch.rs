//! What the log holds: any bytes are a batch or are refused, a batch applies to the end, and two members come to the same state.
#![no_main]

use libfuzzer_sys::fuzz_target;
use state::{Budget, Settings, State};

/// Batches are taken from the input one after the other, so that later ones meet what earlier ones left.
const BATCHES_MAX: usize = 8;

fuzz_target!(|bytes: &[u8]| {
    let whole = applied(bytes, Budget(u64::MAX));
    let sliced = applied(bytes, Budget(1));
    assert_eq!(whole, sliced, "slices make a difference");
});

fn applied(bytes: &[u8], budget: Budget) -> (u64, u64, i64) {
    let mut state = State::new(Settings::default());
    let mut rest = bytes;
    for index in 1..=BATCHES_MAX as u64 {
        let Some((length, tail)) = rest.split_first_chunk::<2>() else {
            break;
        };
        let length = usize::from(u16::from_le_bytes(*length)).min(tail.len());
        let (batch, tail) = tail.split_at(length);
        rest = tail;
        if state.apply_begin(index, batch).is_err() {
            break;
        }
        while state.apply_step(budget).is_none() {}
    }
    (state.applied(), state.hash(), state.revision())
}
