//! The faults that aim, drawn.

use super::draw::Drawing;
use super::{Aim, Blow, Fault, Hold, Said, Strike, Way};
use crate::clock::Micros;

/// Messages that are held together.
const HELD: [&[Said]; 7] = [
    &[Said::ReadIndexAnswer],
    &[Said::AppendAnswer],
    // The leader believes it to be behind.
    &[Said::AppendAnswer, Said::Append, Said::Heartbeat],
    &[Said::VoteGranted],
    &[Said::Forward, Said::ForwardRefused],
    &[Said::SnapshotAnswer],
    &[Said::HeartbeatAnswer],
];

impl Drawing<'_> {
    /// From a heartbeat to ten seconds, shorter times more often.
    fn while_away(&mut self) -> Micros {
        match self.rng.below(3) {
            0 => self.rng.between(100_000, 800_000),
            1 => self.rng.between(800_000, 3_000_000),
            _ => self.rng.between(3_000_000, 10_000_000),
        }
    }

    fn cut_off(&mut self) -> Strike {
        Strike::Cut(
            *self
                .rng
                .pick(&[Way::Both, Way::Both, Way::Out, Way::In, Way::WithMinority]),
        )
    }

    fn blow(&mut self) -> Blow {
        let cut = self.cut_off();
        let strike = *self
            .rng
            .pick(&[Strike::Kill, Strike::Power, Strike::Pause, cut]);
        let time = self.while_away();
        Blow { strike, time }
    }

    /// Dead, and back before anybody misses it.
    fn stumble(&mut self) -> Blow {
        let strike = *self.rng.pick(&[Strike::Kill, Strike::Power]);
        let time = self.rng.between(1_000, 300_000);
        Blow { strike, time }
    }

    pub(super) fn leader(&mut self, at: Micros) {
        let (strike, time) = (self.cut_off(), self.while_away());
        self.add(at, Fault::Aimed(Aim::Leader(Blow { strike, time })));
    }

    pub(super) fn dethrone(&mut self, at: Micros) {
        let aim = Aim::Dethrone {
            by_handover: self.rng.chance(400),
            decided: *self.rng.pick(&[1, 1, 2, 4, 8]),
            blow: self.blow(),
        };
        self.add(at, Fault::Aimed(aim));
    }

    pub(super) fn sender(&mut self, at: Micros) {
        let said = *self.rng.pick(&[
            Said::VoteGranted,
            Said::VoteGranted,
            Said::PreVoteGranted,
            Said::VoteAsked,
            Said::AppendAnswer,
        ]);
        let blow = self.stumble();
        self.add(at, Fault::Aimed(Aim::Sender(said, blow)));
    }

    /// Messages are held, and meanwhile whoever they are for is restarted, or another leads, or connections break.
    pub(super) fn hold(&mut self, at: Micros) {
        let (said, member) = (*self.rng.pick(&HELD), self.member());
        let time = self.rng.between(100_000, 4_000_000);
        let within = *self.rng.pick(&[1_000, 20_000, 300_000]);
        self.keep_back(at, said, Some(member), time, within);
        match self.rng.below(4) {
            0 | 1 => {
                let (at, Blow { time, .. }) = (at + self.rng.below(time), self.stumble());
                self.add(at, Fault::Crash(member));
                self.add(at + time, Fault::Start(member));
            }
            2 => {
                let (at, blow) = (at + self.rng.below(time), self.stumble());
                self.add(at, Fault::Aimed(Aim::Leader(blow)));
            }
            _ => {
                let at = at + self.rng.below(time);
                (0..self.members)
                    .filter(|other| *other != member)
                    .for_each(|other| self.add(at, Fault::Disconnect(member, other)));
            }
        }
    }

    fn keep_back(
        &mut self,
        at: Micros,
        said: &'static [Said],
        member: Option<usize>,
        time: Micros,
        within: Micros,
    ) {
        let hold = Hold {
            said,
            member,
            time,
            within,
        };
        self.add(at, Fault::Aimed(Aim::Hold(hold)));
    }

    /// Members stand at the same moment; the leader is back as a voter, whom they reach one after the other, and who forgets nothing meanwhile.
    pub(super) fn race(&mut self, at: Micros) {
        // Longer than any election timeout, or so that only some are up.
        let stopped = self.rng.between(800_000, 1_200_000);
        let strike = *self.rng.pick(&[Strike::Kill, Strike::Power]);
        let time = stopped + self.rng.below(100_000);
        let asked = time + self.rng.below(20_000);
        let within = self.rng.between(1_000, 300_000);
        self.add(at, Fault::Aimed(Aim::Leader(Blow { strike, time })));
        self.add(at + 1, Fault::Aimed(Aim::Race(stopped)));
        self.keep_back(at + 2, &[Said::VoteAsked], None, asked, within);
        let blow = Blow {
            time: self.rng.between(1_000, 100_000),
            ..self.stumble()
        };
        let aim = Aim::Sender(Said::VoteGranted, blow);
        self.add(at + stopped, Fault::Aimed(aim));
    }

    /// Votes arrive when their candidate stands again, in a later term, and has asked nobody yet.
    pub(super) fn late_votes(&mut self, at: Micros) {
        let blow = Blow {
            time: self.rng.between(1_000_000, 5_000_000),
            ..self.blow()
        };
        let (asked, late) = (
            self.rng.between(200_000, 1_200_000),
            self.rng.between(1_200_000, 3_000_000),
        );
        let within = *self.rng.pick(&[1_000, 100_000]);
        self.add(at, Fault::Aimed(Aim::Leader(blow)));
        self.keep_back(at, &[Said::VoteGranted], None, late, within);
        let longer = late - asked + self.rng.between(50_000, 400_000);
        self.keep_back(at + asked, &[Said::VoteAsked], None, longer, within);
    }

    /// A member that has just started asks what was decided, is restarted, and asks the same again while it falls behind; the answers to both arrive
    /// before the entries.
    pub(super) fn late_answers(&mut self, at: Micros) {
        let (member, time) = (self.member(), self.rng.between(1_500_000, 4_000_000));
        let again = at + time / 2;
        for at in [at, again] {
            self.add(at, Fault::Crash(member));
            let down = self.rng.between(1_000, 50_000);
            self.add(at + down, Fault::Start(member));
        }
        let within = *self.rng.pick(&[1_000, 20_000]);
        self.keep_back(at, &[Said::ReadIndexAnswer], Some(member), time, within);
        let longer = time / 2 + self.rng.between(within, 300_000);
        self.keep_back(again, &[Said::Append], Some(member), longer, within);
    }
}
