//! How an id's bits are divided.

use std::error::Error;
use std::fmt;

/// Bits of an id: its sign is always zero, so that it stays positive where integers are signed.
const BITS: u32 = 63;

/// How an id is divided: milliseconds since an epoch, then the worker number, then a sequence within the millisecond. The default is that of Twitter's
/// Snowflake (41, 10 and 12 bits) from the start of 2020 on, which lasts until 2089.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    worker_bits: u32,
    sequence_bits: u32,
    epoch_ms: u64,
}

/// What an id says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parts {
    /// When it was made: milliseconds since 1970, by the cell's clock.
    pub unix_ms: u64,
    /// Who made it.
    pub worker: u32,
    /// Which one it was of its millisecond.
    pub sequence: u32,
}

/// A layout that cannot work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LayoutError {
    worker_bits: u32,
    sequence_bits: u32,
}

impl fmt::Display for LayoutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "an id cannot give {} bits to the worker and {} to the sequence: each takes 1 to 20, both together 24 at most, which leaves 39 for the time",
            self.worker_bits, self.sequence_bits
        )
    }
}

impl Error for LayoutError {}

impl Default for Layout {
    fn default() -> Layout {
        Layout {
            worker_bits: 10,
            sequence_bits: 12,
            epoch_ms: 1_577_836_800_000,
        }
    }
}

impl Layout {
    /// A layout with so many bits for the worker number and the sequence; the rest of 63 is for the time since the epoch, given in milliseconds since
    /// 1970.
    ///
    /// # Errors
    /// Fewer than 39 bits (17 years) would be left for the time, or a part would have none or more than 20.
    pub fn new(worker_bits: u32, sequence_bits: u32, epoch_ms: u64) -> Result<Layout, LayoutError> {
        let sound = (1..=20).contains(&worker_bits)
            && (1..=20).contains(&sequence_bits)
            && worker_bits + sequence_bits <= 24;
        if !sound {
            return Err(LayoutError {
                worker_bits,
                sequence_bits,
            });
        }
        Ok(Layout {
            worker_bits,
            sequence_bits,
            epoch_ms,
        })
    }

    /// How many workers there can be at a time.
    pub fn workers(&self) -> u32 {
        1 << self.worker_bits
    }

    /// How many ids a worker can make in a millisecond.
    pub fn per_millisecond(&self) -> u32 {
        1 << self.sequence_bits
    }

    /// The first millisecond since 1970 that no id can name.
    pub fn end_ms(&self) -> u64 {
        self.epoch_ms
            .saturating_add(1 << (BITS - self.worker_bits - self.sequence_bits))
    }

    /// The first millisecond since 1970 that an id can name.
    pub fn epoch_ms(&self) -> u64 {
        self.epoch_ms
    }

    /// The id of these parts.
    pub(crate) fn compose(&self, parts: Parts) -> u64 {
        assert!(
            (self.epoch_ms..self.end_ms()).contains(&parts.unix_ms)
                && parts.worker < self.workers()
                && parts.sequence < self.per_millisecond(),
            "{parts:?} does not fit {self:?}"
        );
        let time = (parts.unix_ms - self.epoch_ms) << (self.worker_bits + self.sequence_bits);
        time | u64::from(parts.worker) << self.sequence_bits | u64::from(parts.sequence)
    }

    /// What an id of this layout says. `None` for a number that is no id: one beyond 63 bits.
    pub fn parts(&self, id: u64) -> Option<Parts> {
        if id >> BITS != 0 {
            return None;
        }
        let low = |number: u64, bits: u32| (number & ((1 << bits) - 1)) as u32;
        let since = id >> (self.worker_bits + self.sequence_bits);
        Some(Parts {
            unix_ms: self.epoch_ms.checked_add(since)?,
            worker: low(id >> self.sequence_bits, self.worker_bits),
            sequence: low(id, self.sequence_bits),
        })
    }
}
