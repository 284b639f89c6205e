//! Faults that aim find their victim, or their moment; what they do then are plain faults.

use super::*;
use crate::faults::{Aim, Blow, Hold, Said, Strike, Way};
use crate::timeline::Kind;

/// A fault whose moment does not come gives up.
const PATIENCE: Micros = 10_000_000;

/// What waits for its moment.
#[derive(Default)]
pub(super) struct Aims {
    dethroning: Option<Dethroning>,
    /// Blows for whoever says something of a kind next, each until it gives up.
    lurking: Vec<(Said, Blow, Micros)>,
    holding: Vec<Holding>,
    holds: u64,
    /// Messages may be late until then.
    late_until: Micros,
}

/// A leader that is to have a successor.
struct Dethroning {
    former: usize,
    /// How it is cut off; empty until it has handed over.
    links: Vec<(usize, usize)>,
    /// What its successors decide counts from here.
    after: raft::Term,
    decided: u64,
    blow: Blow,
    until: Micros,
}

/// Messages kept back.
struct Holding {
    number: u64,
    hold: Hold,
    kept: Vec<Event>,
}

impl World {
    /// A fault that aims has its time.
    pub(super) fn aim(&mut self, aim: Aim) {
        match aim {
            Aim::Leader(blow) => {
                if let Some(leader) = self.consensus.leader() {
                    self.strike(leader, blow);
                }
            }
            Aim::Dethrone {
                by_handover,
                decided,
                blow,
            } => self.dethrone(by_handover, decided, blow),
            Aim::Sender(said, blow) => {
                let until = self.now + PATIENCE;
                self.aims.lurking.push((said, blow, until));
            }
            Aim::Disconnect => {
                if let Some(leader) = self.consensus.leader() {
                    self.disconnect(leader);
                }
            }
            Aim::Race(time) => {
                let leader = self.consensus.leader();
                for member in (0..self.members.len()).filter(|member| Some(*member) != leader) {
                    let strike = Strike::Pause;
                    self.strike(member, Blow { strike, time });
                }
            }
            Aim::Hold(hold) => {
                self.aims.holds += 1;
                let (number, until) = (self.aims.holds, self.now + hold.time);
                let kept = Vec::new();
                self.aims.late_until = self.aims.late_until.max(until + hold.within);
                self.aims.holding.push(Holding { number, hold, kept });
                self.queue.plan(until, Event::Release(number));
            }
        }
    }

    /// Strikes a member as soon as this turn is over, and mends it later.
    fn strike(&mut self, member: usize, Blow { strike, time }: Blow) {
        let (fault, mended) = match strike {
            Strike::Kill => (Fault::Crash(member), Fault::Start(member)),
            Strike::Power => (
                Fault::PowerLoss(member, Survival::Nothing),
                Fault::Start(member),
            ),
            Strike::Pause => (Fault::Pause(member), Fault::Resume(member)),
            Strike::Cut(way) => {
                let links = self.links_of(member, way);
                (Fault::Cut(links.clone()), Fault::Mend(links))
            }
        };
        self.queue.plan(self.now, Event::Aimed(fault));
        self.queue.plan(self.now + time, Event::Aimed(mended));
    }

    /// What one of the faults that aim does. After everything is mended nothing goes wrong any more.
    pub(super) fn aimed_fault(&mut self, fault: Fault) {
        if self.healed_at.is_none() {
            self.trace
                .note(self.now, "", &[30], || format!("so {fault}"));
            self.timeline
                .note(self.now, None, || What::Fault(fault.clone()));
            self.fault(fault);
        }
    }

    /// The links to cut, each from one member to another.
    fn links_of(&self, member: usize, way: Way) -> Vec<(usize, usize)> {
        let all = self.members.len();
        let beside = match way {
            Way::WithMinority => (self.voters_min - 1) / 2,
            _ => 1,
        };
        let on_side = |other: usize| (other + all - member) % all < beside.max(1);
        let out = (0..all).filter(|from| on_side(*from)).flat_map(|from| {
            let rest = (0..all).filter(|to| !on_side(*to));
            rest.map(move |to| (from, to))
        });
        let both = out.flat_map(|(from, to)| [(from, to), (to, from)]);
        both.filter(|(from, to)| match way {
            Way::Both | Way::WithMinority => true,
            Way::Out => *from == member,
            Way::In => *to == member,
        })
        .collect()
    }

    fn dethrone(&mut self, by_handover: bool, decided: u64, blow: Blow) {
        let Some(former) = self.consensus.leader() else {
            return;
        };
        let Some(process) = &self.members[former].process else {
            return;
        };
        self.aims.dethroning = Some(Dethroning {
            former,
            links: Vec::new(),
            after: process.replica.status().raft.term,
            decided,
            blow,
            until: self.now + PATIENCE,
        });
        if by_handover {
            self.give(former, Input::Transfer { target: None });
        } else {
            self.cut_former(Way::Both);
        }
    }

    fn cut_former(&mut self, way: Way) {
        let Some(dethroning) = &self.aims.dethroning else {
            return;
        };
        let (former, until) = (dethroning.former, dethroning.until);
        let links = self.links_of(former, way);
        self.queue
            .plan(self.now, Event::Aimed(Fault::Cut(links.clone())));
        // If no successor comes.
        self.queue
            .plan(until, Event::Aimed(Fault::Mend(links.clone())));
        if let Some(dethroning) = &mut self.aims.dethroning {
            dethroning.links = links;
        }
    }

