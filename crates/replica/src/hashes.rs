//! Members compare the hashes of their states at equal indexes (PROPERTIES KV5). One that a majority of voters contradicts stops serving and
//! replaces its state by theirs (`repair`); where no majority agrees, that is told and nothing else is done.

use crate::effect::Effect;
use crate::message::Message;
use crate::replica::Replica;
use raft::{Instant, PeerId};
use std::collections::BTreeMap;

/// Hashes are compared at every such index.
const EVERY: u64 = 1024;
/// Indexes remembered, for members that are a little ahead or behind.
const REMEMBERED: usize = 8;

/// Hashes by index, own and told.
#[derive(Default)]
pub(crate) struct Hashes {
    by_index: BTreeMap<u64, BTreeMap<PeerId, u64>>,
    /// The newest index at which no majority agreed.
    disputed: u64,
}

impl Hashes {
    fn note(&mut self, index: u64, from: PeerId, hash: u64) {
        self.by_index.entry(index).or_default().insert(from, hash);
        while self.by_index.len() > REMEMBERED {
            self.by_index.pop_first();
        }
    }
}

impl Replica {
    /// Tells the others the hash, if `index` is one at which it is compared.
    pub(crate) fn on_hash_index(&mut self, now: Instant, index: u64) {
        if !index.is_multiple_of(EVERY) {
            return;
        }
        let hash = self.state.hash();
        self.hashes.note(index, self.me, hash);
        for peer in self.applying.configuration.peers() {
            if peer != self.me {
                self.send(peer, Message::StateHash { index, hash });
            }
        }
        self.compare_hashes(now, index);
    }

    /// Takes another member's hash.
    pub(crate) fn on_state_hash(&mut self, now: Instant, from: PeerId, index: u64, hash: u64) {
        // Far-off indexes would push out those that can still be compared.
        let near = index.is_multiple_of(EVERY)
            && index.abs_diff(self.state.applied()) <= EVERY * REMEMBERED as u64;
        if near && self.applying.configuration.contains(from) {
            self.hashes.note(index, from, hash);
            self.compare_hashes(now, index);
        }
    }

    fn compare_hashes(&mut self, now: Instant, index: u64) {
        let Some(hashes) = self.hashes.by_index.get(&index) else {
            return;
        };
        let Some(&own) = hashes.get(&self.me) else {
            return;
        };
        let voters = &self.applying.configuration.voters;
        let mut counts: BTreeMap<u64, usize> = BTreeMap::new();
        for (peer, &hash) in hashes {
            if voters.contains(peer) {
                *counts.entry(hash).or_default() += 1;
            }
        }
        let told: usize = counts.values().sum();
        let largest = counts.iter().max_by_key(|(_, count)| **count);
        let (&hash, &count) = largest.unwrap_or((&own, &0));
        let all = voters.len();
        if count > all / 2 && hash != own {
            self.condemn(now, index, format!(
                "the state at index {index} has hash {own:016x}, but {count} of {all} voters agree on {hash:016x}: this member's state is wrong"
            ));
        } else if count + (all - told) <= all / 2 && self.hashes.disputed < index {
            let text = format!(
                "the states at index {index} differ and no majority of {all} voters agrees: nobody can say which is right; {hashes:x?}"
            );
            self.hashes.disputed = index;
            self.effects.push_back(Effect::StateDiffers(text));
        }
    }

    /// Forgets the hashes of a state that was replaced.
    pub(crate) fn forget_hashes(&mut self) {
        self.hashes.by_index.clear();
    }
}
