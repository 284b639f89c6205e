//! What the log holds: any bytes are a batch or are refused, a batch applies to the end, and two members come to the same state.
#![no_main]

use libfuzzer_sys::fuzz_target;
use prost::Message;
use state::{Batch, Budget, Settings, State};

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
        if state
            .apply_begin(index, &in_time(batch, state.clock_ms()))
            .is_err()
        {
            break;
        }
        while state.apply_step(budget).is_none() {}
    }
    (state.applied(), state.hash(), state.revision())
}

/// The batch at a clock that does not fall, which is the leader's duty and asserted.
fn in_time(bytes: &[u8], clock_ms: u64) -> Vec<u8> {
    match Batch::decode(bytes) {
        Ok(batch) => Batch {
            clock_ms: batch.clock_ms.max(clock_ms),
            ..batch
        }
        .encode_to_vec(),
        Err(_) => bytes.to_vec(),
    }
}