    /// Something was decided: perhaps enough of a successor.
    pub(crate) fn aim_at_successor(&mut self) {
        let Some(dethroning) = &self.aims.dethroning else {
            return;
        };
        let newest = self.consensus.chain().iter().rev();
        let of_successors = newest
            .take_while(|decided| decided.entry.term > dethroning.after)
            .count() as u64;
        let leader = self.consensus.leader();
        let Some(leader) = leader.filter(|leader| *leader != dethroning.former) else {
            return;
        };
        if of_successors < dethroning.decided {
            return;
        }
        let (blow, links) = (dethroning.blow, dethroning.links.clone());
        if self.now < dethroning.until && !links.is_empty() {
            self.strike(leader, blow);
            self.queue.plan(self.now, Event::Aimed(Fault::Mend(links)));
        }
        self.aims.dethroning = None;
    }

    /// A member sends a message: perhaps somebody waited for that.
    pub(super) fn aim_at_sender(&mut self, from: usize, message: &Message) {
        let (now, lurking) = (self.now, &mut self.aims.lurking);
        lurking.retain(|(.., until)| now < *until);
        if let Some(place) = lurking.iter().position(|(said, ..)| said.is(message)) {
            let (_, blow, _) = lurking.remove(place);
            self.strike(from, blow);
        }
        let dethroning = self.aims.dethroning.as_ref();
        let hands_over =
            |it: &Dethroning| it.former == from && it.links.is_empty() && now < it.until;
        if dethroning.is_some_and(hands_over) && Said::HandOver.is(message) {
            // Its word must still arrive.
            self.cut_former(Way::In);
        }
    }

    fn disconnect(&mut self, member: usize) {
        for other in (0..self.members.len()).filter(|other| *other != member) {
            let fault = Fault::Disconnect(member, other);
            self.queue.plan(self.now, Event::Aimed(fault));
        }
    }

    /// The place among the faults that aim where a message is kept back.
    pub(super) fn holds(&self, from: usize, to: usize, message: &Message) -> Option<usize> {
        self.aims.holding.iter().position(|Holding { hold, .. }| {
            let concerned = |member| member == from || member == to;
            hold.member.is_none_or(concerned) && hold.said.iter().any(|said| said.is(message))
        })
    }

    /// Messages are kept back, or were until a moment ago.
    pub(super) fn keeps_back(&self) -> bool {
        self.now <= self.aims.late_until
    }

    /// Keeps a message back.
    pub(super) fn keep_back(&mut self, place: usize, message: Event) {
        self.aims.holding[place].kept.push(message);
    }

    /// What was kept back arrives.
    pub(super) fn release(&mut self, number: u64) {
        let holding = &mut self.aims.holding;
        let Some(place) = holding.iter().position(|held| held.number == number) else {
            return;
        };
        let Holding { hold, kept, .. } = holding.remove(place);
        let count = kept.len();
        let told = || match count {
            1 => "a message that was kept back arrives".into(),
            _ => format!("{count} messages that were kept back arrive"),
        };
        self.trace.note(self.now, "", &[31, count as u64], told);
        if count > 0 {
            self.timeline.note(self.now, None, || What::Note(told()));
        }
        let mut arrivals: Vec<Micros> = kept
            .iter()
            .map(|_| self.now + 1 + self.rng.below(hold.within))
            .collect();
        if self.rng.chance(500) {
            arrivals.sort_unstable();
        }
        for (at, event) in arrivals.into_iter().zip(kept) {
            if let Event::Deliver {
                from, to, message, ..
            } = &event
            {
                self.timeline.note_busy(self.now, *from, || What::Sends {
                    to: *to,
                    arrivals: [Some(at), None],
                    kind: Kind::of(message),
                    label: words::label(message),
                    text: words::message(message),
                });
            }
            self.queue.plan(at, event);
        }
    }

    /// Nothing is aimed at any more, and what was kept back arrives.
    pub(super) fn end_aims(&mut self) {
        let numbers: Vec<u64> = self.aims.holding.iter().map(|held| held.number).collect();
        numbers.into_iter().for_each(|number| self.release(number));
        self.aims = Aims::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::timeline::Moment;
    use crate::{Options, Profile, run};

    /// The faults of a life, planned or not, each with its time.
    fn faults(seed: u64) -> Vec<(Micros, Fault)> {
        let report = run(&Options {
            seconds: 30,
            timeline: Some(Window { from: 0, to: 0 }),
            ..Options::new(seed, Profile::Lossy)
        });
        assert!(report.violations.is_empty(), "{report}");
        let fault = |moment: &Moment| match &moment.what {
            What::Fault(fault) => Some((moment.at, fault.clone())),
            _ => None,
        };
        report.timeline.moments().iter().filter_map(fault).collect()
    }

    #[test]
    fn who_leads_is_cut_off_and_its_successor_struck_when_it_is_back() {
        let (mut cut, mut struck) = (0, 0);
        for seed in 0..12 {
            let faults = faults(seed);
            for (at, fault) in &faults {
                let then = |wanted: fn(&Fault) -> bool| {
                    let mut at_once = faults.iter().filter(|(when, _)| when == at);
                    at_once.any(|(_, fault)| wanted(fault))
                };
                match fault {
                    Fault::Aimed(Aim::Leader(blow)) if matches!(blow.strike, Strike::Cut(_)) => {
                        cut += usize::from(then(|fault| matches!(fault, Fault::Cut(_))));
                    }
                    Fault::Mend(_) => {
                        let is_blow =
                            |fault: &Fault| matches!(fault, Fault::Crash(_) | Fault::Pause(_));
                        struck += usize::from(then(is_blow));
                    }
                    _ => {}
                }
            }
        }
        assert!(cut > 3 && struck > 1, "{cut} cut off, {struck} struck");
    }
}
