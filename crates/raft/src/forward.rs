//! Forwarding streams: commands of other members on their way to the leader, each at most once and in order.
//!
//! A stream is named by term, origin (incarnation included), the origin's process and an epoch. The leader of exactly that term accepts its
//! places 0, 1, 2 … and after a gap refuses the rest for good; the origin then opens the next epoch. Nothing is sent twice from here.

use crate::{Boot, PeerId};
use std::collections::BTreeMap;

/// Streams a leader keeps at most; a stream beyond is refused.
const STREAMS_MAX: usize = 4096;

/// The sending side, kept in any role.
#[derive(Debug)]
pub(crate) struct ForwardOrigin {
    newest: u64,
    epoch: u64,
    /// The sequence at place 0 of the epoch.
    first: u64,
}

/// The name of a forward on its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) epoch: u64,
    pub(crate) position: u64,
    pub(crate) sequence: u64,
}

impl ForwardOrigin {
    pub(crate) fn new() -> ForwardOrigin {
        ForwardOrigin {
            newest: 0,
            epoch: 0,
            first: 1,
        }
    }

    /// Opens the next epoch, for another leader or after a refusal.
    pub(crate) fn next_epoch(&mut self) {
        self.epoch += 1;
        self.first = self.newest + 1;
    }

    pub(crate) fn next(&mut self) -> Place {
        self.newest += 1;
        Place {
            epoch: self.epoch,
            position: self.newest - self.first,
            sequence: self.newest,
        }
    }

    /// A stream was refused from a place on: gives the first refused sequence, once per epoch.
    pub(crate) fn on_refused(&mut self, epoch: u64, position: u64) -> Option<u64> {
        if epoch != self.epoch {
            return None;
        }
        let sequence = self.first.checked_add(position)?;
        if sequence > self.newest {
            return None;
        }
        self.next_epoch();
        Some(sequence)
    }
}

#[derive(Debug)]
struct Stream {
    epoch: u64,
    next: u64,
    refused: bool,
}

/// What the leader does with a forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Acceptance {
    Accepted,
    /// Seen before, or of a stream long closed.
    Ignored,
    /// The stream is closed from this place on.
    Refused {
        position: u64,
    },
}

/// The receiving side, of one leadership.
#[derive(Debug, Default)]
pub(crate) struct ForwardStreams {
    streams: BTreeMap<(PeerId, Boot), Stream>,
}

impl ForwardStreams {
    /// Judges a forward; `admits` says whether the leader takes proposals now.
    pub(crate) fn offer(
        &mut self,
        origin: PeerId,
        boot: Boot,
        epoch: u64,
        position: u64,
        admits: bool,
    ) -> Acceptance {
        if self.streams.len() >= STREAMS_MAX && !self.streams.contains_key(&(origin, boot)) {
            return Acceptance::Refused { position: 0 };
        }
        let stream = self.streams.entry((origin, boot)).or_insert(Stream {
            epoch,
            next: 0,
            refused: false,
        });
        if epoch < stream.epoch {
            return Acceptance::Ignored;
        }
        if epoch > stream.epoch {
            *stream = Stream {
                epoch,
                next: 0,
                refused: false,
            };
        }
        if position < stream.next {
            mutated!(ForwardTwice, return Acceptance::Accepted);
            return Acceptance::Ignored;
        }
        if position > stream.next || !admits {
            stream.refused = true;
        }
        if stream.refused {
            return Acceptance::Refused {
                position: stream.next,
            };
        }
        stream.next += 1;
        Acceptance::Accepted
    }
}
