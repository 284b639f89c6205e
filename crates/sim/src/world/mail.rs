//! Messages between members, on their way through the network or the hands of a director.

use super::*;
use crate::timeline::{Kind, words};
use crate::trace::hash_bytes;

impl World {
    /// The machine of a member.
    pub(crate) fn member_of(&self, peer: raft::PeerId) -> Option<usize> {
        self.members.iter().position(|machine| machine.id == peer)
    }

    pub(crate) fn send(&mut self, from: usize, to: raft::PeerId, message: Message) {
        let (sender, addressee) = (self.members[from].id, to);
        let mut machines = self.members.iter();
        let Some(to) = machines.position(|machine| machine.id.member == to.member) else {
            return;
        };
        self.counts.messages += 1;
        let (message, hash) = if self.network.draws_encoding() {
            let bytes = message.encode();
            let hash = hash_bytes(&bytes);
            match Message::decode(bytes) {
                Ok(decoded) if decoded == message => (decoded, hash),
                other => {
                    return self.fail(
                        "codec",
                        format!("{message:?} comes out of its wire form as {other:?}"),
                    );
                }
            }
        } else {
            (message, 0)
        };
        let arrivals = match &mut self.director {
            None => self.network.plan(self.now, from, to),
            Some(director) => {
                let cut = self.network.is_cut(from, to);
                match director.direct(self.now, from, to, &message, cut) {
                    Some(first) => [first, None],
                    None => return,
                }
            }
        };
        self.aim_at_sender(from, &message);
        let deliver = |message| Event::Deliver {
            from,
            to,
            sender,
            addressee,
            message,
        };
        if arrivals[0].is_some()
            && let Some(place) = self.holds(from, to, &message)
        {
            let lane = &self.members[from].lane;
            self.trace.note(self.now, lane, &[32, to as u64, hash], || {
                format!("→ n{} kept back: {message:?}", to + 1)
            });
            return self.keep_back(place, deliver(message));
        }
        let [first, second] = arrivals;
        self.trace.note(
            self.now,
            &self.members[from].lane,
            &[5, to as u64, hash, first.unwrap_or(0)],
            || match first {
                Some(at) => format!("→ n{} at +{} us: {message:?}", to + 1, at - self.now),
                None => format!("→ n{} lost: {message:?}", to + 1),
            },
        );
        self.timeline.note_busy(self.now, from, || What::Sends {
            to,
            arrivals: [first, second],
            kind: Kind::of(&message),
            label: words::label(&message),
            text: words::message(&message),
        });
        self.keep_message(|| OldMessage {
            from: (from, sender),
            to: (to, addressee),
            message: message.clone(),
        });
        if let Some(at) = second {
            self.queue.plan(at, deliver(message.clone()));
        }
        if let Some(at) = first {
            self.queue.plan(at, deliver(message));
        }
    }
}
