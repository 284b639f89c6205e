//! What happened, in order: hashed always, kept as readable lines on request. Equal seeds give equal lines.

use crate::clock::Micros;
use std::fmt::Write;

/// The record of a run.
#[derive(Debug)]
pub struct Trace {
    hash: u64,
    /// Kept lines, if asked for.
    text: Option<String>,
    /// Room for the line being made.
    scratch: String,
}

impl Trace {
    /// An empty trace. `keep`: hold the text of all lines, not only their hash.
    pub fn new(keep: bool) -> Trace {
        Trace {
            hash: 0xcbf2_9ce4_8422_2325,
            text: keep.then(String::new),
            scratch: String::new(),
        }
    }

    /// Notes an event in short: numbers only, hashed without making text of them. `line` gives the text, called only if it is kept.
    pub fn note(&mut self, at: Micros, lane: &str, numbers: &[u64], line: impl FnOnce() -> String) {
        self.mix(at);
        for number in numbers {
            self.mix(*number);
        }
        if let Some(text) = &mut self.text {
            self.scratch.clear();
            let _ = write!(
                self.scratch,
                "{:>5}.{:06} {:<4} {}",
                at / 1_000_000,
                at % 1_000_000,
                lane,
                line()
            );
            text.push_str(&self.scratch);
            text.push('\n');
        }
    }

    fn mix(&mut self, number: u64) {
        self.hash = (self.hash ^ number)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .rotate_left(23)
            ^ (number >> 7);
    }

    /// Hash over everything noted.
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// The kept lines.
    pub fn into_text(self) -> String {
        self.text.unwrap_or_default()
    }
}

/// A hash of bytes, for the trace and for comparing payloads.
pub fn hash_bytes(bytes: &[u8]) -> u64 {
    let mut hash = 0x2545_f491_4f6c_dd1d ^ (bytes.len() as u64);
    let mut chunks = bytes.chunks_exact(8);
    for chunk in &mut chunks {
        let word = u64::from_le_bytes(chunk.try_into().expect("chunks of eight"));
        hash = (hash ^ word)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .rotate_left(29);
    }
    let mut tail = [0; 8];
    tail[..chunks.remainder().len()].copy_from_slice(chunks.remainder());
    hash = (hash ^ u64::from_le_bytes(tail)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    hash ^ (hash >> 32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_does_not_depend_on_whether_text_is_kept() {
        let (mut kept, mut not) = (Trace::new(true), Trace::new(false));
        for trace in [&mut kept, &mut not] {
            trace.note(1_500_000, "n1", &[1, 2], || "starts".into());
        }
        assert_eq!(kept.hash(), not.hash());
        assert_eq!(kept.into_text(), "    1.500000 n1   starts\n");
        assert_eq!(not.into_text(), "");
    }

    #[test]
    fn order_and_content_change_the_hash() {
        let hash = |numbers: &[u64]| {
            let mut trace = Trace::new(false);
            trace.note(0, "", numbers, String::new);
            trace.hash()
        };
        assert_ne!(hash(&[1, 2]), hash(&[2, 1]));
        assert_ne!(hash_bytes(b"abcdefgh1"), hash_bytes(b"abcdefgh2"));
        assert_ne!(hash_bytes(b"a"), hash_bytes(b"a\0"));
    }
}
